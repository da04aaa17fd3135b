"""Read DICOM: a folder of slices, or one file with one or many frames; headers and pixels by pydicom.

Files are read one by one, as plain files; what a DICOMDIR names is not followed. `WindowCenter` is not used: it differs
from slice to slice, and from one scanner to the next. Where the slices belong is decided in
`tubelet.video.decoders.planes`.

Source: DICOM PS3.3, C.7.6.3 (pixels), C.7.6.16 (multi-frame), C.11.1 (rescale); PS3.10, 7.1 (file meta group).
"""

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Shaped

from tubelet.errors import Corrupt, NotAVideo, TooLarge, Truncated, UnsupportedCodec, VideoError
from tubelet.video.decoders.images import IMAGE_SUFFIXES
from tubelet.video.decoders.planes import Arrangement, Plane, arrange
from tubelet.video.decoders.volumes import explain_volume, measure_axes, miss_extra, turn_axial
from tubelet.video.opening import Media, NamelessFile, open_file
from tubelet.video.volumes import MAX_VALUES, Shape, StoredVolume, Values

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["MAX_SLICES", "SLICE_SUFFIXES", "has_many_frames", "is_slice", "list_slices", "open_dicom", "open_series"]

SLICE_SUFFIXES = frozenset([".dcm", ".dicom", ".ima"])
"""Endings of DICOM files; many have none at all."""
MAX_SLICES = 20_000
"""Most files in a folder that is one volume."""
MAX_DICOM_BYTES = 2 << 30
"""Largest DICOM file."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
_COLORS = ("MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_LONG_KINDS = (b"OB", b"OW", b"UN", b"SQ", b"UT")
_PIXEL_TAGS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
    *("DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]
_HEADER_TAGS = [
    *_PIXEL_TAGS,
    *("SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "EchoTime"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_COLORS = ("MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def is_slice(path: Path) -> bool:
    """Tell a DICOM file by its ending, else by its first bytes; a DICOMDIR is none."""
    if path.name.upper() == "DICOMDIR" or path.name.startswith("."):
        return False
    if path.suffix.lower() in SLICE_SUFFIXES:
        return path.is_file()
    try:
        store = open_file(os.fspath(path))
    except VideoError:
        return False
    try:
        return store.read_at(128, 4) == b"DICM"
    except OSError:
        return False
    finally:
        store.close()


def list_slices(folder: Path) -> list[Path]:
    """List the DICOM files right inside a folder; none where it is a folder of images."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    suffixes = {path.suffix.lower() for path in entries if not path.name.startswith(".")}
    if suffixes & IMAGE_SUFFIXES and not suffixes & SLICE_SUFFIXES:
        return []
    return [path for path in entries if path.suffix.lower() not in IMAGE_SUFFIXES and is_slice(path)]


def has_many_frames(path: Path) -> bool | None:
    """Say whether a DICOM file is a volume by itself, not a slice of one; None where it cannot be read.

    Raises:
        MissingExtra: pydicom is not installed.
    """
    try:
        return len(_read_file(path, 0)) > 1
    except VideoError:
        return None


def open_dicom(media: Media) -> StoredVolume:
    """Read the header of one DICOM file: its frames are the slices.

    Raises:
        VideoError: as `open_series`.
        MissingExtra: pydicom is not installed.
    """
    return _make_volume(media.name, _read_planes(media.name, media.file, 0), [media.file])


def open_series(folder: Path, paths: Sequence[Path]) -> StoredVolume:
    """Read the headers of the slices in a folder.

    Raises:
        NotAVolume: several series, slices of other sizes or directions, two at one place, a gap, or no place at all.
        VideoError: a file that cannot be read, or whose pixels cannot be decoded here.
        MissingExtra: pydicom is not installed.

    Cost: 0.6 ms a slice.
    """
    name = os.fspath(folder)
    if len(paths) > MAX_SLICES:
        raise TooLarge(f"cannot read {name!r} - it holds {len(paths)} slices, the limit is {MAX_SLICES} - divide it.")
    planes = [plane for place, path in enumerate(paths) for plane in _read_file(path, place)]
    return _make_volume(name, planes, list(paths))


def _read_file(path: Path, place: int) -> list[Plane]:
    store = open_file(os.fspath(path))
    try:
        return _read_planes(os.fspath(path), NamelessFile(store), place)
    finally:
        store.close()


