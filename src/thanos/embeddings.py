"""Embeddings: the vectors, the labels known for them, and where they came from; one .npz file, ours or anyone's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.labels import SPLITS, UNKNOWN, Labels, ids_of, split_ids
from thanos.data.samples import Samples
from thanos.data.vectors import VectorSet
from thanos.errors import DataError
from thanos.storage import names_in, read_npz, write_npz

if TYPE_CHECKING:
    from thanos.runs.encoder_io import Encoder

ORDINARY = 40
"""Largest entries between 2 to the minus this and 2 to this are left as they are."""


@dataclass(frozen=True, kw_only=True)
class Embeddings(Labels):
    """Vectors with the labels known for them."""

    vectors: NDArray[np.float32] = field(repr=False)
    """(n, dim)"""
    fingerprint: str = ""
    """Of the images."""
    encoder: str = ""
    """The fingerprint of the encoder that made the vectors; empty: not known."""
    parts: tuple[int, ...] = ()
    """Where a backbone's features stand beside a head's embedding: how many numbers each of the two has; else empty."""

    @property
    def columns(self) -> dict[str, tuple[int, int]]:
        """The parts by name: from which number of a vector to which."""
        if not self.parts:
            return {}
        features = self.parts[0]
        return {"features": (0, features), "head": (features, self.vectors.shape[1])}

    @property
    def space(self) -> str:
        """The mark of the vectors' space: the encoder's, or where that is not known that of these very vectors."""
        if self.encoder:
            return self.encoder
        return f"vectors {blake2b(np.ascontiguousarray(self.vectors).data, digest_size=16).hexdigest()}"

    def taken(self, rows: NDArray[Any]) -> dict[str, Any]:
        return super().taken(rows) | {"vectors": self.vectors[rows]}


def embed(encoder: "Encoder", images: Samples, *, batch: int = 512) -> Embeddings:
    """The encoder's output for every image (or vector), without augmentation.

    Args:
        encoder: From :func:`thanos.load_encoder`.
        images: Any labelled images of the encoder's size and channels, or vectors of its width.
        batch: Images at a time.
    Raises:
        DataError: if the images have another size or other channels than the encoder takes, or a vector is not finite.
    """
    vectors = encoder.embed(images, batch=batch)
    if not np.isfinite(vectors).all():
        raise DataError(
            f"the encoder gives vectors that are not finite ({encoder.card.method}, image "
            f"{int((~np.isfinite(vectors).all(axis=1)).argmax())}): its weights are damaged, or its training diverged."
        )
    found = replace(labelled(vectors, images, encoder.fingerprint), parts=encoder.parts)
    seen_all = encoder.trained_on(images) and found.unseen is None
    return replace(found, unseen=np.zeros(len(found), dtype=bool)) if seen_all else found


def labelled(vectors: NDArray[np.float32], images: Samples, encoder: str = "") -> Embeddings:
    """Vectors (n, dim), row i of image i, with what is known of the images; ``encoder``: the fingerprint of theirs."""
    return Embeddings(vectors=vectors, fingerprint=images.fingerprint, encoder=encoder, **images.labels())


def marks_of(embeddings: Embeddings) -> dict[str, str]:
    """What is made of embeddings bears these, and is held against them."""
    return {"images": embeddings.fingerprint, "encoder": embeddings.encoder}


def check_same_images(embeddings: Embeddings, images: Samples) -> None:
    """Raise DataError if row i of the embeddings is not of image i: pictures would stand beside others' numbers."""
    if len(embeddings) != len(images) or embeddings.fingerprint not in ("", images.fingerprint):
        raise DataError(
            f"these embeddings are of other images than {images.name} (fingerprint {embeddings.fingerprint[:8]} there, "
            f"{images.fingerprint[:8]} here). Embed these images."
        )


