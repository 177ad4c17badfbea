"""What a subclass is: planted causes are named first, chance is not named, and numbers are those of others."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from thanos.cli import run_command
from thanos.config import DataConfig
from thanos.data.arrays import from_arrays
from thanos.data.load import load
from thanos.evaluate.intervals import holm
from thanos.subclasses.explain import auc_interval, explain
from thanos.subclasses.properties import MOST, measure

COUNT, SIDE = 200, 32
"""Pictures of a superclass, and pixels a side."""


def pictures(rng, count=COUNT):
    """Smooth colours with grain, no two alike."""
    coarse = rng.integers(30, 226, (count, 4, 4, 3)).astype(np.uint8)
    large = np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE), 2)) for one in coarse]).astype(int)
    return (large + rng.integers(-15, 16, large.shape)).clip(0, 255).astype(np.uint8)


def darkened(images, mine, folder):
    images[mine] = (images[mine] * 0.35).astype(np.uint8)
    return "brightness"


def blurred(images, mine, folder):
    for i in np.flatnonzero(mine):
        small = Image.fromarray(images[i]).resize((8, 8), 2)
        images[i] = np.asarray(small.resize((SIDE, SIDE), 2))
    return "sharpness"


def bordered(images, mine, folder):
    images[mine, :2] = images[mine, -2:] = 0
    images[mine, :, :2] = images[mine, :, -2:] = 0
    return "edge evenness"


def reddened(images, mine, folder):
    images[mine, ..., 1:] = (images[mine, ..., 1:] * 0.6).astype(np.uint8)
    return ("red", "colourfulness", "green", "blue")


def another_folder(images, mine, folder):
    return "folder"


def another_camera(images, mine, folder):
    return "camera"


def another_column(images, mine, folder):
    return "hospital"


PLANTED = (darkened, blurred, bordered, another_folder, another_camera, another_column)


def set_of(tmp_path, images, mine, plant):
    """As files in a table, with what is planted beside the pixels."""
    rows = ["path,superclass,hospital,number"]
    for i, image in enumerate(images):
        place = tmp_path / ("second" if plant is another_folder and mine[i] else "first") / f"{i:03d}.png"
        exif = Image.Exif()
        exif[0x0110] = "Coolpix" if plant is another_camera and mine[i] else "EOS"
        place = place.with_suffix(".jpg")
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(place, quality=95, exif=exif)
        hospital = "east" if plant is another_column and mine[i] else ("west", "north")[i % 2]
        rows.append(f"{place.relative_to(tmp_path)},{'ab'[i % 2]},{hospital},{i}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return load(DataConfig(data=str(tmp_path / "labels.csv")))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_cause_is_named_first(tmp_path, monkeypatch, plant, seed):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(seed)
    images = pictures(rng)
    mine = (np.arange(COUNT) % 2 == 0) & (rng.random(COUNT) < 0.2)  # a fifth of one superclass
    wanted = plant(images, mine, tmp_path)
    found = set_of(tmp_path, images, mine, plant)
    cluster = np.where(mine, 1, np.where(np.arange(COUNT) % 2 == 0, 0, 2))
    explained = explain(cluster, found.superclass, measure(found))
    assert explained.differences[1][0].property == wanted
    assert 2 not in explained.differences  # the one subclass of a superclass has no siblings
    assert explained.differences[1][0].auc >= 0.75


def test_what_is_random_is_seldom_named():
    """At most 5% of draws name anything, whatever the sizes of groups; 100 draws allow up to 10 by chance."""
    images = from_arrays(pictures(np.random.default_rng(0), 300), np.zeros(300, dtype=int))
    properties = measure(images)
    named = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        cluster = rng.choice(4, 300, p=[0.6, 0.25, 0.1, 0.05])
        explained = explain(cluster, np.zeros(300, dtype=int), properties)
        named += any(explained.differences.values())
    assert named <= 10


def test_auc_and_correction_against_others(tmp_path):
    digits = load_digits()
    images = from_arrays((digits.images * 15).astype(np.uint8), digits.target < 5)
    properties = measure(images)
    cluster = digits.target
    explained = explain(cluster, images.superclass, properties)
    mine, siblings = cluster == 1, np.isin(cluster, [0, 2, 3, 4])
    for each in explained.differences[1]:
        values = properties.numbers[each.property]
        auc = roc_auc_score(mine[mine | siblings], values[mine | siblings])
        assert each.auc == pytest.approx(max(auc, 1 - auc))
    p = np.random.default_rng(0).random(50) ** 4
    slow = [max(min(1, p[j] * (p >= p[j]).sum()) for j in range(50) if p[j] <= p[i]) for i in range(50)]
    np.testing.assert_allclose(holm(p), slow)


def test_the_interval_of_an_auc_covers():
    rng = np.random.default_rng(0)
    shift, n, m, hits = 1.0, 40, 120, 0
    true = norm.cdf(shift / np.sqrt(2))
    for _ in range(400):
        a, b = rng.normal(shift, 1, n), rng.normal(0, 1, m)
        low, high = auc_interval(float((a[:, None] > b).mean()), n, m)
        hits += low <= true <= high
    assert hits / 400 > 0.92


def test_columns_that_tell_nothing_are_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    images = pictures(rng, 120)
    rows = ["path,superclass,name,half,same"]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i:03d}.png")
        rows.append(f"{i:03d}.png,{'ab'[i % 2]},n{i},{'' if i % 4 < 2 else i % 3},x")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    properties = measure(load(DataConfig(data=str(tmp_path / "labels.csv"))))
    assert properties.left_out == ("name: 120 different values for 120 images",)
    assert "same" not in properties.kinds
    told = explain(np.arange(120) % 4, np.arange(120) % 2, properties).lines(("a/0", "b/0", "a/1", "b/1"))
    assert "not looked at: name: 120 different values for 120 images" in told[0]
    assert set(properties.kinds["half"].tolist()) == {"", "0", "1", "2"}


def test_many_images_are_sampled():
    few = from_arrays(
        np.random.default_rng(0).integers(0, 256, (MOST + 10, 4, 4), dtype=np.uint8), np.arange(MOST + 10) % 2
    )
    properties = measure(few)
    assert len(properties.rows) == MOST == len(set(properties.rows.tolist()))


def test_discover_and_its_page_say_what_a_subclass_is(tmp_path, capsys, monkeypatch):
    """Two shapes a superclass, one of them darkened: the embedding finds them, the page says dark."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    images, mine = pictures(rng, 160), np.arange(160) % 4 < 2
    images[mine] = (images[mine] * 0.3).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=images, superclass=np.where(np.arange(160) % 2, "a", "b"))
    words = ["discover", tmp_path / "set.npz", "--encoder", "tiny", "--epochs", 1, "--batch", 32, "--clusters", 2]
    run_command([*map(str, words), "-o", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "beside their siblings: " in said
    assert "(AUC" in said
    page = (tmp_path / "run" / "subclasses.html").read_text("utf-8")
    assert "Beside its siblings: " in page
    assert re.search(r"held against its siblings in \d+ simple properties", page)
