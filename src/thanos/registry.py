"""What exists by name: methods, data sets, encoders; also those of other packages. Nothing else lists names.

Imports no torch: a specification names its functions as ``"module:function"``, which is imported when it is called. A
package of yours adds to the tables by ``thanos.register(...)``, where it is imported, or by an entry point, which every
command then knows::

    [project.entry-points."thanos.plugins"]
    mine = "mypackage.specs:SPECS"       # a specification, or several
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar

from thanos.errors import ConfigError
from thanos.names import nearest, timm_names

Target = str | Callable[..., Any]
"""A function, or where it is to be imported from."""


def resolve(target: Target, of: "Spec | None" = None) -> Callable[..., Any]:
    """The function that a specification names.

    Args:
        target: The function, or where it is.
        of: The specification, for the message.
    Raises:
        ConfigError: if it cannot be imported.
    """
    found: Callable[..., Any] = target if callable(target) else _imported(target, of)
    return found


def _imported(target: str, of: "Spec | None") -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        added = "" if of is None else f" of {of.name!r}, added by {home_of(of)},"
        reason = f"cannot be imported: {error}. Write module:function."
        raise ConfigError(f"the function {target!r}{added} {reason}") from None


def text(target: str, of: "Spec") -> str:
    """The text that a specification names.

    Raises:
        ConfigError: if it cannot be imported.
    """
    return str(_imported(target, of))


@dataclass(frozen=True)
class MethodSpec:
    """How an encoder can be trained.

    A step takes (branch, images, superclass, settings, rng) and returns named terms that add up to the loss
    (:mod:`thanos.methods`). The role of an encoder says what stands on it: ``contrastive`` a projector, ``autoencoder``
    a decoder, ``joint`` both, ``classifier`` neither; and a superclass classifier where cross-entropy has a weight.
    """

    name: str
    what: str
    """One line, with its source."""
    steps: Mapping[str, Target]
    """By role, the step of each encoder that is trained."""
    one_encoder: Mapping[str, Target] = field(default_factory=dict)
    """The same for ``encoders="one"``, where that is another."""
    add_heads: Target | None = None
    """Puts what else its steps need on a branch: (branch, config)."""
    classify: float = 1.0
    """Weight of the superclass cross-entropy unless one is given."""
    sees_labels: bool = True
    """Whether its loss asks for superclasses."""
    contrasts: bool = True
    """Whether it compares views, and returns a ``projection``."""
    attracts: bool = False
    """Whether it draws superclasses together by SupCon, so that they can collapse or dissolve."""
    spreads: bool = False
    """Whether alpha weighs spread against attraction."""
    denominators: bool = False
    """Whether SupCon's denominator can be chosen."""
    serves_groups: bool = True
    """Whether it trains the superclass classifier that ``robust`` and ``select`` are about."""
    one_device: bool = False
    """Whether it trains on one device and two views only."""
    one_is_enough: bool = False
    """Whether there is something to learn where all images are of one superclass, or of none that is known."""


@dataclass(frozen=True)
class DatasetSpec:
    """Images that are known by a name."""

    name: str
    what: str
    load: Target
    """From the configuration to an ImageSet."""
    uneven: bool = False
    """Whether its subclasses differ in size on purpose: fewer training images keep each one's share."""


Kinds = Literal["images", "vectors"]
"""What an encoder can take."""


@dataclass(frozen=True)
class EncoderSpec:
    """A network from images, or vectors, to embeddings that is not timm's."""

    name: str
    what: str
    build: Target
    r"""From (channels, size) to a module with ``num_features``; size is height and width. Of vectors: from
    (features, \*sizes)."""
    decoder: tuple[int, int] = (64, 2)
    """Width and blocks of the decoder that suits it, for autoencoders; of vectors the width of a hidden layer."""
    alone: str = ""
    """Where the text is that builds it without this package (see :mod:`thanos.encoders.alone`), as ``"module:NAME"``;
    empty: a page then imports ``build``."""
    takes: Kinds = "images"
    learns: bool = True
    """Whether it has weights, so that it can be trained."""
    sizes: tuple[int, ...] = ()
    """Of vectors: the widths of its layers, which a longer name changes: ``mlp`` is ``mlp-256-64``."""


Spec = MethodSpec | DatasetSpec | EncoderSpec
Kind = TypeVar("Kind", MethodSpec, DatasetSpec, EncoderSpec)

