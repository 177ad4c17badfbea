"""Damaged files: each is a fault that is told, or has the pixels that Pillow reads in it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from thanos.cli import run_command
from thanos.config import DataConfig
from thanos.data.load import load_together
from thanos.errors import DataError

FORMS = {"JPEG": "jpg", "PNG": "png", "TIFF": "tiff", "WEBP": "webp", "GIF": "gif"}
COUNT = 2000
SIDE = 16


def mutated(rng, form):
    """A picture's bytes with some of them changed, cut, doubled or taken out."""
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(buffer, form)
    content = bytearray(buffer.getvalue())
    kind = rng.integers(0, 5)
    place = int(rng.integers(0, len(content)))
    if kind == 0:  # single bits
        for _ in range(int(rng.integers(1, 9))):
            content[int(rng.integers(0, len(content)))] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1:  # in the header, where sizes stand
        for _ in range(int(rng.integers(1, 5))):
            content[int(rng.integers(0, min(64, len(content))))] = int(rng.integers(0, 256))
    elif kind == 2:
        del content[place:]
    elif kind == 3:
        content[place:place] = rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8).tobytes()
    else:
        del content[place : place + int(rng.integers(1, 40))]
    return bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("mutated")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        form = list(FORMS)[i % len(FORMS)]
        path = home / "set" / ("cats", "dogs")[i % 2] / f"{i:04d}.{FORMS[form]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutated(rng, form))
    return home


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    monkeypatch.setenv("THANOS_CACHE", str(folder / "cache"))


def pillow_reads(path):
    """The pixels of the first frame, upright, on white, in RGB; of this size only."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        return np.asarray(upright.convert("RGB")) if upright.size == (SIDE, SIDE) else None


def test_every_file_is_a_fault_or_as_pillow_reads_it(folder):
    config = DataConfig(data=str(folder / "set"), size=SIDE, skip_bad=True)
    images, _ = load_together(config)
    assert len(images) + len(images.skipped) == COUNT
    assert all("\n" not in why and why for _, why in images.skipped)
    assert 0.2 * COUNT < len(images) < 0.8 * COUNT
    compared = 0
    for i, ref in enumerate(images.refs):
        wanted = pillow_reads(ref)
        if wanted is not None:
            np.testing.assert_array_equal(images.images[np.array([i])][0], wanted, err_msg=ref)
            compared += 1
    assert compared > 0.15 * COUNT


def test_check_and_train_go_through_them(folder, capsys, recwarn):
    with pytest.raises(DataError, match="faults in"):
        run_command(["check", str(folder / "set"), "--size", str(SIDE), "--out", str(folder / "files.csv")])
    run = folder / "run"
    words = ["--data", folder / "set", "--size", SIDE, "--convert", "--skip-bad", "--epochs", 1, "--out", run]
    run_command(["train", *map(str, words), "--train-limit", "64", "--batch", "32"])
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert (run / "model.safetensors").is_file()
    assert len((run / "skipped.csv").read_text().splitlines()) > 0.2 * COUNT
