"""The seven methods, encoders and decoder: shapes, what they see, what they leave."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from thanos import join_encoders, load_encoder, registry, train
from thanos.config import RunConfig, TrainConfig, ViewSpec
from thanos.data.load import load
from thanos.encoders.heads import Decoder, build_projector
from thanos.encoders.zoo import SideBySide, build_encoder, dimension
from thanos.errors import ConfigError, DataError
from thanos.methods.branch import StepSettings, build_branches, encoder_of, steps_of, total
from thanos.runs.encoder_io import Encoder, ModelCard, save_encoder

QUIET = RunConfig(quiet=True, threads=1)


def silent(line: str) -> None: ...


def one_step(config, superclass=None):
    """(terms by branch, branches) of one batch of colour images."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 16, 16, 3), dtype=torch.uint8, generator=rng)
    superclass = torch.arange(12) % 3 if superclass is None else superclass
    branches = build_branches(config, channels=3, size=(16, 16), superclasses=3)
    settings = StepSettings(config, alpha=0.55, views=ViewSpec(), mean=(0.5,) * 3, std=(0.25,) * 3)
    terms = {}
    for name, step in steps_of(config).items():
        terms[name] = step(branches[name], images, superclass, settings, torch.Generator().manual_seed(1))
    return terms, branches


EXPECTED = {
    "infonce": {"contrastive": {"infonce"}},
    "supcon": {"contrastive": {"supcon", "classify"}},
    "supcon+infonce": {"contrastive": {"supcon", "infonce", "classify"}},
    "cauto": {"autoencoder": {"reconstruct", "classify"}},
    "spread": {"contrastive": {"spread", "classify"}},
    "supcon+cauto": {"contrastive": {"supcon", "classify"}, "autoencoder": {"reconstruct", "classify"}},
    "thanos": {"contrastive": {"spread", "classify"}, "autoencoder": {"reconstruct", "classify"}},
    "cross-entropy": {"classifier": {"classify"}},
    "maskcon": {"contrastive": {"maskcon"}},
}


@pytest.mark.parametrize("method", registry.methods())
@pytest.mark.parametrize("encoders", ["two", "one"])
def test_a_step_has_its_terms_and_reaches_every_weight(method, encoders):
    terms, branches = one_step(TrainConfig(method=method, encoders=encoders))
    if encoders == "two" or method not in ("supcon+cauto", "thanos"):
        assert {b: set(t) - {"projection"} for b, t in terms.items()} == EXPECTED[method]
    else:
        assert set(terms["joint"]) - {"projection"} == set().union(*EXPECTED[method].values())
    torch.stack([total(t, "spread") for t in terms.values()]).sum().backward()
    trained = [p for p in branches.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert len(trained) == len([*branches.parameters()]) or method == "maskcon"  # whose keys' encoder follows slowly


def test_infonce_sees_no_label():
    first, _ = one_step(TrainConfig(method="infonce"))
    second, _ = one_step(TrainConfig(method="infonce"), superclass=torch.zeros(12, dtype=torch.int64))
    assert_close(first["contrastive"]["infonce"], second["contrastive"]["infonce"], rtol=0, atol=0)


@pytest.mark.parametrize("change", [{"superclass_into": "decoder", "classify_weight": 0.0}, {"projector": 16}])
def test_variants_reach_every_weight(change):
    terms, branches = one_step(TrainConfig(method="thanos", **change))
    torch.stack([total(t, "spread") for t in terms.values()]).sum().backward()
    assert all(p.grad is not None for p in branches.parameters())


def test_a_told_decoder_uses_what_it_is_told():
    decoder = Decoder(8, channels=3, size=(16, 16), width=4, blocks=1, classes=3).eval()
    embedding = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    told = [decoder(embedding, torch.tensor(classes)) for classes in ([0, 1], [2, 1])]
    assert not torch.allclose(told[0][0], told[1][0])
    assert_close(told[0][1], told[1][1])


@pytest.mark.parametrize("method", sorted({*registry.methods()} - {"spread", "cauto", "supcon+cauto"}))  # in others
def test_fine_labels_change_no_weight(tmp_path, method):
    """Encoders never see a fine label: others in their place leave every trained weight as it is."""
    config = TrainConfig(method=method, epochs=1, train_limit=256)
    images = load(config)
    shuffled = np.random.default_rng(0).permutation(images.subclass)
    from dataclasses import replace

    train(config, tmp_path / "a", images=images, run=QUIET, say=silent)
    train(config, tmp_path / "b", images=replace(images, subclass=shuffled), run=QUIET, say=silent)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in "ab"]  # beside them stand other marks
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("method", ["spread", "cauto"])
@pytest.mark.parametrize("change", [{"precision": "bf16-mixed"}, {"accumulate": 2}, {"sampling": "class-balanced"}])
def test_options_of_training_run(tmp_path, method, change):
    config = TrainConfig(method=method, epochs=1, train_limit=256, **change)
    metrics = train(config, tmp_path / "run", run=QUIET, say=silent).metrics
    assert all(np.isfinite(value) for value in metrics["final"].values())


def test_the_tiny_encoder_has_the_stated_size():
    encoder = build_encoder("tiny", channels=3, size=(32, 32))
    assert sum(p.numel() for p in encoder.parameters()) == 160_464
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 128)


