"""Makes .venv and installs the project into it; for the other scripts, standard library only.

Does nothing when nothing has changed since the last time. Safe when several run at once, and
after one that was interrupted.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
NOTES = VENV / "installed"
GROUPS = {"run": [], "dev": ["--group", f"{ROOT / 'pyproject.toml'}:dev"]}
# The first version that knows --group.
PIP = "pip>=25.1"


def main(group: str) -> int:
    """Make everything ready that ``group`` needs; returns the exit status."""
    if is_ready(group):
        return 0
    # The directory itself is the lock, so that no file is left behind.
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell("waiting for another script that installs into .venv")
        fcntl.flock(lock, fcntl.LOCK_EX)
    if is_ready(group):
        return 0
    if not os.access(ROOT, os.W_OK):
        tell(f"{ROOT} cannot be written by this user, and .venv would be made there")
        return 1
    tell("installing into .venv; the first time takes some minutes")
    try:
        make_venv()
        install(PIP)
        install("--editable", str(ROOT), *GROUPS[group])
    except subprocess.CalledProcessError as error:
        tell(f"installing failed with status {error.returncode}; see above")
        return 1
    with NOTES.open("a") as notes:
        notes.write(f"{note_of(group)}\n")
    return 0


def note_of(group: str) -> str:
    """What is noted after an installation; anything else means that it has to be done again."""
    content = (ROOT / "pyproject.toml").read_bytes()
    # A virtual environment does not survive being moved.
    return f"{group} {hashlib.sha256(content).hexdigest()} {ROOT}"


def is_ready(group: str) -> bool:
    """Whether this group, or one that has all of it, has been installed."""
    sufficient = {note_of("dev"), note_of(group)}
    try:
        return PYTHON.exists() and not sufficient.isdisjoint(NOTES.read_text().splitlines())
    except OSError:
        return False


def make_venv() -> None:
    """Make .venv, unless there is one that works and belongs to this place."""
    if is_venv_usable():
        return
    if importlib.util.find_spec("ensurepip") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        tell(
            f"{sys.executable} cannot make virtual environments: it has no ensurepip. "
            f"On Debian and Ubuntu: apt install python{version}-venv"
        )
        sys.exit(1)
    # Never with the Python inside: it is about to be replaced.
    run(os.path.realpath(sys.executable), "-m", "venv", "--clear", str(VENV))


def is_venv_usable() -> bool:
    """Whether .venv was made for this place, and its pip and Python run."""
    probe = "import pip, sys; print(sys.prefix); sys.exit(sys.version_info < (3, 11))"
    try:
        answer = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, check=False)
        # The first lines of its scripts say where it was made.
        head = (VENV / "bin" / "pip").read_text()[:1_000]
    except OSError:
        return False
    is_here = os.path.realpath(answer.stdout.strip()) == os.path.realpath(VENV)
    return answer.returncode == 0 and is_here and str(VENV) in head


def install(*arguments: str) -> None:
    """Install with the environment's own pip."""
    quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    run(str(PYTHON), "-m", "pip", "install", *quiet, *arguments)


def run(*command: str) -> None:
    """Run a command; what it prints is shown when it fails, and is only noise otherwise."""
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except subprocess.CalledProcessError as error:
        print(error.stdout, file=sys.stderr)
        raise


def tell(text: str) -> None:
    """Say something that is not the output of the script."""
    print(f"housefull: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in GROUPS:
        sys.exit(f"usage: setup.py {'|'.join(GROUPS)}")
    sys.exit(main(sys.argv[1]))
