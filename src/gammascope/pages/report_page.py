"""The reports of a scan as one HTML page that works from disk, without a network.

Everything is inside the file: style, script, pictures, overlays, rows. The page carries a content security policy that
forbids every request and every script but its own, because file names and metadata are untrusted.

Bytes: a picture costs at most ``PICTURE_BYTES`` (0.32 MB), whatever the photo, and usually 0.05 to 0.15 MB, and at most
``OPINION_BYTES`` (0.15 MB) more for each further detector; a row without one costs its JSON, about 0.6 kB, and 0.5 kB
for each finding about the file. Only the ``PICTURES_KEPT`` most suspicious rows keep a picture, and the page says so
when others do not.
"""

from __future__ import annotations

import base64
import heapq
import html
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PillowImage

from gammascope import __version__
from gammascope.files import complete_or_absent
from gammascope.pages import policy, template, web_part
from gammascope.report import FORMAT, Report, without_numbers
from gammascope.sample import Image

PICTURES_KEPT: Final = 500

_TILES_KEPT: Final = 1_000
_TILES_BYTES: Final = 48 * _TILES_KEPT  # of JSON
_PREVIEW_BYTES: Final = 120_000
_LAYER_BYTES: Final = 24_000
_THUMBNAIL_BYTES: Final = 8_000
PICTURE_BYTES: Final = (
    math.ceil((_PREVIEW_BYTES + 3 * _LAYER_BYTES + _THUMBNAIL_BYTES) * 4 / 3) + _TILES_BYTES + 1_000
)
"""Upper bound of one picture in the page: preview, three layers and thumbnail in base64, tiles, and their names."""

OPINION_BYTES: Final = math.ceil(3 * _LAYER_BYTES * 4 / 3) + _TILES_BYTES + 1_000
"""What a further detector may add to that: three layers and its tiles."""

# Long side in pixels and WebP quality, tried in turn until the budget is met; the last fits pure noise.
_PREVIEW_STEPS: Final = ((1000, 80), (1000, 65), (800, 60), (640, 50), (480, 40), (320, 30))
_THUMBNAIL_STEPS: Final = ((160, 70), (160, 40), (112, 30), (80, 20))
# Long side in pixels and number of tints.
_LAYER_STEPS: Final = ((1000, 15), (500, 15), (250, 7), (125, 3))

# Orange and blue: the pair that stays apart in the common forms of colour blindness. The style sheet repeats all.
_LAYER_COLOURS: Final = {
    "generated": (255, 133, 0),
    "edited": (30, 136, 255),
    "forensics:quantisation": (224, 33, 138),
    "forensics:consistency": (0, 158, 96),
    "forensics:variance": (142, 92, 255),
    "forensics:shifted": (178, 84, 40),
    "forensics:grids": (0, 170, 200),
    "forensics:cloning": (232, 190, 0),
    "forensics:collage": (92, 61, 46),
    "forensics:noise": (128, 140, 0),
}
# A mark is its outline: what lies inside is the evidence, and several reasons may lie on it.
_FULL_TINT: Final = 0.4
_REASON_TINT: Final = 0.15
_FAINTEST: Final = 0.1  # below this a map is noise and is not drawn
_HATCH_PERIOD_PX: Final = 12

_SCRIPTS: Final = (
    "words.js", "opinions.js", "model.js", "list.js", "viewer.js", "findings.js", "similar.js", "detail.js",
    "sheet.js", "start.js",
)  # fmt: skip
_QUESTION_ORDER: Final = ("generated", "edited")


@dataclass(frozen=True, slots=True)
class PageRow:
    """One examined picture.

    Attributes:
        report: What was found. Of its evidence, the maps of masks and of forensic methods become overlays.
        preview: The picture the report speaks about, whole, at any size; scaled down here.
        detector: Name of what found it, where there are several.
        further: What others found, by their names.
    """

    report: Report
    preview: Image
    detector: str = ""
    further: Mapping[str, Report] = field(default_factory=dict)

    @property
    def reports(self) -> dict[str, Report]:
        """All reports by their detectors' names, the first one first."""
        return {self.detector: self.report, **self.further}


@dataclass(frozen=True, slots=True)
class FailedRow:
    """One file that could not be examined.

    Attributes:
        image: File name.
        reason: One sentence for a person.
    """

    image: str
    reason: str


