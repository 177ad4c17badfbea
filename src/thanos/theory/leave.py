"""What an experiment leaves: its numbers as JSON with what they carry, and its pictures as PNG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thanos.provenance import commit, hardware, versions
from thanos.storage import write_atomically, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def leave(out: Path, name: str, command: str, numbers: dict[str, Any], figures: dict[str, "Figure"]) -> dict[str, Any]:
    content = {"command": command, **numbers, "versions": versions(), "hardware": hardware(), "commit": commit()}
    write_json(out / f"{name}.json", content)
    for title, figure in figures.items():
        write_atomically(out / f"{title}.png", lambda file, figure=figure: figure.savefig(file, format="png"))  # type: ignore[misc]
    return content
