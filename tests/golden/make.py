"""Make the golden run of this version's checkpoint format: an interrupted training that every later version resumes.

    python tests/golden/make.py             # where the format has no folder yet: commit what it makes
    python tests/golden/make.py --replace   # only before the first release with that format; never afterwards

    format_1/clips.npz     squares that move; no random number is in them
             run/          config.yaml, splits.csv, last.ckpt (in the middle of epoch 4 of 5), model/ (of epoch 3)
             logits.json   of all clips: `kept`, by model/ as it lies there; `resumed`, by model/ when the run has ended

Nothing in the run is drawn but the order of clips and the first weights, so that other versions of PyTorch and numpy
come to the same logits but for rounding.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tubelet import __version__, train
from tubelet.classifier import Classifier
from tubelet.errors import Interrupted
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.progress import Quiet
from tubelet.training.run import CHECKPOINT_FORMAT
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = ["STEPS", "STEPS_DONE", "compute_logits"]

FOLDER = Path(__file__).parent
PLACE = "/golden"
"""Where the clips of a golden run lie, as its files say; whoever resumes it says where they are."""
STEPS, STEPS_DONE = 20, 14
"""Steps of the whole run, and those behind the checkpoint."""
KEPT = ("config.yaml", "splits.csv", "last.ckpt")


class Stopping(Quiet):
    """Ask the run to stop when some steps are done."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, *_: Any) -> None:
        """Count it."""
        self.steps += 1
        if self.steps == STEPS_DONE:
            os.kill(os.getpid(), signal.SIGTERM)


def make_clips(path: Path) -> None:
    """Write 24 clips of 4 frames of 16 x 16 gray pixels: a square moves right over light gray, or left over dark."""
    clips = np.empty((24, 4, 16, 16, 1), np.uint8)
    for number, clip in enumerate(clips):
        clip[...] = 160 if number % 2 else 40
        top = number // 2 % 12
        for frame in range(4):
            left = 3 * frame if number % 2 else 9 - 3 * frame
            clip[frame, top : top + 4, left : left + 4] = 255 - 10 * number
    split = np.array(["train"] * 16 + ["val"] * 4 + ["test"] * 4)
    np.savez_compressed(path, x=clips, y=np.array(["left", "right"] * 12), split=split)


def make_recipe(source: Path) -> Recipe:
    changes = {"tubelet": (2, 4, 4), "depth": 1, "dim": 8, "heads": 2, "mlp_dim": 16}
    return Recipe(
        data=DataRecipe(source=os.fspath(source), workers=0),
        model=ModelRecipe("vivit_nano_joint", changes),
        input=InputSpec(frames=4, height=16, width=16, channels=1, differences="append"),
        augmentation=Augmentation(horizontal_flip=0.0),
        optimizer=OptimizerRecipe(lr=1e-2, weight_decay=0.0, warmup_epochs=0.0, ema=0.9),
        training=TrainingRecipe(epochs=5, batch=4, precision="fp32", keep="last"),
    )


def compute_logits(model: Path, clips: Path) -> list[list[float]]:
    """Score all clips with the model in a folder."""
    classifier = Classifier.read(model)
    with np.load(clips) as arrays, torch.inference_mode():
        return classifier.compute_logits(torch.from_numpy(arrays["x"])).tolist()


def make_golden(target: Path) -> None:
    """Train, stop in the middle, keep what a resume needs, and go on beside it to know where it leads."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        make_clips(place / "clips.npz")
        try:
            train(recipe=make_recipe(place / "clips.npz"), name="run", runs=place, listener=Stopping())
        except Interrupted:
            shutil.copytree(place / "run" / "model", target / "run" / "model")
        for kept in KEPT:
            content = (place / "run" / kept).read_bytes()
            (target / "run" / kept).write_bytes(
                content if kept == "last.ckpt" else content.replace(os.fsencode(place), PLACE.encode())
            )
        logits = {"kept": compute_logits(place / "run" / "model", place / "clips.npz")}
        train(name="run", runs=place, resume=True)
        logits["resumed"] = compute_logits(place / "run" / "model", place / "clips.npz")
        shutil.copy(place / "clips.npz", target)
    written = {"tubelet": __version__, "torch": torch.__version__, **logits}
    (target / "logits.json").write_text(json.dumps(written, indent=1) + "\n")


def main() -> None:
    target = FOLDER / f"format_{CHECKPOINT_FORMAT}"
    if target.exists() and sys.argv[1:] != ["--replace"]:
        sys.exit(f"{target} is there: runs of that format must be resumed for ever; --replace is for unreleased ones")
    torch.set_num_threads(1)
    shutil.rmtree(target, ignore_errors=True)
    make_golden(target)
    sizes = {path.relative_to(target).as_posix(): path.stat().st_size for path in target.rglob("*") if path.is_file()}
    print(f"{target}: {sum(sizes.values())} bytes in {sizes}")


if __name__ == "__main__":
    main()
