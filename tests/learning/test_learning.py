"""Hold every model family to learning motion from scratch, by the recipe that ships, on clips it has never seen.

Each family gets the recipe that `tubelet train moving-shapes --model NAME` starts from, and must reach its floor.

Models that average over frames are blind to their order: they must stay below half, which is what a perfect guess at
the kind of motion and a coin for its direction would reach. They get plain pixels: a frame difference holds two frames,
so with it a single moment tells the direction. Expect chance, not half: every single frame has the same distribution in
every class, so that its average over a clip tells next to nothing.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

import tubelet
from tubelet.config import override
from tubelet.recipes.small import make_moving_shapes

# Clips are rendered at the first call and found again afterwards: every test of a process has the same cache folder.
DATA = "moving-shapes"
PLAIN = {"input.differences": "none", "input.frames": 8, "input.sampling": "dense", "training.epochs": 2}


@dataclass(frozen=True)
class Case:
    """State what a model must reach, and what of its recipe is changed for it."""

    model: str
    floor: float = 0.0
    ceiling: float = 1.0
    changes: dict[str, Any] = field(default_factory=dict)


def blind(model: str, **changes) -> Case:
    """Make the case of a model that cannot tell the order of frames."""
    leaves = {f"model.changes.{key}": value for key, value in changes.items()}
    return Case(model, 0.0, 0.55, {**PLAIN, **leaves})


CASES = {
    "vivit-factorized-encoder": Case("vivit_nano_factorized_encoder", 0.95),
    "vivit-joint": Case("vivit_nano_joint", 0.95),
    "vivit-factorized-attention": Case("vivit_nano_factorized_attention", 0.95),
    "vivit-factorized-dot-product": Case("vivit_nano_factorized_dot_product", 0.95),
    "i3d": Case("i3d_nano", 0.95),
    "timesformer-divided": Case("timesformer_nano_divided", 0.90),
    "timesformer-joint": Case("timesformer_nano_joint", 0.90),
    "timesformer-local-global": Case("timesformer_nano_local_global", 0.90),
    "timesformer-axial": Case("timesformer_nano_axial", 0.90),
    "videomae": Case("videomae_nano", 0.90),
    "vjepa2": Case("vjepa2_nano", 0.90),
    "frame-transformer": Case("frame_transformer_nano", 0.85),
    "cnn-transformer": Case("cnn_transformer_nano", 0.85),
    "cnn-gru": Case("cnn_gru_nano", 0.85),
    "cnn-lstm": Case("cnn_lstm_nano", 0.85),
    "blind-timesformer": blind("timesformer_nano_space_only"),
    "blind-vivit": blind("vivit_nano_factorized_encoder", temporal_depth=0, tubelet=(1, 8, 8)),
    "blind-frame-transformer": blind("frame_transformer_nano", position="none"),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_motion_is_learned_from_scratch_where_time_is_seen(name, tmp_path, record_property):
    case = CASES[name]
    recipe = override(make_moving_shapes(case.model), case.changes)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    report = tubelet.train(recipe=recipe, name="run", runs=tmp_path).report
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    line = f"{name}: top-1 {report.metrics.top1:.3f} on {report.n} clips, {recipe.training.epochs} epochs, "
    print(f"\n{line}{wall_s:.0f} s, {cpu_s:.0f} s of processors")
    record_property("top1", report.metrics.top1)
    assert (report.n, report.n_failed) == (400, 0)
    assert case.floor <= report.metrics.top1 <= case.ceiling
