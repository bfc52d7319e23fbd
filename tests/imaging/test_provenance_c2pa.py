"""Content Credentials, signed by certificates made here: intact, tampered with, stripped, trusted and not."""

from __future__ import annotations

import datetime
import io
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.imaging.provenance import TrustList, provenance_of
from gammascope.imaging.provenance import c2pa as module
from gammascope.imaging.provenance.c2pa import _STORE as STORE
from gammascope.imaging.provenance.c2pa import _stated as stated
from gammascope.imaging.provenance.c2pa import require_library
from gammascope.report import Evidence, Strength

c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed")

PHOTO = data.chelsea()[:128, :160]
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ANY_TIME = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Authority:
    """Signs pictures with a certificate of its own making."""

    root: str
    chain: bytes
    key: bytes

    def signed(self, content: bytes, kind: str, **manifest: Any) -> bytes:
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, self.chain, self.key, None)
        claim = {"claim_generator_info": [{"name": "Test Maker", "version": "1.2"}]} | manifest
        signed = io.BytesIO()
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(claim) as builder:
            builder.sign(signer, f"image/{kind}", io.BytesIO(content), signed)
        return signed.getvalue()


def made_by(term: str, agent: Any = "Maker AI") -> list[dict[str, Any]]:
    action = {"action": "c2pa.created", "digitalSourceType": IPTC + term, "softwareAgent": agent}
    return [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]


def authority(name: str) -> Authority:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(common: str) -> Any:
        parts = ((NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, name))
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])

    def certificate(subject: Any, key: Any, *, root: bool) -> Any:
        kinds = "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only"
        uses = dict.fromkeys(kinds.split(), False)
        day = datetime.timedelta(days=1)
        usage = x509.KeyUsage(digital_signature=not root, key_cert_sign=root, crl_sign=root, **uses)
        builder = (
            x509.CertificateBuilder(named(f"{name} root"), subject, key.public_key(), 2 - root)
            .not_valid_before(ANY_TIME - day)
            .not_valid_after(ANY_TIME + 9 * day)
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False
            )
        )
        if not root:
            purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purposes, critical=False)
        else:
            identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
            builder = builder.add_extension(identity, critical=False)
        signed = builder.sign(root_key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate(named(f"{name} root"), root_key, root=True)
    leaf = certificate(named(f"{name} signer"), key, root=False)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Authority(root.decode(), leaf + root, secret)


def content(kind: str = "jpeg") -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(file, kind.upper())
    return file.getvalue()


@pytest.fixture(scope="module")
def acme() -> Authority:
    return authority("Acme")


@pytest.fixture(scope="module")
def signed(acme) -> bytes:
    return acme.signed(content(), "jpeg", assertions=made_by("trainedAlgorithmicMedia"))


def found(file: bytes, trust: TrustList | None = None) -> dict[str, Evidence]:
    return {item.name: item for item in provenance_of(file, trust)}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "gif", "avif"])
def test_an_intact_file_says_so_in_every_format(acme, kind):
    file = acme.signed(content(kind), kind, assertions=made_by("trainedAlgorithmicMedia"))
    items = found(file)
    assert "“Test Maker 1.2” are intact" in items["provenance:c2pa"].statement
    assert items["provenance:c2pa"].strength is Strength.STRONG
    origin = items["provenance:c2pa_origin"]
    assert "c2pa.created" in origin.statement
    assert "trainedAlgorithmicMedia (made by a generative AI model)" in origin.statement
    assert "Maker AI" in origin.statement
    assert "provenance:none" not in items


def test_integrity_and_trust_are_two_findings(acme, signed):
    nobody = found(signed)
    assert nobody["provenance:c2pa_signer"].strength is Strength.NEUTRAL
    assert "“Acme signer” of “Acme”" in nobody["provenance:c2pa_signer"].statement
    assert (
        "not certified by the trust list of the C2PA (20"
        in nobody["provenance:c2pa_signer"].statement
    )
    assert nobody["provenance:c2pa_origin"].strength is Strength.MODERATE

    others = found(signed, TrustList(authority("Other").root, "others.pem"))
    assert (
        "not certified by the trust list others.pem" in others["provenance:c2pa_signer"].statement
    )
    assert others["provenance:c2pa"].strength is Strength.STRONG, "integrity asks for no trust"

    friends = found(signed, TrustList(acme.root, "friends.pem"))
    assert "is certified by" in friends["provenance:c2pa_signer"].statement
    assert friends["provenance:c2pa_signer"].strength is Strength.STRONG
    assert friends["provenance:c2pa_origin"].strength is Strength.STRONG


