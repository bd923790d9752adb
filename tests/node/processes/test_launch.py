"""Tests of how the processes of a node are started."""

import subprocess
import sys

import msgspec
from patience import PATIENCE_S
from tests_support import REPOSITORY

from node.config.tree import Config
from node.processes.launch import Launch


def _started(program: str) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); {program}",
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_supervisor_imports_little_before_it_starts_the_others() -> None:
    """The supervisor starts workers before it imports modules for its checks."""
    large = {
        "aiohttp",
        "asyncio",
        "cryptography",
        "encryption_network",
        "lmdb",
        "spaces",
        "tee_backend",
    }
    started = _started("import node.cli.serve; print(*sys.modules)")
    imported = started.communicate(timeout=PATIENCE_S)[0].decode().split()
    assert "node.processes.supervisor" in imported
    assert large.isdisjoint(imported)


def test_the_collector_rests_until_a_process_is_launched() -> None:
    """Objects imported before the launch are not collected; later garbage is."""
    program = (
        "import gc; gc.disable(); from node.processes.launch import receive_launch; launch ="
        " receive_launch(); print(gc.isenabled(), gc.get_freeze_count() > 1000, launch.worker,"
        " flush=True); sys.stdin.read()"
    )
    with _started(program) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(Launch(config=Config(), worker=3)) + b"\n")
        process.stdin.flush()
        assert process.stdout.readline().split() == [b"True", b"True", b"3"]
        process.stdin.close()  # the supervisor is gone
        process.wait(PATIENCE_S)


def test_what_starts_a_process_does_not_show_the_secret() -> None:
    """The text of a launch message does not contain the root secret."""
    assert "root secret" not in repr(
        Launch(config=Config(), secret=b"the root secret, 32 bytes or more")
    )
