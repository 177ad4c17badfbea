"""``thanos classify``: what a classifier says of images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from thanos.cli.app import Embedded, Of, Out, app, say
from thanos.config import SourceConfig
from thanos.evaluate.intervals import FEW
from thanos.inputs import Source
from thanos.storage import has_columns, holds, read_json, refuse_foreign, write_csv

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thanos.embeddings import Embeddings
    from thanos.robust.classify import Classified
    from thanos.subclasses.called import Called
    from thanos.subclasses.keep import Places


@app.command(
    help_epilogue="""Examples:
  thanos classify runs/a --data new-photos/ -o predicted.csv
  thanos classify runs/a --classifier runs/a/robust-jtt.npz --data new-photos/ -o predicted.csv
  thanos classify embeddings.npz --classifier fair.npz"""
)
def classify(
    source: Embedded,
    *,
    classifier: Path | None = None,
    out: Out = None,
    names: Path | None = None,
    of: Of = SourceConfig(),
) -> None:
    """Tell the superclass of images by a classifier that thanos robust (or train) made; writes a CSV.

    Parameters
    ----------
    classifier
        The .npz; default: the newest that thanos robust made of the run (robust-METHOD.npz), else its classifier.npz.
    out
        A CSV: image, predicted, probability, the superclass where it is known, and where thanos discover found
        subclasses here that of each image, with a confidence. Needed with --data; of a run's own images by default
        predicted.csv in the run directory.
    names
        What you called those subclasses: a YAML file, or the edits that a page saved;
        default: the file beside their table.
    """
    from_ = Source(source, of, say)
    where = from_.out(out, "predicted", suffix=".csv")
    head = from_.classifier(classifier)
    from thanos.robust.classify import classify as tell
    from thanos.robust.head import read_head

    refuse_foreign(where, is_predictions, "thanos classify")
    (fitted, kinds), known = read_head(head), from_.places(names)
    facts = facts_of(head)
    if line := _verdict(head, facts):
        say(line)
    if known is not None and (line := _of_other_names(head, facts, known[0], names, from_.path)):
        say(line)
    embeddings = from_.embeddings
    told = tell(fitted, kinds, embeddings, classifier=str(head), of=str(source), again=from_.again(None))
    if known is not None:
        told = with_subclasses(told, *known, embeddings)
    lines = lines_of(from_, told, head, facts, where)
    write_csv(where, rows_of(told, embeddings.names))
    from_.list_skipped(where)
    for line in lines:
        say(line)


def facts_of(head: Path) -> dict[str, Any]:
    """What ``thanos robust`` left beside a classifier; empty for another one."""
    from thanos.storage.schemas import Classifier

    file = head.with_suffix(".json")
    return read_json(file, Classifier) if holds("settings", "selection", "scores", "plain")(file) else {}


def _verdict(head: Path, facts: dict[str, Any]) -> str:
    """That a classifier surely loses over all images, and its worst group may gain by chance alone; else empty."""
    from thanos.cli.robust import plain_beside

    gain, plain = facts.get("gain"), plain_beside(head)
    if (
        gain is None
        or gain["all_images"]["interval"][1] >= 0
        or gain["worst"]["interval"][0] > 0
        or not plain.is_file()
    ):
        return ""
    lost = f"{-100 * gain['all_images']['difference']:.1f} points less often right over all test images"
    return (
        f"{head} is surely {lost} than the plain classifier, and its worst group's gain may be chance; that one: "
        f"--classifier {quote(str(plain))}"
    )


def _of_other_names(head: Path, facts: dict[str, Any], places: "Places", names: Path | None, source: Path) -> str:
    """What a person must know of a classifier that was made for other subclasses, or under names; else empty."""
    if facts.get("subclasses") not in (None, places.table):
        return (
            f"{head} was made for other subclasses than those found here; for these: thanos robust {quote(str(source))}"
        )
    if names is None and (made_with := facts.get("names")) is not None:
        return (
            f"subclasses as discovered; --names {quote(made_with)}, with which {head} was made, gives them your names"
        )
    return ""


PREDICTED = ("image", "predicted", "probability")
"""Columns of every table of predictions."""


def is_predictions(file: Path) -> bool:
    """Whether it is a table of predictions."""
    return has_columns(PREDICTED)(file)


def with_subclasses(told: "Classified", places: "Places", called: "Called", embeddings: "Embeddings") -> "Classified":
    """With the discovered subclass of each image inside what is predicted; of images like none that were seen, none."""
    import numpy as np

    from thanos.subclasses.keep import NOBODY

    superclass = places.ids_in(told.names)[told.predicted]
    subclass, confidence = places.place(embeddings.vectors, superclass, called)
    if places.reach is not None:
        beyond = places.reach.is_beyond(embeddings.vectors)
        subclass = tuple(NOBODY if odd else name for name, odd in zip(subclass, beyond, strict=True))
        confidence = np.where(beyond, 0.0, confidence)
    return replace(told, subclass=subclass, confidence=confidence)


def rows_of(told: "Classified", names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The table: a line for each image."""
    columns: dict[str, Sequence[str]] = {
        "image": names,
        "predicted": [told.names[each] for each in told.predicted],
        "probability": [f"{each:.4f}" for each in told.probability],
    }
    if told.true:
        columns["superclass"] = told.true
    if told.subclass and told.confidence is not None:
        columns["subclass"] = told.subclass
        columns["subclass_confidence"] = [f"{each:.4f}" for each in told.confidence]
    return [tuple(columns), *zip(*columns.values(), strict=True)]


