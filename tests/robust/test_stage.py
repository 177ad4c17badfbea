"""``thanos discover`` and ``thanos robust`` as a user meets them: files, names, mergers, refusals."""

import csv
import html
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.linear_model import LogisticRegression

from thanos.cli import main
from thanos.cli.lines import changes_lines, chosen_lines, gain_line
from thanos.config import RobustConfig, TrainConfig
from thanos.data.group_table import read_table
from thanos.data.load import load
from thanos.embeddings import Embeddings, write_embeddings
from thanos.evaluate.robustness import group_scores
from thanos.robust.head import read_head
from thanos.robust.stage import Difference, Gain, WorstDifference


@pytest.fixture
def source(tmp_path):
    """Two classes of two clusters each; a class's second cluster is small and looks like the other class."""
    rng = np.random.default_rng(0)
    kind = np.tile([0, 0, 0, 0, 1, 2, 2, 2, 2, 3], 120)  # a/large, a/small, b/large, b/small
    centre = np.array([[-3, 0], [3, 1.5], [3, 0], [-3, 1.5]])
    x = np.concatenate([centre[kind], np.zeros((len(kind), 4))], axis=1) + rng.normal(size=(len(kind), 6)) * 0.6
    names = ("<b>a</b>, large", "a, small", "b, large", "b, small")
    embeddings = Embeddings(
        vectors=x.astype(np.float32), superclass=kind // 2, superclass_names=("a", "b"),
        split=rng.permutation(np.repeat([0, 1, 2], 400)).astype(np.int8), subclass=kind, subclass_names=names,
        group=kind, group_names=names, refs=tuple(f"{i}.png" for i in range(1200)),
    )  # fmt: skip
    write_embeddings(embeddings, tmp_path / "e.npz")
    return tmp_path / "e.npz", embeddings


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_discover_name_merge_and_be_fair(capsys, source):
    file, embeddings = source
    table, names = file.with_name("e-subclasses.csv"), file.with_name("e-subclasses.yaml")
    code, out, err = run(capsys, "discover", file)
    assert (code, err) == (0, "")
    assert "a: 2 subclasses" in out
    page = table.with_suffix(".html").read_text()
    assert "no protected group" in page
    assert "&lt;b&gt;a&lt;/b&gt;, large" in page
    assert "<b>a</b>, large" not in page
    assert yaml.safe_load(names.read_text()) == {n: n for n in ("a/0", "a/1", "b/0", "b/1")}
    names.write_text("a/1: odd\nb/1: odd\n")  # not merged: a subclass lies in one superclass
    code, out, _ = run(capsys, "robust", file, "--method", "groupdro", "--table", table, "--names", names)
    assert code == 0
    assert "subclass odd" in out
    found = json.loads(file.with_name("e-robust-groupdro.json").read_text())
    assert set(found["selection"]["n"]) == {"a/0", "b/0", "odd (a)", "odd (b)"}
    fair, plain = (
        scores["groups"]["worst_group"]["accuracy"] for scores in (found["scores"], found["plain"]["scores"])
    )
    assert fair > plain + 0.3
    head, classes = read_head(file.with_name("e-robust-groupdro.npz"))
    test = embeddings.of("test")
    right = head.predict(test.vectors) == test.superclass
    assert min(right[test.group == g].mean() for g in range(4)) == pytest.approx(fair)
    assert classes == ("a", "b")
    _, out, _ = run(capsys, "discover", file)
    assert "are kept" in out
    assert names.read_text() == "a/1: odd\nb/1: odd\n"  # a person's file


