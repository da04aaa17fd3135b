"""Volumes of scanners are shown the right way up, in their units, at one spacing; what is no volume is refused."""

import gzip
import itertools
import struct
import sys
import time

import nibabel
import numpy as np
import pydicom
import pytest

from medical import make_phantom, write_nifti, write_series, write_slice
from tubelet.config.tree import build, override
from tubelet.errors import (
    ConfigError,
    Corrupt,
    MissingExtra,
    NotAVideo,
    NotAVolume,
    TooLarge,
    Truncated,
    UnsupportedCodec,
    VideoError,
)
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic import write_video
from tubelet.video.volumes import Shape, VolumeView

CT = VolumeView(window=(-1000.0, 1000.0))


def show(source, view=CT):
    """Return all frames of a volume, without the axis of channels where there is one channel."""
    with Video(source, volume=view) as video:
        pixels = video.frames().pixels
        assert pixels.shape == (video.info.num_frames, video.info.height, video.info.width, video.info.channels)
    return pixels[..., 0] if pixels.shape[3] == 1 else pixels


def to_gray(volume, low=-1000.0, high=1000.0):
    return np.floor(np.clip((volume.astype(float) - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


# NIfTI


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ILP"])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "no_ending"])
def test_a_volume_is_shown_upright_however_it_is_stored(tmp_path, axes, name):
    volume = make_phantom()
    path = write_nifti(tmp_path / (name if name != "no_ending" else "v.nii"), volume, axes=axes)
    if name == "no_ending":
        path = path.rename(tmp_path / name)
    with Video(path, volume=CT) as video:
        assert video.info.codec == "nifti"
        assert video.info.spacing_mm == pytest.approx((4, 2, 1))
        assert video.times_s.tolist() == [number / 25 for number in range(5)]
        assert np.array_equal(video.frames().pixels[..., 0], to_gray(volume))
        assert np.array_equal(video.frames_at([3, 0, 3]).pixels[..., 0], to_gray(volume)[[3, 0, 3]])
    assert np.array_equal(show(path.read_bytes()), to_gray(volume))


def test_tilted_volumes_are_turned_as_nibabel_turns_them(tmp_path):
    generator = np.random.default_rng(3)
    for number in range(12):
        turn, _ = np.linalg.qr(np.eye(3)[generator.permutation(3)] + generator.normal(0, 0.15, (3, 3)))
        path = write_nifti(tmp_path / f"{number}.nii", make_phantom(), tilt=turn)
        ras = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
        assert np.array_equal(show(path), to_gray(ras[::-1, ::-1].transpose(2, 1, 0)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_numbers_of_any_type_and_byte_order_are_scaled_to_what_they_measure(tmp_path, dtype, endianness):
    volume = np.random.default_rng(0).integers(0, 120, (3, 4, 5)).astype(dtype)
    path = write_nifti(tmp_path / "v.nii", volume, scale=(4.0, -300.0), endianness=endianness)
    measured = np.asarray(nibabel.load(path).dataobj)[::-1, ::-1].transpose(2, 1, 0)
    assert np.array_equal(show(path, VolumeView(window=(-200.0, 100.0))), to_gray(measured, -200, 100))


def test_version_2_and_other_units_are_read(tmp_path):
    volume = make_phantom()
    path = write_nifti(tmp_path / "v.nii.gz", volume, (4000, 2000, 1000), kind=nibabel.Nifti2Image, unit="micron")
    assert np.array_equal(show(path), to_gray(volume))
    with Video(path) as video:
        assert video.info.spacing_mm == pytest.approx((4, 2, 1))


def test_a_fourth_axis_holds_channels_each_with_its_own_percentiles(tmp_path):
    volume = np.stack([make_phantom(), make_phantom() * 7 + 3], -1)
    assert np.array_equal(show(write_nifti(tmp_path / "v.nii", volume)), to_gray(volume))
    pixels = show(write_nifti(tmp_path / "v.nii", volume), VolumeView())
    assert np.abs(pixels[..., 0].astype(int) - pixels[..., 1]).max() <= 1
    low, high = np.percentile(volume[..., 0], (0.5, 99.5))
    assert np.array_equal(pixels[..., 0], to_gray(volume[..., 0], low, high))


def test_colors_stay_as_they_are(tmp_path):
    colors = np.random.default_rng(0).integers(0, 99, (3, 4, 5, 3), np.uint8)
    packed = np.ascontiguousarray(colors).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    assert np.array_equal(show(write_nifti(tmp_path / "v.nii", packed), VolumeView()), colors)


def test_a_window_is_found_in_a_volume_nearly_all_alike_and_among_numbers_that_are_none(tmp_path):
    sparse = np.zeros((10, 20, 20), np.float32)
    sparse[5, 5, 5] = 3.0
    assert show(sparse, VolumeView()).max() == 255
    sparse[0, 0] = np.nan
    sparse[0, 1, 0] = np.inf
    pixels = show(write_nifti(tmp_path / "v.nii", sparse), VolumeView())
    assert (pixels[5, 5, 5], pixels[0, 1, 0], pixels[0, 0].max(), int(pixels.sum())) == (255, 255, 0, 510)
    assert show(np.full((2, 3, 4), 7.0), VolumeView()).max() == 0
    with pytest.raises(Corrupt, match="no finite number"):
        show(np.full((2, 3, 4), np.nan), VolumeView())


# Spacing


@pytest.mark.parametrize("wanted", [(1.0, 1.0, 1.0), (8.0, 4.0, 2.0), (4.0, 3.0, 0.7), (6.0, 2.0, 1.0)])
def test_a_ramp_stays_a_ramp_at_any_spacing(tmp_path, wanted):
    ramps = np.meshgrid(np.arange(12) * 4.0, np.arange(16) * 2.0, np.arange(24) * 1.0, indexing="ij")
    volume = (3 * ramps[0] + 2 * ramps[1] + 5 * ramps[2]).astype(np.float32)
    view = VolumeView(window=(0.0, 255.0), spacing_mm=wanted)
    with Video(write_nifti(tmp_path / "v.nii", volume), volume=view) as video:
        pixels = video.frames().pixels[..., 0].astype(float)
        assert video.info.spacing_mm == wanted
    sizes = zip(volume.shape, (4.0, 2.0, 1.0), wanted, strict=True)
    assert pixels.shape == tuple(round(count * have / want) for count, have, want in sizes)
    middle = [(count - 1) / 2 * have for count, have in zip(volume.shape, (4.0, 2.0, 1.0), strict=True)]
    places = [
        mid + (np.arange(count) - (count - 1) / 2) * want
        for mid, count, want in zip(middle, pixels.shape, wanted, strict=True)
    ]
    z, y, x = np.meshgrid(*places, indexing="ij")
    inner = np.zeros(pixels.shape, bool)
    inner[2:-2, 2:-2, 2:-2] = True  # at the rim there is nothing beyond to weigh in
    off = np.abs(pixels - np.clip(3 * z + 2 * y + 5 * x, 0, 255))[inner]
    assert off.size
    assert off.max() <= 1


def test_voxels_that_grow_take_in_all_they_cover():
    checks = np.indices((9, 33, 33)).sum(0) % 2 * np.float32(255)
    view = VolumeView(window=(0.0, 255.0), spacing_mm=(3.0, 3.0, 3.0))
    shown = view.draw(checks[..., None], (1.0, 1.0, 1.0), "checks")
    assert shown.shape == view.plan_shape(Shape(9, 33, 33, 1), (1.0, 1.0, 1.0), "checks") == (3, 11, 11, 1)
    assert np.abs(shown.astype(int) - 127).max() <= 2  # one voxel of three would be black or white


# DICOM


@pytest.mark.parametrize(
    "axes",
    [
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
        ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
        ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
        ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    ],
    ids=["axial", "coronal", "sagittal", "upside_down"],
)
def test_a_series_is_put_in_order_by_positions_and_looks_as_its_nifti_does(tmp_path, axes):
    volume = make_phantom()
    series = write_series(tmp_path / "series", volume, axes=axes, RescaleSlope=2, RescaleIntercept=-50)
    steps = np.stack([np.array(axes[0]) * 1.0, np.array(axes[1]) * 2.0, np.cross(*axes) * 4.0], 1)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ steps
    nibabel.Nifti1Image(volume.transpose(2, 1, 0) * 2.0 - 50.0, affine).to_filename(tmp_path / "v.nii")
    assert np.array_equal(show(series), show(tmp_path / "v.nii"))
    with Video(series) as video, Video(tmp_path / "v.nii") as twin:
        assert video.info.codec == "dicom"
        assert video.info.spacing_mm == pytest.approx(twin.info.spacing_mm)
    if axes[1] == (0.0, 1.0, 0.0):
        assert np.array_equal(show(series), to_gray(volume * 2.0 - 50))


def test_slices_without_an_ending_are_a_series_and_a_dicomdir_and_notes_are_not(tmp_path):
    volume = make_phantom()
    write_series(tmp_path / "series", volume)
    for path in (tmp_path / "series").iterdir():
        path.rename(path.with_suffix(""))
    (tmp_path / "series" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "series" / "readme.txt").write_text("notes")
    assert np.array_equal(show(tmp_path / "series"), to_gray(volume))


@pytest.mark.parametrize("syntax", ["ImplicitVRLittleEndian", "ExplicitVRBigEndian"])
def test_frames_of_one_file_are_slices(tmp_path, syntax):
    volume = make_phantom(dtype=np.int16)
    path = write_slice(tmp_path / "v.dcm", volume, syntax=getattr(pydicom.uid, syntax), RescaleIntercept=10)
    assert np.array_equal(show(path), to_gray(volume + 10))
    assert np.array_equal(show(path.read_bytes()), to_gray(volume + 10))
    with pytest.raises(NotAVolume, match="states none"):
        show(path, VolumeView(spacing_mm=(1.0, 1.0, 1.0)))


def test_places_of_the_frames_of_an_enhanced_file_are_heeded(tmp_path):
    volume, order = make_phantom(), [3, 0, 4, 1, 2]
    path = write_slice(tmp_path / "v.dcm", volume[order])
    data = pydicom.dcmread(path)
    shared, measures, turn = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [2, 1], 4
    turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turn]
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], []
    for number in order:
        frame, place, scale = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [0, 0, 4 * number]
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, 100 * number, "US"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [scale]
        data.PerFrameFunctionalGroupsSequence.append(frame)
    data.save_as(path)
    assert np.array_equal(show(path), to_gray(volume + 100 * np.arange(5)[:, None, None]))
    with Video(path) as video:
        assert video.info.spacing_mm == pytest.approx((4, 2, 1))


def test_colors_and_packed_pixels_of_a_series_are_decoded(tmp_path):
    colors = np.random.default_rng(0).integers(0, 99, (3, 6, 5, 3), np.uint8)
    assert np.array_equal(show(write_series(tmp_path / "colors", colors), VolumeView()), colors)
    volume = make_phantom()
    for path in write_series(tmp_path / "packed", volume).iterdir():
        data = pydicom.dcmread(path)
        data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        data.save_as(path)
    assert np.array_equal(show(tmp_path / "packed"), to_gray(volume))


def test_echoes_are_channels(tmp_path):
    volume = make_phantom()
    write_series(tmp_path / "v", volume, EchoTime=30)
    for path in write_series(tmp_path / "w", volume + 100, EchoTime=5).iterdir():
        path.rename(tmp_path / "v" / f"other_{path.name}")
    assert np.array_equal(show(tmp_path / "v"), to_gray(np.stack([volume + 100, volume], -1)))


# What is no volume


def change(path, **stated):
    data = pydicom.dcmread(path)
    for name, value in stated.items():
        setattr(data, name, value)
    data.save_as(path)


def lose_slice(folder):
    middle = sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))[2]
    middle.unlink()


def rename_syntax(path, uid):
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = uid
    data.save_as(path)


SPOILED = {
    "mixed": (lambda some, folder: change(some, SeriesInstanceUID="9.9"), NotAVolume, "2 series"),
    "twice": (
        lambda some, folder: (folder / "copy.dcm").write_bytes(some.read_bytes()),
        NotAVolume,
        "at the same place",
    ),
    "missing": (lambda some, folder: lose_slice(folder), NotAVolume, "8 mm apart, most neighbors 4 mm"),
    "turned": (lambda some, folder: change(some, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), NotAVolume, "direction"),
    "homeless": (lambda some, folder: change(some, ImagePositionPatient=None), NotAVolume, "no ImagePositionPatient"),
    "smaller": (lambda some, folder: change(some, Rows=6), NotAVolume, r"\(6, 9,"),
    "cut": (lambda some, folder: some.write_bytes(some.read_bytes()[:-60]), Corrupt, "make no sense"),
    "promise": (lambda some, folder: change(some, Rows=60_000, Columns=60_000), TooLarge, "promises"),
    "longer": (lambda some, folder: change(some, Rows=700), Truncated, "room for"),
    "no_mark": (lambda some, folder: some.write_bytes(bytes(2000)), NotAVideo, "DICM"),
    "inverse": (
        lambda some, folder: change(some, PhotometricInterpretation="MONOCHROME1"),
        UnsupportedCodec,
        "MONOCHR",
    ),
    "jpeg_ls": (
        lambda some, folder: rename_syntax(some, pydicom.uid.JPEGLSLossless),
        UnsupportedCodec,
        "4.80.*decoded",
    ),
    "private": (lambda some, folder: rename_syntax(some, "1.2.3.4.5"), UnsupportedCodec, "1.2.3.4.5"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_does_not_make_up_a_volume_is_one_error_that_names_it(tmp_path, kind):
    spoil, error, match = SPOILED[kind]
    folder = write_series(tmp_path / "series", make_phantom())
    spoil(sorted(folder.iterdir())[1], folder)
    with pytest.raises(error, match=f"series.*{match}") as caught:
        show(folder)
    assert "\n" not in str(caught.value)


def test_a_packed_syntax_without_a_limit_is_refused_before_it_is_unpacked(tmp_path):
    path = write_slice(tmp_path / "v.dcm", make_phantom(), syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(UnsupportedCodec, match=r"1\.99 cannot be decoded"):
        show(path)


def write_hostile(path, offset, data, packed=True):
    head = bytearray(write_nifti(path, make_phantom()).read_bytes())
    head[offset : offset + len(data)] = data
    path.write_bytes(gzip.compress(bytes(head)) if packed else bytes(head))
    return path


HOSTILE = {
    "promise": (40, struct.pack("<4h", 3, 30_000, 30_000, 30_000), TooLarge, "limit"),
    "longer": (40, struct.pack("<4h", 3, 90, 70, 50), Truncated, "missing|promises"),
    "negative": (40, struct.pack("<4h", 3, -9, 7, 5), Corrupt, "axes"),
    "many_axes": (40, struct.pack("<8h", 7, 3, 3, 5, 1, 2, 2, 2), UnsupportedCodec, "axes"),
    "dim0": (40, struct.pack("<h", 77), VideoError, ""),
    "offset": (108, struct.pack("<f", 1e30), Corrupt, "begin at"),
    "offset_nan": (108, struct.pack("<f", float("nan")), Corrupt, "begin at"),
    "type": (70, struct.pack("<h", 999), VideoError, ""),
    "complex": (70, struct.pack("<h", 32), UnsupportedCodec, "complex64"),
    "flat": (280, bytes(48), Corrupt, "span no space"),
    "pixdim_nan": (280, struct.pack("<f", float("nan")), Corrupt, "span no space"),
}


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_is_one_error_that_names_the_file(tmp_path, capfd, kind, packed):
    offset, data, error, match = HOSTILE[kind]
    path = write_hostile(tmp_path / "hostile.nii", offset, data, packed)
    started = time.process_time()
    with pytest.raises(error, match=f"hostile.nii.*{match}"):
        show(path)
    assert time.process_time() - started < 5
    assert capfd.readouterr() == ("", "")


def test_a_gzip_bomb_is_refused_by_its_header_and_unpacked_no_further_than_that(tmp_path):
    head = write_nifti(tmp_path / "v.nii", np.zeros((1, 2, 2), np.uint8)).read_bytes()
    wide = bytearray(head)
    wide[40:48] = struct.pack("<4h", 3, 512, 512, 2000)
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(wide) + bytes(10 << 20)))
    with pytest.raises(TooLarge, match=r"bomb.*1000:1"):
        show(tmp_path / "bomb.nii.gz")
    (tmp_path / "tail.nii.gz").write_bytes(gzip.compress(head + bytes(100 << 20), 1))
    with Video(tmp_path / "tail.nii.gz") as video:
        assert video.frames().pixels.max() == 0
        assert video.bytes_read < 100_000


def test_damage_of_the_packed_bytes_is_found(tmp_path):
    data = bytearray(write_nifti(tmp_path / "v.nii.gz", make_phantom(20, 40, 40)).read_bytes())
    (tmp_path / "cut.nii.gz").write_bytes(data[: len(data) // 2])
    data[len(data) // 2] ^= 4
    (tmp_path / "flipped.nii.gz").write_bytes(data)
    for name, kinds in (("cut", Truncated), ("flipped", Corrupt)):
        with pytest.raises(kinds, match=name):
            show(tmp_path / f"{name}.nii.gz")


def test_mutants_end_as_pixels_or_as_one_error(tmp_path, capfd):
    generator = np.random.default_rng(5)
    sound = [
        write_nifti(tmp_path / "v.nii", make_phantom()).read_bytes(),
        write_slice(tmp_path / "v.dcm", make_phantom(), RescaleSlope=2).read_bytes(),
    ]
    sound.append(gzip.compress(sound[0]))
    endings = {"pixels": 0, "error": 0}
    for data, _ in itertools.product(sound, range(60)):
        mutant = bytearray(data)
        for place in generator.integers(0, min(len(mutant), 600), generator.integers(1, 6)):
            mutant[place] = generator.integers(256)
        try:
            show(bytes(mutant), VolumeView())
            endings["pixels"] += 1
        except VideoError as error:
            assert "<bytes>" in str(error)  # noqa: PT017 - either ending will do
            endings["error"] += 1
    assert min(endings.values()) > 20
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("view", [VolumeView(window=(0.0, 1.0)), VolumeView(spacing_mm=(1.0, 1.0, 1.0))])
def test_pictures_have_no_window_and_arrays_no_spacing(tmp_path, view):
    write_video(tmp_path / "v.mp4", np.zeros((3, 16, 16, 3), np.uint8), fps=5)
    with pytest.raises(NotAVolume, match="holds pictures"):
        show(tmp_path / "v.mp4", view)
    if view.spacing_mm:
        with pytest.raises(NotAVolume, match="states none"):
            show(np.zeros((3, 4, 5), np.int16), view)


@pytest.mark.parametrize(
    ("field", "match"),
    [
        ({"window": (400.0, -1000.0)}, "window must rise"),
        ({"window": (0.0, float("nan"))}, "window must rise"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm must be positive"),
        ({"kind": "features", "height": 1, "width": 1, "window": (0.0, 1.0)}, "window is for pixels"),
    ],
    ids=["falling", "nan", "zero", "features"],
)
def test_a_contract_that_cannot_be_kept_is_refused(field, match):
    with pytest.raises(ConfigError, match=match):
        InputSpec(**field)


def test_window_and_spacing_are_settings_like_others():
    changes = {"window": [-1000, 400], "spacing_mm": [2, 1, 1]}
    spec = build(InputSpec, changes)
    assert spec.volume == VolumeView((-1000.0, 400.0), (2.0, 1.0, 1.0))
    assert override(InputSpec(), changes) == spec
    assert InputSpec().volume == VolumeView()


def test_too_fine_a_spacing_is_refused_before_memory_is_taken(tmp_path):
    path = write_nifti(tmp_path / "v.nii", make_phantom())
    with pytest.raises(TooLarge, match="too fine"):
        show(path, VolumeView(spacing_mm=(1e-9, 1.0, 1.0)))


@pytest.mark.parametrize(("library", "name"), [("nibabel", "v.nii"), ("pydicom", "v.dcm")])
def test_without_the_extra_the_error_says_what_to_install(tmp_path, monkeypatch, library, name):
    path = tmp_path / name
    (write_nifti if name == "v.nii" else write_slice)(path, make_phantom())
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[volumes\]'"):
        Video(path)
