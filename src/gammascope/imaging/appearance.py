"""What a file says about how its colours should look beside a colour profile, and what of it was not applied.

Browsers apply gamma (PNG gAMA) and code points (PNG cICP; nclx in AVIF and HEIC), so they show such a picture lighter,
darker or tone-mapped. Detectors read it as stored; the report says so. Sources: PNG 3rd edition, 4.3 and 11.3.2; ITU-T
H.273.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL.ImageFile import ImageFile

from gammascope.imaging.mending import png_chunks

_USUAL_GAMMA = 0.45455
_TOLERANCE = 0.05  # Relative; our choice: below it no difference is visible.
_USUAL_PRIMARIES = (
    0.3127,
    0.329,
    0.64,
    0.33,
    0.3,
    0.6,
    0.15,
    0.06,
)  # White, red, green, blue of BT.709 and sRGB.
_PRIMARIES_TOLERANCE = 0.01

_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_TRANSFERS = {4: "gamma 2.2", 5: "gamma 2.8", 8: "linear light", 16: "PQ (HDR)", 18: "HLG (HDR)"}
_LIKE_SRGB = frozenset((1, 2))  # BT.709, not said.
_LIKE_SRGB_TONES = frozenset((1, 2, 4, 6, 13, 14, 15))
_NCLX = b"colrnclx"


def unapplied(data: bytes, file: ImageFile) -> list[str]:
    """Say what would change the look of a picture and was not applied, one clause each.

    Args:
        data: The file.
        file: It, opened.
    """
    kind = (file.format or "").lower()
    if kind == "png":
        return list(_of_png(data))
    if kind in ("avif", "heif") and not file.info.get("icc_profile"):
        at = data.find(_NCLX) + len(_NCLX)
        code = data[at : at + 4]
        if at >= len(_NCLX) and len(code) == 4:
            return list(_of_code(code[1], code[3]))
    return []


def _of_png(data: bytes) -> Iterator[str]:
    chunks = {
        c.name: data[c.start + 8 : c.end - 4]
        for c in png_chunks(data)
        if c.is_ancillary and c.sound
    }
    if len(code := chunks.get(b"cICP", b"")) == 4:
        yield from _of_code(code[0], code[1])
        return
    if b"sRGB" in chunks or b"iCCP" in chunks:  # They are stronger.
        return
    gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big") / 1e5
    if gamma and abs(gamma / _USUAL_GAMMA - 1) > _TOLERANCE:
        yield f"asks for gamma {gamma:g} (PNG gAMA), which was not applied: colours are shown as stored"
    places = chunks.get(b"cHRM", b"")
    values = [int.from_bytes(places[at : at + 4], "big") / 1e5 for at in range(0, len(places), 4)]
    if len(values) == len(_USUAL_PRIMARIES) and any(
        abs(value - usual) > _PRIMARIES_TOLERANCE
        for value, usual in zip(values, _USUAL_PRIMARIES, strict=True)
    ):
        yield "asks for other primary colours (PNG cHRM), which was not applied: colours are shown as stored"


def _of_code(primaries: int, transfer: int) -> Iterator[str]:
    asked = []
    if transfer not in _LIKE_SRGB_TONES:
        asked.append(_TRANSFERS.get(transfer, f"transfer function {transfer}"))
    if primaries not in _LIKE_SRGB:
        asked.append(f"{_PRIMARIES.get(primaries, f'primaries {primaries}')} colours")
    if asked:
        yield (
            f"asks for {' and '.join(asked)} by code points, which was not applied: "
            "colours are shown as stored, viewers may show others"
        )
