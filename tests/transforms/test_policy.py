import subprocess
import sys

import numpy as np
import pytest

from tubelet.errors import ConfigError
from tubelet.transforms import Augmentation
from tubelet.transforms.limits import check_amounts
from tubelet.transforms.policy import FLIPS, find_pairs, swap_label, warn_of_mirrors
from tubelet.video.synthetic.worlds import WORLDS

CLASSES = ("up", "left", "wave", "right", "down")


def test_the_policy_costs_no_torch():
    code = "import sys, tubelet.transforms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("horizontal_flip", 1.5, "must lie in 0..1 - found 1.5"),
        ("vertical_flip", -0.1, "must lie in 0..1 - found -0.1"),
        ("time_reversal", float("nan"), "must lie in 0..1 - found nan"),
        ("shift", 2.0, "must lie in 0..1 - found 2.0"),
        ("brightness", -1.0, "0 or more - found -1.0"),
        ("contrast", float("nan"), "0 or more - found nan"),
        ("saturation", float("inf"), "0 or more - found inf"),
        ("crop_scale", (0.0, 1.0), r"crop_scale needs 0 < least <= greatest <= 1 - found \(0.0, 1.0\)"),
        ("crop_scale", (0.9, 0.5), "crop_scale needs"),
        ("crop_scale", (0.5, 1.5), "crop_scale needs"),
        ("crop_ratio", (2.0, 1.0), "crop_ratio needs"),
        ("time_shift", 1.5, "time_shift must lie in 0..1 - found 1.5"),
        ("stretch", (0.0, 1.0), r"stretch needs 0 < least <= greatest - found \(0.0, 1.0\)"),
        ("hue", 0.6, "must lie in 0..0.5 - found 0.6"),
        ("rotation", float("nan"), "must lie in 0..180 - found nan"),
        ("fill", 256, "must lie in 0..255 - found 256"),
        ("policy_magnitude", 31.0, "must lie in 0..30 - found 31.0 - 9 is usual; timm counts to 10, so its m7 is 21"),
        ("erasing", 2.0, "must lie in 0..1 - found 2.0"),
        ("erasing_scale", (0.5, 1.2), r"needs 0 < least <= greatest <= 1 - found \(0.5, 1.2\)"),
        ("speed", (0.0, 1.0), "speed needs 0 < least <= greatest"),
        ("blur_sigma", (1.0, float("inf")), "blur_sigma needs"),
        ("repeats", 0, "must lie in 1..64 - found 0"),
        ("mixup", -0.1, "must be 0 or more - found -0.1"),
        ("cutmix", float("inf"), "must be 0 or more - found inf"),
        ("horizontal_pairs", (("a", "a"),), "two different class names"),
        ("reversal_pairs", (("a", "b"), ("c", "a")), "names class 'a' twice"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(field, value, says):
    with pytest.raises(ConfigError, match=says):
        Augmentation(**{field: value})


def test_swapping_twice_gives_the_label_back_and_spares_the_others():
    pairs = (("left", "right"), ("up", "down"))
    swapped = [swap_label(index, pairs, CLASSES) for index in range(5)]
    assert swapped == [4, 3, 2, 1, 0]
    assert [swap_label(index, pairs, CLASSES) for index in swapped] == [0, 1, 2, 3, 4]
    assert [swap_label(index, (), CLASSES) for index in range(5)] == [0, 1, 2, 3, 4]


def test_swapping_several_labels_swaps_each_that_has_a_partner():
    pairs = (("left", "right"), ("up", "down"))
    has = np.array([name in ("left", CLASSES[2], "up", "down") for name in CLASSES])
    swapped = swap_label(has, pairs, CLASSES)
    assert {name for name, own in zip(CLASSES, swapped, strict=True) if own} == {"right", CLASSES[2], "up", "down"}
    assert swap_label(swapped, pairs, CLASSES).tolist() == has.tolist()


def test_pairs_of_unknown_classes_are_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"vertical_pairs names class 'dwon' .*did you mean 'down'\?"):
        Augmentation(vertical_pairs=(("up", "dwon"),)).check_classes(CLASSES)
    Augmentation(vertical_pairs=(("up", "down"),)).check_classes(CLASSES)


