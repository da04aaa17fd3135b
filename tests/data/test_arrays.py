"""Array files are read as they are, or refused before they can do harm."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tubelet.data.arrays import load_features, load_row, read_headers
from tubelet.data.manifest import check_manifest, read_manifest
from tubelet.errors import DataError
from tubelet.video.source import Video


def clips(count, dtype=np.uint8):
    """Make clips whose every value is the number of their row."""
    return np.broadcast_to(np.arange(count, dtype=dtype)[:, None, None, None], (count, 2, 3, 3)).copy()


def save(tmp_path, name="data.npz", **arrays):
    path = tmp_path / name
    np.savez_compressed(path, **arrays)
    return path


def npy(header, body=b"", version=(1, 0)):
    """Write an .npy file with any header."""
    text = header.encode("latin1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + body


def pack(tmp_path, **members):
    """Write an .npz file of raw members beside a sound y."""
    path = tmp_path / "hostile.npz"
    sound = io.BytesIO()
    np.save(sound, np.zeros(2, np.int64))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"y": sound.getvalue(), **members}.items():
            archive.writestr(f"{name}.npy", data)
    return path


# What is read


def test_x_and_y_become_samples_in_order_of_rows(tmp_path):
    path = save(
        tmp_path,
        x=clips(4),
        y=np.array([2, 0, 1, 0]),
        class_names=np.array(["zebra", "ant", "mole"]),
        group=np.array(["g1", "g1", "g2", ""]),
        split=np.array(["train", "Training", "valid", "test"]),
        video=np.array([7, 8, 9, 10]),
        mean=np.zeros(3),
    )
    manifest = read_manifest(path)
    assert manifest.classes == ("zebra", "ant", "mole")
    assert [sample.label for sample in manifest.samples] == ["mole", "zebra", "ant", "zebra"]
    assert [manifest.label_index(sample) for sample in manifest.samples] == [2, 0, 1, 0]
    assert [sample.split for sample in manifest.samples] == ["train", "train", "val", "test"]
    assert [sample.group for sample in manifest.samples] == ["g1", "g1", "g2", None]
    assert manifest.samples[2].metadata == {"video": "9"}
    assert manifest.short_name(manifest.samples[3]) == "data.npz[x][3]"
    assert [sample.group for sample in read_manifest(path, group_by="video").samples] == ["7", "8", "9", "10"]


def test_medmnist_keys_become_splits_and_keep_the_order_of_indices(tmp_path):
    path = save(
        tmp_path,
        train_images=clips(12),
        train_labels=np.arange(12, dtype=np.uint8)[:, None],
        val_images=clips(2),
        val_labels=np.array([[3], [10]], np.uint8),
        test_images=clips(1),
        test_labels=np.array([[2]], np.uint8),
    )
    manifest = read_manifest(path)
    assert manifest.classes == tuple(str(index) for index in range(12))
    assert {split: sum(counts.values()) for split, counts in manifest.counts().items()} == {
        "train": 12,
        "val": 2,
        "test": 1,
    }
    sample = manifest.select("val")[1]
    assert (sample.member, sample.row, manifest.label_index(sample)) == ("val_images", 1, 10)
    assert load_row(sample.source, sample.member, sample.row).tolist() == clips(2)[1].tolist()


def test_classes_without_a_sample_keep_their_index(tmp_path):
    manifest = read_manifest(save(tmp_path, x=clips(2), y=np.array([0, 4])))
    assert manifest.classes == ("0", "1", "2", "3", "4")
    assert manifest.label_index(manifest.samples[1]) == 4
    assert "3 of 5 classes have no sample" in check_manifest(manifest)[0]


def test_labels_may_be_names(tmp_path):
    manifest = read_manifest(save(tmp_path, x=clips(3), y=np.array(["run", "ant", "run"])))
    assert manifest.classes == ("ant", "run")
    listed = save(tmp_path, "b.npz", x=clips(2), y=np.array(["run", "ant"]), class_names=np.array(["run", "ant"]))
    assert read_manifest(listed).classes == ("run", "ant")


@pytest.mark.parametrize("dtype", [np.bool_, np.int16, np.float16, np.float32, np.float64, ">f4"])
def test_features_of_any_real_type_are_read_as_float32_but_are_no_pixels(tmp_path, dtype):
    values = np.arange(24).reshape(2, 4, 3).astype(dtype)
    path = save(tmp_path, x=values, y=np.array([0, 1]))
    sample = read_manifest(path).samples[1]
    features = load_features(sample.source, "x", 1)
    assert features.dtype == np.float32
    assert features.tolist() == values[1].astype(np.float64).tolist()
    with pytest.raises(DataError, match="as pixels - it holds"):
        load_row(sample.source, "x", 1)


def test_a_row_is_a_view_that_nobody_can_write_through(tmp_path):
    path = save(tmp_path, x=clips(3), y=np.zeros(3, int))
    row = load_row(path, "x", 2)
    assert np.shares_memory(row, load_row(path, "x", 2))
    with pytest.raises(ValueError, match="read-only"):
        row[:] = 99
    with Video(row) as video:
        frames = video.frames().pixels
    frames[:] = 99
    assert load_row(path, "x", 2).max() == 2


def test_a_file_that_was_replaced_is_read_again(tmp_path):
    path = save(tmp_path, x=clips(3), y=np.zeros(3, int))
    assert load_row(path, "x", 1).max() == 1
    save(tmp_path, x=clips(3) + np.uint8(50), y=np.zeros(3, int), more=np.zeros(9))
    assert load_row(path, "x", 1).max() == 51


def test_an_array_is_read_once_for_many_rows(tmp_path, monkeypatch):
    path = save(tmp_path, x=clips(5), y=np.zeros(5, int))
    opened = []
    true_load = np.load
    monkeypatch.setattr(np, "load", lambda *args, **kwargs: opened.append(kwargs) or true_load(*args, **kwargs))
    assert [int(load_row(path, "x", row).max()) for row in (0, 1, 2, 3, 4)] == [0, 1, 2, 3, 4]
    assert opened == [{"allow_pickle": False}]


@pytest.mark.parametrize(
    ("member", "row", "message"),
    [("x", 3, "has 3 rows"), ("x", -1, "has 3 rows"), ("z", 0, "holds 'x', 'y'"), ("n", 0, "holds 'x', 'y'")],
)
def test_rows_that_are_not_there_are_refused(tmp_path, member, row, message):
    path = save(tmp_path, x=clips(3), y=np.zeros(3, int))
    with pytest.raises(DataError, match=message):
        load_row(path, member, row)


def test_a_file_that_vanished_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        load_row(tmp_path / "gone.npz", "x", 0)


# What does not fit together


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": clips(3), "y": np.zeros(2, int)}, "'y' has shape (2,), 'x' has 3 rows"),
        ({"x": clips(3), "y": np.zeros((3, 14), int)}, "none of its 3 clips has a label"),
        ({"x": clips(3), "y": np.full((3, 2), 2)}, "hold 2 in row 0 - store 1 where a row has the class, else 0"),
        ({"x": clips(3), "y": np.ones((3, 2), int), "class_names": np.array(["a", "b", "c"])}, "have 2 columns, there"),
        ({"x": clips(3), "y": np.ones((3, 2), int), "class_names": np.array(["a", "b|c"])}, "'b|c' is no name"),
        ({"x": clips(3), "y": np.array(["a", "b|c", "a"])}, "the label 'b|c' holds '|'"),
        ({"x": clips(3), "y": np.ones((2, 2), int)}, "'y' has shape (2, 2), 'x' has 3 rows"),
        ({"x": clips(3), "y": np.ones((3, 2))}, "'y' holds float64 - store 0 and 1"),
        ({"x": clips(3), "y": np.zeros(3)}, "'y' holds float64"),
        ({"x": clips(3), "y": np.array([0, -1, 0])}, "row 1: -1"),
        ({"x": clips(3), "y": np.array([0, 2, 0]), "class_names": np.array(["a", "b"])}, "row 1: 2"),
        ({"x": clips(3), "y": np.array(["a", "c", "b"]), "class_names": np.array(["a", "b"])}, "row 1: 'c'"),
        ({"x": clips(3), "y": np.array([0, 10**9, 0])}, "largest label is 1000000000"),
        ({"x": clips(3), "y": np.array([0, 2**64 - 1, 0], np.uint64), "class_names": np.array(["a"])}, "row 1: -1"),
        ({"x": clips(3), "y": np.zeros(3, int), "class_names": np.array(["a", "a"])}, "a name twice"),
        ({"x": clips(3), "y": np.zeros(3, int), "class_names": np.array([1, 2])}, "a vector of texts"),
        ({"x": clips(3), "y": np.zeros(3, int), "split": np.array(["train", "tset", "val"])}, "did you mean 'test'"),
        ({"x": clips(3), "y": np.zeros(3, int), "group": np.zeros(2, int)}, "each of 3 rows"),
        ({"x": clips(3), "y": np.zeros(3, int), "group": np.zeros(3)}, "each of 3 rows"),
        ({"x": np.zeros((3, 5)), "y": np.zeros(3, int)}, "'x' is float64 (3, 5)"),
        ({"x": clips(3).astype(complex), "y": np.zeros(3, int)}, "'x' is complex128"),
        ({"x": np.zeros((3, 0, 4), np.uint8), "y": np.zeros(3, int)}, "'x' is uint8 (3, 0, 4)"),
        ({"x": clips(0), "y": np.zeros(0, int)}, "no rows"),
        ({"X": clips(3), "Y": np.zeros(3, int)}, "store x and y"),
        ({"train_images": clips(3), "val_labels": np.zeros(3, int)}, "'train_labels' not found"),
        (
            {
                "train_images": clips(1),
                "train_labels": np.array(["a"]),
                "val_images": clips(1),
                "val_labels": np.array([0]),
            },
            "names here, indices there",
        ),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path, arrays, message):
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError, match=r"data\.npz") as caught:
        read_manifest(path)
    assert message in str(caught.value)


# What is hostile


class Trap:
    """Write a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("member", ["x", "y", "class_names", "extra"])
