"""CPU time of whole calls at a runner, also in turns with the runner of another checkout.

    python tools/benchmarks/runner_calls.py
    python tools/benchmarks/runner_calls.py --other ../before --callers 1 --callers 16

Each runner is a process of its own with four children, beside one node. Callers sign their calls
and have accounts. Several calls of each are under way. Three loads take turns:

- `no secret`: the program is called without a secret.
- `one secret`: each caller calls with a secret that it was granted.
- `other limits`: as `one secret`, but each call has other limits than the one before. So none runs
  in a child that ran an earlier call.

CPU time is that of the runner and all its children, also of those that have ended, and not that of
the node and the callers. Of several rounds the best is printed, and the median beside it.
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
import wasmtime
from backend_site import Documents
from deviating_platform import SimulatedPlatform
from processes import used_by
from runner_stage import ECHO, P1
from running_node import COMMAND, running_node
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.strict_json import Json
from runner.http.operator_routes import ask_operator
from sealspace.apps.backends import deliver, fetch_evidence
from sealspace.apps.run_calls import RunnerAt, call_headers
from sealspace.apps.runners import runner_at
from sealspace.client import Client, SignIn
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.session import Session, key_session
from sealspace.wallets import new_wallet
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.trust_root import parse_trust_root

LOADS = ("no secret", "one secret", "other limits")
CHILDREN = 4
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MOST_INSTRUCTIONS = 10_000
"""Millions of instructions; the limits of calls are at most this."""
_numbers = count()


@dataclass
class Measured:
    """A runner that is measured, and its rounds by load and number of callers.

    Attributes:
        cpu_ms: of a call, of the runner and its children.
        children_ms: the part of the children.
        per_s: calls in a second by the clock.
    """

    name: str
    pid: int
    url: str
    at: RunnerAt
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)
    children_ms: dict[str, list[float]] = field(default_factory=dict)
    per_s: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """What is called: the owner of the secret, and the project of the program."""

    owner: str
    project: str


@contextmanager
def _serving(checkout: Path, node: str, folder: Path, name: str) -> Iterator[tuple[int, str]]:
    """Start the runner of a checkout, and yield its process id and its address."""
    process = subprocess.Popen(
        [
            *COMMAND,
            *("runner", "serve", "--simulate", "tee", "--port", "0"),
            *("--node", node, "--data", name, "--key", "file"),
            *("--children", str(CHILDREN)),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    with process:
        assert process.stderr is not None
        said = ""
        while not said.startswith("listening on"):
            said = process.stderr.readline()
            if not said:
                raise RuntimeError("the runner did not start")
        yield process.pid, said.split()[-1]
        process.terminate()


def _ended_s(pid: int) -> float:
    """Return the CPU seconds of the children of a process that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS_PER_S


def _spent_s(pid: int) -> tuple[float, float]:
    """Return the CPU seconds of a runner by itself, and of its children."""
    cpu_s = used_by(pid).cpu_s
    own = cpu_s[pid]
    return own, sum(cpu_s.values()) - own + _ended_s(pid)


