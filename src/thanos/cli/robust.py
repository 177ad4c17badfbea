"""``thanos robust``: a classifier that is fair to groups."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from thanos.cli.app import Embedded, Flat, Of, Out, app, say
from thanos.cli.lines import changes_lines, chosen_lines, gain_line, next_lines, robust_lines
from thanos.cli.shared import described, earlier
from thanos.config import RobustConfig, SourceConfig
from thanos.console import command
from thanos.errors import ConfigError
from thanos.inputs import Source
from thanos.storage import holds, refuse_foreign, write_marked_json
from thanos.storage.locks import alone

if TYPE_CHECKING:
    from thanos.embeddings import Embeddings
    from thanos.robust.stage import Outcome
    from thanos.subclasses.fitted import Discovered


@app.command(
    help_epilogue="""Examples:
  thanos robust runs/a
  thanos robust runs/a --names subclasses-edited.yaml
  thanos robust runs/a --method groupdro --groups given
  thanos robust runs/a --method jtt --groups none
  thanos robust embeddings.npz --method dfr --groups given --out fair.npz"""
)
def robust(
    source: Embedded,
    *,
    out: Out = None,
    table: Path | None = None,
    names: Path | None = None,
    config: Annotated[RobustConfig, Flat] = RobustConfig(),
    of: Of = SourceConfig(),
) -> None:
    """Train a classifier on embeddings that serves every group well, known, discovered or inferred.

    By default a portfolio: groups inferred in many ways (the run's subclasses are one), heads on them, and a rule that
    sees no true group and keeps the plain classifier where that is as good. If you named or edited the subclasses, the
    rule looks at these and the superclasses alone: the classifier is to be fair to exactly those. Prints each group's
    test accuracy beside that of the plain one. The .npz holds weight, bias, mean and scale: logits = (vectors - mean) /
    scale @ weight.T + bias; of dpe prototypes and their sharpness.

    Parameters
    ----------
    out
        The classifier (.npz); its scores go beside it as .json, and the plain one that it is held against as
        -plain.npz. Default: robust-METHOD.npz in the run directory.
    table
        Discovered subclasses from an earlier thanos discover; default: those of the run or the .npz, else discover now
        (the portfolio: clusters of its own).
    names
        A YAML file 'discovered subclass: your name' for that table, equal names merge; or the edits that its page saved
        (subclasses-edited.yaml); default: the file beside the table.
    """
    from_, asked, given = Source(source, of, say), table is not None, names is not None
    takes_them = config.groups == "discovered" or config.method == "portfolio"
    if (table or names) is not None and not takes_them:
        option = "--table holds" if names is None else "--names names"
        raise ConfigError(f"{option} discovered groups; drop it, or drop --groups {config.groups}.")
    if takes_them:
        table, names = from_.discovered(table, names)
    where = from_.out(out, f"robust-{config.method}", suffix=".npz")
    from thanos.robust.head import is_head

    facts = where.with_suffix(".json")
    for file in (where, plain_beside(where)):
        refuse_foreign(file, is_head, "thanos robust")
    refuse_foreign(facts, holds("settings", "selection", "scores", "plain"), "thanos robust")
    discovered = None if table is None else earlier(from_, table, names, asked=asked)
    theirs = given or (discovered is not None and discovered.is_named(from_.embeddings.superclass_names))
    if config.groups == "discovered" or table is not None:
        them = described(table, names if theirs else None)
        say(f"subclasses {them}{'; to see them: thanos discover' if table is None else ''}")
    make(from_, where, facts, config, table, discovered, for_these=theirs, names=names if given else None)


def _keep(outcome: "Outcome", embeddings: "Embeddings", file: Path) -> None:
    from thanos.robust.head import write_head

    write_head(replace(outcome.robust.head, encoder=embeddings.encoder), embeddings.superclass_names, file)


def plain_beside(classifier: Path) -> Path:
    """Where the plain classifier goes that another is held against."""
    return classifier.with_name(f"{classifier.stem}-plain.npz")


def make(
    source: Source,
    out: Path,
    facts: Path,
    config: RobustConfig,
    table: Path | None,
    discovered: "Discovered | None",
    *,
    for_these: bool = False,
    names: Path | None = None,
) -> None:
    """Fit the method and the plain head beside it; write the head (.npz) and the scores of both (.json)."""
    from thanos.data.group_table import mark_of
    from thanos.embeddings import marks_of
    from thanos.robust.stage import beside_plain, gain

    embeddings, plain = source.embeddings, plain_beside(out) if config.method != "erm" else None
    say(f"{config.method}: heads on {len(embeddings):,} embeddings, seconds to minutes")
    outcome, beside = beside_plain(embeddings, config, discovered, for_these=for_these)
    found, selection = gain(outcome, beside), outcome.robust.selection
    for line in (*chosen_lines(config, selection), *robust_lines(outcome, beside, config.method)):
        say(line)
    if unseen := embeddings.groups_outside("test"):
        say(f"not scored, for want of a test image: {', '.join(unseen)}")
    scores = {
        "command": command(),
        "names": None if names is None else str(names),
        "settings": config.model_dump(mode="json") | outcome.robust.settings,
        "selection": selection,
        "subclasses": mark_of(table),
        "marks": {} if discovered is None else discovered.marks,
        "of": marks_of(embeddings),
        "scores": outcome.scores.to_dict(),
        "gain": found.to_dict(),
        "plain": {
            "settings": beside.robust.settings,
            "selection": beside.robust.selection,
            "scores": beside.scores.to_dict(),
        },
    }
    with alone(out):  # the scores are to be of that classifier
        _keep(outcome, embeddings, out)
        if plain is not None:
            _keep(beside, embeddings, plain)
        write_marked_json(facts, scores)
    source.list_skipped(out)
    say(f"classifier: {out} · scores: {facts}")
    lines = next_lines(outcome, source, out, table, names, for_these=for_these)
    if plain is not None:
        lines = [gain_line(found, str(plain)), *changes_lines(outcome.scores, beside.scores), *lines]
    for line in lines:
        say(line)
