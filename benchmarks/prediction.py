"""Predict 200 short clips end to end, beside transformers: same weights, same files, same processors, same labels.

    python benchmarks/prediction.py [--folder CLIPS] [--size 112] [--clips 200] [--threads 2] [--block 20]

Theirs: PyAV decodes the whole file, the model's frames are taken, `VideoMAEImageProcessor` prepares them,
`VideoMAEForVideoClassification` computes; one clip at a time, as their documentation shows, and with the clips of a
block stacked. Ours: `tubelet.predict`. Frames are chosen by the same formula on both sides, and the labels must agree.
All work in turns, a block of clips each, and on `--threads` processors, to which this process binds itself: threads
that read ahead take nothing from elsewhere. Figures are seconds a clip, medians over the blocks, by the clock and of
processor time, which other programs disturb less; ratios are of the blocks of one turn.

The model is VideoMAE-small at `--size` pixels with random weights and a head that was fitted, in closed form, to the
classes of other clips: labels differ, and some are close calls. Without --folder clips of `moving-shapes` are drawn:
240 x 320, 75 frames, H.264 with a key frame every 8 frames, 40 clips five times. Of a folder those clips are left out
that both sides crop differently: where half a pixel is to be rounded, transformers cuts it off, and ours follows
torchvision.

torchvision beside a PyTorch for the CPU does not import by itself; two operators are declared for it first.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import torch

_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "nms"):
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from transformers import VideoMAEForVideoClassification, VideoMAEImageProcessor  # noqa: E402 - needs the operators

from tubelet import create_model, predict  # noqa: E402
from tubelet.classifier import Classifier  # noqa: E402
from tubelet.prediction.devices import choose_device  # noqa: E402
from tubelet.prediction.predict import read_clips  # noqa: E402
from tubelet.video.clip import VideoInfo  # noqa: E402
from tubelet.video.sampling import plan  # noqa: E402
from tubelet.video.source import Video  # noqa: E402
from tubelet.video.spec import InputSpec  # noqa: E402
from tubelet.video.synthetic import draw_clip, write_video  # noqa: E402

CLASSES = ("down", "left", "right", "rotate_clockwise", "rotate_counterclockwise", "up", "zoom_in", "zoom_out")
DRAWN = 40

Way = Callable[[Sequence[str]], list[str]]


def draw(folder: Path, count: int) -> list[str]:
    paths = []
    for number in range(count):
        path = folder / f"{number:03d}.mp4"
        if number < DRAWN:
            size = {"frames": 75, "height": 240, "width": 320}
            generator = np.random.default_rng(number)
            write_video(path, draw_clip("moving-shapes", CLASSES[number % 8], generator=generator, **size), fps=25)
        else:
            shutil.copy(folder / f"{number % DRAWN:03d}.mp4", path)
        paths.append(str(path))
    return paths


def find(folder: Path, size: int, count: int) -> list[str]:
    paths = []
    for path in sorted(map(str, folder.rglob("*.mp4"))):
        with Video(path) as video:
            short, long = sorted((video.info.height, video.info.width))
        rest = size * long // short - size
        if round(rest / 2) == rest // 2:
            paths.append(path)
    return paths[:count]


def make_classifier(size: int) -> Classifier:
    torch.manual_seed(0)
    model = create_model("videomae_small", num_classes=len(CLASSES), height=size, width=size, final_eps=1e-5).eval()
    spec = InputSpec(frames=16, height=size, width=size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    classifier = Classifier(model, spec, CLASSES)
    clips, labels = [], []
    for number in range(48):
        generator = np.random.default_rng(1000 + number)
        clips.append(draw_clip("moving-shapes", CLASSES[number % 8], height=size, width=size, generator=generator))
        labels.append(number % 8)
    features = torch.cat([classifier.infer(torch.from_numpy(clip)[None]).features for clip in clips])
    mean = features.mean(0)
    centered = (features - mean).double()
    targets = torch.nn.functional.one_hot(torch.tensor(labels), 8).double() - 1 / 8
    gram = centered @ centered.T
    gram += 1e-2 * gram.diagonal().mean() * torch.eye(48, dtype=torch.float64)
    head = next(one for one in model.modules() if isinstance(one, torch.nn.Linear) and one.out_features == 8)
    with torch.no_grad():
        head.weight.copy_((centered.T @ torch.linalg.solve(gram, targets)).T)
        head.bias.copy_(-head.weight @ mean)
    return classifier


class Theirs:
    """Predict as the documentation of transformers does."""

    def __init__(self, folder: Path, spec: InputSpec) -> None:
        self.model = VideoMAEForVideoClassification.from_pretrained(folder).eval()
        self.processor = VideoMAEImageProcessor.from_pretrained(folder)
        self.spec = spec

    def prepare(self, path: str) -> torch.Tensor:
        """Decode the whole file and prepare the model's frames."""
        with av.open(path) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        info = VideoInfo(len(frames), *frames[0].shape[:2], 25.0, len(frames) / 25, "h264", 0)
        chosen = [frames[index] for index in plan(info, self.spec, views=1)[0]]
        return self.processor(chosen, return_tensors="pt")["pixel_values"]

    def name(self, pixels: torch.Tensor) -> list[str]:
        """Compute, and name the best class of each clip."""
        with torch.inference_mode():
            logits = self.model(pixel_values=pixels).logits
        return [self.model.config.id2label[index] for index in logits.argmax(1).tolist()]

    def one_by_one(self, paths: Sequence[str]) -> list[str]:
        """Take one file after the other."""
        return [label for path in paths for label in self.name(self.prepare(path))]

    def batched(self, paths: Sequence[str]) -> list[str]:
        """Take eight files, then compute."""
        batches = [paths[start : start + 8] for start in range(0, len(paths), 8)]
        return [label for batch in batches for label in self.name(torch.cat([self.prepare(path) for path in batch]))]


