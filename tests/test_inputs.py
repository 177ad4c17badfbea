"""One artefact everywhere: every input in every subcommand, with the same outcome; and nothing asks the network."""

import csv
import json
import os
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from thanos import DataConfig, TrainConfig, embed, load, load_encoder, read_embeddings, train
from thanos.cli import run_command
from thanos.compare import compare
from thanos.config import RunConfig, read_yaml
from thanos.data.group_table import group_ids, read_table
from thanos.errors import ConfigError, DataError, OutputError
from thanos.inputs import Source
from thanos.runs.encoder_io import balance_parts
from thanos.training.monitor import KeepState

ENCODES = ("run", "checkpoint", "weights", "timm")
VERBS = {
    "embed": "v.npz",
    "transfer": None,
    "geometry": None,
    "discover": "found.csv",
    "robust": "head.npz",
    "report": "page.html",
    "export --to csv": "v.csv",
    "export --to onnx": "m.onnx",
    "export --to safetensors": "w.safetensors",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Each kind of source: its path, and the options it needs to know images and weights."""
    folder = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THANOS_CACHE", str(folder / "cache"))
        train(
            TrainConfig(epochs=2, train_limit=200),
            folder / "run",
            run=RunConfig(quiet=True, threads=1),
            say=lambda line: None,
        )
        run_command(["embed", str(folder / "run"), "--out", str(folder / "vectors.npz")])
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", in_chans=3).state_dict(), folder / "vit.safetensors")
    some = ["--data", "digits", "--train-limit", "200"]
    of_timm = [*some, "--size", "64", "--pretrained", str(folder / "vit.safetensors")]
    return {
        "run": [str(folder / "run")],
        "checkpoint": [str(folder / "run/last.ckpt")],
        "weights": [str(folder / "run/model.safetensors"), *some],
        "timm": ["test_vit", *of_timm],
        "embeddings": [str(folder / "vectors.npz")],
    }


@pytest.mark.parametrize("subcommand", VERBS)
def test_every_input_in_every_subcommand(inputs, subcommand, tmp_path, capsys, monkeypatch):
    """Run, checkpoint, weights and embeddings are one encoder's: they print and write the same, but for pictures."""
    if "onnx" in subcommand:
        pytest.importorskip("onnxscript")
        monkeypatch.setattr("torch.onnx.export", _once(torch.onnx.export))
    said, left = {}, {}
    for kind, source in inputs.items():
        out = [] if VERBS[subcommand] is None else ["--out", str(tmp_path / kind / VERBS[subcommand])]
        (tmp_path / kind).mkdir()
        capsys.readouterr()
        command = [*subcommand.split()[:1], *source, *subcommand.split()[1:], *out]
        if kind == "embeddings" and subcommand in ("embed", "export --to onnx", "export --to safetensors"):
            with pytest.raises(ConfigError, match=r"holds embeddings already|holds vectors, no encoder"):
                run_command(command)
            assert not list((tmp_path / kind).iterdir())
            continue
        run_command(command)
        said[kind] = re.sub(
            r"(20% held out for testing\n|alignment .*\n|beside their siblings: .*\n|[\w.-]*/[\w./-]+| --data digits)",
            "",
            capsys.readouterr().out,
        )
        left[kind] = sorted(file.name for file in (tmp_path / kind).iterdir())
        assert VERBS[subcommand] is None or VERBS[subcommand] in left[kind]
    same = [kind for kind in said if kind != "timm"]
    for kind in same[1:]:
        assert left[kind] == left["run"]
        if subcommand in ("transfer", "geometry", "discover", "robust"):
            assert said[kind] == said["run"], kind
    if subcommand == "embed":
        vectors = {kind: read_embeddings(tmp_path / kind / "v.npz").vectors for kind in ENCODES}
        for kind in ("checkpoint", "weights"):
            np.testing.assert_allclose(vectors[kind], vectors["run"], rtol=1e-5, atol=1e-6)
        assert vectors["timm"].shape == (452, 64)


def _once(export):
    """Equal models are traced once: it takes seconds."""
    made = {}

    def of(model, *arguments, **named):
        key = (repr(model), *(value.numpy().tobytes() for value in model.state_dict().values()))
        if key not in made:
            made[key] = export(model, *arguments, **named)
        return made[key]

    return of


def _train_and_die(file):
    """As when the system kills it, at the end of its first epoch."""

    def stop(self, trainer, module):
        trainer.save_checkpoint(file)
        os._exit(7)

    try:
        KeepState.on_validation_end = stop
        train(TrainConfig(epochs=3), file.parent, run=RunConfig(quiet=True, threads=1), say=lambda line: None)
    finally:
        os._exit(1)


def test_a_checkpoint_of_an_unfinished_run_is_an_encoder(tmp_path):
    """Its weights are those of the moment; both parts have one mean length."""
    file = tmp_path / "run/last.ckpt"
    child = os.fork()
    if child == 0:
        _train_and_die(file)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with pytest.raises(DataError, match="its training is unfinished"):
        run_command(["embed", str(tmp_path / "run")])
    run_command(["embed", str(file), "--out", str(tmp_path / "v.npz")])
    vectors = read_embeddings(tmp_path / "v.npz").of("train").vectors
    lengths = [np.linalg.norm(part, axis=1).mean() for part in (vectors[:, :128], vectors[:, 128:])]
    np.testing.assert_allclose(lengths, 1, rtol=1e-3)
    encoder = load_encoder(file)
    state = torch.load(file, weights_only=True)["state_dict"]
    weight = next(value for name, value in state.items() if name.endswith("encoder.head.weight"))
    torch.testing.assert_close(encoder.module.parts[0].head.weight.data, weight)
    images = load(DataConfig())
    balance_parts(encoder, images)
    np.testing.assert_allclose(embed(encoder, images).of("train").vectors, vectors, rtol=1e-5, atol=1e-6)


def test_what_a_classifier_says_of_new_images(inputs, tmp_path, capsys):
    """Against the .npz's own arrays by hand, for a run's images and for others."""
    run = Path(inputs["run"][0])
    table = tmp_path / "predicted.csv"
    with pytest.raises(ConfigError, match="none of its own"):
        run_command(["classify", inputs["embeddings"][0], "--out", str(table)])
    with pytest.raises(ConfigError, match=r"absent\.npz does not exist"):
        run_command(["classify", str(run), "--classifier", str(tmp_path / "absent.npz"), "--out", str(table)])
    head = tmp_path / "fair.npz"
    run_command(["robust", str(run), "--out", str(head)])
    capsys.readouterr()
    run_command(["classify", str(run), "--classifier", str(head), "--out", str(table)])
    said = capsys.readouterr().out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    embeddings, kept = read_embeddings(run / "../vectors.npz"), np.load(head)
    logits = (embeddings.vectors - kept["mean"]) / kept["scale"] @ kept["weight"].T + kept["bias"]
    expected = kept["superclass_names"][logits.argmax(axis=1)]
    assert [row["predicted"] for row in rows] == expected.tolist()
    share = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], share, atol=1e-4)
    truth = np.array(embeddings.superclass_names)[embeddings.superclass]
    assert [row["superclass"] for row in rows] == truth.tolist()
    test = embeddings.in_split("test")
    assert f"right on {(expected == truth)[test].mean():.1%} of {test.sum():,} test images" in said

    (tmp_path / "new").mkdir()
    images = load(DataConfig())
    for i in range(3):
        Image.fromarray(images.images[np.array([i])][0].squeeze()).save(tmp_path / f"new/{i}.png")
    run_command(["classify", str(run), "--classifier", str(head), "--data", str(tmp_path / "new"), "--out", str(table)])
    said = capsys.readouterr().out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    vectors = load_encoder(run).embed(images.take(np.arange(3)))
    logits = (vectors - kept["mean"]) / kept["scale"] @ kept["weight"].T + kept["bias"]
    assert [row["predicted"] for row in rows] == kept["superclass_names"][logits.argmax(axis=1)].tolist()
    assert "superclass" not in rows[0]
    assert "right on" not in said
    (tmp_path / "notes.csv").write_text("mine\n")
    with pytest.raises(OutputError, match="not written by thanos classify"):
        run_command(["classify", str(run), "--classifier", str(head), "--out", str(tmp_path / "notes.csv")])
    with pytest.raises(DataError, match="for embeddings of 256 dimensions; those of test_vit have 64"):
        run_command(["classify", *inputs["timm"], "--classifier", str(head), "--out", str(tmp_path / "t.csv")])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not one", None])
