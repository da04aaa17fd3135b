"""Pre-train a VideoMAE on clips without labels: the whole road, step by step.

recipe -> clips -> encoder and decoder -> [ hide, predict, compare -> loss on held-out clips -> pictures ] x epochs
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, UInt8
from torch import Tensor

from tubelet.data.dataset import Batch
from tubelet.data.manifest import Manifest
from tubelet.data.splits import split_manifest
from tubelet.data.unlabelled import list_clips, open_unlabelled
from tubelet.errors import DataError
from tubelet.model_folder import PRETRAINING, write_model
from tubelet.models.videomae_pretraining import (
    VideoMAEPretraining,
    create_pretraining,
    draw_running_cell_mask,
    draw_tube_mask,
)
from tubelet.recipes.pretraining import PretrainingRecipe
from tubelet.recipes.resolution import resolve_pretraining
from tubelet.report.figures import draw_contact_sheet
from tubelet.training.loop import Totals
from tubelet.training.opening import Asked, Place, hold_run, make_request, open_run
from tubelet.training.progress import QUIET, Listener
from tubelet.training.session import Session, describe_epoch, list_sizes
from tubelet.training.step import autocast
from tubelet.transforms.preparation import DIFFERENCE_GAIN, normalize
from tubelet.video.spec import InputSpec

__all__ = ["MaskedPrediction", "Pretrainer", "PretrainingResult", "draw_reconstruction", "pretrain", "scale_pixels"]

SHOWN_CLIPS = 3
"""Held-out clips in `reconstruction.png`."""

Clips = Manifest | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class PretrainingResult:
    """State where a pre-training lies and what it reached."""

    folder: Path
    """The run folder; its `model/` holds encoder and decoder of the last epoch."""
    epochs: int
    """Epochs trained."""
    train_loss: float
    """Loss of the last epoch; 1 is what predicting nothing but the mean of each tubelet gives, by default targets."""
    val_loss: float
    """The same on clips that were held out; NaN where none were."""


def pretrain(
    data: Clips | None = None,
    *,
    recipe: PretrainingRecipe | str | Path | None = None,
    name: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener = QUIET,
    **changes: object,
) -> PretrainingResult:
    """Pre-train the encoder of a VideoMAE without labels into the folder `runs/name`.

    Clips of the split `train` are learned from, those of `val` measure the loss, those of `test` are never looked at.

    Args:
        data: a folder of videos, a .txt file with one path a line, a list of paths, or anything that `train` takes,
            whose labels are ignored; instead of `recipe.data.source`.
        recipe: everything the run depends on, the name of a shipped one, or a YAML file.
        name: name of the run; made of data and model where none is given.
        runs: folder of all runs.
        resume: go on with the interrupted run of that name, bit by bit; `recipe` is then the one stored with it.
        overwrite: replace a run of that name.
        listener: told of every step; the command line shows progress with one.
        **changes: leaves of the recipe with `__` for the dot, such as `model__mask_ratio=0.9`.

    Raises:
        DataError: clips that are not there, before the first epoch.
        ConfigError: a model that is no VideoMAE, or sizes that do not fit together.
        TrainingError: a run that cannot start or go on.

    Example:
        >>> result = tubelet.pretrain("videos/", name="seen", training__epochs=200)  # doctest: +SKIP

    Source: arXiv 2203.12602.
    """
    wishes = {key.replace("__", "."): value for key, value in changes.items()}
    source = _name_source(data)

    def read(recipe: PretrainingRecipe) -> Manifest:
        return _read(data, recipe, listener)

    asked = Asked(PretrainingRecipe, source, Place(Path(runs), name, overwrite), recipe, wishes, resume)
    opened = open_run(asked, read, resolve_pretraining)
    with hold_run(opened, listener):
        trainer = Pretrainer(opened.run, opened.recipe, opened.manifest, listener, opened.ranks)
        trainer.execute(is_resumed=resume)
    last = trainer.progress.history[-1]
    return PretrainingResult(opened.run.folder, trainer.progress.epoch, last["train_loss"], last["val_loss"])


@dataclass(frozen=True, eq=False)
class MaskedPrediction:
    """Learn to predict the hidden parts of clips from what is left."""

    model: VideoMAEPretraining
    recipe: PretrainingRecipe

    def compute_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the loss under masks drawn by torch's own generator, which the loop seeds; no clip is scored."""
        return self._predict(batch, torch.default_generator), 0

    def validate(self, batches: Iterable[Batch]) -> Totals:
        """Measure the loss over the batches, under masks that are the same each time."""
        totals = Totals()
        generator = torch.Generator().manual_seed(self.recipe.training.seed)
        self.model.eval()
        for batch in batches:
            totals.bad.extend(batch.bad)
            if len(batch.labels):
                with torch.inference_mode():
                    totals.add(float(self._predict(batch, generator)), len(batch.labels))
        return totals

    def draw_mask(self, count: int, generator: torch.Generator) -> Bool[Tensor, "{count} t h w"]:
        """Draw which tubelets of `count` clips are hidden."""
        return draw_tube_mask(self.model.config.encoder.grid, self.recipe.model.mask_ratio, generator, count)

    def _draw_decoder_mask(self, count: int, generator: torch.Generator) -> Tensor | None:
        ratio = self.recipe.model.decoder_mask_ratio
        return draw_running_cell_mask(self.model.config.encoder.grid, ratio, generator, count) if ratio else None

    def _predict(self, batch: Batch, generator: torch.Generator) -> Tensor:
        device = self.model.mask_token.device
        mask = self.draw_mask(len(batch.clips), generator)
        left_out = self._draw_decoder_mask(len(batch.clips), generator)
        with autocast(self.recipe.training.precision, device):
            clips = normalize(batch.clips.to(device, non_blocking=True), self.recipe.input)
            loss: Tensor = self.model(clips, mask, left_out)
        return loss


