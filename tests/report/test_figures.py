import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tubelet.errors import DataError
from tubelet.report import figures
from tubelet.report.figures import draw_class_distribution, draw_confusion, draw_contact_sheet, draw_curves

ODD_NAMES = ["跑步", "a $x_1^$ b", "名 run\nfast", "y" * 90, "%s {0}", "", "a\\frac$", "Zoë"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures themselves, laid out, as they go to their files."""
    seen = []
    save = figures.save_figure

    def keep(figure, path):
        save(figure, path)
        seen.append(figure)

    monkeypatch.setattr(figures, "save_figure", keep)
    return seen


def make_matrix(count, per_class=20, seed=0):
    generator = np.random.default_rng(seed)
    matrix = np.eye(count, dtype=np.int64) * per_class
    matrix[generator.integers(0, count, 3 * count), generator.integers(0, count, 3 * count)] += 3
    return matrix


def make_names(count):
    return [f"{'rather long ' * (index % 3)}class of number {index}" for index in range(count)]


def make_rows(epochs):
    return [
        {"epoch": epoch, "lr": 1e-3 / epoch}
        | {"train_loss": 2 / epoch, "val_loss": 2.5 / epoch, "train_top1": 1 - 1 / epoch, "val_top1": 0.9 - 1 / epoch}
        for epoch in range(1, epochs + 1)
    ]


def read_texts(axes):
    return [text.get_text() for text in axes.texts]


def check_picture(path, limit_px=3000):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert max(picture.size) <= limit_px
        assert np.asarray(picture.convert("L")).std() > 5


def check_labels_apart(figure, axes):
    """Nothing may lie over the picture, outside the figure, or over another label."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    columns = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
    rows = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert all(box.y1 <= frame.y0 + 1 for box in columns)
    assert all(box.x1 <= frame.x0 + 1 for box in rows)
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in (*columns, *rows))
    assert all(one.y0 >= other.y1 - 1 for one, other in pairwise(rows))


@pytest.mark.parametrize(
    "count", [1, 2, 20, 21, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 45, 60, 101, 400))]
)
def test_a_confusion_matrix_is_readable_at_any_number_of_classes(tmp_path, drawn, count):
    draw_confusion(make_matrix(count), make_names(count), tmp_path / "confusion.png")
    check_picture(tmp_path / "confusion.png")
    check_labels_apart(drawn[0], drawn[0].axes[0])


def test_a_small_confusion_matrix_carries_its_numbers(tmp_path, drawn):
    draw_confusion(np.array([[30, 10, 0], [0, 5, 15], [0, 0, 0]]), ["run", "walk", "sit"], tmp_path / "c.png")
    axes = drawn[0].axes[0]
    found = {text.get_position(): text.get_text() for text in axes.texts}
    assert found == {(0, 0): "30\n75%", (1, 0): "10\n25%", (1, 1): "5\n25%", (2, 1): "15\n75%"}
    assert axes.get_title("left") == "35 of 60 right (58.3%)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["run", "walk", "sit"]


def test_shades_are_shares_of_the_row_and_absent_classes_have_none(tmp_path, drawn):
    draw_confusion(np.array([[900, 100, 0], [1, 1, 0], [0, 0, 0]]), ["many", "few", "none"], tmp_path / "c.png")
    shades = np.ma.filled(drawn[0].axes[0].images[0].get_array(), np.nan)
    np.testing.assert_allclose(shades, [[0.9, 0.1, 0], [0.5, 0.5, 0], [np.nan] * 3])


def test_a_large_confusion_matrix_names_the_pairs_most_often_confused(tmp_path, drawn):
    matrix = np.eye(101, dtype=np.int64) * 10
    matrix[7, 90], matrix[50, 3] = 30, 20
    draw_confusion(matrix, [f"c{index}" for index in range(101)], tmp_path / "c.png")
    texts = [text for axes in drawn[0].axes for text in read_texts(axes)]
    assert texts == ["c7  [7]", "as c90  [90]", "30  (75%)", "c50  [50]", "as c3  [3]", "20  (67%)"]


def test_a_perfect_large_matrix_says_that_nothing_is_confused(tmp_path, drawn):
    draw_confusion(np.eye(30, dtype=np.int64), make_names(30), tmp_path / "c.png")
    assert "none" in [text for axes in drawn[0].axes for text in read_texts(axes)]


