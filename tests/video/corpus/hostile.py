"""Make files that somebody built to read other files, to reach the network, or to exhaust the machine."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from . import boxes
from .entry import DAMAGE, FOREIGN, ODD, Entry, Frames, Ground
from .pictures import HEIGHT, WIDTH, draw, encoded

BOMB = ODD | {"too_large", "timeout"}
Maker = Callable[[Path, Ground], None]


def _text(form: str) -> Maker:
    """Write a text in which `{abs}`, `{near}`, `{url}`, `{port}`, `{self}` are filled in."""

    def make(path: Path, ground: Ground) -> None:
        near = ground.hide(f"secret_{path.stem}.mp4")
        stream = near.with_suffix(".ts")
        stream.write_bytes(encoded(form="mpegts"))
        ground.decoys.append(stream)
        fields = {"abs": str(near), "near": near.name, "abs_ts": str(stream), "near_ts": stream.name, "self": path.name}
        path.write_text(form.format(**fields, url=ground.url, port=ground.port))

    return make


_HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n{}#EXTINF:2.0,\n{}\n#EXT-X-ENDLIST\n"
_MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{self}\n"
_DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1000" width="64" height="48">'
    "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
_SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
_SMIL = '<smil><body><video src="{abs}"/></body></smil>'
_RAM = "rtsp://127.0.0.1:{port}/x\n"
_PLS = "[playlist]\nFile1={abs}\nNumberOfEntries=1\n"
_IMF = '<?xml version="1.0"?><AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><AssetList><Asset><Path>{abs}</Path></Asset></AssetList></AssetMap>'
_SVG = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file://{abs}">]><svg xmlns="http://www.w3.org/2000/svg">&e;</svg>'


def _playlists() -> list[Entry]:
    texts = {
        "hls_absolute": _HLS.format("", "{abs_ts}"),
        "hls_sibling": _HLS.format("", "{near_ts}"),
        "hls_http": _HLS.format("", "{url}/hls.ts"),
        "hls_file_url": _HLS.format("", "file://{abs_ts}"),
        "hls_concat": _HLS.format("", "concat:{abs_ts}|{abs_ts}"),
        "hls_key": _HLS.format('#EXT-X-KEY:METHOD=AES-128,URI="{abs}"\n', "{near_ts}"),
        "hls_map": _HLS.format('#EXT-X-MAP:URI="{abs}"\n', "{near}"),
        "hls_self": _MASTER,
        "hls_live": _HLS.format("", "{near_ts}").replace("#EXT-X-ENDLIST\n", ""),
        "ffconcat_sibling": "ffconcat version 1.0\nfile {near}\n",
        "ffconcat_absolute": "ffconcat version 1.0\nfile '{abs}'\n",
        "ffconcat_http": "ffconcat version 1.0\nfile {url}/concat.mp4\n",
        "ffconcat_self": "ffconcat version 1.0\nfile {self}\n",
        "dash_sibling": _DASH.format("{near}"),
        "dash_absolute": _DASH.format("file://{abs}"),
        "dash_http": _DASH.format("{url}/dash.mp4"),
        "sdp": _SDP,
        "ogg_sdp": "OggS\n" + _SDP,
        "smil": _SMIL,
        "rtsp": _RAM,
        "pls": _PLS,
        "imf": _IMF,
        "svg": _SVG,
    }
    entries = []
    for key, text in texts.items():
        suffixes = (
            ("mp4", "avi", "m3u8")
            if key.startswith("hls")
            else ("mp4", "sdp")
            if "sdp" in key
            else ("mp4", "mpd")
            if "dash" in key
            else ("mp4",)
        )
        entries += [
            Entry(f"{key}_{suffix}", f"{key}.{suffix}", _text(text), None, ODD, attack=True) for suffix in suffixes
        ]
    return entries


def _pattern(path: Path, ground: Ground) -> None:
    """Lay numbered pictures that the name, read as a pattern, would collect."""
    for number in range(3):
        picture = path.parent / f"frame{number:03d}.png"
        Image.fromarray(draw(number)).save(picture)
        ground.decoys.append(picture)


def _literals() -> list[Entry]:
    gone = frozenset({"not_found", "not_a_video"})
    strings: dict[str, Callable[[Ground], str]] = {
        "http": lambda ground: f"{ground.url}/literal.mp4",
        "tcp": lambda ground: f"tcp://127.0.0.1:{ground.port}",
        "udp": lambda ground: f"udp://127.0.0.1:{ground.port}",
        "rtp": lambda ground: f"rtp://127.0.0.1:{ground.port}",
        "file_scheme": lambda ground: f"file:{ground.decoys[-1]}",
        "file_url": lambda ground: f"file://{ground.decoys[-1]}",
        "concat": lambda ground: f"concat:{ground.decoys[-1]}|{ground.decoys[-1]}",
        "subfile": lambda ground: f"subfile,,start,0,end,0,,:{ground.decoys[-1]}",
        "cache": lambda ground: f"cache:{ground.decoys[-1]}",
        "async": lambda ground: f"async:{ground.url}/literal.mp4",
        "crypto": lambda ground: f"crypto:{ground.decoys[-1]}",
        "data": lambda ground: "data:video/mp4;base64,AAAA",
        "pipe": lambda ground: "pipe:0",
        "dash": lambda ground: "-",
        "lavfi": lambda ground: "testsrc=size=64x48:duration=1",
        "pattern_glob": lambda ground: str(ground.folder / "*.png"),
    }

    def make(path: Path, ground: Ground) -> None:
        ground.hide(f"bait_{path.name}")

    rows = [Entry(f"literal_{key}", f"{key}.mp4", make, None, gone, True, literal) for key, literal in strings.items()]
    rows += [
        Entry("literal_pattern_percent", "frame%03d.png", _pattern, None, gone, True),
        Entry("literal_pattern_percent_jpg", "frame%d.jpg", _pattern, None, gone, True),
    ]
    return rows


def _gif_bomb(path: Path, ground: Ground) -> None:
    """Claim a canvas of 65,535 x 65,535 pixels in little more than a kilobyte."""
    head = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    image = (
        b"\x21\xf9\x04\x04\x0a\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\0"
    )
    path.write_bytes(head + image * 60 + b"\x3b")


def _gif_many(path: Path, ground: Ground) -> None:
    """Repeat a legal 8192 x 4320 canvas with one pixel painted, 5,000 times over: every frame costs 100 MB decoded."""
    head = b"GIF89a" + struct.pack("<HHBBB", 8192, 4320, 0x80, 0, 0) + bytes(6)
    image = b"\x21\xf9\x04\x04\x0a\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    path.write_bytes(head + image * 5000 + b"\x3b")


def _png_bomb(animated: bool) -> Maker:
    def make(path: Path, ground: Ground) -> None:
        side = 20_000

        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        control = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
            b"fcTL", struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 10, 0, 0)
        )
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        rows = zlib.compress(bytes((side // 8 + 1) * side), 1)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + header + control * animated + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        )

    return make


def _zeros_deflated(megabytes: int) -> bytes:
    """Deflate zeros quickly: one flushed block, repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    adler = ((megabytes << 20) % 65521) << 16 | 1
    return b"\x78\xda" + block * megabytes + end + struct.pack(">I", adler)


