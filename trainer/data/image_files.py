"""Which files of a folder are images. Archives name DICOM files in any way, so the first bytes count, not the name.

Bytes without the prefix DICM count as DICOM only in a file whose name has no suffix of another kind.
"""

from pathlib import Path

from worker.imaging.part10 import looks_like_dicom
from worker.imaging.raster import looks_like_raster

#: Names that promise an image. One that is none is listed as unreadable; under another name it is no image.
DICOM_NAMES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
PROMISING = frozenset({".jpeg", ".jpg", ".png"}) | DICOM_NAMES

#: The index of a medium is DICOM and holds no image (PS3.10 8.6).
INDEX_OF_MEDIUM = "dicomdir"

#: Long enough for the preamble, its prefix and a first element.
_FIRST_BYTES = 256


def image_files(folder: Path) -> list[Path]:
    """Every image below a folder, in the order of paths; hidden files, and files in hidden folders, are left out."""
    return sorted(path for path in folder.rglob("*") if not _is_hidden(path, folder) and path.is_file() and _is(path))


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, or is named as if it were."""
    first = _first_bytes(path)
    is_named_so = path.suffix.lower() in DICOM_NAMES and not looks_like_raster(first)
    return first[128:132] == b"DICM" or is_named_so or (not path.suffix and looks_like_dicom(first))


def _is(path: Path) -> bool:
    if path.name.lower() == INDEX_OF_MEDIUM:
        return False
    if path.suffix.lower() in PROMISING:
        return True
    first = _first_bytes(path)
    return looks_like_raster(first) or first[128:132] == b"DICM" or (not path.suffix and looks_like_dicom(first))


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FIRST_BYTES)
    except OSError:
        return b""


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
