"""Places on the map, and points as they are drawn."""

from importlib.resources import files

import numpy as np
import pytest

from browser import opened
from thanos.report.plane import directions, nearest_rows, placed_beside

RASTER = files("thanos.report") / "templates" / "page" / "raster.js"


def test_the_nearest_rows_are_those_of_all_distances():
    rng = np.random.default_rng(0)
    x, y = (
        directions(rng.normal(size=(50, 5)).astype(np.float32)),
        directions(rng.normal(size=(70, 5)).astype(np.float32)),
    )
    near, squared = nearest_rows(x, y, 4)
    every = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    assert np.array_equal(near, np.argsort(every, axis=1)[:, :4])
    assert np.allclose(squared, np.sort(every, axis=1)[:, :4], atol=1e-5)


def test_rows_stand_among_their_nearest_placed_ones():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 6)).astype(np.float32)
    vectors[59] = 3 * vectors[2]  # the same direction
    placed, plane = np.arange(0, 60, 2), rng.normal(size=(30, 2)).astype(np.float32)
    found = placed_beside(vectors, placed, plane)
    assert np.array_equal(found[placed], plane)
    assert np.allclose(found[59], plane[1], atol=1e-3)
    near, _ = nearest_rows(directions(vectors), directions(vectors[placed]), 5)
    for row in range(60):
        around = plane[near[row]]
        assert (found[row] >= around.min(axis=0) - 1e-5).all()
        assert (found[row] <= around.max(axis=0) + 1e-5).all()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Draws points in red on white, 40 x 30 pixels; returns (30, 40, 3)."""
    file = tmp_path_factory.mktemp("blank") / "blank.html"
    file.write_text("<!DOCTYPE html><title>script alone</title>")
    with opened(file) as page:
        page.add_script_tag(content=RASTER.read_text())

        def draw(points, shape=0, radius=3):
            pixels = page.evaluate(
                """([points, shape, radius]) => {
                  const image = new ImageData(40, 30), place = (i, to) => { [to[0], to[1]] = points[i]; };
                  rasterise(image, [255, 255, 255], radius, [[255, 0, 0]], () => shape, points.length, place, () => 0);
                  return [...image.data];
                }""",
                [points, shape, radius],
            )
            whole = np.array(pixels).reshape(30, 40, 4)
            assert (whole[..., 3] == 255).all()
            return whole[..., :3]

        yield draw


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_a_point_is_drawn_where_it_is(drawn, shape):
    picture = drawn([[20, 15]], shape)
    assert np.abs(picture[15, 20] - [255, 255 * 0.15, 255 * 0.15]).max() < 3
    inked = np.argwhere((picture != 255).any(axis=2))
    assert np.abs(inked - [15, 20]).max() <= 4
    assert 15 < len(inked) < 60
    assert np.array_equal(drawn([[23, 15]], shape)[:, 3:], picture[:, :-3])  # moved with its point
    if shape < 2:
        assert np.array_equal(picture[12:19, 17:24], picture[12:19, 17:24].transpose(1, 0, 2))


@pytest.mark.parametrize("place", [[-1, 15], [40, 15], [20, -1], [20, 30], [-1, -1], [40, 30]])
def test_a_point_at_the_rim_shows_in_part_and_never_on_the_other_side(drawn, place):
    inked = np.argwhere((drawn([place]) != 255).any(axis=2))
    assert len(inked)
    assert np.abs(inked - place[::-1]).max() <= 4


@pytest.mark.parametrize("place", [[-50, 15], [1e9, 15], [20, -1e9], [20, 36]])
def test_a_point_outside_is_not_drawn(drawn, place):
    assert (drawn([place]) == 255).all()


def test_points_on_one_place_grow_denser(drawn):
    assert drawn([[20, 15]] * 3)[15, 20, 1] < drawn([[20, 15]])[15, 20, 1]
