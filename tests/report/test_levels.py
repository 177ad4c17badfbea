"""Labels of several levels on the page, in a real browser, and what tearing things apart would pretend."""

import re

import numpy as np
import pytest

from browser import opened
from thanos.cli import run_command
from thanos.embeddings import Embeddings
from thanos.evaluate.recovery import recovery_by_split
from thanos.report.discover_page import write_discover_page
from thanos.subclasses.fitted import Discovered

NAMES = ("cat > siamese", "cat > tabby", "dog > beagle", "dog > pug")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Clusters that know cat from dog but no breed."""
    breed = np.arange(80) % 4
    rng = np.random.default_rng(0)
    embeddings = Embeddings(
        vectors=(np.eye(8)[breed // 2] + 0.1 * rng.normal(size=(80, 8))).astype(np.float32),
        superclass=np.zeros(80, dtype=np.int64),
        superclass_names=("animal",),
        split=np.where(np.arange(80) < 40, 0, 2).astype(np.int8),
        subclass=breed,
        subclass_names=NAMES,
    )
    found = Discovered(
        breed // 2,
        ("animal/0", "animal/1"),
        np.zeros(80),
        np.ones(80),
        {"animal": {"clusters": 2, "images": 80, "sizes": [40, 40]}},
    )
    file = tmp_path_factory.mktemp("levels") / "page.html"
    scores = recovery_by_split(embeddings, found.cluster).to_dict()
    write_discover_page(
        file, embeddings, found, of="x", again="x", images=None, errors=None, training=None, scores=scores
    )
    return file


def seen(page, chosen):
    """What a browser shows once a level is chosen, without what is hidden."""
    with opened(page) as shown:
        shown.select_option("#level", value=chosen)
        dump = shown.content()
    dump = re.sub(r"<script.*?</script>", "", dump, flags=re.DOTALL)
    return re.sub(r'<(span|div) data-level="\w+" hidden="">.*?</\1>', "", dump, flags=re.DOTALL)


def test_the_page_switches_the_level_that_judges(page):
    finest = seen(page, "finest")
    assert "cat &gt; siamese 50.0%" in finest
    assert "Judged by labels 1 level below the superclass:" not in finest
    coarse = seen(page, "1")
    assert "cat 100.0%" in coarse
    assert "siamese 50.0%" not in coarse
    assert "Judged by labels 1 level below the superclass:" in coarse
    assert re.search(r"adjusted mutual information</td><td>1\.00", coarse)


def test_patients_in_a_table_show_what_tearing_them_apart_would_pretend(tmp_path, capsys):
    """Vectors that tell the patient, labels that no vector tells."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 6)
    vectors = rng.normal(size=(60, 16))[patient] + 0.1 * rng.normal(size=(360, 16))
    np.savez(tmp_path / "v.npz", X=vectors.astype(np.float32), y=rng.integers(0, 2, 60)[patient], patient_id=patient)
    assert run_command(["report", str(tmp_path / "v.npz"), "--out", str(tmp_path / "r.html")]) == 0
    said = re.search(r"right on ([\d.]+)% of held-out rows .* would seem ([\d.]+)%", capsys.readouterr().out)
    assert float(said[2]) > float(said[1]) + 5
    assert f"it would seem right, things torn apart</td><td>{said[2]}%" in (tmp_path / "r.html").read_text()
