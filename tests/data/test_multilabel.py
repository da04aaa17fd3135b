"""Clips with several labels, or none, are read from every form, counted in each class, and divided in proportion."""

import json
import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from tubelet.data.division import write_division
from tubelet.data.manifest import Manifest, check_manifest, read_manifest
from tubelet.data.sample import Sample
from tubelet.data.splits import choose_folds, split_manifest
from tubelet.errors import DataError

CLASSES = ("bus", "car", "person")
HELD = [("car", "person"), (), ("bus",), ("person",)]


def write_csv(folder, *rows, header="path,labels"):
    path = folder / "clips.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def write_json(folder, *rows):
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_arrays(folder, held=HELD, **others):
    has = np.array([[name in names for name in CLASSES] for names in held]).astype(np.uint8)
    arrays = {"x": np.zeros((len(held), 4, 8, 8), np.uint8), "y": has, "class_names": np.array(CLASSES), **others}
    np.savez(folder / "clips.npz", **arrays)
    return folder / "clips.npz"


def make(labels, groups=None):
    samples = tuple(
        Sample(f"/data/{index:04}.mp4", "|".join(sorted(own)), None, groups and f"g{groups[index]}")
        for index, own in enumerate(labels)
    )
    return Manifest(samples, tuple(sorted({name for own in labels for name in own})), "/data", task="multilabel")


def test_tables_json_lines_and_arrays_say_the_same(tmp_path):
    table = write_csv(tmp_path, "a.mp4,person| car |car", "b.mp4,", "c.mp4,bus", "d.mp4,person")
    lines = [{"path": "a.mp4", "labels": ["person", "car"]}, {"path": "b.mp4", "labels": []}]
    lines += [{"path": "c.mp4", "labels": "bus"}, {"path": "d.mp4", "labels": ["person"]}]
    for source in (table, write_json(tmp_path, *lines), write_arrays(tmp_path)):
        manifest = read_manifest(source)
        assert (manifest.task, manifest.classes) == ("multilabel", CLASSES)
        assert [sample.labels for sample in manifest.samples] == HELD
        assert manifest.counts() == {"unsplit": {"bus": 1, "car": 1, "person": 2}}
        assert manifest.split_sizes() == {"unsplit": 4}
        targets = np.stack([manifest.target(sample) for sample in manifest.samples])
        assert targets.tolist() == [[name in names for name in CLASSES] for names in HELD]


def test_a_written_division_is_read_again_as_it_was(tmp_path):
    rows = [f"{index}.mp4,{label}" for index, label in enumerate(["a|b", "", "a", "b"] * 5)]
    for source, name in ((write_csv(tmp_path, *rows), "out.csv"), (write_arrays(tmp_path, HELD * 5), "out.npz")):
        divided = split_manifest(read_manifest(source))
        write_division(divided, tmp_path / name)
        again = read_manifest(tmp_path / name)
        assert (again.task, again.classes) == (divided.task, divided.classes)
        assert [(s.label, s.split) for s in again.samples] == [(s.label, s.split) for s in divided.samples]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,label,labels", "a.mp4,x,x|y", "'label' on 1 lines and 'labels' on 1 - keep 'label' where"),
        ("path,label", "a.mp4,x|y", "line 2: the label 'x|y' holds '|' - call the column 'labels' if"),
        ("path,labels", "a.mp4,x||y", "line 2: '' is no name of a class"),
        ("path,labels", "a.mp4,", "none of its 1 clips has a label"),
        ("labels,name", "x,a.mp4", "'path' and 'label' among them"),
    ],
)
def test_what_is_unclear_in_a_table_is_refused(tmp_path, header, row, message):
    with pytest.raises(DataError) as caught:
        read_manifest(write_csv(tmp_path, row, header=header))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": ["x", "y"]}, "'label' is a list - call it 'labels'"),
        ({"labels": ["x|y"]}, "'x|y' is no name of a class"),
        ({"labels": [""]}, "'' is no name of a class"),
        ({"labels": None}, "'label' is missing"),
    ],
)
def test_what_is_unclear_in_json_lines_is_refused_with_its_line(tmp_path, row, message):
    with pytest.raises(DataError) as caught:
        read_manifest(write_json(tmp_path, {"path": "a.mp4", "labels": ["x"]}, {"path": "b.mp4", **row}))
    assert f"line 2: {message}" in str(caught.value)


def test_a_folder_called_like_two_classes_is_refused_not_learned(tmp_path):
    for name in ("run", "run|jump"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match=r"'run\|jump' holds"):
        read_manifest(tmp_path)


def test_columns_of_all_splits_must_be_of_one_kind(tmp_path):
    x = np.zeros((2, 4, 8, 8), np.uint8)
    arrays = {"train_images": x, "train_labels": np.ones((2, 3), int), "test_images": x, "test_labels": np.ones(2, int)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="some labels have a column for each class, others one"):
        read_manifest(tmp_path / "a.npz")


