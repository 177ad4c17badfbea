"""The page of discovered subclasses: for each its size, its typical and its doubtful images, and how often it errs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.data.samples import Values
from thanos.embeddings import Embeddings, check_same_images
from thanos.evaluate.diagnose import State, diagnose
from thanos.evaluate.intervals import FEW, share_interval
from thanos.report.edit import Base, edit_data
from thanos.report.figures import thumbnail, training_curves
from thanos.report.map import map_data
from thanos.report.page import render
from thanos.report.snippet import loading_code
from thanos.report.summary import (
    advice_line,
    by_heart,
    by_level,
    failed,
    members,
    portfolio_table,
    shape,
    summary,
    unsure_line,
    worst,
)
from thanos.report.walk import walk_data
from thanos.robust.next_labels import Advice
from thanos.robust.plain import Errors
from thanos.storage import write_text
from thanos.subclasses.explain import Explained
from thanos.subclasses.fitted import Discovered

if TYPE_CHECKING:  # it imports torch, which a page of vectors does without
    from thanos.runs.encoder_io import ModelCard

TITLE = "thanos: discovered subclasses"
SUBCLASSES = "of the subclasses"
"""Before the mark of the table that a page shows."""
TYPICAL, DOUBTFUL, UNUSUAL = 12, 6, 6
"""Images shown of each subclass."""


@dataclass(frozen=True)
class Training:
    """How an encoder was trained, and what it left."""

    folder: str
    """Of the run."""
    settings: dict[str, Any]
    metrics: dict[str, Any]
    """Its final numbers, ``alarms`` and ``provenance``."""
    logged: list[dict[str, float]]
    """A ``step`` and numbers each."""
    card: "ModelCard"
    weights: Path


def write_discover_page(
    page: Path,
    embeddings: Embeddings,
    found: Discovered,
    *,
    of: str,
    again: str,
    names: Path | None = None,
    images: ImageSet | None,
    errors: Errors | None,
    training: Training | None,
    scores: dict[str, Any],
    table: Path | None = None,
    told: Explained | None = None,
    base: Base | None = None,
    linked: bool = False,
    advice: Advice | None = None,
    robust: Mapping[str, Any] | None = None,
) -> None:
    """A self-contained page.

    Args:
        page: The file to write.
        embeddings: What was clustered.
        found: The discovered subclasses of all embeddings.
        of: What they are of, in words.
        again: What is typed behind a command to evaluate this and its subclasses again.
        names: The names or edits that were given for them; None: none, or those beside the table.
        images: The pictures; None: names stand in their place.
        errors: Of a plain classifier; None: not known.
        training: Of the encoder; None: not known.
        scores: ``geometry``, ``transfer``, ``apart``, ``recovery`` and ``recovery_by_level``, as far as they were
            measured.
        table: The CSV that holds the subclasses, which the text mentions.
        told: What simple properties tell each subclass from its siblings; None: none were looked at.
        base: What edits start from; the page bears the mark of its table. None: the subclasses found.
        linked: Whether thumbnails of all images on the map go into files beside the page; else those of at most 5,000
            stand in it.
        advice: What to do next.
        robust: What ``thanos robust`` left of its portfolio: ``selection`` and ``gain``; empty: nothing.
    Raises:
        DataError: if the pictures are not those that were embedded.
        OutputError: if a file cannot be written.
    """
    if images is not None:
        check_same_images(embeddings, images)
    trained = None if training is None else _trained(training)
    final = {} if training is None else training.metrics["final"]
    wrong = None if errors is None else errors.wrong
    drawn = map_data(embeddings, found, images, wrong, page, beside=linked)
    values: Values = embeddings.vectors if images is None else images.images
    cuts = found.cuts if drawn else None
    facts = {
        "title": TITLE,
        "errors": errors is not None,
        "named": found.is_named(embeddings.superclass_names),
        "n": len(embeddings),
        "run": trained,
        "shape": shape(scores.get("geometry", {})),
        "of": of,
        "table": table,
        "mark": "" if base is None or base.mark is None else f"{SUBCLASSES} {base.mark}",
        "again": again,
        "made_by": f"thanos report {again}{'' if names is None else f' --names {quote(str(names))}'}",
        "told": {} if told is None else told.words(found.names),
        "tried": 0 if told is None or not told.differences else told.tried,
        "alike": 0 if told is None else sum(not each for each in told.differences.values()),
        "found": found.superclasses,
        "worst": worst(found, errors),
        "failed": failed(embeddings, errors),
        "unsure": unsure_line(found),
        "by_heart": "" if training is None else by_heart(embeddings, found),
        "next": advice_line(advice),
        "rows": summary(embeddings, found, errors, scores, final),
        "levels": by_level(scores),
        "map": drawn,
        "edit": edit_data(embeddings, found, values, base or Base()) if drawn else None,
        "walk": [] if cuts is None else walk_data(embeddings, cuts),
        "walked": {} if cuts is None else {name: tree for name, tree in cuts.trees.items() if len(tree.leaves) > 1},
        "superclasses": _superclasses(embeddings, found, images, errors),
        "robust": portfolio_table(robust) if robust else None,
    }
    write_text(page, render("discover.html", **facts))


def _superclasses(
    embeddings: Embeddings, found: Discovered, images: ImageSet | None, errors: Errors | None
) -> list[dict[str, Any]]:
    members = [embeddings.superclass[found.cluster == number] for number in range(len(found.names))]
    levels = embeddings.by_level()
    home = {number: np.bincount(mine).argmax() for number, mine in enumerate(members)}  # merged, it may be in several
    return [
        {
            "name": name,
            "fact": fact,
            "subclasses": [
                _subclass(number, embeddings, levels, found, images, errors)
                for number, value in home.items()
                if embeddings.superclass_names[value] == name
            ],
        }
        for name, fact in found.superclasses.items()
    ]


def _trained(training: Training) -> dict[str, Any]:
    """How a training went, in numbers and words."""
    metrics, settings = training.metrics, training.settings
    final, provenance = metrics["final"], metrics["provenance"]
    within = final.get("validation/within_class_cosine")
    states: tuple[State, ...] = ()
    if within is not None:
        states = diagnose(within, final.get("validation/between_class_cosine", -1.0))
    return {
        "folder": training.folder,
        "settings": settings,
        "metrics": metrics,
        "accuracy": final.get("validation/superclass_accuracy"),
        "within": within,
        "state": _advice(states, has_alpha=metrics["alpha"] is not None),
        "healthy": not states,
        "card": training.card,
        "code": loading_code(training.card, training.weights),
        "curves": training_curves({settings["method"]: training.logged}),
        "versions": ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        "hardware": provenance["hardware"],
    }


def _advice(states: tuple[State, ...], *, has_alpha: bool) -> str:
    """The gravest state in words, with what to do about it."""
    state = states[0] if states else None
    if state == "equal":
        return "everything lies at one point; lower `learning_rate`, raise `warmup`, and look at the images"
    if state == "collapsed":
        said = "superclasses lie at points, where hidden subclasses are lost"
        longer = "; train longer, and if that does not help, raise `alpha`"
        return said + (longer if has_alpha else ", as SupCon leaves them; `train_method=thanos` keeps them")
    if state == "dissolved":
        lower = ", and if that does not help, lower `alpha`" if has_alpha else ""
        return f"superclasses are hardly told apart; train longer{lower}"
    return "superclasses spread without falling apart"


def _subclass(
    number: int,
    embeddings: Embeddings,
    levels: Mapping[int, Embeddings],
    found: Discovered,
    images: ImageSet | None,
    errors: Errors | None,
) -> dict[str, Any]:
    rows = np.flatnonzero(found.cluster == number)
    central = found.typical(number, TYPICAL)
    rest = np.setdiff1d(rows, central)
    doubtful = rest[np.argsort(found.confidence[rest], kind="stable")][:DOUBTFUL]
    rest = np.setdiff1d(rest, doubtful)
    unusual = rest[np.argsort(-found.distance[rest], kind="stable")][:UNUSUAL]
    facts: dict[str, Any] = {
        "name": found.names[number],
        "sizes": {split: int((embeddings.split[rows] == k).sum()) for k, split in enumerate(SPLITS)},
        "typical": [_picture(i, embeddings, images) for i in central],
        "doubtful": [_picture(i, embeddings, images) for i in doubtful] if (found.confidence[rows] < 1).any() else [],
        "unusual": [_picture(i, embeddings, images) for i in unusual],
        "members": members(rows, embeddings),
        "coarser": {depth: members(rows, record) for depth, record in levels.items()},
        "known": 0 if embeddings.subclass is None else int((embeddings.subclass[rows] >= 0).sum()),
        "error": None,
    }
    if errors is not None and (wrong := errors.share(rows)) is not None:
        facts["error"] = {"share": wrong[0], "n": wrong[1], "interval": share_interval(*wrong), "few": wrong[1] < FEW}
    return facts


def _picture(row: int, embeddings: Embeddings, images: ImageSet | None) -> dict[str, str]:
    name = embeddings.names[row]
    return {"name": name, "picture": "" if images is None else thumbnail(images.images[np.array([row])][0], side=64)}
