"""The few lines of torch (and timm) that load a run's encoder where this package is not installed."""

from pathlib import Path
from typing import Any

from thanos import registry
from thanos.runs.encoder_io import ModelCard

_TINY = """\
import torch
from collections import OrderedDict
from safetensors.torch import load_file
from torch import nn

def build():
    widths = ({channels}, 16, 32, 32, 64, 64, 128)
    layers = [layer for i, (a, b) in enumerate(zip(widths, widths[1:])) for layer in (
        nn.Conv2d(a, b, 3, 2 if i % 2 else 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())]
    return nn.Sequential(OrderedDict(
        features=nn.Sequential(*layers), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Linear(128, 128)))
"""
_RESNET = """\
import timm, torch
from safetensors.torch import load_file
from torch import nn

def build():
    model = timm.create_model("resnet18", num_classes=0, in_chans={channels})
    model.conv1, model.maxpool = nn.Conv2d({channels}, 64, 3, 1, 1, bias=False), nn.Identity()
    return model
"""
_VIT = """\
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

def build():
    return VisionTransformer(
        img_size={size}, in_chans={channels}, patch_size=4, embed_dim=256, depth=7, num_heads=8, mlp_ratio=2,
        qkv_bias=False, embed_norm_layer=nn.LayerNorm, num_classes=0, global_pool="token")
"""
_TIMM = """\
import timm, torch
from safetensors.torch import load_file

def build():
    return timm.create_model({name!r}, num_classes=0, in_chans={channels}{sized})
"""
_ANOTHERS = """\
import torch
from safetensors.torch import load_file
from {module} import {function}

def build():
    return {function}({channels}, {size})
"""
_OWN = {"tiny": _TINY, "resnet18-small": _RESNET, "paper-vit": _VIT}
_ONE = """
encoder = build()
encoder.load_state_dict(load_file({weights!r}))
encoder.eval()

@torch.inference_mode()
def embed(images):  # uint8 (n, {height}, {width}, {channels}) -> (n, {dim})
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ({mean}, {std}))
    return encoder((torch.as_tensor(images).permute(0, 3, 1, 2) / 255 - mean) / std)
"""
_SEVERAL = """
state = load_file({weights!r})
encoders = [build() for _ in state["scale"]]
for k, encoder in enumerate(encoders):
    part = f"parts.{{k}}."
    encoder.load_state_dict({{n.removeprefix(part): v for n, v in state.items() if n.startswith(part)}})
    encoder.eval()

@torch.inference_mode()
def embed(images):  # uint8 (n, {height}, {width}, {channels}) -> (n, {dim})
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ({mean}, {std}))
    x = (torch.as_tensor(images).permute(0, 3, 1, 2) / 255 - mean) / std
    return torch.cat([encoder(x) * scale for encoder, scale in zip(encoders, state["scale"])], dim=1)
"""
_READ = """
def read(path):  # a picture as embed takes it
    from numpy import array
    from PIL import Image, ImageOps
    picture = ImageOps.fit(Image.open(path).convert({mode!r}), ({width}, {height}), Image.Resampling.BILINEAR)
    return torch.from_numpy(array(picture)).reshape(1, {height}, {width}, {channels})
"""


def loading_code(card: ModelCard, weights: Path) -> str:
    """Python that defines ``embed`` for uint8 images, and ``read``; encoders of one kind, as a run leaves them.

    Args:
        card: The facts beside the weights.
        weights: The .safetensors file.
    """
    name, (height, width) = card.encoders[0], card.size
    facts: dict[str, Any] = {
        "name": name,
        "channels": card.channels,
        "mode": "L" if card.channels == 1 else "RGB",
        "size": (height, width),
        "sized": f", img_size={(height, width)}" if _takes_size(name, card) else "",
        "weights": str(weights),
        "height": height,
        "width": width,
        "dim": card.dim,
        "mean": [round(value, 6) for value in card.mean],
        "std": [round(value, 6) for value in card.std],
    }
    builds, another = _OWN.get(name, _TIMM), registry.encoder(name)
    if another is not None and name not in _OWN:  # another package's
        build = registry.resolve(another.build)
        builds, facts = _ANOTHERS, facts | {"module": build.__module__, "function": build.__name__}
    use = _ONE if len(card.encoders) == 1 else _SEVERAL
    return "".join(text.format(**facts) for text in (builds, use, _READ))


def _takes_size(name: str, card: ModelCard) -> bool:
    """Whether a timm model is built for a size of images."""
    if registry.encoder(name) is not None:
        return False
    import timm

    try:
        timm.create_model(name, num_classes=0, in_chans=card.channels, img_size=card.size)
    except TypeError:
        return False
    return True
