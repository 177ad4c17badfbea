"""``thanos geometry``: an embedding's shape."""

from thanos.cli.app import Embedded, Of, app, say
from thanos.cli.lines import geometry_lines
from thanos.config import SourceConfig
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos geometry runs/a
  thanos geometry model.safetensors --data cifar10
  thanos geometry embeddings.npz"""
)
def geometry(
    source: Embedded,
    *,
    of: Of = SourceConfig(),
) -> None:
    """Measure an embedding's shape: spread, collapse, separation, alignment, uniformity, clustering of subclasses."""
    from_ = Source(source, of, say)
    from thanos.evaluate.geometry import evaluate_geometry

    scores = evaluate_geometry(from_.embeddings, from_.two_views()).to_dict()
    part = "test images" if from_.embeddings.in_split("test").any() else "images"
    for line in geometry_lines(scores, part):
        say(line)
    from_.keep("geometry", scores)