def test_the_bundled_list_is_the_c2pas_with_its_date() -> None:
    x509 = pytest.importorskip("cryptography.x509")
    bundled = TrustList.bundled()
    issued = datetime.date.fromisoformat(bundled.name.removeprefix("of the C2PA (").rstrip(")"))
    assert datetime.date(2026, 1, 1) <= issued <= ANY_TIME.date()
    certificates = x509.load_pem_x509_certificates(bundled.pem.encode())
    makers = " ".join(certificate.subject.rfc4514_string() for certificate in certificates)
    assert all(name in makers for name in ("Google", "Adobe", "DigiCert", "SSL.com"))
    for certificate in certificates:
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_whom_the_bundled_list_names_is_known_without_asking(acme, signed, tmp_path, monkeypatch):
    longer = tmp_path / "list.pem"
    own = module._BUNDLED.read_text("ascii")
    longer.write_text(own + acme.root, "ascii")
    monkeypatch.setattr(module, "_BUNDLED", longer)
    TrustList.bundled.cache_clear()
    try:
        signer = found(signed)["provenance:c2pa_signer"]
    finally:
        TrustList.bundled.cache_clear()
    assert "is certified by an authority on the trust list of the C2PA" in signer.statement
    assert signer.strength is Strength.STRONG


def test_strangers_who_declare_a_camera_are_hardly_believed(acme):
    file = acme.signed(content(), "jpeg", assertions=made_by("digitalCapture"))
    origin = found(file)["provenance:c2pa_origin"]
    assert "taken by a digital camera" in origin.statement
    assert origin.strength is Strength.WEAK
    trusted = found(file, TrustList(acme.root, "friends.pem"))["provenance:c2pa_origin"]
    assert trusted.strength is Strength.STRONG


def test_a_changed_pixel_is_noticed_whoever_signed(acme, signed):
    changed = bytearray(signed)
    changed[-200] ^= 4
    for trust in (None, TrustList(acme.root, "friends.pem")):
        items = found(bytes(changed), trust)
        broken = items["provenance:c2pa"]
        assert "changed after signing" in broken.statement
        assert "assertion.dataHash.mismatch" in broken.statement
        assert broken.strength is Strength.MODERATE
        assert items["provenance:c2pa_signer"].strength is Strength.NEUTRAL
        assert items["provenance:c2pa_origin"].strength is Strength.WEAK


def test_a_changed_statement_is_noticed(signed):
    assert signed.count(b"Test Maker") == 1
    items = found(signed.replace(b"Test Maker", b"Best Maker"))
    assert "“Best Maker 1.2” do not match the file" in items["provenance:c2pa"].statement


def test_credentials_of_another_picture_do_not_fit(acme, signed):
    """The box moved into another file, as a forger would."""
    start = signed.index(b"\xff\xeb")
    length = int.from_bytes(signed[start + 2 : start + 4], "big")
    file = io.BytesIO()
    PIL.Image.fromarray(PHOTO[::-1]).save(file, "JPEG")
    other = file.getvalue()
    items = found(other[:2] + signed[start : start + 2 + length] + other[2:])
    assert "are intact" not in items["provenance:c2pa"].statement
    assert items["provenance:c2pa"].strength is not Strength.STRONG


def test_stripped_credentials_leave_nothing(signed):
    file = io.BytesIO()
    PIL.Image.open(io.BytesIO(signed)).save(file, "JPEG", quality=95)
    assert not any(name.startswith("provenance:c2pa") for name in found(file.getvalue()))


