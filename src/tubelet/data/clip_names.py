"""Name the files that clips are stored in anew."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample

__all__ = ["name_clips"]

_MAX_NAME_BYTES = 70
"""With a hash and an ending, a plain header of a tar archive has room for it."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


def name_clips(manifest: Manifest) -> list[str]:
    """Give each clip a path that is safe, readable and its own: `train/walk/0001`, without an ending.

    Letters that some system cannot store are replaced; where two names would be one, on any system, a hash of what the
    clip was called tells them apart. The names depend on the manifest alone.
    """
    folders = _tell_apart([*map(_make_safe, manifest.classes)], manifest.classes)
    labels = dict(zip(manifest.classes, folders, strict=True))
    keys = [
        # Clips that may have several labels lie in no folder of one.
        "/".join(name for name in (sample.split, labels.get(sample.label), _make_safe(_find_stem(sample))) if name)
        if manifest.task == "classification"
        else "/".join(name for name in (sample.split, _make_safe(_find_stem(sample))) if name)
        for sample in manifest.samples
    ]
    return _tell_apart(keys, [manifest.short_name(sample) for sample in manifest.samples])


def _find_stem(sample: Sample) -> str:
    stem = Path(sample.source).stem
    if sample.extent is not None:
        stem = str(sample.member).rpartition("/")[2].partition(".")[0]
    elif sample.row is not None:
        stem = f"{stem}_{sample.member}_{sample.row:06d}"
    start_s, end_s = sample.start_s, sample.end_s
    span = "" if (start_s, end_s) == (None, None) else f"_{start_s or 0:g}-{'' if end_s is None else f'{end_s:g}'}"
    # A cut must not take the span away.
    return stem.encode(errors="replace")[: _MAX_NAME_BYTES - len(span)].decode(errors="ignore") + span


def _make_safe(name: str) -> str:
    """Replace what some system cannot store, and points, at which the endings of shards begin."""
    plain = unicodedata.normalize("NFC", name.encode(errors="replace").decode())
    plain = "".join("_" if letter in '<>:"/\\|?*.' or not letter.isprintable() else letter for letter in plain).strip()
    plain = plain.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return f"x{plain}" if not plain or _RESERVED.fullmatch(plain) or plain.startswith("__") else plain


def _tell_apart(names: Sequence[str], origins: Sequence[str]) -> list[str]:
    """Add a hash of the origin to names that would be one name on some system."""
    folded = [name.casefold() for name in names]
    counts = Counter(folded)
    return [
        name if counts[fold] == 1 else f"{name}-{_hash(origin)}"
        for name, fold, origin in zip(names, folded, origins, strict=True)
    ]


def _hash(name: str) -> str:
    # Long enough that among a million clips of one name no two share it.
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
