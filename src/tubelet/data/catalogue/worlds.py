"""Offer the synthetic worlds as data sets: made on first use, the same clips everywhere."""

from functools import partial
from pathlib import Path

from tubelet.data.catalogue.entry import DATASETS, Entry, Request
from tubelet.errors import ConfigError
from tubelet.video.synthetic import WORLDS, make_organs, make_world

__all__: list[str] = []

CLIPS = {"train": 2400, "val": 200, "test": 400}


def _make(folder: Path, request: Request, *, name: str) -> Path:
    _refuse_classes(name, request)
    return make_world(name, folder / name, clips=CLIPS, progress=request.on_progress)


def _refuse_classes(name: str, request: Request) -> None:
    if request.classes or request.archive or request.mirror:
        raise ConfigError(
            f"single classes or another source of '{name}' were asked for - it is made on this machine as a whole - "
            "leave out --classes, --archive and --mirror."
        )


def _make_organs(folder: Path, request: Request) -> Path:
    _refuse_classes("fake-organs", request)
    path = folder / "fake-organs.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_organs(path, seed=42)
        request.on_progress(1, 1)
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
            kind="synthetic",
        ),
    )
DATASETS.add(
    "fake-organs",
    Entry(
        name="fake-organs",
        summary="synthetic 28^3 volumes in the MedMNIST layout",
        classes=11,
        license="made on this machine",
        fetch=_make_organs,
        kind="volumes",
    ),
)
