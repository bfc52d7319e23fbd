"""Content Credentials (C2PA): signed statements about a picture's history, read and validated by the C2PA library.

Two questions are kept apart. *Integrity*: are file and statements as they were when they were signed? *Trust*: is
whoever signed them on a list of trusted signers? Anyone can sign with a certificate of their own making, under any
name; without a trust list, integrity alone says little about who speaks. Nothing is fetched: no remote manifests, no
revocation lists. The list of the C2PA comes with the package and its date; ``TrustList.read`` takes others in PEM form.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.imaging.codecs import jpeg_segments
from gammascope.imaging.mending import png_chunks
from gammascope.imaging.provenance.containers import MOST_PARTS, excerpt, riff_chunks
from gammascope.imaging.provenance.xmp import GENERATIVE, meaning_of, term_of
from gammascope.report import Evidence, Strength

# How a manifest store begins in every container: a JUMBF description box with C2PA's identifier.
# Source: C2PA 2.1, section 11.1.4.
_STORE = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")
_BUNDLED = Path(__file__).with_name("c2pa_trust_list.pem")
_ISSUED = re.compile(r"issued (\d{4}-\d{2}-\d{2})")
_LIST_SUFFIXES = frozenset((".pem", ".crt", ".cer"))
_LONGEST_LIST = 16 * 2**20

_MOST_MANIFESTS = 32
_MOST_NAMED = 6

# Failures about who signed, as opposed to what was signed. Source: C2PA 2.1, 15.
_ABOUT_SIGNER = ("signingCredential.", "timeStamp.", "cawg.")

# Failures that say that what was signed is no longer what is there. All others only say that it could not be checked.
_CHANGED = frozenset(
    (
        "assertion.dataHash.mismatch",
        "assertion.bmffHash.mismatch",
        "assertion.boxesHash.mismatch",
        "assertion.hashedURI.mismatch",
        "hashedURI.mismatch",
        "claimSignature.mismatch",
    )
)
_NOT_COMPARED = (
    "exclusion"  # In the explanation of a mismatch: the parts to compare could not be found.
)

# What must have been found right before a file is called intact: the signature, and the pixels it covers.
_SIGNED = "claimSignature.validated"
_BOUND = frozenset(
    ("assertion.dataHash.match", "assertion.bmffHash.match", "assertion.boxesHash.match")
)

# Where the library and other readers look for a manifest store. Source: C2PA 2.1, appendix A.3.
_JPEG_BOXES = 0xEB
_ELSEWHERE = {
    "avif": bytes.fromhex("d8fec3d61b0e483c92975828877ec481"),
    "heic": bytes.fromhex("d8fec3d61b0e483c92975828877ec481"),
    "gif": b"C2PA_GIF",
}


@dataclass(frozen=True, slots=True)
class TrustList:
    """Certificates of authorities: who is certified by one of them is trusted.

    Attributes:
        pem: The certificates, one after the other.
        name: Where they come from, for a person.
    """

    pem: str
    name: str

    @classmethod
    def read(cls, place: Path) -> TrustList:
        """Read a file in PEM form, or all such files of a folder (.pem, .crt, .cer).

        Raises:
            MissingDataError: If it is not there, cannot be read, or holds no certificate.
        """
        try:
            files = (
                sorted(path for path in place.iterdir() if path.suffix.lower() in _LIST_SUFFIXES)
                if place.is_dir()
                else [place]
            )
            text = "\n".join(_beginning(file) for file in files)
        except OSError as error:
            raise MissingDataError(
                f"Trust list {place} cannot be read: {error.strerror or error}."
            ) from error
        blocks = [block[0] for block in _CERTIFICATE.finditer(text) if _is_base64(block[1])]
        if not blocks:
            raise MissingDataError(
                f"Trust list {place} holds no certificate: expected PEM files (-----BEGIN CERTIFICATE-----)."
            )
        return cls("\n".join(blocks), place.name)

    @classmethod
    @lru_cache(maxsize=1)
    def bundled(cls) -> TrustList:
        """Return the C2PA's list as it was when this version was made; the name says when it was issued."""
        issued = _ISSUED.search(_beginning(_BUNDLED))
        name = f"of the C2PA ({issued[1]})" if issued else _BUNDLED.name
        return replace(cls.read(_BUNDLED), name=name)


def validates() -> bool:
    """Tell whether the library that validates Content Credentials is installed."""
    try:
        import c2pa  # noqa: F401
    except (ImportError, OSError):  # OSError: its compiled part does not load here.
        return False
    return True


def require_library() -> None:
    """Refuse to go on without the library.

    Raises:
        MissingExtraError: If it is not installed.
    """
    if not validates():
        raise MissingExtraError.of(
            "Checking who signed Content Credentials", "c2pa-python", "provenance"
        )


