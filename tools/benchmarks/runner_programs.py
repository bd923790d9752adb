"""Compare the cost of a run with a bare loop over wasmtime in this process.

Usage: `python tools/benchmarks/runner_programs.py`.

Prints JSON. A bare call makes a store, instantiates the same compiled program and runs it with the
same input, without limits of memory or time. Wall times are medians; the shares of processor time
say what other work on the machine hid.

`one_secret` is about whole calls by the runner's address, at a node in the same process: a warm
call without secrets, one attested release, and a call with one secret, which should take at most
the first and 1.3 × the second.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from wasmtime import Config, Engine, Linker, Module, Store, WasiConfig

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

from backend_site import Domain
from guest_programs import Guest, children, code, guest, run_request
from https_service import https_service
from runner_stage import COMPOSE, ECHO, runner_stage

from runner.guest.executor import Executor
from runner.guest.run_client import RunClient
from runner.guest.runs import ReuseScope, RunResult
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.session import key_session
from serving.messages import pack_parts
from serving.outbound import Outbound
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import measurements_of, mint_event_log

_PROGRAM = "probe-wasip1"


def bare(
    given: bytes, calls: int, *, fuel: bool, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median seconds of a call in this process, by a clock."""
    config = Config()
    config.consume_fuel = fuel
    engine = Engine(config)
    linker, module = Linker(engine), Module(engine, guest(_PROGRAM).data)
    linker.define_wasi()
    standard_input = os.memfd_create("input")
    os.write(standard_input, given)
    took = []
    for _ in range(calls):
        begun = clock()
        wasi, store, written = WasiConfig(), Store(engine), bytearray()
        wasi.stdin_file = f"/proc/self/fd/{standard_input}"
        wasi.stdout_custom = written.extend
        if fuel:
            store.set_fuel(10**12)
        store.set_wasi(wasi)
        linker.instantiate(store, module).exports(store)["_start"](store)  # type: ignore[operator]  # it is a function
        took.append(clock() - begun)
        assert written
        store.close()
    os.close(standard_input)
    return statistics.median(took)


async def _each(
    executor: Executor,
    calls: int,
    callers: int,
    given: bytes,
    *,
    fresh: bool = False,
    scope: ReuseScope | None = None,
) -> list[float]:
    """Return the sorted seconds of each of so many calls by so many callers."""
    program, took, left = guest(_PROGRAM), [], iter(range(calls))

    async def call() -> None:
        for _ in left:
            begun = time.perf_counter()
            result = await _run(executor, program, given, fresh=fresh, scope=scope)
            took.append(time.perf_counter() - begun)
            assert "completed" == code(result), code(result)

    await asyncio.gather(*(call() for _ in range(callers)))
    return sorted(took)


async def _run(
    executor: Executor,
    program: Guest,
    given: bytes,
    *,
    fresh: bool = False,
    seconds: int = 100,
    scope: ReuseScope | None = None,
) -> RunResult:
    request = run_request(
        program, given, fresh=fresh, max_instructions=500_000_000_000, max_execution_s=seconds
    )
    return await executor.run(replace(request, reuse=scope), program.load)


def _cpu_s(processes: Sequence[int]) -> float:
    """Return the processor time that processes have used."""
    spent = [
        path.read_text()
        for one in processes
        for path in Path(f"/proc/{one}/task").glob("*/schedstat")
    ]
    return sum(int(text.split()[0]) for text in spent) / 1e9


