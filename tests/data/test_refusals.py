"""What would be learned or lost without a word is refused: unfinished sets, torn parts, missing clips, one class."""

import nibabel
import numpy as np
import pytest

from run_command import run
from small_run import write_clip
from tubelet.data.dataset import check_channels
from tubelet.data.edition import make_edition
from tubelet.data.health import check_health
from tubelet.data.manifest import read_manifest
from tubelet.errors import Corrupt, DataError, VideoError
from tubelet.video.encoding import Encoding
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec
from tubelet.video.volumes import VolumeView


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(4):
        write_clip(tmp_path / "set" / f"{number}.mp4", frames=24, seed=number)
    return tmp_path / "set"


def test_a_set_that_is_not_prepared_to_its_end_is_no_set(clips, tmp_path):
    (clips / "table.csv").write_text("path,label\n" + "".join(f"{n}.mp4,{'ab'[n % 2]}\n" for n in range(4)))
    for part in (1, 2):
        make_edition(clips / "table.csv", tmp_path / "out", None, shard_bytes=1, part=(part, 2), workers=1)
    with pytest.raises(DataError, match="has not finished it - give the same command again"):
        read_manifest(tmp_path / "out")
    make_edition(clips / "table.csv", tmp_path / "out", None, shard_bytes=1, workers=1)
    assert len(read_manifest(tmp_path / "out").samples) == 4


def test_parts_of_one_video_stay_together_when_they_become_files(clips, tmp_path):
    (clips / "table.csv").write_text("path,label,start_s,end_s\n0.mp4,a,0,1\n0.mp4,b,1,2\n1.mp4,a,0,1\n")
    make_edition(clips / "table.csv", tmp_path / "out", Encoding(short_side=None, gop=4, crf=20), workers=1)
    groups = [sample.group for sample in read_manifest(tmp_path / "out" / "manifest.csv").samples]
    assert groups == ["0.mp4", "0.mp4", None]


def test_listed_clips_that_are_not_there_fail_a_check_and_wrong_indices_are_named(clips):
    (clips / "clips.txt").write_text("0.mp4 0\n1.mp4 1\nabsent.mp4 1\n")
    (problem,) = check_health(clips / "clips.txt", workers=1).health.problems
    assert (problem.code, problem.source) == ("not_found", "absent.mp4")
    assert len(read_manifest(clips / "clips.txt").samples) == 2
    (clips / "clips.txt").write_text("0.mp4 0\n1.mp4 -1\n")
    with pytest.raises(DataError, match="index -1 is no class, they are 0 and more"):
        read_manifest(clips / "clips.txt")


def test_a_table_is_replaced_only_where_that_is_wished(clips, capsys):
    (clips / "table.csv").write_text("path,label\n" + "".join(f"{n}.mp4,{'ab'[n % 2]}\n" for n in range(4)))
    before = (clips / "table.csv").read_text()
    for arguments in (
        ("split", clips / "table.csv", clips / "table.csv"),
        ("check", clips / "table.csv", "--write-clean", clips / "table.csv"),
    ):
        status, _, err = (
            run("data", *arguments, "--workers", 1, capsys=capsys)
            if arguments[0] == "check"
            else run("data", *arguments, capsys=capsys)
        )
        assert (status, "add --overwrite" in err) == (2, True)
        assert (clips / "table.csv").read_text() == before
    assert run("data", "split", clips / "table.csv", clips / "table.csv", "--overwrite", capsys=capsys)[0] == 0


def test_one_class_is_nothing_to_learn(clips, tmp_path, capsys):
    (clips / "table.csv").write_text("path,label\n" + "".join(f"{n}.mp4,a\n" for n in range(4)))
    status, _, err = run("train", clips / "table.csv", "--runs", tmp_path / "runs", "--workers", 0, capsys=capsys)
    assert (status, "all its clips are 'a'" in err) == (1, True)


def test_volumes_without_numbers_or_with_other_channels_are_refused(tmp_path):
    view = VolumeView(window=(-10.0, 10.0))
    with pytest.raises(Corrupt, match="no finite number"):
        Video(np.full((4, 5, 6), np.nan, np.float32), volume=view).frames()

    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4, 3), np.int16), np.eye(4)), path)
    with Video(path) as video:
        with pytest.raises(VideoError, match="3 channels, the model takes 1"):
            check_channels(video, InputSpec(channels=1))
        check_channels(video, InputSpec(channels=3))
