"""timm's names, the nearest name to a misspelt one, and names that share a reason. Imports no torch."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path


@cache
def timm_names() -> tuple[str, ...]:
    """Every architecture timm can build, from a list shipped with the package."""
    return tuple(files("thanos").joinpath("timm_names.txt").read_text(encoding="utf-8").split())


def left_out(reasons: Mapping[str, str]) -> list[str]:
    """A line for each reason, with all that it left out.

    Example:
        >>> left_out({"twins": "one group.", "early": "one group.", "jtt": "no mistake."})
        ['twins, early are left out: one group.', 'jtt is left out: no mistake.']
    """
    by_reason: dict[str, list[str]] = {}
    for name, why in reasons.items():
        by_reason.setdefault(why, []).append(name)
    return [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} left out: {why}" for why, names in by_reason.items()
    ]


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` (did you mean 'x'?)``, or nothing where no known name is close."""
    names = list(known)
    close = get_close_matches(word, names, n=1, cutoff=cutoff) or [
        n for n in names if len(word) > 2 and n.startswith(word)
    ]
    return f" (did you mean {close[0]!r}?)" if close else ""


MANY = 1000
"""Names in a folder among which the one that was meant is looked for."""


def nearest_beside(path: Path) -> str:
    """The same for a path among what its folder has."""
    try:
        return nearest(path.name, [each.name for each in islice(path.parent.iterdir(), MANY) if each.name != path.name])
    except OSError:
        return ""
