"""Records as lines: found by row, seed and settings, believed whole, written by many, converted without loss."""

import json
import multiprocessing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thanos.errors import DataError
from thanos.reproduce.fingerprint import digest
from thanos.reproduce.old_records import old_name, read_old_records
from thanos.reproduce.records import Key, Records, add_record, convert_old_records, read_records, record_file
from thanos.storage import write_json


def record(row="spread", seed=0, accuracy=0.5, **more):
    content = {"row": row, "dataset": "mnist", "seed": seed, "fingerprint": digest([row, seed])}
    return content | {"scores": {"accuracy": accuracy}, "definitions": {"accuracy": "share of images"}} | more


def key(content):
    return Key(content["seed"], content["row"], content["fingerprint"])


def lines(folder):
    return record_file(folder, "mnist").read_text().split("\n")[:-1]


def put(folder, text):
    record_file(folder, "mnist").write_text(text)


def write_old(folder, content):
    """As records were kept: a file each, its name the row's, its seed and fingerprint."""
    file = folder / content["dataset"] / old_name(content)
    write_json(file, content | {"checksum": digest(content)})
    return file


@pytest.fixture
def folder(tmp_path):
    for seed in (1, 0):
        for row in ("thanos", "spread", "supcon + supcon"):
            add_record(tmp_path, record(row, seed))
    return tmp_path


def test_a_record_is_read_as_it_was_written(tmp_path):
    odd = record("supcon + supcon", note="ü\u2028\n\x1b", nothing=None, deep=[{"a": [1e-300, True, 10**20]}])
    add_record(tmp_path, odd)
    add_record(tmp_path, {k: v for k, v in record().items() if k != "definitions"})
    found = Records(tmp_path).of("mnist")
    assert json.dumps(found[key(odd)]) == json.dumps(odd)
    assert "definitions" not in found[key(record())]
    assert Records(tmp_path).of("cifar10") == {}


def test_lines_go_by_seed_and_row_whatever_the_order_of_writing_and_definitions_are_said_once(folder, tmp_path_factory):
    first, *rest = map(json.loads, lines(folder))
    assert set(first) == {"definitions", "checksum"}
    assert [(r["seed"], r["row"]) for r in rest] == [
        (seed, row) for seed in (0, 1) for row in ("spread", "supcon + supcon", "thanos")
    ]
    assert {r["definitions"] for r in rest} == {first["checksum"]}
    other = tmp_path_factory.mktemp("other")
    for content in reversed(Records(folder).of("mnist").values()):
        add_record(other, content)
    assert lines(other) == lines(folder)


def test_a_row_measured_again_takes_the_place_of_its_record(folder):
    before = Records(folder).of("mnist")
    add_record(folder, record(accuracy=0.75))
    after = Records(folder).of("mnist")
    assert after.keys() == before.keys()
    assert [k.row for k in after if after[k] != before[k]] == ["spread"]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n"])
def test_how_the_last_line_ends_does_not_matter(folder, ending):
    before = Records(folder).of("mnist")
    whole = "\n".join(lines(folder))
    put(folder, whole + ending)
    assert Records(folder).of("mnist") == before
    add_record(folder, record("cauto"))
    assert Records(folder).of("mnist") == before | {key(record("cauto")): record("cauto")}


def edited(line):
    content = json.loads(line)
    content["scores"]["accuracy"] = 0.999
    return json.dumps(content)


