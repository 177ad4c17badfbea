"""Losses that look at groups: the weights of GroupDRO, and weights that make groups count alike."""

import torch
from torch import Tensor, distributed, nn

from thanos.objective.gathered import is_alone


def group_means(losses: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean loss of each group, 0 where it is absent, and its images; each of shape (groups,).

    Args:
        losses: One for each image, shape (batch,).
        group: Ids below ``groups``, shape (batch,).
        groups: How many there are.
    """
    count = losses.new_zeros(groups).index_add_(0, group, torch.ones_like(losses))
    total = losses.new_zeros(groups).index_add_(0, group, losses)
    return total / count.clamp_min(1), count


class GroupWeighted(nn.Module):
    """The mean loss with a fixed weight for every group.

    Args:
        weight: Of each group, shape (groups,).
        sizes: Training images of each group, shape (groups,); weights are scaled to average one over them.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, sizes: Tensor):
        super().__init__()
        share = sizes.double() / sizes.sum()
        self.register_buffer("weight", (weight / (weight * share).sum()).float())

    def forward(self, losses: Tensor, group: Tensor) -> Tensor:
        """``mean of weight * loss``; both arguments of shape (batch,)."""
        return (self.weight[group] * losses).mean()


class GroupDRO(nn.Module):
    """The loss of the worst groups, by weights that grow with a group's loss. Source: Sagawa et al., ICLR 2020.

    Weights are kept as logits: ``z += step * (L_g + adjustment / sqrt(n_g))``, ``q = softmax(z)``, which equals the
    published ``q *= exp(...)`` and cannot underflow. The adjustment enters the weights and not the loss that is
    returned.

    Args:
        sizes: Training images of each group, shape (groups,), > 0.
        step: Of the weights, >= 0.
        adjustment: Makes up for small groups' optimism; 0: none.
    """

    logits: Tensor
    margin: Tensor

    def __init__(self, sizes: Tensor, *, step: float = 0.01, adjustment: float = 0.0):
        super().__init__()
        if (sizes <= 0).any():
            raise ValueError(
                f"GroupDRO weighs groups that have images; group {int((sizes <= 0).int().argmax())} has none."
            )
        self.step = step
        self.register_buffer("logits", torch.zeros(len(sizes)))
        self.register_buffer("margin", adjustment / sizes.float().sqrt())

    @property
    def weights(self) -> Tensor:
        """Of the groups, shape (groups,), summing to one."""
        return self.logits.softmax(dim=0)

    def forward(self, losses: Tensor, group: Tensor) -> Tensor:
        """``sum of q_g L_g`` over the groups of a batch; in training the weights take their step first.

        Args:
            losses: One for each image, shape (batch,).
            group: Ids, shape (batch,).
        """
        mean, count = group_means(losses.float(), group, len(self.logits))
        seen = mean.detach()
        if not is_alone():  # means over all processes' batches; averaging gradients over processes leaves them so
            both = torch.stack([seen * count, count])
            distributed.all_reduce(both)
            seen = both[0] / both[1].clamp_min(1)
            mean = mean * count * distributed.get_world_size() / both[1].clamp_min(1)
        if self.training:
            self.logits.add_(self.step * (seen + self.margin))
            self.logits.sub_(self.logits.max())  # the same weights, and no growth without end
        return self.weights.clone() @ mean
