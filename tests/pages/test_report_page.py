from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from skimage import data

from gammascope.forensics import METHODS
from gammascope.pages.report_page import (
    _LAYER_COLOURS,
    PICTURE_BYTES,
    FailedRow,
    PageRow,
    write_report,
)
from gammascope.report import Answer, Evidence, Report, Strength, Tile, Verdict

THRESHOLDS = (0.35, 0.8)
WRITTEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


class Elements(HTMLParser):
    """Collects tags, attributes and the text of scripts, as a browser would split the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "style":
            self.styles.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        if self.cdata_elem == "style":
            self.styles[-1] += data

    def json(self, name: str):
        return next(
            json.loads(text) for attributes, text in self.scripts if attributes.get("id") == name
        )

    def picture_ids(self) -> list[int]:
        names = [attributes.get("id") or "" for attributes, _ in self.scripts]
        return [int(name.removeprefix("picture-")) for name in names if name.startswith("picture-")]


def answer(probability: float) -> Answer:
    verdict = Verdict.NO_SIGN if probability < THRESHOLDS[0] else Verdict.UNCERTAIN
    return Answer(
        probability, Verdict.FAKE if probability >= THRESHOLDS[1] else verdict, THRESHOLDS
    )


def row(name="cat.jpg", generated=0.9, edited=0.1, pixels=None, maps=None) -> PageRow:
    pixels = data.chelsea() if pixels is None else pixels
    evidence = tuple(
        Evidence(f"mask:{kind}", f"About {kind}.", area) for kind, area in (maps or {}).items()
    )
    answers = {"generated": answer(generated), "edited": answer(edited)}
    size = (pixels.shape[1], pixels.shape[0])
    report = Report(name, size, "gamma", "ab" * 32, True, answers, evidence, ("Small.",))
    return PageRow(report, pixels)


def written(tmp_path: Path, rows, **options) -> Elements:
    path = tmp_path / "report.html"
    write_report(rows, path, title=options.pop("title", "Scan"), written=WRITTEN, **options)
    return Elements(path.read_text("utf-8"))


def image_of(uri: str) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_rows_hold_the_whole_report(tmp_path):
    page = written(tmp_path, [row(), FailedRow("broken.jpg", "Not a JPEG.")])
    content = page.json("page-data")
    (line,) = content["rows"]
    expected = row().report.to_json()
    assert {**line["report"], **content["weights"][line["weights"]]} == expected
    assert content["failed"] == [{"id": 1, "image": "broken.jpg", "reason": "Not a JPEG."}]
    assert content["questions"] == ["generated", "edited"]
    assert content["written"] == "2026-01-02T03:04:00+00:00"


def test_the_page_asks_what_the_method_was_asked(tmp_path):
    report = Report("a.jpg", (451, 300), "npr", "cd" * 32, False, {"fake": answer(0.7)})
    content = written(tmp_path, [PageRow(report, data.chelsea())]).json("page-data")
    assert content["questions"] == ["fake"]


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    page = written(tmp_path, [row(maps={"generated": np.full((300, 451), 0.9, np.float32)})])
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        assert not any(name.startswith("on") for name in attributes), "no handlers in the markup"
        assert "style" not in attributes
    assert not re.search(r"@import|url\((?!data:)", "".join(page.styles))


def test_the_policy_allows_this_script_and_style_only(tmp_path):
    page = written(tmp_path, [row()])
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    programs = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(programs) == len(page.styles) == 1

    def hashed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    directives = dict(part.strip().partition(" ")[::2] for part in (policy or "").split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    assert directives["script-src"] == hashed(programs[0])
    assert directives["style-src"] == hashed(page.styles[0])


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>.jpg",
        "</script><script>alert(1)</script>",
        "</script /><script >alert(1)</script >",
        "<!--<script >.jpg",
        "\"'&{{script}}.jpg",
        "\u2028\u202egpj.exe",
        "broken\udc80name.jpg",
    ],
)
def test_names_from_strangers_stay_names(tmp_path, name):
    plain = written(tmp_path, [row(), FailedRow("b", "r")], title="t", summary={"f": "v"})
    page = written(tmp_path, [row(name), FailedRow(name, name)], title=name, summary={name: name})
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert not any("<" in text for attributes, text in page.scripts if "type" in attributes)
    content = page.json("page-data")
    assert content["rows"][0]["report"]["image"] == content["failed"][0]["image"] == name


def test_a_previews_bytes_are_bounded_even_for_noise(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1400, 1800, 3), dtype=np.uint8)
    grain = {kind: rng.random((1400, 1800), dtype=np.float32) for kind in ("generated", "edited")}
    grain["edited"][rng.random((1400, 1800)) < 0.5] = np.nan
    page = written(tmp_path, [row(pixels=noise, maps=grain)])
    (text,) = (text for attributes, text in page.scripts if attributes.get("id") == "picture-0")
    assert len(text) <= PICTURE_BYTES


def test_overlays_cover_the_preview_and_are_tinted_where_the_map_is_high(tmp_path):
    height, width = 300, 451
    area = np.zeros((height, width), np.float32)
    area[:, 300:] = 0.9
    area[:100] = np.nan
    picture = written(tmp_path, [row(maps={"generated": area, "edited": area})]).json("picture-0")
    preview = image_of(picture["preview"])
    assert preview.size == (picture["width"], picture["height"]) == (width, height)
    assert set(picture["layers"]) == {"generated", "edited", "unexamined"}
    colours = []
    for kind in ("generated", "edited"):
        layer = np.asarray(image_of(picture["layers"][kind]).convert("RGBA"))
        alpha = layer[..., 3]
        assert alpha.shape == (height, width)
        assert alpha[200, 100] == 0, "nothing found: the photo shows unchanged"
        assert 60 < alpha[200, 400] < 255, "found: tinted, the photo still shows"
        assert alpha[200, 300] == 255, "a full line where the map passes one half"
        assert alpha[50, 400] == 0, "not examined is not found"
        colours.append(tuple(layer[200, 400, :3]))
    assert colours[0] != colours[1]
    unseen = np.asarray(image_of(picture["layers"]["unexamined"]).convert("RGBA"))[..., 3]
    assert (unseen[:99] > 0).all()
    assert (unseen[101:] == 0).all()


def test_large_pictures_are_scaled_down_and_small_ones_left(tmp_path):
    large = np.repeat(np.repeat(data.chelsea(), 4, 0), 4, 1)
    shapes = [large, data.chelsea()[:1, :1], data.chelsea()[:3], data.chelsea()[:, :1]]
    page = written(tmp_path, [row(pixels=pixels) for pixels in shapes])
    sizes = [image_of(page.json(f"picture-{index}")["preview"]).size for index in range(4)]
    assert sizes == [(1000, 665), (1, 1), (451, 3), (1, 300)]


def test_only_the_most_suspicious_rows_keep_pictures(tmp_path):
    small = data.chelsea()[:40, :40]
    chances = [(0.1, 0.1), (0.9, 0.1), (0.5, 0.1), (0.2, 0.95), (0.6, 0.1), (0.3, 0.1)]
    rows = [row(f"{i}.jpg", g, e, small) for i, (g, e) in enumerate(chances)]
    page = written(tmp_path, iter(rows), pictures=3)
    assert page.picture_ids() == [1, 3, 4]
    content = page.json("page-data")
    assert [line["pictured"] for line in content["rows"]] == [False, True, False, True, True, False]
    assert written(tmp_path, rows, pictures=0).picture_ids() == []


def test_equally_suspicious_rows_keep_the_first(tmp_path):
    rows = [row(f"{i}.jpg", pixels=data.chelsea()[:40, :40]) for i in range(4)]
    assert written(tmp_path, rows, pictures=2).picture_ids() == [0, 1]


def test_a_broken_number_does_not_take_the_page_with_it(tmp_path):
    page = written(tmp_path, [row(generated=float("nan")), row(generated=0.9)])
    first, second = page.json("page-data")["rows"]
    assert first["report"]["probability"] is None
    assert second["report"]["probability"] == 0.9


def test_a_failed_write_leaves_the_old_page_and_no_litter(tmp_path):
    path = tmp_path / "report.html"
    write_report([row()], path, title="Old")
    before = path.read_bytes()

    def interrupted():
        yield row()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(interrupted(), path, title="New")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_tiles_are_shares_of_the_picture_and_bounded(tmp_path):
    told = row()
    tiles = tuple(
        Tile((100.0 * n - 50, -20.0, 160.0, 160.0), {"generated": 0.123456}) for n in range(3)
    )
    page = written(
        tmp_path, [PageRow(replace(told.report, tiles=tiles), told.preview), row("b.jpg")]
    )
    kept = page.json("picture-0")["tiles"]
    assert kept["boxes"][0] == [0.0, 0.0, round(110 / 451, 4), round(140 / 300, 4)]
    assert kept["scores"] == {"generated": [0.123, 0.123, 0.123]}
    assert page.json("picture-1")["tiles"] == {}
    many = PageRow(replace(told.report, tiles=tiles * 5000), told.preview)
    (text,) = (
        text
        for attributes, text in written(tmp_path, [many]).scripts
        if attributes.get("id") == "picture-0"
    )
    assert len(text) <= PICTURE_BYTES


def test_findings_travel_with_strength_and_limits(tmp_path):
    told = row()
    found = Evidence("provenance:none", "Nothing.", strength=Strength.NEUTRAL, limits="No proof.")
    report = replace(told.report, evidence=(found,))
    (line,) = written(tmp_path, [PageRow(report, told.preview)]).json("page-data")["rows"]
    assert line["report"]["evidence"] == [
        {
            "name": "provenance:none",
            "statement": "Nothing.",
            "strength": "neutral",
            "limits": "No proof.",
        }
    ]


def test_what_forensics_marks_is_a_layer_of_its_own_and_hides_nothing(tmp_path):
    told = row()
    marked = np.full((300, 451), np.nan, np.float32)
    marked[100:200, 100:200] = 1
    found = Evidence("forensics:quantisation", "A part.", marked, Strength.WEAK)
    report = replace(told.report, evidence=(found,))
    page = written(tmp_path, [PageRow(report, told.preview)])
    assert list(page.json("picture-0")["layers"]) == ["forensics:quantisation"]


def test_every_forensic_method_has_a_name_and_a_colour_of_its_own_on_the_page(tmp_path):
    page = written(tmp_path, [row()])
    scripts = " ".join(text for _, text in page.scripts)
    assert [name for name in METHODS if f'"forensics:{name}": "' not in scripts] == []
    style = " ".join(page.styles)
    colours = {name: re.findall(rf"--{name}: (#\w+)", style) for name in METHODS}
    assert len({tuple(found) for found in colours.values() if found}) == len(METHODS)
    for name, (colour,) in colours.items():
        # The layer itself is painted in the colour that the legend shows.
        assert "#{:02x}{:02x}{:02x}".format(*_LAYER_COLOURS[f"forensics:{name}"]) == colour


def test_the_page_is_told_which_places_show_the_same_piece(tmp_path):
    told = row()
    repeats = (((0.1, 0.1), (0.7, 0.75)), ((0.2, 0.5), (0.5, 0.5), (0.8, 0.5)))
    found = Evidence("forensics:cloning", "A part is there again.", repeats=repeats)
    report = replace(told.report, evidence=(*told.report.evidence, found))
    page = written(tmp_path, [PageRow(report, told.preview)])
    assert page.json("picture-0")["repeats"] == [[list(p) for p in group] for group in repeats]


def test_an_empty_scan_gives_a_page(tmp_path):
    content = written(tmp_path, []).json("page-data")
    assert content["rows"] == content["failed"] == []


def test_the_page_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, gammascope.pages.report_page; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
