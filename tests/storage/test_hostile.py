"""Names, YAML and classifiers that do harm where they are believed: shown, written and refused so that they cannot."""

import csv
import time

import numpy as np
import pytest
from PIL import Image

from thanos.cli import main
from thanos.config import read_yaml
from thanos.console import plain
from thanos.data.group_table import read_table
from thanos.errors import ConfigError, DataError
from thanos.robust.head import Head, read_head, write_head
from thanos.storage import as_written, write_csv
from thanos.storage.arrays import MARK

HOSTILE = [
    "=cmd()",
    "+1+cmd()",
    "-2+3",
    "@SUM(A1)",
    "\x1b[2J\x1b]0;mine\x07",
    "two\nlines",
    "'=quoted",
    "\u202etxt.exe",
]
"""Names as a folder can have them: formulas, codes that clear a terminal, a second line, letters that run backwards."""


def command(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


@pytest.fixture
def hostile(tmp_path):
    """Photographs in folders of hostile names; hostile embeddings of them."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(HOSTILE[:4]):
        for superclass in (f"{name}a", f"{HOSTILE[4 + k]}b"):
            folder = tmp_path / "photos" / superclass
            folder.mkdir(parents=True)
            for i in range(14):
                pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{superclass.replace('/', '')}{i}.png")
    return tmp_path


def assert_harmless(text: str) -> None:
    """Nothing that a terminal would obey, and no line that begins with a part of a name."""
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not [line for line in text.splitlines() if line.startswith("lines")]


def test_hostile_names_on_the_terminal_and_in_tables(hostile, capsys):
    code, out, err = command(capsys, "check", hostile / "photos", "--out", hostile / "faults.csv")
    assert_harmless(out + err)
    run = hostile / "run"
    code, out, err = command(capsys, "discover", hostile / "photos", "--epochs", 1, "--batch", 16, "-o", run)
    assert code == 0, err
    assert_harmless(out + err)
    for subcommand, *more in (
        ["robust"],
        ["report"],
        ["classify"],
        ["geometry"],
        ["compare", "-o", hostile / "c.html"],
    ):
        code, out, err = command(capsys, subcommand, run, *more)
        assert code == 0, err
        assert_harmless(out + err)
    code, out, err = command(capsys, "export", run, "--to", "csv", "--out", hostile / "v.csv")
    for file in (run / "subclasses.csv", run / "predicted.csv", hostile / "v.csv", hostile / "c.csv"):
        with file.open(newline="", encoding="utf-8") as table:
            cells = [cell for row in csv.reader(table) for cell in row]
        live = [cell for cell in cells if cell[:1] in "=+-@\t\r" and len(cell) > 1]
        assert all(float(cell) is not None for cell in live)  # numbers alone begin so
    names = {member.superclass for member in read_table(run / "subclasses.csv").values()}
    assert names == {path.name for path in (hostile / "photos").iterdir()}
    assert_harmless((run / "run.log").read_text())


def test_a_missing_path_of_a_hostile_name_is_named_harmlessly(capsys, tmp_path):
    code, out, err = command(capsys, "train", "--data", tmp_path / "\x1b[2Jno\nsuch", "--out", tmp_path / "x")
    assert code == 2
    assert_harmless(out + err)
    assert len(err.splitlines()) == 1
    assert "\\x1b[2Jno\\nsuch" in err


@pytest.mark.parametrize("name", [*HOSTILE, "plain", "-1.5", "+1", "1e-3", "-", "=", "", "''=a", "'", "a=b", "\t=x"])
def test_a_cell_comes_back_as_it_was(tmp_path, name):
    write_csv(tmp_path / "t.csv", [("name",), (name,)])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as table:
        cell = [*csv.reader(table)][1][0] if name else ""
    assert as_written(cell) == name
    numbers = {"-1.5", "+1"}
    assert cell[:1] not in ("=", "+", "-", "@", "\t") or name in numbers or len(name) == 1


def test_plain_text_stays_as_it_is():
    for text in ("cat", "Grüße, 東京, 👩‍👩‍👧", "a/b c.png", "alpha 0.605 · 3 × 4"):
        assert plain(text) == text
    assert plain("\udce9.png") == "\\udce9.png"  # a file name that is not UTF-8


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 9)}]\n" for k in range(9)
)
"""Ten lines that stand for 3,486,784,401 words."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALIASES, "line 2 of .* refers to another part of the file; write it out"),
        ("a: &a {<<: *a}\n", "write it out"),
        ("a: " + "[" * 5000, "more than 20 levels deep"),
        ("- " * 5000 + "x", "more than 20 levels deep"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "more than 20 levels deep"),
        ("a: !!python/object/apply:os.system [echo]\n", "cannot be read as YAML"),
        ("a: 2026-13-45\n", "cannot be read as YAML"),
        ("epochs: 1\nbatch: 8\nepochs: 2\n", "line 3 of .* 'epochs' stands there twice"),
        ("x" * 17 * 2**20, "larger than 16 MB"),
    ],
)
def test_yaml_that_would_hang_is_refused_at_once(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=said) as refused:
        read_yaml(tmp_path / "a.yaml")
    assert time.monotonic() - started < 20
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("subcommand", ["discover", "report", "robust"])
def test_names_of_nested_aliases_are_refused(tmp_path, capsys, subcommand):
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    split = np.tile([0, 0, 1, 2], 50)
    np.savez(tmp_path / "e.npz", vectors=rng.normal(size=(200, 4)) + label[:, None], superclass=label, split=split)
    assert command(capsys, "discover", tmp_path / "e.npz")[0] == 0
    names = tmp_path / "e-subclasses.yaml"
    names.write_text(ALIASES)
    options = ["--out", tmp_path / "r.html"] if subcommand == "report" else []
    code, _, err = command(capsys, subcommand, tmp_path / "e.npz", *options)
    if subcommand == "discover":  # names that cannot be read stay, beside new ones or as they are
        assert code == 0
        assert names.read_text() == ALIASES
    else:
        assert code == 2
        assert "write it out" in err
        assert len(err.splitlines()) == 1


