"""Markdown: tables are as wide as their heads, differences say what they rest on."""

import numpy as np
import pytest

from thanos.evaluate.intervals import mean_interval
from thanos.reproduce.markdown import NOT_RUN, difference_cells, mean_and_deviation, not_run, table

HEAD = ["row", "what", "mean", "seeds"]


def test_every_line_has_as_many_cells_as_the_head():
    rows = [["a", "b", "1.0", "3"], ["a", "", None, "3"], not_run(HEAD, "a"), not_run(HEAD, "a", "b")]
    lines = table(HEAD, rows).split("\n")
    assert {line.count("|") for line in lines} == {len(HEAD) + 1}
    assert [line.count(NOT_RUN) for line in lines] == [0, 0, 0, 0, 1, 1]


def test_a_difference_shows_its_mean_its_interval_and_every_seed():
    values = [1.5, -0.25, 3.0]
    mean, interval, by_seed = difference_cells(values)
    low, high = mean_interval(values)
    assert float(mean) == pytest.approx(np.mean(values), abs=0.05)
    assert [float(end) for end in interval.split(" to ")] == pytest.approx([low, high], abs=0.05)
    assert [float(each) for each in by_seed.split(", ")] == pytest.approx(values, abs=0.05)


def test_a_single_value_has_no_deviation():
    assert mean_and_deviation([7.0]) == "7.0"
    assert mean_and_deviation(x for x in (6.0, 8.0)) == f"7.0 ± {np.std([6, 8], ddof=1):.1f}"
