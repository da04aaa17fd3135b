"""Write clips into WebDataset shards: which clip goes into which, and the bytes.

    train-000000.tar   walk/0001.cls    2                                 the number of its class
                       walk/0001.json   {"label": "walk", "group": "g1"}  all that is known of it
                       walk/0001.mp4    ...                               its file, byte for byte
                       walk/0002.000.jpg ...                              a clip of images

Headers hold no time and no user, so that the same clips give the same bytes. Clips lie in an order drawn from their
names: whoever reads shards from front to back sees classes mixed.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from tubelet import files
from tubelet.data.folders import VIDEO_SUFFIXES
from tubelet.data.sample import Sample
from tubelet.data.shards import SHARD_SUFFIX, list_files
from tubelet.errors import DataError
from tubelet.video.decoders.images import IMAGE_SUFFIXES
from tubelet.video.opening import FileRange, open_file, read_pieces

__all__ = ["Package", "measure_files", "plan_shards", "write_shard"]

_BLOCK_BYTES = 512


class Package(NamedTuple):
    """Hold what goes into a shard for one clip."""

    key: str
    """Its name in the shard, without an ending."""
    sample: Sample
    """Where its files lie, and its columns."""
    class_index: int | None
    """None for clips that may have several labels: those are in the columns alone."""


def measure_files(sample: Sample) -> int:
    """Count the bytes of a clip's files, and look whether each can be opened.

    Raises:
        VideoError: a file that cannot be opened.
        DataError: a file whose ending would not be known in a shard.
    """
    total_bytes = 0
    for file in list_files(sample):
        suffix = _find_suffix(file)
        if suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES | {".npz"}:
            raise DataError(
                f"cannot pack '{sample.name}' - '{suffix}' is no ending of a video - rename it, or add --gop 12; "
                "volumes cannot be packed."
            )
        store = open_file(file)
        total_bytes += store.size_bytes
        store.close()
    return total_bytes


def plan_shards(sizes: Mapping[str, int], splits: Mapping[str, str | None], shard_bytes: int) -> dict[str, list[str]]:
    """Divide clips over shards: each split apart, in an order drawn from the names, up to a size.

    Args:
        sizes: bytes of each clip, by key.
        splits: split of each clip, by key.
        shard_bytes: a shard takes clips until it is as large; one clip may be larger.

    Returns:
        Keys by the name of the shard.

    Example:
        >>> plan_shards({"a": 60, "b": 60, "c": 5}, {"a": "val", "b": "val", "c": None}, 100)
        {'val-000000.tar': ['b'], 'val-000001.tar': ['a'], 'clips-000000.tar': ['c']}
    """
    shards: dict[str, list[str]] = {}
    for split in dict.fromkeys(splits[key] for key in sizes):
        own = [key for key in sizes if splits[key] == split]
        number, held_bytes = -1, shard_bytes
        for key in sorted(own, key=lambda key: hashlib.sha256(key.encode()).digest()):
            if held_bytes + sizes[key] > shard_bytes:
                number, held_bytes = number + 1, 0
                shards[f"{split or 'clips'}-{number:06d}{SHARD_SUFFIX}"] = []
            shards[f"{split or 'clips'}-{number:06d}{SHARD_SUFFIX}"].append(key)
            held_bytes += sizes[key]
    return shards


def write_shard(path: Path, packages: Iterable[Package]) -> None:
    """Write a shard, whole or not at all.

    Raises:
        VideoError: a file that can no longer be read.
        DiskFull: no room.
    """
    with files.write_whole(path) as stream:
        for package in packages:
            for name, size_bytes, content in _list_entries(package):
                _write_entry(stream, f"{package.key}.{name}", size_bytes, content)
        stream.write(bytes(2 * _BLOCK_BYTES))


def _list_entries(package: Package) -> Iterator[tuple[str, int, Iterable[bytes]]]:
    """Give ending, size and content of each file of a clip."""
    columns = json.dumps(_list_columns(package), ensure_ascii=False).encode("utf-8", "backslashreplace")
    if package.class_index is not None:
        text = str(package.class_index).encode()
        yield "cls", len(text), [text]
    yield "json", len(columns), [columns]
    found = list_files(package.sample)
    digits = max(len(str(len(found) - 1)), 3)
    for number, file in enumerate(found):
        suffix = _find_suffix(file)
        store = open_file(file)
        size_bytes = store.size_bytes
        store.close()
        # A single image keeps a number: it is a clip of one frame all the same.
        yield f"{number:0{digits}d}{suffix}" if suffix in IMAGE_SUFFIXES else suffix[1:], size_bytes, read_pieces(file)


def _list_columns(package: Package) -> dict[str, object]:
    sample = package.sample
    known = {
        "label": sample.label if package.class_index is not None else None,
        "labels": list(sample.labels) if package.class_index is None else None,
        "split": sample.split,
        "group": sample.group,
        "start_s": sample.start_s,
        "end_s": sample.end_s,
    }
    return {**sample.metadata, **{name: value for name, value in known.items() if value is not None}}


def _write_entry(stream: IO[bytes], name: str, size_bytes: int, content: Iterable[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    stream.write(info.tobuf(tarfile.USTAR_FORMAT if size_bytes < 8**11 else tarfile.GNU_FORMAT))
    written_bytes = 0
    for piece in content:
        stream.write(piece)
        written_bytes += len(piece)
    if written_bytes != size_bytes:
        raise DataError(
            f"cannot pack '{name}' - its size changed meanwhile - leave the clips as they are, and begin again."
        )
    stream.write(bytes(-size_bytes % _BLOCK_BYTES))


def _find_suffix(file: str | FileRange) -> str:
    name = file.name.rstrip("]") if isinstance(file, FileRange) else file
    return Path(name).suffix.lower()
