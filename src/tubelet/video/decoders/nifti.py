"""Read NIfTI files, versions 1 and 2, packed by gzip or not: header by nibabel, numbers from counted bytes.

nibabel would open files by name and unpack to the end; here only as many bytes are unpacked as the header promises, and
no more than the size of the file allows. A file without an orientation is taken as nibabel takes it (its columns run
from right to left).

Source: nifti1.h and nifti2.h of the NIfTI data format working group.
"""

import gzip
import math
import zlib
from functools import partial
from typing import IO, Any, NamedTuple, cast

import numpy as np
from jaxtyping import UInt8

from tubelet.errors import Corrupt, TooLarge, Truncated, UnsupportedCodec
from tubelet.video.decoders.volumes import Affine, explain_volume, measure_axes, miss_extra, turn_axial
from tubelet.video.opening import GZIP_MAGIC, Media, NamelessFile
from tubelet.video.volumes import MAX_VALUES, Shape, StoredVolume, Values

__all__ = ["FREE_BYTES", "MAX_RATIO", "open_nifti"]

MAX_RATIO = 1000
"""Bytes unpacked for each byte of a packed file above `FREE_BYTES`: masks pack some 500:1, gzip no more than 1032:1."""
FREE_BYTES = 64 << 20
"""Volumes up to this size may be packed as tightly as they like."""

_MAX_OFFSET = 64 << 20
_CHUNK_BYTES = 1 << 20
_UNIT_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}

_Stream = gzip.GzipFile | NamelessFile


class _Header(NamedTuple):
    shape: tuple[int, ...]
    """(column, row, slice, channel), as stored: columns change fastest."""
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    affine: Affine

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_nifti(media: Media) -> StoredVolume:
    """Read the header of a NIfTI file.

    Raises:
        VideoError: `corrupt`, `truncated`, `too_large`, `unsupported_codec` (complex numbers, more than five axes).
        MissingExtra: nibabel is not installed.
    """
    try:
        import nibabel  # noqa: F401 - to say at once that it is missing
    except ImportError as error:
        miss_extra(media.name, "NIfTI", error)
    with explain_volume(media.name):
        is_packed, stream = _unpack(media)
        header = _read_header(media.name, stream)
        _check_promise(media, header, is_packed)
        channels = 3 if header.dtype.names else header.shape[3]
        stored = Shape(header.shape[2], header.shape[1], header.shape[0], channels)
        shape, spacing_mm = measure_axes(header.affine, stored, media.name)
    return StoredVolume(media.name, "nifti", shape, spacing_mm, partial(_read_values, media, header))


def _unpack(media: Media) -> tuple[bool, _Stream]:
    media.file.seek(0)
    is_packed = media.file.read(2) == GZIP_MAGIC
    media.file.seek(0)
    return is_packed, gzip.GzipFile(fileobj=cast("IO[bytes]", media.file), mode="rb") if is_packed else media.file


def _read_header(name: str, stream: _Stream) -> _Header:
    import nibabel

    head = _read_exactly(name, stream, 348).tobytes()
    if head[4:7] == b"n+2":
        head += _read_exactly(name, stream, 540 - 348).tobytes()
    kind: Any = nibabel.Nifti2Header if head[4:7] == b"n+2" else nibabel.Nifti1Header
    header = kind(head, check=False)
    offset = float(header["vox_offset"])
    if not len(head) <= offset <= _MAX_OFFSET:
        raise Corrupt(f"cannot read {name!r} - its voxels begin at byte {offset:.0f} - write it again.")
    slope, intercept = header.get_slope_inter()
    unit = _UNIT_MM.get(header.get_xyzt_units()[0], 1.0)  # most files that state none mean mm
    ras = np.asarray(header.get_best_affine(), np.float64)[:3, :3] * unit
    affine = (ras * [[-1], [-1], [1]])[::-1, ::-1]  # (right, anterior, superior) to (superior, posterior, left)
    shape = _arrange(name, tuple(int(side) for side in header.get_data_shape()))
    return _Header(shape, _check_type(name, header, shape), int(offset), slope or 1.0, intercept or 0.0, affine)


