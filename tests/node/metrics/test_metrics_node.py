"""Tests of a real node's metrics: totals, restarts and addresses."""

import asyncio
import os
import re
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from attacks.parties import (
    DELETE,
    GET,
    LIST,
    PUT,
    ROUTES,
    Delegate,
    Stage,
    opens,
    policy_for,
    stage_on,
)
from deviating_platform import SimulatedPlatform
from durability.load import Writer, new_session, side_by_side
from engines import is_on_postgresql, needs_folder
from patience import PATIENCE_S
from postgres_server import needs_postgres, postgres_server
from prometheus_client.parser import text_string_to_metric_families
from running_node import RunningNode, id_of, key_token, new_key, running_node, send, until

from sealspace.cli.root import EXIT_STATUS

pytestmark = pytest.mark.slow

SETTINGS = {"SEALSPACE_METRICS__LISTEN": "127.0.0.1:0"}
Samples = Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Scrape:
    """The metrics of a node at one moment."""

    samples: Samples
    kinds: Mapping[str, str]

    def __getitem__(self, key: tuple[str, ...]) -> float:
        return self.samples[key]

    def summed(self, name: str) -> float:
        """Return the sum of all samples of a name."""
        return sum(value for key, value in self.samples.items() if key[0] == name)

    def since(self, before: "Scrape", name: str) -> dict[tuple[str, ...], float]:
        """Return the increase of each sample of a name since another scrape."""
        grown = {
            key[1:]: value - before[key] for key, value in self.samples.items() if key[0] == name
        }
        return {labels: more for labels, more in grown.items() if more}

    def counters(self) -> dict[tuple[str, ...], float]:
        """Return every sample that must never decrease."""
        return {
            key: value
            for key, value in self.samples.items()
            if self.kinds[key[0]] in ("counter", "histogram")
        }


def metrics_url(node: RunningNode) -> str:
    """Return the address at which a node serves its metrics."""
    return node.wait_for(r'"url": "(http://127\.0\.0\.1:\d+/metrics)"').group(1)


