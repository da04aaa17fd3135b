"""Hold that the tensors of a checkpoint come back from their shards, and that damage to any of them is noticed."""

from dataclasses import replace

import pytest
import torch

from tubelet.errors import CheckpointError, ConfigError, TrainingError
from tubelet.files import DiskFull
from tubelet.recipes.recipe import Recipe
from tubelet.training.ranks import ALONE, Ranks
from tubelet.training.run import Run, load_checkpoint, save_checkpoint
from tubelet.training.sharding import gather_weights, make_filler
from tubelet.training.shards import read_shards, write_shards
from tubelet.video.spec import InputSpec


def make_state(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "model": {"head.weight": torch.randn(3, 4, generator=generator), "counted": torch.tensor(seed)},
        "optimizer": {
            "state": {0: {"exp_avg": torch.randn(3, 4, generator=generator), "step": torch.tensor(float(seed))}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "average": None,
        "scaler": {},
    }


@pytest.fixture
def run(tmp_path):
    """A run that has written three checkpoints, and died while it wrote a fourth."""
    run = Run(tmp_path)
    for seed in (1, 2, 3):
        save_checkpoint(run.checkpoint_path, write_shards(run.shards_path, make_state(seed), ALONE))
        run.remove_unused_shards()
    write_shards(run.shards_path, make_state(4), ALONE)
    return run


def read(run, state):
    return read_shards(run.shards_path, state, lambda _place: torch.zeros(3, 4))


def test_tensors_come_back_to_their_places(run):
    state, remark = run.read_checkpoint()
    back, wanted = read(run, state), make_state(3)
    assert remark == ""
    assert torch.equal(back["model"]["head.weight"], wanted["model"]["head.weight"])
    assert torch.equal(back["model"]["counted"], wanted["model"]["counted"])
    assert all(
        torch.equal(back["optimizer"]["state"][0][key], value) for key, value in wanted["optimizer"]["state"][0].items()
    )
    assert back["optimizer"]["param_groups"] == wanted["optimizer"]["param_groups"]
    assert (back["average"], back["scaler"]) == (None, {})


def test_shards_that_no_checkpoint_names_are_removed(run):
    assert len(list(run.shards_path.iterdir())) == 3
    run.remove_unused_shards()
    kept = {load_checkpoint(run.folder / name)["shards"]["folder"] for name in ("last.ckpt", "previous.ckpt")}
    assert {path.name for path in run.shards_path.iterdir()} == kept
    run.clear()
    assert not run.shards_path.exists()


@pytest.mark.parametrize("damage", ["a bit", "cut", "gone"])
def test_a_damaged_shard_is_noticed_and_the_checkpoint_before_used(run, damage):
    shards = load_checkpoint(run.checkpoint_path)["shards"]
    (path,) = (run.shards_path / shards["folder"]).iterdir()
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content if damage == "a bit" else content[:-1])
    if damage == "gone":
        path.unlink()
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(run.checkpoint_path)
    state, remark = run.read_checkpoint()
    assert remark.endswith("Going on from previous.ckpt instead.")
    assert torch.equal(read(run, state)["model"]["head.weight"], make_state(2)["model"]["head.weight"])


def test_a_full_disk_leaves_what_was_written_before(run, monkeypatch):
    def refuse(*_given, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save", refuse)
    with pytest.raises(DiskFull, match=r"they need 108 bytes, [\d,]+ are free there"):
        write_shards(run.shards_path, make_state(5), ALONE)
    state, _ = run.read_checkpoint()
    assert torch.equal(read(run, state)["model"]["head.weight"], make_state(3)["model"]["head.weight"])


def test_machines_that_share_no_disk_are_told_so(tmp_path):
    class Apart(Ranks):
        def gather(self, value):
            return [value, ["another.safetensors"]]

    with pytest.raises(TrainingError, match="on a disk that all of them share"):
        write_shards(tmp_path / "shards", make_state(1), Apart())


def test_parts_of_batches_are_refused_where_processes_must_take_as_many_as_each_other():
    training = replace(Recipe().training, sharded=True)
    with pytest.raises(ConfigError, match="set auto_microbatch to false"):
        replace(training, auto_microbatch=True)


def test_fillers_fit_the_contract():
    filler = make_filler(InputSpec(frames=4, height=8, width=6, differences="append"), 3)
    assert (filler.clips.shape, filler.clips.dtype) == ((2, 4, 8, 6, 3), torch.uint8)
    assert (filler.labels.shape, filler.labels.dtype) == ((2, 3), torch.bool)


def test_the_weights_of_a_whole_model_are_its_own():
    model = torch.nn.Linear(2, 2)
    assert gather_weights(model)["weight"].data_ptr() == model.weight.data_ptr()
    assert gather_weights(model, keep=False) == {}
