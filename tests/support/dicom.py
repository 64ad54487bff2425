"""DICOM files for the tests, with a patient in their headers."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, OphthalmicPhotography8BitImageStorage

from tests.support.photos import encode

OWN_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
"""Those that come with pydicom."""
PATIENT = (
    "PLANTED^NAME",
    "PLANTED-ID",
    "19700229",
    "PLANTED-CLINIC",
    "20240131",
    "101112",
    "PLANTED^DOCTOR",
    "PLANTED COMMENT",
)


def dicom(pixels: np.ndarray | Image.Image | bytes, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """An ophthalmic photograph. pixels: uint8 or uint16 samples, a picture, or a coded frame (then name Rows and Columns)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = OphthalmicPhotography8BitImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    _plant_patient(dataset)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
    coded = isinstance(pixels, bytes)
    samples = None if coded else np.asarray(pixels)
    bits = 8 if samples is None else 8 * samples.dtype.itemsize
    grey = samples is not None and samples.ndim == 2
    if samples is not None:
        dataset.Rows, dataset.Columns = samples.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (1, "MONOCHROME2") if grey else (3, "RGB")
    if not grey:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.PixelData = encapsulate([pixels]) if isinstance(pixels, bytes) else samples.astype(f"<u{bits // 8}").tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom_jpeg(jpeg: bytes, **elements: Any) -> bytes:
    """A DICOM file that holds a JPEG file as it is."""
    if "Rows" not in elements:
        elements["Columns"], elements["Rows"] = Image.open(io.BytesIO(jpeg)).size
    return dicom(jpeg, JPEGBaseline8Bit, **({"PhotometricInterpretation": "YBR_FULL_422"} | elements))


def dicom_jpeg_2000(image: Image.Image, **elements: Any) -> bytes:
    """A DICOM file in lossless JPEG 2000."""
    told = {"Rows": image.height, "Columns": image.width}
    if image.mode != "RGB":
        told |= {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    if image.mode.startswith("I;16"):
        told |= {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    return dicom(encode(image, "JPEG2000", no_jp2=True), JPEG2000Lossless, **(told | elements))


def compressed(data: bytes, syntax: UID) -> bytes:
    """The same DICOM file under another transfer syntax."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.compress(syntax)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _plant_patient(dataset: FileDataset) -> None:
    name, number, birth, clinic, day, moment, doctor, comment = PATIENT
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = name, number, birth
    dataset.InstitutionName, dataset.StudyDate, dataset.AcquisitionDateTime = clinic, day, f"{day}{moment}"
    dataset.StudyTime, dataset.ReferringPhysicianName, dataset.ImageComments = moment, doctor, comment
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2.3.70229"
