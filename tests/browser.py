"""Pages in a real browser; tests skip where there is none."""

import shutil
import subprocess
from contextlib import contextmanager

import pytest

CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars", "--virtual-time-budget=3000",
]  # fmt: skip


def chromium(*arguments, folder):
    """Run the browser with an empty profile; skips where there is none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    command = [browser, *CHROMIUM, f"--user-data-dir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@contextmanager
def opened(file, **settings):
    """A page in the browser, as a person has it: with real keys and a real pointer; skips where there is none.

    Args:
        file: The page.
        settings: Of the window: ``viewport``, ``color_scheme``, ...
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with driver.sync_playwright() as started:
        one = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        try:
            page, faults = one.new_context(**settings).new_page(), []
            page.on("pageerror", lambda fault: faults.append(str(fault)))
            page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
            page.goto(file.as_uri())
            yield page
            assert faults == []
        finally:
            one.close()