def write_report(  # noqa: PLR0913 - each says what the page shows
    rows: Iterable[PageRow | FailedRow],
    path: Path,
    *,
    title: str,
    profile: str = "",
    summary: Mapping[str, str] | None = None,
    written: datetime | None = None,
    pictures: int = PICTURES_KEPT,
    numbers: bool = True,
) -> None:
    """Write one self-contained page; ``path`` appears complete or not at all.

    Rows are consumed one at a time and their pixels released at once, so a scan may stream into the page.

    Args:
        rows: In scan order, which the page keeps as one of its sort orders.
        path: Where the page goes; replaced if it exists.
        title: Heading of the page.
        profile: Under which pictures were examined; "" = not said.
        summary: Facts about the scan by name ("Folder", "Duration"), shown as they are.
        written: Date shown on the page; None = now.
        pictures: How many rows keep a picture, the most suspicious first.
        numbers: Show numbers of confidence; without them, none is in the file.

    Raises:
        OSError: If the page cannot be written.
    """
    content = _collect(rows, pictures, numbers=numbers)
    moment = written if written is not None else datetime.now(UTC)
    with complete_or_absent(path) as unfinished, unfinished.open("wb") as file:
        for piece in _page_pieces(content, title, profile, dict(summary or {}), moment):
            file.write(piece)


@dataclass(slots=True)
class _Content:
    """What the page shows, after pixels were released."""

    numbers: bool = True
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[int, bytes] = field(default_factory=dict)
    weights: list[dict[str, str]] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def _collect(rows: Iterable[PageRow | FailedRow], limit: int, *, numbers: bool) -> _Content:
    content = _Content(numbers)
    kept: list[
        tuple[tuple[int, float], int]
    ] = []  # a heap: the least suspicious picture is the next to go
    questions: set[tuple[int, str]] = set()
    for index, row in enumerate(rows):
        if isinstance(row, FailedRow):
            content.failed.append({"id": index, "image": row.image, "reason": row.reason})
            continue
        for place, report in enumerate(row.reports.values()):
            questions.update((place, question) for question in report.answers)
        content.names = content.names or list(row.reports)
        content.rows.append(_row_json(index, row, content))
        entry = (_suspicion(row.reports), -index)
        if limit <= 0 or (len(kept) >= limit and entry < kept[0]):
            continue
        if len(kept) < limit:
            heapq.heappush(kept, entry)
        else:
            del content.pictures[-heapq.heapreplace(kept, entry)[1]]
        content.pictures[index] = _script_json(_picture_json(row, tiles=numbers))
    ordered = sorted(questions, key=lambda one: (one[0], *_question_rank(one[1])))
    content.questions = [_key(content.names, place, question) for place, question in ordered]
    for line in content.rows:
        line["pictured"] = line["id"] in content.pictures
    return content


def _question_rank(name: str) -> tuple[int, str]:
    known = name in _QUESTION_ORDER
    return (_QUESTION_ORDER.index(name) if known else len(_QUESTION_ORDER), name)


def _key(names: Sequence[str], place: int, question: str) -> str:
    """Return what the script calls a question: with its detector's name where there are several."""
    return f"{question}@{names[place]}" if len(names) > 1 else question


def _suspicion(reports: Mapping[str, Report]) -> tuple[int, float]:
    """Rank by the worst verdict over detectors and questions, then by the highest probability."""
    answers = [answer for report in reports.values() for answer in report.answers.values()]
    finite = [one.probability for one in answers if math.isfinite(one.probability)]
    return max(one.verdict.gravity for one in answers), max(finite, default=0.0)


def _row_json(index: int, row: PageRow, content: _Content) -> dict[str, Any]:
    """Return the row; method and weights, the same for nearly every row, are replaced by a number."""

    def opinion(name: str, report: Report) -> dict[str, Any]:
        plain = report.to_json() if content.numbers else without_numbers(report.to_json())
        spoke = {"method": plain.pop("method"), "weights_sha256": plain.pop("weights_sha256")}
        if spoke not in content.weights:
            content.weights.append(spoke)
        return {"detector": name, "weights": content.weights.index(spoke), "report": plain}

    first, *further = (opinion(name, report) for name, report in row.reports.items())
    rank, chance = _suspicion(row.reports)
    suspicion = rank + chance if content.numbers else rank
    return {"id": index, "suspicion": suspicion, **first, "further": further}