def time_parts(classifier: Classifier, theirs: Theirs, path: str) -> None:
    """Show where the time of one clip goes on both sides."""
    clips = read_clips(classifier.input_spec, path).clips
    pixels = theirs.prepare(path)
    parts: dict[str, Callable[[], object]] = {
        "their decoding and preparing": lambda: theirs.prepare(path),
        "our decoding and fitting": lambda: read_clips(classifier.input_spec, path),
        "their model, one clip": lambda: theirs.name(pixels),
        "our model, one clip": lambda: classifier.infer(clips),
        "our model, a clip of 8": lambda: classifier.infer(clips.repeat(8, 1, 1, 1, 1)),
        "our model, a clip of 8, bf16": lambda: classifier.infer(clips.repeat(8, 1, 1, 1, 1), torch.bfloat16),
    }
    for name, part in parts.items():
        times = []
        for _ in range(4):
            start = time.perf_counter()
            part()
            times.append(time.perf_counter() - start)
        print(f"{name:32} {1e3 * min(times[1:]) / (8 if 'of 8' in name else 1):8.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--block", type=int, default=20)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    torch.set_num_threads(given.threads)
    choose_device("cpu")
    classifier = make_classifier(given.size)
    with tempfile.TemporaryDirectory() as place:
        classifier.save_for_transformers(Path(place) / "model")
        theirs = Theirs(Path(place) / "model", classifier.input_spec)
        clips = Path(place) / "clips"
        clips.mkdir()
        paths = find(given.folder, given.size, given.clips) if given.folder else draw(clips, given.clips)
        time_parts(classifier, theirs, paths[0])
        ways: dict[str, Way] = {
            "transformers": theirs.one_by_one,
            "transformers, batches of 8": theirs.batched,
            "tubelet": lambda paths: [one.label for one in predict(classifier, paths)],
            "tubelet, --precision auto": lambda paths: [
                one.label for one in predict(classifier, paths, precision="auto")
            ],
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        computed: dict[str, list[float]] = {name: [] for name in ways}
        labels: dict[str, list[str]] = {name: [] for name in ways}
        for start in range(0, len(paths), given.block):
            block = paths[start : start + given.block]
            for name, way in ways.items():
                began, computed_before = time.perf_counter(), time.process_time()
                labels[name] += way(block)
                times[name].append((time.perf_counter() - began) / len(block))
                computed[name].append((time.process_time() - computed_before) / len(block))
    kinds = len(set(labels["tubelet"]))
    print(f"\n{len(paths)} clips, 16 x {given.size} x {given.size}, {given.threads} processors, {kinds} labels occur\n")
    print("| | s a clip | speed | processor s a clip | speed | other labels |\n|---|---:|---:|---:|---:|---:|")
    for name in ways:
        others = sum(one != other for one, other in zip(labels["transformers"], labels[name], strict=True))
        cells = [cell for all_times in (times, computed) for cell in rate(all_times["transformers"], all_times[name])]
        print(f"| {name} | {' | '.join(cells)} | {others} |", flush=True)


def rate(theirs: Sequence[float], ours: Sequence[float]) -> tuple[str, str]:
    ratio = statistics.median(one / other for one, other in zip(theirs, ours, strict=True))
    return f"{statistics.median(ours):.3f}", f"{ratio:.2f}"


if __name__ == "__main__":
    main()