def _memory_mib(process: int) -> dict[str, float]:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.partition(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {
        "resident": sizes["Rss"],
        "of_its_own": sizes["Private_Dirty"],
        "proportional": sizes["Pss"],
    }


def _total_cpu_s() -> float:
    """Return the processor time of this process and of all that it started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + _cpu_s(children(kind="_"))


async def _started(spare: int) -> tuple[float, float]:
    """Return the seconds and the processor time until an executor has so many children."""
    begun, cpu = time.perf_counter(), _total_cpu_s()
    async with Executor(children=1, spare=spare):
        return time.perf_counter() - begun, _total_cpu_s() - cpu


async def _start_of_children(count: int) -> dict[str, float]:
    """Return what it takes to make the first child ready, and each further one."""
    wall, cpu = await _started(1)
    walls, cpus = await _started(1 + count)
    each = {"wall_ms": (walls - wall) / count * 1e3, "cpu_ms": (cpus - cpu) / count * 1e3}
    return {"first_wall_ms": wall * 1e3, "first_cpu_ms": cpu * 1e3} | each


async def _with_secrets(
    executor: Executor, calls: int, given: bytes, scope: ReuseScope | None = None
) -> dict[str, float]:
    """Return how many runs with secrets 16 callers have in a second and in one of processor time.

    Without a scope, each run has a process of its own.
    """
    cpu, begun = _total_cpu_s(), time.perf_counter()
    await _each(executor, calls, 16, given, fresh=True, scope=scope)
    took, used = time.perf_counter() - begun, _total_cpu_s() - cpu
    return {"per_s": calls / took, "per_cpu_s": calls / used, "cpu_ms": used / calls * 1e3}


async def _throughput(count: int, calls: int, rounds: bytes) -> dict[str, float]:
    """Return computing calls per second with so many children, and per second of their processor
    time."""
    async with Executor(children=count, spare=1) as executor:
        await _each(executor, 2 * count, 2 * count, rounds)
        running = children(kind="_run_child")
        cpu, begun = _cpu_s(running), time.perf_counter()
        await _each(executor, calls, 2 * count, rounds)
        took, used = time.perf_counter() - begun, _cpu_s(running) - cpu
    return {"per_s": calls / took, "per_cpu_s": calls / used, "cores": used / took}


async def _computing(executor: Executor, given: bytes, calls: int) -> dict[str, float]:
    """Return the processor time of a computing call in this process, and what share of it other
    ways take."""
    plain, fuelled = (
        bare(given, calls, fuel=fuel, clock=time.thread_time) for fuel in (False, True)
    )
    await _each(executor, 1, 1, given)
    before = _cpu_s(children(kind="_run_child"))
    await _each(executor, calls, 1, given)
    ours = (_cpu_s(children(kind="_run_child")) - before) / calls
    return {"bare_ms": plain * 1e3, "bare_with_fuel": fuelled / plain, "ours": ours / plain}


async def _one_secret(calls: int) -> dict[str, dict[str, float]]:
    """Return what a call with a secret takes, one without, and a release by itself, which take
    turns.

    Of processor time it is that of this process: runner, node and caller, without the children and
    the node's writer.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage = await runner_stage(stack, folder)
        await stage.owner.secrets().put("API_KEY", "value")
        version = await stage.publish("echo", ECHO)
        portable = await stage.grant(["API_KEY"], RunStatement(programs=(ByHash(version.sha256),)))
        session, owner = await stage.calling_session(), stage.owner.session.owner
        client = await stage.client(key_session(stage.seed))
        await client.delegations.accept(portable)
        log = mint_event_log(sha256(COMPOSE.encode()).digest())
        backend = Backend(client, Domain(stage.platform, measurements_of("runner"), log))
        await backend.attest(client.encryption.network(owner=owner))

        async def called(secrets: str | None) -> None:
            _, answer = await stage.call("echo", session=session, secrets=secrets)
            assert "completed" == answer["status"], answer

        async def released() -> None:
            assert "value" == await backend.read_secret(owner, "API_KEY")

        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "warm_call": lambda: called(None),
            "release": released,
            "with_one_secret": lambda: called(owner),
        }
        clocks = {"wall_ms": time.perf_counter, "cpu_ms": time.process_time}
        took: dict[str, dict[str, list[float]]] = {
            name: {clock: [] for clock in clocks} for name in ways
        }
        for number in range(calls + 3):
            for name, way in ways.items():
                begun = {clock: read() for clock, read in clocks.items()}
                await way()
                if number >= 3:  # the first ones connect, and compile
                    for clock, read in clocks.items():
                        took[name][clock].append((read() - begun[clock]) * 1e3)
    found = {
        name: {clock: statistics.median(each) for clock, each in of.items()}
        for name, of in took.items()
    }
    secret, warm, release = found["with_one_secret"], found["warm_call"], found["release"]
    return found | {
        "extra_in_releases": {
            clock: (secret[clock] - warm[clock]) / release[clock] for clock in clocks
        }
    }


async def _measured(calls: int, timed: Callable[[], Awaitable[float]]) -> float:
    return statistics.median([await timed() for _ in range(calls)])


