"""The records in results/: whole, each a planned row's, and with the intervals that their own numbers give."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from thanos.config import SEEDS, Table3Config, Table4Config
from thanos.evaluate.intervals import lowest_share, share_interval
from thanos.reproduce import table3, table4
from thanos.reproduce.fingerprint import row_fingerprint
from thanos.reproduce.records import Key, Records
from thanos.reproduce.tables import TABLES

TOP = Path(__file__).parents[2]
RESULTS = TOP / "results" / "runs"
pytestmark = pytest.mark.skipif(
    not RESULTS.is_dir(), reason="the results are in the repository, not in an installed package"
)


def kept(scale):
    """(data set, key, record) of a scale's records."""
    known = Records(RESULTS / scale)
    for file in sorted((RESULTS / scale).glob("*.jsonl")):
        for key, record in known.of(file.stem).items():
            yield file.stem, key, record


def test_intervals_follow_from_the_numbers_beside_them():
    count = 0
    for scale in sorted(RESULTS.iterdir()):
        for dataset, key, record in kept(scale.name):
            scores, count = record["scores"], count + 1
            shares = [scores[name] for name in ("probe", "neighbours") if name in scores]
            for name in ("groups", "discovered_groups"):
                if name in scores:
                    shares += scores[name]["groups"].values()
                    worst = lowest_share(scores[name]["groups"])
                    assert scores[name]["worst_group"]["interval"] == pytest.approx(worst["interval"]), (dataset, key)
            for each in shares:
                assert each["interval"] == pytest.approx(share_interval(each["accuracy"], each["n"])), (dataset, key)
    assert count >= 454


def keys(blocks):
    """What the records of these blocks' rows are found by."""
    return {
        (block.base.data, Key(block.base.seed, row.name, row_fingerprint(row, block.base, block.probe)))
        for block in blocks
        for row in block.rows
    }


def test_every_record_at_cpu_scale_is_of_a_planned_row():
    found = {(dataset, key) for dataset, key, _ in kept("cpu")}
    seeds = max(key.seed for _, key in found) + 1
    assert seeds < SEEDS
    planned = keys(table3.TABLE.planned_blocks(Table3Config(seeds=seeds, method=table3.TABLE.usual)))
    planned |= keys(table4.TABLE.planned_blocks(Table4Config(seeds=seeds)))
    assert found - planned == set()


def test_every_record_of_the_study_is_of_a_row_of_it():
    spec = importlib.util.spec_from_file_location("table3_study", TOP / "benchmarks" / "table3_study.py")
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    rows = tuple(row for _, row in study.study_rows())
    found = {(dataset, key) for dataset, key, _ in kept("study")}
    assert found - keys(study.block(dataset, rows) for dataset in study.DATASETS) == set()


def test_nothing_but_records_lies_among_them():
    assert {path.suffix for path in RESULTS.rglob("*") if path.is_file()} == {".jsonl"}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_committed_page_is_what_the_records_give(table, tmp_path):
    shutil.copytree(RESULTS, tmp_path / "runs")
    assert table.render(tmp_path).read_bytes() == table.page_file(TOP / "results").read_bytes()