def test_what_is_no_checkpoint(tmp_path, content):
    file = tmp_path / "x.ckpt"
    if content is None:
        torch.save({"state_dict": {}}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"a checkpoint is a run's last\.ckpt"):
        load_encoder(file)


def test_names_that_a_person_gave_are_on_the_page(inputs, tmp_path, capsys):
    table = tmp_path / "found.csv"
    run_command(["discover", *inputs["run"], "--clusters", "3", "--out", str(table)])
    names = tmp_path / "mine.yaml"
    discovered = [*json.loads((tmp_path / "found.json").read_text())["superclasses"]]
    names.write_text(
        "".join(f"{name}/{k}: {name} {'round' if k else 'thin'}\n" for name in discovered for k in range(3))
    )
    page = tmp_path / "named.html"
    run_command(["report", *inputs["run"], "--table", str(table), "--names", str(names), "--out", str(page)])
    shown = re.findall(r"<h3>(.*?)</h3>", page.read_text())
    assert sorted(shown) == sorted(f"{name} {kind}" for name in discovered for kind in ("thin", "round"))
    names.write_text("".join(f"{name}/0: one\n" for name in discovered))  # one name in two superclasses stays two
    run_command(["report", *inputs["run"], "--table", str(table), "--names", str(names), "--out", str(page)])
    assert {f"one ({name})" for name in discovered} < set(re.findall(r"<h3>(.*?)</h3>", page.read_text()))
    run_command(["discover", *inputs["run"], "--most", "3", "--out", str(table)])
    run_command(["report", *inputs["run"], "--table", str(table), "--out", str(page)])
    for fact in json.loads((tmp_path / "found.json").read_text())["superclasses"].values():
        said = ", ".join(f"{k}: {value:.2f}" for k, value in fact["silhouette"].items())
        assert f"by number of clusters:\n{said}" in page.read_text()
    (tmp_path / "other.html").write_text("mine")
    with pytest.raises(Exception, match="was not written by thanos"):
        run_command(["report", *inputs["run"], "--out", str(tmp_path / "other.html")])
    assert (tmp_path / "other.html").read_text() == "mine"
    with pytest.raises(ConfigError, match="give both"):
        run_command(["report", *inputs["embeddings"], "--names", str(names), "--out", str(page)])


