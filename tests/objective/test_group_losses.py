"""GroupDRO's weights against the published multiplicative form; fixed weights against hand-computed means."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from thanos.objective.robust import GroupDRO, GroupWeighted, group_means


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    return [(rng.gamma(1.0, 1.0, 32), rng.integers(0, 3, 32) + (k % 2)) for k in range(40)]  # 4 groups, some absent


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_weights_equal_the_multiplicative_form(batches, adjustment):
    sizes = np.array([100, 10, 1, 7])
    dro = GroupDRO(torch.from_numpy(sizes), step=0.3, adjustment=adjustment)
    q = np.full(4, 0.25)
    for losses, group in batches:
        mean = np.array([losses[group == g].mean() if (group == g).any() else 0.0 for g in range(4)])
        q = q * np.exp(0.3 * (mean + adjustment / np.sqrt(sizes)))
        q /= q.sum()
        loss = dro(torch.from_numpy(losses), torch.from_numpy(group))
        assert_close(dro.weights.double(), torch.from_numpy(q), rtol=1e-4, atol=1e-6)
        assert_close(loss.double(), torch.tensor(float(q @ mean), dtype=torch.float64), rtol=1e-4, atol=1e-6)


def test_weights_do_not_underflow_where_products_would():
    dro = GroupDRO(torch.tensor([5, 5]), step=10.0)
    for _ in range(200):
        dro(torch.tensor([0.0, 30.0]), torch.tensor([0, 1]))
    assert dro.weights.isfinite().all()
    for _ in range(400):
        dro(torch.tensor([30.0, 0.0]), torch.tensor([0, 1]))
    assert dro.weights[0] > 0.99  # a group whose weight had gone to zero comes back


def test_gradient_is_the_weighted_mean_of_the_groups(batches):
    losses, group = batches[0]
    dro = GroupDRO(torch.tensor([9, 9, 9, 9]), step=0.5)
    x = torch.from_numpy(losses).float().requires_grad_()
    dro(x, torch.from_numpy(group)).backward()
    count = np.bincount(group, minlength=4)
    assert_close(x.grad, (dro.weights / torch.tensor(np.maximum(count, 1)))[torch.from_numpy(group)].float())


def test_evaluation_leaves_the_weights():
    dro = GroupDRO(torch.tensor([3, 3])).eval()
    dro(torch.tensor([1.0, 9.0]), torch.tensor([0, 1]))
    assert_close(dro.weights, torch.tensor([0.5, 0.5]))


def test_an_empty_group_is_refused():
    with pytest.raises(ValueError, match="group 1 has none"):
        GroupDRO(torch.tensor([3, 0]))


def test_fixed_weights_average_one_over_the_training_images():
    sizes = torch.tensor([90, 10])
    weighted = GroupWeighted(1 / sizes.double(), sizes)
    assert_close((weighted.weight * sizes).sum() / 100, torch.tensor(1.0))
    assert_close(weighted.weight[1] / weighted.weight[0], torch.tensor(9.0))
    losses, group = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 1])
    assert_close(weighted(losses, group), (3 * weighted.weight[0] + 4 * weighted.weight[1]) / 3)


def test_means_of_absent_groups_are_zero():
    mean, count = group_means(torch.tensor([1.0, 3.0]), torch.tensor([2, 2]), 4)
    assert mean.tolist() == [0, 0, 2, 0]
    assert count.tolist() == [0, 0, 2, 0]
