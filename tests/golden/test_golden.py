"""Hold that runs of every checkpoint format there ever was are loaded and resumed; `make.py` makes their folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from golden.make import STEPS, STEPS_DONE, compute_logits
from tubelet import load, train
from tubelet.training.progress import Quiet
from tubelet.training.run import CHECKPOINT_FORMAT, load_checkpoint

FOLDERS = sorted(Path(__file__).parent.glob("format_*"))


class Counting(Quiet):
    """Count the steps."""

    def __init__(self):
        self.steps = 0

    def on_step(self, *_):
        self.steps += 1


def test_there_is_a_golden_run_of_the_present_format():
    names = [folder.name for folder in FOLDERS]
    assert f"format_{CHECKPOINT_FORMAT}" in names, "python tests/golden/make.py makes it; those that lie there stay"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_golden_run_gives_the_logits_it_gave(folder):
    known = json.loads((folder / "logits.json").read_text())
    found = compute_logits(folder / "run" / "model", folder / "clips.npz")
    np.testing.assert_allclose(found, known["kept"], atol=1e-5, rtol=0)
    assert load(folder / "run").classes == ("left", "right")


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_golden_run_is_resumed_and_comes_to_the_logits_it_came_to(folder, tmp_path):
    assert load_checkpoint(folder / "run" / "last.ckpt")["format"] == int(folder.name.removeprefix("format_"))
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    listener = Counting()
    # The clips have moved since: a golden run says that they lie in /golden.
    train(tmp_path / "clips.npz", name="run", runs=tmp_path, resume=True, listener=listener)
    assert listener.steps == STEPS - STEPS_DONE
    known = json.loads((folder / "logits.json").read_text())
    found = compute_logits(tmp_path / "run" / "model", tmp_path / "clips.npz")
    np.testing.assert_allclose(found, known["resumed"], atol=1e-3, rtol=0)
    assert np.abs(np.subtract(known["resumed"], known["kept"])).max() > 0.1
