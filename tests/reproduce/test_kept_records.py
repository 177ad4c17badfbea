"""The records in results/: whole, and with the intervals that their own numbers give."""

from pathlib import Path

import pytest

from thanos.evaluate.intervals import lowest_share, share_interval
from thanos.reproduce.record import read_record

RESULTS = Path(__file__).parents[2] / "results" / "runs"


@pytest.mark.skipif(not RESULTS.is_dir(), reason="the results are in the repository, not in an installed package")
def test_intervals_follow_from_the_numbers_beside_them():
    files = sorted(RESULTS.rglob("*.json"))
    assert len(files) > 400
    for file in files:
        scores = read_record(file)["scores"]
        shares = [scores[name] for name in ("probe", "neighbours") if name in scores]
        for name in ("groups", "discovered_groups"):
            if name in scores:
                shares += scores[name]["groups"].values()
                worst = lowest_share(scores[name]["groups"])
                assert scores[name]["worst_group"]["interval"] == pytest.approx(worst["interval"]), file
        for each in shares:
            assert each["interval"] == pytest.approx(share_interval(each["accuracy"], each["n"])), file