_CONTRASTIVE, _AUTOENCODER = "thanos.methods.contrastive", "thanos.methods.autoencoder"
_JOINT, _MASKCON = "thanos.methods.joint", "thanos.methods.maskcon"
_SUPCON: dict[str, Target] = {"contrastive": f"{_CONTRASTIVE}:supcon_step"}
_SPREAD: dict[str, Target] = {"contrastive": f"{_CONTRASTIVE}:spread_step"}
_CAUTO: dict[str, Target] = {"autoencoder": f"{_AUTOENCODER}:cauto_step"}

_METHODS = (
    MethodSpec("infonce", "InfoNCE, which sees no label (SimCLR)", {"contrastive": f"{_CONTRASTIVE}:infonce_step"},
               classify=0.0, sees_labels=False, serves_groups=False, one_is_enough=True),
    MethodSpec("supcon", "SupCon + superclass cross-entropy (Khosla et al. 2020)", _SUPCON,
               attracts=True, denominators=True),
    MethodSpec("supcon+infonce", "SupCon + InfoNCE + superclass cross-entropy (Islam et al. 2021)",
               {"contrastive": f"{_CONTRASTIVE}:supcon_infonce_step"}, attracts=True, denominators=True),
    MethodSpec("cauto", "class-conditional autoencoder (Chen et al. 2022)", _CAUTO,
               contrasts=False, serves_groups=False, one_is_enough=True),
    MethodSpec("spread", "L_spread: SupCon + class-conditional InfoNCE (Chen et al. 2022)", _SPREAD,
               attracts=True, spreads=True),
    MethodSpec("supcon+cauto", "supcon and cauto side by side, or one encoder on both", _SUPCON | _CAUTO,
               {"joint": f"{_JOINT}:supcon_cauto_step"}, attracts=True, denominators=True),
    MethodSpec("thanos", "spread and cauto side by side, or one encoder on both (Chen et al. 2022)", _SPREAD | _CAUTO,
               {"joint": f"{_JOINT}:spread_cauto_step"}, attracts=True, spreads=True),
    MethodSpec("cross-entropy", "the superclass cross-entropy alone",
               {"classifier": f"{_CONTRASTIVE}:cross_entropy_step"}, contrasts=False),
    MethodSpec("maskcon", "MaskCon, a rival (Feng and Patras 2023)", {"contrastive": f"{_MASKCON}:maskcon_step"},
               add_heads=f"{_MASKCON}:add_bank", classify=0.0, one_device=True),
)  # fmt: skip

_PUBLISHED, _SPURIOUS = "thanos.data.published:load_published", "thanos.data.spurious:load_built"
_GROUPED, _TWO_LEVELS = "thanos.data.groups:load_grouped", "thanos.data.coarse_to_fine:load_two_levels"
_DATASETS = (
    DatasetSpec("digits", "scikit-learn's digits, 8x8: 2 -> 10", _PUBLISHED),
    DatasetSpec("mnist", "MNIST: 2 -> 10", _PUBLISHED),
    DatasetSpec("fashion-mnist", "Fashion-MNIST: 4 -> 10", _PUBLISHED),
    DatasetSpec("cifar10", "CIFAR-10: 2 -> 10", _PUBLISHED),
    DatasetSpec("cifar100", "CIFAR-100: 20 -> 100", _PUBLISHED),
    DatasetSpec("cifar100-u", "CIFAR-100, uneven: 20 -> 100", _PUBLISHED, uneven=True),
    DatasetSpec("tiny-imagenet", "Tiny ImageNet: 52 -> 200", _PUBLISHED),
    DatasetSpec("grocery", "photographs in a grocery store: 43 -> 81", _TWO_LEVELS),
    DatasetSpec("ham10000", "skin lesions, benign or malignant: 2 -> 7", _TWO_LEVELS),
    DatasetSpec("isic-2017", "skin lesions, benign or malignant: 2 -> 3", _TWO_LEVELS),
    DatasetSpec("gtsrb", "German traffic signs: 5 -> 43", _TWO_LEVELS),
    DatasetSpec("dominoes-95", "a digit above a vehicle, 95% its own", _SPURIOUS),
    DatasetSpec("dominoes-99", "a digit above a vehicle, 99% its own", _SPURIOUS),
    DatasetSpec("coloured-digits-large", "pairs of digits on their colour, whole ground", _SPURIOUS),
    DatasetSpec("coloured-digits-medium", "pairs of digits on their colour, 4x4 pixels", _SPURIOUS),
    DatasetSpec("coloured-digits-small", "pairs of digits on their colour, 2x2 pixels", _SPURIOUS),
    DatasetSpec("patched-cifar10", "animals, half with a coloured square, against vehicles", _SPURIOUS),
    DatasetSpec("rare-cifar10", "CIFAR-10 with a twentieth of the ships", _SPURIOUS),
    DatasetSpec("rare-mnist", "MNIST with a twentieth of the 8s", _SPURIOUS),
    DatasetSpec("waterbirds", "birds in front of land and water", _GROUPED),
    DatasetSpec("celeba", "CelebA: blond or not, by sex", _GROUPED),
    DatasetSpec("isic", "ISIC: benign or malignant, by coloured patch", _GROUPED),
    DatasetSpec("isic-histopathology", "ISIC, only where histopathology says", _GROUPED),
)