def _picture_json(row: PageRow, *, tiles: bool) -> dict[str, Any]:
    """Return preview, thumbnail and overlays of one picture as data URIs."""
    size = fitted((row.preview.shape[1], row.preview.shape[0]), _PREVIEW_STEPS[0][0])
    how = PillowImage.Resampling.LANCZOS
    photo = PillowImage.fromarray(row.preview).resize(size, how, reducing_gap=2.0)
    preview = _photo(photo, _PREVIEW_STEPS, _PREVIEW_BYTES)
    names = list(row.reports)
    layers: dict[str, str] = {}
    scored: dict[str, dict[str, Any]] = {}
    for place, report in enumerate(row.reports.values()):
        for name, uri in _layers(report, size).items():
            layers[_key(names, place, name)] = uri
        if tiles and (found := _tiles_json(report)):
            scores = {_key(names, place, name): one for name, one in found["scores"].items()}
            scored[names[place]] = found | {"scores": scores}
    return {
        "repeats": [places for one in row.report.evidence for places in one.repeats],
        "width": preview.width,
        "height": preview.height,
        "preview": preview.uri,
        "thumbnail": _photo(photo, _THUMBNAIL_STEPS, _THUMBNAIL_BYTES).uri,
        "layers": layers,
        "tiles": scored.pop(row.detector, {}),
        "further_tiles": list(scored.values()),
    }


def _layers(report: Report, size: tuple[int, int]) -> dict[str, str]:
    """Return the maps of one detector as overlays of a size, with what it did not look at."""
    layers: dict[str, str] = {}
    unseen: Bool[np.ndarray, "h w"] = np.zeros((size[1], size[0]), bool)
    for item in report.evidence:
        name = item.name.removeprefix("mask:")
        if item.map is None or not item.map.size or name not in _LAYER_COLOURS:
            continue
        shrunk = shrunk_map(item.map, size)
        reason = name.startswith("forensics:")
        tint = _REASON_TINT if reason else _FULL_TINT
        layers[name] = _layer(np.nan_to_num(shrunk, nan=0.0), _LAYER_COLOURS[name], tint)
        if not reason:
            unseen |= np.isnan(shrunk)
    if unseen.any():
        layers["unexamined"] = _hatching(unseen)
    return layers


def _tiles_json(report: Report) -> dict[str, Any]:
    """Return the tiles' corners as shares of the picture, and their probabilities by question."""
    tiles = report.tiles[:_TILES_KEPT]
    if not tiles:
        return {}
    boxes = [
        [
            round(min(max(edge / extent, 0.0), 1.0), 4)
            for edge, extent in zip(
                (left, top, left + width, top + height), 2 * report.size, strict=True
            )
        ]
        for left, top, width, height in (tile.box for tile in tiles)
    ]
    scores = {
        question: [round(tile.probabilities[question], 3) for tile in tiles]
        for question in tiles[0].probabilities
    }
    return {"boxes": boxes, "scores": scores}


@dataclass(frozen=True, slots=True)
class _Encoded:
    uri: str
    width: int
    height: int


def _photo(photo: PillowImage.Image, steps: Iterable[tuple[int, int]], budget: int) -> _Encoded:
    """Encode as WebP at the first step that fits ``budget`` bytes, or at the last."""
    for long_side, quality in steps:
        size = fitted(photo.size, long_side)
        data = io.BytesIO()
        photo.resize(size, PillowImage.Resampling.LANCZOS).save(
            data, "WEBP", quality=quality, method=4
        )
        if data.tell() <= budget:
            break
    return _Encoded(_data_uri("image/webp", data.getvalue()), *size)


