"""Everything that can be edited on a page, by keys alone and by the pointer alone; what is kept, saved and asked."""

import json
import re
from pathlib import Path

import pytest
import yaml

from browser import opened
from editing import EACH, KINDS, groups_of
from thanos.data.content import content_of
from thanos.data.group_table import mark_of, read_table

STOPS_TO = """wanted => {
  const here = document.activeElement;
  if (here.matches(wanted)) return 0;
  const every = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")];
  const seen = each => each.tabIndex >= 0 && !each.disabled && each.checkVisibility({visibilityProperty: true});
  const stops = every.filter(each => each === here || seen(each));
  const from = stops.indexOf(here), places = stops.flatMap((each, i) => each.matches(wanted) ? [i] : []);
  return places.length ? (places.find(i => i > from) ?? places[0]) - from : 1;
}"""
"""How often to press Tab, as far as can be told: who is not there by then looks again."""


class Keys:
    """A person without a pointer: nothing but keys reaches the page."""

    def __init__(self, page):
        self.page, self.press, self.type = page, page.keyboard.press, page.keyboard.type

    def to(self, selector):
        """By Tab, or back by Shift+Tab, from wherever the focus is."""
        place = f"document.querySelector({json.dumps(selector)})"
        for _ in range(40):
            stops = self.page.evaluate(STOPS_TO, selector)
            if stops == 0:
                return
            for _ in range(abs(stops)):
                self.press("Tab" if stops > 0 else "Shift+Tab")
        here, there = (self.page.evaluate(f"{of}?.outerHTML.slice(0, 200)") for of in ("document.activeElement", place))
        raise AssertionError(f"no Tab leads from {here} to {there}")

    def push(self, selector):
        self.to(selector)
        self.press("Enter")

    def check(self, selector):
        self.to(selector)
        self.press("Space")

    def write(self, selector, text):
        self.to(selector)
        self.press("Control+A")
        self.type(text)
        self.press("Enter")

    def pick(self, selector, label):
        """An option, by the letters that it begins with."""
        self.to(selector)
        self.type(label)

    def image(self, place):
        """Select the image at this place of the list."""
        self.to("#gallery")
        self.press("Home")
        for _ in range(place):
            self.press("ArrowRight")
        self.press("Space")

    def images(self, first, last):
        self.image(first)
        for _ in range(last - first):
            self.press("Shift+ArrowRight")

    def look(self):
        self.to("#gallery")
        self.press("Enter")

    def lasso(self):
        """Around the upper left of the map."""
        self.to("#map")
        self.press("l")
        self.press("Shift+ArrowLeft")
        for way, times in (("Left", 5), ("Up", 5), ("Right", 5), ("Down", 5)):
            for _ in range(times):
                self.press(f"Shift+Arrow{way}")
            self.press("Space")
        self.press("Enter")

    def name_and_move(self, name):
        self.write("#move input", name)

    def go_to_move(self):
        self.press("m")
        assert self.page.evaluate("document.activeElement.closest('#move-one') !== null")

    def undo(self):
        self.push("#undo")
        self.press("Control+y")
        self.press("Control+z")

    def save(self):
        with self.page.expect_download() as file:
            self.press("Control+s")
        return file.value


class Pointer:
    """A person without keys: only text for a name comes from them. The lists of a select are the system's own windows,
    outside of the page; what is picked there is told to the page."""

    def __init__(self, page):
        self.page = page

    def push(self, selector):
        place = self.page.locator(selector)
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    check = push

    def write(self, selector, text):
        place = self.page.locator(selector)
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        self.page.mouse.click(box["x"] + 15, box["y"] + box["height"] / 2, click_count=3)
        self.page.keyboard.insert_text(text)
        self.push("#where")  # beside it

    def pick(self, selector, label):
        options = self.page.locator(f"{selector} option").all_inner_texts()
        self.page.select_option(selector, index=next(k for k, each in enumerate(options) if each.startswith(label)))

    def image(self, place):
        self.push(f"#tile{place}")

    def images(self, first, last):
        self.image(first)
        self.page.locator(f"#tile{last}").click(modifiers=["Shift"])

    def look(self):
        self.push("#closer")

    def lasso(self):
        self.push("#lasso")
        self.page.locator("#map").scroll_into_view_if_needed()
        box = self.page.locator("#map").bounding_box()
        x, y, wide, high = box["x"], box["y"], box["width"], box["height"]
        self.page.mouse.move(x + wide * 0.48, y + high * 0.48)
        self.page.mouse.down()
        for across, down in ((0.01, 0.48), (0.01, 0.01), (0.48, 0.01), (0.48, 0.48)):
            self.page.mouse.move(x + wide * across, y + high * down, steps=5)
        self.page.mouse.up()

    def name_and_move(self, name):
        self.push("#move input")
        self.page.keyboard.insert_text(name)
        self.push("#move button")

    def go_to_move(self):
        pass

    def undo(self):
        for selector in ("#undo", "#redo", "#undo"):
            self.push(selector)

    def save(self):
        with self.page.expect_download() as file:
            self.push("#save")
        return file.value


