"""Train: the loop, the optimizer, the run folder.

`tubelet.train` is the whole road. These are its pieces, for loops of your own; docs/training.md has one:

    Classification   what is learned          Stepper             gradients, checked, then the weights move
    Feeding          loaders of clips         train_epoch         all steps of an epoch
    make_optimizer   what moves the weights   validate            loss and accuracy on held-out clips
    make_schedule    how far, at each step    overfit_batch       can the model learn one batch by heart?
                                              load_checkpoint     what a run stopped at

Names are loaded on first use.
"""

from typing import TYPE_CHECKING

from tubelet.deferred import defer

if TYPE_CHECKING:
    from tubelet.training.feeding import Feeding as Feeding
    from tubelet.training.loop import Classification as Classification
    from tubelet.training.loop import train_epoch as train_epoch
    from tubelet.training.loop import validate as validate
    from tubelet.training.optimizer import make_optimizer as make_optimizer
    from tubelet.training.optimizer import make_schedule as make_schedule
    from tubelet.training.overfitting import overfit_batch as overfit_batch
    from tubelet.training.run import load_checkpoint as load_checkpoint
    from tubelet.training.step import Stepper as Stepper

_HOMES = {
    "Classification": "tubelet.training.loop",
    "Feeding": "tubelet.training.feeding",
    "Stepper": "tubelet.training.step",
    "load_checkpoint": "tubelet.training.run",
    "make_optimizer": "tubelet.training.optimizer",
    "make_schedule": "tubelet.training.optimizer",
    "overfit_batch": "tubelet.training.overfitting",
    "train_epoch": "tubelet.training.loop",
    "validate": "tubelet.training.loop",
}

__all__ = [
    "Classification",
    "Feeding",
    "Stepper",
    "load_checkpoint",
    "make_optimizer",
    "make_schedule",
    "overfit_batch",
    "train_epoch",
    "validate",
]

__getattr__, __dir__ = defer(__name__, _HOMES)
