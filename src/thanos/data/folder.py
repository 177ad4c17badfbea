"""A folder of images: [SPLIT/]SUPERCLASS/image, [SPLIT/]SUPERCLASS/SUBCLASS/image, or images alone, to embed."""

from pathlib import Path

from thanos.data.files import SUFFIXES, Listing
from thanos.data.labels import UNLABELLED
from thanos.errors import DataError

_SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def list_folder(folder: Path) -> Listing:
    """Every image below ``folder`` with the labels its place gives it; in a folder of images alone, UNLABELLED.

    Raises:
        DataError: if there is no image, or one lies at a depth that names no superclass.
    """
    folder = folder.resolve()  # images keep their names wherever the command is typed
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}). Lay them out as SUPERCLASS/image or "
            f"SUPERCLASS/SUBCLASS/image."
        )
    parts = [p.relative_to(folder).parts for p in files]
    split = len({p[0] for p in parts}) > 1 and all(p[0].lower() in _SPLIT_FOLDERS for p in parts)
    listing = Listing(name=folder.resolve().name)
    flat = all(len(p) == 1 for p in parts)
    for path, steps in zip(files, parts, strict=True):
        label = (UNLABELLED,) if flat else steps[1:-1] if split else steps[:-1]
        if len(label) not in (1, 2):
            raise DataError(
                f"images lie in SUPERCLASS/ or SUPERCLASS/SUBCLASS/ below {folder}; {'/'.join(steps)} does not. Move "
                f"it, or list the images in a CSV with columns path, superclass."
            )
        listing.add(
            path,
            superclass=label[0],
            subclass=label[1] if len(label) == 2 else "",
            split=_SPLIT_FOLDERS[steps[0].lower()] if split else "",
        )
    return listing