def shown(page):
    """The subclasses as edited: name to size."""
    rows = page.locator("#groups tr:has(input)").all()
    return {row.locator("th input").input_value(): int(row.locator(".size").inner_text()) for row in rows}


def said(page):
    return page.locator("#spoken").inner_text()


@pytest.mark.parametrize("kind", [Keys, Pointer])
def test_all_can_be_edited_kept_and_saved(made, kind):
    """Each step against what the table says; at the end the file, read by other means."""
    part = made.part
    at_first = {
        name: {image for image in part if part[image].startswith(name)} for name in set(map(subclass, part.values()))
    }
    with opened(made.page, viewport={"width": 1000, "height": 800}, accept_downloads=True) as page:
        person, wanted = kind(page), dict(at_first)
        assert shown(page) == sizes(wanted)

        person.write("[aria-label='Name of animals/0']", "cats")
        wanted["cats"] = wanted.pop("animals/0")
        assert shown(page) == sizes(wanted)

        person.check("[aria-label='Choose animals/1, to merge']")
        person.check("[aria-label='Choose animals/2, to merge']")
        person.push("#merge")
        wanted["animals/1+2"] = wanted.pop("animals/1") | wanted.pop("animals/2")
        assert shown(page) == sizes(wanted)

        person.push("[aria-label='Split plants/1']")
        whole = wanted.pop("plants/1")
        wanted |= {f"plants/1{half}": {image for image in whole if part[image] == f"plants/1{half}"} for half in "ab"}
        assert shown(page) == sizes(wanted)

        person.pick("[aria-label='Mark of cats']", "harmful")
        person.pick("[aria-label='Mark of plants/1a']", "not a group")
        person.pick("[aria-label='Mark of plants/1b']", "look again")

        person.pick("#filters [name=superclass]", "plants")
        fit = [image for image in part if "/plants/" in image]
        assert page.locator("#where").inner_text().startswith(f"1 to 48 of {len(fit)}")
        person.images(2, 5)
        page_list = [page.locator(f"#tile{k}").get_attribute("title") for k in range(48)]
        assert page_list == fit[:48]
        other = next(name for name in ("plants/0", "plants/2") if not wanted[name] & set(page_list[2:6]))
        person.pick("#move select[aria-label='Move to']", other)
        person.push("#move button")
        move(wanted, page_list[2:6], other)
        assert shown(page) == sizes(wanted)

        person.image(7)
        person.name_and_move("weeds")
        move(wanted, [page_list[7]], "weeds")
        assert shown(page) == sizes(wanted)

        person.write("#filters [name=path]", "/130.png")
        assert page.locator("#gallery > *").count() == 0
        person.push("#filters button[type=reset]")
        person.write("#filters [name=path]", "/100.png")
        person.look()
        path = page.locator("#path").inner_text()
        assert path.endswith("/100.png")
        assert page.locator("#near li").count() == 8
        home = {name for name in wanted if path in wanted[name]}.pop()
        person.go_to_move()
        target = "animals/1+2" if home == "cats" else "cats"
        person.pick("#move-one select[aria-label='Move to']", target)
        person.push("#move-one button")
        move(wanted, [path], target)
        person.push("#close")
        person.push("#filters button[type=reset]")
        assert shown(page) == sizes(wanted)

        person.undo()
        move(wanted, [path], home)
        assert shown(page) == sizes(wanted)

        person.lasso()
        inside = int(page.locator("#said").inner_text().split()[0])
        assert inside > 5
        person.push("#to-move")
        assert page.evaluate("document.activeElement.closest('#move') !== null")
        person.push("#none")
        page.reload()
        assert shown(page) == sizes(wanted)
        assert "from before" in said(page)

        file = person.save()
        assert file.suggested_filename == "subclasses-edited.yaml"
        text = Path(file.path()).read_text("utf-8")
        assert groups_of(text, part) == wanted
        check_file(text, made)
        page.reload()  # nothing is asked: it is saved
        assert "saved" in page.locator("#book").inner_text()


def subclass(part):
    return part.rstrip("ab")


def sizes(groups):
    return {name: len(images) for name, images in groups.items() if images}


def move(groups, images, to):
    for members in groups.values():
        members.difference_update(images)
    groups.setdefault(to, set()).update(images)


