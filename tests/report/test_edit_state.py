"""Edits as the page's script carries them out and writes them down, against the same done with sets in Python."""

import random
from collections import Counter
from importlib.resources import files

import pytest
import yaml

from browser import opened
from editing import groups_of
from thanos.config import read_yaml
from thanos.report.walk import _leaves
from thanos.subclasses.cuts import Tree

SCRIPTS = files("thanos.report") / "templates" / "page"
HOSTILE = [
    "=cmd()", "+1", "-2+3", "@SUM(A1)", "'=quoted", "</script><script>document.title='gone'</script>", "yes", "null",
    "1e3", "- a: b", "#no", "a: b", '"', "\\", "{{ x }}", "\u202etxt.exe", "\u0085", "\u2028x", "\ufeffx", "\x7fx",
    "\ud800x", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f3f4\U000e0067\U000e0062\U000e007f", "%40",
]  # fmt: skip


def world(rng):
    """Two superclasses of three subclasses, halved and quartered where luck has it."""
    base = {"parts": [], "subclass": [], "home": [], "size": [], "name": [], "trees": [], "moved": [], "marks": {}}
    base |= {"superclasses": ["a", "b"], "mark": "0123abcd", "leaf": []}
    for home, superclass in enumerate("ab"):
        first, parts = len(base["parts"]), []
        for k in range(3):
            halves = rng.choice([[""], ["a", "b"], ["aa", "ab", "b"]])
            parts += [f"{superclass}/{k}{half}" for half in halves]
        node, names, merges = {part: i for i, part in enumerate(parts)}, list(parts), []
        for depth in (2, 1):
            for parent in sorted({part[:-1] for part in node if part.endswith("b") and len(part) == 3 + depth}):
                merges.append([node[f"{parent}a"], node[f"{parent}b"]])
                node[parent] = len(names)
                names.append(parent)
        top = node[f"{superclass}/0"]
        for k in (1, 2):
            merges.append([top, node[f"{superclass}/{k}"]])
            top = len(names)
            names.append(f"{superclass}/{'+'.join(map(str, range(k + 1)))}")
        base["trees"].append({"first": first, "count": len(parts), "merges": merges, "nodes": names})
        for part in parts:
            base["leaf"] += [len(base["parts"])] * (size := rng.randint(1, 5))
            base["parts"].append(part)
            base["subclass"].append(part[:3])
            base["home"].append(home)
            base["size"].append(size)
    base["name"] = list(base["subclass"])
    return base


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    file = tmp_path_factory.mktemp("blank") / "blank.html"
    file.write_text("<!DOCTYPE html><title>scripts alone</title>")
    with opened(file) as blank:
        blank.evaluate("window.number = value => String(value); window.plural = (n, one, many) => `${n} ${many}`")
        blank.evaluate("window.base = {name: [], moved: [], marks: {}}; window.data = {}; window.count = 0")
        for name in ("state.js", "keep.js"):
            blank.add_script_tag(content=(SCRIPTS / name).read_text())
        yield blank


def carried_out(page, base, edits):
    """Each edit where it may be done.

    Returns:
        The images' names, and ``why`` not (empty where it was done), ``edits`` (a split with the names of its halves),
        ``now`` (the name of each image), ``groups``, ``text`` (the file).
    """
    names = [f"{i:03d} {HOSTILE[i % len(HOSTILE)]}" for i in range(len(base["leaf"]))]
    return names, page.evaluate(
        """([given, names, edits]) => {
          Object.assign(base, given, {content: Uint8Array.from({length: 8 * names.length}, (_, k) => k % 256)});
          data.names = names;
          const done = [], why = [];
          for (const one of edits) {
            if (one.do === "split") one.into = halvesOf(base, stateOf(base, done), one.name)?.names || [];
            why.push(whyNot(base, stateOf(base, done), one));
            if (!why.at(-1)) done.push(one);
          }
          const state = stateOf(base, done);
          const now = names.map((_, i) => nameOf(base, state, i));
          return {why, edits, now, groups: groupsOf(base, state), text: asYaml(state)};
        }""",
        [base, names, edits],
    )