def test_one_label_each_is_also_a_set_of_labels_each_but_not_the_other_way():
    one, several = make([("a",), ("b",)]), make([("a", "b"), ("b",), ()])
    assert one.with_task("classification").target(one.samples[1]) == 1
    assert one.with_task("classification").with_task("multilabel").target(one.samples[1]).tolist() == [False, True]
    with pytest.raises(
        DataError, match=r"2 of 3 clips have several labels or none.*train with --model.task multilabel"
    ):
        several.with_task("classification")
    assert one.digest != one.with_task("classification").digest


def test_what_is_odd_about_a_set_is_said(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    notes = check_manifest(read_manifest(write_csv(tmp_path, "a.mp4,x", "b.mp4,y")))
    assert any("every clip has one label" in note for note in notes)
    # One class can be a question of its own, where some clips have it and others not.
    assert not any("one class only" in note for note in check_manifest(read_manifest(write_csv(tmp_path, "a.mp4,x"))))


def test_every_class_keeps_its_share_in_each_split_and_no_group_is_torn():
    generator = random.Random(3)
    groups = [generator.randrange(90) for _ in range(600)]
    shares = {"often": 0.5, "half": 0.25, "some": 0.1, "rare": 0.02}
    labels = [tuple(name for name, share in shares.items() if generator.random() < share) for _ in groups]
    for own_groups in (None, groups):
        divided = split_manifest(make(labels, own_groups))
        totals = make(labels).counts()["unsplit"]
        parts = defaultdict(set)
        for sample in divided.samples:
            parts[sample.group].add(sample.split)
        assert own_groups is None or all(len(found) == 1 for found in parts.values())
        for split, share in {"train": 0.7, "val": 0.15, "test": 0.15}.items():
            assert divided.split_sizes()[split] == pytest.approx(600 * share, abs=2)
            for name, count in divided.counts()[split].items():
                assert count == pytest.approx(totals[name] * share, abs=1.0 if own_groups is None else 4.0)
                assert count > 0


def test_a_class_of_too_few_clips_for_all_splits_is_named_also_beside_another():
    divided = split_manifest(make([("a", "z"), ("a", "z"), *[("a",)] * 18]))
    assert divided.notes == ("1 of 2 classes have too few groups to be in each of 3 splits: 'z'",)


def stratify(has, num_folds, generator):
    """Divide single clips by iterative stratification: Sechidis et al. 2011, algorithm 1."""
    wanted, by_label = np.full(num_folds, len(has) / num_folds), np.outer(np.full(num_folds, 1 / num_folds), has.sum(0))
    folds, left = np.full(len(has), -1), np.ones(len(has), bool)
    while has[left].any():
        counts = has[left].sum(0)
        label = np.argmin(np.where(counts > 0, counts, np.inf))
        for clip in np.flatnonzero(left & has[:, label]):
            best = np.flatnonzero(by_label[:, label] == by_label[:, label].max())
            fold = generator.choice(best[wanted[best] == wanted[best].max()])
            folds[clip], left[clip] = fold, False
            wanted[fold] -= 1
            by_label[fold] -= has[clip]
    for clip in np.flatnonzero(left):
        folds[clip] = np.argmax(wanted)
        wanted[folds[clip]] -= 1
    return folds


def measure_distance(has, folds):
    """Return the label distribution distance of a division, as Sechidis et al. define it."""
    odds = has.sum(0) / (~has).sum(0)
    parts = [has[folds == fold] for fold in range(folds.max() + 1)]
    return np.mean([np.abs(part.sum(0) / (~part).sum(0) - odds) for part in parts])


def test_single_clips_are_balanced_as_well_as_by_iterative_stratification():
    ours, theirs, by_chance = [], [], []
    for seed in range(2):
        generator = np.random.default_rng(seed)
        has = generator.random((600, 14)) < np.exp(generator.uniform(np.log(0.005), np.log(0.4), 14))
        manifest = make([tuple(f"c{place:02}" for place in np.flatnonzero(row)) for row in has])
        ours.append(measure_distance(has, np.array(choose_folds(manifest, 5, seed=seed))))
        theirs.append(measure_distance(has, stratify(has, 5, generator)))
        by_chance.append(measure_distance(has, generator.permutation(600) % 5))
    print(f"label distribution distance: ours {np.mean(ours):.5f}, {np.mean(theirs):.5f}, {np.mean(by_chance):.5f}")
    assert np.mean(ours) <= 1.05 * np.mean(theirs)
    assert np.mean(ours) < 0.3 * np.mean(by_chance)


def test_folds_hold_every_class_and_do_not_depend_on_the_order_of_rows():
    labels = [("a", "b"), ("a",), (), ("b", "c")] * 15
    manifest = make(labels)
    folds = choose_folds(manifest, 5)
    shuffled = random.Random(0).sample(range(60), 60)
    again = choose_folds(replace(manifest, samples=tuple(manifest.samples[place] for place in shuffled)), 5)
    assert again == tuple(folds[place] for place in shuffled)
    for fold in range(5):
        own = [labels[place] for place in range(60) if folds[place] == fold]
        assert [sum(name in held for held in own) for name in "abc"] == [6, 6, 3]
