"""Hold what every command prints, writes and returns, run as a user runs it."""

import csv
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from run_command import run
from small_run import make_tiny_pretraining, make_tiny_recipe, write_clip
from tubelet.config import write_config


@pytest.fixture
def world(small_run):
    return small_run.parents[1] / "world" / "manifest.csv"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(write_config(make_tiny_recipe("")))
    return path


def test_train_writes_a_whole_run_folder_and_a_printed_recipe_that_reads_back(world, config, tmp_path, capsys):
    status, out, _ = run(
        "train", world, "--config", config, "--runs", tmp_path, "--name", "mine", "--epochs", 1, capsys=capsys
    )
    assert status == 0, out
    assert "top-1" in out
    (line,) = [line for line in out.splitlines() if line.startswith("epoch   1")]
    figures = r"train 0\.\d+ +\d+\.\d%  val 0\.\d+ +\d+\.\d%  lr 3\.0e-03, [\d.e+]+ clips/s, waiting \d+%, [\d,]+ MB"
    assert re.fullmatch(rf"epoch   1  {figures}", line)
    events = [json.loads(line) for line in (tmp_path / "mine" / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "epoch", "calibrate", "evaluate"]
    assert 50 < events[1]["memory_mb"] < 50_000
    found = {path.name for path in (tmp_path / "mine").iterdir()}
    expected = {"config.yaml", "model", "last.ckpt", "metrics.csv", "log.jsonl", "curves.png", "confusion.png"}
    assert expected | {"class_distribution.png", "report.json", "predictions.csv", "confusion.json"} <= found
    assert "epochs: 1" in (tmp_path / "mine" / "config.yaml").read_text()
    assert len((tmp_path / "mine" / "metrics.csv").read_text().splitlines()) == 2


def test_options_win_over_the_file_and_both_are_stored(world, config, tmp_path, capsys):
    options = ["--config", config, "--runs", tmp_path, "--name", "a", "--epochs", 1, "--optimizer.weight-decay", 0.125]
    assert run("train", world, *options, "--json", capsys=capsys)[0] == 0
    stored = (tmp_path / "a" / "config.yaml").read_text()
    assert "weight_decay: 0.125" in stored
    assert "lr: 0.003" in stored


def test_pretrain_says_what_it_looks_at_and_what_comes_next(world, tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(write_config(make_tiny_pretraining("")))
    options = ["--config", path, "--runs", tmp_path, "--name", "seen", "--epochs", 1, "--mask-ratio", 0.5]
    status, out, _ = run("pretrain", world, *options, capsys=capsys)
    assert status == 0, out
    assert "32 clips to learn from, without labels, 8 held out to measure the loss; 12 test clips are never" in out
    assert "50% hidden" in out
    assert f"next: tubelet train DATA --weights {tmp_path / 'seen'}" in out
    assert "mask_ratio: 0.5" in (tmp_path / "seen" / "config.yaml").read_text()
    status, out, _ = run("pretrain", "--resume", "--runs", tmp_path, "--name", "seen", "--json", capsys=capsys)
    assert (status, json.loads(out)["epochs"]) == (0, 1)
    status, _, err = run("predict", tmp_path / "seen", "clip.mp4", capsys=capsys)
    assert status == 1
    assert "no classes yet" in err
    assert f"tubelet train DATA --weights {tmp_path / 'seen'}" in err


@pytest.mark.slow
def test_a_run_is_not_replaced_unless_it_is_asked_for(world, config, tmp_path, capsys):
    options = ["train", world, "--config", config, "--runs", tmp_path, "--name", "a", "--epochs", 1, "--json"]
    assert run(*options, capsys=capsys)[0] == 0
    status, _, err = run(*options, capsys=capsys)
    assert status == 1
    for remedy in ("--resume", "--overwrite", "--name"):
        assert remedy in err
    assert run(*options, "--overwrite", capsys=capsys)[0] == 0
    assert run("train", "--resume", "--runs", tmp_path, "--name", "a", "--json", capsys=capsys)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "train"),
        (["train", "clips", "--optimizer.lrr", "1"], "--optimizer.lr"),
        (["train", "moving-shapes", "--model", "vivit_nano_jiont"], "vivit_nano_joint"),
        (["train", "moving-shapes", "--training.precision", "fp31"], "fp32"),
        (["train", "--resume", "--name", "x", "--config", "x.yaml"], "found x.yaml too - leave one out"),
        (["pretrain", "--resume", "--name", "x", "--recipe", "x"], "found x too - leave one out"),
        (["recipe", "fields", "lr"], "did you mean 'optimizer.lr'?"),
        (["recipe", "fields", "name"], "did you mean 'model.name' or 'optimizer.name'?"),
        (["predict"], "--model"),
        (["predict", "runs/x", "--topp", "2"], "--top"),
    ],
)
def test_what_is_not_understood_ends_with_status_2_and_the_nearest_name(arguments, says, capsys):
    status, out, err = run(*arguments, capsys=capsys)
    assert status == 2
    assert says in err + out
    assert "Traceback" not in err


