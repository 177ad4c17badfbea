"""What ``discover``, ``report`` and ``robust`` share: scores as far as labels allow, an earlier table, the page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thanos.cli.app import say
from thanos.cli.lines import apart_line, transfer_lines
from thanos.errors import DataError, MissingLabels

if TYPE_CHECKING:
    from thanos.inputs import Source
    from thanos.subclasses.explain import Explained
    from thanos.subclasses.fitted import Discovered
    from thanos.subclasses.properties import Properties


def judge(source: "Source") -> dict[str, Any]:
    """``geometry`` and, where fine labels stand in every split, ``transfer``; kept with a run."""
    from thanos.evaluate.geometry import geometry
    from thanos.evaluate.transfer import transfer

    scores = {"geometry": geometry(source.embeddings, source.two_views()).to_dict()}
    try:
        fine = transfer(source.embeddings)
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


def earlier(source: "Source", table: Path, names: Path | None, *, asked: bool) -> "Discovered":
    """Subclasses of an earlier table; ``asked``: it was named, and may be of other embeddings of the same images."""
    from thanos.subclasses.table import read_discovered

    again = source.again(None)
    return read_discovered(table, names, source.embeddings, own=not asked, of=str(source.path), again=again)


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
    mark: str | None = None,
) -> None:
    """The page of discovered subclasses, with all that the source knows."""
    from thanos.report.discover_page import write_discover_page
    from thanos.robust.plain import plain_errors

    write_discover_page(
        page,
        source.embeddings,
        found,
        of=source.title,
        again=source.again(table),
        images=source.pictures,
        errors=plain_errors(source.embeddings),
        training=source.training(),
        scores=scores,
        table=table,
        told={} if told is None else told.words(found.names),
        mark=mark,
    )


def measured(source: "Source") -> "Properties | None":
    """Simple properties of the pictures, or columns beside the vectors; None where there are none."""
    from thanos.subclasses.properties import measure

    properties = None if source.samples is None else measure(source.samples)
    return properties if properties is not None and properties.count else None


def explained(source: "Source", found: "Discovered", properties: "Properties | None") -> "Explained | None":
    """What they tell of the subclasses."""
    from thanos.subclasses.explain import explain

    return None if properties is None else explain(found.cluster, source.embeddings.superclass, properties)
