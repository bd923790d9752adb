"""Measure the cost of clients that do not read their answers: worker memory and others' latency.

    python tools/benchmarks/unread_answers.py                 100 connections, 60 s, two workers
    python tools/benchmarks/unread_answers.py --connections 20 --seconds 5

A node is started on an empty folder. An owner's gets run alone for a while, then beside the
connections: half of them ask for a large public value and send forty megabytes of header lines
behind it, half of them send small requests one after another; none reads a byte. Each that the node
ends comes again. Reported are the latency of the gets, quiet and beside them, and how much the
worker's memory grew at most. Wanted: at most 64 MiB, and p99 within three times the quiet one;
beyond it the status is 1. Everything is on loopback and ends by itself.
"""

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from select import select

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

from driving import drive
from places import SETUP_S, Party, Place, path_of, request, set_up, token
from stalled_clients import StalledClient, long_heads, resident_bytes, small_requests
from started_servers import own_node

from capabilities.signatures import Ed25519Signer

TARGET_BYTES = 64 << 20
TARGET_RATIO = 3.0
_VALUE_BYTES = 8 << 20
_GETTERS = 2
_LOOK_S = 0.1


def hoard(port: int, path: str, connections: int, seconds: float) -> None:
    """Keep so many connections of the fault open, each filled as far as it goes, and then end."""
    kinds = (long_heads(), small_requests())
    clients = [
        StalledClient(port, path if not at % 2 else "/info", kinds[at % 2])
        for at in range(connections)
    ]
    print("begun", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for at, client in enumerate(clients):
            if client.is_ended or client.is_done:
                client.close()
                with suppress(ConnectionError):
                    clients[at] = StalledClient(
                        port, path if not at % 2 else "/info", kinds[at % 2]
                    )
        _, writable, _ = select([], clients, [], _LOOK_S)
        for client in writable:
            client.push()
    for client in clients:
        client.close()


def _gets(place: Place) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        grants = {f"{place.space}/kv/{path_of(number)}": ["tinycloud.kv/get"]}
        yield request("/invoke", token(place.session, grants))


async def _put_public(port: int) -> str:
    """Put a large value into a public space, and return where everybody may read it."""
    outsider = Ed25519Signer(secrets.token_bytes(32))
    space = f"tinycloud:{outsider.did.removeprefix('did:')}:public"
    party = Party(outsider, ())
    put = request(
        "/invoke", token(party, {f"{space}/kv/large": ["tinycloud.kv/put"]}), bytes(_VALUE_BYTES)
    )
    await drive(port, [put], connections=1, most_s=SETUP_S)
    return f"/public/{space}/kv/large"


def _workers(supervisor: int) -> list[int]:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [
        int(pid) for pid in children if b"\0worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


async def _watch(workers: list[int], grown: list[int]) -> None:
    before = {pid: resident_bytes(pid) for pid in workers}
    while True:
        grown.append(max(resident_bytes(pid) - before[pid] for pid in workers))
        await asyncio.sleep(_LOOK_S)


def _p99_ms(latencies_s: tuple[float, ...]) -> float:
    return round(sorted(latencies_s)[len(latencies_s) * 99 // 100] * 1000, 2)


async def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Run a node and both kinds of clients, and return the figures."""
    with own_node(
        folder / "data",
        "--attestation",
        "off",
        workers=arguments.workers,
        SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE="0",
    ) as (url, pid):
        place = await set_up(url)
        path = await _put_public(place.port)
        # what is slow the first time
        await drive(place.port, _gets(place), connections=_GETTERS, most_s=1)
        quiet = await drive(
            place.port, _gets(place), connections=_GETTERS, most_s=arguments.quiet_seconds
        )
        grown: list[int] = []
        watching = asyncio.create_task(_watch(_workers(pid), grown))
        fault = [str(place.port), path, str(arguments.connections), str(arguments.seconds)]
        with subprocess.Popen(
            [sys.executable, __file__, "--hoard", *fault], stdout=subprocess.PIPE
        ) as hoarding:
            assert hoarding.stdout is not None
            await asyncio.to_thread(hoarding.stdout.readline)
            beside = await drive(
                place.port, _gets(place), connections=_GETTERS, most_s=arguments.seconds
            )
        watching.cancel()
    return {
        "connections": arguments.connections,
        "seconds": arguments.seconds,
        "quiet_gets": len(quiet.latencies_s),
        "quiet_p99_ms": _p99_ms(quiet.latencies_s),
        "gets_beside": len(beside.latencies_s),
        "p99_beside_ms": _p99_ms(beside.latencies_s),
        "p99_ratio": round(_p99_ms(beside.latencies_s) / _p99_ms(quiet.latencies_s), 2),
        "worker_grew_mib": round(max(grown) / (1 << 20), 1),
    }


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description="What clients cost who do not read their answers.")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quiet-seconds", type=float, default=15.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hoard", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hoard:
        port, path, connections, seconds = arguments.hoard
        hoard(int(port), path, int(connections), float(seconds))
        return 0
    with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as folder:
        found = asyncio.run(measure(Path(folder), arguments))
    print(json.dumps(found))
    is_kept = (
        found["worker_grew_mib"] <= TARGET_BYTES / (1 << 20) and found["p99_ratio"] <= TARGET_RATIO
    )
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
