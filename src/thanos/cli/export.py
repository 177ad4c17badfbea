"""``thanos export``: a run's encoder or vectors in another program's format."""

from pathlib import Path
from typing import Literal

from thanos import registry
from thanos.cli.app import Of, Out, app, say
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
        onnx: a model from uint8 images (of a run on vectors: from those) to vectors, normalisation inside; an extra,
        `pip install thanos-repr[onnx]`. safetensors: weights, and the facts needed to use them in a .json. csv: a line
        for each image.
    out
        The file. Needed for safetensors, and with --data; else by default model.onnx or embeddings.csv (of the best
        weights: -best) in the run directory.
    """
    from_ = Source(source, of, say)
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
    say({"csv": vectors, "safetensors": weights, "onnx": onnx}[to](from_, where))


def vectors(source: Source, out: Path) -> str:
    """Write the vectors as a CSV; says what is there."""
    from thanos.export import export_table

    embeddings = source.embeddings
    export_table(embeddings, out)
    return f"{len(embeddings):,} vectors of {embeddings.vectors.shape[1]} dimensions in {out}"


def weights(source: Source, out: Path) -> str:
    """Write the weights in timm's names; says how they are loaded."""
    from thanos.export import export_weights

    encoder = source.encoder
    export_weights(encoder, out)
    one = encoder.card.encoders[0]
    said = f"weights in {out}, facts in {out.with_suffix('.json')}"
    if len(encoder.card.encoders) > 1 or registry.encoder(one) is not None:
        return said
    call = f"{one!r}, num_classes=0, in_chans={encoder.card.channels}, checkpoint_path={str(out)!r}"
    return f"{said}; loads in bare timm: timm.create_model({call})"


def onnx(source: Source, out: Path) -> str:
    """Write the encoder as ONNX; says what it takes and how far it is off."""
    from thanos.export import export_onnx

    card, apart = source.encoder.card, export_onnx(source.encoder, out)
    checked = "not checked, for onnxruntime is not installed" if apart is None else f"off by {apart:.1g} in onnxruntime"
    if card.size is None:
        return f"{out}: vectors, float32 (n, {card.channels}) -> embeddings (n, {card.dim}); {checked}"
    height, width = card.size
    return f"{out}: images, uint8 (n, {height}, {width}, {card.channels}) -> vectors (n, {card.dim}); {checked}"
