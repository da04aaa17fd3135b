"""`tubelet data split` and `stats`, run as a user runs them."""

import csv
import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from run_command import run
from small_run import write_clip
from tubelet.data.manifest import read_manifest


@pytest.fixture
def table(tmp_path):
    """List 24 clips of two classes in twelve groups; the files are only named, as no splitting opens them."""
    (tmp_path / "clips").mkdir()
    rows = ["path,label,group"]
    for number in range(24):
        (tmp_path / "clips" / f"{number} ü.mp4").write_bytes(b"x")
        rows.append(f"clips/{number} ü.mp4,{'ab'[number % 2]},g{number // 2 % 12}")
    (tmp_path / "set.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "set.csv"


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_division_keeps_groups_whole_names_clips_from_its_folder_and_follows_the_seed(table, tmp_path, capsys):
    contents = []
    for name, seed in (("one.csv", 1), ("again.csv", 1), ("two.csv", 2)):
        status, out, _ = run("data", "split", table, tmp_path / name, "--seed", seed, capsys=capsys)
        assert status == 0
        assert "train: 16 clips (66.7%)" in out
        contents.append((tmp_path / name).read_text())
    assert contents[0] == contents[1] != contents[2]
    rows = read_rows(tmp_path / "one.csv")
    assert rows[0]["path"] == "clips/0 ü.mp4"
    splits = defaultdict(set)
    for row in rows:
        splits[row["group"]].add(row["split"])
    assert all(len(own) == 1 for own in splits.values())
    assert Counter(row["split"] for row in rows) == {"train": 16, "val": 4, "test": 4}
    assert len(read_manifest(tmp_path / "one.csv").samples) == 24


def test_files_hold_a_split_each(table, tmp_path, capsys):
    assert run("data", "split", table, tmp_path / "out", "--files", capsys=capsys)[0] == 0
    parts = {path.stem: read_rows(path) for path in (tmp_path / "out").iterdir()}
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 16, "val": 4, "test": 4}
    assert {row["split"] for row in parts["val"]} == {"val"}
    assert all(read_manifest(tmp_path / "out" / f"{name}.csv").samples[0].source.endswith(".mp4") for name in parts)


def test_folds_test_each_clip_once(table, tmp_path, capsys):
    assert run("data", "split", table, tmp_path / "folds.csv", "--folds", 3, capsys=capsys)[0] == 0
    rows = read_rows(tmp_path / "folds.csv")
    assert Counter(row["fold"] for row in rows) == {"0": 8, "1": 8, "2": 8}
    assert "split" not in rows[0]
    assert read_manifest(tmp_path / "folds.csv").notes == ()
    assert run("data", "split", table, tmp_path / "k", "--folds", 3, "--files", capsys=capsys)[0] == 0
    for fold in range(3):
        tested = {row["path"] for row in read_rows(tmp_path / "k" / f"fold{fold}.csv") if row["split"] == "test"}
        assert {path.removeprefix(f"{tmp_path}/") for path in tested} == {
            r["path"] for r in rows if r["fold"] == str(fold)
        }


def test_what_cannot_be_divided_is_refused_or_said(table, tmp_path, capsys):
    status, _, err = run("data", "split", table, tmp_path / "o.csv", "--folds", 13, capsys=capsys)
    assert status == 1
    assert "12 groups, and no group is torn" in err
    assert run("data", "split", table, tmp_path / "o.txt", capsys=capsys)[0] == 2
    assert run("data", "split", table, tmp_path / "o.csv", "--fold", 1, capsys=capsys)[0] == 2
    rows = [{**row, "group": "big" if number < 20 else f"g{number}"} for number, row in enumerate(read_rows(table))]
    with table.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    status, out, _ = run("data", "split", table, tmp_path / "o.csv", "--val", 0.4, "--test", 0, capsys=capsys)
    assert status == 0
    assert "in place of 40%, because groups are never torn; the largest, group big, has 20" in out


def test_arrays_get_a_column(tmp_path, capsys):
    path = tmp_path / "volumes.npz"
    np.savez(
        path, x=np.arange(20 * 64, dtype=np.uint8).reshape(20, 4, 4, 4), y=np.arange(20) % 2, group=np.arange(20) // 2
    )
    assert run("data", "split", path, tmp_path / "table.csv", capsys=capsys)[0] == 2
    assert run("data", "check", path, "--write-clean", tmp_path / "table.csv", capsys=capsys)[0] == 2
    assert run("data", "split", path, tmp_path / "divided.npz", capsys=capsys)[0] == 0
    divided = read_manifest(tmp_path / "divided.npz")
    assert {split: sum(own.values()) for split, own in divided.counts().items()} == {"train": 14, "val": 4, "test": 2}
    with np.load(path) as before, np.load(tmp_path / "divided.npz") as after:
        assert set(after) == {*before, "split"}
        assert (before["x"] == after["x"]).all()


@pytest.mark.parametrize("names", [("x", "y"), ("train_images", "train_labels")])
def test_the_clean_rows_of_arrays_are_written(tmp_path, capsys, names):
    volumes = np.random.default_rng(3).integers(0, 255, (6, 9, 16, 16), np.uint8)
    volumes[4] = volumes[1]
    pixels, labels = names
    arrays = {pixels: volumes, labels: np.array([0, 1, 0, 1, 0, 1])}
    arrays |= {"weight": np.arange(6)} if pixels == "x" else {"test_images": volumes[:2] // 2, "test_labels": [0, 1]}
    np.savez(tmp_path / "set.npz", class_names=np.array(list("ab")), **arrays)
    arguments = ("data", "check", tmp_path / "set.npz", "--workers", 1, "--write-clean", tmp_path / "clean.npz")
    assert run(*arguments, capsys=capsys)[0] == 1
    with np.load(tmp_path / "clean.npz") as clean:
        assert len(clean["class_names"]) == 2
        assert (clean[pixels] == volumes[[0, 2, 3, 5]]).all()
        assert clean[labels].tolist() == [0, 0, 1, 1]
        assert (clean["weight"].tolist() == [0, 2, 3, 5]) if pixels == "x" else len(clean["test_images"]) == 2
    assert run(*arguments[:2], tmp_path / "clean.npz", "--workers", 1, capsys=capsys)[0] == 0


def test_stats_draw_what_a_set_holds(tmp_path, capsys):
    for label in ("walk", "run"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            write_clip(tmp_path / "set" / label / f"{number}.mp4", frames=10 + number, seed=10 * len(label) + number)
    (tmp_path / "set" / "run" / "bad.mp4").write_text("no video")
    status, out, _ = run("data", "stats", tmp_path / "set", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert status == 0
    assert "6 clips of 2 classes, 1 could not be read" in out
    facts = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert facts["counts"] == {"unsplit": {"run": 4, "walk": 3}}
    assert facts["frames"] == {"least": 10.0, "median": 11.0, "mean": 11.0, "most": 12.0}
    pictures = {"class_distribution.png", "contact_sheet.png", "histograms.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*pictures, "stats.json"}
