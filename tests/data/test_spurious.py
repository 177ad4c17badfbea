"""Built sets on small stand-ins for MNIST and CIFAR-10: shares, splits, pixels; and on the real ones where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from stand_in import stand_in
from thanos import registry
from thanos.cli import main
from thanos.config import DataConfig
from thanos.data import spurious
from thanos.data.hierarchy import CIFAR10, DIGITS
from thanos.data.load import load
from thanos.errors import ConfigError


@pytest.fixture(scope="module")
def sets():
    return {
        "mnist": stand_in("mnist", 28, 1, DIGITS, 1300, 60),
        "cifar10": stand_in("cifar10", 32, 3, CIFAR10, 400, 50),
    }


@pytest.fixture(autouse=True)
def sources(sets, monkeypatch):
    monkeypatch.setattr(spurious, "load_published", lambda config: sets[config.data])
    return sets


@pytest.mark.parametrize("name", spurious.BUILT)
def test_every_set_is_a_name_and_follows_its_seed(name):
    assert name in registry.datasets()
    one, again, other = (load(DataConfig(data=name, split_seed=seed)) for seed in (0, 0, 1))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    for split in ("train", "validation", "test"):
        assert len(one.rows(split))


@pytest.mark.parametrize(("name", "share"), [("dominoes-95", 0.95), ("dominoes-99", 0.99)])
def test_dominoes_agree_as_often_as_they_say_in_training_and_half_in_test(sources, name, share):
    images = load(DataConfig(data=name))
    digit = images.group % 2
    train, test = images.split < 2, images.in_split("test")
    for own in (0, 1):
        mine = images.superclass == own
        assert (digit[mine & train] == own).mean() == pytest.approx(share, abs=0.5 / 400)
        assert (digit[mine & test] == own).mean() == 0.5
    assert len(images.rows("validation")) == 160  # a fifth of 800
    assert images.size == (64, 32)


def test_dominoes_show_a_digit_above_its_vehicle(sources):
    images = load(DataConfig(data="dominoes-95"))
    pixels = images.images[np.arange(len(images))]
    upper = {d.tobytes(): k for d, k in zip(sources["mnist"].images, sources["mnist"].subclass, strict=True)}
    lower = {d.tobytes(): k for d, k in zip(sources["cifar10"].images, sources["cifar10"].subclass, strict=True)}
    digits = [upper[np.ascontiguousarray(p[2:30, 2:30, :1]).tobytes()] for p in pixels]
    vehicles = [sources["cifar10"].subclass_names[lower[np.ascontiguousarray(p[32:]).tobytes()]] for p in pixels]
    np.testing.assert_array_equal(digits, images.group % 2)
    assert [images.superclass_names[k] for k in images.superclass] == vehicles
    assert not pixels[:, :2].any()
    assert len({p.tobytes() for p in pixels[:, 32:]}) == len(images)  # no vehicle twice


def test_dominoes_have_one_size():
    with pytest.raises(ConfigError, match="drop `size`"):
        load(DataConfig(data="dominoes-95", size=32))


@pytest.mark.parametrize(("name", "patch"), [("coloured-digits-large", 28), ("coloured-digits-small", 2)])
def test_coloured_digits_are_painted_on_the_ground_only(sources, name, patch):
    images = load(DataConfig(data=name))
    assert [len(images.rows(s)) for s in ("train", "validation", "test")] == [10_000, 2_500, 600]
    pixels = images.images[np.arange(len(images))]
    grey = (pixels[..., 0] == pixels[..., 1]) & (pixels[..., 0] == pixels[..., 2])
    coloured = ~grey.all(axis=(1, 2))
    assert coloured.all()
    assert grey[:, patch:].all()
    np.testing.assert_array_equal(images.group // 5, images.superclass)
    np.testing.assert_array_equal(images.subclass // 2, images.superclass)
    corner = pixels[:, 0, 0]
    for shade in range(5):
        assert len(np.unique(corner[images.group % 5 == shade], axis=0)) == 1


def test_coloured_digits_have_their_own_colour_nearly_always_in_training_only():
    images = load(DataConfig(data="coloured-digits-large"))
    own = images.group % 5 == images.superclass
    for pair in range(5):
        mine = images.superclass == pair
        assert own[mine & images.in_split("train")].mean() == pytest.approx(0.975, abs=0.001)
        for number in (1, 2):
            count = np.bincount((images.group % 5)[mine & (images.split == number)], minlength=5)
            assert count.max() - count.min() <= 1
    assert np.bincount(images.group[images.in_split("train")]).min() > 0  # every group has training images


def test_patches_sit_on_half_of_one_superclass(sources):
    images = load(DataConfig(data="patched-cifar10"))
    before = sources["cifar10"].images
    changed = (images.images[np.arange(len(images))] != before).any(-1).any(-1).any(-1)
    names = np.array(images.group_names)[images.group]
    assert set(names[changed]) == {"animals, patch"}
    for split in (0, 1, 2):
        animals = (images.split == split) & (images.superclass == 0)
        assert (names[animals] == "animals, patch").mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("name", "rare", "of"), [("rare-cifar10", "ship", "cifar10"), ("rare-mnist", "8", "mnist")])
def test_a_rare_class_keeps_a_twentieth_of_its_training_images(sources, name, rare, of):
    images = load(DataConfig(data=name))
    kind = images.subclass_names.index(rare)
    train = images.subclass[images.split < 2]
    whole = sources[of].subclass[sources[of].split == 0]
    expected = np.bincount(whole)
    expected[kind] = round(0.05 * expected[kind])
    np.testing.assert_array_equal(np.bincount(train), expected)
    np.testing.assert_array_equal(
        np.bincount(images.subclass[images.in_split("test")]), np.bincount(sources[of].subclass[sources[of].split == 2])
    )


def test_build_says_what_is_in_a_set(capsys):
    main_exits(["data", "build", "dominoes-95"])
    out = capsys.readouterr().out
    assert "truck, digit 0" in out
    assert "thanos train --data dominoes-95" in out


@pytest.mark.parametrize(("words", "said"), [
    (["domino-95"], "did you mean 'dominoes-95'"),
    (["waterbirds"], "--cub, --masks and --places"),
    (["dominoes-95", "--cub", "x"], "are for waterbirds"),
])  # fmt: skip
def test_build_refuses_in_one_line(capsys, words, said):
    assert main_exits(["data", "build", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def main_exits(words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    return stop.value.code


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "counts"), [
    ("dominoes-95", (8000, 2000, 1960)),
    ("coloured-digits-large", (10_000, 2_500, 10_000)),
    ("patched-cifar10", (45_000, 5_000, 10_000)),
    ("rare-cifar10", (40_725, 4_525, 10_000)),
    ("rare-mnist", (48_998, 5_444, 10_000)),
])  # fmt: skip
def test_the_real_sets(monkeypatch, name, counts):
    root = os.environ.get("THANOS_DATA")
    if not root or not all((Path(root) / source).is_dir() for source in ("mnist", "cifar10")):
        pytest.skip("needs MNIST and CIFAR-10: set THANOS_DATA")
    monkeypatch.undo()
    monkeypatch.delenv("THANOS_CACHE", raising=False)
    images = load(DataConfig(data=name))
    assert tuple(len(images.rows(s)) for s in ("train", "validation", "test")) == counts
