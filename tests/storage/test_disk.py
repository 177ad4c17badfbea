"""Faults of a disk, and of what ends a command: one line that names the file, and nothing lost."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from thanos.cli import main, run_command
from thanos.config import RunConfig, TrainConfig
from thanos.data.cache import cached_array
from thanos.errors import OutputError
from thanos.runs.run_dir import RunDir
from thanos.storage import append, write_atomically, write_marked_json, write_text
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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    train(SMALL, folder, run=QUIET, say=silent)
    return folder


@pytest.fixture
def read_only(run, tmp_path, monkeypatch):
    """A finished run on a disk that is mounted read-only, as the system tells of it."""
    folder = tmp_path / "a"
    shutil.copytree(run, folder)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    return folder


@pytest.mark.parametrize("subcommand", ["geometry", "transfer"])
def test_a_read_only_run_is_judged_and_nothing_written(read_only, capsys, subcommand):
    before = {path.name: path.read_bytes() for path in read_only.iterdir()}
    run_command([subcommand, str(read_only)])
    said = capsys.readouterr().out.splitlines()
    assert f"{read_only} cannot be written: {subcommand} is not kept there" in said
    assert len(said) > 2
    assert {path.name: path.read_bytes() for path in read_only.iterdir()} == before


def test_the_page_of_a_read_only_run_is_written_elsewhere(run, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "a"
    shutil.copytree(run, folder)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    run_command(["report", str(folder), "--out", str(tmp_path / "page.html")])
    assert "geometry is not kept there" in capsys.readouterr().out
    assert "Discovered" in (tmp_path / "page.html").read_text()
    assert "geometry/last" not in (folder / "metrics.json").read_text()


STOPPED = """
import os, signal, sys, time
from thanos.__main__ import run

