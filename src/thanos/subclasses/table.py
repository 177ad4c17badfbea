"""The table of discovered subclasses: written with how it was found, read back as a person named and merged it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from thanos.config import DiscoverConfig
from thanos.console import command
from thanos.data.group_table import SHAPE, Member, at_hand, group_ids, made_of, mark_of, read_table
from thanos.data.labels import SPLITS
from thanos.data.samples import Values
from thanos.embeddings import Embeddings, marks_of
from thanos.errors import DataError
from thanos.evaluate.recovery import Recovered
from thanos.storage import has_columns, holds, read_json, refuse_foreign, write_csv, write_marked_json
from thanos.storage.schemas import Classifier, Found
from thanos.subclasses.cuts import Cuts, Tree
from thanos.subclasses.fitted import Discovered
from thanos.subclasses.keep import Places, can_be_kept, is_places, places_beside, write_places
from thanos.subclasses.names import GivenNames
from thanos.subclasses.reach import fit_reach

COLUMNS = ("image", "superclass", "subclass", "distance", "confidence", "split")
FINEST = "finest"
"""The column of the finest part that an image is in (:class:`thanos.subclasses.cuts.Tree`)."""


def check_table_free(table: Path) -> None:
    """Raise OutputError if the table, or what goes beside it, would be written over a file of another's."""
    refuse_foreign(table, has_columns(COLUMNS), "thanos discover")
    refuse_foreign(table.with_suffix(".json"), holds("settings", "superclasses", "recovery"), "thanos discover")
    refuse_foreign(places_beside(table), is_places, "thanos discover")


def write_discovered(
    table: Path,
    embeddings: Embeddings,
    found: Discovered,
    *,
    config: DiscoverConfig,
    recovered: Recovered,
    shown: Values | None = None,
    names: Path | None = None,
) -> list[str]:
    """Write the table.

    Beside it: how it was found (.json), what places new images (-places.npz), and names to edit (.yaml).

    Args:
        table: The CSV.
        embeddings: What was clustered.
        found: The clusters.
        config: How they were found.
        recovered: What they recover of the true subclasses.
        shown: The images that a page shows; None: it shows none, and moves vectors.
        names: What a person called an earlier table's subclasses; None: what the file beside it says.
    Returns:
        What a person should know of the names they gave to an earlier table.
    """
    given, refs = GivenNames(table, names), embeddings.names
    write_csv(table, _rows(embeddings, found))
    facts: dict[str, Any] = {"command": command(), "settings": config.model_dump(mode="json")}
    superclasses = found.superclasses
    if found.cuts is not None:
        superclasses = {name: fact | {"tree": asdict(found.cuts.trees[name])} for name, fact in superclasses.items()}
    facts |= {"superclasses": superclasses} | recovered.to_dict()
    facts |= {"of": marks_of(embeddings), "subclasses": mark_of(table)}
    facts[SHAPE] = list((embeddings.vectors if shown is None else shown).shape[1:])
    places = places_beside(table)
    if found.fitted is not None and can_be_kept(found.fitted):
        homes, mark = embeddings.superclass_names, facts["subclasses"]
        reach = fit_reach(embeddings, config.seed)
        write_places(Places(found.fitted, found.names, homes, embeddings.space, mark, reach), places)
    else:
        places.unlink(missing_ok=True)
    write_marked_json(table.with_suffix(".json"), facts)
    members = (np.flatnonzero(found.cluster == cluster) for cluster in range(len(found.names)))
    return given.hand_on({name: {refs[i] for i in rows} for name, rows in zip(found.names, members, strict=True)})


def _rows(embeddings: Embeddings, found: Discovered) -> list[tuple[str, ...]]:
    cuts = found.cuts
    rows: list[tuple[str, ...]] = [COLUMNS if cuts is None else (*COLUMNS, FINEST)]
    for i, name in enumerate(embeddings.names):
        superclass, subclass = embeddings.superclass_names[embeddings.superclass[i]], found.names[found.cluster[i]]
        split = SPLITS[embeddings.split[i]]
        row = (name, superclass, subclass, f"{found.distance[i]:.5f}", f"{found.confidence[i]:.4f}", split)
        rows.append(row if cuts is None else (*row, cuts.trees[superclass].leaves[cuts.leaf[i]]))
    return rows


def outdated_classifiers(table: Path) -> list[str]:
    """Classifiers of ``thanos robust`` beside a table that are fair to subclasses that are no longer those of it."""
    before, now = table.stem.removesuffix("subclasses"), mark_of(table)
    scored = [file for file in sorted(table.parent.glob(f"{escape(before)}robust-*.json")) if holds()(file)]
    return [
        file.with_suffix(".npz").name
        for file in scored
        if read_json(file, Classifier).get("subclasses") not in (None, now)
    ]


