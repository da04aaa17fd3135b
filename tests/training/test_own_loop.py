"""Hold that the pieces of a training fit together in a loop that somebody else wrote, as the docs show it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tubelet.training
from small_run import write_clip
from tubelet.classifier import Classifier
from tubelet.training import load_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_loop_in_the_docs_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    code = re.search(r"## A loop of your own\n.*?```python\n(.*?)```", page, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line and not line.startswith("from ")]) <= 16
    for label in ("a", "b"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for number in range(6):
            write_clip(tmp_path / "clips" / label / f"{label}{number}.mp4", size=(72, 72), seed=number)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("10", "2"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"[\d.]+", "#", line) for line in lines] == ["epoch #: loss #, validation top-# #%"] * 2
    assert Classifier.read(tmp_path / "mine").classes == ("a", "b")


def test_a_checkpoint_is_read_by_a_path_of_either_kind(small_run):
    assert {"model", "optimizer", "progress"} <= set(load_checkpoint(str(small_run / "last.ckpt")))


def test_the_pieces_are_there_by_name_and_load_nothing_before():
    for name in tubelet.training.__all__:
        assert getattr(tubelet.training, name).__doc__
        assert name in dir(tubelet.training)
    with pytest.raises(AttributeError, match="no attribute 'train_epochs'"):
        _ = tubelet.training.train_epochs
    done = subprocess.run(
        [sys.executable, "-c", "import sys, tubelet.training; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
