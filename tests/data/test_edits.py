"""Edits saved on a page: every command reads the same groups out of them, those that a person would count by hand."""

import json
import shutil

import numpy as np
import pytest

from thanos.cli import main, run_command
from thanos.config import DataConfig
from thanos.data.content import content_of
from thanos.data.edits import AtHand
from thanos.data.group_table import grouped, mark_of, read_table
from thanos.data.load import load
from thanos.embeddings import Embeddings, write_embeddings
from thanos.errors import ConfigError
from thanos.robust.head import read_head
from thanos.robust.methods import fit_robust
from thanos.robust.select import watch

ROWS = [
    ("a/1.png", "animals", "animals/0", "animals/0a"),
    ("a/2.png", "animals", "animals/0", "animals/0b"),
    ("a/3.png", "animals", "animals/1", "animals/1"),
    ("a/4.png", "animals", "animals/2", "animals/2"),
    ("v/1.png", "vehicles", "vehicles/0", "vehicles/0"),
    ("v/2.png", "vehicles", "vehicles/0", "vehicles/0"),
    ("v/3.png", "vehicles", "vehicles/1", "vehicles/1"),
]
PIXELS = {image: np.full((2, 3, 1), i, dtype=np.uint8) for i, (image, *_) in enumerate(ROWS)}


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "subclasses.csv"
    file.write_text("image,superclass,subclass,finest\n" + "".join(",".join(row) + "\n" for row in ROWS))
    return file


def save(table, /, *, name="edited.yaml", **parts):
    """As a page writes it: YAML whose strings are quoted as in JSON."""
    parts = {"edits": 1, "table": mark_of(table) if table.is_file() else "0" * 8} | parts
    lines = ["# Edits of discovered subclasses, made on a page of thanos. Commands take it by --names."]
    for key, value in parts.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())]
        elif isinstance(value, list):
            inside = [", ".join(f"{k}: {json.dumps(v)}" for k, v in one.items()) for one in value]
            lines += [f"{key}:", *(f"  - {{{one}}}" for one in inside)]
        else:
            lines.append(f"{key}: {json.dumps(value)}")
    file = table.with_name(name)
    file.write_text("\n".join(lines) + "\n")
    return file


def move(image, to, superclass="animals", content=""):
    return {"image": image, "content": content, "superclass": superclass, "to": to}


def homes(found):
    return {image: one.subclass for image, one in found.items()}


def test_names_moves_and_marks_together(table):
    names = {"animals/0a": "cats", "animals/1": "cats", "vehicles/0": "wheels", "animals/2": "odd"}
    moved = [move("a/4.png", "cats"), move("a/2.png", "rust"), move("v/3.png", "wheels", "vehicles")]
    marks = {"cats": "harmful", "rust": "not a group", "wheels": "look again"}
    found = read_table(table, save(table, names=names, moved=moved, marks=marks))
    assert homes(found) == {
        "a/1.png": "cats", "a/2.png": "animals (rest)", "a/3.png": "cats", "a/4.png": "cats",
        "v/1.png": "wheels", "v/2.png": "wheels", "v/3.png": "wheels",
    }  # fmt: skip
    assert {one.subclass: one.mark for one in found.values()} == {
        "cats": "harmful",
        "animals (rest)": "not a group",
        "wheels": "look again",
    }
    kept = read_table(table, save(table, names=names, moved=moved, marks=marks), rest=False)
    assert homes(kept) == homes(found) | {"a/2.png": "rust"}
    assert kept["a/2.png"].mark == "not a group"


def test_names_alone_are_those_of_a_file_of_names(table, tmp_path):
    names = {"animals/0b": "x", "animals/2": "x", "vehicles/1": "x"}
    plain = tmp_path / "plain.yaml"
    plain.write_text("".join(f"{old}: {new}\n" for old, new in names.items()))
    assert read_table(table, save(table, names=names)) == read_table(table, plain)


def test_json_is_taken_as_well(table):
    said = {"edits": 1, "table": mark_of(table), "names": {"animals/1": 'é "x"'}}
    file = table.with_name("edited.json")
    file.write_text(json.dumps(said, indent=1))
    assert homes(read_table(table, file))["a/3.png"] == 'é "x"'


def test_parts_that_are_left_empty_say_nothing(table):
    file = table.with_name("edited.yaml")
    file.write_text(f'edits: 1\ntable: "{mark_of(table)}"\nnames:\nmoved:\nmarks:\n')
    assert read_table(table, file) == read_table(table)


