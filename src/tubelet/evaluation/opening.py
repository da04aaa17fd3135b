"""Open the labelled clips that a model is tested on, and say which of them it has seen already."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tubelet.classifier import Classifier
from tubelet.config import read_config
from tubelet.data.assignments import apply_assignments, find_trained, read_assignments
from tubelet.data.catalogue import DATASETS, Request, open_data
from tubelet.data.dataset import BadSample
from tubelet.data.features import check_kind
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample, normalize_split
from tubelet.errors import DataError
from tubelet.prediction.load import find_model, find_remote
from tubelet.recipes.recipe import DataRecipe, Recipe

__all__ = ["OpenedSplit", "open_split"]


@dataclass(frozen=True)
class OpenedSplit:
    """Hold the clips of one split, in the terms of the classifier that is asked about them."""

    manifest: Manifest
    """All clips, with the classifier's task and classes."""
    samples: tuple[Sample, ...]
    """Those of the split; at least one."""
    place: str
    """What messages call it."""
    remarks: tuple[str, ...]
    """What makes figures say less than they seem to, such as clips that were trained on."""

    def check_read(self, read: int, bad: tuple[BadSample, ...], verb: str) -> None:
        """Refuse to state figures of no clip.

        Raises:
            DataError: none of the clips could be read; says why the first could not.
        """
        if not read:
            reason = f" - the first says: {bad[0].message}" if bad else " - name other clips, or another split."
            raise DataError(
                f"cannot {verb} on {self.place} - none of its {len(self.samples)} clips can be read{reason}"
            )


def open_split(
    model: object,
    classifier: Classifier,
    data: Manifest | str | os.PathLike[str] | None,
    split: str,
    verb: str,
) -> OpenedSplit:
    """Open the clips that a model is asked about.

    Args:
        model: what `classifier` was loaded from, which may be a run that names its data; or the classifier itself.
        classifier: whose task and classes the clips must have.
        data: a manifest or a source of clips; None takes the data the model was trained on, split in the same way.
        split: `test`, `val` or `train`; where the data states no split, all clips count as this one.
        verb: what is done with them, for messages: `evaluate`.

    Raises:
        DataError: no clips in the split, clips of another kind than the model's, or of other classes.
    """
    manifest, remarks = (data, ()) if isinstance(data, Manifest) else _open_clips(model, data, split, verb)
    check_kind(manifest, classifier.input_spec)
    place = f"split '{split}' of {manifest.origin}"
    if not manifest.select(split):
        raise DataError(
            f"cannot {verb} on {place} - it has no clips there - choose one of {', '.join(manifest.counts())}."
        )
    manifest = manifest.with_task(classifier.task).with_classes(classifier.classes)
    return OpenedSplit(manifest, manifest.select(split), place, remarks)


def _open_clips(
    model: object, data: str | os.PathLike[str] | None, split: str, verb: str
) -> tuple[Manifest, tuple[str, ...]]:
    run = _find_run(model)
    assigned = read_assignments(run / "splits.csv") if run and (run / "splits.csv").exists() else {}
    is_known = data is None or os.fspath(data) in DATASETS
    recipe = read_config(run / "config.yaml", Recipe).data if run and is_known else None
    if data is not None:
        manifest = open_data(os.fspath(data), split_if_missing=False, request=_choose_split(recipe, data))
        if not any(sample.split for sample in manifest.samples):
            known = apply_assignments(manifest, assigned)
            samples = tuple(replace(sample, split=sample.split or normalize_split(split)) for sample in known.samples)
            manifest = replace(manifest, samples=samples)
        return manifest, _remark(manifest, assigned, split)
    if recipe is None:
        raise DataError(
            f"cannot {verb} - no data was named, and the model has no run folder that names some - name some."
        )
    wanted = _choose_split(recipe, recipe.source)
    manifest = open_data(recipe.source, group_by=recipe.group_by, split_if_missing=False, request=wanted)
    if assigned:
        manifest = apply_assignments(manifest, assigned)
    return manifest, _remark(manifest, assigned, split)


def _choose_split(recipe: DataRecipe | None, data: str | os.PathLike[str]) -> Request:
    """Test on the official split that the model was trained on, where the data is the same; never fetch any."""
    if recipe is None or recipe.source != os.fspath(data):
        return Request(offline=True)
    return Request(fold=recipe.fold, offline=True)


def _find_run(model: object) -> Path | None:
    if isinstance(model, Classifier) or find_remote(str(model)) is not None:
        return None
    folder = find_model(str(model)).parent
    return folder if (folder / "config.yaml").exists() else None


def _remark(manifest: Manifest, assigned: Mapping[str, str], split: str) -> tuple[str, ...]:
    """Say what makes the figures say less than they seem to."""
    remarks = []
    seen = find_trained(manifest, assigned, split)
    if seen:
        what = "trained or validated on" if normalize_split(split) == "test" else "trained on"
        remarks.append(f"{len(seen)} of the clips tested were {what}, such as {seen[0]}.")
    present = {sample.name for sample in manifest.samples}
    lost = [name for name, own in assigned.items() if own == normalize_split(split) and name not in present]
    if lost and len(lost) < sum(own == normalize_split(split) for own in assigned.values()):
        remarks.append(f"{len(lost)} clips of the run's '{split}' split are gone, such as {lost[0]}.")
    return tuple(remarks)
