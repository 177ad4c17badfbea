"""Plans: what is shared is trained once, what is finished is not repeated, what is killed goes on."""

import json
import multiprocessing
import os
import shutil
import signal
import time

import pytest

from thanos.config import RunConfig, TrainConfig, TransferConfig, ViewSpec
from thanos.data.load import load
from thanos.errors import DataError, Interrupted, OutputError
from thanos.reproduce import estimate, plan
from thanos.reproduce.fingerprint import fingerprint
from thanos.reproduce.plan import carry_out, missing, trainings
from thanos.reproduce.records import Places, Records, record_file
from thanos.reproduce.rows import CONTROL_SEED, ROWS, Block
from thanos.reproduce.scale import SCALES, load_scale
from thanos.reproduce.table3 import METHODS
from thanos.storage.locks import LOCK, only_one
from thanos.workers import start_importing

pytestmark = pytest.mark.usefixtures("all_digits_in_module")  # as workers have them, which are other processes

QUIET = RunConfig(quiet=True, threads=1)
PINNED = {
    "frozen": "6a2872158f9d",
    "cpu": "60429f771dd2",
    "paper-fast": "ac7c794cdf1b",
    "resnet18": "5460bce5a3ae",
    "paper": "ed8700c58a98",
}
BASE = TrainConfig(data="digits", epochs=1, train_limit=256)


def block(*names, seed=0):
    return Block(BASE.model_copy(update={"seed": seed, "split_seed": seed}), tuple(ROWS[name] for name in names))


def places(folder):
    return Places(folder / "runs", folder / "records")


def do(blocks, where, jobs=1):
    said = []
    failures = carry_out(blocks, where, run=QUIET, jobs=jobs, command="test", say=said.append)
    return said, failures


def records(blocks, where):
    """Every row's record without what differs from one measurement to the next."""
    unlike = {"scoring_seconds", "date", "jobs"}
    found, known = {}, Records(where.records)
    for b in blocks:
        for row in b.rows:
            record = known.find(row, b)
            trained = [{k: v for k, v in t.items() if "second" not in k} for t in record["trainings"]]
            found[b.title, row.name] = {k: v for k, v in record.items() if k not in unlike} | {"trainings": trained}
    return found


def test_five_trainings_give_the_papers_seven_rows_and_two_more_their_controls(tmp_path):
    needed = trainings([block(*METHODS)], places(tmp_path))
    assert sorted(t.config.method for t in needed.values()) == [
        "cauto",
        "infonce",
        "spread",
        "supcon",
        "supcon+infonce",
    ]
    controls = trainings([block(*METHODS, "supcon + supcon", "spread + spread")], places(tmp_path))
    extra = [t.config for key, t in controls.items() if key not in needed]
    assert sorted((c.method, c.seed) for c in extra) == [("spread", CONTROL_SEED), ("supcon", CONTROL_SEED)]
    assert {c.split_seed for c in extra} == {0}, "a control sees the same images"


def test_every_two_encoder_row_of_the_paper_has_a_control_of_its_width():
    for name in METHODS:
        row = ROWS[name]
        assert (row.control is not None) == (len(row.parts) == 2)
        if row.control:
            first, second = ROWS[row.control].parts
            assert first == row.parts[0]
            assert (second.method, second.changes, second.second) == (first.method, first.changes, True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    where = places(tmp_path_factory.mktemp("plan"))
    blocks = [block("raw pixels", "random encoder", "cauto", "spread", "thanos", "fine labels")]
    said, failures = do(blocks, where, jobs=2)
    assert not failures
    return blocks, where, said


def test_records_say_what_was_measured_and_how(finished):
    blocks, where, _ = finished
    assert missing(blocks, where) == []
    for (_, name), record in records(blocks, where).items():
        assert record["row"] == name
        assert 0 < record["scores"]["probe"]["accuracy"] <= 1
        assert {"command", "versions", "hardware", "commit", "definitions", "settings", "images"} <= set(record)
        assert [t["fingerprint"] for t in record["trainings"]] == [
            fingerprint(part.config(blocks[0].base)) for part in ROWS[name].parts
        ]
    width = {name: r["width"] for (_, name), r in records(blocks, where).items()}
    assert width["thanos"] == width["spread"] + width["cauto"] == 256
    assert width["raw pixels"] == 64


def test_the_rows_embedding_is_the_concatenation_that_thanos_trains(finished, tmp_path):
    """A row made of two trainings scores as one run of the method that trains both."""
    from thanos.data.load import load
    from thanos.embeddings import embed
    from thanos.evaluate.transfer import evaluate_transfer
    from thanos.training.fit import train

    blocks, where, _ = finished
    config = blocks[0].base.model_copy(update={"method": "thanos"})
    images = load(config)
    run = train(config, tmp_path / "run", images=images, run=QUIET, say=lambda line: None)
    scores = evaluate_transfer(embed(run.encoder, images), TransferConfig())
    row = records(blocks, where)[blocks[0].title, "thanos"]["scores"]
    assert row["probe"]["accuracy"] == pytest.approx(scores.probe.accuracy, abs=0.01)
    assert row["neighbours"]["accuracy"] == pytest.approx(scores.neighbours.accuracy, abs=0.01)


def test_finished_rows_and_trainings_are_not_repeated(finished):
    blocks, where, said = finished
    assert sum("trained in" in line for line in said) == 3
    assert do(blocks, where)[0] == []
    file = record_file(where.records, "digits")
    before, lines = records(blocks, where), file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if '"row": "spread"' not in line))
    logs = {log: log.read_text() for log in where.work.glob("*/run.log")}
    again, _ = do(blocks, where)
    assert [line.split(":")[1].split()[0] for line in again if "trained" not in line] == ["spread"]
    assert records(blocks, where) == before
    assert {log: log.read_text() for log in where.work.glob("*/run.log")} == logs, "no run was started again"