def test_names_that_no_font_or_formula_can_take_are_drawn_all_the_same(tmp_path, drawn):
    draw_confusion(make_matrix(8), ODD_NAMES, tmp_path / "c.png")
    draw_class_distribution({"名": dict.fromkeys(ODD_NAMES, 3)}, tmp_path / "d.png")
    draw_contact_sheet([np.zeros((1, 8, 8, 3), np.uint8)] * 8, ODD_NAMES, tmp_path / "s.png")
    names = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert names[:3] == ["class 0", "a $x_1^$ b", "? run fast"]
    assert names[3].startswith("yyyy")
    assert len(names[3]) <= 34
    assert names[5:] == ["class 5", "a\\frac$", "Zoë"]


def test_names_cut_to_the_same_letters_are_told_apart(tmp_path, drawn):
    names = [f"moving something {where} something until it falls down" for where in ("behind", "over", "across")]
    draw_confusion(make_matrix(3), names, tmp_path / "c.png")
    shown = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert len(set(shown)) == 3
    assert max(map(len, shown)) <= 34


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_curves_show_the_numbers_of_the_rows(tmp_path, drawn, epochs):
    rows = make_rows(epochs)
    draw_curves(rows, tmp_path / "curves.png")
    check_picture(tmp_path / "curves.png")
    loss, accuracy, rate = drawn[0].axes
    for axes, key, line in (
        (loss, "train_loss", 0),
        (loss, "val_loss", 1),
        (accuracy, "train_top1", 0),
        (accuracy, "val_top1", 1),
        (rate, "lr", 0),
    ):
        np.testing.assert_array_equal(axes.lines[line].get_xdata(), [row["epoch"] for row in rows])
        np.testing.assert_array_equal(axes.lines[line].get_ydata(), [row[key] for row in rows])


def test_a_single_epoch_is_a_visible_point(tmp_path, drawn):
    draw_curves(make_rows(1), tmp_path / "curves.png")
    assert all(line.get_marker() == "o" for axes in drawn[0].axes for line in axes.lines)
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        assert low < 1 < high


def test_the_best_epoch_is_marked(tmp_path, drawn):
    rows = make_rows(20)
    rows[11]["val_top1"] = 0.97
    draw_curves(rows, tmp_path / "curves.png")
    mark = drawn[0].axes[1].lines[-1]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (12, 0.97)
    assert mark.get_label() == "best 97.0% at 12"


def test_missing_and_infinite_values_leave_gaps(tmp_path, drawn):
    rows = make_rows(5)
    rows[2]["train_loss"] = float("inf")
    del rows[3]["train_loss"]
    for row in rows:
        row["val_loss"] = row["val_top1"] = float("nan")
    draw_curves(rows, tmp_path / "curves.png")
    assert [line.get_label() for line in drawn[0].axes[0].lines] == ["train"]
    np.testing.assert_array_equal(np.isnan(drawn[0].axes[0].lines[0].get_ydata()), [False, False, True, True, False])
    assert [line.get_label() for line in drawn[0].axes[1].lines] == ["train"]


def test_curves_draw_what_there_is(tmp_path, drawn):
    draw_curves([{"train_loss": 1.0}, {"train_loss": 0.5}], tmp_path / "loss.png")
    draw_curves([{"epoch": 1.0, "learning_rate": 0.1, "train_accuracy": 0.5, "wait_s": 3.0}], tmp_path / "other.png")
    assert [axes.get_title("left") for axes in drawn[0].axes] == ["loss"]
    assert drawn[0].axes[0].lines[0].get_xdata().tolist() == [1, 2]
    assert [axes.get_title("left") for axes in drawn[1].axes] == ["accuracy", "learning rate"]


def test_values_far_apart_start_at_zero_and_near_ones_do_not(tmp_path, drawn):
    near = [{"epoch": e, "train_loss": 2 / e, "val_top1": 0.97 + e / 1000} for e in range(1, 11)]
    draw_curves(near, tmp_path / "curves.png")
    assert drawn[0].axes[0].get_ylim()[0] == 0
    assert drawn[0].axes[1].get_ylim()[0] > 0.9


@pytest.mark.parametrize("count", [1, 2, 40, 41, 400])
@pytest.mark.parametrize("splits", [["unsplit"], ["train", "val", "test"]])
def test_class_distributions_are_drawn_for_any_number_of_classes(tmp_path, drawn, count, splits):
    counts = {split: {name: index % 7 for index, name in enumerate(make_names(count))} for split in splits}
    draw_class_distribution(counts, tmp_path / "classes.png")
    check_picture(tmp_path / "classes.png")
    total = sum(index % 7 for index in range(count))
    assert [axes.get_title("left") for axes in drawn[0].axes] == [f"{split}: {total:,} clips" for split in splits]