def check_file(text, made):
    said = yaml.safe_load(text)
    assert said["edits"] == 1
    assert said["table"] == mark_of(made.table)
    assert said["marks"] == {"cats": "harmful", "plants/1a": "not a group", "plants/1b": "look again"}
    table, content = (
        read_table(made.table),
        dict(zip(made.images.names, map(content_of, made.images.images), strict=True)),
    )
    for one in said["moved"]:
        assert one["content"] == content[one["image"]]
        assert one["superclass"] == table[one["image"]].superclass


def test_a_cut_that_is_looked_at_can_be_taken(made):
    with opened(made.page) as page:
        before = shown(page)
        walk = page.locator(".walk[data-superclass=animals]")
        walk.locator("input").press("ArrowRight")
        told = walk.locator("output").inner_text()
        walk.locator("button").press("Enter")
        whole = next(name for name in before if f"{name} becomes " in told)
        halves = {half: sum(part == half for part in made.part.values()) for half in (f"{whole}a", f"{whole}b")}
        assert shown(page) == {name: size for name, size in before.items() if name != whole} | halves
        assert "Done: animals is cut into 4" in walk.locator("output").inner_text()
        page.keyboard.press("Control+z")
        assert shown(page) == before


def test_a_cut_keeps_the_names_of_what_it_leaves_whole_and_tells_the_others(made):
    with opened(made.page) as page:
        walk = page.locator(".walk[data-superclass=animals]")
        walk.locator("input").press("ArrowRight")
        whole = re.search(r"(animals/\d) becomes", walk.locator("output").inner_text())[1]
        (left, _) = sorted({f"animals/{k}" for k in range(3)} - {whole})
        for name, to in ((whole, "torn"), (left, "left")):
            page.locator(f"[aria-label='Name of {name}']").fill(to)
            page.keyboard.press("Enter")
        page.locator("[aria-label='Mark of torn']").select_option("harmful")
        page.locator("[aria-label='Mark of left']").select_option("look again")
        before = shown(page)
        walk.locator("button").click()
        told = walk.locator("output").inner_text()
        assert "it replaces your names “torn” and your marks of “torn” (undo brings them back)" in told
        assert shown(page)["left"] == before["left"]
        assert page.locator("[aria-label='Mark of left']").input_value() == "look again"
        page.keyboard.press("Control+z")
        assert shown(page) == before


def test_a_merged_subclass_is_called_by_what_it_holds_unless_a_person_named_it(made):
    with opened(made.page) as page:
        before = shown(page)
        for first, second, called in (("animals/0", "animals/2", "animals/0+2"), ("plants/0", "shrubs", "shrubs")):
            if called == "shrubs":
                page.locator("[aria-label='Name of plants/1']").fill("shrubs")
                page.keyboard.press("Enter")
            page.locator(f"[aria-label='Choose {first}, to merge']").click()
            page.locator(f"[aria-label='Choose {second}, to merge']").click()
            page.locator("#merge").click()
            assert called in shown(page)
            assert not {first, second} - {called} & set(shown(page))
        for _ in range(3):  # a merge is one edit
            page.keyboard.press("Control+z")
        assert shown(page) == before


def test_what_a_lasso_holds_becomes_a_subclass(made):
    """Of those that the filters leave, and no other."""
    with opened(made.page, viewport={"width": 1000, "height": 800}) as page:
        page.select_option("#filters [name=superclass]", label="animals")
        Pointer(page).lasso()
        inside = int(page.locator("#said").inner_text().split()[0])
        before = shown(page)
        page.locator("#move input").fill("a corner")
        page.keyboard.press("Enter")
        after = shown(page)
        assert after["a corner"] == inside
        assert sum(before.values()) == sum(after.values())
        assert all(after[name] == size for name, size in before.items() if name.startswith("plants"))


def test_what_is_to_be_moved_is_shown_and_enter_moves_it(made):
    with opened(made.page, viewport={"width": 1000, "height": 800}) as page:
        page.locator("[aria-label='Show animals/0']").click()
        page.locator("#tile0").click()
        page.locator("#tile2").click(modifiers=["Shift"])
        page.locator("[aria-label='Show animals/1']").click()
        page.locator("#to-move").click()
        assert page.locator("#where").inner_text() == f"1 to 3 of 3 (of all {2 * KINDS * EACH} images)"
        page.locator("#closer").click()
        assert page.locator("#nth").inner_text() == "1 of 3"
        page.keyboard.press("Escape")
        before = shown(page)
        page.select_option("#move select[aria-label='Move to']", "=animals/1")
        page.locator("#move select[aria-label='Move to']").press("Enter")
        after = shown(page)
        assert after["animals/1"] == before["animals/1"] + 3
        assert page.locator("#filters [name=picked]").input_value() == ""
        assert page.locator("#where").inner_text().startswith("1 to 48 of ")