async def _fetching(calls: int) -> dict[str, float]:
    """Return what a request of a program adds to a run, and the same request made by aiohttp
    alone."""
    program = guest("fetcher-wasip1")
    with tempfile.TemporaryDirectory() as folder:
        async with https_service(Path(folder), "api.test") as service:
            outbound = Outbound(loopback_ca=service.ca, most_requests=11)

            async def timed(executor: Executor, times: int) -> float:
                request = run_request(
                    program, f"TIMES {times} GET {service.url()}".encode(), max_execution_s=100
                )
                begun = time.perf_counter()
                result = await executor.run(
                    replace(request, hosts=frozenset({"api.test"})), program.load
                )
                assert bytes(result.output).startswith(b"200"), result
                return time.perf_counter() - begun

            async with Executor(children=1, spare=1, outbound=outbound) as executor:
                await timed(executor, 1)
                begun = time.perf_counter()
                request = run_request(
                    program, f"GET {service.url('/slow')}".encode(), max_execution_s=1
                )
                await executor.run(replace(request, hosts=frozenset({"api.test"})), program.load)
                over = time.perf_counter() - begun - 1
                one, eleven = [
                    await _measured(calls, partial(timed, executor, times)) for times in (1, 11)
                ]
            message = pack_parts([b"GET", service.url().encode(), b""])
            async with replace(outbound, most_requests=calls) as alone:
                client = RunClient(alone, frozenset({"api.test"}))

                async def direct() -> float:
                    begun = time.perf_counter()
                    assert len(await client.answer(message)) > 20
                    return time.perf_counter() - begun

                without_child = await _measured(calls, direct)
    return {
        "each_ms": (eleven - one) / 10 * 1e3,
        "without_a_child_ms": without_child * 1e3,
        "over_the_time_limit_ms": over * 1e3,
    }


async def measure(calls: int, rounds: int) -> dict[str, object]:
    """Return all figures."""
    echo, compute = b"echo\nx", b"compute %d" % rounds
    few = max(3, calls // 20)
    found: dict[str, object] = {"calls": calls, "start_of_children": await _start_of_children(few)}
    async with Executor(children=2, spare=4) as executor:
        program = guest(_PROGRAM)
        begun = time.perf_counter()
        await executor.compile(program.sha256, program.target, program.load)
        found["compile_ms"] = (time.perf_counter() - begun) * 1e3

        async def first() -> float:
            begun = time.perf_counter()
            await _run(executor, program, echo, fresh=True)
            return time.perf_counter() - begun

        found["first_call_in_a_child_ms"] = await _measured(few, first) * 1e3
        await _each(executor, few, 1, echo)
        before = time.process_time() + _cpu_s(children(kind="_run_child"))
        warm = (await _each(executor, calls, 1, echo))[calls // 2]
        used = time.process_time() + _cpu_s(children(kind="_run_child")) - before
        found["warm_call_ms"], found["bare_call_ms"] = (
            warm * 1e3,
            bare(echo, calls, fuel=False) * 1e3,
        )
        found["warm_call_cpu_ms"] = used / calls * 1e3
        found["computing"] = await _computing(executor, compute, few)
        found["child_mib"] = [_memory_mib(process) for process in children(kind="_run_child")]
        found["runs_with_secrets"] = await _with_secrets(executor, calls // 4, echo)
        scope = ReuseScope(series=b"a caller", contents=b"a secret")
        found["runs_of_one_scope"] = await _with_secrets(executor, calls // 4, echo, scope)
        for callers in (16, 128):
            for fresh in (False, True):
                took = await _each(
                    executor, calls // (10 if fresh else 1), callers, echo, fresh=fresh
                )
                where = f"{callers}_callers{'_with_secrets' if fresh else ''}"
                found[where] = {
                    "p50_ms": took[len(took) // 2] * 1e3,
                    "p99_ms": took[len(took) * 99 // 100] * 1e3,
                }
        begun = time.perf_counter()
        assert "limit-time" == code(await _run(executor, program, b"sleep 100000", seconds=1))
        found["over_the_time_limit_ms"] = (time.perf_counter() - begun - 1) * 1e3
    found["request_of_a_program"] = await _fetching(few)
    found["one_secret"] = await _one_secret(few)
    for count in (1, 2):
        found[f"{count}_children"] = await _throughput(count, few * 2, compute)
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument(
        "--rounds", type=int, default=3_000_000, help="of computing, 3 million take 10 ms or more"
    )
    given = parser.parse_args()
    print(json.dumps(asyncio.run(measure(given.calls, given.rounds)), indent=2))


if __name__ == "__main__":
    main()
