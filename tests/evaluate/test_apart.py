"""What tearing things apart pretends: against worlds where the right answer is known."""

import numpy as np
import pytest

from thanos.embeddings import Embeddings
from thanos.evaluate.apart import MOST, split_apart


def world(things, each, *, remembered, seed=0, train=0):
    """Vectors that tell of their thing (by as much as ``remembered``) and nothing of their superclass."""
    rng = np.random.default_rng(seed)
    thing = np.repeat(np.arange(things), each)
    label = rng.integers(0, 2, things)[thing]
    vectors = remembered * rng.normal(size=(things, 20))[thing] + 0.1 * rng.normal(size=(len(thing), 20))
    split = np.where(thing < train, 0, 2).astype(np.int8)
    found = Embeddings(vectors=vectors.astype(np.float32), superclass=label, superclass_names=("a", "b"), split=split)
    return found, [f"p{i}" for i in thing]


def test_what_things_remember_shows_only_where_they_are_torn():
    """A label at random for each thing: whole, nothing can be told; torn, the thing gives it away."""
    found = split_apart(*world(40, 8, remembered=1.0))
    assert found is not None
    assert found.n == 320
    assert found.things == 40
    assert abs(found.whole - 0.5) < 0.15
    assert found.torn > 0.7
    assert found.torn - found.whole == pytest.approx(np.mean(found.differences))


def test_where_nothing_is_remembered_the_split_does_not_matter():
    found = split_apart(*world(100, 4, remembered=0.0))
    assert found is not None
    assert abs(found.torn - found.whole) < 0.06


def test_training_rows_have_no_part_in_it():
    embeddings, things = world(60, 5, remembered=1.0, train=20)
    found = split_apart(embeddings, things)
    assert found is not None
    assert (found.n, found.things) == (200, 40)
    spoilt = embeddings.vectors.copy()
    spoilt[embeddings.in_split("train")] = 1e6
    assert split_apart(Embeddings(**(vars_of(embeddings) | {"vectors": spoilt})), things) == found


def vars_of(embeddings):
    return {name: getattr(embeddings, name) for name in ("vectors", "superclass", "superclass_names", "split")}


@pytest.mark.parametrize("things", [(), [""] * 320, [str(i) for i in range(320)]])
def test_without_things_of_several_images_there_is_nothing_to_say(things):
    assert split_apart(world(40, 8, remembered=1.0)[0], things) is None


def test_one_superclass_has_nothing_to_classify():
    embeddings, things = world(40, 8, remembered=1.0)
    one = Embeddings(**(vars_of(embeddings) | {"superclass": np.zeros(320, dtype=np.int64)}))
    assert split_apart(one, things) is None


def test_many_images_are_sampled_by_whole_things():
    embeddings, things = world(1500, 4, remembered=0.5)
    found = split_apart(embeddings, things)
    assert found is not None
    assert found.n == 4 * found.things <= MOST
