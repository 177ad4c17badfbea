"""What the README says works: its snippets run, its files exist, its commands parse."""

import re
import shlex
from pathlib import Path

import pytest

from thanos.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    "snippet", re.findall(r"```python\n(.*?)```", README, re.DOTALL), ids=["train", "losses", "scikit-learn"]
)
def test_snippets_run(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})


@pytest.mark.parametrize("command", re.findall(r"^thanos .*?(?=\s+#|$)", README, re.MULTILINE))
def test_commands_parse(command):
    function, bound, _ = app.parse_args(shlex.split(command)[1:], print_error=False, exit_on_error=False)
    assert function.__name__.removeprefix("bench_") in command.split()[1:3]
    assert bound.arguments


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link):
    assert (Path(__file__).parent.parent / link).exists()
