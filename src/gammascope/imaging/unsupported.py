"""Photographs of formats that nothing here reads, told by ending and by content: none is passed over in silence."""

from __future__ import annotations

RAW_SUFFIXES = (
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf"),
    *(".rw2", ".pef", ".srw", ".3fr", ".iiq", ".x3f", ".erf", ".mrw", ".kdc", ".dcr", ".mef"),
)
"""Endings of camera raws, in lower case."""

SUFFIXES = (*RAW_SUFFIXES, ".jxl", ".jp2", ".j2k", ".psd")
"""Endings of photographs that cannot be examined; listings name them, and opening one says why not."""

RAW = "a camera raw, which holds no finished picture: develop it to JPEG, PNG or TIFF first"
"""Why a camera raw is not examined, one clause."""

_OTHER = "a {} file, which is not supported: save the picture as JPEG, PNG or TIFF first"

# Place of the signature, and what it says. Raws that are TIFF files are known by their directories (``directories``).
_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW", ""),
    (0, b"IIRO", ""),  # Olympus
    (0, b"IIRS", ""),
    (0, b"MMOR", ""),
    (0, b"IIU\0", ""),  # Panasonic
    (0, b"FOVb", ""),  # Sigma
    (0, b"\0MRM", ""),  # Minolta
    (4, b"ftypcrx ", ""),  # Canon
    (6, b"HEAPCCDR", ""),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
)


def reason(data: bytes) -> str:
    """Return why a file's content is not examined, one clause; empty if it is of no format known here."""
    for start, signature, title in _SIGNATURES:
        if data[start : start + len(signature)] == signature:
            return _OTHER.format(title) if title else RAW
    return ""
