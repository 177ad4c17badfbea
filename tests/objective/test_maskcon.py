"""MaskCon against slow loops, and where it meets MoCo and SupCon; its bank against a plain list; exact resumption."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from thanos.config import RunConfig, TrainConfig
from thanos.encoders.heads import KeyBank
from thanos.errors import Interrupted
from thanos.objective.maskcon import maskcon_loss
from thanos.training.fit import train
from thanos.training.monitor import KeepState


def loops(queries, keys, superclass, bank, bank_superclass, temperature, label_temperature, soft):
    """The definition, entry by entry."""
    unit = [[row / np.linalg.norm(row) for row in rows] for rows in (queries, keys, bank)]
    q, k, b = unit
    total = 0.0
    for i in range(len(q)):
        there = [j for j in range(len(b)) if bank_superclass[j] >= 0]
        scores = {-1: q[i] @ k[i] / temperature} | {j: q[i] @ b[j] / temperature for j in there}
        norm = math.log(sum(math.exp(s) for s in scores.values()))
        mine = [j for j in there if bank_superclass[j] == superclass[i]]
        weights = {-1: 1.0}
        if mine:
            largest = max(k[i] @ b[j] for j in mine)
            weights |= {j: math.exp((k[i] @ b[j] - largest) / label_temperature) for j in mine}
        whole = sum(weights.values())
        for j, score in scores.items():
            label = soft * weights.get(j, 0.0) / whole + (1 - soft) * (j == -1)
            total -= label * (score - norm)
    return total / len(q)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    queries, keys, bank = (rng.normal(size=(n, 4)) for n in (5, 5, 9))
    return queries, keys, np.array([0, 1, 1, 2, 5]), bank, np.array([0, 1, 1, 2, 2, 0, -1, -1, 1])  # 5 is not there


@pytest.mark.parametrize("soft", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperatures", [(0.1, 0.05), (0.5, 1.0), (0.05, 0.005)])
def test_equals_the_definition_written_as_loops(batch, soft, temperatures):
    ours = maskcon_loss(
        *map(torch.from_numpy, batch), temperature=temperatures[0], label_temperature=temperatures[1], soft=soft
    )
    assert float(ours) == pytest.approx(loops(*batch, *temperatures, soft), rel=1e-10)


def test_gradient_reaches_the_queries_alone(batch):
    queries, keys, superclass, bank, kinds = map(torch.from_numpy, batch)
    for each in (queries, keys, bank):
        each.requires_grad_()
    options = {"temperature": 0.3, "label_temperature": 0.2, "soft": 0.7}
    assert gradcheck(lambda q: maskcon_loss(q, keys.detach(), superclass, bank.detach(), kinds, **options), queries)
    maskcon_loss(queries, keys, superclass, bank, kinds, **options).backward()
    assert keys.grad is None
    assert bank.grad is None


def test_without_soft_labels_it_is_a_classification_of_the_own_key(batch):
    queries, keys, superclass, bank, kinds = map(torch.from_numpy, batch)
    loss = maskcon_loss(queries, keys, superclass, bank, kinds, temperature=0.2, label_temperature=0.1, soft=0)
    q, k, b = (nn.functional.normalize(x, dim=1) for x in (queries, keys, bank[kinds >= 0]))
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ b.T], dim=1) / 0.2
    assert_close(loss, nn.functional.cross_entropy(logits, torch.zeros(5, dtype=torch.int64)))


def test_at_a_high_label_temperature_all_keys_of_the_superclass_are_positives(batch):
    queries, keys, superclass, bank, kinds = map(torch.from_numpy, batch)
    loss = maskcon_loss(queries, keys, superclass, bank, kinds, temperature=0.2, label_temperature=1e9, soft=1)
    q, k, b = (nn.functional.normalize(x, dim=1) for x in (queries, keys, bank))
    log_p = torch.cat([(q * k).sum(1, keepdim=True), (q @ b.T).masked_fill(kinds < 0, -1e30)], dim=1).div(0.2)
    positive = torch.cat([torch.ones(5, 1, dtype=torch.bool), superclass[:, None] == kinds], dim=1)
    mean = log_p.log_softmax(1).where(positive, 0).sum(1) / positive.sum(1)
    assert_close(loss, -mean.mean())


def test_bad_arguments_are_refused(batch):
    queries, keys, superclass, bank, kinds = map(torch.from_numpy, batch)
    with pytest.raises(ValueError, match="pairs queries"):
        maskcon_loss(queries, keys[:3], superclass, bank, kinds, temperature=1, label_temperature=1, soft=1)
    with pytest.raises(ValueError, match=r"soft lies in \[0, 1\]"):
        maskcon_loss(queries, keys, superclass, bank, kinds, temperature=1, label_temperature=1, soft=2)
    with pytest.raises(ValueError, match="one device"):
        TrainConfig(method="maskcon", devices=2)


def test_the_bank_keeps_the_newest_keys():
    bank = KeyBank(nn.Linear(2, 3), nn.Identity(), size=7, dim=3, momentum=0.9)
    seen = []
    rng = np.random.default_rng(0)
    for _ in range(6):
        keys, kinds = torch.from_numpy(rng.normal(size=(3, 3))).float(), torch.from_numpy(rng.integers(0, 4, 3))
        bank.keep(keys, kinds)
        seen += list(zip(keys.tolist(), kinds.tolist(), strict=True))
        held = [(k, y) for k, y in zip(bank.keys.tolist(), bank.superclass.tolist(), strict=True) if y >= 0]
        assert sorted(held) == sorted(seen[-7:])


def test_the_slow_weights_follow():
    quick = nn.Linear(2, 3)
    bank = KeyBank(quick, nn.Identity(), size=4, dim=3, momentum=0.9)
    before = quick.weight.detach().clone()
    with torch.no_grad():
        quick.weight.add_(1)
    view = torch.randn(4, 2)
    keys = bank.encode(view, quick, nn.Identity())
    assert_close(bank.slow[0].weight, 0.9 * before + 0.1 * (before + 1))
    assert_close(keys, bank.slow[0](view))
    assert not keys.requires_grad


def test_a_stopped_run_goes_on_exactly(tmp_path, monkeypatch):
    config = TrainConfig(method="maskcon", epochs=3, train_limit=512, projector=16, temperature=0.1, bank=300)
    quiet = RunConfig(quiet=True, threads=1)
    whole = train(config, tmp_path / "whole", run=quiet, say=lambda line: None)
    ends = KeepState.on_train_batch_end

    def stop_at_step_7(self, trainer, module, *args):
        self._received = 2 if module.batches_done == 7 else self._received
        ends(self, trainer, module, *args)

    monkeypatch.setattr(KeepState, "on_train_batch_end", stop_at_step_7)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "stopped", run=quiet, say=lambda line: None)
    monkeypatch.setattr(KeepState, "on_train_batch_end", ends)
    again = train(config, tmp_path / "stopped", run=quiet, say=lambda line: None)
    for name in ("model.safetensors", "best.safetensors"):
        assert (whole.folder / name).read_bytes() == (again.folder / name).read_bytes()
    lines = (whole.folder / "metrics.jsonl").read_text().splitlines()
    assert "train/maskcon" in lines[0]
