"""Predict on a Ray cluster: an actor that loads a model once and answers batches of paths.

    import ray
    from tubelet.cluster import VideoClassifier

    rows = ray.data.from_items([{"source": path} for path in paths]).map_batches(
        VideoClassifier, fn_constructor_kwargs={"model": "runs/mine"}, batch_size=32, concurrency=4
    )
    rows.write_parquet("predictions/")

A row holds what `tubelet predict --output` writes of a source, an error included, so that a video that cannot be read
costs its own row alone. Ray runs a batch again whose actor died; the answers are the same. Without a cluster, or for
jobs that outlive one, `tubelet predict --output job/ --shard 2/64` needs nothing but a shared folder.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tubelet.errors import DataError
from tubelet.prediction.load import load
from tubelet.prediction.predict import PredictionOptions, predict_each
from tubelet.prediction.table import list_cells, list_columns

__all__ = ["VideoClassifier"]

_PATHS = "source"


class VideoClassifier:
    """Answer batches of paths with the rows of a table of predictions.

    Args:
        model: anything that `tubelet.load` takes, from where the actor runs: a shared folder, or `hf://owner/repo`.
        device: auto, cpu, cuda, cuda:1 or mps.
        options: fields of `PredictionOptions`, such as `{"views": 3, "batch": 16}`.

    Raises:
        ConfigError: an option out of range.
        CheckpointError: no such model.
    """

    def __init__(
        self, model: str | os.PathLike[str], *, device: str = "auto", options: Mapping[str, Any] | None = None
    ) -> None:
        self._options = PredictionOptions(**(options or {}))
        self._classifier = load(model, device=device)

    def __call__(self, batch: Mapping[str, Shaped[np.ndarray, " row"]]) -> dict[str, list[str]]:
        """Answer a batch with the column `source`; other columns of it are not passed on.

        Returns:
            The columns of `tubelet predict --output`, as texts; one row for each path, in order.

        Raises:
            DataError: no such column.
        """
        if _PATHS not in batch:
            raise DataError(
                f"cannot predict a batch with the columns {', '.join(batch) or 'none'} - it has no '{_PATHS}' - name "
                "the column of paths so."
            )
        outcomes = predict_each(self._classifier, map(str, batch[_PATHS]), self._options)
        rows = [list_cells(outcome, self._classifier.classes) for outcome in outcomes]
        return {name: [row[place] for row in rows] for place, name in enumerate(list_columns(self._classifier))}
