"""``gammascope report-error``: what developers need of a picture that was judged wrongly, and nothing private.

What goes in is chosen field by field. Of the file's own words nothing does unless it is asked for: metadata, its colour
profile's name and its file name may all name a person, a place or a device.
"""

from __future__ import annotations

import base64
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import typer

from gammascope import machine
from gammascope import weights as embedded
from gammascope.cli import options
from gammascope.cli.failures import refuse_unwritable

if TYPE_CHECKING:
    from gammascope.detection.pipeline import Pipeline
    from gammascope.detection.scores import Scores
    from gammascope.errors import UndecodableImageError
    from gammascope.imaging.decode import Decoded
    from gammascope.report import Evidence, Report

FORMAT: Final = 1

_PACKAGES: Final = (
    *("gammascope", "numpy", "pillow", "pillow-heif", "opencv-python-headless"),
    *("torch", "openvino", "onnxruntime"),
)
_LEFT_OUT: Final = ("the file's name and place", "EXIF, XMP, IPTC, C2PA and text of the file")

Truth: TypeAlias = Literal["real", "fake", "manipulated", "unknown"]
"""What a picture is, as labels of a manifest say it."""

Picture: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="The picture that was judged wrongly.")
]
TruthOption: TypeAlias = Annotated[
    Truth,
    typer.Option("--truth", help="What the picture is, as far as you know."),
]
BundleFile: TypeAlias = Annotated[
    Path, typer.Option("--out", help="The JSON file to write; an older one is replaced.")
]
WithPixels: TypeAlias = Annotated[
    bool,
    typer.Option("--with-pixels", help="Put in the picture, too: a PNG without metadata."),
]
WithText: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--with-text",
        help="Put in what a scan says of the file's metadata: camera, date, program, prompt, signer.",
    ),
]


def report_error(  # noqa: PLR0913, PLR0917 - each is an option
    picture: Picture,
    truth: TruthOption,
    out: BundleFile = Path("report-error.json"),
    with_pixels: WithPixels = False,
    with_text: WithText = False,
    weights: options.Weights = "default",
    profile: options.Profile = "default",
    runtime: options.RuntimeChoice = "auto",
    precision: options.PrecisionChoice = "auto",
) -> None:
    """Collect what developers need to know of a picture that was judged wrongly; nothing is sent.

    The file holds scores, answers, header facts, versions and the machine; no pixels and no metadata unless asked for.
    It is printed, to be read before anybody gets it. Of a picture that cannot be decoded it holds the error.
    """
    from gammascope.cli import detector, terminal
    from gammascope.detection.pipeline import Execution
    from gammascope.errors import UndecodableImageError
    from gammascope.imaging.decode import decode

    refuse_unwritable(out, ".json")
    pipeline = detector.load(weights, execution=Execution(runtime, precision, profile))
    try:
        decoded = decode(picture)
    except UndecodableImageError as error:
        bundle = refused(_content(picture, error), pipeline, truth)
        left_out = "The picture cannot be decoded, so there are no pixels."
    else:
        bundle = collected(decoded, pipeline, truth, text=with_text, pixels=with_pixels)
        left_out = "" if with_pixels else "Without pixels; --with-pixels adds them."
    bundle["detector"]["weights"] = weights if weights in embedded.DETECTORS else "a file"
    if with_text:
        bundle["file"]["name"] = terminal.printable(picture.name)
    out.write_text(drawn(bundle), "utf-8")
    if "pixels" in bundle:
        typer.echo(drawn(bundle | {"pixels": "In the file; nobody reads base64."}), nl=False)
    else:
        typer.echo(drawn(bundle), nl=False)
    if left_out:
        terminal.say(left_out)
    if not with_text:
        terminal.say(f"Without {' and '.join(_LEFT_OUT)}; --with-text adds what a scan says of it.")
    terminal.say(f"Written: {out}. Nothing was sent: read it, then send it.")


def collected(
    decoded: Decoded, pipeline: Pipeline, truth: Truth, *, text: bool, pixels: bool
) -> dict[str, Any]:
    """Look at a picture and return what is reported, as plain types.

    Args:
        decoded: The picture with its file.
        pipeline: Judges it again.
        truth: What the user takes it for.
        text: Whether statements about the file's metadata go in.
        pixels: Whether the picture goes in: what the detector saw, as a PNG in base64.
    """
    # Notes are given apart: one of them quotes the file.
    report = pipeline.report_of(replace(decoded, notes=()), "")
    scores = pipeline.scores(decoded.image)
    bundle = {
        "format": FORMAT,
        "truth": truth,
        "answers": report.to_json()["answers"],
        "scores": _scores_json(scores),
        "evidence": [_evidence_json(item, text=text) for item in report.evidence],
        "caveats": [*report.caveats, *(_note(one, text=text) for one in decoded.notes)],
        "file": _file_json(decoded, report),
        **_circumstances(pipeline, calibrated=report.calibrated),
    }
    return bundle | ({"pixels": {"png": _png(decoded)}} if pixels else {})


