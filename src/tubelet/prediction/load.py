"""Load a trained classifier from wherever it lies."""

import os
from pathlib import Path

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.errors import CheckpointError, name_nearest
from tubelet.model_folder import CONFIG_NAME, WEIGHTS_NAME
from tubelet.prediction.devices import choose_device
from tubelet.prediction.predict import Prediction, predict_one
from tubelet.video.source import Source

__all__ = ["Predictor", "load"]


class Predictor(Classifier):
    """Classify videos: a `Classifier` that opens sources by itself."""

    def predict(self, source: Source, *, views: int = 1, decoder: str = "pyav") -> Prediction:
        """Classify one video.

        Args:
            source: anything that `Video` opens.
            views: clips spread over the video, averaged.
            decoder: which backend reads it.

        Raises:
            VideoError: where the source cannot be read.
        """
        return predict_one(self, source, views=views, decoder=decoder)


def load(source: str | os.PathLike[str], *, device: str = "auto") -> Predictor:
    """Load a classifier.

    Args:
        source: a run folder, the name of a run under `runs/`, or a model folder (`model.safetensors` + `config.json`).
        device: auto, cpu, cuda, cuda:1 or mps.

    Returns:
        `.model`, `.input_spec`, `.classes`, `.predict(source)`, in evaluation mode.

    Raises:
        CheckpointError: nothing there, or something damaged.
    """
    found = Classifier.read(find_model(source))
    predictor = Predictor(found.model, found.input_spec, found.classes)
    predictor.model.to(choose_device(device))
    return predictor


def find_model(source: str | os.PathLike[str]) -> Path:
    """Find the model folder that a run folder, a run's name, a model folder or a file in one stands for."""
    path = Path(source)
    if path.name in (WEIGHTS_NAME, CONFIG_NAME):
        path = path.parent
    for candidate in (path / "model", path, Path("runs") / path / "model"):
        try:
            if candidate.absolute().name:
                files.recover_folder(candidate.absolute())
            if (candidate / CONFIG_NAME).exists() or (candidate / WEIGHTS_NAME).exists():
                return candidate
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise CheckpointError(
                f"cannot load {str(source)!r} - the system says: {reason} - give a run folder or a model folder."
            ) from None
    known = [str(found.parent.parent) for found in Path("runs").glob(f"*/model/{CONFIG_NAME}")]
    near = name_nearest(str(path), [*known, *(Path(name).name for name in known)]) or "."
    what = "it holds no model yet" if path.is_dir() else "there is no such folder"
    raise CheckpointError(f"cannot load {str(source)!r} - {what}{near} Give a run folder or a model folder.")
