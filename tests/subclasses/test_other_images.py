"""What lies in a run is held against it: pictures and numbers of other images or other weights are not shown as its."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from thanos import TrainConfig, embed, load_encoder, read_embeddings, train, write_embeddings
from thanos.cli import main, run_command
from thanos.compare import compare
from thanos.config import RunConfig, SourceConfig
from thanos.embeddings import check_same_images, kept_fingerprint
from thanos.errors import DataError
from thanos.inputs import Source
from thanos.report.discover_page import write_discover_page
from thanos.subclasses.discovery import discover

COMMANDS = {
    "discover": ["--clusters", "2"],
    "report": [],
    "robust": [],
    "transfer": [],
    "geometry": [],
    "classify": [],
    "export": ["--to", "csv"],
}


def photographs(folder, seed):
    """Two superclasses of two subclasses: 96 images that show their class, others for another seed."""
    rng = np.random.default_rng(seed)
    for a, superclass in enumerate("ab"):
        for s, subclass in enumerate("xy"):
            (folder / superclass / f"{superclass}{subclass}").mkdir(parents=True)
            for i in range(24):
                pixels = rng.integers(0, 60, (16, 16)) + 90 * a + 60 * s
                Image.fromarray(pixels.astype(np.uint8)).save(folder / superclass / f"{superclass}{subclass}/{i}.png")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs: on two folders of images of equal names."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THANOS_CACHE", str(folder / "cache"))
        for seed, name in enumerate(("mine", "other")):
            photographs(folder / name, seed)
            config = TrainConfig(data=str(folder / name), method="spread", epochs=2, batch=16, seed=seed)
            train(config, folder / f"run-{name}", run=RunConfig(quiet=True, threads=1), say=lambda line: None)
    return folder


@pytest.fixture
def run(runs, tmp_path):
    shutil.copytree(runs / "run-mine", tmp_path / "a")
    (tmp_path / "a" / "manifest.json").unlink()  # as in a run of an earlier version, marks alone tell what is of what
    return tmp_path / "a"


@pytest.fixture(scope="module")
def with_subclasses(runs):
    """The first run, with discovered subclasses and a classifier."""
    folder = runs / "with-subclasses"
    shutil.copytree(runs / "run-mine", folder)
    (folder / "manifest.json").unlink()
    run_command(["discover", str(folder), "--clusters", "2"])
    run_command(["robust", str(folder)])
    return folder


@pytest.fixture
def used(with_subclasses, tmp_path):
    shutil.copytree(with_subclasses, tmp_path / "a")
    return tmp_path / "a"


def command(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def test_embeddings_know_their_images_and_their_encoder(run):
    encoder = load_encoder(run)
    embeddings = Source(run, SourceConfig()).embeddings
    assert embeddings.encoder == encoder.fingerprint == kept_fingerprint(run / "model.safetensors")
    assert read_embeddings(run / "embeddings.npz").encoder == encoder.fingerprint
    other = load_encoder(run / "best.safetensors")
    with torch.no_grad():
        next(other.module.parameters()).add_(1e-3)
    assert other.fingerprint not in (encoder.fingerprint, load_encoder(run / "best.safetensors").fingerprint)


def of_other_images(runs, run):
    shutil.copy(runs / "other.npz", run / "embeddings.npz")
    return "is of other images than this run's"


def of_another_run(runs, run):
    """The same images by another run's encoder."""
    embeddings = embed(load_encoder(runs / "run-other"), Source(run, SourceConfig()).images)
    write_embeddings(embeddings, run / "embeddings.npz")
    return "is of other weights than this run's"


def of_older_weights(runs, run):
    Source(run, SourceConfig()).embeddings  # noqa: B018 - keeps them
    state = load_file(run / "model.safetensors")
    changed = {name: value * 1.01 if value.is_floating_point() else value for name, value in state.items()}
    save_file(changed, run / "model.safetensors")
    return "is of other weights than this run's"


