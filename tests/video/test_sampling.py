import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tubelet.errors import ConfigError, FrameOutOfRange
from tubelet.video import sampling
from tubelet.video.clip import VideoInfo
from tubelet.video.sampling import crop_offsets, plan
from tubelet.video.spec import InputSpec

SAMPLINGS = ["uniform", "linspace", "dense", "random", "first"]
CONVENTIONS = ["mmaction2", "slowfast", "videomae", "dmvr"]
COMBINATIONS = [(name, convention) for name in SAMPLINGS for convention in CONVENTIONS]


def video(num_frames: int, fps: float = 25.0) -> VideoInfo:
    return VideoInfo(num_frames, 240, 320, fps, num_frames / fps if fps else 0.0, "h264", 0)


def spec(sampling: str, convention: str, frames: int, **changes) -> InputSpec:
    return InputSpec(frames=frames, sampling=sampling, convention=convention, **changes)


def draw(wish: InputSpec, num_frames: int, times: int, views: int = 1) -> np.ndarray:
    generator = np.random.default_rng(7)
    rows = [plan(video(num_frames), wish, views=views, training=True, generator=generator) for _ in range(times)]
    return np.stack(rows)


def starts(wish: InputSpec, num_frames: int, views: int, fps: float = 25.0) -> list[int]:
    return plan(video(num_frames, fps), wish, views=views)[:, 0].tolist()


def steps(first: int, last: int, step: int = 1) -> list[int]:
    return list(range(first, last + 1, step))


@pytest.mark.parametrize(
    ("convention", "frames", "changes", "num_frames", "views", "expected"),
    [
        ("mmaction2", 16, {"stride": 4}, 250, 1, [94]),
        ("mmaction2", 16, {"stride": 4}, 250, 5, [0, 47, 94, 142, 189]),
        ("mmaction2", 16, {"stride": 4}, 250, 10, [0, 21, 42, 63, 84, 105, 126, 147, 168, 189]),
        ("mmaction2", 16, {"rate_fps": 7.5}, 300, 10, [26 * k for k in range(10)]),
        ("mmaction2", 16, {"rate_fps": 7.5}, 300, 1, [118]),
        ("slowfast", 16, {"stride": 4}, 300, 10, [0, 23, 47, 70, 94, 118, 141, 165, 188, 212]),
        ("slowfast", 16, {"rate_fps": 7.5}, 300, 10, [0, 23, 47, 70, 94, 118, 141, 165, 188, 212]),
        ("videomae", 16, {"stride": 4}, 250, 5, [0, 44, 92, 140, 188]),
        ("videomae", 16, {"stride": 4}, 300, 5, [0, 56, 116, 176, 236]),
        ("videomae", 16, {"stride": 4}, 186, 5, [0, 28, 60, 92, 124]),
        ("videomae", 16, {"stride": 4}, 40, 5, [0, 0, 0, 0, 0]),
        ("videomae", 16, {"stride": 4}, 250, 1, [92]),
        ("dmvr", 32, {"stride": 2}, 250, 4, [0, 62, 124, 186]),
        ("dmvr", 32, {"stride": 2}, 250, 1, [93]),
        ("dmvr", 32, {"stride": 2}, 300, 4, [0, 78, 157, 236]),
        ("dmvr", 32, {"stride": 2}, 251, 1, [93]),
        ("slowfast", 8, {"stride": 32}, 299, 1, [21]),
        ("mmaction2", 16, {"stride": 4}, 40, 5, [0, 0, 0, 0, 0]),
        ("dmvr", 16, {"stride": 4}, 40, 3, [0, 0, 0]),
        ("dmvr", 16, {"stride": 4}, 64, 3, [0, 0, 0]),
    ],
)
def test_dense_views_must_start_where_the_convention_starts_them(
    convention, frames, changes, num_frames, views, expected
):
    assert starts(spec("dense", convention, frames, **changes), num_frames, views, fps=30.0) == expected


