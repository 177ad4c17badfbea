"""The few lines of torch (and timm) that load a run's encoder where this package is not installed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thanos import registry

if TYPE_CHECKING:
    from thanos.runs.encoder_io import ModelCard

_TIMM = """\
import timm, torch
from safetensors.torch import load_file

def build():
    return timm.create_model({name!r}, num_classes=0, in_chans={channels}{sized})
"""
_IMPORTED = """\
import torch
from safetensors.torch import load_file
from {module} import {function}

def build():
    return {function}({channels}, {size})
"""
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
_HEAD = """\
from torch import nn

class Head(nn.Module):
    def __init__(self, features, hidden, dim):
        super().__init__()
        self.hidden, self.head = nn.Linear(features, hidden), nn.Linear(hidden, dim)

    def forward(self, features):
        return self.head(self.hidden(features).relu())

"""
_FROZEN = """\
import timm, torch
from safetensors.torch import load_file
{built}def part(prefix, module):
    module.load_state_dict({{n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}})
    return module.eval()

state = load_file({weights!r})
backbone = part({prefix!r}, timm.create_model({name!r}, num_classes=0, in_chans={channels}{sized}))
heads = [part(prefix, Head(len(state["mean"]), *sizes)) if sizes else None for prefix, sizes in {heads}]
scales = state.get("head.scale", torch.ones(len(heads)))
{detailed}
@torch.inference_mode()
def embed(images):  # uint8 (n, {height}, {width}, {channels}) -> (n, {dim})
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ({mean}, {std}))
    features = {features}((torch.as_tensor(images).permute(0, 3, 1, 2) / 255 - mean) / std)
    x = (features - state["mean"]) / state["std"]
    return torch.cat([(head(x) if head else features) * scale for head, scale in zip(heads, scales)], dim=1)
"""
_DETAILED = """
def detailed(x):  # the last layer's features, then a middle one's over the cells of a grid
    last, middle = backbone.forward_intermediates(x, indices=[{middle}])
    cells = torch.nn.functional.adaptive_avg_pool2d(middle[0], {grid}).flatten(1)
    return torch.cat([backbone.forward_head(last), cells], dim=1)
"""
_OF_VECTORS = """\
import json, torch
from safetensors.torch import load_file
{built}
def part(prefix, module):
    module.load_state_dict({{n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}})
    return module.eval()

state = load_file({weights!r})
with open({facts!r}) as file:
    facts = json.load(file)
mean, std = torch.tensor(facts["mean"]), torch.tensor(facts["std"])
heads = [part(prefix, {build}({channels}, *sizes)) for prefix, sizes in {heads}]
scales = state.get("scale", torch.ones(len(heads)))

@torch.inference_mode()
def embed(vectors):  # numbers (n, {channels}), of numpy or torch -> (n, {dim})
    x = (torch.as_tensor(vectors).float() - mean) / std
    return torch.cat([head(x) * scale for head, scale in zip(heads, scales)], dim=1)

def read(path):  # an .npy of vectors as embed takes it
    from numpy import load
    return torch.from_numpy(load(path).astype("float32"))
"""
_READ = """
def read(path):  # a picture as embed takes it
    from numpy import array
    from PIL import Image, ImageOps
    picture = ImageOps.fit(Image.open(path).convert({mode!r}), ({width}, {height}), Image.Resampling.BILINEAR)
    return torch.from_numpy(array(picture)).reshape(1, {height}, {width}, {channels})
"""


def loading_code(card: "ModelCard", weights: Path) -> str:
    """Python that defines ``embed`` for uint8 images, or vectors, and ``read``; encoders of one kind, as of a run.

    Args:
        card: The facts beside the weights.
        weights: The .safetensors file.
    """
    if card.size is None:
        return _of_vectors(card, weights)
    name, (height, width) = card.backbone or card.encoders[0], card.image_size
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
    if card.backbone is not None:
        alone = len(card.encoders) == 1
        heads = [("head." if alone else f"head.parts.{k}.", _sizes(head)) for k, head in enumerate(card.encoders)]
        facts |= {"heads": heads, "built": _HEAD, "prefix": "backbone.", "features": "backbone", "detailed": ""}
        if card.grid:
            from thanos.encoders.detailed import MIDDLE

            detailed = _DETAILED.format(grid=card.grid, middle=MIDDLE)
            facts |= {"prefix": "backbone.network.", "features": "detailed", "detailed": detailed}
        return "".join(text.format(**facts) for text in (_FROZEN, _READ))
    builds, own = _TIMM, registry.encoder(name)
    if own is not None and own.alone:
        builds = registry.text(own.alone, own)
    elif own is not None:
        build = registry.resolve(own.build, own)
        builds, facts = _IMPORTED, facts | {"module": build.__module__, "function": build.__name__}
    use = _ONE if len(card.encoders) == 1 else _SEVERAL
    return "".join(text.format(**facts) for text in (builds, use, _READ))


def _of_vectors(card: "ModelCard", weights: Path) -> str:
    """The same for an encoder of vectors; mean and deviation of each number stand beside the weights."""
    alone = len(card.encoders) == 1
    heads = [("" if alone else f"parts.{k}.", _sizes(head)) for k, head in enumerate(card.encoders)]
    spec = registry.encoder(card.encoders[0])
    built, build = _HEAD, "Head"
    if spec is not None and spec.name != "mlp":
        found = registry.resolve(spec.build, spec)
        built, build = f"from {found.__module__} import {found.__name__}\n\n", found.__name__
    facts = str(weights.with_suffix(".json"))
    return _OF_VECTORS.format(
        built=built, build=build, weights=str(weights), facts=facts, channels=card.channels, dim=card.dim, heads=heads
    )


def _sizes(head: str) -> tuple[int, ...]:
    """The widths of the layers of a network on features."""
    spec = registry.encoder(head)
    return () if spec is None else spec.sizes


def _takes_size(name: str, card: "ModelCard") -> bool:
    """Whether a timm model is built for a size of images."""
    if registry.encoder(name) is not None:
        return False
    import timm

    try:
        timm.create_model(name, num_classes=0, in_chans=card.channels, img_size=card.size)
    except TypeError:
        return False
    return True
