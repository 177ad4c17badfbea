"""From images to a page in one command: what is chosen and told, what is left behind, the page in a real browser."""

import json
import re

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from browser import chromium
from thanos import DataConfig, embed, load, load_encoder, read_embeddings
from thanos.cli import run_command
from thanos.config import AutoTrainConfig, read_yaml
from thanos.embeddings import Embeddings
from thanos.errors import ConfigError, DataError
from thanos.report.discover_page import write_discover_page
from thanos.subclasses.fitted import Discovered
from thanos.training.auto import LARGEST, choose_training, load_suitably

pytestmark = pytest.mark.usefixtures("all_digits_in_module")  # what is chosen goes by how many images there are

FROM_NOTHING = AutoTrainConfig(encoder="tiny")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A run on digits, and what the command printed."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    out, err = StringIO(), StringIO()
    folder = tmp_path_factory.mktemp("found") / "run"
    with redirect_stdout(out), redirect_stderr(err):
        run_command(["discover", "digits", "--epochs", "5", "-o", str(folder)])
    return folder, out.getvalue(), err.getvalue()


def test_one_command_leaves_a_run_with_table_and_page(found):
    folder, out, err = found
    lines = (out + err).splitlines()
    assert len(lines) <= 25
    assert json.loads((folder / "metrics.json").read_text())["alarms"] == []
    assert "\x1b" not in out + err
    assert sum(line.startswith("chosen --") for line in lines) == 2  # method, encoder
    assert any(re.search(r"recovery, test: F1 0\.\d\d \(one cluster", line) for line in lines)
    for name in ("model.safetensors", "config.yaml", "embeddings.npz", "subclasses.csv", "subclasses.html"):
        assert (folder / name).is_file()
    settings = read_yaml(folder / "config.yaml")
    assert (settings["method"], settings["encoder"], settings["epochs"], settings["batch"]) == (
        "thanos",
        "tiny",
        5,
        128,
    )


def test_the_same_command_trains_nothing_again(found, capsys):
    folder, _, _ = found
    before = (folder / "model.safetensors").stat().st_mtime_ns
    table = (folder / "subclasses.csv").read_bytes()
    run_command(["discover", "digits", "--epochs", "5", "-o", str(folder)])
    assert "not trained again" in capsys.readouterr().out
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert (folder / "subclasses.csv").read_bytes() == table


def test_the_page_is_alive_in_a_browser_without_network(found, tmp_path):
    """Its script has run to the end: the legend names every discovered subclass with its size."""
    folder, _, _ = found
    page = folder / "subclasses.html"
    references = re.findall(r'(?:src|href)="([^"]{0,30})', page.read_text())
    assert references
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert page.stat().st_size < 3_000_000
    offline = ["--host-resolver-rules=MAP * 0.0.0.0", "--enable-logging=stderr", "--v=0"]
    dump = chromium(*offline, "--dump-dom", page.as_uri(), folder=tmp_path)
    assert "CONSOLE" not in dump.stderr
    legend = re.search(r'<ul id="legend"[^>]*>(.*?)</ul>', dump.stdout, re.DOTALL).group(1)
    shown = dict(re.findall(r"</svg> ([^<]*) \(([\d,]+)\)", legend))
    subclasses = json.loads((folder / "subclasses.json").read_text())["superclasses"]
    sizes = {f"{name}/{k}": f"{n:,}" for name, fact in subclasses.items() for k, n in enumerate(fact["sizes"])}
    assert shown == sizes


def test_the_map_answers_keys_and_choices(found, tmp_path):
    page = tmp_path / "page.html"
    script = """<script>addEventListener("load", () => {
      const map = document.getElementById("map"), kind = document.getElementById("kind");
      kind.value = 2; kind.dispatchEvent(new Event("change"));
      for (const key of ["ArrowRight", "ArrowRight", "+"]) map.dispatchEvent(new KeyboardEvent("keydown", {key}));
      document.title = document.getElementById("said").textContent;
    });</script></body>"""
    page.write_text((found[0] / "subclasses.html").read_text().replace("</body>", script))
    dump = chromium("--dump-dom", page.as_uri(), folder=tmp_path / "profile").stdout
    (title,) = re.findall(r"<title>(.*?)</title>", dump)
    kinds = r"superclass: .* · discovered subclass: .*/\d · true subclass: \d · plain classifier: \w+ · split: \w+"
    assert re.fullmatch(rf"digits/\d+ · {kinds}", title)
    legend = re.search(r'<ul id="legend"[^>]*>(.*?)</ul>', dump, re.DOTALL).group(1)
    assert len(re.findall(r"<li>", legend)) == 10  # coloured by the true digits


def test_hostile_names_are_shown_not_executed(tmp_path):
    hostile = "</script><script>document.title='gone'</script><img src=x onerror=\"document.title='gone'\">"
    rng = np.random.default_rng(0)
    embeddings = Embeddings(
        vectors=rng.normal(size=(40, 4)).astype(np.float32),
        superclass=np.repeat([0, 1], 20),
        superclass_names=(hostile, "b"),
        split=np.zeros(40, dtype=np.int8),
        refs=tuple(f"{hostile}{i}" for i in range(40)),
    )
    fact = {"clusters": 1, "images": 20}
    names = (f"{hostile}/0", "b/0")
    discovered = Discovered(np.repeat([0, 1], 20), names, np.zeros(40), np.ones(40), {hostile: fact, "b": fact})
    page = tmp_path / "page.html"
    write_discover_page(
        page,
        embeddings,
        discovered,
        of=hostile,
        again=hostile,
        images=None,
        errors=None,
        training=None,
        scores={},
        table=tmp_path / "t.csv",
    )
    assert hostile not in page.read_text()
    dump = chromium("--dump-dom", page.as_uri(), folder=tmp_path / "profile").stdout
    assert "<title>thanos: discovered subclasses</title>" in dump
    assert dump.count("&lt;/script&gt;") >= 4


