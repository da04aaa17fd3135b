"""Hold that every kind of source that comes bit by bit gives the frames that it has, and that nothing else opens."""

import functools
import http.server
import io
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import av
import numpy as np
import pytest

from small_run import write_clip
from tubelet.errors import ConfigError, DecodeTimeout, NotAVideo, SourceNotFound, TooLarge, VideoError
from tubelet.shapes import Size
from tubelet.video.live import FrameFeed, LiveSource
from tubelet.video.source import Video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("live") / "clip.mp4", frames=30)


@pytest.fixture(scope="module")
def transport(clip):
    """The same packets as mpegts, which can be read while it is written."""
    path = clip.with_suffix(".ts")
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mpegts") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = track
                target.mux(packet)
    return path


def read(source):
    frames = list(source.frames())
    source.close()
    return np.stack([frame.show() for frame in frames]), np.array([frame.time_s for frame in frames])


def check_same(source, expected):
    whole = Video(expected).frames()
    pixels, times_s = read(source)
    assert np.array_equal(pixels, whole.pixels)
    assert times_s == pytest.approx(whole.times_s, abs=1e-4)


def test_a_file_gives_the_frames_that_a_video_gives(clip):
    source = LiveSource(clip)
    assert (source.is_live, source.fps) == (False, pytest.approx(12))
    check_same(source, clip)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["video_90.mov", "unordered.mov", "v_CricketShot_g04_c01_rgb.gif"])
def test_odd_files_are_upright_and_in_order(real_data, name):
    check_same(LiveSource(real_data / "samples" / name), real_data / "samples" / name)


def test_a_file_that_grows_is_read_to_its_end(transport, tmp_path):
    data = transport.read_bytes()
    growing = tmp_path / "growing.ts"
    growing.write_bytes(data[:4000])

    def write():
        with growing.open("ab", buffering=0) as file:
            for start in range(4000, len(data), 3000):
                time.sleep(0.02)
                file.write(data[start : start + 3000])

    writer = threading.Thread(target=write)
    writer.start()
    source = LiveSource(growing, follow_s=2.0)
    assert source.is_live
    check_same(source, transport)
    writer.join()


def pipe(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))


def test_what_is_piped_is_read(transport, monkeypatch):
    pipe(monkeypatch, transport.read_bytes())
    check_same(LiveSource("-"), transport)


def test_bare_frames_that_are_piped_are_read_up_to_the_last_whole_one(monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (5, 6, 8, 3), np.uint8)
    pipe(monkeypatch, frames.tobytes()[:-1])
    pixels, times_s = read(LiveSource("-", raw=Size(6, 8), fps=10.0))
    assert np.array_equal(pixels, frames[:4])
    assert times_s == pytest.approx([0, 0.1, 0.2, 0.3])