def test_the_portfolio_picks_and_tells_of_every_candidate(capsys, source):
    file, embeddings = source
    code, out, err = run(capsys, "robust", file)
    assert (code, err) == (0, "")
    found = json.loads(file.with_name("e-robust-portfolio.json").read_text())
    assert found["selection"]["reason"] in out
    assert "(strength" not in out  # the file has all settings, the line names heads
    table = found["selection"]["table"]
    assert len(table) == found["selection"]["candidates"] > 30
    head, _ = read_head(file.with_name("e-robust-portfolio.npz"))
    test = embeddings.of("test")
    right = head.predict(test.vectors) == test.superclass
    worst = min(right[test.group == g].mean() for g in range(4))
    chosen = found["scores"]["groups"]["worst_group"]["accuracy"]
    assert chosen == pytest.approx(worst)
    assert any(row["test_worst_group"] == pytest.approx(worst) for row in table)
    plain, _ = read_head(file.with_name("e-robust-portfolio-plain.npz"))  # what it was held against, as a classifier
    assert (plain.predict(test.vectors) == test.superclass).mean() == pytest.approx(
        found["plain"]["scores"]["sample_accuracy"]
    )
    assert "e-robust-portfolio-plain.npz" not in run(capsys, "classify", file)[1]  # which is never taken unasked
    assert [row.get("picked", False) for row in table].count(True) == 1
    code, _, err = run(capsys, "robust", file, "--method", "portfolio", "--groups", "given")
    assert code == 2
    assert "drop `groups`" in err or "drop --groups" in err
    assert run(capsys, "report", file)[0] == 0
    page = file.with_name("e-report.html").read_text()
    assert found["selection"]["reason"] in html.unescape(page)
    top = re.search(r"<b>Fair classifier:</b>.*?worst\s+group\s+by\s+([-+.\d]+) points", page, re.DOTALL)
    assert float(top[1]) == pytest.approx(100 * found["gain"]["worst"]["difference"], abs=0.06)
    for row in table:  # each with its scores
        mark = r" \(picked\)" if "picked" in row else ""
        shown = re.search(">" + re.escape(row["candidate"]) + mark + r"</td><td>([\d.]+)</td><td>([\d.]+)</td>", page)
        assert float(shown[1]) == pytest.approx(row["score"], abs=6e-4)
        assert float(shown[2]) == pytest.approx(100 * row["validation_accuracy"], abs=0.06)
    groups, other = (each["scores"]["groups"]["groups"] for each in (found, found["plain"]))
    for name, one in groups.items():  # each with the plain one's
        cells = (
            re.escape(html.escape(name)),
            f"{one['n']:,}",
            rf"{100 * one['accuracy']:.1f}",
            r"[^<]*",
            rf"{100 * other[name]['accuracy']:.1f}",
        )
        assert re.search("".join(f"<td[^>]*>{cell}</td>" for cell in cells), page)


def test_the_portfolio_takes_the_subclasses_that_were_discovered_and_named(capsys, source):
    file, embeddings = source
    x = embeddings.vectors.copy()
    x[:, 1] += 2 * embeddings.superclass  # so that a straight line serves all four
    write_embeddings(replace(embeddings, vectors=x), file)
    assert run(capsys, "discover", file, "--clusters", 2)[0] == 0
    code, out, err = run(capsys, "robust", file)
    assert (code, err) == (0, "")
    assert "subclass a/1" in out
    found = json.loads(file.with_name("e-robust-portfolio.json").read_text())
    assert set(found["scores"]["discovered_groups"]["groups"]) == {"a/0", "a/1", "b/0", "b/1"}
    assert found["subclasses"]
    fair, plain = (
        scores["groups"]["worst_group"]["accuracy"] for scores in (found["scores"], found["plain"]["scores"])
    )
    assert fair > plain + 0.3


def test_groups_or_a_rule_ask_for_groupdro(capsys, source):
    file, _ = source
    assert run(capsys, "robust", file, "--groups", "given")[0] == 0
    assert json.loads(file.with_name("e-robust-groupdro.json").read_text())["settings"]["groups"] == "given"
    assert (RobustConfig(select="worst-class").method, RobustConfig(groups="none").method) == ("groupdro", "portfolio")


def test_true_subclasses_are_counted_among_those_known(capsys, source):
    file, embeddings = source
    true = np.where(np.arange(1200) % 3, -1, embeddings.group)
    names = tuple(f"true {name}" for name in embeddings.group_names)
    write_embeddings(replace(embeddings, subclass=true, subclass_names=names), file)
    assert run(capsys, "discover", file, "--clusters", 2)[0] == 0
    page = " ".join(file.with_name("e-subclasses.html").read_text().split())
    with file.with_name("e-subclasses.csv").open(newline="") as table:
        home = [row["subclass"] for row in csv.DictReader(table)]
    shown = re.findall(r"<h3>(.*?)</h3>.*?truly, of (\d+) whose class is known, (.*?)</p>", page)
    assert len(shown) == 4
    for name, known, shares in shown:
        assert int(known) == sum(home[i] == name and true[i] >= 0 for i in range(1200))
        assert sum(map(float, re.findall(r"([\d.]+)%", shares))) == pytest.approx(100, abs=0.3)