def findings(data: bytes, kind: str, trust: TrustList | None = None) -> Iterator[Evidence]:
    """State whether a file's Content Credentials are intact, who signed them, and what they declare.

    Args:
        data: The file's content.
        kind: Its format.
        trust: Who is trusted; None: whom the C2PA's list names.
    """
    if not _carries(data, kind):
        return
    known = TrustList.bundled() if trust is None else trust
    if not validates():
        yield _unread(
            "Content Credentials (C2PA) are present, not validated: install the extra 'provenance'."
        )
        return
    try:
        store = _read(data, kind, known)
    except Exception as error:  # The library has a type of its own for each of its many errors.
        if str(error).startswith("ManifestNotFound"):  # The letters of one, but none.
            return
        yield _unread(
            f"Content Credentials (C2PA) are present but cannot be read: {excerpt(str(error), 120)}."
        )
        return
    yield from _stated(store, known)


def _carries(data: bytes, kind: str) -> bool:
    """Tell whether a manifest store is where the format keeps it: its letters may stand anywhere."""
    if _STORE not in data:
        return False
    if kind == "jpeg":
        return any(marker == _JPEG_BOXES and _STORE in body for marker, body in jpeg_segments(data))
    if kind == "png":
        chunks = islice(png_chunks(data), MOST_PARTS)
        return any(one.name == b"caBX" and _STORE in data[one.start : one.end] for one in chunks)
    if kind == "webp":
        return any(name == b"C2PA" for name, _ in islice(riff_chunks(data), MOST_PARTS))
    return _ELSEWHERE.get(kind, b"") in data


def _read(data: bytes, kind: str, trust: TrustList) -> Mapping[str, Any]:
    import c2pa

    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
        "trust": {"trust_anchors": trust.pem},
    }
    with (
        c2pa.Context.from_dict(settings) as context,
        c2pa.Reader(f"image/{kind}", io.BytesIO(data), context=context) as reader,
    ):
        store = json.loads(reader.json())
    if not isinstance(store, dict):
        raise TypeError("no object")
    return store


def _stated(store: Mapping[str, Any], trust: TrustList) -> Iterator[Evidence]:
    manifests = _manifests(store)
    active = manifests[0] if manifests else {}
    results = _mapping(store.get("validation_results"))
    checked = results.get("activeManifest")
    failures = _failures(checked)
    broken = _about_content(failures)
    passed = _codes(checked, "success")
    intact = not broken and _SIGNED in passed and bool(_BOUND & set(passed))
    sources = [
        _failures(_mapping(delta).get("validationDeltas"))
        for delta in _sequence(results.get("ingredientDeltas"))
    ]
    # The library has anchors of its own: only those that were given count.
    trusted = intact and store.get("validation_state") == "Trusted"
    yield (
        _integrity(active, sum(bool(_about_content(source)) for source in sources))
        if intact
        else _not_intact(active, broken, changed=_changed(checked))
    )
    yield _signer(active, failures, trust, trusted=trusted)
    yield from _origin(manifests, trusted=trusted, intact=intact)
    if len(_mapping(store.get("manifests"))) > _MOST_MANIFESTS:
        yield _unread(
            f"Of {len(_mapping(store.get('manifests')))} manifests, only the first {_MOST_MANIFESTS} were read."
        )


def _not_intact(active: Mapping[str, Any], broken: list[str], *, changed: bool) -> Evidence:
    """Say no more than the codes of the failures say."""
    maker = f" by {_maker(active)}" if _maker(active) else ""
    codes = ", ".join(excerpt(code, 60) for code in list(dict.fromkeys(broken))[:3])
    if changed:
        return Evidence(
            "provenance:c2pa",
            f"The Content Credentials{maker} do not match the file: it was changed after signing ({codes}).",
            strength=Strength.MODERATE,
            limits="Saving again with a program that copies them is enough; it need not be a forgery. What they "
            "declare can no longer be relied upon.",
        )
    return Evidence(
        "provenance:c2pa",
        f"The Content Credentials{maker} could not be validated ({codes or 'no result of a check'}).",
        strength=Strength.NEUTRAL,
        limits="That says neither that the file was changed nor that it was not: the program that signed may be at "
        "fault, or newer than this one. What they declare cannot be relied upon.",
    )


def _integrity(active: Mapping[str, Any], sources: int) -> Evidence:
    maker = f" by {_maker(active)}" if _maker(active) else ""
    doubt = (
        f" (credentials of {sources} of the pictures it was made from are not)" if sources else ""
    )
    return Evidence(
        "provenance:c2pa",
        f"The Content Credentials{maker} are intact: the file is as it was when it was signed{doubt}.",
        strength=Strength.STRONG,
        limits="Says that nothing changed since, not that what was signed is true, nor who signed it.",
    )


