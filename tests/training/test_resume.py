"""A run that is killed and started again ends exactly as one that never stopped."""

import errno
import io
import json
import multiprocessing
import os
import random
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from thanos.artefact import Encoder
from thanos.config import RunConfig, TrainConfig
from thanos.data.load import load
from thanos.errors import Interrupted, OutputError
from thanos.methods import build_branches
from thanos.storage import write_atomically
from thanos.training import fit, monitor
from thanos.training.fit import train
from thanos.training.monitor import KeepState
from thanos.views import clean_view

# dropout, two encoders, alpha that moves, validation every 10 steps; a checkpoint after almost every step
CONFIG = TrainConfig(method="thanos", epochs=6, batch=128, train_limit=640, encoder="tiny", warmup=0.2, alpha="follow")
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
    count = 0

    def half(path, write):
        nonlocal count
        count += 1
        write_atomically(path, write if count < 12 else partial(write_half_and_die, write))

    monitor.write_atomically = half
    run(folder)


def write_half_and_die(write, file) -> None:
    whole = io.BytesIO()
    write(whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


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
    state = torch.load(folder / "last.ckpt", weights_only=True)
    state["callbacks"]["KeepState"]["seconds"] += 1000  # as if it had been slow
    torch.save(state, folder / "last.ckpt")
    said = []
    train(CONFIG, folder, run=RunConfig(quiet=True, threads=1), say=said.append)
    assert any("going on" in line and "step 17 of 30" in line for line in said)
    assert_equal_runs(folder, uninterrupted)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 1000 < metrics["seconds"] < 1100
    assert metrics["images_per_second"] == pytest.approx(30 * CONFIG.batch / metrics["seconds"], abs=0.1)


def test_stopped_after_the_last_step(uninterrupted, tmp_path, monkeypatch):
    """All steps are done, but nothing was exported: starting again only exports."""
    folder = tmp_path / "run"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit, "_export_all", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    assert not (folder / "model.safetensors").exists()
    run(folder)
    assert_equal_runs(folder, uninterrupted)
    assert json.loads((folder / "metrics.json").read_text())["final"]


@pytest.mark.parametrize("step", [3, 5, 6])
def test_accumulated_gradients_are_not_lost(tmp_path, monkeypatch, step):
    config = CONFIG.model_copy(update={"method": "spread", "accumulate": 2, "epochs": 3})
    train(config, tmp_path / "whole", run=OFTEN, say=silent)
    steps, ended = [], KeepState.on_train_batch_end

    def at_step(self, trainer, module, *args):
        steps.append(module.batches_done)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGINT)
        ended(self, trainer, module, *args)

    with monkeypatch.context() as patched:
        patched.setattr(KeepState, "on_train_batch_end", at_step)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "stopped", run=RunConfig(quiet=True, threads=1), say=silent)
    train(config, tmp_path / "stopped", run=RunConfig(quiet=True, threads=1), say=silent)
    assert_equal_runs(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("left", [[], ["data.json"], [".data.json.x1"], ["data.json", ".config.yaml.x2"]])
def test_a_start_that_was_killed_is_started_again(tmp_path, left):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("")
    train(CONFIG.model_copy(update={"epochs": 1}), folder, run=OFTEN, say=silent)
    assert (folder / "metrics.json").exists()


def test_weights_stay_ordinary_when_an_encoder_moves(tmp_path):
    """Moving a module inside inference mode would freeze its weights for good (on another device; here: dtype)."""
    module = build_branches(CONFIG, channels=1, size=(8, 8), superclasses=2)["contrastive"].encoder
    encoder = Encoder(module, card=None, device=torch.float64)
    encoder.card = SimpleNamespace(channels=1, size=(8, 8), mean=(0.3,), std=(0.4,), dim=128)
    images = load(CONFIG)
    with pytest.raises(RuntimeError, match="should be the same"):  # float64 weights meet float32 images
        encoder._run(images, 8, lambda pixels: clean_view(pixels, mean=(0.3,), std=(0.4,)))
    assert not any(p.is_inference() for p in module.parameters())


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
