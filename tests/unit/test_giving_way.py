"""Processes that let others run first."""

from __future__ import annotations

import subprocess
import sys

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