def ordinary_size(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same directions at lengths whose squares neither overflow nor vanish.

    Each row is multiplied by the power of two that brings its largest entry to between 1/2 and 1, which rounds
    nothing: what is computed from directions alone comes out bit for bit as before wherever that did not overflow.
    """
    _, exponent = np.frexp(np.abs(vectors).max(axis=1, initial=0.0, keepdims=True))
    return np.asarray(np.ldexp(vectors, -exponent))


def one_size(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, all of them shorter or longer by one power of two where their squares would overflow or vanish."""
    _, exponent = np.frexp(np.abs(vectors).max(initial=0.0))
    return np.ldexp(vectors, -exponent) if abs(exponent) > ORDINARY else vectors


def concat_embeddings(*parts: Embeddings) -> Embeddings:
    """Embeddings of the same images by several encoders, concatenated; each of mean length one on training images."""
    if len({p.fingerprint for p in parts}) > 1:
        raise DataError("embeddings stand side by side only for the same images; these come from different ones.")
    parts = tuple(replace(p, vectors=one_size(p.vectors)) for p in parts)
    scaled = [p.vectors / np.linalg.norm(p.split_or_all("train").vectors, axis=1).mean() for p in parts]
    encoder = "+".join(p.encoder for p in parts) if all(p.encoder for p in parts) else ""
    return replace(parts[0], vectors=np.concatenate(scaled, axis=1), encoder=encoder, parts=())


def encoder_fingerprint(weights: bytes, facts: bytes) -> str:
    """Of an encoder's weights (the bytes of a .safetensors) and the facts beside them (those of its .json).

    The same in whatever order tensors and facts were written.

    Raises:
        ValueError, KeyError, TypeError: if they are none.
    """
    start = 8 + int.from_bytes(weights[:8], "little")
    tensors, data = json.loads(weights[8:start]), memoryview(weights)[start:]
    digest = blake2b(json.dumps(json.loads(facts), sort_keys=True).encode(), digest_size=16)
    for name in sorted(set(tensors) - {"__metadata__"}):
        kind, shape, (first, last) = (tensors[name][key] for key in ("dtype", "shape", "data_offsets"))
        digest.update(repr((name, kind, shape)).encode())
        digest.update(data[first:last])
    return digest.hexdigest()


MARK = "thanos"
"""Under which a .safetensors keeps the fingerprint that it was written with."""


def kept_fingerprint(weights: Path) -> str:
    """That of a .safetensors file and the .json beside it; empty where they are not both there.

    Raises:
        DataError: if they are damaged, or not as they were written.
    """
    facts = weights.with_suffix(".json")
    if not (weights.is_file() and facts.is_file()):
        return ""
    try:
        content = weights.read_bytes()
        found = encoder_fingerprint(content, facts.read_bytes())
        mark = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {}).get(MARK)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        mark = found = ""
    if not found or mark not in (None, found):
        raise DataError(
            f"{weights}, or its .json beside it, is not as it was written. Bring back copies of both, or train again."
        )
    return found


def write_embeddings(embeddings: Embeddings, path: Path | str, more: Mapping[str, NDArray[Any]] | None = None) -> None:
    """One compressed .npz: ``vectors``, integer labels with ``*_names``, ``split``, ``refs``; numpy alone reads it.

    Args:
        embeddings: What is written.
        path: The file.
        more: Further arrays, one entry an image each or names of ids.
    """
    named = {each.name: getattr(embeddings, each.name) for each in fields(embeddings)} | dict(more or {})
    arrays = {name: value for name, value in named.items() if value is not None and name != "parts"}
    if embeddings.parts:
        arrays["parts"] = np.array(embeddings.parts, dtype=np.int64)
    arrays = {
        name: np.array(value, dtype=str) if isinstance(value, (tuple, str)) else value for name, value in arrays.items()
    }
    write_npz(Path(path), arrays)


