"""Faults of a machine, some of those of benchmarks/faults.py: one line that names the file, then the same end."""

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from thanos.data.cache import cache_folder
from thanos.errors import OutputError
from thanos.storage import read_json, write_json
from thanos.storage.locks import LOCK, alone, only_one
from thanos.storage.schemas import Kept

fcntl = pytest.importorskip("fcntl", reason="locks and forks as Unix has them")
import disk  # noqa: E402
import faults  # noqa: E402
import forked  # noqa: E402

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and waits as Linux does")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder to work in, what a command leaves there, and its writes."""
    folder = tmp_path_factory.mktemp("faults").resolve()
    faults.write_photos(folder / "photos.npz", 0, each=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THANOS_CACHE", "")
        place = faults.place_with(folder, "place")
        ended = forked.command(faults.FRESH, place, before=disk.writes([place], folder / "notes.txt"))
        assert ended.code == 0, ended.err
        yield folder, faults.outcome(place / "a"), (folder / "notes.txt").read_text().splitlines()


@on_linux
@pytest.mark.parametrize("part", [0.05, 0.35, 0.6, 0.95])
def test_a_write_that_fails_is_named_and_the_same_command_comes_to_the_same_end(undisturbed, tmp_path, part):
    folder, expected, writes = undisturbed
    k = int(part * len(writes))
    shutil.rmtree(folder / "place")
    place = faults.place_with(folder, "place")
    ended = forked.command(faults.FRESH, place, before=disk.writes([place], tmp_path / "notes.txt", at=k))
    assert ended.code == 0 or faults.told(ended, faults.named(writes[k - 1])), ended.err
    assert forked.command(faults.FRESH, place).code == 0
    assert faults.outcome(place / "a") == expected
    assert not faults.strays(place)


@on_linux
def test_writes_are_counted_where_they_need_room(undisturbed):
    _, expected, writes = undisturbed
    kinds = [line.split()[0] for line in writes]
    assert {"open", "write", "fsync", "rename", "mkdir"} <= set(kinds)
    renamed = {Path(line.split(" ", 1)[1]).name for line in writes if line.startswith("rename ")}
    assert {Path(name).name for name in expected} - {"metrics.jsonl"} <= renamed  # which also grows line by line


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch, number):
    def refused(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(fcntl, "lockf", refused)
    with only_one(tmp_path / "a", "out"), alone(tmp_path / "a" / "b.json"):
        write_json(tmp_path / "a" / "b.json", {"value": 1})
    assert read_json(tmp_path / "a" / "b.json", Kept) == {"value": 1}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


@pytest.mark.parametrize("holds", [lambda folder: only_one(folder, "out"), lambda folder: alone(folder / "b.json")])
def test_a_lock_that_cannot_be_written_names_the_place(tmp_path, monkeypatch, holds):
    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OutputError, match=r"cannot be written .No space left"), holds(tmp_path / "a"):
        pass
    assert not (tmp_path / "a" / LOCK).exists()


def test_a_user_without_a_home_is_told_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("THANOS_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(OutputError, match="Set THANOS_CACHE"):
        cache_folder()
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