def drawn(rng, base):
    """Edits, many of which cannot be done."""
    known = [*base["name"], *base["parts"], "cats", "dogs", "weeds", *rng.sample(HOSTILE, 5)]
    images = range(len(base["leaf"]))
    return [
        rng.choice(
            [
                {"do": "name", "from": rng.choice(known), "to": rng.choice(known)},
                {"do": "merge", "names": rng.sample(known, rng.randint(1, 3)), "to": rng.choice(known)},
                {"do": "move", "images": rng.sample(images, rng.randint(0, 3)), "to": rng.choice(known)},
                {"do": "split", "name": rng.choice(known)},
                {"do": "cut", "superclass": rng.randint(0, 1), "count": rng.randint(0, 9)},
                {"do": "mark", "name": rng.choice(known), "mark": rng.choice(["harmful", "look again", "", "bad"])},
            ]
        )
        for _ in range(60)
    ]


class Oracle:
    """The name of each leaf, and of each image that is not its leaf's."""

    def __init__(self, base):
        self.base, self.names, self.away = base, list(base["name"]), {}
        self.trees = [Tree(tuple(t["nodes"][: t["count"]]), tuple(map(tuple, t["merges"])), 3) for t in base["trees"]]

    def now(self):
        return [self.away.get(i, self.names[leaf]) for i, leaf in enumerate(self.base["leaf"])]

    def apply(self, edit):
        known = {"name": self.name, "merge": self.merge, "move": self.move, "split": self.split, "cut": self.cut}
        called = known.get(edit["do"])
        if called is not None:
            called(edit)
        self.away = {i: name for i, name in self.away.items() if name != self.names[self.base["leaf"][i]]}

    def name(self, edit):
        new = {edit["from"]: edit["to"]}
        self.names = [new.get(name, name) for name in self.names]
        self.away = {i: new.get(name, name) for i, name in self.away.items()}

    def merge(self, edit):
        for name in edit["names"]:
            self.name({"from": name, "to": edit["to"]})

    def move(self, edit):
        self.away |= dict.fromkeys(edit["images"], edit["to"])

    def split(self, edit):
        """In two that some merging of the tree made one: found by looking at all of them."""
        leaves = {leaf for leaf, name in enumerate(self.names) if name == edit["name"]}
        home = self.base["home"][min(leaves)]
        tree, first = self.trees[home], self.base["trees"][home]["first"]
        under = [{leaf + first for leaf in each} for each in _leaves(tree)]
        (halves,) = [
            (leaves & under[a], leaves & under[b]) for a, b in tree.merges if leaves & under[a] and leaves & under[b]
            and leaves <= under[a] | under[b]
        ]  # fmt: skip
        for half, name in zip(halves, edit["into"], strict=True):
            for leaf in half:
                self.names[leaf] = name
        self.away = {i: edit["into"][0] if name == edit["name"] else name for i, name in self.away.items()}

    def cut(self, edit):
        """A subclass of exactly the images of a part keeps its name, unless that is another part's."""
        tree, first = self.trees[edit["superclass"]], self.base["trees"][edit["superclass"]]["first"]
        nodes, before = [tree.names[node] for node in tree.cut(edit["count"])], list(self.names)
        for node in set(nodes):
            mine = {first + leaf for leaf, at in enumerate(nodes) if at == node}
            kept = {name for name in before if {leaf for leaf, at in enumerate(before) if at == name} == mine}
            for leaf in mine:
                self.names[leaf] = next(iter(kept - (set(nodes) - {node})), node)


@pytest.mark.parametrize("seed", range(12))
def test_any_edits_do_what_they_do_in_python_and_are_written_so_that_they_can_be_read(page, seed):
    rng = random.Random(seed)
    base = world(rng)
    names, out = carried_out(page, base, drawn(rng, base))
    oracle, home = Oracle(base), [base["home"][leaf] for leaf in base["leaf"]]
    done = [edit for edit, why in zip(out["edits"], out["why"], strict=True) if not why]
    assert 5 < len(done) < 55
    for edit in done:
        oracle.apply(edit)
        of = dict(zip(oracle.now(), home, strict=True))
        assert all(of[name] == where for name, where in zip(oracle.now(), home, strict=True))  # a name has one home
    now = oracle.now()
    assert out["now"] == now
    assert {group["name"]: group["size"] for group in out["groups"]} == Counter(now)
    wanted = {name: {image for image, at in zip(names, now, strict=True) if at == name} for name in now}
    parts = [base["parts"][leaf] for leaf in base["leaf"]]
    assert groups_of(out["text"], dict(zip(names, parts, strict=True))) == wanted


