"""Plant defects into a clean set of clips, each of a kind that the check of a set must name."""

import csv
import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from tubelet.data.examination import Examination, Examiner
from tubelet.video.source import Video
from tubelet.video.synthetic import make_world


class Plant(NamedTuple):
    """State what a defect is called by the check, and at which clip."""

    code: str
    name: str


class Crasher(Examiner):
    """Die of some clips, as a decoder with a fault would."""

    def __call__(self, sample):
        if "deadly" in sample.source:
            os._exit(11)
        return Examination(sample.name)


Rows = list[dict[str, str]]


def make_clean(folder: Path, clips: int = 72, frames: int = 32) -> Rows:
    """Write a clean set: two classes without a direction, three splits, groups of two clips."""
    table = make_world("speed", folder, clips=clips, frames=frames, height=64, width=64)
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [{**row, "group": f"{row['split']} {row['label']} {number // 4}"} for number, row in enumerate(rows)]


def write_rows(folder: Path, rows: Rows, name: str = "set.csv") -> Path:
    columns = dict.fromkeys(column for row in rows for column in row)
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    return path


def encode(path, pixels, *, codec="libx264", rate=16, times=None, pix_fmt="yuv420p", options=None, container=None):
    """Write frames with any codec; `times` are in 1/1000 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        stream = file.add_stream(codec, rate=Fraction(rate).limit_denominator(100000))
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pixels):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[number]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def encode_sound(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def turn(path, degrees):
    """Write into an mp4 that it is to be shown turned: the matrix of its track header."""
    data = bytearray(path.read_bytes())
    sine, cosine = {90: (1, 0), 180: (0, -1)}[degrees]
    place = data.index(b"tkhd") + 4 + 40
    values = [cosine, sine, 0, -sine, cosine, 0, 0, 0]
    for number, value in enumerate(values):
        data[place + 4 * number : place + 4 * number + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def read(path):
    with Video(path) as video:
        return video.frames().pixels


def resize(pixels, height, width):
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height))) for frame in pixels])


class Garden:
    """Hold a set with planted defects: rows of its table, and what must be found."""

    def __init__(self, folder: Path, rows: Rows) -> None:
        self.folder = folder
        self.rows = rows
        self.plants: list[Plant] = []
        self._untouched = rows[:]

    def take(self, split="train", label=None):
        """Choose a clean row that nothing was done to; return it."""
        row = next(r for r in self._untouched if r["split"] == split and label in (None, r["label"]))
        self._untouched.remove(row)
        return row

    def add(self, code, name, *, split="train", label="fast", **columns):
        """List a file as a clip in which one thing is wrong."""
        self.rows.append({"path": name, "label": label, "split": split, **columns})
        self.plants.append(Plant(code, name))
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def copy(self, code, name, split, label=None, make=shutil.copy):
        """List a copy of a clean clip of the training split, made somehow."""
        row = self.take("train")
        path = self.add(code, name, split=split, label=label or row["label"])
        make(self.folder / row["path"], path)


def plant_files(garden: Garden) -> None:
    """Plant files that cannot be read, or that are odd."""
    random = np.random.default_rng(5)

    def draw(count, height=48, width=64):
        """Draw pictures unlike all others: blobs that wander."""
        base = random.integers(0, 255, (count + 6, 6, 8, 3)).astype(np.float32)
        smooth = (base[:-6] + base[1:-5] + base[2:-4] + base[3:-3] + base[4:-2]) / 5
        return resize(smooth.astype(np.uint8), height, width)

    add = garden.add
    add("empty", "bad/zero bytes.mp4").touch()
    whole = (garden.folder / garden.take()["path"]).read_bytes()
    add("truncated", "bad/cut.mp4").write_bytes(whole[: len(whole) // 2])
    broken = bytearray(whole)
    broken[whole.index(b"moov") + 1] ^= 0x10
    add("truncated|corrupt|not_a_video", "bad/flipped.mp4").write_bytes(broken)
    add("not_a_video", "bad/text.mp4").write_text("this is no video\n" * 50)
    add("not_a_video", "bad/<b>&amp;.mp4").write_text("a name with HTML in it\n" * 50)
    encode_sound(add("no_video_stream", "bad/sound.mp4"))
    add("not_found", "bad/missing.mp4")
    add("not_a_video|not_found|corrupt", "bad/folder.mp4").mkdir()
    locked = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    encode(add("encrypted", "bad/locked.mp4"), draw(16), options=locked)
    frames = add("corrupt", "bad/frames")
    frames.mkdir()
    for number, picture in enumerate(draw(12)):
        Image.fromarray(picture).save(frames / f"{number}.png")
    (frames / "7.png").write_bytes(b"no picture")
    uneven = np.cumsum([0, *([40, 40, 40, 200] * 8)])
    encode(add("variable_rate", "odd/vfr.mp4"), draw(33), times=uneven)
    for degrees in (90, 180):
        path = add("rotated", f"odd/turned {degrees}.mp4")
        encode(path, draw(24))
        turn(path, degrees)
    encode(add("wrong_extension", "odd/avi.mp4"), draw(24), codec="mpeg4", container="avi")
    encode(add("wrong_extension", "odd/webm.avi"), draw(24), codec="libvpx-vp9", container="webm")
    encode(add("one_frame", "odd/one.mp4"), draw(1))
    encode(add("short", "odd/short.mp4"), draw(9))
    encode(add("odd_rate", "odd/slow.mp4"), draw(24), rate=0.5)
    encode(add("odd_rate", "odd/quick.mp4"), draw(24), rate=1000)
    encode(add("blank", "odd/black.mp4"), np.zeros((24, 48, 64, 3), np.uint8))
    encode(add("span", "odd/span.mp4", start_s="1", end_s="9"), draw(24))
    encode(add("span", "odd/after.mp4", start_s="5"), draw(24))


def plant_copies(garden: Garden) -> None:
    """Plant clips that show what others show."""

    def change(make, **how):
        return lambda source, path: encode(path, make(read(source)), **how)

    copy = garden.copy
    copy("duplicate", "copies/same split.mp4", "train")
    copy("duplicate_across_splits", "copies/other split.mp4", "test")
    copy("duplicate_with_other_label", "copies/class.mp4", "train", "Slow")
    code = "near_duplicate_across_splits"
    copy(code, "copies/ünïcode name.mp4", "test", make=change(lambda p: resize(p, 32, 32)))
    copy(code, "copies/codec.avi", "test", make=change(lambda p: p, codec="mpeg4"))
    copy(code, "copies/vp9.webm", "test", make=change(lambda p: p, codec="libvpx-vp9"))
    copy(code, "copies/light.mp4", "test", make=change(lambda p: np.clip(p * 0.7 + 40, 0, 255).astype(np.uint8)))
    copy(code, "copies/rate.mp4", "test", make=change(lambda p: p, rate=25))
    copy(code, "copies/half rate.mp4", "test", make=change(lambda p: p[::2], rate=8))
    copy(code, "copies/crop.mp4", "test", make=change(lambda p: p[:, 2:62, 4:62]))
    copy(code, "copies/trim.mp4", "test", make=change(lambda p: p[5:]))
    copy(code, "copies/both.mp4", "test", make=change(lambda p: resize(p[3:, 2:, :-2], 64, 64)))
    gray = change(lambda p: np.repeat(p.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8))
    copy(code, "copies/gray.mp4", "val", make=gray)
    copy("near_duplicate", "copies/again.mp4", "train", make=change(lambda p: resize(p, 48, 48)))
    copy("near_duplicate_with_other_label", "copies/third class.mp4", "train", "Slow", change(lambda p: p[:, 1:61]))


def plant_rows(garden: Garden) -> None:
    """Plant lines that contradict others, labels that are misspelt, groups that are torn."""
    row = garden.take("train")
    garden.rows.append({**row, "split": "test", "group": ""})
    garden.plants.append(Plant("other_split", row["path"]))
    row = garden.take("train", "fast")
    garden.rows.append({**row, "label": "slow", "group": ""})
    garden.plants.append(Plant("other_label", row["path"]))
    row = garden.take("train")
    garden.rows.append(dict(row))
    garden.plants.append(Plant("listed_twice", row["path"]))
    row = garden.take("test")
    row["group"] = garden.take("val")["group"]
    garden.plants.append(Plant("group_leak", row["path"]))
    torn = garden.take("train")
    torn["end_s"] = "0.9"
    garden.rows.append({**torn, "start_s": "1", "end_s": "1.9", "split": "val", "group": ""})
    garden.plants.append(Plant("video_leak", torn["path"]))
    for number, label in enumerate(("fast ", " Fast", "fasts", "fsat")):
        taken = garden.take("train", "fast")
        taken["label"] = label.strip() if number else "fa st"
    garden.rows.append({"path": "x.mp4", "label": "fast", "split": "trian"})
    garden.plants.append(Plant("bad_line", "set.csv"))
    garden.rows.append({"path": "y.mp4", "label": "fast", "split": "train", "start_s": "nan"})
    garden.plants.append(Plant("bad_line", "set.csv"))
