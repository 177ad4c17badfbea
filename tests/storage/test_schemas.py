"""What is read back is held against a schema: no damaged number, name or array is believed, and none fills memory."""

import io
import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from thanos import DiscoverConfig, discover
from thanos.data.cache import cached_array, remembered
from thanos.embeddings import Embeddings, read_embeddings, write_embeddings
from thanos.errors import DataError
from thanos.robust.head import Head, read_head, write_head
from thanos.runs.checkpoint import read_checkpoint
from thanos.storage import read_json, read_json_lines, read_npz, write_marked_json, write_npz
from thanos.storage.arrays import FREE
from thanos.storage.schemas import Found, LoggedLine, RunData, RunMetrics
from thanos.subclasses.keep import Places, read_places, write_places
from thanos.subclasses.sound import check_places

DATA = {"fingerprint": "ab", "counts": {"train": {"cats": 3}}, "images": 3, "size": [8, 8], "subclasses": ["a", "b"]}
METRICS = {"final": {"train/loss": 1.5, "validation/superclass_accuracy": 0.5}, "provenance": {"versions": {}}}
FOUND = {"superclasses": {"cats": {"clusters": 2, "images": 5, "sizes": [3, 2], "holds": {"cats/0": 0.9}}}}


def written(tmp_path, content):
    (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / "a.json"


@pytest.mark.parametrize(("schema", "content"), [(RunData, DATA), (RunMetrics, METRICS), (Found, FOUND)])
def test_what_is_sound_is_read_as_it_stands(tmp_path, schema, content):
    with_more = content | {"of a later version": [1, None]}
    assert read_json(written(tmp_path, with_more), schema) == with_more


@pytest.mark.parametrize(
    ("schema", "content", "place"),
    [
        (RunData, DATA | {"counts": {"train": {"cats": -1}}}, "counts.train.cats"),
        (RunData, DATA | {"counts": {"train": {"cats": "3"}}}, "counts.train.cats"),
        (RunData, DATA | {"size": [8]}, "size"),
        (RunData, DATA | {"size": [8, 0]}, "size.1"),
        (RunData, DATA | {"subclasses": ["a", "a"]}, "subclasses"),
        (RunData, DATA | {"fingerprint": 7}, "fingerprint"),
        (RunData, {"counts": {}}, "fingerprint"),
        (RunMetrics, METRICS | {"final": {"train/loss": float("nan")}}, "train/loss"),
        (RunMetrics, METRICS | {"final": {"train/loss": "1.5"}}, "train/loss"),
        (RunMetrics, METRICS | {"final": {"validation/superclass_accuracy": 1.5}}, "validation/superclass_accuracy"),
        (RunMetrics, METRICS | {"alpha": float("inf")}, "alpha"),
        (RunMetrics, METRICS | {"transfer/last": {"command": "thanos", "probe": {"accuracy": 2}}}, "transfer/last"),
        (Found, {"superclasses": {"cats": {"clusters": 0, "images": 5, "sizes": []}}}, "superclasses.cats.clusters"),
        (Found, {"superclasses": {"cats": [1]}}, "superclasses.cats"),
        (Found, {"of": {"images": 3, "encoder": ""}}, "of.images"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path, schema, content, place):
    with pytest.raises(DataError) as refused:
        read_json(written(tmp_path, content), schema)
    (line,) = str(refused.value).splitlines()
    assert place in line
    assert "a.json" in line


@pytest.mark.parametrize("content", ["[" * 10_000, "[1]", "", "{", '{"final": 1e999}', "\x00", "1" * 5000])
def test_what_is_no_object_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.json"):
        read_json(written(tmp_path, content), RunMetrics)


def test_json_of_any_size_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(DataError, match="1,024 MB; JSON of up to 64 MB"):
        read_json(tmp_path / "a.json", RunMetrics)


@pytest.mark.parametrize("line", ['{"step": "1"}', '{"step": 1, "loss": NaN}', '{"loss": 1.0}', '{"step": -1}', "7"])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "m.jsonl").write_text('{"step": 1, "loss": 2.0}\n' + line + "\n")
    with pytest.raises(DataError, match=r"m\.jsonl"):
        read_json_lines(tmp_path / "m.jsonl", LoggedLine)


@pytest.mark.parametrize("place", range(0, 120, 7))
def test_a_flipped_bit_shows_where_json_bears_a_mark(tmp_path, place):
    content = {"command": "thanos discover", "number": 0.123456789, "superclasses": {}, "recovery": {}}
    write_marked_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json", Found) == content
    changed = bytearray((tmp_path / "a.json").read_bytes())
    changed[place] ^= 1
    (tmp_path / "a.json").write_bytes(changed)
    try:
        found = read_json(tmp_path / "a.json", Found)
    except DataError:
        return
    assert found == content or "blake2b" not in json.loads(bytes(changed))  # white space, or the mark's own name


# Arrays


def zipped(file, **members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (shape, content) in members.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
                member.write(content)


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (-1, 4), (3,), (0,)])
def test_a_header_that_claims_another_size_takes_no_memory(tmp_path, shape):
    zipped(tmp_path / "a.npz", vectors=(shape, bytes(16)))
    with pytest.raises(DataError, match="16 bytes for shape"):
        read_npz(tmp_path / "a.npz")


def test_a_bomb_is_not_unpacked(tmp_path):
    zipped(tmp_path / "a.npz", vectors=((2 * FREE // 4,), bytes(2 * FREE)))
    assert (tmp_path / "a.npz").stat().st_size < FREE / 400
    with pytest.raises(DataError, match="that unpack to"):
        read_npz(tmp_path / "a.npz")


def test_arrays_that_are_all_alike_are_written_so_that_they_can_be_read(tmp_path):
    alike = np.zeros(2 * FREE // 8)
    write_npz(tmp_path / "a.npz", {"alike": alike})
    assert np.array_equal(read_npz(tmp_path / "a.npz")["alike"], alike)


class Ran:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


@pytest.mark.parametrize("kind", ["pickle", "object array", "torch"])
def test_nothing_in_a_file_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    content = io.BytesIO()
    if kind == "pickle":
        pickle.dump(Ran(), content)
    elif kind == "torch":
        torch.save({"state_dict": Ran()}, content)
    else:
        np.savez(content, vectors=np.array([Ran()] * 2, dtype=object))
    (tmp_path / "a.npz").write_bytes(content.getvalue())
    (tmp_path / "a.ckpt").write_bytes(content.getvalue())
    for read, name in ((read_npz, "a.npz"), (read_embeddings, "a.npz"), (read_checkpoint, "a.ckpt")):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)
    assert not (tmp_path / "ran").exists()


class Fills:
    def __reduce__(self):
        return bytearray, (2**20,)


def test_a_checkpoint_that_asks_for_memory_gets_none(tmp_path, monkeypatch):
    torch.save({"state_dict": Fills()}, tmp_path / "a.ckpt")
    assert len(torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]) == 2**20  # as torch reads it
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(DataError, match="a checkpoint is a run's last"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_checkpoint_is_not_unpacked(tmp_path):
    zipped(tmp_path / "a.ckpt", data=((2**20,), bytes(2**22)))
    with pytest.raises(DataError, match="a checkpoint is a run's last"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.fixture(scope="module")
def clustered():
    rng = np.random.default_rng(0)
    superclass = np.repeat([0, 1], 60)
    vectors = rng.normal(size=(120, 12)).astype(np.float32) + 4 * np.eye(12, dtype=np.float32)[np.arange(120) % 4]
    embeddings = Embeddings(
        vectors=vectors,
        superclass=superclass,
        superclass_names=("cats", "dogs"),
        split=np.zeros(120, dtype=np.int8),
    )
    return embeddings, discover(embeddings, DiscoverConfig(clusters=2))


def places_in(file, clustered):
    embeddings, found = clustered
    write_places(Places(found.fitted, found.names, embeddings.superclass_names, embeddings.space, "t"), file)
    with np.load(file) as arrays:
        return dict(arrays)


def unmarked(arrays):
    """As an earlier version wrote them: shapes alone show what is damaged."""
    return {name: each for name, each in arrays.items() if name != "blake2b"}


def test_places_that_were_written_are_sound(tmp_path, clustered):
    arrays = places_in(tmp_path / "p.npz", clustered)
    check_places(read_places(tmp_path / "p.npz"), arrays.values())
    embeddings, found = clustered
    again, _, _ = read_places(tmp_path / "p.npz").fitted.predict(embeddings.vectors, embeddings.superclass)
    assert np.array_equal(again, found.cluster)


WAYS = {
    "a row less": lambda each: each[:-1],
    "a column less": lambda each: each[..., :-1],
    "not finite": lambda each: np.full(each.shape, np.nan),
    "flat": lambda each: each.reshape(-1),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_array_of_places_can_be_of_another_shape(tmp_path, clustered, way):
    """Of each array that holds numbers."""
    arrays = places_in(tmp_path / "p.npz", clustered)
    tried = [name for name, each in arrays.items() if each.dtype.kind == "f" and each.ndim]
    for name in tried:
        changed = WAYS[way](arrays[name])
        if changed.shape == arrays[name].shape and way != "not finite":
            continue
        np.savez(tmp_path / "q.npz", **unmarked(arrays) | {name: changed})
        with pytest.raises(DataError, match="was damaged"):
            read_places(tmp_path / "q.npz")
    assert len(tried) >= 4


def test_no_array_of_places_can_be_missing(tmp_path, clustered):
    arrays = unmarked(places_in(tmp_path / "p.npz", clustered))
    wanted = [name for name, each in arrays.items() if each.dtype.kind != "U" and not name.endswith("/order")]
    for name in [*wanted, "names", "superclass_names", "space", "table", "length", "superclass/0/reduction"]:
        np.savez(tmp_path / "q.npz", **{key: each for key, each in arrays.items() if key != name})
        with pytest.raises(DataError, match="was damaged"):
            read_places(tmp_path / "q.npz")


@pytest.mark.parametrize("name", ["mean", "size", "superclass/0/centres"])
def test_numbers_of_places_are_those_that_were_written(tmp_path, clustered, name):
    arrays = places_in(tmp_path / "p.npz", clustered)
    for changed in (arrays[name].astype(np.float16), arrays[name] * 1.0001):
        np.savez(tmp_path / "q.npz", **arrays | {name: changed})
        with pytest.raises(DataError, match="not those that were written"):
            read_places(tmp_path / "q.npz")
    np.savez(tmp_path / "q.npz", **unmarked(arrays))
    assert read_places(tmp_path / "q.npz").names == clustered[1].names


@pytest.mark.parametrize("name", ["names", "superclasses", "superclass/0/first", "superclass/0/reduction"])
def test_ids_of_places_are_in_range(tmp_path, clustered, name):
    arrays = places_in(tmp_path / "p.npz", clustered)
    each = arrays[name]
    odd = np.concatenate([each[:1], each[:-1]]) if each.ndim else np.array(9 if each.dtype.kind == "i" else "None")
    np.savez(tmp_path / "q.npz", **unmarked(arrays) | {name: odd})
    with pytest.raises(DataError, match="was damaged"):
        read_places(tmp_path / "q.npz")


def test_names_of_ids_are_told_apart(tmp_path, clustered):
    embeddings, _ = clustered
    write_embeddings(replace(embeddings, superclass_names=("cats", "cats")), tmp_path / "e.npz")
    with pytest.raises(DataError, match="a name of its own"):
        read_embeddings(tmp_path / "e.npz")
    head = Head(np.eye(2), np.zeros(2), np.zeros(2), np.ones(2))
    write_head(head, ("cats", "cats"), tmp_path / "h.npz")
    with pytest.raises(DataError, match="two of its superclasses have one name"):
        read_head(tmp_path / "h.npz")


# The cache


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_entry_of_the_cache_is_made_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    made = []

    def fill(out):
        made.append(out.shape)
        out[:] = 7

    wanted = {"dtype": np.uint8, "folder": "images", "what": "images"}
    for _ in range(2):
        assert (cached_array("k", (4, 3), fill, **wanted) == 7).all()
    assert len(made) == 1
    entry = tmp_path / "images" / "k.npy"
    entry.write_bytes(entry.read_bytes()[:-2] if damage is None else damage)
    assert (cached_array("k", (4, 3), fill, **wanted) == 7).all()
    assert len(made) == 2


def test_what_was_remembered_is_believed_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    assert [remembered("key", lambda: "0123"), remembered("key", lambda: "else")] == ["0123", "0123"]
    (file,) = (tmp_path / "images").iterdir()
    file.write_bytes(file.read_bytes().replace(b"0123", b"0133"))
    assert remembered("key", lambda: "0123") == "0123"
