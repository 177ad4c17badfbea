"""The encoder and the vectors: ONNX, a file of weights, a CSV."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from thanos.data.labels import SPLITS
from thanos.embeddings import Embeddings
from thanos.errors import ThanosError
from thanos.export.extras import check_extra
from thanos.runs.encoder_io import Encoder, save_encoder
from thanos.storage import naming, write_csv

CLOSE = 1e-4
"""The largest difference between an exported model's vectors and ours that passes."""


class FromPixels(nn.Module):
    """An encoder with its normalisation: uint8 images (n, height, width, channels) to vectors (n, dim)."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder.module.cpu().eval()
        self.register_buffer("mean", torch.tensor(encoder.card.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(encoder.card.std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.encoder((images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std)
        return vectors


class FromVectors(nn.Module):
    """An encoder of vectors with its standardisation: float32 vectors (n, channels) to embeddings (n, dim)."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder.module.cpu().eval()
        self.register_buffer("mean", torch.tensor(encoder.card.mean))
        self.register_buffer("std", torch.tensor(encoder.card.std))

    def forward(self, vectors: Tensor) -> Tensor:
        embeddings: Tensor = self.encoder((vectors - self.mean) / self.std)
        return embeddings


def _sample(encoder: Encoder, count: int, rng: torch.Generator) -> Tensor:
    """Random inputs of the kind that an encoder takes."""
    card = encoder.card
    if card.size is None:
        return torch.tensor(card.mean) + torch.tensor(card.std) * torch.randn(count, card.channels, generator=rng)
    return torch.randint(0, 256, (count, *card.size, card.channels), dtype=torch.uint8, generator=rng)


def export_onnx(encoder: Encoder, file: Path) -> float | None:
    """Write a model from ``images`` (uint8, any number, channels last) to ``vectors``.

    Of an encoder of vectors: from ``vectors`` (float32, any number) to ``embeddings``.

    Returns:
        The largest difference from our own vectors on random inputs, run by onnxruntime; None where that is not
        installed.
    Raises:
        ConfigError: without the packages.
        ThanosError: if the exported model gives other vectors.
    """
    check_extra("onnx")
    of_vectors = encoder.card.size is None
    model = (FromVectors if of_vectors else FromPixels)(encoder).eval()
    taken, given = ("vectors", "embeddings") if of_vectors else ("images", "vectors")
    rng = torch.Generator().manual_seed(0)
    images = _sample(encoder, 2, rng)
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=[taken],
        output_names=[given],
        verbose=False,
    )
    assert program is not None
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        program.save(str(file))
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    images = _sample(encoder, 7, rng)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = model(images).numpy()
    apart = float(np.abs(session.run(None, {taken: images.numpy()})[0] - ours).max())
    if apart > CLOSE * max(1.0, float(np.abs(ours).max())):
        file.unlink()
        raise ThanosError(f"the exported model is off by {apart:.2g}; nothing is kept. Please report the encoder.")
    return apart


def export_weights(encoder: Encoder, file: Path) -> None:
    """Weights (.safetensors, one encoder's in timm's own names) and, beside them, the facts needed to use them."""
    save_encoder(encoder, file)


def export_table(embeddings: Embeddings, file: Path) -> None:
    """A CSV: image, superclass, subclass, split, and a column for each dimension."""
    dims = embeddings.vectors.shape[1]
    rows: list[list[str]] = [["image", "superclass", "subclass", "split", *(f"v{k}" for k in range(dims))]]
    names = embeddings.names
    for i, vector in enumerate(embeddings.vectors):
        fine = ""
        if embeddings.subclass is not None and embeddings.subclass[i] >= 0:
            fine = embeddings.subclass_names[embeddings.subclass[i]]
        superclass, split = embeddings.superclass_names[embeddings.superclass[i]], SPLITS[embeddings.split[i]]
        rows.append([names[i], superclass, fine, split, *(f"{value:.6g}" for value in vector.tolist())])
    write_csv(file, rows)
