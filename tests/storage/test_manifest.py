"""What lies on disk is as it was written, or is refused with its name and the command that makes it anew."""

import hashlib
import os
import random
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from thanos.cli import main, run_command
from thanos.config import RunConfig, TrainConfig
from thanos.data.load import load
from thanos.embeddings import embed, read_embeddings, write_embeddings
from thanos.errors import DataError
from thanos.runs.encoder_io import load_encoder, save_encoder
from thanos.runs.run_dir import RunDir
from thanos.runs.whole import check_run
from thanos.storage import read_json, write_json, write_text
from thanos.storage.manifest import EDITED, MANIFEST, check_whole, read_manifest, seal
from thanos.storage.schemas import Kept
from thanos.training.fit import train

SMALL = TrainConfig(epochs=2, train_limit=300, method="spread")
QUIET = RunConfig(quiet=True, threads=1)
TRAINED = {
    "config.yaml", "data.json", "metrics.jsonl", "metrics.json", "run.log", "last.ckpt", "model.safetensors",
    "model.json", "best.safetensors", "best.json", "classifier.npz", "best-classifier.npz",
}  # fmt: skip
FOUND = {
    "embeddings.npz", "subclasses.csv", "subclasses.json", "subclasses.yaml", "subclasses.html",
    "subclasses-places.npz", "robust-portfolio.npz", "robust-portfolio-plain.npz", "robust-portfolio.json",
}  # fmt: skip


def silent(line: str) -> None: ...


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A run with what commands leave in it."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    train(SMALL, folder, run=QUIET, say=silent)
    for subcommand, *more in (("discover", "--clusters", "2"), ("robust",)):
        run_command([subcommand, str(folder), *more])
    return folder


@pytest.fixture
def run(used, tmp_path):
    folder = tmp_path / "a"
    shutil.copytree(used, folder)
    return folder


