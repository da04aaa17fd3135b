"""Time reading a set before and after `tubelet data prepare`: size on disk, and clips a second through `ClipDataset`.

    python benchmarks/prepare.py [DATA] [--short-side 128] [--frames 16] [--side 112] [--rounds 3]

Each edition is made in a temporary folder and read by one process and one thread, all clips of the set in turn; the
editions take turns within each round, so that a noisy machine disturbs all alike. The median round counts, in
processor time: what a disk would add is not in it. Without DATA it makes simple clips of its own.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tubelet.data.catalogue import open_data
from tubelet.data.dataset import BadSample, ClipDataset
from tubelet.data.edition import Edition, make_edition
from tubelet.data.manifest import Manifest
from tubelet.data.rendition import FrameStore, Rendition
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.video.encoding import Encoding
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic import make_world


def main() -> None:
    options = parse_options()
    side, frames = options.short_side, options.frames
    wishes: dict[str, tuple[Rendition | None, int | None]] = {
        "--tar": (None, 10**9),
        f"--short-side {side} --gop 12": (Encoding(side, gop=12, crf=20), None),
        f"--short-side {side} --gop 12 --tar": (Encoding(side, gop=12, crf=20), 10**9),
        f"--short-side {side} --frames {frames}": (FrameStore(frames, short_side=side), None),
        f"--short-side {side} --frames {frames} --tar": (FrameStore(frames, short_side=side), 10**9),
        f"--short-side {side} --frames {frames} --store npz": (FrameStore(frames, store="npz", short_side=side), None),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or make_world("speed", Path(folder) / "world", clips=40, frames=120, height=240, width=320)
        editions: dict[str, tuple[Edition | None, float]] = {"as it is": (None, 0.0)}
        sources: dict[str, Manifest] = {"as it is": open_data(data, split_if_missing=False)}
        for number, (name, (rendition, shard_bytes)) in enumerate(wishes.items()):
            start_s = time.perf_counter()
            output = Path(folder) / str(number)
            edition = make_edition(data, output, rendition, shard_bytes=shard_bytes, workers=1)
            editions[name] = edition, time.perf_counter() - start_s
            sources[name] = open_data(edition.path or "", split_if_missing=False)
        spec = InputSpec(frames=frames, height=options.side, width=options.side)
        took: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(options.rounds):
            for name, manifest in sources.items():
                took[name].append(read_all(manifest, spec))
        print_table(editions, took)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--short-side", type=int, default=128)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=112, help="of the model's input, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def read_all(manifest: Manifest, spec: InputSpec) -> float:
    """Read one clip of each sample as a training would; return the seconds of processor time it took."""
    prepare = partial(prepare_evaluation, spec=spec)
    dataset = ClipDataset(manifest.samples, manifest, spec, prepare, is_training=True)
    start_s = time.process_time()
    for index in range(len(dataset)):
        clips = dataset[0, index][1]
        if isinstance(clips, BadSample):
            raise SystemExit(clips.message)
    return time.process_time() - start_s


def print_table(editions: dict[str, tuple[Edition | None, float]], took: dict[str, Sequence[float]]) -> None:
    before = next(edition for edition, _ in editions.values() if edition is not None)
    print(f"{'edition':<44} {'made in':>8} {'MB':>8} {'clips/s':>8} {'speed':>6}")
    usual_s = statistics.median(took["as it is"])
    for name, (edition, made_s) in editions.items():
        size_bytes = before.bytes_before if edition is None else edition.bytes_after
        read_s = statistics.median(took[name])
        rate = before.clips / read_s
        print(f"{name:<44} {made_s:>6.1f} s {size_bytes / 1e6:>8.1f} {rate:>8.1f} {usual_s / read_s:>5.2f}x")


if __name__ == "__main__":
    main()
