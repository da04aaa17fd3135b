"""A set that is stored anew has the same clips, labels and times, whole or not at all, whatever happens on the way."""

import csv
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import webdataset
from PIL import Image

from medical import make_phantom, write_nifti
from planted import encode, turn
from run_command import run
from small_run import write_clip
from tubelet.data import Manifest, Sample, check_manifest, read_manifest
from tubelet.data.clip_names import name_clips
from tubelet.data.dataset import open_sample
from tubelet.data.edition import make_edition
from tubelet.data.rendition import FrameStore
from tubelet.errors import ConfigError, DataError
from tubelet.video.encoding import Encoding
from tubelet.video.source import Video

COLUMNS = ["path", "label", "split", "group", "start_s", "end_s", "weather"]


def write_table(folder, rows):
    with (folder / "set.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder / "set.csv"


@pytest.fixture
def table(tmp_path):
    """Six clips of two classes in two splits, of two folders with the same file names, and two parts of one."""
    rows = []
    for number, split in enumerate(("train", "train", "val")):
        for label in ("walk", "run/jump"):
            path = tmp_path / f"day{number}" / f"{label.replace('/', ' ')}.v1.mp4"
            path.parent.mkdir(exist_ok=True)
            write_clip(path, seed=number)
            name = path.relative_to(tmp_path)
            rows.append(
                {"path": name, "label": label, "split": split, "group": f"g{number}", "weather": 'rain, "wind"'}
            )
    parts = [{**rows[0], "start_s": 0.25, "end_s": 0.5}, {**rows[0], "start_s": 0.5, "end_s": 0.75}]
    return write_table(tmp_path, [*rows[1:], *parts])


def describe(manifest):
    columns = [
        (s.label, s.split, s.group, {k: v for k, v in s.metadata.items() if k != "folder"}) for s in manifest.samples
    ]
    return sorted(columns, key=str)


def read_tree(folder):
    """Hash all visible files."""
    paths = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def decode(sample):
    with open_sample(sample) as video:
        return video.frames()


def measure_psnr(one, other):
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return 10 * np.log10(255**2 / error)


def test_a_clip_that_is_encoded_anew_shows_the_same_at_the_same_times(tmp_path):
    # Muted colors: what 4:2:0 does to others is no matter of the encoder.
    bright = np.random.default_rng(1).integers(0, 255, (30, 6, 8, 3), np.uint8)
    smooth = (90 + bright // 8 + bright[..., :1] // 3).astype(np.uint8)
    pictures = np.stack(
        [np.asarray(Image.fromarray(frame).resize((161, 120), Image.Resampling.BICUBIC)) for frame in smooth]
    )
    times = np.cumsum([0, *([40, 33, 120] * 10)])[:30]
    (tmp_path / "in" / "turned").mkdir(parents=True)
    source = encode(tmp_path / "in" / "turned" / "a.mkv", pictures[:, :, :160], times=times, options=None)
    encode(tmp_path / "in" / "turned" / "b.mp4", pictures[:, :, :160])
    turn(tmp_path / "in" / "turned" / "b.mp4", 90)
    make_edition(tmp_path / "in", tmp_path / "out", Encoding(short_side=64, gop=7, crf=12), workers=1)
    uneven, turned = read_manifest(tmp_path / "out" / "manifest.csv").samples
    with Video(source) as video:
        before = video.frames()
    after = decode(uneven)
    np.testing.assert_allclose(after.times_s, before.times_s, atol=1e-4)
    assert after.pixels.shape[1:3] == (64, 86)
    wanted = np.stack(
        [np.asarray(Image.fromarray(frame).resize((86, 64), Image.Resampling.BICUBIC)) for frame in before.pixels]
    )
    assert measure_psnr(after.pixels, wanted) > 38
    with av.open(uneven.source) as container:
        assert not container.streams.audio
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert [number for number, is_key in enumerate(keys) if is_key] == [0, 7, 14, 21, 28]
    with open_sample(turned) as video:
        assert (video.info.height, video.info.width, video.info.rotation) == (86, 64, 0)


@pytest.mark.parametrize("shard_bytes", [None, 10_000])
def test_labels_splits_groups_and_columns_are_kept_and_spans_are_cut(tmp_path, table, shard_bytes):
    edition = make_edition(table, tmp_path / "out", Encoding(gop=4), shard_bytes=shard_bytes, workers=1)
    assert (edition.clips, edition.bad) == (7, ())
    before, after = read_manifest(table), read_manifest(edition.path)
    assert check_manifest(after) == ()
    assert describe(after) == describe(before)
    assert after.classes == before.classes
    assert all(sample.start_s is None for sample in after.samples)
    counts = sorted(len(decode(sample)) for sample in after.samples)
    assert counts == [3, 3, 12, 12, 12, 12, 12]
    if shard_bytes is None:
        folders = read_manifest(tmp_path / "out")
        assert len(folders.samples) == 7
        assert {sample.split for sample in folders.samples} == {"train", "val"}
    else:
        assert len(list((tmp_path / "out").glob("train-*.tar"))) > 1
        assert not (tmp_path / "out" / ".prepare" / "clips").exists()


def test_stored_frames_are_those_of_the_plan(tmp_path, table):
    first = read_manifest(table).samples[0]
    with Video(first.source) as video:
        whole = video.frames().pixels
    array = make_edition(table, tmp_path / "npz", FrameStore(4, store="npz"), workers=1)
    stored = decode(read_manifest(array.path).samples[0]).pixels
    assert np.array_equal(stored, whole[[1, 4, 7, 10]])
    images = make_edition(table, tmp_path / "jpeg", FrameStore(4, short_side=16, quality=95), workers=1)
    small = read_manifest(images.path).samples[0]
    assert sorted(path.name for path in Path(small.source).iterdir()) == ["000.jpg", "001.jpg", "002.jpg", "003.jpg"]
    assert decode(small).pixels.shape == (4, 16, 21, 3)
    assert len(read_manifest(tmp_path / "jpeg").samples) == 7
    shards = make_edition(
        table, tmp_path / "tar", FrameStore(4, short_side=16, quality=95), shard_bytes=10**6, workers=1
    )
    packed = next(s for s in read_manifest(shards.path).samples if str(s.member).endswith(Path(small.source).name))
    assert np.array_equal(decode(packed).pixels, decode(small).pixels)


def test_frames_drawn_at_random_depend_on_the_clip_and_the_seed_alone(tmp_path, table):
    def draw(name, data, seed=0):
        rendition = FrameStore(3, "random", store="npz", seed=seed)
        edition = make_edition(data, tmp_path / name, rendition, workers=1)
        manifest = read_manifest(edition.path)
        return {manifest.short_name(sample): decode(sample).pixels.tobytes() for sample in manifest.samples}

    lines = table.read_text().splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert draw("a", table) == draw("b", tmp_path / "turned.csv")
    assert draw("a", table) != draw("c", table, seed=1)


def test_files_are_packed_byte_for_byte_as_the_webdataset_library_reads_them(tmp_path, table):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        Image.new("L", (16, 16), 50 * number).save(frames / f"{9 + number}.png")
    with table.open("a") as lines:
        lines.write("frames,walk,val,g9,,,sun\n")
    edition = make_edition(table, tmp_path / "out", None, shard_bytes=1, workers=1)
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert len(shards) == 8
    before = {
        Path(sample.source).read_bytes() for sample in read_manifest(table).samples if sample.source != str(frames)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves shards open
        found = list(webdataset.WebDataset([str(shard) for shard in shards], shardshuffle=False))
        gc.collect()
    assert {one["mp4"] for one in found if "mp4" in one} == before
    (images,) = [one for one in found if "mp4" not in one]
    assert [images[f"00{number}.png"] for number in range(3)] == [
        (frames / f"{9 + n}.png").read_bytes() for n in range(3)
    ]
    classes = (tmp_path / "out" / "classes.txt").read_text().splitlines()
    for one in found:
        assert classes[int(one["cls"])] == json.loads(one["json"])["label"]
    after = read_manifest(edition.path)
    assert describe(after) == describe(read_manifest(table))
    assert sorted(sample.span_s for sample in after.samples)[:2] == [(0.0, np.inf)] * 2
    assert {(s.start_s, s.end_s) for s in after.samples} == {(None, None), (0.25, 0.5), (0.5, 0.75)}
    again = make_edition(tmp_path / "out", tmp_path / "again", None, shard_bytes=1, workers=1)
    assert describe(read_manifest(again.path)) == describe(after)
    assert sorted(len(decode(s)) for s in read_manifest(again.path).samples) == sorted(
        len(decode(s)) for s in after.samples
    )


@pytest.mark.parametrize(("rendition", "shard_bytes"), [(FrameStore(2), None), (FrameStore(2), 9000), (None, 9000)])
def test_parts_join_to_what_one_run_makes(tmp_path, table, rendition, shard_bytes):
    make_edition(table, tmp_path / "one", rendition, shard_bytes=shard_bytes, workers=1)
    held: set[Path] = set()
    for part in ((3, 3), (1, 3)):
        edition = make_edition(table, tmp_path / "parts", rendition, shard_bytes=shard_bytes, part=part, workers=1)
        assert edition.path is None
        found = {path for ending in ("*.jpg", "*.tar") for path in (tmp_path / "parts").rglob(ending)}
        assert found > held
        held = found
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*[0-9].tar")}
    make_edition(table, tmp_path / "parts", rendition, shard_bytes=shard_bytes, workers=1)
    assert all(path.stat().st_mtime_ns == changed_ns for path, changed_ns in made.items())
    assert read_tree(tmp_path / "parts") == read_tree(tmp_path / "one")


def test_clips_that_cannot_be_read_are_listed_and_left_out(tmp_path, table, capsys):
    (tmp_path / "day1" / "walk.v1.mp4").write_bytes(b"no video at all")
    for options in (["--gop", 4], ["--gop", 4, "--tar"]):
        output = tmp_path / "-".join(map(str, options))
        for _ in range(2):
            status, out, _ = run("data", "prepare", table, output, "--workers", 1, *options, capsys=capsys)
            assert status == 1
            assert "1 clips could not be read and are left out" in out
        (bad,) = map(json.loads, (output / "bad_samples.jsonl").read_text().splitlines())
        assert (bad["name"], bad["code"]) == (str(tmp_path / "day1" / "walk.v1.mp4"), "not_a_video")
        assert len(read_manifest(output if "--tar" in options else output / "manifest.csv").samples) == 6
    write_clip(tmp_path / "day1" / "walk.v1.mp4")
    assert run("data", "prepare", table, tmp_path / "--gop-4", "--workers", 1, "--gop", 4, capsys=capsys)[0] == 0
    assert len(read_manifest(tmp_path / "--gop-4" / "manifest.csv").samples) == 7
    assert not (tmp_path / "--gop-4" / "bad_samples.jsonl").exists()
    for clip in tmp_path.glob("day*/*"):
        clip.write_bytes(b"no video at all")
    with pytest.raises(DataError, match="none of its 7 clips can be read"):
        make_edition(table, tmp_path / "none", Encoding(gop=4), workers=1)


@pytest.mark.parametrize("rendition", [Encoding(gop=4), FrameStore(4, store="npz")])
def test_volumes_are_refused_because_their_numbers_would_be_lost(tmp_path, rendition):
    pytest.importorskip("nibabel")
    for label in ("a", "b"):
        (tmp_path / "scans" / label).mkdir(parents=True)
        write_nifti(tmp_path / "scans" / label / "v.nii", make_phantom())
    np.savez(tmp_path / "v.npz", x=np.zeros((2, 8, 32, 32), np.int16), y=np.array([0, 1]))
    for source in ("scans", "v.npz"):
        with pytest.raises(DataError, match="none of its 2 clips"):
            make_edition(tmp_path / source, tmp_path / f"out-{source}", rendition, workers=1)
        bad = (tmp_path / f"out-{source}" / "bad_samples.jsonl").read_text()
        assert bad.count("is a volume, whose numbers and spacing would be lost") == 2


def test_another_wish_in_the_same_folder_is_refused(tmp_path, table):
    make_edition(table, tmp_path / "out", Encoding(gop=4), workers=1)
    held = read_tree(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"it was begun with gop 4, not 5 - choose another folder"):
        make_edition(table, tmp_path / "out", Encoding(gop=5), workers=1)
    with pytest.raises(ConfigError, match=r"with shard_bytes None, not 9"):
        make_edition(table, tmp_path / "out", Encoding(gop=4), shard_bytes=9, workers=1)
    table.write_text(table.read_text().replace("walk", "amble").replace("amble.v1", "walk.v1"))
    with pytest.raises(ConfigError, match=r"begun of other clips or labels"):
        make_edition(table, tmp_path / "out", Encoding(gop=4), workers=1)
    assert read_tree(tmp_path / "out") == held
    with pytest.raises(ConfigError, match=r"it holds 'day0' - choose an empty folder"):
        make_edition(table, tmp_path, Encoding(gop=4), workers=1)
    shutil.rmtree(tmp_path / ".prepare")


def test_wishes_that_fit_nothing_are_refused(tmp_path, table, capsys):
    for number in range(2):
        (tmp_path / "folder" / str(number)).mkdir(parents=True)
        write_clip(tmp_path / "folder" / str(number) / "a.mp4", seed=number)
    np.savez(tmp_path / "rows.npz", x=np.zeros((4, 3, 16, 16), np.uint8), y=np.arange(4) % 2)
    for data, options, found in [
        (table, [], "nothing was asked for"),
        (table, ["--frames", 8, "--gop", 4], "--gop is for video"),
        (table, ["--gop", 4, "--store", "npz"], "--store is for stored frames"),
        (table, ["--gop", 4, "--shard", "3/2"], "found '3/2'"),
        (table, ["--gop", 4, "--shard", "0/2"], "found '0/2'"),
        (table, ["--short-side", 99], "short_side must be even"),
        (table, ["--tar", "--tar-mb", 0], "give megabytes above 0"),
        (tmp_path / "rows.npz", ["--tar"], "rows of arrays, no files"),
        (tmp_path / "folder", ["--tar"], "choose a folder outside"),
    ]:
        status, _, err = run("data", "prepare", data, tmp_path / "folder" / "out", *options, capsys=capsys)
        assert (status, found in err) == (2, True), err
    assert not (tmp_path / "folder" / "out").exists()
    rows = make_edition(tmp_path / "rows.npz", tmp_path / "rows", FrameStore(2, store="npz"), workers=1)
    assert len(read_manifest(rows.path).samples) == 4


def test_names_are_safe_and_no_two_are_one_on_any_system():
    sources = [
        "/a/x.mp4",
        "/b/x.mp4",
        "/b/X.avi",
        "/c/con.mp4",
        "/c/.hidden",
        "/c/ü?.mp4",
        "/c/ü*.mp4",
        f"/c/{'y' * 300}.mp4",
    ]
    labels = ["..", "a/b", "a:b", "A_B", "fight", "fight", "fight", "fight"]
    samples = tuple(Sample(source, label, "train") for source, label in zip(sources, labels, strict=True))
    manifest = Manifest(
        (*samples, *(replace(one, source=f"/d{one.source}") for one in samples)), tuple(dict.fromkeys(labels)), "/"
    )
    names = name_clips(manifest)
    assert len({name.casefold() for name in names}) == 16
    for name in names:
        split, label, stem = name.split("/")
        assert split == "train"
        for part in (label, stem):
            assert not part.startswith(("__", " "))
            assert not set(part) & set('.<>:"|?*\\')
            assert len(f"{part}.000.jpeg".encode()) <= 100
    assert names[3].startswith("train/A_B-")


def start(table, output, *options):
    program = "import sys; from tubelet.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "data", "prepare", table, output, "--workers", "2", *options]
    return subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def wait_for_group(process):
    """Wait until the workers of a killed run have ended, too."""
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("workers go on without the run that started them")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["--gop", "4"], ["--frames", "8", "--tar", "--tar-mb", "1"]], ids=["video", "shards"]
)
def test_a_run_that_is_killed_goes_on_and_ends_as_if_nothing_had_happened(tmp_path, options):
    rows = []
    for number in range(40):
        path = tmp_path / "clips" / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_clip(path, frames=40, size=(96, 128), seed=number)
        rows.append({"path": path, "label": "ab"[number % 2], "split": ("train", "val")[number % 3 == 0]})
    table, output = write_table(tmp_path, rows), tmp_path / "killed"
    rendition = FrameStore(8) if "--tar" in options else Encoding(gop=4, crf=20)
    make_edition(table, tmp_path / "whole", rendition, shard_bytes=10**6 if "--tar" in options else None, workers=1)
    draw = random.Random(4)
    stored: dict[Path, int] = {}
    for _ in range(2):
        process = start(table, output, *options)
        held = len(find_stored(output))
        # The first clip of this run may take seconds, the others do not: then comes the moment.
        while len(find_stored(output)) <= held and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.4 * draw.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for_group(process)
        for path in find_stored(output):
            assert stored.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
            with Video(path) as video:
                assert len(video.frames()) == (8 if path.is_dir() else 40)
    assert 2 <= len(stored) < 40
    assert start(table, output, *options).wait(200) == 0
    assert read_tree(output) == read_tree(tmp_path / "whole")
    assert not [*output.rglob(".writing-*"), *output.rglob(".*.new")]
    for path in set(stored) & set(find_stored(output)):
        assert path.stat().st_mtime_ns == stored[path]


def find_stored(output):
    """List the clips that stand under their names: videos, or folders of images that are not packed yet."""
    return list(output.glob("*/*/*.mp4")) + [
        path for path in output.glob(".prepare/clips/*/*/*") if not path.name.startswith(".")
    ]


def test_clips_of_several_labels_keep_them_in_files_and_shards(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    for number in range(3):
        write_clip(tmp_path / "set" / f"{number}.mp4", seed=number)
    (tmp_path / "set" / "table.csv").write_text("path,labels\n0.mp4,b|a\n1.mp4,\n2.mp4,c\n")
    for name, options in (("loose", ("--gop", 4)), ("shards", ("--tar",))):
        assert run("data", "prepare", tmp_path / "set" / "table.csv", tmp_path / name, *options, capsys=capsys)[0] == 0
    for source in (tmp_path / "loose" / "manifest.csv", tmp_path / "shards"):
        manifest = read_manifest(source)
        assert manifest.task == "multilabel"
        assert sorted(sample.label for sample in manifest.samples) == ["", "a|b", "c"]
        assert manifest.classes == ("a", "b", "c")
