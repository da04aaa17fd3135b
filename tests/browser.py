"""Look at pages in a real browser without a window."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["WIDTHS", "browse_address", "check_page", "find_browser"]

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "google-chrome-stable")
WIDTHS = (1280, 390)


def check_page(page: Path, folder: Path) -> None:
    """Fail where a page is wider than a desk's or a phone's screen, or says anything on the console.

    Args:
        page: one file.
        folder: for screenshots, named by their width.
    """
    browser = find_browser()
    # A window cannot be as narrow as a phone, a frame can. The copy may run the script that measures it.
    script = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script>"
    copy = re.sub(r"<meta http-equiv=.*?>", "", page.read_text()).replace("</body>", f"{script}</body>")
    (folder / "copy.html").write_text(copy)
    frames = "".join(
        f'<iframe src="copy.html" style="border:0;width:{width}px;height:900px"></iframe>' for width in WIDTHS
    )
    listen = "<script>addEventListener('message', e => document.body.append('[' + e.data.join(' of ') + ']'))</script>"
    (folder / "frames.html").write_text(f"<!doctype html><body>{listen}{frames}</body>")
    shown = browse(browser, folder, folder / "frames.html", "--dump-dom").stdout
    measured = {tuple(map(int, pair)) for pair in re.findall(r"\[(\d+) of (\d+)\]", shown)}
    assert measured == {(width, width) for width in WIDTHS}
    for width in WIDTHS:
        picture = folder / f"{width}.png"
        done = browse(browser, folder, page, f"--window-size={width},1600", f"--screenshot={picture}")
        assert "CONSOLE" not in done.stderr
        assert picture.stat().st_size > 10_000
        assert picture.read_bytes().startswith(b"\x89PNG")


def find_browser():
    """Return a browser; where none is, skip on a desk and fail on CI, which installs one."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"CI must have one of {', '.join(BROWSERS)}: 'apt-get install chromium'")
    if found is None:
        pytest.skip(f"needs a browser, one of {', '.join(BROWSERS)}: 'apt-get install chromium'")
    return found


def browse(browser, folder, page, *arguments):
    return browse_address(browser, folder, page.as_uri(), *arguments)


def browse_address(browser, folder, address, *arguments):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=4000", *arguments, address]
    return subprocess.run([browser, *options], capture_output=True, text=True, timeout=120, check=True)
