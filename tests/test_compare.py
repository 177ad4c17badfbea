"""Runs side by side: the numbers are those of the runs, and the command of a cell gives the cell."""

import csv
import json
import re
import shlex
import shutil

import pytest

from thanos.cli import run_command
from thanos.compare import KEEPS, TITLE, Cell, Line, best_of, compare, kept_by, start_of
from thanos.config import RunConfig, TrainConfig
from thanos.errors import ConfigError, DataError, OutputError
from thanos.evaluate.intervals import mean_interval, share_interval
from thanos.training.fit import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """SupCon and L_spread on digits; the second was judged and searched for subclasses."""
    folder = tmp_path_factory.mktemp("runs")
    for name, method in (("a", "supcon"), ("b <x>", "spread")):
        config = TrainConfig(method=method, epochs=3, train_limit=300)
        train(config, folder / name, run=RunConfig(quiet=True, threads=1), say=lambda line: None)
    for subcommand, *more in (("transfer", "--neighbours", "5"), ("discover",), ("robust",)):
        run_command([subcommand, str(folder / "b <x>"), *more])
    return folder


def test_the_page_and_the_table_say_what_the_runs_say(runs, tmp_path, capsys):
    page = tmp_path / "c.html"
    run_command(["compare", str(runs / "a"), str(runs / "b <x>"), "--out", str(page)])
    printed = capsys.readouterr().out
    with page.with_suffix(".csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["run"] == str(runs / "b <x>")  # judged ones first
    probe = json.loads((runs / "b <x>" / "metrics.json").read_text())["transfer/last"]["probe"]
    assert float(first["fine accuracy, probe"]) == probe["accuracy"]
    low, high = share_interval(probe["accuracy"], probe["n"])
    assert float(first["fine accuracy, probe: low"]) == pytest.approx(low)
    assert float(first["fine accuracy, probe: high"]) == pytest.approx(high)
    assert f"{100 * probe['accuracy']:.1f}" in printed
    recovered = json.loads((runs / "b <x>" / "subclasses.json").read_text())["recovery"]["test"]
    assert float(first["recovery"]) == recovered["adjusted_mutual_information"]
    fair = json.loads((runs / "b <x>" / "robust-portfolio.json").read_text())["scores"]["discovered_groups"]
    assert float(first["worst discovered group"]) == fair["worst_group"]["accuracy"]
    assert first["worst group"] == ""
    assert second["fine accuracy, probe"] == ""
    assert second["fine accuracy, probe: command"] == f"thanos transfer {runs / 'a'}"
    assert first["start"] == "scratch"
    seconds = json.loads((runs / "b <x>" / "metrics.json").read_text())["seconds"]
    assert float(first["minutes"]) == pytest.approx(seconds / 60)
    assert "hidden subclasses are kept best (fine accuracy, probe) by scratch, spread:" in printed
    text = page.read_text()
    assert "<x>" not in text.replace("&lt;x&gt;", "")
    assert TITLE in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []


def test_the_command_of_a_cell_gives_the_cell(runs, capsys):
    (line,) = compare([runs / "b <x>"])
    cell = line.cells["fine accuracy, neighbours"]
    assert "--neighbours 5" in cell.command
    run_command(shlex.split(cell.command)[1:])
    assert f"fine accuracy {cell.value:.1%}" in capsys.readouterr().out


def test_a_bad_run_is_left_out_with_its_reason_and_the_others_are_compared(runs, tmp_path, capsys):
    for name in ("unfinished", "damaged"):
        shutil.copytree(runs / "b <x>", tmp_path / name)
    (tmp_path / "unfinished" / "metrics.json").unlink()
    (tmp_path / "damaged" / "subclasses.json").write_text("{")
    page = tmp_path / "c.html"
    compared = [str(each) for each in (tmp_path / "unfinished", runs / "a", tmp_path / "damaged")]
    run_command(["compare", *compared, "--out", str(page)])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert len(said) == 2
    assert "unfinished is none" in said[0]
    assert "subclasses.json is not as it was written" in said[1]
    assert page.read_text().count("Left out: ") == 2
    with page.with_suffix(".csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == [str(runs / "a")]


def test_a_comparison_is_made_anew_in_its_place(runs, tmp_path):
    for _ in range(2):
        run_command(["compare", str(runs / "a"), "--out", str(tmp_path / "c.html")])


def test_what_cannot_be_compared(runs, tmp_path):
    with pytest.raises(DataError, match="is none"):
        compare([tmp_path])
    with pytest.raises(ConfigError, match="named twice"):
        compare([runs / "a", runs / "a"])
    with pytest.raises(ConfigError, match="none was named"):
        run_command(["compare"])
    (tmp_path / "d.csv").write_text("run,accuracy\nmine,0.9\n")
    with pytest.raises(OutputError, match="not written by thanos compare"):
        run_command(["compare", str(runs / "a"), "--out", str(tmp_path / "d.html")])
    (tmp_path / "c.html").write_text("mine")
    with pytest.raises(OutputError, match="not written by thanos compare"):
        run_command(["compare", str(runs / "a"), "--out", str(tmp_path / "c.html")])
    assert (tmp_path / "c.html").read_text() == "mine"


def line(start, method, minutes, data="digits", **cells):
    names = {"probe": KEEPS[0], "recovery": KEEPS[1], "neighbours": KEEPS[2]}
    values = dict.fromkeys((*KEEPS, "minutes")) | {names[name]: value for name, value in cells.items()}
    values["minutes"] = minutes
    cells = {name: Cell(value, None, "") for name, value in values.items()}
    return Line(f"{start}-{method}", {"start": start, "method": method, "data": data}, cells)


def test_what_keeps_subclasses_best_is_a_mean_over_runs():
    lines = [
        line("frozen", "thanos", 1.0, probe=0.8),
        line("scratch", "thanos", 9.0, probe=0.9),
        line("frozen", "thanos", 2.0, probe=0.7),
        line("fine-tuned", "spread", None, probe=0.6, recovery=0.99),
    ]
    best, second, third = kept_by(lines)
    assert (best.start, best.method, best.runs, best.value, best.minutes) == ("scratch", "thanos", 1, 0.9, 9.0)
    assert (second.start, second.runs, second.minutes) == ("frozen", 2, 1.5)
    assert second.value == pytest.approx(0.75)
    assert second.interval == mean_interval([0.8, 0.7])
    assert (third.start, third.minutes) == ("fine-tuned", None)


def test_without_fine_labels_or_on_several_sets_nothing_is_ranked():
    assert kept_by([line("scratch", "spread", 1.0), line("frozen", "spread", 1.0)]) == []
    assert kept_by([line("scratch", "a", 1.0, probe=0.5), line("frozen", "a", 1.0, data="mnist", probe=0.6)]) == []
    (one,) = kept_by([line("scratch", "a", 1.0, recovery=0.5), line("frozen", "a", 1.0)])
    assert one.measure == "recovery"


def test_starts():
    assert start_of({"frozen": True, "pretrained": True}) == "frozen"
    assert start_of({"frozen": False, "pretrained": "w.safetensors", "encoder": "resnet18"}) == "fine-tuned"
    assert start_of({"frozen": False, "pretrained": False, "encoder": "tiny"}) == "scratch"
    assert start_of({"encoder": "mlp-64-16"}) == "vectors"


@pytest.mark.parametrize(
    ("cells", "best"),
    [
        ([(0.9, (0.88, 0.92)), (0.8, (0.78, 0.82))], 0.9),
        ([(0.9, (0.85, 0.92)), (0.88, (0.86, 0.9))], None),  # the second reaches into the first's
        ([(0.9, None), (0.8, None)], 0.9),
        ([(0.9, (0.8, 1.0)), (0.9, (0.8, 1.0))], 0.9),
        ([(None, None), (0.5, (0.4, 0.6))], 0.5),
        ([(None, None)], None),
    ],
)
def test_the_best_is_above_all_others_beyond_intervals(cells, best):
    assert best_of([Cell(value, around, "") for value, around in cells]) == best
