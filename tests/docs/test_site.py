"""Build the pages as they are published, and look at some of them as people do: on a desk and on a phone."""

import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from browser import WIDTHS, browse_address, find_browser

ROOT = Path(__file__).parents[2]
LOOKED_AT = ("", "concepts/", "models/vivit/", "coming-from/", "troubleshooting/", "data/", "api/")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of the built site; a broken link or an unreadable docstring ends the build."""
    folder = tmp_path_factory.mktemp("site")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    config = folder / "mkdocs.yml"
    config.write_text(settings.replace("site_dir: build/site", f"site_dir: {folder / 'site'}"), encoding="utf-8")
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, folder / name)
    program = Path(sys.executable).with_name("zensical")
    done = subprocess.run([program, "build", "-f", config], cwd=folder, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder / "site"


class Silent(SimpleHTTPRequestHandler):
    """Serve files and say nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=os.fspath(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    fetching = re.compile(
        r"<(?:script|img|iframe|source|video)[^>]*\bsrc=\"?(?:https?:)?//|<link(?![^>]*canonical)[^>]*href=\"?(?:https?:)?//"
    )
    assert {page.name: match[0] for page in pages if (match := fetching.search(page.read_text(encoding="utf-8")))} == {}
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
@pytest.mark.parametrize("page", LOOKED_AT)
def test_pages_fit_a_desk_and_a_phone_and_say_nothing_on_the_console(page, site, address, tmp_path):
    browser = find_browser()
    # A window cannot be as narrow as a phone, a frame can; being of one origin, it may be measured.
    frames = "".join(
        f'<iframe src="/{page}" style="border:0;width:{width}px;height:900px"></iframe>' for width in WIDTHS
    )
    measure = """<script>addEventListener("load", () => setTimeout(() => {
      for (const frame of document.querySelectorAll("iframe")) {
        const root = frame.contentDocument.documentElement
        document.body.append(`[${frame.clientWidth}: ${root.clientWidth} of ${root.scrollWidth}]`)
      }
    }, 1500))</script>"""
    (site / "frames.html").write_text(f"<!doctype html><body>{frames}{measure}</body>")
    shown = browse_address(browser, tmp_path, f"{address}frames.html", "--dump-dom")
    measured = re.findall(r"\[(\d+): (\d+) of (\d+)\]", shown.stdout)
    assert [int(width) for width, _, _ in measured] == list(WIDTHS), shown.stdout[-500:]
    assert all(int(whole) <= int(seen) for _, seen, whole in measured), measured
    assert "CONSOLE" not in shown.stderr
    for width in WIDTHS:
        picture = tmp_path / f"{width}.png"
        options = (f"--window-size={width},1600", f"--screenshot={picture}")
        assert "CONSOLE" not in browse_address(browser, tmp_path, address + page, *options).stderr
        assert picture.stat().st_size > 10_000
