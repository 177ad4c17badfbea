"""Pages in a real browser; tests skip where there is none."""

import shutil
import subprocess

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
