"""Processes that let others run first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import os, threading
from actors.process import give_way

begun, over, seen = threading.Event(), threading.Event(), []

def live():
    begun.set()
    over.wait()
    seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

old = threading.Thread(target=live)
old.start()
begun.wait()
give_way(10)
new = threading.Thread(target=live)
new.start()
over.set()
old.join()
new.join()
print(os.getpriority(os.PRIO_PROCESS, 0), *seen)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux only")
def test_all_threads_of_a_process_give_way_those_it_has_and_those_it_starts() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["10", "10", "10"]


_LEADER = """
import os
from pathlib import Path
from actors.process import give_way

assert os.getpgrp() == os.getpid() != os.getsid(0)
give_way(10)
give_way(10)
print(os.getsid(0) - os.getpid(), Path("/proc/self/autogroup").read_text().partition(" ")[2])
"""


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel does not group sessions"
)
def test_a_process_that_gives_way_is_a_group_of_its_own_even_if_it_led_another() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _LEADER], capture_output=True, text=True, check=True, process_group=0
    )
    assert ran.stdout.split() == ["0", "nice", "10"]
    assert ran.stderr == ""


_FORBIDDEN = """
import os
from actors import process

def refused(*_):
    raise PermissionError("not here")

os.setsid = refused
process.give_way(10)
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel does not group sessions"
)
def test_a_process_that_may_form_no_group_gives_way_all_the_same_and_says_so() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _FORBIDDEN], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["10"]
    assert "shares its group with others: not here" in ran.stderr
