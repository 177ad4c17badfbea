"""New images get the subclasses that were discovered: in Python, by classify and by embed, under given names."""

import csv
import os
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from thanos import DiscoverConfig, Embeddings, RunConfig, TrainConfig, discover, embed, load, read_embeddings, train
from thanos.cli import run_command
from thanos.errors import DataError
from thanos.robust.classify import SAME, among_training
from thanos.storage import read_json, write_marked_json
from thanos.storage.arrays import MARK
from thanos.storage.schemas import Classifier
from thanos.subclasses.called import Called
from thanos.subclasses.fitted import Centres
from thanos.subclasses.keep import NOBODY, Places, can_be_kept, is_places, read_places, write_places
from thanos.subclasses.reach import FEWEST, NEAREST, fit_reach

pytestmark = pytest.mark.usefixtures("all_digits_in_module")

SETTINGS = [
    DiscoverConfig(),
    DiscoverConfig(method="mixture"),
    DiscoverConfig(reduce="none", clusters=3),
    DiscoverConfig(reduce="hardness", components=4),
    DiscoverConfig(reduce="hardness", components=1, length="own", method="mixture", least=2),
    DiscoverConfig(overcluster=True, clusters=2),
    DiscoverConfig(clusters=1),
]


def blobs(seed=0):
    x, kind = make_blobs([120] * 6, 24, random_state=seed)
    split = np.random.default_rng(seed).choice([0, 0, 0, 1, 2], len(x)).astype(np.int8)
    names = ("a", "b")
    return Embeddings(vectors=x.astype(np.float32), superclass=kind % 2, superclass_names=names, split=split)


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_what_is_kept_places_every_vector_as_discovery_did(config, tmp_path):
    data = blobs()
    found = discover(data, config)
    file = tmp_path / "p.npz"
    write_places(Places(found.fitted, found.names, data.superclass_names, "e", "t"), file)
    there = read_places(file)
    assert (there.names, there.superclass_names, there.space, there.table) == (found.names, ("a", "b"), "e", "t")
    cluster, distance, confidence = there.fitted.predict(data.vectors, data.superclass)
    assert np.array_equal(cluster, found.cluster)
    assert np.array_equal(distance, found.distance)
    assert np.array_equal(confidence, found.confidence)
    fresh = blobs(seed=0).take(np.arange(0, 720, 7))
    moved = fresh.vectors + 0.01
    again = [each.predict(moved, fresh.superclass) for each in (there.fitted, found.fitted)]
    assert all(np.array_equal(a, b) for a, b in zip(*again, strict=True))


def test_what_another_package_fitted_is_not_kept():
    found = discover(blobs(), DiscoverConfig(clusters=3))
    whole = found.fitted
    assert can_be_kept(whole)
    foreign = replace(whole.superclasses[0], reduction=Centres(np.zeros((1, 2))).predict)
    assert not can_be_kept(replace(whole, superclasses=whole.superclasses | {0: foreign}))