def lines_of(source: Source, told: "Classified", classifier: Path, facts: dict[str, Any], out: Path) -> list[str]:
    """How many images are what, and how many of those that are known rightly so."""
    import numpy as np

    from thanos.subclasses.keep import NOBODY

    counts = np.bincount(told.predicted, minlength=len(told.names))
    shown = ", ".join(f"{count:,} {name}" for name, count in zip(told.names, counts, strict=True))
    lines = [f"{len(told.predicted):,} images by {classifier}: {shown}; in {out}"]
    if nobodys := told.subclass.count(NOBODY):
        lines.append(f"{nobodys:,} of them are like none that discovery saw ({NOBODY!r})")
    if not told.true:
        return lines
    judged, which = np.arange(len(told.predicted)), "images"
    if fitted_on_these(source, classifier, facts):
        judged, which = source.embeddings.rows("test"), "test images"
    elif (trained := trained_on(source)) is None:
        lines.append("whether training images are among them is not known: the run's own embeddings are gone")
    elif trained.any():
        lines.append(f"{trained.sum():,} of them are training images, which say nothing of new ones")
        judged, which = np.flatnonzero(~trained), "others"
    if len(judged):
        right, (low, high) = told.accuracy(judged)
        few = ", few images" if len(judged) < FEW else ""
        lines.append(f"right on {right:.1%} of {len(judged):,} {which} (95% {low:.1%} to {high:.1%}{few})")
    return lines


def fitted_on_these(source: Source, classifier: Path, facts: dict[str, Any]) -> bool:
    """Whether a classifier was fitted on the very images that it is asked of: by its place, or by their mark."""
    if source.run is not None or classifier == source.own(classifier.stem.removeprefix(f"{source.path.stem}-"), ".npz"):
        return True
    mark = source.embeddings.fingerprint  # empty of plain vectors
    return mark != "" and facts.get("of", {}).get("images") == mark


def trained_on(source: Source) -> "NDArray[np.bool_] | None":
    """Which of the images the encoder was trained on; None: the embeddings of its run, which tell, are gone."""
    import numpy as np

    from thanos.robust.classify import among_training
    from thanos.runs.own_data import kept_embeddings

    vectors, home = source.embeddings.vectors, source.home
    if source.by_name or source.of_embeddings or not home.is_run:
        return np.zeros(len(vectors), dtype=bool)
    weights = "best" if source.path.stem == "best" else source.options.weights
    known, _ = kept_embeddings(home.embeddings(weights), home.weights(weights))
    return None if known is None else among_training(vectors, known)
