"""Shards that the WebDataset library writes are read as loose clips are, and damaged ones say so."""

import gzip
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from run_command import run
from small_run import make_tiny_recipe, write_clip
from tubelet.data import read_manifest
from tubelet.data.dataset import open_sample
from tubelet.data.examination import Examiner
from tubelet.data.manifest import survey_manifest
from tubelet.errors import DataError, NotAVideo, Truncated, VideoError
from tubelet.evaluation.evaluate import evaluate
from tubelet.training.pace import PACE
from tubelet.training.train import train
from tubelet.video.opening import FileRange
from tubelet.video.source import Video
from tubelet.video.synthetic import make_world


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4").read_bytes()


def write_shard(path, samples):
    """Write samples as the WebDataset library does."""
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for key, parts in samples.items():
            writer.write({"__key__": key, **parts})
    return path


def pack(path, *members, form=tarfile.USTAR_FORMAT):
    """Write an archive of (name, content) or of headers."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def encode_jpeg(gray):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), (gray, gray, gray)).save(buffer, "JPEG")
    return buffer.getvalue()


def encode_npz(frames):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, frames=frames)
    return buffer.getvalue()


def test_what_the_webdataset_library_writes_is_read(tmp_path, clip):
    frames = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 1), np.uint8)
    columns = {"label": "run", "group": "g1", "split": "val", "start_s": 0.25, "end_s": 0.5, "weather": {"rain": 1}}
    write_shard(tmp_path / "train-000000.tar", {"day.1/a": {"mp4": clip, "json": json.dumps(columns).encode()}})
    images = {f"{number}.jpg": encode_jpeg(10 * number) for number in range(12)}
    more = {"b": {**images, "cls": b"1"}, "c": {"npz": encode_npz(frames), "cls": b"0"}, "d": {"cls": b"0"}}
    write_shard(tmp_path / "test-000000.tar", more)
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    manifest = read_manifest(tmp_path)
    assert manifest.classes == ("walk", "run")
    images, array, part = manifest.samples
    assert part.name == f"{tmp_path / 'train-000000.tar'}[day.1/a.mp4]#t=0.25,0.5"
    assert (part.label, part.group, part.split, part.metadata) == ("run", "g1", "val", {"weather": '{"rain": 1}'})
    assert [(one.label, one.split) for one in (images, array)] == [("run", "test"), ("walk", "test")]
    with open_sample(part) as video, Video(clip) as loose:
        assert np.array_equal(video.frames().pixels, loose.frames().pixels)
    with open_sample(images) as video:
        np.testing.assert_allclose(video.frames().pixels.mean(axis=(1, 2, 3)), 10 * np.arange(12), atol=1)
    with open_sample(array) as video:
        assert np.array_equal(video.frames().pixels, frames)
    assert manifest.notes == (f"'{tmp_path / 'test-000000.tar'}[d]' holds no clip, only 'cls'",)
    assert len(read_manifest(tmp_path / "train-000000.tar").samples) == 1


def test_numbers_of_classes_without_names_keep_their_order(tmp_path, clip):
    labels = {f"{number:02d}": {"mp4": clip, "cls": str(number).encode()} for number in (10, 2)}
    manifest = read_manifest(write_shard(tmp_path / "clips.tar", labels))
    assert manifest.classes == tuple(str(number) for number in range(11))
    assert {sample.split for sample in manifest.samples} == {None}


def test_a_check_sees_into_shards(tmp_path, clip):
    parts = {"a": {"mp4": clip, "cls": b"x"}, "b": {"avi": clip, "cls": b"x"}, "c": {"mp4": clip[:200], "cls": b"x"}}
    samples = read_manifest(write_shard(tmp_path / "clips.tar", parts)).samples
    (tmp_path / "loose.mp4").write_bytes(clip)
    good, misnamed, bad = map(Examiner(), samples)
    assert not good.problems
    assert [problem.code for problem in misnamed.problems] == ["wrong_extension"]
    (problem,) = bad.problems
    assert problem.source == f"{tmp_path / 'clips.tar'}[c.mp4]"
    assert problem.source in problem.message
    assert good.digest == misnamed.digest != bad.digest


def test_no_table_pretends_to_name_what_lies_in_a_shard(tmp_path, clip, capsys):
    path = write_shard(tmp_path / "clips.tar", {"a": {"mp4": clip, "cls": b"x"}})
    for command in (["split", path, tmp_path / "out.csv"], ["check", path, "--write-clean", tmp_path / "out.csv"]):
        status, _, err = run("data", *command, capsys=capsys)
        assert (status, "no table can name what lies in a shard" in err) == (2, True)
    assert not (tmp_path / "out.csv").exists()


def test_clips_of_one_shard_are_no_parts_of_one_video(tmp_path, clip):
    rows = {key: {"mp4": clip, "json": json.dumps({"label": key, "split": key}).encode()} for key in ("train", "val")}
    manifest, problems = survey_manifest(write_shard(tmp_path / "clips.tar", rows))
    assert problems == []
    assert [sample.split for sample in manifest.samples] == ["train", "val"]
    assert not [note for note in manifest.notes if "leak" in note]


def cut(content, size):
    return content[:size]


def spoil_header(content, place):
    return content[:place] + b"?" + content[place + 1 :]


@pytest.mark.parametrize(
    ("spoil", "found", "whole"),
    [
        (lambda tar, _: cut(tar, len(tar) - 10240 - 700), "it ends too early", 2),
        (lambda tar, _: cut(tar, tar.index(b"c.mp4")), "it ends too early", 2),
        (lambda tar, _: tar[: tar.index(b"c.mp4") + 100], "it ends too early", 2),
        (lambda tar, _: spoil_header(tar, tar.index(b"c.cls") + 3), "a header is wrong", 1),
        (lambda tar, _: gzip.compress(tar), "it is packed by gzip", 0),
        (lambda tar, _: b"\x28\xb5\x2f\xfd" + tar, "it is packed by zstd", 0),
        (lambda _, pack: pack(("link", tarfile.SYMTYPE)), "is a symbolic link, no file", 1),
        (lambda _, pack: pack(("link", tarfile.LNKTYPE)), "is a hard link, no file", 1),
        (lambda _, pack: pack(("fifo", tarfile.FIFOTYPE)), "is a pipe, no file", 1),
        (lambda _, pack: pack(("c.mp4", {"size": str(10**18)})), "it ends too early", 1),
        (lambda _, pack: pack(("c.mp4", {"size": "-5"})), "a size is no number", 1),
        (lambda _, pack: pack(("c.mp4", {"GNU.sparse.major": "1", "GNU.sparse.realsize": "9"})), "it has sparse", 1),
        (lambda _, pack: pack(("c.mp4", 1 << 62)), "it ends too early", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_shard_is_named_with_what_is_whole(tmp_path, clip, spoil, found, whole):
    good = {key: {"mp4": clip, "cls": b"x"} for key in "abc"}
    path = write_shard(tmp_path / "train-000000.tar", good)

    def make_odd(entry):
        name, how = entry
        info = tarfile.TarInfo(name)
        if isinstance(how, dict):
            info.pax_headers = how
        elif isinstance(how, int):
            info.size = how
        else:
            info.type, info.linkname = how, "/etc/passwd"
        form = tarfile.PAX_FORMAT if isinstance(how, dict) else tarfile.GNU_FORMAT
        pack(tmp_path / "good", *((f"{key}.{ending}", part) for key in "ab" for ending, part in good[key].items()))
        with tarfile.open(tmp_path / "good") as archive:
            end = max(member.offset_data + -(-member.size // 512) * 512 for member in archive)
        return (tmp_path / "good").read_bytes()[:end] + info.tobuf(form) + bytes(10240)

    path.write_bytes(spoil(path.read_bytes(), make_odd))
    with pytest.raises(DataError, match=re.escape(found)) as raised:
        read_manifest(path)
    assert f"{path}" in str(raised.value)
    if whole:
        manifest, problems = survey_manifest(path)
        assert len(manifest.samples) == whole
        assert str(problems[0]).endswith(f"{whole} clips before that place are whole.")
        for sample in manifest.samples:
            with open_sample(sample) as video:
                assert video.info.num_frames == 12


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([("a.mp4", b"x")], "has no label"),
        ([("a.mp4", b"x"), ("a.cls", b"7")], "its class is 7, there are 2"),
        ([("a.mp4", b"x"), ("a.cls", b"seven")], "the label 'seven' is not in 'classes.txt'"),
        ([("a.mp4", b"x"), ("a.cls", b"\xff")], "'a.cls' is no UTF-8 text"),
        ([("a.mp4", b"x"), ("a.txt", bytes(1 << 21))], "'a.txt' has 2097152 bytes"),
        ([("a.mp4", b"x"), ("a.json", b"[1]")], "holds a list"),
        ([("a.mp4", b"x"), ("a.json", b"{")], "its .json file is none"),
        ([("a.mp4", b"x"), ("a.json", b"[" * 100_000)], "its .json file is none"),
        ([("a.mp4", b"x"), ("a.json", b'{"label": "walk", "split": "tran"}')], "unknown split 'tran'"),
        ([("a.mp4", b"x"), ("a.json", b'{"label": "walk", "start_s": "nan"}')], "start_s must be seconds"),
        ([("a.mp4", b""), ("a.cls", b"0")], "'a.mp4' has no bytes"),
        ([("a.mp4", b"x"), ("a.avi", b"x"), ("a.cls", b"0")], "holds 2 clips: 'mp4', 'avi'"),
        ([("a.mp4", b"x"), ("a.cls", b"0"), ("b.cls", b"0"), ("a.mp4", b"y")], "its key stands twice"),
        ([("mp4", b"x"), ("folder/.mp4", b"x")], "it holds no clip with a key"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(tmp_path, members, found):
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    path = pack(tmp_path / "train-0.tar", *members)
    with pytest.raises(DataError, match=re.escape(found)) as raised:
        read_manifest(path)
    assert f"{path}" in str(raised.value)


@pytest.mark.timeout(20)
def test_an_extended_header_without_an_end_comes_to_an_end(tmp_path, clip):
    info = tarfile.TarInfo("a.mp4")
    info.pax_headers = {"note": "x" * 40, "other": "y" * 40}
    header = bytearray(info.tobuf(tarfile.PAX_FORMAT))
    place = header.index(b"other=")
    header[place - 3 : place] = b"???"  # the second record states no length
    (tmp_path / "train-0.tar").write_bytes(header + bytes(10240))
    with pytest.raises(DataError, match="an extended header is wrong"):
        read_manifest(tmp_path / "train-0.tar")


def test_names_that_lead_elsewhere_stay_names(tmp_path, clip):
    path = pack(
        tmp_path / "train-0.tar",
        ("../../b.mp4", clip),
        ("../../b.cls", b"0"),
        ("/etc/c.mp4", clip),
        ("/etc/c.cls", b"0"),
    )
    for sample in read_manifest(path).samples:
        with open_sample(sample) as video:
            assert video.info.num_frames == 12
    assert [entry.name for entry in tmp_path.iterdir()] == ["train-0.tar"]


def test_a_shard_that_changes_while_it_is_used_is_noticed(tmp_path, clip):
    parts = {key: {"mp4": clip, "cls": b"x"} for key in "ab"}
    path = write_shard(tmp_path / "clips.tar", parts)
    first, second = read_manifest(path).samples
    write_shard(path, {"z": {"mp4": clip + bytes(512), "cls": b"x"}, "b": parts["b"]})
    for sample in (first, second):
        with pytest.raises(DataError, match=r"the shard is not what it was") as raised:
            open_sample(sample)
        assert sample.name in str(raised.value)
    path.unlink()
    with pytest.raises(DataError, match="not what it was"):
        open_sample(first)


def test_a_part_of_a_file_is_a_video_of_its_own(tmp_path, clip):
    path = tmp_path / "large.bin"
    path.write_bytes(b"?" * 999 + clip + b"!" * 5)
    with Video(FileRange(str(path), 999, len(clip), "inner")) as video:
        assert (video.name, video.info.num_frames) == ("inner", 12)
        assert video.bytes_read <= len(clip) * 4
    with pytest.raises(Truncated, match="'inner' - its bytes 999 to"):
        Video(FileRange(str(path), 999, len(clip) + 6, "inner"))
    with pytest.raises(NotAVideo, match="'inner'"):
        Video(FileRange(str(path), 0, 999, "inner"))
    with pytest.raises(VideoError, match="'whole'"):
        Video([FileRange(str(path), 0, 999, "whole")])


@pytest.mark.slow
def test_a_training_and_an_evaluation_see_the_same_in_shards_as_in_files(tmp_path):
    table = make_world("speed", tmp_path / "world", clips={"train": 16, "val": 8}, frames=8, height=16, width=16)
    loose = read_manifest(table)
    (tmp_path / "shards").mkdir()
    for split in ("train", "val"):
        samples = {
            str(number): {"mp4": Path(sample.source).read_bytes(), "txt": sample.label.encode()}
            for number, sample in enumerate(loose.select(split))
        }
        write_shard(tmp_path / "shards" / f"{split}-000000.tar", samples)
    figures = []
    for source in (table, tmp_path / "shards"):
        run = train(recipe=make_tiny_recipe(str(source), epochs=1), name="r", runs=tmp_path / f"runs {source.name}")
        report = evaluate(run.folder, source, split="val")
        rows = [line.split(",")[: -len(PACE)] for line in (run.folder / "metrics.csv").read_text().splitlines()]
        figures.append((report.metrics.top1, rows))
    assert figures[0] == figures[1]
