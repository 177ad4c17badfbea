"""Every command on vectors: on the file itself, on a run that was trained on it, on that run and others' vectors."""

import json
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from thanos import TrainConfig, load_encoder, load_vectors, read_embeddings, train
from thanos.cli import main, run_command
from thanos.config import RunConfig, read_yaml
from thanos.data.group_table import read_table
from thanos.errors import ConfigError, DataError, Interrupted
from thanos.report.snippet import loading_code
from thanos.training.module import TrainingModule

COUNT, WIDTH = 240, 10
SHORT = ["--epochs", "3", "--quiet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with vectors and labels in one file, vectors alone, labels alone, and a run that was trained on them."""
    folder = tmp_path_factory.mktemp("vectors")
    rows, fine = make_blobs(COUNT, WIDTH, centers=4, center_box=(-4, 4), random_state=1)
    rows = rows.astype(np.float32)
    np.savez(folder / "v.npz", embeddings=rows, label=fine // 2, fine=fine)
    np.save(folder / "rows.npy", rows)
    lines = "".join(f"{kind // 2},{kind}\n" for kind in fine)
    (folder / "labels.csv").write_text("label,fine\n" + lines)
    np.save(folder / "new.npy", rows[:30] + np.float32(0.01))
    np.save(folder / "wide.npy", np.c_[rows, rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THANOS_CACHE", str(folder / "cache"))
        run_command(
            ["train", "--data", str(folder / "v.npz"), "--epochs", "30", "--out", str(folder / "run"), "--quiet"]
        )
        run_command(["discover", str(folder / "run")])
        run_command(["robust", str(folder / "run")])
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run, to work on."""
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def test_the_run_says_what_it_was_trained_on(made):
    assert read_yaml(made / "run" / "config.yaml")["encoder"] == "mlp"
    said = json.loads((made / "run" / "data.json").read_text())
    assert said["file"] == str(made / "v.npz")
    assert said["fingerprint"] == load_vectors(made / "v.npz").fingerprint
    assert f"vectors: embeddings ({COUNT} x {WIDTH}), superclass: label, subclass: fine" in said["notes"]


def test_the_command_trains_as_the_library(made, tmp_path):
    vectors = load_vectors(made / "v.npz")
    silent = {"run": RunConfig(quiet=True), "say": lambda line: None}
    train(TrainConfig(encoder="mlp", epochs=30), tmp_path / "mine", images=vectors, **silent)
    for name in ("model.safetensors", "model.json", "best.safetensors"):
        assert (tmp_path / "mine" / name).read_bytes() == (made / "run" / name).read_bytes()


def test_it_finds_the_subclasses_nobody_named(made):
    fine = load_vectors(made / "v.npz").subclass
    found = read_table(made / "run" / "subclasses.csv")
    assert adjusted_rand_score(fine, [found[str(row)].subclass for row in range(COUNT)]) > 0.9


@pytest.mark.parametrize(
    ("subcommand", "left"),
    [
        (["transfer"], ()),
        (["transfer", "--probe", "released"], ()),
        (["geometry"], ()),
        (["embed"], ("embeddings.npz",)),
        (["robust", "--method", "erm"], ("robust-erm.npz", "robust-erm.json")),
        (["classify"], ("predicted.csv",)),
        (["report"], ("report.html",)),
        (["export", "--to", "csv"], ("embeddings.csv",)),
        (["export", "--to", "onnx"], ("model.onnx",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_command_on_a_run(subcommand, left, run):
    if "onnx" in subcommand:
        pytest.importorskip("onnxscript")
    run_command([subcommand[0], str(run), *subcommand[1:]])
    assert all((run / name).is_file() for name in left)


@pytest.mark.parametrize(
    "subcommand", ["transfer", "geometry", "discover --out found.csv", "robust --out r.npz", "report --out p.html"]
)
@pytest.mark.parametrize("data", [["--data", "rows.npy", "--labels", "labels.csv"], ["--data", "v.npz"]])
def test_a_command_on_a_run_and_named_vectors(subcommand, data, made, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [str(made / word) if "." in word else word for word in data]
    run_command([*subcommand.split()[:1], str(run), *words, *subcommand.split()[1:]])
    assert all((tmp_path / word).is_file() for word in subcommand.split() if "." in word)


def test_new_vectors_need_no_labels(made, run, tmp_path):
    run_command(["embed", str(run), "--data", str(made / "new.npy"), "--out", str(tmp_path / "new.npz")])
    run_command(["classify", str(run), "--data", str(made / "new.npy"), "--out", str(tmp_path / "new.csv")])
    found, encoder = read_embeddings(tmp_path / "new.npz"), load_encoder(run)
    np.testing.assert_array_equal(found.vectors, encoder.embed(load_vectors(made / "new.npy")))
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 31


@pytest.mark.parametrize(
    "subcommand",
    [
        "discover --out f.csv",
        "transfer",
        "geometry",
        "robust --groups none --method jtt --out r.npz",
        "report --out p.html",
    ],
)
def test_a_command_on_the_vectors_themselves(subcommand, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, *rest = subcommand.split()
    outcomes = []
    for source in (["v.npz"], ["rows.npy", "--labels", "labels.csv"]):
        words = [str(made / word) if "." in word else word for word in source]
        run_command([first, *words, *rest])
        outcomes.append([line for line in capsys.readouterr().out.splitlines() if "vectors: " not in line])
        for word in rest:
            (tmp_path / word).unlink(missing_ok=True)
            (tmp_path / word).with_suffix(".json").unlink(missing_ok=True)
    if first in ("transfer", "geometry"):
        assert outcomes[0] == outcomes[1]


def test_with_options_of_training_discover_trains_a_head_first(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_command(["discover", str(made / "v.npz"), "--train-method", "spread", *SHORT])
    said, settings = capsys.readouterr().out, read_yaml(tmp_path / "runs" / "v" / "config.yaml")
    assert (settings["encoder"], settings["alpha"], settings["feature_dropout"]) == ("mlp-256-128", "follow", 0.5)
    assert (settings["feature_neighbours"], settings["classify_weight"]) == (10, 0.2)
    assert json.loads((tmp_path / "runs" / "v" / "data.json").read_text())["views"]["dropout"] == 0.5
    for name in ("--encoder mlp-256-128", "--alpha follow", "--feature-dropout 0.5", "--batch"):
        assert f"chosen {name}" in said
    assert "n = 24 test" not in said
    assert (tmp_path / "runs" / "v" / "subclasses.html").is_file()
    given = ["--encoder", "mlp-8-4", "--alpha", "0.5", "--train-method", "spread", "-o", "b"]
    run_command(["discover", str(made / "rows.npy"), "--labels", str(made / "labels.csv"), *given, *SHORT])
    assert (read_yaml(tmp_path / "b" / "config.yaml")["encoder"], load_encoder(tmp_path / "b").card.dim) == (
        "mlp-8-4",
        4,
    )


def test_the_noise_of_views_is_a_setting(made, tmp_path):
    noise = ["--feature-noise", "0.7", "--feature-dropout", "0", "--feature-neighbours", "2", "--method", "spread"]
    out = tmp_path / "run"
    run_command(["train", "--data", str(made / "v.npz"), *noise, *SHORT, "--out", str(out)])
    views = json.loads((out / "data.json").read_text())["views"]
    assert views == {"noise": 0.7, "dropout": 0, "neighbours": 2}
    run_command(["train", "--config", str(out / "config.yaml"), "--out", str(tmp_path / "again"), "--quiet"])
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()
    for subcommand in (["geometry"], ["discover"], ["transfer", "--probe", "released"]):
        run_command([subcommand[0], str(out), *subcommand[1:]])


def test_what_embed_wrote_can_be_trained_on(made, run, tmp_path):
    run_command(["embed", str(run)])
    found, wanted = load_vectors(run / "embeddings.npz"), read_embeddings(run / "embeddings.npz")
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    for name in ("superclass", "subclass", "split"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    run_command(["train", "--data", str(run / "embeddings.npz"), *SHORT, "--out", str(tmp_path / "second")])


def test_what_embed_wrote_is_clustered_as_it_is(made, run, tmp_path):
    run_command(["embed", str(run)])
    run_command(["discover", str(run / "embeddings.npz"), "--out", str(tmp_path / "a.csv")])
    run_command(["discover", str(run), "--out", str(tmp_path / "b.csv")])
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert read_embeddings(run / "embeddings.npz").fingerprint == load_vectors(made / "v.npz").fingerprint


def test_our_own_export_is_read_back(run, tmp_path):
    run_command(["export", str(run), "--to", "csv", "--out", str(tmp_path / "e.csv")])
    run_command(["embed", str(run)])
    found, wanted = load_vectors(tmp_path / "e.csv"), read_embeddings(run / "embeddings.npz")
    np.testing.assert_allclose(found.vectors, wanted.vectors, rtol=1e-5)
    np.testing.assert_array_equal(found.split, wanted.split)


def test_an_interrupted_run_goes_on_where_it_stopped(made, tmp_path, monkeypatch, capsys):
    words = ["train", "--data", str(made / "rows.npy"), "--labels", str(made / "labels.csv"), *SHORT, "--batch", "32"]
    run_command([*words, "--out", str(tmp_path / "whole")])
    step = TrainingModule.training_step

    def stopped(module, batch, number):
        if batch.number == 7:
            signal.raise_signal(signal.SIGTERM)
        return step(module, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stopped)
        with pytest.raises(Interrupted):
            run_command([*words, "--out", str(tmp_path / "parts")])
    capsys.readouterr()
    run_command([*words, "--out", str(tmp_path / "parts")])
    assert "going on with" in capsys.readouterr().out
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_the_code_on_the_page_gives_our_embeddings(made, run, monkeypatch):
    encoder, rows = load_encoder(run), np.load(made / "rows.npy")
    wanted = encoder.embed(load_vectors(made / "rows.npy"))
    code = loading_code(encoder.card, run / "model.safetensors")
    run_command(["report", str(run)])
    assert "def embed(vectors)" in (run / "report.html").read_text()
    assert 'thanos.load_vectors("NEW_VECTORS.npy")' in (run / "report.html").read_text()
    for name in [name for name in sys.modules if name.startswith("thanos")]:
        monkeypatch.setitem(sys.modules, name, None)
    names: dict = {}
    exec(compile(code, "page", "exec"), names)
    for given in (rows, rows.astype(np.float64), torch.from_numpy(rows), names["read"](made / "rows.npy")):
        np.testing.assert_allclose(names["embed"](given).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_vectors_that_moved_are_named_with_the_remedy(made, tmp_path):
    shutil.copy(made / "v.npz", tmp_path / "v.npz")
    run_command(["train", "--data", str(tmp_path / "v.npz"), *SHORT, "--out", str(tmp_path / "run")])
    (tmp_path / "v.npz").rename(tmp_path / "elsewhere.npz")
    with pytest.raises(
        DataError, match=r"the vectors of .* were in .*v\.npz, which is gone.*config\.yaml \(data: \.\.\.\)"
    ):
        run_command(["embed", str(tmp_path / "run")])
    run_command(["train", "--data", str(tmp_path / "elsewhere.npz"), *SHORT, "--out", str(tmp_path / "run")])
    run_command(["embed", str(tmp_path / "run")])
    np.savez(tmp_path / "elsewhere.npz", X=np.load(made / "rows.npy") + 1, y=np.arange(COUNT) % 2)
    with pytest.raises(DataError, match=r"the vectors of .* have changed since training"):
        run_command(["embed", str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--data", "v.npz", "--encoder", "resnet18", "--out", "x"], "--encoder resnet18 takes images"),
        (["train", "--data", "v.npz", "--size", "32", "--out", "x"], "--size is about images"),
        (["train", "--data", "v.npz", "--views.flip", "0", "--out", "x"], "--views crops, flips and colours images"),
        (["train", "--data", "rows.npy", "--out", "x"], "thanos needs labels, and rows has none"),
        (
            ["train", "--data", "digits", "--feature-noise", "0.5", "--out", "x"],
            "--feature-noise is about the features",
        ),
        (["discover", "v.npz", "--frozen"], "--frozen keeps a network for images"),
        (["discover", "v.npz", "--encoder", "resnet18", "--pretrained"], "--pretrained is about a network for images"),
        (["discover", "rows.npy", "--size", "32"], "holds embeddings already; drop --data and the options of reading"),
        (["embed", "run", "--data", "wide.npy", "--out", "x.npz"], "takes vectors of 10; wide has vectors of 20"),
        (["embed", "run", "--data", "digits", "--out", "x.npz"], "takes vectors of 10; digits has images of 8x8"),
        (["embed", "v.npz", "--out", "x.npz"], "holds embeddings already"),
        (["embed", "run", "--data", "none.npy", "--out", "x.npz"], "no such path exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_one_line_and_leaves_nothing(words, said, made, tmp_path, monkeypatch, capsys):
    for name in ("v.npz", "rows.npy", "wide.npy"):
        shutil.copy(made / name, tmp_path / name)
    shutil.copytree(made / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_check_finds_faults_of_vectors(made, tmp_path, capsys):
    run_command(["check", str(made / "v.npz")])
    assert "no faults; next: thanos discover" in capsys.readouterr().out
    rows = np.load(made / "rows.npy")
    rows[3, 0], rows[50] = np.nan, rows[51]
    np.savez(tmp_path / "v.npz", X=rows, y=np.arange(COUNT) % 2)
    with pytest.raises(DataError, match="2 faults"):
        run_command(["check", str(tmp_path / "v.npz")])
    said = capsys.readouterr().out
    assert "row 3: has numbers that are not finite" in said
    assert "with the same numbers is" in said or "with the numbers of the" in said


def test_a_run_from_python_says_that_no_file_holds_its_vectors(made, tmp_path):
    vectors = load_vectors(made / "v.npz")
    silent = {"run": RunConfig(quiet=True), "say": lambda line: None}
    train(TrainConfig(encoder="mlp-4-2", epochs=1), tmp_path / "run", images=vectors, **silent)
    with pytest.raises(DataError, match="trained on vectors that no file holds"):
        run_command(["embed", str(tmp_path / "run")])
    run_command(["embed", str(tmp_path / "run"), "--data", str(made / "v.npz"), "--out", str(tmp_path / "a.npz")])


def test_images_with_settings_of_vectors_are_refused(tmp_path, made):
    from PIL import Image

    for kind in "ab":
        (tmp_path / kind).mkdir()
        for i in range(12):
            Image.fromarray(np.full((8, 8), i + 20 * (kind == "a"), dtype=np.uint8)).save(tmp_path / kind / f"{i}.png")
    with pytest.raises(ConfigError, match=r"`feature_noise` is about features, and .* has images"):
        run_command(["train", "--data", str(tmp_path), "--feature-noise", "0.5", *SHORT, "--out", str(tmp_path / "x")])
