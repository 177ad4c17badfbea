"""The command as a user meets it: help, typos, refusals; without torch where no work is done."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from thanos.cli import main, run_command
from thanos.cli.app import as_flags
from thanos.config import TrainConfig, ViewSpec, save
from thanos.errors import DataError, OutputError

WITHOUT_TORCH = """
import json, os, sys
from thanos.cli import main
for number, words in enumerate(json.loads(sys.argv[1])):
    if os.fork():
        os.wait()
        continue
    os.dup2(os.open(str(number), os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    try:
        main(words)
    except SystemExit as end:
        code = end.code
    loaded = sorted({"torch", "timm", "pytorch_lightning", "torchvision", "sklearn"} & set(sys.modules))
    print("LOADED", loaded, "CODE", code, flush=True)
    os._exit(0)
"""
"""Each command in a child of its own of one Python that has the command line and nothing else."""


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of one command in this process."""
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


TYPOS = [
    (["tran"], 'Did you mean "train"?'),
    (["theory", "sugest", "--superclasses", "3"], "'sugest' is no command of thanos theory (did you mean 'suggest'?)"),
    (["data", "biuld", "dominoes-95"], 'Did you mean "build"?'),
    (["--versoin"], "--versoin is no option of thanos (did you mean '--version'?)"),
    (["train", "digits", "--methd", "spread"], "--methd is no option of thanos train (did you mean '--method'?)"),
    (["train", "--views.flop", "0.5"], "--views.flop is no option of thanos train (did you mean '--views.flip'?)"),
    (["train", "--group-weight.a", "2"], "--out is missing"),
    (["embed", "--weigths", "best"], "Did you mean --weights?"),
    (["geometri", "x"], 'Did you mean "geometry"?'),
    (["train", "--methd", "spread", "--out", "x"], "--method"),
    (["train", "--method", "sprad", "--out", "x"], "did you mean 'spread'?"),
    (["train", "--encoder", "resnet19", "--out", "x"], "did you mean 'resnet18'?"),
    (["train", "--encoder", "torchvision/resnet18", "--out", "x"], "did you mean 'resnet18'?"),
    (["train", "--epochs", "ten", "--out", "x"], "--epochs"),
    (["train", "epochs=3", "--out", "x"], "'epochs=3' is not taken here"),
    (["train", "--data", "d", "--out", "x"], "no such path exists"),
    (["reprot", "x"], 'Did you mean "report"?'),
    (["report", "resnet19", "--data", "digits"], "did you mean 'resnet18'?"),
    (["report", "resnet18"], "say with --data"),
    (["train", "--encoder", "tinny", "--out", "x"], "did you mean 'tiny'?"),
    (["train", "--data", "cifr10", "--out", "x"], "did you mean 'cifar10'?"),
    (["train", "--data", "no/such/folder", "--out", "x"], "no such path exists"),
    (["train", "--views.flop", "0.5", "--out", "x"], "--views.flip"),
    (["train", "--alpha", "autoo", "--out", "x"], "did you mean 'auto'?"),
    (["train", "--alpha", "1.5", "--out", "x"], "--alpha should be less than or equal to 1"),
    (["train", "--temperature", "0", "--out", "x"], "--temperature should be greater than or equal to 0.005; got '0'"),
    (["train", "--temperature", "inf", "--out", "x"], "--temperature should be a finite number"),
    (["train", "--accelerator", "gpuu", "--out", "x"], "'gpu'"),
    (["train", "--denominator", "all", "--out", "x"], "--denominator all is SupCon's"),
    (["train", "--batch", "1", "--out", "x"], "--batch should be greater than or equal to 2"),
    (["train", "--views-per-image", "1", "--out", "x"], "--views-per-image should be greater than or equal to 2"),
    (["train", "--precision", "bf17", "--out", "x"], "--precision"),
    (["clasify", "x"], 'Did you mean "classify"?'),
    (["check"], "DATA is missing. For examples: thanos check -h"),
    (["train"], "--out is missing. For examples: thanos train -h"),
    (["train", "--out"], "--out takes a value; none came"),
    (["frobnicate"], "See thanos --help."),
    (["embed", "."], "a run directory holds a config.yaml and weights; . does not"),
    (["train", "--data", "digits", "--size", "5000", "--out", "x"], "would enlarge images of 8 pixels 625 times"),
    (["discover", __file__, "-o", "x"], "is one file of another kind"),
    (["check", __file__], "is one file of another kind"),
    (["embed", __file__, "--out", "x.npz"], "is a file of another kind"),
    (["train", "--released-loss", "--contrast", "all-view", "--out", "x"], "drop --released-loss"),
    (["train", "--pretrained", "--out", "x"], "has no published weights"),
    (["train"], "--out"),
    (["train", "--config", "none.yaml", "--out", "x"], "none.yaml does not exist"),
    (["train", "--config"], "takes a YAML file"),
    (["embed", "no-such-run"], "no-such-run does not exist"),
    (["transfer", "no-such.npz"], "no-such.npz does not exist"),
    (["transfer", ".", "--probe", "linear"], "released"),
    (["demo", "--seeds", "0"], "--seeds should be greater than or equal to 1"),
    (["train", "--robust", "groupdr", "--out", "x"], "did you mean 'groupdro'?"),
    (["train", "--method", "infonce", "--robust", "reweight", "--out", "x"], "this run trains none"),
    (["robust", "no-such.npz"], "no-such.npz does not exist"),
    (["robust", "resnet18", "--data", "digits", "--method", "dfr", "--groups", "none"], "--groups given or discovered"),
    (["robust", "resnet18", "--data", "digits", "--groups", "given", "--table", "t.csv"], "drop --groups given"),
    (["robust", "resnet18", "--data", "digits", "--names", "n.yaml"], "give both"),
    (["robust", "resnet18", "--data", "digits", "--groups", "given", "--names", "n.yaml"], "drop --groups given"),
    (["discover", ".", "--least", "9", "--most", "4"], "--least is at most --most"),
    (["data", "build", "dominoes"], "did you mean 'dominoes-9"),
    (["reproduce", "table4", "--method", "thanoss"], "did you mean 'thanos'?"),
    (["discovr", "x"], 'Did you mean "discover"?'),
    (["chek", "x"], 'Did you mean "check"?'),
    (["comapre", "a", "b"], 'Did you mean "compare"?'),
    (["exprt", "x", "--to", "onnx"], 'Did you mean "export"?'),
    (["bench", "trian"], 'Did you mean "train"?'),
    (["export", "x", "--to", "onx"], 'Did you mean "onnx"?'),
    (["discover", "digits", "--train-method", "thanoss"], "did you mean 'thanos'?"),
    (["discover", "digits", "--encoder", "resnet19"], "did you mean 'resnet18'?"),
    (["discover", "digits", "--epocs", "3"], "Did you mean --epochs?"),
    (["discover", "digits", "--reduce", "pka"], "did you mean 'pca'?"),
    (["discover", "digits", "--method", "spread"], "--train-method spread"),
    (["discover", "digts"], "did you mean 'digits'?"),
    (["discover", "digits", "--lables", "x.csv"], "Did you mean --labels?"),
    (["check", "cifr10"], "did you mean 'cifar10'?"),
    (["check", "digits", "--skip-bad"], "drop --skip-bad"),
    (["check", "digits", "--skip-bd"], "Did you mean --skip-bad?"),
    (["train", "--precison", "32", "--out", "x"], "Did you mean --precision?"),
    (["train", "--precision", "bf16", "--out", "x"], "did you mean 'bf16-mixed'?"),
    (["robust", "resnet18", "--data", "digits", "--method", "gropdro"], "did you mean 'groupdro'?"),
    (["robust", "resnet18", "--data", "digits", "--grups", "given"], "Did you mean --groups?"),
    (["reproduce", "tabel3"], 'Did you mean "table3"?'),
    (["reproduce", "table3", "--scale", "papr"], "did you mean 'paper'?"),
    (["theory", "sugest"], "did you mean 'suggest'?"),
    (["embed", ".", "--wieghts", "best"], "Did you mean --weights?"),
    (["train", "--data", "cifar-10", "--out", "x"], "did you mean 'cifar10'?"),
    (["train", "--denominator", "al", "--out", "x"], "did you mean 'all'?"),
    (["train", "--views.crop_scal", "0.5", "--out", "x"], "Did you mean --views.crop-scale?"),
]


@pytest.mark.parametrize(("arguments", "said"), TYPOS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_typo_gets_one_line_with_the_fix(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("methd: spread", "--method"),
        ("method: sprad", "did you mean 'spread'?"),
        ("views: {flop: 1}", "--views.flip"),
        ("- a\n- b", "settings like 'epochs: 10'"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_typo_in_a_file(capsys, tmp_path, content, said):
    (tmp_path / "c.yaml").write_text(content)
    code, _, err = run(capsys, "train", "--config", tmp_path / "c.yaml", "--out", tmp_path / "x")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("subcommand", ["train", "discover"])
@pytest.mark.parametrize("place", ["taken", "blocked/run"])
def test_a_place_that_cannot_be_used_is_refused_before_images_are_read(tmp_path, monkeypatch, subcommand, place):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("")
    (tmp_path / "blocked").write_text("")
    monkeypatch.setattr("thanos.data.load.load_samples", lambda config: pytest.fail("read the images"))
    data = ["--data", "cifar10"] if subcommand == "train" else ["cifar10"]
    with pytest.raises(OutputError, match=r"Name another `out`\."):
        run_command([subcommand, *data, "--out", str(tmp_path / place)])
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["thesis.tex"]


def test_a_file_of_training_settings_is_not_for_discover(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("data: photos\nmethod: spread\n")
    code, _, err = run(capsys, "discover", "--config", tmp_path / "c.yaml")
    assert code == 2
    assert "thanos discover photos --train-method spread" in err


def test_every_setting_of_a_run_comes_back_from_its_file(tmp_path, monkeypatch):
    """Also those that are called like a subcommand: data, robust."""
    table = tmp_path / "t.csv"
    table.write_text("")
    wanted = TrainConfig(
        data=str(table), root=tmp_path, size=24, convert=True, skip_bad=True, validation=0.2, labels=table,
        groups_from=table, method="cross-entropy", robust="weighted",
        group_weight={"a b": 2.0, "c, d": 0.5}, sampling="group-balanced", select="worst-group",
        encoder="resnet18", pretrained=table, batch=32, epochs=3, seed=5, views=ViewSpec(flip=0.1),
    )  # fmt: skip
    save(wanted, tmp_path / "config.yaml")
    came = []

    def load(config):
        came.append(config)
        raise DataError("read")

    monkeypatch.setattr("thanos.data.load.load_samples", load)
    for subcommand in (["train", "--out", str(tmp_path / "x")], ["bench", "train"]):
        with pytest.raises(DataError, match="read"):
            run_command([*subcommand, "--config", str(tmp_path / "config.yaml")])
    assert came == [wanted, wanted]


ANSWERED = [
    (["--help"], 0),
    (["train", "--help"], 0),
    (["tran"], 2),
    (["train", "--methd", "x", "--out", "y"], 2),
    (["train", "--encoder", "resnet19", "--out", "y"], 2),
    (["train", "--data", "cifr10", "--out", "y"], 2),
    (["train", "--data", "cifar10", "--root", "nowhere", "--out", "y"], 2),
    (["transfer", "nowhere"], 2),
    (["discover", "digts"], 2),
    (["check", "cifr10"], 2),
    (["export", "nowhere", "--to", "onnx"], 2),
    (["compare"], 2),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each of them printed, not to a terminal."""
    folder = tmp_path_factory.mktemp("answers")
    words = json.dumps([arguments for arguments, _ in ANSWERED])
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, words], cwd=folder, check=True)
    return [(folder / str(number)).read_text("utf-8") for number in range(len(ANSWERED))]


@pytest.mark.parametrize("number", range(len(ANSWERED)), ids=lambda number: " ".join(ANSWERED[number][0]))
def test_torch_is_not_imported_to_answer(answers, number):
    assert f"LOADED [] CODE {ANSWERED[number][1]}" in answers[number]
    assert "\x1b" not in answers[number]  # no escape codes but in a terminal


VERBS = [
    "demo",
    "train",
    "check",
    "embed",
    "transfer",
    "geometry",
    "discover",
    "robust",
    "classify",
    "export",
    "compare",
]


@pytest.mark.parametrize("subcommand", VERBS)
def test_help_has_examples(capsys, subcommand):
    _, out, _ = run(capsys, subcommand, "--help")
    assert f"thanos {subcommand} " in out.split("Examples:")[1]


def test_help_says_that_threads_change_the_outcome(capsys):
    _, out, _ = run(capsys, "train", "--help")
    heading = next(line for line in out.splitlines() if "How it is carried out" in line)
    assert "--threads alone changes the outcome" in heading
    said = " ".join(word for word in out.split("--threads INT")[1].split("--checkpoint")[0].split() if word != "│")
    assert "so the weights differ" in said


@pytest.mark.usefixtures("all_digits")
def test_the_whole_way_from_the_command_line(capsys, tmp_path):
    """train, again, from its own configuration, embed, transfer, geometry; then the .npz of someone else."""
    run_a, run_b = tmp_path / "a", tmp_path / "b"
    small = ["--epochs", "1", "--train-limit", "256", "--method", "spread", "--threads", "1", "--quiet"]
    code, out, err = run(capsys, "train", *small, "--out", run_a)
    assert (code, err) == (0, "")
    assert "alpha 0.6" in out
    assert "\x1b" not in out
    assert {p.name for p in run_a.iterdir()} == {
        "config.yaml", "data.json", "metrics.jsonl", "metrics.json", "run.log", "last.ckpt", "model.safetensors",
        "model.json", "best.safetensors", "best.json", "classifier.npz", "best-classifier.npz", "manifest.json",
    }  # fmt: skip
    code, out, _ = run(capsys, "train", *small, "--out", run_a)
    assert (code, "not trained again" in out) == (0, True)
    code, _, err = run(capsys, "train", *small[2:], "--epochs", "2", "--out", run_a)
    assert code == 2
    assert "epochs 1 there, 2 here" in err
    assert run(capsys, "train", "--config", run_a / "config.yaml", "--quiet", "--threads", 1, "--out", run_b)[0] == 0
    assert (run_a / "model.safetensors").read_bytes() == (run_b / "model.safetensors").read_bytes()

    assert run(capsys, "embed", run_a)[0] == 0
    with np.load(run_a / "embeddings.npz") as file:
        assert file["vectors"].shape == (256 + 144 + 359, 128)
        arrays = {name: file[name] for name in ("vectors", "superclass", "subclass", "split")}
    code, out, _ = run(capsys, "transfer", run_a)
    assert code == 0
    assert "fine accuracy" in out
    code, out, _ = run(capsys, "transfer", run_a, "--probe", "released", "--probe-epochs", 2, "--weights", "best")
    assert code == 0
    assert "fine accuracy" in out
    code, out, _ = run(capsys, "geometry", run_a)
    assert code == 0
    assert "alignment" in out
    metrics = yaml.safe_load((run_a / "metrics.json").read_text())
    assert {"transfer/last", "transfer/best", "geometry/last"} <= set(metrics)

    np.savez(tmp_path / "theirs.npz", **arrays)
    code, out, _ = run(capsys, "transfer", tmp_path / "theirs.npz")
    assert code == 0
    assert f"n = {(arrays['split'] == 2).sum()}" in out
    assert run(capsys, "geometry", tmp_path / "theirs.npz")[0] == 0
    code, _, err = run(capsys, "transfer", tmp_path / "theirs.npz", "--probe", "released")
    assert code == 2
    assert "not an .npz" in err
    weights = tmp_path / "copy" / "mine.safetensors"
    weights.parent.mkdir()
    for suffix in (".safetensors", ".json"):
        weights.with_suffix(suffix).write_bytes((run_a / "model").with_suffix(suffix).read_bytes())
    assert run(capsys, "transfer", weights, "--data", "digits")[0] == 0
    code, _, err = run(capsys, "geometry", weights)
    assert code == 2
    assert "say it with --data" in err
    code, _, err = run(capsys, "embed", run_a, "--size", 8)
    assert code == 2
    assert "say which ones with --data" in err
    assert run(capsys, "embed", run_a, "--weights", "best")[0] == 0
    assert (run_a / "embeddings-best.npz").is_file()
    code, _, err = run(capsys, "train", *small, "--views.flip", 0.5, "--out", run_a)
    assert code == 2
    assert "views.flip 0.0 there, 0.5 here" in err
    code, _, err = run(capsys, "embed", weights, "--data", "digits", "--size", 16, "--out", tmp_path / "y.npz")
    assert code == 2
    assert "Pass --size 8" in err
    assert run(capsys, "embed", weights, "--data", "digits", "--out", tmp_path / "y.npz")[0] == 0


def test_out_that_holds_something_else_is_left_alone(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for subcommand in ("train", "demo"):
        code, _, err = run(capsys, subcommand, "--out", tmp_path)
        assert code == 2
        assert ("holds thesis.txt" if subcommand == "train" else "holds something else") in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def small_folder(root):
    """Two superclasses of six real little images."""
    rng = np.random.default_rng(0)
    for i in range(12):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return root


def break_it(root, fault):
    """The data to name after one fault was planted."""
    table = root.parent / "labels.csv"
    if fault == "empty folder":
        shutil.rmtree(root)
        root.mkdir()
    elif fault == "one superclass":
        shutil.rmtree(root / "b")
    elif fault == "truncated image":
        (root / "a" / "0.png").write_bytes((root / "a" / "0.png").read_bytes()[:-30])
    elif fault == "mixed sizes":
        Image.new("RGB", (20, 20)).save(root / "a" / "big.png")
    elif fault in ("L", "RGBA", "CMYK", "I;16"):
        Image.new(fault, (8, 8)).save(root / "a" / f"odd.{'jpg' if fault == 'CMYK' else 'png'}")
    elif fault.startswith("table"):
        header = "path,superklass" if fault == "table: unknown column" else "path,superclass"
        rows = [f"{p.relative_to(root.parent)},{p.parent.name}" for p in sorted(root.rglob("*.png"))]
        rows += {"table: missing file": ["data/nowhere.png,a"], "table: NaN label": ["data/a/0.png,nan"]}.get(fault, [])
        table.write_text("\n".join([header, *rows]))
        return table
    return root


@pytest.mark.parametrize(
    ("fault", "wanted", "remedy"),
    [
        ("empty folder", "holds no images", "Lay them out as"),
        ("one superclass", "two or more superclasses", "Add a second superclass"),
        ("truncated image", "cannot be read as an image", "--skip-bad"),
        ("mixed sizes", "images of one size", "--size 8"),
        ("L", "odd.png is grey", "--convert"),
        ("RGBA", "odd.png is with transparency", "--convert"),
        ("CMYK", "odd.jpg is CMYK", "--convert"),
        ("I;16", "odd.png is 16 bit", "--convert"),
        ("table: missing file", "row 14 names the image 'data/nowhere.png'", "mend the path"),
        ("table: unknown column", "it has 'superklass'", "did you mean 'superclass'?"),
        ("table: NaN label", "row 14 has no superclass", "give it one"),
    ],
)
def test_bad_data_is_refused_before_training(capsys, tmp_path, fault, wanted, remedy):
    data = break_it(small_folder(tmp_path / "data"), fault)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    code, _, err = run(capsys, "train", "--data", data, "--batch", 4, "--quiet", "--out", tmp_path / "run")
    assert code == 2
    assert wanted in err
    assert remedy in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before  # nothing written, nothing touched


@pytest.mark.parametrize("fault", ["truncated image", "table: missing file"])
def test_mended_the_same_command_works(capsys, tmp_path, fault):
    """A failed start is in nobody's way; without mending, --skip-bad goes on and tells what it left out."""
    root = small_folder(tmp_path / "data")
    whole = (root / "a" / "0.png").read_bytes()
    data = break_it(root, fault)
    small = ["--batch", 4, "--epochs", 1, "--validation", 0.4]
    same = ["train", "--data", data, *small, "--quiet", "--out", tmp_path / "run"]
    assert run(capsys, *same)[0] == 2
    skipping = [*same[:-1], tmp_path / "skipped", "--skip-bad"]
    assert run(capsys, *skipping)[0] == 0
    (row,) = (tmp_path / "skipped" / "skipped.csv").read_text().splitlines()[1:]
    assert ("0.png" in row) == (fault == "truncated image")
    if fault == "truncated image":
        (root / "a" / "0.png").write_bytes(whole)
    else:
        data.write_text(data.read_text().replace("\ndata/nowhere.png,a", ""))
    assert run(capsys, *same)[0] == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "skipped.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "2000"], "takes at most the 1294 training images of digits; got 2000"),
        (["--batch", "2", "--method", "spread"], "Raise the batch"),
        (["--accelerator", "gpu"], "is not available here"),
        (["--learning-rate", "1e30", "--epochs", "2"], "training diverges"),
        (["--validation", "0.0001"], "two or more validation images"),
        (["--encoder", "vit_tiny_patch16_224"], "cannot be built for 1x8x8 images"),
        (["--encoder", "paper-vit", "--size", "10"], "patches of 4 pixels"),
        (["--logger", "wandb"], "pip install thanos-repr[wandb]"),
    ],
)
@pytest.mark.usefixtures("all_digits")
def test_settings_that_do_not_fit_the_data_leave_nothing(capsys, tmp_path, arguments, said):
    code, _, err = run(capsys, "train", *arguments, "--quiet", "--out", tmp_path / "run")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_too_little_space_is_said_before_training(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10_000})())
    code, _, err = run(capsys, "train", "--quiet", "--out", tmp_path / "run")
    assert code == 2
    assert "Free some space" in err
    assert not (tmp_path / "run").exists()


def test_a_path_below_a_file_is_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = run(capsys, "train", "--epochs", 1, "--quiet", "--out", tmp_path / "file" / "run")
    assert code == 2
    assert err.count("\n") == 1
    assert str(tmp_path / "file") in err


def test_a_fault_of_ours_is_said_to_be_one(capsys, monkeypatch):
    monkeypatch.setattr("thanos.data.load.load_samples", lambda config: 1 / 0)
    code, _, err = run(capsys, "train", "--out", "x")
    assert code == 1
    assert "a fault of thanos; --debug shows where" in err
    assert "Traceback" in run(capsys, "train", "--out", "x", "--debug")[2]


def test_every_default_survives_yaml(tmp_path):
    from thanos.config import read_yaml, save

    config = TrainConfig(method="cauto", views={"flip": 0.0})
    save(config, tmp_path / "c.yaml")
    assert TrainConfig.model_validate(read_yaml(tmp_path / "c.yaml")) == config


def test_the_shipped_list_of_timm_names_is_timms(monkeypatch):
    import timm

    from thanos.names import timm_names

    missing = set(timm_names()) - set(timm.list_models())
    assert not missing


def test_libraries_that_are_not_needed_are_not_imported(tmp_path):
    """They take seconds: Lightning without a training, torch where vectors are clustered."""
    vectors = tmp_path / "vectors.npz"
    x = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    np.savez(vectors, vectors=x, superclass=np.arange(24) % 2)
    code = "import sys; from thanos.cli import run_command\n"
    for subcommand, library in (
        ("discover", "torch"),
        ("geometry", "pytorch_lightning"),
        ("report", "pytorch_lightning"),
    ):
        code += f"run_command([{subcommand!r}, sys.argv[1]])\n"
        code += f"if {library!r} in sys.modules: sys.exit({subcommand!r})\n"
    done = subprocess.run([sys.executable, "-c", code, str(vectors)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_and_version_as_words(capsys):
    assert run(capsys, "help")[1] == run(capsys, "--help")[1]
    assert run(capsys, "help", "check")[1] == run(capsys, "check", "--help")[1]
    assert run(capsys, "version")[1] == run(capsys, "--version")[1]


@pytest.mark.parametrize("typed", [["discover"], ["reproduce", "table3"], ["data", "build"]])
def test_help_in_short_is_what_a_command_does_and_its_examples(capsys, typed):
    out = run(capsys, *typed, "-h")[1]
    name = " ".join(["thanos", *typed])
    assert out.startswith(f"{name}: ")
    assert f"\n  {name} " in out
    assert out.endswith(f"\nAll options: {name} --help\n")
    assert len(out.splitlines()) < 20 < len(run(capsys, *typed, "--help")[1].splitlines())


def test_help_in_short_of_what_consists_of_commands_lists_them(capsys):
    assert run(capsys, "data", "-h")[1] == run(capsys, "data", "--help")[1]
    assert run(capsys, "-h")[1] == run(capsys, "--help")[1]


def test_settings_become_flags_and_names_stay_names():
    assert as_flags("use a smaller `batch`") == "use a smaller --batch"
    assert as_flags("`labels=/my dir/x.csv`") == "--labels '/my dir/x.csv'"
    assert as_flags("superclass '`cats`' has `pip install x`") == "superclass '`cats`' has `pip install x`"


def test_a_misspelt_flag_is_named_even_beside_a_wrong_value(capsys):
    for typed in (["train", "--out", "z", "--epochs", "0", "--foo"], ["robust", "z", "--method", "jt", "--foo", "1"]):
        with pytest.raises(SystemExit):
            main(typed)
        assert "--foo is no option of thanos" in capsys.readouterr().err
