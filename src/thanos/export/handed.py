"""What is handed on of every image: its labels, its discovered subclass, its vector, and the picture itself."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray

from thanos.data.imageset import Images
from thanos.errors import DataError
from thanos.storage import naming

LONGEST = 80
"""Characters of a file's or folder's name that is made of another name."""
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
"""What no file is called on Windows."""


@dataclass(frozen=True)
class Handed:
    """Row i of everything speaks of image i."""

    names: tuple[str, ...]
    """As our tables call the images, (n,)."""
    split: tuple[str, ...]
    superclass: tuple[str, ...]
    subclass: tuple[str, ...]
    """Discovered, as a person named and edited it."""
    confidence: NDArray[np.float64] = field(repr=False)
    """0 to 1, of discovery."""
    mark: tuple[str, ...]
    """What a person marked the subclass as: harmful, look again; or nothing."""
    fine_label: tuple[str, ...]
    """The true subclass; empty where not known."""
    vectors: NDArray[np.float32] = field(repr=False)
    """(n, dim)"""
    files: tuple[Path | None, ...] = field(repr=False)
    """Of the images, (n,); None where an image is no file."""
    images: Images | None = field(repr=False)
    """The pictures, (n, height, width, channel), for those that are no files; None: there are none."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_pictures(self) -> bool:
        return self.images is not None or None not in self.files

    def columns(self, i: int) -> dict[str, str | float]:
        """What is known of an image, by the name it has everywhere; its subclass apart."""
        known: dict[str, str | float] = {"superclass": self.superclass[i]}
        known |= {"mark": self.mark[i]} if self.mark[i] else {}
        known |= {"fine_label": self.fine_label[i]} if self.fine_label[i] else {}
        return known | {
            "confidence": round(float(self.confidence[i]), 4),
            "split": self.split[i],
            "path": self.names[i],
        }


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when it is complete; a failure leaves nothing behind."""
    with naming(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=f".{out.name[:100]}.", dir=out.parent))
        try:
            folder.chmod(0o755)
            yield folder
            folder.rename(out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def put_picture(handed: Handed, i: int, place: Path, *, link: bool) -> Path:
    """The picture of image i at ``place``: its file as it is, copied or linked; a PNG of one that is no file.

    Args:
        handed: With pictures.
        i: Its row.
        place: Without the suffix.
        link: Make a link to the file instead of a copy.
    Returns:
        Where it is, suffix and all.
    Raises:
        DataError: if the file is gone.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if (file := handed.files[i]) is not None:
        there = place.with_name(f"{place.name}{file.suffix.lower()}")
        try:
            if link:
                there.symlink_to(file.resolve(strict=True))
            else:
                shutil.copyfile(file, there)
        except FileNotFoundError:
            raise DataError(f"{file} is gone. Put it back, or discover again without it.") from None
        return there
    from PIL import Image

    assert handed.images is not None
    there = place.with_name(f"{place.name}.png")
    pixels = handed.images[np.array([i])][0]
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(there)
    return there


def picture_names(handed: Handed) -> list[str]:
    """A name of a file for each image, without suffix: its number, and what it was called."""
    digits = len(str(len(handed) - 1))
    return [f"{i:0{digits}d}-{as_file_name(Path(name).stem)}" for i, name in enumerate(handed.names)]


def as_file_name(name: str) -> str:
    """A name that every file system takes, and that leads nowhere else."""
    plain = re.sub(r"[^\w .,+()-]", "_", name)[:LONGEST].strip(" .")
    return f"_{plain}" if not plain or plain.lower().partition(".")[0] in RESERVED else plain


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """A folder for each of some names, no two of them the same even where case does not count."""
    taken: dict[str, str] = {}
    used: set[str] = set()
    for name in dict.fromkeys(names):
        plain, number = as_file_name(name), 1
        while (folder := plain if number == 1 else f"{plain}-{number}").lower() in used:
            number += 1
        used.add(folder.lower())
        taken[name] = folder
    return taken
