"""Table 4 on small stand-ins: true groups reach no row that must not see them; the page says what was measured."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from stand_in import stand_in
from thanos.config import LaunchConfig, Table4Config
from thanos.data import load as loading
from thanos.data import spurious
from thanos.data.hierarchy import CIFAR10, DIGITS
from thanos.errors import ConfigError
from thanos.reproduce import score
from thanos.reproduce.command import reproduce
from thanos.reproduce.fingerprint import row_fingerprint
from thanos.reproduce.records import Records
from thanos.reproduce.table4 import (
    DATASETS,
    FEATURES,
    GROUPED,
    HEADS,
    NETWORKS,
    PAPER_WORST,
    RARE_ONLY,
    RECOVERY,
    ROWS,
    TABLE,
)

METHODS = ("erm", "jtt", "thanos", "groupdro", "thanos, network")


def run(folder):
    config = Table4Config(scale=str(folder / "mini.yaml"), dataset=("dominoes-95",), method=METHODS, seeds=1, jobs=1)
    said = []
    reproduce("table4", config, LaunchConfig(), folder / "results", folder / "work", said.append)
    records = Records(folder / "results/runs/mini").of("dominoes-95")
    return {key.row: record for key, record in records.items()}, said


@pytest.fixture(autouse=True, scope="module")
def sources(one_core):
    sets = {
        "mnist": stand_in("mnist", 28, 1, DIGITS, 140, 20),
        "cifar10": stand_in("cifar10", 32, 3, CIFAR10, 140, 20),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spurious, "load_published", lambda config: sets[config.data])
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table4")
    (folder / "mini.yaml").write_text("settings: {encoder: tiny, epochs: 1, batch: 64, learning_rate: 0.003}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THANOS_CACHE", str(folder / "cache"))
        return folder, run(folder)[0]


def test_true_groups_reach_only_the_rows_that_may_see_them(finished, tmp_path, monkeypatch):
    """The same images, once with their groups and once with groups drawn at random."""
    folder, honest = finished

    def lie(config):
        images = loading.load(config)
        drawn = np.random.default_rng(5).permutation(images.group)
        return replace(images, group=drawn, subclass=drawn)

    monkeypatch.setattr(score, "load", lie)  # scoring alone: the encoders of the rows are the same files
    monkeypatch.setattr(score, "_embedded", _whatever_the_fingerprint)
    shutil.copytree(folder / "work", tmp_path / "work", ignore=shutil.ignore_patterns("*-robust-*", "*.npz"))
    for classifier in (folder / "work").rglob("classifier.npz"):
        if "-robust-" not in str(classifier):
            shutil.copy(classifier, tmp_path / classifier.relative_to(folder))
    shutil.copy(folder / "mini.yaml", tmp_path)
    lied, _ = run(tmp_path)
    for name in METHODS:
        a, b = honest[name]["scores"], lied[name]["scores"]
        same = (a["sample_accuracy"], a["worst_class"], a["calibration_error"], a["settings"]) == (
            b["sample_accuracy"], b["worst_class"], b["calibration_error"], b["settings"]
        )  # fmt: skip
        assert same == (name != "groupdro"), name


def _whatever_the_fingerprint(folder, row, part, images):
    from thanos.embeddings import embed

    return embed(score._encoder(folder, row), images)


def test_the_page_and_what_is_not_repeated(finished):
    folder, records = finished
    page = (folder / "results/table4.md").read_text()
    for name in METHODS:
        worst = records[name]["scores"]["groups"]["worst_group"]["accuracy"]
        (line,) = [
            line for line in page.splitlines() if line.startswith((f"| {name} | {ROWS[name].what}", f"| **{name}**"))
        ]
        assert f"| {100 * worst:.1f} |" in line
    assert "| dfr | true validation groups, DFR on erm's embedding | not run yet |" in page
    assert records["thanos"]["scores"]["selection"]["rule"] == "worst-discovered"
    assert records["groupdro"]["scores"]["selection"]["rule"] == "worst-group"
    assert sum(records["groupdro"]["scores"]["selection"]["n"].values()) == 56
    _, again = run(folder)
    assert again[0] == "5 of 5 rows finished; 0 trainings to do"
    assert (folder / "results/table4.md").read_text() == page


def test_the_plan():
    blocks = TABLE.planned_blocks(Table4Config(seeds=2))
    assert [b.title for b in blocks if b.rows[0].name == NETWORKS[0].name] == [
        "dominoes-95, seed 0",
        "coloured-digits-medium, seed 0",
    ]
    for block in blocks:
        names = {row.name for row in block.rows}
        if not block.base.data.startswith(GROUPED):
            assert names == {*RECOVERY, *(row.name for row in RARE_ONLY)} - {row.name for row in FEATURES}
        elif "network" not in block.rows[0].name:
            assert names == {row.name for row in HEADS}
    photographs = TABLE.planned_blocks(Table4Config(seeds=1, scale="frozen", dataset=("celeba", "isic")))
    assert [block.title for block in photographs] == ["celeba, seed 0", "isic, seed 0"]
    for block in photographs:
        by_auroc = {"george by auroc on features", "groupdro by auroc on features"}
        without = set() if block.base.data == "isic" else by_auroc
        assert {row.name for row in block.rows} == {row.name for row in (*HEADS, *FEATURES)} - without
    assert set(PAPER_WORST) <= set(ROWS)
    assert set(Table4Config().dataset) <= set(DATASETS)
    with pytest.raises(ConfigError, match="did you mean 'george'"):
        TABLE.planned_blocks(Table4Config(method=("gorge",)))


def test_every_row_has_a_record_of_its_own():
    (block,) = TABLE.planned_blocks(Table4Config(seeds=1, dataset=("dominoes-95",)))[:1]
    prints = [row_fingerprint(row, block.base, block.probe) for row in ROWS.values()]
    assert len(set(prints)) == len(prints)


def test_rows_without_labels_say_so():
    for row in ROWS.values():
        assert row.stage is not None
        assert row.stage.config.sees_groups == (row.kind == "ceiling"), row.name