DAMAGE = {
    "a score": (edited, "was edited after it was measured"),
    "cut short": (lambda line: line[:-9], "a finished row's record is wanted; this is none"),
    "a conflict of git": (lambda line: f"<<<<<<< HEAD\n{line}", "a finished row's record is wanted; this is none"),
    "no object": (lambda line: "[1, 2]", "a finished row's record is wanted; this is none"),
    "too deep": (lambda line: "[" * 100_000, "a finished row's record is wanted; this is none"),
    "not text": (lambda line: "\udcff", "a finished row's record is wanted; this is none"),
    "no checksum": (lambda line: line.replace('"checksum"', '"cheksum"'), "this is none"),
    "its definitions": (
        lambda line: line.replace('"definitions": "', '"definitions": "0'),
        "definitions that it names",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_is_refused_by_file_and_line_and_nothing_is_written_over_it(folder, damage):
    change, said = DAMAGE[damage]
    all_lines = lines(folder)
    all_lines[3] = change(all_lines[3])
    damaged = "\n".join(all_lines).encode(errors="surrogateescape")
    file = record_file(folder, "mnist")
    file.write_bytes(damaged)
    for ask in (lambda: Records(folder).of("mnist"), lambda: add_record(folder, record("cauto"))):
        with pytest.raises(DataError, match=said) as error:
            ask()
        assert f"{file}, line 4: " in str(error.value)
        assert f"git checkout {file}" in str(error.value)
        assert "delete the line" in str(error.value)
    assert file.read_bytes() == damaged


def test_a_line_of_another_data_set_is_refused_though_its_checksum_agrees(folder):
    add_record(folder, record(dataset="cifar10", accuracy=1.0))
    (there,) = (line for line in record_file(folder, "cifar10").read_text().splitlines() if '"row"' in line)
    put(folder, "\n".join([*lines(folder)[:3], there]))
    with pytest.raises(DataError, match=r"mnist\.jsonl, line 4: it holds another row's record \(spread, cifar10"):
        Records(folder).of("mnist")


def test_edited_definitions_are_refused(folder):
    put(folder, "\n".join(lines(folder)).replace("share of images", "share of all images"))
    with pytest.raises(DataError, match=r"line 1: the definitions were edited\. Restore them \(git checkout"):
        Records(folder).of("mnist")


def test_definitions_that_are_gone_are_missed_at_the_first_record(folder):
    put(folder, "\n".join(lines(folder)[1:]))
    with pytest.raises(DataError, match=r"line 1: the definitions that it names are gone"):
        Records(folder).of("mnist")


def test_equal_lines_count_once_and_two_that_differ_are_refused(folder, tmp_path_factory):
    """As when two branches are merged."""
    before, original = Records(folder).of("mnist"), lines(folder)
    put(folder, "\n".join([*original, *original]))
    assert Records(folder).of("mnist") == before
    other = tmp_path_factory.mktemp("other")
    add_record(other, record(accuracy=0.75))
    put(folder, "\n".join([*original, lines(other)[1]]))
    with pytest.raises(DataError, match="line 8: it says of spread, seed 0, something else than line 2"):
        Records(folder).of("mnist")


def test_a_file_is_read_once_for_all_rows_that_are_asked_for(folder):
    known = Records(folder)
    before = known.of("mnist")
    add_record(folder, record("cauto"))
    assert known.of("mnist") is before
    assert len(Records(folder).of("mnist")) == len(before) + 1


def add_some(folder, seed):
    for row in ("a", "b", "c"):
        add_record(folder, record(row, seed))


def test_many_processes_write_at_once_and_nothing_is_lost(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_some, args=(tmp_path, seed)) for seed in range(12)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 12
    expected = [record(row, seed) for seed in range(12) for row in ("a", "b", "c")]
    assert Records(tmp_path).of("mnist") == {key(each): each for each in expected}
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.jsonl"], "no lock stays behind"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.text("abcdefgh ,+()", max_size=10).map("row {}".format)


@given(st.lists(st.tuples(names, st.integers(0, 20), json_values, json_values), max_size=6))
@settings(max_examples=40, deadline=None)
def test_conversion_loses_nothing(tmp_path_factory, given_records):
    folder = tmp_path_factory.mktemp("old")
    contents = {}
    for row, seed, scores, definitions in given_records:
        content = record(row, seed, definitions=definitions) | {"scores": scores}
        contents[write_old(folder, content)] = content  # names that give one file: the later one is there
    expected = {key(content): json.dumps(content) for content in contents.values()}
    shown = {k: json.dumps(r) for k, r in Records(folder).of("mnist").items()}
    assert shown == expected, "read where they lie"
    said = []
    convert_old_records(folder, said.append)
    assert len(said) == bool(contents)
    assert {k: json.dumps(r, sort_keys=True) for k, r in Records(folder).of("mnist").items()} == {
        k: json.dumps(json.loads(text), sort_keys=True) for k, text in expected.items()
    }
    assert [path.name for path in folder.iterdir()] == (["mnist.jsonl"] if contents else [])
    convert_old_records(folder, said.append)
    assert len(said) == bool(contents), "once"


@pytest.mark.parametrize("change", ["score", "no json", "no checksum", "another row's"])
def test_an_edited_old_record_is_refused_by_name_and_nothing_is_converted(tmp_path, change):
    file, other = (write_old(tmp_path, record(seed=seed)) for seed in (0, 1))
    content = json.loads(file.read_text())
    content["scores"]["accuracy"] = 0.999
    if change == "no checksum":
        del content["checksum"]
    file.write_text({"no json": "{", "another row's": other.read_text()}.get(change, json.dumps(content)))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    for ask in (lambda: Records(tmp_path).of("mnist"), lambda: convert_old_records(tmp_path, print)):
        with pytest.raises(DataError) as error:
            ask()
        assert str(file) in str(error.value)
        assert "delete it to run it again" in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_conversion_that_was_stopped_goes_on_and_what_is_not_a_record_stays(tmp_path):
    old = [record(seed=seed) for seed in (0, 1)]
    for content in old:
        write_old(tmp_path, content)
    add_record(tmp_path, old[0])  # written, and its own file not removed yet
    (tmp_path / "mnist" / "notes.json").write_text("{}")
    convert_old_records(tmp_path, lambda line: None)
    assert [*Records(tmp_path).of("mnist").values()] == old
    assert [path.name for path in (tmp_path / "mnist").iterdir()] == ["notes.json"]


def test_an_old_record_that_differs_from_its_line_is_refused(tmp_path):
    file = write_old(tmp_path, record())
    add_record(tmp_path, record(accuracy=0.75))
    with pytest.raises(DataError, match="differ about one row"):
        convert_old_records(tmp_path, print)
    assert [*read_old_records(tmp_path / "mnist")] == [file]
    assert read_records(record_file(tmp_path, "mnist"))[key(record())]["scores"] == {"accuracy": 0.75}