_ZOO, _ALONE = "thanos.encoders.zoo", "thanos.encoders.alone"
_ENCODERS = (
    EncoderSpec("tiny", "six convolutions, for experiments on a CPU", f"{_ZOO}:tiny", decoder=(16, 1),
                alone=f"{_ALONE}:TINY"),
    EncoderSpec("paper-vit", "the paper's small ViT", f"{_ZOO}:paper_vit", alone=f"{_ALONE}:PAPER_VIT"),
    EncoderSpec("resnet18-small", "ResNet-18 with a stem for small images", f"{_ZOO}:resnet18_small",
                alone=f"{_ALONE}:RESNET18_SMALL"),
    EncoderSpec("resnet50-small", "ResNet-50 with a stem for small images", f"{_ZOO}:resnet50_small",
                alone=f"{_ALONE}:RESNET50_SMALL"),
    EncoderSpec("mlp", "one hidden layer, for vectors: mlp-HIDDEN-DIM", "thanos.encoders.mlp:VectorEncoder",
                decoder=(256, 1), takes="vectors", sizes=(256, 64)),
    EncoderSpec("unchanged", "vectors as they are, beside an encoder that is trained", "thanos.encoders.mlp:Unchanged",
                takes="vectors", learns=False),
)  # fmt: skip


class Table:
    """Specifications of one kind, by name."""

    def __init__(self, what: str, specs: Iterable[Spec]):
        self._what = what
        self._specs: dict[str, tuple[Spec, str]] = {spec.name: (spec, "thanos itself") for spec in specs}

    def check(self, spec: Spec, home: str) -> None:
        """Raise ConfigError if the name is taken by another."""
        known = self._specs.get(spec.name)
        if known is not None and known[0] != spec:
            raise ConfigError(
                f"{home} adds the {self._what} {spec.name!r}, a name that {known[1]} has taken. Call it otherwise."
            )

    def add(self, spec: Spec, home: str) -> None:
        self._specs[spec.name] = (spec, home)

    def names(self) -> tuple[str, ...]:
        _load_plugins()
        return tuple(self._specs)

    def get(self, name: str) -> Spec | None:
        """None where there is none of this name."""
        _load_plugins()
        return self._specs[name][0] if name in self._specs else None

    def home(self, name: str) -> str:
        """The file that added it."""
        return self._specs[name][1]


ROLES = ("contrastive", "autoencoder", "joint", "classifier")
"""Of the encoders that a method trains."""


def _check(spec: Spec, home: str) -> None:
    """Raise ConfigError for what cannot be a specification."""
    fault = None
    if not isinstance(spec.name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_.+-]*", spec.name):
        fault = "a name has small letters, digits and . _ + - and begins with one of the first two"
    elif isinstance(spec, EncoderSpec) and spec.name in timm_names():
        fault = "timm has an encoder of that name"
    elif isinstance(spec, MethodSpec):
        roles = [*spec.steps, *spec.one_encoder]
        if not spec.steps:
            fault = "a method has a step for each encoder that it trains"
        elif odd := [role for role in roles if role not in ROLES]:
            fault = f"the role of an encoder is one of {', '.join(ROLES)}; got {odd[0]!r}{nearest(odd[0], ROLES)}"
    if fault:
        raise ConfigError(f"{home} adds {spec.name!r}, which will not do: {fault}.")


_TABLES = {
    MethodSpec: Table("method", _METHODS),
    DatasetSpec: Table("data set", _DATASETS),
    EncoderSpec: Table("encoder", _ENCODERS),
}
_BROKEN: dict[str, str] = {}
"""Plug-ins that could not be loaded, with the reason."""
_LOADED: list[bool] = []


