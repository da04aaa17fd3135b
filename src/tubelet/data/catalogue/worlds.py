"""Offer the synthetic worlds as data sets: made on first use, the same clips everywhere."""

from functools import partial
from pathlib import Path

from tubelet.data.catalogue.entry import DATASETS, Entry, OnProgress
from tubelet.video.synthetic import WORLDS, make_organs, make_world

__all__: list[str] = []

CLIPS = {"train": 2400, "val": 200, "test": 400}


def _make(folder: Path, on_progress: OnProgress, *, name: str) -> Path:
    return make_world(name, folder / name, clips=CLIPS, progress=on_progress)


def _make_organs(folder: Path, on_progress: OnProgress) -> Path:
    path = folder / "fake-organs.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_organs(path, seed=42)
        on_progress(1, 1)
    return path


for _name in WORLDS:
    _world = WORLDS[_name]
    DATASETS.add(
        _name,
        Entry(
            name=_name,
            summary=f"synthetic clips with a known answer: {', '.join(_world.classes[:4])}"
            + (" ..." if len(_world.classes) > 4 else ""),
            classes=len(_world.classes),
            license="made on this machine",
            fetch=partial(_make, name=_name),
        ),
    )
DATASETS.add(
    "fake-organs",
    Entry("fake-organs", "synthetic 28^3 volumes in the MedMNIST layout", 11, "made on this machine", _make_organs),
)