def _read_planes(name: str, file: NamelessFile, place: int) -> list[Plane]:
    try:
        import pydicom  # noqa: F401 - to say at once that it is missing
    except ImportError as error:
        miss_extra(name, "DICOM", error)
    with explain_volume(name):
        is_packed = _check_file(name, file)
        header = _read_dataset(file, _HEADER_TAGS, with_pixels=False)
        rows, columns = int(header.Rows), int(header.Columns)
        samples, frames = int(header.get("SamplesPerPixel", 1)), int(header.get("NumberOfFrames") or 1)
        bits, colors = int(header.BitsAllocated), str(header.PhotometricInterpretation)
        _check_promise(name, (frames, rows, columns, samples), None if is_packed else 8 * file.size_bytes // bits)
        if colors not in _COLORS:
            raise UnsupportedCodec(
                f"cannot read {name!r} - its colors are {colors} - convert it to MONOCHROME2 or RGB."
            )
        look = (rows, columns, samples, bits, colors)
        return [_describe(name, place, frame, header, look) for frame in range(frames)]


def _read_dataset(file: NamelessFile, tags: list[Any], *, with_pixels: bool) -> "Dataset":
    import pydicom

    file.seek(0)
    # pydicom asks for `read`, `seek` and `tell`, no more than the nameless file has.
    return pydicom.dcmread(file, stop_before_pixels=not with_pixels, specific_tags=tags)


def _check_file(name: str, file: NamelessFile) -> bool:
    """Refuse what pydicom would unpack without a limit, or could not decode later; say whether pixels are packed."""
    from pydicom.pixels.decoders.base import get_decoder

    if file.size_bytes > MAX_DICOM_BYTES:
        raise TooLarge(
            f"cannot read {name!r} - found {file.size_bytes} bytes, the limit is {MAX_DICOM_BYTES} - divide it."
        )
    file.seek(128)
    if file.read(4) != b"DICM":
        raise NotAVideo(f"cannot read {name!r} as DICOM - the mark DICM is not at byte 128 - export it again.")
    meta = _read_meta(file)
    syntax = meta.get(0x0010, "")
    if meta.get(0x0002) == _DIRECTORY:
        raise NotAVideo(
            f"cannot read {name!r} - it is a DICOMDIR, which holds no picture - give the folder of a series."
        )
    if not syntax:
        raise Corrupt(f"cannot read {name!r} - it states no transfer syntax, its beginning is damaged - copy it again.")
    try:
        decoder = None if syntax == _DEFLATED else get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        needs = f" (pydicom needs {'; or '.join(decoder.missing_dependencies)})" if decoder is not None else ""
        raise UnsupportedCodec(
            f"cannot read {name!r} - its transfer syntax {syntax} cannot be decoded here{needs} - "
            "convert it to Explicit VR Little Endian, such as with 'dcmconv' or 'gdcmconv --raw'."
        )
    return bool(decoder.is_encapsulated)


def _read_meta(file: NamelessFile) -> dict[int, str]:
    """Read the short texts of the file meta group, always explicit little endian, from where the file stands."""
    texts: dict[int, str] = {}
    for _ in range(64):
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            break
        length = int.from_bytes(head[6:8], "little")
        if head[4:6] in _LONG_KINDS:
            length = int.from_bytes(file.read(4), "little")
        start = file.tell()
        if length <= 64:
            texts[int.from_bytes(head[2:4], "little")] = file.read(length).decode("ascii", "replace").strip("\0 ")
        file.seek(start + length)
    return texts


def _check_promise(name: str, shape: tuple[int, int, int, int], held: int | None) -> None:
    """Refuse more numbers than the limits allow, or than the file has room for (None: they are packed)."""
    count = math.prod(shape)
    if min(shape) < 1:
        raise Corrupt(f"cannot read {name!r} - it states {shape} frames, rows, columns, samples - export it again.")
    if count > MAX_VALUES or shape[0] > MAX_SLICES:
        raise TooLarge(
            f"cannot read {name!r} - it promises {shape} frames, rows, columns, samples, the limits are {MAX_SLICES} "
            f"frames and {MAX_VALUES} numbers - divide it."
        )
    if held is not None and count > held:
        raise Truncated(f"cannot read {name!r} - it promises {count} numbers, it has room for {held} - copy it again.")


def _describe(name: str, place: int, frame: int, header: "Dataset", look: tuple[Any, ...]) -> Plane:
    def state(group: str, keyword: str) -> Any:
        """Return what is stated of the frame, of all frames, or of the file."""
        per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
        shared = header.get("SharedFunctionalGroupsSequence") or []
        for functional in (*per_frame[frame : frame + 1], *shared[:1]):
            inner = functional.get(group)
            if inner and inner[0].get(keyword) is not None:
                return inner[0].get(keyword)
        return header.get(keyword)

    position = _to_numbers(state("PlanePositionSequence", "ImagePositionPatient"), 3)
    turn = _to_numbers(state("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = _to_numbers(state("PixelMeasuresSequence", "PixelSpacing"), 2)
    thickness = state("PixelMeasuresSequence", "SpacingBetweenSlices") or state(
        "PixelMeasuresSequence", "SliceThickness"
    )
    slope = state("PixelValueTransformationSequence", "RescaleSlope")
    return Plane(
        name,
        place,
        frame,
        str(header.get("SeriesInstanceUID", "")),
        look,
        position,
        None if turn is None else (turn[:3], turn[3:]),
        None if spacing is None else (float(spacing[0]), float(spacing[1])),
        None if not thickness else abs(float(thickness)),
        1.0 if slope is None else float(slope),
        float(state("PixelValueTransformationSequence", "RescaleIntercept") or 0.0),
        float(header.get("EchoTime") or 0.0),
    )


def _to_numbers(stated: Any, count: int) -> Float64[np.ndarray, " number"] | None:
    if not stated:
        return None
    numbers = np.array([float(number) for number in stated], np.float64)
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _make_volume(name: str, planes: list[Plane], files: Sequence[Path | NamelessFile]) -> StoredVolume:
    arrangement = arrange(name, planes)
    rows, columns, samples, *_ = planes[0].look
    channels = samples * len(arrangement.slices[0])
    shape, spacing_mm = Shape(len(arrangement.slices), rows, columns, channels), arrangement.spacing_mm
    if math.prod(shape) > MAX_VALUES:
        raise TooLarge(f"cannot read {name!r} - it holds {shape}, the limit is {MAX_VALUES} numbers - divide it.")
    if arrangement.affine is not None:
        with explain_volume(name):
            turned, turned_mm = measure_axes(arrangement.affine, shape, name)
        spacing_mm = None if spacing_mm is None else turned_mm
    else:
        turned = shape
    return StoredVolume(name, "dicom", turned, spacing_mm, partial(_read_values, name, arrangement, shape, files))


def _read_values(name: str, arrangement: Arrangement, shape: Shape, files: Sequence[Path | NamelessFile]) -> Values:
    """Decode file after file, scale each frame to what it measures, put it into its place."""
    planes = [plane for channels in arrangement.slices for plane in channels]
    is_plain = planes[0].look[3] == 8 and all((plane.slope, plane.intercept) == (1.0, 0.0) for plane in planes)
    values = np.empty(shape, np.uint8 if is_plain else np.float32)
    wanted: dict[int, list[tuple[int, int, Plane]]] = {}
    for slice_index, channels in enumerate(arrangement.slices):
        for channel, plane in enumerate(channels):
            wanted.setdefault(plane.file, []).append((slice_index, channel, plane))
    for file, places in wanted.items():
        with explain_volume(places[0][2].name):
            frames = _decode(files[file], places[0][2])
            for slice_index, channel, plane in places:
                frame = frames[plane.frame]
                samples = slice(channel, channel + frame.shape[2])
                values[slice_index, ..., samples] = frame if is_plain else frame * plane.slope + plane.intercept
    return values if arrangement.affine is None else turn_axial(values, arrangement.affine, name)


def _decode(file: Path | NamelessFile, plane: Plane) -> Shaped[np.ndarray, "frame row column sample"]:
    """Decode all frames of a file, colors as RGB."""
    if isinstance(file, Path):
        store = open_file(os.fspath(file))
        try:
            return _decode(NamelessFile(store), plane)
        finally:
            store.close()
    pixels: np.ndarray = _read_dataset(file, _PIXEL_TAGS, with_pixels=True).pixel_array
    rows, columns, samples, *_ = plane.look
    return pixels.reshape(-1, rows, columns, samples)