@pytest.mark.parametrize(
    ("convention", "frames", "changes", "num_frames", "fps", "views", "view", "expected"),
    [
        ("mmaction2", 8, {"stride": 32}, 300, 30.0, 1, 0, steps(37, 261, 32)),
        ("mmaction2", 16, {"stride": 4, "short": "loop"}, 40, 30.0, 1, 0, [*steps(0, 36, 4), 0, 4, 8, 12, 16, 20]),
        ("mmaction2", 16, {"stride": 4}, 40, 30.0, 1, 0, [*steps(0, 36, 4), *[36] * 6]),
        ("mmaction2", 4, {"rate_fps": 7.5}, 13, 30.0, 1, 0, [0, 5, 10, 12]),
        (
            *("slowfast", 16, {"stride": 4}, 300, 30.0, 10, 0),
            [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63],
        ),
        (
            *("slowfast", 16, {"stride": 4}, 300, 30.0, 10, 9),
            [212, 216, 220, 225, 229, 233, 237, 241, 246, 250, 254, 258, 262, 267, 271, 275],
        ),
        (
            *("slowfast", 16, {"rate_fps": 7.5}, 250, 25.0, 10, 0),
            [0, 3, 6, 10, 13, 17, 20, 24, 27, 31, 34, 38, 41, 45, 48, 52],
        ),
        ("slowfast", 8, {"stride": 32}, 300, 30.0, 2, 0, [0, 36, 72, 109, 145, 182, 218, 255]),
        ("slowfast", 8, {"stride": 32}, 300, 30.0, 1, 0, [22, 58, 94, 131, 167, 204, 240, 277]),
        ("slowfast", 8, {"rate_fps": 0.9375}, 300, 30.0, 1, 0, [22, 58, 94, 131, 167, 204, 240, 277]),
        (
            *("slowfast", 16, {"stride": 4}, 40, 30.0, 1, 0),
            [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, *[39] * 6],
        ),
        ("videomae", 16, {"stride": 4}, 250, 30.0, 5, 4, steps(188, 248, 4)),
        ("videomae", 16, {"stride": 4}, 40, 30.0, 5, 2, [*steps(0, 36, 4), *[36] * 6]),
        ("videomae", 4, {"stride": 3, "short": "loop"}, 5, 30.0, 1, 0, [0, 3, 0, 3]),
        ("dmvr", 32, {"stride": 2, "short": "loop"}, 50, 30.0, 1, 0, [*steps(0, 48, 2), *steps(0, 12, 2)]),
        ("dmvr", 32, {"stride": 2}, 300, 30.0, 4, 3, steps(236, 298, 2)),
    ],
)
def test_dense_frames_must_follow_the_convention(convention, frames, changes, num_frames, fps, views, view, expected):
    rows = plan(video(num_frames, fps), spec("dense", convention, frames, **changes), views=views)
    assert rows[view].tolist() == expected


def test_views_of_a_short_video_must_not_move():
    rows = plan(video(40), spec("dense", "slowfast", 16, stride=4), views=10)
    assert len(np.unique(rows, axis=0)) == 1


def test_a_rate_of_one_fifth_must_take_every_fifth_frame():
    assert 23.976 / 4.7952 < 5
    rows = plan(video(100, 23.976), spec("dense", "dmvr", 8, rate_fps=4.7952), views=2)
    assert rows[0].tolist() == steps(0, 35, 5)


def test_mmaction2_with_a_rate_must_be_offset_sampling_of_slowfast():
    rows = plan(video(300, 30.0), spec("dense", "mmaction2", 16, rate_fps=7.5), views=10)
    assert rows[9, [0, 5, 15]].tolist() == [234, 234 + 21, 234 + 63]