def test_no_group_twice_in_a_superclass_is_one_rest(table):
    marks = {"animals/0": "not a group", "animals/2": "not a group", "vehicles/1": "not a group"}
    found = homes(read_table(table, save(table, marks=marks)))
    assert [found[image] for image, *_ in ROWS] == [
        "animals (rest)", "animals (rest)", "animals/1", "animals (rest)", "vehicles/0", "vehicles/0", "vehicles (rest)"
    ]  # fmt: skip


def test_a_name_of_two_superclasses_is_told_apart_wherever_it_stands(table):
    names = {"animals/0": "odd", "vehicles/0": "odd"}
    moved = [move("a/3.png", "odd (animals)"), move("v/3.png", "odd", "vehicles")]
    found = read_table(table, save(table, names=names, moved=moved, marks={"odd (vehicles)": "harmful"}))
    assert homes(found)["a/3.png"] == "odd (animals)"
    assert homes(found)["v/3.png"] == "odd (vehicles)"
    assert {one.subclass for one in found.values() if one.mark} == {"odd (vehicles)"}
    with pytest.raises(ConfigError, match=r"marks 'odd', which animals and vehicles have each; say which"):
        read_table(table, save(table, names=names, marks={"odd": "harmful"}))


def test_moved_images_follow_a_folder_that_moved(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("image,superclass,subclass\n" + "".join(f"/new/p/{image},{a},{b}\n" for image, a, b, _ in ROWS))
    found = homes(read_table(table, save(table, moved=[move("/old/p/a/3.png", "rust")])))
    assert found["/new/p/a/3.png"] == "rust"
    assert sorted(found.values()).count("rust") == 1


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"edits": 2}, "`edits` should be 1; got 2"),
        ({"table": "12345678"}, "edits the subclasses of another table"),
        ({"table": "no"}, "`table` should"),
        ({"names": {"animals/9": "x"}}, r"names 'animals/9', which was not discovered \(did you mean 'animals/"),
        ({"names": {"animals/0": " "}}, "names.animals/0"),
        ({"names": {"animals/0": "x" * 2000}}, "at most 1000"),
        ({"names": "animals/0"}, "`names` should be a valid dictionary"),
        ({"marks": {"animals/0": "ugly"}}, "'harmful', 'not a group' or 'look again'; got 'ugly'"),
        ({"marks": {"lions": "harmful"}}, "marks 'lions', which no subclass is called after the edits"),
        ({"moved": [move("a/9.png", "x")]}, "moves 'a/9.png', which is no image of the table"),
        ({"moved": [move("a/1.png", "x"), move("a/1.png", "y")]}, "moves 'a/1.png' twice"),
        ({"moved": [move("a/1.png", "x", "vehicles")]}, "its superclass is 'animals'. Images move inside"),
        ({"moved": [move("a/1.png", "vehicles/0")]}, "to 'vehicles/0', a subclass of 'vehicles'"),
        ({"moved": [move("a/1.png", "x", content="zz")]}, r"`moved.0.content`"),
        ({"moved": [{"image": "a/1.png"}]}, "`moved.0.superclass` is needed"),
        ({"moves": []}, "`moves` should"),
    ],
)
def test_what_is_refused(table, parts, said):
    before = table.read_bytes()
    with pytest.raises(ConfigError, match=said) as raised:
        read_table(table, save(table, **parts))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert table.read_bytes() == before


def test_a_key_that_stands_there_twice(table):
    file = save(table, names={"animals/0": "x"})
    file.write_text(file.read_text() + '  "animals/0": "y"\n')
    with pytest.raises(ConfigError, match="'animals/0' stands there twice"):
        read_table(table, file)


def at_hand(names, said, *, pixels=PIXELS, shape=None):
    values = np.stack([pixels[name] for name in names])
    return AtHand(names, lambda: values, shape, said.append)


def test_what_changed_or_is_gone_stays_where_it_was(table):
    moved = [move(image, "rust", content=content_of(PIXELS[image])) for image in ("a/1.png", "a/2.png", "a/3.png")]
    moved.append(move("a/4.png", "rust"))  # of which nothing is known but its name
    names, said = [image for image, *_ in ROWS if image != "a/3.png"], list[str]()
    other = PIXELS | {"a/2.png": PIXELS["a/2.png"] + 1}
    file = save(table, moved=moved)
    found = homes(read_table(table, file, at_hand(names, said, pixels=other)))
    assert [image for image, home in found.items() if home == "rust"] == ["a/1.png", "a/4.png"]
    assert said == [f"2 of 4 moved images of {file} are here as they were: 1 are not here, 1 hold something else"]


