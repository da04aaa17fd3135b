"""Bring the clips of a run to its model: varied in training, as in an evaluation otherwise."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor

from tubelet.data.dataset import ClipDataset
from tubelet.data.features import Features
from tubelet.data.loader import ClipLoader, EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import Manifest
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.shapes import Label
from tubelet.training.ranks import ALONE, Ranks
from tubelet.transforms.geometry import augment
from tubelet.transforms.preparation import fit_features
from tubelet.video.clip import Pixels

__all__ = ["Feeding", "prepare_training"]


class Feeding:
    """Make the loaders of a run; `order.start(epoch)` says where the next iteration begins.

    Args:
        recipe: how clips are read and varied.
        manifest: the clips.
        ranks: the processes that share each batch.
        strata: the class of each training clip, where classes shall come equally often.
    """

    def __init__(
        self, recipe: AnyRecipe, manifest: Manifest, ranks: Ranks = ALONE, strata: Sequence[int] | None = None
    ) -> None:
        self.recipe = recipe
        self.manifest = manifest
        self.ranks = ranks
        training, repeats = recipe.training, recipe.augmentation.repeats
        count = len(manifest.select("train"))
        self.order = EpochOrder(count, training.batch, training.seed, ranks.take_share, repeats, strata)
        self.num_batches = len(self.order)
        """Batches of a whole epoch."""

    def make_training_set(self) -> ClipDataset:
        """Read and vary the training clips."""
        recipe = self.recipe
        return ClipDataset(
            self.manifest.select("train"),
            self.manifest,
            recipe.input,
            partial(prepare_training, recipe=recipe, classes=self.manifest.classes),
            is_training=True,
            seed=recipe.training.seed,
            decoder=recipe.data.decoder,
            speed=recipe.augmentation.speed,
        )

    def make_held_out(self, split: str) -> ClipDataset:
        """Read clips as an evaluation does: nothing is varied."""
        return ClipDataset(
            self.manifest.select(split),
            self.manifest,
            self.recipe.input,
            partial(prepare_evaluation, spec=self.recipe.input),
            decoder=self.recipe.data.decoder,
        )

    def make_loaders(self, training_set: ClipDataset | None = None) -> tuple[ClipLoader, ClipLoader | None]:
        """Make the loader of the training clips, in `order`, and that of the validation clips where there are any."""
        training_set = training_set or self.make_training_set()
        held_out = self.make_held_out("val")
        val_loader = None
        if len(held_out):
            # The order of scores over all clips is one figure: each process measures it whole.
            ranks = self.ranks if self.manifest.task == "classification" else ALONE
            order = EpochOrder(len(held_out), self.recipe.training.batch, None, ranks.take_share)
            val_loader = make_loader(held_out, order, self._plan_loading(held_out))
        return make_loader(training_set, self.order, self._plan_loading(training_set)), val_loader

    def _plan_loading(self, dataset: ClipDataset) -> LoaderOptions:
        """Say how clips are read; the cache is dealt out by numbers of clips."""
        data = self.recipe.data
        total = len(self.manifest.select("train")) + len(self.manifest.select("val"))
        return LoaderOptions(
            batch=self.recipe.training.batch,
            workers=data.workers,
            decoder=data.decoder,
            cache_mb=-(-data.cache_mb * len(dataset) // total),
            cache_folder=data.cache_folder,
            timeout_s=data.timeout_s,
        )


def prepare_training(
    pixels: Pixels | Features,
    label: Label,
    generator: np.random.Generator,
    *,
    recipe: AnyRecipe,
    classes: tuple[str, ...],
) -> tuple[UInt8[Tensor, "time height2 width2 channel2"] | Float32[Tensor, "time 1 1 feature"], Label]:
    """Augment a clip and fit it to the contract; picklable, for loader workers. Features are only fitted."""
    if recipe.input.kind == "features":
        return fit_features(pixels, recipe.input), label
    return augment(pixels, label, recipe.augmentation, recipe.input, classes, generator)
