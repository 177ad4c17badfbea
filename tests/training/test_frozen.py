"""A head on a frozen backbone's features: these are made once, whatever stops them; one artefact embeds images."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from thanos import (
    DataConfig,
    DiscoverConfig,
    RunConfig,
    TrainConfig,
    discover,
    embed,
    load,
    load_encoder,
    read_embeddings,
    recovery_scores,
    train,
)
from thanos.cli import run_command
from thanos.config import FeatureViewSpec, ViewSpec
from thanos.data import cache
from thanos.embeddings import Embeddings, write_embeddings
from thanos.encoders import features as room
from thanos.encoders.features import Pass, frozen_features
from thanos.errors import ConfigError, DataError
from thanos.feature_views import random_feature_views
from thanos.runs.encoder_io import timm_encoder
from thanos.subclasses.keep import Places, read_places, write_places
from thanos.views import clean_view

QUIET = RunConfig(quiet=True, threads=1)


def silent(line): ...


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("w") / "w.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(0)
    kind = np.arange(150) % 2
    pixels = rng.integers(0, 160, (150, 32, 32, 3)) + 90 * kind[:, None, None, None]
    file = tmp_path_factory.mktemp("i") / "x.npz"
    np.savez(file, images=pixels.astype(np.uint8), superclass=kind)
    return load(DataConfig(data=str(file)))


def settings(weights, **more):
    base = {"method": "spread", "alpha": 0.6, "encoder": "test_resnet", "pretrained": weights, "frozen": True}
    return TrainConfig(**(base | {"epochs": 2, "batch": 32, "frozen_views": 2} | more))


def a_pass(weights, images, views=2):
    encoder = timm_encoder("test_resnet", weights, images)
    return Pass(encoder.module, encoder.card.mean, encoder.card.std, ViewSpec() if views else None, views)


@pytest.mark.parametrize("method", ["spread", "thanos"])
def test_the_artefact_is_backbone_statistics_and_head(weights, images, tmp_path, method):
    run = train(settings(weights, method=method), tmp_path / "run", images=images, run=QUIET, say=silent)
    encoder = load_encoder(tmp_path / "run")
    backbone = timm.create_model("test_resnet", num_classes=0).eval()
    state = load_file(weights)
    backbone.load_state_dict({name: state[name] for name in backbone.state_dict()})
    kept = encoder.module.backbone.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in backbone.state_dict().items())  # nothing trained it
    pixels = clean_view(torch.from_numpy(images.images[np.arange(150)]), mean=encoder.card.mean, std=encoder.card.std)
    with torch.inference_mode():
        found = backbone(pixels)
        train_rows = found[images.rows("train")].double()
        spread = train_rows.std(0, correction=0)
        least = 0.1 * spread[spread > 0].mean()  # some features of random weights never fire
        standardised = (found - train_rows.mean(0).float()) / spread.clamp_min(least).float()
        expected = encoder.module.head(standardised)
        assert_close(encoder.module(pixels), expected, rtol=1e-3, atol=1e-4)
    vectors = embed(encoder, images).vectors
    assert_close(torch.from_numpy(vectors), expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(vectors, embed(run.encoder, images).vectors)
    assert encoder.card.fingerprint == images.fingerprint


def test_a_pass_that_was_stopped_goes_on_and_ends_as_an_undisturbed_one(weights, images, tmp_path, monkeypatch):
    whole = np.array(frozen_features(a_pass(weights, images), images, silent))
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(room, "EVERY", 0.0)

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frozen_features(a_pass(weights, images), images, stop)
    assert not list((tmp_path / "other" / "features").glob("*.npy"))
    blocks, of_block = [], room._of_block
    monkeypatch.setattr(room, "_of_block", lambda *given: blocks.append(given[4]) or of_block(*given))
    again = frozen_features(a_pass(weights, images), images, silent)
    assert blocks == [1, 2]
    assert again.tobytes() == whole.tobytes()
    frozen_features(a_pass(weights, images), images, silent)
    assert blocks == [1, 2]  # once for all


def test_features_are_of_these_weights_pixels_and_views_and_of_no_others(weights, images, tmp_path):
    torch.manual_seed(1)
    other = tmp_path / "o.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), other)
    relabelled = images.take(np.arange(150))
    keys = [
        a_pass(weights, images).key(images),
        a_pass(other, images).key(images),
        a_pass(weights, images, views=3).key(images),
        a_pass(weights, images).key(images.take(np.arange(149))),
    ]
    assert len(set(keys)) == 4
    assert a_pass(weights, images).key(relabelled) == a_pass(weights, relabelled).key(relabelled)


def test_first_of_a_row_is_the_image_itself(weights, images):
    wanted = a_pass(weights, images)
    found = frozen_features(wanted, images, silent)
    plain = frozen_features(a_pass(weights, images, views=0), images, silent)
    assert found.shape == (150, 3, wanted.backbone.num_features)
    assert_close(torch.from_numpy(found[:, 0].copy()), torch.from_numpy(plain[:, 0].copy()), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[:, 0], found[:, 1])
    assert not np.allclose(found[:, 1], found[:, 2])


def test_views_are_chosen_among_those_seen():
    stack = torch.arange(5 * 4, dtype=torch.float32).reshape(5, 4, 1).expand(5, 4, 6)
    none = FeatureViewSpec(noise=0.0, dropout=0.0)
    rng = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [random_feature_views(stack, none, rng, count=2, mean=(0.0,) * 6, std=(1.0,) * 6)[..., 0] for _ in range(200)]
    )
    for row in range(5):
        assert set(draws[:, :, row].flatten().tolist()) == {4.0 * row + k for k in (1, 2, 3)}
    assert (draws[:, 0] != draws[:, 1]).all()  # all different while there are enough
    single = random_feature_views(stack[:, :1], none, rng, count=2, mean=(0.0,) * 6, std=(1.0,) * 6)
    assert torch.equal(single[0], stack[:, 0])
    assert torch.equal(single[1], stack[:, 0])


def test_the_same_settings_give_the_same_bytes(weights, images, tmp_path):
    train(settings(weights), tmp_path / "a", images=images, run=QUIET, say=silent)
    train(settings(weights), tmp_path / "b", images=images, run=QUIET, say=silent)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"pretrained": False}, "`frozen` keeps pretrained weights"),
        ({"head": "tiny"}, "`head` takes one of mlp; got 'tiny'"),
        ({"encoder": "tiny"}, "tiny has no published weights"),
        ({"frozen": False, "head": "mlp-8-8"}, "`head` is about the features of a frozen encoder"),
        ({"frozen": False}, "`frozen_views` is about the features of a frozen encoder"),
    ],
)
def test_what_does_not_fit_is_refused(weights, more, said):
    with pytest.raises(ValueError, match=said):
        settings(weights, **more)


def test_a_full_disk_is_said_before_anything_is_written(weights, images, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"the features take .* set THANOS_CACHE to a folder on another disk"):
        train(settings(weights), tmp_path / "run", images=images, run=QUIET, say=silent)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_the_commands_take_a_frozen_run(weights, tmp_path, capsys):
    rng = np.random.default_rng(0)
    kind = np.arange(120) % 4
    pixels = rng.integers(0, 120, (120, 32, 32, 3)) + 40 * kind[:, None, None, None]
    np.savez(tmp_path / "x.npz", images=pixels.astype(np.uint8), superclass=kind // 2, subclass=kind)
    run = str(tmp_path / "run")
    start = ["--encoder", "test_resnet", "--pretrained", str(weights), "--frozen", "--size", "32"]
    run_command(["discover", str(tmp_path / "x.npz"), *start, "--epochs", "2", "--quiet", "-o", run])
    said = capsys.readouterr().out
    assert "features of 120 of 120 images" in said
    for words in (["transfer", run], ["geometry", run], ["robust", run], ["report", run], ["classify", run]):
        run_command(words)
    run_command(["embed", run, "--data", str(tmp_path / "x.npz"), "--size", "32", "-o", str(tmp_path / "e.npz")])
    with np.load(tmp_path / "run/embeddings.npz") as kept, np.load(tmp_path / "e.npz") as found:
        assert np.array_equal(kept["vectors"], found["vectors"])
    with pytest.raises(DataError, match="holds the head alone of a run on a frozen backbone"):
        run_command(["geometry", f"{run}/last.ckpt"])
    with pytest.raises(ConfigError, match="is not timed here; drop `frozen`"):
        run_command(["bench", "train", "--data", str(tmp_path / "x.npz"), *start])


def test_the_features_stay_beside_the_heads_embedding(weights, images, tmp_path):
    kept, alone = (
        train(settings(weights, keep_features=keep), tmp_path / str(keep), images=images, run=QUIET, say=silent)
        for keep in (True, False)
    )
    vectors, head = embed(load_encoder(kept.folder), images), embed(alone.encoder, images)
    features = frozen_features(a_pass(weights, images, views=0), images, silent)[:, 0]
    assert vectors.parts == (features.shape[1], head.vectors.shape[1])
    for found, expected in zip(
        np.split(vectors.vectors, [features.shape[1]], axis=1), (features, head.vectors), strict=True
    ):
        lengths = np.linalg.norm(expected[images.rows("train")], axis=1).mean()
        np.testing.assert_allclose(found, expected / lengths, rtol=1e-3, atol=1e-4)  # each of mean length one
    file = tmp_path / "e.npz"
    write_embeddings(vectors, file)
    assert read_embeddings(file).parts == vectors.parts


def test_commands_place_new_images_by_the_part_that_was_clustered(weights, images, tmp_path):
    run = train(settings(weights, keep_features=True), tmp_path / "run", images=images, run=QUIET, say=silent)
    vectors = embed(run.encoder, images)
    for part in ("features", "head", "whole", "auto"):
        found = discover(vectors, DiscoverConfig(clusters=2, part=part))
        columns = slice(None) if part == "whole" else slice(*found.fitted.columns)
        same = replace(vectors, vectors=vectors.vectors[:, columns], parts=())
        assert np.array_equal(found.cluster, discover(same, DiscoverConfig(clusters=2)).cluster)
        again, _, _ = found.fitted.predict(vectors.vectors, vectors.superclass)
        assert np.array_equal(again, found.cluster)
        places = Places(found.fitted, found.names, vectors.superclass_names, vectors.space, "t")
        write_places(places, tmp_path / "p.npz")
        assert read_places(tmp_path / "p.npz").fitted.columns == found.fitted.columns
    with pytest.raises(ConfigError, match="`part=head` chooses between a backbone's features and a head's"):
        discover(replace(vectors, parts=()), DiscoverConfig(part="head"))


def test_of_two_parts_that_is_clustered_whose_clusters_stand_out():
    rng, kind = np.random.default_rng(0), np.arange(600) % 2
    cloud = rng.standard_normal((600, 8))
    clear = rng.standard_normal((600, 8)) + 12 * np.eye(8)[np.arange(600) % 3]
    for parts, chosen in (((clear, cloud), "features"), ((cloud, clear), "head")):
        both = Embeddings(
            vectors=np.concatenate(parts, axis=1).astype(np.float32),
            superclass=kind,
            superclass_names=("a", "b"),
            split=np.zeros(600, dtype=np.int8),
            parts=(8, 8),
        )
        found = discover(both, DiscoverConfig(length="own"))
        assert next(iter(found.standing_out)) == chosen
        assert recovery_scores(found.cluster, np.arange(600) % 3, kind).adjusted_mutual_information == 1.0
        assert found.fitted.columns == both.columns[chosen]


def test_an_encoder_without_weights_is_not_trained(weights):
    for more in ({"head": "unchanged"}, {"encoder": "unchanged", "pretrained": False, "frozen": False}):
        with pytest.raises(ValueError, match=r"`head` takes one of mlp; got 'unchanged'|has no weights to train"):
            settings(weights, **more)
