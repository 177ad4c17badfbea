"""Table 3: the plan's order, its scales, the command from end to end on small files, and the page it writes."""

import math
import re

import numpy as np
import pytest
from PIL import Image

from thanos.cli import main
from thanos.config import LaunchConfig, RunConfig, Table3Config, TrainConfig
from thanos.data.load import load
from thanos.errors import ConfigError, DataError
from thanos.evaluate.intervals import mean_interval
from thanos.reproduce.fingerprint import digest, row_fingerprint
from thanos.reproduce.launch import by_images, launch
from thanos.reproduce.old_records import old_name
from thanos.reproduce.plan import missing
from thanos.reproduce.records import Places, Records, add_record, record_file
from thanos.reproduce.rows import ROWS, Block
from thanos.reproduce.scale import SCALES, load_scale
from thanos.reproduce.table import places_of
from thanos.reproduce.table3 import DATASETS, LATER, PAPER, PAPER_LIFT, TABLE
from thanos.storage import write_json


def test_the_papers_lift_follows_from_its_table():
    lifts = [ours - theirs for ours, theirs in zip(PAPER["thanos"], PAPER["supcon"], strict=True)]
    assert np.mean(lifts) == pytest.approx(PAPER_LIFT, abs=0.05)


def test_blocks_go_by_seed_then_data_set_and_rows_that_can_wait_come_last():
    blocks = TABLE.planned_blocks(Table3Config(seeds=2))
    order = [(b.base.seed, b.base.data) for b in blocks]
    assert order[:10] == [(seed, data) for seed in (0, 1) for data in DATASETS]
    assert order[10:] == order[:10]
    assert all(set(PAPER) <= {row.name for row in b.rows} for b in blocks[:10])
    assert all({row.name for row in b.rows} == set(LATER) for b in blocks[10:])
    assert all(b.base.split_seed == b.base.seed for b in blocks)


def test_a_chosen_method_brings_its_control():
    (block,) = TABLE.planned_blocks(Table3Config(dataset=("mnist",), method=("thanos",), seeds=1))
    assert [row.name for row in block.rows] == ["thanos", "spread + spread"]


@pytest.mark.parametrize(("setting", "wanted"), [("method", "did you mean 'thanos'"), ("scale", "did you mean 'cpu'")])
def test_unknown_names_are_refused_with_the_nearest(setting, wanted):
    value = ("thanoss",) if setting == "method" else "cpuu"
    with pytest.raises(ConfigError, match=wanted):
        TABLE.planned_blocks(Table3Config(**{setting: value}))


def test_scales_are_what_the_paper_says_and_what_a_cpu_can_do():
    cpu, paper = load_scale("cpu"), load_scale("paper")
    assert (cpu.base("cifar10", 0).encoder, cpu.base("cifar10", 0).train_limit, cpu.base("cifar10", 0).epochs) == (
        "tiny", 10_000, 12,
    )  # fmt: skip
    assert (cpu.base("mnist", 0).train_limit, cpu.base("mnist", 0).epochs) == (5000, 6)
    assert cpu.base("tiny-imagenet", 0).size == 32
    released = paper.base("cifar100", 3)
    assert (released.encoder, released.epochs, released.batch, released.learning_rate) == ("paper-vit", 600, 128, 3e-4)
    assert (released.seed, released.split_seed, released.validation, paper.transfer.probe) == (3, 3, 0.1, "released")
    for name in SCALES:
        for dataset in DATASETS:
            load_scale(name).base(dataset, 0)


def test_a_scale_with_a_misspelt_setting_is_refused(tmp_path):
    scale = tmp_path / "mine.yaml"
    scale.write_text("settings: {epochz: 3}\n")
    with pytest.raises(ConfigError, match=r"scale mine, mnist: .*epochz"):
        load_scale(str(scale)).base("mnist", 0)
    scale.write_text("setings: {epochs: 3}\n")
    with pytest.raises(ConfigError, match="setings"):
        load_scale(str(scale))


