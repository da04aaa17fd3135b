"""Generate the corpus of hostile, broken and odd files; nothing binary is kept in the repository."""

from pathlib import Path

from . import damaged, forms, hostile, odd
from .entry import FFMPEG, Entry, Frames, Ground

__all__ = ["CORPUS", "FFMPEG", "Entry", "Frames", "Ground", "lay_out"]

CORPUS: dict[str, Entry] = {
    entry.key: entry for entry in (*odd.ENTRIES, *forms.ENTRIES, *damaged.ENTRIES, *hostile.ENTRIES)
}


def lay_out(entry: Entry, root: Path, clip: bytes, port: int) -> tuple[str, Ground]:
    """Write one file into a folder of its own and return the source to hand to a reader, with the bait around it."""
    folder = root / entry.key
    folder.mkdir(parents=True)
    ground = Ground(folder, clip, port)
    path = folder / entry.name
    entry.make(path, ground)
    return (entry.literal(ground) if entry.literal else str(path)), ground
