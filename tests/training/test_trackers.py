"""Hold what experiment trackers are told: everything once, also of a run that was interrupted, at no risk to it."""

import inspect
import json
import os
import struct
import sys
import time

import pytest
import torch

from run_command import run as run_command
from small_run import make_tiny_recipe
from tubelet.config import flatten
from tubelet.data.manifest import Manifest
from tubelet.errors import Interrupted, MissingExtra, TrainingError
from tubelet.training.progress import Listener, Listeners, Quiet
from tubelet.training.run import Run
from tubelet.training.trackers import TRACKERS, MlflowTracker, TensorBoardTracker, Tracker, WandbTracker, make_trackers
from tubelet.training.train import train

ROWS = [
    {"epoch": float(epoch), "lr": 0.1 / epoch, "train_loss": 1.0 / epoch, "val_loss": float("nan"), "memory_mb": 500.0}
    for epoch in range(1, 6)
]


def play(tracker, folder, epochs, error=None):
    """Do what a run does that is at these epochs: metrics.csv always has all rows so far."""
    folder.mkdir(exist_ok=True)
    tracker.on_start(folder, make_tiny_recipe("clips"), Manifest((), (), "clips"), torch.nn.Identity())
    for epoch in epochs:
        Run(folder).write_metrics(ROWS[:epoch])
        tracker.on_epoch(ROWS[epoch - 1])
    tracker.on_close(error)


class Recording(Tracker):
    """Track in lists; refuse to be told of epochs in `deaf`."""

    name = "recording"
    module = "json"

    def __init__(self, deaf=()):
        super().__init__()
        self.steps, self.deaf, self.closed = [], set(deaf), []

    def _open(self, folder, recipe, known):
        return {"id": "one"}

    def _log(self, figures, epoch):
        if epoch in self.deaf:
            self.deaf.remove(epoch)
            raise ConnectionError("no route to host")
        assert "val/loss" not in figures  # it was not measured
        self.steps.append((epoch, figures["train/loss"]))

    def _conclude(self, figures):
        raise AssertionError

    def _add_pictures(self, paths):
        assert paths == []

    def _close(self, error):
        self.closed.append(error)


def test_a_tracker_is_told_of_each_epoch_once_however_often_the_run_goes_on(tmp_path):
    told = Recording()
    stopped = Interrupted("stopped", 143)
    play(told, tmp_path / "r", [1, 2], error=stopped)
    # The third epoch ended in a process that died before it told anybody.
    again = Recording()
    play(again, tmp_path / "r", [4, 5])
    assert told.steps + again.steps == [(epoch, 1.0 / epoch) for epoch in range(1, 6)]
    assert (told.closed, again.closed) == ([stopped], [None])
    assert json.loads((tmp_path / "r" / "tracking.json").read_text()) == {"recording": {"id": "one", "epoch": 5}}


def test_a_tracker_that_fails_costs_a_warning_and_is_told_after_the_next_epoch(tmp_path):
    tracker = Recording(deaf=[2])
    with pytest.warns(UserWarning, match="recording was not told of epoch 2 - no route to host"):
        play(tracker, tmp_path / "r", [1, 2, 3])
    assert [epoch for epoch, _ in tracker.steps] == [1, 2, 3]