def test_what_it_was_made_from_counts(acme, signed):
    """An editor signs a file that a generator signed before: the declaration travels along."""
    info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, acme.chain, acme.key, None)
    claim = {
        "claim_generator_info": [{"name": "Editor"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": []}}],
    }
    again = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(claim) as builder:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        builder.sign(signer, "image/jpeg", io.BytesIO(signed), again)
    items = found(again.getvalue())
    assert "by “Editor” are intact" in items["provenance:c2pa"].statement
    assert "c2pa.opened" in items["provenance:c2pa_origin"].statement
    assert "trainedAlgorithmicMedia" in items["provenance:c2pa_origin"].statement


def test_names_of_strangers_are_shown_short_and_printable(acme):
    agent = {"name": "evil\u202e\n\x07" + "x" * 500}
    file = acme.signed(content(), "jpeg", assertions=made_by("digitalCapture", agent))
    statement = found(file)["provenance:c2pa_origin"].statement
    assert "evil? ?xxx" in statement
    assert statement.isprintable()
    assert len(statement) < 400


def test_without_the_library_credentials_are_still_seen(signed, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    items = found(signed)
    assert items["provenance:c2pa"].statement == (
        "Content Credentials (C2PA) are present, not validated: install the extra 'provenance'."
    )
    assert items["provenance:c2pa"].strength is Strength.NEUTRAL
    assert "provenance:c2pa_origin" not in items
    with pytest.raises(MissingExtraError, match=r"\.\[provenance\]"):
        require_library()


def test_trust_lists_are_files_or_folders(acme, signed, tmp_path):
    (tmp_path / "a.pem").write_text(authority("Other").root)
    (tmp_path / "b.CRT").write_text(f"Acme's root\n{acme.root}")
    (tmp_path / "notes.txt").write_text("no certificate")
    both = TrustList.read(tmp_path)
    assert both.pem.count("BEGIN CERTIFICATE") == 2
    assert found(signed, both)["provenance:c2pa_signer"].strength is Strength.STRONG
    alone = TrustList.read(tmp_path / "a.pem")
    assert found(signed, alone)["provenance:c2pa_signer"].strength is Strength.NEUTRAL


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----"]
)
def test_a_list_without_certificates_is_refused(tmp_path, text):
    (tmp_path / "list.pem").write_text(text)
    for place in (tmp_path, tmp_path / "list.pem"):
        with pytest.raises(MissingDataError, match="holds no certificate"):
            TrustList.read(place)
    with pytest.raises(MissingDataError, match="cannot be read"):
        TrustList.read(tmp_path / "nothing.pem")


@settings(deadline=None, max_examples=60)
@given(place=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=24))
def test_broken_credentials_never_raise_and_never_say_something_else(place, garbage):
    """Some bytes of the box are padding: what is still called intact must say what was signed."""
    file = _signed_once()
    start = file.index(b"\xff\xeb")
    end = start + 2 + int.from_bytes(file[start + 2 : start + 4], "big")
    at = start + 4 + int(place * (end - start - 5 - len(garbage)))
    items = found(file[:at] + garbage + file[at + len(garbage) :])
    if "are intact" in items.get("provenance:c2pa", Evidence("", "")).statement:
        assert items == found(file)
    assert all(item.statement.isprintable() for item in items.values())


@cache
def _signed_once() -> bytes:
    return authority("Acme").signed(content(), "jpeg", assertions=made_by("digitalCapture"))


def test_pixels_are_never_looked_at_for_it(signed):
    """Findings are about the file: the decoded picture is the same, signed or not."""
    first, second = (np.asarray(PIL.Image.open(io.BytesIO(file))) for file in (signed, content()))
    np.testing.assert_array_equal(first, second)


def test_the_file_on_disk_says_the_same(signed, tmp_path: Path):
    path = tmp_path / "signed.jpg"
    path.write_bytes(signed)
    assert provenance_of(path) == provenance_of(signed)


def test_no_credentials_change_what_the_pixels_say(acme, signed):
    from gammascope.detection.pipeline import Pipeline

    pipeline = Pipeline.load()
    bare = pipeline.report(content())
    camera = acme.signed(content(), "jpeg", assertions=made_by("digitalCapture"))
    tampered = signed.replace(b"Test Maker", b"Best Maker")
    for file, said in ((signed, "are intact"), (camera, "are intact"), (tampered, "do not match")):
        report = pipeline.report(file)
        statements = " ".join(item.statement for item in report.evidence)
        assert said in statements, statements
        assert (report.answers, report.verdict, report.caveats) == (
            bare.answers,
            bare.verdict,
            bare.caveats,
        )


def checked(codes: list[dict[str, str]], passed: tuple[str, ...] = ()) -> list[Evidence]:
    results = {"success": [{"code": code} for code in passed], "failure": codes}
    store = {"active_manifest": "a", "manifests": {"a": {}}, "validation_state": "Trusted"}
    return list(
        stated(store | {"validation_results": {"activeManifest": results}}, TrustList.bundled())
    )


GOOD = ("claimSignature.validated", "assertion.dataHash.match")


@pytest.mark.parametrize(
    "code",
    ["assertion.dataHash.mismatch", "assertion.bmffHash.mismatch", "claimSignature.mismatch"],
)
def test_only_mismatches_are_called_changes(code):
    assert "changed after signing" in checked([{"code": code}], GOOD)[0].statement


@pytest.mark.parametrize(
    "failure",
    [
        {"code": "assertion.dataHash.mismatch", "explanation": "hash exclusion does not match"},
        *(
            {"code": code}
            for code in (
                "algorithm.unsupported",
                "claimSignature.outsideValidity",
                "assertion.missing",
                "assertion.action.malformed",
                "general.error",
                "something.new",
            )
        ),
        {},
    ],
)
def test_all_other_failures_only_say_that_nothing_was_validated(failure):
    (first, *_) = checked([failure], GOOD)
    assert "could not be validated" in first.statement
    assert first.strength is Strength.NEUTRAL


@pytest.mark.parametrize("passed", [(), GOOD[:1], GOOD[1:]])
def test_nothing_is_intact_that_was_not_found_so(passed):
    assert "could not be validated" in checked([], passed)[0].statement
    assert "intact" in checked([], GOOD)[0].statement


def test_letters_of_a_store_outside_its_place_are_none():
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "JPEG", comment=STORE)
    for content in (file.getvalue(), file.getvalue() + STORE):
        names = {item.name for item in provenance_of(content)}
        assert not any(name.startswith("provenance:c2pa") for name in names)