def test_what_fails_ends_with_status_1_and_one_message(capsys, tmp_path):
    status, _, err = run("train", tmp_path / "nothing", capsys=capsys)
    assert status == 1
    assert "nothing" in err
    assert "Traceback" not in err


def test_evaluate_prints_figures_and_writes_its_report(small_run, tmp_path, capsys):
    status, out, _ = run("evaluate", small_run, "--output", tmp_path / "report", "--workers", 0, capsys=capsys)
    assert status == 0
    assert "12 clips of 'test', 0 failed" in out
    assert json.loads((tmp_path / "report" / "report.json").read_text())["n"] == 12
    status, out, _ = run("evaluate", small_run, "--json", "--workers", 0, "--split", "val", capsys=capsys)
    assert (status, json.loads(out)["n"]) == (0, 8)


def test_predict_prints_one_object_a_line_and_fails_at_the_end_only(small_run, tmp_path, capsys):
    write_clip(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"no video at all")
    write_clip(tmp_path / "c.mp4")
    status, out, _ = run("predict", small_run, tmp_path, "--json", "--output", tmp_path / "scores.csv", capsys=capsys)
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert [set(row) for row in rows] == [
        {"source", "task", "label", "labels", "score", "scores", "label_set", "distance", "is_unknown"},
        {"source", "error"},
        {"source", "task", "label", "labels", "score", "scores", "label_set", "distance", "is_unknown"},
    ]
    assert rows[1]["error"]["code"] == "not_a_video"
    assert "b.mp4" in rows[1]["error"]["message"]
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 4
    status, out, err = run("predict", small_run, tmp_path / "a.mp4", "--coverage", 0.8, capsys=capsys)
    assert (status, err) == (0, "")
    assert out.startswith(str(tmp_path / "a.mp4"))


def read_scores(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_the_table_of_predictions_lists_every_source_even_where_all_fail(small_run, tmp_path, capsys):
    scores, good, bad = tmp_path / "scores.csv", write_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    bad.write_bytes(b"no video at all")
    assert run("predict", small_run, bad, good, "--output", scores, capsys=capsys)[0] == 1
    failed, done = read_scores(scores)
    trust = ("label_set", "distance", "is_unknown")
    assert set(done) == {"source", "label", "score", *trust, "score:fast", "score:slow", "error"}
    assert (failed["source"], failed["label"], failed["score"], failed["score:fast"]) == (str(bad), "", "", "")
    assert failed["error"].startswith("not_a_video: ")
    assert (done["source"], done["error"]) == (str(good), "")
    assert float(done["score"]) == max(float(done["score:fast"]), float(done["score:slow"]))
    assert run("predict", small_run, bad, "--output", scores, capsys=capsys)[0] == 1
    assert [row["source"] for row in read_scores(scores)] == [str(bad)]


@pytest.mark.parametrize(("place", "expected"), [("taken", 2), ("file.txt/scores.csv", 1)])
def test_an_output_that_cannot_be_written_is_one_message_before_the_work(small_run, tmp_path, capsys, place, expected):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("no job")
    (tmp_path / "file.txt").write_text("")
    write_clip(tmp_path / "a.mp4")
    status, out, err = run(
        "predict", small_run, tmp_path / "a.mp4", "--output", tmp_path / place, "--json", capsys=capsys
    )
    assert (status, out) == (expected, "")
    assert str(tmp_path / place) in err
    assert ".writing-" not in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "file.txt", "taken"]
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]


def test_what_the_system_refuses_is_one_message(tmp_path, capsys, small_run):
    (tmp_path / "file.txt").write_text("")
    status, _, err = run(
        "evaluate", small_run, "--output", tmp_path / "file.txt" / "inner", "--workers", 0, capsys=capsys
    )
    assert status == 2
    assert "file.txt' is a file - give a folder" in " ".join(err.split())


