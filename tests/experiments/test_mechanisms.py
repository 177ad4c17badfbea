"""What breaks the invariance: the constraint holds, the controls are at chance, the mechanisms are not."""

import json

import pytest
import torch
from torch import Generator

from thanos.experiments import mechanisms
from thanos.experiments.mechanisms import NONE, Condition, SphereEncoder, generated, measure


def largest_stretch(encoder: SphereEncoder, x: torch.Tensor) -> float:
    with torch.no_grad():
        y = encoder(x)
    apart = torch.pdist(x) > 1e-6
    return float((torch.pdist(y) / torch.pdist(x))[apart].max())


@pytest.mark.parametrize("bound", [1.0, 8.0])
def test_a_constrained_encoder_stretches_no_distance_beyond_its_bound(bound):
    torch.manual_seed(0)
    rng = Generator().manual_seed(1)
    x = torch.randn(200, 6, generator=rng)
    x = torch.cat([x, x + 1e-2 * torch.randn(x.shape, generator=rng)])
    encoder = SphereEncoder(6, mechanisms.ROUGH, bound)
    target = torch.nn.functional.normalize(torch.randn(400, mechanisms.DIM, generator=rng), dim=1)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for _ in range(30):  # towards random targets, for which it would have to tear neighbours apart
        optimizer.zero_grad()
        (encoder(x) - target).square().sum().backward()
        optimizer.step()
    assert largest_stretch(encoder.eval(), x) <= bound * 1.01
    assert largest_stretch(SphereEncoder(6, mechanisms.ROUGH, None), x) > 1
    rows = encoder(x)
    assert torch.allclose(rows.norm(dim=1), torch.ones(len(x)))


def test_alone_the_loss_leaves_subclasses_at_chance_and_the_autoencoder_does_not():
    problem = generated(2.0, seed=0)
    alone = measure(problem, NONE, 0)
    decoded = measure(problem, Condition("autoencoder", 1.0, decode=1.0), 0)
    assert alone["within"] == pytest.approx(mechanisms.SPREAD, abs=mechanisms.MATCHED)
    assert decoded["within"] == pytest.approx(mechanisms.SPREAD, abs=mechanisms.MATCHED)
    assert decoded["loss"] == pytest.approx(alone["loss"], abs=0.01)
    assert alone["purity"] < alone["purity_chance"] + 0.15
    assert decoded["purity"] > alone["purity"] + 0.4


def test_generated_subclasses_lie_as_far_apart_as_asked():
    problem = generated(3.0, seed=1, images=400)
    centres = torch.stack([problem.train.x[problem.train.subclass == s].mean(dim=0) for s in range(8)])
    assert torch.allclose(centres.norm(dim=1), torch.full((8,), 3.0), atol=0.2)
    around = problem.train.x - centres[problem.train.subclass]
    assert float(around.norm(dim=1).mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(problem.train.superclass, problem.train.subclass % 2)


def test_the_experiment_leaves_its_numbers_verdicts_and_picture(tmp_path, monkeypatch):
    problem = "generated, subclasses 2 apart"
    chosen = [condition for condition in mechanisms.CONDITIONS if condition.mechanism in ("none", "autoencoder")][:2]
    monkeypatch.setattr(mechanisms, "CONDITIONS", chosen)
    monkeypatch.setattr(mechanisms, "PROBLEMS", {problem: mechanisms.PROBLEMS[problem]})
    monkeypatch.setattr(mechanisms, "MECHANISMS", {"autoencoder": "weight"})
    monkeypatch.setattr(mechanisms, "STEPS", 60)
    monkeypatch.setattr(mechanisms, "MATCHED", 1.0)
    said = []
    mechanisms.mechanisms(tmp_path, said.append, seeds=2, jobs=1)
    stored = json.loads((tmp_path / "mechanisms.json").read_text())
    none, decoded = stored["conditions"]
    (verdict,) = stored["verdicts"]
    gain = verdict["gains"][str(decoded["strength"])]["purity"]
    differences = [b["purity"] - a["purity"] for a, b in zip(none["runs"], decoded["runs"], strict=True)]
    assert gain["mean"] == pytest.approx(sum(differences) / 2)
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert verdict["says"] in said[-1]
    assert (tmp_path / "mechanisms.png").stat().st_size > 10_000
