"""A run that is killed and started again ends exactly as one that never stopped."""

import errno
import io
import json
import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from thanos.config import RunConfig, TrainConfig
from thanos.data.load import load
from thanos.errors import Interrupted, OutputError
from thanos.storage import write_atomically
from thanos.training.fit import train
from thanos.training.monitor import KeepState

# dropout, two encoders, validation every 10 steps; a checkpoint after almost every step
CONFIG = TrainConfig(method="thanos", epochs=6, batch=128, train_limit=640, encoder="tiny", warmup=0.2)
OFTEN = RunConfig(quiet=True, threads=1, checkpoint_minutes=1e-5)


def silent(line: str) -> None: ...


def run(folder: Path) -> None:
    torch.set_num_threads(1)
    train(CONFIG, folder, run=OFTEN, say=silent)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "run"
    run(folder)
    return folder


def assert_equal_runs(folder: Path, reference: Path) -> None:
    for name in ("model.safetensors", "best.safetensors"):
        ours, theirs = load_file(folder / name), load_file(reference / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    assert metric_lines(folder) == metric_lines(reference)


def metric_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def in_a_child(folder: Path, target=run) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=target, args=(folder,))
    child.start()
    return child


@pytest.mark.parametrize("attempt", range(2))
def test_killed_at_random_moments(uninterrupted, tmp_path, attempt):
    rng = random.Random(attempt)
    folder, kills = tmp_path / "run", 0
    for _ in range(30):
        child = in_a_child(folder)
        child.join(timeout=rng.uniform(0.3, 1.2) if kills < 4 else None)
        if child.exitcode is None:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            kills += 1
        else:
            assert child.exitcode == 0
            break
    assert kills > 0
    assert_equal_runs(folder, uninterrupted)


def run_until_a_checkpoint_is_half_written(folder: Path) -> None:
    """The 12th checkpoint: half of its bytes reach the disk, then the process is gone."""
    save, count = torch.save, 0

    def half(checkpoint, file, *args, **kwargs):
        nonlocal count
        count += 1
        buffer = io.BytesIO()
        save(checkpoint, buffer, *args, **kwargs)
        file.write(buffer.getvalue()[: buffer.tell() // (2 if count == 12 else 1)])
        if count == 12:
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    run(folder)


def test_killed_while_a_checkpoint_is_written(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    child = in_a_child(folder, run_until_a_checkpoint_is_half_written)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert any(path.name.startswith(".") and path.stat().st_size for path in folder.iterdir())  # the half-written one
    run(folder)
    assert_equal_runs(folder, uninterrupted)
    assert not any(path.name.startswith(".") for path in folder.iterdir())


def test_a_write_that_fails_midway_leaves_the_old_file(tmp_path):
    file = tmp_path / "last.ckpt"
    file.write_bytes(b"old")

    def fail(stream):
        stream.write(b"new, but ")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="No space left"):
        write_atomically(file, fail)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(uninterrupted, tmp_path, monkeypatch, number):
    folder, steps = tmp_path / "run", []

    def at_step_17(self, trainer, module, *args):
        steps.append(trainer.global_step)
        if len(steps) == 17:
            os.kill(os.getpid(), number)
        ended(self, trainer, module, *args)

    ended = KeepState.on_train_batch_end
    with monkeypatch.context() as patched:
        patched.setattr(KeepState, "on_train_batch_end", at_step_17)
        with pytest.raises(Interrupted, match="same command again goes on") as stopped:
            train(CONFIG, folder, run=RunConfig(quiet=True, threads=1), say=silent)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    said = []
    train(CONFIG, folder, run=RunConfig(quiet=True, threads=1), say=said.append)
    assert any("going on" in line and "step 17 of 30" in line for line in said)
    assert_equal_runs(folder, uninterrupted)


def test_a_finished_run_is_returned_as_it_is(uninterrupted):
    weights = (uninterrupted / "model.safetensors").stat().st_mtime_ns
    said = []
    train(CONFIG, uninterrupted, run=OFTEN, say=said.append)
    assert any("finished" in line for line in said)
    assert (uninterrupted / "model.safetensors").stat().st_mtime_ns == weights


def test_thanos_equals_its_two_halves_trained_alone(uninterrupted, tmp_path):
    """So tables may build THANOS from one spread and one cauto run."""
    together = load_file(uninterrupted / "model.safetensors")
    images = load(CONFIG)
    for part, method in enumerate(("spread", "cauto")):
        config = CONFIG.model_copy(update={"method": method})
        train(config, tmp_path / method, images=images, run=OFTEN, say=silent)
        alone = load_file(tmp_path / method / "model.safetensors")
        assert all(torch.equal(together[f"parts.{part}.{key}"], value) for key, value in alone.items())
