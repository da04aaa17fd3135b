"""Every planted defect is found, and nothing is said about what is clean."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from planted import Crasher, Garden, encode, make_clean, plant_copies, plant_files, plant_rows, write_rows
from run_command import run
from tubelet.data import fingerprints
from tubelet.data.fingerprints import MOMENTS, SIDE, make_fingerprint
from tubelet.data.health import check_health, examine_all
from tubelet.data.sample import Sample
from tubelet.video.synthetic import make_world


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("garden")
    garden = Garden(folder / "set", make_clean(folder / "set"))
    for plant in (plant_files, plant_copies, plant_rows):
        plant(garden)
    return garden


def list_codes(health, name):
    return {p.code for p in (*health.problems, *health.oddities) if p.source.split("#")[0].endswith("/" + name)}


@pytest.mark.slow
def test_a_clean_set_gives_no_finding(tmp_path):
    health = check_health(write_rows(tmp_path / "set", make_clean(tmp_path / "set")), workers=1, least_frames=16).health
    assert (health.problems, health.oddities, health.remarks) == ((), (), ())


def test_every_planted_defect_is_found_and_nothing_else(garden):
    table = write_rows(garden.folder, garden.rows)
    checkup = check_health(table, workers=1, least_frames=16)
    health = checkup.health
    missed = [p for p in garden.plants if not set(p.code.split("|")) & list_codes(health, p.name)]
    assert missed == []
    planted = {plant.name for plant in garden.plants}
    strangers = [
        problem
        for problem in (*health.problems, *health.oddities)
        if not any(name in (problem.source + " ".join(problem.others)) for name in planted)
    ]
    assert strangers == []
    typos = [remark.message for remark in health.remarks if remark.code == "label_typo"]
    assert {text.split("'")[1] for text in typos} >= {"fa st", "Fast", "fasts", "fsat"}
    assert {"few_clips", "imbalance"} <= {remark.code for remark in health.remarks}
    assert len(garden.plants) + len(typos) >= 40


@pytest.mark.slow
def test_the_clean_table_has_no_error_left(garden, tmp_path, capsys):
    table = write_rows(garden.folder, garden.rows)
    clean = tmp_path / "clean.csv"
    status, out, _ = run(
        *("data", "check", table, "--workers", 1, "--write-clean", clean, "--output", tmp_path / "health", "--json"),
        capsys=capsys,
    )
    assert status == 1
    assert json.loads(out)["problems"]
    with clean.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) > 60
    assert check_health(clean, workers=1).health.problems == ()
    page = (tmp_path / "health" / "health.html").read_text()
    assert "<b>&amp;.mp4" not in page
    assert "&lt;b&gt;&amp;amp;.mp4" in page


@pytest.mark.slow
@pytest.mark.parametrize("world", ["moving-shapes", "order", "color-shortcut"])
def test_worlds_are_clean(world, tmp_path):
    health = check_health(make_world(world, tmp_path / "set", clips=48), workers=1).health
    assert (health.problems, health.oddities) == ((), ())


def test_directions_and_imbalance_are_remarked(tmp_path, capsys):
    draw = np.random.default_rng(0)
    for label, count in (("turn_left", 20), ("turn_right", 2)):
        for number in range(count):
            encode(tmp_path / label / f"{number}.mp4", draw.integers(0, 255, (8, 32, 32, 3), np.uint8))
    status, out, _ = run("data", "check", tmp_path, "--workers", 1, "--json", capsys=capsys)
    health = json.loads(out)
    assert status == 0, health["problems"]
    assert {remark["code"] for remark in health["remarks"]} == {"imbalance", "few_clips", "mirrored_names"}


@pytest.mark.slow
def test_a_clip_that_kills_its_reader_is_named_and_the_others_are_read():
    names = [f"/{number}.mp4" for number in range(12)]
    names[5] = "/deadly.mp4"
    found = list(examine_all(tuple(Sample(name, "a") for name in names), 2, Crasher()))
    assert [own.source for own in found] == names
    assert [[problem.code for problem in own.problems] for own in found] == [
        ["crashed"] if name == "/deadly.mp4" else [] for name in names
    ]


@pytest.mark.real_data
@pytest.mark.slow
def test_only_the_corrupted_sample_is_an_error(real_data, tmp_path):
    endings = (".mp4", ".mkv", ".mov", ".gif", ".avi", ".webm")
    clips = [path for name in ("samples", "torchcodec_resources") for path in sorted((real_data / name).iterdir())]
    rows = [{"path": str(path), "label": path.parent.name} for path in clips if path.suffix in endings]
    health = check_health(write_rows(tmp_path, rows), workers=2, full=True).health
    assert [Path(problem.source).name for problem in health.problems] == ["corrupted.mp4"]
    turned = {Path(problem.source).name for problem in health.oddities if problem.code == "rotated"}
    assert {"video_90.mov", "nasa_13013_rotated.mp4"} >= turned >= {"video_90.mov"}


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["fight128", "ucf101_mini"])
def test_real_sets_have_no_error(name, real_data):
    column = {"fight128": "source_video"}.get(name)
    health = check_health(real_data / name / "split.csv", group_by=column, workers=2).health
    assert health.problems == ()
    found = Counter(Path(problem.source).name for problem in health.oddities)
    # One performance was cut into two groups of UCF101: seen with the eye, and in the same split here.
    assert set(found) == ({"v_YoYo_g10_c02.avi", "v_YoYo_g10_c03.avi"} if name == "ucf101_mini" else set())


def test_many_clips_that_are_alike_are_compared_with_few(monkeypatch):
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 255, (MOMENTS, SIDE, SIDE)).astype(np.uint8)
    prints = [
        make_fingerprint(np.clip(frames + 1.0 * (number % 3), 0, 255).astype(np.uint8), np.arange(MOMENTS) / 8, 4.0)
        for number in range(60)
    ]
    compared = []
    whole = fingerprints._is_same
    monkeypatch.setattr(fingerprints, "_is_same", lambda *pair: compared.append(1) or whole(*pair))
    kinds = ["train" if number < 40 else "test" for number in range(60)]
    pairs = fingerprints.find_near_duplicates(prints, kinds)
    assert {b for _, b in pairs} == set(range(1, 60))
    assert {a for a, b in pairs if b >= 40} >= {0}  # torn over splits: said of each
    assert len(compared) < 200
