"""Vectors as other tools write them: the same data by every way, and one line where they cannot be read."""

import csv
import pickle
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from thanos import DataConfig, DataError, from_arrays, load, load_vectors
from thanos.data import vector_files
from thanos.data.load import load_samples
from thanos.data.vector_files import holds_vectors
from thanos.errors import ConfigError

COUNT, WIDTH = 60, 12


@pytest.fixture(scope="module")
def made():
    """Vectors, superclasses and subclasses."""
    rows, fine = make_blobs(COUNT, WIDTH, centers=4, random_state=0)
    return rows.astype(np.float32), fine // 2, fine


def write_csv(file, head, rows, delimiter=","):
    with file.open("w", newline="") as opened:
        csv.writer(opened, delimiter=delimiter).writerows([head, *rows])
    return file


def as_npz(folder, rows, coarse, fine):
    np.savez(folder / "v.npz", image_embeds=rows, y=coarse, fine_labels=fine)
    return {"data": folder / "v.npz"}


def as_npy(folder, rows, coarse, fine):
    np.save(folder / "v.npy", rows)
    return {
        "data": folder / "v.npy",
        "labels": write_csv(folder / "l.csv", ["class", "fine"], zip(coarse, fine, strict=True)),
    }


def as_labels_in_arrays(folder, rows, coarse, fine):
    np.save(folder / "v.npy", np.asfortranarray(rows))
    np.savez(folder / "l.npz", label=coarse.astype(float), subclass=fine)
    return {"data": folder / "v.npy", "labels": folder / "l.npz"}


def as_numbered_columns(folder, rows, coarse, fine):
    head = [*(f"dim_{i}" for i in range(WIDTH)), "label", "species"]
    lines = ([*row.tolist(), *labels] for row, *labels in zip(rows, coarse, fine, strict=True))
    return {"data": write_csv(folder / "v.tsv", head, lines, delimiter="\t")}


def as_pandas_writes(folder, rows, coarse, fine):
    """With the index before the numbers of the columns."""
    lines = ([i, *row.tolist(), *labels] for i, (row, *labels) in enumerate(zip(rows, coarse, fine, strict=True)))
    return {"data": write_csv(folder / "v.csv", ["", *range(WIDTH), "label", "fine_label"], lines)}


def as_lists(folder, rows, coarse, fine):
    lines = ((a, str(row.tolist()), b) for row, a, b in zip(rows, coarse, fine, strict=True))
    return {"data": write_csv(folder / "v.csv", ["target", "embedding", "subclass"], lines)}


def as_numbers_alone(folder, rows, coarse, fine):
    np.savetxt(folder / "v.csv", rows, delimiter=",", fmt="%.9g")
    return {
        "data": folder / "v.csv",
        "labels": write_csv(folder / "l.tsv", ["y", "fine"], zip(coarse, fine, strict=True), "\t"),
    }


def as_parquet_lists(folder, rows, coarse, fine):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        arrow.table({"emb": list(rows), "label": coarse, "fine_label": fine}), folder / "v.parquet", row_group_size=7
    )
    return {"data": folder / "v.parquet"}


def as_parquet_columns(folder, rows, coarse, fine):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {str(i): rows[:, i] for i in reversed(range(WIDTH))}
    parquet.write_table(arrow.table(columns | {"label": coarse, "fine": fine}), folder / "v.parquet")
    return {"data": folder / "v.parquet"}


def as_saved_by_datasets(folder, rows, coarse, fine):
    datasets = pytest.importorskip("datasets")
    order = np.argsort(fine, kind="stable")[::-1]  # kept as an index over rows in another order
    back = np.argsort(order)
    made = datasets.Dataset.from_dict({"features": list(rows[order]), "label": coarse[order], "fine": fine[order]})
    made.select(back).save_to_disk(folder / "set")
    return {"data": folder / "set"}


WAYS = [value for name, value in globals().items() if name.startswith("as_")]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_data(way, made, tmp_path):
    rows, coarse, fine = made
    given = {
        name: value if name == "labels" else str(value) for name, value in way(tmp_path, rows, coarse, fine).items()
    }
    found = load_vectors(DataConfig(**given))
    np.testing.assert_array_equal(found.vectors, rows)
    assert [found.superclass_names[i] for i in found.superclass] == [str(i) for i in coarse]
    assert [found.subclass_names[i] for i in found.subclass] == [str(i) for i in fine]
    assert [len(found.rows(split)) for split in ("train", "validation", "test")] == [43, 5, 12]
    plain = as_npz(tmp_path, rows, coarse, fine)
    assert found.fingerprint == load_vectors(plain["data"]).fingerprint
    assert found.place == {"file": str((tmp_path / given["data"]).resolve())}


