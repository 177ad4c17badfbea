"""Faults of a disk, and of what ends a command: one line that names the file, and nothing lost."""

import errno
import os

import numpy as np
import pytest

from thanos.config import RunConfig, TrainConfig
from thanos.data.cache import cached_array
from thanos.errors import OutputError
from thanos.runs.run_dir import RunDir
from thanos.storage import append, write_text
from thanos.training.fit import train

SMALL = TrainConfig(epochs=1, train_limit=200, method="spread")
QUIET = RunConfig(quiet=True, threads=1)


def full(*args, **more):
    raise OSError(errno.ENOSPC, "No space left on device")


def silent(line: str) -> None: ...


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["run.log", "metrics.jsonl"])
def test_a_full_disk_names_the_file_that_is_appended_to(tmp_path, name):
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"{name} cannot be written .No space left on device"):
        append(tmp_path / name, "a line\n")


def test_a_full_disk_names_what_a_run_appends_to(tmp_path, monkeypatch):
    monkeypatch.setattr(RunDir, "log", property(lambda run: run.path / "gone" / "run.log"))
    with pytest.raises(OutputError, match=r"run\.log cannot be written"):
        train(SMALL, tmp_path / "h", run=QUIET, say=silent)


def test_a_full_disk_names_the_entry_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match="set THANOS_CACHE to a folder on another disk") as failed:
        cached_array("key", (4,), lambda out: None, dtype=np.uint8, folder="images", what="images")
    assert str(tmp_path / "images" / "key.npy") in str(failed.value)
    assert list((tmp_path / "images").iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a.txt cannot be written .* unchanged"):
        write_text(tmp_path / "a.txt", "after")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["before"]
