"""Nothing of a user's is deleted or written over: whatever lies where a run should go is there afterwards as before."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from launching import Launched, mount_tmpfs
from thanos.cli import main
from thanos.config import RunConfig, TrainConfig
from thanos.data.load import load
from thanos.errors import ConfigError, OutputError
from thanos.reproduce.plan import _report
from thanos.runs.run_dir import RunDir
from thanos.storage import PART
from thanos.storage.locks import LOCK, only_one
from thanos.training import fit
from thanos.training.fit import train

SMALL = TrainConfig(epochs=1, train_limit=200, method="spread")
QUIET = RunConfig(quiet=True, threads=1)


def silent(line: str) -> None: ...


def files(folder: Path) -> dict[str, object]:
    """Everything below a folder: kind, content, permissions, where links lead."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (mode, content)
    return found


def put(folder: Path, **content: str) -> None:
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def written(*names: str, text: str = "mine"):
    return lambda out: put(out, **dict.fromkeys(names, text))


def linked(out: Path) -> None:
    put(out.parent / "elsewhere", **{".env": "SECRET=1"})
    out.symlink_to(out.parent / "elsewhere")


def link_to_nothing(out: Path) -> None:
    out.symlink_to(out.parent / "nowhere")


def link_to_a_file(out: Path) -> None:
    put(out.parent, mine="mine")
    out.symlink_to(out.parent / "mine")


def link_inside(out: Path) -> None:
    put(out.parent, mine="mine")
    out.mkdir()
    (out / "data.json").symlink_to(out.parent / "mine")


def a_file(out: Path) -> None:
    out.write_text("mine")


def below_a_file(out: Path) -> None:
    out.parent.rmdir()
    out.parent.write_text("mine")


def read_only(out: Path) -> None:
    put(out, **{".notes.txt": "mine"})
    os.chmod(out / ".notes.txt", 0o400)
    os.chmod(out, 0o500)


def folder_named(name: str):
    def make(out: Path) -> None:
        (out / name).mkdir(parents=True)

    return make


