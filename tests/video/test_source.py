"""Hold what `Video` promises for every kind of source."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tubelet.errors import ConfigError, FrameOutOfRange, TubeletError, VideoError
from tubelet.video.opening import FileRange, open_file
from tubelet.video.source import Video


def write_long_clip(path, seconds, size=(64, 64)):
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 255, (32, *size, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        stream.options = {"preset": "ultrafast", "qp": "20", "g": "25"}
        for number in range(seconds * 25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise[number % 32], format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_sixteen_frames_of_a_long_video_do_not_cost_the_whole_file(tmp_path):
    path = write_long_clip(tmp_path / "long.mp4", seconds=80)
    with Video(path) as video:
        assert video.info.num_frames == 2000
        video.frames_at(np.linspace(0, 1999, 16).astype(int).tolist())
        assert video.bytes_read < 0.5 * path.stat().st_size


def test_a_second_request_gives_the_same_frames_as_the_first(tmp_path):
    path = write_long_clip(tmp_path / "clip.mkv", seconds=4)
    with Video(path) as video:
        first = video.frames_at([80, 3, 50]).pixels
        video.frames_at([99])
        assert np.array_equal(video.frames_at([80, 3, 50]).pixels, first)


def test_a_part_of_a_file_is_read_where_the_system_lacks_pread(tmp_path, monkeypatch):
    (tmp_path / "whole").write_bytes(b"0123456789")
    monkeypatch.delattr(os, "pread", raising=False)
    store = open_file(FileRange(str(tmp_path / "whole"), 2, 6, "part"))
    assert (store.read_at(3, 9), store.read_at(0, 2), store.read_at(6, 1)) == (b"567", b"23", b"")
    store.close()


def test_info_is_known_before_any_frame_is_decoded(tmp_path):
    path = write_long_clip(tmp_path / "clip.mp4", seconds=2, size=(48, 80))
    info = Video(path).info
    assert (info.num_frames, info.height, info.width, info.codec, info.rotation) == (50, 48, 80, "h264", 0)
    assert info.fps == pytest.approx(25)
    assert info.duration_s == pytest.approx(2.0)


def test_a_folder_of_images_is_a_video_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        Image.fromarray(np.full((6, 8, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    with Video(tmp_path, fps=5.0) as video:
        assert (video.info.num_frames, video.info.height, video.info.width) == (3, 6, 8)
        clip = video.frames_at([0, 1, 2])
    assert clip.pixels[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert clip.times_s.tolist() == [0.0, 0.2, 0.4]


def test_images_of_different_sizes_are_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "b.png")
    with Video(tmp_path) as video, pytest.raises(VideoError, match=r"b\.png.*8x8.*8x6"):
        video.frames_at([0, 1])


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 1), (5, 4, 6, 7)])
def test_an_array_is_a_video_with_any_number_of_channels(shape):
    array = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    with Video(array) as video:
        assert video.info.channels == (shape[3] if len(shape) == 4 else 1)
        assert np.array_equal(video.frames_at([4, 1]).pixels, array.reshape(5, 4, 6, -1)[[4, 1]])


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 4), np.float32), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 4), np.uint8)]
)
def test_an_array_of_another_kind_is_refused_with_what_was_found(array):
    with pytest.raises(VideoError, match="found") as caught:
        Video(array)
    assert caught.value.code == "not_a_video"


@pytest.mark.parametrize("index", [3, -1, np.int64(7)])
def test_an_index_that_is_no_frame_is_refused(index):
    with Video(np.zeros((3, 4, 4), np.uint8)) as video, pytest.raises(FrameOutOfRange, match="it has 3 frames"):
        video.frames_at([0, index])


@pytest.mark.parametrize("index", ["1.5", "'0'", "None"])
def test_an_index_that_is_no_whole_number_is_refused_where_types_are_not_checked(index):
    program = f"import numpy, tubelet; tubelet.Video(numpy.zeros((3, 4, 4), 'uint8')).frames_at([0, {index}])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "FrameOutOfRange" in done.stderr
    assert "whole number" in done.stderr


def test_no_indices_give_an_empty_clip():
    clip = Video(np.zeros((3, 4, 6, 2), np.uint8)).frames_at([])
    assert clip.pixels.shape == (0, 4, 6, 2)
    assert len(clip) == 0


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        (tmp_path / "loop.mp4").symlink_to("loop.mp4")
        (tmp_path / "empty").mkdir()
        expected = {"pipe.mp4": "not_a_video", "socket.mp4": "not_a_video", "loop.mp4": "not_a_video"}
        expected |= {"empty": "not_a_video", "absent.mp4": "not_found", "a\0b.mp4": "not_a_video"}
        for name, code in expected.items():
            with pytest.raises(TubeletError) as caught:
                Video(f"{tmp_path}/{name}")
            assert caught.value.code == code, name
            assert name.split("\0")[0] in str(caught.value)


def test_a_string_never_reaches_a_decoder_as_an_address():
    for address in (
        "http://127.0.0.1:9/x.mp4",
        "concat:a.mp4|b.mp4",
        "subfile,,start,0,end,9,,:x.mp4",
        "lavfi:testsrc",
    ):
        with pytest.raises(VideoError) as caught:
            Video(address)
        assert caught.value.code == "not_found"


def test_a_symbolic_link_to_a_video_is_followed(tmp_path):
    path = write_long_clip(tmp_path / "clip.mp4", seconds=1)
    (tmp_path / "link.mp4").symlink_to(path)
    assert Video(tmp_path / "link.mp4").info.num_frames == 25


def test_closing_gives_the_file_descriptor_back(tmp_path):
    path = write_long_clip(tmp_path / "clip.mp4", seconds=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with Video(path) as video:
            video.frames_at([0, 24])
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


@pytest.mark.parametrize("kind", ["file", "bytes", "folder", "array"])
def test_reading_after_close_says_so_and_names_the_source(tmp_path, kind):
    if kind == "folder":
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "a.png")
    path = tmp_path if kind == "folder" else write_long_clip(tmp_path / "clip.mkv", seconds=1)
    source = path
    if kind == "array":
        source = np.zeros((3, 4, 4), np.uint8)
    elif kind == "bytes":
        source = path.read_bytes()
    video = Video(source)
    video.close()
    for indices in ([0], []):
        with pytest.raises(VideoError, match="it is closed") as caught:
            video.frames_at(indices)
        assert video.name in str(caught.value)
    assert video.info.num_frames == len(video.times_s)


def test_all_times_are_known_without_decoding(tmp_path):
    path = write_long_clip(tmp_path / "long.mp4", seconds=20)
    with Video(path) as video:
        before = video.bytes_read
        times_s = video.times_s
        assert video.bytes_read == before
        assert times_s.tolist() == pytest.approx([index / 25 for index in range(500)])
        assert video.frames_at([499, 3]).times_s.tolist() == times_s[[499, 3]].tolist()
        with pytest.raises(ValueError, match="read-only"):
            times_s[0] = 1
    assert Video(np.zeros((4, 2, 2), np.uint8), fps=8.0).times_s.tolist() == [0, 0.125, 0.25, 0.375]


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(fps):
    with pytest.raises(ConfigError, match=f"fps={fps}"):
        Video(np.zeros((3, 4, 4), np.uint8), fps=fps)


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_a_number_of_threads_out_of_range_is_refused(threads):
    with pytest.raises(ConfigError, match=f"threads={threads}.*1 to 64"):
        Video(np.zeros((3, 4, 4), np.uint8), threads=threads)


def test_a_source_of_another_type_is_refused_with_what_is_accepted():
    # A process of its own: the tests' run-time check of types would refuse it before the code does.
    code = """
from tubelet import errors
from tubelet.video.source import Video
for source in (None, 7, ["a.mp4"]):
    try:
        Video(source)
    except errors.NotAVideo as error:
        assert type(source).__name__ in str(error) and "the path of a file" in str(error), error
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["refused"] * 3, done.stderr
