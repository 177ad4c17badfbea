"""``thanos theory``: The paper's theory as experiments."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from thanos.cli.app import Flat, app, say
from thanos.config import SuggestConfig

theory = App(
    name="theory",
    help="The paper's theory as experiments anyone can run, and a guide to alpha.",
    help_epilogue="""Examples:
  thanos theory
  thanos theory spread
  thanos theory suggest --superclasses 10 --batch 512""",
)
app.command(theory)
TheoryOut = Annotated[Path, Parameter(help="Folder for the numbers (JSON) and pictures (PNG).")]


@theory.default
def all_of_theory(*, out: TheoryOut = Path("runs/theory")) -> None:
    """Run all experiments (spread, invariance, mechanisms): some minutes on two cores."""
    for experiment in (spread, invariance, mechanisms):
        experiment(out=out)


@theory.command(
    help_epilogue="""Examples:
  thanos theory suggest --superclasses 2
  thanos theory suggest --superclasses 10 --batch 512 --temperature 0.5
  thanos theory suggest --superclasses 20 --batch 128 --within-class-cosine 0.8"""
)
def suggest(*, config: Annotated[SuggestConfig, Flat]) -> None:
    """Print the alpha for a wanted degree of spread, and the window outside which superclasses collapse or dissolve."""
    from thanos.methods.suggest import suggestion

    for line in suggestion(config):
        say(line)


@theory.command(
    help_epilogue="""Examples:
  thanos theory spread
  thanos theory spread --full --out results/theory"""
)
def spread(*, out: TheoryOut = Path("runs/theory"), full: bool = False) -> None:
    """How alpha sets the degree of spread: collapse at 0, where it ends, how far points spread, where they dissolve.

    Minimises the library's own loss over free points and compares with the formulas of docs/theory.md. Minutes.

    Parameters
    ----------
    full
        Thresholds for up to 256 images a superclass and finer steps of alpha.
    """
    from thanos.experiments.spread import spread as run

    run(out, say, full=full)
    say(f"numbers and pictures: {out}")


@theory.command(
    help_epilogue="""Examples:
  thanos theory invariance
  thanos theory invariance --out results/theory"""
)
def invariance(*, out: TheoryOut = Path("runs/theory")) -> None:
    """Let images of a superclass exchange embeddings: no contrastive loss notices, an autoencoder does."""
    from thanos.experiments.invariance import invariance as run

    run(out, say)
    say(f"numbers and pictures: {out}")


@theory.command(
    help_epilogue="""Examples:
  thanos theory mechanisms
  thanos theory mechanisms --seeds 10 --out results/theory"""
)
def mechanisms(
    *,
    out: TheoryOut = Path("runs/theory"),
    seeds: Annotated[int, Parameter(validator=Number(gte=2), help="Runs of every condition.")] = 5,
) -> None:
    """What makes subclasses cluster, which no contrastive loss asks for: smoothness, augmentation, the autoencoder.

    Trains small networks at one degree of spread, with each mechanism at several strengths. Minutes.
    """
    from thanos.workers import start_importing

    start_importing()
    from thanos.experiments.mechanisms import mechanisms as run

    run(out, say, seeds=seeds)
    say(f"numbers and pictures: {out}")
