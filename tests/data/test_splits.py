"""A split never tears a group, keeps the classes in proportion, and is the same everywhere."""

import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.data.assignments import apply_assignments, follow_move
from tubelet.data.catalogue import open_data
from tubelet.data.manifest import Manifest, check_manifest, read_manifest
from tubelet.data.sample import Sample
from tubelet.data.splits import fold_manifest, split_manifest
from tubelet.errors import ConfigError, DataError


def make(rows, origin="/data"):
    """Make a manifest of (label, group, split) rows."""
    samples = tuple(
        Sample(f"{origin}/{label}/{index:04}.mp4", label, split, group)
        for index, (label, group, split) in enumerate(rows)
    )
    return Manifest(samples, tuple(sorted({sample.label for sample in samples})), origin)


def splits_by_name(manifest):
    return {manifest.short_name(sample): sample.split for sample in manifest.samples}


def check_groups_are_whole(manifest):
    splits = defaultdict(set)
    for sample in manifest.samples:
        splits[sample.group].add(sample.split)
    assert all(len(found) == 1 for group, found in splits.items() if group is not None)


def test_single_clips_are_divided_in_exact_proportion_by_class():
    rows = [("big", None, None)] * 200 + [("small", None, None)] * 20
    counts = split_manifest(make(rows)).counts()
    assert counts == {
        "train": {"big": 140, "small": 14},
        "val": {"big": 30, "small": 3},
        "test": {"big": 30, "small": 3},
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=12, max_size=120),
    st.integers(0, 5),
)
def test_no_group_is_torn_and_no_sample_lost(pairs, seed):
    rows = [(f"c{label}", f"g{group}", None) for label, group in pairs] + [("c0", f"own{k}", None) for k in range(3)]
    manifest = make(rows)
    divided = split_manifest(manifest, seed=seed)
    check_groups_are_whole(divided)
    assert [sample.name for sample in divided.samples] == [sample.name for sample in manifest.samples]
    assert {sample.split for sample in divided.samples} <= {"train", "val", "test"}
    trained = {sample.label for sample in divided.select("train")}
    assert trained == set(manifest.classes)


def test_groups_of_unequal_size_come_near_the_shares():
    generator = random.Random(3)
    rows = []
    for group in range(60):
        label = f"c{group % 4}"
        rows += [(label, f"g{group}", None)] * generator.randint(1, 12)
    for seed in range(5):
        manifest = make(rows)
        counts = split_manifest(manifest, seed=seed).counts()
        for label, total in Counter(label for label, _, _ in rows).items():
            for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
                # A quarter of the largest group: what placing large groups first reaches, and random order does not.
                assert abs(counts[split][label] - share * total) <= 3, (seed, split, label)


def test_a_class_with_three_groups_reaches_every_split():
    rows = [("common", None, None)] * 300 + [("rare", f"r{index}", None) for index in range(3)]
    for seed in range(5):
        counts = split_manifest(make(rows), seed=seed).counts()
        assert [counts[split]["rare"] for split in ("train", "val", "test")] == [1, 1, 1]


def test_a_class_with_too_few_groups_stays_in_train_and_is_reported():
    rows = [("common", None, None)] * 100 + [("two", "a", None), ("two", "b", None)] + [("one", "c", None)] * 6
    divided = split_manifest(make(rows))
    counts = divided.counts()
    assert [counts[split]["two"] for split in ("train", "val", "test")] == [1, 0, 1]
    assert [counts[split]["one"] for split in ("train", "val", "test")] == [6, 0, 0]
    assert divided.notes == ("2 of 3 classes have too few groups to be in each of 3 splits: 'one', 'two'",)


def test_the_split_depends_on_names_and_seed_alone():
    rows = [(f"c{index % 3}", f"g{index // 4}" if index % 2 else None, None) for index in range(90)]
    here, there = make(rows, "/data/here"), make(rows, "/elsewhere")
    shuffled = list(here.samples)
    random.Random(0).shuffle(shuffled)
    expected = splits_by_name(split_manifest(here, seed=7))
    assert splits_by_name(split_manifest(there, seed=7)) == expected
    assert splits_by_name(split_manifest(replace(here, samples=tuple(shuffled)), seed=7)) == expected
    assert splits_by_name(split_manifest(here, seed=8)) != expected