def test_a_damaged_file_is_refused(tmp_path):
    found = discover(blobs(), DiscoverConfig(clusters=3))
    file = tmp_path / "p.npz"
    write_places(Places(found.fitted, found.names, ("a", "b"), "", ""), file)
    assert is_places(file)
    with np.load(file) as kept:
        arrays = {name: kept[name] for name in kept.files if "centres" not in name and name != MARK}
    np.savez(file, **arrays)
    with pytest.raises(DataError, match="does not say where new images belong"):
        read_places(file)
    file.write_bytes(b"PK")
    assert not is_places(file)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on digits, with discovered subclasses."""
    out = tmp_path_factory.mktemp("new") / "run"
    train(TrainConfig(method="spread", epochs=3), out, run=RunConfig(quiet=True, threads=1))
    run_command(["discover", str(out), "--clusters", "3"])
    (out / "manifest.json").unlink()  # tests put other files in their place
    return out


def table(file):
    with file.open(newline="") as opened:
        return {row["image"]: row for row in csv.DictReader(opened)}


def test_classify_names_the_subclass_inside_what_it_predicts(run, tmp_path):
    run_command(["classify", str(run), "--data", "digits", "-o", str(tmp_path / "p.csv")])
    said, known = table(tmp_path / "p.csv"), table(run / "subclasses.csv")
    right = [image for image, row in said.items() if row["predicted"] == row["superclass"]]
    assert len(right) > 1500
    nobodys = {image for image, row in said.items() if row["subclass"] == NOBODY}
    assert len(nobodys) < 0.03 * len(said)
    assert {said[image]["subclass_confidence"] for image in nobodys} <= {"0.0000"}
    assert all(said[image]["subclass"] == known[image]["subclass"] for image in right if image not in nobodys)
    assert all(said[i]["subclass_confidence"] == known[i]["confidence"] for i in right if i not in nobodys)
    named = [row for image, row in said.items() if image not in nobodys]
    assert all(row["subclass"].startswith(f"{row['predicted']}/") for row in named)


def test_embed_names_the_subclass_inside_the_superclass_that_is_known(run, tmp_path):
    run_command(["embed", str(run), "--data", "digits", "-o", str(tmp_path / "e.npz")])
    known = table(run / "subclasses.csv")
    with np.load(tmp_path / "e.npz") as found:
        names = found["discovered_names"][found["discovered"]]
        assert list(names) == [known[ref]["subclass"] for ref in found["refs"]]
        assert found["discovered_confidence"].min() >= 0


def test_a_persons_names_are_used(run, tmp_path):
    file = run / "subclasses.yaml"
    text = file.read_text()
    file.write_text(text.replace("below 5/0: below 5/0", "below 5/0: round ones"))
    try:
        run_command(["classify", str(run), "--data", "digits", "-o", str(tmp_path / "p.csv")])
    finally:
        file.write_text(text)
    said, known = table(tmp_path / "p.csv"), table(run / "subclasses.csv")
    named = {image for image, row in said.items() if row["subclass"] == "round ones"}
    mine = {image for image, row in known.items() if row["subclass"] == "below 5/0"}
    assert len(named & mine) > 0.9 * len(mine)
    assert not any(row["subclass"] == "below 5/0" for row in said.values())


def test_subclasses_of_one_name_do_not_doubt_each_other():
    """Confidence is 1 - own / next distance; the next one is of another name, and where there is none, it is sure."""
    data = blobs()
    found = discover(data, DiscoverConfig(reduce="none", clusters=3))
    places = Places(found.fitted, found.names, data.superclass_names, "e", "t")
    names = {"a/0": "x", "a/2": "x", "b/0": "all", "b/1": "all", "b/2": "all"}
    told, confidence = places.place(data.vectors, data.superclass, Called(names))
    assert list(told) == [names.get(found.names[c], found.names[c]) for c in found.cluster]
    assert (confidence[data.superclass == 1] == 1).all()
    [a] = [mine for value, _, mine in found.fitted.spaces(data.vectors, data.superclass) if value == 0]
    centres = found.fitted.superclasses[0].centres
    far = np.linalg.norm(a[:, None] - centres[None], axis=2)
    merged, own = np.isin(found.cluster[data.superclass == 0], (0, 2)), far.min(axis=1)
    other = np.where(merged, far[:, 1], np.minimum(far[:, 0], far[:, 2]))
    np.testing.assert_allclose(confidence[data.superclass == 0], np.maximum(0, 1 - own / other), atol=1e-6)


def test_subclasses_of_other_weights_or_another_table_are_not_named(run, tmp_path, capsys):
    kept = (run / "subclasses-places.npz").read_bytes()
    places = read_places(run / "subclasses-places.npz")
    try:
        for other, said in (({"space": "0" * 32}, "of other embeddings"), ({"table": "0"}, "another table")):
            write_places(replace(places, **other), run / "subclasses-places.npz")
            capsys.readouterr()
            out = tmp_path / f"{next(iter(other))}.csv"
            run_command(["classify", str(run), "--data", "digits", "-o", str(out)])
            assert said in capsys.readouterr().out
            assert "subclass" not in next(iter(table(out).values()))
    finally:
        (run / "subclasses-places.npz").write_bytes(kept)


def test_another_file_beside_the_table_is_never_written_over(tmp_path):
    data = blobs()
    np.savez(tmp_path / "e.npz", vectors=data.vectors, superclass=data.superclass)
    np.savez(tmp_path / "found-places.npz", mine=np.arange(3))
    before = (tmp_path / "found-places.npz").read_bytes()
    with pytest.raises(ValueError, match="was not written by thanos discover"):
        run_command(["discover", str(tmp_path / "e.npz"), "-o", str(tmp_path / "found.csv")])
    assert (tmp_path / "found-places.npz").read_bytes() == before
    assert not (tmp_path / "found.csv").exists()


def test_a_runs_embeddings_are_not_written_over_by_what_places_images(run):
    before = (run / "embeddings.npz").read_bytes()
    run_command(["discover", str(run), "--clusters", "2", "-o", str(run / "embeddings.csv")])
    assert (run / "embeddings.npz").read_bytes() == before
    assert is_places(run / "embeddings-places.npz")


def test_vectors_of_nobody_knows_which_encoder_are_placed_only_if_they_are_the_same(tmp_path, capsys):
    data = blobs()
    file, fair = tmp_path / "e.npz", tmp_path / "fair.npz"

    def write(vectors):
        np.savez(file, vectors=vectors, superclass=data.superclass, split=data.split)

    def classified():
        capsys.readouterr()
        run_command(["classify", str(file), "--classifier", str(fair), "-o", str(tmp_path / "p.csv")])
        return "subclass" in next(iter(table(tmp_path / "p.csv").values())), capsys.readouterr().out

    write(data.vectors)
    run_command(["discover", str(file), "--clusters", "3"])
    run_command(["robust", str(file), "--method", "erm", "--groups", "none", "-o", str(fair)])
    assert classified()[0]
    write(data.vectors[::-1].copy())
    named, said = classified()
    assert not named
    assert "of other embeddings" in said


def test_embedding_is_done_once_and_not_for_nothing(run, tmp_path, monkeypatch):
    from thanos import embeddings as room

    calls = []
    monkeypatch.setattr(room, "embed", lambda *args, **more: calls.append(1) or embed(*args, **more))
    run_command(["embed", str(run), "--data", "digits", "-o", str(tmp_path / "e.npz")])
    assert len(calls) == 1
    kept = (run / "subclasses-places.npz").read_bytes()
    (run / "subclasses-places.npz").write_bytes(b"PK")
    try:
        with pytest.raises(DataError):
            run_command(["embed", str(run), "--data", "digits", "-o", str(tmp_path / "f.npz")])
    finally:
        (run / "subclasses-places.npz").write_bytes(kept)
    assert len(calls) == 1


def halves(count=900, dim=16, seed=0):
    """Two superclasses in a few dimensions of many; a tenth of the rows for validation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, dim))[np.arange(count) % 2] + 0.3 * rng.normal(size=(count, dim))
    split = np.where(np.arange(count) % 10 == 9, 1, np.where(np.arange(count) % 10 == 8, 2, 0)).astype(np.int8)
    return Embeddings(
        vectors=x.astype(np.float32), superclass=np.arange(count) % 2, superclass_names=("a", "b"), split=split
    )