def test_the_error_rate_on_the_page_is_that_of_held_out_images(capsys, source):
    """Against scikit-learn's own logistic regression."""
    file, embeddings = source
    run(capsys, "discover", file, "--clusters", 2)
    page = file.with_name("e-subclasses.html").read_text()
    assert page.count("· error") == 4
    assert "n = " in page
    train, held_out = embeddings.of("train"), embeddings.take(np.flatnonzero(~embeddings.in_split("train")))
    mean, scale = train.vectors.mean(0), train.vectors.std(0)
    model = LogisticRegression(C=1e3 / len(train)).fit((train.vectors - mean) / scale, train.superclass)
    wrong = model.predict((held_out.vectors - mean) / scale) != held_out.superclass
    with file.with_name("e-subclasses.csv").open(newline="") as table:
        home = {row["image"]: row["subclass"] for row in csv.DictReader(table)}
    mine = np.array([home[ref] for ref in held_out.refs])
    shown = re.findall(r"<h3>(.*?)</h3>.*?error ([\d.]+)%.*?n = (\d+)", page, re.DOTALL)
    assert {name for name, _, _ in shown} == set(mine)
    for name, share, n in shown:
        assert int(n) == (mine == name).sum()
        assert float(share) == pytest.approx(100 * wrong[mine == name].mean(), abs=4)


def test_other_files_are_not_written_over(capsys, source):
    file, _ = source
    mine = file.with_name("mine.npz")
    np.savez(mine, x=np.zeros(3))
    before = mine.read_bytes()
    code, _, err = run(capsys, "robust", file, "--out", mine)
    assert code == 2
    assert "was not written by thanos robust" in err
    assert mine.read_bytes() == before


@pytest.mark.parametrize(("content", "said"), [
    ("a/9: x\n", "names 'a/9', which was not discovered"),
    ("a/0: [x]\n", "a name is wanted"),
])  # fmt: skip
def test_names_that_fit_nothing(capsys, source, content, said):
    file, _ = source
    run(capsys, "discover", file)
    names = file.with_name("names.yaml")
    names.write_text(content)
    code, _, err = run(capsys, "robust", file, "--table", file.with_name("e-subclasses.csv"), "--names", names)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not file.with_name("e-robust-portfolio.npz").exists()


def test_a_table_of_other_images(capsys, source, tmp_path):
    file, _ = source
    table = tmp_path / "t.csv"
    table.write_text("image,subclass\n0.png,a/0\n")
    code, _, err = run(capsys, "robust", file, "--table", table)
    assert code == 2
    assert "1199 of 1200 are not in it, 1.png first" in err
    table.write_text("picture,kind\n")
    code, _, err = run(capsys, "robust", file, "--table", table)
    assert "has the columns image and subclass" in err


def test_discover_destroys_no_other_file(capsys, source):
    """A table beside a model would take its .json along."""
    file, _ = source
    card = file.with_name("model.json")
    card.write_text('{"format": 1}')
    code, _, err = run(capsys, "discover", file, "--out", file.with_name("model.csv"))
    assert code == 2
    assert "model.json is there and was not written by thanos discover" in err
    assert card.read_text() == '{"format": 1}'
    assert not file.with_name("model.csv").exists()


def test_names_and_references_of_every_kind_survive(capsys, source):
    file, embeddings = source
    hostile = ("\N{CAT FACE} \u2028: #x", "b\x85\n'\"")
    refs = tuple(f'{i}\u2028,\n"{i}".png' for i in range(1200))
    write_embeddings(replace(embeddings, superclass_names=hostile, refs=refs), file)
    assert run(capsys, "discover", file)[0] == 0
    table, names = file.with_name("e-subclasses.csv"), file.with_name("e-subclasses.yaml")
    assert list(yaml.safe_load(names.read_text("utf-8"))) == [f"{h}/{k}" for h in hostile for k in (0, 1)]
    code, _, err = run(capsys, "robust", file, "--table", table, "--names", names)
    assert (code, err) == (0, "")
    write_embeddings(replace(embeddings, refs=("same.png",) * 1200), file)
    run(capsys, "discover", file)
    code, _, err = run(capsys, "robust", file, "--table", table)
    assert code == 2
    assert "names 'same.png' twice" in err