def test_the_split_of_a_known_list_does_not_change_between_versions():
    rows = [("a", None, None)] * 6 + [("b", None, None)] * 6
    divided = split_manifest(make(rows), val=0.25, test=0.25, seed=42)
    held_out = {name: split for name, split in splits_by_name(divided).items() if split != "train"}
    assert held_out == {
        "a/0000.mp4": "val",
        "a/0003.mp4": "test",
        "a/0005.mp4": "val",
        "b/0007.mp4": "val",
        "b/0009.mp4": "test",
        "b/0010.mp4": "test",
    }


def test_stated_splits_are_kept():
    rows = [("a", None, split) for split in ("train", "val", "test")] * 3
    manifest = make(rows)
    assert split_manifest(manifest) is manifest
    for kept in (("train", "val"), ("test",), ("val", "test")):
        part = replace(manifest, samples=tuple(sample for sample in manifest.samples if sample.split in kept))
        assert split_manifest(part) is part


def test_val_is_taken_out_of_train_by_groups_and_test_is_left_alone():
    rows = [(f"c{index % 2}", f"g{index // 4}", "train") for index in range(80)]
    rows += [(f"c{index % 2}", f"h{index // 4}", "test") for index in range(20)]
    manifest = make(rows)
    divided = split_manifest(manifest, val=0.2)
    check_groups_are_whole(divided)
    assert divided.select("test") == manifest.select("test")
    assert divided.counts()["val"] == {"c0": 8, "c1": 8}
    assert divided.counts()["train"] == {"c0": 32, "c1": 32}
    assert split_manifest(manifest, val=0.0) is manifest


def test_shares_of_zero_leave_splits_out():
    rows = [("a", None, None)] * 10 + [("b", None, None)] * 10
    assert split_manifest(make(rows), val=0.0, test=0.2).counts() == {
        "train": {"a": 8, "b": 8},
        "test": {"a": 2, "b": 2},
    }
    assert split_manifest(make(rows), val=0.0, test=0.0).counts() == {"train": {"a": 10, "b": 10}}


def test_parts_of_one_video_stay_together():
    parts = [
        Sample(f"/data/{video}.mp4", f"c{part % 2}", start_s=float(part), end_s=part + 1.0)
        for video in range(10)
        for part in range(6)
    ]
    divided = split_manifest(Manifest(tuple(parts), ("c0", "c1"), "/data"))
    splits = defaultdict(set)
    for sample in divided.samples:
        splits[sample.source].add(sample.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {next(iter(found)) for found in splits.values()} == {"train", "val", "test"}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(0, 30))), min_size=8, max_size=60),
    st.integers(0, 3),
)
def test_parts_of_one_video_stay_together_whatever_their_groups(parts, seed):
    samples = tuple(
        Sample(
            f"/data/{video}.mp4",
            f"c{number % 2}",
            None,
            None if group is None else f"g{group}",
            float(number),
            number + 1.0,
        )
        for number, (video, group) in enumerate(parts)
    )
    samples += tuple(Sample(f"/data/own{number}.mp4", f"c{number % 2}") for number in range(4))
    manifest = Manifest(samples, ("c0", "c1"), "/data")
    for divided in (split_manifest(manifest, seed=seed), fold_manifest(manifest, 2, 0, seed=seed)):
        check_groups_are_whole(divided)
        splits = defaultdict(set)
        for sample in divided.samples:
            splits[sample.source].add(sample.split)
        assert all(len(found) == 1 for found in splits.values())
    shuffled = replace(manifest, samples=samples[::-1])
    assert splits_by_name(split_manifest(shuffled, seed=seed)) == splits_by_name(split_manifest(manifest, seed=seed))


def test_what_is_suspicious_is_told_of_the_split_that_is_used_and_once(tmp_path):
    for label, count in (("common", 30), ("rare", 1)):
        (tmp_path / label).mkdir()
        for number in range(count):
            (tmp_path / label / f"{number}.mp4").write_bytes(b"x")
    manifest = open_data(tmp_path)
    assert manifest.notes == (
        "1 of 2 classes have too few groups to be in each of 3 splits: 'rare'",
        "1 of 2 classes have no sample in 'val': 'rare'",
        "1 of 2 classes have no sample in 'test': 'rare'",
    )
    assert open_data(tmp_path, split_if_missing=False).notes == ()