def read_discovered(
    table: Path,
    names: Path | None,
    embeddings: Embeddings,
    *,
    own: bool,
    of: str,
    again: str,
    values: Callable[[], Values | None] | None = None,
    say: Callable[[str], None] = lambda line: None,
    rest: bool = True,
) -> Discovered:
    """Discovered subclasses of an earlier run, as a person named, merged and edited them.

    Args:
        table, names: The table, and the person's names or edits.
        embeddings: What they are wanted for.
        own: Whether the table lies where these embeddings keep theirs; then it must be theirs.
        of, again: For messages: whose embeddings these are, and what is typed to find subclasses in them anew.
        values: Reads their images, which moved ones are held against; None: their vectors are.
        say: Receives how many moved images still fit.
        rest: Whether what is marked as no group becomes the rest of its superclass; else it keeps its name.
    Raises:
        DataError: if the embeddings' own table is of other images or weights, or is not what the JSON beside it
            describes; if any table is of other images.
        ConfigError: as :func:`thanos.data.group_table.read_table`.
    """
    described = read_json(table.with_suffix(".json"), Found) if table.with_suffix(".json").is_file() else {}
    if own and (fault := _fault(table, described, embeddings, of)):
        raise DataError(f"{table} {fault}. Find subclasses anew: thanos discover {again}")
    listed = as_found = read_table(table)
    here = at_hand(listed, embeddings.names, values or (lambda: embeddings.vectors), table, embeddings.fingerprint, say)
    if names is not None:
        listed = read_table(table, names, here, rest=rest)
    subclass = {image: one.subclass for image, one in listed.items()}
    cluster, known = group_ids(subclass, embeddings.names, table, embeddings.fingerprint)
    members = [listed[image] for image in here.names]
    distance, confidence = (
        np.array([getattr(member, name) for member in members]) for name in ("distance", "confidence")
    )
    how, facts, same = described.get("superclasses", {}), {}, _unchanged(as_found, listed)
    for value, name in enumerate(embeddings.superclass_names):
        sizes = np.unique(cluster[embeddings.superclass == value], return_counts=True)[1]
        counts = {"clusters": len(sizes), "images": int(sizes.sum()), "sizes": sorted(sizes.tolist(), reverse=True)}
        facts[name] = how.get(name, {}) | counts
        if held := facts[name].get("holds"):
            facts[name]["holds"] = {same[old]: share for old, share in held.items() if old in same}
    trees = {name: fact.pop("tree") for name, fact in facts.items() if "tree" in fact}
    marks = {one.subclass: one.mark for one in members if one.mark}
    found = Discovered(cluster, known, distance, confidence, facts, marks=marks)
    return replace(found, cuts=_cuts(trees, embeddings, [member.finest for member in members]))


def _unchanged(found: Mapping[str, Member], named: Mapping[str, Member]) -> dict[str, str]:
    """The names of subclasses that hold what they held when they were found, by what they were called then."""
    pairs = {(member.subclass, named[image].subclass) for image, member in found.items()}
    olds, news = (Counter(names) for names in zip(*pairs, strict=True))
    return {old: new for old, new in pairs if olds[old] == news[new] == 1}


def _cuts(trees: dict[str, Any], embeddings: Embeddings, finest: list[str]) -> Cuts | None:
    """As they were written; None where a table bears none, or others than the JSON describes."""
    try:
        grown = {name: Tree.of(tree) for name, tree in trees.items()}
        homes = [grown[embeddings.superclass_names[value]].leaves for value in embeddings.superclass]
        return Cuts(np.array([home.index(leaf) for home, leaf in zip(homes, finest, strict=True)]), grown)
    except (KeyError, ValueError, TypeError):
        return None


def _fault(table: Path, described: dict[str, Any], embeddings: Embeddings, of: str) -> str:
    """Why a table is not that of these embeddings; empty if it is."""
    made = made_of(table)
    if not made:
        return f"is without {table.with_suffix('.json').name}, which says what it was found in"
    if made != marks_of(embeddings):
        other = "images" if made.get("images") != embeddings.fingerprint else "weights"
        return f"was found in embeddings of other {other} than those of {of}"
    if described.get("subclasses") not in (None, mark_of(table)):
        beside = table.with_suffix(".json").name
        return f"is not the table that {beside} describes (name it by `table` if it is meant)"
    return ""