def test_one_line_says_what_was_taken_for_what(made, tmp_path):
    rows, coarse, fine = made
    np.savez(tmp_path / "v.npz", embeddings=rows, labels=coarse, fine_labels=fine, age=fine, id=np.arange(COUNT))
    line = (
        f"vectors: embeddings ({COUNT} x {WIDTH}), superclass: labels, subclass: fine_labels, refs: id, not used: age"
    )
    assert line in load_vectors(tmp_path / "v.npz").notes


@pytest.mark.parametrize("kind", ["float16", "float64", "int8", "uint16", ">f4", "bool"])
@pytest.mark.parametrize("small", [True, False])
def test_numbers_of_any_type_become_float32(kind, small, made, tmp_path, monkeypatch):
    rows = (np.abs(made[0]) * 8 % 100).astype(kind)
    monkeypatch.setattr(vector_files, "IN_MEMORY", 10**9 if small else 100)
    monkeypatch.setattr(vector_files, "AT_ONCE", 50)
    np.save(tmp_path / "v.npy", rows)
    found = load_vectors(tmp_path / "v.npy")
    np.testing.assert_array_equal(found.vectors, rows.astype(np.float32))
    assert any("converted to float32" in note for note in found.notes)
    assert isinstance(found.vectors, np.memmap) != small


def test_float32_is_mapped_and_not_copied(made, tmp_path):
    np.save(tmp_path / "v.npy", made[0])
    found = load_vectors(tmp_path / "v.npy")
    assert isinstance(found.vectors, np.memmap)
    assert found.vectors.filename == tmp_path / "v.npy"


def test_labels_are_matched_by_the_names_of_rows(made, tmp_path):
    rows, coarse, fine = made
    np.savez(tmp_path / "v.npz", X=rows, id=[f"a{i}" for i in range(COUNT)])
    shuffled = np.random.default_rng(0).permutation(COUNT)
    lines = [(f"a{i}", coarse[i], fine[i]) for i in shuffled]
    table = write_csv(tmp_path / "l.csv", ["id", "label", "fine"], [*lines, ("b", 7, 7)])
    found = load_vectors(DataConfig(data=str(tmp_path / "v.npz"), labels=table))
    assert [found.superclass_names[i] for i in found.superclass] == [str(i) for i in coarse]
    assert found.refs == tuple(f"a{i}" for i in range(COUNT))
    for bad, said in (
        (lines[1:], f"1 of {COUNT} are not in it, 'a{shuffled[0]}' first"),
        ([*lines, lines[0]], "twice, so its rows cannot be told apart"),
    ):
        write_csv(table, ["id", "label", "fine"], bad)
        with pytest.raises(DataError, match=said):
            load_vectors(DataConfig(data=str(tmp_path / "v.npz"), labels=table))


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".csv"])
@pytest.mark.parametrize("names", [["cat", "dog"], ["0", "1"], ["3", "4"]])
def test_labels_alone_are_superclasses(suffix, names, made, tmp_path):
    np.save(tmp_path / "v.npy", made[0])
    words = np.array(names)[made[1]]
    if suffix == ".npy":
        np.save(tmp_path / "l.npy", words)
    else:
        (tmp_path / f"l{suffix}").write_text("\n".join(words) + "\n")
    found = load_vectors(DataConfig(data=str(tmp_path / "v.npy"), labels=tmp_path / f"l{suffix}"))
    assert [found.superclass_names[i] for i in found.superclass] == words.tolist()


def test_splits_and_groups_that_are_named_are_kept(made, tmp_path):
    split = np.resize(["train", "train", "val", "test"], COUNT)
    np.savez(tmp_path / "v.npz", vectors=made[0], label=made[1], split=split, group=made[2])
    found = load_vectors(tmp_path / "v.npz")
    assert [len(found.rows(name)) for name in ("train", "validation", "test")] == [30, 15, 15]
    assert [found.group_names[i] for i in found.group] == [str(i) for i in made[2]]


