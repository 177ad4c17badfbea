"""Names of 300 letters on the pages, in a real browser: no page scrolls sideways."""

import numpy as np
import pytest

from browser import opened
from thanos.compare import COLUMNS, SETTINGS, Cell, Line, write_comparison
from thanos.embeddings import Embeddings
from thanos.evaluate.recovery import recovery_by_split
from thanos.report.discover_page import write_discover_page
from thanos.subclasses.fitted import Discovered

LONG = "n" * 300


def discovered(file):
    """Two clusters in one superclass, all of long names."""
    fine = np.arange(80) % 2
    embeddings = Embeddings(
        vectors=(np.eye(8)[fine] + 0.1 * np.random.default_rng(0).normal(size=(80, 8))).astype(np.float32),
        superclass=np.zeros(80, dtype=np.int64),
        superclass_names=(LONG,),
        split=np.where(np.arange(80) < 40, 0, 2).astype(np.int8),
        subclass=fine,
        subclass_names=(f"{LONG}a", f"{LONG}b"),
        refs=tuple(f"{LONG}{i}.png" for i in range(80)),
    )
    names, facts = (f"{LONG}/0", f"{LONG}/1"), {LONG: {"clusters": 2, "images": 80, "sizes": [40, 40]}}
    found = Discovered(fine, names, np.zeros(80), np.ones(80), facts)
    given = {"images": None, "errors": None, "training": None, "scores": recovery_by_split(embeddings, fine).to_dict()}
    write_discover_page(
        file, embeddings, found, of=LONG, again=LONG, table=file.with_name(f"{LONG[:240]}.csv"), **given
    )


def compared(file):
    cells = dict.fromkeys(COLUMNS, Cell(0.5, (0.4, 0.6), f"thanos transfer {LONG}"))
    write_comparison([Line(f"{LONG}{k}", dict.fromkeys(SETTINGS, f"{LONG}{k}"), cells) for k in range(2)], file)


@pytest.mark.parametrize("write", [discovered, compared])
@pytest.mark.parametrize("width", [400, 1200])
def test_a_long_name_does_not_make_the_page_scroll_sideways(tmp_path, write, width):
    file = tmp_path / "page.html"
    write(file)
    with opened(file, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
