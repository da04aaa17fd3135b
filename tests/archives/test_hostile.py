"""Archives that somebody made to do harm: each is one error, in bounded time, memory and room, and touches nothing."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib

import pytest

from surroundings import check_refused, read_tree
from tubelet.archives import Limits, unpack

SMALL = Limits(grace_bytes=1 << 20)
LINK, PIPE, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644


def zip_of(*entries, method=zipfile.ZIP_DEFLATED) -> bytes:
    """Pack (name, content, mode) as they are, whatever zipfile thinks of the names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as opened:
        for name, content, *mode in entries:
            info = zipfile.ZipInfo()
            info.filename, info.compress_type = name, method
            info.external_attr = mode[0] << 16 if mode else 0
            opened.fp.flush()
            opened.NameToInfo.clear()  # Or it would warn of a name that stands there twice.
            opened.writestr(info, content)
    return stream.getvalue()


def directory_of(content: bytes) -> int:
    return struct.unpack_from("<I", content, content.rindex(b"PK\x05\x06") + 16)[0]


def patch(content: bytes, place: int, form: str, *values) -> bytes:
    altered = bytearray(content)
    struct.pack_into(form, altered, place, *values)
    return bytes(altered)


def set_sizes(content: bytes, size: int, number: int = 24) -> bytes:
    """Lie about the unpacked size, in the list and before the content."""
    return patch(patch(content, directory_of(content) + number, "<I", size), number - 2, "<I", size)


def zip_of_shared_bytes() -> bytes:
    """List one entry a hundred times, each pointing to the same content."""
    one = zip_of(("a", bytes(50_000)))
    start = directory_of(one)
    record = one[start : one.rindex(b"PK\x05\x06")]
    directory = record * 100
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 100, 100, len(directory), start, 0)
    return one[:start] + directory + end


def zip_of_a_million(stated: int) -> bytes:
    name = b"a"
    record = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    directory = record * 1_000_000
    head = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    return head + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, stated, stated, len(directory), len(head), 0)


