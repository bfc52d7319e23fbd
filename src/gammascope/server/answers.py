"""What the server sends of a picture: the JSON of ``gammascope scan --json``, and masks as small PNG if asked for."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage

from gammascope.detection.opinions import opinions_json
from gammascope.pages.report_page import fitted, shrunk_map
from gammascope.report import Evidence, Report, without_numbers

MASK_SIDE_PX: Final = 384
"""Longer side of a mask that is sent; the network's own grid is coarser still."""

QUIET_MASK_SIDE_PX: Final = 192
"""The same beside an answer of "no": nearly every picture has such a mask, all are kept, and few are looked at."""


def plain(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Return all reports on one picture, by their detectors' names, as plain types with their masks."""
    return opinions_json(reports, _plain)


def shown(
    row: dict[str, Any], name: str, *, masks: bool, quiet_masks: bool = False, labels_only: bool
) -> dict[str, Any]:
    """Return what ``plain`` gave under a file's own name, with or without masks and numbers of confidence.

    Args:
        row: Of one picture.
        name: Of its file.
        masks: Keep those beside answers that are not "no".
        quiet_masks: Keep the others too.
        labels_only: Leave out all numbers of confidence.
    """
    named = (without_numbers(row) if labels_only else row) | {"image": name}

    def kept(opinion: dict[str, Any]) -> dict[str, Any]:
        evidence = [_unmasked(one, masks, quiet_masks) for one in opinion["evidence"]]
        return opinion | {"evidence": evidence}

    if "second_opinions" in named:
        named["second_opinions"] = [kept(one) for one in named["second_opinions"]]
    return kept(named)


def _plain(report: Report) -> dict[str, Any]:
    row = report.to_json()
    for described, evidence in zip(row["evidence"], report.evidence, strict=True):
        if evidence.map is not None:
            described["mask"] = _mask(evidence, evidence.map)
    return row


def _unmasked(evidence: dict[str, Any], masks: bool, quiet_masks: bool) -> dict[str, Any]:
    """Leave a mask out that was not asked for."""
    mask = evidence.get("mask")
    if mask is None or (masks and (quiet_masks or not mask.get("on_request"))):
        return evidence
    return {key: value for key, value in evidence.items() if key != "mask"}


def _mask(evidence: Evidence, values: Float[np.ndarray, "h w"]) -> dict[str, Any]:
    """Encode a map as grey PNG with alpha: 0..255 stands for 0..1, transparent for not examined."""
    side = QUIET_MASK_SIDE_PX if evidence.on_request else MASK_SIDE_PX
    width, height = fitted((values.shape[1], values.shape[0]), side)
    small = shrunk_map(values, (width, height))
    seen = np.isfinite(small)
    grey = np.rint(255 * np.clip(np.where(seen, small, 0), 0, 1)).astype(np.uint8)
    pixels = np.stack([grey, np.where(seen, 255, 0).astype(np.uint8)], axis=2)
    data = io.BytesIO()
    PillowImage.fromarray(pixels, "LA").save(data, "PNG")
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    quiet = {"on_request": True} if evidence.on_request else {}
    return {"width": width, "height": height, "png": encoded} | quiet