def _cmov_bomb() -> bytes:
    size = 900
    packed = boxes.box(b"cmvd", struct.pack(">I", size << 20), _zeros_deflated(size))
    cmov = boxes.box(b"cmov", boxes.box(b"dcom", b"zlib"), packed)
    return encoded()[:28] + boxes.box(b"moov", cmov)


def _counted(table: str, offset: int, count: int) -> Callable[[], bytes]:
    """Claim a number of rows in an index table."""

    def make() -> bytes:
        data = encoded(options={"bf": "2"})
        if table == "stsz":
            data = boxes.put(data, f"{boxes.STBL}/stsz", 4, ">I", 1)
        return boxes.put(data, f"{boxes.STBL}/{table}", offset, ">I", count)

    return make


def _nested(kind: bytes, depth: int) -> bytes:
    sizes = b"".join(struct.pack(">I4s", 8 * (depth - level), kind) for level in range(depth))
    return encoded()[:28] + sizes


def _external() -> bytes:
    """Point the track's data at another file, with the bytes of this one gone."""
    reference = boxes.box(b"url ", struct.pack(">I", 0), b"file:///etc/hostname\0")
    dref = struct.pack(">II", 0, 1) + reference
    return boxes.rewrite(encoded(), "moov/trak/mdia/minf/dinf/dref", lambda body: dref)


def _alias(path: Path, ground: Ground) -> None:
    """Point at a neighbor in the way QuickTime did (an `alis` record with a path)."""
    near = ground.hide("referenced.mp4")
    name = str(near).encode()
    record = (
        bytes(4)
        + struct.pack(">HH", 0, 2)
        + bytes(142)
        + struct.pack(">HH", 18, len(name))
        + name
        + struct.pack(">hH", -1, 0)
    )
    reference = boxes.box(b"alis", struct.pack(">I", 0), record)
    data = boxes.rewrite(encoded(), "moov/trak/mdia/minf/dinf/dref", lambda body: struct.pack(">II", 0, 1) + reference)
    path.write_bytes(data)


