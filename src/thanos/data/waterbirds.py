"""Build Waterbirds: birds of CUB-200-2011, cut out by their masks, in front of land and water of Places.

Source of the recipe: Sagawa et al., ICLR 2020. Two things are done otherwise: everything follows a seed, and a species
is a waterbird by its last word, not by any part of its name ("tern" is also in western meadowlark and eastern towhee).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thanos.data.draw import draw_stratified
from thanos.data.labels import SPLITS
from thanos.data.walk import SUFFIXES
from thanos.errors import DataError, OutputError
from thanos.storage import naming, write_json, write_text

WATERBIRDS = {
    "albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gull", "jaeger", "kittiwake", "pelican", "puffin",
    "tern", "gadwall", "grebe", "mallard", "merganser", "guillemot", "loon",
}  # fmt: skip
"""Last words of the seabirds' and waterfowl's names."""
LAND, WATER = ("bamboo_forest", "forest/broadleaf"), ("ocean", "lake/natural")
"""Places' categories."""
AGREEMENT = (0.95, 0.5, 0.5)
"""Share of birds in front of their own kind of place: training, validation, test."""
VALIDATION = 0.2
NAME = "waterbird_complete95_forest2water2"
BUILT = "built.json"
"""Says in a folder that it was built here, and how many images its groups have."""


def build_waterbirds(cub: Path, masks: Path, places: Path, out: Path, *, seed: int, say: Callable[[str], None]) -> Path:
    """Write ``OUT/waterbird_complete95_forest2water2`` with images and metadata.csv.

    Args:
        cub: CUB_200_2011, with images.txt, train_test_split.txt and images/.
        masks: CUB's segmentations, CLASS/NAME.png.
        places: Places365 at full size (data_large), or any folder that holds its four categories.
        out: The data folder.
        seed: Of the split, the places and their order.
        say: Receives progress.
    Raises:
        DataError: if something is missing or too few places are there; nothing has been written then.
        OutputError: if the folder exists.
    """
    folder = out / NAME
    if folder.exists():
        raise OutputError(f"{folder} is there already. Remove it, or name another `out`.")
    birds, in_training = _birds(cub, masks)
    rng = np.random.default_rng(seed)
    label = np.array([_is_waterbird(path) for path in birds], dtype=np.int64)
    split = np.where(in_training, 0, 2)
    train = np.flatnonzero(in_training)
    split[draw_stratified(train, label, round(VALIDATION * len(train)), rng)] = 1
    place = _places(label, split, rng)
    backgrounds = [_backgrounds(places, kinds, int((place == k).sum()), rng) for k, kinds in enumerate((LAND, WATER))]
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for i, path in enumerate(birds):
        background = backgrounds[place[i]].pop()
        target = folder / path
        pasted = _paste(cub / "images" / path, masks / path.with_suffix(".png"), background)
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            pasted.save(target, quality=95)
        where = background.relative_to(places).as_posix()
        lines.append(f"{i + 1},{path.as_posix()},{label[i]},{split[i]},{place[i]},{where}")
        if (i + 1) % 1000 == 0:
            say(f"{i + 1:,} of {len(birds):,} birds pasted")
    group = 2 * label + place
    counts = {name: np.bincount(group[split == k], minlength=4).tolist() for k, name in enumerate(SPLITS)}
    write_json(folder / BUILT, {"seed": seed, "counts": counts})
    write_text(folder / "metadata.csv", "\n".join(lines) + "\n")  # last: it marks the set as whole
    return folder


def _birds(cub: Path, masks: Path) -> tuple[list[Path], NDArray[np.bool_]]:
    """Every image of CUB, relative to its images/, and whether it is for training."""
    for needed in (cub / "images.txt", cub / "train_test_split.txt", cub / "images", masks):
        if not needed.exists():
            raise DataError(
                f"CUB-200-2011 and its segmentations are needed; {needed} does not exist. Mend `cub`, `masks`."
            )
    listed = [line.split() for line in (cub / "images.txt").read_text("utf-8").splitlines() if line.strip()]
    splits = dict(
        line.split() for line in (cub / "train_test_split.txt").read_text("utf-8").splitlines() if line.strip()
    )
    birds = [Path(path) for _, path in listed]
    for path in birds:
        for file in (cub / "images" / path, masks / path.with_suffix(".png")):
            if not file.is_file():
                raise DataError(f"CUB's images.txt lists {path}; {file} does not exist. Fetch it again.")
    return birds, np.array([splits[number] == "1" for number, _ in listed])


def _is_waterbird(path: Path) -> bool:
    """From ``001.Black_footed_Albatross/...``."""
    return path.parent.name.split(".")[-1].split("_")[-1].lower() in WATERBIRDS


def _places(label: NDArray[np.int64], split: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """0 land, 1 water for each bird: its own kind with the split's share."""
    place = label.copy()
    for number, share in enumerate(AGREEMENT):
        for bird in (0, 1):
            mine = rng.permutation(np.flatnonzero((split == number) & (label == bird)))
            against = mine[: round((1 - share) * len(mine))]
            place[against] = 1 - bird
    return place


def _backgrounds(places: Path, kinds: tuple[str, ...], count: int, rng: np.random.Generator) -> list[Path]:
    """``count`` different images of these categories, shuffled."""
    found: list[Path] = []
    for kind in kinds:
        homes = [places / kind, places / kind[0] / kind]
        home = next((home for home in homes if home.is_dir()), None)
        if home is None:
            raise DataError(
                f"Places' category {kind} is needed; neither {homes[0]} nor {homes[1]} exists. Mend `places`."
            )
        found += sorted(p for p in home.iterdir() if p.suffix.lower() in SUFFIXES)
    if len(found) < count:
        raise DataError(
            f"{count} images of {' and '.join(kinds)} are needed; {places} has {len(found)}. Fetch them all."
        )
    return [found[i] for i in rng.permutation(len(found))[:count]]


def _paste(bird: Path, mask: Path, background: Path) -> Image.Image:
    """The bird where its mask is white; the place, cut to the bird's shape and size, elsewhere."""
    with Image.open(bird) as opened, Image.open(mask) as drawn, Image.open(background) as behind:
        picture = opened.convert("RGB")
        share = np.asarray(drawn.convert("L").resize(picture.size), dtype=np.float64)[..., None] / 255
        scale = max(picture.width / behind.width, picture.height / behind.height)
        wide = (max(picture.width, round(behind.width * scale)), max(picture.height, round(behind.height * scale)))
        place = behind.convert("RGB").resize(wide, Image.Resampling.LANCZOS)
        left, top = (place.width - picture.width) // 2, (place.height - picture.height) // 2
        place = place.crop((left, top, left + picture.width, top + picture.height))
        mixed = share * np.asarray(picture, dtype=np.float64) + (1 - share) * np.asarray(place, dtype=np.float64)
    return Image.fromarray(mixed.round().astype(np.uint8))
