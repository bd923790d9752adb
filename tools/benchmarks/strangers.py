"""One table: what an honest caller waits, quiet and while strangers attack a node or a runner.

    python tools/benchmarks/strangers.py
    python tools/benchmarks/strangers.py --samples 200 --only bodies --only door

Each attack has a node (and a runner with two children) of its own, as processes on loopback. The
honest caller asks at a fixed rate, whatever the answers take: first quiet, then under the attack.

- `sql`: sixteen spaces send statements that compare texts of 4.8 MB two thousand times; the honest
  caller counts the rows of a small table.
- `bodies`: a key without credit posts 20 MB of JSON to `/call`; the honest caller runs a program.
- `generate`: a stranger asks for `/secrets/generate` while many grants are held; as `bodies`.
- `patterns`: six run grants with sixteen patterns each, and calls by new keys; as `bodies`.
- `door`: run grants with broken signatures, and valid ones of strangers, from 127.0.0.1; the honest
  caller delivers genuine grants of forty owners, each at an address of its own. A delivery that is
  refused counts as failed.

- `sessions`, `query`, `capabilities`, `chain`: an account with large delegations
  (`delegation_strangers.py`); the honest caller reads a value of 1 KiB.

The servers have all cores but the last; the honest caller and the attackers, each a process of its
own and the attackers at a lower priority, have the last one. Judged: p99 under the attack is at
most three times that of the quiet time, and nothing failed. Everything stops by itself.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
import delegation_strangers
import sql_strangers
import wasmtime
from backend_site import Documents
from deviating_platform import SimulatedPlatform
from paced import Ask, Paced, cores, paced
from runner_stage import ECHO, P1
from running_node import COMMAND, key_token, running_node
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from runner.http.operator_routes import ask_operator
from sealspace.apps.api_keys import new_api_key
from sealspace.apps.backends import fetch_evidence
from sealspace.apps.run_calls import call_headers
from sealspace.apps.runners import runner_at
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AccountPattern, AllowAll, Logic
from sealspace.documents.generation_grants import GENERATE, generation_body
from sealspace.documents.published import GRANTS_PATH
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import InvalidInput
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation, encode_bundle
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.trust_root import parse_trust_root

MOST_RATIO = 3.0
BODY_BYTES = 20_000_000
PATTERN_GRANTS = 6
PATTERNS = 16
RULES = 64
_REPEATS = (900, 400, 200, 100, 50, 20, 10)
_WAIT_S = 60.0
_PAUSE_S = 0.5  # after a refused delivery
_TRIES = 120
_OF_A_STRANGER = 16  # grants; a runner holds few of one owner
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Flood:
    """What an attacker sends.

    Attributes:
        clients: each sends the next request when the answer has come, or after its pause.
        pause_s: between two requests of one client.
    """

    clients: int
    pause_s: float = 0.0


FLOODS = {
    "bodies": Flood(clients=2, pause_s=0.25),
    "generate": Flood(clients=40),
    "patterns": Flood(clients=8),
    "door": Flood(clients=7, pause_s=1.0),
}


# --- the runner and what is on it -----------------------------------------------------------------


@dataclass
class Site:
    """A node and a runner that trust a simulated platform.

    Attributes:
        given: what the attacker's process is told.
        deliveries: genuine grants as they are sent.
    """

    node: str
    url: str
    folder: Path
    inspector: Inspector
    developer: str = ""
    sha256: str = ""
    customer: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    deliveries: list[bytes] = field(default_factory=list)

    async def key(self, name: str) -> str:
        """Make an API key of an account without credit; runs cost nothing here."""
        owner = Ed25519Signer(secrets.token_bytes(32))
        credit: dict[str, Any] = {"owner": owner.did, "amount": 0, "reference": name}
        await ask_operator(self.folder / "kept", credit)
        runner = await runner_at(self.url)
        until_s = SystemClock().now() + 86_400
        statement, shown = new_api_key(
            owner,
            runner=runner.did,
            entropy=SystemEntropy(),
            projects=None,
            max_per_call=1,
            expires_at=until_s,
        )
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/keys", data=statement) as answer,
        ):
            if answer.status != 201:
                raise RuntimeError(await answer.text())
        return shown.text


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Site]:
    """Start a node and a runner, and publish a small program."""
    platform = SimulatedPlatform.from_seed(secrets.token_bytes(32))
    platform.save(folder / "tee")
    servers, generators = cores()
    lifted = {
        "SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE": "1000000",
        "SEALSPACE_LIMITS__UNAUTHENTICATED_PER_MINUTE": "0",
    }
    async with AsyncExitStack() as stack:
        os.sched_setaffinity(0, servers)
        node = stack.enter_context(
            running_node(folder, platform=platform, workers=1, environment=lifted)
        )
        process = stack.enter_context(
            subprocess.Popen(
                [
                    *COMMAND,
                    *("runner", "serve", "--simulate", "tee", "--port", "0"),
                    *("--node", node.url, "--data", "kept", "--key", "file"),
                ],
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        )
        stack.callback(process.terminate)
        assert process.stderr is not None
        said = ""
        while not said.startswith("listening on"):
            said = process.stderr.readline()
            if not said:
                raise RuntimeError("the runner did not start")
        os.sched_setaffinity(0, generators)
        inspector = Inspector(
            Documents(platform, SystemClock().now()), root=parse_trust_root(platform.root_der)
        )
        site = Site(node.url, said.split()[-1], folder, inspector)
        developer = new_wallet()
        site.developer = str(developer.did)
        async with Client(node.url) as client:
            await client.sign_in(developer, SignIn(spaces=("public",)))
            version = await client.programs(public=True).publish(
                "echo", bytes(wasmtime.wat2wasm(ECHO)), target=P1, signer=developer
            )
            site.sha256 = version.sha256
        site.customer = await site.key("customer")
        yield site


async def run_grants(site: Site, count: int, statement: RunStatement) -> list[PortableDelegation]:
    """Have an owner make run grants, which nobody has delivered yet."""
    wallet = new_wallet()
    seen = await fetch_evidence(site.url, site.inspector)
    async with Client(site.node) as owner:
        await owner.sign_in(wallet)
        await owner.secrets().put("API_KEY", "value")
        return [
            await owner.runners.grant(seen, ["API_KEY"], statement, wallet=wallet)
            for _ in range(count)
        ]


async def posted(site: Site, body: bytes, address: str) -> int:
    """Deliver a grant from an address of loopback, and return the status of the answer."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.post(site.url + GRANTS_PATH, data=body, headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


