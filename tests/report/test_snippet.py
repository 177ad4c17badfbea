"""The code on the page gives our vectors, without this package."""

import sys

import numpy as np
import pytest
import torch

from thanos import DataConfig, embed, load
from thanos.encoders.detailed import Detailed
from thanos.encoders.frozen import Frozen
from thanos.encoders.zoo import SideBySide, build_encoder
from thanos.report.snippet import loading_code
from thanos.runs.encoder_io import Encoder, balance_parts, card_for, save_encoder


def assert_the_code_embeds_alike(encoder, images, tmp_path, monkeypatch):
    ours = embed(encoder, images).vectors
    save_encoder(encoder, tmp_path / "model.safetensors")
    code = loading_code(encoder.card, tmp_path / "model.safetensors")
    for name in [name for name in sys.modules if name.startswith("thanos")]:
        monkeypatch.setitem(sys.modules, name, None)
    names: dict = {}
    exec(compile(code, "page", "exec"), names)
    vectors = names["embed"](torch.from_numpy(np.ascontiguousarray(images.images[np.arange(40)])))
    np.testing.assert_allclose(vectors.numpy(), ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "encoders",
    [("tiny",), ("tiny", "tiny"), ("resnet18-small",), ("paper-vit", "paper-vit"), ("test_resnet",), ("test_vit",)],
    ids="+".join,
)
def test_the_code_gives_our_vectors(encoders, tmp_path, monkeypatch):
    images = load(DataConfig(size=32)).take(np.arange(40))
    torch.manual_seed(0)
    parts = [build_encoder(name, channels=1, size=(32, 32)) for name in encoders]
    module = parts[0] if len(parts) == 1 else SideBySide(parts)
    mean, std = images.mean_std
    encoder = Encoder(module.eval(), card_for(images, encoders, module, method="spread", mean=mean, std=std))
    balance_parts(encoder, images)
    assert_the_code_embeds_alike(encoder, images, tmp_path, monkeypatch)


@pytest.mark.parametrize("grid", [0, 2])
@pytest.mark.parametrize("heads", [("mlp-16-8",), ("mlp-16-8", "mlp-24-12")], ids="+".join)
def test_the_code_of_a_frozen_backbone_gives_our_vectors(heads, grid, tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    images = load(DataConfig(size=32)).take(np.arange(40))
    torch.manual_seed(0)
    backbone = build_encoder("test_resnet", channels=1, size=(32, 32))
    if grid:
        backbone = Detailed(backbone, grid, channels=1, size=(32, 32))
    parts = [build_encoder(name, channels=backbone.num_features, size=None) for name in heads]
    head = parts[0] if len(parts) == 1 else SideBySide(parts)
    if len(parts) > 1:
        head.balance([2.0, 0.5])
    width = backbone.num_features
    module = Frozen(backbone, head, [0.1] * width, [0.5] * width).eval()
    card = card_for(images, heads, module, method="spread", mean=(0.5,), std=(0.5,))
    encoder = Encoder(module, card.model_copy(update={"backbone": "test_resnet", "grid": grid}))
    assert_the_code_embeds_alike(encoder, images, tmp_path, monkeypatch)