class Answers(http.server.SimpleHTTPRequestHandler):
    """Serve a folder; and some answers that a decoder must not follow."""

    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"file://{self.directory}/clip.ts")
            self.end_headers()
        elif self.path == "/silent":
            time.sleep(1.5)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def address(transport):
    handler = functools.partial(Answers, directory=str(transport.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_http_is_read(address, transport):
    source = LiveSource(f"{address}/clip.ts")
    assert source.is_live
    check_same(source, transport)


def test_playlists_and_other_protocols_are_refused_and_silence_ends(address, transport):
    (transport.parent / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{address}/clip.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceNotFound, match="playlists such as HLS are refused"):
        LiveSource(f"{address}/list.m3u8")
    with pytest.raises(VideoError):
        LiveSource(f"{address}/away")
    with pytest.raises(DecodeTimeout, match=r"nothing came within 0\.5 s"):
        LiveSource(f"{address}/silent", timeout_s=0.5)


@pytest.mark.parametrize(
    "name", ["concat:a.ts|b.ts", "file:clip.mp4", "subfile,,start,0,end,9,,:clip.mp4", "ftp://host/clip.mp4", "pipe:0"]
)
def test_names_that_mean_something_to_ffmpeg_alone_are_refused(name):
    with pytest.raises(NotAVideo, match="no protocol that is allowed here"):
        LiveSource(name)


def test_what_cannot_be_opened_says_why(clip, tmp_path, monkeypatch):
    with pytest.raises(SourceNotFound, match=r"no such file"):
        LiveSource(tmp_path / "absent.mp4")
    with pytest.raises(SourceNotFound, match=r"cannot open 'rtsp://127.0.0.1:1/x' - .*check the address") as refused:
        LiveSource("rtsp://user:secret@127.0.0.1:1/x", timeout_s=2.0)
    assert "secret" not in str(refused.value)
    (tmp_path / "text.ts").write_text("no video " * 200)
    with pytest.raises(NotAVideo, match="no known video format"):
        LiveSource(tmp_path / "text.ts", follow_s=0.1)
    pipe(monkeypatch, b"")
    with pytest.raises(NotAVideo, match="none came"):
        LiveSource("-")
    whole = clip.read_bytes()
    pipe(monkeypatch, whole[:200] + whole[-300:])  # an mp4 without its index
    with pytest.raises(VideoError):
        read(LiveSource("-"))


@pytest.mark.skipif(sys.platform != "linux", reason="cameras have other names elsewhere")
def test_a_camera_that_is_not_there_is_named():
    with pytest.raises(SourceNotFound, match=r"cannot open 'camera 99' - .*check that /dev/video99 is there"):
        LiveSource(99)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("clip.mp4", {"raw": Size(4, 4), "fps": 25.0}, "through standard input"),
        ("-", {"raw": Size(4, 4)}, "such as --raw 480 640 --fps 25"),
        ("-", {"follow_s": 1.0}, "leave it out"),
        ("clip.mp4", {"follow_s": 0.0}, "follow_s must be above 0"),
        ("clip.mp4", {"listen": True}, "give rtsp://HOST:PORT"),
        ("0", {"fps": 0.0}, "fps must lie in"),
        ("0", {"timeout_s": -1.0}, "timeout_s must be above 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(source, options, said):
    with pytest.raises(ConfigError, match=said):
        LiveSource(source, **options)


def test_a_stream_that_begins_midway_gives_what_it_can(tmp_path, monkeypatch):
    path = tmp_path / "keys.ts"
    with av.open(str(path), "w") as file:
        options = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "0"}
        track = file.add_stream("libx264", rate=10, options=options)
        track.width, track.height, track.pix_fmt = 32, 32, "yuv420p"
        for number in range(30):
            picture = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
            file.mux(track.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(track.encode(None))
    data = path.read_bytes()
    pipe(monkeypatch, data[len(data) // 188 // 5 * 188 :])
    pixels, times_s = read(LiveSource("-"))
    assert 20 <= len(pixels) < 30
    assert np.diff(times_s) == pytest.approx(0.1)


def test_a_packet_that_does_not_decode_is_passed_over_and_counted(tmp_path, monkeypatch):
    path = tmp_path / "damaged.mkv"
    with av.open(str(path), "w") as file:
        track = file.add_stream("mjpeg", rate=10)
        track.width, track.height, track.pix_fmt = 32, 32, "yuvj420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * number, np.uint8), "rgb24")
            for packet in track.encode(frame):
                if number == 4:
                    broken = av.Packet(b"no picture " * 9)
                    broken.stream, broken.pts, broken.dts = track, packet.pts, packet.dts
                    broken.time_base, broken.is_keyframe = packet.time_base, True
                file.mux(broken if number == 4 else packet)
    pipe(monkeypatch, path.read_bytes())
    source = LiveSource("-")
    _, times_s = read(source)
    assert times_s == pytest.approx([0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert source.num_damaged == 1


def test_a_source_whose_times_begin_again_goes_on_counting():
    feed = FrameFeed([(5.0, np.zeros((4, 4, 3), np.uint8))] * 3, fps=10.0, is_live=False)
    assert [frame.time_s for frame in feed.frames()] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the ffmpeg program to send")
def test_rtsp_is_read_from_somebody_who_sends_to_us():
    command = "ffmpeg -loglevel error -re -f lavfi -i testsrc=size=160x120:rate=25 -t 4 -c:v libx264 -preset ultrafast"
    command += " -tune zerolatency -f rtsp -rtsp_transport tcp rtsp://127.0.0.1:18731/live"

    def send():
        while subprocess.run(command.split(), stderr=subprocess.DEVNULL).returncode:
            time.sleep(0.2)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    pixels, times_s = read(LiveSource("rtsp://127.0.0.1:18731/live", listen=True, timeout_s=60.0))
    sender.join(30)
    assert pixels.shape[1:] == (120, 160, 3)
    assert 90 <= len(pixels) <= 100
    assert times_s[-1] == pytest.approx(len(times_s) / 25, abs=0.2)


def test_too_large_a_picture_is_refused_before_it_is_decoded(clip, monkeypatch):
    monkeypatch.setattr("tubelet.video.live.MAX_PIXELS", 100)
    with pytest.raises(TooLarge):
        LiveSource(clip)
