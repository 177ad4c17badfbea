"""What README and docs say works: snippets run, commands parse, links lead somewhere."""

import json
import re
import shlex
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import thanos
from thanos.cli import app

HOME = Path(__file__).parent.parent
PAGES = {
    file.relative_to(HOME).as_posix(): file.read_text("utf-8")
    for file in (HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md")))
}


def found(pattern):
    """Every match in every page, named by page and number."""
    return [
        pytest.param(page, match, id=f"{page}:{number}")
        for page, text in PAGES.items()
        for number, match in enumerate(re.findall(pattern, text, re.MULTILINE | re.DOTALL))
    ]


@pytest.mark.parametrize(("page", "snippet"), found(r"^```python\n(.*?)^```"))
@pytest.mark.usefixtures("all_digits")
def test_snippets_run(page, snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, page, "exec"), {})


@pytest.mark.parametrize(("page", "command"), found(r"^(?:    |\$ )?(?:[A-Z_]+=\S+ )*(thanos [^\n]*?)(?=\s+#|\s*$)"))
def test_commands_parse(page, command):
    function, bound, _ = app.parse_args(shlex.split(command)[1:], print_error=False, exit_on_error=False)
    words = command.split()
    assert {function.__name__, function.__name__.removeprefix("bench_")} & {*words[1:3], "all_of_theory"}
    assert bound.arguments or words[1] in ("demo", "theory")


@pytest.mark.parametrize(("page", "link"), found(r"\]\(([^)#\s]+)\)"))
def test_links_lead_somewhere(page, link):
    assert ((HOME / page).parent / link).exists()


def test_files_that_are_named_are_there():
    """In CONTRIBUTING by a path or beside the last one; in the table of packages in the package of their row."""
    beside = HOME
    for name in re.findall(r"`([\w./-]+(?:\.py|\.html|/))`", PAGES["CONTRIBUTING.md"]):
        if (HOME / name).exists():
            beside = HOME / name if name.endswith("/") else (HOME / name).parent
        assert (HOME / name).exists() or (beside / name).exists(), name
    packages = PAGES["docs/architecture.md"].partition("\n## ")[0]
    for package, what in re.findall(r"^\| `(\w+)/`.*? \| (.*) \|$", packages, re.MULTILINE):
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", what):
            assert (HOME / "src/thanos" / package / name).exists(), f"{package}/{name}"


def test_the_reference_has_every_public_name():
    """The rest of what `make docs` says of it is for Sphinx, which takes warnings for errors."""
    listed = set(re.findall(r"^\.\. auto(?:class|function):: (\w+)$", PAGES["docs/reference.md"], re.MULTILINE))
    assert listed == set(thanos.__all__) - {"__version__"}


@pytest.fixture
def drawn():
    """The module that draws the imports."""
    found = spec_from_file_location("imports", HOME / "docs/imports.py")
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_picture_of_the_imports_is_of_these_imports(drawn):
    assert (HOME / "docs/architecture.svg").read_text("utf-8") == drawn.picture()
    assert ("methods", "objective") in drawn.arrows()
    assert ("objective", "methods") not in drawn.arrows()


def test_packages_are_listed_in_the_order_in_which_they_import(drawn):
    table = PAGES["docs/architecture.md"].partition("Imports go one way")[0]
    listed = [
        name for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", line)
    ]
    place = {name: i for i, layer in enumerate(drawn.layers()) for name in layer}
    assert sorted(listed) == sorted(place)
    assert [place[name] for name in listed] == sorted(place[name] for name in listed)


def test_the_readme_is_short():
    assert len(PAGES["README.md"].split()) <= 1500


def test_the_notebook_runs(tmp_path, monkeypatch):
    """From photographs that come with scikit-learn to a classifier: every cell, in order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads((HOME / "examples/photographs.ipynb").read_text("utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "photographs.ipynb", "exec"), names)
    found, groups = names["found"], names["groups"]
    assert len(found.names) >= 6
    assert min(score.accuracy for score in groups.groups.values()) > 0.8
