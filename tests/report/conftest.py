"""One browser and one page to edit for all tests of pages."""

import pytest

from browser import close_browser
from editing import world


@pytest.fixture(autouse=True, scope="package")
def _browser_ends():
    yield
    close_browser()


@pytest.fixture(scope="package")
def made(tmp_path_factory):
    """A page to edit, and what it is of; for reading alone: edits are kept in the browser, which forgets them."""
    return world(tmp_path_factory.mktemp("world"))
