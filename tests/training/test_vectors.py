"""Ready-made vectors as data: their views, and trainings on them by every method, held against what numpy says."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Generator

from thanos import feature_views, load_encoder, registry
from thanos.config import FeatureViewSpec, RunConfig, TrainConfig, ViewSpec
from thanos.data.load import load
from thanos.data.vectors import VectorSet, mean_and_deviation
from thanos.embeddings import embed
from thanos.encoders.zoo import build_encoder
from thanos.errors import ConfigError, DataError, Interrupted, OutputError
from thanos.export.programs import export_onnx
from thanos.methods.branch import build_branches
from thanos.runs.encoder_io import save_encoder
from thanos.training.fit import train
from thanos.training.module import TrainingModule
from thanos.views import clean_view, random_views

WIDTH = 12
CONFIG = TrainConfig(method="thanos", encoder="mlp-16-8", epochs=4, batch=32)
QUIET = RunConfig(quiet=True)


def silent(line): ...


def vector_set(count=200, seed=0, **changes):
    """Two superclasses of two clusters each, features of very different size, one without any variation."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 4
    rows = rng.normal(size=(4, WIDTH))[kind] * 2 + rng.normal(size=(count, WIDTH))
    rows = (rows + 10) * np.logspace(-3, 3, WIDTH)
    rows[:, 5] = 0.1
    split = np.where(np.arange(count) % 10 < 8, 0, 1).astype(np.int8)
    facts = {"superclass": kind // 2, "superclass_names": ("a", "b"), "split": split, "name": "made"}
    return VectorSet(vectors=rows.astype(np.float32), **facts | changes)


@pytest.fixture(scope="module")
def vectors():
    return vector_set()


def standardised(vectors):
    rows = vectors.vectors.astype(np.float64)
    mine = rows[vectors.split == 0]
    return (rows - mine.mean(axis=0)) / np.where(mine.std(axis=0) > 1e-9, mine.std(axis=0), 1)


def test_the_clean_view_is_standardised_by_the_training_rows(vectors):
    mean, std = vectors.mean_std
    view = clean_view(torch.from_numpy(vectors.vectors), mean=mean, std=std)
    np.testing.assert_allclose(view.numpy(), standardised(vectors), atol=1e-5)
    exact = clean_view(torch.from_numpy(vectors.vectors).double(), mean=mean, std=std)
    np.testing.assert_allclose(exact.numpy(), standardised(vectors), atol=1e-9)


@pytest.mark.parametrize(("noise", "dropout"), [(0.3, 0.2), (1.0, 0.0), (0.0, 0.7)])
def test_views_have_the_noise_and_the_gaps_that_were_asked_for(vectors, noise, dropout):
    mean, std = vectors.mean_std
    rows, count = torch.from_numpy(vectors.vectors[:50]), 4000
    clean = clean_view(rows, mean=mean, std=std)
    spec = FeatureViewSpec(noise=noise, dropout=dropout)
    views = random_views(rows, spec, Generator().manual_seed(1), count=count, mean=mean, std=std)
    assert views.shape == (count, 50, WIDTH)
    kept = (views - clean).abs() <= 6 * noise + 1e-6
    missing = (views == 0) & (clean != 0)
    assert (kept | missing).all()
    assert missing[:, clean != 0].float().mean() == pytest.approx(dropout, abs=0.002)
    shifted = (views - clean)[~missing & (clean != 0)]
    assert float(shifted.mean()) == pytest.approx(0, abs=0.002 + 0.002 * noise)
    assert float(shifted.std()) == pytest.approx(noise, abs=0.003)
    gaps = missing[:, :, [0, 1]].float()  # of two features of a row, and of a feature in two rows
    assert float((gaps[..., 0] * gaps[..., 1]).mean()) == pytest.approx(dropout**2, abs=0.005)
    assert float((missing[:, 0, 0] & missing[:, 1, 0]).float().mean()) == pytest.approx(dropout**2, abs=0.03)


def test_views_longer_than_what_is_drawn_are_of_several_stretches(vectors, monkeypatch):
    monkeypatch.setattr(feature_views, "DRAWN", 8 * WIDTH)
    feature_views._stretch.cache_clear()
    rows = torch.zeros(400, WIDTH)
    settings = {"count": 2, "mean": (0.0,) * WIDTH, "std": (1.0,) * WIDTH}
    spec = FeatureViewSpec(noise=1.0, dropout=0.0)
    views = random_views(rows, spec, Generator().manual_seed(1), **settings)
    feature_views._stretch.cache_clear()
    assert views.shape == (2, 400, WIDTH)
    assert float(views.std()) == pytest.approx(1, abs=0.15)
    assert len(views.flatten(0, 1).unique(dim=0)) > WIDTH  # from any place on, not from the same few


def test_equal_generators_give_equal_views(vectors):
    mean, std = vectors.mean_std
    rows = torch.from_numpy(vectors.vectors)
    one, same, other = (
        random_views(rows, FeatureViewSpec(), Generator().manual_seed(s), count=2, mean=mean, std=std)
        for s in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_mean_and_deviation_of_any_finite_numbers():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 4)) * [1, 1e-200, 1e200, 0] + [1e6, 0, 0, 0.1]
    mean, std = mean_and_deviation(rows)
    np.testing.assert_allclose(mean[[0, 3]], rows.mean(axis=0)[[0, 3]], rtol=1e-12)
    np.testing.assert_allclose(std[:3] / [1, 1e-200, 1e200], (rows / [1, 1e-200, 1e200, 1]).std(axis=0)[:3], rtol=1e-9)
    assert std[3] == 1
    some = np.arange(0, 500, 7)
    np.testing.assert_allclose(mean_and_deviation(rows, some)[0], mean_and_deviation(rows[some])[0])


