"""What an XMP packet declares: digital source type, AI system, programs.

The packet is parsed as a stream by expat, which fetches nothing; a document type declaration, the place of every
entity trick, ends the reading at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from gammascope.imaging.provenance.excerpts import excerpt
from gammascope.imaging.provenance.source_types import GENERATIVE, meaning_of, term_of
from gammascope.report import Evidence, Strength

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_TERMS = "http://purl.org/dc/terms/"

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
}
SOFTWARE_FIELDS = ("AISystemUsed", "CreatorTool", "Credit", "softwareAgent", "Software")

_DEEPEST = 64
_MOST_VALUES = 256
_LONGEST_LETTERS = 2000


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
    """Read a packet; what comes before an error counts."""
    found = Properties()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    handler = _Handler(found)
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = handler.refuse
    try:
        parser.Parse(packet.rstrip(b"\0"), True)
    except _RefusedError as error:
        found.problem = str(error)
    except (expat.ExpatError, LookupError, ValueError):  # The last two: encodings nobody knows.
        found.problem = "the XMP packet is broken"
    return found


def findings(found: Properties) -> Iterator[Evidence]:
    """State which digital source types the packet declares, and whether it points elsewhere."""
    for value in found.of("DigitalSourceType")[:4]:
        term = term_of(value)
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
        if key and text and len(self.found.values) < _MOST_VALUES:
            self.found.values.append((key, text))
