"""The commands about data sets of the catalogue do what they say, and a training gets its data by name."""

import json

import pytest

from run_command import run
from small_run import make_tiny_recipe, write_clip
from tubelet.data.assignments import read_assignments
from tubelet.data.catalogue import Request, fetch_dataset
from tubelet.evaluation.evaluate import evaluate
from tubelet.training.train import train


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "data"


@pytest.fixture
def own(tmp_path):
    """A folder with a clip of each of the first ten groups of two classes."""
    for label in ("Punch", "YoYo"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for group in range(1, 11):
            write_clip(tmp_path / "own" / label / f"v_{label}_g{group:02d}_c01.mp4", seed=group)
    return tmp_path / "own"


def test_the_list_tells_people_and_programs(own, capsys):
    assert run("data", "download", "ucf101", "--archive", own, capsys=capsys)[0] == 0
    status, out, _ = run("data", "list", capsys=capsys)
    assert status == 0
    (row,) = [line for line in out.splitlines() if "ucf101" in line]
    assert "7.0 GB" in row
    assert "yes" in row
    facts = {
        fact["name"]: fact for fact in map(json.loads, run("data", "list", "--json", capsys=capsys)[1].splitlines())
    }
    assert facts["ucf101"]["on_disk"] is True
    assert facts["hmdb51"]["on_disk"] is False
    assert facts["ucf101"]["citation"].startswith("Soomro")
    assert facts["hmdb51"]["splits"] == 3


def test_a_folder_that_is_there_becomes_a_data_set(home, own, capsys):
    command = ("data", "download", "ucf101", "--archive", own, "--classes", "YoYo", "--classes", "Punch", "--fold", 2)
    status, out, _ = run(*command, capsys=capsys)
    assert status == 0
    assert out.startswith(f"ucf101: 2 classes, 14 train, 6 test; {home / 'ucf101' / 'split2.csv'}")
    assert "note: 268 clips that the official lists name cannot be used" in out
    assert "cite: Soomro" in out
    result = json.loads(run(*command, "--json", capsys=capsys)[1])
    assert result["classes"] == ["Punch", "YoYo"]
    assert result["counts"] == {"train": 14, "test": 6}


def test_what_cannot_be_got_is_an_error_with_a_remedy(home, capsys):
    status, _, err = run("data", "download", "ucf11", capsys=capsys)
    assert status == 1
    assert "did you mean 'ucf101'" in err
    assert run("data", "download", "ucf101", "--fold", 7, capsys=capsys)[0] == 2
    status, _, err = run("train", "ucf101", "--no-download", capsys=capsys)
    assert status == 1
    assert "may not be fetched here" in err
    assert f"{home / 'ucf101' / 'UCF101_videos.zip'}" in err


# What is missing is remarked on, and a remark that nobody listens to is a warning.
REMARKS = ("ignore:.* clips that the official lists name", "ignore:.* classes have no sample")


@pytest.mark.slow
@pytest.mark.filterwarnings(*REMARKS)
def test_a_training_and_its_evaluation_keep_to_one_official_split(own, tmp_path):
    fetch_dataset("ucf101", Request(archive=own, classes=("Punch", "YoYo")))
    recipe = make_tiny_recipe("ucf101", epochs=1)
    result = train(recipe=recipe, name="two", runs=tmp_path / "runs", data__fold=2, data__download=False)
    splits = read_assignments(result.folder / "splits.csv")
    tested = {name.rpartition("_g")[2][:2] for name, split in splits.items() if split == "test"}
    assert tested == {"08", "09", "10"}
    assert result.report.n == 6
    for data in (None, "ucf101"):
        report = evaluate(result.folder, data)
        assert [row.support for row in report.metrics.per_class] == [3, 3]
        assert report.n == 6
        assert [remark for remark in report.remarks if "trained" in remark or "gone" in remark] == []


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.filterwarnings(*REMARKS)
def test_real_clips_train_by_the_official_split(real_data, tmp_path, capsys):
    folder = real_data / "ucf101_mini"
    command = ("data", "download", "ucf101", "--archive", folder, "--classes", "Punch", "--classes", "YoYo")
    assert run(*command, capsys=capsys)[0] == 0
    recipe = make_tiny_recipe("ucf101", epochs=1)
    result = train(recipe=recipe, name="mini", runs=tmp_path / "runs", data__fold=3)
    assert result.report is not None
