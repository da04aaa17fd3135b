"""Hold that batches are the same for any number of workers and any cache, and that no worker dies in silence."""

import importlib.util
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tubelet.data import dataset as dataset_module
from tubelet.data import loader
from tubelet.data.catalogue import open_data
from tubelet.data.clip_cache import ClipCache
from tubelet.data.dataset import ClipDataset
from tubelet.data.loader import EpochOrder, LoaderOptions, _follow, make_loader
from tubelet.errors import ConfigError, DataError
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.recipes.recipe import Recipe
from tubelet.training.feeding import prepare_training
from tubelet.transforms.policy import Augmentation
from tubelet.video.clip import VideoInfo
from tubelet.video.spec import InputSpec

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SPEC = InputSpec(frames=4, height=16, width=16)


@pytest.fixture
def manifest(small_run, tmp_path):
    shutil.copytree(small_run.parents[1] / "world", tmp_path / "world")
    return open_data(tmp_path / "world" / "manifest.csv")


def make_dataset(manifest):
    recipe = Recipe(input=SPEC, augmentation=Augmentation(horizontal_flip=0.5, crop_scale=(0.5, 1.0), brightness=0.2))
    prepare = partial(prepare_training, recipe=recipe, classes=manifest.classes)
    samples = list(manifest.select("train"))
    samples[3] = replace(samples[3], start_s=0.125)
    return ClipDataset(samples, manifest, SPEC, prepare, is_training=True, seed=7)


def read_epochs(manifest, *, between=lambda: None, **options):
    dataset = make_dataset(manifest)
    order = EpochOrder(len(dataset), 5, seed=7)
    batches = make_loader(dataset, order, LoaderOptions(batch=5, **options))
    stream = []
    for epoch in range(2):
        order.start(epoch)
        stream += [(batch.indices.tolist(), batch.labels.tolist(), batch.clips.clone()) for batch in batches]
        between()
    return stream


def check_same(one, other):
    assert len(one) == len(other) > 0
    for (indices, labels, clips), (indices2, labels2, clips2) in zip(one, other, strict=True):
        assert (indices, labels) == (indices2, labels2)
        assert torch.equal(clips, clips2)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_stream_is_the_same_for_any_number_of_workers(manifest, workers):
    check_same(read_epochs(manifest, workers=0), read_epochs(manifest, workers=workers))


@pytest.mark.parametrize(("workers", "folder"), [(0, ""), (2, ""), (2, "cache")])
def test_a_clip_that_was_decoded_once_serves_every_worker_in_the_next_epoch(manifest, tmp_path, workers, folder):
    plain = read_epochs(manifest, workers=0)
    folder = folder and str(tmp_path / folder)

    def lose_clips():
        for sample in manifest.samples:
            Path(sample.source).unlink(missing_ok=True)

    kept = read_epochs(manifest, workers=workers, cache_mb=50, cache_folder=folder, between=lose_clips)
    check_same(plain, kept)
    assert not folder or not list(Path(folder).iterdir())


def make_clip(number, frames):
    pixels = np.random.default_rng(number).integers(0, 255, (frames, 6, 5, 3), np.uint8)
    return VideoInfo(frames, 6, 5, 12.5, frames / 12.5, "h264", 90, 3), pixels


def test_a_cache_keeps_what_it_is_given_until_its_room_is_full():
    cache = ClipCache(9, 2000, writers=2)
    one, other = make_clip(1, 10), make_clip(2, 11)
    cache.keep(4, *one, writer=1)
    assert not cache.has_room(other[1].nbytes)
    with pytest.raises(ValueError, match="no room for 990 bytes"):
        cache.keep(5, *other)
    assert cache.find(5) is None
    for copy in (cache, pickle.loads(pickle.dumps(cache))):
        info, pixels = copy.find(4)
        assert info == one[0]
        assert np.array_equal(pixels, one[1])
        assert not pixels.flags.writeable


def test_room_that_a_disk_does_not_have_is_refused_before_anything_is_kept(tmp_path):
    free_mb = shutil.disk_usage(tmp_path).free // 10**6
    with pytest.raises(ConfigError, match=r"data\.cache_folder"):
        ClipCache(1, (free_mb + 10_000) * 10**6, folder=str(tmp_path))
    assert not list(tmp_path.iterdir())


def _prepare_or(act, pixels, label, generator):
    if label == 1:
        act()
    return prepare_evaluation(pixels, label, generator, spec=SPEC)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _hang():
    time.sleep(60)


def compute(_batch):
    time.sleep(0.5)  # a worker dies while a step is computed