def test_images_like_none_that_were_seen_are_nobodys(tmp_path):
    """About one in a hundred of the same kind, all of another; also once it was kept."""
    data, fresh = halves(), halves(seed=0, count=6000)
    reach = fit_reach(data)
    assert reach.is_beyond(fresh.of("test").vectors).mean() < 0.04
    other = np.random.default_rng(5).normal(size=(500, 16)).astype(np.float32)
    assert reach.is_beyond(other).mean() > 0.95
    found = discover(data)
    write_places(Places(found.fitted, found.names, ("a", "b"), "s", "t", reach), tmp_path / "p.npz")
    again = read_places(tmp_path / "p.npz").reach
    np.testing.assert_array_equal(again.apart(other), reach.apart(other))
    assert again.limit == reach.limit


def test_the_distance_is_that_to_the_fifth_nearest():
    data = halves()
    reach = fit_reach(data)
    unit = data.vectors / np.linalg.norm(data.vectors, axis=1, keepdims=True)
    far = np.sort(np.linalg.norm(unit[:20, None] - unit[data.in_split("train")], axis=2), axis=1)[:, NEAREST - 1]
    np.testing.assert_allclose(reach.apart(data.vectors[:20]), far, atol=1e-5)


def test_too_few_validation_images_call_nobody_out():
    assert fit_reach(halves(count=10 * FEWEST - 20)) is None


