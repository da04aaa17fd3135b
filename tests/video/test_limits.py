"""Hold the limits on work: a small file never costs hours, and honest work is never stopped."""

import io
import time

import av
import numpy as np
import pytest

from tubelet.errors import DecodeTimeout, TooLarge
from tubelet.video.decoders import failures
from tubelet.video.source import Video

SIDE = 2000


def encode_still(codec, pix_fmt, side=SIDE, options=None):
    """Encode two equal pictures: a key packet, and the tiny one that says that nothing changed."""
    with av.open(io.BytesIO(), "w", format="nut" if codec != "qtrle" else "mov") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = side, side, pix_fmt, options or {}
        packets = []
        for number in range(2):
            frame = av.VideoFrame(side, side, pix_fmt)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = number
            packets += stream.encode(frame)
        packets += stream.encode(None)
        return [bytes(packet) for packet in packets], packets[0].time_base


def write_animation(path, codec, pix_fmt, count, key_every=None):
    """Write `count` frames that each cost a full picture to decode and some bytes to store."""
    (key, still), time_base = encode_still(codec, pix_fmt)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, pix_fmt
        for number in range(count):
            is_key = number % (key_every or count) == 0
            packet = av.Packet(key if is_key else still)
            packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, is_key
            packet.pts = packet.dts = number
            packet.duration = 1
            container.mux(packet)
    return path


def write_one_group(path, count=240, codec="libx264"):
    """Write moving pictures with B-frames, all after one key frame."""
    generator = np.random.default_rng(0)
    base = generator.integers(0, 255, (96, 128, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.options = {
            "g": "100000",
            "bf": "3",
            "x264-params": "cpu-independent=1:scenecut=0",
            "preset": "ultrafast",
        }
        for number in range(count):
            picture = np.ascontiguousarray(np.roll(base, number * 3, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("x.nut", "gif", "rgb8"), ("x.mov", "gif", "rgb8"), ("x.mov", "qtrle", "rgb24"), ("x.gif", "gif", "rgb8")],
)
def test_an_animation_too_long_to_decode_is_refused_in_every_container(tmp_path, name, codec, pix_fmt):
    path = write_animation(tmp_path / name, codec, pix_fmt, 1001)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(TooLarge, match=rf"{name}.*1001 frames of 4000000 pixels"):
        Video(path)


def test_an_animation_at_the_limit_and_one_with_key_frames_are_read(tmp_path):
    assert Video(write_animation(tmp_path / "x.nut", "gif", "rgb8", 1000)).info.num_frames == 1000
    keyed = write_animation(tmp_path / "keyed.mov", "qtrle", "rgb24", 1100, key_every=100)
    with Video(keyed) as video:
        assert video.frames_at([1099]).pixels.max() == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_read_out_of_proportion_is_stopped_and_the_next_one_is_exact(tmp_path, monkeypatch, threads):
    path = write_one_group(tmp_path / "one_group.mp4")
    with Video(path) as whole:
        expected = whole.frames().pixels
    with Video(path, threads=threads) as video:
        with monkeypatch.context() as patch:
            for name in ("DECODE_BUDGET_S", "FRAME_BUDGET_S", "MEGABYTE_BUDGET_S"):
                patch.setattr(failures, name, 0.002 if name == "DECODE_BUDGET_S" else 0.0)
            with pytest.raises(DecodeTimeout, match=r"one_group\.mp4.*more than 0 s"):
                video.frames_at([239])
        assert np.array_equal(video.frames_at(range(12)).pixels, expected[:12])


def test_the_one_pass_that_opening_may_need_is_stopped_too(tmp_path, monkeypatch):
    path = write_one_group(tmp_path / "one_group.avi", codec="mpeg4")
    for name in ("DECODE_BUDGET_S", "FRAME_BUDGET_S", "MEGABYTE_BUDGET_S"):
        monkeypatch.setattr(failures, name, 0.0)
    with pytest.raises(DecodeTimeout, match=r"one_group\.avi"):
        Video(path)


@pytest.mark.parametrize("granted", ["FRAME_BUDGET_S", "MEGABYTE_BUDGET_S"])
def test_wanted_frames_and_bytes_add_time(tmp_path, monkeypatch, granted):
    path = write_one_group(tmp_path / "one_group.mp4")
    with Video(path) as video:
        for name in ("DECODE_BUDGET_S", "FRAME_BUDGET_S", "MEGABYTE_BUDGET_S"):
            monkeypatch.setattr(failures, name, 0.0)
        with pytest.raises(DecodeTimeout):
            video.frames_at([0, 120, 239])
        monkeypatch.setattr(failures, granted, 20.0 if granted == "FRAME_BUDGET_S" else 60e6 / path.stat().st_size)
        assert len(video.frames_at([0, 120, 239])) == 3


def test_waiting_for_a_slow_disk_or_a_busy_machine_does_not_count(tmp_path, monkeypatch):
    path = write_one_group(tmp_path / "one_group.mkv", count=60)
    with Video(path) as video:
        monkeypatch.setattr(failures, "DECODE_BUDGET_S", 0.25)
        monkeypatch.setattr(failures, "FRAME_BUDGET_S", 0.0)
        monkeypatch.setattr(failures, "MEGABYTE_BUDGET_S", 0.0)
        decode = video._reader._packets_from

        def decode_slowly(start):
            for item in decode(start):
                time.sleep(0.01)
                yield item

        monkeypatch.setattr(video._reader, "_packets_from", decode_slowly)
        assert len(video.frames_at([59])) == 1