def test_pickled_objects_are_never_loaded(tmp_path, member):
    sprung = tmp_path / "sprung"
    arrays = {"x": clips(2), "y": np.zeros(2, int), member: np.array([Trap(str(sprung))] * 2, object)}
    path = tmp_path / "data.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(DataError, match="never unpickled"):
        read_manifest(path)
    with pytest.raises(DataError, match="never unpickled"):
        load_row(path, member, 0)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 9, 9, 9), }\n", bytes(10)), "but holds 10 bytes"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1000000, 1000000, 1000000), }\n"), "holds 0 bytes"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2), }\n", bytes(9)), "but holds 9 bytes"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2, 2), }\n", bytes(8)), "impossible shape"),
        (npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000, 2, 2), }\n"), "values of no size"),
        (npy("{'descr': '|V0', 'fortran_order': False, 'shape': (2, 2, 2), }\n"), "values of no size"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 3000 + "}\n"), "unreadable header"),
        (npy("x" * 60_000), "unreadable header"),
        (npy("__import__('os').abort()\n"), "unreadable header"),
        (npy("{'descr': 'nonsense', 'fortran_order': False, 'shape': (2,), }\n"), "unreadable header"),
        (npy("{'descr': [('a',)], 'fortran_order': False, 'shape': (2,), }\n"), "unreadable header"),
        (npy("'''\n"), "unreadable header"),
        (npy("", version=(9, 9)), "version (9, 9)"),
        (npy("{}", version=(3, 0)), "version (3, 0)"),
        (b"\x93NUM", "hostile.npz"),
        (b"", "hostile.npz"),
        (b"hello", "hostile.npz"),
    ],
)
def test_hostile_headers_are_refused(tmp_path, data, message):
    path = pack(tmp_path, x=data)
    with pytest.raises(DataError, match=r"hostile\.npz") as caught:
        read_manifest(path)
    assert message in str(caught.value)
    with pytest.raises(DataError):
        load_row(path, "x", 0)


