"""Compare methods of explanation where the answer is known: clips with one event, whose place and time are recorded.

    python benchmarks/explanations.py [--models NAME ...] [--methods NAME ...] [--clips 100] [--occlusion-clips 20]

Each model learns the color of a shape that comes and goes among still ones, from scratch, in one to three minutes. Then
each method explains the predictions for new clips.

    points      share of clips in which the most important tube lies on the event, give or take 2 frames and 8 pixels
    strictly    the same without give or take
    chance      what a tube drawn by lot would reach
    deletion    mean score while tubes are taken out, the most important first; `random`: by lot, on the same clips
    p           of deletion being no better than by lot (Wilcoxon, one-sided)
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.stats import wilcoxon
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.errors import ConfigError
from tubelet.explanation.explain import METHODS, choose_method
from tubelet.explanation.faithfulness import measure_faithfulness
from tubelet.explanation.question import ask
from tubelet.models import create_model
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic.events import EVENTS, draw_event

TOKEN = (2, 8, 8)
BATCH = 16
TUBELETS = {"tubelet": TOKEN}
# Steps of training, frames of a clip, changes of the model.
MODELS: dict[str, tuple[int, int, dict[str, object]]] = {
    "vivit_nano_joint": (150, 16, TUBELETS),
    "vivit_nano_factorized_encoder": (450, 16, TUBELETS),
    "vivit_nano_factorized_attention": (300, 16, TUBELETS),
    "vivit_nano_factorized_dot_product": (200, 16, TUBELETS),
    "timesformer_nano_divided": (150, 8, {}),
    "videomae_nano": (150, 16, TUBELETS),
    "i3d_nano": (150, 16, {}),
}


@dataclass(frozen=True)
class Row:
    """State how well one method explains one model."""

    method: str
    clips: int
    points: float
    strictly: float
    chance: float
    deletion: float
    insertion: float
    random: float
    p: float
    still: float
    ms: float


def train_model(name: str, seed: int = 0) -> Classifier:
    """Teach a model the events, from scratch."""
    steps, frames, changes = MODELS[name]
    torch.manual_seed(seed)
    spec = InputSpec(frames=frames, height=48, width=48, differences="append")
    sizes = {"frames": frames, "height": 48, "width": 48, "channels": spec.input_channels}
    classifier = Classifier(create_model(name, num_classes=len(EVENTS), **sizes, **changes), spec, EVENTS)
    optimizer = torch.optim.AdamW(classifier.model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    generator = np.random.default_rng(seed)
    labels = torch.arange(BATCH) % len(EVENTS)
    for _ in range(steps):
        clips = [draw_event(EVENTS[label], frames=frames, generator=generator)[0] for label in labels]
        loss = F.cross_entropy(classifier.compute_logits(torch.from_numpy(np.stack(clips))), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    classifier.model.eval()
    return classifier


def draw_clips(count: int, frames: int, seed: int = 7) -> list[tuple[Tensor, Tensor, int]]:
    """Draw clips that no training has seen, with the masks of their events and their labels."""
    drawn = []
    for index in range(count):
        label = index % len(EVENTS)
        pixels, mask = draw_event(EVENTS[label], frames=frames, generator=np.random.default_rng([seed, index]))
        drawn.append((torch.from_numpy(pixels), torch.from_numpy(mask), label))
    return drawn


def measure_method(classifier: Classifier, method: str, count: int, random_maps: int = 1) -> Row:
    """Let a method explain the true class of clips."""
    hits, strict, chance, scores, still, seconds = [], [], [], [], [], 0.0
    for clip, mask, label in draw_clips(count, classifier.input_spec.frames):
        question = ask(classifier, clip, label)
        start = time.process_time()
        saliency = METHODS[method](question)
        seconds += time.process_time() - start
        place = np.unravel_index(int(saliency.argmax()), saliency.shape)
        cells = zip(place, mask.shape, saliency.shape, strict=True)
        middle = tuple(int((at + 0.5) * side / parts) for at, side, parts in cells)
        reach = tuple(2 * side + 1 for side in TOKEN)
        near = F.max_pool3d(mask[None].float(), reach, stride=1, padding=TOKEN)[0] > 0
        hits.append(bool(near[middle]))
        strict.append(bool(mask[middle]))
        chance.append(float(near.float().mean()))
        found = measure_faithfulness(question, saliency, random_maps=random_maps)
        scores.append((found.deletion, found.insertion, found.random))
        still.append(question.fill == "still")
    deletion, insertion, random = np.array(scores).T
    p = float(wilcoxon(deletion, random, alternative="less").pvalue)
    means = [float(np.mean(each)) for each in (hits, strict, chance, deletion, insertion, random)]
    return Row(method, count, *means, p, float(np.mean(still)), 1000 * seconds / count)


def measure_accuracy(classifier: Classifier, count: int = 100) -> float:
    clips, _, labels = zip(*draw_clips(count, classifier.input_spec.frames), strict=True)
    return float((classifier.score(torch.stack(clips)).argmax(1) == torch.tensor(labels)).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--occlusion-clips", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        start = time.process_time()
        classifier = train_model(name)
        accuracy = measure_accuracy(classifier)
        seconds = time.process_time() - start
        print(f"{name}: accuracy {accuracy:.2f} after {seconds:.0f} s of one core; default {choose_method(classifier)}")
        print(f"  {'method':22} clips points strictly chance deletion insertion random      p still   ms")
        for method in options.methods:
            count = options.occlusion_clips if method == "occlusion" else options.clips
            try:
                row = measure_method(classifier, method, count)
            except ConfigError as error:
                print(f"  {method:22} {str(error).split(' - ')[0]}")
                continue
            print(
                f"  {row.method:22} {row.clips:5} {row.points:6.2f} {row.strictly:8.2f} {row.chance:6.2f} "
                f"{row.deletion:8.3f} {row.insertion:9.3f} {row.random:6.3f} {row.p:6.0e} {row.still:5.2f} "
                f"{row.ms:4.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
