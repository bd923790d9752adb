"""Memory measurements of a node in other processes while large values are written and read back.

This process generates the bytes of a value as it sends them, and compares them as they arrive. It
never holds a whole value.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from blake3 import blake3
from kv_client import Owner
from running_node import running_node
from tests_support import FixedClock

MIB = 1024 * 1024
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a worker.

    Attributes:
        before_bytes: when it had answered small requests.
        put_growth_bytes: the most it had more while values were put.
        get_growth_bytes: the most it had more while values were got.
        put_s: how long the puts took.
        get_s: how long the gets took.
    """

    before_bytes: int
    put_growth_bytes: int
    get_growth_bytes: int
    put_s: float
    get_s: float


class _Remote:
    def __init__(self, url: str) -> None:
        self.url = url


async def measure(folder: Path, *, size_bytes: int, at_once: int) -> Memory:
    """Put `at_once` values of a size concurrently, then get them concurrently."""
    environment = {"SEALSPACE_HOSTING__DEFAULT_QUOTA_BYTES": "0"}
    with running_node(folder, workers=1, environment=environment) as node:
        (worker,) = node.children("worker")
        timeout = aiohttp.ClientTimeout(total=1800)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            owner = Owner(_Remote(node.url), session, FixedClock(time.time()))  # type: ignore[arg-type]  # only its address is asked for
            for path in ("warm-1", "warm-2"):
                await _put(owner, path, 2 * MIB)
                await _get(owner, path, 2 * MIB)
            before_bytes = _reset_peak(worker)
            paths = [f"v{number}" for number in range(at_once)]
            begun = time.monotonic()
            await asyncio.gather(*(_put(owner, path, size_bytes) for path in paths))
            put_s, put_peak = time.monotonic() - begun, _peak(worker)
            _reset_peak(worker)
            begun = time.monotonic()
            await asyncio.gather(*(_get(owner, path, size_bytes) for path in paths))
            get_s, get_peak = time.monotonic() - begun, _peak(worker)
    shutil.rmtree(folder)  # gigabytes, which the folder of finished tests would keep
    return Memory(before_bytes, put_peak - before_bytes, get_peak - before_bytes, put_s, get_s)


async def _made(path: str, size_bytes: int) -> AsyncIterator[bytes]:
    """Yield the bytes of a value, which depend only on its path."""
    for offset in range(0, size_bytes, _PIECE_BYTES):
        block = blake3(f"{path}/{offset}".encode()).digest() * (_PIECE_BYTES // 32)
        yield block[: size_bytes - offset]


async def _put(owner: Owner, path: str, size_bytes: int) -> None:
    owner.clock.time = time.time()
    reply = await owner.invoke(("put", path), body=_made(path, size_bytes))
    assert reply.status == 200, reply.text


async def _get(owner: Owner, path: str, size_bytes: int) -> None:
    owner.clock.time = time.time()
    expected, found, found_bytes = blake3(), blake3(), 0
    async for piece in _made(path, size_bytes):
        expected.update(piece)
    headers = {"Authorization": owner.token([("get", path)])}
    async with owner.session.post(f"{owner.node.url}/invoke", headers=headers) as answer:
        assert answer.headers["Content-Length"] == str(size_bytes)
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            found.update(piece)
            found_bytes += len(piece)
        assert answer.headers["ETag"] == f'"blake3-{found.hexdigest()}"'
    assert found_bytes == size_bytes
    assert found.hexdigest() == expected.hexdigest()


def _reset_peak(pid: int) -> int:
    """Reset the recorded peak of a process's resident memory; return its current memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status_bytes(pid, "VmRSS")


def _peak(pid: int) -> int:
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
