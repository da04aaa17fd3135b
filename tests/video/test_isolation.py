"""Strangers' files are read in processes that may die, and nothing else does."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small_run import write_clip
from tubelet.errors import Corrupt, DecoderCrashed, DecodeTimeout, NotAVideo, TooLarge, Truncated
from tubelet.video.isolation import DecodeLimits, DecodeWorkers, Wanted
from tubelet.video.sampling import plan
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec
from tubelet.video.worker import read_picture, read_wanted

SPEC = InputSpec(frames=8, height=16, width=16)


@pytest.fixture(scope="module")
def workers():
    with DecodeWorkers(1) as workers:
        yield workers


def read_soon(workers, clip, wait):
    """Read a clip in a thread; return what became of it once `wait` was done meanwhile."""
    became = []

    def read():
        try:
            became.append(workers.read(clip, Wanted(SPEC)))
        except Exception as error:
            became.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.2)
    wait()
    thread.join()
    return became[0]


def test_a_worker_reads_the_frames_that_were_planned_and_each_once(workers, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=40)
    with clip.open("rb") as file:
        reading = workers.read(file, Wanted(SPEC, views=2, segments=3), name="a name")
    with Video(clip) as video:
        assert reading.info == video.info
        rows = plan(video.info, SPEC, views=2)
        for row, wanted in zip(reading.rows[:2], rows, strict=True):
            clip = video.frames_at(wanted)
            assert np.array_equal(reading.pixels[row], clip.pixels)
            assert np.allclose(reading.times_s[row], clip.times_s)
    assert len(reading.pixels) == len(np.unique(np.concatenate([reading.times_s[row] for row in reading.rows])))
    assert reading.spans_s[2:].ravel().tolist() == pytest.approx([0, 13 / 12, 13 / 12, 27 / 12, 27 / 12, 40 / 12])
    for row, (start, end) in zip(reading.rows[2:], reading.spans_s[2:], strict=True):
        assert (reading.times_s[row] >= start).all()
        assert (reading.times_s[row] < end).all()


def test_files_that_cannot_be_read_keep_their_errors_and_their_worker(workers, tmp_path):
    whole = write_clip(tmp_path / "clip.mp4").read_bytes()
    before = workers.pids
    for kind, data in ((Truncated, b""), (NotAVideo, b"#EXTM3U\n/etc/passwd"), (Truncated, whole[:500])):
        with pytest.raises(kind, match="'given'"):
            workers.read(data, Wanted(SPEC), name="given")
    assert workers.pids == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_death_of_a_worker_fails_its_request_and_no_other(workers, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4").read_bytes()
    (pid,) = workers.pids
    os.kill(pid, signal.SIGSTOP)
    became = read_soon(workers, clip, lambda: os.kill(pid, signal.SIGKILL))
    assert isinstance(became, DecoderCrashed)
    assert workers.read(clip, Wanted(SPEC)).pixels.shape == (8, 24, 32, 3)
    assert workers.pids != [pid]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_that_takes_too_long_is_killed(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4").read_bytes()
    with DecodeWorkers(1, DecodeLimits(seconds=20.0)) as workers:
        worker = workers._idle.queue[0]
        object.__setattr__(worker.limits, "seconds", 0.5)
        (pid,) = workers.pids
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(DecodeTimeout, match=r"over 0.5 s"):
            workers.read(clip, Wanted(SPEC))
        assert workers.pids != [pid]
    with pytest.raises(DecoderCrashed):
        workers.read(clip, Wanted(SPEC))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_worker_holds_no_secret_and_may_write_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "told-to-nobody")
    monkeypatch.setenv("TUBELET_TOKEN", "told-to-nobody")
    with DecodeWorkers(1) as workers:
        (pid,) = workers.pids
        process = Path(f"/proc/{pid}")
        assert b"told-to-nobody" not in (process / "environ").read_bytes()
        lines = (process / "limits").read_text().splitlines()
        limits = {line[:26].strip(): line[26:].split()[0] for line in lines}
        assert limits["Max file size"] == limits["Max core file size"] == "0"
        assert limits["Max address space"] == str(3 << 30)
        assert os.getsid(pid) == pid != os.getsid(0)
        assert (process / "cwd").readlink() == Path("/")


SPY = """
import json, socket
from tubelet.video.confinement import confine
before = [open(path, "rb").read(1) for path in PATHS]
given_up, met = confine(), []
for path in PATHS:
    try:
        met.append(len(open(path, "rb").read()))
    except OSError as error:
        met.append(type(error).__name__)
try:
    socket.create_connection(("127.0.0.1", PORT), timeout=5)
    met.append("connected")
except OSError as error:
    met.append(type(error).__name__)
import xml.dom.minidom
print(json.dumps([given_up, met]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock and namespaces are Linux's")
def test_a_confined_process_reads_no_file_and_reaches_no_network(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("told to nobody")
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"PATHS, PORT = {[str(secret), '/etc/passwd']}, {server.getsockname()[1]}\n"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        done = subprocess.run([sys.executable, "-c", head + SPY], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given_up, met = json.loads(done.stdout)
    with DecodeWorkers(1) as workers:
        assert list(workers.given_up) == given_up
    if given_up != ["files", "network"] and not os.environ.get("CI"):
        pytest.skip(f"this kernel, or container, lets nobody give up more than {given_up}")
    assert met[:2] == ["PermissionError"] * 2
    assert met[2] == "OSError"


def test_large_frames_are_reduced_but_not_below_the_model_s_size(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 64, 96, 3), np.uint8)
    data = write_raw(pixels)
    whole = read_wanted(data, Wanted(SPEC), "x")
    monkeypatch.setattr("tubelet.video.worker.REDUCED_BYTES", whole.pixels.nbytes // 3)
    monkeypatch.setattr("tubelet.video.worker._GROUP_BYTES", 1)
    halved = read_wanted(data, Wanted(SPEC), "x")
    assert halved.pixels.shape == (8, 32, 48, 3)
    means = whole.pixels.reshape(8, 32, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved.pixels - means).max() <= 0.5
    monkeypatch.setattr("tubelet.video.worker.REDUCED_BYTES", 1)
    assert read_wanted(data, Wanted(SPEC), "x").pixels.shape == (8, 16, 24, 3)


def write_raw(pixels):
    """Encode without loss."""
    from fractions import Fraction
    from io import BytesIO

    import av

    stream = BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        video = container.add_stream("ffv1", rate=Fraction(8))
        video.height, video.width, video.pix_fmt = *pixels.shape[1:3], "bgr0"
        for frame in pixels:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
    return stream.getvalue()


def test_a_jpeg_picture_is_read_and_nothing_else(monkeypatch, tmp_path):
    wanted = Wanted(SPEC, is_picture=True)
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / "a.jpg")
    reading = read_picture((tmp_path / "a.jpg").read_bytes(), wanted, "x")
    assert reading.pixels.shape[0] == 1
    assert np.abs(reading.pixels.mean(axis=(0, 1, 2)) - [200, 100, 50]).max() < 4
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    for data in ((tmp_path / "a.png").read_bytes(), b"", b"\xff\xd8\xff"):
        with pytest.raises(Corrupt, match="no JPEG"):
            read_picture(data, wanted, "x")
    monkeypatch.setattr("tubelet.video.worker.MAX_PIXELS", 100)
    with pytest.raises(TooLarge, match="40x30"):
        read_picture((tmp_path / "a.jpg").read_bytes(), wanted, "x")