def test_what_a_head_makes_of_images_is_not_asked(tmp_path):
    """Of features beside a head the features: a head brings foreign images among its own."""
    data = halves()
    both = np.concatenate([data.vectors, np.ones_like(data.vectors)], axis=1)
    whole = replace(data, vectors=both, parts=(16, 16))
    assert fit_reach(whole).columns == (0, 16)
    np.testing.assert_allclose(fit_reach(whole).apart(both), fit_reach(data).apart(data.vectors))


def test_the_newest_classifier_is_used_and_said(run, tmp_path, capsys):
    for method in ("groupdro", "reweight"):
        run_command(["robust", str(run), "--method", method])
    older, newer = run / "robust-reweight.npz", run / "robust-groupdro.npz"
    os.utime(older, ns=(1, 1))
    capsys.readouterr()
    run_command(["classify", str(run), "--data", "digits", "-o", str(tmp_path / "p.csv")])
    out = capsys.readouterr().out
    assert (
        "robust-groupdro.npz, robust-reweight.npz; the first, the newest, is used, unless --classifier names one" in out
    )
    assert f"images by {newer}: " in out


def test_vectors_of_training_images_are_found_as_by_all_distances():
    rng = np.random.default_rng(0)
    data = blobs()
    train = data.of("train").vectors
    size = np.linalg.norm(train[:80] - train.mean(axis=0), axis=1, keepdims=True)
    near, far = (train[:80] + share * size / np.sqrt(24) * rng.choice([-1, 1], (80, 24)) for share in (2e-4, 1e-2))
    x = np.concatenate([train, near, far, data.of("test").vectors, np.zeros((1, 24))]).astype(np.float32)
    apart = np.linalg.norm(x[:, None].astype(float) - train[None], axis=2).min(axis=1)
    assert np.array_equal(among_training(x, data), apart <= SAME * np.linalg.norm(x - train.mean(axis=0), axis=1))
    assert among_training(x, data).sum() == len(train) + 80
    assert among_training(x, replace(data, vectors=np.ones_like(data.vectors))).sum() == 0
    assert among_training(train, replace(data, split=np.ones_like(data.split))).sum() == 0
    assert among_training(train[:, :5], data).sum() == 0
    close = replace(data, vectors=100 + 1e-3 * data.vectors)  # all nearly at one point
    assert among_training(close.of("test").vectors, close).sum() == 0