async def _call(
    http: aiohttp.ClientSession, one: Measured, place: Place, session: Session, load: str
) -> None:
    asked: dict[str, object] = {"source": {"project": place.project}, "input": "hello"}
    if load != "no secret":
        asked["secretsRef"] = {"profile": "default", "owner": place.owner}
    if load == "other limits":
        millions = _MOST_INSTRUCTIONS - next(_numbers) % (_MOST_INSTRUCTIONS // 2)
        asked["resourceLimits"] = {"maxInstructions": millions * 1_000_000}
    body = json.dumps(asked).encode()
    headers = call_headers(
        session,
        runner=one.at,
        program=place.project,
        body=body,
        now=SystemClock().now(),
        entropy=SystemEntropy(),
    )
    async with http.post(f"{one.url}/run", data=body, headers=headers) as answer:
        said = await answer.json()
    if said.get("status") != "completed":
        raise RuntimeError(f"a call failed: {said}")


async def _round(
    one: Measured, place: Place, sessions: list[Session], load: str, calls: int
) -> None:
    """Make calls, and note what they took."""
    left = iter(range(calls))
    async with aiohttp.ClientSession() as http:

        async def caller(session: Session) -> None:
            for _ in left:
                await _call(http, one, place, session, load)

        at_once = max(16 // len(sessions), 1)
        begun, (own, children) = time.perf_counter(), _spent_s(one.pid)
        await asyncio.gather(*(caller(session) for session in sessions for _ in range(at_once)))
        took, (own_after, children_after) = time.perf_counter() - begun, _spent_s(one.pid)
    of_children = children_after - children
    name = f"{load}, {len(sessions)} callers"
    one.cpu_ms.setdefault(name, []).append((own_after - own + of_children) / calls * 1e3)
    one.children_ms.setdefault(name, []).append(of_children / calls * 1e3)
    one.per_s.setdefault(name, []).append(calls / took)


async def _measure(given: argparse.Namespace) -> list[Measured]:
    checkouts = {"this": REPOSITORY}
    if given.other is not None:
        checkouts["other"] = given.other.resolve()
    lifted = {
        "SEALSPACE_PUBLIC_SPACES__REQUESTS_PER_MINUTE": "1000000",
        "SEALSPACE_LIMITS__UNAUTHENTICATED_PER_MINUTE": "0",
    }
    platform = SimulatedPlatform.from_seed(secrets.token_bytes(32))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        platform.save(folder / "tee")
        node = stack.enter_context(
            running_node(folder, platform=platform, workers=1, environment=lifted)
        )
        owner, wallet = await stack.enter_async_context(Client(node.url)), new_wallet()
        await owner.sign_in(wallet, SignIn(spaces=("public",)))
        await owner.secrets().put("API_KEY", "value")
        version = await owner.programs(public=True).publish(
            "echo", bytes(wasmtime.wat2wasm(ECHO)), target=P1, signer=wallet
        )
        place = Place(owner=str(wallet.did), project=f"{wallet.did}/echo")
        inspector = Inspector(
            Documents(platform, SystemClock().now()), root=parse_trust_root(platform.root_der)
        )
        sessions = [key_session(secrets.token_bytes(32)) for _ in range(max(given.callers))]
        found = []
        statement = RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll())
        for name, checkout in checkouts.items():
            pid, url = stack.enter_context(_serving(checkout, node.url, folder, name))
            seen = await fetch_evidence(url, inspector)
            grant = await owner.runners.grant(seen, ["API_KEY"], statement, wallet=wallet)
            await deliver(url, grant)
            for session in sessions:
                credit: dict[str, Json] = {
                    "owner": session.did,
                    "amount": 0,
                    "reference": secrets.token_hex(8),
                }
                await ask_operator(folder / name, credit)
            found.append(Measured(name, pid, url, await runner_at(url)))
        for number in range(given.rounds + 1):
            for callers in given.callers:
                for load in given.load or LOADS:
                    for one in found:
                        await _round(one, place, sessions[:callers], load, given.calls)
            if not number:  # the first round compiles, connects and warms up
                for one in found:
                    one.cpu_ms, one.children_ms, one.per_s = {}, {}, {}
    return found


def main() -> None:
    """Measure, and print a line for each load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--calls", type=int, default=200, help="calls of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, action="append", help="default: 1, 4 and 16")
    parser.add_argument("--load", action="append", choices=LOADS, help="default: all")
    given = parser.parse_args()
    given.callers = given.callers or [1, 4, 16]
    found = asyncio.run(_measure(given))
    for one in found:
        for load, cpu_ms in one.cpu_ms.items():
            print(
                f"{one.name:6} {load:26}"
                f" {1e3 / min(cpu_ms):6.0f} a CPU second"
                f" {min(cpu_ms):6.2f} ms (median {statistics.median(cpu_ms):.2f}),"
                f" children {min(one.children_ms[load]):.2f} ms,"
                f" {max(one.per_s[load]):.0f}/s"
            )


if __name__ == "__main__":
    main()
