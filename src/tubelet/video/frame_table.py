"""List the frames of a stream: which packet carries each shown frame, and when it is shown.

Packets come in decode order, frames are shown in presentation order, and some packets are never shown:

    packet (decode order)   0    1    2    3    4    ...
    id (what the decoder    0   160   80   40  120         stamps on the frame it makes of the packet)
    shown frame             0    4    2    1    3          0 40 80 120 160 -> 0.00 0.04 0.08 ... seconds
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

__all__ = ["FrameTable", "make_table"]


@dataclass(frozen=True, eq=False)
class FrameTable:
    """Map between packets in decode order and shown frames in presentation order."""

    ids: Int64[np.ndarray, " packet"]
    """The time stamp that the decoder hands through from packet to frame."""
    is_key: Bool[np.ndarray, " packet"]
    shown: Int64[np.ndarray, " frame"]
    """The packet of each shown frame."""
    times_s: Float64[np.ndarray, " frame"]
    """Seconds from the first shown frame."""
    last_s: float
    """How long the last frame is shown."""
    is_timed: bool
    """`ids` are the container's presentation times; otherwise they are packet numbers that the reader writes itself."""

    def __post_init__(self) -> None:
        order = np.argsort(self.ids, kind="stable")
        object.__setattr__(self, "_sorted", (self.ids[order], order))
        ranks = np.arange(len(self.ids))
        ranks[self.shown] = np.sort(self.shown)
        object.__setattr__(self, "_order", self.ids if self.is_timed else ranks)
        object.__setattr__(self, "_keys", np.flatnonzero(self.is_key))

    @property
    def num_frames(self) -> int:
        """Count the shown frames."""
        return len(self.shown)

    @property
    def nbytes(self) -> int:
        """Count the bytes that the table holds, those of its search index included."""
        return 4 * self.ids.nbytes + self.is_key.nbytes + self.shown.nbytes + self.times_s.nbytes

    @property
    def fps(self) -> float:
        """Average the rate over the whole stream; 0 where one frame leaves it open."""
        span = float(self.times_s[-1]) if len(self.times_s) else 0.0
        if span > 0:
            return (len(self.times_s) - 1) / span
        return 1.0 / self.last_s if self.last_s > 0 else 0.0

    @property
    def duration_s(self) -> float:
        """Measure from the first frame's start to the last frame's end."""
        return float(self.times_s[-1]) + self.last_s if len(self.times_s) else 0.0

    @property
    def has_open_groups(self) -> bool:
        """Say whether a frame is decoded after a key packet but shown before it."""
        order = self._order  # type: ignore[attr-defined]
        highest_key = np.maximum.accumulate(np.where(self.is_key, order, np.iinfo(np.int64).min))
        return bool((order < highest_key)[self.shown].any())

    def packet_of(self, stamp: int) -> int:
        """Find the packet that carries this stamp, or -1."""
        ids, order = self._sorted  # type: ignore[attr-defined]
        place = int(np.searchsorted(ids, stamp))
        return int(order[place]) if place < len(ids) and ids[place] == stamp else -1

    def start_before(self, packet: int) -> int:
        """Find the key packet from which decoding reaches `packet` exactly.

        A key packet that is shown *after* the wanted frame does not serve although it is decoded before it: the
        frames in between lean on the previous group (an open group of pictures).
        """
        keys = self._keys  # type: ignore[attr-defined]
        keys = keys[: np.searchsorted(keys, packet, side="right")]
        if len(keys) and self._order[keys[-1]] <= self._order[packet]:  # type: ignore[attr-defined]
            return int(
                keys[-1]
            )  # nearly always; looking at all key packets for each frame would take long videos hours
        usable = keys[self._order[keys] <= self._order[packet]]  # type: ignore[attr-defined]
        return int(usable[-1]) if len(usable) else 0

    def keep(self, packets: Int64[np.ndarray, " kept"]) -> "FrameTable":
        """Return the table with only the frames of these packets shown."""
        is_kept = np.isin(self.shown, packets)
        times = self.times_s[is_kept]
        times = times - (times[0] if len(times) else 0.0)
        return FrameTable(self.ids, self.is_key, self.shown[is_kept], times, self.last_s, self.is_timed)


def make_table(
    stamps: Sequence[int] | Int64[np.ndarray, " packet"],
    is_key: Sequence[bool] | Bool[np.ndarray, " packet"],
    is_shown: Sequence[bool] | Bool[np.ndarray, " packet"],
    *,
    time_base_s: float,
    last_duration: int,
) -> FrameTable:
    """Build the table of a stream whose packets carry presentation times.

    Args:
        stamps: presentation time of each packet, in decode order, in units of `time_base_s`.
        is_key: whether decoding can begin there.
        is_shown: False for packets that only serve others or that an edit list cuts away.
        time_base_s: seconds a unit.
        last_duration: units that the last packet lasts; 0 where unknown.
    """
    ids = np.asarray(stamps, np.int64)
    shown = np.flatnonzero(np.asarray(is_shown, bool))
    shown = shown[np.argsort(ids[shown], kind="stable")]
    times = (ids[shown] - (ids[shown[0]] if len(shown) else 0)) * time_base_s
    last_s = last_duration * time_base_s
    if last_s <= 0 and len(times) > 1:
        last_s = float(times[-1] / (len(times) - 1))
    return FrameTable(ids, np.asarray(is_key, bool), shown, times.astype(np.float64), float(last_s), True)
