"""``thanos export``: a run's encoder, vectors, or images with their subclasses, in another program's format."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from thanos import registry
from thanos.cli.app import Of, Out, app, say
from thanos.cli.shared import described, earlier
from thanos.config import SourceConfig
from thanos.errors import ConfigError, OutputError
from thanos.export.extras import check_extra
from thanos.inputs import Source
from thanos.storage import is_writable

if TYPE_CHECKING:
    from thanos.export.handed import Handed
    from thanos.subclasses.fitted import Discovered


@app.command(
    help_epilogue="""Examples:
  thanos export runs/a --to onnx
  thanos export runs/a --to csv --out vectors.csv
  thanos export runs/a --to safetensors --out resnet18-photos.safetensors --weights best
  thanos export runs/a --to fiftyone --out for-fiftyone/
  thanos export runs/a --to folders --link --names subclasses-edited.yaml --out sorted/
  thanos export runs/a --to parquet --out atlas.parquet"""
)
def export(
    source: Path,
    *,
    to: Literal["onnx", "safetensors", "csv", "fiftyone", "coco", "imagefolder", "folders", "parquet"],
    out: Out = None,
    table: Path | None = None,
    names: Path | None = None,
    link: bool = False,
    of: Of = SourceConfig(),
) -> None:
    """Write what a run learned, or its images with their discovered subclasses, for other programs.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file, a timm model's name (with --data), or for all but onnx and
        safetensors also an .npz of embeddings.
    to
        onnx: a model from uint8 images (of a run on vectors: from those) to vectors, normalisation inside; an extra,
        `pip install thanos-repr[onnx]`. safetensors: weights, and the facts needed to use them in a .json. csv: a line
        for each image. With discovered subclasses under your names: fiftyone (FiftyOneImageClassificationDataset), coco
        (COCO's JSON for classification, read by FiftyOne, pycocotools and torchvision), imagefolder (Hugging Face),
        folders (by superclass and subclass), parquet (with vectors, for embedding-atlas and Spotlight).
    out
        The file, or the folder, which must be new. Needed for safetensors, for what holds subclasses, and with --data;
        else by default model.onnx or embeddings.csv (of the best weights: -best) in the run directory.
    table
        Discovered subclasses from an earlier thanos discover; default: those of the run or the .npz.
    names
        A YAML file 'discovered subclass: your name' for that table, or the edits that its page saved
        (subclasses-edited.yaml); default: the file beside the table.
    link
        Make links to the image files instead of copies.
    """
    check_extra(to)  # before any work
    from_ = Source(source, of, say)
    if to not in ("onnx", "safetensors", "csv"):
        say(images(from_, to, _free(out, to), table, names, link=link))
        return
    for name, given in (("--table", table), ("--names", names), ("--link", link)):
        if given:
            raise ConfigError(f"{name} is about images with their subclasses, which --to {to} does not write; drop it.")
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


def _free(out: Path | None, to: str) -> Path:
    """The new file or folder that was named."""
    what = "the .parquet" if to == "parquet" else "the folder"
    if out is None:
        raise ConfigError(f"--out names {what} to write; it is needed here.")
    if (to == "parquet") != (out.suffix == ".parquet"):
        raise ConfigError(f"--to {to} writes a {'.parquet file' if to == 'parquet' else 'folder'}; got --out {out}.")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} is there already. Name another --out, or remove it.")
    if not is_writable(out):
        raise OutputError(f"{out} cannot be written. Name another --out.")
    return out


def images(source: Source, to: str, out: Path, table: Path | None, names: Path | None, *, link: bool) -> str:
    """Write images with their discovered subclasses; says what is there."""
    if link and to == "parquet":
        raise ConfigError("--link is about pictures, which --to parquet does not hold; drop it.")
    asked = table is not None
    table, names = source.discovered(table, names)
    if table is None:
        raise ConfigError(f"--to {to} hands on discovered subclasses, and {source.path} has none: thanos discover")
    from thanos.export.layouts import LAYOUTS

    handed = handed_on(source, earlier(source, table, names, asked=asked))
    if to != "parquet" and not handed.has_pictures:
        raise ConfigError(
            f"--to {to} writes pictures, and {source.path} has none: vectors without the files they are of. --to "
            f"parquet takes vectors."
        )
    LAYOUTS[to](handed, out, link=link)
    kinds = len(set(zip(handed.superclass, handed.subclass, strict=True)))
    source.list_skipped(out)
    return f"{len(handed):,} images in {kinds:,} subclasses {described(table, names)}: {out}"


def handed_on(source: Source, found: "Discovered") -> "Handed":
    """What is known of every image, and where its picture is."""
    from thanos.data.labels import SPLITS
    from thanos.export.handed import Handed

    embeddings = source.embeddings
    refs, shown, fine = embeddings.refs, None, [""] * len(embeddings)
    if embeddings.subclass is not None:
        fine = ["" if number < 0 else embeddings.subclass_names[number] for number in embeddings.subclass]
    if not refs or not all(Path(ref).is_file() for ref in refs):
        shown = source.pictures
        refs = embeddings.names if shown is None else shown.names
    subclass = tuple(found.names[number] for number in found.cluster)
    return Handed(
        names=embeddings.names,
        split=tuple(SPLITS[number] for number in embeddings.split),
        superclass=tuple(embeddings.superclass_names[number] for number in embeddings.superclass),
        subclass=subclass,
        confidence=found.confidence,
        mark=tuple(found.marks.get(name, "") for name in subclass),
        fine_label=tuple(fine),
        vectors=embeddings.vectors,
        files=tuple(Path(ref) if Path(ref).is_file() else None for ref in refs),
        images=None if shown is None else shown.images,
    )


def vectors(source: Source, out: Path) -> str:
    """Write the vectors as a CSV; says what is there."""
    from thanos.export.programs import export_table

    embeddings = source.embeddings
    export_table(embeddings, out)
    return f"{len(embeddings):,} vectors of {embeddings.vectors.shape[1]} dimensions in {out}"


def weights(source: Source, out: Path) -> str:
    """Write the weights in timm's names; says how they are loaded."""
    from thanos.export.programs import export_weights

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
    from thanos.export.programs import export_onnx

    card, apart = source.encoder.card, export_onnx(source.encoder, out)
    checked = "not checked, for onnxruntime is not installed" if apart is None else f"off by {apart:.1g} in onnxruntime"
    if card.size is None:
        return f"{out}: vectors, float32 (n, {card.channels}) -> embeddings (n, {card.dim}); {checked}"
    height, width = card.size
    return f"{out}: images, uint8 (n, {height}, {width}, {card.channels}) -> vectors (n, {card.dim}); {checked}"
