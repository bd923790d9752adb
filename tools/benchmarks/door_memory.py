"""Measure the memory of a door that keeps secrets in its cache.

    python tools/benchmarks/door_memory.py                  10,000 secrets of 1 KiB: ten minutes
    python tools/benchmarks/door_memory.py --secrets 1500 --value-bytes 16384

A node and a door with `--cache 3600` are started on an empty folder. An owner stores the secrets,
and the owner's token at the door reads each of them once. A door sends at most 1200 requests a
minute to the node for one grant; the measurement waits when that is reached.

Printed is one JSON object. It has the memory of the door before and after in MiB: `private_mib` is
what no file backs, and `locked_mib` includes mapped files. `kept` is the number of secrets that the
door answers after the node has ended. It is smaller than the number of secrets if a bound of the
cache was reached (DR15). Everything is on loopback and ends by itself.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
from running_node import COMMAND
from stalled_clients import resident_bytes
from started_servers import own_node
from tests_support import REPOSITORY

from sealspace.client import Client
from sealspace.session import load_session

_BATCH = 250
_AT_ONCE = 8
_WAIT_S = 3.0
_TOO_MANY = 429


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "SEALSPACE_HOME": str(home)}


@contextmanager
def _door(home: Path, token_file: Path) -> Iterator[tuple[str, int]]:
    """Run a door for the session in a home; give its address and its process id."""
    process = subprocess.Popen(
        [*COMMAND, "door", "--port", "0", "--cache", "3600", "--token-file", str(token_file)],
        env=_environment(home),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("listening on "):
                break
        else:
            raise SystemExit("the door does not listen")
        yield line.removeprefix("listening on ").strip(), process.pid
    finally:
        process.terminate()
        process.communicate()


def _memory(pid: int) -> dict[str, float]:
    """Return the memory of a process that no file backs, and what is locked, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    locked = re.search(r"^VmLck:\s+([0-9]+) kB", status, re.M)
    return {
        "private_mib": round(resident_bytes(pid) / 2**20, 1),
        "locked_mib": 0.0 if locked is None else round(int(locked[1]) / 2**10, 1),
    }


async def _store(url: str, home: Path, values: dict[str, str]) -> None:
    """Store secrets of the owner who is logged in in a home."""
    async with Client(url, session=load_session(home / "session.json")) as client:
        names = [*values]
        for first in range(0, len(names), _BATCH):
            batch = {name: values[name] for name in names[first : first + _BATCH]}
            await client.secrets().put_many(batch)


async def _read(url: str, token: str, names: list[str], *, waits: bool) -> int:
    """Read secrets at a door; return how many it answered.

    With `waits`, a secret that the door refuses for its limit of requests is read again.
    """
    answered = 0
    waiting = iter(names)

    async def read_some(http: aiohttp.ClientSession) -> None:
        nonlocal answered
        for name in waiting:
            status = _TOO_MANY
            while status == _TOO_MANY:
                async with http.get(f"{url}/v1/secret/data/{name}") as answer:
                    await answer.read()
                    status = answer.status
                if not waits:
                    break
                if status == _TOO_MANY:
                    await asyncio.sleep(_WAIT_S)
            answered += status == 200

    async with aiohttp.ClientSession(headers={"X-Vault-Token": token}) as http:
        await asyncio.gather(*(read_some(http) for _ in range(_AT_ONCE)))
    return answered


def measure(folder: Path, *, secrets: int, value_bytes: int) -> dict[str, object]:
    """Measure one door."""
    values = {f"S{number:06}": f"{number:06}".ljust(value_bytes, "x") for number in range(secrets)}
    home, token_file = folder / "home", folder / "token"
    with ExitStack() as ending:
        with own_node(folder / "data") as (node, _):
            login = [*COMMAND, "login", node, "--new"]
            subprocess.run(login, env=_environment(home), check=True, capture_output=True)
            asyncio.run(_store(node, home, values))
            url, pid = ending.enter_context(_door(home, token_file))
            token = token_file.read_text()
            before = _memory(pid)
            read = asyncio.run(_read(url, token, [*values], waits=True))
            after = _memory(pid)
        kept = asyncio.run(_read(url, token, [*values], waits=False))
    return {
        "secrets": secrets,
        "value_bytes": value_bytes,
        "read": read,
        "kept": kept,
        "before": before,
        "after": after,
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--secrets", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=1024)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), secrets=arguments.secrets, value_bytes=arguments.value_bytes)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