ZIPS = {
    "dots": (lambda: zip_of(("../evil", b"")), "outside"),
    "dots_deep": (lambda: zip_of(("good", b"1"), ("a/b/../../../outside/victim.txt", b"")), "outside"),
    "absolute": (lambda: zip_of(("/tmp/tubelet-evil", b"")), "outside"),
    "drive": (lambda: zip_of(("C:/evil", b"")), "outside"),
    "drive_relative": (lambda: zip_of(("c:evil", b"")), "outside"),
    "backslashes": (lambda: zip_of(("..\\..\\evil", b"")), "outside"),
    "network_path": (lambda: zip_of(("\\\\host\\share\\evil", b"")), "outside"),
    "link": (lambda: zip_of(("link", b"../outside", LINK)), "link or a device"),
    "link_then_write": (lambda: zip_of(("a", b"../outside", LINK), ("a/victim.txt", b"x")), "link or a device"),
    "pipe": (lambda: zip_of(("pipe", b"", PIPE)), "link or a device"),
    "device": (lambda: zip_of(("null", b"", DEVICE)), "link or a device"),
    "twice": (lambda: zip_of(("a", b"1"), ("a", b"2")), "twice"),
    "case": (lambda: zip_of(("Walk/a", b"1"), ("walk/b", b"2")), "on some systems"),
    "case_of_files": (lambda: zip_of(("A.avi", b"1"), ("a.avi", b"2")), "on some systems"),
    "sharp_s": (lambda: zip_of(("stra\u00dfe", b"1"), ("STRASSE", b"2")), "on some systems"),
    "accents": (lambda: zip_of(("caf\u00e9", b"1"), ("cafe\u0301", b"2")), "on some systems"),
    "file_then_folder": (lambda: zip_of(("a", b"1"), ("a/b", b"2")), "a file and a folder"),
    "folder_then_file": (lambda: zip_of(("a/b", b"1"), ("a", b"2")), "a file and a folder"),
    "folder_entry_and_file": (lambda: zip_of(("a/", b""), ("a", b"2")), "a file and a folder"),
    "folder_with_content": (lambda: zip_of(("a/", b"content")), "has content"),
    "zero_byte": (lambda: zip_of(("a\0/../../evil", b"")), "zero byte|differ|not valid|damaged"),
    "control_letter": (lambda: zip_of(("a\x1b[2J\nb", b"")), "not every system"),
    "long_path": (lambda: zip_of(("a/" * 2_500, b"")), "name of 5,000 characters"),
    "long_name": (lambda: zip_of(("a" * 300, b"")), "name of 300 characters"),
    "many_bytes_name": (lambda: zip_of(("\u20ac" * 90, b"")), "name of 90 characters"),
    "no_name": (lambda: zip_of((".", b"content")), "without a name"),
    "reserved": (lambda: zip_of(("a/NUL.avi", b"")), "not every system"),
    "reserved_digit": (lambda: zip_of(("com\u00b9", b"")), "not every system"),
    "dot_at_the_end": (lambda: zip_of(("a./b", b"")), "not every system"),
    "blank_at_the_end": (lambda: zip_of(("a ", b"")), "not every system"),
    "stream": (lambda: zip_of(("clip.avi:evil", b"")), "not every system"),
    "encrypted": (lambda: patch(zip_of(("a", b"1")), directory_of(zip_of(("a", b"1"))) + 8, "<H", 1), "decrypt it"),
    "bzip2": (lambda: zip_of(("a", bytes(50_000_000)), method=zipfile.ZIP_BZIP2), "packed by method 12.*7-Zip"),
    "lzma": (lambda: zip_of(("a", bytes(5_000_000)), method=zipfile.ZIP_LZMA), "packed by method 14.*7-Zip"),
    "bomb": (lambda: zip_of(("a", bytes(30 << 20))), "a bomb"),
    "bomb_that_lies": (lambda: set_sizes(zip_of(("a", bytes(30 << 20))), 10), "damaged"),
    "promise": (lambda: set_sizes(zip_of(("a", b"1")), 0xFFFF_0000), "a bomb"),
    "too_long": (lambda: set_sizes(zip_of(("a", b"12345")), 6), "should have 6 bytes, found 5|damaged"),
    "shared_bytes": (zip_of_shared_bytes, "share bytes: a bomb"),
    "a_million": (lambda: zip_of_a_million(0xFFFF), "more than 500,000 entries"),
    "a_million_that_lies": (lambda: zip_of_a_million(1), "more than 500,000 entries"),
    "other_name_inside": (lambda: patch(zip_of(("good", b"1")), 30, "4s", b"evil"), "damaged"),
    "place_behind_the_end": (
        lambda: patch(zip_of(("a", b"1")), directory_of(zip_of(("a", b"1"))) + 42, "<I", 999),
        "damaged",
    ),
    "directory_elsewhere": (lambda: patch(zip_of(("a", b"1")), len(zip_of(("a", b"1"))) - 6, "<I", 9_999), "damaged"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_hostile_zip_is_one_error(tmp_path, name):
    make, match = ZIPS[name]
    (tmp_path / f"{name}.zip").write_bytes(make())
    limits = Limits() if name.startswith("a_million") else SMALL
    check_refused(tmp_path / f"{name}.zip", match, limits)


def entry(name, content=b"", kind=tarfile.REGTYPE, **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar_of(*entries, form=tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as opened:
        for info, content in entries:
            opened.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def raw(name: bytes = b"a", size: bytes = b"00000000000\0", kind: bytes = b"0", content: bytes = b"") -> bytes:
    """Make a header from any bytes, with the right checksum, and its content."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136], block[156:157], block[257:265] = size, kind, b"ustar\x0000"
    block[148:156] = b"%06o\0 " % (sum(block) + 8 * 32)
    return bytes(block) + content + bytes(-len(content) % 512)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def pax(records: bytes, *, kind: bytes = b"x") -> bytes:
    return raw(b"PaxHeaders", octal(len(records)), kind, records) + raw(b"good") + bytes(1024)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


HUGE = b"\x80" + (1 << 60).to_bytes(11, "big")
NEGATIVE = b"\xff" * 11 + b"\x00"
END = bytes(1024)
GOOD = tar_of(entry("a", b"1" * 600), entry("b", b"2" * 600))

TARS = {
    "dots": (lambda: tar_of(entry("../outside/victim.txt", b"x")), "outside"),
    "absolute": (lambda: tar_of(entry("/tmp/tubelet-evil", b"x")), "outside"),
    "drive": (lambda: tar_of(entry("C:\\evil", b"x")), "outside"),
    "backslashes": (lambda: tar_of(entry("a\\..\\..\\evil", b"x")), "outside"),
    "link": (lambda: tar_of(entry("a", kind=tarfile.SYMTYPE, linkname="../outside")), "a symbolic link"),
    "link_then_write": (
        lambda: tar_of(entry("a", kind=tarfile.SYMTYPE, linkname="../../outside"), entry("a/victim.txt", b"x")),
        "a symbolic link",
    ),
    "hard_link": (lambda: tar_of(entry("a", kind=tarfile.LNKTYPE, linkname="../outside/victim.txt")), "a hard link"),
    "hard_link_then_write": (
        lambda: tar_of(entry("a", kind=tarfile.LNKTYPE, linkname="../../outside/victim.txt"), entry("a", b"x")),
        "a hard link",
    ),
    "characters": (lambda: tar_of(entry("a", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)), "a device"),
    "blocks": (lambda: tar_of(entry("a", kind=tarfile.BLKTYPE)), "a device"),
    "pipe": (lambda: tar_of(entry("a", kind=tarfile.FIFOTYPE)), "a pipe"),
    "unknown_kind": (lambda: raw(kind=b"Z") + END, "special kind"),
    "volume": (lambda: raw(kind=b"V") + END, "special kind"),
    "twice": (lambda: tar_of(entry("a", b"1"), entry("./a", b"2")), "twice"),
    "case": (lambda: tar_of(entry("A", b"1"), entry("a", b"2")), "on some systems"),
    "file_then_folder": (lambda: tar_of(entry("a", b"1"), entry("a/b", b"2")), "a file and a folder"),
    "folder_then_file": (lambda: tar_of(entry("a", kind=tarfile.DIRTYPE), entry("a", b"2")), "a file and a folder"),
    "no_name": (lambda: raw(b"./") + END, "holds nothing"),
    "file_without_name": (lambda: raw(b".") + END, "without a name"),
    "long_gnu_name": (lambda: tar_of(entry("a/" * 2_500 + "b")), "name of 5,001 characters"),
    "long_pax_name": (lambda: tar_of(entry("a" * 5_000), form=tarfile.PAX_FORMAT), "name of 5,000 characters"),
    "reserved": (lambda: tar_of(entry("aux")), "not every system"),
    "dot_at_the_end": (lambda: tar_of(entry("a.")), "not every system"),
    "size_beyond_the_end": (lambda: raw(size=octal(5_000), content=b"1") + END, "ends too early"),
    "huge_size": (lambda: raw(size=HUGE) + END, "ends too early"),
    "huge_size_gz": (lambda: gzip.compress(raw(size=HUGE) + END), "ends too early"),
    "negative_size": (lambda: raw(size=NEGATIVE) + END, "a size is no number"),
    "minus_size": (lambda: raw(size=b"-0000000512\0") + END, "a size is no number"),
    "size_too_small": (lambda: raw(size=octal(10), content=b"1" * 600) + END, "a header is wrong"),
    "pax_dots": (lambda: pax(record("path", "../evil")), "outside"),
    "pax_zero_byte": (lambda: pax(record("path", "a\0b")), "not every system"),
    "pax_negative_size": (lambda: pax(record("size", "-512")), "a size is no number"),
    "pax_digits": (lambda: pax(record("size", "9" * 5_000)), "a size is no number"),
    "pax_lying_length": (lambda: pax(b"99 path=a\n"), "an extended header is wrong"),
    "pax_no_length": (lambda: pax(b"path=a\n"), "an extended header is wrong"),
    "pax_zero_length": (lambda: pax(b"0 path=a\n"), "an extended header is wrong"),
    "pax_only_digits": (lambda: pax(b"1" * 900_000), "an extended header is wrong"),
    "pax_for_all": (lambda: pax(record("path", "a"), kind=b"g"), "one name for all"),
    "pax_sparse": (lambda: pax(record("GNU.sparse.major", "1") + record("GNU.sparse.realsize", "9" * 15)), "sparse"),
    "sparse": (lambda: raw(kind=b"S") + END, "special kind"),
    "huge_extended": (lambda: raw(b"x", octal(1 << 30), b"x") + END, "extended header of 1,073,741,824 bytes"),
    "huge_long_name": (lambda: raw(b"x", HUGE, b"L") + END, "extended header of"),
    "bomb_gz": (lambda: gzip.compress(raw(size=octal(60 << 20)) + bytes(60 << 20) + END, 1), "a bomb"),
    "bomb_xz": (lambda: lzma.compress(raw(size=octal(30 << 20)) + bytes(30 << 20) + END, preset=0), "a bomb"),
    "bomb_bz2": (lambda: bz2.compress(raw(size=octal(30 << 20)) + bytes(30 << 20) + END), "a bomb"),
    "bomb_behind_the_end": (lambda: gzip.compress(raw() + bytes(30 << 20)), "a bomb"),
    "bomb_of_headers": (
        lambda: gzip.compress(raw(b"x", octal(1 << 20), b"x", record("comment", "a" * 1_048_560)) * 30),
        "a bomb|wrong",
    ),
    "many": (
        lambda: gzip.compress(b"".join(raw(b"%d" % number) for number in range(9_000)), 1),
        "more than 700 entries",
    ),
    "many_folders": (
        lambda: gzip.compress(b"".join(raw(b"%d/" % n + b"a/" * 40 + b"b") for n in range(600)), 1),
        "more than 700 entries",
    ),
    "something_behind": (lambda: GOOD + GOOD, "behind its end"),
    "cut_between_entries": (lambda: GOOD[:1536], "ends too early"),
    "cut_gz": (lambda: gzip.compress(GOOD)[:-6], "damaged"),
    "cut_xz": (lambda: lzma.compress(GOOD)[:-20], "damaged"),
    "cut_bz2": (lambda: bz2.compress(GOOD)[:-20], "damaged"),
    "flipped_header": (lambda: patch(GOOD, 1536, "c", b"x"), "a header is wrong"),
    "wrong_sum_gz": (lambda: patch(gzip.compress(GOOD), len(gzip.compress(GOOD)) - 8, "<I", 1), "damaged"),
    "xz_memory": (lambda: xz_of_a_huge_dictionary(GOOD), "[Mm]emory usage limit"),
}


def xz_of_a_huge_dictionary(content: bytes) -> bytes:
    """Ask for 1.5 GiB of memory: the size of the dictionary is a property of the first block."""
    packed = bytearray(lzma.compress(content, preset=0))
    # Block header: size, flags, filter, size of properties, dictionary; then zeros and a crc32.
    size = (packed[12] + 1) * 4
    place = packed.index(b"\x21\x01", 12) + 2
    packed[place] = 39
    packed[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(packed[12 : 12 + size - 4]))
    return bytes(packed)


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_one_error(tmp_path, name):
    make, match = TARS[name]
    (tmp_path / f"{name}.tar").write_bytes(make())
    check_refused(tmp_path / f"{name}.tar", match, Limits(grace_bytes=1 << 20, entries=700))


def test_there_are_enough_of_them():
    assert len(ZIPS) + len(TARS) >= 80


def test_archives_inside_stay_packed(tmp_path):
    content = zip_of(("inner.zip", zip_of(("a", bytes(1 << 20)))), ("inner.tar", GOOD))
    (tmp_path / "a.zip").write_bytes(content)
    assert {*read_tree(unpack(tmp_path / "a.zip", tmp_path / "out"))} == {"inner.zip", "inner.tar"}