def test_a_run_s_own_subclasses_and_names_are_taken(inputs, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(inputs["run"][0], run)
    run_command(["discover", str(run), "--clusters", "2"])
    names = run / "subclasses.yaml"
    first = next(iter(yaml.safe_load(names.read_text())))
    names.write_text(names.read_text().replace(f"{first}: {first}", f"{first}: mine"))
    run_command(["discover", str(run), "--clusters", "2"])  # the same again: names stay
    assert "your names" in capsys.readouterr().out
    run_command(["robust", str(run)])
    said = capsys.readouterr().out
    assert f"subclasses of {run}/subclasses.csv, named by {names}" in said
    assert len(re.findall("^subclass mine ", said, re.MULTILINE)) == 1
    run_command(["report", str(run)])
    assert "<h3>mine</h3>" in (run / "report.html").read_text()
    fair = compare([run])[0].cells["worst discovered group"]
    assert fair.value is not None
    shutil.copy(names, tmp_path / "two.yaml")
    capsys.readouterr()
    run_command(["discover", str(run), "--clusters", "3"])
    said = capsys.readouterr().out
    assert "still of the earlier subclasses: report.html, robust-portfolio.npz; " in said
    assert compare([run])[0].cells["worst discovered group"].value is None
    with pytest.raises(ConfigError, match="the subclasses of another clustering"):
        run_command(["robust", str(run), "--names", str(tmp_path / "two.yaml")])
    capsys.readouterr()
    run_command(["discover", str(run), "--clusters", "2"])
    assert "still of" not in capsys.readouterr().out
    assert compare([run])[0].cells["worst discovered group"].value == fair.value
    assert yaml.safe_load(names.read_text()) == yaml.safe_load((tmp_path / "two.yaml").read_text())


def test_images_that_moved(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(60):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    run = tmp_path / "run"
    config = TrainConfig(data=str(tmp_path / "photos"), method="spread", epochs=1, batch=8)
    train(config, run, run=RunConfig(quiet=True, threads=1))
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    capsys.readouterr()
    for subcommand in ("embed", "report", "discover"):
        with pytest.raises(DataError, match=re.escape(f"write their new place into {run}/config.yaml (data: ...)")):
            run_command([subcommand, str(run)])
    assert capsys.readouterr().out == ""
    settings = run / "config.yaml"
    settings.write_text(settings.read_text().replace(str(tmp_path / "photos"), str(tmp_path / "elsewhere")))
    run_command(["discover", str(run), "--clusters", "2"])
    names = run / "subclasses.yaml"
    names.write_text(names.read_text().replace("a/0: a/0", "a/0: mine"))
    (tmp_path / "elsewhere").rename(tmp_path / "third")
    capsys.readouterr()
    run_command(["geometry", str(run)])  # the embeddings are kept by now, and all but the alignment rests on them
    said = capsys.readouterr().out
    assert "without the alignment" in said
    assert "effective_rank" in said
    moved = config.model_copy(update={"data": str(tmp_path / "third")})
    train(moved, run, run=RunConfig(quiet=True, threads=1))  # the same training with the new place tells it the run
    assert read_yaml(settings)["data"] == str(tmp_path / "third")
    run_command(["embed", str(run)])
    capsys.readouterr()
    run_command(["report", str(run)])
    assert f"named by {names}" in capsys.readouterr().out
    run_command(["discover", str(run), "--clusters", "2"])
    assert "a/0: mine" in names.read_text()
    assert str(tmp_path / "third") in (run / "subclasses.csv").read_text()


def test_what_lies_beside_an_npz_is_taken_and_told_of(inputs, tmp_path, capsys):
    file = tmp_path / "v.npz"
    shutil.copy(inputs["embeddings"][0], file)
    run_command(["discover", str(file), "--clusters", "2"])
    names = tmp_path / "v-subclasses.yaml"
    first = next(iter(yaml.safe_load(names.read_text())))
    names.write_text(names.read_text().replace(f"{first}: {first}", f"{first}: mine"))
    run_command(["report", str(file)])
    assert "<h3>mine</h3>" in (tmp_path / "v-report.html").read_text()
    run_command(["robust", str(file)])
    assert "subclass mine" in capsys.readouterr().out
    run_command(["classify", str(file)])
    assert (tmp_path / "v-predicted.csv").is_file()
    run_command(["discover", str(file), "--clusters", "3"])
    assert "subclasses: v-report.html, v-robust-portfolio.npz; " in capsys.readouterr().out


def test_published_weights_that_cannot_be_had(tmp_path, monkeypatch):
    """Without a network the answer comes at once, and blames what is at fault."""

    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"the published weights of test_vit cannot be had .* `pretrained=FILE`"):
        run_command(["embed", "test_vit", "--data", "digits", "--size", "64", "--out", str(tmp_path / "v.npz")])
    assert not (tmp_path / "v.npz").exists()


def test_images_alone_can_be_embedded(inputs, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "new").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "new" / f"{i}.png")
    run_command(["embed", *inputs["run"], "--data", str(tmp_path / "new"), "--out", str(tmp_path / "v.npz")])
    assert read_embeddings(tmp_path / "v.npz").superclass_names == ("unknown",)


