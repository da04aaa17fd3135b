"""Volumes are clips like others: found in folders and tables, shown by the model's window and spacing, checked."""

import numpy as np
import pytest
from PIL import Image

from medical import make_phantom, write_nifti, write_series, write_slice
from tubelet.data.dataset import ClipDataset, open_sample
from tubelet.data.health import check_health
from tubelet.data.manifest import check_manifest, read_manifest
from tubelet.data.sample import Sample
from tubelet.data.unlabelled import open_unlabelled
from tubelet.prediction.sources import list_sources
from tubelet.transforms.preparation import fit
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec


@pytest.fixture
def folder(tmp_path):
    """Make class folders with every kind of volume."""
    for label, shift in (("left", 0), ("right", 100)):
        place = tmp_path / "clips" / label
        place.mkdir(parents=True)
        volume = make_phantom(6) + np.int16(shift)
        write_nifti(place / "a.NII.GZ", volume)
        write_nifti(place / "b.nii", volume[::-1])
        write_series(place / "patient" / "c", volume + np.int16(1))
        bare = write_series(place / "d", volume + np.int16(2))
        for path in bare.iterdir():
            path.rename(path.with_suffix(""))
        write_slice(place / "e.dcm", volume + np.int16(3))
    return tmp_path / "clips"


def test_a_folder_finds_files_series_and_files_of_many_frames(folder):
    (folder / "left" / "patient" / "c" / "readme.txt").write_text("notes")
    manifest = read_manifest(folder)
    check_manifest(manifest)
    found = [(sample.label, sample.source.removeprefix(str(folder))) for sample in manifest.samples]
    kinds = ("a.NII.GZ", "b.nii", "e.dcm", "d", "patient/c")
    assert found == [(label, f"/{label}/{kind}") for label in ("left", "right") for kind in kinds]
    for sample in manifest.samples:
        with open_sample(sample) as video:
            assert (video.info.num_frames, video.info.channels) == (6, 1)


def test_slices_of_nobody_knows_which_series_are_passed_over_and_named(folder):
    (folder / "left" / "e.dcm").unlink()
    for path in (folder / "left" / "patient" / "c").iterdir():
        path.rename(folder / "left" / path.name)
    manifest = read_manifest(folder)
    assert len(manifest.samples) == 8
    assert "passed over in" in manifest.notes[0]
    assert "6 .dcm" in manifest.notes[0]


def test_a_damaged_file_is_named_and_changes_nothing_for_its_neighbors(folder):
    first = folder / "left" / "patient" / "c" / "IM0000.dcm"
    first.write_bytes(first.read_bytes()[:200])
    (folder / "right" / "a.dcm").write_bytes(bytes(200))
    assert len(read_manifest(folder).samples) == 11
    problems = check_health(folder, workers=1).health.problems
    assert [(problem.source.split("/")[-1], problem.code) for problem in problems] == [
        ("c", "corrupt"),
        ("a.dcm", "not_a_video"),
    ]


def test_tables_lists_and_patterns_name_volumes(folder, tmp_path):
    (tmp_path / "t.csv").write_text("path,label\nclips/left/a.NII.GZ,x\nclips/left/patient/c,y\nclips/right/e.dcm,x\n")
    assert len(check_manifest(read_manifest(tmp_path / "t.csv"))) < 3
    kinds = ("a.NII.GZ", "b.nii", "d", "e.dcm", "patient/c")
    assert list(list_sources([str(folder / "left")])) == [str(folder / "left" / kind) for kind in kinds]
    assert list(list_sources([str(folder / "left" / "d")])) == [str(folder / "left" / "d")]
    assert {sample.source for sample in open_unlabelled(folder / "left").samples} == {
        str(folder / "left" / kind) for kind in kinds
    }


def test_a_check_finds_copies_of_a_series_under_other_names_and_nothing_else(folder):
    checkup = check_health(folder, workers=1)
    assert checkup.health.problems == ()
    assert {oddity.code for oddity in checkup.health.oddities} == set()
    assert checkup.health.codecs == {"nifti": 4, "dicom": 6}
    for number, path in enumerate(sorted((folder / "left" / "d").iterdir())):
        (folder / "right" / "copy").mkdir(exist_ok=True)
        (folder / "right" / "copy" / f"{9 - number}.dcm").write_bytes(path.read_bytes())
    codes = {problem.code for problem in check_health(folder, workers=1).health.problems}
    assert codes == {"duplicate_with_other_label"}


