"""Measure timelines of clips of `moving-shapes` in a row, by hop and smoothing.

tubelet train moving-shapes --name shapes --recipe moving-shapes/i3d_nano
python benchmarks/timeline.py runs/shapes
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tubelet
from long_videos import write_long_videos
from tubelet.evaluation.timelines import evaluate_timelines, read_truth
from tubelet.prediction.timeline import predict_timeline

VIDEOS, SEGMENTS = 6, 10


def main(run: str) -> None:
    classifier = tubelet.load(run, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        truth = read_truth(write_long_videos(Path(folder), "moving-shapes", videos=VIDEOS, segments=SEGMENTS))
        paths = list(dict.fromkeys(span.video for span in truth))
        for hop_s in (0.125, 0.25, 0.5, 1.0):
            began_s = time.process_time()
            found = [predict_timeline(classifier, path, window_s=1.0, hop_s=hop_s) for path in paths]
            spent_s, shown_s = time.process_time() - began_s, sum(one.duration_s for one in found)
            print(f"hop {hop_s:g} s: {spent_s:.1f} processor seconds for {shown_s:.0f} s of video", flush=True)
            for smoothing_s in (0.0, 1.0, 1.5, 2.0, 3.0):
                metrics = evaluate_timelines([one.change(smoothing_s=smoothing_s) for one in found], truth)
                figures = ", ".join(f"{value:.3f} at {overlap:g}" for overlap, value in metrics.mean_ap.items())
                print(f"    smoothing {smoothing_s:g} s: mAP {figures}, {metrics.average_map:.3f} on average")


if __name__ == "__main__":
    main(*sys.argv[1:])
