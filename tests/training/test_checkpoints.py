"""Hold that a checkpoint is whole, that a damaged one is noticed, and that a full disk takes none away."""

import os
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tubelet import train
from tubelet.errors import CheckpointError
from tubelet.files import DiskFull
from tubelet.training.pace import PACE
from tubelet.training.progress import Quiet
from tubelet.training.run import Run, load_checkpoint, save_checkpoint

FULL_DISK = """
import pathlib, sys
from tubelet.files import DiskFull
from tubelet.training.run import load_checkpoint, save_checkpoint
state, last = load_checkpoint(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2], "last.ckpt")
for number in range(2):
    save_checkpoint(last, {**state, "number": number})
try:
    save_checkpoint(last, {**state, "number": 2})
except DiskFull as error:
    print(error)
    print(load_checkpoint(last)["number"], sorted(path.name for path in last.parent.iterdir()))
"""


@pytest.fixture
def folder(small_run, tmp_path):
    """A run of two epochs, with the checkpoints after both."""
    shutil.copytree(small_run, tmp_path / "small")
    return tmp_path / "small"


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def read_result(folder: Path) -> list[object]:
    """Give what training has led to, bit by bit, without times."""
    state = load_checkpoint(folder / "last.ckpt")
    rows = [{**row, **dict.fromkeys(PACE, 0)} for row in state["progress"]["history"]]
    moments = [value for _, values in sorted(state["optimizer"]["state"].items()) for value in values.values()]
    tensors = [*state["model"].values(), *moments]
    return [rows, [tensor.numpy().tobytes() for tensor in tensors], (folder / "model/model.safetensors").read_bytes()]


@contextmanager
def limited(file_bytes: int):
    """Let no file grow beyond so many bytes, as a full disk would."""
    import resource  # Windows has none

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def damage(whole: bytes, seed: int) -> list[bytes]:
    """Flip one of its bits in 200 copies, and cut 50 copies off."""
    chance = random.Random(seed)
    flipped = []
    for bit in chance.sample(range(8 * len(whole)), 200):
        copy = bytearray(whole)
        copy[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(copy))
    return [*flipped, *(whole[:length] for length in chance.sample(range(len(whole)), 50))]


def test_250_of_250_damaged_checkpoints_are_noticed_before_a_tensor_is_read(folder, monkeypatch):
    last, previous = folder / "last.ckpt", folder / "previous.ckpt"
    loaded, read = load_checkpoint(previous), []

    def load(stream, **_):
        read.append(stream.getvalue())
        return loaded

    monkeypatch.setattr(torch, "load", load)
    noticed = 0
    for damaged in damage(last.read_bytes(), 0):
        last.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"last\.ckpt' is damaged - expected .* found"):
            load_checkpoint(last)
        assert read == []
        checkpoint, remark = Run(folder).read_checkpoint()
        assert "last.ckpt' is damaged" in remark
        assert remark.endswith("Going on from previous.ckpt instead.")
        assert checkpoint is loaded
        assert previous.read_bytes().endswith(read.pop())
        noticed += 1
    assert noticed == 250


def test_a_run_without_an_intact_checkpoint_says_so(folder):
    for name in ("last.ckpt", "previous.ckpt"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="no intact checkpoint is left - start it anew"):
        Run(folder).read_checkpoint()


