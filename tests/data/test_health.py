"""`check_health` finds what would spoil a training, and claims no more than it looked at."""

from zlib import crc32

import av
import numpy as np
import pytest
from PIL import Image

from tubelet.cli.data_tables import print_health
from tubelet.data.health import check_health
from tubelet.data.manifest import read_manifest
from tubelet.errors import DataError


def write_clip(path, seconds=2):
    """Write moving pictures of 10 frames a second in which every frame is a key frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.random.default_rng(crc32(bytes(path))).integers(0, 255, (seconds * 10, 48, 64, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def break_frame(path, number):
    """Overwrite one picture of a clip with zeros."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)


def write_images(folder, count=6):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((6, 8, 3), number + crc32(bytes(folder)) % 180, np.uint8)).save(
            folder / f"{number}.png"
        )
    return folder


def test_damage_between_the_frames_tried_is_found_by_full_and_not_denied_without(tmp_path, capsys):
    write_clip(tmp_path / "a" / "whole.avi", 7)
    break_frame(write_clip(tmp_path / "b" / "broken.avi", 7), 1)
    quick = check_health(tmp_path, workers=1).health
    assert quick.problems == ()
    assert print_health(quick, as_json=False) == 0
    told = capsys.readouterr().out
    assert "frames tried" in told
    assert "--full" in told
    assert "every frame" not in told.replace("--full tries every frame", "")
    full = check_health(tmp_path, workers=1, full=True).health
    assert full.is_full
    assert [problem.source.rpartition("/")[2] for problem in full.problems] == ["broken.avi"]
    assert print_health(full, as_json=False) == 1


def test_every_image_of_a_folder_is_read_by_full(tmp_path, capsys):
    write_images(tmp_path / "a" / "whole", 70)
    (write_images(tmp_path / "b" / "broken", 70) / "1.png").write_bytes(b"no image")
    assert check_health(tmp_path, workers=1).health.problems == ()
    (problem,) = check_health(tmp_path, workers=1, full=True).health.problems
    assert "1.png" in problem.message
    (tmp_path / "b" / "broken" / "1.png").unlink()
    print_health(check_health(tmp_path, workers=2, full=True).health, as_json=False)
    assert "every frame of every clip decodes." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("span", "is_wrong"),
    [("0,2", False), ("1.5,2.05", False), ("1.5,", False), ("2,", True), ("1,3", True), ("7,9", True)],
)
def test_a_labelled_part_past_the_end_of_its_clip_is_a_problem(tmp_path, span, is_wrong):
    write_clip(tmp_path / "clip.avi")
    table = tmp_path / "table.csv"
    table.write_text(f"path,label,start_s,end_s\nclip.avi,a,{span}\n")
    problems = check_health(table, workers=1).health.problems
    assert [problem.code for problem in problems] == (["span"] if is_wrong else [])
    assert all("lasts 2.000 s" in problem.message for problem in problems)


def test_a_clip_whose_group_is_not_stated_is_a_problem_among_others(tmp_path):
    write_clip(tmp_path / "one.avi")
    write_clip(tmp_path / "other.avi", seconds=3)
    table = tmp_path / "table.csv"
    table.write_text("path,label,camera\none.avi,a,c1\nother.avi,b,\n")
    (problem,) = check_health(table, group_by="camera", workers=1).health.problems
    assert problem.code == "no_group"
    assert problem.source.endswith("other.avi")
    with pytest.raises(DataError, match=r"'camera' of .*other.avi' is empty - fill it in"):
        read_manifest(table, group_by="camera")


def test_only_the_labelled_part_is_decoded(tmp_path):
    break_frame(write_clip(tmp_path / "clip.avi"), 4)
    table = tmp_path / "table.csv"
    table.write_text("path,label,start_s,end_s\nclip.avi,a,0.5,2\nclip.avi,b,0,0.5\n")
    (problem,) = check_health(table, workers=1, full=True).health.problems
    assert problem.source.endswith("#t=0,0.5")


def test_clips_with_another_number_of_channels_than_most_are_problems(tmp_path):
    path = tmp_path / "volumes.npz"
    draw = np.random.default_rng(0).integers
    arrays = {
        "train_images": draw(0, 255, (3, 4, 6, 8), np.uint8),
        "val_images": draw(0, 255, (1, 4, 6, 8, 3), np.uint8),
    }
    np.savez(path, train_labels=np.arange(3), val_labels=np.zeros(1, int), **arrays)
    (problem,) = check_health(path, workers=1).health.problems
    assert problem.code == "channels"
    assert problem.source.endswith("volumes.npz[val_images][0]")
    assert "has 3 channels, most clips have 1" in problem.message


def test_damage_in_chunks_of_any_size_is_found(tmp_path, monkeypatch):
    break_frame(write_clip(tmp_path / "a" / "clip.avi"), 13)
    for chunk in (1, 64 * 48 * 3 * 7, 2**27):
        monkeypatch.setattr("tubelet.data.examination._CHUNK_BYTES", chunk)
        assert len(check_health(tmp_path, workers=1, full=True).health.problems) == 1, chunk