def test_rows_of_one_array_file_are_samples_of_their_own():
    rows = tuple(Sample("/data/a.npz", "c", member="x", row=row) for row in range(20))
    counts = split_manifest(Manifest(rows, ("c",), "/data/a.npz")).counts()
    assert counts == {"train": {"c": 14}, "val": {"c": 3}, "test": {"c": 3}}


def test_splits_follow_clips_that_moved_together_and_no_others():
    rows = [("big", None, split) for split in ("train", "val", "test")] + [("small", None, "train")]
    assigned = {sample.name: sample.split for sample in make(rows, "/old").samples}
    without = [(label, group, None) for label, group, _ in rows]
    for place in ("/old", "/new/disk/of/mine"):
        moved = make(without, place)
        known = apply_assignments(moved, follow_move(moved, assigned))
        assert splits_by_name(known) == splits_by_name(make(rows, place))
    other = make(without[:-1], "/new")
    assert follow_move(other, assigned) == assigned


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.2, -0.1), (0.5, 0.5), (0.9, 0.2)])
def test_impossible_shares_are_refused(val, test):
    with pytest.raises(ConfigError, match=r"val \+ test must stay below 1"):
        split_manifest(make([("a", None, None)] * 10), val=val, test=test)


def test_too_few_groups_and_half_stated_splits_are_refused():
    with pytest.raises(DataError, match="40 samples in 2 groups"):
        split_manifest(make([("a", "g1", None)] * 20 + [("b", "g2", None)] * 20))
    with pytest.raises(DataError, match="2 samples in 2 videos"):
        split_manifest(make([("a", None, None), ("b", None, None)]))
    with pytest.raises(DataError, match="1 of 2 samples have no split"):
        split_manifest(make([("a", None, None), ("b", None, "train")]))


def test_folds_test_every_sample_once_in_whole_groups():
    rows = [(f"c{index % 2}", f"g{index // 5}", "train") for index in range(100)]
    manifest = make(rows)
    tested = Counter()
    for fold in range(4):
        divided = fold_manifest(manifest, 4, fold, seed=1)
        check_groups_are_whole(divided)
        tested.update(sample.name for sample in divided.select("test"))
        assert divided.counts()["test"]["c0"] in range(10, 16)
        carved = split_manifest(divided, val=0.2)
        check_groups_are_whole(carved)
        assert carved.select("test") == divided.select("test")
        assert carved.select("val")
    assert set(tested.values()) == {1}
    assert len(tested) == 100
    other = {sample.name for sample in fold_manifest(manifest, 4, 0, seed=2).select("test")}
    assert other != {sample.name for sample in fold_manifest(manifest, 4, 0, seed=1).select("test")}


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (4, 4), (4, -1)])
def test_folds_that_are_not_there_are_refused(folds, fold):
    with pytest.raises(ConfigError, match=f"found fold {fold} of {folds}"):
        fold_manifest(make([("a", None, None)] * 10), folds, fold)


def test_more_folds_than_groups_are_refused():
    with pytest.raises(DataError, match="into 5 parts"):
        fold_manifest(make([("a", f"g{index % 3}", None) for index in range(30)]), 5, 0)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("source", "group_by", "within"),
    [
        ("fight128/split.csv", "source_video", 15),
        ("ucf101_mini/split.csv", None, 2),
        ("volumes/modelnet10_few_32.npz", None, 12),
    ],
)
def test_real_groups_are_divided_whole_and_in_proportion(real_data, source, group_by, within):
    manifest = read_manifest(real_data / source, group_by=group_by)
    manifest = replace(manifest, samples=tuple(replace(sample, split=None) for sample in manifest.samples))
    divided = split_manifest(manifest)
    assert check_manifest(divided) == ()
    totals = manifest.counts()["unsplit"]
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        for label, count in divided.counts()[split].items():
            assert abs(count - share * totals[label]) <= within, (split, label)


@pytest.mark.real_data
def test_the_stated_split_of_the_fight_list_is_kept_and_ucf101_gets_a_val(real_data):
    fight = read_manifest(real_data / "fight128" / "split.csv", group_by="source_video")
    assert split_manifest(fight) is fight
    ucf = read_manifest(real_data / "ucf101_mini" / "split.csv")
    divided = split_manifest(ucf)
    assert divided.select("test") == ucf.select("test")
    assert len(divided.select("val")) in range(5, 11)
    assert check_manifest(divided) == ()
