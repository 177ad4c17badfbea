"""A page's numbers: what was measured of an embedding, each with its interval, its images and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.splits import watched
from thanos.embeddings import Embeddings
from thanos.evaluate.intervals import FEW, Interval, holm, lowest_share, share_interval, surely_lowest
from thanos.names import left_out
from thanos.robust.next_labels import Advice
from thanos.robust.plain import Errors
from thanos.robust.portfolio import YOURS
from thanos.subclasses.fitted import Discovered

LOWEST = 10
"""Superclasses that are listed, those with the lowest accuracy first."""
HEART = 0.01
"""Probability that anything is said to be learned by heart where splits are random."""
NEARLY_ALL = 0.9
HALF = 0.5
"""A subclass that fewer fresh draws of images have is called unsure."""
SHOWN_MEMBERS = 4
"""True subclasses named for each discovered one, the most frequent first."""


@dataclass(frozen=True)
class Row:
    """One number."""

    what: str
    value: str
    interval: str
    images: int | None
    says: str


def summary(
    embeddings: Embeddings, found: Discovered, errors: Errors | None, scores: dict[str, Any], final: dict[str, Any]
) -> list[Row]:
    """What is known, in the order in which it answers: is it learned, is it fair, are the subclasses there?

    Args:
        embeddings, found: What the page shows.
        errors: Of a plain classifier.
        scores: ``transfer``, ``apart`` and ``recovery`` (by split), as far as they were measured.
        final: The last numbers of the training; empty without one.
    """
    rows = []
    if (accuracy := final.get("validation/superclass_accuracy")) is not None:
        n = len(watched(embeddings.rows("validation")))
        if n:
            rows.append(_share("superclass, by neighbours", accuracy, n, "validation images whose neighbours agree"))
    rows += _transfer(scores.get("transfer", {}))
    rows += [] if errors is None else _fairness(embeddings, found, errors)
    rows += _apart(scores.get("apart", {}))
    return _marked(rows + _recovery(scores.get("recovery", {}).get("test", {})))


def members(rows: NDArray[np.int64], embeddings: Embeddings) -> list[dict[str, Any]]:
    """The true subclasses among these rows, each with its ``name`` and ``share``, where they are known."""
    if embeddings.subclass is None:
        return []
    count = np.bincount(embeddings.subclass[rows][embeddings.subclass[rows] >= 0], minlength=1)
    order = np.argsort(-count, kind="stable")[:SHOWN_MEMBERS]
    return [{"name": embeddings.subclass_names[k], "share": float(count[k] / count.sum())} for k in order if count[k]]


def by_level(scores: dict[str, Any]) -> dict[int, list[Row]]:
    """What discovered subclasses recover of coarser labels, by how many levels below the superclass these are."""
    judged = {
        int(depth): _recovery(each.get("test", {})) for depth, each in scores.get("recovery_by_level", {}).items()
    }
    return {depth: _marked(rows) for depth, rows in judged.items()}


def _marked(rows: list[Row]) -> list[Row]:
    """What rests on few images says so."""
    few = [row.images is not None and row.images < FEW for row in rows]
    return [replace(row, says=f"{row.says}; few images") if mark else row for row, mark in zip(rows, few, strict=True)]


def _share(what: str, value: float, n: int, says: str, around: Interval | None = None) -> Row:
    low, high = around or share_interval(value, n)
    return Row(what, f"{value:.1%}", f"{low:.1%} to {high:.1%}", n, says)


def _transfer(scores: dict[str, Any]) -> list[Row]:
    says = {
        "probe": "true subclass of test images by a linear probe on the frozen embedding",
        "neighbours": "the same by nearest neighbours",
    }
    return [
        _share(f"fine labels, {reader}", scores[reader]["accuracy"], scores[reader]["n"], text)
        for reader, text in says.items()
        if reader in scores
    ]


def _fairness(embeddings: Embeddings, found: Discovered, errors: Errors) -> list[Row]:
    everything = errors.share(np.arange(len(embeddings)))
    assert everything is not None  # a plain classifier has held-out images
    rows = [_share("a plain classifier errs", *everything, "on the superclass of held-out images")]
    by_class = [
        (*share, name)
        for value, name in enumerate(embeddings.superclass_names)
        if (share := errors.share(np.flatnonzero(embeddings.superclass == value))) is not None
    ]
    for wrong, n, name in sorted(by_class, reverse=True)[:LOWEST]:
        rows.append(_share(f"it errs on {name}", wrong, n, "of this superclass"))
    if (most := worst(found, errors)) is not None:
        says = (
            "the discovered subclass it surely serves worst (interval: of the highest share, whichever subclass has it)"
        )
        rows.append(_share(f"it errs on {most['name']}", most["share"], most["n"], says, most["interval"]))
    return rows


def portfolio_table(robust: Mapping[str, Any]) -> dict[str, Any]:
    """What the portfolio of ``thanos robust`` picked, and its candidates by the score that the rule compares.

    Returns:
        ``reason``, ``named`` (whether the rule looked at groups that a person named), ``names`` (the file that names
        them, where one was given), ``beside`` (of each group the accuracies of the pick and of plain ERM on test
        images), ``worst`` (which groups' lowest accuracy the pick changes, by how much, with its interval), the
        ``candidates`` from the best on, ``aside``, and whether scores on ``test`` images and by ``groups`` are known.
    """
    selection, gain = robust["selection"], robust["gain"]["worst"]
    table = sorted(selection["table"], key=lambda row: -row["score"])
    return {
        "reason": selection["reason"],
        "named": selection["rule"] == YOURS,
        "names": robust.get("names"),
        "beside": _beside_plain(robust["scores"], robust["plain"]["scores"]),
        "worst": gain,
        "candidates": table,
        "aside": left_out(selection["aside"]),
        "test": "test_accuracy" in table[0],
        "groups": "test_worst_group" in table[0],
    }


def _beside_plain(picked: Mapping[str, Any], plain: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each group, true ones where they are known."""
    by = "groups" if picked.get("groups") else "discovered_groups"
    if not (picked.get(by) and plain.get(by)):
        return []
    other = plain[by]["groups"]
    return [
        {"name": name, "picked": one["accuracy"], "plain": other[name]["accuracy"]}
        | {key: one[key] for key in ("n", "interval", "small")}
        for name, one in picked[by]["groups"].items()
        if name in other
    ]


def worst(found: Discovered, errors: Errors | None) -> dict[str, Any] | None:
    """The discovered subclass that a plain classifier surely errs on most: the one that advice is about.

    Returns:
        Its ``name``, the ``share`` of errors, the ``n`` images behind it, whether these are ``small`` (fewer than 50),
        and the ``interval`` of the highest true share, whichever subclass has it; None where nothing is known.
    """
    accuracy = {} if errors is None else errors.accuracies(found)
    if not accuracy:
        return None
    name, (low, high) = surely_lowest(accuracy), lowest_share(accuracy)["interval"]
    share, n = 1 - accuracy[name]["accuracy"], accuracy[name]["n"]
    return {"name": name, "share": share, "n": n, "small": n < FEW, "interval": (1 - high, 1 - low)}


def unsure_line(found: Discovered) -> str:
    """How many subclasses fresh draws of images would seldom have, and which, in a sentence; empty where none are."""
    facts = [fact.get("holds", {}) for fact in found.superclasses.values()]
    holds = {name: share for fact in facts for name, share in fact.items() if name in found.names}
    rare = sorted((share, name) for name, share in holds.items() if share < HALF)
    if not rare:
        return ""
    shown = ", ".join(f"{name} ({share:.0%})" for share, name in rare[:SHOWN_MEMBERS])
    which = f", least often {shown}" if len(rare) > SHOWN_MEMBERS else f": {shown}"
    of = f"{len(rare)} of {len(found.names)} subclasses"
    return f"{of} {'is' if len(rare) == 1 else 'are'} found again in fewer than half of fresh draws of images{which}"


def failed(embeddings: Embeddings, errors: Errors | None) -> list[dict[str, Any]]:
    """The superclasses that a plain classifier surely gets wrong more often than right: ``name``, ``share``, ``n``."""
    found: list[dict[str, Any]] = []
    for value, name in enumerate(embeddings.superclass_names):
        one = None if errors is None else errors.share(np.flatnonzero(embeddings.superclass == value))
        if one is not None and share_interval(*one)[0] > HALF:
            found.append({"name": name, "share": one[0], "n": one[1]})
    return sorted(found, key=lambda each: -each["share"])[:SHOWN_MEMBERS]


def by_heart(embeddings: Embeddings, found: Discovered) -> str:
    """Which subclasses are nearly all training images, and not by chance, in a sentence; empty where none are.

    At least :data:`NEARLY_ALL` of one, fewer than 50 others; and so many in a random draw of its superclass are less
    probable than :data:`HEART` (hypergeometric), corrected for the number of subclasses (Holm).
    """
    from scipy.stats import hypergeom

    kinds, train = len(embeddings.superclass_names), embeddings.in_split("train")
    if embeddings.unseen is not None:
        train &= ~embeddings.unseen
    cell = found.cluster * kinds + embeddings.superclass
    count, trained = (
        np.bincount(cells, minlength=len(found.names) * kinds).reshape(-1, kinds) for cells in (cell, cell[train])
    )
    inside = count > 0  # merged by a person, it may be in several superclasses
    size, all_size = count.sum(axis=1), np.maximum(inside @ count.sum(axis=0), 1)
    mine, all_trained = trained.sum(axis=1), inside @ trained.sum(axis=0)
    p = hypergeom.sf(mine - 1, all_size, all_trained, size)
    learned = (holm(p) < HEART) & (mine >= NEARLY_ALL * size) & (size - mine < FEW)
    said = (
        f"{name} ({k:,} of {n:,}; of its superclass {share:.0%})"
        for name, k, n, share in zip(found.names, mine, size, all_trained / all_size, strict=True)
    )
    told = [text for text, small in zip(said, learned, strict=True) if small]
    if not told:
        return ""
    more = f" and {len(told) - SHOWN_MEMBERS} more" if len(told) > SHOWN_MEMBERS else ""
    return (
        f"{', '.join(told[:SHOWN_MEMBERS])}{more}: nearly all are training images, which the encoder may know by "
        f"heart; the few others cannot judge it"
    )


def advice_line(advice: Advice | None) -> str:
    """What to do next, in a sentence; empty where nothing is known."""
    if advice is None:
        return ""
    right = f"a plain classifier is right on {advice.accuracy:.0%} of {advice.n:,} held-out images of it"
    if advice.what == "photograph":
        return f"photograph more of {advice.subclass}: {right}; it has too few to tell what more labels would bring"
    if advice.gain is None:
        return f"nothing here: {advice.subclass} is served worst, and {right}, not surely fewer than of all images"
    low, high = (f"{100 * end:+.1f}" for end in advice.gain.interval)
    brings = f"{100 * advice.gain.gain:+.1f} points (95% {low} to {high})"
    if advice.what == "nothing":
        return f"nothing here: {right}, {advice.subclass}, and {advice.gain.more} more labels would bring {brings}"
    doubt = "; it may be nothing" if advice.gain.interval[0] <= 0 else ""
    return f"label {advice.gain.more} more of {advice.subclass}: {right}, which is expected to rise by {brings}{doubt}"


def _apart(scores: dict[str, Any]) -> list[Row]:
    if not scores:
        return []
    low, high = (100 * end(scores["differences"]) for end in (min, max))
    said = f"held-out images, half of them tested: all that show one of {scores['things']:,} things on one side"
    pretended = f"the same, images drawn one by one: {low:+.1f} to {high:+.1f} points that only the split makes"
    return [
        Row("a plain classifier is right, things kept whole", f"{scores['whole']:.1%}", "", scores["n"], said),
        Row("it would seem right, things torn apart", f"{scores['torn']:.1%}", "", scores["n"], pretended),
    ]


def _recovery(scores: dict[str, Any]) -> list[Row]:
    if not scores:
        return []
    n, alone = scores["n"], scores["one_cluster"]
    chance = f", the same clusters shuffled: {scores['shuffled']['macro_f1']:.2f}"
    said = (
        ("discovered against true subclasses, F1", scores["macro_f1"], f"one cluster: {alone['macro_f1']:.2f}{chance}"),
        ("the same, purity", scores["purity"], f"one cluster: {alone['purity']:.2f}"),
        ("the same, adjusted mutual information", scores["adjusted_mutual_information"], "one cluster, chance: 0"),
    )
    return [Row(what, f"{value:.2f}", "", n, f"test images; {text}") for what, value, text in said]


def shape(scores: dict[str, Any]) -> list[Row]:
    """What :func:`thanos.evaluate_geometry` measured."""
    named = {
        "spread": ("spread within superclasses", "1 - mean cosine; 0: every superclass is a point"),
        "between_class_cosine": ("cosine between superclasses", "below the cosine within where they are told apart"),
        "effective_rank": ("effective rank", "how many directions the embedding uses"),
        "alignment": ("alignment", "squared distance of two views of an image; lower: indifferent to augmentation"),
        "uniformity": ("uniformity", "lower: more evenly spread over the sphere"),
        "subclass_purity": ("purity of nearest neighbours", "whose nearest in their superclass is of their subclass"),
    }
    n = scores.get("n")
    rows = [
        Row(what, f"{scores[key]:.2f}", "", scores.get(f"{key}_n", n), says)
        for key, (what, says) in named.items()
        if key in scores
    ]
    if gone := scores.get("collapsed_superclasses"):
        rows.append(Row("collapsed superclasses", str(len(gone)), "", n, ", ".join(gone[:LOWEST])))
    return _marked(rows)
