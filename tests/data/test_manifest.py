"""What a folder or a table says is what the manifest holds; what is wrong is said with file and line."""

import json
import os
import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from tubelet.data.manifest import Manifest, check_manifest, read_manifest
from tubelet.data.sample import Sample
from tubelet.errors import DataError


def put(root, *names):
    """Write files that are no videos: nothing here opens them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"clip")
    return root


def table(root, text, name="clips.csv", encoding="utf-8"):
    path = root / name
    path.write_bytes(text.encode(encoding))
    return path


def briefly(manifest):
    return [(manifest.short_name(sample), sample.label, sample.split) for sample in manifest.samples]


# Folders


def test_class_folders_become_classes_in_plain_order(tmp_path):
    put(tmp_path, "Zoo/a.mp4", "ant/b.AVI", "ant/c.gif", "10/d.webm", "2/e.mkv")
    manifest = read_manifest(tmp_path)
    assert manifest.classes == ("10", "2", "Zoo", "ant")
    assert briefly(manifest) == [
        ("10/d.webm", "10", None),
        ("2/e.mkv", "2", None),
        ("Zoo/a.mp4", "Zoo", None),
        ("ant/b.AVI", "ant", None),
        ("ant/c.gif", "ant", None),
    ]
    assert [manifest.label_index(sample) for sample in manifest.samples] == [0, 1, 2, 3, 3]


def test_split_folders_share_one_class_list(tmp_path):
    put(tmp_path, "train/run/a.mp4", "train/walk/b.mp4", "Validation/walk/c.mp4", "test/sit/d.mp4")
    manifest = read_manifest(tmp_path)
    assert manifest.classes == ("run", "sit", "walk")
    assert [manifest.label_index(sample) for sample in manifest.select("valid")] == [2]
    assert manifest.counts() == {
        "train": {"run": 1, "sit": 0, "walk": 1},
        "val": {"run": 0, "sit": 0, "walk": 1},
        "test": {"run": 0, "sit": 1, "walk": 0},
    }


def test_one_folder_called_like_a_split_is_a_class(tmp_path):
    put(tmp_path, "train/a.mp4", "bus/b.mp4")
    assert read_manifest(tmp_path).classes == ("bus", "train")


def test_split_folders_beside_class_folders_are_refused(tmp_path):
    put(tmp_path, "train/run/a.mp4", "test/run/b.mp4", "jump/c.mp4")
    with pytest.raises(DataError, match="beside 'jump'"):
        read_manifest(tmp_path)


def test_two_names_of_one_split_are_refused(tmp_path):
    put(tmp_path, "val/run/a.mp4", "valid/run/b.mp4", "train/run/c.mp4")
    with pytest.raises(DataError, match="'val' and 'valid' both mean"):
        read_manifest(tmp_path)


def test_a_folder_of_images_is_one_clip(tmp_path):
    put(tmp_path, "run/one/001.jpg", "run/one/002.PNG", "run/one/notes.txt", "run/two/001.jpg", "run/three.mp4")
    manifest = read_manifest(tmp_path)
    assert [name for name, _, _ in briefly(manifest)] == ["run/three.mp4", "run/one", "run/two"]


def test_deeper_folders_sort_clips_and_can_group_them(tmp_path):
    put(tmp_path, "run/ann/a.mp4", "run/ann/day 2/b.mp4", "run/bob/c.mp4", "run/d.mp4", "sit/ann/e.mp4")
    manifest = read_manifest(tmp_path)
    assert {sample.label for sample in manifest.samples} == {"run", "sit"}
    folders = {manifest.short_name(sample): sample.metadata.get("folder") for sample in manifest.samples}
    assert folders == {
        "run/ann/a.mp4": "ann",
        "run/ann/day 2/b.mp4": "ann/day 2",
        "run/bob/c.mp4": "bob",
        "run/d.mp4": None,
        "sit/ann/e.mp4": "ann",
    }
    (tmp_path / "run/d.mp4").unlink()
    assert [sample.group for sample in read_manifest(tmp_path, group_by="folder").samples] == [
        "ann",
        "ann/day 2",
        "bob",
        "ann",
    ]


def test_what_is_passed_over_is_reported(tmp_path):
    put(
        tmp_path,
        "run/a.mp4",
        "run/.hidden.mp4",
        "run/list.txt",
        "run/thumb.jpg",
        ".git/b.mp4",
        "loose.mp4",
        "split.csv",
    )
    (tmp_path / "empty").mkdir()
    manifest = read_manifest(tmp_path)
    assert [name for name, _, _ in briefly(manifest)] == ["run/a.mp4"]
    assert manifest.classes == ("run",)
    notes = "\n".join(manifest.notes)
    for expected in (
        "1 .txt",
        "1 .jpg",
        "empty' holds no clip",
        "'loose.mp4'",
        "'split.csv' beside",
        "split.csv' itself",
    ):
        assert expected in notes, expected
    assert "hidden" not in notes


def test_images_right_in_a_class_folder_are_explained(tmp_path):
    put(tmp_path, "run/001.jpg", "run/002.jpg")
    with pytest.raises(DataError, match=r"passed over in '.*run': 2 .jpg"):
        read_manifest(tmp_path)


def test_spaces_and_other_scripts_in_names_are_kept(tmp_path):
    put(tmp_path, "long jump/a b, c.mp4", "прыжок/видео.mp4")
    manifest = read_manifest(tmp_path)
    assert manifest.classes == ("long jump", "прыжок")
    assert Path(manifest.samples[0].source).name == "a b, c.mp4"
    assert check_manifest(manifest) == ()


def test_two_spellings_of_one_accent_are_one_class(tmp_path):
    composed, apart = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    put(tmp_path, f"train/{composed}/a.mp4", f"val/{apart}/b.mp4")
    assert read_manifest(tmp_path).classes == (composed,)


def test_loops_of_links_end_and_links_are_followed(tmp_path):
    put(tmp_path, "data/run/a.mp4", "elsewhere/b.mp4")
    (tmp_path / "data/run/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/run/loop").symlink_to(tmp_path / "data/run")
    manifest = read_manifest(tmp_path / "data")
    assert [name for name, _, _ in briefly(manifest)] == ["run/a.mp4", "run/more/b.mp4"]
    assert any("lead back" in note and "'loop'" in note for note in manifest.notes)


def test_a_folder_without_clips_is_refused(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(DataError, match="cannot find a clip"):
        read_manifest(tmp_path)


def test_what_cannot_be_a_manifest_is_refused_with_advice(tmp_path):
    put(tmp_path, "clips.txt", "clips.json", "clips.mp4", "clips.csv")
    for name, advice in (("clips.txt", "path,label"), ("clips.json", "jsonl"), ("clips.mp4", "class folders")):
        with pytest.raises(DataError, match=advice):
            read_manifest(tmp_path / name)
    with pytest.raises(DataError, match=r"nothing is there; did you mean 'clips.csv'"):
        read_manifest(tmp_path / "clip.csv")


# Tables


def test_a_table_is_read_with_all_its_columns(tmp_path):
    text = (
        'path,label,split,group,start_s,end_s,camera\n"a, b.mp4",run,valid,g1,1.5,3,left\n/x/c.mp4,"no run",TRAIN,,,,\n'
    )
    first, second = read_manifest(table(tmp_path, text)).samples
    assert first == Sample(
        str(tmp_path / "a, b.mp4"), "run", "val", "g1", 1.5, 3.0, metadata={"camera": "left"}, line=2
    )
    assert second == Sample("/x/c.mp4", "no run", "train", metadata={"camera": ""}, line=3)
    assert first.name.endswith("a, b.mp4#t=1.5,3")


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("t.csv", "path,label\r\na.mp4,run\r\n\r\nb.mp4,sit\r\n", "utf-8"),
        ("t.csv", "path,label\na.mp4,run\nb.mp4,sit", "utf-8-sig"),
        ("t.csv", " Path ; Label\na.mp4; run\nb.mp4;sit \n", "utf-8"),
        ("t.tsv", "label\tpath\nrun\ta.mp4\nsit\tb.mp4\n", "utf-8"),
        ("t.jsonl", '{"path": "a.mp4", "label": "run"}\r\n\n{"path": "b.mp4", "label": "sit", "split": null}', "utf-8"),
        ("t.ndjson", '{"path": "a.mp4", "label": "run"}\n{"label": " sit", "path": "b.mp4"}\n', "utf-8-sig"),
    ],
)
def test_every_usual_way_to_write_a_table_gives_the_same(tmp_path, name, text, encoding):
    assert briefly(read_manifest(table(tmp_path, text, name, encoding))) == [
        ("a.mp4", "run", None),
        ("b.mp4", "sit", None),
    ]


def test_json_lines_keep_numbers_and_nested_metadata_as_text(tmp_path):
    row = {"path": "a.mp4", "label": 3, "start_s": 2, "end_s": 2.5, "tags": ["x", "é"], "take": 7}
    (sample,) = read_manifest(table(tmp_path, json.dumps(row), "t.jsonl")).samples
    assert (sample.label, sample.start_s, sample.end_s) == ("3", 2.0, 2.5)
    assert sample.metadata == {"tags": '["x", "é"]', "take": "7"}


@pytest.mark.parametrize(
    ("header", "advice"),
    [
        ("path,lable", "rename 'lable' to 'label'"),
        ("filename,class", "rename 'filename' to 'path'; rename 'class' to 'label'"),
        ("a.mp4 run", "found 'a.mp4 run'; write path,label as the first line"),
        ("path,label,label", "'label' twice"),
        ("", "found nothing"),
    ],
)
def test_a_wrong_header_is_explained(tmp_path, header, advice):
    with pytest.raises(DataError, match="line 1") as caught:
        read_manifest(table(tmp_path, f"{header}\na.mp4,run\n"))
    assert advice in str(caught.value)
    assert "clips.csv" in str(caught.value)


def test_an_optional_column_that_is_misspelt_does_not_vanish_in_silence(tmp_path):
    manifest = read_manifest(table(tmp_path, "path,label,start,splt,camera\na.mp4,run,1,train,left\n"))
    assert "rename 'start' to 'start_s'" in manifest.notes[0] + manifest.notes[1]
    assert "rename 'splt' to 'split'" in manifest.notes[0] + manifest.notes[1]
    assert len(manifest.notes) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.mp4,,train,,", "'label' is empty"),
        (",run,train,,", "'path' is empty"),
        ("a.mp4,run,tran,,", "unknown split 'tran'; did you mean 'train'"),
        ("a.mp4,run,train,3,2", "start_s 3 is not before end_s 2"),
        ("a.mp4,run,train,2,2", "start_s 2 is not before end_s 2"),
        ("a.mp4,run,train,,0", "start_s 0 is not before end_s 0"),
        ("a.mp4,run,train,-1,2", "start_s must be seconds"),
        ("a.mp4,run,train,nan,2", "start_s must be seconds"),
        ("a.mp4,run,train,0,inf", "end_s must be seconds"),
        ("a.mp4,run,train,00:01,", "found '00:01'"),
        ("a.mp4,run,train", "3 values for 5 columns"),
        ("a, b.mp4,run,train,,", "6 values for 5 columns"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(tmp_path, row, message):
    text = f'path,label,split,start_s,end_s\n"over two\nlines.mp4",run,train,,\n\n{row}\n'
    with pytest.raises(DataError, match="line 5: ") as caught:
        read_manifest(table(tmp_path, text))
    assert message in str(caught.value)
    assert "clips.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"path": "a.mp4"}', "'label' is missing"),
        ('{"path": "a.mp4", "labl": "x"}', "rename 'labl' to 'label'"),
        ('{"path": "a.mp4", "label": null}', "'label' is missing"),
        ('["a.mp4", "x"]', "found a JSON list"),
        ('{"path": "a.mp4", "label": "x"', "no JSON object"),
        ('{"path": "a.mp4", "label": "x", "label": "y"}', "a name stands twice"),
        ("[" * 100_000, "no JSON object"),
        ('{"path": "a.mp4", "label": ' + "9" * 5000 + "}", "no JSON object"),
        ('{"path": "a.mp4", "label": "x", "start_s": NaN}', "start_s must be seconds"),
    ],
)
def test_a_wrong_json_line_is_refused_with_its_line(tmp_path, row, message):
    with pytest.raises(DataError, match="line 3: ") as caught:
        read_manifest(table(tmp_path, f'{{"path": "z.mp4", "label": "x"}}\n\n{row}\n', "t.jsonl"))
    assert message in str(caught.value)


def test_all_wrong_lines_are_named_at_once(tmp_path):
    rows = "\n".join(f"{index}.mp4," for index in range(14))
    with pytest.raises(DataError, match="14 problems") as caught:
        read_manifest(table(tmp_path, f"path,label\n{rows}\n"))
    assert "line 2: " in str(caught.value)
    assert "line 11: " in str(caught.value)
    assert "line 12: " not in str(caught.value)
    assert "and 4 more" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"path,label\nok.mp4,a\ncaf\xe9.mp4,b\n", "line 3 is not UTF-8"),
        ("path,label\na.mp4,b\n".encode("utf-16"), "UTF-16"),
        (b"path,label\na\0.mp4,b\n", "line 2 holds a zero byte"),
        (b'path,label\nok.mp4,a\n"a.mp4,b\n', "line 3"),
        (b'path,label\n"a"x.mp4,b\n', "line 2"),
        (b"path,label\n" + b"a" * 200_000 + b",b\n", "line 2"),
        (b"path,label\n\n", "states no clip"),
        (b"", "found nothing"),
    ],
)
def test_bytes_that_are_no_table_are_refused(tmp_path, data, message):
    path = tmp_path / "clips.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"clips\.csv") as caught:
        read_manifest(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("a.mp4,sit,train,,", "'sit' and also 'run' (line 2)"),
        ("sub/../a.mp4,run,test,,", "in split 'test' and also in 'train' (line 2)"),
        ("a.mp4,run,train,,", "listed twice (line 2)"),
        ("a.mp4,run,test,3.9,9", "in split 'test' and also in 'train'"),
    ],
)
def test_rows_that_contradict_each_other_are_refused_with_both_lines(tmp_path, second, message):
    first = "a.mp4,run,train,0,4" if "3.9" in second else "a.mp4,run,train,,"
    with pytest.raises(DataError, match="line 4: ") as caught:
        read_manifest(table(tmp_path, f"path,label,split,start_s,end_s\n{first}\nz.mp4,run,val,,\n{second}\n"))
    assert message in str(caught.value)


def test_an_overlap_is_seen_behind_a_shorter_part(tmp_path):
    rows = "a.mp4,run,0,9\na.mp4,run,1,2\na.mp4,sit,5,6\n"
    with pytest.raises(DataError, match=r"line 4: .*'sit' and also 'run' .line 2"):
        read_manifest(table(tmp_path, f"path,label,start_s,end_s\n{rows}"))


def test_a_part_that_is_listed_twice_is_seen_within_a_longer_one(tmp_path):
    rows = "a.mp4,run,0,9\na.mp4,run,1,2\na.mp4,run,1,2\n"
    with pytest.raises(DataError, match=r"line 4: .*listed twice .line 3"):
        read_manifest(table(tmp_path, f"path,label,start_s,end_s\n{rows}"))


def test_parts_that_touch_may_differ_in_label_and_split(tmp_path):
    put(tmp_path, "a.mp4")
    rows = "a.mp4,run,train,0,4\na.mp4,sit,train,4,9\na.mp4,run,test,9,\n"
    manifest = read_manifest(table(tmp_path, f"path,label,split,start_s,end_s\n{rows}"))
    assert [sample.name.partition("#")[2] for sample in manifest.samples] == ["t=0,4", "t=4,9", "t=9"]
    assert any("1 of 1 videos lie in several splits" in note for note in check_manifest(manifest))


# Groups


def test_groups_come_from_the_column_asked_for_then_from_group_then_from_the_name(tmp_path):
    rows = "v_Yo_g01_c02.avi,yo,mine,s1\nv_Yo_g02_c02.avi,yo,,s1\nother_g02_c02.avi,yo,,s2\n"
    path = table(tmp_path, f"path,label,group,source\n{rows}")
    assert [sample.group for sample in read_manifest(path).samples] == ["mine", "Yo_g02", None]
    assert [sample.group for sample in read_manifest(path, group_by="source").samples] == ["s1", "s1", "s2"]


def test_a_group_column_that_is_not_there_or_not_filled_is_refused(tmp_path):
    path = table(tmp_path, "path,label,source_video\na.mp4,x,s\nb.mp4,x,\n")
    with pytest.raises(DataError, match="did you mean 'source_video'"):
        read_manifest(path, group_by="source_vido")
    with pytest.raises(DataError, match=r"line 3: 'source_video' of .*b.mp4' is empty"):
        read_manifest(path, group_by="source_video")
    with pytest.raises(DataError, match="no sample has one"):
        read_manifest(path, group_by="group")


# The manifest


def test_a_digest_changes_with_what_decides_a_figure_and_with_nothing_else(tmp_path):
    def digest(folder, text):
        (tmp_path / folder).mkdir(exist_ok=True)
        return read_manifest(table(tmp_path / folder, text)).digest

    one = digest("here", "path,label,split\na.mp4,x,train\nb.mp4,y,val\n")
    assert digest("there", "path,split,label,note\nb.mp4,val,y,n\na.mp4,train,x,m\n") == one
    others = {
        digest("here", "path,label,split\na.mp4,x,train\nb.mp4,x,val\n"),
        digest("here", "path,label,split\na.mp4,x,train\nb.mp4,y,test\n"),
        digest("here", "path,label,split\na.mp4,x,train\nc.mp4,y,val\n"),
        digest("here", "path,label,split\na.mp4,x,train\n"),
        digest("here", "path,label,split,end_s\na.mp4,x,train,3\nb.mp4,y,val,\n"),
    }
    assert len(others | {one}) == 6


def test_a_models_class_list_takes_the_place_of_the_datas_own(tmp_path):
    manifest = read_manifest(put(tmp_path, "b/1.mp4", "a/2.mp4"))
    taken = manifest.with_classes(["c", "b", "a"])
    assert [taken.label_index(sample) for sample in taken.samples] == [2, 1]
    assert taken.counts() == {"unsplit": {"c": 0, "b": 1, "a": 1}}
    with pytest.raises(DataError, match=r"lacks 'b'.*lacks 'bb'"):
        manifest.with_classes(["a", "bb"])


def test_an_unknown_label_or_split_names_the_nearest(tmp_path):
    manifest = read_manifest(put(tmp_path, "running/1.mp4", "sitting/2.mp4"))
    with pytest.raises(DataError, match="did you mean 'running'"):
        manifest.label_index(Sample("x.mp4", "runing"))
    with pytest.raises(DataError, match="did you mean 'train'"):
        manifest.select("trian")
    assert manifest.select("test") == ()


def test_samples_survive_the_way_to_another_process(tmp_path):
    manifest = read_manifest(table(tmp_path, "path,label,camera\na.mp4,x,left\n"))
    again = pickle.loads(pickle.dumps(manifest))
    assert again == manifest
    assert again.label_index(again.samples[0]) == 0
    assert len({manifest.samples[0], again.samples[0]}) == 1


def test_names_tell_samples_apart():
    samples = [
        Sample("a.npz", "x", member="train_images", row=1),
        Sample("a.npz", "x", member="val_images", row=1),
        Sample("a.mp4", "x"),
        Sample("a.mp4", "x", start_s=1.0),
        Sample("a.mp4", "x", start_s=1.0, end_s=2.0),
        Sample("a.mp4", "x", start_s=1.0000001, end_s=2.0),
    ]
    assert [sample.name for sample in samples] == [
        "a.npz[train_images][1]",
        "a.npz[val_images][1]",
        "a.mp4",
        "a.mp4#t=1",
        "a.mp4#t=1,2",
        "a.mp4#t=1.0000001,2",
    ]


# The check


def test_missing_and_empty_sources_are_all_named_with_their_lines(tmp_path):
    put(tmp_path, "here.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    rows = "here.mp4,x\ngone.mp4,x\nempty.mp4,x\nfolder,x\nbroken.mp4,y\n"
    (tmp_path / "broken.mp4").symlink_to("nowhere.mp4")
    manifest = read_manifest(table(tmp_path, f"path,label\n{rows}"))
    with pytest.raises(DataError, match="4 problems") as caught:
        check_manifest(manifest)
    for expected in (
        "line 3: no such file: '",
        "line 4: '",
        "is an empty file",
        "line 5: '",
        "a folder without images",
        "line 6: no such file",
    ):
        assert expected in str(caught.value), expected


def test_a_split_for_some_samples_only_is_refused(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    manifest = read_manifest(table(tmp_path, "path,label,split\na.mp4,x,train\nb.mp4,x,\nc.mp4,y,val\n"))
    with pytest.raises(DataError, match="line 3: 1 of 3 samples have no split"):
        check_manifest(manifest)


def test_contradictions_and_unknown_labels_of_a_manifest_made_by_hand_are_refused(tmp_path):
    source = str(put(tmp_path, "a.mp4") / "a.mp4")
    both = Manifest((Sample(source, "x", "train"), Sample(source, "x", "test")), ("x",), "by hand")
    with pytest.raises(DataError, match="in split 'test' and also in 'train'"):
        check_manifest(both)
    with pytest.raises(DataError, match="'z', which is no class"):
        check_manifest(Manifest((Sample(source, "z"),), ("x",), "by hand"))


def test_doubtful_data_is_reported_and_sound_data_is_not(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    doubtful = "a.mp4,Run,train,g1\nb.mp4,run,test,g1\nc.mp4,sit,test,g2\nd.mp4,Run,test,g3\n"
    notes = check_manifest(read_manifest(table(tmp_path, f"path,label,split,group\n{doubtful}")))
    text = "\n".join(notes)
    for expected in (
        "2 of 3 classes have no sample in 'train': 'run', 'sit'",
        "'Run' and 'run' differ in upper and lower case",
        "1 of 3 groups lie in several splits ('g1')",
    ):
        assert expected in text, expected
    assert len(notes) == 3
    sound = "a.mp4,run,train,g1\nb.mp4,sit,train,g1\nc.mp4,sit,test,g2\nd.mp4,run,test,g3\n"
    assert check_manifest(read_manifest(table(tmp_path, f"path,label,split,group\n{sound}"))) == ()
    one_class = check_manifest(read_manifest(table(tmp_path, "path,label\na.mp4,run\nb.mp4,run\n")))
    assert len(one_class) == 1
    assert "one class only" in one_class[0]


def test_reading_data_needs_no_torch():
    program = "import sys, tubelet.data; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


# Real lists


@pytest.mark.real_data
def test_the_fight_list_is_read_whole_and_its_groups_do_not_leak(real_data):
    manifest = read_manifest(real_data / "fight128" / "split.csv", group_by="source_video")
    assert manifest.classes == ("fight", "noFight")
    assert {split: sum(counts.values()) for split, counts in manifest.counts().items()} == {
        "train": 220,
        "val": 30,
        "test": 50,
    }
    assert manifest.counts()["test"] == {"fight": 32, "noFight": 18}
    assert check_manifest(manifest) == ()
    assert len({sample.group for sample in manifest.samples}) == 45


@pytest.mark.real_data
def test_ucf101_clips_are_grouped_by_their_names(real_data):
    manifest = read_manifest(real_data / "ucf101_mini" / "split.csv")
    assert check_manifest(manifest) == ()
    assert manifest.samples[0].group == "Punch_g01"
    assert manifest.samples[0].metadata == {"in_official_testlist01": "1"}
    folder = read_manifest(real_data / "ucf101_mini")
    assert {sample.source: sample.group for sample in folder.samples} == {
        sample.source: sample.group for sample in manifest.samples
    }
    assert folder.counts() == {"unsplit": {"Punch": 32, "YoYo": 44}}