def test_the_papers_vit_has_the_stated_size():
    encoder = build_encoder("paper-vit", channels=3, size=(32, 32))
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(3.7e6, rel=0.02)
    assert encoder.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 256)


@pytest.mark.parametrize("name", ["resnet18-small", "resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encoders_embed(name, channels):
    encoder = build_encoder(name, channels=channels, size=(32, 32))
    embedding = encoder.eval()(torch.zeros(2, channels, 32, 32))
    assert embedding.shape == (2, dimension(encoder))


def test_resnet18_small_keeps_the_resolution():
    encoder = build_encoder("resnet18-small", channels=3, size=(32, 32))
    assert encoder.forward_features(torch.zeros(1, 3, 32, 32)).shape[-1] == 4  # 32 / 8, not 32 / 32


@pytest.mark.parametrize("name", ["tiny", "paper-vit", "resnet18-small"])
def test_encoders_take_images_that_are_no_squares(name):
    encoder = build_encoder(name, channels=3, size=(64, 32)).eval()
    assert encoder(torch.randn(2, 3, 64, 32)).shape == (2, dimension(encoder))


def test_unknown_encoders_are_named():
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_encoder("resnet19", channels=3, size=(32, 32))


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (33, 33), (64, 32), (20, 50)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_decoder_returns_the_images_shape(size, channels):
    decoder = Decoder(16, channels=channels, size=size, width=4, blocks=1)
    assert decoder(torch.randn(2, 16), torch.zeros(2, dtype=torch.int64)).shape == (2, channels, *size)


def test_the_full_decoder_mirrors_resnet18():
    """Two basic blocks in each of four stages of 512, 256, 128 and 64 channels."""
    decoder = Decoder(512, channels=3, size=(32, 32))
    widths = [m.out_channels for m in decoder.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert widths == [512] * 4 + [256] * 4 + [128] * 4 + [64] * 4 + [3]


def test_the_projector_is_off_at_width_zero():
    assert isinstance(build_projector(8, 0), nn.Identity)
    assert build_projector(8, 4)(torch.zeros(2, 8)).shape == (2, 4)


def card_of(module, names):
    return ModelCard(
        encoders=names,
        channels=1,
        size=8,
        mean=(0.3,),
        std=(0.4,),
        dim=module.num_features,
        views=ViewSpec(),
        method="x",
        superclasses=("a", "b"),
        fingerprint="f",
    )


def test_one_encoders_weights_load_in_bare_timm(tmp_path):
    module = build_encoder("resnet18", channels=1, size=(8, 8))
    save_encoder(Encoder(module, card_of(module, ("resnet18",))), tmp_path / "model.safetensors")
    bare = timm.create_model("resnet18", num_classes=0, in_chans=1, checkpoint_path=str(tmp_path / "model.safetensors"))
    images = torch.randn(2, 1, 8, 8)
    assert_close(bare.eval()(images), module.eval()(images))


def test_a_saved_encoder_embeds_as_before(tmp_path):
    images = load(TrainConfig())
    module = SideBySide(
        [build_encoder("tiny", channels=1, size=(8, 8)), build_encoder("tiny", channels=1, size=(8, 8))]
    )
    module.balance([2.0, 0.5])
    encoder = Encoder(module.eval(), card_of(module, ("tiny", "tiny")))
    save_encoder(encoder, tmp_path / "model.safetensors")
    assert_close(load_encoder(tmp_path).embed(images), encoder.embed(images), rtol=0, atol=0)


def test_joined_encoders_weigh_alike():
    images = load(TrainConfig())
    encoders = []
    for seed in range(2):
        torch.manual_seed(seed)
        module = build_encoder("tiny", channels=1, size=(8, 8)).eval()
        encoders.append(Encoder(module, card_of(module, ("tiny",))))
    joined = join_encoders(*encoders, images=images)
    vectors = joined.embed(images.take(images.rows("train")))
    lengths = [np.linalg.norm(part, axis=1).mean() for part in np.split(vectors, 2, axis=1)]
    assert lengths == pytest.approx([1, 1], abs=1e-4)
    with pytest.raises(DataError, match="cannot be joined again"):
        join_encoders(joined, joined, images=images)


@pytest.mark.parametrize("fault", ["missing", "no facts", "cut weights", "other encoder", "no json"])
def test_what_is_no_encoder_is_refused(tmp_path, fault):
    module = build_encoder("tiny", channels=1, size=(8, 8))
    weights, facts = tmp_path / "model.safetensors", tmp_path / "model.json"
    save_encoder(Encoder(module, card_of(module, ("tiny",))), weights)
    if fault == "missing":
        weights.unlink()
    elif fault == "no facts":
        facts.unlink()
    elif fault == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif fault == "other encoder":
        facts.write_text(facts.read_text().replace('"tiny"', '"resnet18-small"'))
    else:
        facts.write_text("{}")
    with pytest.raises(DataError) as error:
        load_encoder(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_two_encoders_side_by_side_act_as_one():
    branches = build_branches(TrainConfig(method="thanos"), channels=1, size=(8, 8), superclasses=2)
    both = encoder_of(branches).eval()
    images = torch.randn(3, 1, 8, 8)
    parts = [branches[name].encoder(images) for name in ("contrastive", "autoencoder")]
    assert_close(both(images), torch.cat(parts, dim=1))
    assert both.num_features == 256
