"""Whose quantisation tables a JPEG file uses: the standard ones at some quality, or its encoder's own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from gammascope.imaging.codecs import jpeg_quality, jpeg_tables, standard_tables
from gammascope.report import Evidence, Strength


def findings(data: bytes) -> list[Evidence]:
    """State which tables a JPEG file uses; empty for other files."""
    tables = jpeg_tables(data)
    if not tables:
        return []
    quality = _standard_quality(tables[0])
    same = quality is not None and all(
        (table == standard_tables(chroma=True)[quality - 1]).all()
        or (table == standard_tables()[quality - 1]).all()
        for table in tables[1:]
    )
    if same:
        statement = f"The JPEG tables are the standard ones at quality {quality}, which libjpeg and most programs use."
    else:
        statement = f"The JPEG tables are the encoder's own (nearest to standard quality {jpeg_quality(data)})."
    return [
        Evidence(
            "provenance:jpeg_table",
            statement,
            strength=Strength.NEUTRAL,
            limits="Tells about the last program or camera that saved the file. Many cameras, phones and Photoshop "
            "have tables of their own, but some cameras use the standard ones, and anyone can choose any table.",
        )
    ]


def _standard_quality(table: Int[np.ndarray, " 64"]) -> int | None:
    """Return the highest quality whose standard table this is (a few of the lowest share one)."""
    (same,) = np.nonzero((standard_tables() == table).all(1))
    return int(same[-1]) + 1 if len(same) else None
