"""Turn what a user calls a live source into what FFmpeg shall open, and what it may use for that."""

import os
import re
import sys
import threading
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import urlsplit, urlunsplit

import av

from tubelet.errors import ConfigError, NotAVideo, SourceNotFound
from tubelet.shapes import Size
from tubelet.video.arrival import ArrivingBytes, follow_file, read_standard_input
from tubelet.video.opening import DEMUXERS, MAX_PIXELS, NamelessFile, open_media

__all__ = ["Asked", "Place", "find_place"]

CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's format of cameras, by `sys.platform`."""
PROTOCOLS = {"rtsp": "rtsp,rtp,udp,tcp", "rtsps": "rtsp,rtp,udp,tcp,tls", "http": "http,tcp", "https": "https,tls,tcp"}
"""Protocols that may serve an address: those that it needs itself."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:://|:|,)")


@dataclass(frozen=True)
class Asked:
    """Hold what a user asked for; see `LiveSource`."""

    source: str
    fps: float | None
    raw: Size | None
    follow_s: float | None
    listen: bool
    timeout_s: float

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ConfigError(f"fps must lie in 0 to 1000 - found {self.fps} - give frames per second.")
        for name, value in (("timeout_s", self.timeout_s), ("follow_s", self.follow_s)):
            if value is not None and not 0 < value <= 86_400:
                raise ConfigError(f"{name} must be above 0, at most a day - found {value} - give seconds.")
        if self.raw is not None:
            self._check_raw(self.raw)
        if self.listen and self.scheme not in ("rtsp", "rtsps"):
            raise ConfigError(
                f"cannot listen at {self.name!r} - only rtsp senders come to us - give rtsp://HOST:PORT/."
            )
        if self.follow_s is not None and (self.scheme or self.source == "-" or self.is_camera):
            raise ConfigError(f"follow_s waits at the end of a file - found {self.name!r} - leave it out.")

    def _check_raw(self, raw: Size) -> None:
        if min(raw) < 1 or raw.height * raw.width > MAX_PIXELS or self.fps is None:
            raise ConfigError(
                f"raw frames need a height and a width of at least 1 pixel, and fps - found {raw.height}x{raw.width}, "
                f"fps={self.fps} - give both, such as --raw 480 640 --fps 25."
            )
        if self.source != "-":
            raise ConfigError(f"raw frames come through standard input - found {self.name!r} - give - as the source.")

    @property
    def scheme(self) -> str:
        """The scheme of an address of the network that is allowed; empty for all else."""
        scheme, mark, _ = self.source.partition("://")
        return scheme.lower() if mark and scheme.lower() in PROTOCOLS else ""

    @property
    def is_camera(self) -> bool:
        """Whether a camera of this machine is meant."""
        return self.source.isdecimal() or self.source.startswith("camera:")

    @property
    def name(self) -> str:
        """What messages call it: without user name and password."""
        if "://" not in self.source:
            return self.source
        try:
            parts = urlsplit(self.source)
        except ValueError:
            return self.source.partition("://")[0] + "://..."
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(frozen=True)
class Place:
    """Say what FFmpeg shall open, and what it may use."""

    name: str
    target: str | ArrivingBytes | NamelessFile
    demuxer: str | None
    """The one format it is; None: one of `DEMUXERS`, or pictures one after the other."""
    protocols: str = "none"
    is_live: bool = True
    options: dict[str, str] = field(default_factory=dict)
    advice: str = ""
    """What to do where it does not open."""

    @property
    def formats(self) -> str:
        """List the formats that FFmpeg may take it for."""
        return self.demuxer or ",".join([*DEMUXERS, "mpjpeg", "mjpeg"])


def find_place(asked: Asked, closing: threading.Event) -> Place:
    """Find out what a source is, and open it where that is no business of FFmpeg.

    Raises:
        VideoError: nothing of that name, or nothing that is allowed.
    """
    if asked.is_camera:
        return _find_camera(asked.source.removeprefix("camera:"), asked.fps)
    if asked.scheme:
        return _find_network(asked)
    if asked.source == "-":
        arriving = read_standard_input(closing)
        return Place(arriving.name, arriving, "rawvideo" if asked.raw else arriving.sniff())
    if _SCHEME.match(asked.source) and not os.path.exists(asked.source):  # noqa: PTH110 - names that pathlib refuses
        raise NotAVideo(
            f"cannot stream {asked.name!r} - that is no protocol that is allowed here - give a camera's number, "
            "rtsp://, http(s)://, the path of a file, or - for standard input."
        )
    if asked.follow_s is not None:
        growing = follow_file(asked.source, asked.follow_s, closing)
        return Place(asked.source, growing, growing.sniff())
    media = open_media(asked.source)
    if media.demuxer not in DEMUXERS:
        media.close()
        raise NotAVideo(f"cannot stream {asked.source!r} - it is a volume ({media.demuxer}) - use 'tubelet predict'.")
    return Place(media.name, media.file, media.demuxer, is_live=False)


def _find_camera(name: str, fps: float | None) -> Place:
    demuxer = CAMERAS.get(sys.platform, "v4l2")
    if not any(demuxer in one.split(",") for one in av.formats_available):
        raise SourceNotFound(
            f"cannot open camera {name!r} - PyAV was built without {demuxer} here - pipe it: 'ffmpeg -f {demuxer} -i "
            "CAMERA -f mpegts - | tubelet stream MODEL -'."
        )
    if demuxer == "dshow" and name.isdecimal():
        raise SourceNotFound(
            f"cannot open camera {name} - Windows knows cameras by name - give camera:NAME; 'ffmpeg -list_devices true "
            "-f dshow -i dummy' lists them."
        )
    target = {"v4l2": f"/dev/video{name}" if name.isdecimal() else name, "dshow": f"video={name}"}.get(demuxer, name)
    options = {} if fps is None else {"framerate": str(Fraction(fps).limit_denominator(1001))}
    advice = f"check that {target} is there, is a camera, may be read, and is not in use"
    return Place(f"camera {name}", target, demuxer, options=options, advice=advice)


def _find_network(asked: Asked) -> Place:
    protocols = PROTOCOLS[asked.scheme]
    if asked.scheme.startswith("http"):
        advice = (
            "check the address; playlists such as HLS are refused: pipe them, 'ffmpeg -i URL -f mpegts - | tubelet "
            "stream MODEL -'"
        )
        return Place(asked.name, asked.source, None, protocols, advice=advice)
    options = {"rtsp_transport": "tcp", "analyzeduration": "2000000"}
    if asked.listen:
        options |= {"rtsp_flags": "listen", "listen_timeout": str(max(round(asked.timeout_s), 1))}
    advice = "check that something sends to it in time" if asked.listen else "check the address, and that it sends"
    return Place(asked.name, asked.source, "rtsp", protocols, options=options, advice=advice)