def test_training_shows_a_volume_by_the_window_and_spacing_of_the_model(folder):
    spec = InputSpec(frames=12, height=14, width=9, channels=1, window=(-500.0, 500.0), spacing_mm=(2.0, 1.0, 1.0))
    manifest = read_manifest(folder)
    dataset = ClipDataset(manifest.samples, manifest, spec, lambda pixels, label, _: (fit(pixels, spec), label))
    _, clips, _ = dataset[0, 0]
    with Video(manifest.samples[0].source, volume=spec.volume) as video:
        assert (video.info.num_frames, video.info.height, video.info.width) == (12, 14, 9)
        assert np.array_equal(clips[0].numpy(), video.frames().pixels)
    with Video(manifest.samples[0].source) as video:
        assert video.info.num_frames == 6


@pytest.mark.parametrize("dtype", [np.int16, np.float32, ">f8", np.int32])
def test_rows_of_an_array_of_measured_numbers_become_pixels(tmp_path, dtype):
    volumes = np.stack([make_phantom(), make_phantom() // 2]).astype(dtype)
    np.savez(tmp_path / "v.npz", x=volumes, y=np.array([0, 1]))
    sample = read_manifest(tmp_path / "v.npz").samples[1]
    for spec in (InputSpec(channels=1), InputSpec(channels=1, window=(-100.0, 300.0))):
        with open_sample(sample, volume=spec.volume) as video:
            pixels = video.frames().pixels[..., 0]
        low, high = spec.window or np.percentile(volumes[1].astype(float), (0.5, 99.5))
        wanted = np.clip((volumes[1].astype(float) - low) / (high - low), 0, 1) * 255
        assert np.abs(pixels - wanted).max() <= 0.5001


def test_a_gif_is_a_volume_of_one_channel_for_a_model_of_one(tmp_path):
    slices = np.random.default_rng(0).integers(0, 256, (6, 16, 16), np.uint8)
    frames = [Image.fromarray(slice_) for slice_ in slices]
    frames[0].save(tmp_path / "v.gif", save_all=True, append_images=frames[1:], duration=40)
    with open_sample(Sample(str(tmp_path / "v.gif"), "organ")) as video:
        assert video.info.channels == 3
        gray = fit(video.frames().pixels, InputSpec(frames=6, height=16, width=16, channels=1))
    assert np.abs(gray[..., 0].numpy().astype(int) - slices).max() <= 1


@pytest.mark.slow
def test_volumes_are_learned_and_predicted_from_files(tmp_path):
    import tubelet
    from tubelet.video.synthetic.organs import draw_organ

    generator = np.random.default_rng(0)
    for label in ("liver", "heart"):
        (tmp_path / "organs" / label).mkdir(parents=True)
        for number in range(12):
            volume = draw_organ(label, generator).astype(np.int16) * 4 - 300
            write_nifti(tmp_path / "organs" / label / f"{number}.nii.gz", volume, axes="PIR")
    size = {"input__frames": 8, "input__height": 32, "input__width": 32, "input__channels": 1}
    brief = {"data__workers": 0, "training__epochs": 1, "training__batch": 4}
    tubelet.train(tmp_path / "organs", runs=tmp_path / "runs", name="r", input__window=(-300.0, 600.0), **size, **brief)
    classifier = tubelet.load(tmp_path / "runs" / "r")
    assert classifier.input_spec.window == (-300.0, 600.0)
    volume = draw_organ("liver", generator).astype(np.int16) * 4 - 300
    answers = [
        next(iter(tubelet.predict(classifier, str(path))))
        for path in (
            write_nifti(tmp_path / "v.nii.gz", volume),
            write_nifti(tmp_path / "w.nii", volume, axes="SRA"),
            write_series(tmp_path / "series", volume),
        )
    ]
    assert [answer.scores for answer in answers] == [answers[0].scores] * 3