def test_every_event_reaches_all_listeners():
    assert isinstance(Listeners([]), Listener)
    for name, event in inspect.getmembers(Listener, inspect.isfunction):
        if name.startswith("on_"):
            heard = []

            class Hearing(Quiet):
                pass

            setattr(Hearing, name, lambda self, *values, heard=heard: heard.append((self.place, values)))
            two = [Hearing(), Hearing()]
            for place, one in enumerate(two):
                one.place = place
            values = tuple(range(len(inspect.signature(event).parameters) - 1))
            inspect.unwrap(getattr(Listeners, name))(Listeners(two), *values)
            assert heard == [(0, values), (1, values)]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_message_before_anything_is_read(name, monkeypatch, capsys, tmp_path):
    for module in [one for one in sys.modules if one.startswith(TRACKERS[name].module)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, TRACKERS[name].module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'tubelet\[{name}\]'"):
        make_trackers([name])
    status, _, err = run_command("train", tmp_path / "no clips", "--track", name, capsys=capsys)
    assert (status, f"tubelet[{name}]" in err, len(err.strip().splitlines())) == (1, True, 1)
    status, _, err = run_command("train", "clips", "--track", name[:-1], capsys=capsys)
    assert (status, f"did you mean '{name}'?" in err) == (2, True)


class Leaving(Quiet):
    """End the run after an epoch, before anybody else hears of it."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch(self, row):
        if row["epoch"] == self.epoch:
            raise Interrupted("gone", 143)


@pytest.mark.slow
def test_tensorboard_reads_one_run_from_one_that_was_interrupted(small_run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = make_tiny_recipe(os.fspath(small_run.parents[1] / "world" / "manifest.csv"), epochs=3)
    with pytest.raises(Interrupted):
        train(recipe=recipe, name="r", runs=tmp_path, listener=Listeners([Leaving(2), TensorBoardTracker()]))
    result = train(name="r", runs=tmp_path, resume=True, listener=TensorBoardTracker())
    events = EventAccumulator(os.fspath(result.folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    rows = Run(result.folder).read_metrics()
    for tag, column in {"train/loss": "train_loss", "val/top1": "val_top1", "clips_per_s": "clips_per_s"}.items():
        told = [(event.step, event.value) for event in events.Scalars(tag)]
        assert told == [(row["epoch"], pytest.approx(row[column])) for row in rows]
    (final,) = events.Scalars("final/test_top1")
    assert (final.step, final.value) == (3, pytest.approx(result.report.metrics.top1))
    assert {"curves", "confusion"} <= set(tags["images"])
    (text,) = events.Tensors("recipe/text_summary")
    assert b"epochs: 3" in text.tensor_proto.string_val[0]


def read_records(path):
    """Read the records of a .wandb file: pieces in blocks of 32 KiB, after 7 bytes of a header."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = path.read_bytes(), 7, []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(b"".join(parts))
            parts = []


@pytest.mark.slow
def test_weights_and_biases_gets_two_parts_of_one_run_offline(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    play(WandbTracker(), tmp_path / "r", [1, 2], error=Interrupted("stopped", 143))
    time.sleep(1.1)  # its folders are named by the second
    play(WandbTracker(), tmp_path / "r", [3, 4])
    wandb.teardown()  # its service writes the last records when it ends
    files = sorted((tmp_path / "r" / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    parts = [list(read_records(path)) for path in files]
    runs = [record.run for part in parts for record in part if record.WhichOneof("record_type") == "run"]
    assert len({run.run_id for run in runs}) == 1
    assert {(run.display_name, run.project) for run in runs} == {("r", "tubelet")}
    settings = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert settings["model.name"] == "vivit_nano_factorized_encoder"
    history = [record.history for part in parts for record in part if record.WhichOneof("record_type") == "history"]
    told = [{item.nested_key[0]: json.loads(item.value_json) for item in one.item} for one in history]
    assert [(row["_step"], row["train/loss"]) for row in told] == [(e, pytest.approx(1 / e)) for e in (1, 2, 3, 4)]
    exits = [record.exit.exit_code for part in parts for record in part if record.WhichOneof("record_type") == "exit"]
    assert exits == [1, 0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # mlflow, of sqlalchemy
def test_mlflow_keeps_one_run_of_one_that_was_interrupted(tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.chdir(tmp_path)
    play(MlflowTracker(), tmp_path / "r", [1, 2], error=Interrupted("stopped", 143))
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("tubelet").experiment_id
    assert [run.info.status for run in client.search_runs([place])] == ["KILLED"]
    # What tracking.json says does not matter: the store knows what it has.
    known = json.loads((tmp_path / "r" / "tracking.json").read_text())
    (tmp_path / "r" / "tracking.json").write_text(json.dumps({"mlflow": {**known["mlflow"], "epoch": 0}}))
    (tmp_path / "r" / "curves.png").write_bytes(b"a picture")
    play(MlflowTracker(), tmp_path / "r", [4])
    (run,) = client.search_runs([place])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "r")
    assert run.data.params == {key: str(value) for key, value in flatten(make_tiny_recipe("clips")).items()}
    told = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(told) == [(epoch, 1.0 / epoch) for epoch in (1, 2, 3, 4)]
    assert [entry.path for entry in client.list_artifacts(run.info.run_id)] == ["curves.png"]


def test_a_tracker_that_cannot_be_opened_ends_the_run_before_the_first_epoch(tmp_path, monkeypatch):
    class Closed(Recording):
        def _open(self, folder, recipe, known):
            raise PermissionError("api_key not configured")

    with pytest.raises(TrainingError, match="with recording - api_key not configured - train without"):
        play(Closed(), tmp_path / "r", [])
