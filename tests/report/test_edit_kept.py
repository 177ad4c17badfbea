"""Edits are kept in the browser and never lost silently: reloads, other windows, other pages, no storage, print."""

import json

import numpy as np
import pytest

from browser import opened
from thanos.embeddings import Embeddings
from thanos.report.discover_page import write_discover_page
from thanos.report.edit import Base
from thanos.subclasses.fitted import Discovered

NAME = "[aria-label='Name of animals/0']"


def rename(page, name, to):
    page.locator(f"[aria-label='Name of {name}']").fill(to)
    page.keyboard.press("Enter")


def names(page):
    return [each.input_value() for each in page.locator("#groups th input").all()]


def test_leaving_asks_only_where_unsaved_edits_are_not_kept(made):
    with opened(made.page, own=True, accept_downloads=True) as page:
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        page.locator("#map").click()
        page.keyboard.press("Escape")
        rename(page, "animals/0", "cats")
        assert page.locator("#book").inner_text() == "1 edit, kept in this browser; not yet saved as a file"
        page.reload()
        assert asked == []
        page.locator("#undo").click()
        page.reload()
        assert "animals/0" in names(page)
        page.locator("#redo").click()  # what was undone is kept as well
        assert "cats" in names(page)
        with page.expect_download():
            page.locator("#save").click()
        assert "Move it to where you type the command" in page.locator("#spoken").inner_text()
        page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'Quota') } }")
        rename(page, "cats", "dogs")
        assert page.locator("#book").inner_text() == "2 edits, not yet saved as a file"
        page.reload()
        assert asked == ["beforeunload"]


def test_two_windows_do_not_write_over_each_other(made):
    with opened(made.page, own=True) as page:
        other = page.context.new_page()
        other.goto(made.page.as_uri())
        rename(page, "animals/0", "cats")
        other.wait_for_function("document.querySelector(\"#groups [aria-label='Name of cats']\") !== null")
        rename(other, "animals/1", "dogs")
        page.wait_for_function("document.querySelector(\"#groups [aria-label='Name of dogs']\") !== null")
        assert names(page) == names(other)
        assert {"cats", "dogs"} <= set(names(page))


@pytest.mark.parametrize("refuse", [["setItem"], ["getItem", "setItem"]])
def test_without_storage_a_line_says_so_and_the_page_edits_all_the_same(made, refuse):
    with opened(made.page, own=True) as page:
        for method in refuse:
            page.add_init_script(
                f"Storage.prototype.{method} = () => {{ throw new DOMException('no', 'SecurityError') }}"
            )
        page.reload()
        assert "edits are lost when it is closed" in page.locator("#warning").inner_text()
        rename(page, "animals/0", "cats")
        assert "cats" in names(page)
        assert page.locator("#warning").is_visible()


@pytest.mark.parametrize(
    "kept",
    ["{", "null", "[]", '{"format": 1}', '{"format": 2, "done": [], "undone": [], "saved": "[]"}'],
)
def test_what_cannot_be_read_is_set_aside(made, kept):
    with opened(made.page) as page:
        (key,) = page.evaluate("Object.keys(localStorage)")
        page.evaluate("([key, kept]) => localStorage.setItem(key, kept)", [key, kept])
        page.reload()
        assert "set aside" in page.locator("#spoken").inner_text()
        assert page.evaluate("key => localStorage.getItem(`${key} damaged`)", key) == kept
        assert "animals/0" in names(page)


def test_edits_that_do_not_fit_are_left_out_with_a_line(made):
    with opened(made.page) as page:
        (key,) = page.evaluate("Object.keys(localStorage)")
        kept = json.loads(page.evaluate("key => localStorage.getItem(key)", key))
        kept["done"] = [{"do": "name", "from": "animals/0", "to": "cats"}, {"do": "move", "images": [10**9], "to": "x"}]
        page.evaluate("([key, kept]) => localStorage.setItem(key, kept)", [key, json.dumps(kept)])
        page.reload()
        assert "1 edit from before; 1 did not fit and are left out" in page.locator("#spoken").inner_text()
        assert "cats" in names(page)


def of_two(file, called, marks=None):
    """A page of two subclasses under these names."""
    kind = np.arange(40) % 2
    embeddings = Embeddings(
        vectors=(np.eye(4)[kind] + 0.01 * np.random.default_rng(0).normal(size=(40, 4))).astype(np.float32),
        superclass=np.zeros(40, dtype=np.int64),
        superclass_names=("animals",),
        split=np.zeros(40, dtype=np.int8),
    )
    found = Discovered(kind, called, np.zeros(40), np.ones(40), {"animals": {"clusters": 2, "images": 40}})
    base = Base("0123abcd", [("animals/0", "animals/1")[k] for k in kind], marks or {})
    given = {"images": None, "errors": None, "training": None, "scores": {}}
    write_discover_page(file, embeddings, found, of="x", again="x", base=base, **given)
    return file


def test_unsaved_edits_of_an_earlier_page_of_the_table_are_offered(tmp_path):
    first = of_two(tmp_path / "page.html", ("animals/0", "animals/1"))
    with opened(first, accept_downloads=True) as page:
        rename(page, "animals/1", "dogs")
        of_two(first, ("cats", "animals/1"), {"cats": "harmful"})  # made anew, under names
        page.reload()
        assert names(page) == ["cats", "animals/1"]
        assert page.locator("#groups select").first.input_value() == "harmful"
        assert "1 edit, not saved to a file, of another page" in page.locator("#earlier").inner_text()
        page.reload()  # nothing is decided by leaving
        page.locator("#earlier button", has_text="Take them over").click()
        assert names(page) == ["cats", "dogs"]
        with page.expect_download() as file:
            page.locator("#save").click()
        text = file.value.path().read_text()
        assert '"animals/0": "cats"\n' in text  # by the names that the table has
        assert '"animals/1": "dogs"\n' in text
        assert '"cats": "harmful"\n' in text


def test_a_page_with_edits_prints_without_its_controls(made):
    with opened(made.page, own=True) as page:
        rename(page, "animals/0", "cats")
        page.emulate_media(media="print")
        assert page.locator("#groups").is_visible()
        assert page.locator("#book").inner_text() == "1 edit, kept in this browser; not yet saved as a file"
        for control in ("#save", "#gallery", "#filters", "#move button", "#merge", "#lasso", "#groups button"):
            assert not page.locator(control).first.is_visible()
        assert "as edited: cats" in page.locator("[data-subclass='animals/0']").inner_text()


def test_without_scripts_the_page_is_there_and_says_what_is_missing(made):
    with opened(made.page, java_script_enabled=False) as page:
        assert page.locator(".noscript").is_visible()
        assert page.locator("h3", has_text="animals/0").is_visible()
