"""Pages under axe-core: nothing serious keeps a person with a screen reader, or of low vision, from them."""

from pathlib import Path

import pytest

from browser import opened

AXE = Path(__file__).parents[1] / "axe" / "axe.min.js"


def findings(page):
    """What axe-core calls serious or critical: the rule, and where."""
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in grave for node in each["nodes"][:3]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800, 390])
def test_nothing_serious_is_found(made, scheme, width):
    with opened(made.page, viewport={"width": width, "height": 800}, color_scheme=scheme) as shown:
        shown.add_script_tag(path=str(AXE))
        assert findings(shown) == []
        shown.locator("summary", has_text="Keys").click()
        shown.locator("[aria-label='Split animals/1']").click()
        shown.locator("[aria-label='Show plants/0']").click()
        shown.locator("#tile3").click()
        shown.locator("#tile4").click()
        shown.locator("#lasso").click()
        assert findings(shown) == []
        shown.locator("#closer").click()
        assert findings(shown) == []
        assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_fault_would_be_found(made):
    with opened(made.page) as shown:
        shown.add_script_tag(path=str(AXE))
        shown.evaluate("document.getElementById('undo').textContent = ''")
        assert any(each.startswith("button-name") for each in findings(shown))
