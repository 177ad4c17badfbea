"""Thumbnails inside a page and beside it: the right ones, as large as there is room; nothing foreign is touched."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from browser import opened
from editing import world
from thanos.cli import main
from thanos.config import ViewSpec
from thanos.data.imageset import ImageSet
from thanos.errors import OutputError
from thanos.report import map, thumbnails
from thanos.report.plane import directions


def images(count, side):
    """Each of one colour."""
    colour = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return ImageSet(
        images=np.broadcast_to(colour, (count, side, side, 3)).copy(),
        views=ViewSpec(),
        name="x",
        superclass=np.zeros(count, dtype=np.int64),
        superclass_names=("a",),
        split=np.zeros(count, dtype=np.int8),
    )


def tile(sheet, made, k):
    """The mean colour of a thumbnail."""
    return pixels(sheet, made, k)[2:-2, 2:-2].mean(axis=(0, 1))


def pixels(sheet, made, k):
    """A thumbnail as the page's script cuts it out."""
    side, cell = made["side"], made["side"] + 2 * made["edge"]
    left, top = (place * cell + made["edge"] for place in (k % made["columns"], k // made["columns"]))
    return np.asarray(sheet)[top : top + side, left : left + side].astype(float)


@pytest.mark.parametrize(("side", "shown"), [(8, 8), (48, 48), (64, 64), (100, 64)])
def test_thumbnails_are_of_64_pixels_where_images_have_them(tmp_path, side, shown):
    some, rows = images(30, side), np.arange(30)
    for made in (thumbnails.embedded(some, rows), thumbnails.linked(some, rows, tmp_path / "page.html")):
        assert made["side"] == shown


def test_each_image_has_its_own(tmp_path):
    some, rows = images(900, 16), np.arange(900)
    made = thumbnails.embedded(some, rows)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["sheets"][0].partition(",")[2]))))
    for k in rows:
        assert np.abs(tile(sheet, made, k) - some.images[k].mean(axis=(0, 1))).max() < 12
    made = thumbnails.linked(some, rows, tmp_path / "page.html")
    assert len(made["sheets"]) == 3
    sheets = [np.asarray(Image.open(tmp_path / name)) for name in made["sheets"]]
    for k in rows:
        sheet = sheets[k // made["each"]]
        assert np.abs(tile(sheet, made, k % made["each"]) - some.images[k].mean(axis=(0, 1))).max() < 12


def test_no_thumbnail_has_a_frame_of_its_neighbours_colours():
    some = images(100, 64)
    some.images[:] = np.where(np.arange(100)[:, None, None, None] % 2, [255, 230, 220], [40, 60, 160])  # light, dark
    made = thumbnails.embedded(some, np.arange(100))
    sheet = Image.open(io.BytesIO(base64.b64decode(made["sheets"][0].partition(",")[2])))
    for k in range(100):
        assert np.abs(pixels(sheet, made, k) - some.images[k]).max() < 12


def test_thumbnails_in_a_page_keep_to_their_room(monkeypatch):
    monkeypatch.setattr(thumbnails, "ROOM", 100_000)
    noise = np.random.default_rng(0).integers(0, 256, (200, 64, 64, 3), dtype=np.uint8)
    labels = {name: getattr(images(200, 64), name) for name in ("superclass", "superclass_names", "split")}
    made = thumbnails.embedded(ImageSet(images=noise, views=ViewSpec(), name="x", **labels), np.arange(200))
    assert made["side"] < 64
    assert len(made["sheets"][0]) * 3 / 4 < 1.3 * 100_000


@pytest.mark.parametrize("foreign", ["mine.txt", "holiday.webp", "0001.webp/x"])
def test_a_folder_with_files_of_another_is_refused(tmp_path, foreign):
    file = tmp_path / "page-images" / foreign
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(OutputError, match=r"is for a page's thumbnails, and .* is none of them"):
        thumbnails.linked(images(3, 8), np.arange(3), tmp_path / "page.html")
    assert file.read_text() == "mine"


def test_fewer_thumbnails_leave_none_of_before(tmp_path):
    page = tmp_path / "page.html"
    thumbnails.linked(images(900, 8), np.arange(900), page)
    thumbnails.linked(images(10, 8), np.arange(10), page)
    assert [file.name for file in thumbnails.folder_of(page).iterdir()] == ["0000.webp"]


def test_a_command_refuses_before_it_works(tmp_path, capsys):
    np.savez(tmp_path / "e.npz", vectors=np.eye(20, 4), superclass=np.arange(20) % 2)
    (tmp_path / "e-subclasses-images").mkdir()
    (tmp_path / "e-subclasses-images" / "mine").write_text("mine")
    with pytest.raises(SystemExit) as end:
        main(["discover", str(tmp_path / "e.npz"), "--images", "linked"])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"e.npz", "e-subclasses-images"}


