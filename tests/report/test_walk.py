"""Coarser and finer cuts on the page, in a real browser."""

import re

import numpy as np
import pytest

from browser import opened
from thanos import DiscoverConfig, discover
from thanos.embeddings import Embeddings
from thanos.report.discover_page import write_discover_page
from thanos.subclasses.cuts import with_cuts


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two superclasses; one of six kinds in three pairs, of which the pairs are found, and one of a single kind."""
    kind = np.arange(280) % 7
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [0, 3], [20, 0], [20, 3], [60, 0], [60, 3], [200, 200]])
    vectors = (centres[kind] + 0.2 * rng.normal(size=(280, 2))).astype(np.float32)
    embeddings = Embeddings(
        vectors=vectors,
        superclass=kind // 6,
        superclass_names=("all", "lone"),
        split=np.zeros(280, dtype=np.int8),
        subclass=kind,
        subclass_names=tuple(f"kind {i}" for i in range(7)),
    )
    config = DiscoverConfig(length="own", clusters=3)
    found = with_cuts(embeddings, discover(embeddings, config))
    file = tmp_path_factory.mktemp("walk") / "page.html"
    write_discover_page(file, embeddings, found, of="x", again="x", images=None, errors=None, training=None, scores={})
    return file


def seen(page, count):
    """What a browser holds once the first superclass is cut in so many."""
    with opened(page) as shown:
        slider = shown.locator(".walk input").first
        slider.evaluate("(it, count) => { it.value = count; it.dispatchEvent(new Event('input')); }", count)
        dump = shown.content()
    block = re.search(r'<div class="walk" data-superclass="all">.*?</div>\s*<h3>', dump, re.DOTALL)[0]
    parts = re.findall(r"<li[^>]*><div>(.*?)</div>", block)
    legend = re.search(r'<ul id="legend"[^>]*>.*?</ul>', dump, re.DOTALL)[0]
    return block, parts, re.findall(r"</svg> (.*?)</button>", legend)


def test_finer_parts_show_what_they_hold_and_colour_the_map(page):
    block, parts, legend = seen(page, 6)
    assert len(parts) == 6
    assert all(re.fullmatch(r"all/[012][ab] · 40 · truly kind \d 100\.0%", part) for part in parts)
    assert re.search(r"<output[^>]*>6: all/\d becomes all/\da and all/\db</output>", block)
    assert len([name for name in legend if name.startswith("all/")]) == 6


def test_coarser_parts_are_unions(page):
    block, parts, legend = seen(page, 2)
    assert sorted(int(part.split(" · ")[1]) for part in parts) == [80, 160]
    union = next(part.split(" · ")[0] for part in parts if "+" in part)
    assert re.search(r"<output[^>]*>2: all/\d and all/\d become one</output>", block)
    assert f"{union} (160)" in legend


def test_the_shape_is_that_of_the_superclass(page):
    with opened(page) as shown:
        legend = shown.locator("#legend").inner_html()
    points = re.findall(r"<svg[^>]*><(\w+).*?</svg> (\w+)/", legend)
    assert points == [("circle", "all")] * 3 + [("rect", "lone")] * 3


def test_as_discovered_nothing_is_to_be_taken(page):
    block, _, _ = seen(page, 3)
    assert "3: as discovered" in block
    assert '<ul class="parts" hidden="">' in block