REFUSED = [
    ({"do": "name", "from": "a/9", "to": "x"}, "there is no subclass"),
    ({"do": "name", "from": "a/0", "to": " "}, "a name is wanted"),
    ({"do": "name", "from": "a/0", "to": "x" * 201}, "at most 200"),
    ({"do": "name", "from": "a/0", "to": "two\nlines"}, "one line"),
    ({"do": "name", "from": "a/0", "to": "b/1"}, "is a subclass of b"),
    ({"do": "move", "images": [], "to": "a/1"}, "no image is selected"),
    ({"do": "move", "images": [0], "to": "b/1"}, "is a subclass of b"),
    ({"do": "move", "images": [-1], "to": "a/1"}, "not on this page"),
    ({"do": "move", "images": [0, 10**6], "to": "a/1"}, "not on this page"),
    ({"do": "merge", "names": ["a/0"], "to": "x"}, "two or more"),
    ({"do": "merge", "names": ["a/0", "a/9"], "to": "x"}, "there is no subclass"),
    ({"do": "merge", "names": ["a/0", "b/1"], "to": "x"}, "of one superclass"),
    ({"do": "merge", "names": ["a/0", "a/1"], "to": "b/1"}, "is a subclass of b"),
    ({"do": "cut", "superclass": 7, "count": 1}, "no such cut"),
    ({"do": "cut", "superclass": 0, "count": 0}, "no such cut"),
    ({"do": "mark", "name": "a/0", "mark": "lovely"}, "no such mark"),
    ({"do": "constructor"}, "it is no edit"),
    ({}, "it is no edit"),
]


@pytest.mark.parametrize(("edit", "why"), REFUSED)
def test_what_cannot_be_done_is_said(page, edit, why):
    base = world(random.Random(0))
    _, out = carried_out(page, base, [edit])
    assert why in out["why"][0]
    assert out["now"] == [base["name"][leaf] for leaf in base["leaf"]]


def test_images_of_two_superclasses_are_not_moved_together(page):
    base = world(random.Random(0))
    images = [0, len(base["leaf"]) - 1]
    assert "several superclasses" in carried_out(page, base, [{"do": "move", "images": images, "to": "x"}])[1]["why"][0]


def test_a_cut_does_not_merge_a_part_with_one_that_a_person_gave_its_name(page):
    base = next(base for base in map(world, map(random.Random, range(9))) if base["parts"][:2] == ["a/0a", "a/0b"])
    split, named = {"do": "split", "name": "a/0"}, {"do": "name", "from": "a/1", "to": "a/0"}
    _, out = carried_out(page, base, [split, named, {"do": "cut", "superclass": 0, "count": 3}])
    assert out["why"] == [""] * 3
    assert out["now"] == [base["subclass"][leaf] for leaf in base["leaf"]]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_come_back_from_the_file_as_they_were(page, tmp_path, name):
    base = world(random.Random(0))
    edits = [{"do": "name", "from": "a/0", "to": name}, {"do": "mark", "name": name, "mark": "harmful"}]
    names, out = carried_out(page, base, [*edits, {"do": "move", "images": [len(base["leaf"]) - 1], "to": f"x{name}"}])
    file = tmp_path / "e.yaml"
    file.write_text(out["text"], "utf-8")
    said = read_yaml(file, wanted="edits")
    assert said == yaml.safe_load(out["text"])
    assert [one["image"] for one in said["moved"]] == [names[-1]] * (not out["why"][2])
    if not out["why"][0]:  # control characters are refused
        assert said["names"]["a/0"] == name
        assert said["marks"] == {name: "harmful"}
    assert all(line.isprintable() for line in out["text"].splitlines())
