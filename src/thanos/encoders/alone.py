"""The encoders once more, in the few lines that build them where this package is not installed.

Each text defines ``build()`` for weights as a run leaves them; ``{channels}`` and ``{size}`` are filled in.
"""

TINY = """\
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
RESNET18_SMALL = """\
import timm, torch
from safetensors.torch import load_file
from torch import nn

def build():
    model = timm.create_model("resnet18", num_classes=0, in_chans={channels})
    model.conv1, model.maxpool = nn.Conv2d({channels}, 64, 3, 1, 1, bias=False), nn.Identity()
    return model
"""
RESNET50_SMALL = RESNET18_SMALL.replace("resnet18", "resnet50")
PAPER_VIT = """\
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

def build():
    return VisionTransformer(
        img_size={size}, in_chans={channels}, patch_size=4, embed_dim=256, depth=7, num_heads=8, mlp_ratio=2,
        qkv_bias=False, embed_norm_layer=nn.LayerNorm, num_classes=0, global_pool="token")
"""