def test_a_superclass_without_validation_images_has_a_page_all_the_same(capsys, source):
    file, embeddings = source
    kept = embeddings.take(np.flatnonzero((embeddings.superclass == 0) | (embeddings.split != 1)))
    write_embeddings(kept, file)
    code, _, err = run(capsys, "discover", file)
    assert (code, err) == (0, "")
    assert "· error" not in file.with_name("e-subclasses.html").read_text()


def test_a_folder_is_the_same_from_wherever_it_is_named(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    there = load(TrainConfig(data=str(tmp_path / "photos")))
    monkeypatch.chdir(tmp_path)
    assert load(TrainConfig(data="photos")).refs == there.refs


def test_discovered_subclasses_become_the_groups_of_a_training(tmp_path):
    images = load(TrainConfig())
    table = tmp_path / "found.csv"
    with table.open("w", newline="") as out:
        rows = ((ref, f"s/{k % 3}") for k, ref in enumerate(images.refs))
        csv.writer(out).writerows([("image", "subclass"), *rows])
    (tmp_path / "names.yaml").write_text("s/1: s/0\n")
    assert {one.subclass for one in read_table(table, tmp_path / "names.yaml").values()} == {"s/0", "s/2"}
    grouped = load(TrainConfig(groups_from=table, groups_named=tmp_path / "names.yaml"))
    assert grouped.group_names == ("s/0", "s/2")
    np.testing.assert_array_equal(grouped.group, (np.arange(len(images)) % 3 == 2).astype(int))
    assert grouped.fingerprint != images.fingerprint
    assert replace(grouped, group=None, group_names=()).fingerprint == images.fingerprint


@pytest.mark.parametrize(
    ("difference", "interval", "n", "said"),
    [
        (0.2, (0.05, 0.35), 400, "worst group +20.0 points (95% +5.0 to +35.0), all images -5.0 (95% -6.0 to -4.0)"),
        (
            0.05,
            (-0.1, 0.2),
            400,
            "(95% -10.0 to +20.0), all images -5.0 (95% -6.0 to -4.0). The worst group's gain may",
        ),
        (
            0.304,
            (-0.1, 0.7),
            3,
            "few images: 3), all images -5.0 (95% -6.0 to -4.0). The worst group's gain may be chance. Over all",
        ),
        (-0.1, (-0.3, 0.1), 400, "all images -5.0 (95% -6.0 to -4.0). The worst group is not served better. Over all"),
    ],
)
def test_what_a_method_gives_and_costs_is_said(difference, interval, n, said):
    worst = WorstDifference(difference, interval, "group", n, n < 50)
    line = gain_line(Gain(worst, Difference(-0.05, (-0.06, -0.04)), 0.8, 0.7), "plain.npz")
    assert said in line
    assert ("The plain one: plain.npz" in line) == (interval[0] < 0)
    assert "most frequent" not in line
    ruined = gain_line(Gain(worst, Difference(-0.05, (-0.06, -0.04)), 0.456, 0.667), "plain.npz")
    assert "45.6% of all images; always saying the most frequent superclass would be right on 66.7%" in ruined


def test_groups_too_small_to_choose_by_are_named():
    selection = {"candidates": 3, "rule": "worst-group", "accuracy": 0.5, "n": {"a/0": 40, "a/1": 9}}
    lines = chosen_lines(RobustConfig(method="dfr"), selection)
    assert lines[1].startswith("a/1: fewer than 10 validation images")
    assert len(chosen_lines(RobustConfig(method="dfr"), selection | {"n": {"a/0": 40}})) == 1


def scored(**groups):
    """Scores by group, from (right, n)."""
    right = np.concatenate([np.arange(n) < many for many, n in groups.values()])
    ids = np.repeat(np.arange(len(groups)), [n for _, n in groups.values()])
    return SimpleNamespace(groups=None, discovered_groups=group_scores(right, ids, tuple(groups)))


def test_what_groups_gain_and_lose_is_counted():
    before = scored(a=(50, 100), b=(80, 100), c=(9, 10), d=(60, 100))
    after = scored(a=(70, 100), b=(78, 100), c=(5, 10), d=(54, 100))
    assert changes_lines(after, before) == [
        "of 4 groups 1 gain and 2 lose 5 points or more; c loses most, 40.0 (n = 10, few images)"
    ]
    assert changes_lines(before, before) == []
    assert changes_lines(SimpleNamespace(groups=None, discovered_groups=None), before) == []
