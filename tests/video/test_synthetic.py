"""Worlds: what is claimed about the answers must hold for the pixels."""

import csv
import json
from dataclasses import replace

import av
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tubelet.errors import ConfigError, DataError, UnknownName
from tubelet.video.synthetic import ORGANS, WORLDS, draw_clip, make_organs, make_world, seed_clip, write_video
from tubelet.video.synthetic import folder as folder_module
from tubelet.video.synthetic.scenes import SHAPES, Canvas, flip_scene, paint, reverse_scene, set_scene
from tubelet.video.synthetic.worlds import COLORS, EASY, MOTIONS, count_fast_laps, flash, lap, move

SMALL = {"frames": 8, "height": 32, "width": 32}
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def draw_many(world: str, count: int, split: str = "test", **size: int) -> tuple[np.ndarray, np.ndarray]:
    classes = WORLDS[world].classes
    labels = np.arange(count) % len(classes)
    clips = [
        draw_clip(world, classes[label], generator=seed_clip(world, split, i, 0), split=split, **(size or SMALL))
        for i, label in enumerate(labels)
    ]
    return np.stack(clips), labels


def probe(frames: np.ndarray, labels: np.ndarray) -> float:
    """Train a linear model on half of some pictures, score it on the other half."""
    count, height, width, channels = frames.shape
    blocks = frames.reshape(count, height // 4, 4, width // 4, 4, channels) / 255
    area = np.clip((frames.max(-1) > 110).mean((1, 2)) * 40, 0, 7).astype(int)
    parts = [blocks.mean((2, 4)).reshape(count, -1), blocks.max((1, 2, 3, 4)), np.eye(8)[area]]
    features = np.concatenate(parts, axis=1)
    half = count // 2
    model = LogisticRegression(C=0.1, max_iter=2000).fit(features[:half], labels[:half])
    return float(model.score(features[half:], labels[half:]))


def quiet_scene(seed: int, **changes: object):
    """Draw a scene without noise, background and pattern, 32x32."""
    scene = set_scene(Canvas(8, 32, 32), np.random.default_rng(seed), replace(EASY, noise=0.0, stripes=0.0))
    return replace(scene, background=np.zeros_like(scene.background), **changes)


def decode(path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


@pytest.mark.parametrize("world", list(WORLDS))
def test_one_generator_draws_one_middle_frame_whatever_the_class(world):
    size = {"frames": 9, "height": 32, "width": 48}
    clips = [draw_clip(world, name, generator=np.random.default_rng(5), **size) for name in WORLDS[world].classes]
    for clip in clips[1:]:
        np.testing.assert_array_equal(clip[4], clips[0][4])
        assert (clip != clips[0]).any()


@pytest.mark.parametrize("frame", [0, 4, 7])
def test_no_single_frame_of_moving_shapes_tells_the_class(frame):
    clips, labels = draw_many("moving-shapes", 640)
    assert probe(clips[:, frame], labels) <= 0.20


@pytest.mark.parametrize(("world", "limit"), [("order", 0.65), ("speed", 0.65), ("color-shortcut", 0.36)])
def test_the_middle_frame_stays_near_its_published_accuracy(world, limit):
    clips, labels = draw_many(world, 360)
    assert probe(clips[:, 4], labels) <= limit


def test_color_tells_the_motion_in_training_and_not_in_the_test():
    train, labels = draw_many("color-shortcut", 240, "train")
    assert probe(train[:, 4], labels) >= 0.7
    inks = np.array([COLORS[name] for name in WORLDS["color-shortcut"].classes])
    hits = {}
    for split in ("train", "val", "test"):
        clips, labels = draw_many("color-shortcut", 240, split)
        bright = clips.astype(int).max(-1).reshape(240, -1).argmax(1)
        seen = clips.reshape(240, -1, 3)[np.arange(240), bright]
        hits[split] = np.mean(np.square(seen[:, None] - inks).sum(-1).argmin(1) == labels)
    assert min(hits["train"], hits["val"]) >= 0.85
    assert 0.17 <= hits["test"] <= 0.33


@pytest.mark.parametrize("canvas", [Canvas(8, 32, 48), Canvas(9, 34, 32)])
@pytest.mark.parametrize("label", list(MOTIONS))
def test_a_clip_played_backward_is_a_clip_of_the_partner(label, canvas):
    partner = WORLDS["moving-shapes"].partners[label]
    for seed in range(6):
        scene = set_scene(canvas, np.random.default_rng(seed), EASY)
        back = reverse_scene(scene)
        np.testing.assert_array_equal(paint(scene, move(scene, label))[::-1], paint(back, move(back, partner)))


@pytest.mark.parametrize("horizontally", [True, False])
@pytest.mark.parametrize("label", list(MOTIONS))
def test_a_mirrored_clip_is_a_clip_of_the_mirrored_class(label, horizontally):
    world = WORLDS["moving-shapes"]
    other = (world.mirrors_horizontal if horizontally else world.mirrors_vertical)[label]
    for seed in range(6):
        scene = set_scene(Canvas(8, 32, 48), np.random.default_rng(seed), EASY)
        glass = flip_scene(scene, horizontally=horizontally)
        seen = np.flip(paint(scene, move(scene, label)), 2 if horizontally else 1)
        np.testing.assert_array_equal(seen, paint(glass, move(glass, other)))


def test_order_and_speed_have_the_partners_they_publish():
    scene = set_scene(Canvas(16, 32, 32), np.random.default_rng(3), EASY)
    back = reverse_scene(scene)
    gaps = (3.7, 4.4)
    np.testing.assert_array_equal(paint(scene, flash(scene, True, gaps))[::-1], paint(back, flash(back, False, gaps)))
    for right, down in DIRECTIONS:
        backward = paint(scene, lap(scene, 3, (right, down)))[::-1]
        np.testing.assert_array_equal(backward, paint(back, lap(back, 3, (-right, -down))))
    assert dict(WORLDS["order"].partners) == {"red_then_blue": "blue_then_red", "blue_then_red": "red_then_blue"}
    assert dict(WORLDS["speed"].partners) == {"slow": "slow", "fast": "fast"}


@pytest.mark.parametrize("world", list(WORLDS))
def test_partners_and_mirrors_undo_themselves_and_stay_in_the_world(world):
    here = WORLDS[world]
    for table in (here.partners, here.mirrors_horizontal, here.mirrors_vertical):
        assert set(table) == set(here.classes)
        assert all(table[table[name]] == name for name in here.classes)
    assert here.expected["middle_frame"] == 1 / len(here.classes)


@pytest.mark.parametrize(("label", "axis", "step"), [("up", 1, -3), ("down", 1, 3), ("left", 2, -3), ("right", 2, 3)])
def test_movement_goes_where_its_name_says(label, axis, step):
    scene = quiet_scene(1, pan_px=3.0)
    clip = paint(scene, move(scene, label))
    np.testing.assert_array_equal(np.roll(clip[:-1], step, axis=axis), clip[1:])


@pytest.mark.parametrize("shape", list(SHAPES))
def test_rotation_turns_as_its_name_says_and_every_shape_shows_it(shape):
    scene = quiet_scene(2, shape=shape, x_px=0.0, y_px=0.0, turn=np.pi / 2, level=0.5)
    for label, quarters in (("rotate_clockwise", -1), ("rotate_counterclockwise", 1)):
        clip = paint(scene, move(scene, label)).astype(int)
        turned = np.rot90(clip[:-1], quarters, axes=(1, 2))
        assert np.abs(turned - clip[1:]).max() <= 1
        assert np.abs(np.rot90(clip[:-1], -quarters, axes=(1, 2)) - clip[1:]).max() > 100


def test_zooming_in_makes_the_shape_larger_and_out_smaller():
    scene = quiet_scene(4, level=0.5, zoom=0.1)
    for label, sign in (("zoom_in", 1), ("zoom_out", -1)):
        area = paint(scene, move(scene, label)).sum((1, 2, 3), dtype=float)
        assert (np.diff(area) * sign > 0).all()


@pytest.mark.parametrize("frames", [8, 15, 16])
def test_slow_and_fast_clips_show_the_same_frames_in_another_order(frames):
    scene = set_scene(Canvas(frames, 32, 32), np.random.default_rng(6), replace(EASY, noise=0.0))
    laps = count_fast_laps(frames)
    for direction in DIRECTIONS:
        slow, fast = (paint(scene, lap(scene, k, direction)).astype(int) for k in (1, laps))
        apart = np.abs(slow[:, None] - fast[None]).max((2, 3, 4))
        assert sorted(apart.argmin(1)) == list(range(frames))
        assert apart.min(1).max() <= 1
        assert apart.diagonal().max() > 50


def test_an_order_clip_shows_red_then_blue_with_nothing_between():
    for index in range(20):
        clip = draw_clip("order", "red_then_blue", generator=np.random.default_rng(index)).astype(int)
        redness = (clip[..., 0] - clip[..., 2]).max((1, 2)) - (clip[8, ..., 0] - clip[8, ..., 2]).max()
        blueness = (clip[..., 2] - clip[..., 0]).max((1, 2)) - (clip[8, ..., 2] - clip[8, ..., 0]).max()
        assert redness.argmax() < 7
        assert blueness.argmax() > 8
        assert np.abs(clip[7] - clip[8]).max() < 40


@pytest.mark.parametrize("world", list(WORLDS))
def test_a_clip_depends_on_its_seed_split_and_number_alone(world):
    label = WORLDS[world].classes[1]

    def draw(*key):
        return draw_clip(world, label, generator=seed_clip(world, *key), **SMALL)

    np.testing.assert_array_equal(draw("train", 7, 1), draw("train", 7, 1))
    for other in (("val", 7, 1), ("train", 8, 1), ("train", 7, 2)):
        assert (draw("train", 7, 1) != draw(*other)).any()


def test_pixels_have_not_changed_under_this_version():
    means = {
        world: round(
            float(draw_clip(world, WORLDS[world].classes[0], generator=seed_clip(world, "train", 0, 42)).mean()), 1
        )
        for world in WORLDS
    }
    assert (folder_module.VERSION, means) == (
        1,
        {"moving-shapes": 46.2, "order": 35.5, "speed": 38.5, "color-shortcut": 40.0},
    )


def test_wrong_worlds_classes_and_sizes_are_named():
    generator = np.random.default_rng(0)
    with pytest.raises(UnknownName, match="did you mean 'moving-shapes'"):
        draw_clip("moving-shape", "up", generator=generator)
    with pytest.raises(UnknownName, match="did you mean 'zoom_in'"):
        draw_clip("moving-shapes", "zoom-in", generator=generator)
    with pytest.raises(ConfigError, match="from 8 frames"):
        draw_clip("moving-shapes", "up", frames=4, generator=generator)


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory):
    return make_world("moving-shapes", tmp_path_factory.mktemp("worlds") / "shapes", clips=40).parent


def read_manifest(folder):
    with (folder / "manifest.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_world_is_a_balanced_manifest_of_videos_with_its_answers(world_folder):
    rows = read_manifest(world_folder)
    assert [sum(row["split"] == split for row in rows) for split in ("train", "val", "test")] == [28, 6, 6]
    counts = [sum(row["label"] == name and row["split"] == "train" for row in rows) for name in MOTIONS]
    assert max(counts) - min(counts) <= 1
    facts = json.loads((world_folder / "world.json").read_text())
    assert facts["expected"]["shuffled"] == 0.5
    assert facts["partners"]["up"] == "down"
    assert facts["seed"] == 42
    assert facts["classes"] == list(MOTIONS)


def test_videos_decode_to_the_frames_that_were_drawn(world_folder):
    for index, row in enumerate(read_manifest(world_folder)[:8]):
        drawn = draw_clip("moving-shapes", row["label"], generator=seed_clip("moving-shapes", "train", index, 42))
        seen = decode(world_folder / row["path"])
        assert seen.shape == drawn.shape
        assert np.abs(seen.astype(int) - drawn).mean() < 4.5
        assert np.abs(seen.mean((1, 2)) - drawn.mean((1, 2))).max() < 3


def test_videos_are_plain_h264_of_the_asked_rate(tmp_path):
    clip = draw_clip("moving-shapes", "up", height=32, width=48, generator=np.random.default_rng(0))
    write_video(tmp_path / "clip.mp4", clip, fps=25)
    with av.open(str(tmp_path / "clip.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 25)
        assert (stream.frames, stream.start_time, stream.height, stream.width) == (16, 0, 32, 48)
        keys = [index for index, packet in enumerate(file.demux(stream)) if packet.is_keyframe]
        assert max(np.diff([*keys, 16])) <= 8


def test_more_clips_begin_with_the_same_bytes(tmp_path, world_folder):
    make_world("moving-shapes", tmp_path / "more", clips={"train": 12, "extra": 1})
    rows = read_manifest(tmp_path / "more")
    assert [row["split"] for row in rows] == ["train"] * 12 + ["extra"]
    for row in rows[:12]:
        assert (tmp_path / "more" / row["path"]).read_bytes() == (world_folder / row["path"]).read_bytes()


def test_a_world_that_is_there_is_used_again(world_folder):
    before = (world_folder / "world.json").stat().st_mtime_ns
    calls = []
    manifest = make_world("moving-shapes", world_folder, clips=40, progress=lambda *done: calls.append(done))
    assert manifest == world_folder / "manifest.csv"
    assert (world_folder / "world.json").stat().st_mtime_ns == before
    assert calls == []


def test_another_world_a_damaged_one_and_strange_folders_are_refused(tmp_path):
    make_world("order", tmp_path / "w", clips=4, **SMALL)
    with pytest.raises(DataError, match="seed 42 instead of 1"):
        make_world("order", tmp_path / "w", clips=4, seed=1, **SMALL)
    (tmp_path / "w" / "train/red_then_blue/000000.mp4").unlink()
    with pytest.raises(DataError, match=r"000000\.mp4"):
        make_world("order", tmp_path / "w", clips=4, **SMALL)
    for text in (None, "[1]", "no json"):
        strange = tmp_path / f"strange{text}"
        strange.mkdir()
        (strange / "holiday.txt").write_text("keep me")
        if text:
            (strange / "world.json").write_text(text)
        with pytest.raises(DataError, match="no world"):
            make_world("order", strange, clips=4, **SMALL)
        assert (strange / "holiday.txt").read_text() == "keep me"


def test_an_interrupted_world_leaves_nothing_behind(tmp_path):
    def stop(done: int, total: int) -> None:
        assert total == 10
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_world("order", tmp_path / "w", clips=10, progress=stop, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_faster_twin_is_kept(tmp_path, monkeypatch):
    (tmp_path / "w").mkdir()
    make_world("order", tmp_path / "w", clips=2, **SMALL)
    stamp = (tmp_path / "w" / "world.json").stat().st_mtime_ns
    answers = iter([False])
    real = folder_module._holds
    monkeypatch.setattr(folder_module, "_holds", lambda *request: next(answers, None) is None and real(*request))
    make_world("order", tmp_path / "w", clips=2, **SMALL)
    assert (tmp_path / "w" / "world.json").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 33}, "ask for 34x32"),
        ({"fps": 0}, "fps must be at least 1"),
        ({"clips": 0}, "clips must be positive"),
        ({"clips": {"../x": 3}}, "use a plain word"),
        ({"frames": 4}, "ask for more frames"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_world("order", tmp_path / "w", **({"clips": 4, **SMALL} | changes))
    assert list(tmp_path.iterdir()) == []


def test_organs_have_the_layout_of_medmnist_and_can_be_told_apart(tmp_path):
    path = make_organs(tmp_path / "organs.npz", counts={"train": 220, "val": 11, "test": 110}, seed=3)
    with np.load(path) as arrays:
        assert sorted(arrays) == [f"{s}_{k}" for s in ("test", "train", "val") for k in ("images", "labels")]
        train, train_labels = arrays["train_images"], arrays["train_labels"]
        test, test_labels = arrays["test_images"], arrays["test_labels"]
    assert (train.shape, train.dtype, train_labels.shape) == ((220, 28, 28, 28), np.uint8, (220, 1))
    assert sorted(set(test_labels[:, 0].tolist())) == list(range(len(ORGANS))) == list(range(11))
    small = [x.reshape(len(x), 7, 4, 7, 4, 7, 4).mean((2, 4, 6)).reshape(len(x), -1) / 255 for x in (train, test)]
    means = np.stack([small[0][train_labels[:, 0] == k].mean(0) for k in range(11)])
    nearest = np.square(small[1][:, None] - means).sum(-1).argmin(1)
    assert np.mean(nearest == test_labels[:, 0]) > 0.45


def test_organs_are_the_same_bytes_every_time_and_subsets_agree(tmp_path):
    one, two = (make_organs(tmp_path / f"{k}.npz", counts={"train": 12}).read_bytes() for k in "ab")
    assert one == two
    few = np.load(make_organs(tmp_path / "c.npz", counts={"train": 5}))["train_images"]
    np.testing.assert_array_equal(few, np.load(tmp_path / "a.npz")["train_images"][:5])
    with pytest.raises(ConfigError, match="npz"):
        make_organs(tmp_path / "organs.zip")
    assert len(list(tmp_path.iterdir())) == 3
