"""Hold that the stream of samples depends on (seed, epoch, index) alone, and that bad clips are counted."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tubelet.data.catalogue import open_data
from tubelet.data.clip_cache import ClipCache
from tubelet.data.dataset import BadSample, ClipDataset, find_span, open_sample
from tubelet.data.loader import EpochOrder, LoaderOptions, make_loader
from tubelet.data.sample import Sample
from tubelet.errors import Corrupt, FrameOutOfRange
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.recipes.recipe import Recipe
from tubelet.training.feeding import prepare_training
from tubelet.transforms.policy import Augmentation
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=4, height=16, width=16)


@pytest.fixture(scope="module")
def manifest(small_run):
    return open_data(small_run.parents[1] / "world" / "manifest.csv")


def make_dataset(manifest, **changes):
    recipe = Recipe(input=SPEC, augmentation=Augmentation(horizontal_flip=0.5, crop_scale=(0.5, 1.0), brightness=0.2))
    options = {
        "samples": manifest.select("train"),
        "manifest": manifest,
        "spec": SPEC,
        "prepare": partial(prepare_training, recipe=recipe, classes=manifest.classes),
        "is_training": True,
        "seed": 7,
    }
    return ClipDataset(**{**options, **changes})


def read_epochs(manifest, epochs=2, first_batch=0):
    dataset = make_dataset(manifest)
    order = EpochOrder(len(dataset), 5, seed=7)
    loader = make_loader(dataset, order, LoaderOptions(batch=5))
    stream = []
    for epoch in range(epochs):
        order.start(epoch, first_batch if epoch == 0 else 0)
        stream += [(batch.indices.tolist(), batch.labels.tolist(), batch.clips.clone()) for batch in loader]
    return stream


def check_same(one, other):
    assert len(one) == len(other)
    for (indices, labels, clips), (indices2, labels2, clips2) in zip(one, other, strict=True):
        assert (indices, labels) == (indices2, labels2)
        assert torch.equal(clips, clips2)


def test_an_epoch_that_goes_on_gives_the_rest_of_the_whole_epoch(manifest):
    check_same(read_epochs(manifest, epochs=1)[3:], read_epochs(manifest, epochs=1, first_batch=3))


def test_each_epoch_has_an_order_and_draws_of_its_own(manifest):
    stream = read_epochs(manifest)
    half = len(stream) // 2
    first, second = stream[:half], stream[half:]
    assert [row[0] for row in first] != [row[0] for row in second]
    assert sorted(index for row in first for index in row[0]) == list(range(32))
    clips = {index: clip for indices, _, batch in first for index, clip in zip(indices, batch, strict=True)}
    again = {index: clip for indices, _, batch in second for index, clip in zip(indices, batch, strict=True)}
    assert sum(not torch.equal(clips[index], again[index]) for index in clips) > 25


def test_a_clip_that_cannot_be_read_is_left_out_and_named(manifest):
    samples = list(manifest.select("test"))
    samples[4] = replace(samples[4], source=samples[4].source + ".absent")
    dataset = make_dataset(manifest, samples=samples, is_training=False, prepare=partial(prepare_evaluation, spec=SPEC))
    order = EpochOrder(len(samples), 6, seed=None)
    batches = list(make_loader(dataset, order, LoaderOptions(batch=6)))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2, 3, 5], [6, 7, 8, 9, 10, 11]]
    assert [bad.index for batch in batches for bad in batch.bad] == [4]
    bad = batches[0].bad[0]
    assert isinstance(bad, BadSample)
    assert bad.code == "not_found"
    assert ".absent" in bad.message


def test_a_batch_of_bad_clips_alone_is_an_empty_batch(manifest):
    samples = [replace(sample, source="absent.mp4") for sample in manifest.select("val")]
    dataset = make_dataset(manifest, samples=samples, is_training=False)
    (batch,) = make_loader(dataset, EpochOrder(8, 8, None), LoaderOptions(batch=8))
    assert (len(batch.labels), len(batch.clips), len(batch.bad)) == (0, 0, 8)


def test_a_time_span_limits_the_frames_that_are_seen(manifest):
    # A clip at 16 fps has 8 frames: the second half of its half second is frames 4 to 7.
    sample = replace(manifest.select("test")[0], start_s=0.25, end_s=0.5)
    prepare = partial(prepare_evaluation, spec=SPEC)
    dataset = make_dataset(manifest, samples=[sample], is_training=False, prepare=prepare)
    _, clips, _ = dataset[(0, 0)]
    with open_sample(sample) as video:
        expected = video.frames_at([4, 5, 6, 7]).pixels
    assert np.array_equal(clips[0].numpy(), expected)


def test_an_array_row_is_a_sample(tmp_path):
    volumes = np.random.default_rng(0).integers(0, 255, (3, 6, 16, 16), np.uint8)
    np.savez(tmp_path / "set.npz", x=volumes)
    with open_sample(Sample(str(tmp_path / "set.npz"), "a", member="x", row=2)) as video:
        assert np.array_equal(video.frames().pixels[..., 0], volumes[2])


def test_a_span_follows_the_times_of_the_frames_not_their_average(manifest):
    sample = replace(manifest.select("test")[0], start_s=1.0, end_s=2.0)
    uneven = np.concatenate([np.arange(50) / 25, 2 + np.arange(10) / 2])
    assert find_span(sample, uneven) == (25, 50)
    assert find_span(replace(sample, start_s=None, end_s=None), uneven) == (0, 60)
    with pytest.raises(FrameOutOfRange, match=r"6\.500"):
        find_span(replace(sample, start_s=100.0, end_s=200.0), uneven)


@pytest.mark.parametrize("cache_mb", [0, 50])
def test_a_damaged_frame_that_is_not_wanted_harms_no_clip_whatever_the_cache(manifest, cache_mb, monkeypatch):
    whole = Video.frames_at

    def frames_at(self, indices):
        wanted = list(indices)
        if 7 in wanted:
            raise Corrupt("frame 7 is damaged")
        return whole(self, wanted)

    monkeypatch.setattr(Video, "frames_at", frames_at)
    sample = replace(manifest.select("test")[0], start_s=0.0, end_s=0.25)
    prepare = partial(prepare_evaluation, spec=SPEC)
    cache = ClipCache(1, cache_mb * 10**6)
    dataset = make_dataset(manifest, samples=[sample], is_training=False, prepare=prepare, cache=cache)
    assert not isinstance(dataset[(0, 0)][1], BadSample)
