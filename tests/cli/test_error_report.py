"""What a report of an error holds, and above all what it does not: nothing private of a file that is full of it."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import torch
from PIL import ImageCms
from PIL.ExifTags import GPS, IFD, Base
from typer.testing import CliRunner

from gammascope import checkpoints, settings
from gammascope.cli.app import app
from gammascope.cli.error_report import drawn
from gammascope.detectors import gamma
from gammascope.imaging import headers

SECRETS = (
    *("Erika Mustermann", "SN-4711-0815", "LENS-2222", "Heidestrasse 17", "Geheimbild"),
    *("Makerbytes", "Hasselblad", "2024:05:06", "2024-05-06", "Erikas screen", "erika@example.org"),
)
LATITUDE = (52, 31, 12.3456)


def xmp() -> bytes:
    inner = (
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        'xmp:CreatorTool="Adobe Photoshop by Erika Mustermann" photoshop:City="Heidestrasse 17">'
        "<dc:creator><rdf:Seq><rdf:li>Erika Mustermann</rdf:li></rdf:Seq></dc:creator></rdf:Description>"
    )
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"{inner}</rdf:RDF></x:xmpmeta>"
    ).encode()


def exif() -> PIL.Image.Exif:
    block = PIL.Image.Exif()
    block[Base.Artist] = block[Base.Copyright] = "Erika Mustermann"
    block[Base.ImageDescription] = "Geheimbild"
    block[Base.Make] = block[Base.Model] = "Hasselblad"
    block[Base.Software] = "Midjourney of erika@example.org"
    block[Base.DateTime] = "2024:05:06 07:08:09"
    camera = block.get_ifd(IFD.Exif)
    camera[Base.BodySerialNumber], camera[Base.LensSerialNumber] = "SN-4711-0815", "LENS-2222"
    camera[Base.CameraOwnerName] = "Erika Mustermann"
    camera[Base.MakerNote] = b"Makerbytes SN-4711-0815"
    camera[Base.UserComment] = b"ASCII\0\0\0Geheimbild, Steps: 20, Sampler: Euler, Seed: 1"
    camera[Base.DateTimeOriginal] = "2024:05:06 07:08:09"
    gps = block.get_ifd(IFD.GPSInfo)
    gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "N", LATITUDE
    return block


def profile() -> bytes:
    """A profile that is not sRGB, and carries a name of somebody's."""
    rgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    old, named = ("sRGB built-in".encode("utf-16-be"), "Erikas screen".encode("utf-16-be"))
    assert len(old) == len(named)
    at = rgb.index(old)
    rgb[at : at + len(old)] = named
    entry = rgb.index(b"rXYZ")  # In the table of tags: name, place, length.
    place = int.from_bytes(rgb[entry + 4 : entry + 8], "big")
    rgb[place + 8 : place + 12] = (50_000).to_bytes(4, "big")  # Redder than sRGB's red.
    return bytes(rgb)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A checkpoint that answers at once, whatever it answers."""
    torch.manual_seed(0)
    detector = gamma.build(gamma.METHOD.tiny)
    facts = checkpoints.Facts("gamma", settings.plain(gamma.METHOD.tiny), detector.view)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoints.save(path, detector, facts)
    return path


@pytest.fixture
def private(photos, tmp_path):
    """A JPEG file with all that a file may tell of a person, in a folder and under a name that do, too."""
    folder = tmp_path / "Erika Mustermann"
    folder.mkdir()
    path = folder / "Geheimbild Erika Mustermann.jpg"
    PIL.Image.fromarray(np.ascontiguousarray(photos["cat"][:160, :200])).save(
        path,
        quality=83,
        exif=exif(),
        xmp=xmp(),
        comment=b"Geheimbild",
        icc_profile=profile(),
    )
    return path


def run(*arguments):
    given = ["report-error", *map(str, arguments)]
    return CliRunner().invoke(app, given, catch_exceptions=False)


def test_the_made_file_is_as_private_as_it_claims(private):
    content = private.read_bytes()
    assert [one for one in SECRETS if one.encode() not in content] == [
        "2024-05-06",
        "Erikas screen",
    ]
    assert "Erikas screen".encode("utf-16-be") in content
    with PIL.Image.open(private) as image:
        assert image.getexif().get_ifd(IFD.GPSInfo)[GPS.GPSLatitude] == pytest.approx(LATITUDE)


@pytest.mark.parametrize("pixels", [False, True])
def test_nothing_private_gets_in(private, tiny, tmp_path, pixels):
    out = tmp_path / "sent" / "bundle.json"
    asked = ("--with-pixels",) if pixels else ()
    result = run(private, "--truth", "real", "--weights", tiny, "--out", out, *asked)
    assert result.exit_code == 0
    said = result.stdout + out.read_text()
    shown, sent = json.loads(result.stdout), json.loads(out.read_text())
    png = base64.b64decode(sent.pop("pixels", {"png": ""})["png"])
    shown.pop("pixels", None)
    assert shown == sent, "what is sent was shown first"
    for secret in (*SECRETS, "Erikas", "Mustermann", "12.3456", str(tmp_path)):
        assert secret not in said, secret
    assert [path.name for path in out.parent.iterdir()] == ["bundle.json"], "one file to send"
    assert bool(png) == pixels
    if pixels:
        assert headers.parts(png) == ["IHDR", "IDAT", "IEND"]
        with PIL.Image.open(private) as original, PIL.Image.open(io.BytesIO(png)) as image:
            assert image.size == original.size
            assert not image.info


def test_a_text_chunk_and_a_hostile_name_stay_out_too(photos, tiny, tmp_path):
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("parameters", "portrait of Erika Mustermann, Steps: 20, Sampler: Euler, Seed: 1")
    info.add_itxt("XML:com.adobe.xmp", xmp().decode())
    path = tmp_path / "Erika Mustermann\n\x1b[31m.png"
    PIL.Image.fromarray(photos["cat"][:160, :200].copy()).save(path, pnginfo=info, exif=exif())
    result = run(path, "--truth", "fake", "--weights", tiny, "--out", tmp_path / "bundle.json")
    assert [one for one in (*SECRETS, "\x1b") if one in result.stdout] == []
    bundle = json.loads(result.stdout)
    assert bundle["file"]["parts"][0] == "IHDR"
    assert "provenance:generator" in [item["name"] for item in bundle["evidence"]], (
        "that there were settings is told, what they were is not"
    )


def test_text_comes_along_where_it_is_asked_for(private, tiny, tmp_path):
    out = tmp_path / "bundle.json"
    result = run(private, "--truth", "real", "--weights", tiny, "--out", out, "--with-text")
    bundle = json.loads(result.stdout)
    assert bundle["file"]["name"] == private.name
    statements = " ".join(item.get("statement", "") for item in bundle["evidence"])
    assert "Hasselblad" in statements
    for never in ("SN-4711-0815", "LENS-2222", "12.3456", "Makerbytes"):
        assert never not in result.stdout


def test_it_holds_what_developers_need(private, tmp_path):
    out = tmp_path / "bundle.json"
    result = run(private, "--truth", "real", "--weights", "mobilenet", "--out", out)
    bundle = json.loads(result.stdout)
    assert bundle["truth"] == "real"
    assert set(bundle["answers"]) == {"generated", "edited"}
    assert len(bundle["scores"]["by_view"]["main"]) == len(bundle["scores"]["boxes"])
    file = bundle["file"]
    assert (file["format"], file["size"], file["subsampling"]) == ("jpeg", [200, 160], "4:2:0")
    assert [len(table) for table in file["quantisation_tables"]] == [64, 64, 64]
    assert "colours converted from another profile to sRGB" in bundle["caveats"]
    assert {"APP1 exif", "APP1 xmp", "APP2 icc", "COM", "SOF0"} <= set(file["parts"])
    assert re.fullmatch("[0-9a-f]{64}", bundle["detector"]["weights_sha256"])
    assert (bundle["detector"]["weights"], bundle["detector"]["profile"]) == (
        "mobilenet",
        "default",
    )
    assert {"python", "gammascope", "numpy", "pillow"} <= set(bundle["versions"])
    assert set(bundle["machine"]) == {"system", "architecture", "processor", "cores"}


def test_weights_in_a_folder_of_somebodys_are_not_named(private, tiny, tmp_path):
    copied = tmp_path / "Erika Mustermann" / "Geheimbild.safetensors"
    copied.write_bytes(tiny.read_bytes())
    out = tmp_path / "bundle.json"
    result = run(private, "--truth", "unknown", "--weights", copied, "--out", out)
    assert json.loads(result.stdout)["detector"]["weights"] == "a file"
    assert "Geheim" not in result.stdout


def test_a_broken_picture_is_reported_with_its_error_and_header(private, tiny, tmp_path):
    private.write_bytes(private.read_bytes()[: private.read_bytes().index(b"\xff\xda") + 40])
    out = tmp_path / "bundle.json"
    result = run(private, "--truth", "real", "--weights", tiny, "--out", out, "--with-pixels")
    assert result.exit_code == 0
    assert "there are no pixels" in result.stderr
    assert result.stdout == out.read_text()
    bundle = json.loads(result.stdout)
    assert bundle["error"].startswith("UndecodableImageError: ")
    assert not {"answers", "scores", "evidence", "pixels"} & set(bundle)
    file = bundle["file"]
    assert (file["format"], file["stored_size"]) == ("jpeg", [200, 160])
    assert file["bytes"] == private.stat().st_size
    assert {"APP1 exif", "SOF0"} <= set(file["parts"])
    assert {"detector", "versions", "machine"} <= set(bundle)
    for secret in (*SECRETS, "Mustermann", str(tmp_path)):
        assert secret not in result.stdout, secret


@pytest.mark.parametrize(
    ("content", "error", "kind"),
    [
        (b"", "UndecodableImageError: empty file", None),
        (b"Dear Erika", "NotAnImageError: ", None),
        (b"\x89PNG\r\n\x1a\nErika", "UndecodableImageError: ", "png"),
        (b"\xff\xd8\xff", "UndecodableImageError: ", "jpeg"),
        (b"II*\0\xff\xff\xff\xff", "UndecodableImageError: ", "tiff"),
        (b"\0\0\0\x18ftypavif", "UndecodableImageError: ", "avif"),
    ],
)
def test_a_file_of_which_nothing_can_be_read_is_reported_too(content, error, kind, tiny, tmp_path):
    path = tmp_path / "letter.jpg"
    path.write_bytes(content)
    result = run(path, "--truth", "real", "--weights", tiny, "--out", tmp_path / "bundle.json")
    assert result.exit_code == 0
    bundle = json.loads(result.stdout)
    assert bundle["error"].startswith(error)
    assert bundle["file"].get("format") == kind
    assert "Erika" not in result.stdout
    assert "letter" not in result.stdout


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    path = tmp_path / "letter.jpg"
    result = run(path, "--truth", "real", "--out", tmp_path / "bundle.json")
    assert result.exit_code == 3
    assert not (tmp_path / "bundle.json").exists()
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_line_for_each_fact():
    facts = {"one": 1, "some": [1, 2], "more": {"a": [1, 2], "b": "c\n"}, "none": {}}
    text = drawn(facts)
    assert json.loads(text) == facts
    assert len(text.splitlines()) == 2 + 1 + 4 + 4 + 1


def test_parts_are_named_in_order_and_counted(photos):
    image = PIL.Image.fromarray(photos["cat"][:160, :200].copy())

    def saved(kind: str, **options) -> list[str]:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return headers.parts(file.getvalue())

    assert saved("jpeg") == ["APP0 jfif", "DQT x 2", "SOF0", "DHT x 4"]
    assert saved("webp") == ["VP8 "]
    assert saved("webp", lossless=True, exif=exif()) == ["VP8X", "VP8L", "EXIF"]
    assert saved("avif") == ["ftyp", "meta", "mdat"]
    assert saved("bmp") == []
    assert headers.parts(b"\0\0\0\0ftyp") == ["ftyp"]
