"""Hold what the picture of a search shows."""

import pytest

from tubelet.errors import DataError
from tubelet.report.search import draw_search

NAN = float("nan")


@pytest.mark.parametrize("importances", [{}, {"optimizer.lr": 0.7, "training.batch": 0.3}])
def test_a_search_is_drawn_with_trials_that_failed_and_with_none_that_did_not(tmp_path, importances):
    draw_search([0.5, 0.4, NAN, 0.7], ["complete", "pruned", "failed", "complete"], importances, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    for text in ("best so far: 70.0%", "complete (2)", "pruned (1)", "failed (1)", *importances):
        assert f"<!-- {text} -->" in drawn
    draw_search([NAN], ["failed"], {}, tmp_path / "b.png")
    with pytest.raises(DataError, match="2 values and 1 states"):
        draw_search([0.1, 0.2], ["failed"], {}, tmp_path / "b.png")
