"""Clips of one recording are no independent witnesses."""

import numpy as np
import pytest

from tubelet.data.sample import Sample
from tubelet.evaluation.evaluate import number_groups
from tubelet.metrics import estimate_headlines


@pytest.mark.parametrize(
    ("groups", "expected", "over"),
    [
        ([None, None, None], None, "clips"),
        (["a", "b", "c"], None, "clips"),
        (["a", "a", "a"], [0, 0, 0], "1 group"),
        (["b", "a", "b"], [1, 0, 1], "2 groups"),
        (["a", None, "a", None], [2, 0, 2, 1], "3 groups"),
    ],
)
def test_clips_are_numbered_by_group_and_those_of_none_stand_alone(groups, expected, over):
    samples = [Sample(f"/clips/{number}.mp4", "walk", group=group) for number, group in enumerate(groups)]
    numbers, said = number_groups(samples)
    assert said == over
    assert (numbers if expected is None else numbers.tolist()) == expected


def test_few_groups_and_figures_that_never_vary_have_no_interval():
    generator = np.random.default_rng(0)
    scores, labels = generator.dirichlet([1, 1], 60), generator.integers(0, 2, 60)
    assert estimate_headlines(scores, labels, np.arange(60) % 4)["top1"] is None
    assert estimate_headlines(scores, labels, np.arange(60) % 5)["top1"] is not None
    perfect = np.eye(2)[labels]
    found = estimate_headlines(perfect, labels)
    assert found["macro_f1"] is None
    assert found["top1"].low < found["top1"].high