async def delivered(site: Site, portable: PortableDelegation, number: int) -> None:
    """Deliver a grant, as soon as the runner has a place for it: it takes some in a minute."""
    body = encode_bundle([portable])
    for _ in range(_TRIES):
        status = await posted(site, body, f"127.0.1.{1 + number % 200}")
        if status == 204:
            return
        if status != 503:
            raise RuntimeError(f"a grant of the preparation was answered {status}")
        await asyncio.sleep(_PAUSE_S)
    raise RuntimeError("the runner has no place for a grant of the preparation")


# --- the attacks' preparation ---------------------------------------------------------------------


async def prepare_bodies(site: Site, _: argparse.Namespace) -> None:
    """Give the attacker a key."""
    site.given["key"] = await site.key("attacker")


async def prepare_generate(site: Site, given: argparse.Namespace) -> None:
    """Have a stranger leave many grants to write secrets with the runner."""
    seen = await fetch_evidence(site.url, site.inspector)
    for first in range(0, given.grants, _OF_A_STRANGER):
        wallet = new_wallet()
        async with Client(site.node) as owner:
            await owner.sign_in(wallet)
            for number in range(first, min(first + _OF_A_STRANGER, given.grants)):
                path = owner.secrets().resource(f"PROTECTED_{number}")
                granted = [allow(path, "tinycloud.kv/put")]
                portable = await owner.delegations.delegate(
                    seen.did, granted, ttl_s=3600, wallet=wallet
                )
                await delivered(site, portable, number)


async def prepare_patterns(site: Site, _: argparse.Namespace) -> None:
    """Deliver run grants with the slowest patterns that are accepted."""
    for repeats in _REPEATS:
        patterns = tuple(
            AccountPattern(f"(.?){{{repeats}}}0{number}") for number in range(PATTERNS)
        )
        rules = tuple(ByHash(site.sha256) for _ in range(RULES))
        statement = RunStatement(programs=rules, callers=Logic("Or", patterns))
        try:
            portables = await run_grants(site, PATTERN_GRANTS, statement)
            for number, portable in enumerate(portables):
                await delivered(site, portable, number)
        except InvalidInput:
            continue  # a bound refuses the pattern
        site.given["owner"] = str(portables[0].owner)
        site.given["repeats"] = repeats
        return
    raise RuntimeError("no pattern is accepted")


async def prepare_door(site: Site, given: argparse.Namespace) -> None:
    """Make the grants of honest owners, and one that the attacker damages."""
    statement = RunStatement(programs=(ByHash(site.sha256),), callers=AllowAll())
    for _ in range(given.owners):
        for portable in await run_grants(site, 1, statement):
            site.deliveries.append(encode_bundle([portable]))
    damaged, valid = await run_grants(site, 2, statement)
    site.given["damaged"] = [encode_bundle([damaged]).decode(), damaged.header]
    site.given["valid"] = encode_bundle([valid]).decode()


