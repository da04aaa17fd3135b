"""Write volumes as scanners and their converters do, by nibabel and pydicom: from arrays as a radiologist sees them.

Arrays are (slice, row, column): from inferior to superior, from anterior to posterior, right to left.
"""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
"""Directions toward the next column and the next row, in DICOM's (left, posterior, superior)."""


def make_phantom(slices=5, rows=7, columns=9, dtype=np.int16) -> np.ndarray:
    """Make a volume of which no two slices, rows or columns are alike, from -1000 to 1000."""
    volume = np.random.default_rng(0).normal(0, 100, (slices, rows, columns))
    volume += np.linspace(-500, 500, slices)[:, None, None] + np.linspace(-200, 200, columns)
    volume[0, 0, 0], volume[-1, -1, -1] = -1000, 1000
    return volume.clip(-1000, 1000).round().astype(dtype)


def write_nifti(path: Path, volume: np.ndarray, spacing=(4.0, 2.0, 1.0), axes="RAS", **options) -> Path:
    """Write a volume (slice, row, column[, channel]), stored along the given axes; options: scale, kind, byte order."""
    kind = options.get("kind", nibabel.Nifti1Image)
    ras = np.moveaxis(volume, (0, 1, 2), (2, 1, 0))[::-1, ::-1]
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = (-12.0, 7.0, 30.0)
    if "tilt" in options:
        affine[:3, :3] = options["tilt"] @ affine[:3, :3]
    header = kind.header_class(endianness=options.get("endianness", "<"))
    header.set_data_dtype(volume.dtype)
    image = kind(ras, affine, header)
    image.header.set_xyzt_units(options.get("unit", "mm"))
    if "scale" in options:
        image.header.set_slope_inter(*options["scale"])
    codes = nibabel.orientations.axcodes2ornt(tuple(axes))
    image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), codes)
    ).to_filename(path)
    return path


def write_slice(path: Path, pixels: np.ndarray, **stated) -> Path:
    """Write one DICOM file of pixels ([frame,] row, column[, 3]), and what else is stated."""
    syntax = stated.pop("syntax", ExplicitVRLittleEndian)
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    is_color = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.ndim == 3 and not is_color:
        data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[-3:-1] if is_color else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if is_color else 1
    data.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    if is_color:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.SeriesInstanceUID = "1.2.3"
    for name, value in stated.items():
        setattr(data, name, value)
    is_little = syntax != pydicom.uid.ExplicitVRBigEndian
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<" if is_little else ">")).tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: np.ndarray, spacing=(4.0, 2.0, 1.0), axes=AXIAL, **stated) -> Path:
    """Write a folder of slices whose names say nothing about their order."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(*axes)
    names = np.random.default_rng(1).permutation(len(volume))
    for number, (name, pixels) in enumerate(zip(names, volume, strict=True)):
        position = np.array([-12.0, 7.0, 30.0]) + normal * spacing[0] * number
        place = {
            "ImagePositionPatient": position.round(6).tolist(),
            "ImageOrientationPatient": [*axes[0], *axes[1]],
            "PixelSpacing": list(spacing[1:]),
            "SliceThickness": spacing[0],
        }
        write_slice(folder / f"IM{name:04d}.dcm", pixels, **{**place, **stated})
    return folder
