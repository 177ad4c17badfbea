"""From a page edited in a browser to a classifier that is fair to exactly those groups."""

import numpy as np
import pytest

from browser import opened
from editing import groups_of
from thanos.cli import run_command
from thanos.data.group_table import read_table
from thanos.embeddings import read_embeddings, write_embeddings
from thanos.robust.head import read_head
from thanos.storage import read_json
from thanos.storage.schemas import Classifier


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """Vectors in overlapping superclasses, their page, and what a person saved there."""
    folder = tmp_path_factory.mktemp("used")
    rng, kind = np.random.default_rng(0), np.arange(480) % 6
    vectors = 4 * rng.normal(size=(6, 8))[kind] + rng.normal(size=(480, 8))
    names = np.array([f"photos/{'ab'[k % 2]}/{i:03d}.png" for i, k in enumerate(kind)])
    split = np.tile(np.repeat([0, 1, 2], 6), 480 // 18 + 1)[:480]
    np.savez(
        folder / "e.npz",
        vectors=vectors.astype(np.float32),
        superclass=np.array(["ab"[k % 2] for k in kind]),
        split=split,
        refs=names,
    )
    run_command(["discover", str(folder / "e.npz"), "--clusters", "3"])
    with opened(folder / "e-subclasses.html", accept_downloads=True) as page:
        page.locator("[aria-label='Choose a/0, to merge']").click()
        page.locator("[aria-label='Choose a/1, to merge']").click()
        page.locator("#merge").click()
        page.locator("[aria-label='Name of b/1']").fill("bees")
        page.keyboard.press("Enter")
        page.locator("#filters [name=subclass]").select_option("=b/0")
        page.locator("#tile1").click()
        page.locator("#tile9").click(modifiers=["Shift"])
        page.select_option("#move select[aria-label='Move to']", "=bees")
        page.locator("#move button").click()
        page.locator("[aria-label='Mark of b/2']").select_option("harmful")
        shown = {
            row.locator("th input").input_value(): int(row.locator(".size").inner_text())
            for row in page.locator("#groups tr:has(input)").all()
        }
        with page.expect_download() as file:
            page.locator("#save").click()
        file.value.save_as(folder / "subclasses-edited.yaml")
    return folder, shown


def test_the_classifier_is_that_of_exactly_those_groups(edited):
    """The same as where those groups stand in the file of vectors."""
    folder, shown = edited
    edits = str(folder / "subclasses-edited.yaml")
    exactly = ["robust", str(folder / "e.npz"), "--method", "groupdro", "--names", edits]
    run_command([*exactly, "--out", str(folder / "edited.npz")])
    embeddings = read_embeddings(folder / "e.npz")
    part = {image: one.finest for image, one in read_table(folder / "e-subclasses.csv").items()}
    groups = groups_of((folder / "subclasses-edited.yaml").read_text(), part)
    assert {name: len(images) for name, images in groups.items()} == shown
    assert len(shown) == 5
    of = {image: name for name, images in groups.items() for image in images}
    order = sorted(groups)
    given = {
        **vars(embeddings),
        "group": np.array([order.index(of[name]) for name in embeddings.names]),
        "group_names": tuple(order),
    }
    write_embeddings(type(embeddings)(**given), folder / "known.npz")
    run_command(["robust", str(folder / "known.npz"), "--groups", "given", "--out", str(folder / "known-head.npz")])
    ours, theirs = read_head(folder / "edited.npz")[0], read_head(folder / "known-head.npz")[0]
    assert np.allclose(ours.weight, theirs.weight, rtol=1e-6)
    assert read_json(folder / "edited.json", Classifier)["marks"] == {"b/2": "harmful"}


def test_a_page_made_with_the_edits_starts_from_them_and_saves_them_again(edited):
    folder, shown = edited
    page, file = folder / "again.html", folder / "subclasses-edited.yaml"
    run_command(["report", str(folder / "e.npz"), "--names", str(file), "--out", str(page)])
    with opened(page, accept_downloads=True) as again:
        rows = again.locator("#groups tr:has(input)").all()
        assert {row.locator("th input").input_value(): int(row.locator(".size").inner_text()) for row in rows} == shown
        assert again.locator("[aria-label='Mark of b/2']").input_value() == "harmful"
        assert "2 subclasses among 240 images (as discovered 3, as edited 2)." in again.locator("main").inner_text()
        cut = again.locator(".walk[data-superclass=a] output")
        assert cut.inner_text() == "3: as discovered; as edited 2"
        with again.expect_download() as saved:
            again.locator("#save").click()
        assert saved.value.path().read_text() == file.read_text()