def _signer(
    active: Mapping[str, Any], failures: list[str], trust: TrustList, *, trusted: bool
) -> Evidence:
    info = _mapping(active.get("signature_info"))
    names = [excerpt(str(info[key]), 60) for key in ("common_name", "issuer") if info.get(key)]
    name = " of ".join(f"“{part}”" for part in names) or "without a name"
    expired = any("expired" in code or "revoked" in code for code in failures)
    if trusted:
        return Evidence(
            "provenance:c2pa_signer",
            f"The signer {name} is certified by an authority on the trust list {excerpt(trust.name, 60)}.",
            strength=Strength.STRONG,
            limits="The signer's key could have been stolen or lent: nothing is fetched, so nobody is asked.",
        )
    statement = (
        f"Signed as {name}, who is not certified by the trust list {excerpt(trust.name, 60)}."
    )
    if expired:
        statement = f"{statement[:-1]}; the certificate is expired or revoked."
    return Evidence(
        "provenance:c2pa_signer",
        statement,
        strength=Strength.NEUTRAL,
        limits="Anyone can make a certificate with any name and sign with it.",
    )


def _origin(
    manifests: list[Mapping[str, Any]], *, trusted: bool, intact: bool
) -> Iterator[Evidence]:
    """State what the manifests declare, the newest first."""
    actions = [action for manifest in manifests for action in _actions(manifest)]
    done = [excerpt(str(action.get("action", "")), 40) for action in actions]
    terms = [term_of(str(a["digitalSourceType"])) for a in actions if a.get("digitalSourceType")]
    agents = [_name(agent) for a in actions if (agent := a.get("softwareAgent"))]
    if not (done or terms):
        return
    parts = [f"the actions {_listed(done)}" if done else ""]
    if terms:
        unique = list(dict.fromkeys(terms))[:_MOST_NAMED]
        parts.append(
            "; ".join(f"digital source type {term} ({meaning_of(term)})" for term in unique)
        )
    parts.append(f"done with {_listed(agents)}" if any(agents) else "")
    strength = Strength.WEAK
    if intact:
        strength = Strength.STRONG if trusted else Strength.MODERATE
    if not GENERATIVE & set(terms) and strength is Strength.MODERATE:
        strength = (
            Strength.WEAK
        )  # Unknown signers gain by declaring a camera, not by declaring a generator.
    yield Evidence(
        "provenance:c2pa_origin",
        f"They declare {'; '.join(part for part in parts if part)}.",
        strength=strength,
        limits="The signer's word. What happened before the first signature, or between two, is not covered, and "
        "Content Credentials can be removed altogether.",
    )


def _unread(statement: str) -> Evidence:
    return Evidence(
        "provenance:c2pa",
        statement,
        strength=Strength.NEUTRAL,
        limits="Nothing they declare was checked: they may be forged, or belong to another picture.",
    )


def _manifests(store: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the manifests, the active one first, then those of what it was made from."""
    known = _mapping(store.get("manifests"))
    active = store.get("active_manifest")
    labels = [label for label in known if label == active] + [
        label for label in known if label != active
    ]
    return [_mapping(known[label]) for label in labels[:_MOST_MANIFESTS]]


def _failures(results: Any) -> list[str]:
    """Return the codes of what failed."""
    return _codes(results, "failure")


def _codes(results: Any, outcome: str) -> list[str]:
    some = _sequence(_mapping(results).get(outcome))
    return [str(_mapping(one).get("code") or "without a code") for one in some]


def _changed(results: Any) -> bool:
    """Tell whether one of the failures says that the file is not what was signed."""
    return any(
        _mapping(one).get("code") in _CHANGED
        and _NOT_COMPARED not in str(_mapping(one).get("explanation")).lower()
        for one in _sequence(_mapping(results).get("failure"))
    )


def _about_content(codes: list[str]) -> list[str]:
    return [code for code in codes if not code.startswith(_ABOUT_SIGNER)]


def _actions(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for assertion in _sequence(manifest.get("assertions")):
        entry = _mapping(assertion)
        if str(entry.get("label", "")).startswith("c2pa.actions"):
            yield from map(_mapping, _sequence(_mapping(entry.get("data")).get("actions")))


def _maker(manifest: Mapping[str, Any]) -> str:
    for info in _sequence(manifest.get("claim_generator_info")):
        if name := _name(info):
            return f"“{name}”"
    generator = manifest.get("claim_generator")
    return f"“{excerpt(generator, 60)}”" if isinstance(generator, str) and generator else ""


def _name(agent: Any) -> str:
    """Return name and version of a program, which may be a text or an object."""
    if isinstance(agent, Mapping):
        return excerpt(f"{agent.get('name') or ''} {agent.get('version') or ''}".strip(), 60)
    return excerpt(agent, 60) if isinstance(agent, str) else ""


def _listed(names: Iterable[str]) -> str:
    unique = [name for name in dict.fromkeys(names) if name]
    more = f" and {len(unique) - _MOST_NAMED} more" if len(unique) > _MOST_NAMED else ""
    return ", ".join(unique[:_MOST_NAMED]) + more


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _beginning(file: Path) -> str:
    with file.open("rb") as stream:
        return stream.read(_LONGEST_LIST).decode("ascii", "ignore")


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode("".join(text.split()), validate=True))
    except binascii.Error:
        return False
