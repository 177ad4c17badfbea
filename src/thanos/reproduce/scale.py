"""At what size a table is run: a checked-in file of settings that all its rows share."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from thanos import registry
from thanos.config import Settings, TrainConfig, TransferConfig, explain, read_yaml
from thanos.errors import ConfigError
from thanos.names import nearest

_FOLLOWS = {"method", "data", "root", "download", "seed", "split_seed"}
"""Settings that the table's rows and blocks decide."""
SCALES = ("frozen", "cpu", "paper-fast", "resnet18", "paper")


class Scale(Settings):
    """A file in ``reproduce/scales``, or a user's own."""

    name: str
    about: str = ""
    """What a reader of its numbers should know."""
    settings: dict[str, Any]
    """What ``thanos train`` would be told, for all data sets."""
    datasets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What differs for one of them."""
    transfer: TransferConfig = TransferConfig()
    """How embeddings are judged."""

    @model_validator(mode="after")
    def _leaves_rows_and_blocks_alone(self) -> "Scale":
        for given in (self.settings, *self.datasets.values()):
            if taken := sorted(_FOLLOWS & set(given)):
                raise ValueError(f"{', '.join(taken)} follow from rows and blocks; leave them out.")
        for name in self.datasets:
            if registry.dataset(name) is None:
                raise ValueError(f"there is no data set {name!r}{nearest(name, registry.datasets())}.")
        return self

    def base(self, dataset: str, seed: int, root: Path | None = None) -> TrainConfig:
        """The settings that all rows of one block share: split, images, initialisation and views follow the seed."""
        own = self.datasets.get(dataset, {})
        try:
            return TrainConfig(**(self.settings | own), data=dataset, root=root, seed=seed, split_seed=seed)
        except ValidationError as error:
            raise ConfigError(f"scale {self.name}, {dataset}: {explain(error)}") from None


def load_scale(name: str) -> Scale:
    """A scale by name, or from a YAML file of the same form.

    Raises:
        ConfigError: if there is none, or it does not say what a scale says.
    """
    path = Path(name)
    if name in SCALES:
        path = Path(str(files("thanos.reproduce").joinpath("scales", f"{name}.yaml")))
    elif path.stem in SCALES:
        raise ConfigError(f"{path.stem} is a scale of thanos; give {path} another name.")
    elif path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"`scale` takes {', '.join(SCALES)} or a .yaml file; got {name!r}{nearest(name, SCALES)}.")
    try:
        return Scale(name=path.stem, **read_yaml(path))
    except (ValidationError, TypeError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"{path} is no scale: {reason} See {', '.join(SCALES)} in thanos/reproduce/scales.") from None