def command(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def flip(file, place=0.5):
    """One bit of a file, at a part of its length."""
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    file.write_bytes(content)


def test_every_file_of_a_run_is_entered_as_it_is(used):
    entries = read_manifest(used)
    assert entries.keys() == TRAINED | FOUND == {path.name for path in used.iterdir()} - {MANIFEST}
    for name, entry in entries.items():
        content = (used / name).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["blake2b"] == hashlib.blake2b(content, digest_size=16).hexdigest()
        assert bool(entry.get("edited")) == (name.endswith(EDITED))
        assert ("trained" in entry) == (name in TRAINED)


def test_a_whole_run_is_said_to_be_whole(run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, out, _ = command(capsys, "check", run)
    assert code == 0
    first, last = out.splitlines()
    assert set(first.removeprefix("as they were written: ").split(", ")) == {
        name for name in TRAINED | FOUND if not name.endswith(EDITED)
    }
    assert last == "may be edited, and can be read: config.yaml, subclasses.csv, subclasses.yaml"
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert command(capsys, "check", run, "--size", 8)[0] == 2


@pytest.mark.parametrize("name", sorted(name for name in TRAINED | FOUND if not name.endswith(EDITED)))
@pytest.mark.parametrize("fault", ["a bit", "cut short", "gone"])
def test_what_does_not_fit_is_named_with_the_command_that_makes_it_anew(run, name, fault):
    if fault == "a bit":
        flip(run / name, random.Random(name).random())
    elif fault == "cut short":
        (run / name).write_bytes((run / name).read_bytes()[:-1])
    else:
        (run / name).unlink()
    faults = check_run(RunDir(run)).faults
    if fault == "gone" and name in FOUND - {"subclasses.json"}:  # what commands leave may be removed
        assert not faults
        return
    said = next(line for line in faults if name in line)
    anew = "robust" if "robust" in name else "discover"
    assert (f"thanos train --config {run}/config.yaml --out NEW" if name in TRAINED else f"thanos {anew} ") in said or (
        fault == "gone" and name == "subclasses.json"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("data.json", ["classify"]),
        ("metrics.json", ["transfer"]),
        ("metrics.json", ["compare", "-o", "c.html"]),
        ("metrics.jsonl", ["report"]),
        ("model.safetensors", ["transfer"]),
        ("model.safetensors", ["compare", "-o", "c.html"]),
        ("model.json", ["geometry"]),
        ("model.json", ["compare", "-o", "c.html"]),
        ("best.safetensors", ["transfer", "--weights", "best"]),
        ("last.ckpt", ["report", "-o", "c.html"]),
        ("robust-portfolio.npz", ["classify"]),
        ("robust-portfolio.json", ["compare", "-o", "c.html"]),
        ("subclasses.json", ["report"]),
        ("subclasses-places.npz", ["classify"]),
    ],
)
def test_a_flipped_bit_is_refused_when_the_file_is_opened(run, capsys, monkeypatch, name, words):
    monkeypatch.chdir(run.parent)
    flip(run / name, 0.7)
    subcommand, *options = words
    code, _, err = command(capsys, subcommand, run / "last.ckpt" if name == "last.ckpt" else run, *options)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert name.removesuffix(".json").removesuffix(".safetensors") in err
    assert "not as it was written" in err


def test_damaged_embeddings_are_made_anew(run, capsys):
    _, wanted, _ = command(capsys, "transfer", run)
    flip(run / "embeddings.npz", 0.7)
    _, out, _ = command(capsys, "transfer", run)
    assert out.splitlines()[0].startswith(f"{run}/embeddings.npz is damaged: embedded anew for now")
    assert out.splitlines()[1:] == wanted.splitlines()
    assert command(capsys, "embed", run)[0] == 0
    assert not check_run(RunDir(run)).faults


def test_what_is_damaged_is_made_anew_by_the_command_that_is_named(run, capsys):
    for name, subcommand, *more in (
        ("subclasses-places.npz", "discover", "--clusters", "2"),
        ("robust-portfolio.npz", "robust"),
    ):
        flip(run / name, 0.7)
        assert command(capsys, subcommand, run, *more)[0] == 0
        assert not check_run(RunDir(run)).faults


def test_what_a_person_may_edit_is_taken_and_what_cannot_be_meant_is_named(run, capsys):
    names = run / "subclasses.yaml"
    names.write_text(names.read_text() + "\n# mine\n")
    settings = run / "config.yaml"
    settings.write_text(settings.read_text() + "# mine\n")
    assert command(capsys, "check", run)[0] == 0
    assert command(capsys, "report", run)[0] == 0
    names.write_text("nobody/7: mine\n")
    settings.write_text(settings.read_text().replace("epochs: 2", "epochs: many"))
    code, out, _ = command(capsys, "check", run)
    assert code == 2
    assert any("config.yaml" in line and "epochs" in line for line in out.splitlines())
    assert any("nobody/7" in line for line in out.splitlines())


def test_a_run_without_a_manifest_opens_and_gets_one_from_its_own_command(run, capsys):
    (run / MANIFEST).unlink()
    assert command(capsys, "transfer", run)[0] == 0
    code, out, _ = command(capsys, "check", run)
    assert code == 0
    assert "has no manifest.json" in out
    flip(run / "classifier.npz", 0.2)
    assert command(capsys, "check", run)[0] == 2
    assert not (run / MANIFEST).exists()
    train(SMALL, run, run=QUIET, say=silent)
    assert read_manifest(run).keys() == TRAINED


def test_another_s_manifest_is_left_as_it_is(run, tmp_path):
    for content in ('{"name": "my app"}', '{"files": {"a.json": {"bytes": 1}}, "blake2b": "no"}', "mine", "[]"):
        (tmp_path / "a" / MANIFEST).write_text(content)
        write_json(tmp_path / "a" / "b.json", {"a": 1})
        assert read_json(tmp_path / "a" / "b.json", Kept) == {"a": 1}
        seal(tmp_path / "a", [tmp_path / "a" / "b.json"], "x", write_text)
        train(SMALL, tmp_path / "a", run=QUIET, say=silent)
        assert (tmp_path / "a" / MANIFEST).read_text() == content
    assert "damaged, or another's" in check_run(RunDir(tmp_path / "a")).faults[0]


def test_a_flipped_bit_in_the_manifest_changes_nothing_but_what_check_says(run, capsys):
    whole, (_, wanted, _) = (run / MANIFEST).read_bytes(), command(capsys, "geometry", run)
    for place in np.linspace(0, 1, 8):
        (run / MANIFEST).write_bytes(whole)
        flip(run / MANIFEST, place)
        code, out, err = command(capsys, "geometry", run)
        assert (code, out, err) == (0, wanted, "")
    assert command(capsys, "check", run)[0] == 2


class Killed(BaseException):
    """As kill -9: nothing comes after it."""


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("moment", range(1, 8))
def test_no_kill_makes_a_file_and_its_entry_disagree(tmp_path, monkeypatch, moment, new):
    """The process dies at the k-th rename or flush to disk; whatever is there is believed, and can be written again."""
    write_json(tmp_path / "a.json", {"value": 0})
    seal(tmp_path, [tmp_path / "a.json"], "x", write_text)
    place = tmp_path / ("b.json" if new else "a.json")
    calls = []

    def dies(call):
        def counted(*args):
            calls.append(call)
            if len(calls) == moment:
                raise Killed
            return call(*args)

        return counted

    monkeypatch.setattr(os, "replace", dies(os.replace))
    monkeypatch.setattr(os, "fsync", dies(os.fsync))
    try:
        write_json(place, {"value": 1})
    except Killed:
        pass
    else:
        assert moment > 5
    monkeypatch.undo()
    if place.exists():
        assert read_json(place, Kept)["value"] in (0, 1)
    write_json(place, {"value": 2})
    assert read_json(place, Kept) == {"value": 2}
    assert "before" not in read_manifest(tmp_path)[place.name]
    flip(place)
    with pytest.raises(DataError, match="not as it was written"):
        check_whole(place)


@pytest.mark.parametrize("place", np.linspace(0.05, 1, 12))
@pytest.mark.parametrize("name", ["w.safetensors", "w.json"])
def test_weights_elsewhere_keep_their_own_mark(used, tmp_path, name, place):
    save_encoder(load_encoder(used), tmp_path / "w.safetensors")
    before = load_file(tmp_path / "w.safetensors")
    flip(tmp_path / name, place)
    try:
        encoder = load_encoder(tmp_path / "w.safetensors")
    except DataError:
        return
    state = encoder.module.state_dict()  # a bit of the mark's name: the weights are as they were
    assert state.keys() == before.keys()
    assert all((value == before[key]).all() for key, value in state.items())
    assert encoder.card == load_encoder(used).card


def test_weights_without_a_mark_are_taken(used, tmp_path):
    shutil.copy(used / "model.json", tmp_path / "w.json")
    save_file(load_file(used / "model.safetensors"), tmp_path / "w.safetensors")
    assert load_encoder(tmp_path / "w.safetensors").fingerprint == load_encoder(used).fingerprint
    with safe_open(used / "model.safetensors", "pt") as file:
        assert file.metadata() == {"thanos": load_encoder(used).fingerprint}


def test_a_file_of_vectors_elsewhere_shows_its_damage_by_itself(used, tmp_path):
    """Each array in an .npz has a checksum of its own; what has none are names and dates of the archive."""
    write_embeddings(embed(load_encoder(used), load("digits")), tmp_path / "e.npz")
    whole = (tmp_path / "e.npz").read_bytes()
    wanted = read_embeddings(tmp_path / "e.npz")
    for place in np.linspace(0, 1, 60):
        (tmp_path / "e.npz").write_bytes(whole)
        flip(tmp_path / "e.npz", place)
        try:
            found = read_embeddings(tmp_path / "e.npz")
        except DataError:
            continue
        assert np.array_equal(found.vectors, wanted.vectors)
        assert np.array_equal(found.superclass, wanted.superclass)
