"""Decode: one class a backend, all with the same two things, `info` and `frames_at`.

A reader answers for distinct, sorted, valid indices; `tubelet.video.source.Video` sees to repeats, order and range.
Backends: `pyav` (default, always there), `torchcodec` and `decord` (extras); frame folders and arrays need no decoder,
and each format of volumes has its own (an extra).
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tubelet.registry import Registry
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.opening import Media
from tubelet.video.volumes import VolumeView

__all__ = ["DECODERS", "VOLUMES", "Reader", "ReaderFactory", "SequentialReader"]


@runtime_checkable
class Reader(Protocol):
    """Give exact frames of one opened source."""

    info: VideoInfo

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the frames are shown, in seconds from the first."""

    def frames_at(self, indices: list[int]) -> Pixels:
        """Decode frames.

        Args:
            indices: distinct, ascending, each in [0, num_frames).

        Returns:
            uint8 (time, height, width, channel), rotation applied.
        """

    def close(self) -> None:
        """Give everything back; closing twice is harmless."""


@runtime_checkable
class SequentialReader(Protocol):
    """Be a reader for which frames one by one are cheaper in one go than in a call each."""

    def iterate(self, indices: list[int]) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.uint8]]]]:
        """Decode frames one after another.

        Args:
            indices: distinct, ascending, each in [0, num_frames).

        Returns:
            An iterator of (place in `indices`, uint8 (height, width, channel)), in this order.
        """


ReaderFactory = Callable[[Media, int | None, int], Reader]
"""Make a reader from an opened source, a stream index (None: the best) and a number of threads."""

DECODERS: Registry[Callable[[], ReaderFactory]] = Registry("decoder", "tubelet doctor")
"""Loaders, so that a backend is imported only when it is chosen."""


@DECODERS.register("pyav")
def _load_pyav() -> ReaderFactory:
    from tubelet.video.decoders.pyav import PyavReader

    return PyavReader


@DECODERS.register("torchcodec")
def _load_torchcodec() -> ReaderFactory:
    from tubelet.video.decoders.torchcodec import TorchcodecReader

    return TorchcodecReader


@DECODERS.register("decord")
def _load_decord() -> ReaderFactory:
    from tubelet.video.decoders.decord import DecordReader

    return DecordReader


def _open_nifti(media: Media, view: VolumeView, fps: float) -> Reader:
    from tubelet.video.decoders.nifti import open_nifti
    from tubelet.video.decoders.volumes import VolumeReader

    return VolumeReader(open_nifti(media), view, fps)


def _open_dicom(media: Media, view: VolumeView, fps: float) -> Reader:
    from tubelet.video.decoders.dicom import open_dicom
    from tubelet.video.decoders.volumes import VolumeReader

    return VolumeReader(open_dicom(media), view, fps)


VOLUMES: Mapping[str, Callable[[Media, VolumeView, float], Reader]] = MappingProxyType(
    {"nifti": _open_nifti, "dicom": _open_dicom}
)
"""Readers of volumes by what the gate calls their formats; `--decoder` has no say here."""