def stop(*args, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

class Finder:
    def find_spec(self, name, *args):
        return stop() if name == "thanos.cli" else None

phase = sys.argv.pop(1)
if phase == "importing":
    sys.meta_path.insert(0, Finder())
elif phase == "reading":
    import thanos.embeddings
    thanos.embeddings.read_npz = stop
elif phase == "writing":
    os.fsync = stop
elif phase == "starting to train":
    from thanos.training.monitor import KeepState
    KeepState.on_train_start = stop
run()
"""


def stopped(phase, words, folder):
    """The exit code of a command that is stopped there, and what it says; past its imports this process's forks do."""
    if phase == "importing":
        ended = subprocess.run([sys.executable, "-c", STOPPED, phase, *words], capture_output=True, text=True)
        return ended.returncode, ended.stderr
    import forked

    def start():
        sys.argv[:] = ["thanos", phase, *words]
        exec(STOPPED, {})

    ended = forked.command([], folder, before=start)
    return ended.code, ended.err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and waits as Linux does")
@pytest.mark.parametrize("phase", ["importing", "reading", "writing", "starting to train"])
def test_sigterm_ends_any_command_with_a_word_and_nothing_half_written(run, tmp_path, phase):
    folder = tmp_path / "a"
    shutil.copytree(run, folder)
    words = ["train", "--data", "digits", "--epochs", "1", "--out", str(tmp_path / "b")]
    words = words if phase == "starting to train" else ["geometry", str(folder)]
    if phase == "reading":
        run_command(["embed", str(folder)])
    before = sorted(path.name for path in folder.iterdir())
    code, err = stopped(phase, words, tmp_path)
    (said,) = err.splitlines()
    assert said.startswith("thanos: stopped")
    assert code == 128 + signal.SIGTERM
    assert sorted(path.name for path in folder.iterdir()) == before


LITTLE_MEMORY = (
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
)


@pytest.mark.parametrize("error", LITTLE_MEMORY, ids=lambda error: type(error).__name__)
def test_little_memory_is_no_fault_of_thanos(monkeypatch, capsys, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(sys.modules["thanos.cli.app"], "run_command", fail)
    with pytest.raises(SystemExit) as end:
        main(["check", "digits"])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("thanos: there is too little memory (")
    assert len(said.splitlines()) == 1


def test_a_fault_of_thanos_is_still_called_one(monkeypatch, capsys):
    def fail(*args):
        raise ImportError("No module named 'nowhere'")

    monkeypatch.setattr(sys.modules["thanos.cli.app"], "run_command", fail)
    with pytest.raises(SystemExit) as end:
        main(["check", "digits"])
    assert end.value.code == 1
    assert "a fault of thanos" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_a_library_that_does_not_fit_into_memory(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))"
    words = [
        sys.executable,
        "-c",
        f"{limit}; from thanos.__main__ import run; run()",
        "bench",
        "train",
        "--data",
        "digits",
    ]
    ended = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    if "OpenBLAS error" in ended.stderr:
        pytest.skip("OpenBLAS ended the process by itself")
    assert ended.returncode == 2, ended.stderr
    assert "too little memory" in ended.stderr
    assert "a fault of thanos" not in ended.stderr


def test_commands_that_add_numbers_at_once_lose_none(run, tmp_path, monkeypatch):
    folder = RunDir(tmp_path / "a")
    shutil.copytree(run, folder.path)
    monkeypatch.setattr(RunDir, "metrics", lambda run, read=RunDir.metrics: (read(run), time.sleep(0.05))[0])
    threads = [threading.Thread(target=folder.add_metrics, args=({f"number {k}": k},)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert {f"number {k}": k for k in range(4)}.items() <= folder.metrics().items()
    assert {path.name for path in folder.path.iterdir()} == {path.name for path in run.iterdir()}


@pytest.mark.parametrize(("subcommand", "leaves"), [("discover", "subclasses.csv"), ("robust", "robust-portfolio.npz")])
def test_what_belongs_together_is_written_by_one_command_at_a_time(run, tmp_path, monkeypatch, subcommand, leaves):
    folder = tmp_path / "a"
    shutil.copytree(run, folder)
    seen = []

    def locked(path, content):
        if path.name == leaves.replace(".npz", ".json").replace(".csv", ".json"):
            other = FileLock(path.with_name(f".{leaves}.lock"))
            with pytest.raises(Timeout):
                other.acquire(timeout=0)
            seen.append(path)
        write_marked_json(path, content)

    home = import_module("thanos.cli.robust" if subcommand == "robust" else "thanos.subclasses.table")
    monkeypatch.setattr(home, "write_marked_json", locked)
    run_command([subcommand, str(folder)])
    assert len(seen) == 1
    assert not list(folder.glob(".*.lock"))


LEFT = """
import os, signal, sys
from pathlib import Path
from thanos.storage import write_text
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_text(Path(sys.argv[1]) / "page.html", "half")
"""
WRITES = """
import os, sys
from pathlib import Path
from thanos.storage import write_text
write_text(Path(sys.argv[1]) / "other.txt", "whole")
"""


def test_what_a_killed_write_leaves_goes_with_the_next_command_there(tmp_path):
    (tmp_path / ".mine.thanos-partly").write_text("mine")
    (tmp_path / "thesis.thanos-part").write_text("mine")
    subprocess.run([sys.executable, "-c", LEFT, str(tmp_path)])
    assert len(list(tmp_path.glob(".page.html.*.thanos-part"))) == 1
    subprocess.run([sys.executable, "-c", WRITES, str(tmp_path)], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {".mine.thanos-partly", "thesis.thanos-part", "other.txt"}


def test_what_another_process_is_writing_stays(tmp_path):
    def write(file):
        file.write(b"first half, ")
        file.flush()
        subprocess.run([sys.executable, "-c", WRITES, str(tmp_path)], check=True)
        file.write(b"second half")

    write_atomically(tmp_path / "page.html", write)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "page.html": "first half, second half",
        "other.txt": "whole",
    }


def test_what_a_killed_filling_of_the_cache_leaves_goes_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0123abcd.x1y2z3_w.part").write_bytes(b"half")
    cached_array("key", (4,), lambda out: None, dtype=np.uint8, folder="images", what="images")
    assert [path.name for path in folder.iterdir()] == ["key.npy"]
