"""Vectors that are all alike, or so long that their squares overflow: numbers as of ordinary ones, and no crash."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from thanos.cli import main
from thanos.embeddings import Embeddings, concat_embeddings, one_size, ordinary_size, read_embeddings, write_embeddings
from thanos.evaluate.geometry import evaluate_geometry

COMMANDS = ("discover", "report", "geometry", "robust", "transfer")


def command(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def blobs() -> Embeddings:
    """Two superclasses of two blobs each."""
    x, kind = make_blobs([120] * 4, 16, cluster_std=1.0, random_state=0)
    split = np.tile([0, 0, 1, 2], 120).astype(np.int8)
    return Embeddings(
        vectors=x.astype(np.float32),
        superclass=kind // 2,
        superclass_names=("a", "b"),
        split=split,
        subclass=kind,
        subclass_names=("a0", "a1", "b0", "b1"),
    )


def kept(vectors, file):
    embeddings = blobs()
    write_embeddings(Embeddings(**vars(embeddings) | {"vectors": vectors.astype(np.float32)}), file)
    return file


@pytest.mark.parametrize("subcommand", COMMANDS)
def test_equal_vectors_are_answered(tmp_path, capsys, subcommand):
    file = kept(np.ones((480, 16)), tmp_path / "e.npz")
    code, out, err = command(
        capsys, subcommand, file, *(["--out", tmp_path / "r.html"] if subcommand == "report" else [])
    )
    assert code == 0, err
    if subcommand in ("discover", "report"):
        page = (tmp_path / ("e-subclasses.html" if subcommand == "discover" else "r.html")).read_text()
        assert "No map: the embeddings of all images point in one direction" in page
        assert "<canvas" not in page
        assert "one subclass" in out or "2 subclasses" in out


@pytest.fixture(scope="module")
def ordinary():
    """What was said of the vectors as they are, by command, once it was asked for."""
    return {}


def told(capsys, subcommand, vectors, folder):
    folder.mkdir()
    options = ["--out", folder / "r.html"] if subcommand == "report" else []
    code, out, err = command(capsys, subcommand, kept(vectors, folder / "e.npz"), *options)
    assert code == 0, err
    assert "nan" not in out
    return out.replace(str(folder), "")


@pytest.mark.parametrize("subcommand", COMMANDS)
@pytest.mark.parametrize("size", [1e30, 3e37, 1e-30])
def test_long_vectors_give_what_ordinary_ones_give(tmp_path, capsys, subcommand, size, ordinary):
    x = blobs().vectors
    scale = np.float32(2.0 ** round(np.log2(size / np.abs(x).max())))  # by a power of two: nothing is rounded
    if subcommand not in ordinary:
        ordinary[subcommand] = told(capsys, subcommand, x, tmp_path / "one")
    assert told(capsys, subcommand, x * scale, tmp_path / "two") == ordinary[subcommand]


def test_geometry_of_overflowing_vectors_against_float64():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8)) * 10.0 ** rng.integers(-30, 37, (300, 1))
    label = np.repeat([0, 1], 150)
    found = evaluate_geometry(
        Embeddings(
            vectors=x.astype(np.float32),
            superclass=label,
            superclass_names=("a", "b"),
            split=np.zeros(300, dtype=np.int8),
        )
    )
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit @ unit.T
    within = [cosines[np.ix_(label == k, label == k)][~np.eye(150, dtype=bool)].mean() for k in (0, 1)]
    assert found.within_class_cosine == pytest.approx(np.mean(within), abs=1e-5)
    assert found.between_class_cosine == pytest.approx(cosines[:150, 150:].mean(), abs=1e-2)


def test_sizes_change_by_powers_of_two_alone():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(50, 7)) * 10.0 ** rng.integers(-20, 20, (50, 1))).astype(np.float32)
    ratio = np.log2(np.abs(x.astype(np.float64)) / np.abs(ordinary_size(x).astype(np.float64)))
    np.testing.assert_array_equal(ratio, np.round(ratio))
    assert (np.ptp(ratio, axis=1) == 0).all()
    assert ((np.abs(ordinary_size(x)).max(axis=1) >= 0.5) & (np.abs(ordinary_size(x)).max(axis=1) < 1)).all()
    ordinary = rng.normal(size=(5, 5)).astype(np.float32)
    assert one_size(ordinary) is ordinary
    np.testing.assert_array_equal(ordinary_size(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_concatenation_of_long_and_short_parts():
    embeddings = blobs()
    long = Embeddings(**vars(embeddings) | {"vectors": embeddings.vectors * np.float32(2.0**100)})
    together = concat_embeddings(embeddings, long)
    np.testing.assert_array_equal(together.vectors[:, :16], together.vectors[:, 16:])


def test_float16_vectors_are_read(tmp_path):
    embeddings = blobs()
    np.savez(tmp_path / "e.npz", vectors=embeddings.vectors.astype(np.float16), superclass=embeddings.superclass)
    np.testing.assert_allclose(read_embeddings(tmp_path / "e.npz").vectors, embeddings.vectors, rtol=1e-3)


@pytest.mark.parametrize(
    ("label", "absent"),
    [
        (np.arange(2), {"within_class_cosine", "spread"}),
        (np.zeros(30, dtype=np.int64), {"between_class_cosine"}),
    ],
)
def test_what_is_not_defined_is_not_printed(tmp_path, capsys, label, absent):
    vectors = np.random.default_rng(0).normal(size=(len(label), 4))
    np.savez(tmp_path / "e.npz", vectors=vectors, superclass=label)
    code, out, err = command(capsys, "geometry", tmp_path / "e.npz")
    assert code == 0, err
    assert "nan" not in out
    assert not absent & {line.split()[0] for line in out.splitlines()}
    code, _, err = command(capsys, "report", tmp_path / "e.npz", "--out", tmp_path / "r.html")
    assert code == 0, err
    assert ">nan<" not in (tmp_path / "r.html").read_text()


def test_vectors_of_one_dimension(tmp_path, capsys):
    vectors, label = np.linspace(-1, 1, 40)[:, None], np.arange(40) % 2
    np.savez(tmp_path / "e.npz", vectors=vectors, superclass=label)
    for subcommand in ("geometry", "discover"):
        code, out, err = command(capsys, subcommand, tmp_path / "e.npz")
        assert code == 0, err
        assert err == ""
        assert "nan" not in out
