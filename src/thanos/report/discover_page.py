"""The page of discovered subclasses: for each its size, its typical and its doubtful images, and how often it errs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.imageset import ImageSet
from thanos.data.labels import SPLITS
from thanos.embeddings import Embeddings, check_same_images
from thanos.evaluate.geometry import COLLAPSED, DISSOLVED
from thanos.evaluate.intervals import FEW, share_interval
from thanos.inputs import Source
from thanos.report.figures import thumbnail, training_curves
from thanos.report.map import map_data
from thanos.report.page import render
from thanos.report.snippet import loading_code
from thanos.report.summary import Errors, shape, summary, worst
from thanos.robust.methods import fit_robust
from thanos.robust.select import watch
from thanos.runs.encoder_io import read_card
from thanos.runs.run_dir import RunDir
from thanos.storage import write_text
from thanos.subclasses.fitted import Discovered

TITLE = "thanos: discovered subclasses"
SUBCLASSES = "of the subclasses"
"""Before the mark of the table that a page shows."""
TYPICAL, DOUBTFUL, UNUSUAL = 12, 6, 6
"""Images shown of each subclass."""
SHOWN_MEMBERS = 4
"""True subclasses named for each discovered one, the most frequent first."""


def plain_errors(embeddings: Embeddings) -> Errors | None:
    """Of a logistic regression on the embeddings; None without two superclasses, or validation images of each."""
    train, held_out = embeddings.in_split("train"), ~embeddings.in_split("train")
    kinds = np.unique(embeddings.superclass[train])
    if len(kinds) < 2 or len(np.setdiff1d(kinds, embeddings.superclass[embeddings.in_split("validation")])):
        return None
    blind = embeddings.without_hidden()
    head = fit_robust("erm", blind, None, watch("worst-class", blind)).head
    return Errors(head.predict(embeddings.vectors) != embeddings.superclass, held_out)


def write_discover_page(
    page: Path,
    embeddings: Embeddings,
    found: Discovered,
    source: Source,
    scores: dict[str, Any],
    *,
    table: Path | None = None,
    mark: str | None = None,
) -> None:
    """A self-contained page.

    Args:
        page: The file to write.
        embeddings: What was clustered.
        found: The discovered subclasses of all embeddings.
        source: What was embedded by what, with the pictures and the training, as far as there are any.
        scores: ``geometry``, ``transfer`` and ``recovery``, as far as they were measured.
        table: The CSV that holds the subclasses, which the text mentions.
        mark: Of that table; the page bears it.
    Raises:
        DataError: if the source's pictures are not those that were embedded.
    """
    images, run = source.pictures, source.run
    if images is not None:
        check_same_images(embeddings, images)
    errors = plain_errors(embeddings)
    members = [embeddings.superclass[found.cluster == number] for number in range(len(found.names))]
    home = {number: np.bincount(mine).argmax() for number, mine in enumerate(members)}  # merged, it may be in several
    superclasses = [
        {
            "name": name,
            "fact": fact,
            "subclasses": [
                _subclass(number, embeddings, found, images, errors)
                for number, value in home.items()
                if embeddings.superclass_names[value] == name
            ],
        }
        for name, fact in found.superclasses.items()
    ]
    trained = None if run is None else _training(run)
    facts: dict[str, Any] = {"title": TITLE, "errors": errors is not None, "n": len(embeddings), "run": trained}
    facts["shape"] = shape(scores.get("geometry", {}))
    facts |= {
        "of": source.title,
        "table": table,
        "mark": "" if mark is None else f"{SUBCLASSES} {mark}",
        "again": source.again(table),
        "found": found.superclasses,
        "worst": worst(found, errors),
    }
    facts["rows"] = summary(embeddings, found, errors, scores, {} if trained is None else trained["metrics"]["final"])
    facts |= {"map": map_data(embeddings, found, images, None if errors is None else errors.wrong)}
    write_text(page, render("discover.html", superclasses=superclasses, **facts))


def _training(run: RunDir) -> dict[str, Any]:
    """How a run went, in numbers and words."""
    metrics, settings, card = run.metrics(), run.settings(), read_card(run.facts())
    final, provenance = metrics["final"], metrics["provenance"]
    within = final.get("validation/within_class_cosine")
    state, healthy = "superclasses spread without falling apart", True
    has_alpha = metrics["alpha"] is not None
    if within is not None and within > COLLAPSED:
        state, healthy = "superclasses lie at points, where hidden subclasses are lost", False
        longer = "; train longer, and if that does not help, raise `alpha`"
        state += longer if has_alpha else ", as SupCon leaves them; `train_method=thanos` keeps them"
    elif within is not None and within - final.get("validation/between_class_cosine", -1.0) < DISSOLVED:
        state, healthy = "superclasses are hardly told apart; train longer", False
        state += ", and if that does not help, lower `alpha`" if has_alpha else ""
    return {
        "folder": str(run.path),
        "settings": settings,
        "metrics": metrics,
        "accuracy": final.get("validation/superclass_accuracy"),
        "within": within,
        "state": state,
        "healthy": healthy,
        "card": card,
        "code": loading_code(card, run.weights()),
        "curves": training_curves({settings["method"]: run.lines}),
        "versions": ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        "hardware": provenance["hardware"],
    }


def _subclass(
    number: int, embeddings: Embeddings, found: Discovered, images: ImageSet | None, errors: Errors | None
) -> dict[str, Any]:
    rows = np.flatnonzero(found.cluster == number)
    central = rows[np.argsort(found.distance[rows], kind="stable")][:TYPICAL]
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
        "members": _members(rows, embeddings),
        "known": 0 if embeddings.subclass is None else int((embeddings.subclass[rows] >= 0).sum()),
        "error": None,
    }
    if errors is not None and (wrong := errors.share(rows)) is not None:
        facts["error"] = {"share": wrong[0], "n": wrong[1], "interval": share_interval(*wrong), "few": wrong[1] < FEW}
    return facts


def _picture(row: int, embeddings: Embeddings, images: ImageSet | None) -> dict[str, str]:
    name = embeddings.names[row]
    return {"name": name, "picture": "" if images is None else thumbnail(images.images[np.array([row])][0], side=64)}


def _members(rows: NDArray[np.int64], embeddings: Embeddings) -> list[dict[str, Any]]:
    """The true subclasses in it, where they are known."""
    if embeddings.subclass is None:
        return []
    count = np.bincount(embeddings.subclass[rows][embeddings.subclass[rows] >= 0], minlength=1)
    order = np.argsort(-count, kind="stable")[:SHOWN_MEMBERS]
    return [{"name": embeddings.subclass_names[k], "share": count[k] / count.sum()} for k in order if count[k]]
