"""Run `tubelet stream` as a user does: on a file, for programs, into a video, and until Ctrl-C."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from run_command import run
from small_run import write_clip
from tubelet.report.overlay import Overlay
from tubelet.video.live import FrameFeed


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("stream") / "clip.mp4", frames=40, size=(48, 64))


def read_video(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_a_file_is_streamed_as_lines_as_json_and_into_a_video(small_run, clip, tmp_path, capsys):
    options = ("--window", "0.66", "--device", "cpu")
    code, out, err = run("stream", small_run, clip, *options, "--enter", "0.5", capsys=capsys)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("0.00-0.66 s: ")
    assert "[enter " in out
    assert "each step of 4 frames is encoded once" in err
    assert "0 left out and 0 frames dropped" in err
    saved = tmp_path / "out.mp4"
    code, out, err = run("stream", small_run, clip, *options, "--json", "--save", saved, capsys=capsys)
    assert code == 0
    values = [json.loads(line) for line in out.splitlines()]
    assert len(values) == len(lines)
    assert values[0]["dropped"] == 0
    written, original = read_video(saved), read_video(clip)
    assert len(written) == len(original) == 40
    changed = [float(np.abs(a[-8:].astype(int) - b[-8:]).mean()) for a, b in zip(written, original, strict=True)]
    above = [float(np.abs(a[:8].astype(int) - b[:8]).mean()) for a, b in zip(written, original, strict=True)]
    # Nothing is said before the first window is full; then there is a band at the bottom, and nothing above it.
    assert min(changed[12:]) > 2 * max(changed[:6])
    assert max(above) < min(changed[12:])


def test_what_cannot_be_streamed_is_one_line(small_run, clip, tmp_path, capsys):
    for source, code in (("concat:a|b", 1), ("absent.mp4", 1)):
        found, out, err = run("stream", small_run, source, "--window", "1", capsys=capsys)
        assert (found, out, err.count("\n")) == (code, "", 1)
    code, _, err = run("stream", small_run, clip, capsys=capsys)
    assert code == 2
    assert "--window" in err
    kept = tmp_path / "kept.mp4"
    kept.write_bytes(b"mine")
    for saved, *wrong in ((tmp_path / "out.avi",), (tmp_path / "no" / "out.mp4",), (kept, "--hop", "-1")):
        code, _, err = run("stream", small_run, clip, "--window", "1", "--save", saved, *wrong, capsys=capsys)
        assert code == 2
    assert kept.read_bytes() == b"mine"
    code, _, err = run("stream", small_run, clip, "--window", "60", capsys=capsys)
    assert (code, "no window of 60 s was full" in err) == (0, True)


def test_a_terminal_gets_a_table(small_run, clip, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, _ = run("stream", small_run, clip, "--window", "0.66", "--top", "2", capsys=capsys)
    assert code == 0
    assert "latency" in out
    assert "left out: 0 windows, 0 frames" in out


def test_frames_that_come_after_the_end_are_not_written(tmp_path):
    pictures = [np.full((16, 16, 3), 9, np.uint8)] * 3
    frames = list(FrameFeed(zip(itertools.repeat(0.0), pictures, strict=False), fps=None, is_live=False).frames())
    with Overlay(tmp_path / "out.mp4") as overlay:
        for frame in frames:
            overlay.add(frame)  # times that do not rise are made to
    overlay.add(frames[0])
    overlay.close()
    assert len(read_video(tmp_path / "out.mp4")) == 3


def test_times_that_are_no_numbers_and_a_source_as_output_are_refused(small_run, clip, capsys):
    before = clip.read_bytes()
    for options in (("--window", "nan"), ("--window", 1, "--hop", "nan"), ("--window", 1, "--latency", "inf")):
        status, _, err = run("stream", small_run, clip, *options, capsys=capsys)
        assert (status, "must be positive" in err) == (2, True), err
    status, _, err = run("stream", small_run, clip, "--window", 0.32, "--save", clip, capsys=capsys)
    assert (status, "would be lost" in " ".join(err.split())) == (2, True), err
    assert clip.read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_ctrl_c_ends_a_stream_with_a_whole_file(small_run, tmp_path):
    saved = tmp_path / "out.mp4"
    options = ["--raw", "48", "64", "--fps", "25", "--window", "0.32", "--save", str(saved), "--device", "cpu"]
    command = [sys.executable, "-X", "faulthandler", "-m", "tubelet", "stream", str(small_run), "-", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    frame = os.urandom(48 * 64 * 3)
    for _ in range(50):
        process.stdin.write(frame)
    process.stdin.flush()
    assert b" s: " in process.stdout.readline()
    for _ in range(25):
        process.stdin.write(frame)
        process.stdin.flush()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # shows where each thread is
    assert process.wait(60) == 0, process.stderr.read().decode()
    assert b"written:" in process.stderr.read()
    assert len(read_video(saved)) > 20
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()
