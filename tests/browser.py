"""Pages in a real browser; tests skip where there is none."""

import json
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from functools import cache

import pytest

CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars", "--virtual-time-budget=3000",
]  # fmt: skip
_at_the_end = ExitStack()
"""Ends the browser of :func:`opened`."""
_windows = {}
"""Of that browser, by settings: those in which no page is open."""


def chromium(*arguments, folder):
    """Run the browser with an empty profile; skips where there is none."""
    command = [_installed(), *CHROMIUM, f"--user-data-dir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@contextmanager
def opened(file, *, own=False, **settings):
    """A page in the browser, as a person has it: with real keys and a real pointer; skips where there is none.

    Browser and window stay for the next page, which finds nothing of this one's; :func:`close_browser` ends them.

    Args:
        file: The page.
        own: In a window that is closed after it: for who changes the window itself, by listeners or scripts.
        settings: Of the window: ``viewport``, ``color_scheme``, ...
    """
    key = None if own else json.dumps(settings, sort_keys=True)
    page = _windows.pop(key, None) or _browser().new_context(**settings).new_page()
    faults, clean = [], False

    def note(said):
        faults.extend([said.text] if said.type == "error" else [])

    listeners = {"pageerror": lambda fault: faults.append(str(fault)), "console": note}
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        page.goto(file.as_uri())
        yield page
        assert faults == []
        clean = not own
    finally:
        if clean:
            _windows[key] = _cleared(page, listeners)
        else:
            page.context.close()


def _cleared(page, listeners):
    """Without the page's content and whatever it kept."""
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    page.evaluate("localStorage.clear()")  # from outside it may come late, and take what the next page has kept
    page.goto("about:blank")
    page.mouse.move(0, 0)
    return page


def close_browser():
    """End the browser that :func:`opened` started, if it did."""
    _windows.clear()
    _at_the_end.close()
    _browser.cache_clear()


@cache
def _browser():
    file = _installed()
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    started = _at_the_end.enter_context(driver.sync_playwright())
    browser = started.chromium.launch(executable_path=file, args=["--no-sandbox", "--disable-gpu"])
    _at_the_end.callback(browser.close)
    return browser


def _installed():
    """Chromium without a window first: it is the quickest."""
    for name in ("chromium-headless-shell", "chromium", "google-chrome"):
        if file := shutil.which(name):
            return file
    pytest.skip("needs Chromium: apt-get install chromium-headless-shell, or chromium")
