"""Load a trained classifier from wherever it lies."""

import os
import re
from pathlib import Path

from tubelet import files
from tubelet.calibration import COVERAGE
from tubelet.classifier import Classifier
from tubelet.errors import CheckpointError, ConfigError, name_nearest
from tubelet.model_folder import CONFIG_NAME, WEIGHTS_NAME
from tubelet.models import list_models
from tubelet.models.published import find_published
from tubelet.models.weights.folder import read_folder
from tubelet.models.weights.source import WeightFiles, find_weights
from tubelet.prediction.devices import choose_device
from tubelet.prediction.predict import Prediction, predict_one
from tubelet.runtime import ExportedModel, is_exported
from tubelet.scorer import Scorer
from tubelet.video.source import Source

__all__ = ["ExportedPredictor", "Predictor", "find_model", "find_remote", "load", "load_classifier"]


class _OpensSources(Scorer):
    """Classify videos, not clips alone."""

    def predict(
        self, source: Source, *, views: int = 1, decoder: str = "pyav", coverage: float = COVERAGE
    ) -> Prediction:
        """Classify one video.

        Args:
            source: anything that `Video` opens; for a model of features an array (time, feature).
            views: clips spread over the video, averaged.
            decoder: which backend reads it.
            coverage: share of videos whose `label_set` shall hold the true class, where the model is calibrated.

        Raises:
            VideoError: where the source cannot be read.
        """
        return predict_one(self, source, views=views, decoder=decoder, coverage=coverage)


class Predictor(_OpensSources, Classifier):
    """Classify videos: a `Classifier` that opens sources by itself."""


class ExportedPredictor(_OpensSources, ExportedModel):
    """Classify videos with an exported file."""


def load(
    source: str | os.PathLike[str], *, device: str = "auto", trust_export: bool = False
) -> Predictor | ExportedPredictor:
    """Load what classifies videos.

    Args:
        source: a run folder, the name of a run under `runs/`, a model folder (`model.safetensors` + `config.json`), a
            folder of transformers, a name on the Hugging Face hub (`hf://owner/repo`, or `owner/repo` alone), published
            weights such as `videomae_base.kinetics400`; or a file that `tubelet.export` wrote: `.onnx`, `.pt2`, or a
            folder of OpenVINO.
        device: auto, cpu, cuda, cuda:1 or mps.
        trust_export: run a `.pt2` file, which is code of whoever made it.

    Returns:
        `.input_spec`, `.classes`, `.score(clips)`, `.predict(source)`; and `.model`, in evaluation mode, where it is no
        exported file.

    Raises:
        CheckpointError: nothing there, or something damaged.
        ConfigError: a device that is not there, or a `.pt2` file without trust.
    """
    if is_exported(source):
        return ExportedPredictor.read(source, device=device, trust=trust_export)
    return load_classifier(source, device=device)


def load_classifier(source: str | os.PathLike[str], *, device: str = "auto") -> Predictor:
    """Load a classifier with its PyTorch model, which can be measured, explained and trained on: no exported file.

    The arguments are those of `load`.

    Raises:
        CheckpointError: nothing there, or something damaged.
        ConfigError: an exported file.
    """
    if is_exported(source):
        raise ConfigError(
            f"cannot use {os.fspath(source)!r} here - it is an exported file, and this needs the model itself - give "
            "the run or the model folder it was made from; 'tubelet predict' takes exported files."
        )
    predictor = _read(source)
    predictor.model.to(choose_device(device))
    return predictor


def _read(source: str | os.PathLike[str]) -> Predictor:
    remote = find_remote(source)
    if remote is not None:
        found = find_weights(remote)
        return _read_foreign(found) if found.is_transformers else _read_own(found.folder)
    folder = find_model(source)
    if (folder / CONFIG_NAME).exists():
        found = find_weights(folder)
        if found.is_transformers:
            return _read_foreign(found)
    return _read_own(folder)


def _read_own(folder: Path) -> Predictor:
    own = Classifier.read(folder)
    return Predictor(own.model, own.input_spec, own.classes, own.task, own.calibration)


def find_remote(source: str | os.PathLike[str]) -> str | None:
    """Return the name on the hub that a source stands for: its own, or that of published weights; None for a path."""
    text = os.fspath(source)
    name, dot, tag = text.partition(".")
    if dot and name in list_models() and not Path(text).exists():
        return find_published(name, tag).source
    return text if text.startswith("hf://") or _is_hub_id(text) else None


def _read_foreign(found: WeightFiles) -> Predictor:
    own = read_folder(found)
    return Predictor(own.model, own.input_spec, own.classes, own.task)


def _is_hub_id(text: str) -> bool:
    """Tell whether a text that is no path may be a name on the hub: `owner/repo`."""
    owner, slash, repo = text.partition("/")
    looks_so = bool(slash) and _OWNER.fullmatch(owner) is not None and "/" not in repo and bool(repo)
    return looks_so and owner != "runs" and not Path(owner).exists() and not (Path("runs") / text).exists()


_OWNER = re.compile(r"[A-Za-z0-9][\w-]*")


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