KEYS = ("name", "images", "size", "channels", "counts", "subclasses", "groups", "fingerprint", "notes", "skipped")
OURS = json.dumps(dict.fromkeys(KEYS, "x"))
LAYOUTS = {
    "dot-files": written(".gitlab-ci.yml", ".notes.txt"),
    "one dot-file": written(".env"),
    "an empty dot-file": written(".keep", text=""),
    "a repository": written(".git/HEAD", ".git/config", ".gitignore"),
    "a repository and an environment": written(".git/HEAD", ".env"),
    "Finder's": written(".DS_Store"),
    "an empty folder": folder_named("photos"),
    "an empty dot-folder": folder_named(".cache"),
    "a folder named as a file of ours": folder_named("data.json"),
    "a folder named as our lock": folder_named(LOCK),
    "a mount's root": folder_named("lost+found"),
    "photographs": written("cats/1.jpg", "dogs/2.jpg"),
    "nested": written("a/b/c/d/e.txt"),
    "a link to a folder": linked,
    "a link to nothing": link_to_nothing,
    "a link to a file": link_to_a_file,
    "a link named as a file of ours": link_inside,
    "a file": a_file,
    "below a file": below_a_file,
    "read-only": read_only,
    "another's lock": written(".lock"),
    "a lock that is not empty": written(LOCK),
    "another's temporary files": written(".data.json.x1", ".config.yaml.swp"),
    "another's part": written(f"thesis{PART}"),
    "another's data.json": written("data.json", text='{"name": "my app"}'),
    "another's broken data.json": written("data.json", text="{"),
    "another's data.json with a name, counts and a fingerprint": written(
        "data.json", text='{"name": "mine", "counts": 1, "fingerprint": "x"}'
    ),
    "another's list of images and reasons": written("skipped.csv", text="image,reason_for_exclusion\na,b\n"),
    "another's skipped.csv": written("skipped.csv", text="lesson,why\nmaths,ill\n"),
    "another's config.yaml": written("config.yaml", text="debug: true\n"),
    "another's config.yaml and data.json": written("config.yaml", "data.json", text="{}"),
    "a start of ours with another's notes": lambda out: put(out, **{"data.json": OURS, ".notes": "mine"}),
    "weights": written("model.safetensors", "last.ckpt"),
    "a log": written("run.log", "metrics.jsonl"),
    "odd names": written(" ", "-rf", "a\nb", "ü"),
    "tensorboard's": written("tensorboard/version_0/events.out"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("command", ["train", "discover"])
def test_a_folder_with_anything_foreign_is_refused_and_left(tmp_path, capsys, layout, command):
    out = tmp_path / "home" / "h"
    out.parent.mkdir()
    LAYOUTS[layout](out)
    before = files(tmp_path)
    words = ["train", "--data", "digits", "--method", "spread", "--epochs", "1", "--out", str(out)]
    with pytest.raises(SystemExit) as end:
        main(words if command == "train" else ["discover", "digits", "--epochs", "1", "-o", str(out)])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    assert str(out) in said.replace("\\n", "\n")
    assert files(tmp_path) == before


def diverges(monkeypatch) -> dict:
    return {"config": SMALL.model_copy(update={"learning_rate": 1e30, "epochs": 20})}


def no_memory(monkeypatch) -> dict:
    monkeypatch.setattr(fit, "_fit", raising(RuntimeError("CUDA out of memory")))
    monkeypatch.setattr(fit, "is_out_of_memory", lambda error: True)
    monkeypatch.setattr(fit, "_too_large", lambda *args: "too large")
    return {}


def full_disk(monkeypatch) -> dict:
    monkeypatch.setattr(RunDir, "write_log", raising(OSError(28, "No space left on device")))
    return {}


def a_fault_of_ours(monkeypatch) -> dict:
    monkeypatch.setattr(fit, "_fit", raising(ZeroDivisionError("of ours")))
    return {}


def no_such_logger(monkeypatch) -> dict:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    return {"run": QUIET.model_copy(update={"logger": ("mlflow",)})}


def batch_too_large(monkeypatch) -> dict:
    return {"config": SMALL.model_copy(update={"batch": 10_000})}


def no_room(monkeypatch) -> dict:
    monkeypatch.setattr(RunDir, "check_space", raising(OutputError("no room")))
    return {}


def settings_not_written(monkeypatch) -> dict:
    def half(run, config, images):
        started(run, config, images)
        run.settings_file.unlink()
        raise OutputError("the disk is full")

    started = RunDir.write_start
    monkeypatch.setattr(RunDir, "write_start", half)
    return {}


def raising(error: Exception):
    def fail(*args, **more):
        raise error

    return fail


FAILURES = (
    diverges,
    no_memory,
    full_disk,
    a_fault_of_ours,
    no_such_logger,
    batch_too_large,
    no_room,
    settings_not_written,
)


@pytest.mark.parametrize("fails", FAILURES)
@pytest.mark.parametrize("place", ["new", "empty", "linked", "nested", "begun"])
def test_a_failed_start_takes_back_what_it_made_and_nothing_else(tmp_path, monkeypatch, fails, place):
    out = tmp_path / "runs" / "deep" / "h" if place == "nested" else tmp_path / "h"
    put(tmp_path, **{".env": "SECRET=1", "mine/notes.txt": "mine"})
    if place == "linked":
        (tmp_path / "disk").mkdir()
        out.symlink_to(tmp_path / "disk")
    elif place in ("empty", "begun"):
        out.mkdir()
    before = files(tmp_path)
    if place == "begun":
        put(out, **{"data.json": OURS, LOCK: "", f".config.yaml.x1{PART}": "half"})
        if fails in (batch_too_large, no_room, no_such_logger):
            before = files(tmp_path)  # refused before anything is begun
    wanted = {"config": SMALL, "run": QUIET} | fails(monkeypatch)
    with pytest.raises(Exception) as failed:  # noqa: PT011 - each has its own
        train(wanted["config"], out, run=wanted["run"], say=silent)
    if fails is diverges:
        assert isinstance(failed.value, ConfigError)
        assert "training diverges" in str(failed.value)
    assert not isinstance(failed.value, FileNotFoundError | FileExistsError)
    assert files(tmp_path) == before


def test_what_appears_beside_a_run_outlives_its_failure(tmp_path, monkeypatch):
    """A person saves a file into the folder while the run starts."""

    def beside(*args, **more):
        put(tmp_path / "h", **{".env": "SECRET=1", "notes.txt": "mine", ".git/HEAD": "mine"})
        raise ConfigError("the loss is nan")

    monkeypatch.setattr(fit, "_fit", beside)
    with pytest.raises(ConfigError, match="nan"):
        train(SMALL, tmp_path / "h", run=QUIET, say=silent)
    assert [*files(tmp_path / "h")] == [".env", ".git", ".git/HEAD", "notes.txt"]


def test_a_run_s_own_folder_keeps_what_a_person_put_there(tmp_path):
    out = tmp_path / "h"
    train(SMALL, out, run=QUIET, say=silent)
    (out / "metrics.json").unlink()
    (out / "last.ckpt").unlink()
    put(out, **{".gitlab-ci.yml": "mine", ".notes.txt": "mine", ".lock": "mine"})
    train(SMALL, out, run=QUIET, say=silent)
    assert all((out / name).read_text() == "mine" for name in (".gitlab-ci.yml", ".notes.txt", ".lock"))
    assert not (out / LOCK).exists()


def test_a_folder_that_cannot_be_removed_does_not_hide_why_a_start_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "rmdir", raising(OSError(16, "Device or resource busy")))
    monkeypatch.setattr(fit, "_fit", raising(ConfigError("the loss is nan")))
    with pytest.raises(ConfigError, match="nan"):
        train(SMALL, tmp_path / "h", run=QUIET, say=silent)
    assert files(tmp_path / "h") == {}


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting takes root on Linux")
def test_the_root_of_a_mount_is_emptied_and_the_true_error_shown(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["train", "--data", "digits", "--method", "spread", "--epochs", "20", "--learning-rate", "1e30"]

    def work():
        mount_tmpfs(disk)
        main([*words, "--threads", "1", "--out", str(disk), "--quiet"])

    found = Launched(work, tmp_path).end(timeout=120)
    if found.returncode == 77:
        pytest.skip("this machine does not let tests mount")
    assert "training diverges" in found.stderr
    assert found.returncode == 2


def test_other_commands_refuse_what_they_did_not_write(tmp_path, capsys):
    put(tmp_path, **{"spread.json": "{}", "invariance.png": "mine", "table3.md": "# Notes\n", "faults.csv": "a,b\n"})
    before = files(tmp_path)
    for words in (
        ["theory", "spread", "--out", str(tmp_path)],
        ["theory", "invariance", "--out", str(tmp_path)],
        ["reproduce", "table3", "--results", str(tmp_path), "--work", str(tmp_path / "work")],
        ["check", "digits", "--out", str(tmp_path / "faults.csv")],
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
        assert "was not written by thanos" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_headers_are_compared_whole(tmp_path, capsys):
    put(tmp_path, **{"faults.csv": "where,fault_code\nhere,17\n"})
    with pytest.raises(SystemExit):
        main(["check", "digits", "--out", str(tmp_path / "faults.csv")])
    assert "was not written by thanos check" in capsys.readouterr().err
    assert (tmp_path / "faults.csv").read_text() == "where,fault_code\nhere,17\n"


def test_a_demo_keeps_a_page_that_is_not_its_own(tmp_path, capsys):
    put(tmp_path / "demo", **{"demo.yaml": "seeds: 1\nepochs: 1\n", "report.html": "mine"})
    with pytest.raises(SystemExit) as end:
        main(["demo", "--out", str(tmp_path / "demo"), "--seeds", "1", "--epochs", "1"])
    assert end.value.code == 2
    assert "report.html is there and was not written by thanos demo" in capsys.readouterr().err
    assert (tmp_path / "demo" / "report.html").read_text() == "mine"


def test_weights_that_are_no_numbers_are_not_left_as_a_finished_run(tmp_path):
    """The loss of the last step that is looked at may still be one."""
    config = SMALL.model_copy(update={"learning_rate": 1e30, "warmup": 0})
    with pytest.raises(ConfigError, match="training diverges"):
        train(config, tmp_path / "h", run=QUIET, say=silent)
    assert not (tmp_path / "h").exists()


def test_an_interrupted_start_stays_to_be_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "_fit", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path / "h", run=QUIET, say=silent)
    monkeypatch.undo()
    train(SMALL, tmp_path / "h", run=QUIET, say=silent)
    assert (tmp_path / "h" / "metrics.json").is_file()


def test_a_lock_that_is_another_s_stays(tmp_path):
    put(tmp_path, **{LOCK: "mine"})
    with pytest.raises(OutputError, match="was not written by thanos"), only_one(tmp_path, "work"):
        pass
    assert (tmp_path / LOCK).read_text() == "mine"


def test_the_log_of_a_failure_is_written_beside_another_s(tmp_path):
    task = SimpleNamespace(title="digits, seed 0: spread")
    put(tmp_path / "failed", **{"digits-seed-0-spread.log": "mine"})
    for _ in range(2):  # its own is written over
        failure = _report(task, "ValueError: no", SimpleNamespace(work=tmp_path), silent)
        assert failure.log.name == "digits-seed-0-spread-2.log"
        assert "ValueError: no" in failure.log.read_text()
    assert (tmp_path / "failed" / "digits-seed-0-spread.log").read_text() == "mine"


@pytest.mark.usefixtures("all_digits")
def test_numbers_that_are_not_defined_are_not_written(tmp_path):
    """One validation image of each superclass has no cosine to another one."""
    config = SMALL.model_copy(update={"validation": 0.0014})
    images = load(config)
    assert len(images.rows("validation")) == 2
    run = train(config, tmp_path / "h", images=images, run=QUIET, say=silent)
    text = (tmp_path / "h" / "metrics.json").read_text() + (tmp_path / "h" / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "validation/superclass_accuracy" in run.metrics["final"]
