"""Memory that a worker keeps for what comes next."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource
from node.processes.freed_memory import keep_freed_memory

def faults_of_turns():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [bytes([number]) * 200_000 for number in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults_of_turns()
print(faults_of_turns())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other bounds")
def test_what_was_freed_is_used_again() -> None:
    """Blocks as an upload takes them cost no pages from the second turn on: some 7,000 where nothing was kept."""
    said = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True).stdout
    assert int(said) < 200
