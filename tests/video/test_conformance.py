"""Compare decoded frames and times with references: those of the torchcodec project, and the ffmpeg program."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tubelet.video.decoders import packets, pyav
from tubelet.video.decoders.table_memory import TableMemory
from tubelet.video.frame_table import FrameTable
from tubelet.video.source import Video
from video.corpus import CORPUS, lay_out
from video.corpus.boxes import turned
from video.corpus.pictures import encoded, turn_back

MAX_DIFFERENCE, MEAN_DIFFERENCE = 2, 0.5
FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")


# References of the torchcodec project: NAME.streamS.frameNNNNNN.pt, (height, width, channel), and times.


@cache
def _resources() -> Path | None:
    root = os.environ.get("TUBELET_TEST_DATA")
    folder = Path(root) / "torchcodec_resources" if root else None
    return folder if folder and folder.is_dir() else None


def _reference_frames() -> list[pytest.param]:
    """List every 8-bit reference frame; `crop` and `scale` variants and deeper colors do not match the name's form."""
    form = re.compile(r"(?P<video>[^.]+\.\w+)\.stream(?P<stream>\d+)\.frame(?P<frame>\d{6})\.pt")
    found = []
    for path in sorted(_resources().glob("*.pt")) if _resources() else ():
        match = form.fullmatch(path.name)
        if match and not re.search(r"_hdr|_12bit", match["video"]):
            found.append((match["video"], int(match["stream"]), int(match["frame"])))
    groups: dict[tuple[str, int], list[int]] = {}
    for video, stream, frame in found:
        groups.setdefault((video, stream), []).append(frame)
    return [
        pytest.param(video, stream, tuple(frames), id=f"{video}-{stream}") for (video, stream), frames in groups.items()
    ]


def _reference_times() -> list[pytest.param]:
    form = re.compile(r"(?P<video>[^.]+\.\w+)\.stream(?P<stream>\d+)\.all_frames_info\.json")
    matches = [form.fullmatch(path.name) for path in sorted(_resources().glob("*.json"))] if _resources() else []
    videos = [
        match
        for match in matches
        if match and not (_resources() / f"{match['video']}.stream{match['stream']}.all_frames.pt").exists()
    ]
    return [
        pytest.param(match["video"], int(match["stream"]), id=f"{match['video']}-{match['stream']}") for match in videos
    ]


needs_resources = [
    pytest.mark.real_data,
    pytest.mark.skipif(_resources() is None, reason="TUBELET_TEST_DATA names no folder with torchcodec_resources"),
]
BEST = {"nasa_13013.mp4": 3}


def test_references_are_found_where_the_folder_is() -> None:
    if _resources() is None:
        pytest.skip("TUBELET_TEST_DATA names no folder with torchcodec_resources")
    frames = [number for row in _reference_frames() for number in row.values[2]]
    assert len(frames) >= 38
    assert len(_reference_times()) == 4


class TestReferenceFrames:
    pytestmark = needs_resources

    @pytest.mark.parametrize(("name", "stream", "frames"), _reference_frames())
    def test_pixels_equal_the_reference(self, name: str, stream: int, frames: tuple[int, ...]) -> None:
        folder = _resources()
        with Video(folder / name, stream=stream) as video:
            clip = video.frames_at(frames)
        for frame, pixels in zip(frames, clip.pixels, strict=True):
            reference = torch.load(folder / f"{name}.stream{stream}.frame{frame:06d}.pt", weights_only=True)
            wanted = reference.numpy().astype(int)
            assert pixels.shape == wanted.shape
            assert np.abs(pixels.astype(int) - wanted).max() <= MAX_DIFFERENCE, f"frame {frame}"

    @pytest.mark.parametrize(("name", "stream"), _reference_times())
    def test_times_and_count_equal_the_reference(self, name: str, stream: int) -> None:
        rows = json.loads((_resources() / f"{name}.stream{stream}.all_frames_info.json").read_text())
        wanted = np.array([float(row["pts_time"]) for row in rows])
        with Video(_resources() / name, stream=stream) as video:
            times = video.frames_at(range(video.info.num_frames)).times_s
            assert video.info.num_frames == len(wanted)
            assert video.info.duration_s == pytest.approx(
                wanted[-1] - wanted[0] + float(rows[-1]["duration_time"]), abs=2e-3
            )
        np.testing.assert_allclose(times, wanted - wanted[0], atol=2e-5)

    @pytest.mark.parametrize(("name", "stream"), BEST.items())
    def test_best_stream_is_taken_unasked(self, name: str, stream: int) -> None:
        with Video(_resources() / name) as unasked, Video(_resources() / name, stream=stream) as asked:
            assert unasked.info == asked.info
            assert np.array_equal(unasked.frames_at([7]).pixels, asked.frames_at([7]).pixels)