@pytest.mark.parametrize(
    ("sampling_name", "convention", "frames", "num_frames", "views", "expected"),
    [
        ("uniform", "mmaction2", 8, 250, 1, [[15, 46, 78, 109, 140, 171, 203, 234]]),
        ("uniform", "mmaction2", 8, 10, 1, [[0, 1, 3, 4, 5, 6, 8, 9]]),
        ("uniform", "mmaction2", 8, 5, 1, [[0, 0, 1, 2, 2, 3, 4, 4]]),
        (
            *("uniform", "mmaction2", 8, 48, 2),
            [[1, 7, 13, 19, 25, 30, 36, 42], [3, 9, 15, 21, 27, 32, 38, 44]],
        ),
        ("uniform", "slowfast", 8, 48, 1, [[3, 9, 15, 21, 26, 32, 38, 44]]),
        ("uniform", "slowfast", 2, 13, 2, [[2, 8], [4, 10]]),
        ("uniform", "videomae", 16, 48, 2, [steps(0, 45, 3), steps(1, 46, 3)]),
        ("uniform", "videomae", 16, 48, 1, [steps(1, 46, 3)]),
        ("uniform", "dmvr", 8, 250, 1, [[15, 46, 78, 109, 140, 171, 203, 234]]),
        ("random", "mmaction2", 8, 250, 1, [[15, 46, 78, 109, 140, 171, 203, 234]]),
        ("linspace", "mmaction2", 8, 48, 1, [[0, 6, 13, 20, 26, 33, 40, 47]]),
        ("linspace", "slowfast", 3, 11, 2, [[0, 4, 8], [2, 6, 10]]),
        ("first", "mmaction2", 20, 79, 1, [steps(0, 19)]),
        ("first", "mmaction2", 4, 11, 3, [steps(0, 3), steps(4, 7), steps(7, 10)]),
        ("first", "mmaction2", 5, 3, 1, [[0, 1, 2, 2, 2]]),
    ],
)
def test_frames_over_the_whole_video_must_follow_the_convention(
    sampling_name, convention, frames, num_frames, views, expected
):
    assert plan(video(num_frames), spec(sampling_name, convention, frames), views=views).tolist() == expected


def test_first_must_loop_where_asked():
    assert plan(video(3), spec("first", "dmvr", 5, short="loop")).tolist() == [[0, 1, 2, 0, 1]]


def test_uniform_sample_of_one_view_must_stand_in_the_middle_of_each_segment():
    request = sampling._Request(48, 8, 1.0, 1, "repeat_last", False)
    assert sampling._segment_parts(request).tolist() == [[2, 8, 14, 20, 26, 31, 37, 43]]


@pytest.mark.parametrize(("num_frames", "frames"), [(154, 64), (162, 64), (976, 12)])
def test_whole_positions_must_not_fall_below_themselves(num_frames, frames):
    ends = np.arange(frames) * (num_frames - 1) // (frames - 1)
    centers = (2 * np.arange(frames) + 1) * num_frames // (2 * frames)
    assert plan(video(num_frames), spec("linspace", "dmvr", frames))[0].tolist() == ends.tolist()
    assert plan(video(num_frames), spec("uniform", "dmvr", frames))[0].tolist() == centers.tolist()


@pytest.mark.parametrize(
    ("convention", "num_frames", "last_start"),
    [
        ("mmaction2", 80, 16),
        ("mmaction2", 250, 186),
        ("videomae", 80, 15),
        ("dmvr", 80, 19),
        ("dmvr", 61, 0),
        ("dmvr", 40, 0),
        ("mmaction2", 64, 0),
        ("mmaction2", 63, 0),
        ("mmaction2", 40, 0),
    ],
)
def test_dense_training_must_draw_every_start_and_no_other(convention, num_frames, last_start):
    found = draw(spec("dense", convention, 16, stride=4), num_frames, 10 * last_start + 200)[:, 0, 0]
    assert sorted(set(found.tolist())) == steps(0, last_start)


def test_dense_dmvr_training_at_a_rate_must_draw_every_start_that_leaves_room():
    found = draw(spec("dense", "dmvr", 5, rate_fps=10.0), 20, 200)
    assert sorted(set(found[:, 0, 0].tolist())) == steps(0, 9)
    assert found.max() == 19


def test_dense_mmaction2_training_must_stay_within_the_clip_it_reserves():
    rows = draw(spec("dense", "mmaction2", 16, stride=4), 250, 500)[:, 0]
    assert (np.diff(rows, axis=1) == 4).all()
    assert rows.max() <= 246


