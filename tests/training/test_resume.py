"""A run that is killed and started again ends exactly as one that never stopped."""

import errno
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from thanos.cli import main
from thanos.config import RunConfig, TrainConfig
from thanos.data.files import manifest
from thanos.data.load import load
from thanos.errors import DataError, Interrupted, OutputError
from thanos.methods.branch import build_branches
from thanos.runs.checkpoint import read_checkpoint
from thanos.runs.encoder_io import Encoder
from thanos.storage import PART, write_atomically
from thanos.storage.locks import LOCK
from thanos.training import fit, monitor
from thanos.training.fit import train
from thanos.training.monitor import KeepState
from thanos.views import clean_view

# dropout, two encoders, alpha that moves, validation every 5 of 20 steps
CONFIG = TrainConfig(method="thanos", epochs=4, batch=16, train_limit=80, encoder="tiny", warmup=0.2, alpha="follow")
QUIET = RunConfig(quiet=True, threads=1)
OFTEN = QUIET.model_copy(update={"checkpoint_minutes": 1e-5})
"""A checkpoint after almost every step."""


def silent(line: str) -> None: ...


def run(folder: Path, how: RunConfig = QUIET) -> None:
    torch.set_num_threads(1)
    train(CONFIG, folder, run=how, say=silent)


def run_saving_often(folder: Path) -> None:
    run(folder, OFTEN)


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


def in_a_child(folder: Path, target=run_saving_often) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=target, args=(folder,))
    child.start()
    return child


@pytest.mark.parametrize("attempt", range(2))
def test_killed_at_random_moments(uninterrupted, tmp_path, attempt):
    rng = random.Random(attempt)
    folder, kills = tmp_path / "run", 0
    for _ in range(30):
        child = in_a_child(folder)
        child.join(timeout=rng.uniform(0.05, 0.5) if kills < 4 else None)
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
    run(folder, OFTEN)


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