def scrape(node: RunningNode) -> Scrape:
    """Read the metrics of a node, by name and label values."""
    with urllib.request.urlopen(metrics_url(node), timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    samples, kinds = {}, {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in samples
            samples[key] = sample.value
            kinds[sample.name] = family.type
    return Scrape(samples, kinds)


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    """A simulated platform that the node trusts."""
    return SimulatedPlatform.from_seed(b"platform of the metrics")


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform
) -> Iterator[RunningNode]:
    """A node with two workers that serves metrics."""
    with running_node(
        tmp_path_factory.mktemp("counted"), platform=platform, environment=SETTINGS
    ) as node:
        yield node


@pytest.fixture
async def stage(node: RunningNode, platform: SimulatedPlatform) -> AsyncIterator[Stage]:
    """Users of that node."""
    async with AsyncExitStack() as clients:
        yield await stage_on(node.url, platform, clients)


async def test_requests_add_up(node: RunningNode, stage: Stage) -> None:
    """Each request is counted once, by operation and outcome, whichever worker answers."""
    key = new_key()
    space = f"tinycloud:{key.did.removeprefix('did:')}:default"

    async def invoke(grants: Mapping[str, list[str]], body: bytes | None = None) -> int:
        return (await stage.invoke(key, grants, body=body)).status

    before = scrape(node)
    for worker in (0, 1):
        with node.only(worker):
            assert await invoke({f"{space}/kv/a": [PUT]}, b"1") == 200
            assert await invoke({f"{space}/kv/b": [PUT]}, b"1") == 200
            for _ in range(3):
                assert await invoke({f"{space}/kv/a": [GET]}) == 200
            assert await invoke({f"{space}/kv/absent": [GET]}) == 404
            assert await invoke({f"{space}/kv/": [LIST]}) == 200
            assert await invoke({f"{space}/kv/a": [GET], f"{space}/kv/b": [GET]}) == 200
            assert await invoke({f"{space}/kv/a": ["tinycloud.kv/metadata"]}) == 200
            assert await invoke({f"{space}/kv/a": [DELETE]}) == 200
            spent = key_token(key, key.did, {f"{space}/kv/b": [GET]})
            replies = [await send(node.url, "POST", "/invoke", token=spent) for _ in range(2)]
            assert [reply.status for reply in replies] == [200, 409]
            assert (await send(node.url, "POST", "/invoke", token="nothing")).status == 401
            assert (await send(node.url, "GET", "/info")).status == 200
    now = scrape(node)
    requests = now.since(before, "sealspace_requests_total")
    assert requests == {
        ("kv_put", "2xx"): 4,
        ("kv_get", "2xx"): 8,
        ("kv_get", "4xx"): 4,
        ("kv_list", "2xx"): 2,
        ("kv_batch", "2xx"): 2,
        ("kv_metadata", "2xx"): 2,
        ("kv_delete", "2xx"): 2,
        ("other", "4xx"): 2,
        ("other", "2xx"): 2,
    }
    assert now.since(before, "sealspace_refusals_total") == {
        ("duplicate-invocation",): 2,
        ("token-malformed",): 2,
        ("other",): 2,
    }
    timed = now.since(before, "sealspace_request_seconds_count")
    assert timed == _by_operation(requests)
    assert set(now.since(before, "sealspace_request_seconds_sum")) == set(timed)


def _by_operation(requests: Mapping[tuple[str, ...], float]) -> Counter[tuple[str, ...]]:
    together: Counter[tuple[str, ...]] = Counter()
    for (operation, _), count in requests.items():
        together[(operation,)] += int(count)
    return together


async def test_releases_add_up(node: RunningNode, stage: Stage) -> None:
    """Releases are counted by ground on both routes, refusals by reason, with the steps before
    them."""
    owner, delegate = await stage.owner(), Delegate()
    before = scrape(node)
    grant = await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    delegate.proofs = [grant]
    for route in ROUTES:
        assert (await stage.ask(delegate, owner, route)).status in (401, 403)
    await stage.attest(delegate, owner.network)
    for route in ROUTES:
        assert opens(await stage.ask(delegate, owner, route), delegate, owner)
    session = owner.session
    assert opens(await stage.ask(session, owner), session, owner)
    now = scrape(node)
    assert now.since(before, "sealspace_releases_total") == {
        ("attested",): 2,
        ("owner_session",): 1,
    }
    assert now.since(before, "sealspace_release_refusals_total") == {("not_attested",): 2}
    assert now.since(before, "sealspace_refusals_total") == {("release-refused",): 2}
    assert now.since(before, "sealspace_requests_total") == {
        ("delegate", "2xx"): 1,
        ("decrypt", "2xx"): 3,
        ("decrypt", "4xx"): 2,
        ("challenge", "2xx"): 1,
        ("session", "2xx"): 1,
    }


async def test_revocations_and_public_reads_have_their_place(
    node: RunningNode, stage: Stage
) -> None:
    """Requests without an invocation are counted by their route."""
    owner = await stage.owner("public")
    await owner.client.kv("public").put("a", b"1")
    grant = await stage.register(owner.grant(new_key().did, {f"{owner.space()}/kv/a": [GET]}))
    before = scrape(node)
    await owner.client.delegations.revoke_by_wallet(id_of(grant), owner.wallet)
    for path, status in (("a", 200), ("absent", 404)):
        assert (
            await send(node.url, "GET", f"/public/{owner.space('public')}/kv/{path}")
        ).status == status
    requests = scrape(node).since(before, "sealspace_requests_total")
    assert requests == {("revoke", "2xx"): 1, ("public", "2xx"): 1, ("public", "4xx"): 1}


@needs_folder()
async def test_commits_are_the_storekeepers(node: RunningNode, stage: Stage) -> None:
    """Commits are counted once, with their syncs, batches and bytes."""
    key = new_key()
    space = f"tinycloud:{key.did.removeprefix('did:')}:default"
    before = scrape(node)
    for at in range(5):
        assert (
            await stage.invoke(key, {f"{space}/kv/{at}": [PUT]}, body=b"1" * 5000)
        ).status == 200
    now = scrape(node)
    committed = now.since(before, "sealspace_commits_total")[("committed",)]
    assert 5 <= committed  # the housekeeping commits besides
    assert now.since(before, "sealspace_batch_commits_sum")[()] == committed
    assert 1 <= now.since(before, "sealspace_sync_seconds_count")[()] <= committed
    assert 0 < now.since(before, "sealspace_sync_seconds_sum")[()]
    assert (
        5 * 5000
        < now[("sealspace_store_used_bytes",)]
        < now[("sealspace_store_limit_bytes",)]
        == 1 << 40
    )
    assert 0 < now[("sealspace_disk_free_bytes",)]


async def test_what_processes_hold(node: RunningNode, stage: Stage) -> None:
    """Open connections, memory, caches, bodies in transit and stored collateral are reported."""
    await stage.owner()
    going = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"1" * 40_000
        await going.wait()
        yield b"2"

    key = new_key()
    space = f"tinycloud:{key.did.removeprefix('did:')}:default"
    async with new_session(connections=8) as session:
        await asyncio.gather(*[_hold(session, node.url) for _ in range(8)])
        upload = asyncio.create_task(stage.invoke(key, {f"{space}/kv/long": [PUT]}, body=body()))
        await _until(node, lambda now: 40_000 <= now[("sealspace_intake_bytes",)] < 1 << 20)
        await _until(node, lambda now: now.summed("sealspace_open_connections") >= 9)
        going.set()
        assert (await upload).status == 200
        await _until(node, lambda now: now[("sealspace_intake_bytes",)] == 0)
    now = scrape(node)
    assert 0 < now[("sealspace_delegation_cache_bytes",)]
    assert now[("sealspace_collateral_documents",)] == 1
    assert now[("sealspace_collateral_failing",)] == 0
    assert 0 <= now[("sealspace_collateral_age_seconds",)] < 600
    assert 0 <= now[("sealspace_audit_lag_seconds",)] < 600
    processes = {key[1] for key in now.samples if key[0] == "sealspace_process_resident_bytes"}
    assert processes == {"supervisor", "worker-0", "worker-1"} | (
        set() if is_on_postgresql() else {"storekeeper"}
    )
    for name in processes:
        assert 10 << 20 < now[("sealspace_process_resident_bytes", name)] < 1 << 30
        assert 0.01 < now[("sealspace_process_cpu_seconds_total", name)] < 600
        assert 1.7e9 < now[("sealspace_process_start_time_seconds", name)]


async def _hold(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(f"{url}/info") as answer:
        await answer.read()


async def _until(node: RunningNode, condition: Callable[[Scrape], bool]) -> None:
    await asyncio.to_thread(until, lambda: condition(scrape(node)))


async def test_CF13_calls_that_wait_are_counted(node: RunningNode, stage: Stage) -> None:
    """A call that waits for a change is counted until it is answered."""
    key = new_key()
    space = f"tinycloud:{key.did.removeprefix('did:')}:default"
    feed = {f"{space}/kv/notes": ["tinycloud.kv/sync"]}
    assert (await stage.invoke(key, {f"{space}/kv/notes/a": [PUT]}, body=b"1")).status == 200
    cursor = str((await stage.invoke(key, feed)).value["cursor"])
    waiting = {"x-tinycloud-cursor": cursor, "Prefer": "wait=60"}
    call = asyncio.create_task(stage.invoke(key, feed, headers=waiting))
    await _until(node, lambda now: now[("sealspace_feed_waits",)] == 1)
    assert (await stage.invoke(key, {f"{space}/kv/notes/b": [PUT]}, body=b"1")).status == 200
    assert (await call).headers["preference-applied"] == "wait=60"
    await _until(node, lambda now: now[("sealspace_feed_waits",)] == 0)


async def test_a_killed_worker_takes_nothing_with_it(tmp_path: Path) -> None:
    """After a worker is killed, no counter decreases, its restart is counted, and counting
    continues."""
    with running_node(tmp_path, environment=SETTINGS) as node:
        for worker in (0, 1):
            with node.only(worker):
                assert [(await send(node.url, "GET", "/info")).status for _ in range(4)] == [
                    200
                ] * 4
        victim, other = node.children("worker")
        before = scrape(node)
        os.kill(victim, signal.SIGKILL)
        node.wait_for(r'"process-ended"')
        between = scrape(node)
        await asyncio.to_thread(
            until, lambda: len({*node.children("worker")} - {victim, other}) == 1
        )
        await _until(
            node,
            lambda now: all(
                now.samples[("sealspace_process_start_time_seconds", f"worker-{at}")]
                for at in (0, 1)
            ),
        )
        for worker in (0, 1):
            with node.only(worker):
                assert (await send(node.url, "GET", "/info")).status == 200
        after = scrape(node)
    for earlier, later in ((before, between), (between, after)):
        fallen = {key: value for key, value in earlier.counters().items() if later[key] < value}
        assert fallen == {}
    assert between[("sealspace_requests_total", "other", "2xx")] == 8
    assert after[("sealspace_requests_total", "other", "2xx")] == 10
    restarts = {
        name: after[("sealspace_process_restarts_total", name)] for name in ("worker-0", "worker-1")
    }
    assert sorted(restarts.values()) == [0, 1]


async def test_a_scrape_needs_no_worker(node: RunningNode) -> None:
    """Metrics are served while all workers and the storekeeper are stopped."""
    before = scrape(node)
    pids = node.children("worker") + node.children("storekeeper")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert scrape(node).summed("sealspace_requests_total") == before.summed(
            "sealspace_requests_total"
        )
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_scrapes_under_load(node: RunningNode, stage: Stage) -> None:
    """Under constant scraping, counters never decrease, no request fails, and every request is
    counted."""
    writers = [Writer(at) for at in range(8)]
    before = scrape(node)
    counted = [before.summed("sealspace_requests_total")]
    answers: Counter[int] = Counter()
    ended = asyncio.Event()

    async def write(writer: Writer, session: aiohttp.ClientSession) -> None:
        for _ in range(25):
            answers[(await writer.write(session, node.url)).status] += 1

    async def watch() -> None:
        while not ended.is_set():
            counted.append(
                (await asyncio.to_thread(scrape, node)).summed("sealspace_requests_total")
            )

    watching = asyncio.create_task(watch())
    async with new_session() as session:
        await side_by_side([write(writer, session) for writer in writers])
    ended.set()
    await watching
    requests = scrape(node).since(before, "sealspace_requests_total")
    assert set(answers) <= {200, 404}
    assert requests.pop(("kv_put", "2xx")) + requests.pop(("kv_delete", "2xx"), 0) == answers[200]
    assert requests == ({("kv_delete", "4xx"): answers[404]} if answers[404] else {})
    assert counted == sorted(counted)
    assert len(counted) > 3


async def test_callers_add_no_label(node: RunningNode, stage: Stage) -> None:
    """A request cannot add a label value to the metrics."""
    before = scrape(node)
    for method, path in (
        ("GET", "/nowhere"),
        ("BREW", "/info"),
        ("GET", "/public/a/kv/b"),
        ("POST", "/signed/kv"),
    ):
        await send(node.url, method, path, token="x", headers={"X-Strange": "1"})
    key = new_key()
    for resource in ("urn:some:thing", f"tinycloud:{key.did.removeprefix('did:')}:default/sql/x"):
        await stage.invoke(key, {resource: ["strange/ability"]})
    assert before.samples.keys() == scrape(node).samples.keys()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_each_address_serves_its_own(node: RunningNode) -> None:
    """The address for requests serves no metrics, and that for metrics serves nothing else."""
    assert _status(f"{node.url}/metrics") == 404
    base = metrics_url(node).removesuffix("/metrics")
    assert [
        _status(f"{base}{path}") for path in ("/metrics", "/", "/info", "/healthz", "/admin/usage")
    ] == [200] + [404] * 4


def test_off_by_default(tmp_path: Path) -> None:
    """Without the setting, only the node's own address listens and no metric files exist."""
    with running_node(tmp_path, workers=1) as quiet:
        assert _status(f"{quiet.url}/metrics") == 404
        pids = [quiet.process.pid, *quiet.children("worker"), *quiet.children("storekeeper")]
        assert not any("sealspace-metrics" in name for pid in pids for name in _descriptors(pid))
        assert not any("metrics-listening" in line for line in quiet.lines)


def test_every_process_has_its_files(node: RunningNode) -> None:
    """With metrics on, every process of the node writes files in one folder."""
    for pid in (node.process.pid, *node.children("worker"), *node.children("storekeeper")):
        assert any("sealspace-metrics" in name for name in _descriptors(pid))


def _descriptors(pid: int) -> list[str]:
    names = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            names.append(os.readlink(path))
    return names


def test_a_taken_address_refuses_to_start(node: RunningNode, tmp_path: Path) -> None:
    """An unavailable address for metrics is an error with a next step, before anything starts."""
    taken = re.sub(r"^http://|/metrics$", "", metrics_url(node))
    refused = RunningNode(
        tmp_path, "--workers", "1", environment={"SEALSPACE_METRICS__LISTEN": taken}
    )
    try:
        assert refused.process.wait(PATIENCE_S) == EXIT_STATUS["configuration-invalid"]
        refused.wait_for("^next: set metrics.listen to another address or port")
    finally:
        refused.close()


@needs_postgres()
async def test_a_node_on_a_database(tmp_path: Path) -> None:
    """On a database there is no storekeeper, and the workers' connections are reported."""
    store = ("--store", postgres_server().new_database())
    with running_node(tmp_path, *store, workers=1, environment=SETTINGS) as node:
        key = new_key()
        resource = f"tinycloud:{key.did.removeprefix('did:')}:default/kv/a"
        token = key_token(key, key.did, {resource: [PUT]})
        assert (await send(node.url, "POST", "/invoke", token=token, body=b"1")).status == 200

        def connected(now: Scrape) -> bool:
            name = "sealspace_database_connections"
            return all(
                now[(name, pool, "idle")] + now[(name, pool, "busy")] > 0
                for pool in ("read", "commit")
            )

        await _until(node, connected)
        now = scrape(node)
        assert now[("sealspace_requests_total", "kv_put", "2xx")] == 1
        assert now[("sealspace_database_connections", "read", "waiting")] == 0
        assert now[("sealspace_store_limit_bytes",)] == 0
        assert not any("storekeeper" in key for key in now.samples)