def test_a_new_name_that_is_nearly_another_is_said(table):
    edits = save(table, moved=[move("a/1.png", "sunglasses"), move("a/2.png", "sunglases"), move("a/3.png", "hats")])
    said = []
    found = read_table(table, edits, at_hand(list(PIXELS), said))
    assert {found[f"a/{i}.png"].subclass for i in (1, 2, 3)} == {"sunglasses", "sunglases", "hats"}
    near = [line for line in said if "did you mean" in line]
    assert len(near) == 2
    assert "moves 1 to 'sunglases', a subclass of its own (did you mean 'sunglasses'?)" in near[1]


def test_where_none_fits_nothing_is_applied(table):
    file = save(table, moved=[move("a/1.png", "rust", content=content_of(PIXELS["a/2.png"]))])
    with pytest.raises(ConfigError, match=r"none of the 1 moved images of .* fits: 0 are not here, 1 hold something"):
        read_table(table, file, at_hand(list(PIXELS), []))


def test_images_of_another_size_are_taken_by_name(table):
    said = list[str]()
    file = save(table, moved=[move("a/1.png", "rust", content="0" * 16)])
    found = read_table(table, file, at_hand(list(PIXELS), said, shape=[4, 6, 1]))
    assert found["a/1.png"].subclass == "rust"
    assert "by name alone" in said[0]


