"""Held-out rows: both sides of every group and class, and each one's share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thanos.data.draw import draw_held_out

ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(ROWS, st.floats(0.01, 0.99), st.integers(1, 3), st.integers(0, 9))
def test_every_group_and_class_of_two_rows_is_on_both_sides(rows, share, least, seed):
    group, superclass = np.array(rows).T
    held_out = draw_held_out(group, superclass, share, np.random.default_rng(seed), least=least)
    for label in (group, superclass):
        for kind in np.unique(label):
            mine = held_out[label == kind]
            assert len(mine) == 1 or 0 < mine.sum() < len(mine)
    again = draw_held_out(group, superclass, share, np.random.default_rng(seed), least=least)
    np.testing.assert_array_equal(again, held_out)


@given(ROWS, st.sampled_from([0.1, 0.2, 0.5, 0.8]), st.integers(0, 9))
def test_large_groups_keep_their_share_in_every_class(rows, share, seed):
    group, superclass = np.repeat(np.array(rows), 50, axis=0).T
    held_out = draw_held_out(group, superclass, share, np.random.default_rng(seed))
    for kind in np.unique(group):
        assert held_out[group == kind].sum() == round(share * (group == kind).sum())
        for each in np.unique(superclass[group == kind]):
            cell = held_out[(group == kind) & (superclass == each)]
            assert abs(cell.sum() - share * len(cell)) <= 8  # rows that part pairs have their side already


def test_groups_that_are_classes_keep_their_share_exactly():
    label = np.repeat([0, 1, 2], [10, 50, 5])
    held_out = draw_held_out(label, label, 0.2, np.random.default_rng(0))
    assert np.bincount(label[held_out]).tolist() == [2, 10, 1]