def test_dense_mmaction2_training_must_draw_each_view_in_its_own_part():
    found = draw(spec("dense", "mmaction2", 4, stride=2), 28, 300, views=3)[:, :, 0]
    assert [sorted(set(column.tolist())) for column in found.T] == [steps(0, 6), steps(7, 13), steps(14, 20)]
    assert len(np.unique(found % 7, axis=0)) > 100


def test_dense_mmaction2_training_must_sort_starts_where_parts_are_empty():
    found = draw(spec("dense", "mmaction2", 4, stride=2), 10, 500, views=8)[:, :, 0]
    assert sorted(set(found.ravel().tolist())) == [0, 1, 2]
    assert (np.diff(found, axis=1) >= 0).all()
    assert len(np.unique(found, axis=0)) > 5


def test_dense_mmaction2_training_must_spread_starts_where_views_outnumber_frames():
    found = draw(spec("dense", "mmaction2", 2, stride=2), 6, 20, views=8)[:, :, 0]
    assert (found == np.rint(np.arange(8) * 3 / 8)).all()


def test_dense_mmaction2_training_must_start_a_short_video_at_its_first_frame():
    assert (draw(spec("dense", "mmaction2", 16, stride=4), 40, 5, views=8)[:, :, 0] == 0).all()


def test_dense_slowfast_training_must_draw_a_real_start():
    wish = spec("dense", "slowfast", 16, stride=4)
    rows = plan(video(300), wish, views=3, training=True, generator=np.random.default_rng(3))
    begin = np.random.default_rng(3).uniform(0, 236, 3)
    assert rows.tolist() == [np.linspace(b, b + 63, 16).astype(int).tolist() for b in begin]


def test_dense_videomae_training_must_stretch_over_the_whole_span():
    rows = draw(spec("dense", "videomae", 16, stride=4), 65, 3)
    expected = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]
    assert (rows == np.array(expected)).all()


@pytest.mark.parametrize(
    ("short", "tail"),
    [("repeat_last", [39] * 6), ("loop", [0, 4, 8, 13, 17, 22])],
)
def test_dense_videomae_training_must_fill_a_short_video(short, tail):
    rows = draw(spec("dense", "videomae", 16, stride=4, short=short), 40, 1)[0]
    assert rows.tolist() == [[0, 4, 8, 13, 17, 22, 26, 31, 35, 39, *tail]]


def test_dense_videomae_training_must_take_the_last_frame_of_a_video_below_one_stride():
    assert draw(spec("dense", "videomae", 3, stride=4), 3, 1)[0].tolist() == [[2, 2, 2]]


def test_uniform_mmaction2_training_must_draw_within_equal_parts_and_leave_the_rest():
    rows = draw(spec("uniform", "mmaction2", 8), 250, 800)[:, 0]
    for slot, column in enumerate(rows.T):
        assert sorted(set(column.tolist())) == steps(31 * slot, 31 * slot + 30)


def test_uniform_slowfast_training_must_draw_both_ends_of_a_segment():
    rows = draw(spec("uniform", "slowfast", 8), 48, 400)[:, 0]
    edges = [0, 6, 12, 18, 24, 29, 35, 41, 47]
    for slot, column in enumerate(rows.T):
        assert sorted(set(column.tolist())) == steps(edges[slot], edges[slot + 1])


def test_uniform_videomae_training_must_draw_within_equal_parts():
    rows = draw(spec("uniform", "videomae", 16), 50, 200)[:, 0]
    for slot, column in enumerate(rows.T):
        assert sorted(set(column.tolist())) == steps(3 * slot, 3 * slot + 2)


def test_uniform_videomae_training_must_spread_a_short_video():
    assert draw(spec("uniform", "videomae", 8), 5, 1)[0].tolist() == [[0, 0, 1, 1, 2, 3, 3, 4]]


def test_random_training_must_take_different_frames_and_reach_all():
    rows = draw(spec("random", "mmaction2", 6), 20, 300, views=2)
    assert (np.diff(rows, axis=2) > 0).all()
    assert set(rows.ravel().tolist()) == set(range(20))
    assert not (rows[:, 0] == rows[:, 1]).all()


