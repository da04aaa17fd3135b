"""Make the folder that the documentation speaks of: clips, tables, volumes, features, runs, all of them tiny."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np

from medical import make_phantom, write_nifti, write_series
from tubelet.video.synthetic import draw_clip, write_video

__all__ = ["make_reader_folder", "run_in"]

SNIPPETS = Path(__file__).with_name("snippets.py")
SOURCE = Path(__file__).parents[1] / "src"
MOTIONS = {"up": "up", "down": "down"}
CLIPS = 10
"""Of each class; the smallest number of which every split has some."""


def make_reader_folder(folder: Path) -> Path:
    """Make the folder, and two runs in it."""
    for label, motion in MOTIONS.items():
        for number in range(CLIPS):
            _write(folder / "clips" / label / f"{label}{number}.mp4", motion, number)
            _write(folder / "other-clips" / label / f"other{number}.mp4", motion, 100 + number)
        for number in range(3):
            _write(folder / "videos" / f"{label}{number}.mp4", motion, 200 + number)
    _write(folder / "more" / "a.avi", "up", 300, frames=16)
    _write(folder / "holiday.mp4", "up", 301, frames=64)
    shutil.copy(folder / "holiday.mp4", folder / "clip.mp4")
    _write_match(folder)
    _write_lists(folder)
    _write_volumes(folder)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 20, 32)).astype(np.float32)
    labels = np.arange(40) % 2
    features[labels == 1] += 1
    np.savez(folder / "features.npz", x=features, y=labels)
    _write_program(folder)
    train = ["train", "clips/", "--name", "mine", "--model", "i3d_nano"]
    pretrain = ["pretrain", "videos/", "--name", "seen", "--model", "videomae_nano"]
    for command in (train, pretrain):
        done = run_in(folder, "tubelet", *command)
        assert done.returncode == 0, done.stdout[-3000:]
    for name in "abc":
        shutil.copytree(folder / "runs" / "mine", folder / "runs" / name)
    return folder


def run_in(folder: Path, *arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    """Run a program where `tubelet` is this checkout's, without a network; the test sees what it said if it fails."""
    places = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    paths = {"PYTHONPATH": str(SOURCE), "PATH": os.pathsep.join(places)}
    settings = {"TUBELET_HOME": f"{folder / 'home'}", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    return subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, **paths, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _write(path: Path, motion: str, seed: int, frames: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, draw_clip("moving-shapes", motion, frames=frames, generator=np.random.default_rng(seed)))


def _write_match(folder: Path) -> None:
    """Write a longer video, and the table of what happens in it."""
    parts = [
        draw_clip("moving-shapes", MOTIONS[label], frames=64, generator=np.random.default_rng(400 + number))
        for number, label in enumerate(("up", "down", "up"))
    ]
    write_video(folder / "match.mp4", np.concatenate(parts))
    table = ["path,start_s,end_s,label", "match.mp4,0,4,up", "match.mp4,4,8,down", "match.mp4,8,12,up"]
    (folder / "segments.csv").write_text("\n".join(table) + "\n")


def _write_lists(folder: Path) -> None:
    """Write the lists of toolkits, and tables, of the clips."""
    lists = folder / "annotations"
    lists.mkdir()
    (lists / "classes.txt").write_text("".join(f"{label}\n" for label in MOTIONS))
    splits = {"train": range(6), "val": range(6, 8), "test": range(8, CLIPS)}
    table = ["path,label,split"]
    for split, numbers in splits.items():
        clips = [
            (f"clips/{label}/{label}{n}.mp4", index, label) for index, label in enumerate(MOTIONS) for n in numbers
        ]
        (lists / f"{split}.csv").write_text("".join(f"{path} {index}\n" for path, index, _ in clips))
        table += [f"{path},{label},{split}" for path, _, label in clips]
    for name in ("table.csv", "other.csv"):
        (folder / name).write_text("\n".join(table) + "\n")
    names = sorted((folder / "videos").iterdir())
    (folder / "list.txt").write_text("".join(f"videos/{path.name}\n" for path in names))


def _write_volumes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label, sign in (("healthy", 1), ("lesion", -1)):
        (folder / "scans" / label).mkdir(parents=True)
        for number in range(CLIPS):
            noise = rng.integers(-50, 50, (12, 24, 24)).astype(np.int16)
            volume = (sign * make_phantom(12, 24, 24)).astype(np.int16) + noise
            write_nifti(folder / "scans" / label / f"{number}.nii.gz", volume)
    shutil.copy(folder / "scans" / "healthy" / "0.nii.gz", folder / "scan.nii.gz")
    write_series(folder / "series", make_phantom(12, 24, 24))
    shapes = rng.integers(0, 255, (40, 16, 16, 16)).astype(np.uint8)
    np.savez(folder / "shapes.npz", x=shapes, y=np.arange(40) % 2, group=np.arange(40) // 2)


def _write_program(folder: Path) -> None:
    """Put a `tubelet` on the path whose trainings are short."""
    program = folder / "bin" / "tubelet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SNIPPETS}" tubelet "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
