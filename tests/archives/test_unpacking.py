"""Good archives come out as they went in, and damaged ones not at all."""

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from surroundings import bounded_memory, check_refused, hash_tree, read_tree
from tubelet.archives import ArchiveError, Limits, unpack
from tubelet.errors import ConfigError, TubeletError
from tubelet.files import DiskFull

DEEP = "/".join(f"level{number}" for number in range(60)) + "/clip.avi"
LONG = "n" * 120 + ".txt"
TREE = {
    "walk": None,
    "walk/v_1 (a) #1.avi": bytes(range(256)) * 5_000,
    "walk/empty.avi": b"",
    "nothing here": None,
    "höhle/видео/映像.avi": b"unicode",
    LONG: b"long name",
    "p" * 90 + "/" + "q" * 90 + "/r.txt": b"long path",
    DEEP: b"deep",
    "inner.zip": b"PK\x05\x06" + bytes(18),
}
PACKERS = {"tar": lambda content: content, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def make_zip(tree, method=zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as opened:
        for name, content in tree.items():
            opened.writestr(name + "/" if content is None else name, content or b"")
    return stream.getvalue()


def make_tar(tree, form=tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as opened:
        for name, content in tree.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            info.mtime = 1_700_000_000.25 if form == tarfile.PAX_FORMAT else 1_700_000_000
            opened.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


KINDS = [f"{form}.{kind}" for kind in PACKERS for form in FORMATS] + ["deflated.zip", "stored.zip"]


def make(kind: str, tree=TREE) -> bytes:
    if kind.endswith(".zip"):
        return make_zip(tree, zipfile.ZIP_DEFLATED if kind == "deflated.zip" else zipfile.ZIP_STORED)
    form, _, packer = kind.partition(".")
    return PACKERS[packer](make_tar(tree, FORMATS[form]))


def choose(kind: str) -> dict[str, bytes | None]:
    """Leave out what the old format of tars cannot name."""
    return {name: content for name, content in TREE.items() if "ustar" not in kind or name not in (DEEP, LONG)}


def expect(tree=TREE) -> dict[str, bytes | None]:
    parents = {parent.as_posix(): None for name in tree for parent in Path(name).parents if parent.name}
    return dict(sorted((parents | tree).items(), key=lambda item: Path(item[0])))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_out_as_it_went_in_whatever_its_name(tmp_path, kind):
    tree, told = choose(kind), []
    archive = write(tmp_path / "archive.of.some.kind", make(kind, tree))
    folder = unpack(archive, tmp_path / "out", on_progress=lambda done, total: told.append((done, total)))
    assert folder == tmp_path / "out"
    assert read_tree(folder) == expect(tree)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == sum(len(content or b"") for content in tree.values())
    assert {total for _, total in told} == {told[-1][0] if kind.endswith("zip") else 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.of.some.kind", "out"]


def test_the_tar_program_and_this_one_agree(tmp_path):
    program = shutil.which("tar")
    if program is None:
        pytest.skip("there is no tar program here")
    source = tmp_path / "source"
    for name, content in TREE.items():
        path = source / name
        path.mkdir(parents=True) if content is None else (
            path.parent.mkdir(parents=True, exist_ok=True),
            path.write_bytes(content),
        )
    for number, options in enumerate((["-cf"], ["-czf"], ["--format=pax", "-cf"])):
        archive = tmp_path / f"{number}.tar"
        assert os.spawnv(os.P_WAIT, program, ["tar", *options, str(archive), "-C", str(source), "."]) == 0
        assert read_tree(unpack(archive, tmp_path / f"out{number}")) == expect()


def test_zip64_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    content = make_zip(TREE)
    assert b"PK\x06\x06" in content
    monkeypatch.undo()
    assert read_tree(unpack(write(tmp_path / "a.zip", content), tmp_path / "out")) == expect()


@pytest.mark.slow
def test_a_zip_of_more_entries_than_16_bits_count_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tubelet.files.os.fsync", lambda _: None)
    content = make_zip({f"{number // 1000}/{number}.txt": b"" for number in range(70_000)}, zipfile.ZIP_STORED)
    assert len(read_tree(unpack(write(tmp_path / "a.zip", content), tmp_path / "out"))) == 70_070


def test_folders_of_windows_are_folders(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in (("walk\\", b""), ("walk\\1.avi", b"one")):
            info = zipfile.ZipInfo()
            info.filename = name
            opened.writestr(info, content)
    archive = write(tmp_path / "a.zip", stream.getvalue())
    assert read_tree(unpack(archive, tmp_path / "out")) == {"walk": None, "walk/1.avi": b"one"}


def test_old_tars_without_a_mark_and_names_of_no_encoding_are_read(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as opened:
        opened.addfile(tarfile.TarInfo("h\u00f6hle.avi"))
    content = bytearray(stream.getvalue())
    content[257:265] = bytes(8)
    content[156:157] = b"\0"
    content[148:156] = b"%06o\0 " % (sum(content[:148]) + 256 + sum(content[156:512]))
    folder = unpack(write(tmp_path / "a.tar", bytes(content)), tmp_path / "out")
    assert [os.fsencode(path.name) for path in folder.iterdir()] == [b"h\xf6hle.avi"]


def test_an_old_folder_is_replaced_and_kept_where_the_archive_is_bad(tmp_path):
    good, bad = write(tmp_path / "a.zip", make_zip({"new": b"1"})), write(tmp_path / "b.zip", make_zip(TREE)[:-30])
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(b"0")
    with pytest.raises(ArchiveError):
        unpack(bad, out)
    assert read_tree(out) == {"old": b"0"}
    unpack(good, out)
    assert read_tree(out) == {"new": b"1"}


def test_an_archive_is_never_unpacked_over_itself(tmp_path):
    archive = write(tmp_path / "a.zip", make_zip({"a": b"1"}))
    for folder in (tmp_path, tmp_path.parent):
        with pytest.raises(ArchiveError, match=r"a\.zip.*would be replaced - unpack it into another folder"):
            unpack(archive, folder)
    assert archive.exists()
    assert read_tree(unpack(archive, tmp_path / "other")) == {"a": b"1"}


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path):
    archive = write(tmp_path / "a.zip", make_zip({"a": b"1"}))
    with pytest.raises(ConfigError, match="a file stands there"):
        unpack(archive, write(tmp_path / "out", b""))


def test_permissions_are_those_of_new_files(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as opened:
        info = tarfile.TarInfo("program")
        info.mode, info.uid = 0o6777, 12345
        opened.addfile(info)
    info = zipfile.ZipInfo("program")
    info.external_attr = (stat.S_IFREG | 0o4777) << 16
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as opened:
        opened.writestr(info, b"")
    plain = write(tmp_path / "plain", b"").stat()
    for number, content in enumerate((stream.getvalue(), zipped.getvalue())):
        found = (unpack(write(tmp_path / f"{number}", content), tmp_path / f"out{number}") / "program").stat()
        assert (found.st_mode, found.st_uid) == (plain.st_mode, plain.st_uid)


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path, monkeypatch):
    archive = write(tmp_path / "a.zip", make_zip({"a": b"1"}))
    before = hash_tree(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tubelet.files.os.fsync", fail)
    with pytest.raises(DiskFull, match="No space"):
        unpack(archive, tmp_path / "out")
    assert hash_tree(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["ustar.tar", "pax.tar", "gnu.tar", "gnu.tar.gz", "gnu.tar.xz", "gnu.tar.bz2", *KINDS[-2:]]
)
def test_an_archive_that_was_cut_anywhere_leaves_nothing(tmp_path, name):
    tree = {"a": None, "a/1.avi": os.urandom(700), "b.avi": b"b" * 2_000, "c": b""}
    content = make(name, tree)
    # The last blocks of a tar are zeros to fill it up; the first of them tells where it ends.
    end = 1 + len(content.rstrip(b"\0")) // 512 * 512 + 1024 if name.endswith(".tar") else len(content)
    places = {*range(0, min(end, len(content)), 97), *range(512, end - 512, 512), end // 2}
    whole = expect(tree)
    for place in sorted(places):
        archive = write(tmp_path / "cut", content[:place])
        if not comes_out(archive, tmp_path / "out", whole):
            assert not (tmp_path / "out").exists()
        else:
            assert place > end - 1024, place
            return


def comes_out(archive: Path, out: Path, whole: dict[str, bytes | None]) -> bool:
    """Tell whether an archive comes out whole; it may also be refused, and nothing else."""
    try:
        folder = unpack(archive, out)
    except TubeletError as error:
        text = str(error)
    else:
        assert read_tree(folder) == whole
        return True
    assert archive.name in text
    return False


@pytest.mark.parametrize("name", ["deflated.zip", "stored.zip", "pax.tar.gz", "gnu.tar.xz", "ustar.tar.bz2"])
def test_a_flipped_bit_is_noticed_or_harmless(tmp_path, name):
    tree = {"a": None, "a/1.avi": random.Random(1).randbytes(300), "b.avi": b"b" * 900}
    content = make(name, tree)
    generator = random.Random(7)
    whole, refused = expect(tree), 0
    for _ in range(150):
        altered = bytearray(content)
        altered[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        archive = write(tmp_path / "flipped", altered)
        refused += not comes_out(archive, tmp_path / "out", whole)
    assert refused > 50


def test_a_flipped_bit_in_a_header_of_a_plain_tar_is_noticed(tmp_path):
    content = make_tar({"a.avi": b"a" * 600, "b.avi": b"b" * 600}, tarfile.USTAR_FORMAT)
    for place in range(3):
        for bit in range(0, 512 * 8, 41):
            altered = bytearray(content)
            altered[place % 2 * 1536 + bit // 8] ^= 1 << bit % 8
            check_harmless_or_refused(write(tmp_path / "a.tar", altered), tmp_path / "out", {"a.avi", "b.avi"})


def check_harmless_or_refused(archive: Path, out: Path, names: set[str]) -> None:
    try:
        assert {*read_tree(unpack(archive, out))} == names
    except TubeletError:
        return


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("empty", b"", "first bytes b'' are those of no zip, tar or rar"),
        ("picture", b"\x89PNG\r\n\x1a\n" + bytes(600), "no zip, tar or rar"),
        ("seven", b"7z\xbc\xaf\x27\x1c" + bytes(600), "no zip, tar or rar"),
        ("zeros", bytes(10_240), "no zip, tar or rar"),
        ("page", b"<html>" * 200, "no zip, tar or rar - fetch it again"),
        ("gzip", gzip.compress(b"a" * 5_000, mtime=0), "no tar"),
        ("gzip_of_nothing", gzip.compress(b"", mtime=0), "ends too early"),
        ("gzip_head", b"\x1f\x8b" + bytes(50), "damaged"),
        ("bzip_head", b"BZh" + bytes(50), "damaged"),
        ("xz_head", b"\xfd7zXZ\x00" + bytes(50), "damaged"),
        ("nothing.zip", make_zip({}), "it holds nothing"),
        ("nothing.tar.gz", gzip.compress(make_tar({}), mtime=0), "it holds nothing"),
    ],
    # The content may differ from process to process, as a time in it does; names do not.
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_what_is_no_archive_is_refused(tmp_path, name, content, match):
    check_refused(write(tmp_path / name, content), match)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "absent", "."):
        with pytest.raises(ArchiveError, match="cannot unpack"):
            unpack(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_limits_hold_for_bytes_and_entries(tmp_path):
    tree = {f"{number}/a": bytes(1000) for number in range(10)}
    for name in ("gnu.tar", "gnu.tar.gz", "deflated.zip", "stored.zip"):
        archive = write(tmp_path / name, make(name, tree))
        unpack(archive, tmp_path / "out", limits=Limits(size_bytes=10_000, entries=20))
        check_refused(archive, "more than 9,999 bytes", Limits(size_bytes=9_999))
        check_refused(archive, "more than 19 entries", Limits(entries=19))


def test_memory_is_measured_at_all():
    with pytest.raises(AssertionError), bounded_memory():
        bytearray(os.urandom(1 << 20) * 300)
