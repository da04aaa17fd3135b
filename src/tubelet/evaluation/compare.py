"""Compare models: a table of any number of them, and for each two the clips on which they differ.

tubelet.compare(["runs/a", "runs/b"]).to_markdown()
tubelet.compare(["runs/a", "runs/b"]).pairs[0].difference.interval     ->  above 0: b is better
"""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tubelet import files
from tubelet.data.dataset import BadSample, Batch, ClipDataset, collate
from tubelet.data.loader import LoaderOptions
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample, quote_some
from tubelet.errors import ConfigError, DataError
from tubelet.evaluation.answers import Answers, collect_answers
from tubelet.evaluation.comparison import Comparison, Entry, Flip, Pair
from tubelet.evaluation.cost import Cost, measure_costs
from tubelet.evaluation.evaluate import number_groups, prepare_evaluation
from tubelet.metrics import compare_paired, estimate_share, mcnemar, measure_classification
from tubelet.report.figures import draw_contact_sheet

__all__ = ["Comparison", "compare"]

TIMED_CLIPS = 8
THUMBNAILS, THUMBNAIL_PX, MOST_FLIPS_SHOWN = 8, 112, 12


def compare(
    runs: Sequence[str | os.PathLike[str]],
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    split: str = "test",
    output: str | os.PathLike[str] | None = None,
    options: LoaderOptions | None = None,
    device: str = "auto",
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """Compare models: what each reaches and costs, and for each two whether the difference is more than chance.

    The run's own test predictions are taken where they are of the same clips; else the model is evaluated now. Speed is
    measured here, the models in turns. Two models are compared on the clips that both were asked about.

    Args:
        runs: each anything that `tubelet.load` takes.
        data: labelled clips for all of them; None: each is judged on the data it was trained on.
        split: `test`, `val` or `train`.
        output: folder for comparison.json, comparison.md, comparison.csv, and a picture of flipped clips for each pair.
        options: batch, workers, decoder.
        device: where the models run.
        on_step: called with clips scored and clips in all, for each model that is evaluated.

    Raises:
        ConfigError: no run, one that is named twice, or a multi-label model.
        DataError: no clips in the split, none that can be read, or other classes than a model's.
    """
    paths = [os.path.realpath(run) for run in runs]
    if not runs or len(set(paths)) < len(paths):
        raise ConfigError(f"cannot compare {quote_some([str(run) for run in runs]) or 'nothing'} - name each run once.")
    if output is not None:
        files.check_folder(output)
    options = options or LoaderOptions()
    found = [collect_answers(run, data, split, options=options, device=device, on_step=on_step) for run in runs]
    found = _name_apart(found, runs)
    costs = measure_costs([one.classifier for one in found], [_prepare_batch(one, options.decoder) for one in found])
    outcomes = [_compare_pair(first, second) for first, second in itertools.combinations(found, 2)]
    comparison = Comparison(
        tuple(_measure(one, cost) for one, cost in zip(found, costs, strict=True)),
        tuple(pair for pair in outcomes if isinstance(pair, Pair)),
        tuple(reason for reason in outcomes if isinstance(reason, str)),
        _remark(found),
    )
    if output is not None:
        _write(Path(output), comparison, found, options.decoder)
    return comparison


def _name_apart(found: Sequence[Answers], runs: Sequence[str | os.PathLike[str]]) -> list[Answers]:
    """Call runs by the last part of their path, or by all of it where that is not enough."""
    names = [one.name for one in found]
    return [
        one if names.count(one.name) == 1 else replace(one, name=os.fspath(run))
        for one, run in zip(found, runs, strict=True)
    ]


def _remark(found: Sequence[Answers]) -> tuple[str, ...]:
    own = [f"{one.name}: {remark}" for one in found for remark in one.remarks]
    if len({one.manifest.digest for one in found}) > 1:
        own.append("the runs were not tested on the same clips: only the lines of pairs compare them on the same ones.")
    return tuple(own)


def _prepare_batch(one: Answers, decoder: str) -> Batch:
    """Read some of the clips that were scored, to measure speed on."""
    spec = one.classifier.input_spec
    prepare = partial(prepare_evaluation, spec=spec)
    dataset = ClipDataset(one.scored.samples[:TIMED_CLIPS], one.manifest, spec, prepare, decoder=decoder)
    batch = collate([dataset[0, index] for index in range(len(dataset))], spec)
    if batch.bad:
        raise DataError(f"cannot measure speed - a clip that was scored before cannot be read: {batch.bad[0].message}")
    return batch


def _measure(one: Answers, cost: Cost) -> Entry:
    scored, labels = one.scored, np.asarray(one.scored.labels)
    metrics = measure_classification(scored.scores, labels, one.classifier.classes)
    groups = number_groups(scored.samples)[0]
    return Entry(
        name=one.name,
        accuracy=metrics.top1,
        interval=estimate_share(scored.scores.argmax(1) == labels, groups),
        top_k=metrics.top_k,
        k=metrics.k,
        macro_f1=metrics.macro.f1,
        n=len(labels),
        n_failed=len(scored.bad),
        cost=cost,
        size_mb=None if one.size_bytes is None else one.size_bytes / 1e6,
        is_stored=one.is_stored,
        data=one.manifest.origin,
        digest=one.manifest.digest,
    )


def _compare_pair(first: Answers, second: Answers) -> Pair | str:
    """Compare two models clip by clip, or say why that cannot be."""
    asked = f"cannot compare {first.name} with {second.name} clip by clip"
    lacking = sorted(set(first.classifier.classes) ^ set(second.classifier.classes))
    if lacking:
        return f"{asked} - only one of them knows {quote_some(lacking, 3)} - compare models of the same classes."
    answers, others = _list_answers(first), _list_answers(second)
    common = [name for name in answers if name in others and answers[name][0].label == others[name][0].label]
    if not common:
        return f"{asked} - they were tested on no clip in common - name the clips with --data."
    labels = [answers[name][0].label for name in common]
    given, later = ([source[name][1] for name in common] for source in (answers, others))
    right, right_later = np.array(given) == np.array(labels), np.array(later) == np.array(labels)
    groups, over = number_groups([answers[name][0] for name in common])
    difference = compare_paired(
        lambda rows: float(right[rows].mean()),
        lambda rows: float(right_later[rows].mean()),
        len(common),
        np.random.default_rng(0),
        groups=groups,
    )
    flips = [
        Flip(common[place], labels[place], given[place], later[place])
        for place in np.flatnonzero(right != right_later).tolist()
    ]
    return Pair(first.name, second.name, len(common), difference, over, mcnemar(right, right_later), tuple(flips))


def _list_answers(one: Answers) -> dict[str, tuple[Sample, str]]:
    """Give for each clip's name the sample, and what the model says it is."""
    classes = one.classifier.classes
    said = one.scored.scores.argmax(1).tolist()
    return {sample.name: (sample, classes[place]) for sample, place in zip(one.scored.samples, said, strict=True)}


def _write(folder: Path, comparison: Comparison, found: Sequence[Answers], decoder: str) -> None:
    """Write the tables, and for each pair a picture of clips that flipped."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "comparison.json", comparison.to_dict())
    files.write_text(folder / "comparison.md", comparison.to_markdown())
    files.write_text(folder / "comparison.csv", comparison.to_csv())
    by_name = {one.name: (place, one) for place, one in enumerate(found, 1)}
    for pair in comparison.pairs:
        (place, first), (later, _) = by_name[pair.first], by_name[pair.second]
        if pair.flips and first.classifier.input_spec.kind == "pixels":
            _draw_flips(pair, first, decoder, folder / f"flips_{place}_{later}.png")


def _draw_flips(pair: Pair, first: Answers, decoder: str, path: Path) -> None:
    """Draw clips that only one of two models has right, as many of either kind as there is room for."""
    ways = [[flip for flip in pair.flips if (flip.first == flip.label) == way] for way in (True, False)]
    half = MOST_FLIPS_SHOWN // 2
    rooms = (MOST_FLIPS_SHOWN - min(half, len(ways[1])), MOST_FLIPS_SHOWN - min(half, len(ways[0])))
    chosen = [flip for way, room in zip(ways, rooms, strict=True) for flip in way[:room]]
    samples = {sample.name: sample for sample in first.scored.samples}
    shown = _read_thumbnails([samples[flip.clip] for flip in chosen], first, decoder)
    rows = [(clip, flip) for clip, flip in zip(shown, chosen, strict=True) if clip is not None]
    captions = [
        f"{Path(flip.clip).name}: {flip.label}; {pair.first}: {flip.first}, {pair.second}: {flip.second}"
        for _, flip in rows
    ]
    if rows:
        draw_contact_sheet([clip for clip, _ in rows], captions, path)


def _read_thumbnails(
    samples: Sequence[Sample], one: Answers, decoder: str
) -> list[UInt8[np.ndarray, "time height width channel"] | None]:
    """Read a few small frames spread over each clip; None for one that cannot be read a second time."""
    spec = replace(one.classifier.input_spec, frames=THUMBNAILS, sampling="uniform", fit="crop", short_side=None)
    spec = replace(spec, height=THUMBNAIL_PX, width=THUMBNAIL_PX)
    prepare = partial(prepare_evaluation, spec=spec)
    dataset = ClipDataset(samples, one.manifest, spec, prepare, decoder=decoder)
    read = (dataset[0, index][1] for index in range(len(samples)))
    return [None if isinstance(clips, BadSample) else clips[0].numpy() for clips in read]
