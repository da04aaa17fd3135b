"""Hold that a compiled model learns what the model learns, goes on when interrupted, and says what it lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tubelet.errors import TrainingError
from tubelet.models import create_model
from tubelet.training.compilation import compile_model

PROGRAM = Path(__file__).with_name("compiled_runs.py")


def run(*arguments, **variables):
    surroundings = {**os.environ, "JAXTYPING_DISABLE": "1", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=580, env=surroundings
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_compiled_run_learns_the_same_and_goes_on_bit_by_bit(tmp_path):
    runs = json.loads(run(PROGRAM, tmp_path))
    plain, compiled = runs["plain"], runs["compiled"]
    assert compiled["names"] == plain["names"]
    for found, expected in zip(compiled["losses"], plain["losses"], strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    assert compiled["weights"] == pytest.approx(plain["weights"], rel=1e-3)
    assert compiled["weights"] != plain["weights"]
    assert runs["resumed"] == compiled


@pytest.mark.slow
def test_without_a_compiler_there_is_an_error_in_words(tmp_path):
    program = """
from torch import nn
from tubelet.errors import TrainingError
from tubelet.training.compilation import compile_model
try:
    compile_model(nn.Linear(1, 1))
except TrainingError as error:
    print(error)
"""
    said = run("-c", program, CXX="/nowhere/g++", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert said.startswith("cannot compile the model - PyTorch says: InvalidCxxCompiler: No working C++ compiler")
    assert said.endswith("install a C++ compiler (g++ or clang), or leave training.compile off.")


def test_a_model_of_features_is_not_compiled():
    model = create_model("cnn_gru_nano", 2)
    with pytest.raises(TrainingError, match="nearly every batch of them has another length"):
        compile_model(model, "features")
