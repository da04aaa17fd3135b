import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tubelet.video.clip import VideoInfo
from tubelet.video.sampling import plan
from tubelet.video.spec import InputSpec
from tubelet.video.speed import plan_at_speed

DENSE = InputSpec(frames=8, sampling="dense", stride=2)


def make_info(num_frames):
    return VideoInfo(num_frames, 240, 320, 24.0, num_frames / 24, "h264", 0)


def test_the_rate_of_the_recording_is_the_plan_itself():
    rows = plan_at_speed(make_info(100), DENSE, 1.0, training=True, generator=np.random.default_rng(3))
    np.testing.assert_array_equal(rows, plan(make_info(100), DENSE, training=True, generator=np.random.default_rng(3)))


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_a_dense_clip_covers_as_much_more_as_it_is_faster(speed):
    rows = plan_at_speed(make_info(400), DENSE, speed, training=True, generator=np.random.default_rng(0))[0]
    assert rows[-1] - rows[0] == pytest.approx(14 * speed, abs=1)
    assert set(np.diff(rows)) <= {int(2 * speed), int(2 * speed) + 1}


@given(st.integers(1, 60), st.floats(0.1, 5), st.sampled_from(["dense", "first", "uniform"]))
def test_every_frame_exists_and_none_comes_too_early(num_frames, speed, sampling):
    spec = InputSpec(frames=8, sampling=sampling)
    rows = plan_at_speed(make_info(num_frames), spec, speed, training=True, generator=np.random.default_rng(0))[0]
    assert rows.min() >= 0
    assert rows.max() < num_frames
    assert (np.diff(rows) >= 0).all()
