"""The digest of an image's content."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from thanos.data.content import content_of

PICTURES = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=5))


@given(PICTURES)
def test_how_an_image_lies_in_memory_does_not_matter(picture):
    assert content_of(np.asfortranarray(picture)) == content_of(picture)
    assert content_of(np.stack([picture, picture])[1]) == content_of(picture)


@given(PICTURES, st.data())
def test_one_changed_value_shows(picture, data):
    changed = picture.copy()
    changed.flat[data.draw(st.integers(0, picture.size - 1))] += 1
    assert content_of(changed) != content_of(picture)


@given(PICTURES)
def test_shape_and_type_count(picture):
    assert content_of(picture.astype(np.float32)) != content_of(picture)
    assert content_of(picture[None]) != content_of(picture)
    assert len(content_of(picture)) == 16
