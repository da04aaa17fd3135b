"""Measure streams: the work that encoding each step once saves, that the scores stay the same, and that memory does.

    python benchmarks/streaming.py [--models NAME ...] [--clip PATH] [--windows 40]
    python benchmarks/streaming.py --soak [--minutes 30]

The models are as their cards state them, with fresh weights, at a hop of one step; windows of a clip are scored one
after the other.

    macs        multiply-accumulates of one window: whole, and from the second one on with what was encoded before
    ms          the same in time, the mean over windows
    difference  largest absolute difference of a logit from that of the window alone; `logits`: the largest logit

`--soak` feeds frames of a simulated camera (64 x 48 pixels, 25 fps) as fast as they are taken through the whole road of
the command, overlay video included, and reports the memory of the process (resident set) for each tenth of the stream.
"""

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tubelet.classifier import Classifier
from tubelet.models import create_model, find_card
from tubelet.models.contract import VideoModel, build_model
from tubelet.prediction.stream import stream
from tubelet.prediction.windows import WindowScorer
from tubelet.report.overlay import Overlay
from tubelet.transforms.preparation import fit
from tubelet.video.live import FrameFeed
from tubelet.video.source import Video

MODELS = ("vivit_base_factorized_encoder", "vivit_nano_factorized_encoder", "timesformer_base_space_only")
MODELS += ("frame_transformer_nano", "cnn_transformer_nano")


def count_macs(model: VideoModel, frames: int | None) -> int:
    """Count the multiply-accumulates of a window of which `frames` frames are new; of a whole one for None."""
    config = model.config
    with torch.device("meta"):
        empty = build_model(config).eval()
        clip = torch.empty(1, config.channels, config.frames, config.height, config.width)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            if frames is None:
                empty(clip)
            else:
                empty.encode_steps(clip[:, :, :frames])
        total = counter.get_total_flops() // 2
        if frames is not None:
            with torch.no_grad():
                steps = empty.encode_steps(clip)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                empty.head(empty.fuse_steps(steps))
            total += counter.get_total_flops() // 2
    return int(total)


def make_classifier(name: str) -> Classifier:
    torch.manual_seed(0)
    card = find_card(name)
    changes = {"backbone": "small", "channels": 3, "height": 64, "width": 64} if "cnn" in name else {}
    model = create_model(name, num_classes=10, **changes)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    spec = replace(card.input_spec, sampling="dense", stride=1, kind="pixels", mean=(0.5,), std=(0.5,))
    spec = replace(spec, channels=3, height=model.config.height, width=model.config.width)
    return Classifier(model, spec, tuple(map(str, range(10))))


@torch.inference_mode()
def compare(name: str, pixels: np.ndarray, windows: int) -> str:
    classifier = make_classifier(name)
    frames, step = classifier.input_spec.frames, classifier.model.step_frames
    assert step is not None
    fitted = list(fit(pixels[: frames + step * windows], classifier.input_spec))
    scorer = WindowScorer(classifier, step, 0.04)
    assert scorer.is_cached
    whole_s = cached_s = worst = largest = 0.0
    windows = min(windows, (len(fitted) - frames) // step)
    for number in range(windows + 1):
        first = number * step
        cut = fitted[first : first + frames]
        begin_s = time.perf_counter()
        alone = classifier.infer(torch.stack(cut)[None]).logits
        middle_s = time.perf_counter()
        found = scorer.infer(first, cut).logits
        end_s = time.perf_counter()
        if number:  # the first window is encoded as a whole either way, and warms up
            whole_s, cached_s = whole_s + middle_s - begin_s, cached_s + end_s - middle_s
        worst, largest = max(worst, float((alone - found).abs().max())), max(largest, float(alone.abs().max()))
    macs = [count_macs(classifier.model, frames) for frames in (None, step)]
    return (
        f"{name:34} {frames:3} frames, step {step}  GMACs {macs[0] / 1e9:8.3f} -> {macs[1] / 1e9:7.3f} "
        f"({macs[0] / macs[1]:5.1f}x)  ms {whole_s / windows * 1e3:8.1f} -> {cached_s / windows * 1e3:7.1f} "
        f"({whole_s / cached_s:5.1f}x)  difference {worst:.1e} of logits up to {largest:.2f}  n {windows}"
    )


def read_memory_mb() -> float:
    """Return the resident memory of this process in MB; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(minutes: float) -> tuple[list[float], int]:
    """Stream that many minutes of frames; return the memory in MB after each tenth, and the number of windows."""
    fps, rng = 25.0, np.random.default_rng(0)
    scenes = rng.integers(0, 255, (50, 48, 64, 3), np.uint8)
    total = int(minutes * 60 * fps)
    frames = ((index / fps, scenes[index % 50]) for index in itertools.islice(itertools.count(), total))
    classifier = make_classifier("vivit_nano_factorized_encoder")
    small = replace(classifier.input_spec, height=32, width=32)
    config = replace(classifier.model.config, height=32, width=32)
    classifier = Classifier(build_model(config), small, classifier.classes)
    memory, count = [], 0
    with tempfile.TemporaryDirectory() as folder, Overlay(Path(folder) / "out.mp4") as overlay:
        source = FrameFeed(frames, fps=fps, is_live=False)
        with stream(classifier, source, on_frame=overlay.add) as running:
            for found in running:
                count += 1
                overlay.say(found.prediction.label, found.prediction.score)
                if found.end_s * fps >= total * (len(memory) + 1) / 10 - classifier.input_spec.frames:
                    memory.append(read_memory_mb())
    return memory, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--clip", help="a video; noise that moves where none is named")
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    if options.soak:
        begin_s = time.perf_counter()
        memory, count = soak(options.minutes)
        print(f"{options.minutes:g} minutes of frames in {time.perf_counter() - begin_s:.0f} s, {count} windows")
        print("memory in MB after each tenth:", " ".join(f"{one:.0f}" for one in memory))
        print(f"from the first tenth on: {min(memory) - memory[0]:+.1f} to {max(memory) - memory[0]:+.1f} MB")
        return
    if options.clip:
        pixels = Video(options.clip).frames().pixels
    else:
        pixels = np.random.default_rng(0).integers(0, 255, (200, 64, 64, 3), np.uint8)
    for name in options.models:
        print(compare(name, pixels, options.windows), flush=True)


if __name__ == "__main__":
    main()
