from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from gammascope.forensics import METHODS, Picture, evidence_of
from gammascope.imaging.codecs import Encoding, encode, reencode
from gammascope.imaging.decode import decode
from gammascope.pipeline import Besides, Execution, Pipeline
from gammascope.report import Strength


@pytest.fixture(scope="module")
def composite(photos) -> bytes:
    """A photo that was saved, got a part of another one, and was saved again."""
    host = reencode(photos["coffee"], Encoding("jpeg", 70, "4:4:4"))
    host = host.copy()
    host[120:240, 200:320] = photos["astronaut"][100:220, 150:270]
    return encode(host, Encoding("jpeg", 95, "4:4:4"))


def test_a_part_that_stands_out_is_shown_as_a_weak_hint_with_its_limits(composite):
    found = {e.name: e for e in evidence_of(Picture(decode(composite).image, composite))}
    shown = found["forensics:quantisation"]
    assert "was compressed as JPEG once, the rest of the picture twice" in shown.statement
    assert shown.map is not None
    assert shown.map[180, 260] > 0.5
    assert shown.map[20, 20] < 0.5
    assert shown.strength is Strength.WEAK
    assert shown.limits


def test_a_method_that_cannot_speak_says_why_and_shows_nothing(photos):
    found = {e.name: e for e in evidence_of(Picture(photos["coffee"]))}
    silent = found["forensics:quantisation"]
    assert silent.statement.startswith("Double compression: cannot speak (not a JPEG file")
    assert silent.map is None
    assert silent.strength is Strength.NEUTRAL


def test_an_untouched_photo_shows_no_map(photos):
    for name in ("coffee", "astronaut"):
        data = encode(photos[name], Encoding("jpeg", 90))
        assert [
            e for e in evidence_of(Picture(decode(data).image, data)) if e.map is not None
        ] == []


def names(source: bytes, profile: str, besides: Besides | None = None) -> list[str]:
    pipeline = Pipeline.load(
        "mobilenet", besides=besides or Besides(), execution=Execution(profile=profile)
    )
    found = pipeline.report(source).evidence
    return [e.name.removeprefix("forensics:") for e in found if e.name.startswith("forensics:")]


def test_thorough_reports_hold_every_method_and_others_none(photos):
    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(photos["cat"][:256, :256])).save(file, "PNG")
    data = file.getvalue()
    assert names(data, "thorough") == list(METHODS)
    assert names(data, "default") == []
    assert names(data, "fast") == []
    assert names(data, "thorough", Besides(forensics=False)) == []


def test_forensics_changes_no_verdict(composite):
    with_it, without = (
        Pipeline.load(
            "mobilenet", besides=Besides(forensics=on), execution=Execution(profile="thorough")
        ).report(composite)
        for on in (True, False)
    )
    assert with_it.answers == without.answers
    assert any(e.map is not None for e in with_it.evidence if e.name.startswith("forensics:"))
