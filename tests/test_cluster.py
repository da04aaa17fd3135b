"""Hold that an actor on a Ray cluster answers row for row what the command answers."""

import csv

import numpy as np
import pytest

from run_command import run
from small_run import write_clip
from tubelet.cluster import VideoClassifier
from tubelet.errors import ConfigError, DataError


def test_a_batch_of_paths_becomes_rows_and_a_broken_video_one_of_them(small_run, tmp_path):
    good, bad = write_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    bad.write_bytes(b"no video")
    rows = VideoClassifier(small_run, device="cpu")({"source": np.array([str(good), str(bad)])})
    assert rows["source"] == [str(good), str(bad)]
    assert rows["label"][0] in ("slow", "fast")
    assert rows["error"][0] == ""
    assert rows["label"][1] == ""
    assert rows["error"][1].startswith("not_a_video: ")


def test_what_an_actor_cannot_do_is_said(small_run):
    with pytest.raises(DataError, match="it has no 'source'"):
        VideoClassifier(small_run)({"path": np.array(["a.mp4"])})
    with pytest.raises(ConfigError, match="views must be at least 1"):
        VideoClassifier(small_run, options={"views": 0})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_job_on_a_cluster_writes_the_rows_of_the_command(small_run, tmp_path, capsys):
    ray = pytest.importorskip("ray")
    (tmp_path / "clips").mkdir()
    paths = [str(write_clip(tmp_path / "clips" / f"{number:03}.mp4", seed=number)) for number in range(99)]
    paths.append(str(tmp_path / "clips" / "099.mp4"))
    (tmp_path / "clips" / "099.mp4").write_bytes(b"no video")
    # One clip at a time on both sides: how many are computed together shows in the last digits.
    table = tmp_path / "table.csv"
    status, _, err = run("predict", small_run, tmp_path / "clips", "--output", table, "--batch", 1, capsys=capsys)
    assert status == 1, err
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        job = ray.data.from_items([{"source": path} for path in paths]).map_batches(
            VideoClassifier,
            fn_constructor_kwargs={"model": str(small_run), "options": {"batch": 1}},
            batch_size=16,
            concurrency=1,
        )
        found = sorted(job.take_all(), key=lambda row: row["source"])
    finally:
        ray.shutdown()
    with table.open(newline="") as stream:
        assert found == list(csv.DictReader(stream))
