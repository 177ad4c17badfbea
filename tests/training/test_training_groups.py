"""Training that looks at groups: it changes what it should, sees only what it is given, goes on exactly, refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from thanos.config import RunConfig, TrainConfig
from thanos.data.batches import BatchOrder
from thanos.data.load import load
from thanos.embeddings import embed
from thanos.errors import ConfigError, DataError, Interrupted, MissingLabels
from thanos.robust.head import read_head
from thanos.training.fit import train
from thanos.training.groups import training_groups
from thanos.training.monitor import KeepState

QUIET = RunConfig(quiet=True, threads=1)
BASE = TrainConfig(method="cross-entropy", epochs=3, batch=32, train_limit=128, select="worst-group")


def grouped(config):
    """Digits whose groups are: below 5, 5 to 8, and 9."""
    digits = load(config)
    group = np.where(digits.subclass == 9, 2, digits.superclass)
    return replace(digits, group=group, group_names=("low", "high", "nine"))


@pytest.fixture(scope="module")
def images():
    return grouped(BASE)


def silent(line): ...


@pytest.fixture(scope="module")
def plain(images, tmp_path_factory):
    """A run that does not look at groups."""
    return train(BASE, tmp_path_factory.mktemp("plain") / "run", images=images, run=QUIET, say=silent)


@pytest.mark.parametrize("changes", [
    {"robust": "groupdro"},
    {"robust": "reweight"},
    {"robust": "weighted", "group_weight": {"nine": 20.0}},
    {"sampling": "group-balanced"},
])  # fmt: skip
def test_a_robust_run_differs_from_a_plain_one_and_repeats_itself(images, plain, tmp_path, changes):
    config = BASE.model_copy(update=changes)
    runs = [train(config, tmp_path / name, images=images, run=QUIET, say=silent) for name in "ab"]
    a, b, p = (load_file(run.folder / "model.safetensors") for run in (*runs, plain))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], p[key]) for key in a)
    assert set(runs[0].metrics["groups"]["training_images"]) == {"low", "high", "nine"}


def test_equal_weights_change_nothing_but_rounding(images, plain, tmp_path):
    config = BASE.model_copy(update={"robust": "weighted", "group_weight": {"low": 1.0, "high": 1.0, "nine": 1.0}})
    weighed = train(config, tmp_path / "weighed", images=images, run=QUIET, say=silent)
    a, b = (load_file(run.folder / "model.safetensors") for run in (plain, weighed))
    assert all(torch.allclose(a[key].float(), b[key].float(), atol=2e-3) for key in a)


def test_groupdro_weighs_the_group_with_the_largest_loss_most(tmp_path):
    long = {"robust": "groupdro", "group_step": 0.5, "epochs": 15, "batch": 128, "train_limit": 512}
    config = BASE.model_copy(update=long)
    images = grouped(config)
    nine = images.group == 2  # their labels are drawn: whatever is learned, they cost most
    drawn = np.where(nine, np.random.default_rng(0).integers(0, 2, len(images)), images.superclass)
    mislabelled = replace(images, superclass=drawn)
    run = train(config, tmp_path / "run", images=mislabelled, run=QUIET, say=silent)
    weights = run.metrics["groups"]["weights"]["classifier"]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
    assert weights["nine"] > 0.6


def test_two_encoders_weigh_groups_each_by_its_own_losses(images, tmp_path):
    config = BASE.model_copy(update={"robust": "groupdro", "method": "spread"})
    alone = train(config, tmp_path / "alone", images=images, run=QUIET, say=silent)
    both = train(
        config.model_copy(update={"method": "thanos"}), tmp_path / "both", images=images, run=QUIET, say=silent
    )
    a, b = load_file(alone.folder / "model.safetensors"), load_file(both.folder / "model.safetensors")
    assert all(torch.equal(a[key], b[f"parts.0.{key}"]) for key in a)
    assert both.metrics["groups"]["weights"]["contrastive"] == alone.metrics["groups"]["weights"]["contrastive"]


def test_plain_training_never_sees_groups(images, tmp_path):
    config = BASE.model_copy(update={"select": "worst-class"})
    lied = replace(images, group=np.roll(images.group, 7))
    runs = [train(config, tmp_path / str(i), images=s, run=QUIET, say=silent) for i, s in enumerate((images, lied))]
    for name in ("model.safetensors", "best.safetensors"):
        a, b = (load_file(run.folder / name) for run in runs)
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_stopped_run_goes_on_exactly(images, tmp_path, monkeypatch):
    config = BASE.model_copy(update={"robust": "groupdro", "sampling": "group-balanced"})
    whole = train(config, tmp_path / "whole", images=images, run=QUIET, say=silent)
    ends = KeepState.on_train_batch_end

    def stop_at_step_6(self, trainer, module, *args):
        self._received = 2 if module.batches_done == 6 else self._received
        ends(self, trainer, module, *args)

    monkeypatch.setattr(KeepState, "on_train_batch_end", stop_at_step_6)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "stopped", images=images, run=QUIET, say=silent)
    monkeypatch.setattr(KeepState, "on_train_batch_end", ends)
    again = train(config, tmp_path / "stopped", images=images, run=QUIET, say=silent)
    a, b = (load_file(run.folder / "best.safetensors") for run in (whole, again))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert whole.metrics["groups"] == again.metrics["groups"]


def test_the_kept_classifier_gives_the_accuracy_that_chose_the_best_epoch(images, tmp_path):
    run = train(BASE, tmp_path / "run", images=images, run=QUIET, say=silent)
    head, names = read_head(run.folder / "classifier.npz")
    embeddings = embed(run.encoder, images)
    held_out = images.rows("validation")
    right = head.predict(embeddings.vectors[held_out]) == images.superclass[held_out]
    worst = min(right[images.group[held_out] == g].mean() for g in range(3))
    assert run.metrics["final"]["validation/worst_group_accuracy"] == pytest.approx(worst, abs=1e-6)
    assert names == images.superclass_names


def test_group_balanced_batches_hold_every_group_equally(images):
    rows = images.rows("train")
    order = BatchOrder(images.group[rows], 96, 0, "balanced")
    for k in range(4):
        assert np.ptp(np.bincount(images.group[rows[order.rows(k)]], minlength=3)) <= 2


def test_what_is_missing_is_said(images, tmp_path):
    dro = BASE.model_copy(update={"robust": "groupdro"})
    for broken, error, said in (
        (replace(images, group=None), MissingLabels, "has none"),
        (
            replace(images, group=np.where(images.in_split("train"), -1, images.group)),
            DataError,
            "128 of 128 training images",
        ),
        (
            replace(images, group=np.where(images.in_split("validation"), 0, images.group)),
            DataError,
            "'high' has none there",
        ),
    ):
        with pytest.raises(error, match=said):
            train(dro, tmp_path / "run", images=broken, run=QUIET, say=silent)
        assert not (tmp_path / "run").exists()
    misspelt = BASE.model_copy(update={"robust": "weighted", "group_weight": {"nin": 2.0}})
    with pytest.raises(ConfigError, match="did you mean 'nine'"):
        training_groups(misspelt, images)
    with pytest.raises(ValueError, match="this run trains none"):
        TrainConfig(method="infonce", robust="groupdro")
    with pytest.raises(ValueError, match="come together"):
        TrainConfig(robust="weighted")