@pytest.mark.parametrize(("act", "says"), [(_die, r"died \(killed by SIGKILL\)"), (_hang, "no batch came within 1 s")])
def test_a_worker_that_dies_or_hangs_names_its_clip(manifest, act, says):
    others = set(multiprocessing.active_children())
    samples = manifest.select("test")
    samples = sorted(samples, key=manifest.label_index)
    first = next(sample for sample in samples if manifest.label_index(sample) == 1)
    dataset = ClipDataset(samples, manifest, SPEC, partial(_prepare_or, act))
    batches = make_loader(dataset, EpochOrder(len(samples), 2, None), LoaderOptions(batch=2, workers=1, timeout_s=1))
    with pytest.raises(DataError, match=says) as caught:
        deque(map(compute, batches))
    assert first.source in str(caught.value)
    assert str(caught.value).count(".mp4") == 1
    for child in multiprocessing.active_children():
        if child not in others:
            child.join(10)
    assert set(multiprocessing.active_children()) <= others  # one that hangs would keep this program from ending


def _live(parent):
    _follow(0, parent)
    time.sleep(3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_lives_on_whatever_process_began_it(method):
    worker = multiprocessing.get_context(method).Process(target=_live, args=(os.getpid(),))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0


def test_signals_that_windows_lacks_are_not_needed(monkeypatch):
    for name in ("SIGKILL", "SIGBUS", "SIGUSR1", "SIGCHLD"):
        monkeypatch.delattr(signal, name, raising=False)
    spec = importlib.util.spec_from_file_location("loader_elsewhere", loader.__file__)
    monkeypatch.setitem(sys.modules, spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(sys.modules[spec.name])


def test_workers_end_soon_after_a_parent_that_was_killed(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(
        "import os, sys, time\n"
        "from tubelet.data.loader import _follow\n"
        "parent = os.getpid()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(float(sys.argv[1]))  # the parent may be gone before the watch begins\n"
        "    _follow(0, parent)\n"
        "    time.sleep(100)\n"
        "print(child, flush=True)\n"
        "time.sleep(100)\n"
    )
    for delay_s in ("0", "0.5"):
        parent = subprocess.Popen([sys.executable, program, delay_s], stdout=subprocess.PIPE, text=True)
        assert int(parent.stdout.readline()) > 0
        parent.kill()
        parent.communicate(timeout=20)  # returns when the child, too, has let go of the pipe


@pytest.mark.parametrize("workers", [0, 2])
def test_a_repeated_clip_comes_differently_varied_and_is_decoded_once(manifest, workers, monkeypatch):
    dataset = make_dataset(manifest)
    opened = []
    read = ClipDataset._read
    monkeypatch.setattr(
        ClipDataset, "_read", lambda self, index, *more: (opened.append(index), read(self, index, *more))[1]
    )
    order = EpochOrder(len(dataset), 5, seed=7, repeats=3)
    batches = list(make_loader(dataset, order, LoaderOptions(batch=5, workers=workers)))
    once = list(make_loader(make_dataset(manifest), EpochOrder(len(dataset), 5, seed=7), LoaderOptions(batch=5)))
    assert len(batches) == len(once) == len(order)
    for batch, plain in zip(batches, once, strict=True):
        assert batch.indices.tolist() == plain.indices.repeat_interleave(3).tolist()
        assert torch.equal(batch.clips[::3], plain.clips)
        assert not torch.equal(batch.clips[1::3], plain.clips)
        assert not torch.equal(batch.clips[1::3], batch.clips[2::3])
    if workers == 0:
        assert len(opened) == 2 * len(dataset)  # once for the repeats, once for the plain stream


def test_a_repeat_shows_the_same_frames_whatever_was_read_before_it(manifest):
    dataset = make_dataset(manifest)
    in_turn = [dataset[(1, 4, turn)][1] for turn in range(2)]
    alone = make_dataset(manifest)[(1, 4, 1)][1]
    assert torch.equal(in_turn[1], alone)
    assert torch.equal(dataset[(1, 4, 0)][1], in_turn[0])


def test_clips_are_played_at_rates_in_the_range_and_all_else_is_drawn_as_without(manifest, monkeypatch):
    dense = replace(SPEC, sampling="dense", stride=1)
    plain, played = make_dataset(manifest), replace(make_dataset(manifest), speed=(0.5, 1.6))
    plain.spec = played.spec = dense
    speeds = []
    monkeypatch.setattr(
        dataset_module, "plan_at_speed", lambda info, spec, speed, **more: speeds.append(speed) or np.zeros((1, 4), int)
    )
    for epoch in range(30):
        for dataset in (plain, played):
            dataset[(epoch, 0)]
    assert set(speeds[::2]) == {1.0}
    assert 0.5 <= min(speeds[1::2]) < 0.65
    assert 1.3 < max(speeds[1::2]) <= 1.6
    monkeypatch.setattr(dataset_module, "plan_at_speed", lambda info, spec, speed, **more: np.zeros((1, 4), int))
    assert torch.equal(plain[(3, 1)][1], played[(3, 1)][1])