def test_training_images_are_not_counted(run, tmp_path, capsys):
    """They are told by their vectors, whatever their files are called; what is right is that of the others."""
    kept = read_embeddings(run / "embeddings.npz")
    names = np.array(kept.superclass_names)[kept.superclass]
    shuffled = np.random.default_rng(0).permutation(len(kept))
    images = load("digits").images[shuffled]
    np.savez(tmp_path / "other.npz", images=images, superclass=names[shuffled])
    data = ["--data", str(tmp_path / "other.npz"), "-o", str(tmp_path / "p.csv")]
    train = kept.in_split("train")[shuffled]
    for source in (run, run / "model.safetensors", run / "last.ckpt"):
        run_command(["classify", str(source), *data, "--classifier", str(run / "classifier.npz")])
        out = capsys.readouterr().out
        right = np.array([row["predicted"] == row["superclass"] for row in table(tmp_path / "p.csv").values()])
        assert f"{train.sum():,} of them are training images, which say nothing of new ones" in out
        assert f"right on {right[~train].mean():.1%} of {(~train).sum():,} others" in out
    (run / "embeddings.npz").rename(tmp_path / "kept.npz")
    try:
        run_command(["classify", str(run), *data, "--classifier", str(run / "classifier.npz")])
    finally:
        (tmp_path / "kept.npz").rename(run / "embeddings.npz")
    out = capsys.readouterr().out
    assert "whether training images are among them is not known" in out
    assert f"right on {right.mean():.1%} of {len(right):,} images" in out


def test_of_vectors_that_a_classifier_was_fitted_on_test_rows_count(tmp_path, capsys):
    data = blobs()
    file, other = tmp_path / "e.npz", tmp_path / "o.npz"
    names = np.array(data.superclass_names)[data.superclass]
    np.savez(file, vectors=data.vectors, superclass=names, split=np.array(["train", "validation", "test"])[data.split])
    np.savez(other, vectors=data.vectors[::-1], superclass=names[::-1])
    run_command(["robust", str(file), "--method", "erm"])
    head = str(tmp_path / "e-robust-erm.npz")
    for asked, said in ((file, f"of {(data.split == 2).sum():,} test images"), (other, f"of {len(names):,} images")):
        capsys.readouterr()
        run_command(["classify", str(asked), "--classifier", head, "-o", str(tmp_path / "p.csv")])
        assert said in capsys.readouterr().out


def test_a_classifier_that_is_surely_worse_is_said_to_be(run, tmp_path, capsys):
    head = tmp_path / "head.npz"
    run_command(["robust", str(run), "--method", "reweight", "-o", str(head)])
    facts = read_json(head.with_suffix(".json"), Classifier)
    for high, low_of_worst, worse in ((-0.1, 0.0, True), (0.0, 0.0, False), (-0.1, 0.1, False)):
        worst = facts["gain"]["worst"] | {"difference": 0.2, "interval": [low_of_worst, 0.4]}
        changed = {"all_images": {"difference": -0.2, "interval": [-0.3, high]}, "worst": worst}
        write_marked_json(head.with_suffix(".json"), facts | {"gain": facts["gain"] | changed})
        capsys.readouterr()
        run_command(["classify", str(run), "--classifier", str(head), "-o", str(tmp_path / "p.csv")])
        said = "is surely 20.0 points less often right over all test images than the plain classifier"
        out = capsys.readouterr().out
        assert (said in out and f"--classifier {tmp_path / 'head-plain.npz'}" in out) == worse


def test_a_classifier_of_earlier_subclasses_is_said_to_be_one(run, tmp_path, capsys):
    """And the names that it was made with, which are of those, are not advised."""
    head, names = tmp_path / "head.npz", run / "subclasses.yaml"
    command = ["classify", str(run), "--data", "digits", "--classifier", str(head), "-o", str(tmp_path / "p.csv")]
    run_command(
        ["robust", str(run), "--method", "reweight", "--groups", "discovered", "--names", str(names), "-o", str(head)]
    )
    run_command(command)
    assert f"--names {names}, with which {head} was made, gives them your names" in capsys.readouterr().out
    facts = read_json(head.with_suffix(".json"), Classifier)
    write_marked_json(head.with_suffix(".json"), facts | {"subclasses": "0" * 8})
    run_command(command)
    out = capsys.readouterr().out
    assert f"{head} was made for other subclasses than those found here; for these: thanos robust {run}\n" in out
    assert "--names" not in out
