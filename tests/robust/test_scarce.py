"""``thanos robust`` where groups, classes or inferrers come short: a plain line, and the rest goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from thanos.cli import main
from thanos.embeddings import write_embeddings


def robust(capsys, embeddings, folder, *words):
    write_embeddings(embeddings, folder / "e.npz")
    with pytest.raises(SystemExit) as stop:
        main(["robust", str(folder / "e.npz"), *words])
    out, err = capsys.readouterr()
    scores = folder / "e-robust-portfolio.json"
    return stop.value.code or 0, out, err, json.loads(scores.read_text()) if scores.exists() else None


@pytest.fixture
def scarce(make_shortcut):
    """360 images in three splits."""
    data = make_shortcut(360)
    return replace(data, split=np.repeat([0, 1, 2], [180, 60, 120]).astype(np.int8), refs=tuple(map(str, range(360))))


def test_a_group_without_test_images_is_named_and_the_others_are_scored(capsys, scarce, tmp_path):
    odd = (scarce.group == 3) & scarce.in_split("test")
    code, out, err, found = robust(capsys, scarce.take(~odd), tmp_path)
    assert (code, err) == (0, "")
    assert "not scored, for want of a test image: b, odd" in out
    assert set(found["scores"]["groups"]["groups"]) == {"a", "a, odd", "b"}
    assert all(row["test_worst_group"] >= 0 for row in found["selection"]["table"])


def test_the_interval_says_that_a_group_has_few_images(capsys, scarce, tmp_path):
    code, out, _, found = robust(capsys, scarce, tmp_path)
    odd = found["scores"]["groups"]["groups"]["b, odd"]
    assert code == 0
    assert 0 < odd["n"] <= 16
    assert odd["small"]
    assert odd["interval"][1] - odd["interval"][0] > 0.2
    line = next(line for line in out.splitlines() if line.startswith("group b, odd"))
    assert line.endswith("few images")


@pytest.mark.parametrize("split", [1, 2])
def test_one_class_alone_on_validation_or_test_images(capsys, scarce, tmp_path, split):
    kept = scarce.take((scarce.superclass == 0) | (scarce.split != split))
    code, out, err, found = robust(capsys, kept, tmp_path)
    assert (code, err) == (0, "")
    assert len(found["selection"]["table"]) > 30
    assert found["selection"]["reason"] in out


def test_one_class_alone_on_training_images(capsys, scarce, tmp_path):
    code, _, err, found = robust(capsys, scarce.take((scarce.superclass == 0) | (scarce.split != 0)), tmp_path)
    assert code == 2
    assert found is None
    assert "the training images have one only" in err
    assert err.count("\n") == 1


def test_without_validation_images(capsys, scarce, tmp_path):
    code, _, err, found = robust(capsys, scarce.take(scarce.split != 1), tmp_path)
    assert code == 2
    assert found is None
    assert "Name some of each" in err


def test_inferrers_that_find_one_group_say_so_and_the_rest_goes_on(capsys, scarce, tmp_path):
    """Classes far apart: no head is ever wrong."""
    x = scarce.vectors + 40 * (2 * scarce.superclass[:, None] - 1)
    code, out, err, found = robust(capsys, replace(scarce, vectors=x.astype(np.float32)), tmp_path)
    assert (code, err) == (0, "")
    assert "mistakes, twins, surest are left out: no group is found inside a superclass." in out
    assert "clusters" not in found["selection"]["aside"]


def test_four_images_a_class_are_enough_to_go_on(capsys, scarce, tmp_path):
    few = np.concatenate([np.flatnonzero((scarce.split == s) & (scarce.superclass == c))[:4]
                          for s in range(3) for c in range(2)])  # fmt: skip
    code, _, err, found = robust(capsys, scarce.take(np.sort(few)), tmp_path)
    assert (code, err) == (0, "")
    assert found["selection"]["aside"]
