"""What can be expected to go wrong around a house, told in words for the person at the terminal."""

from __future__ import annotations


class HouseError(Exception):
    """The message says in one line (or one line each) what is wrong and what to do about it.

    ``exit_status`` is that of a command which ends because of it.
    """

    exit_status = 1


class BadInput(HouseError):
    """The person can correct it: an option, a setting, a file."""

    exit_status = 2