def test_an_array_above_the_limit_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path, x=clips(5), y=np.zeros(5, int))
    monkeypatch.setattr("tubelet.data.arrays.MAX_ARRAY_BYTES", 89)
    with pytest.raises(DataError, match="holds 90 bytes, the limit is 89"):
        read_headers(path)
    monkeypatch.setattr("tubelet.data.arrays.MAX_ARRAY_BYTES", 90)
    assert read_headers(path)["x"].shape == (5, 2, 3, 3)


def test_a_small_file_that_unpacks_to_a_huge_array_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    path, size = tmp_path / "bomb.npz", 80 * 2**20
    header = npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': (2, 4, {size // 8}), }}\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("x.npy", header + bytes(size))
    assert path.stat().st_size < size / 1000
    monkeypatch.setattr(np, "load", lambda *_args, **_kwargs: pytest.fail("the array was read"))
    for read in (read_headers, lambda path: load_row(path, "x", 0)):
        with pytest.raises(DataError, match=r"bomb\.npz.*unpacks \d+ bytes to 83886080, more than 1000:1"):
            read(path)
    # The archive's directory may state any packed size; the file on disk cannot.
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 20
    data[place : place + 4] = struct.pack("<I", 2**30)
    path.write_bytes(data)
    with pytest.raises(DataError, match="more than 1000:1"):
        read_headers(path)


