"""Write the model card that a model is published with: what is known about it, in words, and what is not.

    front matter   license   library   task   tags   measured figures      for the hub's search and tables
    text           what it is   what it takes   classes   how to use it   what was measured, and what that does not say
                   how it was trained   limits and responsible use   versions

Nothing is made up: a model folder without its run has no figures and no recipe, and its card says so. Paths of this
machine are cut to their last name.
"""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import torch

from tubelet.classifier import Classifier
from tubelet.config import read_config, write_config
from tubelet.data.assignments import count_assignments
from tubelet.errors import CheckpointError
from tubelet.metrics import FEW_CLIPS
from tubelet.model_folder import CALIBRATION, CALIBRATION_NAME, CONFIG_NAME
from tubelet.models.anatomy import count_macs
from tubelet.models.contract import find_card
from tubelet.models.published import find_published
from tubelet.prediction.input_description import describe_input
from tubelet.prediction.load import find_remote
from tubelet.recipes.recipe import Recipe

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

__all__ = ["Background", "read_background", "write_card"]

_TASK = "video-classification"
_LONG = 20
"""Classes from which on a list is folded."""
_REPORT_KEYS = {"data", "decoder", "digest", "interval_over", "metrics", "n", "n_failed", "split", "views"}
_FIGURES = {
    "top1": ("top-1 accuracy", "accuracy"),
    "top_k": ("top-{k} accuracy", "top_{k}_accuracy"),
    "balanced_accuracy": ("balanced accuracy", "balanced_accuracy"),
    "mean_ap": ("mean average precision", "mean_average_precision"),
    "mean_auc": ("mean area under the ROC curve", "roc_auc"),
    "micro_f1": ("micro F1", "f1_micro"),
    "macro_f1": ("macro F1", "f1_macro"),
}
"""Headline figures of report.json: how people and how the hub call them."""
_USE = """```bash
tubelet predict hf://{repo} clip.mp4
```

```python
import tubelet

classifier = tubelet.load("hf://{repo}")
print(classifier.predict("clip.mp4").scores)
```"""
_USE_FEATURES = """```python
import numpy
import tubelet

classifier = tubelet.load("hf://{repo}")
print(classifier.predict(numpy.load("features.npy")).scores)
```"""
_LIMITS = """- It knows these {count} classes and nothing else: a clip of something else is called one of them, too.
- Scores are no certainties: try it on labelled clips of your own first, `tubelet evaluate hf://{repo} CLIPS`.
- Clips unlike those it learned from (other cameras, places, people, light, speeds) are where it fails first.
- **People**: it was not built to identify, track or judge persons. To watch people without their knowledge, or to
  decide about them by its answers alone, may harm them and is against the law in many places.
- **Medicine**: it is no medical device, and was not tested for diagnosis or treatment, whatever it was trained on."""