def of_nobody_knows_what(runs, run):
    """As a version wrote them that kept no mark of the weights."""
    embeddings = Source(run, SourceConfig()).embeddings
    arrays = dict(np.load(run / "embeddings.npz"))
    del arrays["encoder"]
    np.savez(run / "embeddings.npz", **arrays)
    assert embeddings.encoder
    return "is of other weights than this run's"


PUT = [of_other_images, of_another_run, of_older_weights, of_nobody_knows_what]


@pytest.fixture(scope="module", params=PUT)
def foreign(request, runs):
    """The first run with foreign embeddings in it, and what is said of them."""
    if not (runs / "other.npz").exists():
        write_embeddings(Source(runs / "run-other", SourceConfig()).embeddings, runs / "other.npz")
    folder = runs / request.param.__name__
    shutil.copytree(runs / "run-mine", folder)
    (folder / "manifest.json").unlink()
    said = request.param(runs, folder)
    (folder / "classifier.npz").unlink()  # of older weights: refused by itself, below
    return folder, said


@pytest.mark.parametrize("name", COMMANDS)
def test_foreign_embeddings_in_a_run_are_neither_taken_nor_written_over(runs, foreign, tmp_path, capsys, name):
    run, said = tmp_path / "a", foreign[1]
    shutil.copytree(foreign[0], run)
    before = (run / "embeddings.npz").read_bytes()
    if name == "classify":
        command(capsys, "robust", run)
    code, out, err = command(capsys, name, run, *COMMANDS[name])
    assert code == 0, err
    assert said in out
    assert (run / "embeddings.npz").read_bytes() == before
    shown = Source(run, SourceConfig()).embeddings
    np.testing.assert_array_equal(shown.vectors, embed(load_encoder(run), Source(run, SourceConfig()).images).vectors)
    if name in ("discover", "report"):
        page = (run / ("subclasses.html" if name == "discover" else "report.html")).read_text()
        assert str(runs / "mine") in page
        assert str(runs / "other") not in page
    code, out, _ = command(capsys, "embed", run)
    assert code == 0
    assert read_embeddings(run / "embeddings.npz").encoder == kept_fingerprint(run / "model.safetensors")


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["embed", "RUN", "--data", "OTHER"], "embeddings.npz"),
        (["embed", "OTHER-RUN"], "embeddings.npz"),
        (["embed", "RUN", "--weights", "best"], "embeddings.npz"),
        (["discover", "OTHER-RUN"], "subclasses.csv"),
        (["robust", "OTHER-RUN"], "robust-portfolio.npz"),
        (["report", "OTHER-RUN"], "report.html"),
        (["classify", "OTHER-RUN"], "predicted.csv"),
    ],
)
def test_nothing_of_another_source_goes_where_a_run_keeps_its_own(runs, run, capsys, words, file):
    named = {"RUN": run, "OTHER": runs / "other", "OTHER-RUN": runs / "run-other"}
    before = sorted(run.iterdir())
    code, _, err = command(capsys, *(named.get(word, word) for word in words), "--out", run / file)
    assert code == 2
    assert "keeps what is made of its own images and weights" in err
    assert sorted(run.iterdir()) == before


def test_a_classifier_of_other_weights_is_refused(runs, run, capsys):
    command(capsys, "robust", run)
    of_older_weights(runs, run)
    for file in ("robust-portfolio.npz", "classifier.npz"):
        code, _, err = command(capsys, "classify", run, "--classifier", run / file)
        assert code == 2
        assert "is for embeddings of another encoder, or of other weights" in err
    code, out, _ = command(capsys, "classify", run, "--weights", "best")
    assert code == 0
    assert "best-classifier.npz" in out


