"""Hold that a job of many videos gives each one row, whatever ends it and however often."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tubelet
from run_command import run
from small_run import write_clip
from tubelet.errors import CheckpointError, ConfigError
from tubelet.prediction import shards
from tubelet.prediction.predict import PredictionOptions
from tubelet.prediction.shards import predict_shard


def write_clips(folder, count):
    folder.mkdir()
    write_clip(folder / "clip.mp4")
    content = (folder / "clip.mp4").read_bytes()
    for number in range(count):
        (folder / f"{number:03d}.mp4").write_bytes(content if number % 10 else b"broken")
    (folder / "clip.mp4").unlink()
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips") / "clips", 12)


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def list_written(folder):
    return [row["source"] for path in sorted(folder.glob("shard-*/*.csv")) for row in read_rows(path)]


def test_shards_together_give_the_table_of_the_plain_command(small_run, clips, tmp_path, capsys):
    status, _, errors = run("predict", small_run, clips, "--output", tmp_path / "plain.csv", capsys=capsys)
    assert status == 1, errors
    for shard in ("2/3", "1/3", "3/3"):
        command = ("predict", small_run, clips, "--output", tmp_path / "job", "--shard", shard, "--json")
        status, printed, errors = run(*command, capsys=capsys)
        assert status == 0, errors
        report = json.loads(printed)
        assert (report["sources"], report["done"]) == (4, 4)
        assert (report["table"] is not None) == (shard == "3/3")
    plain, found = (read_rows(tmp_path / name) for name in ("plain.csv", "job/predictions.csv"))
    assert [list(row) for row in plain] == [list(row) for row in found]
    for one, other in zip(plain, found, strict=True):
        assert all(one[name] == other[name] for name in ("source", "label", "error"))
        if not one["error"]:
            assert float(one["score"]) == pytest.approx(float(other["score"]), abs=2e-6)
    assert sum(bool(row["error"]) for row in found) == 2


def test_work_goes_on_where_it_was_cut_and_nothing_is_done_twice(small_run, clips, tmp_path, monkeypatch):
    classifier = tubelet.load(small_run)
    monkeypatch.setattr(shards, "ROWS_A_FILE", 3)

    def stop(done, _total):
        if done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(shards.Interrupted) as stopped:
        predict_shard(classifier, [clips], tmp_path / "job", on_step=stop)
    assert stopped.value.status == 143
    assert len(list_written(tmp_path / "job")) == 5
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "job").glob("shard-*/*.csv")}
    (next(iter(kept)).parent / ".writing-0123").write_text("cut short")
    report = predict_shard(classifier, [clips], tmp_path / "job")
    assert (report.done, report.failed, report.sources) == (7, 1, 12)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list((tmp_path / "job").rglob(".writing-*"))
    expected = sorted(map(str, clips.iterdir()))
    assert list_written(tmp_path / "job") == expected
    assert [row["source"] for row in read_rows(Path(report.table))] == expected
    assert predict_shard(classifier, [clips], tmp_path / "job").done == 0


def test_rows_that_two_processes_wrote_count_once(small_run, clips, tmp_path):
    classifier = tubelet.load(small_run)
    predict_shard(classifier, [clips], tmp_path / "job")
    (table,) = (tmp_path / "job").glob("predictions.csv")
    before = table.read_bytes()
    (part,) = (tmp_path / "job").glob("shard-*/*.csv")
    header, *rows = part.read_text().splitlines(keepends=True)
    part.with_name("000000003-000000007.csv").write_text(header + "".join(rows[3:7]))
    table.unlink()
    predict_shard(classifier, [clips], tmp_path / "job")
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": 2}, "begun with shards 1, now asked for is 2"),
        ({"options": PredictionOptions(views=2)}, "views 1, now asked for is 2"),
        ({"sources": ["other.mp4"]}, "begun with sources"),
        ({"model": True}, "another model"),
    ],
)
def test_another_job_in_the_same_folder_is_refused(small_run, clips, tmp_path, change, message):
    classifier = tubelet.load(small_run)
    shards._open_job(tmp_path / "job", [str(clips)], shards._describe(classifier, [str(clips)], 1, PredictionOptions()))
    if change.pop("model", False):
        next(classifier.model.parameters()).data.add_(1)
    sources = change.pop("sources", [clips])
    with pytest.raises(ConfigError, match=message):
        predict_shard(classifier, sources, tmp_path / "job", **change)


def test_what_is_missing_or_damaged_in_a_job_is_said_or_made_anew(small_run, clips, tmp_path):
    classifier, job = tubelet.load(small_run), tmp_path / "job"
    with pytest.raises(ConfigError, match=r"there is no .*nosuch"):
        predict_shard(classifier, [tmp_path / "nosuch"], job)
    assert not (job / "job.json").exists()
    predict_shard(classifier, [clips], job)
    whole = (job / "predictions.csv").read_text()
    (job / "predictions.csv").write_text("")
    assert predict_shard(classifier, [clips], job).done == 0
    assert (job / "predictions.csv").read_text() == whole
    (job / "job.json").write_text('{"a":')
    with pytest.raises(CheckpointError, match="the file is damaged"):
        predict_shard(classifier, [clips], job)


def test_a_folder_of_other_things_and_a_shard_at_work_are_refused(small_run, clips, tmp_path):
    classifier = tubelet.load(small_run)
    with pytest.raises(ConfigError, match=r"holds '000.mp4' and no job.json"):
        predict_shard(classifier, [clips], clips)
    script = (
        "import sys, fcntl; lock = open(sys.argv[1], 'a+'); fcntl.lockf(lock, fcntl.LOCK_EX); print(flush=True); "
        "sys.stdin.read()"
    )
    lock = tmp_path / "job" / "shard-0001-of-0001" / "lock"
    lock.parent.mkdir(parents=True)
    (tmp_path / "job" / "job.json").write_text(
        json.dumps({**shards._describe(classifier, [str(clips)], 1, PredictionOptions()), "count": 12})
    )
    other = subprocess.Popen([sys.executable, "-c", script, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        other.stdout.readline()
        with pytest.raises(ConfigError, match="another process works on this shard"):
            predict_shard(classifier, [clips], tmp_path / "job")
        other.stdin.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_30_kills_each_of_200_videos_has_one_row(small_run, tmp_path):
    folder, job = write_clips(tmp_path / "clips", 200), tmp_path / "job"
    script = os.fspath(Path(__file__).with_name("kill_jobs.py"))
    done = subprocess.run([sys.executable, script, small_run, folder, job, "30"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(found)
    assert found["killed"] == 30
    expected = sorted(map(str, folder.iterdir()))
    assert list_written(job) == expected
    table = read_rows(job / "predictions.csv")
    assert [row["source"] for row in table] == expected
    assert sum(bool(row["error"]) for row in table) == 20
    assert not list(job.rglob(".writing-*"))