def test_the_lock_of_a_training_that_was_killed_as_it_ended_goes(finished, tmp_path):
    blocks, where, _ = finished
    again = Places(tmp_path / "runs", tmp_path / "records")
    shutil.copytree(where.work, again.work)
    left = [training.folder / LOCK for training in trainings(blocks, again).values()]
    for lock in left:
        lock.touch()
    _, failures = do(blocks, again)
    assert not failures
    assert len(left) > 1
    assert not [lock for lock in left if lock.exists()]


@pytest.mark.parametrize("change", ["score", "no json", "no checksum"])
def test_an_edited_record_is_refused_by_name(finished, change):
    blocks, where, _ = finished
    file = record_file(where.records, "digits")
    original = file.read_text()
    lines = original.splitlines()
    (place,) = (k for k, line in enumerate(lines) if '"row": "cauto"' in line)
    record = json.loads(lines[place])
    record["scores"]["probe"]["accuracy"] = 0.999
    if change == "no checksum":
        del record["checksum"]
    lines[place] = "{" if change == "no json" else json.dumps(record)
    file.write_text("\n".join(lines))
    try:
        with pytest.raises(DataError) as error:
            do(blocks, where)
        assert f"{file}, line {place + 1}: " in str(error.value)
        assert "delete the line to run it again" in str(error.value)
    finally:
        file.write_text(original)


def test_a_fingerprint_follows_the_outcome_and_nothing_else(tmp_path):
    plain = fingerprint(BASE)
    assert fingerprint(BASE.model_copy(update={"root": tmp_path, "download": True, "accelerator": "cpu"})) == plain
    for change in ({"seed": 1}, {"alpha": 0.5}, {"epochs": 2}, {"data": "mnist"}, {"labels": "subclass"}):
        assert fingerprint(BASE.model_copy(update=change)) != plain
    assert fingerprint(TrainConfig(data="digits", epochs=1, train_limit=256, temperature=0.5)) == plain


def test_what_fails_is_reported_with_its_log_and_the_rest_goes_on(tmp_path, monkeypatch):
    def train(config, *arguments, **named):
        if config.method == "cauto":
            raise RuntimeError("no room on this earth")
        return real(config, *arguments, **named)

    real = plan.train
    monkeypatch.setattr(plan, "train", train)
    where, blocks = places(tmp_path), [block("cauto", "spread", "thanos")]
    said, failures = do(blocks, where)
    (failure,) = failures
    assert "cauto" in failure.title
    assert "no room on this earth" in failure.reason
    assert "Traceback" in failure.log.read_text()
    assert any(line.startswith("failed: ") for line in said)
    assert [row.name for row in missing(blocks, where)[0].rows] == ["cauto", "thanos"]
    monkeypatch.setattr(plan, "train", real)
    assert do(blocks, where)[1] == []
    assert missing(blocks, where) == []


def dies_in_autoencoders(task, *arguments):
    """As when the system kills a process that takes too much memory."""
    if getattr(getattr(task, "config", None), "method", "") == "cauto":
        os._exit(9)
    return plan._work(task, *arguments)