def test_bars_are_as_long_as_the_counts_and_empty_classes_say_so(tmp_path, drawn):
    draw_class_distribution({"train": {"run": 7, "walk": 0}, "test": {"walk": 1200}}, tmp_path / "classes.png")
    train, test = drawn[0].axes
    assert [bar.get_width() for bar in train.patches] == [7, 0]
    assert [bar.get_width() for bar in test.patches] == [0, 1200]
    assert read_texts(train) == [" 7", " none"]
    assert read_texts(test) == [" none", " 1,200"]
    assert [label.get_text() for label in train.get_yticklabels()] == ["run", "walk"]
    assert not test.yaxis.get_tick_params()["labelleft"]


def test_many_classes_are_sorted_and_the_extremes_told(tmp_path, drawn):
    counts = {f"c{index}": index + 1 for index in range(99)}
    draw_class_distribution({"train": counts, "val": counts | {"c5": 0, "c6": 0}}, tmp_path / "classes.png")
    assert read_texts(drawn[0].axes[0]) == ["largest c98 (99)   median 50   smallest c0 (1)"]
    assert "2 without a clip, such as c6" in read_texts(drawn[0].axes[1])[0]


def test_frames_of_three_stacked_pictures_get_room_for_all_of_them(tmp_path):
    tall = np.zeros((8, 48, 16, 3), np.uint8)
    draw_contact_sheet([tall], ["a"], tmp_path / "a.png")
    draw_contact_sheet([tall], ["a"], tmp_path / "b.png", stacked=3)
    with Image.open(tmp_path / "a.png") as plain, Image.open(tmp_path / "b.png") as stacked:
        assert stacked.height > 1.3 * plain.height
        assert stacked.width == plain.width


def test_a_contact_sheet_shows_first_to_last_frame_of_every_clip(tmp_path, drawn):
    clips = [
        np.full((30, 20, 30, 3), 200, np.uint8) * (np.arange(30) % 30 / 29)[:, None, None, None],
        np.full((3, 50, 10, 1), 90, np.uint8),
        np.full((1, 6, 60, 4), 90, np.uint8),
    ]
    clips = [clip.astype(np.uint8) for clip in clips]
    draw_contact_sheet(clips, ["rising", "tall and gray", "wide"], tmp_path / "sheet.png")
    check_picture(tmp_path / "sheet.png")
    strips = [axes.images[0].get_array() for axes in drawn[0].axes]
    assert strips[0].shape == (20, 8 * 31, 3)
    np.testing.assert_array_equal(strips[0][0, ::31, 0], clips[0][[0, 4, 8, 12, 17, 21, 25, 29], 0, 0, 0])
    assert strips[1].shape == (50, 3 * 11)
    assert strips[2].shape == (6, 61)
    assert [axes.get_title("left") for axes in drawn[0].axes] == ["rising", "tall and gray", "wide"]


def test_frames_of_one_sheet_are_equally_wide(tmp_path, drawn):
    clips = [np.full((count, 24, 24, 3), 90, np.uint8) for count in (8, 3, 1)]
    draw_contact_sheet(clips, ["eight", "three", "one"], tmp_path / "sheet.png")
    widths = [axes.get_window_extent().width / np.diff(axes.get_xlim())[0] * 24 for axes in drawn[0].axes]
    np.testing.assert_allclose(widths, widths[0], rtol=0.03)


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda path: draw_curves([], path), "at least one epoch"),
        (lambda path: draw_class_distribution({"train": {}}, path), "at least one split with one class"),
        (lambda path: draw_contact_sheet([], [], path), "found 0 clips"),
        (lambda path: draw_contact_sheet([np.zeros((0, 4, 4, 3), np.uint8)], ["a"], path), "1 of them empty"),
        (lambda path: draw_contact_sheet([np.zeros((1, 4, 4, 3), np.uint8)], [], path), "and 0 captions"),
    ],
)
def test_nothing_to_draw_is_said(tmp_path, draw, says):
    with pytest.raises(DataError, match=says):
        draw(tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_fails_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"the old one")

    def fail(self, stream, **options):
        stream.write(b"half a picture")
        raise OSError("disk")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk"):
        draw_curves(make_rows(3), path)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_the_suffix_chooses_the_format(tmp_path):
    draw_curves(make_rows(3), tmp_path / "curves.svg")
    draw_curves(make_rows(3), str(tmp_path / "curves.pdf"))
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_drawing_leaves_the_global_state_of_matplotlib_alone(tmp_path):
    code = f"""
import sys
from tubelet.report.figures import draw_curves
assert "matplotlib" not in sys.modules
draw_curves([{{"train_loss": 1.0}}], {str(tmp_path / "c.png")!r})
import matplotlib
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env={"PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0
