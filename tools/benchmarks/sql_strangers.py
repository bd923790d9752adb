"""Strangers on SQL databases: statements that nothing stops, memory, logs and descriptors.

    python tools/benchmarks/sql_strangers.py --minutes 5
    python tools/benchmarks/sql_strangers.py --minutes 0.5 --only case --only memory

A node runs as its processes on loopback. Another owner asks for `SELECT count(*)` at a fixed rate:
first quiet, then while each attack runs from sixteen spaces. Printed are the other owner's times,
the most memory (PSS) and descriptors of the node's processes, the most bytes of the databases'
logs, and after SIGTERM how long the node took to end and whether it had to be killed.

The servers have all cores but the last; the owner and the attackers, each a process of its own,
have the last one. Everything stops by itself.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
from paced import Ask, cores, paced
from processes import family
from running_node import RunningNode, key_token, new_key, running_node

from capabilities.signatures import Ed25519Signer

SPACES = 16
TEXT_BYTES = 4_800_000
_EMOJI = "char(128512)"
_LOOK_S = 0.5
_CLIENTS = 2  # of each space
_CLIENT_LEAVES_S = 60.0
_KILLED_WITHIN_S = 120.0
_PAUSE_S = 0.05  # after a refusal

_CASELESS = (
    "CREATE TABLE t (a TEXT COLLATE NOCASE, b TEXT COLLATE NOCASE)",
    # Equal under NOCASE, and different in their bytes: a comparison reads both to the end.
    "INSERT INTO t SELECT x, lower(x) FROM"
    f" (SELECT replace(hex(zeroblob({TEXT_BYTES // 2 - 1000})), '0', 'A') AS x)",
)
_EQUAL = (
    "CREATE TABLE t (c TEXT, d TEXT)",
    "INSERT INTO t SELECT x, x FROM"
    f" (SELECT replace(hex(zeroblob({TEXT_BYTES // 2 - 1000})), '0', '7') AS x)",
)
_SMALL = ("CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")


def combined(terms: Sequence[str]) -> str:
    """Add terms up as a balanced tree: the depth of an expression is limited."""
    level = list(terms)
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [f"({'+'.join(pair)})" for pair in pairs]
    return level[0]


@dataclass(frozen=True, slots=True)
class Attack:
    """What a stranger does in each of its spaces.

    Attributes:
        name: in the table.
        made_by: statements that fill a database.
        sql: the statement that is sent again and again.
        databases: how many each space has. A space runs two statements at once, in two of them.
        spaces: how many are attacked from; a stranger makes them for nothing.
        writer: further clients write this to the same databases meanwhile.
    """

    name: str
    made_by: Sequence[str]
    sql: str
    databases: int = 2
    spaces: int = SPACES
    writer: str = ""


ATTACKS = (
    Attack("case", _CASELESS, f"SELECT CASE {'WHEN a<>b THEN 1 ' * 2000}END FROM t"),
    Attack("differs", _EQUAL, f"SELECT {combined(['(c<>d)'] * 1000)} FROM t"),
    Attack("is-not", _EQUAL, f"SELECT {combined(['(c IS NOT d)'] * 2000)} FROM t"),
    Attack("number", _EQUAL, f"SELECT {combined(['(c+0)'] * 200)} FROM t"),
    Attack("upper", _EQUAL, f"SELECT {combined(['(upper(c) IS NULL)'] * 300)} FROM t"),
    Attack(
        "log",
        (
            *_CASELESS,
            "CREATE TABLE w (a)",
            "INSERT INTO w WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            " WHERE i < 30) SELECT randomblob(100000) FROM n",
        ),
        # A reader that nothing stops keeps the whole log; writers in the other worker fill it.
        f"SELECT CASE {'WHEN a<>b THEN 1 ' * 2000}END FROM t",
        spaces=2,
        writer="UPDATE w SET a = randomblob(100000)",
    ),
    Attack(
        "memory",
        (
            "CREATE TABLE t (a)",
            f"INSERT INTO t SELECT replace(hex(zeroblob(4800000)), '0', 'A') || {_EMOJI}",
        ),
        f"SELECT {', '.join(['a'] * 10)} FROM t",
        # Sixteen spaces took 15 GiB. Two show the growth, and the machine survives.
        spaces=2,
    ),
    Attack("open", _SMALL, "SELECT count(*) FROM t", databases=8, spaces=32),
)


# --- a stranger: a process of its own -------------------------------------------------------------


@dataclass
class Caller:
    """An owner with a key of its own, who asks for databases of its space."""

    url: str
    signer: Ed25519Signer = field(default_factory=new_key)

    def token(self, resource: str, *abilities: str) -> str:
        """Return a token for a resource of the caller's space."""
        space = f"tinycloud:{self.signer.did.removeprefix('did:')}:default"
        return key_token(self.signer, self.signer.did, {f"{space}/{resource}": list(abilities)})

    async def host(self, http: aiohttp.ClientSession) -> None:
        """Write a value, which hosts the space."""
        headers = {"Authorization": self.token("kv/a", "tinycloud.kv/put")}
        async with http.post(f"{self.url}/invoke", data=b"a", headers=headers) as answer:
            if answer.status != 200:
                raise RuntimeError(await answer.text())

    async def ask(
        self, http: aiohttp.ClientSession, database: str, sql: str, action: str = "query"
    ) -> tuple[int, bytes]:
        """Send one statement, and return the status and body of the answer."""
        rights = ["tinycloud.sql/read", "tinycloud.sql/write", "tinycloud.sql/schema"]
        if action == "query":
            rights = rights[:1]
        headers = {
            "Authorization": self.token(f"sql/{database}", *rights),
            "Content-Type": "application/json",
        }
        body = json.dumps({"action": action, "sql": sql}).encode()
        async with http.post(f"{self.url}/invoke", data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def make(
        self, http: aiohttp.ClientSession, database: str, statements: Sequence[str]
    ) -> None:
        """Make a database."""
        for sql in statements:
            status, body = await self.ask(http, database, sql, "execute")
            if status != 200:
                raise RuntimeError(f"{status}: {body[:200]!r}")


async def attack(name: str, url: str, seconds: float) -> None:
    """Attack from all spaces, and print how often each status was the answer."""
    chosen = next(one for one in ATTACKS if one.name == name)
    statuses: dict[str, int] = {}
    bodies: dict[str, str] = {}
    callers = [Caller(url) for _ in range(chosen.spaces)]

    async def again(
        http: aiohttp.ClientSession, caller: Caller, first: int, sql: str, action: str
    ) -> None:
        """Send a statement to the databases of a space in turn, two clients to two of them."""
        number = first
        while True:
            database = f"d{number % chosen.databases}"
            number += _CLIENTS
            status = "gone"
            with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                async with asyncio.timeout(_CLIENT_LEAVES_S):
                    code, body = await caller.ask(http, database, sql, action)
                status = str(code)
                if code != 200:
                    bodies.setdefault(status, body[:100].decode(errors="replace"))
            statuses[status] = statuses.get(status, 0) + 1
            if status != "200":
                await asyncio.sleep(_PAUSE_S)

    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        for caller in callers:
            await caller.host(http)
            for number in range(chosen.databases):
                await caller.make(http, f"d{number}", chosen.made_by)
        print("attacking", flush=True)
        asked = [(chosen.sql, "query")]
        if chosen.writer:
            asked.append((chosen.writer, "execute"))
        running = [
            asyncio.create_task(again(http, caller, first, sql, action))
            for caller in callers
            for first in range(_CLIENTS)
            for sql, action in asked
        ]
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    print(json.dumps({"statuses": statuses, "refused": bodies}), flush=True)


@asynccontextmanager
async def attacking(program: str, *arguments: str) -> AsyncIterator[list[str]]:
    """Run an attack in a process of its own, at a lower priority, until the block ends.

    The block begins once the process has made what it needs. It appends its last line to the list.
    """
    said: list[str] = []
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10", sys.executable, program, "--as", *arguments),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    assert process.stdout is not None
    try:
        while (line := await process.stdout.readline()) and line.strip() != b"attacking":
            said.append(line.decode().strip())
        if not line:
            raise RuntimeError(f"the attack {arguments} did not begin: {said}")
        yield said
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        rest = await process.stdout.read()
        await process.wait()
        said.append(rest.decode().strip())


# --- the node -------------------------------------------------------------------------------------


@dataclass
class Watch:
    """The most that a node's processes and databases took while it was watched."""

    pid: int
    databases: Path
    pss_mib: float = 0.0
    descriptors: int = 0
    log_mib: float = 0.0
    database_mib: float = 0.0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Look once."""
        pss = 0
        for pid in family(self.pid):
            with suppress(OSError):  # it may end while it is looked at
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        pss += int(line.split()[1])
                opened = len(os.listdir(f"/proc/{pid}/fd"))
                self.descriptors = max(self.descriptors, opened)
        self.pss_mib = max(self.pss_mib, pss / 1024)
        for path in self.databases.rglob("*"):
            with suppress(OSError):
                size_mib = path.stat().st_size / 2**20
                if path.name.endswith("-wal"):
                    self.log_mib = max(self.log_mib, size_mib)
                else:
                    self.database_mib = max(self.database_mib, size_mib)

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped.wait(_LOOK_S):
            self.look()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()


def stopped(node: RunningNode) -> dict[str, object]:
    """Send SIGTERM, and return how long the node took to end and whether it was forced."""
    began = time.monotonic()
    node.process.send_signal(signal.SIGTERM)
    try:
        node.process.wait(_KILLED_WITHIN_S)
    except subprocess.TimeoutExpired:
        return {"ended_s": None, "forced": True}
    took_s = round(time.monotonic() - began, 2)
    node._reader.join(10)
    said = [line for line in node.lines if '"node-stopped"' in line]
    forced = json.loads(said[-1])["forced"] if said else None
    return {"ended_s": took_s, "forced": forced}


async def honest(url: str) -> Ask:
    """Make another owner's small database, and return how it is asked."""
    caller = Caller(url)
    async with aiohttp.ClientSession() as http:
        await caller.host(http)
        await caller.make(http, "app", _SMALL)

    async def ask(http: aiohttp.ClientSession, _: int) -> bool:
        status, _body = await caller.ask(http, "app", "SELECT count(*) FROM t")
        return status == 200

    return ask


async def measured(folder: Path, name: str, given: argparse.Namespace) -> Mapping[str, object]:
    """Run one attack on a node of its own, and return the figures."""
    seconds = given.minutes * 60
    servers, generators = cores()
    os.sched_setaffinity(0, servers)
    environment = {"SEALSPACE_LIMITS__UNAUTHENTICATED_PER_MINUTE": "0"}
    with running_node(
        folder, "--attestation", "off", workers=given.workers, environment=environment
    ) as node:
        url = node.url
        os.sched_setaffinity(0, generators)
        samples = max(int(seconds * given.per_s), 1)
        ask = await honest(url)
        pace = {"per_s": given.per_s, "most_s": seconds + 60.0}
        quiet = await paced(ask, samples=given.quiet_samples, **pace)
        watch = Watch(node.process.pid, folder / "data")
        watching = threading.Thread(target=watch.run, daemon=True)
        async with attacking(__file__, name, url, str(seconds + 120)) as said:
            watching.start()
            under = await paced(ask, samples=samples, **pace)
            # While the statements run: this is when an operator stops a node.
            ended = await asyncio.to_thread(stopped, node)
            watch.stop()
        watching.join()
    return {
        "attack": name,
        "quiet_p50_ms": round(quiet.milliseconds(0.5), 1),
        "quiet_p99_ms": round(quiet.milliseconds(0.99), 1),
        "p50_ms": round(under.milliseconds(0.5), 1),
        "p99_ms": round(under.milliseconds(0.99), 1),
        "ratio": round(under.milliseconds(0.99) / quiet.milliseconds(0.99), 1),
        "samples": len(under.latencies_s),
        "failed": under.failed,
        "pss_mib": round(watch.pss_mib),
        "descriptors": watch.descriptors,
        "log_mib": round(watch.log_mib, 1),
        "database_mib": round(watch.database_mib, 1),
        **ended,
        "load": os.getloadavg()[0],
        "answers": said[-1],
    }


def main() -> int:
    """Measure, or attack as one of the processes that the measurement starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of each attack")
    parser.add_argument("--only", action="append", help="this attack; may be repeated")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--per-s", type=float, default=20.0, help="questions of the other owner")
    parser.add_argument("--quiet-samples", type=int, default=400)
    parser.add_argument("--as", dest="attack", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.attack:
        name, url, seconds = given.attack
        asyncio.run(attack(name, url, float(seconds)))
        return 0
    for one in ATTACKS:
        if given.only is None or one.name in given.only:
            with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as folder:
                print(json.dumps(asyncio.run(measured(Path(folder), one.name, given))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