def fitted(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Scale a width and height down to ``long_side``; never up, never to nothing."""
    share = min(1.0, long_side / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def _layer(values: Float[np.ndarray, "h w"], colour: tuple[int, int, int], tint: float) -> str:
    """Return a map as a transparent PNG: at most ``tint`` by value, a full line where the map passes one half."""
    for long_side, tints in _LAYER_STEPS:
        small = _resized(values, fitted((values.shape[1], values.shape[0]), long_side))
        level = np.where(small < _FAINTEST, 0, np.ceil(np.clip(small, 0, 1) * tints - 0.5))
        level[_outline(small > 0.5, thick=long_side >= 1000)] = tints + 1
        alphas = [round(255 * tint * step / tints) for step in range(tints + 1)] + [255]
        data = _indexed_png(level.astype(np.uint8), [colour] * len(alphas), alphas)
        if len(data) <= _LAYER_BYTES:
            break
    return _data_uri("image/png", data)


def _hatching(unseen: Bool[np.ndarray, "h w"]) -> str:
    """Return a PNG that greys and hatches what was not looked at."""
    for long_side, _ in _LAYER_STEPS:
        width, height = fitted((unseen.shape[1], unseen.shape[0]), long_side)
        share = _resized(unseen.astype(np.float32), (width, height))
        rows, columns = np.mgrid[:height, :width]
        line = (rows + columns) % _HATCH_PERIOD_PX < _HATCH_PERIOD_PX // 4
        level = np.where(share >= 0.5, np.where(line, 2, 1), 0)
        colours = [(0, 0, 0), (70, 74, 80), (235, 238, 242)]
        data = _indexed_png(level.astype(np.uint8), colours, [0, 120, 130])
        if len(data) <= _LAYER_BYTES:
            break
    return _data_uri("image/png", data)


def shrunk_map(
    values: Float[np.ndarray, "h w"], size: tuple[int, int]
) -> Float[np.ndarray, "h2 w2"]:
    """Bring a map to a (width, height), averaging only over what was examined; NaN where most was not."""
    missing = np.isnan(values)
    if not missing.any():
        return _resized(values.astype(np.float32, copy=False), size)
    total = _resized(np.where(missing, 0, values).astype(np.float32), size)
    weight = 1 - _resized(missing.astype(np.float32), size)
    average = np.full_like(total, np.nan)
    np.divide(total, weight, out=average, where=weight >= 0.5)
    return average


def _resized(values: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "h2 w2"]:
    if size == (values.shape[1], values.shape[0]):
        return values
    shrinks = size[0] * size[1] < values.size
    how = PillowImage.Resampling.BOX if shrinks else PillowImage.Resampling.BILINEAR
    resized: Float[np.ndarray, "h2 w2"] = np.asarray(
        PillowImage.fromarray(values).resize(size, how)
    )
    return resized


def _outline(inside: Bool[np.ndarray, "h w"], *, thick: bool) -> Bool[np.ndarray, "h w"]:
    """Return the inner border of a region, one pixel wide or two."""
    core = inside
    for _ in range(2 if thick else 1):
        wide = np.pad(core, 1, mode="edge")
        core = np.logical_and.reduce(
            [core, wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]]
        )
    outline: Bool[np.ndarray, "h w"] = inside & ~core
    return outline


def _indexed_png(
    level: UInt8[np.ndarray, "h w"], colours: list[tuple[int, int, int]], alphas: list[int]
) -> bytes:
    palette = PillowImage.frombytes("P", (level.shape[1], level.shape[0]), level.tobytes())
    palette.putpalette([channel for colour in colours for channel in colour])
    data = io.BytesIO()
    palette.save(data, "PNG", transparency=bytes(alphas))
    return data.getvalue()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _page_pieces(
    content: _Content, title: str, profile: str, summary: dict[str, str], moment: datetime
) -> Iterable[bytes]:
    """Yield the page in order, so that it is never whole in memory a second time."""
    script = "\n".join(web_part(name) for name in _SCRIPTS)
    style = web_part("page.css")
    data = {
        "format": FORMAT,
        "title": title,
        "written": moment.astimezone(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "profile": profile,
        "questions": content.questions,
        "numbers": content.numbers,
        "weights": content.weights,
        "rows": content.rows,
        "failed": content.failed,
    }
    filled = {
        "policy": html.escape(policy(script, style)),
        "title": html.escape(title),
        "written": html.escape(moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        "summary": "".join(
            f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>"
            for k, v in summary.items()
        ),
        "style": style,
        "script": script,
        "viewer": web_part("viewer.html"),
    }
    for at, piece in enumerate(template("page.html")):
        if at % 2 == 0:
            yield piece.encode()
        elif piece == "data":
            yield _script_json(data)
        elif piece == "pictures":
            for index in sorted(content.pictures):
                yield f'<script type="application/json" id="picture-{index}">'.encode()
                yield content.pictures[index]
                yield b"</script>\n"
        else:
            # A file name may hold bytes that are no text; they arrive as lone surrogates.
            yield filled[piece].encode("utf-8", "replace")


def _script_json(value: Any) -> bytes:
    """Return JSON that cannot end its script element, in ASCII, without NaN."""
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return (
        text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode("ascii")
    )


def _finite(value: Any) -> Any:
    """Replace numbers JSON does not know by null: one broken row must not take the page with it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