def test_a_worker_that_dies_fails_its_task_and_not_the_plan(tmp_path, monkeypatch):
    where, blocks = places(tmp_path), [block("cauto"), block("spread")]
    monkeypatch.setattr(plan, "_work", dies_in_autoencoders)
    _, failures = do(blocks, where, jobs=2)
    assert [failure.title for failure in failures] == ["digits, seed 0: cauto"]
    assert "ended with code 9" in failures[0].reason
    assert [row.name for b in missing(blocks, where) for row in b.rows] == ["cauto"]
    monkeypatch.undo()
    assert do(blocks, where, jobs=2)[1] == []
    assert missing(blocks, where) == []


def test_ctrl_c_is_told_as_an_interruption(tmp_path, monkeypatch):
    def train(*arguments, **named):
        raise Interrupted("stopped", signal.SIGINT)

    monkeypatch.setattr(plan, "train", train)
    with pytest.raises(Interrupted) as stop:
        do([block("spread")], places(tmp_path))
    assert stop.value.exit_code == 130


def _carry_out_long(folder):
    base = BASE.model_copy(update={"epochs": 1000})
    rows = (ROWS["spread"], ROWS["cauto"])
    carry_out([Block(base, rows)], places(folder), run=QUIET, jobs=2, command="test", say=lambda line: None)


def test_a_signal_to_the_plan_alone_makes_every_worker_save_its_state(tmp_path):
    start_importing()  # other tests have, and what is forked from there need not
    process = multiprocessing.get_context("forkserver").Process(target=_carry_out_long, args=(tmp_path,))
    process.start()
    while len([f for f in tmp_path.glob("runs/*/metrics.jsonl") if f.stat().st_size]) < 2:
        assert process.is_alive()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    process.join(timeout=60)
    assert process.exitcode == 1, "Interrupted was raised"
    assert len(list(tmp_path.glob("runs/*/last.ckpt"))) == 2


def test_a_work_folder_takes_one_command_at_a_time(tmp_path):
    with (
        only_one(tmp_path / "work", "--work"),
        pytest.raises(OutputError, match="another command is at work"),
        only_one(tmp_path / "work", "--work"),
    ):
        pass
    with only_one(tmp_path / "work", "--work"):
        pass


def test_the_scales_settings_are_pinned_by_their_fingerprints():
    """Committed records are found by these: a default that changes must not pass unseen."""
    assert {name: fingerprint(load_scale(name).base("cifar10", 0)) for name in SCALES} == PINNED


def test_a_view_given_as_its_default_still_counts():
    given = BASE.model_copy(update={"views": ViewSpec(flip=0.5)})
    assert (
        len({fingerprint(BASE), fingerprint(given), fingerprint(BASE.model_copy(update={"views": ViewSpec(grey=0.2)}))})
        == 3
    )


def _carry_out(folder):
    do([block("spread", "cauto", "thanos")], places(folder))


def test_killed_at_any_moment_it_ends_with_the_same_records(tmp_path):
    """kill -9 whenever something has moved; no finished training starts twice."""
    blocks = [block("spread", "cauto", "thanos")]
    do(blocks, places(tmp_path / "reference"))
    where, context = places(tmp_path / "killed"), multiprocessing.get_context("fork")

    def moved():
        return {(f, f.stat().st_mtime_ns) for f in tmp_path.glob("killed/**/*") if f.is_file()}

    for kill in (True, True, False):
        before, trained = moved(), set(where.work.glob("*/metrics.json"))
        process = context.Process(target=_carry_out, args=(tmp_path / "killed",))
        process.start()
        while kill and process.is_alive() and len(moved() - before) < 5:
            time.sleep(0.02)
        if kill:
            process.kill()
        process.join()
        assert not {f for f, _ in moved() - before} & trained, "a finished training was repeated"
    assert process.exitcode == 0
    ours, theirs = records(blocks, where), records(blocks, places(tmp_path / "reference"))
    for key, record in theirs.items():
        assert ours[key]["scores"] == record["scores"], key


def test_a_head_on_frozen_features_is_planned_without_its_time(monkeypatch):
    """No image is read and no step taken for it; others are timed as ever."""
    monkeypatch.setattr(estimate, "seconds_a_step", lambda config, images: 0.5)
    head = TrainConfig(encoder="tf_efficientnet_lite0", pretrained=True, frozen=True, size=64, data="cifar10")
    plain = TrainConfig(data="digits", epochs=3, batch=100)
    steps = 3 * (len(load(plain).rows("train")) // 100)
    assert estimate.training_seconds([head, plain], RunConfig()) == [None, 0.5 * steps]
