"""Features of images by a backbone that is not trained: of each image and of augmented views of it, once for all.

They are kept in the cache under what they depend on (pixels, weights, normalisation, views), block by block, so that a
pass that was stopped goes on where it stood.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, nn

from thanos.config import ViewSpec
from thanos.data.cache import cache_folder, check_room, claimed, mapped
from thanos.data.imageset import ImageSet
from thanos.encoders.folded import folded
from thanos.encoders.zoo import dimension
from thanos.storage import write_text
from thanos.storage.locks import alone
from thanos.views import clean_view, random_views

BLOCK = 64
"""Images whose features are made, and noted as made, together."""
AT_ONCE = 16
"""Images that go through the network together on a CPU: more would not stay in its caches."""
EVERY = 5.0
"""Seconds, at least, between two notes, and between two lines, of how far the pass is."""
VERSION = 2
"""Raised when features come to be made otherwise."""


@dataclass(frozen=True)
class Pass:
    """What the features are of."""

    backbone: nn.Module
    """From normalised images (batch, channel, height, width) to features (batch, dim)."""
    mean: Sequence[float]
    std: Sequence[float]
    views: ViewSpec | None
    """How views are drawn; None: none are."""
    count: int = 0
    """Views of each image."""

    def key(self, images: ImageSet) -> str:
        """Of all that the features of these images depend on."""
        digest = blake2b(digest_size=16)
        for name, value in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        facts = (VERSION, images.pixels, images.size, tuple(self.mean), tuple(self.std), self.count)
        digest.update(
            repr((facts, self.views.model_dump() if self.views is not None and self.count else None)).encode()
        )
        return digest.hexdigest()


def frozen_features(wanted: Pass, images: ImageSet, say: Callable[[str], None]) -> NDArray[np.float32]:
    """Features of all images, made now or long ago.

    Args:
        wanted: The backbone, and the views that are wanted.
        images: Of the size that the backbone takes.
        say: Receives how far the pass is, and how long it still takes.
    Returns:
        A read-only memory map, (n, 1 + views, dim): of the image itself, then of its views.
    Raises:
        DataError: if the disk has too little room; nothing has been written then.
        OutputError: if the cache cannot be written.
    """
    folder, key = cache_folder() / "features", wanted.key(images)
    done = folder / f"{key}.npy"
    shape = (len(images), 1 + wanted.count, dimension(wanted.backbone))
    if (kept := mapped(done, np.float32, shape)) is not None:
        return kept
    check_room(folder, 4 * int(np.prod(shape)), "features")
    with alone(done):  # another process may be at it
        if mapped(done, np.float32, shape) is None:
            _make(wanted, images, folder / key, shape, say)
    made: NDArray[np.float32] = np.load(done, mmap_mode="r")
    return made


def _make(wanted: Pass, images: ImageSet, entry: Path, shape: tuple[int, ...], say: Callable[[str], None]) -> None:
    """Block by block into a file of another name, which takes its own when it is whole."""
    part, note = entry.with_name(f"{entry.name}.part"), entry.with_name(f"{entry.name}.json")
    begun = _noted(note, shape) if mapped(part, np.float32, shape) is not None else 0
    array = claimed(part, entry, np.float32, shape, begun=bool(begun))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = ready(wanted.backbone, images, device)
    blocks = range(begun, -(-len(images) // BLOCK))
    started = noted = said = time.monotonic()
    for block in blocks:
        rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(images)))
        array[rows] = _of_block(wanted, backbone, images, rows, block, device)
        now = time.monotonic()
        if now - noted > EVERY or block == blocks[-1]:
            array.flush()
            write_text(note, json.dumps({"shape": shape, "blocks": block + 1}))
            noted = now
        if block == blocks[-1] or (_crosses_a_third(block, len(blocks) + begun) and now - said > EVERY):
            said = now
            left = (now - started) / (block + 1 - begun) * (blocks[-1] - block)
            say(f"features of {rows[-1] + 1:,} of {len(images):,} images · {left:,.0f} s left")
    del array
    part.rename(entry.with_name(f"{entry.name}.npy"))
    note.unlink(missing_ok=True)


def ready(backbone: nn.Module, images: ImageSet, device: str) -> nn.Module:
    """The backbone as it is quickest."""
    sample = torch.randn(2, images.channels, *images.size, generator=Generator().manual_seed(0)).to(device)
    backbone = backbone.to(device).eval()
    return folded(backbone, sample).to(memory_format=torch.channels_last)


def _crosses_a_third(block: int, count: int) -> bool:
    """Whether a third of the blocks, or two, are done with this one."""
    return (block + 1) * 3 // count > block * 3 // count


def _noted(note: Path, shape: tuple[int, ...]) -> int:
    """How many blocks an earlier pass has made."""
    try:
        content = json.loads(note.read_text("utf-8"))
        noted = int(content["blocks"]) if tuple(content["shape"]) == shape else 0
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0
    return noted if 0 <= noted * BLOCK < shape[0] + BLOCK else 0


def _of_block(
    wanted: Pass, backbone: nn.Module, images: ImageSet, rows: NDArray[np.int64], block: int, device: str
) -> NDArray[np.float32]:
    """Features (rows, 1 + views, dim); views of block k are a function of k alone."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.images[rows])).to(device)
    mean, std = wanted.mean, wanted.std
    inputs = clean_view(pixels, mean=mean, std=std)[None]
    if wanted.views is not None and wanted.count:
        rng = Generator().manual_seed(block)
        views = random_views(pixels, wanted.views, rng, count=wanted.count, mean=mean, std=std)
        inputs = torch.cat([inputs, views])
    with torch.inference_mode():
        batch = inputs.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        found = torch.cat([backbone(each) for each in batch.split(AT_ONCE if device == "cpu" else BLOCK)])
    by_view = found.float().cpu().unflatten(0, (1 + wanted.count, len(rows)))
    return np.asarray(by_view.transpose(0, 1).numpy())
