"""Publishing a model: a push to a hub over real HTTP, the pull of what was pushed, and what is said when it fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tubelet
from hub import TOKEN, serve_hub
from run_command import run
from tubelet.errors import CheckpointError, ConfigError
from tubelet.prediction.publishing import REPORTS, pack, push

SCORE = """
import sys, numpy as np, tubelet
classifier = tubelet.load(sys.argv[1], device="cpu")
spec = classifier.input_spec
shape = (2, spec.frames, spec.height, spec.width, spec.channels)
clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
import torch
print(classifier.score(torch.from_numpy(clips)).tolist())
"""
FAIL = """
import sys
from pathlib import Path
from huggingface_hub import constants
from tubelet.errors import CheckpointError
from tubelet.prediction.publishing import Package, pack, push
package = pack(sys.argv[1], "me/mine")
for owner in ("refuses-401", "refuses-403", "refuses-500", "breaks-500", "down"):
    if owner == "down":
        constants.ENDPOINT = "http://127.0.0.1:9"
    try:
        push(Package(f"{owner}/mine", package.contents))
    except CheckpointError as error:
        print(error)
"""


def talk_to(address, tmp_path, *arguments, **changes):
    """Run Python as a user of that hub does, with a cache of its own."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "hub_cache"),
        "TUBELET_HOME": str(tmp_path / "own_cache"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        **changes,
    }
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def tubelet_push(address, tmp_path, *arguments):
    return talk_to(address, tmp_path, "-m", "tubelet", "push", *arguments)


@pytest.mark.slow
def test_what_was_pushed_loads_elsewhere_with_the_same_scores_bit_by_bit(small_run, tmp_path):
    with serve_hub() as (hub, address):
        done = tubelet_push(address, tmp_path, small_run, "me/mine", "--private", "--license", "apache-2.0")
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.splitlines()[-1] == f"{address}/me/mine"
        assert (hub.private["me/mine"], hub.commits["me/mine"]) == (True, 1)
        names = {"model.safetensors", "calibration.safetensors", "config.json", "README.md", *REPORTS}
        assert names <= hub.files["me/mine"].keys()
        for name in names - {"README.md"}:
            found = next(place / name for place in (small_run, small_run / "model") if (place / name).exists())
            assert hub.files["me/mine"][name] == found.read_bytes()
        there = talk_to(address, tmp_path, "-c", SCORE, "hf://me/mine")
        here = talk_to(address, tmp_path, "-c", SCORE, small_run)
    assert there.stdout == here.stdout != "", there.stderr[-3000:]


@pytest.mark.slow
def test_a_later_push_removes_what_no_longer_belongs_to_the_model_and_nothing_else(small_run, tmp_path):
    with serve_hub() as (hub, address):
        hub.files["me/mine"] = {"report.html": b"of another model", "notes.txt": b"by hand"}
        hub.private["me/mine"] = False
        done = tubelet_push(address, tmp_path, small_run / "model", "me/mine", "--private")
        assert "exists and is public" in done.stderr
        assert hub.commits == {}
        done = tubelet_push(address, tmp_path, small_run / "model", "me/mine", "--no-report")
    assert done.returncode == 0, done.stderr[-3000:]
    own = {"model.safetensors", "calibration.safetensors", "config.json", "README.md"}
    assert hub.files["me/mine"].keys() == own | {"notes.txt"}


@pytest.mark.slow
def test_a_hub_that_refuses_or_is_not_there_is_one_clear_error_and_nothing_changes(small_run, tmp_path):
    before = {path: path.read_bytes() for path in small_run.rglob("*") if path.is_file()}
    with serve_hub() as (hub, address):
        done = talk_to(address, tmp_path, "-c", FAIL, small_run)
    said = done.stdout.splitlines()
    assert len(said) == 5, done.stderr[-3000:]
    for line, reason, advice in zip(
        said,
        ("401", "403", "500", "500", "ConnectError"),
        ("token is not valid", "may not write", "push again later", "push again later", "check the connection"),
        strict=True,
    ):
        assert line.startswith("cannot push to '")
        assert reason in line
        assert advice in line
    assert hub.commits == {}
    assert not any(hub.files.values())
    assert {path: path.read_bytes() for path in small_run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_calibration_comes_along_with_the_model_that_speaks_of_one(tmp_path):
    with serve_hub() as (hub, address):
        config = json.dumps({"calibration": {}}).encode()
        hub.files["me/mine"] = dict.fromkeys(("model.safetensors", "calibration.safetensors"), b"x")
        hub.files["me/mine"]["config.json"] = config
        hub.files["me/none"] = {**hub.files["me/mine"], "config.json": b"{}"}
        script = "import sys; from tubelet.models.weights.source import find_weights as f; print(f(sys.argv[1]).folder)"
        folders = [talk_to(address, tmp_path, "-c", script, f"hf://me/{name}").stdout for name in ("mine", "none")]
    assert [(Path(folder.strip()) / "calibration.safetensors").exists() for folder in folders] == [True, False]


def test_a_dry_run_writes_what_would_be_uploaded_and_needs_no_hub(small_run, tmp_path, capsys):
    status, out, err = run("push", small_run, "me/mine", "--dry-run", tmp_path / "dry", capsys=capsys)
    assert status == 0, err
    package = pack(small_run, "hf://me/mine")
    assert {path.name: path.stat().st_size for path in (tmp_path / "dry").iterdir()} == package.list_sizes()
    assert {name in out for name in package.contents} == {True}
    assert "--no-report leaves them out" in out
    assert tubelet.load(tmp_path / "dry", device="cpu").classes == tubelet.load(small_run, device="cpu").classes
    run("push", small_run, "me/mine", "--no-report", "--dry-run", tmp_path / "dry", capsys=capsys)  # replaced
    assert "report.json" not in {path.name for path in (tmp_path / "dry").iterdir()}
    (tmp_path / "dry" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'mine\.txt'"):
        package.write(tmp_path / "dry")


def test_without_a_token_the_message_says_how_to_get_one(small_run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(CheckpointError, match="run 'hf auth login', or set HF_TOKEN"):
        push(pack(small_run, "me/mine"))


@pytest.mark.parametrize("repo", ["mine", "me/mine/too", "../mine", "me/..", "me/a--b", "me/mine@main", "", "me/"])
def test_names_that_the_hub_does_not_take_are_refused(repo, small_run):
    with pytest.raises(ConfigError, match="cannot publish as"):
        pack(small_run, repo)


def test_what_is_not_ours_to_publish_is_refused(small_run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vivit"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="a folder of transformers"):
        pack(tmp_path, "me/mine")
    with pytest.raises(ConfigError, match="published already"):
        pack("hf://me/theirs", "me/mine")
    with pytest.raises(CheckpointError, match="there is no such folder"):
        pack(tmp_path / "none", "me/mine")


def test_a_damaged_model_is_not_published(small_run, tmp_path):
    shutil.copytree(small_run / "model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="the file is damaged"):
        pack(tmp_path / "model", "me/mine")
