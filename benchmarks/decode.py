"""Time decoding against torchcodec and decord: 16 uniform frames out of 300, a fresh open each time, one thread each.

    python benchmarks/decode.py [--rounds 20] [--output decode.json]

Every reader takes the same bytes from memory and gives RGB uint8. The readers take turns within each round, so that a
noisy machine disturbs all alike; the figures are medians over the rounds, as ratios to ours.
"""

import argparse
import io
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tubelet.video.source import Video

CLIPS = {
    "h264 (x264 defaults)": ("clip.mp4", "-c:v libx264"),
    "h264 gop 12": ("gop12.mp4", "-c:v libx264 -g 12"),
    "h264 720p": ("clip720.mp4", "-s 1280x720 -c:v libx264"),
    "hevc (x265 defaults)": ("clip_hevc.mp4", "-c:v libx265 -x265-params log-level=error"),
    "mpeg4 avi": ("clip.avi", "-c:v mpeg4 -vtag xvid -q:v 4 -s 320x240"),
    "vp9 webm": ("clip.webm", "-c:v libvpx-vp9 -b:v 400k -cpu-used 8"),
    "vp8 webm": ("clip_vp8.webm", "-c:v libvpx -b:v 600k -cpu-used 8"),
    "av1 mp4": ("clip_av1.mp4", "-c:v libaom-av1 -cpu-used 8 -row-mt 1 -crf 40"),
    "mjpeg avi": ("clip_mjpeg.avi", "-c:v mjpeg -q:v 4"),
    "mpeg2 ts": ("clip.ts", "-c:v mpeg2video -q:v 4"),
}
FRAMES = 300
INDICES = np.linspace(0, FRAMES - 1, 16).round().astype(int).tolist()


def read_tubelet(data: bytes) -> np.ndarray:
    with Video(data) as video:
        return video.frames_at(INDICES).pixels


def read_torchcodec(data: bytes) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(data, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return np.asarray(decoder.get_frames_at(INDICES).data)


def read_decord(data: bytes) -> np.ndarray:
    import decord

    return np.asarray(decord.VideoReader(io.BytesIO(data), num_threads=1).get_batch(INDICES).asnumpy())


READERS: dict[str, Callable[[bytes], np.ndarray]] = {
    "tubelet": read_tubelet,
    "torchcodec": read_torchcodec,
    "decord": read_decord,
}


def encode(folder: Path, name: str, options: str, source: str) -> bytes:
    path = folder / name
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-frames:v", str(FRAMES), *options.split()]
    subprocess.run([*command, str(path)], check=True)
    return path.read_bytes()


def time_readers(data: bytes, rounds: int) -> dict[str, float | str]:
    times: dict[str, list[float]] = {name: [] for name in READERS}
    failures: dict[str, str] = {}
    for _ in range(rounds + 1):
        for name, read in READERS.items():
            if name in failures:
                continue
            start = time.perf_counter()
            try:
                frames = read(data)
            except Exception as error:
                failures[name] = f"fails: {type(error).__name__}"
                continue
            times[name].append((time.perf_counter() - start) * 1e3)
            assert len(frames) == len(INDICES)
    return {name: failures.get(name) or statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    versions = {name: version(name) for name in ("av", "torchcodec", "decord2", "torch")}
    print(f"medians of {arguments.rounds} rounds, ms; {versions}; {platform.processor() or platform.machine()}")
    print(f"{'clip':24} {'tubelet':>9} {'torchcodec':>22} {'decord':>22}")
    results = {}
    # A moving, detailed picture: the test pattern over a zooming fractal, so that motion and residuals are both there.
    source = "mandelbrot=s=340x256:r=30,format=yuv420p"
    with tempfile.TemporaryDirectory() as folder:
        for title, (name, options) in CLIPS.items():
            row = time_readers(encode(Path(folder), name, options, source), arguments.rounds)
            results[title] = row
            ours = row["tubelet"]
            cells = [
                f"{v:9.1f} ({v / ours:5.2f}x)" if isinstance(v, float) and isinstance(ours, float) else f"{v:>18}"
                for k, v in row.items()
                if k != "tubelet"
            ]
            print(f"{title:24} {ours:9.1f} {cells[0]:>22} {cells[1]:>22}", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps({"versions": versions, "ms": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
