"""Training images that are set aside for a head: no encoder looks at them, and embeddings know which they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from thanos import RunConfig, TrainConfig, embed, read_embeddings, train, write_embeddings
from thanos.data.load import load

QUIET = RunConfig(quiet=True)


@pytest.fixture(scope="module")
def config():
    return TrainConfig(data="digits", method="thanos", epochs=1, train_limit=256, unseen=0.2)


def test_a_share_of_each_superclass_is_set_aside_by_the_seed(config):
    images, again = (load(config) for _ in range(2))
    whole, other = (load(config.model_copy(update={"train_limit": None, "split_seed": s})) for s in (0, 1))
    train = images.in_split("train")
    np.testing.assert_array_equal(images.unseen, again.unseen)
    assert (images.unseen[train].sum(), images.unseen[~train].sum()) == (round(0.2 * 256), 0)
    assert whole.refs == other.refs
    assert (whole.unseen != other.unseen).any()
    for kind in (0, 1):
        mine = train & (images.superclass == kind)
        assert abs(images.unseen[mine].sum() - 0.2 * mine.sum()) <= 1
    assert load(config.model_copy(update={"unseen": 0.0})).unseen is None


def test_what_they_show_changes_no_encoder(config, tmp_path):
    images = load(config)
    pixels = images.images[np.arange(len(images))].copy()
    pixels[images.unseen] = 255 - pixels[images.unseen]
    weights = []
    for name, mine in (("a", images), ("b", replace(images, images=pixels))):
        run = train(config, tmp_path / name, images=mine, run=QUIET, say=lambda line: None)
        weights.append(run.encoder.module.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    seen = np.flatnonzero(images.in_split("train") & ~images.unseen)
    pixels = images.images[np.arange(len(images))].copy()
    pixels[seen[0]] = 255 - pixels[seen[0]]
    run = train(config, tmp_path / "c", images=replace(images, images=pixels), run=QUIET, say=lambda line: None)
    assert any(not torch.equal(value, run.encoder.module.state_dict()[name]) for name, value in weights[0].items())
    found = embed(run.encoder, images)
    write_embeddings(found, tmp_path / "e.npz")
    np.testing.assert_array_equal(read_embeddings(tmp_path / "e.npz").unseen, images.unseen)


def test_embeddings_know_that_the_encoder_has_seen_all_training_images_of_its_own_and_no_others(tmp_path):
    config = TrainConfig(data="digits", epochs=1, train_limit=64, batch=16)
    images = load(config)
    run = train(config, tmp_path / "run", images=images, run=QUIET, say=lambda line: None)
    found = embed(run.encoder, images)
    assert found.unseen is not None
    assert not found.unseen.any()
    write_embeddings(found, tmp_path / "e.npz")
    np.testing.assert_array_equal(read_embeddings(tmp_path / "e.npz").unseen, found.unseen)
    others = images.take(np.arange(100))
    assert embed(run.encoder, others).unseen is None
    untrained = replace(run.encoder, card=run.encoder.card.model_copy(update={"method": "none"}))
    assert embed(untrained, images).unseen is None