def refused(content: bytes, pipeline: Pipeline, truth: Truth) -> dict[str, Any]:
    """Return what is reported of a file that cannot be decoded: why, and what its header says, as plain types.

    Args:
        content: The file.
        pipeline: What would have judged it.
        truth: What the user takes it for.
    """
    return {
        "format": FORMAT,
        "truth": truth,
        "error": _reason(content),
        "file": {"bytes": len(content)} | _header_json(content),
        **_circumstances(pipeline, calibrated=bool(pipeline.facts.calibration)),
    }


def _content(picture: Path, error: UndecodableImageError) -> bytes:
    """Return a file that was refused; where not even its bytes can be read, there is nothing to report but that."""
    from gammascope.errors import UndecodableImageError
    from gammascope.imaging.decode import content_of

    try:
        return content_of(picture)
    except UndecodableImageError:
        raise error from None


def _reason(content: bytes) -> str:
    """Say why a file is refused, without its name, which may be private."""
    from gammascope.errors import UndecodableImageError
    from gammascope.imaging.decode import decode

    try:
        decode(content)
    except UndecodableImageError as error:
        return f"{type(error).__name__}: {str(error).removeprefix('<memory>: ')}"
    return "It could be decoded when it was read a second time."


def _circumstances(pipeline: Pipeline, *, calibrated: bool) -> dict[str, Any]:
    """Return what looks at the picture, and where."""
    return {
        "detector": {
            "method": pipeline.facts.method,
            "weights_sha256": pipeline.weights_sha256,
            "calibrated": calibrated,
            "profile": pipeline.profile,
            "network": pipeline.network.name,
        },
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": _machine(),
    }


def drawn(bundle: Mapping[str, Any]) -> str:
    """Return JSON that a person can read: a line for each fact.

    >>> print(drawn({"a": 1, "b": {"c": [1, 2], "d": {}}}))
    {
     "a": 1,
     "b": {
      "c": [1, 2],
      "d": {}
     }
    }
    <BLANKLINE>
    """
    lines = []
    for name, value in bundle.items():
        if isinstance(value, dict | list) and value:
            lines.append(f" {json.dumps(name)}: {_lines(value)}")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _lines(value: dict[str, Any] | list[Any]) -> str:
    if isinstance(value, dict):
        inside = [f"  {json.dumps(key)}: {json.dumps(one)}" for key, one in value.items()]
        return "{\n" + ",\n".join(inside) + "\n }"
    return "[\n" + ",\n".join(f"  {json.dumps(one)}" for one in value) + "\n ]"


def _scores_json(scores: Scores) -> dict[str, Any]:
    """Return raw logits: of the picture, and of every view with its place."""
    return {
        "logit": scores.logit,
        "answers": dict(scores.answers),
        "boxes": [list(box) for box in scores.boxes],
        "by_view": {name or "main": values.tolist() for name, values in scores.by_view.items()},
        "overview": scores.overview,
        "mosaic": scores.mosaic,
    }


def _evidence_json(item: Evidence, *, text: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"name": item.name}
    if item.strength is not None:
        row["strength"] = str(item.strength)
    if text or not item.name.startswith("provenance:"):  # Those quote the file.
        row["statement"] = item.statement
    return row


def _note(note: str, *, text: bool) -> str:
    from gammascope.imaging.colours import PROFILE_NOTE

    quotes = note.startswith(PROFILE_NOTE) and not text
    return f"{PROFILE_NOTE} another profile to sRGB" if quotes else note


def _file_json(decoded: Decoded, report: Report) -> dict[str, Any]:
    """Return how the file stores its pixels."""
    from gammascope.imaging import codecs

    row = {"bytes": decoded.file_bytes, "size": list(report.size)} | _header_json(decoded.content)
    if decoded.format == "jpeg":
        tables = codecs.jpeg_tables(decoded.content)
        row["jpeg_quality"] = decoded.jpeg_quality
        row["subsampling"] = codecs.jpeg_subsampling(decoded.content)
        row["quantisation_tables"] = [table.tolist() for table in tables]
    return row


def _header_json(content: bytes) -> dict[str, Any]:
    """Return what the header says of how the pixels are stored; of a broken one, as much as can be read."""
    from gammascope.errors import UndecodableImageError
    from gammascope.imaging import headers
    from gammascope.imaging.decode import format_of, opened

    row: dict[str, Any] = {"parts": headers.parts(content)}
    try:
        row["format"] = format_of(content)
        with opened(content, row["format"]) as file:
            row["mode"], row["stored_size"] = file.mode, list(file.size)
    except UndecodableImageError:  # no format that is known
        pass
    except Exception as error:  # Decoders raise almost any type on hostile bytes.
        row["header"] = f"cannot be read ({type(error).__name__})"
    return row


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, Any]:
    """Return what may change an answer; neither the machine's name nor its user's."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": machine.processor(),
        "cores": os.cpu_count(),
    }


def _png(decoded: Decoded) -> str:
    """Return what the detector saw, losslessly, with nothing of the file but its pixels, in base64."""
    from gammascope.imaging.codecs import Encoding, encode

    return base64.b64encode(encode(decoded.image, Encoding("png"))).decode("ascii")