def _patched(data: bytes, mark: bytes, offset: int, change: bytes) -> bytes:
    """Overwrite bytes behind the first place where a mark stands."""
    at = data.index(mark) + offset
    return data[:at] + change + data[at + len(change) :]


def _bombs() -> list[Entry]:
    big, same = frozenset({"too_large"}), Frames(None, HEIGHT, WIDTH, color=False)
    index = {
        f"samples_{table}_{count}": (f"{table}.mp4", _counted(table, offset, count))
        for table, offset in (("stsz", 8), ("stts", 8), ("ctts", 8), ("stts", 4), ("stsc", 4), ("stco", 4), ("stss", 4))
        for count in (0x7FFFFFFF, 0xFFFFFFFF)
        if not (table == "ctts" and count == 0xFFFFFFFF)
    }
    sized: dict[str, Callable[[], bytes]] = {
        "tkhd_65535": lambda: boxes.put(encoded(), "moov/trak/tkhd", 76, ">II", 65535 << 16, 65535 << 16),
        "stsd_65535": lambda: boxes.put(encoded(), f"{boxes.STBL}/stsd", 40, ">HH", 65535, 65535),
        "stsd_entries_65535": lambda: boxes.put(encoded(), f"{boxes.STBL}/stsd", 4, ">I", 65535 * 65535),
        "stco_past_end": lambda: boxes.put(encoded(), f"{boxes.STBL}/stco", 8, ">I", 0x7FFFFFFF),
        "vp8_16383": lambda: _patched(encoded("libvpx", "webm"), b"\x9d\x01\x2a", 3, b"\xff\x3f\xff\x3f"),
        "jpeg_65535": lambda: _patched(
            encoded("mjpeg", "avi", pix_fmt="yuvj420p"), b"\xff\xc0", 5, b"\xff\xff\xff\xff"
        ),
        "boxes_4000_deep": lambda: _nested(b"moov", 4000),
        "boxes_4000_deep_udta": lambda: _nested(b"udta", 4000),
        "box_size_one": lambda: encoded()[:28] + struct.pack(">I4sQ", 1, b"moov", 0xFFFFFFFFFFFFFFF0),
        "edits_reversed": lambda: boxes.with_edits(encoded(), [(100, 1800 - 20 * i) for i in range(60)]),
        "edits_200000": lambda: boxes.with_edits(encoded(), [(1, 0)] * 200_000),
        "streams_400": lambda: boxes.rewrite(encoded(), "moov", _many_tracks),
    }
    either = BOMB | {"encrypted"}
    entries = [Entry(key, name, _from(data), same, either) for key, (name, data) in index.items()]
    loose = Frames(None, 0, 0, color=False)
    entries += [
        Entry(key, f"{key}.{'webm' if 'vp8' in key else 'mp4'}", _from(data), loose, either)
        for key, data in sized.items()
    ]
    return [
        *entries,
        Entry("gif_bomb", "bomb.gif", _gif_bomb, None, big),
        Entry("gif_bomb_mp4", "bomb.mp4", _gif_bomb, None, big | FOREIGN),
        Entry("gif_many", "many.gif", _gif_many, loose, BOMB),
        Entry("png_bomb", "bomb.png", _png_bomb(False), None, BOMB),
        Entry("apng_bomb", "bomb.apng", _png_bomb(True), None, BOMB),
        Entry("folder_png_bomb", "folder", _folder_bomb, None, BOMB),
        Entry("cmov_bomb", "cmov.mov", _from(_cmov_bomb), None, BOMB),
        Entry(
            "dref_external",
            "dref.mp4",
            _from(_external),
            Frames(color=False),
            DAMAGE | FOREIGN | {"unsupported_codec"},
            attack=True,
        ),
        Entry(
            "dref_alias",
            "alias.mov",
            _alias,
            Frames(color=False),
            DAMAGE | FOREIGN | {"unsupported_codec"},
            attack=True,
        ),
    ]


def _folder_bomb(path: Path, ground: Ground) -> None:
    path.mkdir()
    _png_bomb(False)(path / "000.png", ground)


def _many_tracks(moov: bytes) -> bytes:
    parts = list(boxes.parse(moov))
    track = next(boxes.box(kind, body) for kind, body in parts if kind == b"trak")
    return b"".join(boxes.box(kind, body) for kind, body in parts) + track * 399


def _from(data: Callable[[], bytes]) -> Maker:
    def make(path: Path, ground: Ground) -> None:
        path.write_bytes(data())

    return make


ENTRIES = [*_playlists(), *_literals(), *_bombs()]