def test_sparse_volumes_of_any_size_are_read(tmp_path):
    sparse = np.zeros((80, 64, 128, 128), np.uint8)
    sparse[:, ::4, ::16, 5] = 1
    path = save(tmp_path, x=sparse, y=np.zeros(80, int))
    assert sparse.nbytes > 64 * 2**20 > 100 * path.stat().st_size
    assert read_headers(path)["x"].shape == sparse.shape


def test_texts_that_are_no_characters_are_refused(tmp_path):
    bad = np.frombuffer(b"\xff" * 8, "<U1")
    with pytest.raises(DataError, match="0xffffffff, no character"):
        read_manifest(save(tmp_path, x=clips(2), y=bad))


def test_damage_anywhere_in_a_file_is_refused_or_harmless(tmp_path):
    whole = save(tmp_path, x=clips(6), y=np.arange(6)).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for trial in range(150):
        data = bytearray(whole)
        if trial % 2:
            del data[int(generator.integers(len(data))) :]
        else:
            data[int(generator.integers(len(data)))] ^= 1 << int(generator.integers(8))
        path = tmp_path / "damaged.npz"
        path.write_bytes(data)
        try:
            for sample in read_manifest(path).samples:
                load_row(sample.source, sample.member, sample.row)
        except DataError:
            refused += 1
    assert refused > 75


def test_a_locked_or_doubled_archive_is_refused(tmp_path):
    path = save(tmp_path, x=clips(2), y=np.zeros(2, int))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        read_manifest(path)
    doubled = tmp_path / "doubled.npz"
    with zipfile.ZipFile(doubled, "w") as archive:
        archive.writestr("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }\n", b"1"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", b"")
    with pytest.raises(DataError, match="two arrays called 'x'"):
        read_manifest(doubled)


# Real files


@pytest.mark.real_data
def test_the_voxel_file_is_read_with_its_groups(real_data):
    path = real_data / "volumes" / "modelnet10_few_32.npz"
    manifest = read_manifest(path)
    assert len(manifest.samples) == 1104
    assert manifest.classes[0] == "bathtub"
    assert len({sample.group for sample in manifest.samples}) == 92
    with np.load(path) as arrays:
        assert [manifest.label_index(sample) for sample in manifest.samples] == arrays["y"].tolist()
        assert np.array_equal(load_row(path, "x", 1103), arrays["x"][1103])


@pytest.mark.real_data
def test_the_feature_file_is_read_with_its_splits(real_data):
    (path,) = (real_data / "ucf101_feat").glob("*.npz")
    manifest = read_manifest(path)
    assert (len(manifest.select("train")), len(manifest.select("test"))) == (990, 389)
    assert manifest.samples[0].metadata == {"video": "v_000146"}
    assert load_features(path, "x", 5).shape == (25, 256)