def test_random_training_must_keep_all_frames_of_a_short_video():
    assert draw(spec("random", "mmaction2", 5), 3, 1)[0].tolist() == [[0, 1, 2, 2, 2]]


# Fields, not an InputSpec: beartype looks at random items while one is built, which Hypothesis forbids in strategies.
wishes = st.fixed_dictionaries(
    {
        "sampling": st.sampled_from(SAMPLINGS),
        "convention": st.sampled_from(CONVENTIONS),
        "frames": st.integers(1, 40),
        "stride": st.integers(1, 12),
        "rate_fps": st.none() | st.floats(0.1, 120.0),
        "short": st.sampled_from(["repeat_last", "loop"]),
    }
)


@given(wishes, st.integers(1, 400), st.integers(1, 8), st.booleans(), st.integers(0, 99), st.floats(1.0, 120.0))
@settings(max_examples=400, deadline=None)
@example({"sampling": "dense", "convention": "slowfast", "rate_fps": 120.0}, 3, 2, False, 0, 1.0)
@example({"sampling": "dense", "convention": "videomae", "stride": 9}, 1, 3, True, 0, 25.0)
@example({"sampling": "uniform", "convention": "mmaction2"}, 1, 1, True, 0, 25.0)
def test_plans_must_stay_in_the_video_and_repeat_themselves(fields, num_frames, views, training, seed, fps):
    wish = InputSpec(**fields)

    def make() -> np.ndarray:
        generator = np.random.default_rng(seed)
        return plan(video(num_frames, fps), wish, views=views, training=training, generator=generator)

    rows = make()
    assert rows.shape == (views, wish.frames)
    assert rows.dtype == np.int64
    assert rows.min() >= 0
    assert rows.max() < num_frames
    assert (rows == make()).all()
    if wish.short == "repeat_last":
        assert (np.diff(rows, axis=1) >= 0).all()


