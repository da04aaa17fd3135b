"""Explain what a classifier says of one video: where it looked, when, and whether that can be believed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.data.dataset import check_channels
from tubelet.errors import ConfigError, UnknownName, name_nearest
from tubelet.explanation.attention import attribute_attention, roll_out
from tubelet.explanation.faithfulness import Faithfulness, measure_faithfulness
from tubelet.explanation.gradients import activate_classes, integrate_gradients
from tubelet.explanation.occlusion import occlude
from tubelet.explanation.pictures import draw_heat, draw_sheet, write_gif, write_mp4
from tubelet.explanation.question import Fill, Question, ask
from tubelet.files import write_json
from tubelet.models.contract import VideoModel
from tubelet.models.i3d import I3D
from tubelet.models.timesformer import TimeSformer
from tubelet.models.videomae import VideoMAE
from tubelet.models.vivit import ViViT
from tubelet.registry import Registry
from tubelet.transforms.preparation import fit
from tubelet.video.sampling import plan
from tubelet.video.source import Source, Video

__all__ = ["METHODS", "Explanation", "Method", "choose_method", "explain", "explain_clip"]

Method = Callable[[Question], Float32[Tensor, "t h w"]]

METHODS: Registry[Method] = Registry("method of explanation", "tubelet.explanation.explain.METHODS")
"""Every method by name: from a question to a map on a grid of tubes, none below zero."""

METHODS.add("rollout", roll_out)
METHODS.add("gradient", attribute_attention)
METHODS.add("gradcam", activate_classes)
METHODS.add("integrated_gradients", integrate_gradients)
METHODS.add("occlusion", occlude)

SUFFIXES = (".png", ".gif", ".mp4", ".json")
"""What a folder of an explanation holds."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Say which parts of a clip speak for a class."""

    source: str
    """What was explained: a path, or a description of it."""
    label: str
    """The class that it is about."""
    score: float
    """Its probability in this clip."""
    method: str
    """How it was made."""
    fill: Fill
    """What took the place of pixels that were taken out: a still picture, or a blurred one."""
    saliency: Float32[np.ndarray, "t h w"]
    """The map on its grid of tubes: 0 for nothing, 1 for the most important tube; all 0 where nothing was found."""
    pixels: UInt8[np.ndarray, "time height width channel"]
    """The clip as the model saw it, in size and place."""
    times_s: Float64[np.ndarray, " time"]
    """When each of its frames is shown."""
    faithfulness: Faithfulness | None
    """How true it is; None where it was not measured."""

    @property
    def heat(self) -> Float32[np.ndarray, "time height width"]:
        """Return the map stretched to the clip's frames and pixels, linearly."""
        grid = torch.from_numpy(self.saliency)[None, None]
        stretched: Tensor = F.interpolate(grid, size=self.pixels.shape[:3], mode="trilinear")[0, 0]
        return stretched.numpy()

    @property
    def curve(self) -> Float32[np.ndarray, " time"]:
        """Return the share of all importance that each frame has; they sum to 1, or are all 0."""
        sums = self.heat.sum(axis=(1, 2))
        shares: Float32[np.ndarray, " time"] = (sums / max(float(sums.sum()), 1e-12)).astype(np.float32)
        return shares

    @property
    def title(self) -> str:
        """Name the class, its score and the method."""
        return f"{self.label} {self.score:.0%}, by {self.method.replace('_', ' ')}"

    def describe(self) -> str:
        """Say in two lines what was explained and how far it can be believed."""
        peak = float(self.times_s[int(self.curve.argmax())])
        where = f"most important around {peak:.2f} s" if self.curve.any() else "nothing in the clip speaks for it"
        belief = "not compared with random maps" if self.faithfulness is None else self.faithfulness.describe()
        return f"{self.source}: {self.title}; {where}\n{belief}"

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values: all but the pixels."""
        return {
            "source": self.source,
            "label": self.label,
            "score": self.score,
            "method": self.method,
            "fill": self.fill,
            "times_s": self.times_s.tolist(),
            "curve": self.curve.tolist(),
            "map": self.saliency.tolist(),
            "faithfulness": None if self.faithfulness is None else self.faithfulness.to_dict(),
        }

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write pictures of it.

        Args:
            path: a folder, for `explanation.png` (frames, and importance over seconds), `.gif`, `.mp4` and `.json`; or
                one file that ends like one of them.

        Returns:
            The files written.

        Raises:
            ConfigError: a file with another ending.
        """
        path = Path(path)
        if path.suffix and not path.is_dir():
            self._write(path)
            return [path]
        path.mkdir(parents=True, exist_ok=True)
        files = [path / f"explanation{suffix}" for suffix in SUFFIXES]
        for file in files:
            self._write(file)
        return files

    def _write(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ConfigError(
                f"cannot write an explanation to {str(path)!r} - found the ending {suffix!r} - give a folder, or a "
                f"file that ends in {', '.join(SUFFIXES)}."
            )
        if suffix == ".json":
            write_json(path, self.to_dict())
            return
        frames = draw_heat(self.pixels, self.heat)
        if suffix == ".png":
            about = [self.title, self.source, "" if self.faithfulness is None else self.faithfulness.describe()]
            draw_sheet(path, frames, self.times_s, self.curve, [line for line in about if line])
        elif suffix == ".gif":
            write_gif(path, frames)
        else:
            write_mp4(path, frames)


def explain(
    classifier: Classifier,
    source: Source,
    *,
    method: str = "auto",
    label: str | None = None,
    decoder: str = "pyav",
    random_maps: int = 10,
) -> Explanation:
    """Show which parts of a video speak for a class, and measure whether that is true.

    Args:
        classifier: what `tubelet.load` gives; of pixels, not of features.
        source: anything that `Video` opens; one clip of it is explained, the one that `predict` takes.
        method: `rollout`, `gradient`, `gradcam`, `integrated_gradients`, `occlusion`, or `auto`: the one that did best
            for models of this family on clips whose evidence is known.
        label: the class that is asked about; the predicted one without it.
        decoder: which backend reads it.
        random_maps: maps by lot that the map is compared with; 0 measures nothing.

    Returns:
        The map, and how it compares; `.save(folder)` draws it.

    Raises:
        VideoError: the source cannot be read.
        UnknownName: no such method or class.
        ConfigError: a model of features, or a method that cannot be used with this model.
    """
    chosen = choose_method(classifier, method, label)
    with Video(source, decoder=decoder, volume=classifier.input_spec.volume) as video:
        check_channels(video, classifier.input_spec)
        places, inverse = np.unique(plan(video.info, classifier.input_spec)[0], return_inverse=True)
        shown = video.frames_at(places.tolist())
        name = video.name
    clip = fit(shown.pixels[inverse], classifier.input_spec)
    times_s = shown.times_s[inverse]
    return explain_clip(
        classifier, clip, name=name, times_s=times_s, method=chosen, label=label, random_maps=random_maps
    )


def explain_clip(
    classifier: Classifier,
    clip: UInt8[Tensor, "time height width channel"],
    *,
    name: str = "<clip>",
    times_s: Float64[np.ndarray, " time"] | None = None,
    method: str = "auto",
    label: str | None = None,
    random_maps: int = 10,
) -> Explanation:
    """Do the same for a clip that is there already, as the classifier's contract has it.

    Args:
        classifier: as for `explain`.
        clip: its frames, in order.
        name: what is said to have been explained.
        times_s: when each frame is shown; their numbers without it.
        method: as for `explain`.
        label: as for `explain`.
        random_maps: as for `explain`.
    """
    method = choose_method(classifier, method, label)
    if random_maps < 0:
        raise ConfigError(f"cannot compare with {random_maps} random maps - give 0, for none, or more.")
    model = classifier.model
    was_training = model.training
    model.eval()
    try:
        scores = classifier.score(clip[None])[0]
        index = int(scores.argmax()) if label is None else _find_class(classifier, label)
        question = ask(classifier, clip, index)
        saliency = METHODS[method](question)
        faithfulness = measure_faithfulness(question, saliency, random_maps=random_maps) if random_maps else None
    finally:
        model.train(was_training)
    return Explanation(
        source=name,
        label=classifier.classes[index],
        score=float(scores[index]),
        method=method,
        fill=question.fill,
        saliency=(saliency / saliency.max().clamp(min=1e-12)).numpy(),
        pixels=clip.numpy(),
        times_s=np.arange(len(clip), dtype=np.float64) if times_s is None else times_s,
        faithfulness=faithfulness,
    )


def choose_method(classifier: Classifier, method: str = "auto", label: str | None = None) -> str:
    """Return the name of the method to use; `auto` is the best one for the model's family.

    Rollout knows no classes: where a class is named, integrated gradients take its place.

    Raises:
        UnknownName: no such method.
        ConfigError: a model that takes features.
    """
    if classifier.input_spec.kind == "features":
        raise ConfigError(
            "an explanation shows pixels - this model takes features that another network computed - explain a model "
            "of pixels."
        )
    if method != "auto":
        METHODS[method]  # an unknown one is refused before anything is read
        return method
    best = _choose_best(classifier.model)
    return "integrated_gradients" if best == "rollout" and label is not None else best


def _choose_best(model: VideoModel) -> str:
    """Return what did best on clips whose evidence is known: `benchmarks/explanations.py`."""
    is_other = isinstance(model, ViViT) and model.config.form == "factorized_dot_product"
    if isinstance(model, TimeSformer | VideoMAE | ViViT) and not is_other:
        return "rollout"
    return "integrated_gradients" if isinstance(model, ViViT | I3D) else "occlusion"


def _find_class(classifier: Classifier, label: str) -> int:
    if label not in classifier.classes:
        near = name_nearest(label, classifier.classes) or "."
        raise UnknownName(f"unknown class '{label}'{near} The model has {len(classifier.classes)}.")
    return classifier.classes.index(label)
