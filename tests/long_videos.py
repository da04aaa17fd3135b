"""Make long videos of which it is known what happens when: clips of the worlds, one after the other."""

import csv
from pathlib import Path

import numpy as np

from tubelet.video.synthetic import WORLDS, draw_clip, write_video

__all__ = ["FPS", "write_long_videos"]

FPS = 16


def write_long_videos(
    folder: Path, world: str, *, videos: int, segments: int, frames: tuple[int, int] = (24, 96), seed: int = 0
) -> Path:
    """Write videos of `segments` clips each, of drawn lengths and of two classes wherever they meet, and their truth.

    Returns:
        The table of what happens when: path, start_s, end_s, label.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = WORLDS[world].classes
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(videos):
        path, parts, label, begin = folder / f"long{number}.mp4", [], "", 0
        for _ in range(segments):
            label = str(rng.choice([name for name in classes if name != label]))
            parts.append(draw_clip(world, label, frames=int(rng.integers(*frames)), generator=rng, split="train"))
            rows.append([path.name, begin / FPS, (begin := begin + len(parts[-1])) / FPS, label])
        write_video(path, np.concatenate(parts), fps=FPS)
    truth = folder / "truth.csv"
    with truth.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "start_s", "end_s", "label"], *rows])
    return truth
