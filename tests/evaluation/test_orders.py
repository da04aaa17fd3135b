"""Hold that each order shows the frames that it promises, and that a clip is decoded once for all of them."""

import shutil

import numpy as np

import tubelet
from evaluation_readers import HandMade
from tubelet.data import dataset
from tubelet.data.catalogue import open_data
from tubelet.evaluation.evaluate import score_samples
from tubelet.evaluation.orders import list_orders, score_orders
from tubelet.video.spec import InputSpec


def write_counters(path, frames):
    """Write clips whose frames hold their number."""
    images = np.zeros((3, frames, 24, 24), np.uint8) + np.arange(frames, dtype=np.uint8)[:, None, None] * 8
    np.savez(path, test_images=images, test_labels=np.array([0, 1, 0]))
    return open_data(path)


def test_each_order_shows_what_it_says(tmp_path):
    manifest, reader = write_counters(tmp_path / "x.npz", 20), HandMade("light")
    score_orders(reader, manifest.select("test"), manifest)
    shown = {
        order: (clips[:, :, 0, 0, 0] // 8).tolist()
        for order, clips in zip(list_orders(reader.input_spec), reader.seen, strict=True)
    }
    assert shown["ordered"][0] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert shown["reversed"][0] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert shown["frozen"][0] == [4] * 8
    assert shown["halved"][0] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert shown["slow"][0] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert shown["fast"][0] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert sorted(shown["shuffled"][0]) == shown["ordered"][0]
    assert shown["shuffled"][0] != shown["shuffled"][1] != shown["ordered"][0]


def test_a_clip_is_opened_once_and_in_order_it_is_the_clip_of_the_evaluation(small_run, monkeypatch):
    manifest = open_data(small_run.parents[1] / "world" / "manifest.csv")
    classifier, samples = tubelet.load(small_run), manifest.select("test")
    expected = score_samples(classifier, samples, manifest)
    opened, read = [], dataset.open_sample
    monkeypatch.setattr(dataset, "open_sample", lambda sample, *rest: opened.append(sample) or read(sample, *rest))
    found = score_orders(classifier, samples, manifest)
    assert len(opened) == len(samples)
    assert list(found) == ["ordered", "shuffled", "reversed", "frozen", "halved"]  # clips over the whole video
    assert np.allclose(found["ordered"].scores, expected.scores, atol=1e-6)
    assert all(not np.allclose(found[order].scores, expected.scores) for order in found if order != "ordered")


def test_a_clip_that_cannot_be_read_is_named_once_and_is_part_of_no_order(small_run, tmp_path):
    shutil.copytree(small_run.parents[1] / "world", tmp_path / "world")
    broken = sorted((tmp_path / "world" / "test").rglob("*.mp4"))[0]
    broken.write_bytes(broken.read_bytes()[:300])
    found = tubelet.audit(small_run, tmp_path / "world" / "manifest.csv")
    assert (found.n, found.n_failed) == (11, 1)
    assert broken.name in found.failed[0].message


def test_clips_of_features_are_played_at_their_own_length(tmp_path):
    rows = np.arange(5, dtype=np.float32)[None, :, None] + np.zeros((2, 5, 3), np.float32)
    np.savez(tmp_path / "x.npz", test_images=rows, test_labels=np.array([0, 1]), test_lengths=np.array([3, 5]))
    manifest, reader = open_data(tmp_path / "x.npz"), HandMade("first")
    reader.input_spec = InputSpec(kind="features", frames=5, height=1, width=1, channels=3)
    found = score_orders(reader, manifest.select("test"), manifest)
    shown = dict(zip(found, (clips[:, :, 0, 0, 0].tolist() for clips in reader.seen), strict=True))
    assert shown["ordered"] == [[0, 1, 2, 0, 0], [0, 1, 2, 3, 4]]
    assert shown["reversed"] == [[2, 1, 0, 0, 0], [4, 3, 2, 1, 0]]
    assert shown["frozen"] == [[1, 1, 1, 0, 0], [2] * 5]
    assert shown["halved"] == [[0, 0, 2, 0, 0], [0, 0, 2, 2, 4]]
