"""Refresh tokens: what a client keeps, and what is kept of it here.

The database has only the SHA-256 of a token. A client whose answer was lost asks again with the
token that it has, and must then get the successor that was made the first time, or two successors
would be alive. So the successor is kept as well, *sealed*: as the exclusive or with a key stream
that is made of the token before it. Who shows that token can open the seal; who reads the database
cannot. A stream is used once, because a token has one successor.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

_PREFIX = "rft_"
_SECRET_BYTES = 32
_TOKEN = re.compile(r"rft_[A-Za-z0-9_-]{43}")
_STREAM = b"housefull: the successor of a refresh token"


def draw_refresh_token() -> str:
    """A new token: 256 random bits as text.

    Example:
        >>> is_refresh_token(draw_refresh_token())
        True
    """
    return _text_of(secrets.token_bytes(_SECRET_BYTES))


def is_refresh_token(text: str) -> bool:
    """Whether ``text`` has the form of a refresh token."""
    return _TOKEN.fullmatch(text) is not None


def sha256_of(secret: str) -> bytes:
    """What is stored of a secret that nobody can guess."""
    return hashlib.sha256(secret.encode()).digest()


def seal(successor: str, token: str) -> bytes:
    """``successor``, so that only who knows ``token`` can open it."""
    return _xor(_secret_of(successor), _stream_of(token))


def unseal(sealed: bytes, token: str) -> str:
    """The successor that was sealed with ``token``.

    Example:
        >>> token, successor = draw_refresh_token(), draw_refresh_token()
        >>> unseal(seal(successor, token), token) == successor
        True
    """
    return _text_of(_xor(sealed, _stream_of(token)))


def _stream_of(token: str) -> bytes:
    return hmac.digest(_secret_of(token), _STREAM, "sha256")


def _secret_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.removeprefix(_PREFIX) + "=")


def _text_of(secret: bytes) -> str:
    return _PREFIX + base64.urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
