"""A page is one file that runs nothing, fetches nothing and fits the screen."""

import shutil
from html.parser import HTMLParser

import pytest

from browser import check_page
from small_run import write_clip
from tubelet.data.health import check_health
from tubelet.data.health_report import write_report
from tubelet.report.page import Html, Picture, write_page

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


@pytest.mark.slow
def test_a_report_fits_wide_and_narrow_screens_without_an_error(health_page, tmp_path):
    check_page(health_page, tmp_path)