@dataclass(frozen=True)
class Background:
    """State what is known of a model beside its weights; anything may be missing."""

    training: Mapping[str, Any] = field(default_factory=dict)
    """The epoch that was kept, and what it reached on validation clips."""
    is_calibrated: bool = False
    recipe: Recipe | None = None
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Clips of each class in each split."""
    report: Mapping[str, Any] | None = None
    """What report.json holds."""


def read_background(folder: Path, run: Path | None, *, with_report: bool = True) -> Background:
    """Read what a model folder, and the run it lies in, tell about a model.

    Raises:
        CheckpointError: config.json or report.json is damaged, or the report is of other weights.
        ConfigError: config.yaml is no recipe.
        DataError: splits.csv is damaged.
    """
    description = _read_json(folder / CONFIG_NAME, set())
    known = Background(description.get("training", {}), CALIBRATION in description)
    if run is None:
        return known
    splits, report = run / "splits.csv", run / "report.json"
    return replace(
        known,
        recipe=read_config(run / "config.yaml", Recipe),
        counts=count_assignments(splits) if splits.exists() else {},
        report=_read_report(report, description.get("sha256")) if with_report and report.exists() else None,
    )


def _read_report(path: Path, weights: str | None) -> dict[str, Any]:
    report = _read_json(path, _REPORT_KEYS)
    # Those of earlier versions do not say.
    if report.get("weights", weights) != weights:
        raise CheckpointError(
            f"cannot state the figures of {str(path)!r} - they are of other weights than those beside it - evaluate "
            "again, or leave them out: --no-report."
        )
    return report


def _read_json(path: Path, keys: set[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {str(path)!r} - {error} - take an intact copy.") from None
    if not isinstance(content, dict) or not keys <= content.keys():
        raise CheckpointError(f"cannot read {str(path)!r} - it should hold {', '.join(sorted(keys))} - write it anew.")
    return content


def write_card(classifier: Classifier, repo: str, background: Background, *, license: str | None = None) -> str:  # noqa: A002
    """Write the README.md of a model: YAML for the hub, then Markdown for people.

    Args:
        classifier: what is published.
        repo: `owner/name` on the hub.
        background: what else is known.
        license: of the weights, as the hub calls it, such as `apache-2.0`; None states none.
    """
    name = repo.rpartition("/")[2]
    is_features = classifier.input_spec.kind == "features"
    sections = {
        f"# {name}": _introduce(classifier),
        "## What it takes": describe_input(classifier.input_spec),
        "## What it answers": _list_classes(classifier, background),
        "## How to use it": (_USE_FEATURES if is_features else _USE).format(repo=repo),
        "## What was measured": _show_figures(background.report, repo),
        "## How it was trained": _tell_training(background),
        "## Limits and responsible use": _LIMITS.format(count=len(classifier.classes), repo=repo),
        "## License and versions": _state_terms(background, license),
    }
    metadata = _make_metadata(classifier, name, background, license)
    text = "\n\n".join(chain.from_iterable(sections.items()))
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}\n"


def _make_metadata(
    classifier: Classifier, name: str, background: Background, license_name: str | None
) -> "ModelCardData":
    from huggingface_hub import ModelCardData

    start = _find_start(background.recipe)
    return ModelCardData(
        license=license_name,
        library_name="tubelet",
        pipeline_tag=_TASK,
        tags=["video", _TASK, find_card(classifier.model.config.name).architecture],
        base_model=start.removeprefix("hf://") if start.startswith("hf://") else None,
        model_name=name if background.report else None,
        eval_results=_list_results(background.report) if background.report else None,
    )


def _list_results(report: Mapping[str, Any]) -> "list[EvalResult]":
    """List the figures as the hub shows them beside those of others."""
    from huggingface_hub import EvalResult

    data = _shorten(report["data"])
    measured = {key: report[key] for key in ("n", "n_failed", "views")}
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=re.sub(r"[^\w.-]+", "-", data),
            dataset_name=data,
            dataset_split=report["split"],
            dataset_args={"hash": _find_digest(report)},
            metric_type=figure.kind,
            metric_name=figure.name,
            metric_value=figure.value,
            metric_args=measured | ({"interval_95": list(figure.interval)} if figure.interval else {}),
        )
        for figure in _list_figures(report)
    ]


def _introduce(classifier: Classifier) -> str:
    model = classifier.model
    card = find_card(model.config.name)
    macs = count_macs(model.config)
    question = (
        "tells which of them a clip has, any number of them"
        if classifier.task == "multilabel"
        else "names the one that a clip is of"
    )
    rows = [
        ("model", f"`{model.config.name}`: {_escape(card.summary)}"),
        ("paper", _escape(card.paper)),
        ("parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}"),
        ("cost of one clip", _say_macs(macs) if macs else "not counted"),
    ]
    text = f"A video classifier for {len(classifier.classes)} classes: it {question}.\n\n{_make_table(('', ''), rows)}"
    if not type(model).__module__.startswith("tubelet."):
        text += "\n\nIts code is no part of tubelet: load it with the file that defines it, `--plugin FILE.py`."
    return text


def _say_macs(macs: int) -> str:
    """Round a number of multiply-accumulates to three digits, in billions or, for the smallest models, in millions."""
    return f"{macs / 1e9:,.3g} GMACs" if macs >= 10**7 else f"{macs / 1e6:,.3g} MMACs"


def _list_classes(classifier: Classifier, background: Background) -> str:
    counts = background.counts
    splits = [split for split in ("train", "val", "test") if any(split in own for own in counts.values())]
    rows = [
        (str(index), _escape(name), *(f"{counts.get(name, {}).get(split, 0):,}" for split in splits))
        for index, name in enumerate(classifier.classes)
    ]
    table = _make_table(("index", "class", *(f"{split} clips" for split in splits)), rows)
    if len(rows) > _LONG:
        table = _fold(f"{len(rows)} classes", table)
    kind = "of its own for each" if classifier.task == "multilabel" else "for each; they add up to 1"
    notes = "" if splits else "\n\nHow many clips of each it was trained on is not known."
    if background.is_calibrated:
        notes += f"\n\nThe scores are calibrated on clips that it was not trained on: `{CALIBRATION_NAME}`."
    return f"A score from 0 to 1 {kind}:\n\n{table}{notes}"


@dataclass(frozen=True)
class _Figure:
    """Hold one measured figure."""

    name: str
    kind: str
    value: float
    interval: tuple[float, float] | None


def _list_figures(report: Mapping[str, Any]) -> list[_Figure]:
    """List the headline figures that a report holds."""
    k = report.get("k", 0)
    intervals = report.get("intervals_95", {})
    figures = []
    for key, (name, kind) in _FIGURES.items():
        value = report.get(key)
        # Of 5 classes or fewer, the right one is always among the first 5.
        if value is None or (key == "top_k" and k >= len(report["metrics"]["per_class"])):
            continue
        ends = intervals.get(key) or report.get(f"{key}_interval_95")
        figures.append(_Figure(name.format(k=k), kind.format(k=k), value, tuple(ends) if ends else None))
    return figures


def _find_digest(report: Mapping[str, Any]) -> str:
    """Find the hash of the clips tested on; older reports have one of all clips."""
    return str(report.get("split_digest", report["digest"]))


def _show_figures(report: Mapping[str, Any] | None, repo: str) -> str:
    if report is None:
        return f"No figures were published with it; `tubelet evaluate hf://{repo} CLIPS` measures some."
    rows = [
        (
            figure.name,
            f"{figure.value:.1%}",
            f"{figure.interval[0]:.1%} to {figure.interval[1]:.1%}" if figure.interval else "",
        )
        for figure in _list_figures(report)
    ]
    clips = f"{report['n']:,} clips of the split '{report['split']}' of `{_shorten(report['data'])}`"
    return (
        f"{_make_table(('figure', 'value', '95 % interval'), rows)}\n\n"
        f"On {clips}; {report['n_failed']:,} more could not be read and are part of no figure. Views of each: "
        f"{report['views']}; decoder: {report['decoder']}; intervals over {report['interval_over']}; hash of names, "
        f"labels and splits: `{_find_digest(report)}`.\n\nWhat these figures do not say:\n\n{_list_doubts(report)}"
    )


def _list_doubts(report: Mapping[str, Any]) -> str:
    doubts = [
        "How well it does on clips from elsewhere: they hold for clips like those it was tested on.",
        "How well it does on each class, or each group of people: averages hide the worst.",
    ]
    if report["split"] == "val":
        doubts.append("The epoch that was kept was chosen by these clips: other clips of the kind will do worse.")
    if report["n"] < FEW_CLIPS:
        doubts.append(f"Much at all: {report['n']} clips are too few.")
    doubts.extend(_escape(_PATH.sub(lambda found: _shorten(found[0]), remark)) for remark in report.get("remarks", ()))
    return "\n".join(f"- {doubt}" for doubt in doubts)


def _tell_training(background: Background) -> str:
    recipe, kept = background.recipe, background.training.get("epoch")
    if recipe is None:
        epoch = f" The weights are those after epoch {kept}." if kept else ""
        return f"Not known: it was published without the run that it comes from.{epoch}"
    start = _find_start(recipe)
    begun = f"from `{start}`" if start else "from fresh weights"
    epoch = f"; the weights are those after epoch {kept} of at most {recipe.training.epochs}" if kept else ""
    lines = write_config(_hide_paths(recipe)).splitlines()
    plain = "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))
    return (
        f"On `{_shorten(recipe.data.source)}`, {begun}, seed {recipe.training.seed}{epoch}.\n\n"
        f"{_fold('The whole recipe, for tubelet train --config', f'```yaml{chr(10)}{plain}{chr(10)}```')}"
    )


def _find_start(recipe: Recipe | None) -> str:
    """Name what a training started from: hf://owner/repo, an address, or the last name of a path; else nothing."""
    if recipe is None:
        return ""
    source = recipe.model.source
    if source == "default":
        return find_published(recipe.model.name).source
    # Where the training ran, owner/repo may have been a path: only hf:// is sure to be a name on the hub.
    published = find_remote(source) if "/" not in source else None
    return published or _shorten(source)


