"""What a run says and keeps: alpha and its window, the watch on the spread, logs, several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from launching import Launched
from thanos import registry
from thanos.cli import main
from thanos.config import RunConfig, TrainConfig, ViewSpec
from thanos.data.batches import BatchLoader, BatchOrder, balanced
from thanos.data.load import load
from thanos.errors import OutputError
from thanos.methods.alpha import solve_alpha
from thanos.storage.locks import only_one
from thanos.training.fit import train
from thanos.training.module import warmup_cosine
from thanos.training.monitor import SpreadWatch
from thanos.training.settings import describe_alpha, resolve_settings, warn_of_batches

QUIET = RunConfig(quiet=True, threads=1)


def test_alpha_auto_is_solved_for_this_run():
    images = load(TrainConfig())
    settings, window = resolve_settings(TrainConfig(batch=64), images)
    assert window == solve_alpha(2, 64, 0.5, 0.6)
    assert settings.alpha == window.alpha
    (line,) = describe_alpha(settings, window, images)
    assert f"alpha {window.alpha:.3f} (auto)" in line
    assert f"collapse below {window.collapse:.3f}, dissolve above {window.dissolve:.3f}" in line


@pytest.mark.parametrize("wanted", [0.35, 0.75])
def test_alpha_that_follows_reaches_the_wanted_spread(tmp_path, wanted):
    small = {"epochs": 25, "batch": 32, "train_limit": 320}
    config = TrainConfig(method="spread", alpha="follow", within_class_cosine=wanted, **small)
    said = []
    run = train(config, tmp_path / "run", run=QUIET, say=said.append)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    measured = [line["spread/within"] for line in lines if "spread/within" in line]
    alphas = [line["spread/alpha"] for line in lines if "spread/alpha" in line]
    assert np.mean(measured[-20:]) == pytest.approx(wanted, abs=0.06)
    assert alphas[0] == pytest.approx(solve_alpha(2, 32, 0.5, wanted).alpha)
    assert abs(alphas[-1] - alphas[0]) > 0.02
    assert run.metrics["alpha"] == pytest.approx(alphas[-1], abs=0.01)
    assert any(f"then towards a measured cosine of {wanted:g}" in line for line in said)


@pytest.mark.parametrize(("alpha", "said"), [(0.1, "collapse; raise it"), (0.95, "dissolve; lower it"), (0.6, None)])
def test_a_number_outside_the_window_is_taken_with_a_warning(alpha, said):
    images = load(TrainConfig())
    settings, window = resolve_settings(TrainConfig(alpha=alpha, method="spread"), images)
    assert settings.alpha == alpha
    warnings = [line for line in describe_alpha(settings, window, images) if "warning" in line]
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_the_data_sets_augmentation_is_used_where_none_is_given():
    images = load(TrainConfig())
    assert resolve_settings(TrainConfig(), images)[0].views == images.views
    assert images.views.flip == 0  # digits have a handedness
    given = resolve_settings(TrainConfig(views=ViewSpec(crop_scale=0.9)), images)[0].views
    assert given == images.views.model_copy(update={"crop_scale": 0.9})


class FakeTrainer:
    num_training_batches = 1000
    global_rank = 0


@pytest.mark.parametrize(
    ("method", "within", "between", "step", "said"),
    [
        ("supcon", 0.99, -0.9, 200, "a superclass has collapsed"),
        ("supcon", 0.99, -0.9, 50, None),
        ("supcon", 0.90, -0.9, 200, None),
        ("spread", 0.30, 0.28, 600, "dissolve"),
        ("spread", 0.30, 0.28, 200, None),
        ("spread", 0.60, -0.5, 600, None),
        ("infonce", 0.30, 0.28, 600, None),
        ("infonce", 0.995, 0.99, 200, "all embeddings are equal"),
        ("spread", 0.995, 0.99, 600, "all embeddings are equal"),
        ("supcon", 0.995, 0.99, 50, None),
    ],
)
def test_the_watch_says_once_what_happens(method, within, between, step, said):
    from thanos.methods.branch import StepSettings, build_branches
    from thanos.training.module import TrainingModule

    config = TrainConfig(method=method)
    settings = StepSettings(config, 0.6, ViewSpec(), (0.5,), (0.5,))
    module = TrainingModule(
        settings, build_branches(config, channels=1, size=(8, 8), superclasses=2), total_batches=1000, log_every=1
    )
    lines = []
    watch = SpreadWatch(registry.method(method), lines.append)
    for offset in range(20):
        module.batches_done = step + offset
        module.latest = {"spread/within": within, "spread/within_largest": within, "spread/between": between}
        watch.on_train_batch_end(FakeTrainer(), module)
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


@pytest.mark.parametrize(("corrected", "formed", "said"), [(False, 300, 1), (True, 300, 0), (True, 700, 1)])
def test_what_is_over_by_the_end_is_no_alarm(corrected, formed, said):
    """Alpha that follows has half of the training for it; and what is said stands only as long as it is so."""
    from thanos.methods.branch import StepSettings, build_branches
    from thanos.training.module import TrainingModule

    config = TrainConfig(method="spread")
    settings = StepSettings(config, 0.6, ViewSpec(), (0.5,), (0.5,))
    module = TrainingModule(
        settings, build_branches(config, channels=1, size=(8, 8), superclasses=2), total_batches=1000, log_every=1
    )
    lines = []
    watch = SpreadWatch(registry.method("spread"), lines.append, corrected=corrected)

    def see(within, step):
        module.batches_done = step
        module.latest = {"spread/within": within, "spread/within_largest": within, "spread/between": -0.3}
        watch.on_train_batch_end(FakeTrainer(), module)

    for offset in range(20):
        see(0.99, formed + offset)
    assert len(lines) == said
    assert watch.standing == lines
    see(0.6, formed + 20)
    assert watch.standing == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"views": ViewSpec(crop_scale=1, flip=0, jitter=0, grey=0)}, "dead views"),
        ({"views": ViewSpec(crop_scale=1, flip=0, brightness=0, contrast=0, hue=0.1, grey=0.2)}, "dead views"),
        ({"views": ViewSpec(crop_scale=1, flip=0, jitter=0, grey=0), "method": "cauto"}, None),
        ({"labels": "subclass", "batch": 4}, "anchors without positives"),
        ({"labels": "subclass", "batch": 4, "method": "infonce"}, None),
        ({"labels": "subclass", "batch": 128}, None),
    ],
)
def test_what_will_not_do_is_said_at_the_start(changes, said):
    """Digits are grey: hue and saturation change nothing in them."""
    config = TrainConfig(**({"method": "supcon"} | changes))
    images = load(config)
    settings, _ = resolve_settings(config, images)
    order = BatchOrder(images.superclass[images.rows("train")], config.batch, 0)
    lines = warn_of_batches(settings, images, order)
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


def test_a_collapsing_run_says_so(tmp_path):
    """SupCon on digits at a high rate: the watch speaks in a real run."""
    said = []
    small = {"epochs": 20, "batch": 32, "train_limit": 160}
    still = ViewSpec(crop_scale=1, flip=0, jitter=0, grey=0)
    config = TrainConfig(method="supcon", learning_rate=5e-3, views=still, **small)
    run = train(config, tmp_path / "run", run=QUIET, say=said.append)
    assert any("has collapsed at step" in line for line in said)
    alarms = run.metrics["alarms"]
    assert len(alarms) == 2  # and the views were dead
    assert set(alarms) <= set(said)


def test_a_run_returns_its_last_weights_and_keeps_its_best_beside(tmp_path):
    config = TrainConfig(method="spread", epochs=6, batch=32, train_limit=160)
    run = train(config, tmp_path / "run", run=QUIET, say=print)
    last, best = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("model", "best"))
    assert all(torch.equal(value, last[key]) for key, value in run.encoder.module.state_dict().items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    accuracy = [line["validation/superclass_accuracy"] for line in lines if "validation/superclass_accuracy" in line]
    assert len(accuracy) == 6
    is_last_best = accuracy[-1] > max(accuracy[:-1])
    assert all(torch.equal(best[key], last[key]) for key in last) == is_last_best


def test_the_rate_warms_up_and_falls_to_zero_along_one_cosine():
    rates = [warmup_cosine(step, 100, 10) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in pairwise(rates[9:]))


def test_every_image_is_met_once_an_epoch_in_a_fresh_order():
    order = BatchOrder(np.zeros(64, dtype=int), batch=16, seed=3)
    epochs = [np.concatenate([order.rows(4 * e + k) for k in range(4)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(64))
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(BatchOrder(np.zeros(64, dtype=int), batch=16, seed=3).rows(7), order.rows(7))


@pytest.mark.parametrize("count", [1, 10, 300])
def test_class_balance(count):
    label = np.repeat([4, 7, 9], [100, 10, 2])
    drawn = balanced(label, count, np.random.default_rng(0))
    sizes = [(label[drawn] == value).sum() for value in (4, 7, 9)]
    assert max(sizes) - min(sizes) <= 1
    if count == 300:
        _, times = np.unique(drawn[label[drawn] == 7], return_counts=True)
        assert set(times) == {10}  # images of a small class come round in turn


def test_processes_share_each_batch():
    images = load(TrainConfig())
    rows = images.rows("train")
    order = BatchOrder(images.superclass[rows], 32, 0)
    parts = [BatchLoader(images, rows, order, 4, rank=r, world=2).batch(3).images for r in range(2)]
    whole = BatchLoader(images, rows, order, 4).batch(3).images
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)


def test_images_from_files_come_through_workers(tmp_path, monkeypatch):
    """Too large for the cache: decoded on demand by worker processes, with the same outcome."""
    from PIL import Image

    from thanos.data import files

    rng = np.random.default_rng(0)
    for i in range(60):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    config = TrainConfig(data=str(tmp_path / "data"), method="spread", epochs=2, batch=16)
    train(config, tmp_path / "cached", run=QUIET, say=print)
    monkeypatch.setattr(files, "IN_CACHE", 0)
    train(config, tmp_path / "on-demand", run=RunConfig(quiet=True, threads=1, workers=2), say=print)
    cached, on_demand = (tmp_path / name / "model.safetensors" for name in ("cached", "on-demand"))
    assert cached.read_bytes() == on_demand.read_bytes()


def test_skipped_files_are_listed(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (tmp_path / "data" / "a" / 'bad, "name".png').write_bytes(b"x")
    config = TrainConfig(data=str(tmp_path / "data"), method="spread", epochs=1, batch=16, skip_bad=True)
    train(config, tmp_path / "run", run=QUIET, say=print)
    import csv

    with (tmp_path / "run" / "skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(tmp_path / "data" / "a" / 'bad, "name".png')]
    assert rows[0]["reason"]
    assert json.loads((tmp_path / "run" / "data.json").read_text())["skipped"] == 1


def test_two_processes_train_one_run(tmp_path):
    command = [sys.executable, "-m", "thanos", "train", "--epochs", "1", "--accelerator", "cpu", "--devices", "2"]
    options = ["--train-limit", "640", "--batch", "64", "--threads", "1", "--quiet", "--out", str(tmp_path / "run")]
    process = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("next: thanos discover") == 1
    assert process.stderr == ""
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 6))
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the second process in /proc")
def test_a_lost_process_ends_the_others_with_an_error(tmp_path):
    """One of two is killed; the other says so within a minute, and what was saved is still there."""
    out = tmp_path / "run"
    words = ["train", "--epochs", "500", "--accelerator", "cpu", "--devices", "2", "--checkpoint-minutes", "0.001"]
    words += ["--method", "spread", "--batch", "32", "--threads", "1", "--quiet", "--out", str(out)]
    first = Launched(lambda: main(words), tmp_path)
    try:
        wait_for(lambda: (out / "last.ckpt").exists())
        (second,) = children(first.pid)
        os.kill(second, signal.SIGKILL)
    finally:
        ended = first.end(timeout=60)
    assert ended.returncode not in (0, None)
    assert "another process of this run has ended" in ended.stderr
    assert (out / "last.ckpt").exists()


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def children(pid):
    """Of a process, on Linux."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_commands_do_not_train_into_one_folder(tmp_path):
    """The second is refused while the first holds the folder, and may go on once it does not."""
    out = tmp_path / "run"
    config = TrainConfig(epochs=1, train_limit=200)
    with only_one(out, "out"), pytest.raises(OutputError, match="another command is at work"):
        train(config, out, run=RunConfig(quiet=True, threads=1), say=lambda line: None)
    assert not (out / "config.yaml").exists()
    train(config, out, run=RunConfig(quiet=True, threads=1), say=lambda line: None)
    assert not (out / ".lock").exists()
    assert repr(train(config, out, say=lambda line: None)) == f"Run(folder={out!r})"
