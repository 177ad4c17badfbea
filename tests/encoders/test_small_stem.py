"""ResNets for small images are torchvision's, with another stem."""

import pytest
import torch
import torchvision
from torch import nn
from torch.testing import assert_close

from thanos.encoders.zoo import build_encoder, dimension


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("channels", [1, 3])
def test_they_are_torchvisions_with_a_stem_of_stride_one_and_no_pooling(depth, channels):
    torch.manual_seed(0)
    ours = build_encoder(f"resnet{depth}-small", channels=channels, size=(32, 32)).eval()
    theirs = getattr(torchvision.models, f"resnet{depth}")()
    theirs.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    theirs.maxpool, theirs.fc = nn.Identity(), nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, channels, 32, 32)
    with torch.inference_mode():
        assert_close(ours(images), theirs.eval()(images))
    assert dimension(ours) == {18: 512, 50: 2048}[depth]
