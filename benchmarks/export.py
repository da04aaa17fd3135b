"""Compare exported files with their models: answers, sizes, and the speed of int8.

    python benchmarks/export.py vivit_base_factorized_encoder --format onnx torch    answers of a model, fresh weights
    python benchmarks/export.py --base                                               of one base model a family
    python benchmarks/export.py --int8 [--rounds 9]                                  speed: videomae_small, 16x224x224
    python benchmarks/export.py --agreement 200 [--steps 600]                        int8 of a small trained model

Fresh weights answer alike for every clip, so the head is drawn wide enough for probabilities to differ. Speed is ONNX
Runtime's on one thread, processor seconds of one clip, both files by turns, medians. `--agreement` trains a model of
`videomae_small`'s width on `moving-shapes` at 64 x 64 first, and compares the best classes of so many other clips.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tubelet.classifier import Classifier
from tubelet.exporting.export import describe, export
from tubelet.exporting.formats import write_format
from tubelet.exporting.parity import choose_clips
from tubelet.models import create_model, find_card
from tubelet.runtime import ExportedModel
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic import draw_clip
from tubelet.video.synthetic.worlds import MOTIONS

BASE = ("vivit_base_factorized_encoder", "timesformer_base_divided", "videomae_base", "i3d_rgb")
FORMATS = ("onnx", "torch", "openvino")


def make_classifier(name: str, num_classes: int = 10) -> Classifier:
    torch.manual_seed(0)
    model = create_model(name, num_classes)
    nn.init.normal_(model.head.weight, std=0.1)
    return Classifier(model.eval(), find_card(name).input_spec, tuple(f"class {index}" for index in range(num_classes)))


def compare_answers(names: list[str], formats: list[str], folder: Path) -> bool:
    """Ask about three drawn clips, one alone and all at once; the model itself, all at once."""
    print(f"{'model':<32} {'format':<9} {'MB':>8} {'s':>6} {'max difference':>15}", flush=True)
    worst = 0.0
    for name in names:
        classifier = make_classifier(name)
        contract = describe(classifier)
        clips = choose_clips(classifier.input_spec, 3).clips
        wanted = classifier.score(clips)
        for form in formats:
            started = time.perf_counter()
            path = write_format(form, classifier, contract, folder, name)
            seconds = time.perf_counter() - started
            exported = ExportedModel.read(path, device="cpu", trust=True)
            found = [exported.score(clips[:1]), exported.score(clips)]
            difference = max(float((scores - wanted[: len(scores)]).abs().max()) for scores in found)
            size_bytes = sum(part.stat().st_size for part in ([path] if path.is_file() else path.iterdir()))
            print(f"{name:<32} {form:<9} {size_bytes / 1e6:8.1f} {seconds:6.0f} {difference:15.1e}", flush=True)
            worst = max(worst, difference)
    return worst <= 1e-4


def time_int8(rounds: int, folder: Path) -> bool:
    torch.set_num_threads(1)
    classifier = make_classifier("videomae_small")
    export(classifier, folder / "float.onnx")
    done = export(classifier, folder / "small.onnx", int8=True)
    models = [ExportedModel.read(folder / name, device="cpu") for name in ("float.onnx", "small.onnx")]
    spec = classifier.input_spec
    clips = torch.randint(0, 256, (1, spec.frames, spec.height, spec.width, spec.channels), dtype=torch.uint8)
    times_s: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for model, own in zip(models, times_s, strict=True):
            started = time.process_time()
            model.score(clips)
            own.append(time.process_time() - started)
    whole, small = (statistics.median(own[1:]) for own in times_s)
    ratios = sorted(one / other for one, other in zip(times_s[0][1:], times_s[1][1:], strict=True))
    print(f"float32 {whole:.3f} s, int8 {small:.3f} s a clip: {whole / small:.2f} times as fast ", end="")
    print(f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {rounds} rounds); probabilities {done.parity.max_difference:.1e}")
    return whole / small >= 1.8


def draw(spec: InputSpec, count: int, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    labels = generator.integers(0, len(MOTIONS), count)
    size = {"frames": spec.frames, "height": spec.height, "width": spec.width}
    clips = [draw_clip("moving-shapes", list(MOTIONS)[label], **size, generator=generator) for label in labels]
    return torch.from_numpy(np.stack(clips)), torch.from_numpy(labels)


def train(steps: int, depth: int) -> Classifier:
    """Train a shallower videomae_small on clips that never come twice."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    spec = InputSpec(frames=8, height=64, width=64, differences="append")
    changes = {"frames": 8, "height": 64, "width": 64, "channels": 6, "depth": depth, "drop_path": 0.0}
    model = create_model("videomae_small", len(MOTIONS), **changes)
    classifier = Classifier(model, spec, tuple(MOTIONS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=steps, pct_start=0.15)
    model.train()
    for _ in range(steps):
        clips, labels = draw(spec, 16, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier.compute_logits(clips)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return classifier


def compare_int8(count: int, classifier: Classifier, folder: Path) -> bool:
    export(classifier, folder / "small.onnx", int8=True)
    small = ExportedModel.read(folder / "small.onnx", device="cpu")
    clips, labels = draw(classifier.input_spec, count, np.random.default_rng(1))
    whole, found = (torch.cat([one.score(part) for part in clips.split(8)]) for one in (classifier, small))
    agreement = float((whole.argmax(1) == found.argmax(1)).float().mean())
    right = [float((scores.argmax(1) == labels).float().mean()) for scores in (whole, found)]
    print(f"{count} clips: the best class is the same in {agreement:.1%}; right: float32 {right[0]:.1%}, ", end="")
    print(f"int8 {right[1]:.1%}; probabilities differ by {float((whole - found).abs().max()):.2e} at most")
    return agreement >= 0.98


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--base", action="store_true")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--agreement", type=int, metavar="CLIPS")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--trained", metavar="FOLDER", help="model folder to compare instead of training one")
    asked = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    holds = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = [*asked.models, *(BASE if asked.base else ())]
        if chosen:
            holds &= compare_answers(chosen, asked.format, folder)
        if asked.int8:
            holds &= time_int8(asked.rounds, folder)
        if asked.agreement:
            classifier = Classifier.read(asked.trained) if asked.trained else train(asked.steps, asked.depth)
            holds &= compare_int8(asked.agreement, classifier, folder)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
