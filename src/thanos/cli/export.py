"""``thanos export``: a run's encoder or vectors in another program's format."""

from pathlib import Path
from typing import Literal

from thanos.cli.app import Of, Out, app
from thanos.config import SourceConfig
from thanos.errors import ConfigError
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos export runs/a --to onnx
  thanos export runs/a --to csv --out vectors.csv
  thanos export runs/a --to safetensors --out resnet18-photos.safetensors --weights best"""
)
def export(
    source: Path,
    *,
    to: Literal["onnx", "safetensors", "csv"],
    out: Out = None,
    of: Of = SourceConfig(),
) -> None:
    """Write what a run learned for other programs: ONNX (checked), weights in timm's names, vectors as CSV.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file, a timm model's name (with --data), or for --to csv also an
        .npz of embeddings.
    to
        onnx: a model from uint8 images to vectors, normalisation inside; an extra, `pip install thanos-repr[onnx]`.
        safetensors: weights, and the facts needed to use them in a .json. csv: a line for each image.
    out
        The file. Needed for safetensors, and with --data; else by default model.onnx or embeddings.csv (of the best
        weights: -best) in the run directory.
    """
    from_ = Source(source, of)
    if from_.of_embeddings and to != "csv":
        raise ConfigError(f"{source} holds vectors, no encoder; --to csv is what can be made of it.")
    if out is None and to == "safetensors":
        raise ConfigError("--out names the .safetensors to write; it is needed here.")
    if out is not None and out.suffix != f".{to}":
        raise ConfigError(f"--to {to} writes a .{to} file; --out {out} is named otherwise.")
    where = from_.out(out, "embeddings" if to == "csv" else "model", suffix=f".{to}")
    for file in (where, where.with_suffix(".json")) if to == "safetensors" else (where,):
        if file.exists() or file.is_symlink():
            raise ConfigError(f"{file} is there already. Name another --out, or remove it.")
    from thanos.verbs import export_source

    export_source(from_, to, where)
