"""Walk the main road once: make labelled clips, train a ViViT on them, and ask whether it sees time.

    python examples/demo.py          about three minutes on two CPU cores; may be run twice

The clips show eight motions (up, down, left, right, two rotations, two zooms). No single frame tells them apart, frames
in random order tell the kind of motion but not its direction, and a clip played backward shows the opposite motion: so
the three figures at the end say whether the model learned what it should.
"""

import time
from pathlib import Path

import tubelet
from tubelet.cli.progress import Terminal
from tubelet.data.catalogue import open_data
from tubelet.evaluation.audit import audit
from tubelet.files import write_json
from tubelet.recipes.small import make_moving_shapes
from tubelet.video.synthetic import WORLDS

DATA = "moving-shapes"


def main() -> None:
    """Train `runs/demo` and write its report.json."""
    started = time.perf_counter()
    with Terminal() as terminal:
        run = tubelet.train(DATA, recipe=make_moving_shapes(), name="demo", overwrite=True, listener=terminal).folder
    outcome = audit(tubelet.load(run), open_data(DATA), partners=WORLDS[DATA].partners)
    report = {
        "top1": outcome.top1,
        "top1_shuffled": outcome.top1_shuffled,
        "top1_reversed_partner": outcome.top1_reversed_partner,
        "n": outcome.n,
        "n_failed": outcome.n_failed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    (run / "report.json").replace(run / "evaluation.json")
    write_json(run / "report.json", report)
    print(f"right on {outcome.top1:.1%} of {outcome.n} clips it has never seen ({outcome.n_failed} could not be read),")
    print(f"on {outcome.top1_shuffled:.1%} with their frames in random order,")
    print(f"and {outcome.top1_reversed_partner:.1%} of them, played backward, get the label of the opposite motion.")
    print(f"{report['seconds']} s; everything is in {run}: {', '.join(sorted(path.name for path in run.iterdir()))}")
    clip = next(Path(sample.source) for sample in open_data(DATA).select("test"))
    print(f"try: tubelet predict {run} {clip}")


if __name__ == "__main__":
    main()