@pytest.mark.slow
def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before_and_ends_with_the_same_bits(folder):
    before = read_result(folder)
    content = bytearray((folder / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "last.ckpt").write_bytes(content)
    with pytest.warns(UserWarning, match=r"last\.ckpt' is damaged .* Going on from previous\.ckpt instead"):
        train(name="small", runs=folder.parent, resume=True)
    assert read_result(folder) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on file sizes")
def test_a_disk_that_is_full_at_any_byte_keeps_the_checkpoint_and_says_what_is_needed(folder):
    last = folder / "last.ckpt"
    state = load_checkpoint(last)
    state.pop("format")
    (folder.parent / "elsewhere").mkdir()
    save_checkpoint(folder.parent / "elsewhere" / "last.ckpt", state)
    size = (folder.parent / "elsewhere" / "last.ckpt").stat().st_size
    before = read_files(folder)
    offsets = [1, 47, 48, 49, size - 1, *random.Random(0).sample(range(50, size - 1), 20)]
    refused = 0
    for offset in offsets:
        with limited(offset), pytest.raises(DiskFull) as caught:
            save_checkpoint(last, state)
        assert f"cannot write '{last}.next' - it needs at least {size:,} bytes, " in str(caught.value)
        assert f"{shutil.disk_usage(folder).free // 10**10:,}" in str(caught.value)
        assert read_files(folder) == before
        refused += 1
    assert refused == 25
    assert load_checkpoint(last)["progress"]["epoch"] == 2
    with limited(size):
        save_checkpoint(last, state)
    assert load_checkpoint(folder / "previous.ckpt")["progress"]["epoch"] == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="small file systems are mounted as Linux does it")
def test_a_file_system_without_room_keeps_the_checkpoint(small_run, tmp_path):
    source = small_run / "last.ckpt"
    room = f"mount -t tmpfs -o size={source.stat().st_size * 5 // 2} none '{tmp_path}'"
    if subprocess.run(["unshare", "-rm", "sh", "-c", room], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    command = ["unshare", "-rm", "sh", "-c", f'{room} && exec "$@"', "sh", sys.executable, "-c", FULL_DISK]
    done = subprocess.run([*command, source, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    message, found = done.stdout.splitlines()
    assert "No space left on device" in message
    assert "needs at least" in message
    assert found == "1 ['last.ckpt', 'previous.ckpt']"


class Filling(Quiet):
    """Fill the disk when some steps are done."""

    def __init__(self, steps, limit):
        self.steps = steps
        self.limit = limit

    def on_step(self, epoch, done, num_batches, totals):
        self.steps -= 1
        if self.steps == 0:
            self.limit.__enter__()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on file sizes")
@pytest.mark.slow
def test_a_run_that_finds_the_disk_full_goes_on_when_there_is_room_again(small_run, folder, tmp_path):
    (folder / "last.ckpt").unlink()
    limit = limited((small_run / "last.ckpt").stat().st_size - 1)
    try:
        with pytest.raises(DiskFull, match=r"last\.ckpt\.next' - it needs at least"):
            train(name="small", runs=tmp_path, resume=True, listener=Filling(4, limit))
    finally:
        limit.__exit__(None, None, None)
    assert load_checkpoint(folder / "previous.ckpt")["progress"]["epoch"] == 1
    train(name="small", runs=tmp_path, resume=True)
    assert read_result(folder) == read_result(small_run)


def test_a_checkpoint_that_a_kill_left_without_its_name_gets_it(folder):
    (folder / "last.ckpt").replace(folder / "last.ckpt.next")
    newest = (folder / "last.ckpt.next").read_bytes()
    (folder / ".writing-0123").touch()
    run = Run.open(folder)
    # A run that is only looked at, by `tubelet replay`, may be writing at this moment.
    assert (folder / "last.ckpt.next").exists()
    assert (folder / ".writing-0123").exists()
    run.recover()
    assert (folder / "last.ckpt").read_bytes() == newest
    assert not (folder / "last.ckpt.next").exists()
    assert not (folder / ".writing-0123").exists()


@pytest.mark.slow
def test_a_run_that_was_killed_while_its_folder_was_made_ends_as_any_other(small_run, tmp_path):
    (tmp_path / "small").mkdir()
    shutil.copy(small_run / "config.yaml", tmp_path / "small")
    train(name="small", runs=tmp_path, resume=True)
    assert read_result(tmp_path / "small") == read_result(small_run)
    assert read_files(tmp_path / "small").keys() == read_files(small_run).keys()
    assert (tmp_path / "small" / "splits.csv").read_bytes() == (small_run / "splits.csv").read_bytes()