def register(*specs: Spec) -> None:
    """Add methods, data sets or encoders of your own; from then on every part of the package knows them.

    Args:
        specs: Adding the very same one again does nothing.
    Raises:
        ConfigError: if a name is taken.
        TypeError: for anything else than a specification.
    """
    _register(specs, sys._getframe(1).f_code.co_filename)


def _register(specs: Iterable[Spec], home: str) -> None:
    specs = tuple(specs)
    for spec in specs:  # all or none
        if type(spec) not in _TABLES:
            raise TypeError(f"a MethodSpec, DatasetSpec or EncoderSpec is wanted; {home} gives {spec!r}.")
        _check(spec, home)
        _TABLES[type(spec)].check(spec, home)
    for spec in specs:
        _TABLES[type(spec)].add(spec, home)


def _load_plugins() -> None:
    """Those of installed packages, once; one that cannot be loaded stops nobody who does not ask for it."""
    if _LOADED:
        return
    _LOADED.append(True)
    for point in entry_points(group="thanos.plugins"):
        try:
            found = point.load()
            specs = found if isinstance(found, Iterable) else (found,)
            _register(specs, getattr(sys.modules.get(point.module), "__file__", None) or point.value)
        except Exception as error:  # whatever another's package does
            _BROKEN[point.value] = f"{type(error).__name__}: {error}".splitlines()[0]


def listed(text: str) -> str:
    """The text with ``{methods}``, ``{datasets}`` and ``{encoders}`` as thanos's own names of these."""
    learning = tuple(spec for spec in _ENCODERS if spec.learns)
    names: dict[str, tuple[Spec, ...]] = {"methods": _METHODS, "datasets": _DATASETS, "encoders": learning}
    for what, specs in names.items():
        text = text.replace(f"{{{what}}}", ", ".join(spec.name for spec in specs))
    return text


def methods() -> tuple[str, ...]:
    """Names of all methods."""
    return _TABLES[MethodSpec].names()


def datasets() -> tuple[str, ...]:
    """Names of all data sets."""
    return _TABLES[DatasetSpec].names()


def encoders(takes: Kinds | None = None) -> tuple[str, ...]:
    """Names of all encoders that can be trained and are not timm's, or of those that take images or vectors."""
    specs = [_TABLES[EncoderSpec].get(name) for name in _TABLES[EncoderSpec].names()]
    fit = (s for s in specs if isinstance(s, EncoderSpec) and s.learns and takes in (None, s.takes))
    return tuple(spec.name for spec in fit)


def method(name: str) -> MethodSpec:
    """Raises ValueError, with the nearest name, where there is none."""
    return _known(MethodSpec, name, methods())


def dataset(name: str) -> DatasetSpec | None:
    """None where there is none: a name may be a path."""
    return _TABLES[DatasetSpec].get(name)  # type: ignore[return-value]


def encoder(name: str) -> EncoderSpec | None:
    """None where it is none of ours: a name may be timm's.

    Raises:
        ValueError: with the nearest name, where timm has none either.
    """
    found = _TABLES[EncoderSpec].get(name) or _of_sizes(name)
    plain = name.removeprefix("timm/").split(".")[0]
    if found is None and plain not in timm_names():
        close = nearest(plain.rpartition("/")[2], (*encoders(), *timm_names()))
        raise ValueError(f"there is no encoder {name!r}{close} (own: {', '.join(encoders())}{broken()}).")
    return found  # type: ignore[return-value]


def _of_sizes(name: str) -> EncoderSpec | None:
    """``mlp-512-32`` is ``mlp`` with layers of other widths."""
    base, *numbers = name.split("-")
    spec = _TABLES[EncoderSpec].get(base)
    if not isinstance(spec, EncoderSpec) or len(numbers) != len(spec.sizes):
        return None
    fits = all(number.isdecimal() and int(number) for number in numbers)
    return replace(spec, sizes=tuple(map(int, numbers))) if fits else None


def home_of(spec: Spec) -> str:
    """The file that added a specification."""
    return _TABLES[type(spec)].home(spec.name)


def _known(kind: type[Kind], name: str, names: tuple[str, ...]) -> Kind:
    found = _TABLES[kind].get(name)
    if found is None:
        raise ValueError(f"takes {', '.join(names)}; got {name!r}{nearest(name, names)}{broken()}.")
    return found  # type: ignore[return-value]


def broken() -> str:
    """What to say of plug-ins that could not be loaded, where a name is not found; empty if all could."""
    return "".join(f"; the plug-in {value} could not be loaded: {why}" for value, why in _BROKEN.items())
