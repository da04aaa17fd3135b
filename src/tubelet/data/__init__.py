"""Know which clips there are, what they show, and which of them may be learned from.

    source  ->  read_manifest  ->  check_manifest  ->  split_manifest  ->  samples of a split

Needs numpy, not torch; `tubelet.data.dataset` turns samples into batches.
"""

from tubelet.data.arrays import load_features, load_row
from tubelet.data.catalogue.entry import Request, register_dataset
from tubelet.data.manifest import Manifest, check_manifest, read_manifest
from tubelet.data.sample import SPLITS, Sample
from tubelet.data.splits import fold_manifest, split_manifest

__all__ = [
    "SPLITS",
    "Manifest",
    "Request",
    "Sample",
    "check_manifest",
    "fold_manifest",
    "load_features",
    "load_row",
    "read_manifest",
    "register_dataset",
    "split_manifest",
]
