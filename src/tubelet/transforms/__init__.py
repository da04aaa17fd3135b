"""Turn decoded pixels into what a model scores, and vary them in training.

`policy` states which variations are allowed and imports no torch; `preparation` is the one road from pixels to model
input, shared by training, evaluation and prediction; `geometry` draws the variations of a clip and carries them out, by
`affine`, `color`, `randaugment`, `filters` and `erasing`; `mixing` mixes the clips of a batch.
"""

from tubelet.transforms.policy import Augmentation

__all__ = ["Augmentation"]