PREPARE: dict[str, Callable[[Site, argparse.Namespace], Awaitable[None]]] = {
    "bodies": prepare_bodies,
    "generate": prepare_generate,
    "patterns": prepare_patterns,
    "door": prepare_door,
}


# --- the attackers: each a process of its own -----------------------------------------------------


async def attack(name: str, given: dict[str, Any]) -> None:
    """Attack until SIGTERM, and print how often each status was the answer."""
    statuses: dict[str, int] = {}
    flood, url = FLOODS[name], given["url"]
    runner = await runner_at(url)
    large = b'{"input": [' + b"[]," * (BODY_BYTES // 3 - 10) + b"[]]}"

    def signed(about: str, body: bytes, seed: bytes) -> dict[str, str]:
        now, entropy = SystemClock().now(), SystemEntropy()
        return call_headers(
            key_session(seed), runner=runner, program=about, body=body, now=now, entropy=entropy
        )

    def requested() -> tuple[str, bytes, dict[str, str]]:
        """Return the path, the body and the headers of the next request."""
        seed = secrets.token_bytes(32)
        if name == "bodies":
            return f"/call/{given['developer']}/echo", large, {"X-Payment-Key": given["key"]}
        if name == "generate":
            own = str(key_session(seed).owner)
            body = json.dumps(generation_body(own, None, {"PROTECTED_X": "hex32"})).encode()
            return "/secrets/generate", body, signed(GENERATE, body, seed)
        if name == "patterns":
            program = f"{given['developer']}/echo"
            reference = {"profile": "default", "owner": given["owner"]}
            asked = {"source": {"project": program}, "secretsRef": reference}
            body = json.dumps(asked).encode()
            return "/run", body, signed(program, body, seed)
        text, header = given["damaged"]
        signer = Ed25519Signer(seed)
        space = f"tinycloud:{signer.did.removeprefix('did:')}:secrets"
        token = key_token(signer, runner.did, {f"{space}/kv/vault/A": ["tinycloud.kv/get"]})
        wrong = token[:-86] + encode_url(secrets.token_bytes(64))
        if secrets.randbelow(4) == 0:
            text = given["valid"]
        return GRANTS_PATH, text.replace(header, wrong).encode(), {}

    async def client(http: aiohttp.ClientSession) -> None:
        while True:
            path, body, headers = requested()
            status = "gone"
            with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                async with (
                    asyncio.timeout(_WAIT_S),
                    http.post(
                        url + path,
                        data=body,
                        headers={"Content-Type": "application/json", **headers},
                    ) as answer,
                ):
                    await answer.read()
                    status = str(answer.status)
            statuses[status] = statuses.get(status, 0) + 1
            await asyncio.sleep(flood.pause_s)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("attacking", flush=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        clients = [asyncio.create_task(client(http)) for _ in range(flood.clients)]
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), given["most_s"])
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    print(json.dumps(statuses), flush=True)


# --- the honest caller ----------------------------------------------------------------------------


def runs(site: Site) -> Ask:
    """Return how an honest caller runs the small program with its key."""

    async def ask(http: aiohttp.ClientSession, _: int) -> bool:
        url = f"{site.url}/call/{site.developer}/echo"
        headers = {"X-Payment-Key": site.customer}
        async with http.post(url, data=b'{"input": "hello"}', headers=headers) as answer:
            return bool((await answer.json()).get("output") == "hello")

    return ask


def delivers(site: Site) -> Ask:
    """Return how honest owners deliver their grants, one after the other, again and again."""

    async def ask(_: aiohttp.ClientSession, number: int) -> bool:
        owner = number % len(site.deliveries)
        return await posted(site, site.deliveries[owner], f"127.0.0.{2 + owner % 200}") == 204

    return ask


# --- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    name: str
    found: Paced
    per_s: float
    ratio: float = 1.0
    attacker: str = ""

    @property
    def figures(self) -> dict[str, object]:
        """Return what is printed."""
        return {
            "attack": self.name,
            "per_s": self.per_s,
            "samples": len(self.found.latencies_s),
            "failed": self.found.failed,
            "p50_ms": round(self.found.milliseconds(0.5), 1),
            "p99_ms": round(self.found.milliseconds(0.99), 1),
            "ratio": round(self.ratio, 1),
            "load": round(os.getloadavg()[0], 1),
            "judged": "good" if self.ratio <= MOST_RATIO and not self.found.failed else "BAD",
            "attacker": self.attacker,
        }


