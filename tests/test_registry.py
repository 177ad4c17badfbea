"""What exists by name, and what another package adds: known everywhere by its name, refused where it will not do."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thanos import (
    DataConfig,
    DatasetSpec,
    EncoderSpec,
    MethodSpec,
    TrainConfig,
    load,
    read_embeddings,
    register,
    registry,
    train,
)
from thanos.cli import main
from thanos.config import RunConfig
from thanos.encoders.zoo import build_encoder
from thanos.errors import ConfigError, DataError
from thanos.runs.run_dir import RunDir

PLUGIN = Path(__file__).with_name("plugin.py")
QUIET = RunConfig(quiet=True, threads=1)


def command(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


@pytest.fixture(scope="module", autouse=True)
def plugin():
    """The other package, imported; what it added is forgotten when these tests are over."""
    before = {kind: dict(table._specs) for kind, table in registry._TABLES.items()}
    spec = importlib.util.spec_from_file_location("plugin", PLUGIN)
    module = sys.modules["plugin"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["plugin"]
    for kind, specs in before.items():
        registry._TABLES[kind]._specs = specs


@pytest.fixture
def tables(monkeypatch):
    """The tables as they were, once the test is over."""
    for table in registry._TABLES.values():
        monkeypatch.setattr(table, "_specs", dict(table._specs))
    monkeypatch.setattr(registry, "_BROKEN", {})
    return monkeypatch


def test_an_addition_takes_forty_lines():
    assert len(PLUGIN.read_text().splitlines()) <= 40


def test_every_command_knows_what_another_package_added(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--data", "stripes", "--method", "alignment", "--encoder", "flat", "--epochs", 3, "--batch", 32]
    code, _, err = command(capsys, "train", *words, "--out", run, "--quiet")
    assert code == 0, err
    assert RunDir(run).settings()["method"] == "alignment"
    for subcommand, *more in (("embed",), ("geometry",), ("transfer",), ("discover",), ("robust",), ("report",)):
        code, _, err = command(capsys, subcommand, run, *more)
        assert code == 0, (subcommand, err)
    assert read_embeddings(run / "embeddings.npz").vectors.shape == (240, 24)
    for to in ("onnx", "safetensors", "csv"):
        code, _, err = command(capsys, "export", run, "--to", to, "--out", tmp_path / f"x.{to}")
        assert code == 0, err
    code, _, err = command(capsys, "discover", "stripes", "--train-method", "alignment", "--encoder", "flat",
                           "--epochs", 2, "-o", tmp_path / "found", "--quiet")  # fmt: skip
    assert code == 0, err
    code, _, err = command(capsys, "bench", "train", *words)
    assert code == 0, err
    assert command(capsys, "check", "stripes")[0] == 0


def test_the_table_knows_them_too(tmp_path, capsys):
    scale = tmp_path / "mini.yaml"
    scale.write_text("settings: {encoder: flat, epochs: 1, batch: 32}\n")
    words = [
        "reproduce",
        "table3",
        "--scale",
        scale,
        "--dataset",
        "stripes",
        "--method",
        "alignment",
        "--method",
        "supcon",
    ]
    words += ["--seeds", 1, "--jobs", 1, "--results", tmp_path / "results", "--work", tmp_path / "work"]
    code, out, err = command(capsys, *words, "--dry-run")
    assert code == 0, err
    assert "stripes, seed 0: alignment" in out
    assert "2 rows in" in out
    code, _, err = command(capsys, *words)
    assert code == 0, err
    page = (tmp_path / "results" / "table3.md").read_text()
    assert "### stripes" in page
    assert "| alignment | views close to each other, + cross-entropy |" in page
    code, out, _ = command(capsys, *words)
    assert "2 of 2 rows finished" in out


def test_a_name_that_is_taken_is_named_with_both_homes(tables, plugin):
    with pytest.raises(ConfigError, match=r"test_registry\.py adds the method 'spread', a name that thanos itself has"):
        register(MethodSpec("spread", "mine", {"contrastive": plugin.alignment_step}))
    with pytest.raises(ConfigError, match=r"adds the encoder 'flat', a name that .*plugin\.py has taken"):
        register(EncoderSpec("flat", "mine", plugin.Flat))
    register(EncoderSpec("flat", "one layer on the pixels", plugin.Flat, decoder=(8, 1)))  # the very same
    with pytest.raises(TypeError, match="a MethodSpec, DatasetSpec or EncoderSpec is wanted"):
        register("spread")


@pytest.mark.parametrize("returned", [None, {}, {"projection": np.zeros(3)}, {"loss": 1.0}, 3])
def test_a_step_that_returns_no_loss_is_named_with_its_file(tmp_path, tables, returned):
    register(MethodSpec("broken", "mine", {"contrastive": lambda *arguments: returned}))
    with pytest.raises(ConfigError, match=r"that of 'broken', added by .*test_registry\.py, returned"):
        train(
            TrainConfig(method="broken", epochs=1, train_limit=200), tmp_path / "run", run=QUIET, say=lambda line: None
        )
    assert not (tmp_path / "run").exists()


def test_what_a_loader_or_a_builder_must_give(tables):
    register(
        DatasetSpec("empty", "mine", lambda config: None), EncoderSpec("nothing", "mine", lambda channels, size: 3)
    )
    with pytest.raises(DataError, match=r"'empty', added by .*test_registry\.py, returned NoneType"):
        load(DataConfig(data="empty"))
    with pytest.raises(ConfigError, match=r"'nothing', added by .*test_registry\.py, builds int"):
        build_encoder("nothing", channels=1, size=(8, 8))


class Point:
    """An entry point of an installed package."""

    def __init__(self, module, value, found):
        self.module, self.value, self._found = module, value, found

    def load(self):
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def test_installed_packages_add_by_an_entry_point(tables, plugin):
    mine = MethodSpec("of-a-package", "mine", {"contrastive": "plugin:alignment_step"})
    points = [Point("plugin", "plugin:SPECS", [mine]), Point("gone", "gone:SPECS", ImportError("no module gone"))]
    tables.setattr(registry, "entry_points", lambda group: points if group == "thanos.plugins" else [])
    tables.setattr(registry, "_LOADED", [])
    assert "of-a-package" in registry.methods()
    assert registry.resolve(registry.method("of-a-package").steps["contrastive"]) is plugin.alignment_step
    with pytest.raises(ValueError, match="the plug-in gone:SPECS could not be loaded: ImportError: no module gone"):
        registry.method("of-gone")


LOOK_UP = """
import sys, thanos.registry as r
print("thanos" in r.methods(), "digits" in r.datasets(), "tiny" in r.encoders(), "torch" in sys.modules)
"""


def test_names_are_looked_up_without_torch():
    found = subprocess.run([sys.executable, "-c", LOOK_UP], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "True", "True", "False"]


@pytest.mark.parametrize("name", [*registry.methods()])
def test_every_target_can_be_imported(name):
    spec = registry.method(name)
    more = [spec.add_heads] if spec.add_heads else []
    assert all(callable(registry.resolve(each)) for each in (*spec.steps.values(), *spec.one_encoder.values(), *more))


def test_every_loader_and_builder_can_be_imported():
    assert all(callable(registry.resolve(registry.dataset(name).load)) for name in registry.datasets())
    assert all(callable(registry.resolve(registry.encoder(name).build)) for name in registry.encoders())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (MethodSpec("", "x", {"contrastive": "a:b"}), "a name has small letters"),
        (MethodSpec("-x", "x", {"contrastive": "a:b"}), "a name has small letters"),
        (DatasetSpec("tiny ", "x", "a:b"), "a name has small letters"),
        (MethodSpec("mine", "x", {}), "has a step for each encoder"),
        (MethodSpec("mine", "x", {"contrastiv": "a:b"}), r"got 'contrastiv' \(did you mean 'contrastive'\?\)"),
        (EncoderSpec("resnet18", "x", "a:b"), "timm has an encoder of that name"),
    ],
)
def test_what_cannot_be_a_specification_is_named_with_its_file(tables, spec, said):
    with pytest.raises(ConfigError, match=rf"test_registry\.py adds .*, which will not do: .*{said}"):
        register(spec)


def test_a_function_that_cannot_be_imported_is_named_with_its_file(tables, tmp_path):
    register(DatasetSpec("absent", "x", "nomod:f"), EncoderSpec("absent-too", "x", "thanos:nothing"))
    register(MethodSpec("absent", "x", {"contrastive": "nomod:f"}))
    match = r"of 'absent', added by .*test_registry\.py, cannot be imported: No module named 'nomod'"
    with pytest.raises(ConfigError, match=match):
        load(DataConfig(data="absent"))
    with pytest.raises(ConfigError, match=r"of 'absent-too', added by .*cannot be imported"):
        build_encoder("absent-too", channels=1, size=(8, 8))
    with pytest.raises(ConfigError, match=match):
        train(TrainConfig(method="absent", epochs=1, train_limit=200), tmp_path / "run", run=QUIET, say=print)


def test_specifications_are_added_all_or_none(tables):
    mine = registry.DatasetSpec("mine", "of a test", "nowhere:load")
    taken = registry.DatasetSpec("digits", "another", "nowhere:load")
    with pytest.raises(ConfigError, match="that thanos itself has taken"):
        registry.register(mine, taken)
    assert "mine" not in registry.datasets()


@pytest.mark.parametrize(
    "words",
    [["train", "--data", "mine", "--out", "x"], ["discover", "mine"], ["reproduce", "table3", "--dataset", "mine"]],
    ids=" ".join,
)
def test_a_broken_plug_in_is_named_where_a_data_set_is_not_found(tables, monkeypatch, words, capsys):
    monkeypatch.setitem(registry._BROKEN, "mypackage:SPECS", "ImportError: no such thing")
    with pytest.raises(SystemExit):
        main(words)
    assert "the plug-in mypackage:SPECS could not be loaded: ImportError: no such thing" in capsys.readouterr().err
