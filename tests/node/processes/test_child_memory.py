"""How much freed memory a worker or the storekeeper keeps for reuse."""

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_node import RunningNode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.libc_ver()[0] != "glibc", reason="other C libraries have other bounds"
    ),
]

_ROUNDS = """
import resource

def faults_of_rounds():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [bytes([number]) * 200_000 for number in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults_of_rounds()
print(faults_of_rounds())
"""

_HOARD = """
import os

def resident_bytes():
    return int(os.pread(statm, 100, 0).split()[1]) * 4096

statm = os.open("/proc/self/statm", os.O_RDONLY)
bytes(20 << 20)  # by itself glibc keeps up to 40 MiB of a heap from then on
hoard = [None] * 200
before = resident_bytes()
for number in range(200):
    hoard[number] = b"x" * 500_000
assert resident_bytes() - before > 90_000_000
hoard = None
print(resident_bytes() - before)
"""


@pytest.fixture(scope="module", params=["worker", "storekeeper"])
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of a node's processes."""
    node = RunningNode(tmp_path_factory.mktemp("node"), "--workers", "1")
    try:
        assert node.url
        (pid,) = node.children(request.param)
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    finally:
        node.close()
    yield dict(variable.split("=", 1) for variable in variables if variable)


def _said(program: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-c", program]
    return int(
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    )


def test_what_was_freed_is_used_again(environment: dict[str, str]) -> None:
    """Buffers of repeated uploads cost no new pages, which were some 7,000 without reuse."""
    assert _said(_ROUNDS, environment) < 200


def test_a_hoard_is_given_back(environment: dict[str, str]) -> None:
    """After much memory is freed, at most some MiB are kept, also after one large block."""
    assert _said(_HOARD, environment) < 8 << 20
