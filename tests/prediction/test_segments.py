"""Hold how scores become segments: what is passed over, where the cuts lie, what is unknown."""

import numpy as np
import pytest

from tubelet.prediction.segments import find_segments


def segment(letters, radius=0, threshold=0.5, task="classification", sure=0.9, window_s=1.0):
    """Find the segments of one window a second, whose best class is named by a letter; '.' is sure of none."""
    classes = tuple(sorted({*letters, "y", "z"} - {"."}))
    scores = np.full((len(letters), len(classes)), (1 - sure) / max(len(classes) - 1, 1), np.float32)
    for row, letter in enumerate(letters):
        scores[row] = 1 / len(classes) if letter == "." else scores[row]
        scores[row, [index for index, name in enumerate(classes) if name == letter]] = sure
    edges_s = np.arange(len(letters) + 1, dtype=np.float64)
    found = find_segments(
        scores, edges_s, classes, task=task, threshold=threshold, radius=radius, window_s=window_s
    )  # fmt: skip
    return [(one.name, one.start_s, one.end_s) for one in found]


def test_neighbors_of_one_class_are_merged_and_cover_the_video():
    assert segment("aaabbcc") == [("a", 0, 3), ("b", 3, 5), ("c", 5, 7)]


def test_medians_pass_over_what_is_short_and_leave_the_ends_of_the_rest_where_they_are():
    assert segment("aaaabaaaabbbbbbab", radius=2) == [("a", 0, 9), ("b", 9, 17)]
    assert segment("aaaabbaaa", radius=1) == [("a", 0, 4), ("b", 4, 6), ("a", 6, 9)]


def test_what_is_below_the_threshold_is_unknown_unless_it_is_no_longer_than_a_cut():
    assert segment("aaa...bbb") == [("a", 0, 3), ("unknown", 3, 6), ("b", 6, 9)]
    assert segment("aaa...bbb", window_s=4.0) == [("a", 0, 4.5), ("b", 4.5, 9)]
    assert segment("aaa...aaa", window_s=4.0) == [("a", 0, 3), ("unknown", 3, 6), ("a", 6, 9)]
    assert segment("..aaabb..", window_s=4.0) == [("unknown", 0, 2), ("a", 2, 5), ("b", 5, 7), ("unknown", 7, 9)]
    assert segment("aabb", threshold=0.95) == [("unknown", 0, 4)]


def test_classes_that_take_turns_are_unknown_not_the_one_that_is_always_a_little_likely():
    scores = np.zeros((16, 5), np.float32)
    scores[:, 4] = 0.03
    scores[np.arange(16), np.arange(16) % 4] = 0.97
    found = find_segments(
        scores, np.arange(17.0), tuple("abcdz"), task="classification", threshold=0.5, radius=3, window_s=1.0
    )
    assert [(one.label, one.start_s, one.end_s) for one in found] == [(None, 0, 16)]


def test_in_a_multi_label_task_classes_overlap_and_nothing_is_unknown():
    scores = np.array([[0.9, 0.1], [0.9, 0.9], [0.9, 0.9], [0.1, 0.9], [0.1, 0.1]], np.float32)
    found = find_segments(
        scores, np.arange(6.0), ("car", "person"), task="multilabel", threshold=0.5, radius=0, window_s=1.0
    )
    assert [(one.label, one.start_s, one.end_s) for one in found] == [("car", 0, 3), ("person", 1, 4)]
    assert [one.score for one in found] == pytest.approx([0.9, 0.9])


def test_long_videos_are_smoothed_in_parts_that_leave_no_seam(monkeypatch):
    letters = "".join(np.random.default_rng(0).choice(list("ab"), 300))
    whole = segment(letters, radius=3)
    monkeypatch.setattr("tubelet.prediction.segments._PART", 7)
    assert segment(letters, radius=3) == whole