@pytest.mark.parametrize(
    ("flip", "mirrors"),
    [("horizontal_flip", "mirrors_horizontal"), ("vertical_flip", "mirrors_vertical"), ("time_reversal", "partners")],
)
def test_pairs_found_by_name_are_the_mirror_images_of_moving_shapes(flip, mirrors):
    world = WORLDS["moving-shapes"]
    truth = {name: other for name, other in getattr(world, mirrors).items() if name != other}
    pairs = find_pairs(world.classes, flip)
    assert dict(pairs) | {other: one for one, other in pairs} == truth


def test_names_are_read_in_every_common_spelling():
    classes = ["TurnLeft", "swipe-up", "turn right", "Turn_Right", "leftover", "CWTurn", "CCWTurn"]
    assert find_pairs(classes, "horizontal_flip") == (("TurnLeft", "Turn_Right"), ("CWTurn", "CCWTurn"))


def test_a_class_is_paired_once_however_many_opposites_its_word_has():
    classes = ["clockwise", "counterclockwise", "anticlockwise"]
    pairs = find_pairs(classes, "horizontal_flip")
    assert pairs == (("clockwise", "counterclockwise"),)
    Augmentation(horizontal_pairs=pairs).check_classes(classes)


def test_directions_without_pairs_are_warned_of():
    (warning,) = warn_of_mirrors(Augmentation(), CLASSES)
    assert "'left', 'right'" in warning
    assert "set horizontal_pairs to [['left', 'right']]" in warning


def test_the_remedies_that_a_warning_names_silence_it():
    pairs = find_pairs(CLASSES, "horizontal_flip")
    assert warn_of_mirrors(Augmentation(horizontal_pairs=pairs), CLASSES) == []
    assert warn_of_mirrors(Augmentation(horizontal_flip=0.0), CLASSES) == []


def test_a_direction_without_a_mirror_image_asks_for_no_flip():
    (warning,) = warn_of_mirrors(Augmentation(), ["wave_left", "turn_left", "turn_right"])
    assert "set horizontal_flip to 0, because some of them have no mirror image" in warning
    assert "[[" not in warning


def test_data_without_directions_is_not_warned_of():
    everything = Augmentation(vertical_flip=0.5, time_reversal=0.5)
    assert warn_of_mirrors(everything, ["Archery", "Biking", "upholstery", "Outing", "copyright"]) == []


def test_every_flip_has_a_field_of_pairs():
    fields = Augmentation.__dataclass_fields__
    assert all(flip in fields and pairs in fields for flip, pairs in FLIPS.items())
    assert len(FLIPS) == sum(name.endswith("_pairs") for name in fields)


def test_every_field_that_varies_clips_by_itself_is_listed_as_active():
    how = {"shift_fill", "fill", "policy_ops", "policy_magnitude", "policy_std", "policy_chance", "blur_sigma"}
    how |= {"erasing_scale", "erasing_ratio", "erasing_fill", "mixing", "cutmix_share", "color_chance", *FLIPS.values()}
    values = {
        "policy": "randaugment",
        "repeats": 2,
        "crop_scale": (0.5, 1.0),
        "crop_ratio": (0.5, 1.0),
        "speed": (0.5, 1.0),
        "stretch": (0.5, 1.0),
    }
    for name in set(Augmentation.__dataclass_fields__) - how:
        policy = Augmentation(**{"horizontal_flip": 0.0, name: values.get(name, 0.3)})
        assert policy.list_active() == [name]


@pytest.mark.parametrize(
    ("field", "value", "near"),
    [("policy", "rand-augment", "randaugment"), ("erasing_fill", "nois", "noise"), ("shift_fill", "edges", "edge")],
)
def test_a_choice_that_does_not_exist_is_named_with_the_nearest(field, value, near):
    policy = Augmentation()
    object.__setattr__(policy, field, value)  # past the checks of types that only run in tests
    with pytest.raises(
        ConfigError, match=f"augmentation.{field} must be one of .* found '{value}'; did you mean '{near}'"
    ):
        check_amounts(policy)
