"""Published lists of clips are read as they are: their splits, their order of classes, and what is not there."""

import pytest

from tubelet.data.manifest import read_manifest
from tubelet.data.unlabelled import open_unlabelled
from tubelet.errors import DataError


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"clip")


def write(root, **texts):
    root.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (root / f"{name}.txt").write_bytes(text.encode())


def briefly(manifest):
    return [(manifest.short_name(sample), sample.label, sample.split) for sample in manifest.samples]


def test_official_lists_of_ucf101_keep_their_order_spelling_and_splits(tmp_path):
    """Line ends of Windows, a folder and files spelled apart, an index that no alphabet gives."""
    put(tmp_path, "HandstandPushups/v_HandStandPushups_g08_c01.avi", "Hammering/v_Hammering_g01_c01.avi")
    put(tmp_path, "HammerThrow/v_HammerThrow_g09_c01.avi")
    write(
        tmp_path / "ucfTrainTestlist",
        classInd="1 Hammering\r\n2 HammerThrow\r\n3 HandstandPushups\r\n",
        trainlist01="HandstandPushups/v_HandStandPushups_g08_c01.avi 3\r\nHammerThrow/v_HammerThrow_g09_c01.avi 2 \r\n",
        testlist01="Hammering/v_Hammering_g01_c01.avi\r\n",
    )
    manifest = read_manifest(tmp_path / "ucfTrainTestlist" / "trainlist01.txt")
    assert manifest.classes == ("Hammering", "HammerThrow", "HandstandPushups")
    assert [(sample.label, sample.split, sample.group) for sample in manifest.samples] == [
        ("HandstandPushups", "train", "HandStandPushups_g08"),
        ("HammerThrow", "train", "HammerThrow_g09"),
        ("Hammering", "test", "Hammering_g01"),
    ]
    assert manifest.notes == ("read with it: 'testlist01.txt'",)


def test_a_list_with_indices_from_zero_takes_names_from_the_map_beside_it(tmp_path):
    put(tmp_path, "videos_train/a b/c d.mp4", "videos_val/e.mp4")
    write(tmp_path, set_train_list="a b/c d.mp4 1\n\n", set_val_list="e.mp4 0\n", label_map="walk\nrun a mile\n")
    manifest = read_manifest(tmp_path / "set_train_list.txt")
    assert manifest.classes == ("walk", "run a mile")
    assert briefly(manifest) == [
        ("videos_train/a b/c d.mp4", "run a mile", "train"),
        ("videos_val/e.mp4", "walk", "val"),
    ]
    assert briefly(read_manifest(tmp_path / "set_val_list.txt")) == [("videos_val/e.mp4", "walk", "val")]


def test_lists_of_frame_folders_and_tables_without_column_names_are_lists(tmp_path):
    put(tmp_path, "rawframes/a/1.jpg", "rawframes/take 2/1.jpg", "clips/c 1.mp4", "clips/d.mp4", "clips/e.mp4")
    write(tmp_path / "rawframes", set_train_list="a 250 0\ntake 2 1\n")
    assert briefly(read_manifest(tmp_path / "rawframes" / "set_train_list.txt")) == [
        ("a", "0", "train"),
        ("take 2", "1", "train"),
    ]
    for separator in (" ", ",", ", "):
        (tmp_path / "train.csv").write_text(f"clips/c 1.mp4{separator}1\n{tmp_path}/clips/d.mp4{separator}0\n")
        (tmp_path / "val.csv").write_text(f"clips/e.mp4{separator}0\n")
        expected = [("clips/c 1.mp4", "1", "train"), ("clips/d.mp4", "0", "train"), ("clips/e.mp4", "0", "val")]
        assert briefly(read_manifest(tmp_path / "train.csv")) == expected
    (tmp_path / "table.csv").write_text("path,label,shot 2\nclips/d.mp4,run,7\n")
    assert briefly(read_manifest(tmp_path / "table.csv")) == [("clips/d.mp4", "run", None)]


def test_without_names_indices_are_names_in_the_order_of_numbers(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path, clips="a.mp4 10\nb.mp4 2\n")
    manifest = read_manifest(tmp_path / "clips.txt")
    assert manifest.classes == tuple(str(index) for index in range(11))
    assert briefly(manifest) == [("a.mp4", "10", None), ("b.mp4", "2", None)]


