"""What ``discover``, ``report`` and ``robust`` share: scores as far as labels allow, an earlier table, the page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thanos.cli.app import say
from thanos.cli.lines import apart_line, transfer_lines
from thanos.console import doing
from thanos.errors import DataError, MissingLabels
from thanos.storage import read_json

if TYPE_CHECKING:
    from thanos.cli.app import Thumbnails
    from thanos.data.samples import Values
    from thanos.inputs import Source
    from thanos.subclasses.explain import Explained
    from thanos.subclasses.fitted import Discovered
    from thanos.subclasses.properties import Properties


def evaluate(source: "Source") -> dict[str, Any]:
    """``geometry`` and, where fine labels stand in every split, ``transfer``; kept with a run."""
    from thanos.evaluate.geometry import evaluate_geometry
    from thanos.evaluate.transfer import evaluate_transfer

    scores = {"geometry": evaluate_geometry(source.embeddings, source.two_views()).to_dict()}
    try:
        fine = evaluate_transfer(source.embeddings)
    except (MissingLabels, DataError):
        pass  # the page then says what is known without
    else:
        for line in transfer_lines(fine):
            say(line)
        scores["transfer"] = fine.to_dict()
    if (apart := _apart(source)) is not None:
        scores["apart"] = apart
    for name, values in scores.items():
        source.keep(name, values)
    return scores


def _apart(source: "Source") -> dict[str, Any] | None:
    """What splitting images of one thing apart would pretend; said, where it is known."""
    from thanos.evaluate.apart import split_apart

    samples = source.samples
    found = None if samples is None else split_apart(source.embeddings, samples.together)
    if found is None:
        return None
    say(apart_line(found))
    return found.to_dict()


def earlier(source: "Source", table: Path, names: Path | None, *, asked: bool, rest: bool = True) -> "Discovered":
    """Subclasses of an earlier table; ``asked``: it was named, and may be of other embeddings of the same images.

    What is marked as no group becomes the rest of its superclass; without ``rest`` it keeps its name.
    """
    from thanos.subclasses.table import read_discovered

    again = source.again(None)
    found = read_discovered(
        table,
        names,
        source.embeddings,
        own=not asked,
        of=str(source.path),
        again=again,
        values=lambda: _held_against(source),
        say=say,
        rest=rest,
    )
    if found.marks:
        say(f"marked by a person: {', '.join(f'{name} ({mark})' for name, mark in found.marks.items())}")
    return found


def _held_against(source: "Source") -> "Values | None":
    """What moved images are held against: the pictures, else the vectors; None where pictures are gone."""
    try:
        pictures = source.pictures
    except DataError as error:
        say(f"moved images are not held against what they were: {error}")
        return None
    return source.embeddings.vectors if pictures is None else pictures.images


def described(table: Path | None, names: Path | None) -> str:
    """Where subclasses come from, in words."""
    return "discovered now" if table is None else f"of {table}{'' if names is None else f', named by {names}'}"


def write_page(
    page: Path,
    source: "Source",
    found: "Discovered",
    scores: dict[str, Any],
    *,
    table: Path | None,
    told: "Explained | None",
    names: Path | None = None,
    mark: str | None = None,
    linked: bool = False,
) -> None:
    """The page of discovered subclasses, with all that the source knows.

    Args:
        page: The file to write.
        source, found, scores, told: What it shows.
        table: The CSV that holds the subclasses.
        names: The names or edits that were given for them.
        mark: Of the table, where the subclasses were read from it; None: it is about to be written.
        linked: Whether thumbnails go into files beside the page.
    """
    from thanos.data.group_table import mark as mark_of_table
    from thanos.report.discover_page import write_discover_page
    from thanos.report.edit import Base
    from thanos.report.summary import advice_line
    from thanos.robust.next_labels import advise
    from thanos.robust.plain import plain_errors

    if linked and source.pictures is None:
        say(f"{source.path} has no pictures: --images linked has none to put beside the page")
    with doing("what a plain classifier gets wrong, and what to label next"):
        errors = plain_errors(source.embeddings)
        advice = advise(source.embeddings, found, errors)
    if advice is not None:
        say(f"next: {advice_line(advice)}")
    subclasses = dict(zip(source.embeddings.names, (found.names[k] for k in found.cluster), strict=True))
    picked = _portfolio(source, mark or mark_of_table(subclasses))
    with doing("the page"):
        write_discover_page(
            page,
            source.embeddings,
            found,
            of=source.title,
            again=source.again(table),
            names=names,
            images=source.pictures,
            errors=errors,
            training=source.training(),
            scores=scores,
            table=table,
            told=told,
            base=None if table is None or mark is None else Base(mark, _origin(source, table), found.marks),
            linked=linked,
            advice=advice,
            robust=picked,
        )


def _origin(source: "Source", table: Path) -> list[str]:
    """The subclass of each image as the table has it, whatever a person called it since."""
    from thanos.data.group_table import in_table, read_table

    listed, embeddings = read_table(table), source.embeddings
    return [listed[image].subclass for image in in_table(listed, embeddings.names, table, embeddings.fingerprint)]


def check_thumbnails(page: Path, thumbnails: "Thumbnails") -> None:
    """Raise OutputError if those that go beside the page would go among files of another's."""
    from thanos.report.thumbnails import check_folder_free

    if thumbnails == "linked":
        check_folder_free(page)


def _portfolio(source: "Source", subclasses: str) -> dict[str, Any]:
    """What ``thanos robust`` left of its portfolio on these embeddings and subclasses; empty where it left nothing."""
    from thanos.embeddings import marks_of
    from thanos.storage.schemas import Picked

    file = source.own("robust-portfolio", ".json")
    if file is None or not file.is_file():
        return {}
    found = read_json(file, Picked)
    if found.get("of") == marks_of(source.embeddings) and found.get("subclasses") in (None, subclasses):
        return found
    again = f"thanos robust {source.again(None)}"
    say(f"not on the page: {file}, which is of other embeddings or of an earlier table; {again}")
    return {}


def measured(source: "Source") -> "Properties | None":
    """Simple properties of the pictures, or columns beside the vectors; None where there are none."""
    from thanos.subclasses.properties import measure

    properties = None if source.samples is None else measure(source.samples)
    return properties if properties is not None and properties.count else None


def explained(source: "Source", found: "Discovered", properties: "Properties | None") -> "Explained | None":
    """What they tell of the subclasses."""
    from thanos.subclasses.explain import explain

    return None if properties is None else explain(found.cluster, source.embeddings.superclass, properties)
