"""An ensemble of diverse prototypes against its definition, its gradients against autograd's."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from thanos.errors import DataError
from thanos.robust import prototypes as room
from thanos.robust.head import Head, Prototypes, read_head, standardise, write_head
from thanos.robust.prototypes import ENTROPIC, fit_prototypes, likeness, member_loss
from thanos.storage.arrays import MARK


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("diversity", [0.0, 50.0])
@pytest.mark.parametrize("sharp", [0.7, -1.3])
def test_loss_and_gradients_are_those_of_the_published_definition(diversity, sharp):
    """The paper's distances and cross-entropy by torch, as its code writes them, and autograd."""
    rng = np.random.default_rng(0)
    x, y = unit(rng, 12, 5), rng.integers(0, 3, 12)
    raw, earlier = 0.01 * rng.normal(size=(3, 5)), unit(rng, 3, 4, 5)
    p = torch.tensor(raw, requires_grad=True)
    s = torch.tensor(sharp, dtype=torch.float64, requires_grad=True)
    far = s.abs() * torch.cdist(torch.tensor(x), normalize(p), compute_mode="donot_use_mm_for_euclid_dist")
    alike = (normalize(p)[:, None] * torch.tensor(earlier)).sum(dim=2).abs()
    whole = cross_entropy(-ENTROPIC * far, torch.tensor(y)) + diversity * alike.mean()
    whole.backward()
    loss, by_raw, by_sharp = member_loss(raw, sharp, x, y, earlier, diversity)
    assert loss == pytest.approx(whole.item())
    np.testing.assert_allclose(by_raw, p.grad.numpy(), rtol=1e-6, atol=1e-9)
    assert by_sharp == pytest.approx(s.grad.item())


def test_of_a_first_member_nothing_is_alike():
    value, gradient = likeness(np.eye(2), np.zeros((2, 0, 2)))
    assert value == 0
    assert not gradient.any()


def test_probabilities_are_the_members_mean_by_hand():
    """Two members, two classes, an embedding at 90 degrees from one prototype and at 0 from the other."""
    prototypes = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, -1.0]]])
    head = Prototypes(prototypes, np.array([1.0, 3.0]), np.zeros(2), np.ones(2))
    first = 1 / (1 + np.exp(-np.sqrt(2)))  # distances 0 and the root of 2
    second = 0.5  # the root of 2 from both
    mean = (first + second) / 2
    np.testing.assert_allclose(head.probabilities(np.array([[7.0, 0.0]])), [[mean, 1 - mean]], atol=1e-5)


def two_ways(n=800, seed=0):
    """Either of two dimensions tells the class of an image, for half of the images each."""
    rng = np.random.default_rng(seed)
    y, way = rng.integers(0, 2, n), rng.integers(0, 2, n)
    x = rng.normal(size=(n, 10)) * 0.5
    x[np.arange(n), way] += 3 * (2 * y - 1)
    return x, y


def test_members_learn_and_diversity_keeps_them_apart():
    x, y = two_ways()
    fresh, true = two_ways(seed=1)
    heads = [fit_prototypes(standardise(x, y, 2), w, np.random.default_rng(0), members=5) for w in (0.0, 50.0)]
    alike = [likeness(h.prototypes[0], h.prototypes[1:].swapaxes(0, 1))[0] for h in heads]
    assert alike[1] < 0.02 < alike[0] - 0.1
    for head in heads:
        assert (head.predict(fresh) == true).mean() > 0.95
        np.testing.assert_allclose(np.linalg.norm(head.prototypes, axis=2), 1)
        np.testing.assert_allclose(head.probabilities(fresh).sum(axis=1), 1)


def test_it_survives_its_file_and_a_damaged_one_is_refused(tmp_path):
    x, y = two_ways()
    head = fit_prototypes(standardise(x, y, 2), 1.0, np.random.default_rng(0), members=2)
    write_head(head, ("a", "b"), tmp_path / "head.npz")
    again, names = read_head(tmp_path / "head.npz")
    np.testing.assert_array_equal(again.logits(x), head.logits(x))
    assert names == ("a", "b")
    with np.load(tmp_path / "head.npz") as kept:
        np.savez(
            tmp_path / "bad.npz",
            **{name: kept[name] for name in kept if name not in ("sharpness", MARK)},
            sharpness=[1.0],
        )
    with pytest.raises(DataError, match="do not fit together"):
        read_head(tmp_path / "bad.npz")
    write_head(Head(np.eye(2, 10), np.zeros(2), np.zeros(10), np.ones(10)), ("a", "b"), tmp_path / "linear.npz")
    assert isinstance(read_head(tmp_path / "linear.npz")[0], Head)


def test_members_descend_as_torchs_adam_does(monkeypatch):
    """One batch holds every image, so that their order plays no part."""
    monkeypatch.setattr(room, "EPOCHS", 1)
    monkeypatch.setattr(room, "STEPS", 7)
    rng = np.random.default_rng(0)
    x, y, earlier = unit(rng, 40, 5), rng.integers(0, 2, 40), unit(rng, 2, 3, 5)
    found, sharp = room._descend(x, y, earlier, 2.0, np.random.default_rng(3))
    p = torch.tensor(1e-2 * np.random.default_rng(3).normal(size=(2, 5)), requires_grad=True)
    s = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.Adam([p, s], lr=1e-3)
    for _ in range(7):
        descent.zero_grad()
        far = s.abs() * torch.cdist(torch.tensor(x), normalize(p))
        alike = (normalize(p)[:, None] * torch.tensor(earlier)).sum(dim=2).abs().mean()
        (cross_entropy(-ENTROPIC * far, torch.tensor(y)) + 2.0 * alike).backward()
        descent.step()
    np.testing.assert_allclose(found, normalize(p).detach().numpy(), atol=1e-5)
    assert sharp == pytest.approx(s.item(), abs=1e-6)
