"""Turn decoded pixels into what a model scores, and vary them in training.

`policy` states which variations are allowed and imports no torch; `preparation` is the one road from pixels to model
input, shared by training, evaluation and prediction; `geometry` and `color` carry the variations out.
"""

from tubelet.transforms.policy import Augmentation

__all__ = ["Augmentation"]