def test_subclasses_found_in_other_embeddings_are_refused(runs, used, capsys):
    run = used
    of_older_weights(runs, run)
    for subcommand in ("report", "robust"):
        code, _, err = command(capsys, subcommand, run)
        assert code == 2
        assert "was found in embeddings of other weights" in err
        assert f"thanos discover {run}" in err
    assert command(capsys, "discover", run)[0] == 0
    assert command(capsys, "report", run)[0] == 0


def test_scores_of_older_weights_are_not_shown(runs, run, capsys):
    command(capsys, "transfer", run)
    assert compare([run])[0].cells["fine accuracy, probe"].value is not None
    command(capsys, "discover", run, "--clusters", 2)
    assert "fine labels, probe" in (run / "subclasses.html").read_text()
    of_older_weights(runs, run)
    assert compare([run])[0].cells["fine accuracy, probe"].value is None
    command(capsys, "discover", run, "--clusters", 2)
    assert "fine labels, probe" not in (run / "subclasses.html").read_text()


def test_a_page_never_shows_pictures_beside_others_numbers(runs, run, tmp_path):
    source, other = Source(run, SourceConfig()), Source(runs / "run-other", SourceConfig())
    with pytest.raises(DataError, match="of other images"):
        check_same_images(other.embeddings, source.images)
    with pytest.raises(DataError, match="of other images"):
        write_discover_page(
            tmp_path / "page.html",
            other.embeddings,
            discover(other.embeddings),
            of="a",
            again="a",
            images=source.images,
            errors=None,
            training=None,
            scores={},
        )
    assert not (tmp_path / "page.html").exists()


def test_the_list_of_skipped_images_is_not_written_over_another_file(runs, run, tmp_path, capsys):
    (tmp_path / "v-skipped.csv").write_text("mine")
    words = ["embed", run, "--data", runs / "other", "--skip-bad", "--out", tmp_path / "v.npz"]
    code, _, err = command(capsys, *words)
    assert code == 2
    assert "v-skipped.csv is there and was not written by" in err
    assert (tmp_path / "v-skipped.csv").read_text() == "mine"
    assert not (tmp_path / "v.npz").exists()


def test_what_a_table_rests_on_is_kept_with_it(used):
    of = json.loads((used / "subclasses.json").read_text())["of"]
    assert of == {"images": load_encoder(used).card.fingerprint, "encoder": load_encoder(used).fingerprint}


def test_what_another_run_left_is_not_compared_as_this_one_s(runs, used, tmp_path, capsys):
    run, other = used, tmp_path / "other"
    shutil.copytree(runs / "run-other", other)
    command(capsys, "discover", other, "--clusters", 2)
    command(capsys, "robust", other)
    assert compare([other])[0].cells["recovery"].value is not None
    for file in (*other.glob("subclasses.*"), *other.glob("robust-*")):
        shutil.copy(file, run)
    (line,) = compare([run])
    assert line.cells["recovery"].value is None
    assert line.cells["worst discovered group"].value is None
    command(capsys, "discover", run, "--clusters", 2)
    (run / "subclasses.yaml").unlink()
    for own in (run, other):
        command(capsys, "discover", own, "--clusters", 2 if own == run else 3)
    shutil.copy(other / "subclasses.csv", run)  # the table alone
    (run / "subclasses.yaml").unlink()  # its names bear the mark of the other table
    for subcommand in ("report", "robust"):
        code, _, err = command(capsys, subcommand, run)
        assert code == 2
        assert "is not the table that subclasses.json describes" in err
    (run / "subclasses.json").unlink()
    for subcommand in ("report", "robust"):
        code, _, err = command(capsys, subcommand, run)
        assert code == 2
        assert "is without subclasses.json, which says what it was found in" in err


def test_damaged_embeddings_in_a_run_are_made_anew(run, capsys):
    command(capsys, "embed", run)
    (run / "embeddings.npz").write_bytes((run / "embeddings.npz").read_bytes()[:3000])
    code, out, _ = command(capsys, "geometry", run)
    assert code == 0
    assert "is damaged: embedded anew for now; thanos embed" in out
    assert command(capsys, "embed", run)[0] == 0
    assert read_embeddings(run / "embeddings.npz").encoder


