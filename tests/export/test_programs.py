"""What other programs read is what we embed."""

import csv
import json
import sys

import numpy as np
import pytest
import timm
import torch

from thanos import TrainConfig, embed, load, load_encoder, train
from thanos.cli import run_command
from thanos.config import RunConfig
from thanos.errors import ConfigError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two tiny encoders, and one of a timm model."""
    folder = tmp_path_factory.mktemp("runs")
    quiet = RunConfig(quiet=True, threads=1)
    small = TrainConfig(method="thanos", epochs=1, train_limit=128)
    named = TrainConfig(method="spread", epochs=1, encoder="test_resnet", size=32, train_limit=64, batch=32)
    for name, config in (("tiny", small), ("test_resnet", named)):
        train(config, folder / name, run=quiet, say=lambda line: None)
    return folder


@pytest.mark.parametrize("name", ["tiny", "test_resnet"])
def test_onnx_gives_our_vectors(runs, name, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    run_command(["export", str(runs / name), "--to", "onnx", "--out", str(file)])
    assert "in onnxruntime" in capsys.readouterr().out
    encoder = load_encoder(runs / name)
    images = load(TrainConfig(size=encoder.card.size[0])).take(np.arange(9))
    pixels = np.ascontiguousarray(images.images[np.arange(9)])
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {"images": pixels})
    assert np.allclose(vectors, embed(encoder, images).vectors, atol=1e-4)


def test_a_table_of_vectors(runs, tmp_path):
    file = tmp_path / "v.csv"
    run_command(["export", str(runs / "tiny"), "--to", "csv", "--out", str(file)])
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    images = load(TrainConfig(train_limit=128))
    vectors = embed(load_encoder(runs / "tiny"), images).vectors
    assert len(rows) == len(images)
    assert [row["superclass"] for row in rows] == [images.superclass_names[k] for k in images.superclass]
    assert [row["subclass"] for row in rows] == [images.subclass_names[k] for k in images.subclass]
    written = np.array([[float(row[f"v{k}"]) for k in range(256)] for row in rows])
    assert np.allclose(written, vectors, rtol=1e-5, atol=1e-6)


def test_weights_load_in_bare_timm(runs, tmp_path, capsys):
    file = tmp_path / "w.safetensors"
    run_command(["export", str(runs / "test_resnet"), "--to", "safetensors", "--out", str(file)])
    assert "loads in bare timm" in capsys.readouterr().out
    model = timm.create_model("test_resnet", num_classes=0, in_chans=1, checkpoint_path=str(file)).eval()
    facts = json.loads(file.with_suffix(".json").read_text())
    images = load(TrainConfig(size=32)).take(np.arange(5))
    pixels = torch.from_numpy(np.ascontiguousarray(images.images[np.arange(5)])).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        vectors = model((pixels - facts["mean"][0]) / facts["std"][0]).numpy()
    assert np.allclose(vectors, embed(load_encoder(runs / "test_resnet"), images).vectors, atol=1e-4)
    run_command(["embed", str(file), "--data", "digits", "--size", "32", "--out", str(tmp_path / "v.npz")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "safetensors"], r"--out names the \.safetensors"),
        (["--to", "onnx", "--out", "x.bin"], "writes a .onnx file"),
        (["--to", "csv", "--out", "there.csv"], "is there already"),
        (["--to", "safetensors", "--out", "there.safetensors"], r"there\.json is there already"),
    ],
)
def test_what_cannot_be_written(runs, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "there.json").write_text("mine")
    with pytest.raises(ConfigError, match=said):
        run_command(["export", str(runs / "tiny"), *arguments])
    assert (tmp_path / "there.csv").read_text() == (tmp_path / "there.json").read_text() == "mine"


def test_without_the_packages(runs, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install thanos-repr\[onnx\]"):
        run_command(["export", str(runs / "tiny"), "--to", "onnx", "--out", str(tmp_path / "m.onnx")])


def test_a_timm_model_by_its_name(tmp_path):
    """As timm itself embeds: its weights from a file, its own normalisation."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    arguments = ["resnet18", "--pretrained", str(tmp_path / "w.pth"), "--out", str(tmp_path / "v.npz")]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", images=pixels, superclass=np.repeat(["a", "b"], 4))
    run_command(["embed", *arguments, "--data", str(tmp_path / "d.npz")])
    config = timm.get_pretrained_cfg("resnet18")
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor(config.mean)[:, None, None]) / torch.tensor(config.std)[:, None, None]
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x), pre_logits=True).numpy()
    with np.load(tmp_path / "v.npz") as file:
        assert np.allclose(file["vectors"], expected, atol=1e-4)
    for wrong, said in (
        (["resnet18"], "say with `data`"),
        ([str(tmp_path / "v.npz"), "--pretrained", "w.pth"], "is none by name"),
    ):
        with pytest.raises(ConfigError, match=said):
            run_command(["embed", *wrong, "--out", str(tmp_path / "x.npz")])
