"""What an experiment leaves: its numbers as JSON with what they carry, and its pictures as PNG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import holds, refuse_foreign, write_atomically, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


OURS = holds("command", "versions", "hardware", "commit")
PICTURES = {"spread": ("regimes", "cosine", "circle"), "invariance": ("invariance",), "mechanisms": ("mechanisms",)}
"""Of each experiment."""


def check_leave(out: Path, name: str) -> None:
    """Raise OutputError if what an experiment leaves would be written over something else."""
    numbers = out / f"{name}.json"
    refuse_foreign(numbers, OURS, f"thanos theory {name}")
    for title in PICTURES[name]:
        refuse_foreign(out / f"{title}.png", lambda file: numbers.is_file(), f"thanos theory {name}")


def leave(out: Path, name: str, command: str, numbers: dict[str, Any], figures: dict[str, "Figure"]) -> dict[str, Any]:
    """Write the numbers and pictures of an experiment; returns the numbers with where they come from."""
    content = {"command": command, **numbers, "versions": versions(), "hardware": hardware(), "commit": commit()}
    write_json(out / f"{name}.json", content)
    for title, figure in figures.items():
        write_atomically(out / f"{title}.png", lambda file, figure=figure: figure.savefig(file, format="png"))  # type: ignore[misc]
    return content
