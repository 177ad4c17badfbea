"""Folded batch norms: the same function, in fewer modules."""

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from thanos.encoders.folded import folded


def alive(network):
    """In evaluation, with batch norms that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "left"), [("test_resnet", 0), ("resnet18", 0), ("tf_efficientnet_lite0", 0), ("densenet121", 62)]
)
def test_timms_networks_compute_the_same(name, left):
    network = alive(timm.create_model(name, num_classes=0))
    images, before = torch.randn(3, 3, 64, 64), {k: v.clone() for k, v in network.state_dict().items()}
    with torch.inference_mode():
        expected = network(images)
        fast = folded(network, images[:2])
        assert norms(fast) == left  # of a dense network some norms follow a concatenation
        assert_close(fast(images), expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())  # the given one is as it was


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        raw = self.convolution(images)
        return (self.norm(raw) + raw).mean(dim=(2, 3))


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norms = nn.Conv2d(3, 3, 3, padding=1), nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))

    def forward(self, images):
        for norm in self.norms:
            images = norm(self.convolution(images))
        return images.mean(dim=(2, 3))


@pytest.mark.parametrize("kind", [UsedTwice, CalledTwice])
def test_what_cannot_be_folded_stays_as_it_is(kind):
    network, images = alive(kind()), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert_close(folded(network, images)(images), network(images))
