"""Hold that bars are drawn where there are values, whatever their names, and refused where there are none."""

import pytest

from tubelet.errors import DataError
from tubelet.report.intervals import Bar, Panel, draw_intervals


def test_bars_are_drawn_with_and_without_an_interval(tmp_path):
    bars = (Bar("$x_1$ \u98db", 0.5, (0.4, 0.6), "half"), Bar("other", -0.1, None, "", is_marked=True))
    draw_intervals([Panel("shares", bars, (-0.25, 1.0), (0.25, "chance"))], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_panel_without_a_bar_is_refused(tmp_path):
    with pytest.raises(DataError, match="found \\[0\\] in 1 panels"):
        draw_intervals([Panel("shares", (), (0.0, 1.0))], tmp_path / "a.png")