def test_absent_clips_are_counted_and_named_as_long_as_one_is_there(tmp_path):
    put(tmp_path, "a.mp4")
    write(tmp_path, clips="a.mp4 0\nb.mp4 1\nc.mp4 1\n")
    (note,) = read_manifest(tmp_path / "clips.txt").notes
    assert note == "2 listed clips are not there and were left out: 'b.mp4', 'c.mp4'"
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(DataError, match=r"none of its 3 clips is there, such as 'a.mp4' and 2 more"):
        read_manifest(tmp_path / "clips.txt")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("A/a.mp4 3\n", r"line 1: .*index 3 is no class, they are 1 to 2"),
        ("A/a.mp4 0\n", r"index 0 is no class"),
        ("A/a.mp4 2\n", r"index 2 is 'B', but the clip lies in 'A'"),
        ("A/a.mp4 1\na.mp4\n", r"line 2: .*'a.mp4' has no index"),
    ],
)
def test_lines_that_contradict_the_classes_are_refused_by_number(tmp_path, lines, message):
    put(tmp_path, "A/a.mp4", "a.mp4")
    write(tmp_path, classInd="1 A\n2 B\n", trainlist01=lines)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / "trainlist01.txt")


def test_an_index_of_classes_with_a_gap_is_refused(tmp_path):
    put(tmp_path, "A/a.mp4")
    write(tmp_path, classInd="1 A\n3 B\n", trainlist01="A/a.mp4 1\n")
    with pytest.raises(DataError, match="without a gap"):
        read_manifest(tmp_path / "trainlist01.txt")


def test_pretraining_takes_a_labelled_list_and_a_plain_one(tmp_path):
    put(tmp_path, *(f"{name}.mp4" for name in "abcdefgh"))
    write(tmp_path, set_train="".join(f"{name}.mp4 0\n" for name in "abcdefgh"))
    write(tmp_path, plain="".join(f"{name}.mp4\n" for name in "abcdefgh"))
    assert {sample.label for sample in open_unlabelled(tmp_path / "set_train.txt").samples} == {"0"}
    assert {sample.label for sample in open_unlabelled(tmp_path / "plain.txt").samples} == {"unlabelled"}


# The order of classes beside a table


def test_classes_beside_a_table_fix_their_order(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path, classes="zebra\n\nant\nbee\n")
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,ant\nb.mp4,zebra\n")
    assert read_manifest(tmp_path / "clips.csv").classes == ("zebra", "ant", "bee")
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,ant\nb.mp4,zebr\n")
    with pytest.raises(DataError, match=r"line 3: the label 'zebr' is not in 'classes.txt' beside the table"):
        read_manifest(tmp_path / "clips.csv")
    write(tmp_path, classes="zebra\nzebra\n")
    with pytest.raises(DataError, match="names 'zebra' twice"):
        read_manifest(tmp_path / "clips.csv")


# The official lists themselves


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("fold", "train", "test"),
    [
        (1, 9537, 3783),
        pytest.param(2, 9586, 3734, marks=pytest.mark.slow),
        pytest.param(3, 9624, 3696, marks=pytest.mark.slow),
    ],
)
def test_official_lists_of_ucf101_have_the_published_counts(real_data, tmp_path, fold, train, test):
    lists = real_data / "lists" / "ucf101"
    for name in ("classInd", f"trainlist0{fold}", f"testlist0{fold}"):
        write(tmp_path / "lists", **{name: (lists / f"{name}.txt").read_text()})
    names = [
        line.split()[0]
        for kind in ("train", "test")
        for line in (lists / f"{kind}list0{fold}.txt").read_text().splitlines()
    ]
    put(tmp_path / "UCF-101", *names)
    manifest = read_manifest(tmp_path / "lists" / f"trainlist0{fold}.txt")
    assert {split: sum(classes.values()) for split, classes in manifest.counts().items()} == {
        "train": train,
        "test": test,
    }
    assert manifest.classes.index("Hammering") == 34
    assert manifest.classes.index("HammerThrow") == 35


@pytest.mark.real_data
def test_real_clips_are_read_by_an_official_list(real_data, tmp_path):
    lists = real_data / "lists" / "ucf101"
    for name in ("classInd", "trainlist01", "testlist01"):
        write(tmp_path, **{name: (lists / f"{name}.txt").read_text()})
    (tmp_path / "UCF-101").symlink_to(real_data / "ucf101_mini")
    manifest = read_manifest(tmp_path / "trainlist01.txt")
    assert len(manifest.classes) == 101
    assert len(manifest.samples) == 76
    official = {line.split()[0] for line in (lists / "trainlist01.txt").read_text().splitlines()}
    trained = {manifest.short_name(sample).removeprefix("UCF-101/") for sample in manifest.select("train")}
    assert trained
    assert trained <= official
    assert any(note.startswith("13244 listed clips are not there") for note in manifest.notes)
