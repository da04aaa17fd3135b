"""Choose clips that are worth looking at after an evaluation, and film the frames that the model saw of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample, ClipDataset
from tubelet.data.manifest import Manifest
from tubelet.evaluation.report import Scored
from tubelet.explanation.explain import explain_clip
from tubelet.explanation.pictures import draw_heat
from tubelet.metrics import THRESHOLD
from tubelet.report.animation import encode_gif
from tubelet.transforms.preparation import fit
from tubelet.video.spec import InputSpec

__all__ = ["Gallery", "choose_clips", "explain_clips", "film_clips", "find_right"]

GRID, EXTREMES = 25, 10
FPS = 5.0
LEGIBLE_PX = 128


@dataclass(frozen=True)
class Gallery:
    """Hold places in a `Scored`, in the order in which they are shown."""

    grid: tuple[int, ...]
    """Drawn by lot."""
    best: tuple[int, ...]
    """Right, and surest of it."""
    worst: tuple[int, ...]
    """Wrong, and surest of it."""

    def list_extremes(self, count: int) -> tuple[int, ...]:
        """List so many of the clips that teach most: half of them the worst, then the best."""
        worst = self.worst[: max(math.ceil(count / 2), count - len(self.best))]
        return (*worst, *self.best[: count - len(worst)])


def choose_clips(scored: Scored) -> Gallery:
    """Choose up to 25 clips by lot, up to 10 that are right with the highest scores, and up to 10 that are wrong so.

    In multi-label tasks a clip is right where every class is on the right side of 0.5; its sureness is that of the
    class that is farthest on the wrong side, or nearest to it.
    """
    is_right, sureness = find_right(scored), _measure_sureness(scored)
    count = len(scored.labels)
    grid = np.sort(np.random.default_rng(0).choice(count, min(GRID, count), replace=False))
    ranked = np.argsort(-sureness, kind="stable")
    best, worst = (tuple(int(place) for place in ranked if is_right[place] == way)[:EXTREMES] for way in (True, False))
    return Gallery(tuple(int(place) for place in grid), best, worst)


def find_right(scored: Scored) -> Bool[np.ndarray, " sample"]:
    """Tell which clips were named right; in multi-label tasks, were given all their classes and no other."""
    is_single = scored.labels.ndim == 1
    right: np.ndarray = (
        scored.scores.argmax(1) == scored.labels
        if is_single
        else ((scored.scores > THRESHOLD) == scored.labels).all(axis=1)
    )
    return right


def _measure_sureness(scored: Scored) -> Float64[np.ndarray, " sample"]:
    highest: np.ndarray = scored.scores.max(axis=1)
    if scored.labels.ndim == 1:
        return highest
    against: np.ndarray = np.where(scored.labels, 1 - scored.scores, scored.scores).max(axis=1)
    return np.where(find_right(scored), 1 - against, against)


def film_clips(
    scored: Scored, places: Sequence[int], manifest: Manifest, spec: InputSpec, decoder: str
) -> dict[int, bytes]:
    """Encode clips as GIFs of five pictures a second: the frames that the model saw, larger where it sees them small.

    Returns:
        GIF files by place; a clip that cannot be read a second time is left out.
    """
    read = _read_clips(scored, places, manifest, _enlarge(spec), decoder)
    return {place: encode_gif(clip.numpy(), fps=FPS) for place, clip in read}


def explain_clips(
    classifier: Classifier, scored: Scored, places: Sequence[int], manifest: Manifest, decoder: str
) -> dict[int, bytes]:
    """Encode clips as GIFs with what speaks for the class that the model named laid over them.

    Returns:
        GIF files by place; a clip that cannot be read a second time is left out.

    Cost: one explanation a clip, as `explain` makes it, without its comparison with random maps.
    """
    films = {}
    for place, clip in _read_clips(scored, places, manifest, classifier.input_spec, decoder):
        named = classifier.classes[int(scored.scores[place].argmax())]
        middle = int(classifier.score(clip[None])[0].argmax())
        # Rollout knows no classes; it serves where the clip by itself is given the class that all its views are given.
        label = None if classifier.classes[middle] == named else named
        found = explain_clip(classifier, clip, label=label, random_maps=0)
        films[place] = encode_gif(draw_heat(found.pixels, found.heat), fps=FPS)
    return films


def _read_clips(
    scored: Scored, places: Sequence[int], manifest: Manifest, spec: InputSpec, decoder: str
) -> Iterator[tuple[int, Tensor]]:
    wanted = list(dict.fromkeys(places))
    samples = [scored.samples[place] for place in wanted]
    dataset = ClipDataset(samples, manifest, spec, lambda pixels, label, _: (fit(pixels, spec), label), decoder=decoder)
    for index, place in enumerate(wanted):
        _, clips, _ = dataset[0, index]
        if not isinstance(clips, BadSample):
            yield place, clips[0]


def _enlarge(spec: InputSpec) -> InputSpec:
    """State the same frames of the same part of the picture, at a size that people can look at."""
    scale = LEGIBLE_PX / max(spec.height, spec.width)
    if scale <= 1:
        return spec
    short = spec.short_side and math.ceil(spec.short_side * scale)
    return replace(spec, height=round(spec.height * scale), width=round(spec.width * scale), short_side=short)