def test_training_takes_the_edited_groups(tmp_path):
    """Digits: the table says their superclass is one subclass each; three images go to a new one."""
    images = load(DataConfig(data="digits"))
    table = tmp_path / "t.csv"
    kinds = [images.superclass_names[k] for k in images.superclass]
    rows = zip(images.names, kinds, strict=True)
    table.write_text("image,superclass,subclass\n" + "".join(f"{image},{kind},{kind}/0\n" for image, kind in rows))
    chosen = [3, 70, 200]
    moved = [
        move(images.names[i], f"new {kinds[i]}", kinds[i], content_of(images.images[np.array([i])][0])) for i in chosen
    ]
    moved[2]["content"] = "0" * 16
    file = save(table, names={f"{kinds[0]}/0": "first"}, moved=moved)
    got = load(DataConfig(data="digits", groups_from=table, groups_named=file))
    wanted = ["first" if kind == kinds[0] else f"{kind}/0" for kind in kinds]
    for i in chosen[:2]:
        wanted[i] = f"new {kinds[i]}"
    assert [got.group_names[k] for k in got.group] == wanted
    assert any("2 of 3 moved images" in note for note in got.notes)
    assert grouped(images, table, None).group_names == tuple(sorted({f"{kind}/0" for kind in kinds}))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Vectors with the table of what is found in them."""
    rng = np.random.default_rng(0)
    n = 360
    superclass, kind = rng.integers(0, 2, n), rng.integers(0, 3, n)
    x = (rng.normal(size=(6, 5)) * 2)[3 * superclass + kind] + rng.normal(size=(n, 5))
    split = np.repeat([0, 1, 2], n // 3).astype(np.int8)
    embeddings = Embeddings(
        vectors=x.astype(np.float32), superclass=superclass, superclass_names=("a", "b"), split=split
    )
    file = tmp_path_factory.mktemp("found") / "e.npz"
    write_embeddings(embeddings, file)
    run_command(["discover", str(file), "--clusters", "3"])
    return file.parent, embeddings


@pytest.fixture
def source(found, tmp_path):
    """A copy of them."""
    folder, embeddings = found
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy" / "e.npz", embeddings, tmp_path / "copy" / "e-subclasses.csv"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main([str(each) for each in arguments])
    said = capsys.readouterr()
    return done.value.code, said.out, said.err


def test_robust_gives_the_classifier_of_exactly_those_groups(source, capsys):
    file, embeddings, table = source
    home = [one.subclass for one in (read_table(table)[str(i)] for i in range(len(embeddings)))]
    lasso = [i for i in range(len(home)) if home[i] == "a/0" and i % 3 == 0]
    moved = [move(str(i), "new", "a", content_of(embeddings.vectors[i])) for i in lasso]
    names, marks = {"a/1": "pair", "a/2": "pair"}, {"b/1": "not a group", "b/2": "not a group", "pair": "harmful"}
    edited = save(table, names=names, moved=moved, marks=marks)
    code, out, err = run(capsys, "robust", file, "--method", "groupdro", "--names", edited)
    assert (code, err) == (0, "")
    assert "marked by a person: b (rest) (not a group), " in out
    assert "pair (harmful)" in out
    assert f"{len(lasso)} of {len(lasso)} moved images" in out
    by_hand = [
        "new" if i in set(lasso) else {"a/0": "a/0", "b/0": "b/0"}.get(each, "pair" if each[0] == "a" else "b (rest)")
        for i, each in enumerate(home)
    ]
    kinds = sorted(set(by_hand))
    group = np.array([kinds.index(each) for each in by_hand])
    looked_at = watch("worst-discovered", embeddings, discovered=group, names=tuple(kinds))
    wanted = fit_robust("groupdro", embeddings, group, looked_at, 0).head
    got, _ = read_head(file.with_name("e-robust-groupdro.npz"))
    for name in ("weight", "bias"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=1e-4, atol=1e-6)
    facts = json.loads(file.with_name("e-robust-groupdro.json").read_text())
    assert set(facts["selection"]["n"]) == set(kinds)
    assert facts["marks"] == {"pair": "harmful", "b (rest)": "not a group"}


def test_report_classify_and_discover_take_it(source, capsys):
    file, embeddings, table = source
    moved = [move("0", "alone", "ab"[embeddings.superclass[0]], content_of(embeddings.vectors[0]))]
    edited = save(table, names={"a/0": "=evil(1)</script>", "b/0": "wheels"}, moved=moved)
    code, out, err = run(capsys, "report", file, "--names", edited, "-o", file.with_name("page.html"))
    assert (code, err) == (0, "")
    page = file.with_name("page.html").read_text()
    assert "wheels" in page
    noted = save(table, names={"b/0": "wheels"}, marks={"wheels": "not a group"})
    run(capsys, "report", file, "--names", noted, "-o", file.with_name("noted.html"))
    noted_page = file.with_name("noted.html").read_text()  # pages keep the name and the mark, for the next edits
    assert '"marks": {"wheels": "not a group"}' in noted_page
    assert "b (rest)" not in noted_page
    edited = save(table, names={"a/0": "=evil(1)</script>", "b/0": "wheels"}, moved=moved)
    assert "evil(1)</script>" not in page
    run(capsys, "robust", file, "--names", edited)
    code, out, err = run(capsys, "classify", file, "--names", edited, "-o", file.with_name("p.csv"))
    assert (code, err) == (0, "")
    said = file.with_name("p.csv").read_text()
    assert ",wheels," in said
    assert ",'=evil(1)</script>," in said  # a spreadsheet shows it, and computes nothing
    code, out, err = run(capsys, "discover", file, "--clusters", 3, "--names", edited)
    assert (code, err) == (0, "")
    assert f"{edited} still fits the subclasses" in out
    before = table.read_bytes()
    code, out, err = run(capsys, "discover", file, "--clusters", 2, "--seed", 1, "--names", edited)
    assert (code, err) == (0, "")
    aside = file.with_name("e-subclasses-earlier.yaml")
    assert aside.read_text() == edited.read_text()
    assert aside.with_suffix(".csv").read_bytes() == before
    assert homes(read_table(aside.with_suffix(".csv"), aside))["0"] == "alone"


def test_commands_refuse_another_table_before_they_write(source, capsys):
    file, _, table = source
    edited = save(table, table="12345678", names={"a/0": "x"})
    run(capsys, "robust", file)
    before = {each: each.read_bytes() for each in file.parent.iterdir()}
    for subcommand in ("report", "robust", "classify", "discover"):
        code, _, err = run(capsys, subcommand, file, "--names", edited)
        assert code == 2
        assert len(err.strip().splitlines()) == 1
        assert "edits the subclasses of another table" in err
        assert {each: each.read_bytes() for each in file.parent.iterdir()} == before
    code, _, err = run(capsys, "discover", "digits", "--names", edited, "-o", file.with_name("run"))
    assert (code, file.with_name("run").exists()) == (2, False)
    assert "for subclasses that were found" in err


def test_the_shape_of_what_was_shown_is_kept_beside_the_table(found):
    folder, embeddings = found
    assert json.loads((folder / "e-subclasses.json").read_text())["shape"] == [embeddings.vectors.shape[1]]
