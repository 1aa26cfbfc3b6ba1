"""Looks for secrets where anybody on a machine, or whoever reads logs, would find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

SECRET_LENGTH_MIN = 8
"""A shorter one would be found everywhere by chance; a test that has one must choose another."""


def password_of(url: str) -> str:
    """The password of a URL, as it is written there."""
    password = urlsplit(url).password
    assert password, f"no password in {url}"
    assert unquote(password) == password, "it would look different elsewhere"
    return password


def in_arguments(secrets: Mapping[str, str], processes: Iterable[psutil.Process]) -> list[str]:
    """Which of these named secrets stand in the command lines of which processes."""
    found = []
    for process in processes:
        try:
            line = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        found += [f"{name} in the arguments of {line[:80]}" for name in _named_in(line, secrets)]
    return found


def in_files(secrets: Mapping[str, str], folder: Path) -> list[str]:
    """Which of these named secrets stand in which files below a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            text = path.read_text(errors="replace")
            found += [f"{name} in {path.relative_to(folder)}" for name in _named_in(text, secrets)]
    return found


def _named_in(text: str, secrets: Mapping[str, str]) -> list[str]:
    for name, secret in secrets.items():
        assert len(secret) >= SECRET_LENGTH_MIN, name
    return [name for name, secret in secrets.items() if secret in text]
