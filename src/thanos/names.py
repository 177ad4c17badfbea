"""timm's names, and the nearest name to a misspelt one. Imports no torch."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.resources import files


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
