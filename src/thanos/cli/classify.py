"""``thanos classify``: what a classifier says of images."""

from pathlib import Path

from thanos.cli.app import Judged, Of, Out, app
from thanos.config import SourceConfig
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos classify runs/a --data new-photos/ -o predicted.csv
  thanos classify runs/a --classifier runs/a/robust-jtt.npz --data new-photos/ -o predicted.csv
  thanos classify embeddings.npz --classifier fair.npz"""
)
def classify(
    source: Judged,
    *,
    classifier: Path | None = None,
    out: Out = None,
    of: Of = SourceConfig(),
) -> None:
    """Tell the superclass of images by a classifier that thanos robust (or train) made; writes a CSV.

    Parameters
    ----------
    classifier
        The .npz; default: the run's robust-groupdro.npz, else its classifier.npz.
    out
        A CSV: image, predicted, probability, and the superclass where it is known. Needed with --data; of a run's own
        images by default predicted.csv in the run directory.
    """
    from_ = Source(source, of)
    where = from_.out(out, "predicted", suffix=".csv")
    head = from_.classifier(classifier)
    from thanos.verbs import classify_source

    classify_source(from_, head, where)