def make_pretraining_task(recipe: PretrainingRecipe, device: torch.device) -> MaskedPrediction:
    """Make the model of a recipe, with fresh weights, and say what it learns."""
    wanted = recipe.model
    mean, std = scale_pixels(recipe.input)
    model = create_pretraining(
        wanted.name,
        **{**list_sizes(recipe.input), **wanted.changes},
        **wanted.decoder,
        mask_ratio=wanted.mask_ratio,
        decoder_mask_ratio=wanted.decoder_mask_ratio,
        normalize_targets=wanted.normalize_targets,
        mean=mean,
        std=std,
    )
    return MaskedPrediction(model.to(device), recipe)


class Pretrainer(Session[PretrainingRecipe]):
    """Teach an encoder what clips look like, and keep the weights of the last epoch.

    The last and not the best: features go on getting better where the loss hardly moves, and the rate has come down.
    """

    task: MaskedPrediction

    def _make_task(self) -> MaskedPrediction:
        self.shown: tuple[UInt8[Tensor, "batch time height width channel"], list[str]] | None = None
        return make_pretraining_task(self.recipe, self.device)

    def _list_remarks(self) -> tuple[str, ...]:
        return self.manifest.notes

    def _validate(self, batches: Iterable[Batch]) -> Totals:
        return self.task.validate(batches)

    def _keep(self, row: dict[str, float], model: Any) -> None:
        spec = self.recipe.input
        extra = {"kind": PRETRAINING, **describe_epoch(row)}
        write_model(self.run.model_path, model, model.config.to_dict(), spec, (), extra)
        if self.shown is None:
            self.shown = self._choose_shown()
        clips, names = self.shown
        if names:
            draw_reconstruction(replace(self.task, model=model), clips, names, self.run.folder / "reconstruction.png")

    def _choose_shown(self) -> tuple[Tensor, list[str]]:
        """Read a few clips from all over the held-out ones; from the training clips where none were held out."""
        clips = self.feeding.make_held_out("val" if self.manifest.select("val") else "train")
        places = np.linspace(0, len(clips) - 1, min(SHOWN_CLIPS, len(clips))).round().astype(int)
        read = [(clips[0, place][1], clips.samples[place]) for place in places.tolist()]
        good = [(clip[0], self.manifest.short_name(sample)) for clip, sample in read if isinstance(clip, Tensor)]
        if not good:
            return torch.zeros((0, 1, 1, 1, 1), dtype=torch.uint8), []
        return torch.stack([clip for clip, _ in good]), [name for _, name in good]


def draw_reconstruction(
    task: MaskedPrediction,
    clips: UInt8[Tensor, "batch time height width channel"],
    names: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """Draw clips as they are, as the encoder sees them, and with what the model predicts: one below the other.

    The mask is always the same. With differences beside the pixels only the pixels are shown, with differences alone
    those, gray where nothing changes.

    Args:
        task: the model and its input contract.
        clips: fitted to the contract.
        names: one for each clip.
        path: the file to write.
    """
    model, channels = task.model, task.recipe.input.channels
    was_training = model.training
    mask = task.draw_mask(len(clips), torch.Generator().manual_seed(task.recipe.training.seed))
    model.eval()
    three = model.reconstruct(normalize(clips.to(model.mask_token.device), task.recipe.input), mask)
    model.train(was_training)
    pictures = [(picture[:, :channels] * 255).round().byte().cpu() for picture in three]
    gap = torch.full_like(pictures[0][..., :1, :], 255)
    columns = torch.cat([pictures[0], gap, pictures[1], gap, pictures[2]], dim=3)
    means = " (mean and spread given)" if task.recipe.model.normalize_targets else ""
    ending = f": as it is; {mask.float().mean():.0%} hidden; predicted{means}"
    rows = [rearrange(column, "c t h w -> t h w c").numpy() for column in columns]
    draw_contact_sheet(rows, [f"{name[-50:]}{ending}" for name in names], path, stacked=3)


def scale_pixels(spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and deviation per channel that lead model input back to 0..1.

    Differences come back as half their value around 0.5: gray where nothing changes.
    """
    mean, std = (numbers * (spec.channels // len(numbers)) for numbers in (spec.mean, spec.std))
    half = tuple(value / (2 * DIFFERENCE_GAIN) for value in std)
    middle = (0.5,) * spec.channels
    return {
        "none": (mean, std),
        "append": (mean + middle, std + half),
        "only": (middle, half),
    }[spec.differences]


def _name_source(data: Clips | None) -> str | None:
    if data is None or isinstance(data, str | os.PathLike):
        return None if data is None else os.fspath(data)
    return data.origin if isinstance(data, Manifest) else _find_folder(data)


def _find_folder(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Find the folder that holds all files of a list."""
    if not paths:
        raise DataError("cannot pre-train on an empty list - it names no clip - give at least two videos.")
    return os.path.commonpath([Path(path).absolute().parent for path in paths])


def _read(data: Clips | None, recipe: PretrainingRecipe, listener: Listener) -> Manifest:
    """Read the clips, with their splits."""
    wanted = recipe.data
    if isinstance(data, Manifest):
        return data
    if data is None or isinstance(data, str | os.PathLike):
        return open_unlabelled(
            wanted.source,
            group_by=wanted.group_by,
            val=wanted.val_fraction,
            test=wanted.test_fraction,
            seed=wanted.split_seed,
            request=make_request(wanted, listener),
        )
    clips = list_clips(data, _find_folder(data), group_by=wanted.group_by)
    return split_manifest(clips, val=wanted.val_fraction, test=0.0, seed=wanted.split_seed)
