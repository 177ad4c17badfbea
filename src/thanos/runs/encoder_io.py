"""What a run leaves for use: an encoder's weights (.safetensors) and the few facts needed to use them (.json)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator
from torch import Generator, Tensor, nn

from thanos.config import FeatureViewSpec, Settings, ViewSpec, explain
from thanos.data.imageset import ImageSet
from thanos.data.samples import Samples, Values
from thanos.embeddings import MARK, encoder_fingerprint, kept_fingerprint
from thanos.encoders.detailed import Detailed
from thanos.encoders.features import Pass, frozen_features
from thanos.encoders.frozen import Frozen
from thanos.encoders.pretrained import describe_weights, preprocessing
from thanos.encoders.zoo import SideBySide, build_encoder, dimension
from thanos.errors import ConfigError, DataError
from thanos.runs.checkpoint import read_checkpoint
from thanos.runs.run_dir import RunDir
from thanos.runs.taken import check_taken
from thanos.storage import write_atomically
from thanos.storage.manifest import check_whole
from thanos.views import clean_view, random_views

MOST_FACTS = 4 * 2**20
"""Bytes of the facts beside weights: 20,000 superclasses take one of those megabytes."""
UNTRAINED = "timm"
"""The method that the card of a timm model has which is used as it is."""
UNCHANGED = "unchanged"
"""The encoder that a card names first where features stand beside a head's embedding."""


Side = Annotated[int, Field(ge=1, le=2**14)]
"""Pixels."""


class ModelCard(Settings):
    """The facts beside the weights; ``encoders`` with more than one name stand side by side."""

    format: Literal[1] = 1
    encoders: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]
    channels: Annotated[int, Field(ge=1)]
    size: tuple[Side, Side] | None
    """Height and width in pixels; null for vectors, whose numbers are channels."""
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    dim: Annotated[int, Field(ge=1)]
    views: ViewSpec | FeatureViewSpec
    method: str
    superclasses: tuple[str, ...]
    fingerprint: str
    """Of the images it was trained on."""
    backbone: str | None = None
    """The timm model that was not trained, on whose features the encoders stand; None: they take images themselves."""
    grid: Annotated[int, Field(ge=0, le=16)] = 0
    """Cells a side, where a middle layer's features stand beside that model's last; 0: they do not."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the encoder takes.

        Raises:
            ConfigError: if it takes vectors.
        """
        if self.size is None:
            raise ConfigError(
                f"this needs an encoder of images, and {', '.join(self.encoders)} takes vectors of {self.channels}. "
                f"`load_encoder` loads it, `embed` uses it."
            )
        return self.size

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, size: Any) -> Any:
        return (size, size) if isinstance(size, int) else size


def facts_of(card: ModelCard, indent: int | None = None) -> str:
    """The card as JSON; cards without a backbone or a grid say nothing of it, as they did before there were any."""
    absent = {name for name in ("backbone", "grid") if not getattr(card, name)}
    return card.model_dump_json(indent=indent, exclude=absent)


def card_for(
    images: Samples,
    encoders: tuple[str, ...],
    module: nn.Module,
    *,
    method: str,
    mean: Sequence[float],
    std: Sequence[float],
    views: ViewSpec | FeatureViewSpec | None = None,
) -> ModelCard:
    """The card of a module made for images of this kind; default views: theirs."""
    return ModelCard(
        encoders=encoders,
        channels=images.channels,
        size=images.size,
        mean=tuple(mean),
        std=tuple(std),
        dim=dimension(module),
        views=views or images.views,
        method=method,
        superclasses=images.superclass_names,
        fingerprint=images.fingerprint,
    )


