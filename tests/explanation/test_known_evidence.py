"""Hold each family's default explanation to clips of which it is known where and when their class can be seen."""

import importlib.util
from pathlib import Path

import pytest

from tubelet.explanation.explain import choose_method

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "explanations.py"
spec = importlib.util.spec_from_file_location("explanations", PROGRAM)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", benchmark.MODELS)
def test_the_default_explanation_points_to_the_event_and_beats_random_maps(name, record_property):
    classifier = benchmark.train_model(name)
    assert benchmark.measure_accuracy(classifier) >= 0.9
    row = benchmark.measure_method(classifier, choose_method(classifier), 100)
    print(f"\n{name}: {row}")
    for figure in ("points", "deletion", "random", "p"):
        record_property(figure, getattr(row, figure))
    assert row.chance < 0.25
    assert row.points >= 0.8
    assert row.deletion < row.random
    assert row.p < 0.01