def test_what_is_selected_and_not_shown_is_said_and_moves_with_the_rest(made):
    with opened(made.page, viewport={"width": 1000, "height": 800}) as page:
        assert not page.locator("#show-all").is_visible()
        page.locator("[aria-label='Show animals/0']").click()
        assert page.locator("#part").inner_text() == f"{2 * EACH} of {2 * KINDS * EACH} shown"
        page.locator("#tile0").click()
        page.locator("#tile2").click(modifiers=["Shift"])
        page.locator("[aria-label='Show animals/1']").click()
        assert page.locator("#picked").inner_text() == "3 images selected, not shown here"
        page.locator("#tile0").click()
        for place in ("#picked", "#chosen"):
            assert page.locator(place).inner_text() == "4 images selected, 3 of them not shown here"
        assert page.locator("#move button").inner_text() == "Move 4 images"
        page.locator("#show-all").click()
        page.locator("#show-all").wait_for(state="hidden")
        assert page.locator("#picked").inner_text() == "4 images selected"
        assert page.locator("#part").inner_text() == ""


def test_images_of_another_superclass_that_stay_are_named(made):
    with opened(made.page, viewport={"width": 1000, "height": 800}) as page:
        for name, last in (("animals/0", 4), ("plants/0", 1)):
            page.locator(f"[aria-label='Show {name}']").click()
            page.locator("#tile0").click()
            page.locator(f"#tile{last}").click(modifiers=["Shift"])
        page.locator("#move input").fill("a few")
        assert page.locator("#move button").inner_text() == "Move 5 images"
        page.locator("#move button").click()
        assert shown(page)["a few"] == 5
        assert said(page).endswith("2 of “plants” not moved: images stay in their superclass.")
        assert page.locator("#chosen").inner_text().startswith("2 images selected")


def test_a_picture_of_a_subclass_or_of_a_cut_is_looked_at_by_a_click(made):
    with opened(made.page) as page:
        page.locator(".walk[data-superclass=animals] input").press("ArrowRight")
        for pictures in (page.locator(".row img"), page.locator(".walk[data-superclass=animals] .parts canvas")):
            pictures.nth(2).click()
            assert page.locator("#path").inner_text() == pictures.nth(2).get_attribute("title")
            assert page.locator("#nth").inner_text().startswith("3 of ")
            page.keyboard.press("Escape")
            assert not page.locator("#light").is_visible()


def test_colours_of_the_legend_stay_with_the_names(made):
    """At first they are those of the subclasses as discovered; a merge and a split change what they touch alone."""
    with opened(made.page) as page:
        first = colours(page)
        page.locator("[aria-label='Split animals/0']").click()
        split = colours(page)
        assert {name: colour for name, colour in split.items() if name in first} == {
            name: colour for name, colour in first.items() if name != "animals/0"
        }
        page.locator("[aria-label='Choose plants/0, to merge']").click()
        page.locator("[aria-label='Choose plants/1, to merge']").click()
        page.locator("#merge").click()
        merged = colours(page)
        assert {name: merged[name] for name in split if name in merged} == {
            name: colour for name, colour in split.items() if name not in ("plants/0", "plants/1")
        }
        for each in (first, split, merged):
            assert len(set(each.values())) == len(each)


def colours(page):
    """By name the colour in the map's legend."""
    buttons = page.locator("#legend button").all()
    return {
        button.inner_text().rpartition(" (")[0].strip(): button.locator("svg > *").get_attribute("fill")
        for button in buttons
    }


@pytest.mark.parametrize("kind", [Keys, Pointer])
def test_a_subclass_is_named_beside_its_pictures(made, kind):
    with opened(made.page, viewport={"width": 1000, "height": 800}) as page:
        person, here = kind(page), page.locator("[data-subclass='animals/0']")
        field = here.locator("input")
        person.write("[aria-label='Rename animals/0']", "cats")
        assert field.input_value() == "cats"
        assert "cats" in shown(page)
        assert "as edited: cats" in here.inner_text()
        assert "“animals/0” is called “cats”" in here.inner_text()
        person.write("[aria-label='Rename animals/0']", "plants/0")
        assert "Not done: “plants/0” is a subclass of plants" in here.inner_text()
        assert field.input_value() == "cats"
        person.undo()
        assert field.input_value() == "animals/0"
        assert "as edited" not in here.inner_text()
        person.push("[aria-label='Split animals/0']")
        assert not field.is_visible()  # several names stand in the table
        assert "as edited: animals/0a, animals/0b" in here.inner_text()