# The ffmpeg program as the reference.


@dataclass(frozen=True)
class Reference:
    """What the ffmpeg program shows of a file."""

    pixels: np.ndarray
    times_s: np.ndarray


def need_ffmpeg() -> None:
    if FFMPEG is None or FFPROBE is None:
        if os.environ.get("CI") == "true":
            pytest.fail("the ffmpeg program is missing on CI")
        pytest.skip("needs the ffmpeg program")


def _ask(program: str | None, *arguments: str) -> bytes:
    return subprocess.run(
        [str(program), "-v", "error", *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL
    ).stdout


def show(path: Path, height: int, width: int) -> Reference:
    """Decode with the ffmpeg program: each presented frame once, turned, RGB, with its time."""
    common = ("-i", str(path), "-map", "0:V:0", "-fps_mode", "passthrough")
    # Each field of an interlaced picture has its own chroma rows; `interl=-1` respects that, as FFmpeg 8 does unasked.
    raw = _ask(FFMPEG, *common, "-vf", "scale=interl=-1:flags=bicubic", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    table = _ask(FFMPEG, "-copyts", *common, "-enc_time_base", "1:90000", "-f", "framecrc", "-").decode()
    rows = [line.split(",") for line in table.splitlines() if not line.startswith("#")]
    ticks = [int(row[2]) for row in rows]
    times_s = np.array(ticks) / 90_000
    return Reference(np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3), times_s - times_s[0])


SIZE = (144, 176)
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "12", "-sc_threshold", "0")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "3", "-g", "12")