@pytest.fixture(scope="module")
def mnist(one_core, tmp_path_factory):
    """A folder like MNIST's, small: digits drawn as bars whose length is the digit."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 5)):
        for digit in range(10):
            folder = root / "mnist" / split / str(digit)
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 60, (28, 28), dtype=np.uint8)
                picture[4 : 4 + 2 * digit, 10:18] = 220
                Image.fromarray(picture).save(folder / f"{i}.png")
    scale = root / "small.yaml"
    scale.write_text("settings: {encoder: tiny, epochs: 1, batch: 32}\n")
    return root, scale


def command(mnist, folder, *more):
    root, scale = mnist
    return ["reproduce", "table3", "--scale", str(scale), "--dataset", "mnist", "--root", str(root), "--results",
            str(folder / "results"), "--work", str(folder / "work"), "--jobs", "1", *more]  # fmt: skip


def run(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def test_the_command_fills_the_table_and_does_nothing_again(mnist, tmp_path, capsys):
    arguments = command(mnist, tmp_path, "--seeds", "1", "--method", "supcon", "--method", "thanos")
    code, out, _ = run(capsys, [*arguments, "--dry-run"])
    assert code == 0
    assert "4 trainings" in out
    assert not list(tmp_path.iterdir())
    code, out, err = run(capsys, arguments)
    assert code == 0, err
    page = (tmp_path / "results" / "table3.md").read_text()
    records = Records(tmp_path / "results/runs/small").of("mnist")
    (accuracy,) = (100 * r["scores"]["probe"]["accuracy"] for key, r in records.items() if key.row == "thanos")
    assert f"| **thanos** | {ROWS['thanos'].what} | {accuracy:.1f} | 1 | 99.0 | {accuracy - 99:+.1f} |" in page
    assert "| cauto |" not in page  # a row without a record is no row
    assert "not run yet" not in page
    assert (tmp_path / "results" / "table3-small.png").stat().st_size > 10_000
    assert "\x1b" not in out
    code, out, _ = run(capsys, arguments)
    assert code == 0
    assert "3 of 3 rows finished; 0 trainings to do" in out


def test_an_absent_data_set_stops_it_before_any_work(mnist, tmp_path, capsys):
    arguments = [*command(mnist, tmp_path), "--dataset", "cifar10"]
    code, _, err = run(capsys, arguments)
    assert code == 2
    assert re.search(r"cifar10 was looked for in .*, as .*\. Pass --download", err)
    assert not list(tmp_path.iterdir())


def test_too_little_room_for_the_cache_stops_it_before_any_work(mnist, tmp_path, capsys, monkeypatch):
    from thanos.data import cache

    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10_000})())
    code, _, err = run(capsys, command(mnist, tmp_path / "out"))
    assert code == 2
    assert "Free some space, or set THANOS_CACHE" in err
    assert not (tmp_path / "out").exists()


def test_submitit_carries_out_one_job_for_each_data_set_and_seed(mnist, tmp_path):
    config = Table3Config(scale=str(mnist[1]), dataset=("mnist",), method=("raw pixels", "fine labels"), seeds=1)
    blocks = TABLE.planned_blocks(config.model_copy(update={"root": mnist[0]}))
    assert len(blocks) == 2
    assert [[row.name for row in b.rows] for b in by_images(blocks)] == [["raw pixels", "fine labels"]]
    places, said = Places(tmp_path / "work", tmp_path / "records"), []
    failures = launch(
        blocks, places, LaunchConfig(launcher="local"), run=RunConfig(threads=1, quiet=True), command="test",
        say=said.append, after_block=lambda: None,
    )  # fmt: skip
    assert failures == []
    assert missing(blocks, places) == []


def test_a_missing_launcher_says_how_to_get_it(mnist, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "submitit", None)
    code, _, err = run(capsys, command(mnist, tmp_path, "--launcher", "slurm"))
    assert code == 2
    assert "pip install thanos-repr[submitit]" in err


ACCURACY = {"supcon": (0.40, 0.42, 0.47), "spread": (0.50, 0.49, 0.60), "thanos": (0.51, 0.55, 0.59)}


@pytest.fixture
def made_up(tmp_path):
    """Records with round numbers, so that the page can be checked by hand."""
    where = places_of("cpu", tmp_path, tmp_path)
    scale = load_scale("cpu")
    for name, values in ACCURACY.items():
        for seed, value in enumerate(values):
            block = Block(scale.base("cifar100-u", seed), (ROWS[name],), scale.transfer)
            scores = {"accuracy": value, "balanced_accuracy": value, "frequency_weighted_accuracy": value + 0.1}
            training = {"fingerprint": name, "seconds": 100.0}
            record = {
                "fingerprint": row_fingerprint(ROWS[name], block.base, block.probe), "row": name,
                "dataset": "cifar100-u", "seed": seed, "width": 128,
                "hardware": "a machine, 2 cores, 1 threads", "threads": 1,
                "versions": {"torch": "2"}, "commit": "abc", "trainings": [training] * len(ROWS[name].parts),
                "images": {"fingerprint": f"images {seed}"},
                "scores": {"probe": scores, "neighbours": scores, "geometry": {"spread": 0.25}},
            }  # fmt: skip
            add_record(where.records, record)
    return tmp_path


def test_the_page_shows_means_deviations_and_paired_intervals(made_up):
    page = TABLE.render(made_up).read_text()
    supcon = re.search(r"\| supcon \| SupCon \| (.*)", page.split("### CIFAR-100-U")[1]).group(1)
    assert supcon.startswith("53.0 ± 3.6 | 43.0 ± 3.6 | 3 | 49.8 | +3.2 | 53.0 ± 3.6 | 0.250 | 128 | 100 |")
    difference = re.search(r"\| CIFAR-100-U \| thanos - supcon \| (.*)", page).group(1)
    # differences 11, 13, 12: mean 12, deviation 1, Student's t with 2 degrees of freedom 4.303
    half = 4.303 / math.sqrt(3)
    assert difference == f"+12.0 | {12 - half:+.1f} to {12 + half:+.1f} | +11.0, +13.0, +12.0 | +9.9 |"
    assert "Mean lift" not in page  # that is of all five sets
    assert mean_interval([1.0])[0] == -math.inf


def test_rows_measured_on_different_images_are_refused(made_up):
    folder = made_up / "runs/cpu"
    record = next(r for key, r in Records(folder).of("cifar100-u").items() if key[:2] == (0, "thanos"))
    add_record(folder, record | {"images": {"fingerprint": "others"}})
    with pytest.raises(DataError, match="cifar100-u, seed 0"):
        TABLE.render(made_up)


def test_training_on_fine_labels_keeps_images_and_splits():
    coarse, fine = (load(TrainConfig(train_limit=200, labels=labels)) for labels in ("superclass", "subclass"))
    assert np.array_equal(coarse.split, fine.split)
    assert np.array_equal(coarse.subclass, fine.superclass)
    assert np.array_equal(coarse.images[np.arange(50)], fine.images[np.arange(50)])


def test_a_line_written_over_by_another_row_s_is_not_believed(made_up, capsys):
    """Each is whole, and its checksum agrees; but it is another row's."""
    file = record_file(made_up / "runs/cpu", "cifar100-u")
    lines = file.read_text().splitlines()
    mine = next(k for k, line in enumerate(lines) if '"row": "thanos", "dataset": "cifar100-u", "seed": 0' in line)
    other = next(line for line in lines if '"row": "thanos", "dataset": "cifar100-u", "seed": 1' in line)
    file.write_text("\n".join([*lines[:mine], other, *lines[mine + 1 :]]))
    assert [key.row for key in Records(file.parent).of("cifar100-u") if key.seed == 0] == ["spread", "supcon"]
    file.write_text("\n".join([*lines[:mine], other.replace('"seed": 1', '"seed": 0'), *lines[mine + 1 :]]))
    refused = f"{file}, line {mine + 1}: it was edited after it was measured"
    with pytest.raises(DataError, match=re.escape(refused)):
        TABLE.render(made_up)
    words = ["reproduce", "table3", "--results", str(made_up), "--work", str(made_up / "work"), "--dry-run"]
    code, _, err = run(capsys, words)
    assert code == 2
    assert refused in err


def test_old_records_are_read_by_a_dry_run_and_converted_at_the_next_start(mnist, tmp_path, capsys):
    arguments = command(mnist, tmp_path, "--seeds", "1", "--method", "raw pixels", "--method", "random encoder")
    assert run(capsys, arguments)[0] == 0
    folder = tmp_path / "results/runs/small"
    file, page = record_file(folder, "mnist"), tmp_path / "results/table3.md"
    lines, written = file.read_bytes(), page.read_bytes()
    for record in Records(folder).of("mnist").values():
        write_json(folder / "mnist" / old_name(record), record | {"checksum": digest(record)})
    file.unlink()
    old = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    code, out, err = run(capsys, [*arguments, "--dry-run"])
    assert code == 0, err
    assert "2 rows in 1 blocks, 2 finished" in out
    assert {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()} == old
    code, out, err = run(capsys, arguments)
    assert code == 0, err
    assert f"2 records, till now a file each, are lines of {folder}/*.jsonl" in out
    assert "2 of 2 rows finished; 0 trainings to do" in out
    assert (file.read_bytes(), page.read_bytes()) == (lines, written)
    assert [path.name for path in folder.iterdir()] == ["mnist.jsonl"]
