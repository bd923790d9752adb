"""Compare the cost of a page in a space with many long keys with one in a space with ten.

    python tools/benchmarks/long_paths.py
    python tools/benchmarks/long_paths.py --keys 150000 --rounds 7 --json

Both are public spaces of one store, with keys that share their first 400 bytes. A node with one
worker runs on it, and anybody asks both for a page of one key, in turns. Reported: CPU time of a
request on each and its ratio (1.5 at most is wanted; beyond it the status is 1). Loading 150,000
keys and asking takes less than two minutes.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from crowds import owner_of
from driving import drive
from processes import used_by
from started_servers import own_node

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.store.contract import Commit, Committed, Store
from spaces.store.lmdb.engine import open_lmdb
from spaces.values.object_folder import ObjectFolder
from spaces.values.value_bodies import inline_body
from spaces.values.value_storage import Values
from spaces.values.value_writes import Write

FEW_KEYS = 10
TARGET_RATIO = 1.5
_SHARED = "x" * 400
_AT_ONCE = 200
_IN_FLIGHT = 32
_UNBOUNDED: dict[str, Any] = {"SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE": "0"}


def space_of(number: int) -> SpaceId:
    """Return the public space of one of two owners."""
    return SpaceId(Principal(owner_of(number + 1).did), "public")


async def load(data: Path, counts: tuple[int, ...]) -> None:
    """Write so many values under long keys into a public space each; a node has to have run on the
    folder."""
    store = open_lmdb(data)
    try:
        values = Values(store, ObjectFolder(data / "blobs"), SystemEntropy())
        for number, count in enumerate(counts):
            starts = range(0, count, _AT_ONCE)
            for first in range(0, len(starts), _IN_FLIGHT):
                parts = [
                    range(at, min(at + _AT_ONCE, count))
                    for at in starts[first : first + _IN_FLIGHT]
                ]
                await asyncio.gather(
                    *[_write(store, values, space_of(number), part) for part in parts]
                )
    finally:
        await store.close()


async def _write(store: Store, values: Values, space: SpaceId, numbers: range) -> None:
    writes = [Write(f"{_SHARED}{number:08}", inline_body(b"")) for number in numbers]
    plan = await (await values.draft(space, writes, [None] * len(writes))).finalize(now=1.0)
    assert isinstance(await store.commit(Commit(puts=plan.puts, adds=plan.adds)), Committed)


async def compared(url: str, pid: int, *, rounds: int, requests: int) -> tuple[float, float]:
    """Ask for a page of one key in both spaces, in turns; return the least CPU microseconds of a
    request in each."""
    port = urlsplit(url).port or 80
    least = [float("inf"), float("inf")]
    for turn in range(rounds + 1):
        for which in (0, 1) if turn % 2 else (1, 0):
            path = f"/public/{quote(space_of(which).text, safe='')}/kv?limit=1"
            asked = [f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()] * requests
            before = used_by(pid)
            answered = await drive(port, asked, connections=4, most_s=60, keep=True)
            used_us = sum(used_by(pid).since(before).values()) / requests * 1e6
            assert [json.loads(body) for body in answered.bodies] == [
                [f"{_SHARED}{0:08}"]
            ] * requests
            if turn:  # the first one warms up
                least[which] = min(least[which], used_us)
    return least[0], least[1]


def main() -> int:
    """Fill a store, ask, and print the figures."""
    arguments = _arguments().parse_args()
    with tempfile.TemporaryDirectory(prefix="sealspace-long-paths-", dir=arguments.folder) as made:
        data = Path(made) / "data"
        with own_node(data, "--attestation", "off"):
            pass
        started = time.perf_counter()
        asyncio.run(load(data, (FEW_KEYS, arguments.keys)))
        loaded_s = time.perf_counter() - started
        with own_node(data, "--attestation", "off", **_UNBOUNDED) as (url, pid):
            few_us, many_us = asyncio.run(
                compared(url, pid, rounds=arguments.rounds, requests=arguments.requests)
            )
    ratio = many_us / few_us
    found = {
        "keys": arguments.keys,
        "loaded_s": loaded_s,
        "few_us": few_us,
        "many_us": many_us,
        "ratio": ratio,
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(
            f"a page of one key among {FEW_KEYS}: {few_us:.0f} µs, among {arguments.keys}:"
            f" {many_us:.0f} µs of CPU"
        )
        print(
            f"ratio {ratio:.2f} (at most {TARGET_RATIO} is wanted); loading took {loaded_s:.0f} s"
        )
    return int(ratio > TARGET_RATIO)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--keys", type=int, default=150_000, help="keys in the large space (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds in each space (default: %(default)s)"
    )
    parser.add_argument(
        "--requests", type=int, default=500, help="requests of a round (default: %(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the store lies; it is removed at the end"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the sentences")
    return parser


if __name__ == "__main__":
    sys.exit(main())