def _hide_paths(recipe: Recipe) -> Recipe:
    """Cut the places of this machine out of a recipe."""
    data, model, loss = recipe.data, recipe.model, recipe.loss
    return replace(
        recipe,
        data=replace(data, source=_shorten(data.source), cache_folder=""),
        model=replace(model, weights=_find_start(recipe) if model.weights not in ("", "default") else model.weights),
        loss=replace(loss, teacher=_shorten(loss.teacher)),
    )


_PATH = re.compile(r"(?:[A-Za-z]:)?[/\\][^\s,;]*[^\s,;.]")


def _shorten(place: str) -> str:
    """Leave a name on the hub or an address as it is, and the last name of a path."""
    if place.startswith(("hf://", "https://")):
        return place
    return PureWindowsPath(place).name or place  # both kinds of slashes


def _state_terms(background: Background, license_name: str | None) -> str:
    said = "Whoever published it stated no license: ask before you use it."
    if license_name:
        said = f"License of the weights: {_escape(license_name)}."
    start = _find_start(background.recipe)
    if start:
        said += f" It started from `{start}`, whose license holds for it, too."
    said += " The clips that it was trained on have licenses of their own."
    made = f"tubelet {version('tubelet')}, PyTorch {torch.__version__}, Python {platform.python_version()}"
    return f"{said}\n\nThis card was written, and the files were checked, with {made}."


def _make_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fold(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _escape(text: str) -> str:
    """Keep a name from being read as Markdown or HTML."""
    return re.sub(r"([\\`*_|<>\[\]#&])", r"\\\1", " ".join(text.split()))
