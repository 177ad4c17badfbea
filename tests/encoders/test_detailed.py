"""A middle layer's features beside the last's: they are what that layer gives, and go wherever a backbone goes."""

import numpy as np
import pytest
import timm
import torch
from torch.testing import assert_close

from thanos import DataConfig, RunConfig, TrainConfig, embed, load, load_encoder, train
from thanos.encoders.detailed import Detailed
from thanos.encoders.features import Pass, frozen_features
from thanos.encoders.zoo import build_encoder, dimension
from thanos.errors import ConfigError
from thanos.export.programs import export_onnx
from thanos.runs.encoder_io import timm_encoder

MIDDLES = {"test_resnet": "layer3", "test_efficientnet": "blocks.3", "test_convnext": "stages.2"}


def silent(line): ...


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    rng, kind = np.random.default_rng(0), np.arange(80) % 2
    pixels = rng.integers(0, 160, (80, 64, 64, 3)) + 90 * kind[:, None, None, None]
    np.savez(tmp_path / "x.npz", images=pixels.astype(np.uint8), superclass=kind)
    return load(DataConfig(data=str(tmp_path / "x.npz")))


@pytest.fixture
def weights(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def settings(weights, **more):
    base = {"method": "spread", "alpha": 0.6, "encoder": "test_resnet", "pretrained": weights, "frozen": True}
    return TrainConfig(**(base | {"epochs": 1, "batch": 16, "frozen_views": 0, "frozen_grid": 2} | more))


@pytest.mark.parametrize("name", MIDDLES)
def test_the_features_are_the_models_own_and_means_over_the_cells_of_a_layer(name):
    network = timm.create_model(name, num_classes=0).eval()
    seen, images = [], torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network.get_submodule(MIDDLES[name]).register_forward_hook(lambda module, given, made: seen.append(made))
    detailed = Detailed(network, 2, channels=3, size=(64, 64)).eval()
    seen.clear()
    with torch.no_grad():
        found = detailed(images)
        layer = seen[0]
        half = layer.shape[-1] // 2
        cells = [layer[:, :, r : r + half, c : c + half].mean((2, 3)) for r in (0, half) for c in (0, half)]
        expected = torch.cat([network(images), torch.stack(cells, dim=2).flatten(1)], dim=1)
    assert layer.shape[-1] % 2 == 0
    assert dimension(detailed) == expected.shape[1] == dimension(network) + detailed.num_details
    assert_close(found, expected)


def test_a_network_is_left_in_its_mode():
    for mode in (True, False):
        assert Detailed(timm.create_model("test_resnet").train(mode), 2, channels=3, size=(64, 64)).training is mode


def test_a_network_without_middle_layers_is_refused():
    with pytest.raises(ConfigError, match="`frozen_grid` takes a middle layer's features, and TinyEncoder does not"):
        Detailed(build_encoder("tiny", channels=3, size=(64, 64)), 2, channels=3, size=(64, 64))


def test_the_setting_is_about_frozen_encoders():
    with pytest.raises(ValueError, match="`frozen_grid` is about the features of a frozen encoder"):
        TrainConfig(frozen_grid=2)


def test_each_grid_has_its_own_features_in_the_cache(images, weights):
    kept = {}
    for grid in (0, 1, 2, 1):
        encoder = timm_encoder("test_resnet", weights, images, grid=grid)
        found = frozen_features(Pass(encoder.module, encoder.card.mean, encoder.card.std, None), images, silent)
        kept[grid] = np.array(found)
    plain = kept[0].shape[-1]
    for grid in (1, 2):
        assert np.array_equal(kept[grid][..., :plain], kept[0])
    assert_close(kept[2][..., plain:].reshape(80, 1, -1, 4).mean(-1), kept[1][..., plain:], rtol=1e-4, atol=1e-5)


def test_a_run_embeds_new_images_wherever_it_is_loaded(images, weights, tmp_path):
    run = train(settings(weights), tmp_path / "run", images=images, run=RunConfig(quiet=True, threads=1), say=silent)
    again = load_encoder(tmp_path / "run")
    assert again.card.grid == 2
    assert np.array_equal(embed(again, images).vectors, embed(run.encoder, images).vectors)
    with torch.inference_mode():
        pixels = torch.from_numpy(images.images[np.arange(8)]).permute(0, 3, 1, 2) / 255
        normal = (pixels - torch.tensor(again.card.mean)[:, None, None]) / torch.tensor(again.card.std)[:, None, None]
        whole = again.module(normal)
    np.testing.assert_allclose(whole.numpy(), embed(again, images).vectors[:8], rtol=1e-3, atol=1e-4)


def test_it_goes_to_onnx(images, weights, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = train(settings(weights), tmp_path / "run", images=images, run=RunConfig(quiet=True, threads=1), say=silent)
    assert export_onnx(run.encoder, tmp_path / "m.onnx") < 1e-4
