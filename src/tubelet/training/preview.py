"""Draw what augmentation makes of the first training clips, so that a policy that goes too far is seen at once."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import one_hot

from tubelet.data.dataset import BadSample, ClipDataset, stack_labels
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.report.figures import draw_contact_sheet
from tubelet.transforms.mixing import mix_batch
from tubelet.transforms.policy import Augmentation

__all__ = ["draw_augmentations"]

MAX_CLIPS = 6


def draw_augmentations(
    dataset: ClipDataset, keys: Sequence[tuple[int, ...]], augmentation: Augmentation, path: Path
) -> None:
    """Draw clips as they are, and below each what training makes of it; those that cannot be read are left out.

    Args:
        dataset: the training clips, with everything that varies them.
        keys: of a batch, as an `EpochOrder` gives them; the first six are drawn.
        augmentation: what may be mixed.
        path: the file to write.
    """
    plain = replace(dataset, prepare=partial(prepare_evaluation, spec=dataset.spec), cache=None)
    before, after, labels, names = [], [], [], []
    for key in keys[:MAX_CLIPS]:
        index, shown, label = dataset[key]
        _, original, _ = plain[key[:2]]
        if isinstance(shown, BadSample) or isinstance(original, BadSample):
            continue
        before.append(original[0])
        after.append(shown[0])
        labels.append(label)
        names.append(dataset.samples[index].name)
    if not before:
        return
    classes = dataset.manifest.classes
    clips, told = torch.stack(after), stack_labels(labels)
    targets = (one_hot(told, max(len(classes), 1)) if told.dim() == 1 else told).float()
    if augmentation.mixes:
        generator = np.random.default_rng(dataset.seed)
        clips, targets = mix_batch(clips, told, len(classes), augmentation, generator)
    rows = [_stack(one, other) for one, other in zip(before, clips, strict=True)]
    captions = [f"{name[-60:]}: as it is; {_say(row, classes)}" for name, row in zip(names, targets, strict=True)]
    draw_contact_sheet(rows, captions, path, stacked=2)


def _stack(
    one: UInt8[Tensor, "time height width channel"], other: UInt8[Tensor, "time height width channel"]
) -> UInt8[np.ndarray, "time height2 width channel"]:
    gap = torch.full_like(one[:, : max(1, one.shape[1] // 40)], 255)
    return torch.cat([one, gap, other], dim=1).numpy()


def _say(target: Float[Tensor, " classes"], classes: Sequence[str]) -> str:
    shares = [f"{share:.0%} {name}" for name, share in zip(classes, target.tolist(), strict=False) if share > 0]
    return f"as the model sees it, {', '.join(shares)}".replace("100% ", "") if shares else "as the model sees it"