def test_splits_of_a_saved_data_set_are_its_own(made, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows, coarse, _ = made
    names = datasets.Features(
        {"embedding": datasets.Sequence(datasets.Value("float32")), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    parts = {
        name: datasets.Dataset.from_dict({"embedding": list(rows[part]), "label": coarse[part]}, features=names)
        for name, part in {"train": slice(40), "validation": slice(40, 50), "test": slice(50, 60)}.items()
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    found = load_vectors(tmp_path / "set")
    assert [len(found.rows(name)) for name in ("train", "validation", "test")] == [40, 10, 10]
    assert [found.superclass_names[i] for i in found.superclass] == [("no", "yes")[i] for i in coarse]


def test_numbers_that_never_change_are_counted(made, tmp_path):
    rows = made[0].copy()
    rows[:, [2, 5]] = 3
    np.savez(tmp_path / "v.npz", X=rows, y=made[1])
    assert any(
        note.startswith(f"2 of {WIDTH} numbers are the same in all") for note in load_vectors(tmp_path / "v.npz").notes
    )


def test_rows_at_fault_are_named_or_left_out(made, tmp_path):
    rows, labels = made[0].copy(), [str(i) for i in made[1]]
    rows[7, 3], rows[9, 0], labels[11] = np.nan, np.inf, ""
    np.savez(tmp_path / "v.npz", X=rows, y=labels)
    with pytest.raises(DataError, match=r"row 7 of v\.npz has numbers that are not finite; 3 of 60 rows are at fault"):
        load_vectors(tmp_path / "v.npz")
    found = load_vectors(DataConfig(data=str(tmp_path / "v.npz"), skip_bad=True))
    np.testing.assert_array_equal(found.vectors, np.delete(rows, [7, 9, 11], axis=0))
    assert [where for where, _ in found.skipped] == ["row 7", "row 9", "row 11"]


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def objects(file):
    with file.open("wb") as opened:
        np.save(opened, np.array([Evil(), Evil()], dtype=object), allow_pickle=True)


BAD = {
    "empty": (lambda file: file.write_bytes(b""), "is empty"),
    "one axis": (lambda file: np.save(file, np.zeros(9)), r"float64 of shape \(9,\): a single vector is"),
    "three axes": (lambda file: np.save(file, np.zeros((4, 3, 2))), r"shape \(4, 3, 2\): average or flatten"),
    "four axes": (lambda file: np.save(file, np.zeros((4, 3, 2, 3))), r"images lie in an \.npz"),
    "no rows": (lambda file: np.save(file, np.zeros((0, 3))), "there is nothing in it"),
    "text": (lambda file: np.save(file, np.array([["a"]])), "<U1 of shape"),
    "complex": (lambda file: np.save(file, np.zeros((3, 2), dtype=complex)), "complex128"),
    "a pickle": (lambda file: file.write_bytes(pickle.dumps(Evil())), "never read|cannot be read|no .npy"),
    "objects": (objects, "a pickle.*never read"),
    "cut short": (lambda file: file.write_bytes(whole()[:-9]), "is no .npy, or is damaged"),
}


def whole():
    from io import BytesIO

    np.save(out := BytesIO(), np.zeros((9, 9)))
    return out.getvalue()


@pytest.mark.parametrize("fault", BAD)
def test_what_is_no_table_of_vectors_is_refused_in_a_line(fault, tmp_path):
    write, said = BAD[fault]
    write(tmp_path / "v.npy")
    with pytest.raises(DataError, match=said) as refused:
        load_vectors(tmp_path / "v.npy")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda file: np.savez(file, features=np.zeros((3, 2)), embeddings=np.zeros((3, 2))), "two arrays could be"),
        (lambda file: np.savez(file, X=np.zeros((3, 2)), y=np.zeros(4)), r"one label for each vector; v\.npz has 3"),
        (lambda file: np.savez(file, X=np.zeros((3, 2)), y=[0.5, 1, 2]), "labels are integers or text"),
        (
            lambda file: np.savez(file, X=np.zeros((3, 2)), label=[0, 1, 1], target=[0, 1, 1]),
            "two columns for the super",
        ),
        (lambda file: np.savez(file, X=np.zeros((3, 2)), y=[0, 1, 1], split=["a", "b", "c"]), "a split is train"),
    ],
)
def test_odd_arrays_are_refused(write, said, tmp_path):
    write(tmp_path / "v.npz")
    with pytest.raises(DataError, match=said):
        load_vectors(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("f0,f1,label\n1,2,a\n1,x,b\n", r"v\.csv: could not convert string 'x' to float32 at line 3"),
        ("f0,f1,label\n1,2,a\n1\n", r"v\.csv: "),
        ('vector,label\n"[1, 2]",a\n"[1]",b\n', r"row 1 of v\.csv has 1, row 0 has 2"),
        ('vector,label\n"[1, ... 2]",a\n', r"row 0 of v\.csv: could not convert string to float"),
    ],
)
def test_odd_tables_are_refused(text, said, tmp_path):
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        load_vectors(tmp_path / "v.csv")