def seen(page, selector):
    """The mean colour that a person sees there."""
    shot = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
    wide, high = shot.size
    return np.asarray(shot.crop((wide // 3, high // 3, wide * 2 // 3, high * 2 // 3))).mean(axis=(0, 1))


@pytest.mark.parametrize("linked", [False, True])
def test_the_page_shows_an_image_under_its_name(made, tmp_path, linked):
    made = world(tmp_path, linked=True) if linked else made
    pixels = dict(zip(made.images.names, made.images.images, strict=True))
    with opened(made.page) as page:
        page.locator("#later-page").click()
        page.wait_for_timeout(300)
        for k in (0, 7, 40):
            name = page.locator(f"#tile{k}").get_attribute("title")
            assert np.abs(seen(page, f"#tile{k} canvas") - pixels[name].mean(axis=(0, 1))).max() < 12
        page.locator("#tile7").dblclick()
        path = page.locator("#path").inner_text()
        assert np.abs(seen(page, "#large") - pixels[path].mean(axis=(0, 1))).max() < 12


def test_of_many_images_some_have_a_thumbnail_and_all_have_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "EMBEDDED", 60)
    monkeypatch.setattr(map, "BY_TSNE", 60)
    made = world(tmp_path)
    with opened(made.page) as page:
        assert "58 of 288 images were placed so" in page.content()
        tiles = page.locator("#gallery > *")
        assert [tiles.nth(k).locator("canvas").count() for k in range(11)] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        for k, how in ((0, "Nearest in the embedding"), (1, "Nearest on the map")):
            page.locator(f"#tile{k}").dblclick()
            assert page.locator("#how").inner_text() == how
            near = [each.get_attribute("title") for each in page.locator("#near button").all()]
            assert len(near) == len({*near, page.locator("#path").inner_text()}) - 1 == 8
            if k == 0:
                unit = directions(made.vectors)[::5]
                best = np.argsort(-unit @ unit[0])[1:9]
                assert near == [made.images.names[5 * row] for row in best]
            page.locator("#close").click()


def test_what_is_looked_at_closely_is_the_file_itself(tmp_path, monkeypatch):
    """While it lies where it was; else its thumbnail is enlarged."""
    monkeypatch.setenv("THANOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for k in range(60):
        file = tmp_path / "my photos" / f"{'ab'[k % 2]}#" / f"{k:02d} é.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 99, (30, 40, 3)) + 90 * (k % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    words = ["discover", "my photos", "--size", "16", "--encoder", "tiny", "--epochs", "1", "--batch", "16"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--clusters", "2", "-o", "runs/a"])
    with opened(tmp_path / "runs" / "a" / "subclasses.html") as page:
        page.locator("#closer").click()
        page.wait_for_selector("#original", state="visible")
        assert page.evaluate("[original.naturalWidth, original.naturalHeight]") == [40, 30]
        assert not page.locator("#large").is_visible()
        name = page.locator("#path").inner_text()
        assert page.evaluate("original.alt") == f"The image {name}"
        page.locator("#close").click()
    assert map.files_from([str(tmp_path / "my photos" / "a#" / "00 é.png")], tmp_path / "p.html") == "file://"
    assert map.files_from(["my photos/a#/00 é.png"], tmp_path / "x" / "p.html") == "../"
    assert map.files_from(["my photos/a#/none.png"], tmp_path / "p.html") is None
