"""Show what a set holds: how many clips of each class, how long, how large, how fast, and what they look like."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tubelet import files
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import open_sample
from tubelet.data.examination import Examination, Examiner
from tubelet.data.health import examine_all
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.errors import DataError, TubeletError
from tubelet.report.figures import draw_class_distribution, draw_contact_sheet
from tubelet.report.histograms import draw_histograms
from tubelet.video.clip import Pixels
from tubelet.video.decoders import VOLUMES

__all__ = ["write_statistics"]

_FRAMES = 8
_MOST_CLASSES = 20


def write_statistics(
    data: str | os.PathLike[str],
    folder: str | Path,
    *,
    group_by: str | None = None,
    shown: int = 3,
    workers: int = 2,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> str:
    """Write stats.json, class_distribution.png, histograms.png and contact_sheet.png.

    Args:
        data: a folder of class folders, a manifest, an .npz file, or a name of the catalogue.
        folder: made if need be.
        group_by: column whose values belong together.
        shown: clips of each class on the contact sheet, for up to 20 classes.
        workers: processes that open clips.
        on_step: called with (done, total) after each clip.

    Returns:
        What a person should know, in one line.

    Raises:
        DataError: no clip can be read.
    """
    folder = Path(folder)
    manifest = open_data(data, group_by=group_by, split_if_missing=False)
    examinations: list[Examination] = []
    for done, examination in enumerate(examine_all(manifest.samples, workers, Examiner()), 1):
        examinations.append(examination)
        on_step(done, len(manifest.samples))
    infos = [examination.info for examination in examinations if examination.info is not None]
    if not infos:
        raise DataError(
            f"cannot show {manifest.origin} - none of its {len(examinations)} clips can be read - check it."
        )
    # Arrays, images and volumes have no times of their own: those that are assumed are no fact about the set.
    timed = [info for info in infos if info.codec not in ("raw", "images", "features", *VOLUMES)]
    codecs = {info.codec for info in timed}
    values = {
        "seconds": [
            sample.measure_s(own.info.duration_s)
            for sample, own in zip(manifest.samples, examinations, strict=True)
            if own.info is not None and own.info.codec in codecs
        ],
        "frames": [float(info.num_frames) for info in infos],
        "frames a second": [info.fps for info in timed],
        "short side in pixels": [float(min(info.height, info.width)) for info in infos],
    }
    facts: dict[str, Any] = {
        "origin": manifest.origin,
        "clips": len(manifest.samples),
        "readable": len(infos),
        "counts": manifest.counts(),
        "codecs": dict(Counter(info.codec for info in infos)),
        "sizes": dict(Counter(f"{info.width}x{info.height}" for info in infos).most_common(20)),
        "groups": len({sample.group for sample in manifest.samples if sample.group is not None}),
        **{name: _summarize(numbers) for name, numbers in values.items() if numbers},
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "stats.json", facts)
    draw_class_distribution(manifest.counts(), folder / "class_distribution.png")
    draw_histograms(values, folder / "histograms.png")
    _draw_sheet(manifest, shown, folder / "contact_sheet.png")
    unread = len(examinations) - len(infos)
    failed = f", {unread} could not be read ('tubelet data check' names them)" if unread else ""
    unit = "seconds" if timed else "frames"
    length = facts[unit]
    return (
        f"{len(infos):,} clips of {len(manifest.classes)} classes{failed}; {length['median']:.4g} {unit} in the middle "
        f"({length['least']:.4g} to {length['most']:.4g}); written to {folder}"
    )


def _summarize(numbers: Sequence[float]) -> dict[str, float]:
    return {
        "least": float(min(numbers)),
        "median": float(np.median(numbers)),
        "mean": float(np.mean(numbers)),
        "most": float(max(numbers)),
    }


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Choose samples from all over a list: neighbors are often cut from one recording."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def _draw_sheet(manifest: Manifest, shown: int, path: Path) -> None:
    clips: list[Pixels] = []
    captions: list[str] = []
    for name in manifest.classes[:_MOST_CLASSES]:
        own = [sample for sample in manifest.samples if name in sample.labels and sample.features is None]
        for sample in _spread(own, shown):
            try:
                with open_sample(sample) as video:
                    places = np.linspace(0, video.info.num_frames - 1, _FRAMES).round().astype(int)
                    clips.append(video.frames_at(places.tolist()).pixels)
            except TubeletError:
                continue  # counted above as unreadable
            captions.append(f"{name}: {manifest.short_name(sample)}")
    if clips:
        draw_contact_sheet(clips, captions, path)
