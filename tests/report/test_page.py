"""A page is one file that runs nothing, fetches nothing and fits the screen."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from small_run import write_clip
from tubelet.data.health import check_health
from tubelet.data.health_report import write_report
from tubelet.report.page import Html, Picture, write_page

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "google-chrome-stable")
WIDTHS = (1280, 390)
ODD = "<img src=x onerror=alert(1)> &amp; 'a' \"b\""


class Collector(HTMLParser):
    """Collect tags, attributes and what is shown."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.values, self.shown = set(), [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.values += [(tag, name, value) for name, value in attributes]

    def handle_data(self, data):
        self.shown += data


def test_everything_is_escaped_and_nothing_is_fetched(tmp_path):
    table = Html.table((ODD,), [(ODD,), (Picture.of(b"jpeg", ODD),)])
    write_page(tmp_path / "page.html", ODD, [Html.tag("p", ODD, kind='x" onclick="y'), table])
    page = Collector((tmp_path / "page.html").read_text())
    assert page.shown.count(ODD) == 5  # tab, title, paragraph, head and cell
    assert "script" not in page.tags
    assert [value for _, name, value in page.values if name == "alt"] == [ODD]
    assert all(value.startswith("data:image/jpeg;base64,") for _, name, value in page.values if name == "src")
    assert not [name for _, name, _ in page.values if name.startswith("on") or name == "href"]
    assert any("default-src 'none'" in (value or "") for _, _, value in page.values)


@pytest.fixture(scope="module")
def health_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for label in ("walk" * 12, "run <b>"):
        for number in range(5):
            (folder / "set" / label).mkdir(parents=True, exist_ok=True)
            write_clip(folder / "set" / label / f"{number}.mp4", seed=len(label) * 10 + number)
    (folder / "set" / "run <b>" / f"{'long' * 40} {'<i>'}.mp4").write_text("no video")
    shutil.copy(folder / "set" / "run <b>" / "0.mp4", folder / "set" / ("walk" * 12) / "copy.mp4")
    write_report(check_health(folder / "set", workers=1), folder / "out")
    return folder / "out" / "health.html"


def test_a_report_shows_both_clips_of_a_pair_and_escapes_names(health_page):
    page = Collector(health_page.read_text())
    assert not {"b", "i"} & page.tags
    assert "duplicate_with_other_label" in page.shown
    assert len([1 for tag, name, _ in page.values if (tag, name) == ("img", "alt")]) >= 6


def find_browser():
    """Return a browser; where none is, skip on a desk and fail on CI, which installs one."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"CI must have one of {', '.join(BROWSERS)}: 'apt-get install chromium'")
    if found is None:
        pytest.skip(f"needs a browser, one of {', '.join(BROWSERS)}: 'apt-get install chromium'")
    return found


def browse(browser, folder, page, *arguments):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=4000", *arguments, page.as_uri()]
    return subprocess.run([browser, *options], capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
def test_a_report_fits_wide_and_narrow_screens_without_an_error(health_page, tmp_path):
    browser = find_browser()
    # A window cannot be as narrow as a phone, a frame can. The copy may run the script that measures it.
    script = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script>"
    copy = re.sub(r"<meta http-equiv=.*?>", "", health_page.read_text()).replace("</body>", f"{script}</body>")
    (tmp_path / "copy.html").write_text(copy)
    frames = "".join(
        f'<iframe src="copy.html" style="border:0;width:{width}px;height:900px"></iframe>' for width in WIDTHS
    )
    listen = "<script>addEventListener('message', e => document.body.append('[' + e.data.join(' of ') + ']'))</script>"
    (tmp_path / "frames.html").write_text(f"<!doctype html><body>{listen}{frames}</body>")
    shown = browse(browser, tmp_path, tmp_path / "frames.html", "--dump-dom").stdout
    measured = {tuple(map(int, pair)) for pair in re.findall(r"\[(\d+) of (\d+)\]", shown)}
    assert measured == {(width, width) for width in WIDTHS}
    for width in WIDTHS:
        picture = tmp_path / f"{width}.png"
        done = browse(browser, tmp_path, health_page, f"--window-size={width},1600", f"--screenshot={picture}")
        assert "CONSOLE" not in done.stderr
        assert picture.stat().st_size > 10_000
    assert np.frombuffer(picture.read_bytes()[:4], np.uint8).tolist() == [0x89, 0x50, 0x4E, 0x47]
