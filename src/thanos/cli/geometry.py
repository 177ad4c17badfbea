"""``thanos geometry``: an embedding's shape."""

from thanos.cli.app import Judged, Of, app
from thanos.config import SourceConfig
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos geometry runs/a
  thanos geometry model.safetensors --data cifar10
  thanos geometry embeddings.npz"""
)
def geometry(
    source: Judged,
    *,
    of: Of = SourceConfig(),
) -> None:
    """Measure an embedding's shape: spread, collapse, separation, alignment, uniformity, clustering of subclasses."""
    from_ = Source(source, of)
    from thanos.verbs import geometry_source

    geometry_source(from_)
