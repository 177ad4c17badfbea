"""The shape of the house: few rooms at the door, short files, short functions; each exception has its reason."""

import ast
from pathlib import Path

import pytest

import thanos

HOME = Path(thanos.__file__).parent
FILES = sorted(HOME.rglob("*.py"))
LONG = {
    "objective/fused.py": "kernels",
    "data/published.py": "recipes of data",
    "data/spurious.py": "recipes of data",
    "experiments": "experiments",
}
"""Where function bodies may be longer than 40 lines."""


def test_few_modules_stand_at_the_root():
    assert len(list(HOME.glob("*.py"))) <= 14


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOME)))
def test_files_and_functions_are_short(file):
    text, name = file.read_text("utf-8"), str(file.relative_to(HOME))
    assert len(text.splitlines()) <= 400
    if any(name.startswith(place) for place in LONG):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            said = ast.get_docstring(node) is not None
            body = node.body[1:] if said else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 40, f"{name}: {node.name} has {length} lines"
