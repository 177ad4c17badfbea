"""Batch norms folded into the convolutions before them: the same function of an image, fewer passes over memory."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

NEAR = 1e-3
"""Largest difference, in standard deviations of the output, that rounding may make."""


def folded(network: nn.Module, sample: Tensor) -> nn.Module:
    """A copy that computes the same in evaluation, without the batch norms that directly follow a convolution.

    Which do is seen in one run, not read off names; should the copy compute something else (a convolution's output that
    is also used elsewhere), the network itself comes back.

    Args:
        network: In evaluation mode; it is left as it is.
        sample: What it takes, (batch, channels, height, width).
    """
    fast = copy.deepcopy(network)
    for convolution, norm, name in _pairs(fast, sample):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        home, _, own = name.rpartition(".")
        setattr(fast.get_submodule(home), own, getattr(norm, "act", nn.Identity()))  # timm's norms bring activations
    with torch.inference_mode():
        expected, found = network(sample), fast(sample)
    near = (found - expected).abs().max() <= NEAR * expected.std().clamp_min(1e-12)
    return fast if near else network


def _pairs(network: nn.Module, sample: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d, str]]:
    """Convolutions with the batch norm that takes what they give, each called once, and that norm's name."""
    made: list[tuple[nn.Conv2d, Tensor]] = []
    taken: list[tuple[nn.BatchNorm2d, str, Tensor]] = []

    def note_made(module: nn.Conv2d, inputs: Any, output: Tensor) -> None:
        made.append((module, output))

    def note_taken(module: nn.BatchNorm2d, inputs: tuple[Tensor], *, name: str) -> None:
        taken.append((module, name, inputs[0]))

    hooks = [m.register_forward_hook(note_made) for m in network.modules() if isinstance(m, nn.Conv2d)]
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(partial(note_taken, name=name)))
    with torch.inference_mode():
        network(sample)
    for hook in hooks:
        hook.remove()
    convolutions, norms = [module for module, _ in made], [module for module, _, _ in taken]
    return [
        (convolution, norm, name)
        for norm, name, tensor in taken
        for convolution, output in made
        if output is tensor and convolutions.count(convolution) == 1 and norms.count(norm) == 1
    ]