def head(**changes) -> Head:
    plain_one = {"weight": np.ones((2, 3)), "bias": np.zeros(2), "mean": np.zeros(3), "scale": np.ones(3)}
    return Head(**plain_one | changes)


DAMAGED = {
    "a weight that is no number": (head(weight=np.full((2, 3), np.nan)), ("a", "b"), "not all its numbers are finite"),
    "an infinite bias": (head(bias=np.array([0, np.inf])), ("a", "b"), "not all its numbers are finite"),
    "a scale of zero": (head(scale=np.array([1, 0, 1])), ("a", "b"), "a scale is not above 0"),
    "a mean of another width": (head(mean=np.zeros(4)), ("a", "b"), "do not fit together"),
    "a bias too many": (head(bias=np.zeros(3)), ("a", "b"), "do not fit together"),
    "a name too many": (head(), ("a", "b", "c"), "2 rows of weights for 3 superclasses"),
    "weights in a row": (head(weight=np.ones(3)), ("a", "b"), "do not fit together"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_classifier_does_not_classify(tmp_path, capsys, fault):
    damaged, names, said = DAMAGED[fault]
    write_head(damaged, names, tmp_path / "head.npz")
    with pytest.raises(DataError, match=said):
        read_head(tmp_path / "head.npz")
    label = np.arange(20) % 2
    np.savez(tmp_path / "e.npz", vectors=np.ones((20, 3)) * label[:, None], superclass=label)
    words = ["classify", tmp_path / "e.npz", "--classifier", tmp_path / "head.npz", "--out", tmp_path / "p.csv"]
    code, _, err = command(capsys, *words)
    assert code == 2
    assert said in err
    assert not (tmp_path / "p.csv").exists()


def test_a_classifier_comes_back_as_it_was(tmp_path):
    write_head(head(encoder="abc"), ("a", "b"), tmp_path / "head.npz")
    again, names = read_head(tmp_path / "head.npz")
    assert names == ("a", "b")
    assert again.encoder == "abc"
    arrays = dict(np.load(tmp_path / "head.npz"))
    del arrays["encoder"], arrays[MARK]  # as earlier versions wrote it
    np.savez(tmp_path / "old.npz", **arrays)
    assert read_head(tmp_path / "old.npz")[0].encoder == ""
    content = (tmp_path / "head.npz").read_bytes()
    for place in range(0, len(content), 23):  # a flipped bit: refused, or a classifier all the same
        (tmp_path / "bad.npz").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            found, _ = read_head(tmp_path / "bad.npz")
        except DataError:
            continue
        assert np.isfinite(found.weight).all()


def test_settings_have_names(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("1: 2\n")
    code, _, err = command(capsys, "train", "--config", tmp_path / "c.yaml", "--out", tmp_path / "x")
    assert code == 2
    assert "has 1 in the place of a name" in err
    assert command(capsys, "train", "--config=", "--data", "digits", "--out", tmp_path / "x")[0] == 2
