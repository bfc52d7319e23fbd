"""What an XMP packet declares: digital source type, AI system, programs.

The packet is parsed as a stream by expat, which fetches nothing; a document type declaration, the place of every
entity trick, ends the reading at once.

Digital source types are IPTC's vocabulary, which C2PA uses, too: cv.iptc.org/newscodes/digitalsourcetype has the terms,
the words for a person are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from gammascope.imaging.provenance.containers import excerpt
from gammascope.report import Evidence, Strength

GENERATIVE = frozenset(
    (
        "trainedAlgorithmicMedia",
        "compositeWithTrainedAlgorithmicMedia",
        "trainedAlgorithmicData",  # C2PA's own.
    )
)
"""Terms that say that a trained generative model made the picture or a part of it."""

_MEANINGS = {
    "trainedAlgorithmicMedia": "made by a generative AI model",
    "compositeWithTrainedAlgorithmicMedia": "composed or edited with the help of a generative AI model",
    "trainedAlgorithmicData": "data made by a generative AI model",
    "algorithmicMedia": "made by an algorithm that was not trained on pictures",
    "compositeSynthetic": "composed with synthetic elements",
    "composite": "composed of several elements",
    "compositeCapture": "composed of several photographs",
    "dataDrivenMedia": "drawn from data",
    "digitalArt": "drawn by a person",
    "digitalCreation": "drawn by a person",
    "virtualRecording": "recorded in a virtual world",
    "screenCapture": "a screenshot",
    "softwareImage": "made by software",
    "digitalCapture": "taken by a digital camera",
    "computationalCapture": "taken by a digital camera that combined several exposures",
    "negativeFilm": "scanned from film",
    "positiveFilm": "scanned from film",
    "print": "scanned from a print",
    "humanEdits": "edited by a person",
    "minorHumanEdits": "edited a little by a person",
    "algorithmicallyEnhanced": "enhanced by an algorithm",
    "empty": "begun as an empty canvas",
}


def term_of(value: str) -> str:
    """Return the last part of a term's address, however programs spell it.

    >>> term_of("http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture")
    'digitalCapture'
    >>> term_of("digsrctype:TrainedAlgorithmicMedia"), term_of("Trained Algorithmic Media")
    ('trainedAlgorithmicMedia', 'trainedAlgorithmicMedia')
    """
    last = re.split(r"[/:#]", value.strip().rstrip("/#"))[-1]
    return _SPELLINGS.get(_bare(last), excerpt(last, 60))


def _bare(term: str) -> str:
    return re.sub(r"[\W_]", "", term).lower()


_SPELLINGS = {_bare(term): term for term in _MEANINGS}


def meaning_of(term: str) -> str:
    """Return what a term says, in words; unknown ones are said to be so."""
    return _MEANINGS.get(term, "a term that is not known here")


_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_TERMS = "http://purl.org/dc/terms/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_AIGC = "http://www.tc260.org.cn/ns/AIGC/1.0/"

# Property to the name people know it by.
_READ = {
    _IPTC + "DigitalSourceType": "DigitalSourceType",
    _IPTC + "DigitalSourcefileType": "DigitalSourceType",
    _IPTC + "AISystemUsed": "AISystemUsed",
    _XMP + "CreatorTool": "CreatorTool",
    _PHOTOSHOP + "Credit": "Credit",
    _EVENT + "softwareAgent": "softwareAgent",
    _TIFF + "Software": "Software",
    _TERMS + "provenance": "provenance",
    _EXIF + "UserComment": "UserComment",
    _AIGC + "AIGC": "AIGC",
}

# Prefixes as programs use them, for packets that forget to declare them.
_PREFIXES = {
    "rdf": _RDF,
    "Iptc4xmpExt": _IPTC,
    "xmp": _XMP,
    "photoshop": _PHOTOSHOP,
    "stEvt": _EVENT,
    "tiff": _TIFF,
    "dcterms": _TERMS,
    "exif": _EXIF,
    "TC260": _AIGC,
}
_PREFIX = re.compile(r"[<\s/]([A-Za-z_][\w.-]*):[\w.-]+(?=[\s=>/])")
_DECLARED = re.compile(r"\sxmlns:([\w.-]+)\s*=")
_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_STRAY_AND = re.compile(r"&(?!(#\d+|#x[0-9A-Fa-f]+|amp|lt|gt|quot|apos);)")
_DECLARATION = re.compile(r"^\s*<\?xml\s[^>]*\?>")
SOFTWARE_FIELDS = ("AISystemUsed", "CreatorTool", "Credit", "softwareAgent", "Software")

_DEEPEST = 64
_MOST_TYPES = 4
_MOST_VALUES = 256
_LONGEST_LETTERS = 2000


_BROKEN = "the XMP packet is broken"


class _RefusedError(Exception):
    """The packet is no harmless XMP."""


@dataclass(slots=True)
class Properties:
    """The properties of an XMP packet that say where a picture comes from.

    Attributes:
        values: Field and text, in the packet's order.
        problem: Why the packet was not read to its end, one clause; empty if it was.
    """

    values: list[tuple[str, str]] = field(default_factory=list)
    problem: str = ""

    def of(self, name: str) -> list[str]:
        """Return the texts of one field, each once."""
        return list(dict.fromkeys(text for known, text in self.values if known == name))


def properties_of(packet: bytes) -> Properties:
    """Read a packet; one that is slightly broken is mended, and what comes before an error counts."""
    found = _parsed(packet.rstrip(b"\0"))
    if found.problem != _BROKEN:
        return found
    again = _parsed(_mended(packet))
    again.problem = again.problem or "the XMP packet is slightly broken, but could be read"
    return again if len(again.values) > len(found.values) else found


def _mended(packet: bytes) -> bytes:
    """Undo what programs do wrong: letters that XML forbids, bytes of Latin-1, prefixes that nothing declares."""
    wide = packet.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = packet.decode("utf-16" if wide else "utf-8", "replace" if wide else "surrogateescape")
    latin = "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in text)
    whole = _STRAY_AND.sub("&amp;", _NOT_XML.sub(" ", _DECLARATION.sub("", latin.lstrip("\ufeff"))))
    lacking = set(_PREFIX.findall(whole)) - set(_DECLARED.findall(whole)) - {"xml", "xmlns"}
    places = "".join(f' xmlns:{name}="{_PREFIXES.get(name, name)}"' for name in sorted(lacking))
    return f"<mended{places}>{whole}</mended>".encode("utf-8", "replace")


def _parsed(packet: bytes) -> Properties:
    found = Properties()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    handler = _Handler(found)
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = handler.refuse
    try:
        parser.Parse(packet, True)
    except _RefusedError as error:
        found.problem = str(error)
    except (expat.ExpatError, LookupError, ValueError):  # The last two: unknown encodings.
        found.problem = _BROKEN
    return found


def findings(found: Properties) -> Iterator[Evidence]:
    """State which digital source types the packet declares, and whether it points elsewhere."""
    terms = dict.fromkeys(term_of(value) for value in found.of("DigitalSourceType"))
    # Those that matter come first, however many others a packet names.
    for term in sorted(terms, key=lambda term: term not in GENERATIVE)[:_MOST_TYPES]:
        yield Evidence(
            "provenance:source_type",
            f"The XMP metadata declare the digital source type {term}: {meaning_of(term)}.",
            strength=Strength.MODERATE if term in GENERATIVE else Strength.WEAK,
            limits="Nothing protects this field: anyone can write, change or remove it. Honest programs that generate "
            "pictures set it, so where it says so it is seldom wrong; its absence says nothing.",
        )
    for value in found.of("provenance")[:1]:
        yield Evidence(
            "provenance:c2pa_elsewhere",
            f"The XMP metadata say that Content Credentials are kept at {excerpt(value, 100)}.",
            strength=Strength.NEUTRAL,
            limits="Nothing is fetched, so they were not looked at. The address may belong to anyone.",
        )


@dataclass(slots=True)
class _Handler:
    """Takes expat's events and keeps the properties that are read."""

    found: Properties
    path: list[str] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)

    def refuse(self, *_: object) -> None:
        raise _RefusedError("the XMP packet declares a document type and was not read")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        # Lists ("rdf:Bag", "rdf:li") are part of the property around them.
        key = self._known(name) or (self.path[-1] if self.path and name.startswith(_RDF) else "")
        if len(self.path) >= _DEEPEST:
            raise _RefusedError("the XMP packet is nested too deeply and was not read to its end")
        self.path.append(key)
        self.letters.clear()
        for attribute, value in attributes.items():
            points_to = key if attribute == f"{_RDF} resource" else self._known(attribute)
            self._keep(points_to, value)

    def text(self, text: str) -> None:
        if self.path[-1] and len(self.letters) < _LONGEST_LETTERS:
            self.letters.append(text[:_LONGEST_LETTERS])

    def end(self, _name: str) -> None:
        self._keep(self.path.pop(), "".join(self.letters))
        self.letters.clear()

    @staticmethod
    def _known(name: str) -> str:
        return _READ.get(name.replace(" ", "", 1), "")

    def _keep(self, key: str, value: str) -> None:
        text = value.strip()[:_LONGEST_LETTERS]
        if not (key and text):
            return
        if len(self.found.values) >= _MOST_VALUES:
            raise _RefusedError(f"of the XMP packet, only {_MOST_VALUES} properties were read")
        self.found.values.append((key, text))
