"""Every tenth or so of the cases of benchmarks/mutations.py: no damage changes a result unsaid, faults or hangs."""

import sys
from collections import Counter
from dataclasses import replace

import mutations
import pytest

QUICK = {
    "run": ("check", "compare", "geometry", "classify", "geometry of a checkpoint"),
    "run without a manifest": ("check", "compare", "geometry", "classify"),
    "exports": ("geometry",),
}
COUNT = 100

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and waits as Linux does")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutations") / "sets"
    sets = [
        replace(each, commands={name: each.commands[name] for name in QUICK[each.name]})
        for each in mutations.SETS
        if each.name in QUICK
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THANOS_CACHE", str(folder.parent / "cache"))
        mutations.make(folder, sets)
        yield mutations.Matrix(folder, sets), sets


def test_damage_is_refused_said_or_changes_nothing(matrix):
    found, sets = matrix
    cases = [*found.cases(sets)]
    some = cases[:: len(cases) // COUNT]
    outcomes = [(case, *found.outcome(case)) for case in some]
    wrong = [(case, said.err[-300:]) for case, outcome, said in outcomes if outcome in mutations.FAULTS]
    assert not wrong
    count = Counter(outcome for _, outcome, _ in outcomes)
    assert len(some) >= COUNT
    assert count["refused in a line"] > COUNT / 3
    assert count["unchanged"] > 0


@pytest.mark.parametrize(
    ("code", "out", "err", "files", "outcome"),
    [
        (0, "1\n", "", {"a/b.npz": b"x"}, "unchanged"),
        (0, "1\n", "", {"a/b.npz": b"y"}, "unchanged"),
        (0, "2\n", "", {"a/b.npz": b"x"}, "SILENT CHANGE"),
        (0, "1\n", "", {"a/b.npz": b"x", "a/c.json": b"y"}, "SILENT CHANGE"),
        (0, "b.npz is damaged\n1\n", "", {"a/b.npz": b"x"}, "said in a line"),
        (2, "", "thanos: b.npz is damaged\n", {}, "refused in a line"),
        (2, "", "", {}, "MORE THAN A LINE"),
        (1, "", "thanos: KeyError (a fault of thanos; --debug shows where).\n", {}, "INTERNAL ERROR"),
        (-11, "", "", {}, "INTERNAL ERROR"),
        (0, "1\n", "", {"a/b.npz": b"x", "ran": b""}, "INTERNAL ERROR"),
        (None, "", "", {}, "HANG"),
    ],
)
def test_what_a_damaged_file_came_to(code, out, err, files, outcome):
    whole = mutations.Result(0, "1\n", "", {"a/b.npz": b"whole"}, 0.0, 0)
    came = mutations.Result(code, out, err, files, 0.0, 0)
    assert mutations.judged(mutations.Set("run", {}), "a/b.npz", whole, came) == outcome


def test_an_outcome_may_be_removed_and_what_was_trained_may_not():
    whole = mutations.Result(0, "1\n", "", {"a/robust-jtt.json": b"x", "a/model.json": b"x"}, 0.0, 0)
    came = mutations.Result(0, "2\n", "", {}, 0.0, 0)
    assert mutations.judged(mutations.Set("run", {}), "a/robust-jtt.json", whole, came) == "may be removed"
    assert mutations.judged(mutations.Set("run", {}), "a/model.json", whole, came) == "SILENT CHANGE"
