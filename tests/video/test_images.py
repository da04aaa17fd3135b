"""Hold that a folder of images shows what a viewer of pictures shows, and that no image opens anything but itself."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tubelet.errors import Corrupt, NotAVideo, TooLarge, UnsupportedCodec, VideoError
from tubelet.video.decoders import images
from tubelet.video.decoders.images import open_folder

ORIENTATION = 0x0112


def read(folder):
    """Return all frames of a folder of images."""
    reader = open_folder(folder, 25.0)
    return reader.frames_at(list(range(reader.info.num_frames)))


def make_ramp(top: int, dtype) -> np.ndarray:
    return np.linspace(0, top, 24 * 16).reshape(16, 24).astype(dtype)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_16_bit_gray_is_scaled_to_8_bit(tmp_path, kind):
    ramp = make_ramp(65535, np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"1.{kind}")
    frames = read(tmp_path)
    assert frames.shape == (1, 16, 24, 3)
    assert (frames == frames[..., :1]).all()
    assert np.abs(frames[0, ..., 0] - ramp / 257).max() <= 0.5


def test_16_bit_gray_of_the_other_byte_order_is_scaled_too(tmp_path):
    ramp = make_ramp(65535, np.uint16)
    Image.frombytes("I;16B", (24, 16), ramp.astype(">u2").tobytes()).save(tmp_path / "1.tif")
    assert np.abs(read(tmp_path)[0, ..., 0] - ramp / 257).max() <= 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_known_range_are_refused(tmp_path, dtype):
    Image.fromarray(make_ramp(1000, dtype)).save(tmp_path / "1.tif")
    with pytest.raises(UnsupportedCodec, match=r"1\.tif.*mode [FI].*8 or 16 bits"):
        read(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_common_mode_becomes_rgb(tmp_path, mode):
    picture = Image.fromarray(make_ramp(255, np.uint8)).convert("RGB")
    kind = {"CMYK": "tif", "YCbCr": "jpg"}.get(mode, "png")
    picture.convert(mode).save(tmp_path / f"1.{kind}")
    frame = read(tmp_path)[0]
    assert frame.shape == (16, 24, 3)
    assert frame[0, 0].max() < 40
    assert frame[-1, -1].min() > 215


def test_a_palette_with_transparent_entries_is_read_without_a_warning(tmp_path):
    picture = Image.fromarray(make_ramp(255, np.uint8)).convert("P")
    picture.save(tmp_path / "1.png", transparency=bytes(range(200)))
    assert read(tmp_path)[0, -1, -1].min() > 215


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_the_orientation_turns_size_and_pixels(tmp_path, kind):
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, :24] = 255
    turned = Image.Exif()
    turned[ORIENTATION] = 6  # to be shown turned by 90 degrees clockwise: left comes to the top
    for name in ("1", "2"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.{kind}", exif=turned)
    info = open_folder(tmp_path, 25.0).info
    assert (info.height, info.width) == (48, 16)
    frames = read(tmp_path)
    assert frames.shape == (2, 48, 16, 3)
    assert frames[:, :20].min() > 200
    assert frames[:, 28:].max() < 55


def test_a_pipe_named_like_an_image_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "0001.jpg")
    with pytest.raises(NotAVideo, match=r"0001\.jpg.*pipe"):
        read(tmp_path)


def test_no_other_program_is_called_for_an_image(tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "1.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 16\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(Corrupt, match=r"1\.png"):
        read(frames)
    assert shutil.which("gs") == str(program)
    assert not (tmp_path / "called").exists()


def test_a_cut_image_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("1.png", "2.png"):
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:3000])
    with pytest.raises(Corrupt, match=r"2\.png"):
        read(tmp_path)


def test_whatever_the_decoder_raises_names_the_file(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")

    def fail(*arguments, **options):
        raise KeyError("chunk")

    monkeypatch.setattr(images.Image, "open", fail)
    with pytest.raises(Corrupt, match=r"1\.png.*chunk"):
        read(tmp_path)


def test_random_damage_never_ends_in_anything_but_a_video_error(tmp_path):
    generator = np.random.default_rng(1)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for kind in ("jpg", "png", "tif", "webp", "bmp"):
        path = tmp_path / f"1.{kind}"
        options = {} if kind == "bmp" else {"exif": exif}
        Image.fromarray(generator.integers(0, 255, (16, 24, 3), np.uint8)).save(path, **options)
        intact = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(intact)
            for place in generator.integers(0, min(len(damaged), 400), 3):
                damaged[place] = generator.integers(0, 256)
            path.write_bytes(damaged)
            try:
                assert read(tmp_path).dtype == np.uint8
            except VideoError as error:
                assert path.name in str(error)  # noqa: PT017 - most damage is survived
        path.unlink()


def test_limits_hold_before_anything_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (8200, 4400)).save(tmp_path / "1.png")
    with pytest.raises(TooLarge, match=r"1\.png.*8200x4400"):
        open_folder(tmp_path, 25.0)
    Image.new("1", (20000, 20000)).save(tmp_path / "1.png")
    with pytest.raises(TooLarge, match=r"1\.png"):
        open_folder(tmp_path, 25.0)
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 20)
    with pytest.raises(TooLarge, match=r"1\.png.*the limit is 20"):
        open_folder(tmp_path, 25.0)


def test_images_of_another_size_are_named(tmp_path):
    Image.new("RGB", (24, 16)).save(tmp_path / "1.png")
    Image.new("RGB", (24, 18)).save(tmp_path / "2.png")
    with pytest.raises(Corrupt, match=r"2\.png.*24x18.*24x16"):
        read(tmp_path)
