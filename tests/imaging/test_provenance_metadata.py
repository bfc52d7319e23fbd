"""Every kind of metadata, written as programs write it and read back as a finding."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import numpy as np
import PIL.Image
import pytest
from PIL.ExifTags import GPS, IFD, Base
from PIL.PngImagePlugin import PngInfo
from skimage import data

from gammascope.errors import UndecodableImageError
from gammascope.imaging.provenance import provenance_of
from gammascope.report import Evidence, Strength

PHOTO = data.chelsea()[:200, :300]
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
WEBUI = (
    "a portrait of an old fisherman, sharp\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model hash: abc, Model: dream_v8"
)
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red barn", "clip": ["4", 1]}},
}


def saved(kind: str, image: np.ndarray = PHOTO, **settings: Any) -> bytes:
    file = io.BytesIO()
    if isinstance(
        settings.get("exif"), PIL.Image.Exif
    ):  # Pillow writes sub-directories of TIFF from bytes only.
        settings["exif"] = settings["exif"].tobytes()
    PIL.Image.fromarray(image).save(file, kind.upper(), **settings)
    return file.getvalue()


def png(texts: dict[str, str], **settings: Any) -> bytes:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text, **settings)
    return saved("png", pnginfo=info)


def exif_of(main: dict[int, Any], camera: dict[int, Any] | None = None) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif.update(main)
    exif.get_ifd(IFD.Exif).update(camera or {})
    return exif


def xmp(inside: str) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dcterms="http://purl.org/dc/terms/" '
        'xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" '
        f'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" {inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def found(file: bytes) -> dict[str, Evidence]:
    return {item.name: item for item in provenance_of(file)}


# What is not there


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "gif", "bmp", "avif"])
def test_a_bare_file_says_nothing_and_that_proves_nothing(kind):
    items = provenance_of(saved(kind))
    assert items[0].name == "provenance:none"
    assert "proves nothing" in items[0].limits
    assert {item.strength for item in items} == {Strength.NEUTRAL}


def test_every_finding_has_strength_and_limits_and_the_strongest_come_first():
    exif = exif_of({Base.Make: "Canon", Base.Software: "Midjourney"})
    items = provenance_of(
        saved("jpeg", exif=exif, xmp=xmp(f'Iptc4xmpExt:DigitalSourceType="{IPTC}print">'))
    )
    order = list(Strength)
    ranks = [order.index(item.strength) for item in items if item.strength is not None]
    assert ranks == sorted(ranks)
    assert len(ranks) == len(items) >= 4
    assert all(item.limits.endswith(".") and item.statement.endswith(".") for item in items)
    assert all(item.name.startswith("provenance:") for item in items)


@pytest.mark.parametrize(("file", "reason"), [(b"", "empty file"), (b"no image", "not an image")])
def test_what_is_no_image_is_refused(file, reason, tmp_path):
    with pytest.raises(UndecodableImageError, match=f"^<memory>: {reason}"):
        provenance_of(file)
    with pytest.raises(UndecodableImageError, match=r"^gone\.jpg: cannot be read"):
        provenance_of(tmp_path / "gone.jpg")


# XMP

FORMS = {
    "attribute": 'Iptc4xmpExt:DigitalSourceType="{}">',
    "element": "><Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>",
    "resource": '><Iptc4xmpExt:DigitalSourceType rdf:resource="{}"/>',
    "list": "><Iptc4xmpExt:DigitalSourceType><rdf:Bag><rdf:li>{}</rdf:li></rdf:Bag></Iptc4xmpExt:DigitalSourceType>",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "avif"])
def test_the_digital_source_type_is_read_in_every_form_and_format(kind, form):
    packet = xmp(FORMS[form].format(IPTC + "trainedAlgorithmicMedia"))
    settings: dict[str, Any] = {"xmp": packet}
    if kind == "png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        settings = {"pnginfo": info}
    if kind == "tiff":
        settings = {"tiffinfo": {700: packet}}
    item = found(saved(kind, **settings))["provenance:source_type"]
    assert "trainedAlgorithmicMedia: made by a generative AI model" in item.statement
    assert item.strength is Strength.MODERATE


@pytest.mark.parametrize(
    ("value", "words", "strength"),
    [
        (IPTC + "compositeWithTrainedAlgorithmicMedia", "with the help of", Strength.MODERATE),
        (IPTC + "digitalCapture", "taken by a digital camera", Strength.WEAK),
        ("http://example.com/else/", "else: a term that is not known here", Strength.WEAK),
    ],
)
def test_terms_are_put_in_words(value, words, strength):
    packet = xmp(FORMS["attribute"].format(value))
    item = found(saved("jpeg", xmp=packet))["provenance:source_type"]
    assert words in item.statement
    assert item.strength is strength


def test_programs_named_in_xmp_are_recognised():
    history = '<xmpMM:History><rdf:Seq><rdf:li stEvt:softwareAgent="Adobe Photoshop 25.0"/></rdf:Seq></xmpMM:History>'
    packet = xmp(
        f'photoshop:Credit="Made with Google AI" dcterms:provenance="https://x.example/m">{history}'
    )
    items = found(saved("jpeg", xmp=packet))
    assert "Google AI" in items["provenance:ai_software"].statement
    assert "XMP Credit" in items["provenance:ai_software"].statement
    assert "XMP softwareAgent “Adobe Photoshop 25.0”" in items["provenance:editor"].statement
    assert "https://x.example/m" in items["provenance:c2pa_elsewhere"].statement


# Generators


@pytest.mark.parametrize("keyword", ["parameters"])
@pytest.mark.parametrize("settings", [{"zip": False}, {"zip": True}])
def test_webui_settings_in_png(keyword, settings):
    item = found(png({keyword: WEBUI}, **settings))["provenance:generator"]
    assert item.strength is Strength.MODERATE
    for words in (
        "Stable Diffusion WebUI",
        "model dream_v8",
        "“a portrait of an old fisherman, sharp”",
    ):
        assert words in item.statement


@pytest.mark.parametrize("kind", ["jpeg", "webp", "tiff"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + WEBUI.encode("utf-16-be"),
        b"UNICODE\0" + WEBUI.encode("utf-16-le"),
        b"ASCII\0\0\0" + WEBUI.encode(),
        b"\0\0\0\0\0\0\0\0" + WEBUI.encode(),
        WEBUI.encode(),
    ],
    ids=["utf-16-be", "utf-16-le", "ascii", "undefined", "bare"],
)
def test_webui_settings_in_user_comments(kind, comment):
    exif = exif_of({}, {Base.UserComment: comment})
    item = found(saved(kind, exif=exif))["provenance:generator"]
    assert "old fisherman" in item.statement
    assert "model dream_v8" in item.statement


@pytest.mark.parametrize(
    ("texts", "program", "words"),
    [
        ({"prompt": json.dumps(COMFY)}, "ComfyUI", ("model sd_xl.safetensors", "“a red barn”")),
        ({"workflow": json.dumps({"last_node_id": 9, "nodes": [], "links": []})}, "ComfyUI", ()),
        (
            {
                "invokeai_metadata": json.dumps(
                    {"positive_prompt": "a lake", "model": {"name": "juggernaut"}}
                )
            },
            "InvokeAI",
            ("model juggernaut", "“a lake”"),
        ),
        ({"invokeai_graph": "{}"}, "InvokeAI", ()),
        (
            {
                "Software": "NovelAI",
                "Comment": json.dumps({"prompt": "1girl", "sampler": "k", "uc": ""}),
            },
            "NovelAI",
            ("“1girl”",),
        ),
        (
            {
                "parameters": json.dumps(
                    {"sui_image_params": {"prompt": "fox", "model": "flux-dev"}}
                )
            },
            "SwarmUI",
            ("model flux-dev", "“fox”"),
        ),
        (
            {
                "parameters": json.dumps({"base_model": "jugg", "sampler": "x", "prompt": "sea"}),
                "fooocus_scheme": "f",
            },
            "Fooocus",
            ("model jugg", "“sea”"),
        ),
        (
            {"Description": "a castle --v 6 Job ID: 01234567-89ab-cdef-0123-456789abcdef"},
            "Midjourney",
            ("“a castle --v 6”",),
        ),
        ({"parameters": f"{WEBUI}, App: SD.Next"}, "SD.Next", ()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_generators_are_told_by_their_settings(texts, program, words):
    item = found(png(texts))["provenance:generator"]
    assert f"as {program} writes them" in item.statement
    for word in words:
        assert word in item.statement


def test_comfyui_in_the_camera_fields_of_webp_is_no_camera():
    exif = exif_of(
        {
            Base.Model: f"prompt:{json.dumps(COMFY)}",
            Base.Make: 'workflow:{"nodes": [], "links": []}',
        }
    )
    items = found(saved("webp", exif=exif))
    assert "ComfyUI" in items["provenance:generator"].statement
    assert "provenance:camera" not in items


@pytest.mark.parametrize(
    "texts",
    [
        {"Comment": "Steps: 4, walk on, turn left"},
        {"Description": "My holiday. Job ID: none"},
        {"prompt": '{"a": 1}'},
        {"parameters": "{broken"},
        {"Software": "A program of my own"},
        {"Author": "Leonardo Flux"},
    ],
)
def test_ordinary_texts_are_no_settings(texts):
    assert [item.name for item in provenance_of(png(texts))] == ["provenance:none"]


@pytest.mark.parametrize(
    ("software", "name"),
    [
        ("Midjourney 6", "Midjourney"),
        ("DALL-E 3", "ChatGPT or DALL-E"),
        ("Adobe Firefly", "Adobe Firefly"),
        ("ComfyUI 0.3", "ComfyUI"),
        ("Stable Diffusion XL", "Stable Diffusion"),
    ],
)
def test_ai_programs_are_recognised(software, name):
    item = found(saved("jpeg", exif=exif_of({Base.Software: software})))["provenance:ai_software"]
    assert f"The metadata name {name}, " in item.statement


@pytest.mark.parametrize(
    "software", ["Leonardo", "Gemini", "Flux capacitor", "Affluence", "HDR+ 1.0"]
)
def test_ordinary_words_are_no_programs(software):
    names = found(saved("jpeg", exif=exif_of({Base.Software: software})))
    assert not names.keys() & {"provenance:ai_software", "provenance:editor"}


def test_names_in_utf_8_are_read_in_png_and_exif():
    assert "“DALL·E 3”" in found(png({"Software": "DALL·E 3"}))["provenance:ai_software"].statement
    file = saved("jpeg", exif=exif_of({Base.Make: "Xxxxxx", Base.Model: "S1"}))
    named = file.replace(b"Xxxxxx", "Müll1".encode())
    assert "camera Müll1 S1." in found(named)["provenance:camera"].statement


# EXIF


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "avif"])
def test_the_camera_is_named_in_every_format(kind):
    exif = exif_of(
        {Base.Make: "Canon", Base.Model: "Canon EOS R5"},
        {Base.DateTimeOriginal: "2024:05:01 10:20:30"},
    )
    item = found(saved(kind, exif=exif))["provenance:camera"]
    assert "camera Canon EOS R5, taken on 2024-05-01 10:20" in item.statement
    assert item.strength is Strength.WEAK


def dates(main: dict[int, Any], camera: dict[int, Any], day: str = "") -> Evidence | None:
    exif = exif_of(main, camera)
    if day:
        exif.get_ifd(IFD.GPSInfo)[GPS.GPSDateStamp] = day
    return found(saved("jpeg", exif=exif)).get("provenance:dates")


@pytest.mark.parametrize(
    ("written", "taken", "digitised", "day", "words"),
    [
        ("2024:05:01 10:00:00", "2024:05:01 10:00:00", "2024:05:01 10:00:00", "2024:05:01", None),
        ("2024:05:01 01:00:00", "2024:05:01 10:00:00", "", "2024:05:02", None),
        ("2024:06:01 10:00:00", "2024:05:01 10:00:00", "", "", "31 days after it was taken"),
        (
            "2023:05:01 10:00:00",
            "2024:05:01 10:00:00",
            "",
            "",
            "last written on 2023-05-01, before",
        ),
        ("", "2024:05:01 10:00:00", "2020:05:01 10:00:00", "", "digitised on 2020-05-01, before"),
        ("", "2024:05:01 10:00:00", "", "2021:01:01", "satellites' date is 2021-01-01"),
        ("", "2931:05:01 10:00:00", "", "", "taken on 2931-05-01, but examined earlier"),
        ("2024:13:45 99:00:00", "0000:00:00 00:00:00", "garbage", "nonsense", None),
        ("2023:05:01 10:00:00", "1980:01:01 00:00:00", "", "", None),
    ],
)
def test_dates_must_be_in_order(written, taken, digitised, day, words):
    item = dates(
        {Base.DateTime: written},
        {Base.DateTimeOriginal: taken, Base.DateTimeDigitized: digitised},
        day,
    )
    assert (item is not None) == (words is not None)
    if item is not None and words is not None:
        assert words in item.statement
        assert item.strength is Strength.WEAK


@pytest.mark.parametrize(
    ("size", "differs"), [((300, 200), False), ((200, 300), False), ((6000, 4000), True)]
)
def test_dimensions_must_agree_whichever_way_up(size, differs):
    exif = exif_of({}, {Base.ExifImageWidth: size[0], Base.ExifImageHeight: size[1]})
    items = found(saved("jpeg", exif=exif))
    assert ("provenance:dimensions" in items) == differs
    if differs:
        assert "6000 x 4000 px, but it has 300 x 200" in items["provenance:dimensions"].statement


def with_thumbnail(small: np.ndarray, image: np.ndarray = PHOTO, orientation: int = 1) -> bytes:
    """Write a JPEG whose EXIF block holds a thumbnail, as cameras lay it out."""
    picture = saved("jpeg", small)
    start = b"MM\0*" + (8).to_bytes(4, "big")

    def entry(tag: int, kind: int, value: int) -> bytes:
        size = 2 if kind == 3 else 4
        return (
            tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big")
            + value.to_bytes(size, "big") + bytes(4 - size)
        )  # fmt: skip

    first = (
        (1).to_bytes(2, "big") + entry(Base.Orientation, 3, orientation) + (26).to_bytes(4, "big")
    )
    second = (
        (2).to_bytes(2, "big")
        + entry(Base.JpegIFOffset, 4, 56)
        + entry(Base.JpegIFByteCount, 4, len(picture))
        + bytes(4)
    )
    return saved("jpeg", image, exif=b"Exif\0\0" + start + first + second + picture)


def shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.LANCZOS))


def barred(image: np.ndarray) -> np.ndarray:
    """A thumbnail of 4:3 around a picture of 3:2, as cameras make them."""
    small = np.zeros((120, 160, 3), np.uint8)
    small[7:113] = shrunk(image, (160, 106))
    return small


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("make", [lambda image: shrunk(image, (160, 107)), barred])
def test_a_thumbnail_that_fits_says_nothing(make, orientation):
    assert "provenance:thumbnail" not in found(with_thumbnail(make(PHOTO), orientation=orientation))


@pytest.mark.parametrize("other", ["astronaut", "coffee", "rocket"])
def test_a_thumbnail_of_another_picture_is_noticed(other, photos):
    item = found(with_thumbnail(shrunk(photos[other], (160, 107))))["provenance:thumbnail"]
    assert "shows something else" in item.statement
    assert item.strength is Strength.MODERATE


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_thumbnail_is_no_contradiction(turns, photos):
    photo = np.ascontiguousarray(photos["astronaut"])
    small = np.ascontiguousarray(np.rot90(shrunk(photo, (160, 160)), turns))
    item = found(with_thumbnail(small, photo))["provenance:thumbnail"]
    assert "turned differently" in item.statement
    assert item.strength is Strength.NEUTRAL


def test_a_flat_or_broken_thumbnail_is_left_alone():
    assert "provenance:thumbnail" not in found(with_thumbnail(np.full((120, 160, 3), 90, np.uint8)))
    file = with_thumbnail(shrunk(PHOTO, (160, 107)))
    start = file.index(b"\xff\xd8", 2)
    assert "provenance:thumbnail" not in found(file[: start + 4] + bytes(60) + file[start + 64 :])


def test_an_editor_is_named_with_the_field_that_names_it():
    item = found(saved("jpeg", exif=exif_of({Base.Software: "GIMP 2.10.36"})))["provenance:editor"]
    assert "EXIF Software “GIMP 2.10.36”" in item.statement
    assert item.strength is Strength.WEAK


def test_whoever_signs_in_exif_is_quoted_and_a_generator_among_them_recognised():
    signed = {Base.Artist: "DALL-E 3", Base.ImageDescription: "a cat on\x1b[31m a roof"}
    items = found(saved("jpeg", exif=exif_of(signed)))
    assert "EXIF Artist “DALL-E 3”" in items["provenance:ai_software"].statement
    said = items["provenance:words"].statement
    assert said.startswith("The EXIF data name artist “DALL-E 3” and description “a cat on")
    assert "\x1b" not in said
    plain = found(saved("jpeg", exif=exif_of({Base.Artist: "Jane Doe"})))
    assert plain["provenance:words"].statement.endswith("artist “Jane Doe”.")
    # Words are none of the facts that a file may lack, but they are not nothing.
    assert not {"provenance:ai_software", "provenance:none"} & set(plain)


IN_FULL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
AIGC = {"Label": "1", "ContentProducer": "0012", "ProduceID": "77", "PropagateID": ""}


def jpeg_xmp(packet: bytes) -> bytes:
    content, body = saved("jpeg"), b"http://ns.adobe.com/xap/1.0/\0" + packet
    return content[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + content[2:]


def named(content: bytes, name: str) -> list[Evidence]:
    return [item for item in provenance_of(content) if item.name == f"provenance:{name}"]


@pytest.mark.parametrize(
    "spelling",
    [
        "digsrctype:trainedAlgorithmicMedia",
        "http://cv.iptc.org/newscodes/digitalsourcetype/TrainedAlgorithmicMedia",
        "TRAINEDALGORITHMICMEDIA",
        "trained algorithmic media",
        "http://c2pa.org/digitalsourcetype/trainedAlgorithmicData",
        "https://cv.iptc.org/newscodes/digitalsourcetype#compositeWithTrainedAlgorithmicMedia/",
    ],
)
def test_source_types_are_known_however_they_are_spelled(spelling):
    declared = (
        f'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" i:DigitalSourceType="{spelling}"/>'
    )
    (found,) = named(jpeg_xmp(xmp(declared)), "source_type")
    assert found.strength is Strength.MODERATE


@pytest.mark.parametrize(
    "before",
    [
        b"<dc:d>a\x0bb</dc:d>",
        b"<dc:d>caf\xe9</dc:d>",
        b"<foo:bar>1</foo:bar>",
        b"<dc:d>this & that</dc:d>",
        b'<foo:bar baz:x="1"/>',
    ],
)
@pytest.mark.parametrize("declares", [True, False])
def test_a_slightly_broken_packet_hides_nothing(before, declares):
    places = (
        b' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"' if declares else b""
    )
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description' + places + b">"
        + before + b"<Iptc4xmpExt:DigitalSourceType>" + IN_FULL.encode() + b"</Iptc4xmpExt:DigitalSourceType>"
        b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )  # fmt: skip
    content = jpeg_xmp(packet)
    (found,) = named(content, "source_type")
    assert found.strength is Strength.MODERATE
    assert any("slightly broken" in item.statement for item in named(content, "broken"))


def test_what_matters_is_stated_however_much_stands_before_it():
    kinds = [f"http://example.org/kind{number}" for number in range(20)]
    items = "".join(f"<rdf:li>{kind}</rdf:li>" for kind in [*kinds, IN_FULL])
    inside = (
        'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><i:DigitalSourceType><rdf:Bag>'
        f"{items}</rdf:Bag></i:DigitalSourceType></rdf:Description>"
    )
    assert named(jpeg_xmp(xmp(inside)), "source_type")[0].strength is Strength.MODERATE


@pytest.mark.parametrize(
    "content",
    [
        png({"AIGC": json.dumps(AIGC)}),
        png({"Comment": json.dumps({"AIGC": AIGC})}),
        png({"TC260:AIGC": json.dumps(AIGC)[:-1]}),
        saved("jpeg", exif=exif_of({}, {Base.UserComment: b"ASCII\0\0\0" + json.dumps({"AIGC": AIGC}).encode()})),
        saved("webp", exif=exif_of({Base.ImageDescription: json.dumps({"AIGC": json.dumps(AIGC)})})),
        jpeg_xmp(
            b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><TC260:AIGC xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/">'
            + json.dumps(AIGC).replace('"', "&quot;").encode()
            + b"</TC260:AIGC></x:xmpmeta>"
        ),
    ],
)  # fmt: skip
def test_the_mandatory_label_of_china_is_found_wherever_it_stands(content):
    (found,) = named(content, "aigc_label")
    assert found.strength is Strength.MODERATE
    assert "Label 1" in found.statement


def test_other_labels_of_china_say_less_and_other_texts_nothing():
    (found,) = named(png({"AIGC": json.dumps(AIGC | {"Label": "2"})}), "aigc_label")
    assert found.strength is Strength.WEAK
    assert "may be" in found.statement
    assert not named(png({"Comment": 'about AIGC and "Label": "1"'}), "aigc_label")


@pytest.mark.parametrize(
    ("texts", "program"),
    [
        ({"prompt": "a cat", "num_inference_steps": "25", "sampler_name": "k"}, "Easy Diffusion"),
        ({"Dream": '"a cat" -s 50 -S 12345 -W 512 -H 512 -C 7.5 -A k_lms'}, "InvokeAI"),
        ({"Dream": '"a cat" -s50 -S1'}, "InvokeAI"),
    ],
)
def test_settings_of_further_programs_are_found(texts, program):
    (found,) = named(png(texts), "generator")
    assert program in found.statement
    assert "a cat" in found.statement


def test_a_dream_of_something_else_is_no_setting():
    assert not named(png({"Dream": "I had one"}), "generator")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Apple Image Playground", "Apple Image Playground"),
        ("Apple Photos Clean Up", "Apple Photos Clean Up"),
        ("Made with Meta AI", "Meta AI"),
        ("Gemini 2.5 Flash Image", "Google AI"),
        ("Seedream 4.0", "Seedream"),
        ("Qwen-Image", "Qwen-Image"),
        ("Kling AI", "Kling"),
    ],
)
def test_credit_lines_name_generators(text, name):
    (found,) = named(saved("jpeg", exif=exif_of({Base.Software: text})), "ai_software")
    assert f"name {name}," in found.statement
    record = b"\x1c\x02\x6e" + len(text).to_bytes(2, "big") + text.encode()
    block = b"8BIM\x04\x04\0\0" + len(record).to_bytes(4, "big") + record
    body = b"Photoshop 3.0\0" + block
    content = saved("jpeg")
    content = content[:2] + b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body + content[2:]
    (found,) = named(content, "ai_software")
    assert "IPTC Credit" in found.statement


@pytest.mark.parametrize("text", ["Photo: John Kling", "Gemini Rising", "the dream of seeds"])
def test_ordinary_words_name_no_generator(text):
    assert not named(saved("jpeg", exif=exif_of({Base.Software: text})), "ai_software")


def hidden(text: str, name: bytes, channels: slice) -> bytes:
    body = gzip.compress(text.encode()) if name.endswith(b"comp") else text.encode()
    bits = np.unpackbits(np.frombuffer(name + (8 * len(body)).to_bytes(4, "big") + body, np.uint8))
    pixels = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    columns = pixels.swapaxes(0, 1)[..., channels].copy()
    flat = columns.reshape(-1)
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    pixels[..., channels] = columns.swapaxes(0, 1)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("packed", ["info", "comp"])
@pytest.mark.parametrize(("place", "channels"), [("png", slice(3, 4)), ("rgb", slice(0, 3))])
def test_settings_hidden_in_the_lowest_bits_are_read(packed, place, channels):
    name = f"stealth_{place}{packed}".encode()
    novel = {
        "Software": "NovelAI",
        "Comment": json.dumps({"prompt": "a fox", "sampler": "k", "uc": ""}),
    }
    (found,) = named(hidden(json.dumps(novel), name, channels), "generator")
    assert "NovelAI" in found.statement
    assert "a fox" in found.statement
    (found,) = named(hidden(WEBUI, name, channels), "generator")
    assert "fisherman" in found.statement


def test_reading_that_stops_says_so():
    many = png({f"key {number}": "x" for number in range(80)})
    assert any("only the first 64" in item.statement for item in named(many, "broken"))
    assert not named(many, "none")
    raw = png({"Raw profile type exif": "exif 12 00"})
    assert any("exif data as ImageMagick" in item.statement for item in named(raw, "broken"))


def test_a_heic_photo_that_its_decoder_turned_is_not_said_to_have_been_turned_afterwards():
    pillow_heif = pytest.importorskip("pillow_heif")
    upright = shrunk(PHOTO, (300, 200))
    exif = PIL.Image.open(
        io.BytesIO(with_thumbnail(shrunk(upright, (160, 107)), orientation=6))
    ).info["exif"]
    file = io.BytesIO()
    pillow_heif.from_pillow(PIL.Image.fromarray(upright)).save(file, quality=90, exif=exif)
    assert "provenance:thumbnail" not in found(file.getvalue())
