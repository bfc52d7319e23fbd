"""IPTC's older fields, which photo agencies and some phones fill: credit line, source, program.

They stand in Adobe's image resources. Sources: IPTC IIM 4.2; Adobe Photoshop file formats, image resource blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

_FIELDS = {65: "Program", 110: "Credit", 115: "Source"}  # No names of people.
_RESOURCE, _IPTC = b"8BIM", 0x0404
_MOST = 1000


def fields_of(resources: bytes) -> list[tuple[str, str]]:
    """Return field and text of what says where a picture comes from; whatever is broken ends the reading.

    Args:
        resources: Image resources of Photoshop, one after the other.
    """
    return [field for block in _blocks(resources) for field in _records(block)]


def _blocks(resources: bytes) -> Iterator[bytes]:
    position = 0
    while resources[position : position + 4] == _RESOURCE:
        kind = int.from_bytes(resources[position + 4 : position + 6], "big")
        name = resources[position + 6 : position + 7]
        start = position + 6 + (1 + (name[0] if name else 0) + 1) // 2 * 2
        length = int.from_bytes(resources[start : start + 4], "big")
        if kind == _IPTC:
            yield resources[start + 4 : start + 4 + length]
        position = start + 4 + length + length % 2


def _records(block: bytes) -> Iterator[tuple[str, str]]:
    position = 0
    for _ in range(_MOST):
        if block[position : position + 1] != b"\x1c" or position + 5 > len(block):
            return
        record, field = block[position + 1], block[position + 2]
        length = int.from_bytes(block[position + 3 : position + 5], "big")
        text = block[position + 5 : position + 5 + length].decode("utf-8", "replace").strip("\0 ")
        if record == 2 and field in _FIELDS and text:
            yield _FIELDS[field], text
        position += 5 + length
