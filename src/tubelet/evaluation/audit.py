"""Ask whether a model uses time: play the same clips shuffled, backward, frozen and at other rates.

tubelet.audit("runs/mine").verdict        ->  'order'
tubelet.audit("runs/mine").headline()     ->  '... one frame is enough: told by appearance'
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample
from tubelet.data.loader import LoaderOptions
from tubelet.data.manifest import Manifest
from tubelet.errors import ConfigError, name_nearest
from tubelet.evaluation.evaluate import number_groups
from tubelet.evaluation.opening import open_split
from tubelet.evaluation.orders import score_orders
from tubelet.evaluation.report import Scored
from tubelet.evaluation.verdict import WORDS, Change, Verdict, decide, estimate_change, estimate_class_change
from tubelet.metrics import Interval, estimate_share
from tubelet.prediction.load import load_classifier
from tubelet.report.intervals import Bar, Panel, draw_intervals

__all__ = ["ClassAudit", "TimeAudit", "audit"]

TITLES = {
    "ordered": "in order",
    "shuffled": "shuffled",
    "reversed": "backward",
    "frozen": "one frame, repeated",
    "halved": "every second frame",
    "slow": "half the speed",
    "fast": "twice the speed",
}
"""What people call each order."""

MAX_CLASSES = 40
"""Classes that the picture shows; of more, those that need motion most and least."""


@dataclass(frozen=True)
class ClassAudit:
    """State what a model needs to tell one class."""

    name: str
    clips: int
    recall: Mapping[str, float]
    """Share of its clips that are given its name, for each order of frames."""
    losses: Mapping[str, Change]
    """For each other order, how much less well the class is told: recall less false alarms, -1..1."""
    verdict: Verdict

    @property
    def needs_motion(self) -> Change:
        """How much less well the class is told from one frame."""
        return self.losses["frozen"]

    @property
    def needs_order(self) -> Change:
        """How much less well the class is told from shuffled frames."""
        return self.losses["shuffled"]


@dataclass(frozen=True)
class TimeAudit:
    """State how much of the accuracy hangs on the order of frames."""

    accuracy: Mapping[str, float]
    """For each order of frames; `ordered` is the clips as they are."""
    intervals: Mapping[str, Interval | None]
    """95 % interval of each accuracy, over clips (Wilson's) or whole groups of them (bootstrap)."""
    losses: Mapping[str, Change]
    """For each other order, how much accuracy is lost, on the same clips."""
    verdict: Verdict
    per_class: tuple[ClassAudit, ...]
    """Classes that have clips, in index order."""
    top1_reversed_partner: float | None
    """Share of backward clips given the label their motion has backward (up for down); None without known partners."""
    chance: float
    """Accuracy of the same answers given to clips at random."""
    n: int
    n_failed: int
    split: str
    data: str
    digest: str
    """Hash of the clips' names, labels and splits."""
    seconds: float
    failed: tuple[BadSample, ...] = ()
    remarks: tuple[str, ...] = ()
    """What makes the figures say less than they seem to."""

    @property
    def top1(self) -> float:
        """Accuracy on the clips as they are."""
        return self.accuracy["ordered"]

    @property
    def top1_shuffled(self) -> float:
        """Accuracy with the frames of each clip in random order."""
        return self.accuracy["shuffled"]

    def headline(self) -> str:
        """State the verdict and what it rests on in one line."""
        figures = ", ".join(f"{TITLES[order]} {share:.1%}" for order, share in self.accuracy.items())
        return f"{WORDS[self.verdict]} ({figures}; {self.n} clips of '{self.split}', {self.n_failed} failed)"

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values, the verdict first."""
        return {
            "verdict": self.verdict,
            "words": WORDS[self.verdict],
            "orders": {
                order: {"accuracy": share, "interval_95": _list_ends(self.intervals[order])}
                for order, share in self.accuracy.items()
            },
            "losses": _list_changes(self.losses),
            "top1_reversed_partner": self.top1_reversed_partner,
            **{key: getattr(self, key) for key in ("chance", "n", "n_failed", "split", "data", "digest")},
            "seconds": round(self.seconds, 2),
            "per_class": [
                {
                    "name": one.name,
                    "clips": one.clips,
                    "verdict": one.verdict,
                    "words": WORDS[one.verdict],
                    "recall": dict(one.recall),
                    "losses": _list_changes(one.losses),
                }
                for one in self.per_class
            ],
            "failed": [asdict(bad) for bad in self.failed],
            "remarks": list(self.remarks),
        }


def _list_changes(changes: Mapping[str, Change]) -> dict[str, dict[str, Any]]:
    return {
        order: {"value": change.value, "interval_95": _list_ends(change.interval)} for order, change in changes.items()
    }


def _list_ends(interval: Interval | None) -> tuple[float, float] | None:
    return None if interval is None else (interval.low, interval.high)


def audit(
    model: Classifier | str | os.PathLike[str],
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    split: str = "test",
    partners: Mapping[str, str] | None = None,
    output: str | os.PathLike[str] | None = None,
    options: LoaderOptions | None = None,
    device: str = "auto",
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> TimeAudit:
    """Measure accuracy with frames in order, shuffled, backward, frozen and at other rates, and say what that means.

    Why: a model may tell classes by what stands still, such as a lawn for football, which an accuracy does not show.
    Clips that were changed are unlike those the model was trained on, so that a loss may be surprise as well as need;
    where there is no loss, there is no need.

    Args:
        model: a classifier, or anything that `tubelet.load` takes.
        data: labelled clips, as a manifest or as anything that `train` takes; None: those the model was trained on.
        split: which of them.
        partners: for each class, the class its clips belong to when they are played backward.
        output: folder for audit.json and audit.png.
        options: batch, workers, decoder.
        device: where a model that is loaded runs.
        on_step: called with samples done and samples in all.

    Raises:
        DataError: no clips in the split, none that can be read, or other classes than the model's.
        ConfigError: a class without a partner, or a multi-label model.

    Cost: clips are decoded once and scored five times, seven where they are one stretch of a video.
    """
    started = time.perf_counter()
    if output is not None:
        files.check_folder(output)
    classifier = model if isinstance(model, Classifier) else load_classifier(model, device=device)
    _check_request(classifier, partners)
    opened = open_split(model, classifier, data, split, "audit")
    outcomes = score_orders(classifier, opened.samples, opened.manifest, options=options, on_step=on_step)
    ordered = outcomes["ordered"]
    opened.check_read(len(ordered.labels), ordered.bad, "audit")
    said: Answers = {order: scored.scores.argmax(1) for order, scored in outcomes.items()}
    found = TimeAudit(
        **_measure(said, ordered),
        per_class=_measure_classes(said, ordered, classifier.classes),
        top1_reversed_partner=_measure_partners(said["reversed"], ordered.labels, classifier.classes, partners),
        n=len(ordered.labels),
        n_failed=len(ordered.bad),
        split=split,
        data=opened.manifest.origin,
        digest=opened.manifest.digest,
        seconds=time.perf_counter() - started,
        failed=ordered.bad,
        remarks=(*opened.remarks, *_remark("fast" in outcomes)),
    )
    if output is not None:
        _write(Path(output), found)
    return found


def _check_request(classifier: Classifier, partners: Mapping[str, str] | None) -> None:
    if classifier.task == "multilabel":
        raise ConfigError(
            "cannot audit a multi-label model - an audit compares top-1 accuracies, and its clips have no one class - "
            "evaluate it: 'tubelet evaluate' measures mAP."
        )
    strangers = sorted(set(classifier.classes) - set(partners)) if partners else []
    if strangers:
        raise ConfigError(f"cannot audit with these partners - '{strangers[0]}' has none - name one for every class.")
    unknown = sorted(set(partners.values()) - set(classifier.classes)) if partners else []
    if unknown:
        near = name_nearest(unknown[0], classifier.classes)
        raise ConfigError(f"cannot audit with these partners - '{unknown[0]}' is no class of the model{near or '.'}")


Answers = Mapping[str, Int64[np.ndarray, " clip"]]
"""For each order, the class that each clip was given."""


def _measure(said: Answers, ordered: Scored) -> dict[str, Any]:
    """Measure the accuracies, what they lose, and what that means for all classes together."""
    labels, groups = np.asarray(ordered.labels), number_groups(ordered.samples)[0]
    right = {order: answers == labels for order, answers in said.items()}
    whole = right["ordered"].astype(np.float64)
    losses = {order: estimate_change(whole - right[order], groups) for order in said if order != "ordered"}
    size = max(labels.max(), said["ordered"].max()) + 1
    chance = (
        float(np.bincount(labels, minlength=size) @ np.bincount(said["ordered"], minlength=size)) / len(labels) ** 2
    )
    units = len(labels) if groups is None else len(np.unique(groups))
    return {
        "accuracy": {order: float(values.mean()) for order, values in right.items()},
        "intervals": {order: estimate_share(values, groups) for order, values in right.items()},
        "losses": losses,
        "verdict": decide(estimate_change(whole - chance, groups), losses, units),
        "chance": chance,
    }


def _measure_classes(said: Answers, ordered: Scored, classes: tuple[str, ...]) -> tuple[ClassAudit, ...]:
    labels, groups = np.asarray(ordered.labels), number_groups(ordered.samples)[0]
    found = []
    for place in np.unique(labels).tolist():
        is_own = labels == place
        given = {order: answers == place for order, answers in said.items()}
        skill = estimate_class_change(given["ordered"], np.zeros_like(is_own), is_own, groups)
        losses = {
            order: estimate_class_change(given["ordered"], later, is_own, groups)
            for order, later in given.items()
            if order != "ordered"
        }
        clips = int(is_own.sum())
        verdict = decide(skill, losses, clips if groups is None else len(np.unique(groups[is_own])))
        recall = {order: float(rows[is_own].mean()) for order, rows in given.items()}
        found.append(ClassAudit(classes[place], clips, recall, losses, verdict))
    return tuple(found)


def _measure_partners(
    backward: Int64[np.ndarray, " clip"], labels: Any, classes: tuple[str, ...], partners: Mapping[str, str] | None
) -> float | None:
    if not partners:
        return None
    partner_of = np.array([classes.index(partners[name]) for name in classes])
    return float((backward == partner_of[labels]).mean())


def _remark(has_speeds: bool) -> tuple[str, ...]:
    if has_speeds:
        return ()
    return ("other speeds were not tried: these clips are spread over the whole video, the same at any speed.",)


def _write(folder: Path, found: TimeAudit) -> None:
    """Write audit.json, and audit.png: each accuracy, and how much each class needs motion, with their intervals."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "audit.json", found.to_dict())
    orders = [
        Bar(TITLES[order], share, _list_ends(found.intervals[order]), f"{share:.1%}")
        for order, share in found.accuracy.items()
    ]
    ranked = sorted(found.per_class, key=lambda one: -one.needs_motion.value)
    half = MAX_CLASSES // 2
    shown = ranked if len(ranked) <= MAX_CLASSES else [*ranked[:half], *ranked[-half:]]
    classes = [
        Bar(one.name, change.value, _list_ends(change.interval), WORDS[one.verdict], one.verdict == "appearance")
        for one, change in ((one, one.needs_motion) for one in shown)
    ]
    left_out = f", the {half} most and the {half} least of {len(ranked)}" if len(shown) < len(ranked) else ""
    # From -25 % on, unless an interval begins below.
    lowest = min(
        [-0.25, *(math.floor(4 * one.needs_motion.interval.low) / 4 for one in shown if one.needs_motion.interval)]
    )
    draw_intervals(
        [
            Panel(f"accuracy: {WORDS[found.verdict]}", tuple(orders), (0.0, 1.0), (found.chance, "chance")),
            Panel(f"how much less well each class is told from one frame{left_out}", tuple(classes), (lowest, 1.0)),
        ],
        folder / "audit.png",
    )
