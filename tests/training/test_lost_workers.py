"""Images decoded by other processes: a process that ends, little shared memory, a file that goes, and Ctrl-C."""

import os
import shutil
import signal
import struct
import sys
import threading
import time
from multiprocessing import active_children
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from launching import Launched, mount_tmpfs
from thanos.cli import main
from thanos.config import RunConfig, TrainConfig
from thanos.data import batches, files
from thanos.data.load import load
from thanos.errors import Interrupted, NextBatchLost
from thanos.training.fit import train
from thanos.training.monitor import KeepState

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ends processes by signals, and mounts")


@pytest.fixture(scope="module", autouse=True)
def _decoded_at_every_use():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "IN_CACHE", 0)
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images") / "photos", np.random.default_rng(0)
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for i in range(80):
            pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def reference(photographs, tmp_path_factory):
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    train(settings(photographs), folder, run=quiet(0), say=silent)
    return folder


def settings(photographs, **changes) -> TrainConfig:
    return TrainConfig(**{"data": str(photographs), "method": "spread", "batch": 16, "epochs": 3} | changes)


def quiet(workers: int) -> RunConfig:
    return RunConfig(quiet=True, threads=1, workers=workers, checkpoint_minutes=60)


def silent(line: str) -> None: ...


def slow_from(monkeypatch, step: int) -> None:
    """From this batch on, decoding waits: the run waits for its next batch."""
    read = batches.BatchLoader.batch

    def batch(self, k):
        if k >= step:  # validation has fewer batches
            time.sleep(600)
        return read(self, k)

    monkeypatch.setattr(batches.BatchLoader, "batch", batch)


def weights(run) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_goes_on_to_the_same_end(photographs, run, reference, workers):
    """As if nothing had happened, from the step at which it was stopped."""
    said: list[str] = []
    train(settings(photographs), run, run=quiet(workers), say=said.append)
    ours, theirs = weights(run), weights(reference)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (run / "metrics.jsonl").read_text() == (reference / "metrics.jsonl").read_text()
    return next(line for line in said if "going on" in line)


def after_step(monkeypatch, step: int, act, seconds: float = 0.5) -> None:
    """``act`` half a second after that step, when the run waits for its next batch."""
    ended = KeepState.on_train_batch_end

    def at_step(self, trainer, module, *args):
        if module.batches_done == step:
            threading.Timer(seconds, act).start() if seconds else act()
        ended(self, trainer, module, *args)

    monkeypatch.setattr(KeepState, "on_train_batch_end", at_step)


def children() -> list[int]:
    """The processes that decode: children of this one."""
    return [process.pid for process in active_children()]


def test_a_worker_that_is_killed_ends_the_run_soon_with_its_state_saved(photographs, reference, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        slow_from(patched, 9)
        before = set(children())
        after_step(patched, 9, lambda: [os.kill(each, signal.SIGKILL) for each in set(children()) - before])
        started = time.monotonic()
        with pytest.raises(NextBatchLost, match=r"has ended, mostly for lack of memory\. .*`workers` \(0"):
            train(settings(photographs), tmp_path / "run", run=quiet(2), say=silent)
        assert time.monotonic() - started < 20
    said = assert_goes_on_to_the_same_end(photographs, tmp_path / "run", reference, 2)
    assert "at step 9 of" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_signal_ends_a_run_that_waits_for_images(
    photographs, reference, tmp_path, monkeypatch, number, workers
):
    with monkeypatch.context() as patched:
        slow_from(patched, 9)
        after_step(patched, 9, lambda: os.kill(os.getpid(), number))
        started = time.monotonic()
        with pytest.raises(Interrupted, match="at step 9; the same command again goes on") as stopped:
            train(settings(photographs), tmp_path / "run", run=quiet(workers), say=silent)
        assert time.monotonic() - started < 20
    assert stopped.value.exit_code == 128 + number
    assert_goes_on_to_the_same_end(photographs, tmp_path / "run", reference, workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_goes_while_it_is_trained_on(photographs, reference, tmp_path, monkeypatch, workers):
    """Two processes are at most 8 batches ahead, which is an epoch: in the third one at the latest they meet it."""
    images = load(settings(photographs))
    lost = Path(images.refs[images.rows("train")[0]])
    with monkeypatch.context() as patched:
        after_step(patched, 5, lambda: shutil.move(lost, tmp_path / "kept.png"), seconds=0)
        match = rf"can no longer be read: .*{lost.name}.*the same command then goes on"
        with pytest.raises(NextBatchLost, match=match):
            train(settings(photographs), tmp_path / "run", run=quiet(workers), say=silent)
    shutil.move(tmp_path / "kept.png", lost)
    train(settings(photographs), tmp_path / "run", run=quiet(workers), say=silent)
    ours, theirs = weights(tmp_path / "run"), weights(reference)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif(sys.platform.startswith("linux") and os.geteuid() != 0, reason="mounting takes root")
def test_almost_no_shared_memory_is_enough(photographs, tmp_path):
    """Containers have 64 MB; with 64 KB a run neither hangs nor complains: batches do not pass through it."""
    words = ["train", "--data", str(photographs), "--method", "spread", "--batch", "16", "--epochs", "1"]
    words += ["--workers", "2", "--out", str(tmp_path / "run"), "--quiet"]

    def work():
        mount_tmpfs("/dev/shm", "-o", "size=64k")
        main(words)

    found = Launched(work, tmp_path).end(timeout=120)
    if found.returncode == 77:
        pytest.skip("this machine does not let tests mount")
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_batches_of_workers_are_those_of_this_process(photographs):
    images = load(settings(photographs))
    order = batches.BatchOrder(images.superclass, 8, seed=0)
    group = np.arange(len(images)) % 3
    here, there = (
        list(batches.BatchLoader(images, np.arange(len(images)), order, 6, workers=workers, group=group))
        for workers in (0, 2)
    )
    assert [batch.number for batch in there] == [0, 1, 2, 3, 4, 5]
    for mine, other in zip(here, there, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine[:2], other[:2], strict=True))
        assert torch.equal(mine.group, other.group)


class HalfWritten:
    """A process dies as it hands a batch over: half of it lies in the pipe, and this process reads for the rest."""

    def __init__(self, connection):
        self._connection, self._sent = connection, 0

    def send_bytes(self, content):
        self._sent += 1
        if self._sent == 3 and len(content) > 10_000:
            os.write(self._connection.fileno(), struct.pack("!i", len(content)) + bytes(content[: len(content) // 2]))
            os.kill(os.getpid(), signal.SIGKILL)
        self._connection.send_bytes(content)


def test_a_worker_killed_while_it_hands_a_batch_over(photographs, reference, tmp_path, monkeypatch):
    feed = Queue._feed

    def half(buffer, notempty, send_bytes, *more):
        feed(buffer, notempty, HalfWritten(send_bytes.__self__).send_bytes, *more)

    with monkeypatch.context() as patched:
        patched.setattr(Queue, "_feed", staticmethod(half))
        started = time.monotonic()
        with pytest.raises(NextBatchLost, match="has ended"):
            train(settings(photographs), tmp_path / "run", run=quiet(2), say=silent)
        assert time.monotonic() - started < 20
    train(settings(photographs), tmp_path / "run", run=quiet(2), say=silent)
    ours, theirs = weights(tmp_path / "run"), weights(reference)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
