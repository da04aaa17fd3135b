"""Hold that features reach the batch as they are: float32, real frames only, and never mistaken for pixels."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tubelet.data.dataset import BadSample, ClipDataset
from tubelet.data.features import check_kind, choose_rows, find_shape, measure_features, read_features
from tubelet.data.health import check_health
from tubelet.data.loader import EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import read_manifest
from tubelet.data.sample import FeatureShape
from tubelet.errors import DataError
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.transforms.preparation import fit_features, normalize
from tubelet.video.spec import InputSpec

LENGTHS = [5, 2, 5, 1, 3, 4]


def make_spec(**changes):
    return InputSpec(**{"kind": "features", "frames": 5, "height": 1, "width": 1, "channels": 3, **changes})


def save(folder, **changes):
    """Six clips of up to five frames; what stands in the padding would be seen at once."""
    x = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float16)
    for row, length in zip(x, LENGTHS, strict=True):
        row[length:] = 1e4
    columns = {
        "x": x,
        "y": np.arange(6) % 2,
        "lengths": np.array(LENGTHS),
        "split": np.array(["train"] * 4 + ["test"] * 2),
        **changes,
    }
    path = folder / "features.npz"
    np.savez(path, **{name: value for name, value in columns.items() if value is not None})
    return path


def read_batches(manifest, spec, batch=3, **options):
    samples = manifest.samples
    prepare = partial(prepare_evaluation, spec=spec)
    dataset = ClipDataset(samples, manifest, spec, prepare, **options)
    return list(make_loader(dataset, EpochOrder(len(samples), batch, None), LoaderOptions(batch=batch)))


def test_lengths_are_part_of_each_sample_and_no_metadata(tmp_path):
    manifest = read_manifest(save(tmp_path))
    assert [sample.features for sample in manifest.samples] == [FeatureShape(length, 3) for length in LENGTHS]
    assert manifest.samples[0].metadata == {}
    assert find_shape(manifest) == FeatureShape(5, 3)
    whole = read_manifest(save(tmp_path, lengths=None))
    assert {sample.features for sample in whole.samples} == {FeatureShape(5, 3)}


def test_clips_of_pixels_keep_a_column_of_that_name(tmp_path):
    manifest = read_manifest(save(tmp_path, x=np.zeros((6, 5, 4, 4), np.uint8)))
    assert manifest.samples[1].features is None
    assert manifest.samples[1].metadata == {"lengths": "2"}
    assert find_shape(manifest) is None


def test_lengths_of_the_layout_with_splits_stand_beside_its_images(tmp_path):
    x, y = np.zeros((2, 5, 3), np.float32), np.array([0, 1])
    np.savez(tmp_path / "f.npz", train_images=x, train_labels=y, test_images=x, test_labels=y, train_lengths=y + 1)
    manifest = read_manifest(tmp_path / "f.npz")
    assert [sample.features.frames for sample in manifest.samples] == [1, 2, 5, 5]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.array([5, 0, 5, 6, 3, 4]), r"states 0 real frames for row 1 \(2 such rows\), rows have 5"),
        (np.array([1, 2, 3]), r"'lengths' is int64 \(3,\)"),
        (np.ones(6), r"'lengths' is float64 \(6,\)"),
    ],
)
def test_wrong_lengths_are_refused(tmp_path, lengths, message):
    with pytest.raises(DataError, match=message):
        read_manifest(save(tmp_path, lengths=lengths))


def test_a_batch_holds_the_features_themselves_padded_to_its_longest(tmp_path):
    path = save(tmp_path)
    with np.load(path) as arrays:
        x = arrays["x"].astype(np.float32)
    first, second = read_batches(read_manifest(path), make_spec())
    assert first.lengths.tolist() == LENGTHS[:3]
    assert second.lengths.tolist() == LENGTHS[3:]
    assert (first.clips.shape, second.clips.shape) == ((3, 5, 1, 1, 3), (3, 4, 1, 1, 3))
    assert first.clips.dtype == torch.float32
    for clips, rows, lengths in ((first.clips, x[:3], LENGTHS[:3]), (second.clips, x[3:], LENGTHS[3:])):
        for clip, row, length in zip(clips[:, :, 0, 0], rows, lengths, strict=True):
            assert np.array_equal(clip[:length].numpy(), row[:length])
            assert not clip[length:].any()


def test_longer_clips_are_chosen_from_as_videos_are_and_shorter_ones_stay_whole(tmp_path):
    rows = np.arange(12, dtype=np.float32)[:, None].repeat(3, axis=1)
    spec = make_spec(frames=4)
    (chosen,) = choose_rows(rows, spec)
    assert chosen[:, 0].tolist() == [1, 4, 7, 10]
    first, second = choose_rows(rows, replace(spec, sampling="first"), views=2)
    assert (first[:, 0].tolist(), second[:, 0].tolist()) == ([0, 1, 2, 3], [4, 5, 6, 7])
    generator = np.random.default_rng(0)
    drawn = [choose_rows(rows, spec, training=True, generator=generator)[0][:, 0].tolist() for _ in range(5)]
    assert len({tuple(row) for row in drawn}) > 1
    short = choose_rows(rows[:3], spec, views=2)
    assert [len(row) for row in short] == [3, 3]
    (batch, _) = read_batches(read_manifest(save(tmp_path)), spec, views=2)
    assert batch.lengths.tolist() == [4, 4, 2, 2, 4, 4]
    assert len(batch.clips) == 6


def test_features_that_are_no_numbers_are_counted_not_used(tmp_path):
    x = np.zeros((6, 5, 3), np.float32)
    x[1, 0, 0], x[3, 4, 2] = np.nan, np.inf  # the second one stands in the padding, where nobody looks
    path = save(tmp_path, x=x)
    first, second = read_batches(read_manifest(path), make_spec())
    assert first.indices.tolist() == [0, 2]
    assert isinstance(first.bad[0], BadSample)
    assert "no finite numbers" in first.bad[0].message
    assert second.bad == ()
    problems = check_health(path, workers=1).health.problems
    assert [problem.source.rpartition("[")[2] for problem in problems] == ["1]"]


def test_a_batch_of_bad_features_alone_is_an_empty_batch(tmp_path):
    (batch,) = read_batches(read_manifest(save(tmp_path, x=np.full((6, 5, 3), np.nan))), make_spec(), batch=6)
    assert (batch.clips.shape, batch.clips.dtype, len(batch.lengths)) == ((0, 1, 1, 1, 3), torch.float32, 0)
    assert len(batch.bad) == 6


def test_the_mean_and_the_one_deviation_are_those_of_real_training_frames(tmp_path):
    path = save(tmp_path)
    with np.load(path) as arrays:
        rows = np.concatenate([row[:length] for row, length in zip(arrays["x"][:4], LENGTHS, strict=False)])
    means, deviation = measure_features(read_manifest(path))
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(means, wide.mean(axis=0), rtol=1e-6)
    assert deviation == pytest.approx(np.sqrt(wide.var(axis=0).mean()), rel=1e-6)
    spec = make_spec(mean=means, std=(deviation,))
    batch = normalize(torch.from_numpy(rows.astype(np.float32))[:, None, None, None], spec)
    assert batch.mean(dim=0).abs().max() < 1e-5
    assert float(batch.var(dim=0, unbiased=False).mean()) == pytest.approx(1, abs=1e-5)


def test_features_that_never_vary_are_not_divided_by_nothing(tmp_path):
    assert measure_features(read_manifest(save(tmp_path, x=np.full((6, 5, 3), 7.1, np.float32))))[1] == 1.0


def test_features_pass_as_they_are_until_they_are_measured():
    clips = torch.randn(2, 5, 1, 1, 3) * 300
    assert torch.equal(normalize(clips, make_spec(mean=(), std=())), clips.permute(0, 4, 1, 2, 3))
    scaled = normalize(clips, make_spec(mean=(1.0, 2.0, 3.0), std=(4.0,)))
    torch.testing.assert_close(scaled[:, 1, :, 0, 0], (clips[:, :, 0, 0, 1] - 2) / 4)


@pytest.mark.parametrize(
    ("x", "spec", "message"),
    [
        (np.zeros((6, 5, 4, 4), np.uint8), make_spec(), r"model of features \(3 numbers a frame\) - it holds pixels"),
        (np.zeros((6, 5, 3)), InputSpec(), "model of pixels - it holds features, 3 numbers a frame"),
        (np.zeros((6, 5, 8)), make_spec(), "3 features a frame - it has 8 - .* --input.channels 8"),
    ],
)
def test_data_of_another_kind_than_the_model_s_is_refused(tmp_path, x, spec, message):
    with pytest.raises(DataError, match=message):
        check_kind(read_manifest(save(tmp_path, x=x, lengths=None)), spec)


def test_a_set_of_features_of_two_lengths_is_refused(tmp_path):
    y = np.array([0, 1])
    arrays = {"train_images": np.zeros((2, 5, 3)), "test_images": np.zeros((2, 5, 4)), "test_labels": y}
    np.savez(tmp_path / "f.npz", train_labels=y, **arrays)
    with pytest.raises(DataError, match="mixes 2 clips of 3 features a frame, 2 clips of 4 features a frame"):
        find_shape(read_manifest(tmp_path / "f.npz"))


def test_what_is_no_row_of_features_is_refused(tmp_path):
    sample = replace(read_manifest(save(tmp_path)).samples[0], features=None)
    with pytest.raises(DataError, match="it holds pixels"):
        read_features(sample, make_spec(), generator=np.random.default_rng(0))
    for shape in ((0, 3), (5, 4)):
        with pytest.raises(DataError, match="takes 3 features a frame"):
            fit_features(np.zeros(shape, np.float32), make_spec())
