"""A step outside the Trainer is the Trainer's; its parts are all there; what does not fit is answered by what does."""

import os
import sys
from dataclasses import replace

import pytest
import torch

from launching import Launched
from thanos import registry
from thanos.cli import run_command
from thanos.config import RunConfig, TrainConfig
from thanos.data.batches import BatchLoader, BatchOrder
from thanos.data.load import load
from thanos.errors import ConfigError, OutputError
from thanos.methods import branch as methods
from thanos.methods import contrastive
from thanos.runs.run_dir import RunDir
from thanos.training.bench import PARTS, TrainingStep, parts_of_a_step, seconds_a_step
from thanos.training.fit import train
from thanos.training.memory import largest_batch
from thanos.training.module import draw_seed

QUIET = RunConfig(quiet=True, threads=1)


def silent(line: str) -> None: ...


@pytest.mark.parametrize("method", sorted(registry.methods()))
def test_every_part_of_every_methods_step_takes_time(method):
    config = TrainConfig(method=method, batch=64)
    images = load(config)
    parts = parts_of_a_step(config, images, steps=2)
    assert tuple(parts) == PARTS
    assert all(seconds > 0 for seconds in parts.values())
    assert seconds_a_step(config, images, steps=1) > 0


@pytest.mark.parametrize("method", ["spread", "thanos"])
def test_the_gradient_is_that_of_the_sum_of_all_losses(method):
    config = TrainConfig(method=method, batch=64)
    images = load(config)
    ours = TrainingStep(config, images)
    ours._optimizer.zero_grad = ours._optimizer.step = lambda: None
    ours()
    whole = TrainingStep(config, images)
    batch, module = whole._loader.batch(0), whole._module
    losses = []
    for name, work in methods.steps_of(config).items():
        rng = torch.Generator().manual_seed(draw_seed(config.seed, 0, 0))
        terms = work(module.branches[name], batch.images, batch.superclass, module.settings, rng)
        losses.append(methods.total(terms, method))
    torch.stack(losses).sum().backward()
    pairs = list(zip(ours._module.branches.parameters(), module.branches.parameters(), strict=True))
    assert all(torch.allclose(a.grad, b.grad, atol=1e-7) for a, b in pairs if b.grad is not None)
    assert sum(b.grad is not None for _, b in pairs) > 10


def test_the_subcommand_prints_the_parts_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(["bench", "train", "--method", "spread", "--batch", "64", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert all(part in said for part in (*PARTS, "images per second", "limit", "--precision bf16-mixed"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("least", "found"), [(100, 64), (64, 64), (63, 32), (2, 2), (1, None)])
def test_the_largest_batch_that_fits(least, found):
    assert largest_batch(lambda batch: batch <= least, 128) == found


def test_too_large_a_batch_is_answered_by_one_that_fits(tmp_path, monkeypatch):
    def greedy(views, *args, **options):
        if views.shape[1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return loss(views, *args, **options)

    loss = contrastive.spread_loss
    monkeypatch.setattr(contrastive, "spread_loss", greedy)
    with pytest.raises(ConfigError, match="`batch=128` needs more memory than there is; `batch=16` fits"):
        train(TrainConfig(method="spread", batch=128, train_limit=160), tmp_path / "run", run=QUIET, say=silent)
    assert not (tmp_path / "run").exists()
    train(TrainConfig(method="spread", batch=16, train_limit=160, epochs=1), tmp_path / "run", run=QUIET, say=silent)


def test_images_that_stay_on_the_device_make_the_same_batches():
    images = load(TrainConfig())
    rows = images.rows("train")
    order = BatchOrder(images.superclass[rows], 32, 0)
    group = images.superclass + 5
    plain, resident = (
        BatchLoader(images, rows, order, 50, rank=1, world=2, group=group, resident=home)
        for home in (None, torch.device("cpu"))
    )
    for a, b in zip(plain, resident, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.superclass, b.superclass)
        assert torch.equal(a.group, b.group)
        assert a.number == b.number


def test_another_number_of_processes_cannot_go_on_with_a_run(tmp_path):
    config = TrainConfig(method="spread", batch=64, epochs=1)
    out = tmp_path / "run"
    train(config, out, run=QUIET, say=silent)
    (out / "metrics.json").unlink()
    (out / "manifest.json").unlink()  # which would know that this is another checkpoint
    state = torch.load(out / "last.ckpt", weights_only=True)
    state["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["world"] = 4
    torch.save(state, out / "last.ckpt")
    with pytest.raises(ConfigError, match=r"started on 4 processes.*here are 1\. Go on with as many `devices`"):
        train(config, out, run=QUIET, say=silent)
    assert (out / "last.ckpt").exists()


def test_processes_with_other_labels_all_refuse(tmp_path):
    """On one machine of two somebody changed a label."""
    config = TrainConfig(method="spread", batch=32, epochs=1, accelerator="cpu", devices=2)

    def work():
        rank, images = int(os.environ.get("LOCAL_RANK", "0")), load(config)
        if rank == 1:
            superclass = images.superclass.copy()
            superclass[0] = 1 - superclass[0]
            images = replace(images, superclass=superclass)
        try:
            train(config, tmp_path / "out", images=images, run=RunConfig(threads=1))
        except ConfigError as error:
            (tmp_path / f"said-{rank}.txt").write_text(str(error))
            sys.exit(2)

    ended = Launched(work, tmp_path).end(timeout=240)
    said = [(tmp_path / f"said-{rank}.txt").read_text() for rank in (0, 1)]
    assert ended.returncode == 2, ended.stderr
    assert all("differ in their images, labels or settings" in each for each in said)
    assert "process 1 has other images or labels than the first" in said[1]
    assert not (tmp_path / "out" / "last.ckpt").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="counts a GPU's synchronisations")
@pytest.mark.parametrize("method", ["supcon", "spread", "thanos"])
def test_a_step_never_waits_for_the_gpu(method):
    config = TrainConfig(method=method, batch=128)
    step = TrainingStep(config, load(config))
    for _ in range(2):
        step()
    step.wait()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_processes_that_are_not_the_first_look_at_settings_alone(tmp_path):
    """What the first one writes may be half there; another run's folder is refused by all."""
    config = TrainConfig(method="spread", batch=64, epochs=1)
    images = load(config)
    out = tmp_path / "run"
    assert RunDir(out).state(config, images, first=False) == "new"
    out.mkdir()
    (out / "data.json").write_text("{")
    assert RunDir(out).state(config, images, first=False) == "new"
    RunDir(out).write_start(config, images)
    changed = replace(images, superclass=1 - images.superclass)
    assert RunDir(out).state(config, changed, first=False) == "unfinished"
    with pytest.raises(OutputError, match="other images"):
        RunDir(out).state(config, changed)
    with pytest.raises(OutputError, match="holds another run"):
        RunDir(out).state(config.model_copy(update={"epochs": 2}), images, first=False)


def test_a_batch_too_small_for_alpha_does_not_hide_what_was_wrong(tmp_path, monkeypatch):
    def greedy(views, *args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(contrastive, "spread_loss", greedy)
    with pytest.raises(ConfigError, match="`batch=16` needs more memory than there is; use a smaller `batch`"):
        train(TrainConfig(method="spread", batch=16, train_limit=160), tmp_path / "run", run=QUIET, say=silent)