@given(wishes, st.integers(1, 400), st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_evaluation_must_move_forward_from_view_to_view_and_draw_nothing(fields, num_frames, views):
    wish = InputSpec(**fields)
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    wish = replace(wish, short="repeat_last")
    rows = plan(video(num_frames), wish, views=views, generator=generator)
    assert generator.bit_generator.state == before
    assert (rows == plan(video(num_frames), wish, views=views)).all()
    assert (np.diff(rows, axis=0) >= 0).all()


@pytest.mark.parametrize(("name", "convention"), COMBINATIONS)
@pytest.mark.parametrize("training", [False, True])
def test_views_of_a_long_video_must_differ(name, convention, training):
    generator = np.random.default_rng(1)
    rows = plan(video(300), spec(name, convention, 8, stride=2), views=3, training=training, generator=generator)
    assert len(np.unique(rows, axis=0)) == 3


@pytest.mark.parametrize(
    ("name", "convention"), [pair for pair in COMBINATIONS if pair[0] not in ("first", "linspace")]
)
def test_training_must_draw_anew_from_the_same_generator(name, convention):
    rows = draw(spec(name, convention, 8, stride=2), 300, 2)
    assert (rows[0] != rows[1]).any()


@given(
    st.sampled_from(CONVENTIONS),
    st.integers(1, 32),
    st.floats(0.5, 60.0),
    st.integers(1, 400),
    st.sampled_from([24.0, 25.0, 29.97, 30.0]),
    st.sampled_from([1, 2, 5]),
)
@settings(max_examples=300, deadline=None)
def test_a_rate_must_give_the_same_moments_of_a_copy_at_twice_the_frame_rate(
    convention, frames, rate, num_frames, fps, views
):
    wish = spec("dense", convention, frames, rate_fps=rate)
    slow = plan(video(num_frames, fps), wish, views=views) / fps
    fast = plan(video(2 * num_frames, 2 * fps), wish, views=views) / (2 * fps)
    bound = np.full(views, 1.5)
    if convention == "mmaction2":
        bound = np.maximum(bound, 1 + np.arange(views) / 2)
    assert (np.abs(slow - fast).max(axis=1) * fps <= bound + 1e-9).all()


@pytest.mark.parametrize("convention", ["slowfast", "videomae", "dmvr"])  # mmaction2 spreads frames anew at a rate
@pytest.mark.parametrize("training", [False, True])
def test_a_rate_equal_to_the_frame_rate_over_the_stride_must_equal_the_stride(convention, training):
    def make(**changes) -> np.ndarray:
        wish = spec("dense", convention, 16, **changes)
        return plan(video(300, 30.0), wish, views=4, training=training, generator=np.random.default_rng(5))

    assert (make(rate_fps=7.5) == make(stride=4)).all()


def test_a_rate_must_not_ask_for_more_than_a_single_picture_has():
    wish = spec("dense", "slowfast", 4, rate_fps=8.0)
    assert plan(video(1, 0.0), wish, views=2).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_rate_of_frames_without_time_must_be_refused_with_a_remedy_that_works():
    wish = spec("dense", "slowfast", 4, rate_fps=8.0)
    with pytest.raises(ConfigError, match=r"rate_fps=8\.0 .* found 28 frames without time .* give a stride"):
        plan(video(28, 0.0), wish)
    assert plan(video(28, 0.0), replace(wish, rate_fps=None, stride=7)).shape == (1, 4)


def test_a_rate_must_leave_other_samplings_alone():
    assert plan(video(28, 0.0), spec("uniform", "mmaction2", 4, rate_fps=8.0)).tolist() == [[3, 10, 17, 24]]


@pytest.mark.parametrize("name", SAMPLINGS)
def test_training_without_a_generator_must_be_refused_with_remedies_that_work(name):
    wish = spec(name, "mmaction2", 4)
    with pytest.raises(ConfigError, match=rf"'{name}' .* generator=numpy\.random\.default_rng\(0\), or training=False"):
        plan(video(28), wish, training=True)
    assert plan(video(28), wish, training=True, generator=np.random.default_rng(0)).shape == (1, 4)
    assert plan(video(28), wish, training=False).shape == (1, 4)


def test_no_view_must_be_refused():
    with pytest.raises(ConfigError, match="views must be at least 1 - found 0"):
        plan(video(28), InputSpec(), views=0)


def test_a_video_without_frames_must_be_refused():
    with pytest.raises(FrameOutOfRange, match="16 frames were asked"):
        plan(video(0), InputSpec())


@pytest.mark.parametrize(
    ("convention", "crops", "expected"),
    [
        ("slowfast", 3, [(0, 43, 85), (0, 100, 199), (0, 38, 75)]),
        ("dmvr", 3, [(0, 43, 85), (0, 100, 199), (0, 38, 75)]),
        ("mmaction2", 3, [(0, 84, 42), (0, 198, 99), (0, 74, 37)]),
        ("videomae", 3, [(0, 42, 85), (0, 99, 199), (0, 37, 75)]),
        ("videomae", 1, [(42,), (100,), (38,)]),
        ("slowfast", 1, [(43,), (100,), (38,)]),
        ("mmaction2", 1, [(42,), (99,), (37,)]),
        ("dmvr", 1, [(42,), (99,), (37,)]),
    ],
)
def test_crops_must_lie_where_the_convention_puts_them(convention, crops, expected):
    sizes = [(341, 256), (455, 256), (299, 224)]
    assert [crop_offsets(size, crop, crops, convention) for size, crop in sizes] == expected


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_crops_of_a_frame_of_their_own_size_must_all_be_the_frame(convention):
    assert crop_offsets(224, 224, 3, convention) == (0, 0, 0)
    assert crop_offsets(224, 224, 1, convention) == (0,)


@pytest.mark.parametrize(("size", "crop", "crops"), [(223, 224, 3), (224, 224, 2), (224, 0, 1)])
def test_impossible_crops_must_be_refused(size, crop, crops):
    with pytest.raises(ConfigError, match=r" - found .* - "):
        crop_offsets(size, crop, crops, "slowfast")


def test_planning_must_not_import_torch():
    code = "import sys, tubelet.video.sampling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
