"""Name everything that can go wrong, in one tree.

    TubeletError
    |- VideoError            a source could not be opened or decoded
    |  |- SourceNotFound     no such file
    |  |- NotAVideo          a directory, a pipe, a text file, an unknown format
    |  |- NoVideoStream      a container that holds no picture
    |  |- UnsupportedCodec   a picture that this build cannot decode
    |  |- Encrypted          protected content
    |  |- NotAVolume         slices that make up none, or a source without what a volume states
    |  |- Truncated          the end of the file is missing
    |  |- Corrupt            the bytes contradict themselves
    |  |- TooLarge           beyond a stated limit
    |  |- DecodeTimeout      beyond a stated time
    |  |- DecoderCrashed     the decoding process died
    |  `- FrameOutOfRange    an index that the video does not have
    |- ConfigError           an option or a configuration file
    |- UnknownName           a model, a dataset, a decoder nobody registered
    |- DataError             a manifest, a folder of clips, an array file
    |- CheckpointError       a weights or checkpoint file
    |- ExportError           a file that answers otherwise than its model
    |- TrainingError         a run that cannot go on
    |- Interrupted           a run that was asked to stop
    `- MissingExtra          an optional dependency that is not installed

Every message reads: what was asked - what was found - what to do. `code` is stable across versions, for programs.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Corrupt",
    "DataError",
    "DecodeTimeout",
    "DecoderCrashed",
    "Encrypted",
    "ExportError",
    "FrameOutOfRange",
    "Interrupted",
    "MissingExtra",
    "NoVideoStream",
    "NotAVideo",
    "NotAVolume",
    "SourceNotFound",
    "TooLarge",
    "TrainingError",
    "Truncated",
    "TubeletError",
    "UnknownName",
    "UnsupportedCodec",
    "VideoError",
    "name_nearest",
]


class TubeletError(Exception):
    """Report a failure that the caller can act upon; `code` names its kind."""

    code = "error"


class VideoError(TubeletError):
    """Report a source that could not be opened or decoded; the text holds the source's name."""

    code = "video"


class SourceNotFound(VideoError):
    """Report a path where nothing lies."""

    code = "not_found"


class NotAVideo(VideoError):
    """Report a source that is no regular file or no known video format."""

    code = "not_a_video"


class NoVideoStream(VideoError):
    """Report a container without a picture stream."""

    code = "no_video_stream"


class UnsupportedCodec(VideoError):
    """Report a picture stream that this build cannot or may not decode."""

    code = "unsupported_codec"


class Encrypted(VideoError):
    """Report protected content."""

    code = "encrypted"


class NotAVolume(VideoError):
    """Report slices that do not make up one volume, or a source that states no spacing or unit where one is wanted."""

    code = "not_a_volume"


class Truncated(VideoError):
    """Report a file whose end is missing."""

    code = "truncated"


class Corrupt(VideoError):
    """Report bytes that contradict themselves."""

    code = "corrupt"


class TooLarge(VideoError):
    """Report a source beyond a stated limit."""

    code = "too_large"


class DecodeTimeout(VideoError):
    """Report a source that took longer than the stated time."""

    code = "timeout"


class DecoderCrashed(VideoError):
    """Report that the decoding process died."""

    code = "decoder_crashed"


class FrameOutOfRange(VideoError):
    """Report a frame index that the video does not have."""

    code = "frame_out_of_range"


class ConfigError(TubeletError):
    """Report a wrong option, key or value in a configuration."""

    code = "config"


class UnknownName(TubeletError):
    """Report a name that nobody registered, with the nearest one that somebody did."""

    code = "unknown_name"


class DataError(TubeletError):
    """Report a wrong manifest, folder or array file, with the line where there is one."""

    code = "data"


class CheckpointError(TubeletError):
    """Report a weights or checkpoint file that cannot be used."""

    code = "checkpoint"


class ExportError(TubeletError):
    """Report an exported file whose answers are not those of the model it was made from."""

    code = "export"


class TrainingError(TubeletError):
    """Report a run that cannot start or go on."""

    code = "training"


class Interrupted(TubeletError):
    """Report a run that stopped because a signal asked it to; it can go on."""

    code = "interrupted"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        """Exit status of a program that ends so: 130 for Ctrl-C, 143 for SIGTERM."""


class MissingExtra(TubeletError):
    """Report an optional dependency that is not installed, with the command that installs it."""

    code = "missing_extra"


def name_nearest(name: str, candidates: Iterable[str]) -> str:
    """Say which candidate a mistyped name was probably meant to be.

    Returns:
        `"; did you mean 'vivit_base'?"`, or an empty string where nothing is near.

    Example:
        >>> name_nearest("lerning_rate", ["learning_rate", "batch"])
        "; did you mean 'learning_rate'?"
    """
    near = get_close_matches(name, list(candidates), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
