"""Time what comes after the scoring of 1,000 videos: intervals, tables, pictures and report.html with its moving clips.

    python benchmarks/report.py CLIPS [--videos 1000] [--classes 101]

CLIPS is a folder of class folders; its clips are taken again and again, under made-up labels and scores. Printed:
seconds of each part, on the clock and of the processor, and the size of the page. The goal is 20 s and 10 MB.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from tubelet.data.catalogue import open_data
from tubelet.evaluation.page import write_report_page
from tubelet.evaluation.report import Report, Scored, write_report
from tubelet.evaluation.views import Views
from tubelet.metrics import estimate_headlines, measure_calibration, measure_classification
from tubelet.video.spec import InputSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips")
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=101)
    given = parser.parse_args()
    manifest = open_data(given.clips)
    names = [f"class {index}" for index in range(given.classes)]
    generator = np.random.default_rng(0)
    labels = generator.integers(0, given.classes, given.videos)
    scores = generator.dirichlet(np.full(given.classes, 0.1), given.videos)
    scores[np.arange(given.videos), labels] += 0.3
    scores /= scores.sum(1, keepdims=True)
    samples = tuple(
        replace(sample, label=names[label])
        for sample, label in zip(islice(cycle(manifest.samples), given.videos), labels, strict=True)
    )
    scored = Scored(scores, labels, samples, ())
    manifest = replace(manifest, samples=samples, classes=tuple(names))
    took: dict[str, tuple[float, float]] = {}

    def clock(part: str, work: Callable[[], object]) -> object:
        started, used = time.perf_counter(), time.process_time()
        done = work()
        took[part] = time.perf_counter() - started, time.process_time() - used
        return done

    intervals = clock("intervals", lambda: estimate_headlines(scores, labels))
    report = Report(
        metrics=measure_classification(scores, labels, names),
        intervals=intervals,
        interval_over="clips",
        calibration=measure_calibration(scores, labels),
        n=given.videos,
        n_failed=0,
        split="test",
        views=Views(),
        macs=None,
        decoder="pyav",
        precision="float32",
        data=given.clips,
        digest=manifest.digest,
        split_digest=manifest.digest,
        seconds=0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        clock("tables and pictures", lambda: write_report(Path(folder), report, scored, tuple(names)))
        clock("report.html", lambda: write_report_page(Path(folder), report, scored, manifest, InputSpec()))
        size_mb = (Path(folder) / "report.html").stat().st_size / 1e6
    took["all"] = sum(wall for wall, _ in took.values()), sum(used for _, used in took.values())
    print("| part | s | processor s |\n|---|---|---|")
    for part, (wall_s, processor_s) in took.items():
        print(f"| {part} | {wall_s:.1f} | {processor_s:.1f} |")
    print(f"\nreport.html: {size_mb:.1f} MB")


if __name__ == "__main__":
    main()
