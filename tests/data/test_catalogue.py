"""Every data set is got as its owners lay it out, from a server on this machine, down to the first clip."""

import csv
import hashlib
import json
import re
import shlex
import sys
import tarfile
import threading
import types
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from run_command import run
from tubelet.cli import app
from tubelet.data import register_dataset
from tubelet.data.catalogue import DATASETS, Request, fetch_dataset, find_on_disk, hmdb51, medmnist, open_data, ucf101
from tubelet.data.catalogue.jester import JESTER_CLASSES
from tubelet.data.catalogue.kinetics import read_annotations
from tubelet.data.catalogue.shelf import read_rows
from tubelet.data.dataset import ClipDataset
from tubelet.errors import ConfigError, DataError, MissingExtra
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.fetching import FetchError, Remote
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.resolution import resolve_recipe
from tubelet.registry import load_plugin
from tubelet.training.opening import fix_source
from tubelet.training.progress import QUIET
from tubelet.training.train import open_clips
from tubelet.video.spec import InputSpec

CODECS = {".avi": "mpeg4", ".mp4": "libx264", ".webm": "libvpx-vp9"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "data"


@pytest.fixture
def host(tmp_path):
    """Serve a folder over HTTP; `host.asked` lists the paths that were asked for."""
    folder = tmp_path / "host"
    folder.mkdir()
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield types.SimpleNamespace(folder=folder, url=f"http://127.0.0.1:{server.server_port}/", asked=asked)
    server.shutdown()
    server.server_close()


def make_clip(path, frames=6, fps=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=fps)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(frames):
            picture = np.full((24, 32, 3), 10 + 200 * number // frames, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


def zip_folder(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def tar_files(path, *files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for file in files:
            archive.add(file, file.name)


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_first(manifest, split="train", channels=3):
    """Read the first clip of a split as a training would."""
    spec = InputSpec(frames=4, height=16, width=16, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    samples = manifest.select(split)
    dataset = ClipDataset(samples, manifest, spec, partial(prepare_evaluation, spec=spec))
    _, clips, label = dataset[0, 0]
    assert clips.shape == (1, 4, 16, 16, channels)
    return label


def lacking(home, name):
    return [tuple(row.values()) for row in read_rows(home / name / "missing.csv")]


# UCF101


def lay_out_ucf101(folder):
    """Clips as the zip holds them: all in one folder, spelled like the class."""
    for name in ("Hammering_g01_c01", "Hammering_g08_c01", "HammerThrow_g08_c02", "HandstandPushups_g01_c01"):
        make_clip(folder / "UCF101" / f"v_{name}.avi")


def test_ucf101_is_fetched_from_the_zip_and_read_by_its_official_splits(home, host, tmp_path, monkeypatch):
    lay_out_ucf101(tmp_path / "content")
    archive = zip_folder(tmp_path / "content", host.folder / "UCF101_videos.zip")
    remote = Remote(host.url + archive.name, archive.name, (("sha256", hash_of(archive)),), archive.stat().st_size)
    monkeypatch.setattr(ucf101, "UCF101_REMOTES", [remote])
    remarks, steps = [], []
    request = Request(on_remark=remarks.append, on_progress=lambda done, total: steps.append((done, total)))
    manifest = open_data("ucf101", request=request, split_if_missing=False)
    assert len(manifest.classes) == 101
    assert (manifest.classes[34], manifest.classes[35]) == ("Hammering", "HammerThrow")
    assert sorted((sample.label, sample.split, sample.group) for sample in manifest.samples) == [
        ("HammerThrow", "train", "HammerThrow_g08"),
        ("Hammering", "test", "Hammering_g01"),
        ("Hammering", "train", "Hammering_g08"),
        ("HandstandPushups", "test", "HandstandPushups_g01"),
    ]
    assert read_first(manifest) == 34
    (remark,) = remarks
    assert "7.0 GB" in remark
    assert "license: research use" in remark
    assert (archive.stat().st_size, archive.stat().st_size) in steps
    assert any(note.startswith("13316 clips that the official lists name cannot be used") for note in manifest.notes)
    assert lacking(home, "ucf101")[0] == ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "ApplyEyeMakeup", "", "absent")
    assert not (home / "ucf101" / "UCF101_videos.zip").exists()
    second = open_data("ucf101", request=Request(fold=2, offline=True), split_if_missing=False)
    assert {sample.group: sample.split for sample in second.samples} == {
        "HammerThrow_g08": "test",
        "Hammering_g01": "train",
        "Hammering_g08": "test",
        "HandstandPushups_g01": "train",
    }
    assert len(host.asked) == 1


def test_names_in_the_table_do_not_depend_on_the_machine(home, tmp_path):
    lay_out_ucf101(home / "ucf101" / "files")
    manifest = open_data("ucf101", split_if_missing=False)
    assert "\nfiles/UCF101/v_Hammering_g08_c01.avi," in (home / "ucf101" / "split1.csv").read_text()
    names = {manifest.short_name(sample) for sample in manifest.samples}
    assert "files/UCF101/v_Hammering_g01_c01.avi" in names


def test_a_folder_of_ucf101_is_used_where_it_stays_and_for_some_classes_only(home, tmp_path):
    own = tmp_path / "own"
    lay_out_ucf101(own)
    (own / "UCF101" / "v_Hammering_g02_c01.avi").touch()
    request = Request(archive=own, classes=("HammerThrow", "Hammering"), offline=True)
    manifest = open_data("ucf101", request=request, split_if_missing=False)
    assert manifest.classes == ("Hammering", "HammerThrow")
    assert {sample.source for sample in manifest.samples} == {
        str(own / "UCF101" / f"v_{name}.avi")
        for name in ("Hammering_g01_c01", "Hammering_g08_c01", "HammerThrow_g08_c02")
    }
    assert ("Hammering/v_Hammering_g02_c01.avi", "Hammering", "", "empty") in lacking(home, "ucf101")
    # The table stays until somebody asks for another.
    assert open_data("ucf101", request=Request(offline=True), split_if_missing=False).classes == manifest.classes
    with pytest.raises(DataError, match="has no class 'Hamering'; did you mean 'Hammering'"):
        fetch_dataset("ucf101", Request(archive=own, classes=("Hamering",)))
    with pytest.raises(DataError, match="nothing is there - check --archive"):
        fetch_dataset("ucf101", Request(archive=tmp_path / "none"))


def test_an_archive_that_is_not_the_official_one_is_refused(home, host, tmp_path):
    lay_out_ucf101(tmp_path / "content")
    zip_folder(tmp_path / "content", host.folder / "UCF101_videos.zip")
    with pytest.raises(FetchError, match="6,960,400,115 bytes"):
        fetch_dataset("ucf101", Request(mirror=host.url))
    assert find_on_disk("ucf101") == "partly"
    # One that the user names by another name is the user's own affair.
    (host.folder / "UCF101_videos.zip").rename(tmp_path / "mine.zip")
    fetch_dataset("ucf101", Request(archive=tmp_path / "mine.zip"))
    assert find_on_disk("ucf101") == "yes"


def test_the_official_rar_is_fetched_where_the_zip_cannot_be(home, host, tmp_path, monkeypatch):
    """The rar is a zip here: what unpacks rars is tested with the archives."""
    lay_out_ucf101(tmp_path / "content")
    zip_folder(tmp_path / "content", host.folder / "UCF101.rar")
    remarks = []
    fetch_dataset("ucf101", Request(mirror=host.url, on_remark=remarks.append))
    assert find_on_disk("ucf101") == "yes"
    assert "404" in remarks[1]
    assert remarks[1].endswith("Trying 'UCF101.rar'.")


def test_an_archive_that_somebody_put_in_the_folder_is_used_and_stays(home, tmp_path):
    lay_out_ucf101(tmp_path / "content")
    (home / "ucf101").mkdir(parents=True)
    archive = zip_folder(tmp_path / "content", home / "ucf101" / "UCF101.rar")
    fetch_dataset("ucf101", Request(offline=True))
    assert archive.is_file()
    assert find_on_disk("ucf101") == "yes"


def test_nothing_is_fetched_where_that_is_forbidden(home, host):
    assert find_on_disk("ucf101") == "no"
    with pytest.raises(DataError, match="may not be fetched here") as refused:
        open_data("ucf101", request=Request(offline=True, mirror=host.url))
    assert str(home / "ucf101" / "UCF101_videos.zip") in str(refused.value)
    assert refused.value.code == "download_forbidden"
    assert host.asked == []


def test_a_folder_without_a_clip_of_the_data_set_is_refused(home, tmp_path):
    make_clip(tmp_path / "own" / "other.avi")
    with pytest.raises(DataError, match="not one of the 13320 clips that its lists name is there"):
        fetch_dataset("ucf101", Request(archive=tmp_path / "own"))


def test_splits_that_do_not_exist_are_refused(home, tmp_path):
    with pytest.raises(ConfigError, match="it has 3 official splits - give --fold 1 to 3"):
        open_data("ucf101", request=Request(fold=4))
    with pytest.raises(ConfigError, match="one official split"):
        open_data("jester", request=Request(fold=2))
    make_clip(tmp_path / "clips" / "run" / "a.avi")
    with pytest.raises(ConfigError, match="only data sets of the catalogue have numbered splits"):
        open_data(tmp_path / "clips", request=Request(fold=2))


@pytest.mark.real_data
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_rule_gives_the_official_lists_of_ucf101(real_data, fold):
    lists = real_data / "lists" / "ucf101"
    official = {}
    for split in ("train", "test"):
        for line in (lists / f"{split}list0{fold}.txt").read_text().splitlines():
            official[line.split()[0]] = split
    listed = list(ucf101.list_ucf101(fold))
    assert {name: split for name, _, split, _ in listed} == official
    assert len(listed) == len(official) == 13320
    order = [line.split()[1] for line in (lists / "classInd.txt").read_text().splitlines()]
    assert list(ucf101.UCF101_CLASSES) == order


@pytest.mark.real_data
def test_real_clips_of_ucf101_are_used_where_they_lie(real_data):
    request = Request(archive=real_data / "ucf101_mini", classes=("YoYo", "Punch"), offline=True)
    manifest = open_data("ucf101", request=request, split_if_missing=False)
    assert manifest.classes == ("Punch", "YoYo")
    assert len(manifest.samples) == 76
    assert read_first(manifest) == 0


# HMDB51


def lay_out_hmdb51(folder):
    odd = "(Rad)Schlag_die_Bank!_#1;&_cartwheel_f_cm_np1_le_med_0.avi"
    for name in ("cartwheel/" + odd, "cartwheel/b_cartwheel_0.avi", "wave/c_wave_0.avi", "wave/d_wave_1.avi"):
        make_clip(folder / name)
    tags = {"cartwheel": (f"{odd} 1 ", "b_cartwheel_0.avi 2 "), "wave": ("c_wave_0.avi 1 ", "d_wave_1.avi 0 ")}
    for label, lines in tags.items():
        for fold in (1, 2, 3):
            path = folder / "testTrainMulti_7030_splits" / f"{label}_test_split{fold}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\r\n".join([*lines, f"gone_{label}.avi 1", ""]))
    return odd


def test_hmdb51_is_read_from_a_folder_by_its_tags(home, tmp_path):
    odd = lay_out_hmdb51(tmp_path / "own")
    manifest = open_data(
        "hmdb51", request=Request(fold=3, archive=tmp_path / "own", offline=True), split_if_missing=False
    )
    assert manifest.classes == ("cartwheel", "wave")
    assert [(sample.source.rpartition("/")[2], sample.split) for sample in manifest.samples] == [
        (odd, "train"),
        ("b_cartwheel_0.avi", "test"),
        ("c_wave_0.avi", "train"),
    ]
    assert read_first(manifest) == 0
    assert lacking(home, "hmdb51") == [
        ("cartwheel/gone_cartwheel.avi", "cartwheel", "", "absent"),
        ("wave/gone_wave.avi", "wave", "", "absent"),
    ]


def test_hmdb51_is_unpacked_twice_because_each_class_has_an_archive_of_its_own(home, tmp_path, monkeypatch):
    """The archives are zips under the names of the rars: what unpacks rars is tested with the archives."""
    lay_out_hmdb51(tmp_path / "content")
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "inner").mkdir()
    for label in ("cartwheel", "wave"):
        inner = tmp_path / "one" / label
        (inner).mkdir(parents=True)
        (tmp_path / "content" / label).rename(inner / label)
        zip_folder(inner, tmp_path / "inner" / f"{label}.rar")
    zip_folder(tmp_path / "inner", own / "hmdb51_org.rar")
    zip_folder(tmp_path / "content", own / "test_train_splits.rar")
    remote = Remote(
        "https://example.org/x", "test_train_splits.rar", (("sha256", hash_of(own / "test_train_splits.rar")),)
    )
    monkeypatch.setattr(hmdb51, "HMDB51_LISTS", [remote])
    manifest = open_data("hmdb51", request=Request(archive=own, offline=True), split_if_missing=False)
    assert len(manifest.samples) == 3
    assert read_first(manifest) == 0


@pytest.mark.real_data
def test_the_official_lists_of_hmdb51_have_the_published_counts(real_data):
    rows = hmdb51.read_hmdb51_lists(real_data / "lists" / "hmdb51")
    assert len({clip for _, clip, _, _ in rows}) == 6766
    assert len({label for _, _, label, _ in rows}) == 51
    for fold in (1, 2, 3):
        splits = [split for one, _, _, split in rows if one == fold]
        assert (splits.count("train"), splits.count("test")) == (3570, 1530)


# Kinetics

CLIPS = [
    ("dribbling basketball", "aaaaaaaaaaa", 3, 13, "train"),
    ("dunking basketball", "-bbbbbbbbbb", 0, 10, "train"),
    ("dunking basketball", "ccccccccccc", 27, 37, "val"),
    ("archery", "ddddddddddd", 5, 15, "train"),
    ("dribbling basketball", "eeeeeeeeeee", 0, 10, "val"),
    ("dribbling basketball", "fffffffffff", 0, 10, "val"),
]


def name_clip(clip):
    return f"{clip[1]}_{clip[2]:06d}_{clip[3]:06d}.mp4"


def write_annotations(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        with (folder / f"{split}.csv").open("w", newline="") as table:
            writer = csv.writer(table)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split", "is_cc"])
            writer.writerows([*clip, 0] for clip in CLIPS if clip[4] == split)


def lay_out_kinetics(host, tmp_path):
    """The layout of the CVDF host: lists of archives, about a thousand clips each, and annotations."""
    root = host.folder / "400"
    write_annotations(root / "annotations")
    made = {clip: make_clip(tmp_path / "made" / name_clip(clip)) for clip in CLIPS[:4]}
    empty = tmp_path / "made" / name_clip(CLIPS[4])
    empty.touch()
    tar_files(root / "train" / "part_0.tar.gz", made[CLIPS[0]], made[CLIPS[3]])
    tar_files(root / "train" / "part_1.tar.gz", made[CLIPS[1]])
    tar_files(root / "val" / "part_0.tar.gz", made[CLIPS[2]], empty)
    tar_files(root / "replacement_for_corrupted_k400.tgz", made[CLIPS[0]])
    for split, count in (("train", 2), ("val", 1)):
        lines = [f"https://s3.amazonaws.com/kinetics/400/{split}/part_{part}.tar.gz" for part in range(count)]
        (root / split / f"k400_{split}_path.txt").write_text("\n".join(lines) + "\n")


def test_classes_of_kinetics_are_taken_out_of_the_archives_of_a_mirror(home, host, tmp_path):
    lay_out_kinetics(host, tmp_path)
    wanted = ("dunking basketball", "dribbling basketball")
    request = Request(classes=wanted, mirror=host.url)
    manifest = open_data("kinetics400", request=request, split_if_missing=False)
    assert manifest.classes == ("dribbling basketball", "dunking basketball")
    assert [(sample.label, sample.split, sample.group) for sample in manifest.samples] == [
        ("dribbling basketball", "train", "aaaaaaaaaaa"),
        ("dunking basketball", "train", "-bbbbbbbbbb"),
        ("dunking basketball", "test", "ccccccccccc"),
    ]
    assert "replacement" in manifest.samples[0].source
    assert read_first(manifest, "test") == 1
    assert lacking(home, "kinetics400") == [
        ("eeeeeeeeeee_000000_000010", "dribbling basketball", "test", "empty"),
        ("fffffffffff_000000_000010", "dribbling basketball", "test", "absent"),
    ]
    asked = len(host.asked)
    assert not list((home / "kinetics400").rglob("*.tar.gz"))
    everything = open_data("kinetics400", request=Request(mirror=host.url, refresh=True), split_if_missing=False)
    assert everything.classes == ("archery", "dribbling basketball", "dunking basketball")
    assert len(host.asked) == asked


def test_kinetics_600_takes_its_tables_from_the_official_archive(home, host, tmp_path):
    write_annotations(tmp_path / "kinetics600")
    (tmp_path / "kinetics600" / "val.csv").rename(tmp_path / "kinetics600" / "validate.csv")
    tar_files(host.folder / "kinetics600.tar.gz", tmp_path / "kinetics600")
    for split, clip in (("train", CLIPS[0]), ("val", CLIPS[2])):
        made = make_clip(tmp_path / "made" / name_clip(clip))
        tar_files(host.folder / "600" / split / "part_0.tar.gz", made)
        (host.folder / "600" / split / f"k600_{split}_path.txt").write_text("https://example.org/part_0.tar.gz")
    manifest = open_data("kinetics600", request=Request(mirror=host.url), split_if_missing=False)
    assert [(sample.label, sample.split) for sample in manifest.samples] == [
        ("dribbling basketball", "train"),
        ("dunking basketball", "test"),
    ]


def test_a_list_of_archives_that_names_none_is_refused(home, host, tmp_path):
    lay_out_kinetics(host, tmp_path)
    (host.folder / "400" / "train" / "k400_train_path.txt").write_text("https://example.org/..\n")
    with pytest.raises(DataError, match="is no archive"):
        fetch_dataset("kinetics400", Request(mirror=host.url))


def test_clips_of_kinetics_are_cut_out_of_whole_videos_that_the_user_has(home, tmp_path):
    own = tmp_path / "own"
    write_annotations(own)
    make_clip(own / "aaaaaaaaaaa.mp4", frames=90, fps=5)
    make_clip(own / "ccccccccccc.mp4", frames=50, fps=5)  # of 10 s: it is the clip itself
    make_clip(own / "ddddddddddd.mp4", frames=20, fps=1).write_bytes(b"no video")
    manifest = open_data("kinetics400", request=Request(archive=own, offline=True), split_if_missing=False)
    assert [(sample.group, sample.source.rpartition("/")[2]) for sample in manifest.samples] == [
        ("aaaaaaaaaaa", "aaaaaaaaaaa_000003_000013.mp4"),
        ("ccccccccccc", "ccccccccccc.mp4"),
    ]
    with av.open(manifest.samples[0].source) as container:
        assert container.streams.video[0].frames == 50
    reasons = {row[0]: row[3] for row in lacking(home, "kinetics400")}
    assert "ddddddddddd.mp4" in reasons["ddddddddddd_000005_000015"]
    assert reasons["eeeeeeeeeee_000000_000010"] == "absent"


def fake_downloader(monkeypatch, asked, there=("-bbbbbbbbbb",)):
    """Stand in for YouTube: these videos are there, the others are gone."""

    class DownloadError(Exception):
        pass

    class YoutubeDL:
        def __init__(self, options):
            self.template = options["outtmpl"]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def download(self, addresses):
            asked.extend(addresses)
            name = addresses[0].rpartition("=")[2]
            if name not in there:
                raise DownloadError("Video unavailable")
            path = self.template.replace("%(id)s", name).replace("%(ext)s", "mp4")
            make_clip(Path(path), frames=60, fps=5)

    module = types.ModuleType("yt_dlp")
    module.YoutubeDL = YoutubeDL
    module.utils = types.SimpleNamespace(DownloadError=DownloadError)
    monkeypatch.setitem(sys.modules, "yt_dlp", module)


def put_annotations(home, tmp_path):
    write_annotations(home / "kinetics400" / "400" / "annotations")


def test_some_classes_of_kinetics_come_from_youtube(home, tmp_path, monkeypatch):
    put_annotations(home, tmp_path)
    asked, remarks = [], []
    fake_downloader(monkeypatch, asked)
    request = Request(classes=("dunking basketball",), on_remark=remarks.append)
    manifest = open_data("kinetics400", request=request, split_if_missing=False)
    assert [sample.source.rpartition("/")[2] for sample in manifest.samples] == ["-bbbbbbbbbb_000000_000010.mp4"]
    assert asked == [f"https://www.youtube.com/watch?v={name}" for name in ("-bbbbbbbbbb", "ccccccccccc")]
    assert lacking(home, "kinetics400") == [
        ("ccccccccccc_000027_000037", "dunking basketball", "test", "failed: Video unavailable")
    ]
    assert len(remarks) == 1
    assert list((home / "kinetics400" / "whole").iterdir()) == []
    # What is there is not fetched again; what is gone is tried again.
    fetch_dataset("kinetics400", request)
    assert asked[2:] == ["https://www.youtube.com/watch?v=ccccccccccc"]
    with pytest.raises(DataError, match="may not be fetched here") as refused:
        fetch_dataset("kinetics400", Request(classes=("archery",), offline=True))
    assert refused.value.code == "download_forbidden"


def test_the_recipe_for_two_classes_of_kinetics_says_how_to_train_on_them_alone(home, tmp_path, monkeypatch, capsys):
    put_annotations(home, tmp_path)
    asked = []
    fake_downloader(monkeypatch, asked, ("aaaaaaaaaaa", "-bbbbbbbbbb", "ddddddddddd"))
    text = RECIPES["kinetics2/frame_transformer"].text
    download, train = (shlex.split(found) for found in re.findall("    tubelet (.+)", text))
    status, _, err = run(*download, capsys=capsys)
    assert status == 0, err
    _, bound, _ = app.parse_args(train, exit_on_error=False)
    data, options = bound.arguments["data"], bound.arguments["options"]
    recipe = resolve_recipe(data, options.list_places()["recipe"], options.list_changes())
    before = list(asked)
    manifest = open_clips(fix_source(recipe, data), QUIET)
    assert asked == before
    assert manifest.classes == ("dribbling basketball", "dunking basketball")


def test_without_the_downloader_a_message_says_how_to_get_it(home, tmp_path, monkeypatch):
    put_annotations(home, tmp_path)
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[kinetics\]'"):
        fetch_dataset("kinetics400", Request(classes=("archery",)))


def test_ids_that_would_leave_the_folder_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("label,youtube_id,time_start,time_end\nrun,../../x,0,10\n")
    with pytest.raises(DataError, match=r"line 2: '\.\./\.\./x' is no YouTube id"):
        read_annotations(tmp_path / "train.csv", "train")
    (tmp_path / "train.csv").write_text("label,youtube_id,time_start,time_end\nrun,abc,zero,10\n")
    with pytest.raises(DataError, match="line 2"):
        read_annotations(tmp_path / "train.csv", "train")


@pytest.mark.real_data
def test_the_official_table_of_kinetics_400_has_the_labels_of_the_reference_map(real_data):
    clips = read_annotations(real_data / "lists" / "kinetics" / "kinetics-400_val.csv", "test")
    reference = (real_data / "lists" / "label_maps" / "label_map.txt").read_text().splitlines()
    assert sorted({clip.label for clip in clips}) == reference
    assert len(clips) == 19906
    assert read_annotations(real_data / "lists" / "kinetics" / "kinetics-400_test.csv", "test") == []


# Something-Something v2 and Jester, which nobody may fetch


def lay_out_something(folder, name="something-something-v2-{}"):
    templates = {"Putting something on a surface": "1", "Holding something": "0", "Moving something up": "2"}
    lists = {
        "train": [("7", "Holding [something]"), ("8", "Putting [something] on a surface")],
        "validation": [("9", "Holding [something]"), ("10", "Moving [something] up")],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name.format('labels')}.json").write_text(json.dumps(templates))
    for part, clips in lists.items():
        content = [{"id": clip, "label": "x", "template": text, "placeholders": ["x"]} for clip, text in clips]
        (folder / f"{name.format(part)}.json").write_text(json.dumps(content))
    for clip in ("7", "8", "9"):
        make_clip(folder / "20bn-something-something-v2" / f"{clip}.webm")


def test_something_something_is_read_by_its_templates(home, tmp_path):
    lay_out_something(tmp_path / "own")
    manifest = open_data(
        "something-v2", request=Request(archive=tmp_path / "own", offline=True), split_if_missing=False
    )
    assert manifest.classes == ("Holding something", "Putting something on a surface", "Moving something up")
    assert [(sample.label, sample.split) for sample in manifest.samples] == [
        ("Holding something", "train"),
        ("Putting something on a surface", "train"),
        ("Holding something", "test"),
    ]
    assert read_first(manifest) == 0
    assert lacking(home, "something-v2") == [("10", "Moving something up", "test", "absent")]


def test_something_something_comes_out_of_an_archive_too(home, tmp_path):
    lay_out_something(tmp_path / "own", name="{}")
    archive = zip_folder(tmp_path / "own", tmp_path / "mine.zip")
    manifest = open_data("something-v2", request=Request(archive=archive), split_if_missing=False)
    assert read_first(manifest, "test") == 0


def test_a_template_that_is_no_class_is_refused(home, tmp_path):
    lay_out_something(tmp_path / "own")
    (tmp_path / "own" / "something-something-v2-train.json").write_text('[{"id": "7", "template": "Eating [cake]"}]')
    with pytest.raises(DataError, match="'Eating cake', which is no class"):
        fetch_dataset("something-v2", Request(archive=tmp_path / "own"))
    (tmp_path / "own" / "something-something-v2-train.json").unlink()
    with pytest.raises(DataError, match=r"no 'something-something-v2-train.json' is there"):
        fetch_dataset("something-v2", Request(archive=tmp_path / "own"))


def lay_out_jester(folder):
    for name in ("1", "2", "3"):
        frames = folder / "20bn-jester-v1" / name
        frames.mkdir(parents=True)
        for number in range(1, 6):
            Image.new("RGB", (32, 24), (40 * number, 0, 0)).save(frames / f"{number:05d}.jpg")
    (folder / "20bn-jester-v1" / "5").mkdir()
    (folder / "jester-v1-train.csv").write_text("1;Thumb Up\n2;Swiping Left\n4;No gesture\n")
    (folder / "jester-v1-validation.csv").write_text("3;Thumb Up\n5;Thumb Up\n")


def test_jester_is_read_from_folders_of_frames(home, tmp_path):
    lay_out_jester(tmp_path / "own")
    manifest = open_data("jester", request=Request(archive=tmp_path / "own", offline=True), split_if_missing=False)
    assert manifest.classes == JESTER_CLASSES
    assert [(sample.label, sample.split) for sample in manifest.samples] == [
        ("Thumb Up", "train"),
        ("Swiping Left", "train"),
        ("Thumb Up", "test"),
    ]
    assert read_first(manifest) == 20
    assert [row[3] for row in lacking(home, "jester")] == ["absent", "empty"]


def test_data_that_nobody_may_fetch_says_where_to_ask_and_what_to_put_where(home):
    for name in ("something-v2", "jester"):
        with pytest.raises(
            DataError, match=rf"agree to their terms at https://.*data download {name} --archive FOLDER"
        ):
            fetch_dataset(name)


@pytest.mark.real_data
def test_the_classes_of_jester_are_those_of_the_reference_map(real_data):
    reference = (real_data / "lists" / "label_maps" / "jester__label_map.txt").read_text().splitlines()
    assert [name.strip() for name in reference] == list(JESTER_CLASSES)


# MedMNIST


def make_volumes(path, train=4, side=28):
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", train), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = generator.integers(0, 255, (count, side, side, side), np.uint8)
        arrays[f"{split}_labels"] = np.array([[number % 2] for number in range(count)], np.uint8)
    np.savez_compressed(path, **arrays)
    return path


def know(monkeypatch, name, *paths):
    remote = medmnist.MEDMNIST_REMOTES[name]
    hashes = tuple(("md5", hashlib.md5(path.read_bytes()).hexdigest()) for path in paths)
    monkeypatch.setitem(medmnist.MEDMNIST_REMOTES, name, Remote(remote.url, remote.name, hashes))


@pytest.mark.parametrize(("name", "side"), [("organmnist3d", 28), ("vesselmnist3d-64", 64)])
def test_medical_volumes_are_fetched_with_the_names_of_their_classes(home, host, monkeypatch, name, side):
    file = medmnist.MEDMNIST_REMOTES[name].name
    know(monkeypatch, name, make_volumes(host.folder / file, side=side))
    manifest = open_data(name, request=Request(mirror=host.url))
    assert manifest.classes == medmnist.MEDMNIST[name.removesuffix("-64")].classes
    assert len(manifest.select("train")) == 4
    assert read_first(manifest, channels=1) == 0
    assert manifest.samples[1].label == manifest.classes[1]
    assert open_data(name, request=Request(offline=True)).digest == manifest.digest


def test_both_versions_of_the_organs_are_right_and_others_are_not(home, tmp_path, monkeypatch):
    old, new, wrong = (tmp_path / name / "organmnist3d.npz" for name in ("old", "new", "wrong"))
    for number, path in enumerate((old, new, wrong)):
        path.parent.mkdir()
        make_volumes(path, train=5 - number)
    know(monkeypatch, "organmnist3d", new, old)
    for path, count in ((old, 5), (new, 4)):
        manifest = open_data("organmnist3d", request=Request(archive=path))
        assert len(manifest.select("train")) == count
    assert len(open_data("organmnist3d", request=Request(archive=old.parent)).select("train")) == 5
    with pytest.raises(FetchError, match="md5"):
        fetch_dataset("organmnist3d", Request(archive=wrong))


def test_the_hashes_of_both_versions_are_known():
    hashes = {name: [digits for _, digits in remote.hashes] for name, remote in medmnist.MEDMNIST_REMOTES.items()}
    assert len(hashes) == 12
    assert hashes["organmnist3d"] == ["a0c5a1ff56af4f155c46d46fbb45a2fe", "21f0a239e7f502e6eca33c3fc453c0b6"]
    assert hashes["vesselmnist3d"] == ["b41fd4f7e7e2feedddb201585ecafa1b", "2ba5b80617d705141f3f85627108fce8"]
    assert {len(digits) for known in hashes.values() for digits in known} == {32}
    assert [name for name, known in hashes.items() if len(known) == 2] == ["organmnist3d", "vesselmnist3d"]


# Everybody's own


def test_people_add_data_sets_of_their_own_with_a_plugin(home, tmp_path, monkeypatch):
    monkeypatch.setattr(DATASETS, "_things", dict(DATASETS._things))
    make_clip(tmp_path / "clips" / "run" / "a.avi")
    (tmp_path / "missing.csv").write_text("not,ours\n1,2\n")
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from tubelet.data import register_dataset\n\n"
        "@register_dataset('my-clips', summary='mine', classes=1, license='mine', splits=2)\n"
        "def fetch(folder, request):\n"
        "    assert folder.name == 'data' and request.fold == 2\n"
        f"    return {str(tmp_path / 'clips')!r}\n"
    )
    load_plugin(plugin)
    assert open_data("my-clips", request=Request(fold=2), split_if_missing=False).classes == ("run",)
    with pytest.raises(ValueError, match="registered already"):
        register_dataset("my-clips", summary="", classes=1, license="")(lambda folder, request: folder)


def test_every_data_set_says_what_it_is_and_under_which_terms():
    for name in DATASETS:
        entry = DATASETS[name]
        assert entry.name == name
        assert entry.summary
        assert entry.classes > 1
        assert entry.license
        is_made = entry.license == "made on this machine"
        assert bool(entry.citation) is bool(entry.homepage) is not is_made
        assert (entry.kind == "synthetic") is (is_made and name != "fake-organs")


def test_worlds_refuse_what_they_cannot_do(home):
    for request in (Request(classes=("up",)), Request(mirror="https://example.org/")):
        with pytest.raises(ConfigError, match="made on this machine"):
            fetch_dataset("moving-shapes", request)


def test_tables_of_another_form_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match="different numbers of columns"):
        read_rows(tmp_path / "a.csv")
    with pytest.raises(DataError, match="cannot read"):
        read_rows(tmp_path / "none.csv")
