"""``thanos transfer``: a frozen embedding judged on fine labels."""

from pathlib import Path
from typing import Annotated

from thanos.cli.app import Flat, Of, app, say
from thanos.cli.lines import transfer_lines
from thanos.config import SourceConfig, TransferConfig
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos transfer runs/a
  thanos transfer runs/a --probe released
  thanos transfer model.safetensors --data cifar10
  thanos transfer embeddings.npz --neighbours 5
  thanos transfer vectors.npy --labels labels.csv"""
)
def transfer(
    source: Path,
    *,
    config: Annotated[TransferConfig, Flat] = TransferConfig(),
    of: Of = SourceConfig(),
) -> None:
    """Judge a frozen embedding on the fine labels nobody used: linear probe and nearest neighbours.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file or a timm model's name (both with --data), or a file of
        vectors with superclass and subclass (.npz, .npy, .csv, .parquet; or --labels).
    """
    from_ = Source(source, of, say)
    from thanos.evaluate.transfer import evaluate_transfer

    augments = config.probe == "released" and not from_.of_embeddings
    encoder, images = (from_.encoder, from_.images) if augments else (None, None)
    scores = evaluate_transfer(from_.embeddings, config, encoder, images)
    for line in transfer_lines(scores):
        say(line)
    from_.keep("transfer", scores.to_dict())
