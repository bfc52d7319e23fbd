"""``gammascope report-error``: what developers need of a picture that was judged wrongly, and nothing private.

What goes in is chosen field by field. Of the file's own words nothing does unless it is asked for: metadata, its colour
profile's name and its file name may all name a person, a place or a device.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from gammascope import weights as embedded
from gammascope.apps import choices, options
from gammascope.apps.failures import refuse_unwritable

if TYPE_CHECKING:
    from gammascope.imaging.decode import Decoded
    from gammascope.pipeline import Pipeline, Scores
    from gammascope.report import Evidence, Report

FORMAT: Final = 1

_PACKAGES: Final = (
    *("gammascope", "numpy", "pillow", "pillow-heif", "opencv-python-headless"),
    *("torch", "openvino", "onnxruntime"),
)
_LEFT_OUT: Final = ("the file's name and place", "EXIF, XMP, IPTC, C2PA and text of the file")

Picture: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="The picture that was judged wrongly.")
]
TruthOption: TypeAlias = Annotated[
    choices.Truth,
    typer.Option("--truth", help="What the picture is, as far as you know."),
]
BundleFile: TypeAlias = Annotated[
    Path, typer.Option("--out", help="The JSON file to write; an older one is replaced.")
]
WithPixels: TypeAlias = Annotated[
    bool,
    typer.Option("--with-pixels", help="Write the picture beside it, too: a PNG without metadata."),
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
    profile: options.Profile = choices.ProfileName.DEFAULT,
    runtime: options.RuntimeChoice = choices.RuntimeName.AUTO,
    precision: options.PrecisionChoice = choices.PrecisionName.AUTO,
) -> None:
    """Collect what developers need to know of a picture that was judged wrongly; nothing is sent.

    The file holds scores, answers, header facts, versions and the machine; no pixels and no metadata unless asked for.
    It is printed as it is, to be read before anybody gets it.
    """
    from gammascope.apps import fusing, terminal
    from gammascope.imaging.decode import decode
    from gammascope.pipeline import Besides, Execution

    refuse_unwritable(out)
    pipeline = fusing.loaded(
        weights,
        then=None,
        zone=None,
        method=None,
        device="cpu",
        besides=Besides(),
        execution=Execution(runtime.value, precision.value, profile.value),
    )
    decoded = decode(picture)
    bundle = collected(decoded, pipeline, truth, text=with_text)
    bundle["detector"]["weights"] = weights if weights in embedded.DETECTORS else "a file"
    if with_text:
        bundle["file"]["name"] = terminal.printable(picture.name)
    text = drawn(bundle)
    out.write_text(text, "utf-8")
    typer.echo(text, nl=False)
    written = [str(out)]
    if with_pixels:
        written.append(str(_write_pixels(decoded, out)))
    else:
        terminal.say("Without pixels; --with-pixels adds them.")
    if not with_text:
        terminal.say(f"Without {' and '.join(_LEFT_OUT)}; --with-text adds what a scan says of it.")
    terminal.say(f"Written: {' and '.join(written)}. Nothing was sent: read it, then send it.")


def collected(
    decoded: Decoded, pipeline: Pipeline, truth: choices.Truth, *, text: bool
) -> dict[str, Any]:
    """Look at a picture and return what is reported, as plain types.

    Args:
        decoded: The picture with its file.
        pipeline: Judges it again.
        truth: What the user takes it for.
        text: Whether statements about the file's metadata go in.
    """
    # Notes are given apart: one of them quotes the file.
    report = pipeline.report_of(replace(decoded, notes=()), "")
    scores = pipeline.scores(decoded.image)
    return {
        "format": FORMAT,
        "truth": str(truth),
        "answers": report.to_json()["answers"],
        "scores": _scores_json(scores),
        "evidence": [_evidence_json(item, text=text) for item in report.evidence],
        "caveats": [*report.caveats, *(_note(one, text=text) for one in decoded.notes)],
        "file": _file_json(decoded, report),
        "detector": {
            "method": report.method,
            "weights_sha256": report.weights_sha256,
            "calibrated": report.calibrated,
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
    }


def _evidence_json(item: Evidence, *, text: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"name": item.name}
    if item.strength is not None:
        row["strength"] = str(item.strength)
    if text or not item.name.startswith("provenance:"):  # Those quote the file.
        row["statement"] = item.statement
    return row


def _note(note: str, *, text: bool) -> str:
    from gammascope.imaging.decode import PROFILE_NOTE

    quotes = note.startswith(PROFILE_NOTE) and not text
    return f"{PROFILE_NOTE} another profile to sRGB" if quotes else note


def _file_json(decoded: Decoded, report: Report) -> dict[str, Any]:
    """Return what the header says of how the pixels are stored."""
    from gammascope.imaging import codecs, headers
    from gammascope.imaging.decode import opened

    with opened(decoded.content, decoded.format) as file:
        mode, stored = file.mode, list(file.size)
    row = {
        "format": decoded.format,
        "bytes": decoded.file_bytes,
        "size": list(report.size),
        "stored_size": stored,
        "mode": mode,
        "parts": headers.parts(decoded.content),
    }
    if decoded.format == "jpeg":
        tables = codecs.jpeg_tables(decoded.content)
        row["jpeg_quality"] = decoded.jpeg_quality
        row["subsampling"] = codecs.jpeg_subsampling(decoded.content)
        row["quantisation_tables"] = [table.tolist() for table in tables]
    return row


def _versions() -> dict[str, str]:
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
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _write_pixels(decoded: Decoded, out: Path) -> Path:
    """Write what the detector saw, losslessly, with nothing of the file but its pixels."""
    from gammascope.imaging.codecs import Encoding, encode

    place = out.with_suffix(".png")
    place.write_bytes(encode(decoded.image, Encoding("png")))
    return place