def test_a_memory_map_is_the_same_data(vectors, tmp_path):
    np.save(tmp_path / "rows.npy", vectors.vectors)
    mapped = replace(vectors, vectors=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert (mapped.fingerprint, mapped.mean_std) == (vectors.fingerprint, vectors.mean_std)
    assert np.array_equal(mapped.take(np.array([4, 2])).vectors, vectors.vectors[[4, 2]])


def test_the_fingerprint_is_of_numbers_labels_and_splits(vectors):
    moved = vectors.vectors.copy()
    moved[3, 3] += 1
    changed = ({"vectors": moved}, {"superclass": 1 - vectors.superclass}, {"split": vectors.split[::-1]})
    marks = {replace(vectors, **change).fingerprint for change in changed}
    assert len(marks | {vectors.fingerprint}) == 4


@pytest.mark.parametrize("method", registry.methods())
@pytest.mark.parametrize("encoders", ["two", "one"])
def test_every_method_trains(vectors, tmp_path, method, encoders):
    config = CONFIG.model_copy(update={"method": method, "encoders": encoders, "epochs": 7, "learning_rate": 7e-3})
    run = train(config, tmp_path / "run", images=vectors, run=QUIET, say=silent)
    before = build_branches(config, channels=WIDTH, size=None, superclasses=2)
    after, fresh = run.encoder.module.state_dict(), next(iter(before.values())).encoder.state_dict()
    assert not any(torch.equal(after.get(name, after.get(f"parts.0.{name}")), fresh[name]) for name in fresh)
    assert run.encoder.embed(vectors).shape == (200, run.encoder.card.dim)
    final = run.metrics["final"]
    if "train/reconstruct" in final:
        assert final["train/reconstruct"] < 0.9  # 1 is what the mean vector scores
    if registry.method(method).sees_labels:
        assert final["validation/superclass_accuracy"] >= 0.8


@pytest.mark.parametrize("told", ["classifier", "decoder"])
def test_a_decoder_can_be_told_the_superclass(vectors, tmp_path, told):
    config = CONFIG.model_copy(update={"method": "cauto", "superclass_into": told})
    run = train(config, tmp_path / "run", images=vectors, run=QUIET, say=silent)
    assert run.metrics["final"]["train/reconstruct"] > 0


def weights(folder):
    return [(folder / name).read_bytes() for name in ("model.safetensors", "model.json", "best.safetensors")]


def test_the_same_seed_gives_the_same_run_bit_for_bit(vectors, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(CONFIG.model_copy(update={"seed": seed}), tmp_path / name, images=vectors, run=QUIET, say=silent)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a")[0] != weights(tmp_path / "c")[0]


def test_an_interrupted_run_ends_as_one_that_was_not(vectors, tmp_path, monkeypatch):
    train(CONFIG, tmp_path / "whole", images=vectors, run=QUIET, say=silent)
    step = TrainingModule.training_step

    def stopped(module, batch, number):
        if batch.number == 7:
            signal.raise_signal(signal.SIGTERM)
        return step(module, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stopped)
        with pytest.raises(Interrupted):
            train(CONFIG, tmp_path / "parts", images=vectors, run=QUIET, say=silent)
    with pytest.raises(OutputError, match=r"views\.noise 0\.3 there, 0\.4 here"):
        train(CONFIG, tmp_path / "parts", images=vector_set(views=FeatureViewSpec(noise=0.4)), run=QUIET, say=silent)
    assert load_encoder(tmp_path / "parts" / "last.ckpt").card.channels == WIDTH
    said = []
    train(CONFIG, tmp_path / "parts", images=vectors, run=QUIET, say=said.append)
    assert any("going on with" in line for line in said)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    said.clear()
    train(CONFIG, tmp_path / "parts", images=vectors, run=QUIET, say=said.append)
    assert "finished" in said[-1]


def test_a_saved_run_embeds_new_vectors_as_the_encoder_in_memory(vectors, tmp_path):
    config = CONFIG.model_copy(update={"method": "spread"})
    run, new = train(config, tmp_path / "run", images=vectors, run=QUIET, say=silent), vector_set(40, seed=9)
    state = load_file(tmp_path / "run" / "model.safetensors")
    mean, std = vectors.mean_std
    hidden = (new.vectors.astype(np.float64) - mean) / std @ state["hidden.weight"].numpy().T
    hidden = np.maximum(hidden + state["hidden.bias"].numpy(), 0)
    wanted = hidden @ state["head.weight"].numpy().T + state["head.bias"].numpy()
    np.testing.assert_allclose(run.encoder.embed(new), wanted, atol=1e-4)
    save_encoder(run.encoder, tmp_path / "copy.safetensors")
    for source in (tmp_path / "run", tmp_path / "copy.safetensors"):
        assert np.array_equal(load_encoder(source).embed(new), run.encoder.embed(new))
        assert load_encoder(source).fingerprint == run.encoder.fingerprint
    embeddings = embed(load_encoder(tmp_path / "run"), vectors)
    assert (embeddings.fingerprint, embeddings.vectors.shape) == (vectors.fingerprint, (200, 8))


def test_the_name_of_an_encoder_says_its_widths():
    assert registry.encoder("mlp").sizes == (256, 64)
    for name, shapes in {"mlp": [(256, 7), (64, 256)], "mlp-5-3": [(5, 7), (3, 5)]}.items():
        module = build_encoder(name, channels=7, size=None)
        assert [tuple(p.shape) for p in module.parameters() if p.ndim == 2] == shapes
        assert module.num_features == shapes[1][0]
    for name in ("mlp-5", "mlp-0-3", "mlp-5-3-2", "mlp-x-y", "tiny-5-3"):
        with pytest.raises(ConfigError, match="there is no encoder"):
            build_encoder(name, channels=7, size=None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": "tiny"}, r"`encoder=tiny` takes images, and these are vectors\. Choose one for them: mlp\."),
        ({"encoder": "resnet18"}, "`encoder=resnet18` takes images"),
        ({"views": ViewSpec(flip=0)}, r"`views` crops, flips and colours images, and made has vectors"),
        ({"batch": 1000}, "at most the 160 training vectors of made"),
    ],
)
def test_what_is_of_images_is_refused_and_nothing_stays(vectors, tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        train(CONFIG.model_copy(update=change), tmp_path / "run", images=vectors, run=QUIET, say=silent)
    assert not (tmp_path / "run").exists()


def test_images_are_refused_by_what_takes_vectors(vectors, tmp_path):
    images = load(TrainConfig())
    with pytest.raises(ConfigError, match="`encoder=mlp` takes vectors, and these are images"):
        train(TrainConfig(encoder="mlp"), tmp_path / "a", images=images, run=QUIET, say=silent)
    run = train(CONFIG, tmp_path / "run", images=vectors, run=QUIET, say=silent)
    with pytest.raises(DataError, match="takes vectors of 12; digits has images of 8x8"):
        run.encoder.embed(images)
    narrow = replace(vectors, vectors=vectors.vectors[:, :3])
    with pytest.raises(DataError, match="takes vectors of 12; made has vectors of 3"):
        run.encoder.embed(narrow)


def test_onnx_gives_our_embeddings(vectors, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    run = train(CONFIG, tmp_path / "run", images=vectors, run=QUIET, say=silent)
    assert export_onnx(run.encoder, tmp_path / "a.onnx") < 1e-4
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    for rows in (vectors.vectors, vectors.vectors[:1]):
        found = session.run(["embeddings"], {"vectors": rows})[0]
        np.testing.assert_allclose(found, run.encoder.embed(vectors)[: len(rows)], atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((4, 3)), "float32 of shape"),
        (np.zeros((5, 3), dtype=np.float32), r"float32 of shape \(n, dim\), one for each of the 4 labels"),
        (np.zeros((4, 0), dtype=np.float32), "float32 of shape"),
        (np.array([[0], [0], [np.inf], [0]], dtype=np.float32), "row 2 of odd is not"),
    ],
)
def test_what_cannot_be_vectors(rows, said):
    facts = {"superclass": np.array([0, 0, 1, 1]), "superclass_names": ("a", "b"), "split": np.zeros(4, dtype=np.int8)}
    with pytest.raises(DataError, match=said):
        VectorSet(name="odd", vectors=rows, **facts)


def test_too_few_vectors_are_refused_as_images_are(vectors, tmp_path):
    for change, said in (
        ({"superclass": np.zeros(200, dtype=np.int64)}, r"only 'a' among its training vectors"),
        ({"superclass": (np.arange(200) == 0).astype(np.int64)}, r"two or more training vectors; 'b' of made has 1"),
        ({"split": np.zeros(200, dtype=np.int8)}, "two or more validation vectors; made has 0"),
    ):
        with pytest.raises(DataError, match=said):
            train(CONFIG, tmp_path / "run", images=replace(vectors, **change), run=QUIET, say=silent)


def test_views_that_are_all_alike_are_said(vectors, tmp_path):
    said, still = [], replace(vectors, views=FeatureViewSpec(noise=0, dropout=0))
    train(CONFIG, tmp_path / "run", images=still, run=QUIET, say=said.append)
    assert any("dead views: the two views of these vectors are the same" in line for line in said)
