"""The keys that sign access tokens, and those by which everybody checks them.

A key is an Ed25519 pair and is named by its ``kid``, which is made of the public part: the same
key has the same name wherever it is met. Several keys may be alive at once. A new one is published
first and signs later, when everybody has read it; the old one is published until the last token
that it signed is over.

The private part never leaves the account application.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

ALGORITHM = "EdDSA"
"""The only one. What a token says about its algorithm is compared, never followed."""

_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PUBLIC_BYTES = 32


class PublicKey(NamedTuple):
    """What checks a signature: 32 bytes of Ed25519, and their name."""

    kid: str
    public_raw: bytes


class SigningKey(NamedTuple):
    """A whole pair. Signs tokens from ``signs_from_s`` on (Unix seconds).

    ``private_pem`` is PKCS #8, not encrypted: the database that keeps it lets only the account
    application read it.
    """

    kid: str
    private_pem: str
    public_raw: bytes
    signs_from_s: int = 0

    @property
    def public(self) -> PublicKey:
        """The part that everybody may see."""
        return PublicKey(self.kid, self.public_raw)

    def __repr__(self) -> str:
        # A key that ends up in a log by accident must not be a key.
        return f"SigningKey(kid={self.kid!r}, signs_from_s={self.signs_from_s})"


def new_signing_key(signs_from_s: int = 0) -> SigningKey:
    """A pair that nobody had before."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_raw = private.public_key().public_bytes_raw()
    return SigningKey(kid_of(public_raw), pem.decode(), public_raw, signs_from_s)


def kid_of(public_raw: bytes) -> str:
    """The name of a public key: its thumbprint (RFC 7638, RFC 8037).

    Example:
        >>> kid_of(bytes.fromhex(  # The key of RFC 8037, appendix A.
        ...     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
        'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k'
    """
    # Members in alphabetical order and no space between them: the standard hashes these bytes.
    document = f'{{"crv":"Ed25519","kty":"OKP","x":"{base64url(public_raw)}"}}'
    return base64url(hashlib.sha256(document.encode()).digest())


def private_key_of(key: SigningKey) -> Ed25519PrivateKey:
    """The private part, ready to sign.

    Raises:
        ValueError: it is not an Ed25519 key, or not the one that ``public_raw`` says.
    """
    try:
        private = load_pem_private_key(key.private_pem.encode(), password=None)
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise ValueError(f"the private part of key {key.kid} cannot be read: {error}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"the private part of key {key.kid} is not an Ed25519 key")
    if private.public_key().public_bytes_raw() != key.public_raw:
        raise ValueError(f"the parts of key {key.kid} do not belong together")
    return private


def public_key_of(key: PublicKey) -> Ed25519PublicKey:
    """The public part, ready to check signatures.

    Raises:
        ValueError: it is not 32 bytes, or its name is not one that a token may have.
    """
    if len(key.public_raw) != _PUBLIC_BYTES:
        raise ValueError(f"key {key.kid!r} has {len(key.public_raw)} bytes instead of 32")
    if _KID.fullmatch(key.kid) is None:
        raise ValueError(f"key {key.kid!r} has a name that no token can say")
    return Ed25519PublicKey.from_public_bytes(key.public_raw)


def jwks(keys: Iterable[PublicKey]) -> dict[str, Any]:
    """The document by which others may check our tokens (RFC 7517, RFC 8037)."""
    return {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": base64url(key.public_raw),
                "kid": key.kid,
                "use": "sig",
                "alg": ALGORITHM,
            }
            for key in keys
        ]
    }


def base64url(octets: bytes) -> str:
    """Base 64 for addresses and tokens, without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
