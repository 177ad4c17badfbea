"""``thanos report``: the page of a run or of embeddings."""

from pathlib import Path

from thanos.cli.app import Embedded, Of, Out, Thumbnails, app, say
from thanos.cli.shared import check_thumbnails, described, earlier, evaluate, explained, measured, write_page
from thanos.config import SourceConfig
from thanos.inputs import Source
from thanos.storage import refuse_foreign, says


@app.command(
    help_epilogue="""Examples:
  thanos report runs/a
  thanos report runs/a --table runs/a/subclasses.csv --names names.yaml --out named.html
  thanos report runs/a/last.ckpt --out so-far.html
  thanos report resnet18 --pretrained resnet18.safetensors --data photos/ --size 96 --out resnet18.html"""
)
def report(
    source: Embedded,
    *,
    out: Out = None,
    table: Path | None = None,
    names: Path | None = None,
    images: Thumbnails = "embedded",
    of: Of = SourceConfig(),
) -> None:
    """Measure all that the labels allow and write one page: numbers, map, discovered subclasses under your names.

    Parameters
    ----------
    out
        The page; default: report.html in the run directory.
    table
        Discovered subclasses from an earlier thanos discover; default: those of the run or the .npz, else discover now.
    names
        A YAML file 'discovered subclass: your name' for that table, or the edits that its page saved
        (subclasses-edited.yaml); default: the file beside it.
    images
        Where thumbnails are: embedded in the page, of 5,000 images at most; or linked, of all images on it, in a folder
        beside it that goes where the page goes.
    """
    from_, asked, given = Source(source, of, say), table is not None, names
    where = from_.out(out, "report", suffix=".html")
    table, names = from_.discovered(table, names)
    from thanos.data.group_table import mark_of
    from thanos.evaluate.recovery import recovery_by_split
    from thanos.report.discover_page import TITLE
    from thanos.subclasses.discovery import discover

    refuse_foreign(where, says(TITLE), "thanos report or discover")
    check_thumbnails(where, images)
    embeddings, _ = from_.embeddings, from_.pictures  # pictures that are gone show before the work
    found = discover(embeddings) if table is None else earlier(from_, table, names, asked=asked, rest=False)
    say(f"measuring, explaining and drawing {len(embeddings):,} images: seconds to minutes")
    recovered = recovery_by_split(embeddings, found.cluster)
    scores = evaluate(from_) | recovered.to_dict()
    told = explained(from_, found, measured(from_))
    mark, linked = mark_of(table), images == "linked"
    write_page(where, from_, found, scores, table=table, told=told, names=given, mark=mark, linked=linked)
    from_.list_skipped(where)
    theirs = names if found.is_named(embeddings.superclass_names) else None
    say(f"{len(found.names)} subclasses {described(table, theirs)}; to look at: {where}")