def test_lists_of_several_widths_in_parquet_are_refused(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for rows, said in (
        ([[1.0, 2.0], [1.0]], "row 1 of v.parquet has 1"),
        ([[1.0], None], "row 1 of v.parquet has none"),
    ):
        parquet.write_table(arrow.table({"vectors": rows}), tmp_path / "v.parquet")
        with pytest.raises(DataError, match=said):
            load_vectors(tmp_path / "v.parquet")
    parquet.write_table(arrow.table({"name": ["a"]}), tmp_path / "v.parquet")
    with pytest.raises(DataError, match=r"needs a column of lists, or numbered columns.* has name \(string\)"):
        load_vectors(tmp_path / "v.parquet")
    (tmp_path / "v.parquet").write_bytes(b"none")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_vectors(tmp_path / "v.parquet")


@pytest.mark.parametrize(("package", "extra"), [("pyarrow", "parquet"), ("datasets", "hf")])
def test_a_missing_package_is_named_with_its_extra(package, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    place = tmp_path / ("v.parquet" if package == "pyarrow" else "set")
    if package == "pyarrow":
        place.write_bytes(b"PAR1")
    else:
        place.mkdir()
        (place / "dataset_info.json").write_text('{"features": {"embedding": {"_type": "List"}}}')
    with pytest.raises(ConfigError, match=rf"pip install thanos-repr\[{extra}\]"):
        load_vectors(place)


def test_labels_that_do_not_fit_are_refused(made, tmp_path):
    np.save(tmp_path / "v.npy", made[0])
    for rows, head, said in (
        ([[0]] * 59, ["label"], "60 vectors and l.csv 59 rows"),
        ([[0, 1]] * 60, ["age", "size"], r"l\.csv needs a column of labels.* 'age', 'size'"),
    ):
        table = write_csv(tmp_path / "l.csv", head, rows)
        with pytest.raises(DataError, match=said):
            load_vectors(DataConfig(data=str(tmp_path / "v.npy"), labels=table))
    with pytest.raises(ConfigError, match="there is no file"):
        load_vectors(DataConfig(data=str(tmp_path / "v.npy"), labels=tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match="`size` is about images"):
        load_vectors(DataConfig(data=str(tmp_path / "v.npy"), size=32))


def test_images_stay_images(tmp_path):
    """What was read as images before vectors were data still is; and the other way round is said."""
    pictures = np.zeros((20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "i.npz", images=pictures, superclass=np.arange(20) % 2, embeddings=np.zeros((20, 3)))
    assert len(load(DataConfig(data=str(tmp_path / "i.npz"))).images) == 20
    for head, line, vectors in (
        ("path,label,fold_1,fold_2", "a.png,x,1,2", False),
        ("path,label,width,height", "a.png,x,1,2", False),
        ("image,label," + ",".join(f"v{i}" for i in range(9)), "a.png,x," + ",".join("123456789"), True),
    ):
        (tmp_path / "t.csv").write_text(f"{head}\n{line}\n")
        assert holds_vectors(tmp_path / "t.csv") == vectors
    np.save(tmp_path / "v.npy", np.zeros((3, 2)))
    with pytest.raises(ConfigError, match=r"images are wanted, and .*v\.npy holds vectors"):
        load(tmp_path / "v.npy")


def test_rows_without_labels_that_are_only_embedded_are_for_testing(made, tmp_path):
    np.save(tmp_path / "v.npy", made[0])
    found = load_samples(DataConfig(data=str(tmp_path / "v.npy")), to_embed=True)
    assert found.in_split("test").all()
    assert found.superclass_names == ("unknown",)


def test_fewer_rows_and_fine_labels(made, tmp_path):
    np.savez(tmp_path / "v.npz", X=made[0], y=made[1], fine=made[2])
    found = load_samples(DataConfig(data=str(tmp_path / "v.npz"), train_limit=20, labels="subclass"))
    assert len(found.rows("train")) == 20
    assert found.superclass_names == ("0", "1", "2", "3")
    assert replace(found, name="again").vectors is found.vectors


@pytest.mark.parametrize("size", [None, 16])
def test_images_of_a_saved_data_set(size, tmp_path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    pictures = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    kinds, fine = np.arange(30) % 2, np.arange(30) % 6
    made = {"img": [Image.fromarray(each) for each in pictures], "coarse_label": kinds, "fine_label": fine}
    datasets.Dataset.from_dict(made).cast_column("img", datasets.Image()).save_to_disk(tmp_path / "set")
    found = load(DataConfig(data=str(tmp_path / "set"), size=size))
    plain = from_arrays(pictures, kinds, subclass=fine, name="set")
    np.testing.assert_array_equal(found.superclass, plain.superclass)
    np.testing.assert_array_equal(found.subclass, plain.subclass)
    if size is None:
        np.testing.assert_array_equal(found.images, pictures)
        assert found.fingerprint == plain.fingerprint
    else:
        assert found.images.shape == (30, 16, 16, 3)
    odd = [*made["img"][:-1], Image.fromarray(pictures[0]).resize((9, 9))]
    datasets.Dataset.from_dict(made | {"img": odd}).cast_column("img", datasets.Image()).save_to_disk(tmp_path / "odd")
    with pytest.raises(DataError, match="of one size are wanted; odd has 8x8, 9x9"):
        load(tmp_path / "odd")


def named_columns(folder, form, rows):
    """Vectors beside columns whose names nobody can know, in a file of some form."""
    count = len(rows)
    columns = {
        "dx_id": [["cat > siamese", "dog > pug", "dog"][i % 3] for i in range(count)],
        "who": [f"p{i // 5}" for i in range(count)],
        "Male": [i % 2 for i in range(count)],
        "age": [float(i) for i in range(count)],
    }
    if form == "npz":
        np.savez(folder / "v.npz", features=rows, **{name: np.array(each) for name, each in columns.items()})
        return {"data": str(folder / "v.npz")}
    if form == "npy":
        np.save(folder / "v.npy", rows)
        table = write_csv(folder / "l.csv", list(columns), zip(*columns.values(), strict=True))
        return {"data": str(folder / "v.npy"), "labels": table}
    if form == "csv":
        head = [*(f"f{i}" for i in range(WIDTH)), *columns]
        lines = ([*row.tolist(), *each] for row, *each in zip(rows, *columns.values(), strict=True))
        return {"data": str(write_csv(folder / "v.csv", head, lines))}
    if form == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({"emb": list(rows)} | columns), folder / "v.parquet")
        return {"data": str(folder / "v.parquet")}
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"features": list(rows)} | columns).save_to_disk(folder / "set")
    return {"data": str(folder / "set")}


@pytest.mark.parametrize("form", ["npz", "npy", "csv", "parquet", "folder"])
def test_columns_are_what_the_user_says(form, made, tmp_path):
    given = named_columns(tmp_path, form, made[0])
    found = load_samples(DataConfig(**given, columns="superclass=DX_ID,group=Male", together="who"))
    np.testing.assert_array_equal(found.vectors, made[0])
    assert found.superclass_names == ("cat", "dog")
    assert found.subclass_names == ("dog", "pug", "siamese")[1:]
    assert found.subclass.tolist().count(-1) == COUNT // 3
    assert found.group_names == ("Male", "not Male")
    assert [float(word) for word in found.further["age"]] == list(range(COUNT))
    home = {}
    for one, at in zip(found.together, found.split.tolist(), strict=True):
        assert home.setdefault(one, at) == at
    assert len(set(home.values())) == 3
    by_level = load_vectors(DataConfig(**given, columns="superclass=dx_id", level=2))
    assert by_level.superclass_names == ("cat/siamese", "dog", "dog/pug")
    with pytest.raises(DataError, match=r"has no column 'wo' for the together .did you mean 'who'"):
        load_vectors(DataConfig(**given, columns="superclass=dx_id", together="wo"))
    with pytest.raises(DataError, match="level 2 is asked for"):
        load_vectors(DataConfig(**given, columns="superclass=who", level=2))


def test_a_column_of_numbers_that_is_a_label_is_no_part_of_the_vector(made, tmp_path):
    """Where columns have names of their own, all numbers are the vector but those that the user names."""
    rows, coarse, _ = made
    head = ["area", "girth", "height", "ward"]
    lines = ([*row[:3].tolist(), kind] for row, kind in zip(rows, coarse, strict=True))
    file = write_csv(tmp_path / "v.csv", head, lines)
    assert load_vectors(DataConfig(data=str(file))).vectors.shape == (COUNT, 4)
    found = load_vectors(DataConfig(data=str(file), columns="superclass=ward"))
    assert found.vectors.shape == (COUNT, 3)
    assert found.superclass.tolist() == coarse.tolist()


def test_patients_of_vectors_stay_together_by_themselves(made, tmp_path):
    rows, coarse, _ = made
    np.savez(tmp_path / "v.npz", X=rows, y=coarse, patient_id=np.arange(COUNT) // 4)
    found = load_vectors(str(tmp_path / "v.npz"))
    assert any("what images are of (together) has 15 values, each in one split" in note for note in found.notes)