FILES: dict[str, tuple[str, ...]] = {
    "plain.mp4": (*X264, "-bf", "0"),
    "b_frames.mp4": (*X264, "-bf", "3", "-b_strategy", "0"),
    "b_pyramid.mkv": (*X264, "-bf", "4", "-x264-params", "b-pyramid=normal:b-adapt=0"),
    "open_gop.mp4": (*X264, "-x264-params", "open-gop=1:bframes=3:b-adapt=0"),
    "open_gop.ts": (*X264, "-x264-params", "open-gop=1:bframes=3:b-adapt=0"),
    "open_gop_hevc.mp4": (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none:keyint=12:open-gop=1:bframes=3",
    ),
    "late.mp4": (*X264, "-output_ts_offset", "8.3"),
    "late.mkv": (*X264, "-output_ts_offset", "8.3"),
    "late.ts": (*X264, "-output_ts_offset", "8.3"),
    "uneven.mp4": (
        "-vf",
        "setpts='(N+mod(N*N,7)*0.12)/25/TB'",
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "1:1000",
        *X264,
    ),
    "uneven.mkv": (
        "-vf",
        "setpts='(N+mod(N*N,7)*0.12)/25/TB'",
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "1:1000",
        *X264,
    ),
    "fragmented.mp4": (*X264, "-bf", "2", "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
    "interlaced.ts": ("-c:v", "mpeg2video", "-q:v", "3", "-flags", "+ilme+ildct", "-top", "1"),
    "interlaced.mp4": (*X264, "-flags", "+ilme+ildct"),
    "xvid.avi": MPEG4,
    "xvid_b.avi": (*MPEG4, "-bf", "2"),
    "xvid.mp4": (*MPEG4, "-bf", "2"),
    "flv1.flv": ("-c:v", "flv", "-q:v", "3"),
    "h264.flv": (*X264, "-bf", "2"),
    "clip.wmv": ("-c:v", "wmv2", "-q:v", "3"),
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-q:v", "3", "-bf", "2"),
    "mpeg2.vob": ("-c:v", "mpeg2video", "-q:v", "3", "-bf", "2", "-f", "vob"),
    "mjpeg.mov": ("-c:v", "mjpeg", "-q:v", "3"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "12"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "16", "-g", "12", "-threads", "1"),
    "ten_bit_444.mp4": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv444p10le"),
    "chroma_444.mp4": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv444p"),
    "full_range.mp4": ("-vf", "scale=out_range=full", *X264, "-color_range", "pc"),
    "bt709.mp4": (
        "-vf",
        "scale=out_color_matrix=bt709",
        *X264,
        "-colorspace",
        "bt709",
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
    ),
    "animation.gif": (),
    "audio.mp4": ("-f", "lavfi", "-i", "sine=440:duration=1.6", *X264, "-c:a", "aac", "-shortest"),
}
SEED_CLIP = ("-f", "lavfi", "-i", f"testsrc2=size={SIZE[1]}x{SIZE[0]}:rate=25:duration=1.6,noise=alls=6:all_seed=3")


# Outside the plain 8-bit, even-sized case FFmpeg 5 and 8 interpolate halved chroma differently; brightness must agree.
UPSAMPLED = {"ten_bit_hevc", "odd_420"}
LUMA = np.array([0.299, 0.587, 0.114])


def _make_cut(folder: Path) -> Path:
    """Trim without decoding, inside a group of pictures."""
    _ask(FFMPEG, "-y", *SEED_CLIP, *X264, "-g", "20", "-bf", "2", str(folder / "whole.mp4"))
    _ask(FFMPEG, "-y", "-ss", "0.6", "-i", str(folder / "whole.mp4"), "-c", "copy", str(folder / "cut.mp4"))
    return folder / "cut.mp4"


def _make_rotated(degrees: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _ask(FFMPEG, "-y", *SEED_CLIP, *X264, str(folder / "upright.mp4"))
        target = folder / f"rotated_{degrees}.mp4"
        target.write_bytes(turned((folder / "upright.mp4").read_bytes(), degrees // 90, False, *SIZE))
        return target

    return make


def _make_from_corpus(key: str) -> Callable[[Path], Path]:
    return lambda folder: Path(lay_out(CORPUS[key], folder, encoded(), 9)[0])


SURGERY = [
    "edit_two",
    "edit_inside_group",
    "edit_pause",
    "negative_mp4",
    "vfr_hole_mp4",
    "vfr_hole_mkv",
    "vp8_hidden",
    "vp9_hidden",
    "xvid_avi_packed",
    "rotated_90_mirrored",
    "rotated_180_mirrored",
    "late_no_edit_list",
    "live_mkv",
    "gray",
    "rgb_h264",
    "odd_444",
    "odd_420",
    "ten_bit_hevc",
    "chroma_422",
    "prores",
    "two_streams",
    "cover_art",
    "apng",
    "open_gop_mpeg2",
    "sar",
]
MADE: dict[str, Callable[[Path], Path]] = {
    "cut.mp4": _make_cut,
    **{f"rotated_{degrees}": _make_rotated(degrees) for degrees in (90, 180, 270)},
    **{key: _make_from_corpus(key) for key in SURGERY},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make each file once, when it is first asked for."""
    root = tmp_path_factory.mktemp("conformance")

    @cache
    def make(name: str) -> Path:
        need_ffmpeg()
        folder = root / name.replace(".", "_")
        folder.mkdir()
        if name in MADE:
            return MADE[name](folder)
        _ask(FFMPEG, "-y", *SEED_CLIP, *FILES[name], str(folder / name))
        return folder / name

    return make


def _single(video: Video, index: int) -> tuple[np.ndarray, float]:
    clip = video.frames_at([index])
    return clip.pixels[0], float(clip.times_s[0])


@pytest.mark.parametrize("name", [*FILES, *MADE])
def test_count_times_and_pixels_equal_the_ffmpeg_program(name: str, made: Callable[[str], Path]) -> None:
    path = made(name)
    with Video(path) as video:
        info = video.info
        clip = video.frames_at(range(info.num_frames))
    reference = show(path, info.height, info.width)
    assert info.num_frames == len(reference.pixels) == len(reference.times_s)
    np.testing.assert_allclose(clip.times_s, reference.times_s, atol=1.1e-3)
    ours, theirs = clip.pixels.astype(float), reference.pixels.astype(float)
    if name in UPSAMPLED:
        ours, theirs = ours @ LUMA, theirs @ LUMA
    difference = np.abs(ours - theirs)
    assert difference.mean() <= MEAN_DIFFERENCE
    assert difference.max() <= MAX_DIFFERENCE, f"frame {np.unravel_index(difference.argmax(), difference.shape)}"


_UNINDEXED = [
    name for name in (*FILES, *MADE) if name.endswith((".ts", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".vob", ".wmv"))
]
_TOLD = frozenset(["open_gop.ts", "b_pyramid.mkv", "xvid_b.avi", "mpeg1.mpg"])
_DECODED = frozenset(["xvid_b.avi", "mpeg1.mpg", "mpeg2.vob"])
"""Only decoding tells their frames: they are passed over each time."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _TOLD else pytest.mark.slow) for name in _UNINDEXED]
)
def test_a_file_too_large_to_keep_gives_the_same_frames_and_is_passed_over_once(
    name: str, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(name)
    with Video(path.read_bytes()) as video:
        whole = video.frames()
    for module in (packets, pyav):
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
    monkeypatch.setattr(pyav, "_TABLES", TableMemory())
    order = np.random.default_rng(1).permutation(len(whole)).tolist()
    passes = []
    monkeypatch.setattr(pyav, "read_packets", lambda *given: passes.append(1) or packets.read_packets(*given))
    for _ in range(2):
        with Video(path) as video:
            clip = video.frames_at(order)
            one = video.frames_at(order[:1])
        assert np.array_equal(clip.times_s, whole.times_s[order])
        assert np.array_equal(clip.pixels, whole.pixels[order])
        assert np.array_equal(one.pixels, whole.pixels[order[:1]])
    assert len(passes) == (2 if name in _DECODED else 1)


def test_a_table_is_forgotten_when_the_file_changes_or_the_room_is_full(
    made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = TableMemory(capacity_bytes=5_000)
    monkeypatch.setattr(pyav, "_TABLES", memory)
    monkeypatch.setattr(packets, "KEPT_BYTES", 0)
    monkeypatch.setattr(pyav, "KEPT_BYTES", 0)
    path = tmp_path / "clip.mkv"
    counts = []
    for name in ("b_pyramid.mkv", "late.mkv"):
        shutil.copy(made(name), path)
        with Video(path) as video, Video(made(name).read_bytes()) as expected:
            assert np.array_equal(video.times_s, expected.times_s)
            counts.append(video.info.num_frames)
    table = FrameTable(np.arange(30), np.ones(30, bool), np.arange(30), np.arange(30.0), 1.0, True)
    for number in range(9):
        memory.keep((number,), 0, table)
    assert [memory.find((number,), 0) is table for number in range(9)] == [False] * 6 + [True] * 3


def _shuffled_equals_sequential(path: Path, seed: int) -> None:
    """Read in random order, with repeats, in calls of random length: each frame as when read in a row."""
    generator = np.random.default_rng(seed)
    with Video(path) as video:
        sequential = video.frames_at(range(video.info.num_frames))
        for _ in range(8):
            indices = generator.integers(0, video.info.num_frames, generator.integers(1, 6)).tolist()
            clip = video.frames_at(indices)
            assert np.array_equal(clip.times_s, sequential.times_s[indices]), indices
            wrong = [
                index
                for index, pixels in zip(indices, clip.pixels, strict=True)
                if not np.array_equal(pixels, sequential.pixels[index])
            ]
            assert not wrong, f"of {indices}, {wrong} differ"
    with Video(path) as fresh:
        last = len(sequential.pixels) - 1
        for index in (last, 0, last // 2):
            pixels, time_s = _single(fresh, index)
            assert time_s == sequential.times_s[index]
            assert np.array_equal(pixels, sequential.pixels[index]), f"frame {index}, the first one asked for"


@pytest.mark.parametrize("name", [*FILES, *MADE])
def test_any_order_equals_sequential_reading(name: str, made: Callable[[str], Path]) -> None:
    _shuffled_equals_sequential(made(name), seed=len(name))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", [*FILES, *MADE])
def test_any_order_equals_sequential_reading_for_many_seeds(name: str, seed: int, made: Callable[[str], Path]) -> None:
    _shuffled_equals_sequential(made(name), seed=1000 + seed)


def test_turned_files_hold_the_upright_picture(tmp_path: Path) -> None:
    need_ffmpeg()
    for degrees in (90, 180, 270):
        path = _make_rotated(degrees)(tmp_path)
        with Video(path) as video, Video(tmp_path / "upright.mp4") as upright:
            assert video.info.rotation == degrees
            assert (video.info.height, video.info.width) == (SIZE if degrees == 180 else SIZE[::-1])
            assert np.array_equal(
                turn_back(video.frames_at([3]).pixels[0], degrees // 90, False), upright.frames_at([3]).pixels[0]
            )


@pytest.mark.real_data
def test_a_packet_that_shows_nothing_is_no_frame(real_data: Path) -> None:
    """A clip of UCF101 holds six bytes that say "as before": players and ffmpeg show 194 frames, not 195."""
    with Video(real_data / "ucf101_mini" / "YoYo" / "v_YoYo_g11_c04.avi") as video:
        assert video.info.num_frames == 194
        clip = video.frames()
        assert len(clip) == 194
        assert np.array_equal(video.frames_at([114]).pixels[0], clip.pixels[114])
