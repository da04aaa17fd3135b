"""Take ISO (mp4, mov) files apart and put them together wrongly."""

import struct
from collections.abc import Callable, Iterator

Change = Callable[[bytes], bytes | None]


def parse(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each box of one level."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        size = size or len(data) - at
        yield kind, data[at + 8 : at + size]
        at += size


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def rewrite(data: bytes, path: str, change: Change) -> bytes:
    """Change the body of the boxes at a path such as `moov/trak/tkhd`; None drops the box; parents' sizes follow."""
    head, _, rest = path.partition("/")
    parts, hit = [], False
    for kind, body in parse(data):
        new: bytes | None = body
        if kind == head.encode("latin1"):
            hit = True
            new = rewrite(body, rest, change) if rest else change(body)
        if new is not None:
            parts.append(box(kind, new))
    if not hit:
        raise LookupError(f"no box {head!r} at this level: {[kind for kind, _ in parse(data)]}")
    return b"".join(parts)


def put(data: bytes, path: str, offset: int, form: str, *values: float) -> bytes:
    """Overwrite fields inside the box at a path, counted from the body's start."""

    def change(body: bytes) -> bytes:
        return body[:offset] + struct.pack(form, *values) + body[offset + struct.calcsize(form) :]

    return rewrite(data, path, change)


STBL = "moov/trak/mdia/minf/stbl"


def turned(data: bytes, quarters: int, mirrored: bool, height: int, width: int) -> bytes:
    """Write a display matrix into the track header: mirrored first, then turned clockwise."""
    # Maps (x, y) of the stored picture to (a x + c y + e, b x + d y + f) of the screen.
    a, b, c, d = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarters]
    if mirrored:
        a, b = -a, -b
    e = -min(0, a * width) - min(0, c * height)
    f = -min(0, b * width) - min(0, d * height)
    one = 1 << 16
    matrix = (a * one, b * one, 0, c * one, d * one, 0, e * one, f * one, 1 << 30)
    return put(data, "moov/trak/tkhd", 40, ">9i", *matrix)


def with_edits(data: bytes, edits: list[tuple[int, int]], movie_scale: int = 1000) -> bytes:
    """Replace the edit list: (duration in movie ticks, media time in media ticks or -1 for a pause) each."""
    rows = b"".join(struct.pack(">IiHH", duration, media, 1, 0) for duration, media in edits)
    edit_box = box(b"edts", box(b"elst", struct.pack(">II", 0, len(edits)), rows))

    def change(trak: bytes) -> bytes:
        kept = [(kind, body) for kind, body in parse(trak) if kind != b"edts"]
        first = b"".join(box(kind, body) for kind, body in kept[:1])
        return first + edit_box + b"".join(box(kind, body) for kind, body in kept[1:])

    data = rewrite(data, "moov/trak", change)
    return put(data, "moov/mvhd", 12, ">I", movie_scale)


def media_scale(data: bytes) -> int:
    """Read the ticks per second of the (last) track's media."""
    found: list[int] = []

    def change(body: bytes) -> bytes:
        found.append(struct.unpack_from(">I", body, 12)[0])
        return body

    rewrite(data, "moov/trak/mdia/mdhd", change)
    return found[-1]