def _arrange(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (column, row, slice, channel): the fourth axis, or the fifth where the fourth is of length 1."""
    stated = shape
    while len(shape) > 4 and 1 in shape[3:]:
        place = shape.index(1, 3)
        shape = shape[:place] + shape[place + 1 :]
    if len(shape) > 4:
        raise UnsupportedCodec(f"cannot read {name!r} - it has the axes {stated} - store one volume, channels last.")
    if not shape or min(shape) < 1:
        raise Corrupt(f"cannot read {name!r} - it has the axes {stated} - write it again.")
    return shape + (1,) * (4 - len(shape))


def _check_type(name: str, header: Any, shape: tuple[int, ...]) -> np.dtype:
    dtype: np.dtype = header.get_data_dtype()
    is_real = dtype.kind in "iuf" and dtype.itemsize <= 8
    is_color = (dtype.names or ())[:3] == ("R", "G", "B") and shape[3] == 1
    if not (is_real or is_color):
        raise UnsupportedCodec(
            f"cannot read {name!r} - it holds {dtype} - store real numbers of up to 64 bits, or RGB."
        )
    return dtype


def _check_promise(media: Media, header: _Header, is_packed: bool) -> None:
    """Refuse what the file cannot hold, before memory is taken for it."""
    needed, held = header.offset + header.num_bytes, media.file.size_bytes
    if math.prod(header.shape) > MAX_VALUES:
        raise TooLarge(
            f"cannot read {media.name!r} - its header promises {header.shape} numbers, the limit is {MAX_VALUES} - "
            "scale it down."
        )
    if is_packed and needed > max(FREE_BYTES, MAX_RATIO * held):
        raise TooLarge(
            f"cannot read {media.name!r} - it unpacks {held} bytes to {needed}, more than {MAX_RATIO}:1, as only a "
            "volume that is all alike does - store it without gzip."
        )
    if not is_packed and needed > held:
        raise Truncated(
            f"cannot read {media.name!r} - its header promises {needed} bytes, the file has {held} - copy it again."
        )


def _read_values(media: Media, header: _Header) -> Values:
    """Read the voxels, turn them, and scale them to what they measure."""
    is_packed, stream = _unpack(media)
    _read_exactly(media.name, stream, header.offset)
    data = _read_exactly(media.name, stream, header.num_bytes)
    if is_packed:
        _check_end(media.name, stream)
    values = np.frombuffer(data, header.dtype)
    if header.dtype.names:
        values = np.stack([values[color] for color in ("R", "G", "B")], -1).reshape(*header.shape, 3, order="F")
        values = values[..., 0, :]
    else:
        values = values.reshape(header.shape, order="F")
    turned = turn_axial(values.transpose(2, 1, 0, 3), header.affine, media.name)
    if turned.dtype == np.uint8 and (header.slope, header.intercept) == (1.0, 0.0):
        return turned
    scaled = np.ascontiguousarray(turned, np.float32)
    scaled *= np.float32(header.slope)
    scaled += np.float32(header.intercept)
    return scaled


def _check_end(name: str, stream: _Stream) -> None:
    """Let gzip compare its checksum, where the volume is all that it holds."""
    try:
        stream.read(1)
    except (EOFError, OSError, zlib.error) as error:
        raise Corrupt(f"cannot read {name!r} - its gzip data is damaged ({error}) - copy it again.") from None


def _read_exactly(name: str, stream: _Stream, count: int) -> UInt8[np.ndarray, " byte"]:
    data, done = np.empty(count, np.uint8), 0
    try:
        while done < count and (part := stream.read(min(count - done, _CHUNK_BYTES))):
            data[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
    except EOFError:
        pass  # gzip's own end is missing, too: counted below
    except (OSError, zlib.error) as error:
        raise Corrupt(f"cannot read {name!r} - its gzip data is damaged ({error}) - copy it again.") from None
    if done < count:
        raise Truncated(f"cannot read {name!r} - {count - done} of {count} bytes are missing - copy it again.")
    return data
