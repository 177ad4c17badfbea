"""Draw docs/architecture.svg: which package of thanos imports which, in the order of the layers in pyproject.toml.

python docs/imports.py
"""

import re
import tomllib
from html import escape
from pathlib import Path

import grimp

HERE = Path(__file__).parent
CELL, LEFT, TOP = 17, 120, 96
TITLE = "Rows import columns; only packages further down are imported."


def layers() -> list[list[str]]:
    """Packages and modules of the root, the highest first; those of one layer together."""
    settings = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    lines = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [re.split(r" [|:] ", line) for line in lines]


def arrows() -> set[tuple[str, str]]:
    """(importer, imported), between packages of the root."""
    graph = grimp.build_graph("thanos", exclude_type_checking_imports=True, cache_dir=None)
    found = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = tuple(name.partition(".")[2].partition(".")[0] for name in (importer, imported))
            if all(pair) and pair[0] != pair[1]:
                found.add(pair)
    return found


def picture() -> str:
    """The matrix as SVG, readable on light and dark pages."""
    order, found = [name for layer in layers() for name in layer], arrows()
    size = CELL * len(order)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + size + 60} {TOP + size + 8}" role="img">']
    out.append(f'<title>{escape(TITLE)}</title><g font-family="sans-serif" font-size="11" fill="#888">')
    for i, name in enumerate(order):
        y, x = TOP + CELL * i, LEFT + CELL * i
        out.append(f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{name}</text>')
        out.append(f'<text transform="translate({x + 12} {TOP - 6}) rotate(-60)">{name}</text>')
        out.append(f'<path d="M{LEFT} {y + CELL - 1}h{size}M{x + CELL - 1} {TOP}v{size}" stroke="#8884"/>')
        for j, other in enumerate(order):
            fill = ' fill="#3b7dd8"' if (name, other) in found else ' opacity=".3"' if i == j else None
            if fill:
                place = f'x="{LEFT + CELL * j}" y="{y}"'
                out.append(f'<rect {place} width="{CELL - 2}" height="{CELL - 2}" rx="3"{fill}/>')
    return "\n".join([*out, "</g></svg>\n"])


if __name__ == "__main__":
    (HERE / "architecture.svg").write_text(picture())
