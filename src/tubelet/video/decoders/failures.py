"""Turn what FFmpeg's binding raises into our errors: one kind a cause, always with the source's name."""

import contextlib
import time
from collections.abc import Iterator

import av

from tubelet.errors import Corrupt, DecodeTimeout, TooLarge, Truncated, UnsupportedCodec, VideoError
from tubelet.video.opening import Media

__all__ = ["DECODE_BUDGET_S", "TIMEOUT_S", "Budget", "explain", "explain_missing"]

TIMEOUT_S = 20.0
"""Longest wait for a source's bytes."""
DECODE_BUDGET_S = 60.0
"""Seconds of decoding that every call may take, before what is added for wanted frames and for the file's size."""
FRAME_BUDGET_S = 1.0
"""Seconds more for each wanted frame: some ten times what the largest allowed picture needs."""
MEGABYTE_BUDGET_S = 2.0
"""Seconds more for each megabyte of the file: ordinary video needs a tenth; a bomb is a small file."""


class Budget:
    """Stop a call whose decoding is out of all proportion to the frames it wants and to the bytes it reads.

    With one decoder thread the calling thread's own processor time counts, so that neither a busy machine nor a slow
    disk stops honest work; with several it is wall time, because what they use cannot be told from other work.

    Args:
        media: the source that is being read.
        wanted: how many frames the call is to give.
        threads: decoder threads.
    """

    def __init__(self, media: Media, wanted: int, threads: int) -> None:
        self._name = media.name
        self._clock = time.thread_time if threads == 1 else time.monotonic
        self._seconds = DECODE_BUDGET_S + FRAME_BUDGET_S * wanted + MEGABYTE_BUDGET_S * media.file.size_bytes / 1e6
        self._end_s = self._clock() + self._seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what the caller does with a frame before it asks for the next one."""
        start_s = self._clock()
        yield
        self._end_s += self._clock() - start_s

    def check(self) -> None:
        """Let the work go on, or end it.

        Raises:
            DecodeTimeout: the budget is used up.
        """
        if self._clock() > self._end_s:
            raise DecodeTimeout(
                f"cannot decode {self._name!r} - it took more than {self._seconds:.0f} s, far beyond its size - "
                "convert it to H.264 with a key frame every few seconds, or ask for fewer frames at a time."
            )


@contextlib.contextmanager
def explain(media: Media, verb: str) -> Iterator[None]:
    """Replace every exception of the library, inside the block, by one of ours.

    Args:
        media: the source that is being read.
        verb: what is done to it, for the message.

    Raises:
        VideoError: one of its subclasses, in place of what was raised.
    """
    name = media.name
    try:
        yield
    except VideoError:
        raise
    except (av.error.TimeoutError, av.error.ExitError) as error:
        raise DecodeTimeout(f"cannot {verb} {name!r} - no answer within {TIMEOUT_S} s - check the file.") from error
    except (MemoryError, av.error.MemoryError) as error:
        raise TooLarge(f"cannot {verb} {name!r} - it needs more memory than there is - scale it down.") from error
    except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError) as error:
        raise UnsupportedCodec(f"cannot {verb} {name!r} - {error.strerror} - convert it to H.264.") from error
    except (av.error.FFmpegError, ValueError, IndexError, OverflowError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        kind = Truncated if is_cut(media) else Corrupt
        raise kind(f"cannot {verb} {name!r} - FFmpeg says: {reason} - copy or convert it again.") from error


def explain_missing(media: Media, missing: list[int], num_frames: int) -> VideoError:
    """Make the error for frames that the index promises and the decoder does not give."""
    kind, found = (Truncated, "the end of the file is missing") if is_cut(media) else (Corrupt, "its data is damaged")
    return kind(
        f"cannot decode {media.name!r} - frame {missing[0]} of {num_frames} ({len(missing)} of the wanted frames) does "
        f"not decode, {found} - copy or convert it again."
    )


def is_cut(media: Media) -> bool:
    """Say whether an ISO file is shorter than its boxes say, or lacks the one that lists its samples."""
    layout = media.layout
    return layout is not None and (layout.media_end > media.file.size_bytes or not layout.tracks)
