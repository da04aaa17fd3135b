"""Find out where the slices of a series belong: in space, never by the names of their files.

    a.dcm  (.., .., 4)                                  b  a  c
    b.dcm  (.., .., 0)   ->  along the normal of  ->   |--|--|      one series? one distance? nothing twice?
    c.dcm  (.., .., 8)       the slices                0  4  8 mm

Slices of one place that differ in echo time are channels, in the order of their echo times. The slices of a tilted
gantry stay as they are: their shear is not undone.

Source: DICOM PS3.3, C.7.6.2.1.1 (position and orientation of an image).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from tubelet.errors import NotAVolume
from tubelet.video.decoders.volumes import Affine
from tubelet.video.volumes import Spacing

__all__ = ["Arrangement", "Plane", "arrange"]

_UNEVEN = 0.1
"""Share of the usual distance by which a distance may differ: tables jitter, and a missing slice doubles it."""
_TURNED = 1e-3

Vector = Float64[np.ndarray, " 3"]


class Plane(NamedTuple):
    """Hold what a header says of one frame."""

    name: str
    """The file, for messages."""
    file: int
    """Which of the files, counted from 0."""
    frame: int
    """Which frame of that file."""
    series: str
    """What all slices of a volume have in common."""
    look: tuple[Any, ...]
    """(rows, columns, samples, bits, colors): the same in all slices of a volume."""
    position: Vector | None
    """Center of the first voxel, in mm toward (left, posterior, superior)."""
    axes: tuple[Vector, Vector] | None
    """Directions toward the next column and toward the next row."""
    spacing: tuple[float, float] | None
    """(row, column) in mm."""
    thickness: float | None
    """Distance to the next slice in mm, as stated."""
    slope: float
    intercept: float
    echo: float
    """Echo time in ms; 0 where there is none."""


class Arrangement(NamedTuple):
    """Say which frame goes where."""

    slices: list[list[Plane]]
    """For each slice the frames that are its channels."""
    affine: Affine | None
    """From (slice, row, column) to mm toward (superior, posterior, left); None where nothing is stated."""
    spacing_mm: Spacing | None


def arrange(name: str, planes: Sequence[Plane]) -> Arrangement:
    """Put the frames of a series into their places.

    The frames of a single file that states no places stay in their order.

    Raises:
        NotAVolume: several series, slices of other sizes or directions, two at one place, a gap, or no place at all.
    """
    _check_alike(name, planes)
    first = planes[0]
    homeless = [plane for plane in planes if plane.position is None or plane.axes is None]
    if homeless:
        if any(plane.file != first.file for plane in planes):
            raise NotAVolume(
                f"cannot read {name!r} as a volume - {homeless[0].name!r} states no ImagePositionPatient or "
                "ImageOrientationPatient - export the series again, or convert it to NIfTI."
            )
        thickness = first.thickness if first.spacing else None
        stated = None if first.spacing is None or thickness is None else (thickness, *first.spacing)
        return Arrangement([[plane] for plane in planes], None, stated)
    _check_directions(name, planes)
    places, slices = _sort(name, planes)
    distance = _measure_distance(name, places, slices) if len(slices) > 1 else first.thickness
    rows, columns = first.spacing or (1.0, 1.0)
    spacing = None if first.spacing is None or distance is None else (distance, rows, columns)
    assert first.axes is not None
    across, down = first.axes
    steps = np.stack([np.cross(across, down) * (distance or 1.0), down * rows, across * columns], 1)
    return Arrangement(slices, steps[::-1], spacing)


def _check_alike(name: str, planes: Sequence[Plane]) -> None:
    series = Counter(plane.series for plane in planes)
    if len(series) > 1:
        counts = ", ".join(f"{count} slices of ...{uid[-12:]}" for uid, count in series.most_common(3))
        raise NotAVolume(
            f"cannot read {name!r} as a volume - it holds {len(series)} series ({counts}) - give each series a folder "
            "of its own."
        )
    usual = Counter((plane.look, plane.spacing) for plane in planes).most_common(1)[0][0]
    for plane in planes:
        if (plane.look, plane.spacing) != usual:
            raise NotAVolume(
                f"cannot read {name!r} as a volume - {plane.name!r} has {plane.look} (rows, columns, samples, bits, "
                f"colors) of spacing {plane.spacing}, most slices {usual[0]} of {usual[1]} - take it out."
            )


def _check_directions(name: str, planes: Sequence[Plane]) -> None:
    axes = np.array([plane.axes for plane in planes])
    off = np.abs(axes - np.median(axes, axis=0)).max(axis=(1, 2))
    if off.max() > _TURNED:
        other = planes[int(off.argmax())]
        raise NotAVolume(
            f"cannot read {name!r} as a volume - {other.name!r} lies in another direction than most slices - take it "
            "out; a scout view is often among them."
        )


def _sort(name: str, planes: Sequence[Plane]) -> tuple[list[float], list[list[Plane]]]:
    """Return places along the normal, ascending, and for each the frames there, ordered by echo time."""
    assert planes[0].axes is not None
    normal = np.cross(*planes[0].axes)
    grouped: dict[float, list[Plane]] = defaultdict(list)
    for plane in planes:
        assert plane.position is not None
        grouped[round(float(plane.position @ normal), 3)].append(plane)
    places = sorted(grouped)
    slices = [sorted(grouped[place], key=lambda plane: plane.echo) for place in places]
    echoes = [[plane.echo for plane in channels] for channels in slices]
    for place, channels, times in zip(places, slices, echoes, strict=True):
        if len(set(times)) != len(times):
            twice = next(one for one, other in pairwise(channels) if one.echo == other.echo)
            rest = [plane.name for plane in channels if plane is not twice]
            raise NotAVolume(
                f"cannot read {name!r} as a volume - {twice.name!r} and {rest[0]!r} lie at the same place, "
                f"{place:g} mm - take one out, or give each time or phase a folder of its own."
            )
        if times != echoes[0]:
            raise NotAVolume(
                f"cannot read {name!r} as a volume - at {place:g} mm it has the echo times {times} ms, at "
                f"{places[0]:g} mm {echoes[0]} - complete the series."
            )
    return places, slices


def _measure_distance(name: str, places: list[float], slices: list[list[Plane]]) -> float:
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > _UNEVEN * usual:
        one, other = slices[worst][0].name, slices[worst + 1][0].name
        raise NotAVolume(
            f"cannot read {name!r} as a volume - {one!r} and {other!r} are {gaps[worst]:g} mm apart, most neighbors "
            f"{usual:g} mm: a slice is missing, or one too many - complete the series, or convert it to NIfTI."
        )
    return float(np.mean(gaps))
