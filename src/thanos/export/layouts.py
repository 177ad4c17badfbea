"""Images with their discovered subclasses as other tools read them: folders on disk, and a Parquet table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thanos.data.labels import SPLITS
from thanos.export.extras import check_extra
from thanos.export.handed import Handed, folder_names, new_folder, picture_names, put_picture
from thanos.storage import write_atomically, write_csv, write_json

ROWS = 4096
"""Of a Parquet table that are written at a time."""


def write_fiftyone(handed: Handed, out: Path, *, link: bool) -> None:
    """FiftyOne's ``FiftyOneImageClassificationDataset``: ``data/`` and ``labels.json``.

    The label is the discovered subclass, with its confidence; its attributes are superclass, mark, fine_label,
    split and path. Source: docs.voxel51.com, "FiftyOneImageClassificationDataset".
    """
    with new_folder(out) as folder:
        labels: dict[str, Any] = {}
        for i, name in enumerate(picture_names(handed)):
            put_picture(handed, i, folder / "data" / name, link=link)
            known = handed.columns(i)
            confidence = known.pop("confidence")
            labels[name] = {"label": handed.subclass[i], "confidence": confidence, "attributes": known}
        write_json(folder / "labels.json", {"classes": None, "labels": labels})


def write_coco(handed: Handed, out: Path, *, link: bool) -> None:
    """COCO's JSON for classification: ``data/`` and ``labels.json``, one annotation an image, its box the whole image.

    COCO itself has no layout without boxes. With this one FiftyOne's ``COCODetectionDataset``, pycocotools and
    ``torchvision.datasets.CocoDetection`` read image and class. A category is a discovered subclass, its
    ``supercategory`` the superclass; what else is known of an image stands in its entry.
    """
    from PIL import Image

    with new_folder(out) as folder:
        kinds = sorted(set(zip(handed.superclass, handed.subclass, strict=True)))
        number = {kind: k for k, kind in enumerate(kinds, start=1)}
        images, annotations = [], []
        for i, name in enumerate(picture_names(handed)):
            file = put_picture(handed, i, folder / "data" / name, link=link)
            with Image.open(file) as picture:
                width, height = picture.size
            images.append({"id": i + 1, "file_name": file.name, "width": width, "height": height} | handed.columns(i))
            annotation = {"id": i + 1, "image_id": i + 1, "bbox": [0, 0, width, height], "area": width * height}
            annotation |= {"category_id": number[handed.superclass[i], handed.subclass[i]], "iscrowd": 0}
            annotations.append(annotation)
        categories = [{"id": number[kind], "name": kind[1], "supercategory": kind[0]} for kind in kinds]
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
        write_json(folder / "labels.json", content)


def write_imagefolder(handed: Handed, out: Path, *, link: bool) -> None:
    """Hugging Face's image folder: ``train/``, ``validation/``, ``test/`` with images and a ``metadata.csv`` each.

    Files are called by numbers, for a word like ``test`` in a name would count as a split. Cells that a spreadsheet
    would take for formulas have an apostrophe before them. Source: huggingface.co/docs/datasets, "ImageFolder".
    """
    columns = ("file_name", "superclass", "subclass", "confidence", "mark", "fine_label", "path")
    with new_folder(out) as folder:
        for split in SPLITS:
            rows: list[tuple[object, ...]] = [columns]
            for i in range(len(handed)):
                if handed.split[i] == split:
                    file = put_picture(handed, i, folder / split / f"{i:08d}", link=link)
                    known = {"mark": "", "fine_label": ""} | handed.columns(i) | {"subclass": handed.subclass[i]}
                    rows.append((file.name, *(known[name] for name in columns[1:])))
            if len(rows) > 1:
                write_csv(folder / split / "metadata.csv", rows)


def write_folders(handed: Handed, out: Path, *, link: bool) -> None:
    """A folder for each superclass, and in it one for each discovered subclass, with its images."""
    with new_folder(out) as folder:
        tops = folder_names(handed.superclass)
        below = {
            top: folder_names([s for t, s in zip(handed.superclass, handed.subclass, strict=True) if t == top])
            for top in tops
        }
        for i, name in enumerate(picture_names(handed)):
            top, own = handed.superclass[i], handed.subclass[i]
            put_picture(handed, i, folder / tops[top] / below[top][own] / name, link=link)


def write_parquet(handed: Handed, out: Path, *, link: bool) -> None:
    """One table: path, split, superclass, subclass, confidence, mark, fine_label, and ``vector``, a list of float32.

    As ``embedding-atlas FILE --vector vector`` and Spotlight (``spotlight.show(FILE)``) read it; and we.

    Raises:
        ConfigError: without pyarrow.
    """
    check_extra("parquet")
    import pyarrow as pa
    from pyarrow import parquet

    words = ("path", "split", "superclass", "subclass", "mark", "fine_label")
    schema = pa.schema(
        [*((name, pa.string()) for name in words), ("confidence", pa.float64()), ("vector", pa.list_(pa.float32()))]
    )

    def write(file: Any) -> None:
        with parquet.ParquetWriter(file, schema) as writer:
            for start in range(0, len(handed), ROWS):
                rows = slice(start, start + ROWS)
                vectors = handed.vectors[rows]
                ends = pa.array(range(0, vectors.size + 1, vectors.shape[1]), pa.int32())
                columns = [pa.array(getattr(handed, "names" if name == "path" else name)[rows]) for name in words]
                columns += [pa.array(handed.confidence[rows])]
                columns += [pa.ListArray.from_arrays(ends, pa.array(vectors.ravel()))]
                writer.write_table(pa.table(columns, schema=schema))

    write_atomically(out, write)


LAYOUTS: dict[str, Callable[..., None]] = {
    "fiftyone": write_fiftyone,
    "coco": write_coco,
    "imagefolder": write_imagefolder,
    "folders": write_folders,
    "parquet": write_parquet,
}
"""By name; each takes what is handed on, where to, and whether pictures are linked."""
