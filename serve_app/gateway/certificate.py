"""The gateway's certificate: the operator's, looked at before it is used, or one for development.

The development certificate is signed by nobody but itself. It is for ``localhost``, ``127.0.0.1``
and ``::1`` and lets clients on this machine try what customers get; ``curl --cacert FILE`` trusts
it. Its key never leaves the data directory. Each start makes a new one when the old one is near
its end.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from serve_app.house_error import BadInput, HouseError

VALID_DAYS = 90
RENEWED_DAYS_BEFORE = 30

_NAMES = ("localhost",)
_ADDRESSES = ("127.0.0.1", "::1")
# Clocks of clients on this machine are ours, but a clock may also be set back a little.
_BACKDATED = datetime.timedelta(hours=1)


class DevelopmentCertificate(NamedTuple):
    """Where it is.

    Shapes:
        bundle: certificate and key, for HAProxy; mode 0600.
        public: the certificate alone, for clients.
    """

    bundle: Path
    public: Path


def development_certificate(folder: Path, now: datetime.datetime) -> DevelopmentCertificate:
    """The certificate in ``folder``, made when there is none that is good for a while.

    Raises:
        HouseError: it cannot be written.
    """
    paths = DevelopmentCertificate(folder / "development.pem", folder / "development.crt")
    if not _is_good(paths.bundle, now) or not paths.public.exists():
        certificate, key = _make(now)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(paths.bundle, certificate + key, 0o600)
            _write(paths.public, certificate, 0o644)
        except OSError as error:
            raise HouseError(f"cannot write in {folder}: {error.strerror}") from error
    return paths


def check_certificate(path: Path, now: datetime.datetime) -> None:
    """Look at an operator's PEM file before HAProxy does.

    Raises:
        BadInput: the message names the file and says what is wrong with it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    try:
        certificate = x509.load_pem_x509_certificates(content)[0]
    except (ValueError, IndexError):
        raise BadInput(f"{path}: has no certificate in PEM form") from None
    try:
        key = serialization.load_pem_private_key(_private_part(content), password=None)
    except (ValueError, UnsupportedAlgorithm):
        raise BadInput(f"{path}: has no private key in PEM form beside the certificate") from None
    except TypeError:
        raise BadInput(f"{path}: its private key is encrypted, and nobody could type") from None
    if _raw(key.public_key()) != _raw(certificate.public_key()):
        raise BadInput(f"{path}: its private key is not that of its first certificate")
    if certificate.not_valid_after_utc <= now:
        ended = certificate.not_valid_after_utc.date()
        raise BadInput(f"{path}: the certificate ended on {ended}")
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc.date()
        raise BadInput(f"{path}: the certificate begins on {begins}")


def _raw(key: PublicKeyTypes) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)


def _private_part(content: bytes) -> bytes:
    """From the private key on; what stands before may be the chain."""
    for line in content.splitlines():
        if line.startswith(b"-----BEGIN ") and line.rstrip().endswith(b"PRIVATE KEY-----"):
            return content[content.index(line) :]
    return b""


def _is_good(path: Path, now: datetime.datetime) -> bool:
    try:
        check_certificate(path, now + datetime.timedelta(days=RENEWED_DAYS_BEFORE))
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        return path.stat().st_mode & 0o077 == 0 and certificate.not_valid_before_utc <= now
    except (BadInput, OSError):
        return False


def _make(now: datetime.datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "localhost"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Housefull development"),
        ]
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in _NAMES]
    alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in _ADDRESSES]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        # Nobody who trusts it trusts what somebody might sign with it.
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _write(path: Path, content: bytes, mode: int) -> None:
    """All of it or nothing, and never readable by others for a moment."""
    unfinished = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
    unfinished.replace(path)
