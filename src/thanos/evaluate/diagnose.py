"""What a spread means: whether superclasses lie at points, fall apart, or do what they should."""

from typing import Literal

COLLAPSED = 0.98
"""Cosine within a superclass above which it counts as collapsed."""
DISSOLVED = 0.05
"""Excess of the cosine within superclasses over that between them below which they count as dissolved."""

State = Literal["equal", "collapsed", "dissolved"]


def diagnose(within: float, between: float, largest: float | None = None) -> tuple[State, ...]:
    """What is wrong with an embedding's superclasses, the gravest first; nothing where they spread as they should.

    Args:
        within: Mean cosine between images of one superclass, over superclasses.
        between: Mean cosine between images of two superclasses; -1 where there is one.
        largest: The cosine within the superclass where it is largest; default: ``within``.
    Returns:
        "equal": everything lies at one point, and nothing else is worth saying; "collapsed": a superclass does;
        "dissolved": superclasses are hardly told apart.
    """
    if within > COLLAPSED and between > COLLAPSED:
        return ("equal",)
    found: list[State] = ["collapsed"] if (within if largest is None else largest) > COLLAPSED else []
    return (*found, "dissolved") if within - between < DISSOLVED else tuple(found)
