"""Offer HMDB51: 6,766 clips of 51 actions from films and the web, with its three official splits.

Each split takes 70 clips of every class for training and 30 for the test; the others are unused, because they would
bring parts of one film to both sides.

Source: Kuehne et al. 2011, ICCV; `{class}_test_split{n}.txt` of test_train_splits.rar: `clip.avi tag`, where tag 1 is
training, 2 test, 0 unused; its MD5 as in torchvision, datasets/hmdb51.py.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from tubelet.archives import unpack
from tubelet.data.catalogue.entry import Request, register_dataset
from tubelet.data.catalogue.shelf import Missing, Shelf, index_files
from tubelet.data.sample import Problem, Sample, check_problems
from tubelet.errors import DataError
from tubelet.fetching import Remote

__all__ = ["HMDB51_LISTS", "HMDB51_VIDEOS", "read_hmdb51_lists"]

SPLITS = 3
_HOST = "https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10"
HMDB51_VIDEOS = [Remote(f"{_HOST}/hmdb51_org.rar", "hmdb51_org.rar")]
"""One rar that holds a rar for each class; nobody published a hash of it."""
HMDB51_LISTS = [
    Remote(f"{_HOST}/test_train_splits.rar", "test_train_splits.rar", (("md5", "15e67781e70dcfbdce2d7dbb9b3344b5"),)),
]
"""The official splits."""

_TAGS = {"0": None, "1": "train", "2": "test"}


def read_hmdb51_lists(folder: Path) -> list[tuple[int, str, str, str | None]]:
    """Read the official lists as (fold, clip, label, split); the split is None where a fold leaves a clip out.

    Raises:
        DataError: no list for one of the three splits, or lines that are none of these lists'.
    """
    rows: list[tuple[int, str, str, str | None]] = []
    problems: list[Problem] = []
    for fold in range(1, SPLITS + 1):
        lists = sorted(folder.glob(f"*_test_split{fold}.txt"))
        if not lists:
            raise DataError(f"cannot read the splits of HMDB51 in '{folder}' - no list of split {fold} is there.")
        for path in lists:
            label = path.name.removesuffix(f"_test_split{fold}.txt")
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                clip, _, tag = line.strip().rpartition(" ")
                if tag in _TAGS and clip:
                    rows.append((fold, clip.strip(), label, _TAGS[tag]))
                elif line.strip():
                    problems.append(Problem(f"{path.name}: found {line.strip()!r} - write 'clip.avi 1'.", number))
    check_problems(folder, problems)
    return rows


@register_dataset(
    "hmdb51",
    summary="51 actions, 6,766 clips of 3 s from films and the web",
    classes=51,
    license="CC BY 4.0",
    size_bytes=2_000_000_000,
    splits=SPLITS,
    citation="Kuehne, Jhuang, Garrote, Poggio, Serre: HMDB: A Large Video Database for Human Motion Recognition. 2011",
    homepage="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
)
def _fetch(folder: Path, request: Request) -> Path:
    shelf = Shelf("hmdb51", folder, request)
    table = f"split{request.fold}.csv"
    return shelf.find(table) or _make_tables(shelf) / table


def _make_tables(shelf: Shelf) -> Path:
    root = shelf.open(*HMDB51_VIDEOS)
    rows = read_hmdb51_lists(_find_lists(shelf, root))
    found: dict[str, Path] = {}
    for place in _unpack_classes(shelf, root):
        found |= index_files(place, (".avi", ".mp4", ".webm", ".mkv"))
    tables: dict[str, list[Sample]] = {f"split{fold}.csv": [] for fold in range(1, SPLITS + 1)}
    missing: dict[str, Missing] = {}
    for fold, clip, label, split in rows:
        path = found.get(os.path.splitext(clip)[0])  # noqa: PTH122 - a Path for each of many files is slow
        if path is None or path.stat().st_size == 0:
            missing[clip] = Missing(f"{label}/{clip}", label, "", "empty" if path else "absent")
        elif split is not None:
            tables[f"split{fold}.csv"].append(Sample(os.path.abspath(path), label, split))  # noqa: PTH100
    shelf.publish(tables, sorted({label for _, _, label, _ in rows}), missing.values())
    return shelf.home


def _find_lists(shelf: Shelf, root: Path) -> Path:
    """Find the folder of the official lists: among the clips, unpacked before, or in an archive of their own."""
    for place in (root, shelf.home / "lists"):
        some = next(iter(sorted(place.rglob("*_test_split1.txt"))), None) if place.is_dir() else None
        if some is not None:
            return some.parent
    unpacked = unpack(shelf.take(HMDB51_LISTS[0]), shelf.home / "lists")
    some = next(iter(sorted(unpacked.rglob("*_test_split1.txt"))), None)
    if some is None:
        raise DataError(f"cannot find the splits of HMDB51 in '{unpacked}' - it holds no '*_test_split1.txt'.")
    return some.parent


def _unpack_classes(shelf: Shelf, root: Path) -> Iterator[Path]:
    """Give the folder of clips, and those that the archive of each class is unpacked to, once."""
    yield root
    for archive in sorted(root.rglob("*.rar")):
        if archive.name in (HMDB51_LISTS[0].name, HMDB51_VIDEOS[0].name):
            continue
        folder = shelf.home / "classes" / archive.stem
        yield folder if folder.is_dir() else unpack(archive, folder)
