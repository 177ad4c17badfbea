"""The published data sets: in small files of the exact layouts, and (marked real_data) the real ones."""

import gzip
import os
import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from thanos.config import DataConfig
from thanos.data import hierarchy
from thanos.data.load import load
from thanos.data.published import PUBLISHED
from thanos.errors import DataError

COARSE = {"mnist": 2, "fashion-mnist": 4, "cifar10": 2, "cifar100": 20}


def pictures(count, classes, size, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8), np.arange(count) % classes


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def read(name, root, **settings):
    return load(DataConfig(data=name, root=root, **settings))


@pytest.mark.parametrize("layout", ["torchvision", "plain", "gzipped"])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnists_own_files(tmp_path, name, folder, layout):
    root = tmp_path / (f"{folder}/raw" if layout == "torchvision" else name)
    suffix = ".gz" if layout == "gzipped" else ""
    expected = {}
    for part, count in (("train", 60), ("t10k", 20)):
        images, labels = pictures(count, 10, 28, 1, seed=count)
        write_idx(root / f"{part}-images-idx3-ubyte{suffix}", images[..., 0])
        write_idx(root / f"{part}-labels-idx1-ubyte{suffix}", labels)
        expected[part] = images, labels
    data = read(name, tmp_path)
    assert np.array_equal(data.images[np.arange(80)], np.concatenate([expected["train"][0], expected["t10k"][0]]))
    order = sorted(PUBLISHED[name].classes) if name == "mnist" else None
    fine = [data.subclass_names[i] for i in data.subclass]
    if order:
        assert fine == [str(i) for i in np.concatenate([expected["train"][1], expected["t10k"][1]])]
    else:
        assert fine[:10] == ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                             "Ankle boot"]  # fmt: skip
    assert len(data.superclass_names) == COARSE[name]
    assert data.in_split("test").sum() == 20


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_torchvisions_pickles(tmp_path, monkeypatch, name):
    from torchvision import datasets

    fine_names = sorted(PUBLISHED[name].classes)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)  # of these small files
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: vars(self).update(classes=fine_names))
    folder = tmp_path / name / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    folder.mkdir(parents=True)
    parts = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    parts = parts if name == "cifar10" else ["train", "test"]
    stored = []
    for i, part in enumerate(parts):
        images, labels = pictures(2 * len(fine_names), len(fine_names), 32, 3, seed=i)
        entry = {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "fine_labels": labels.tolist()}
        entry["labels"] = entry["fine_labels"]
        (folder / part).write_bytes(pickle.dumps(entry if name == "cifar100" else entry | {"fine_labels": None}))
        if name == "cifar10":
            entry.pop("fine_labels")
            (folder / part).write_bytes(pickle.dumps(entry))
        stored.append((images, labels))
    data = read(name, tmp_path)
    assert np.array_equal(data.images[np.arange(len(data))], np.concatenate([images for images, _ in stored]))
    assert [data.subclass_names[i] for i in data.subclass] == [fine_names[i] for _, ls in stored for i in ls]
    table = PUBLISHED[name].classes
    assert all(
        table[data.subclass_names[f]] == data.superclass_names[c]
        for f, c in zip(data.subclass, data.superclass, strict=True)
    )
    assert len(data.superclass_names) == COARSE[name]


def class_folders(root, classes, train, test, size=32):
    for split, count in (("train", train), ("test", test)):
        for c, name in enumerate(classes):
            images, _ = pictures(count, 1, size, 3, seed=c)
            folder = root / split / name
            folder.mkdir(parents=True)
            for i, image in enumerate(images):
                Image.fromarray(image).save(folder / f"{i:04d}.png")


def test_class_folders_and_resizing(tmp_path):
    class_folders(tmp_path / "cifar10", sorted(hierarchy.CIFAR10), 12, 3)
    data = read("cifar10", tmp_path)
    assert data.counts()["test"] == {"animals": 18, "vehicles": 12}
    assert len(data.rows("train")) == 108
    assert read("cifar10", tmp_path, size=16).images.shape == (150, 16, 16, 3)


def test_cifar100_u_is_drawn_without_replacement_from_training_only(tmp_path):
    (superclass,) = {hierarchy.CIFAR100["apple"]}
    members = sorted(fine for fine, coarse in hierarchy.CIFAR100.items() if coarse == superclass)
    other = sorted(fine for fine, coarse in hierarchy.CIFAR100.items() if coarse == "trees")
    class_folders(tmp_path / "cifar100", members + other, 500, 4, size=4)
    data, again, another = (read("cifar100-u", tmp_path, split_seed=s) for s in (0, 0, 1))
    for group in (members, other):
        wanted = dict(zip(group, (450, 225, 90, 45, 45), strict=True))
        held_out = dict(zip(group, (50, 25, 10, 5, 5), strict=True))
        for name in group:
            mine = data.subclass == data.subclass_names.index(name)
            assert [int((mine & (data.split == s)).sum()) for s in range(3)] == [wanted[name], held_out[name], 4]
    assert len(set(data.refs)) == len(data.refs)
    assert data.fingerprint == again.fingerprint != another.fingerprint


