"""What a page costs: bytes with photographs; in headless Chromium the first paint and panning of 100,000 points.

    python benchmarks/page.py --photos FOLDER --out results/page.json

Needs Chromium and playwright. Vectors are clouds around 40 centres in 64 dimensions; photographs (any .jpg below
the folder, 5,000 at most, at 96 pixels) stand beside such vectors as well, for the page does not ask.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from thanos.config import ViewSpec
from thanos.data.imageset import ImageSet
from thanos.embeddings import Embeddings
from thanos.report.discover_page import write_discover_page
from thanos.report.thumbnails import embedded, folder_of, linked
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.subclasses.fitted import Discovered

CENTRES, SUPERCLASSES, SIDE = 40, 4, 96
WINDOW = {"width": 1280, "height": 900}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photographs = of_photographs(arguments.photos, Path(folder))
        points = of_points(arguments.points, Path(folder), arguments.rounds)
    record = {
        "what": "bytes of a page of photographs; a page of many points in headless Chromium, without a GPU",
        "command": f"python benchmarks/page.py --photos FOLDER --points {arguments.points} --rounds {arguments.rounds}",
        "photographs": photographs,
        "points": points,
        "window": WINDOW,
        "versions": versions() | {"chromium": points.pop("chromium")},
        "hardware": hardware(),
        "commit": commit(),
    }
    for name, value in (*photographs.items(), *points.items()):
        print(f"{name:<40} {value}")
    if arguments.out is not None:
        write_json(arguments.out, record)


def of_photographs(source: Path, folder: Path) -> dict[str, Any]:
    files = sorted(source.rglob("*.jpg"))[:5000]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB").resize((SIDE, SIDE))) for file in files])
    page, rows = folder / "photographs.html", np.arange(len(files))
    started = time.perf_counter()
    images = write(page, len(files), pixels)
    wrote = time.perf_counter() - started
    linked(images, rows, page)
    return {
        "images": len(files),
        "pixels of an image": SIDE,
        "pixels of a thumbnail": embedded(images, rows)["side"],
        "bytes of the page": page.stat().st_size,
        "seconds to write": round(wrote, 1),
        "bytes beside it where linked": sum(file.stat().st_size for file in folder_of(page).iterdir()),
    }


def of_points(count: int, folder: Path, rounds: int) -> dict[str, Any]:
    page = folder / "points.html"
    started = time.perf_counter()
    write(page, count, None)
    wrote = time.perf_counter() - started
    paints, drawn, frames = [], [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(rounds):
            shown = browser.new_page(viewport=WINDOW)
            shown.goto(page.as_uri())
            first, mark = shown.evaluate(
                "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
                " performance.getEntriesByName('map drawn')[0].startTime]"
            )
            paints.append(first)
            drawn.append(mark)
            frames += panned(shown)
            shown.close()
        version = browser.version
        browser.close()
    return {
        "points": count,
        "bytes of the page": page.stat().st_size,
        "seconds to write": round(wrote, 1),
        "first paint, ms": spread(paints),
        "map drawn, ms": spread(drawn),
        "frame while panning, ms": spread(frames),
        "chromium": version,
    }


def panned(shown: Any) -> list[float]:
    """Milliseconds from frame to frame while a pointer drags the map."""
    box = shown.locator("#map").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown.locator("#map").scroll_into_view_if_needed()
    shown.evaluate(
        """() => {
          window.frames_ = []; let last = performance.now(); window.goes = true;
          const frame = now => { frames_.push(now - last); last = now; if (goes) requestAnimationFrame(frame); };
          requestAnimationFrame(frame);
        }"""
    )
    shown.mouse.move(x, y)
    shown.mouse.down()
    for k in range(120):
        shown.mouse.move(x + 150 * np.sin(k / 10), y + 100 * np.cos(k / 7))
    shown.mouse.up()
    return list(shown.evaluate("goes = false, frames_"))[2:]


def spread(values: list[float]) -> dict[str, float]:
    low, median, high = (round(float(each), 1) for each in np.quantile(values, [0.1, 0.5, 0.9]))
    return {"median": median, "low": low, "high": high, "n": len(values)}


def write(page: Path, count: int, pixels: np.ndarray | None) -> ImageSet | None:
    """A page of clouds around centres; returns its images."""
    rng = np.random.default_rng(0)
    kind = np.arange(count) % CENTRES
    vectors = (rng.normal(size=(CENTRES, 64))[kind] + 0.6 * rng.normal(size=(count, 64))).astype(np.float32)
    superclass = kind % SUPERCLASSES
    names = tuple(f"superclass {k}" for k in range(SUPERCLASSES))
    labels: dict[str, Any] = {
        "superclass": superclass,
        "superclass_names": names,
        "split": np.zeros(count, dtype=np.int8),
        "refs": tuple(f"photos/{names[superclass[i]]}/{i:06d}.jpg" for i in range(count)),
    }
    embeddings = Embeddings(vectors=vectors, **labels)
    images = None if pixels is None else ImageSet(images=pixels, views=ViewSpec(), name="photos", **labels)
    called = tuple(f"{names[k % SUPERCLASSES]}/{k // SUPERCLASSES}" for k in range(CENTRES))
    facts = {name: {"clusters": CENTRES // SUPERCLASSES, "images": count // SUPERCLASSES} for name in names}
    found = Discovered(kind, called, rng.random(count), rng.random(count), facts)
    given: dict[str, Any] = {"errors": None, "training": None, "scores": {}}
    write_discover_page(page, embeddings, found, of="photos", again="photos", images=images, **given)
    return images


if __name__ == "__main__":
    main()
