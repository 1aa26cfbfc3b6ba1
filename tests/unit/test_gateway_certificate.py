"""The gateway's certificates: what is made for development, and what is said about others."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from serve_app.gateway.certificate import (
    RENEWED_DAYS_BEFORE,
    VALID_DAYS,
    check_certificate,
    development_certificate,
)
from serve_app.house_error import BadInput

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def key_pem(password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_it_is_for_this_machine_and_can_sign_no_other(tmp_path: Path) -> None:
    certificate = read(development_certificate(tmp_path, NOW).public)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=VALID_DAYS)


def test_the_key_is_for_this_user_only_and_not_in_the_public_file(tmp_path: Path) -> None:
    paths = development_certificate(tmp_path / "new", NOW)
    assert stat.S_IMODE(paths.bundle.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.bundle.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" in paths.bundle.read_bytes()
    assert b"PRIVATE" not in paths.public.read_bytes()
    check_certificate(paths.bundle, NOW)


def test_it_is_kept_while_it_is_good_and_made_anew_before_it_ends(tmp_path: Path) -> None:
    first = read(development_certificate(tmp_path, NOW).public)
    still = NOW + timedelta(days=VALID_DAYS - RENEWED_DAYS_BEFORE - 1)
    assert read(development_certificate(tmp_path, still).public) == first
    late = NOW + timedelta(days=VALID_DAYS - RENEWED_DAYS_BEFORE + 1)
    assert read(development_certificate(tmp_path, late).public) != first


@pytest.mark.parametrize("harm", ["gone", "readable", "torn", "from tomorrow"])
def test_one_that_was_harmed_is_made_anew(tmp_path: Path, harm: str) -> None:
    made_at = NOW + timedelta(days=1) if harm == "from tomorrow" else NOW
    paths = development_certificate(tmp_path, made_at)
    first = read(paths.public)
    if harm == "gone":
        paths.public.unlink()
    elif harm == "readable":
        paths.bundle.chmod(0o644)
    elif harm == "torn":
        paths.bundle.write_bytes(paths.bundle.read_bytes()[:-200])
    assert read(development_certificate(tmp_path, NOW).public) != first
    check_certificate(paths.bundle, NOW)


def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    good = development_certificate(tmp_path, NOW)
    certificate = good.public.read_bytes()
    path = tmp_path / "given.pem"
    cases = {
        "cannot be read": None,
        "has no certificate": key_pem(),
        "has no private key": certificate,
        "is encrypted": certificate + key_pem(b"password"),
        "is not that of its first certificate": certificate + key_pem(),
    }
    for reason, content in cases.items():
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadInput, match=reason) as caught:
            check_certificate(path, NOW)
        assert str(path) in str(caught.value)
    for moment, reason in (
        (NOW + timedelta(days=VALID_DAYS + 1), "ended on 2027-04-01"),
        (NOW - timedelta(days=1), "begins on 2026-12-31"),
    ):
        with pytest.raises(BadInput, match=reason):
            check_certificate(good.bundle, moment)


def test_the_key_may_stand_before_or_behind_the_chain(tmp_path: Path) -> None:
    good = development_certificate(tmp_path, NOW)
    certificate, bundle = good.public.read_bytes(), good.bundle.read_bytes()
    key = bundle.removeprefix(certificate)
    path = tmp_path / "given.pem"
    path.write_bytes(key + certificate)
    check_certificate(path, NOW)
    path.write_bytes(certificate + certificate + key)
    check_certificate(path, NOW)
