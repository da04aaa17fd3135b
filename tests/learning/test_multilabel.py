"""Hold a small model to learning which motions a clip shows: none, one, or two at a time."""

import csv
import time

import numpy as np
import pytest

import tubelet
from tubelet.config import override
from tubelet.recipes.small import make_moving_shapes
from tubelet.video.synthetic import draw_clip, seed_clip, write_video

MOTIONS = ("up", "down", "left", "right")
SIZES = {"train": 800, "val": 100, "test": 200}
CHANGES = {
    # A flip that swapped no labels, or the wrong ones, would show half of the clips under wrong labels.
    "augmentation.horizontal_pairs": (("left", "right"),),
    "augmentation.vertical_pairs": (("up", "down"),),
    "augmentation.reversal_pairs": (("left", "right"), ("up", "down")),
    "training.epochs": 8,
}


def draw_motions(split, index):
    """Lay one moving shape over another; a clip of no motion stands still."""
    generator = seed_clip("moving-shapes", split, index, 7)
    count = generator.choice([0, 1, 2], p=[0.1, 0.45, 0.45])
    shown = [MOTIONS[place] for place in generator.choice(len(MOTIONS), size=count, replace=False)]
    layers = [draw_clip("moving-shapes", name, generator=generator) for name in shown or MOTIONS[:1]]
    pixels = np.maximum(layers[0], layers[-1])
    return pixels if shown else np.repeat(pixels[8:9], len(pixels), axis=0), shown


def write_motions(folder):
    with (folder / "clips.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "labels", "split"])
        for split, count in SIZES.items():
            for index in range(count):
                pixels, shown = draw_motions(split, index)
                write_video(folder / f"{split}{index}.mp4", pixels)
                writer.writerow([f"{split}{index}.mp4", "|".join(shown), split])
    return folder / "clips.csv"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_motions_are_learned_where_a_clip_shows_any_number_of_them(tmp_path, record_property):
    source = write_motions(tmp_path)
    recipe = override(make_moving_shapes(), {"data.source": str(source), **CHANGES})
    wall_s = time.perf_counter()
    report = tubelet.train(recipe=recipe, name="run", runs=tmp_path).report
    wall_s = time.perf_counter() - wall_s
    print(f"\nmAP {report.metrics.mean_ap:.3f}, exact match {report.metrics.exact_match:.3f}, {wall_s:.0f} s")
    record_property("mean_ap", report.metrics.mean_ap)
    assert (report.n, report.n_failed) == (200, 0)
    assert report.metrics.mean_ap >= 0.95
    assert report.metrics.exact_match >= 0.7