@dataclass
class Encoder:
    """A trained encoder, ready to embed."""

    module: nn.Module
    card: ModelCard
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    @property
    def fingerprint(self) -> str:
        """Of the weights and of the facts about them: what embeds alike bears the same."""
        return encoder_fingerprint(self._weights(), self._facts())

    @property
    def parts(self) -> tuple[int, ...]:
        """Where features stand beside a head's embedding: how many numbers each of the two has."""
        if self.card.encoders[0] != UNCHANGED:
            return ()
        head = self.module.head if isinstance(self.module, Frozen) else self.module
        assert isinstance(head, SideBySide)
        features = dimension(head.parts[0])
        return features, self.card.dim - features

    def trained_on(self, images: Samples) -> bool:
        """Whether it learned from these very images and their superclasses."""
        trained = self.card.method not in (UNTRAINED, "none") and bool(self.card.fingerprint)
        return trained and self.card.fingerprint == images.fingerprint

    def _weights(self, metadata: dict[str, str] | None = None) -> bytes:
        from safetensors.torch import save

        return save({name: value.cpu().contiguous() for name, value in self.module.state_dict().items()}, metadata)

    def _facts(self) -> bytes:
        return (facts_of(self.card, indent=2) + "\n").encode()

    def embed(self, images: Samples, *, batch: int = 512) -> NDArray[np.float32]:
        """Embeddings of the images (or vectors) as they are, (n, dim).

        Those of a network that nobody trained here, and frozen features, stay in the cache.
        """
        if isinstance(self.module, Frozen):
            assert isinstance(images, ImageSet)
            check_taken(self.card, images)
            return self._embed_features(self.module, images, batch)
        if self.card.method == UNTRAINED and isinstance(images, ImageSet):
            check_taken(self.card, images)
            wanted = Pass(self.module, self.card.mean, self.card.std, views=None)
            return np.array(frozen_features(wanted, images, lambda line: None)[:, 0])
        mean, std = self.card.mean, self.card.std
        return self._run(images, images.own, batch, lambda pixels: clean_view(pixels, mean=mean, std=std))

    def embed_view(self, images: Samples, rng: Generator, *, batch: int = 512) -> NDArray[np.float32]:
        """Embeddings of one augmented view of each image, (n, dim)."""
        card = self.card
        return self._run(
            images,
            images.values,
            batch,
            lambda pixels: random_views(pixels, card.views, rng, count=1, mean=card.mean, std=card.std)[0],
        )

    def _embed_features(self, module: Frozen, images: ImageSet, batch: int) -> NDArray[np.float32]:
        wanted = Pass(module.backbone, self.card.mean, self.card.std, views=None)
        features = frozen_features(wanted, images, lambda line: None)
        module = module.to(self.device).eval()
        out = np.empty((len(images), self.card.dim), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                rows = torch.from_numpy(np.array(features[start : start + batch, 0])).to(self.device)
                out[start : start + batch] = module.on_features(rows).float().cpu().numpy()
        return out

    def _run(
        self, images: Samples, values: Values, batch: int, to_input: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        check_taken(self.card, images)
        module = self.module.to(self.device).eval()
        out = np.empty((len(images), self.card.dim), dtype=np.float32)
        with torch.inference_mode():  # the module was moved outside: its weights stay ordinary ones
            for start in range(0, len(images), batch):
                rows = np.arange(start, min(start + batch, len(images)))
                pixels = torch.from_numpy(np.ascontiguousarray(values[rows])).to(self.device)
                out[rows] = module(to_input(pixels)).float().cpu().numpy()
        return out


def balance_parts(encoder: Encoder, images: Samples, most: int = 5000) -> None:
    """Bring encoders that stand side by side to the same mean length on (at most ``most``) training images."""
    if not isinstance(encoder.module, SideBySide):
        return
    rows = images.rows_to_train_on()
    vectors = encoder.embed(images.take(rows[:: max(1, -(-len(rows) // most))]))
    dims = [dimension(p) for p in encoder.module.parts]
    parts = np.split(vectors, np.cumsum(dims)[:-1], axis=1)
    encoder.module.balance([float(np.linalg.norm(part, axis=1).mean()) for part in parts])


def save_encoder(encoder: Encoder, weights: Path | str) -> None:
    """Write ``weights`` (.safetensors; one encoder's keys are timm's own) and its .json; whole or not at all."""
    file, marked = Path(weights), encoder._weights({MARK: encoder.fingerprint})
    write_atomically(file.with_suffix(".json"), lambda opened: opened.write(encoder._facts()))
    write_atomically(file, lambda opened: opened.write(marked))


def read_card(facts: Path) -> ModelCard:
    """The facts beside weights.

    Raises:
        DataError: if the file holds none, or is not as it was written.
    """
    check_whole(facts)
    if facts.stat().st_size > MOST_FACTS:
        raise DataError(f"{facts} does not describe an encoder: it is larger than {MOST_FACTS / 2**20:.0f} MB.")
    try:
        return ModelCard.model_validate_json(facts.read_bytes())
    except ValidationError as error:
        raise DataError(f"{facts} does not describe an encoder: {explain(error)}") from None


def load_encoder(source: Path | str) -> Encoder:
    """The encoder of a run directory, of a .safetensors file with its .json beside it, or of a run's .ckpt.

    Two encoders of a .ckpt come as they are; :func:`balance_parts` brings them to one length, as the end of a run does.

    Raises:
        DataError: if there is none, or weights and facts do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(source)
    if path.suffix == ".ckpt":
        return _of_checkpoint(path)
    weights = RunDir(path).weights() if path.is_dir() else path
    facts = weights.with_suffix(".json")
    if weights.suffix == ".safetensors" and weights.is_file() and not facts.is_file():
        raise DataError(
            f"{weights} has no {facts.name} beside it, which says what it is the weights of. Copy that too; or, if it "
            f"is a timm model's, name the model and pass `pretrained={weights}`."
        )
    if weights.suffix != ".safetensors" or not weights.is_file():
        raise DataError(
            f"an encoder is a finished run's directory, a .safetensors file with its .json beside it, or a run's "
            f".ckpt; {path} is none{_unfinished(path if path.is_dir() else path.parent)}."
        )
    try:
        card, state = read_card(facts), load_file(weights)
    except SafetensorError as error:
        raise DataError(f"{weights} cannot be read ({error}). Copy it again, or train again.") from None
    kept_fingerprint(weights)
    return Encoder(_filled(lambda: _module(card), state, weights, card).eval(), card)


def _module(card: ModelCard) -> nn.Module:
    """What the weights of a card are those of."""
    if card.backbone is None:
        return _together(_parts(card.encoders, card.channels, card.size))
    backbone = _detailed(build_encoder(card.backbone, channels=card.channels, size=card.size), card)
    return Frozen(backbone, _together(_parts(card.encoders, dimension(backbone), None)))


def _detailed(network: nn.Module, card: ModelCard) -> nn.Module:
    """With a middle layer's features beside its own, where the card says so."""
    return network if not card.grid else Detailed(network, card.grid, channels=card.channels, size=card.image_size)


def _parts(names: Sequence[str], channels: int, size: tuple[int, int] | None) -> list[nn.Module]:
    return [build_encoder(name, channels=channels, size=size) for name in names]


def _together(parts: list[nn.Module]) -> nn.Module:
    return parts[0] if len(parts) == 1 else SideBySide(parts)


def _filled(build: Callable[[], nn.Module], state: dict[str, Tensor], file: Path, card: ModelCard) -> nn.Module:
    """A module with its weights; facts that ask for more than the file holds take no memory."""
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in build().state_dict().items()}
    came = {name: value.shape for name, value in state.items()}
    if odd := [name for name in (*wanted, *came) if wanted.get(name) != came.get(name)]:
        raise DataError(
            f"{file} does not hold the weights of {', '.join(card.encoders)} ({odd[0]}: "
            f"{_shape(wanted.get(odd[0]))} is wanted, {_shape(came.get(odd[0]))} came)."
        )
    module = build()
    module.load_state_dict(state)
    return module


def _shape(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else str(tuple(shape))


CARD_IN_CHECKPOINT = "thanos_card"
"""Where a run's checkpoint keeps the facts about its encoder, as JSON."""
_OF_BRANCH = re.compile(r"branches\.([^.]+)\.encoder\.(.+)")


def _of_checkpoint(file: Path) -> Encoder:
    kept = read_checkpoint(file)
    try:
        card, weights = ModelCard.model_validate_json(kept[CARD_IN_CHECKPOINT]), kept["state_dict"]
    except (KeyError, TypeError, ValidationError):
        raise DataError(f"a checkpoint is a run's last.ckpt; {file} lacks the facts about an encoder.") from None
    home = RunDir(file.parent)
    if card.size is None and home.settings_file.is_file() and home.settings().get("frozen"):
        raise DataError(
            f"{file} holds the head alone of a run on a frozen backbone; at its end model.safetensors holds both. Go "
            f"on with it first: {home.command()}"
        )
    branches: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items() if isinstance(weights, dict) else ():
        if isinstance(value, Tensor) and (found := _OF_BRANCH.fullmatch(str(name))):
            branches.setdefault(found[1], {})[found[2]] = value
    if len(branches) != len(card.encoders):
        raise DataError(f"{file} holds {len(branches)} encoders where its facts name {len(card.encoders)}.")
    parts = [
        _filled(partial(build_encoder, name, channels=card.channels, size=card.size), state, file, card)
        for name, state in zip(card.encoders, branches.values(), strict=True)
    ]
    return Encoder(_together(parts).eval(), card)


def timm_encoder(
    name: str,
    weights: Literal[True] | Path,
    images: Samples,
    say: Callable[[str], None] = lambda line: None,
    *,
    grid: int = 0,
) -> Encoder:
    """A timm model as it is, for images of this kind: with its weights at hand or published, or those of a file.

    Args:
        name: timm's.
        weights: A file; True: as :func:`build_encoder` finds them.
        images: Whose channels and size it takes.
        say: Receives the line that tells which weights were taken.
        grid: Cells a side, over which a middle layer's features are averaged and put beside its own; 0: none are.
    Raises:
        ConfigError: for a name or a file that does not fit.
        DataError, OutputError: as :func:`build_encoder`.
    """
    module = build_encoder(name, channels=images.channels, size=images.size, pretrained=weights)
    say(describe_weights(name, weights))
    if grid:
        assert images.size is not None  # of vectors there is no timm model
        module = Detailed(module, grid, channels=images.channels, size=images.size)
    mean, std = preprocessing(name).normalisation(images.channels)
    card = card_for(images, (name,), module, method=UNTRAINED, mean=mean, std=std).model_copy(update={"grid": grid})
    return Encoder(module.eval(), card)


def _unfinished(path: Path) -> str:
    run = RunDir(path)
    return f" (its training is unfinished: `{run.command()}` goes on)" if run.is_run and not run.is_finished else ""


def join_encoders(*encoders: Encoder, images: Samples) -> Encoder:
    """Several trained encoders side by side as one, balanced on the training images of ``images``.

    Raises:
        DataError: if they take different images.
    """
    first = encoders[0].card
    if any(
        (e.card.channels, e.card.size, e.card.mean, e.card.std) != (first.channels, first.size, first.mean, first.std)
        for e in encoders
    ):
        raise DataError("encoders stand side by side only for images of one size and normalisation; these differ.")
    if any(len(e.card.encoders) > 1 for e in encoders):
        raise DataError("encoders that already stand side by side cannot be joined again.")
    card = first.model_copy(
        update={
            "encoders": tuple(e.card.encoders[0] for e in encoders),
            "dim": sum(e.card.dim for e in encoders),
            "method": " | ".join(e.card.method for e in encoders),
        }
    )
    joined = Encoder(SideBySide([e.module for e in encoders]), card)
    balance_parts(joined, images)
    return joined