def test_nothing_asks_the_network(tmp_path, monkeypatch):
    """From images to a page and an export, with every way out closed."""

    def refuse(*arguments, **options):
        raise AssertionError(f"the network was asked: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    run = tmp_path / "run"
    small = ["--train-limit", "200", "--epochs", "1", "--quiet"]
    run_command(["discover", "digits", "--train-method", "spread", *small, "-o", str(run)])
    run_command(["robust", str(run)])
    run_command(["export", str(run), "--to", "safetensors", "--out", str(tmp_path / "w.safetensors")])
    assert Path(run / "subclasses.html").is_file()


def test_new_images_are_brought_to_what_the_encoder_takes(inputs, tmp_path, capsys):
    """Of any size and mode, in a folder or a table without labels; all in one split."""
    run = inputs["run"][0]
    (tmp_path / "new").mkdir()
    rng = np.random.default_rng(0)
    for i, size in enumerate([(30, 20, 1), (8, 8, 1), (64, 64, 1)]):
        Image.fromarray(rng.integers(0, 256, size[:2], dtype=np.uint8)).save(tmp_path / f"new/{i}.png")
    (tmp_path / "new.csv").write_text("path\nnew/0.png\nnew/1.png\nnew/2.png\n")
    found = []
    for source in ("new", "new.csv"):
        run_command(["embed", run, "--data", str(tmp_path / source), "-o", str(tmp_path / "v.npz")])
        found.append(read_embeddings(tmp_path / "v.npz"))
        said = capsys.readouterr().out
        assert "2 of 3 brought to 8x8" in said
        assert "held out" not in said
    np.testing.assert_array_equal(found[0].vectors, found[1].vectors)
    assert set(found[0].split.tolist()) == {2}
    asked = load(DataConfig(data=str(tmp_path / "new"), size=8))
    np.testing.assert_allclose(embed(load_encoder(run), asked).vectors, found[0].vectors, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="thanos needs labels, and new has none"):
        train(TrainConfig(data=str(tmp_path / "new.csv"), size=8), tmp_path / "run")


def test_embed_keeps_what_is_not_its_own(inputs, tmp_path):
    file = tmp_path / "images.npz"
    np.savez(file, images=np.zeros((20, 8, 8), dtype=np.uint8), superclass=np.arange(20) % 2)
    before = file.read_bytes()
    with pytest.raises(OutputError, match="not written by thanos embed"):
        run_command(["embed", *inputs["run"], "--data", str(file), "--out", str(file)])
    assert file.read_bytes() == before


def test_weights_without_their_facts(inputs, tmp_path):
    shutil.copy(Path(inputs["run"][0]) / "model.safetensors", tmp_path / "lone.safetensors")
    with pytest.raises(DataError, match=r"has no lone\.json beside it"):
        load_encoder(tmp_path / "lone.safetensors")


def test_a_blank_keeps_a_subclass_s_own_name(tmp_path):
    (tmp_path / "t.csv").write_text("image,superclass,subclass\na,x,x/0\nb,x,x/1\n")
    (tmp_path / "n.yaml").write_text("x/0:\nx/1: ' '\n")
    assert [one.subclass for one in read_table(tmp_path / "t.csv", tmp_path / "n.yaml").values()] == ["x/0", "x/1"]


def test_names_keep_the_place_of_their_subclass(tmp_path):
    """So that colours and rows stay when a person names subclasses."""
    (tmp_path / "t.csv").write_text("image,superclass,subclass\nc,y,y/0\na,x,x/0\nb,x,x/1\n")
    (tmp_path / "n.yaml").write_text("x/0: zebras\ny/0: apes\n")
    for names, expected in ((None, ("x/0", "x/1", "y/0")), (tmp_path / "n.yaml", ("zebras", "x/1", "apes"))):
        found = {image: one.subclass for image, one in read_table(tmp_path / "t.csv", names).items()}
        ids, known = group_ids(found, ("a", "b", "c"), tmp_path / "t.csv")
        assert known == expected
        assert ids.tolist() == [0, 1, 2]


def test_a_run_needs_no_images_to_be_fair(inputs, tmp_path, monkeypatch):
    """Its embeddings are enough for robust and classify, wherever its images are by now."""
    run = tmp_path / "run"
    shutil.copytree(inputs["run"][0], run)
    run_command(["embed", str(run)])
    monkeypatch.setattr(Source, "images", property(lambda self: pytest.fail("read the images")))
    run_command(["robust", str(run), "--method", "erm", "--out", str(tmp_path / "head.npz")])
    run_command(["classify", str(run), "--classifier", str(tmp_path / "head.npz"), "-o", str(tmp_path / "p.csv")])
    assert (tmp_path / "p.csv").is_file()
