"""Score windows that slide over a stream, and encode each step of it once where the model allows that exactly.

    steps of the stream    1  2  3  4  5  6  7  8  9     encoded once each, kept while a window holds them
    window 1              [1  2  3  4  5  6  7  8]
    window 2                 [2  3  4  5  6  7  8  9]    one step is new: the second stage runs over all eight

This is no approximation: in these models the first stage sees one step (a tubelet, a frame) at a time, without its
place in the clip. With frame differences as input the first frame of every window has none, so that a window's first
step is encoded anew: two steps a window.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.models.contract import VideoModel
from tubelet.scorer import Inferred, Scorer
from tubelet.transforms.preparation import normalize

__all__ = ["WindowScorer", "plan_hop"]

Picture = UInt8[Tensor, "height width channel"]

WINDOWS_A_CLIP = 8
"""Windows that begin within one window's length, where nobody says how many."""


def plan_hop(classifier: Scorer, wanted: float | None) -> int:
    """Choose the frames from one window to the next.

    Args:
        classifier: the model.
        wanted: how many; rounded. None: an eighth of a window, in whole steps of the model.
    """
    if wanted is not None:
        return max(round(wanted), 1)
    step = _find_step(classifier) or 1
    return max(classifier.input_spec.frames // WINDOWS_A_CLIP // step, 1) * step


class WindowScorer:
    """Score one window after the other.

    Args:
        classifier: is put into evaluation mode.
        hop: frames from one window to the next.
        step_s: seconds between two frames, for messages.
    """

    def __init__(self, classifier: Scorer, hop: int, step_s: float) -> None:
        self._classifier = classifier
        self._spec = classifier.input_spec
        step = _find_step(classifier)
        self.is_cached = step is not None and hop % step == 0
        """Whether each step is encoded once."""
        self.explanation = _explain(classifier, step, hop, step_s)
        """Why, or why not, in words."""
        self._step = step or 1
        self._encoded: dict[int, Float[Tensor, " vector"]] = {}
        if isinstance(classifier, Classifier):
            classifier.model.eval()

    def infer(self, first: int, frames: Sequence[Picture]) -> Inferred:
        """Compute logits and features of the next window, a batch of one.

        Args:
            first: which frame of the stream the window begins with; never falls, and is a multiple of the hop.
            frames: fitted pixels of the whole window.
        """
        if not self.is_cached:
            return self._classifier.infer(torch.stack(list(frames))[None])
        model = self._model
        with torch.inference_mode():
            features = model.fuse_steps(self._encode(first // self._step, frames)[None])
            logits = model.head(features)
        return Inferred(logits.float(), features.float())

    @property
    def _model(self) -> VideoModel:
        assert isinstance(self._classifier, Classifier)
        return self._classifier.model

    def _encode(self, number: int, frames: Sequence[Picture]) -> Float[Tensor, "step vector"]:
        """Return the encoded steps of a window, of which `number` is the first."""
        numbers = range(number, number + len(frames) // self._step)
        self._encoded = {key: vector for key, vector in self._encoded.items() if key in numbers}
        leads = self._spec.differences != "none"
        # Its first frame has no difference, which holds for this window alone.
        first = self._normalize([frames[: self._step]]) if leads else None
        missing = [key for key in numbers[1 if leads else 0 :] if key not in self._encoded]
        parts = [] if first is None else [first]
        if missing:
            starts = [(key - number) * self._step for key in missing]
            cuts = [frames[start - int(leads) : start + self._step] for start in starts]
            parts.append(self._normalize(cuts)[:, :, int(leads) :])
        if parts:
            vectors = list(self._model.encode_steps(torch.cat(parts))[:, 0])
            if leads:
                self._encoded[number] = vectors.pop(0)
            self._encoded |= zip(missing, vectors, strict=True)
        steps = torch.stack([self._encoded[key] for key in numbers])
        if leads:
            del self._encoded[number]
        return steps

    def _normalize(self, cuts: Sequence[Sequence[Picture]]) -> Float[Tensor, "batch channel2 time height width"]:
        pixels = torch.stack([torch.stack(list(cut)) for cut in cuts]).to(self._classifier.device)
        return normalize(pixels, self._spec).to(next(self._model.parameters()).dtype)


def _find_step(classifier: Scorer) -> int | None:
    return classifier.model.step_frames if isinstance(classifier, Classifier) else None


def _explain(classifier: Scorer, step: int | None, hop: int, step_s: float) -> str:
    if step is None:
        why = "mixes moments from the beginning" if isinstance(classifier, Classifier) else "runs as a whole"
        return f"whole windows are computed: {classifier.name} {why}"
    what = "frame" if step == 1 else f"step of {step} frames"
    if hop % step:
        near_s = max(round(hop / step), 1) * step * step_s
        return (
            f"whole windows are computed: a hop of {hop} frames is no whole number of steps of {step}, and one of "
            f"{near_s:.4g} s would be"
        )
    twice = "" if classifier.input_spec.differences == "none" else ", and once more as the first of a window"
    return f"each {what} is encoded once{twice}"