async def cells(
    name: str, ask: Ask, given: argparse.Namespace, program: str, arguments: Sequence[str]
) -> tuple[Row, Row]:
    """Measure an honest caller quiet and under an attack."""
    is_door = name == "door"  # a runner takes few deliveries, of honest owners too
    per_s = given.deliveries_per_s if is_door else given.per_s
    samples = min(given.samples, given.deliveries) if is_door else given.samples
    pace: dict[str, Any] = {"per_s": per_s, "most_s": samples / per_s + _WAIT_S}
    await paced(ask, samples=1 if is_door else _WARM_UP, **pace)  # connects, and compiles
    quiet = await paced(ask, samples=samples, **pace)
    async with sql_strangers.attacking(program, *arguments) as said:
        began = asyncio.get_running_loop().time()
        under = await paced(ask, samples=samples, **pace)
        took_s = asyncio.get_running_loop().time() - began
    ratio = under.milliseconds(0.99) / quiet.milliseconds(0.99)
    statuses = json.loads(said[-1] or "{}")
    statuses = statuses.get("statuses", statuses)
    count = sum(statuses.values())
    attacker = f"{count} answers, {count / took_s:.1f}/s {json.dumps(statuses)}"
    return Row(f"quiet: {name}", quiet, per_s), Row(name, under, per_s, ratio, attacker)


async def measured_sql(folder: Path, given: argparse.Namespace) -> tuple[Row, Row]:
    """Measure the attack on SQL databases."""
    servers, generators = cores()
    os.sched_setaffinity(0, servers)
    with running_node(folder, "--attestation", "off", workers=2) as node:
        url = node.url
        os.sched_setaffinity(0, generators)
        ask = await sql_strangers.honest(url)
        arguments = ("case", url, str(2 * given.samples / given.per_s + _WAIT_S))
        return await cells("sql", ask, given, sql_strangers.__file__, arguments)


async def measured_delegations(
    name: str, folder: Path, given: argparse.Namespace
) -> tuple[Row, Row]:
    """Measure an attack with large delegations."""
    servers, generators = cores()
    os.sched_setaffinity(0, servers)
    with running_node(folder, "--attestation", "off", workers=2) as node:
        url = node.url
        os.sched_setaffinity(0, generators)
        ask = await delegation_strangers.honest(url)
        most_s = str(2 * given.samples / given.per_s + _WAIT_S)
        arguments = (name, url, most_s, str(given.delegations))
        return await cells(name, ask, given, delegation_strangers.__file__, arguments)


async def measured_runner(name: str, folder: Path, given: argparse.Namespace) -> tuple[Row, Row]:
    """Measure an attack on a runner."""
    async with staged(folder) as site:
        await PREPARE[name](site, given)
        site.given |= {"url": site.url, "developer": site.developer}
        site.given["most_s"] = given.samples / min(given.per_s, given.deliveries_per_s) + _WAIT_S
        told = folder / "attacker.json"
        told.write_text(json.dumps(site.given))
        ask = delivers(site) if name == "door" else runs(site)
        return await cells(name, ask, given, __file__, (name, str(told)))


DELEGATIONS = tuple(delegation_strangers.PREPARE)
NAMES = ("sql", *DELEGATIONS, "bodies", "generate", "patterns", "door")


def main() -> None:
    """Measure, or attack as one of the processes that the measurement starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=2000, help="of each cell")
    parser.add_argument("--per-s", type=float, default=20.0, help="rate of the honest caller")
    parser.add_argument("--delegations", type=int, default=512, help="large ones of an attacker")
    parser.add_argument("--grants", type=int, default=282, help="held grants in `generate`")
    parser.add_argument("--owners", type=int, default=40, help="honest owners in `door`")
    parser.add_argument("--deliveries", type=int, default=60, help="samples of `door`, at most")
    parser.add_argument("--deliveries-per-s", type=float, default=0.5)
    parser.add_argument("--only", action="append", choices=NAMES, help="may be repeated")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--as", dest="attack", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.attack:
        name, told = given.attack
        asyncio.run(attack(name, json.loads(Path(told).read_text())))
        return
    if not given.json:
        print(
            f"{'':18} {'per s':>5} {'samples':>7} {'failed':>6} {'p50 ms':>8} {'p99 ms':>8}"
            f" {'ratio':>7} {'load':>5} judged"
        )
    for name in given.only or NAMES:
        with tempfile.TemporaryDirectory(prefix="sealspace-bench-") as folder:
            if name == "sql":
                measuring = measured_sql(Path(folder), given)
            elif name in DELEGATIONS:
                measuring = measured_delegations(name, Path(folder), given)
            else:
                measuring = measured_runner(name, Path(folder), given)
            for row in asyncio.run(measuring):
                shown = row.figures
                if given.json:
                    print(json.dumps(shown), flush=True)
                else:
                    print(
                        f"{row.name:18} {row.per_s:5.1f} {shown['samples']:>7} {shown['failed']:>6}"
                        f" {shown['p50_ms']:>8} {shown['p99_ms']:>8} {shown['ratio']:>7}"
                        f" {shown['load']:>5} {shown['judged']}  {row.attacker}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
