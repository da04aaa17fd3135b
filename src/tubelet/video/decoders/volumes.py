"""Serve the slices of a volume as frames; and what readers of medical formats share."""

import contextlib
from collections.abc import Iterator
from itertools import permutations
from typing import NoReturn

import numpy as np
from jaxtyping import Float64

from tubelet.errors import Corrupt, MissingExtra, TooLarge, TubeletError
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.decoders.silence import muted_warnings
from tubelet.video.volumes import Changed, Shape, Spacing, StoredVolume, Values, VolumeView

__all__ = ["Affine", "VolumeReader", "explain_volume", "measure_axes", "miss_extra", "turn_axial"]


class VolumeReader:
    """Serve the slices of a volume; numbers are read, and stay as pixels, when the first slice is asked for.

    Raises:
        VideoError: where the view cannot be had of this volume.
    """

    def __init__(self, stored: StoredVolume, view: VolumeView, fps: float) -> None:
        self._stored = stored
        self._view = view
        self._pixels: Pixels | None = None
        shape = view.plan_shape(stored.shape, stored.spacing_mm, stored.name)
        self.info = VideoInfo(
            *shape[:3], fps, shape.slices / fps, stored.kind, 0, shape.channels, view.spacing_mm or stored.spacing_mm
        )

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the slices are shown at the assumed rate, in seconds from the first."""
        return [index / self.info.fps for index in indices]

    def frames_at(self, indices: list[int]) -> Pixels:
        """Return a copy of these slices."""
        if self._pixels is None:
            stored = self._stored
            with explain_volume(stored.name):
                values = stored.read()
            self._pixels = self._view.draw(values, stored.spacing_mm, stored.name)
        return self._pixels[indices]

    def close(self) -> None:
        """Let the pixels go."""
        self._pixels = None


@contextlib.contextmanager
def explain_volume(name: str) -> Iterator[None]:
    """Replace whatever a library raises, inside the block, by one error that names the source; its warnings are mute.

    Raises:
        VideoError: `too_large` where memory does not suffice, else `corrupt`.
    """
    try:
        with muted_warnings(), np.errstate(all="ignore"):
            yield
    except TubeletError:
        raise
    except MemoryError:
        raise TooLarge(f"cannot read {name!r} - it needs more memory than there is - scale it down.") from None
    except Exception as error:
        # Neither library states what its parsers raise: struct.error, KeyError, RecursionError and others were seen.
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise Corrupt(
            f"cannot read {name!r} - its contents make no sense ({reason}) - copy or export it again."
        ) from error


def miss_extra(name: str, kind: str, error: ImportError) -> NoReturn:
    """Say which command installs the readers of medical formats.

    Raises:
        MissingExtra: always.
    """
    raise MissingExtra(f"cannot read {name!r}, a {kind} file - {error} - pip install 'tubelet[volumes]'.") from None


Affine = Float64[np.ndarray, "3 3"]


def measure_axes(affine: Affine, shape: Shape, name: str) -> tuple[Shape, Spacing]:
    """Say which shape and spacing a volume has once it is turned.

    Args:
        affine: leads from (slice, row, column) as stored to mm toward (superior, posterior, left).
        shape: as stored.
        name: what messages call it.

    Raises:
        Corrupt: the axes span no space.
    """
    order, _ = _match_axes(affine, name)
    sizes = np.sqrt((affine**2).sum(0))
    slices, rows, columns = (shape[axis] for axis in order)
    return Shape(slices, rows, columns, shape.channels), (
        float(sizes[order[0]]),
        float(sizes[order[1]]),
        float(sizes[order[2]]),
    )


def turn_axial(values: Values, affine: Affine, name: str) -> Changed:
    """Turn a volume to axial slices, by the nearest axis: inferior to superior, anterior to posterior, right to left.

    Args:
        values: (slice, row, column, channel) as stored.
        affine: as in `measure_axes`.
        name: what messages call it.
    """
    order, is_backward = _match_axes(affine, name)
    steps = tuple(slice(None, None, -1 if backward else 1) for backward in is_backward)
    turned: Changed = values.transpose(*order, 3)[steps]
    return turned


def _match_axes(affine: Affine, name: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Say which stored axis goes most along each direction, one for each, and whether backward."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 3:
        raise Corrupt(
            f"cannot read {name!r} - its axes span no space: {affine.round(3).tolist()} - write its orientation again."
        )
    cosines = affine / np.sqrt((affine**2).sum(0))
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[way, axis]) for way, axis in enumerate(axes)))
    return order, tuple(bool(cosines[way, axis] < 0) for way, axis in enumerate(order))