def test_words_in_a_file_of_names_are_kept(used, capsys):
    run = used
    names = run / "subclasses.yaml"
    names.write_text("# look at the third one again\n" + names.read_text())
    (run / "subclasses-earlier.csv").write_text("mine")
    code, out, _ = command(capsys, "discover", run, "--clusters", 3)
    assert code == 0
    assert "what you wrote beside the names of other subclasses: kept in" in out
    assert "# look at the third one again" in (run / "subclasses-earlier-2.yaml").read_text()
    assert (run / "subclasses-earlier.csv").read_text() == "mine"
    assert "look at the third" not in names.read_text()


DAMAGED = [
    ("metrics.json", b'{"final'),
    ("metrics.json", b"\xff\xfe\x00"),
    ("metrics.json", b"[1]"),
    ("metrics.json", b"{}"),
    ("metrics.json", b'{"final": [], "provenance": {}}'),
    ("metrics.json", b'{"final": {}, "provenance": {}, "transfer/last": 3}'),
    ("data.json", b'{"name"'),
    ("data.json", b'{"counts": 3, "fingerprint": 4}'),
    ("subclasses.json", b'{"settings'),
    ("subclasses.json", b'{"superclasses": 3, "of": 4}'),
    ("robust-portfolio.json", b'{"settings'),
    ("robust-portfolio.json", b"[]"),
]


@pytest.mark.parametrize("case", range(len(DAMAGED)))
def test_damaged_facts_of_a_run_are_answered_in_a_line(used, tmp_path, capsys, case):
    file, content = DAMAGED[case]
    (used / file).write_bytes(content)
    for subcommand, *more in (
        ("geometry",),
        ("transfer",),
        ("report",),
        ("discover", "--clusters", 2),
        ("compare", "-o", tmp_path / "c.html"),
    ):
        code, _, err = command(capsys, subcommand, used, *more)
        assert code in (0, 2), err
        assert "a fault of thanos" not in err
        assert len(err.splitlines()) == (code == 2)


def test_a_table_of_other_images_of_the_same_names(runs, run, tmp_path, capsys):
    """Folders of equal layout: a table names the images of the one, and would group those of the other."""
    command(capsys, "discover", runs / "run-other", "--clusters", 2, "--out", tmp_path / "found.csv")
    for words in (
        ["report", run, "--table", tmp_path / "found.csv", "--out", tmp_path / "r.html"],
        ["robust", run, "--table", tmp_path / "found.csv", "--out", tmp_path / "h.npz"],
        ["train", "--data", runs / "mine", "--groups-from", tmp_path / "found.csv", "--method", "cross-entropy",
         "--robust", "groupdro", "--epochs", 1, "--batch", 16, "--out", tmp_path / "g"],
    ):  # fmt: skip
        code, _, err = command(capsys, *words)
        assert code == 2
        assert "is of other images, which have the same names in another folder" in err
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "found", "found-places"}


def test_weights_of_a_run_on_other_images_are_refused(runs, run, capsys):
    for file in ("model.safetensors", "model.json"):
        shutil.copy(runs / "run-other" / file, run)
    for subcommand, *more in (("embed",), ("geometry",), ("discover",), ("robust",), ("export", "--to", "csv")):
        code, _, err = command(capsys, subcommand, run, *more)
        assert code == 2
        assert "was trained on other images than" in err


def test_advice_keeps_the_weights_that_were_meant(run, capsys):
    command(capsys, "discover", run, "--weights", "best", "--clusters", 2)
    (run / "subclasses-best.json").unlink()
    code, _, err = command(capsys, "report", run, "--weights", "best")
    assert code == 2
    assert f"thanos discover {run} --weights best" in err