@contextmanager
def signal_at(step: int, number: int = signal.SIGINT):
    """Trainings of this process get that signal at the end of that step."""
    ended = KeepState.on_train_batch_end

    def at_step(self, trainer, module, *args):
        if module.batches_done == step:
            os.kill(os.getpid(), number)
        ended(self, trainer, module, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(KeepState, "on_train_batch_end", at_step)
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(uninterrupted, tmp_path, number):
    folder, before = tmp_path / "run", signal.getsignal(number)
    with signal_at(12, number), pytest.raises(Interrupted, match="same command again goes on") as stopped:
        run(folder)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    state = torch.load(folder / "last.ckpt", weights_only=True)
    state["callbacks"]["KeepState"]["seconds"] += 1000  # as if it had been slow
    torch.save(state, folder / "last.ckpt")
    said = []
    train(CONFIG, folder, run=QUIET, say=said.append)
    assert any("going on" in line and "step 12 of 20" in line for line in said)
    assert_equal_runs(folder, uninterrupted)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 1000 < metrics["seconds"] < 1100
    assert metrics["images_per_second"] == pytest.approx(20 * CONFIG.batch / metrics["seconds"], abs=0.1)


@pytest.fixture(scope="module")
def stopped_at_the_end(tmp_path_factory):
    """All steps are done, but nothing was exported."""

    def stop(*args):
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("at-the-end") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fit, "export_all", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    return folder


def test_stopped_after_the_last_step(uninterrupted, stopped_at_the_end, tmp_path):
    """Starting again only exports."""
    folder = tmp_path / "run"
    shutil.copytree(stopped_at_the_end, folder)
    assert not (folder / "model.safetensors").exists()
    run(folder)
    assert_equal_runs(folder, uninterrupted)
    assert json.loads((folder / "metrics.json").read_text())["final"]


ACCUMULATING = CONFIG.model_copy(update={"method": "spread", "accumulate": 2, "epochs": 3})


@pytest.fixture(scope="module")
def accumulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accumulated") / "run"
    train(ACCUMULATING, folder, run=OFTEN, say=silent)
    return folder


@pytest.mark.parametrize("step", [3, 5, 6])
def test_accumulated_gradients_are_not_lost(accumulated, tmp_path, step):
    with signal_at(step), pytest.raises(Interrupted):
        train(ACCUMULATING, tmp_path / "stopped", run=QUIET, say=silent)
    train(ACCUMULATING, tmp_path / "stopped", run=QUIET, say=silent)
    assert_equal_runs(tmp_path / "stopped", accumulated)


@pytest.mark.parametrize("left", [[], ["data.json"], [f".data.json.x1{PART}"], ["data.json", f".config.yaml.x2{PART}"]])
def test_a_start_that_was_killed_is_started_again(tmp_path, left):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_text(manifest(load(CONFIG)) if name == "data.json" else "half")
    train(CONFIG.model_copy(update={"epochs": 1}), folder, run=QUIET, say=silent)
    assert (folder / "metrics.json").exists()


def test_weights_stay_ordinary_when_an_encoder_moves(tmp_path):
    """Moving a module inside inference mode would freeze its weights for good (on another device; here: dtype)."""
    module = build_branches(CONFIG, channels=1, size=(8, 8), superclasses=2)["contrastive"].encoder
    encoder = Encoder(module, card=None, device=torch.float64)
    encoder.card = SimpleNamespace(channels=1, size=(8, 8), mean=(0.3,), std=(0.4,), dim=128)
    images = load(CONFIG)
    with pytest.raises(RuntimeError, match="should be the same"):  # float64 weights meet float32 images
        encoder._run(images, images.own, 8, lambda pixels: clean_view(pixels, mean=(0.3,), std=(0.4,)))
    assert not any(p.is_inference() for p in module.parameters())


def test_a_finished_run_is_returned_as_it_is(uninterrupted):
    weights = (uninterrupted / "model.safetensors").stat().st_mtime_ns
    said = []
    train(CONFIG, uninterrupted, run=QUIET, say=said.append)
    assert any("finished" in line for line in said)
    assert (uninterrupted / "model.safetensors").stat().st_mtime_ns == weights


def test_thanos_equals_its_two_halves_trained_alone(uninterrupted, tmp_path):
    """So tables may build THANOS from one spread and one cauto run."""
    together = load_file(uninterrupted / "model.safetensors")
    images = load(CONFIG)
    for part, method in enumerate(("spread", "cauto")):
        config = CONFIG.model_copy(update={"method": method})
        train(config, tmp_path / method, images=images, run=QUIET, say=silent)
        alone = load_file(tmp_path / method / "model.safetensors")
        assert all(torch.equal(together[f"parts.{part}.{key}"], value) for key, value in alone.items())


@pytest.fixture(scope="module")
def stopped_midway(tmp_path_factory):
    """A run stopped at step 12 of 20, with its state saved."""
    folder = tmp_path_factory.mktemp("midway") / "run"
    with signal_at(12), pytest.raises(Interrupted):
        run(folder)
    return folder


@pytest.fixture
def stopped(stopped_midway, tmp_path):
    """A copy, to go on with."""
    return shutil.copytree(stopped_midway, tmp_path / "run")


def cut(file: Path) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[: len(lines) // 3]))


def cut_within_a_line(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def runs_on(file: Path) -> None:
    file.write_text(file.read_text() + json.dumps({"step": 11, "validation/superclass_accuracy": 0.123}) + "\n")


def is_something_else(file: Path) -> None:
    file.write_text("{}\n{")


@pytest.mark.parametrize("harm", [Path.unlink, cut, cut_within_a_line, runs_on, is_something_else])
@pytest.mark.parametrize("at_the_end", [True, False])
def test_metrics_are_those_of_the_checkpoint_whatever_became_of_their_file(
    uninterrupted, stopped_midway, stopped_at_the_end, tmp_path, harm, at_the_end
):
    folder = shutil.copytree(stopped_at_the_end if at_the_end else stopped_midway, tmp_path / "run")
    harm(folder / "metrics.jsonl")
    run(folder)
    assert_equal_runs(folder, uninterrupted)
    final = [json.loads((each / "metrics.json").read_text())["final"] for each in (folder, uninterrupted)]
    assert final[0] == final[1]
    name = "validation/superclass_accuracy"
    assert final[0][name] == [line[name] for line in metric_lines(uninterrupted) if name in line][-1]


def test_a_damaged_byte_in_a_checkpoint_is_refused_in_a_line(uninterrupted, stopped, capsys):
    """Or it lies where nothing is kept, and the run ends as ever."""
    file = stopped / "last.ckpt"
    whole, rng = file.read_bytes(), random.Random(0)
    words = ["train", "--method", "thanos", "--epochs", "4", "--batch", "16", "--train-limit", "80"]
    words += ["--encoder", "tiny", "--warmup", "0.2", "--alpha", "follow", "--out", str(stopped), "--quiet"]
    refused = 0
    for place in [0, 40, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(40))]:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            read_checkpoint(file)
        except DataError:
            refused += 1
            if refused > 3:
                continue  # the command reads it by the same function
            with pytest.raises(SystemExit) as end:
                main(words)
            err = capsys.readouterr().err
            assert end.value.code == 2
            assert len(err.splitlines()) == 1
            assert "last.ckpt is none, or was damaged. Bring back a copy, or remove it" in err
            assert not (stopped / "metrics.json").exists()
    assert refused > 35
    for content in (b"", whole[: len(whole) // 2], b"PK not a zip", whole.replace(b"state_dict", b"state_dicx")):
        file.write_bytes(content)
        with pytest.raises(DataError):
            read_checkpoint(file)
    file.write_bytes(whole)
    run(stopped)
    assert_equal_runs(stopped, uninterrupted)


def test_a_checkpoint_of_something_else_is_refused(stopped):
    torch.save({"loops": {}, "state_dict": {}}, stopped / "last.ckpt")
    with pytest.raises(DataError, match=r"is not the state of this run .*Remove it to start anew"):
        run(stopped)
    state = {"fit_loop": {"state_dict": {"combined_loader": [{"position": 3}]}}}
    torch.save({"loops": state, "state_dict": {"a": torch.ones(1)}, "callbacks": {}}, stopped / "last.ckpt")
    with pytest.raises(DataError, match="is not the state of this run"):
        run(stopped)
    assert (stopped / "last.ckpt").exists()


def test_the_lock_of_a_run_that_was_killed_at_its_end_goes_with_the_next_command(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / LOCK).touch()
    train(CONFIG, tmp_path / "run", run=QUIET, say=silent)
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize(("then", "said"), [("threads: 1", ""), ("threads: 64", "threads: 64, "), ("", "")])
def test_going_on_elsewhere_says_that_bytes_may_differ(uninterrupted, tmp_path, then, said):
    """Told from the log; a log of an earlier version tells nothing."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    log = tmp_path / "run" / "run.log"
    log.write_text(log.read_text().replace("threads: 1", then) if then else "")
    lines = []
    train(CONFIG, tmp_path / "run", run=QUIET, say=lines.append)
    told = [line for line in lines if line.startswith("bytes may differ")]
    assert len(told) == bool(said)
    assert all(said in line and "threads: 1, " in line for line in told)
    assert "threads: 1" in log.read_text()