@pytest.mark.slow
def test_a_reader_who_leaves_early_ends_the_command_quietly(small_run, tmp_path):
    # More than a small pipe and the reader's buffer hold: the command cannot be through before the reader is gone.
    many = [write_clip(tmp_path / "clip.mp4")] * 300
    for options in (["--json"], []):
        command = [sys.executable, "-m", "tubelet", "predict", small_run, *many, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            fcntl.fcntl(running.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
            assert running.stdout.readline().strip()
            running.stdout.close()
            err = running.stderr.read()
        told = [line for line in err.splitlines() if not line.startswith("note: label sets")]  # of so few clips
        assert (running.returncode, told) == (141, []), options


@pytest.mark.parametrize("command", [["recipe", "list"], ["recipe", "show", "ucf101/vivit"]])
def test_a_list_that_nobody_reads_ends_as_by_sigpipe(command):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "tubelet", *command], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_pipe_that_breaks_elsewhere_is_not_passed_over():
    program = """
import tubelet.cli
def fail(*arguments, **options):
    raise BrokenPipeError(32, "Broken pipe")
tubelet.cli.app = fail
tubelet.cli.main(["models"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (1, "tubelet: [Errno 32] Broken pipe")


ODD_NAME = os.fsdecode(b"caf\xe9.mp4")


@pytest.mark.slow
def test_names_that_are_no_text_are_printed_and_written(small_run, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(tmp_path / "good.mp4").rename(folder / ODD_NAME)
    (folder / f"broken {ODD_NAME}").write_bytes(b"no video at all")
    scores = tmp_path / "scores.csv"
    for options in (["--json", "--output", scores], []):
        command = [sys.executable, "-m", "tubelet", "predict", small_run, folder, *options]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert b"caf" in done.stdout
        if options:
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert [Path(row["source"]).name for row in rows] == [f"broken {ODD_NAME}", ODD_NAME]
    assert [Path(row["source"]).name for row in read_scores(scores)] == [f"broken {ODD_NAME}", ODD_NAME]


@pytest.mark.slow
def test_a_training_on_names_that_are_no_text_ends_with_all_its_tables(config, tmp_path, capsys):
    for label in ("walk", "run"):
        for split in ("train", "val", "test"):
            folder = tmp_path / "clips" / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                clip = write_clip(
                    tmp_path / f"{number}.mp4", size=(16, 16), seed=len(split) * 4 + number * 2 + len(label) % 2
                )
                clip.rename(folder / f"{number} {ODD_NAME}")
    broken = tmp_path / "clips" / "test" / "run" / f"broken {ODD_NAME}"
    broken.write_bytes(b"no video at all")
    status, _, err = run(
        "train", tmp_path / "clips", "--config", config, "--runs", tmp_path / "runs", "--name", "odd", "--epochs", 1,
        capsys=capsys,
    )  # fmt: skip
    assert status == 0, err
    folder = tmp_path / "runs" / "odd"
    sources = [row["source"] for row in read_scores(folder / "predictions.csv")]
    assert len(sources) == 5
    assert all(source.endswith(ODD_NAME) for source in sources)
    failed = json.loads((folder / "report.json").read_text(encoding="utf-8"))["failed"]
    assert len(failed) == 1
    assert ODD_NAME in json.dumps(failed, ensure_ascii=False)


def test_data_check_finds_what_cannot_be_read(small_run, tmp_path, capsys):
    for label in ("walk", "run"):
        (tmp_path / label).mkdir()
        for number in range(3):
            write_clip(tmp_path / label / f"{number}.mp4", seed=10 * len(label) + number)
    assert run("data", "check", tmp_path, "--workers", 1, capsys=capsys)[0] == 0
    (tmp_path / "run" / "9.mp4").write_bytes((tmp_path / "run" / "0.mp4").read_bytes()[:700])
    status, out, _ = run("data", "check", tmp_path, "--workers", 1, "--json", capsys=capsys)
    health = json.loads(out)
    assert status == 1
    assert [problem["source"].endswith("9.mp4") for problem in health["problems"]] == [True]
    assert health["codecs"] == {"h264": 6}


def test_models_data_and_doctor_tell_programs_and_people(capsys):
    status, out, _ = run("models", "vivit_base_*", "--json", capsys=capsys)
    assert status == 0
    assert {json.loads(line)["parameters"] for line in out.splitlines()} >= {88_954_000, 115_062_928}
    assert "vivit_organ" in run("models", capsys=capsys)[1]
    assert "moving-shapes" in run("data", "list", capsys=capsys)[1]
    status, out, _ = run("doctor", "--json", capsys=capsys)
    findings = {finding["subject"]: finding for finding in map(json.loads, out.splitlines())}
    assert status == 0, [finding for finding in findings.values() if not finding["ok"]]
    assert findings["decoder pyav"]["found"].startswith("works")


def test_the_module_runs_as_a_program_and_help_needs_no_pytorch():
    program = """
import runpy, sys
sys.argv = ["tubelet", "--help"]
try:
    runpy.run_module("tubelet", run_name="__main__")
except SystemExit:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert "train" in done.stdout