def test_tiny_imagenets_official_layout(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    wnids = sorted(hierarchy.tiny_imagenet())
    lines = []
    for c, wnid in enumerate(wnids):
        images, _ = pictures(4, 1, 64, 3, seed=c)
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "val" / "images").mkdir(parents=True, exist_ok=True)
        for i in range(3):
            picture = Image.fromarray(images[i])
            (picture.convert("L") if c == 0 else picture).save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
        Image.fromarray(images[3]).save(root / "val" / "images" / f"val_{c}.JPEG")
        lines.append(f"val_{c}.JPEG\t{wnid}\t0\t0\t1\t1\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    data = read("tiny-imagenet", tmp_path, size=32)
    assert data.images.shape == (800, 32, 32, 3)
    assert len(data.superclass_names) == 52
    assert data.in_split("test").sum() == 200
    test = data.rows("test")
    assert [data.subclass_names[i] for i in data.subclass[test]] == wnids


@pytest.mark.parametrize("name", [*PUBLISHED, "cifar100-u", "tiny-imagenet"])
def test_a_missing_data_set_says_where_it_was_looked_for(tmp_path, name):
    with pytest.raises(DataError) as error:
        read(name, tmp_path)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "`download`" in message
    assert "THANOS_DATA" in message
    assert list(tmp_path.iterdir()) == []


def test_a_class_that_is_none_of_the_data_sets(tmp_path):
    class_folders(tmp_path / "cifar10", ["cat", "dinosaur"], 2, 1)
    with pytest.raises(DataError, match="dinosaur is none of them"):
        read("cifar10", tmp_path)


def test_a_damaged_file(tmp_path):
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            path = tmp_path / "mnist" / f"{part}-{kind}-ubyte.gz"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="is damaged"):
        read("mnist", tmp_path)


def real(folder):
    """The folder of a real data set, or a skip that says how to get it."""
    root = os.environ.get("THANOS_DATA")
    if root is None or not (Path(root) / folder).is_dir():
        pytest.skip(
            f"needs the real {folder}: set THANOS_DATA to a folder with {folder}/ in a layout of docs/data-sets.md"
        )
    return Path(root)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "train", "test", "size"),
    [
        ("mnist", 60_000, 10_000, 28),
        ("fashion-mnist", 60_000, 10_000, 28),
        ("cifar10", 50_000, 10_000, 32),
        ("cifar100", 50_000, 10_000, 32),
        ("cifar100-u", 19_000, 10_000, 32),
        ("tiny-imagenet", 100_000, 10_000, 64),
    ],
)
def test_the_real_data_set(monkeypatch, name, train, test, size):
    root = real(name.removesuffix("-u"))
    monkeypatch.delenv("THANOS_CACHE")
    data = read(name, root)
    assert (len(data.rows("train")) + len(data.rows("validation")), len(data.rows("test"))) == (train, test)
    assert data.size == (size, size)
    assert len(data.subclass_names) == {"cifar100": 100, "cifar100-u": 100, "tiny-imagenet": 200}.get(name, 10)
    per_class = np.bincount(data.subclass[data.rows("test")])
    assert set(per_class.tolist()) <= {test // len(per_class)} or name == "mnist"
    assert len(data.superclass_names) == {"cifar100-u": 20, "tiny-imagenet": 52}.get(name, COARSE.get(name))


@pytest.mark.real_data
def test_cifar100_u_keeps_its_proportions_under_a_limit(monkeypatch):
    root = real("cifar100")
    monkeypatch.delenv("THANOS_CACHE")
    for settings, counts in (({}, (450, 225, 90, 45, 45)), ({"train_limit": 9500}, (250, 125, 50, 25, 25))):
        data = read("cifar100-u", root, **settings)
        rows = data.rows("train")
        for superclass in range(20):
            fine = data.subclass[rows[data.superclass[rows] == superclass]]
            assert np.unique(fine, return_counts=True)[1].tolist() == list(counts)  # by ascending fine id


@pytest.mark.real_data
def test_fashion_mnist_downloads_through_torchvision(tmp_path, monkeypatch):
    """The real files, fetched by torchvision's own code from a mirror on this machine."""
    from hashlib import md5

    from torchvision.datasets import FashionMNIST

    source = real("fashion-mnist") / "fashion-mnist"
    files = [name for name, _ in FashionMNIST.resources]
    if not all((source / name).is_file() for name in files):
        pytest.skip("needs the four .gz files of Fashion-MNIST")
    handler = partial(SimpleHTTPRequestHandler, directory=source)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    hashes = [(name, md5((source / name).read_bytes()).hexdigest()) for name in files]  # Debian packs them anew
    monkeypatch.setattr(FashionMNIST, "resources", hashes)
    try:
        downloaded = read("fashion-mnist", tmp_path, download=True)
    finally:
        server.shutdown()
    assert downloaded.fingerprint == read("fashion-mnist", source.parent).fingerprint
