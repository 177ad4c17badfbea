"""What a table's rows are made of: which encoders stand in a row, and how each of them was trained."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from thanos import registry
from thanos.config import DiscoverConfig, RobustConfig, TrainConfig, TransferConfig
from thanos.errors import ConfigError
from thanos.names import nearest

CONTROL_SEED = 1000
"""Added to a seed to draw the second encoder of a control: another initialisation, order and views, the same images."""

Kind = Literal["floor", "method", "control", "variant", "ceiling"]


@dataclass(frozen=True)
class Part:
    """One encoder of a row: its method, and where its training differs from the settings that all rows share."""

    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    second: bool = False
    """Trained from CONTROL_SEED on: differs from the first of its kind by its seed alone."""

    def config(self, base: TrainConfig) -> TrainConfig:
        """The training that gives this encoder; ``base`` holds the shared settings and the row's seed."""
        seed = base.seed + (CONTROL_SEED if self.second else 0)
        return base.model_copy(update={"method": self.method, "seed": seed, **self.changes})


@dataclass(frozen=True)
class Stage:
    """The last stage of a robust method."""

    config: RobustConfig
    clusters: DiscoverConfig | None = None
    """How groups are discovered; None: as :func:`thanos.discover` does by default."""
    network: bool = False
    """A whole network is trained, and not a head on the frozen embedding."""


@dataclass(frozen=True)
class Row:
    """One line of a table; its embedding is that of its parts, concatenated."""

    name: str
    what: str
    kind: Kind
    parts: tuple[Part, ...] = ()
    weights: Literal["last", "best"] = "last"
    control: str | None = None
    """The row of the same width that shows what the second encoder's training, and not its width, gives."""
    floor: Literal["pixels", "random", "features"] | None = None
    """What stands in for a trained encoder; features: those of a frozen backbone, and there alone."""
    stage: Stage | None = None
    """What is trained on the embedding and judged by groups; None: it is judged by transfer to fine labels."""

    def suits(self, base: TrainConfig) -> bool:
        """Features are a floor where a backbone is frozen; there, images are enlarged, and their pixels are none."""
        return self.floor != ("pixels" if base.frozen else "features")


_SUPCON, _SPREAD, _CAUTO = Part("supcon"), Part("spread"), Part("cauto")
_HALF = Part("spread", {"alpha": 0.5})
_JOINT = Part("thanos", {"encoders": "one"})
_MASKCON = Part("maskcon", {"temperature": 0.1, "projector": 128})
_FINE = Part("cross-entropy", {"labels": "subclass"})

ROWS = {
    row.name: row
    for row in (
        Row("raw pixels", "floor: the pixels (256 principal components where there are more)", "floor", floor="pixels"),
        Row("random encoder", "floor: the encoder before training", "floor", floor="random"),
        Row("frozen features", "floor: the features that heads are trained on", "floor", floor="features"),
        Row("cross-entropy", "superclass cross-entropy alone", "floor", (Part("cross-entropy"),)),
        Row("infonce", "InfoNCE, sees no label", "method", (Part("infonce"),)),
        Row("supcon", "SupCon", "method", (_SUPCON,)),
        Row("supcon+infonce", "SupCon + InfoNCE", "method", (Part("supcon+infonce"),)),
        Row("cauto", "class-conditional autoencoder (cAuto)", "method", (_CAUTO,)),
        Row("spread", "SupCon + class-conditional InfoNCE (cNCE), alpha auto", "method", (_SPREAD,)),
        Row("supcon+cauto", "SupCon and cAuto side by side", "method", (_SUPCON, _CAUTO), control="supcon + supcon"),
        Row("thanos", "THANOS: spread and cAuto side by side", "method", (_SPREAD, _CAUTO), control="spread + spread"),
        Row("supcon + supcon", "control: two seeds of SupCon", "control", (_SUPCON, Part("supcon", second=True))),
        Row("spread + spread", "control: two seeds of spread", "control", (_SPREAD, Part("spread", second=True))),
        Row("supcon (best epoch)", "SupCon at its best epoch (validation superclasses)", "variant", (_SUPCON,), "best"),
        Row("spread (alpha 0.5)", "SupCon + cNCE at the paper's alpha", "variant", (_HALF,)),
        Row("thanos (alpha 0.5)", "THANOS at the paper's alpha", "variant", (_HALF, _CAUTO)),
        Row("thanos (one encoder)", "L_spread and cAuto at once, as wide as spread", "variant", (_JOINT,)),
        Row("maskcon", "MaskCon with its own temperature, projector and bank", "variant", (_MASKCON,)),
        Row("fine labels", "ceiling: cross-entropy on the fine labels", "ceiling", (_FINE,)),
    )
}  # fmt: skip
"""Every row that a table may show."""


def known_rows() -> dict[str, Row]:
    """Those, and one for every method of another package."""
    names = {part.method for row in ROWS.values() for part in row.parts}
    more = [name for name in registry.methods() if name not in names and name not in ROWS]
    return ROWS | {name: Row(name, registry.method(name).what, "variant", (Part(name),)) for name in more}


def check_rows(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError for a row that a table does not have."""
    for name in given:
        if name not in known:
            raise ConfigError(f"`method` takes {', '.join(known)}; got {name!r}{nearest(name, known)}.")


@dataclass(frozen=True)
class Block:
    """Rows on one data set with one seed."""

    base: TrainConfig
    """What their trainings share."""
    rows: tuple[Row, ...]
    probe: TransferConfig = field(default_factory=TransferConfig)

    @property
    def title(self) -> str:
        return f"{self.base.data}, seed {self.base.seed}"