def photos(folder, sizes, modes=("RGB", "RGB")):
    for name, mode in zip("ab", modes, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            Image.effect_noise(sizes[i % len(sizes)], 50).convert(mode).save(folder / name / f"{i}.png")
    return DataConfig(data=str(folder))


def test_what_is_left_open_is_chosen_with_a_reason(tmp_path):
    images, choices = load_suitably(photos(tmp_path / "mixed", [(100, 80), (300, 200)]), FROM_NOTHING)
    largest = LARGEST["cuda" if torch.cuda.is_available() else "cpu"]
    assert images.size == (min(largest, 128), min(largest, 128))
    assert any(reason.startswith("`size=") for reason in choices.reasons)
    config = choose_training(AutoTrainConfig(), DataConfig(data="x"), images, choices, seed=3)
    assert (config.batch, config.seed, config.size, config.method) == (8, 3, images.size[0], "thanos")
    assert config.epochs == 200
    images, choices = load_suitably(photos(tmp_path / "modes", [(16, 16)], modes=("RGB", "L")), FROM_NOTHING)
    assert images.channels == 3
    assert "`convert`: images of several modes" in choices.reasons
    images, choices = load_suitably(photos(tmp_path / "plain", [(16, 16)]), FROM_NOTHING)
    assert choices.reasons == []
    given = AutoTrainConfig(encoder="tiny", batch=4, epochs=7, train_method="spread", alpha=0.5)
    config = choose_training(given, DataConfig(data="x", size=8), images, choices, seed=0)
    assert choices.reasons == []
    assert (config.encoder, config.batch, config.epochs, config.method, config.alpha) == ("tiny", 4, 7, "spread", 0.5)


def test_other_faults_are_not_hidden_by_what_can_be_chosen(tmp_path):
    config = photos(tmp_path / "x", [(16, 16), (20, 20)])
    (tmp_path / "x" / "a" / "bad.png").write_text("x")
    with pytest.raises(DataError, match=r"bad.png cannot be read"):
        load_suitably(config, FROM_NOTHING)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "--data", "cifar10"], "both name images"),
        (["digits", "--weights", "best"], "finished run"),
        (["digits", "--pretrained", "w.pth"], "name it with --encoder"),
        (["digits", "--encoder", "resnet18", "--pretrained", "nowhere.pth", "--size", "32"], "none at nowhere.pth"),
        (["digits", "--labels", "nowhere.csv"], "has its own labels"),
        (["nowhere"], "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(tmp_path, monkeypatch, arguments, said):
    from pydantic import ValidationError

    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, ValidationError), match=said):
        run_command(["discover", *arguments])
    assert list(tmp_path.iterdir()) == []


def test_settings_of_training_are_refused_for_a_finished_run(found):
    with pytest.raises(ConfigError, match=r"--epochs is for training, and .* is trained already"):
        run_command(["discover", str(found[0]), "--epochs", "3"])


def test_a_checkpoint_on_disk_is_the_start(tmp_path):
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=5)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    data = ["--data", "digits", "--size", "32", "--train-limit", "64", "--batch", "32", "--epochs", "1", "--quiet"]
    start = ["--encoder", "test_resnet", "--pretrained", str(tmp_path / "w.safetensors"), "--learning-rate", "1e-12"]
    run_command(["train", *data, *start, "--method", "spread", "--out", str(tmp_path / "run")])
    trained = load_encoder(tmp_path / "run").module.state_dict()
    assert torch.allclose(trained["layer1.0.conv1.weight"], model.state_dict()["layer1.0.conv1.weight"], atol=1e-6)
    save_file({"layer1.0.conv1.weight": trained["layer1.0.conv1.weight"].clone()}, tmp_path / "part.safetensors")
    start[3] = str(tmp_path / "part.safetensors")
    with pytest.raises(ConfigError, match="does not hold the weights of test_resnet"):
        run_command(["train", *data, *start, "--out", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


def test_the_embeddings_are_those_of_the_run(found):
    kept = read_embeddings(found[0] / "embeddings.npz").vectors
    assert np.allclose(kept, embed(load_encoder(found[0]), load(DataConfig())).vectors, atol=1e-5)


def test_images_that_are_not_square_become_so_where_they_are_scaled(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "x.npz",
        images=rng.integers(0, 256, (40, 64, 300, 3), dtype=np.uint8),
        superclass=np.repeat(["a", "b"], 20),
    )
    images, choices = load_suitably(DataConfig(data=str(tmp_path / "x.npz")), FROM_NOTHING)
    size = choices.settings["size"]
    assert images.size == (size, size)
    assert sum(reason.startswith("`size=") for reason in choices.reasons) == 1


def test_a_checkpoint_named_from_here_goes_on(tmp_path, monkeypatch, capsys):
    """The same command again, with a path relative to where it is typed."""
    monkeypatch.chdir(tmp_path)
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), "w.safetensors")
    command = ["train", "--data", "digits", "--size", "32", "--train-limit", "64", "--batch", "32", "--epochs", "1"]
    command += [
        "--encoder",
        "test_resnet",
        "--pretrained",
        "w.safetensors",
        "--method",
        "spread",
        "--quiet",
        "--out",
        "r",
    ]
    run_command(command)
    run_command(command)
    assert "not trained again" in capsys.readouterr().out
