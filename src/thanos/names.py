"""The names a user can type, and the nearest one to a misspelt name. Imports no torch."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

DATASETS = (
    "digits",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "cifar100-u",
    "tiny-imagenet",
    "dominoes-95",
    "dominoes-99",
    "coloured-digits-large",
    "coloured-digits-medium",
    "coloured-digits-small",
    "patched-cifar10",
    "rare-cifar10",
    "rare-mnist",
    "waterbirds",
    "celeba",
    "isic",
    "isic-histopathology",
)
OWN_ENCODERS = ("tiny", "paper-vit", "resnet18-small")


@cache
def timm_names() -> tuple[str, ...]:
    """Every architecture timm can build, from a list shipped with the package."""
    return tuple(files("thanos").joinpath("timm_names.txt").read_text(encoding="utf-8").split())


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` (did you mean 'x'?)``, or nothing where no known name is close."""
    names = list(known)
    close = get_close_matches(word, names, n=1, cutoff=cutoff) or [
        n for n in names if len(word) > 2 and n.startswith(word)
    ]
    return f" (did you mean {close[0]!r}?)" if close else ""
