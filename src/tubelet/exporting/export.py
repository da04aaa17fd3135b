"""Export a model to a file that other programs run, with its contract inside, and compare the two before it is kept."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.errors import ConfigError, ExportError
from tubelet.exporting.formats import ENDINGS, Format, write_format
from tubelet.exporting.parity import Parity, choose_clips, compare
from tubelet.model_folder import hash_weights, load_state
from tubelet.models import create_model
from tubelet.prediction.load import find_model, find_remote, load_classifier
from tubelet.runtime import Contract, ExportedModel
from tubelet.scorer import Scorer

__all__ = ["TOLERANCE", "Exported", "describe", "export"]

TOLERANCE = 1e-4
"""Largest difference of a probability that is let pass: far above what another order of sums makes."""
CLIPS = 4


@dataclass(frozen=True)
class Exported:
    """State what was written, and how near its answers are to the model's."""

    path: Path
    """The file; of OpenVINO a folder."""
    format: Format
    precision: str
    """`float32` or `int8`."""
    size_bytes: int
    """Of all that was written."""
    parity: Parity

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return {**asdict(self), "path": str(self.path)}


def export(
    model: Classifier | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    format: Format | None = None,  # noqa: A002 - the word of the command line, too
    int8: bool = False,
    clips: Sequence[str | os.PathLike[str]] = (),
) -> Exported:
    """Write a model as one file that other programs run, input contract, class names and calibration included.

    The file is opened again and asked about clips, with batches of 1 and 3; one whose probabilities differ by more than
    0.0001 is not kept. Of int8, which rounds on purpose, the difference is told.

    Args:
        model: a classifier, or anything that `tubelet.load` takes but exported files.
        output: where to; its ending (.onnx, .pt2, .pth, _openvino) may state the format. Without it, a name made of the
            model's, in the current folder. What stands there is replaced.
        format: onnx (the default), torch (a `.pt2` of torch.export), openvino (a folder), or pth (the weights alone, as
            a plain state dict, with the contract in a `.json` beside it).
        int8: store and multiply the large matrices in 8 bits; onnx alone.
        clips: videos to compare on; without any those the run was trained on, where they still are, or drawn ones.

    Raises:
        ConfigError: a model of features, or a wish that the format cannot fulfil.
        ExportError: the file answers otherwise than the model.
        MissingExtra: what writes the format is not installed.
    """
    place, form = _choose_place(model, output, format, int8=int8)
    classifier = model if isinstance(model, Classifier) else load_classifier(model, device="cpu")
    if classifier.input_spec.kind == "features":
        raise ConfigError(
            f"cannot export {classifier.name} - it takes features of frames, and exported files take pixels - "
            "export the network that computes the features, and run this one with tubelet."
        )
    probe = choose_clips(classifier.input_spec, CLIPS, clips, _find_run(model))
    contract = describe(classifier, "int8" if int8 else "float32")
    with tempfile.TemporaryDirectory() as folder:
        written = write_format(form, classifier, contract, Path(folder), place.name.removesuffix(ENDINGS[form]))
        parity = compare(classifier, _open(written, form), probe)
        if not int8:
            _check(parity, form)
        return Exported(place, form, contract.precision, _move(written, place), parity)


def describe(classifier: Classifier, precision: Literal["float32", "int8"] = "float32") -> Contract:
    """State what a file made of a classifier takes, and what its answers mean."""
    return Contract(
        model=classifier.model.config.to_dict(),
        input_spec=classifier.input_spec,
        classes=classifier.classes,
        task=classifier.task,
        weights=hash_weights(classifier.model),
        precision=precision,
        calibration=classifier.calibration,
    )


def _choose_place(
    model: object, output: str | os.PathLike[str] | None, form: Format | None, *, int8: bool
) -> tuple[Path, Format]:
    """Find out where to write and in which format, from what was said of either."""
    if form is not None and form not in get_args(Format):
        raise ConfigError(f"cannot export as '{form}' - known are {', '.join(get_args(Format))} - choose one.")
    stated = None
    if output is not None:
        stated = next((name for name, ending in ENDINGS.items() if Path(output).name.endswith(ending)), None)
    chosen = form or stated or "onnx"
    if output is not None and stated != chosen:
        raise ConfigError(
            f"cannot write {chosen} to {os.fspath(output)!r} - its names end in {ENDINGS[chosen]} - name it so."
        )
    if int8 and chosen != "onnx":
        raise ConfigError(f"cannot export {chosen} in int8 - that is made for ONNX Runtime alone - choose onnx.")
    if output is None and isinstance(model, Classifier):
        raise ConfigError("cannot name the file - a classifier has no name of its own - give an output.")
    stem = f"{_name(str(model))}{'_int8' if int8 else ''}"
    return Path(output) if output is not None else Path(f"{stem}{ENDINGS[chosen]}"), chosen


def _name(source: str) -> str:
    """Name a file after the run, the folder or the repository that its model comes from."""
    path = Path(source.removeprefix("hf://")).absolute()
    path = path.parent if path.name in ("model.safetensors", "config.json") else path
    return (path.parent.name or path.name) if path.name == "model" else path.name.partition("@")[0]


def _find_run(model: object) -> Path | None:
    if isinstance(model, Classifier) or find_remote(str(model)) is not None:
        return None
    run = find_model(str(model)).parent
    return run if (run / "config.yaml").exists() else None


def _open(path: Path, form: Format) -> Scorer:
    """Open what was written as its reader will."""
    if form != "pth":
        return ExportedModel.read(path, device="cpu", trust=True)  # written a moment ago, by us
    contract = Contract.from_json(path.with_suffix(".json").read_text(encoding="utf-8"), os.fspath(path))
    model = create_model(**contract.model)
    load_state(model, torch.load(path, weights_only=True), os.fspath(path))
    return Classifier(model.eval(), contract.input_spec, contract.classes, contract.task, contract.calibration)


def _check(parity: Parity, form: Format) -> None:
    if parity.max_difference <= TOLERANCE:
        return
    raise ExportError(
        f"the {form} file answers otherwise than the model - probabilities differ by up to "
        f"{parity.max_difference:.2e} on {parity.origin}, {TOLERANCE:g} is let pass - nothing was written; choose "
        "another format, and report the model."
    )


def _move(written: Path, place: Path) -> int:
    """Put what was written in its place, whole or not at all, and count its bytes."""
    if written.is_dir():
        parts = sorted(written.iterdir())
        files.check_replaceable(place, [part.name for part in parts])
        with files.replace_folder(place) as folder:
            for part in parts:
                shutil.copyfile(part, folder / part.name)
    else:
        # What describes the weights comes first, so that they never lie there without it.
        parts = sorted(written.parent.iterdir())
        for part in parts:
            with part.open("rb") as source, files.write_whole(place.with_suffix(part.suffix)) as target:
                shutil.copyfileobj(source, target)
    return sum(part.stat().st_size for part in parts)