def read_embeddings(path: Path | str) -> Embeddings:
    """A .npz made by :func:`write_embeddings`, or by anyone with ``vectors`` (n, dim) and ``superclass`` (n,).

    ``superclass``, ``subclass`` and ``group`` may be integers or names; ``split`` holds ids or names of train,
    validation, test (default: all train). Other arrays are ignored.

    Raises:
        DataError: if the file cannot be read, an array is missing, lengths differ, or vectors are not finite.
    """
    path = Path(path)
    arrays = read_npz(path)
    for name in ("vectors", "superclass"):
        if name not in arrays:
            raise DataError(f"{path} needs an array {name!r}; it has {', '.join(arrays) or 'none'}. Add it.")
    if not np.issubdtype(arrays["vectors"].dtype, np.number):
        raise DataError(f"vectors are numbers; {path} has {arrays['vectors'].dtype}.")
    vectors = np.asarray(arrays["vectors"], dtype=np.float32)
    if vectors.ndim != 2 or not len(vectors):
        raise DataError(f"vectors have shape (images, dimensions); {path} has {vectors.shape}.")
    if not np.isfinite(vectors).all():
        row = int((~np.isfinite(vectors).all(axis=1)).argmax())
        raise DataError(f"vectors are finite numbers; row {row} of {path} is not. Remove or mend such rows.")
    for name in ("superclass", "subclass", "group", "split", "unseen", "refs"):
        shape = arrays[name].shape if name in arrays else (len(vectors),)
        if shape != (len(vectors),) and not (name == "refs" and shape == (0,)):
            raise DataError(f"{name} has one entry for each of the {len(vectors)} vectors; {path} has shape {shape}.")
    superclass, superclass_names = _labels(arrays, "superclass", path)
    subclass, subclass_names = _labels(arrays, "subclass", path)
    group, group_names = _labels(arrays, "group", path)
    assert superclass is not None
    if (superclass < 0).any():
        raise DataError(f"every embedding needs a superclass; row {int((superclass < 0).argmax())} of {path} has none.")
    return Embeddings(
        vectors=vectors,
        superclass=superclass,
        superclass_names=superclass_names,
        split=_splits(arrays.get("split"), len(vectors), path),
        subclass=subclass,
        subclass_names=subclass_names,
        group=group,
        group_names=group_names,
        unseen=arrays["unseen"].astype(bool) if "unseen" in arrays else None,
        refs=tuple(str(r) for r in arrays.get("refs", ())),
        fingerprint=str(arrays.get("fingerprint", "")),
        encoder=str(arrays.get("encoder", "")),
        parts=_parts(arrays.get("parts"), vectors, path),
    )


def embeddings_of(vectors: Samples) -> Embeddings:
    """Anyone's vectors as embeddings, with their labels and splits."""
    assert isinstance(vectors, VectorSet)
    return labelled(vectors.vectors, vectors)


def is_written_by_us(file: Path) -> bool:
    """Whether an .npz has the arrays that :func:`read_embeddings` takes, under our names."""
    return file.suffix == ".npz" and {"vectors", "superclass"} <= names_in(file)


def _parts(values: NDArray[Any] | None, vectors: NDArray[np.float32], path: Path) -> tuple[int, ...]:
    if values is None:
        return ()
    widths = tuple(int(width) for width in values) if np.issubdtype(values.dtype, np.integer) else ()
    if len(widths) != 2 or min(widths) < 1 or sum(widths) != vectors.shape[1]:
        raise DataError(f"parts says how {vectors.shape[1]} numbers are two parts; {path} has {values.tolist()}.")
    return widths


def is_embeddings(file: Path) -> bool:
    """Whether it holds embeddings with the mark of the images that they are of."""
    try:
        return read_embeddings(file).fingerprint != ""
    except DataError:
        return False


def _labels(arrays: dict[str, NDArray[Any]], name: str, path: Path) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Ids with their names; negative ids, empty names and NaN are unknown."""
    values = arrays.get(name)
    if values is None:
        return None, ()
    if np.issubdtype(values.dtype, np.floating):
        whole = np.where(np.isnan(values), UNKNOWN, values)
        if not (whole == np.round(whole)).all():
            raise DataError(f"{name} holds ids (integers) or names; {path} has numbers like {values[0]}.")
        values = whole.astype(np.int64)
    if not np.issubdtype(values.dtype, np.integer):
        return ids_of(["" if str(v).lower() == "nan" else str(v) for v in values])
    names = arrays.get(f"{name}_names")
    if names is None:
        known = tuple(str(v) for v in np.unique(values[values >= 0]))
        return ids_of(["" if v < 0 else str(v) for v in values], known)
    if names.ndim != 1 or len(set(names.tolist())) < len(names):
        raise DataError(f"{name}_names has a name of its own for each id; that of {path} has {names.tolist()[:3]}.")
    if values.max(initial=-1) >= len(names):
        raise DataError(f"{name} has the id {values.max()}, but {name}_names of {path} names {len(names)}.")
    return values.astype(np.int64), tuple(str(n) for n in names)


def _splits(values: NDArray[Any] | None, count: int, path: Path) -> NDArray[np.int8]:
    if values is None:
        return np.zeros(count, dtype=np.int8)
    if np.issubdtype(values.dtype, np.integer) and set(np.unique(values)) <= {0, 1, 2}:
        return values.astype(np.int8)
    names = ["validation" if v == "val" else str(v) for v in values]
    unknown = sorted(set(names) - set(SPLITS))
    if unknown:
        raise DataError(f"split is train, validation or test; {path} has {unknown[0]!r}.")
    return split_ids(names)
