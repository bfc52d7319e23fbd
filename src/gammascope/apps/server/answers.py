"""A report as the server sends it: the JSON of ``gammascope scan --json``, and masks as small PNG data if asked for."""

from __future__ import annotations

import base64
import io
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage

from gammascope.apps.report_page import fitted, shrunk_map
from gammascope.report import Report, without_numbers

MASK_SIDE_PX: Final = 384
"""Longer side of a mask that is sent; the network's own grid is coarser still."""


def plain(report: Report) -> dict[str, Any]:
    """Return a report as plain types, with its masks."""
    row = report.to_json()
    for described, evidence in zip(row["evidence"], report.evidence, strict=True):
        if evidence.map is not None:
            described["mask"] = _mask(evidence.map)
    return row


def shown(row: dict[str, Any], name: str, *, masks: bool, labels_only: bool) -> dict[str, Any]:
    """Return what ``plain`` gave under a file's own name, with or without masks and numbers of confidence."""
    named = (without_numbers(row) if labels_only else row) | {"image": name}
    if not masks:
        named["evidence"] = [
            {key: value for key, value in evidence.items() if key != "mask"}
            for evidence in named["evidence"]
        ]
    return named


def _mask(values: Float[np.ndarray, "h w"]) -> dict[str, Any]:
    """Encode a map as grey PNG with alpha: 0..255 stands for 0..1, transparent for not examined."""
    width, height = fitted((values.shape[1], values.shape[0]), MASK_SIDE_PX)
    small = shrunk_map(values, (width, height))
    seen = np.isfinite(small)
    grey = np.rint(255 * np.clip(np.where(seen, small, 0), 0, 1)).astype(np.uint8)
    pixels = np.stack([grey, np.where(seen, 255, 0).astype(np.uint8)], axis=2)
    data = io.BytesIO()
    PillowImage.fromarray(pixels, "LA").save(data, "PNG")
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return {"width": width, "height": height, "png": encoded}
