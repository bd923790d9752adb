"""Tests of fetching collateral before it expires, by one process of a store."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from audit_records import audit_records
from deviating_platform import CollateralOptions, SimulatedPlatform, start_of
from embedded_node import embedded_node
from postgres_server import needs_postgres, postgres_server
from simulators.pcs import (
    CERTIFICATES,
    IDENTITY,
    NUMBERS,
    PCK_CRL,
    TCB,
    PcsSimulator,
    pcs_on_loopback,
)
from tests_support import CountingEntropy, FixedClock, shared_vectors

from node.collateral.collateral_source import refresh_rules
from node.collateral.intake import IMPORTED, import_collateral, list_collateral
from node.config.tree import Collateral, Config, Http, Release, Secret, Store
from node.housekeeping.schedule import Housekeeper, Job
from node.operations.attestation.refresh_collateral import (
    ALARM,
    FETCHED,
    FORGOTTEN_AFTER_S,
    fetch_due,
    report_alarms,
)
from node.services import Services
from spaces.documents.collateral_rows import CollateralState, state_of, state_put
from spaces.keyspace import collateral_key, collateral_state_key
from spaces.store.contract import Commit
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.evaluation_numbers import YEAR_S
from tee_backend.attestation.pcs import MAX_BODY_BYTES

DAY_S = 86_400.0
HOUR_S = 3600.0
SHORT_S = 1.0  # for a service that hangs, and then answers in that time
Respond = Callable[[web.Request, web.Response], web.StreamResponse]


@dataclass
class Kept:
    """A node with one platform's collateral, and its collateral service."""

    services: Services
    clock: FixedClock
    pcs: PcsSimulator
    platform: SimulatedPlatform
    imported: bytes

    async def document(self, ca: str = "platform") -> bytes | None:
        row = (await self.services.store.read((collateral_key(self.platform.fmspc, ca),))).records[
            0
        ]
        return None if row is None else row.value

    async def state(self, fmspc: bytes | None = None) -> CollateralState | None:
        key = collateral_state_key(fmspc or self.platform.fmspc, "platform")
        return state_of((await self.services.store.read((key,))).records[0])

    async def known(self) -> CollateralState:
        state = await self.state()
        assert state is not None
        return state

    def publish(self, **options: object) -> bytes:
        """Publish a current document and a list of editions."""
        now = self.clock.now()
        document = self.platform.collateral_json(now, options=CollateralOptions(**options))  # type: ignore[arg-type]  # by name
        self.pcs.publish(document)
        events = {19: now - 2 * YEAR_S, 20: now - YEAR_S, 21: now - 30 * DAY_S}
        self.pcs.numbers = self.platform.evaluation_numbers_json(now, events)
        return document

    async def later(self, seconds: float) -> None:
        """Advance the clock, and run the due jobs."""
        self.clock.advance(seconds)
        assert not await fetch_due(self.services)


Keeping = Callable[..., Awaitable[Kept]]


@asynccontextmanager
async def node_on(
    folder: Path,
    platform: SimulatedPlatform,
    clock: FixedClock,
    pcs: PcsSimulator | None,
    *,
    store_url: str | None = None,
    secret: Path | None = None,
    **settings: object,
) -> AsyncIterator[Services]:
    """Return a node that trusts the platform's root and uses the service, if there is one."""
    root = folder / "root.pem"
    root.write_text(platform.root_pem)
    where = {} if pcs is None else {"service_url": pcs.url, "root_crl_url": pcs.url + CERTIFICATES}
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(folder / "data"), url=store_url),
        secret=Secret(file=None if secret is None else str(secret)),
        release=Release(trust_root=str(root)),
        collateral=Collateral(**(where | settings)),  # type: ignore[arg-type]  # by name
    )
    async with embedded_node(config, clock=clock) as node:
        yield node.services


@pytest.fixture
async def pcs() -> AsyncIterator[PcsSimulator]:
    """A service that publishes nothing yet."""
    async with pcs_on_loopback(PcsSimulator()) as service:
        yield service


@pytest.fixture
def timeout_s() -> float:
    """Return how long the node waits for a document, less in tests with a service that hangs."""
    return 25.0


@pytest.fixture
async def kept(
    tmp_path: Path,
    platform: SimulatedPlatform,
    clock: FixedClock,
    pcs: PcsSimulator,
    timeout_s: float,
) -> AsyncIterator[Kept]:
    """A node with a document from the clock's time, and a service that publishes the same."""
    async with node_on(tmp_path, platform, clock, pcs, timeout_s=timeout_s) as services:
        found = Kept(services, clock, pcs, platform, b"")
        found.imported = found.publish()
        await bring(services, found.imported, clock)
        yield found


async def bring(services: Services, document: bytes, clock: FixedClock) -> None:
    """Import a document as an operator does."""
    rules = refresh_rules(services.config.collateral)
    root = services.trust_root
    await import_collateral(
        services.store, document, root=root, clock=clock, source="a.json", rules=rules
    )


# --- when -----------------------------------------------------------------------------------------


async def test_nothing_is_fetched_without_a_service(
    tmp_path: Path, platform: SimulatedPlatform, clock: FixedClock, pcs: PcsSimulator
) -> None:
    """By default nothing is fetched, and imported documents are recorded as imported (AT18)."""
    async with node_on(tmp_path, platform, clock, None) as services:
        here = Kept(services, clock, pcs, platform, b"")
        document = here.publish()
        await bring(services, document, clock)
        await here.later(40 * DAY_S)
        assert services.collateral_source is None
        assert await here.document() == document
        assert pcs.asked == {}
        state = await here.known()
        assert state.source == IMPORTED
        assert state.refreshed_at == clock.now() - 40 * DAY_S


async def test_a_document_is_renewed_daily(kept: Kept) -> None:
    """A day after its import a document is fetched once, and the service is its source (AT31)."""
    await kept.later(DAY_S - 1)
    assert kept.pcs.asked == {}
    kept.clock.advance(1)
    fresh = kept.publish()
    await kept.later(0)
    assert json.loads(await kept.document() or b"") == json.loads(fresh)
    state, now = await kept.known(), kept.clock.now()
    assert state.source == "127.0.0.1"
    assert state.refreshed_at == now
    assert state.tried_at == now
    assert state.failed == ""
    (record,) = [
        record for record in await audit_records(kept.services.store) if record.action == FETCHED
    ]
    detail = json.loads(record.detail)
    held = parse_collateral(await kept.document() or b"")
    assert detail == {"source": "127.0.0.1", "sha256": held.sha256.hex(), "evaluationNumber": 20}
    asked = dict(kept.pcs.asked)
    assert asked == {TCB: 1, IDENTITY: 1, PCK_CRL: 1, CERTIFICATES: 1, NUMBERS: 1}
    await kept.later(DAY_S - 1)
    assert dict(kept.pcs.asked) == asked
    await kept.later(1)
    assert kept.pcs.asked[TCB] == 2


async def test_an_end_that_is_near_is_not_waited_for(
    tmp_path: Path, platform: SimulatedPlatform, clock: FixedClock, pcs: PcsSimulator
) -> None:
    """A document is fetched `lead_s` before it expires, however rare renewals are (AT31)."""
    settings: dict[str, Any] = {"refresh_s": 1000 * 86_400, "lead_s": 10 * 86_400}
    async with node_on(tmp_path, platform, clock, pcs, **settings) as services:
        here = Kept(services, clock, pcs, platform, b"")
        document = here.publish()
        await bring(services, document, clock)
        ends_in_s = parse_collateral(document).ends_at - clock.now()
        await here.later(ends_in_s - 10 * DAY_S - 1)
        assert pcs.asked == {}
        here.publish()
        await here.later(1)
        assert pcs.asked[TCB] == 1
        assert await here.document() != document


async def test_what_did_not_change_is_not_written(kept: Kept) -> None:
    """An unchanged document is not written again, so sessions in progress succeed (AT31)."""
    await kept.later(DAY_S)
    assert json.loads(await kept.document() or b"") == json.loads(kept.imported)
    rows = (
        await kept.services.store.read((collateral_key(kept.platform.fmspc, "platform"),))
    ).records
    await kept.later(DAY_S)
    assert (
        rows
        == (
            await kept.services.store.read((collateral_key(kept.platform.fmspc, "platform"),))
        ).records
    )
    assert kept.pcs.asked[TCB] == 2
    assert (await kept.known()).refreshed_at == kept.clock.now()


async def test_two_processes_fetch_once(kept: Kept) -> None:
    """Of two processes on one store only one fetches, and the other uses the result (AT31)."""
    jobs = (Job("fetch-collateral", 5.0, fetch_due),)
    other = replace(kept.services, entropy=CountingEntropy(b"another process"))
    keepers = [Housekeeper(services, jobs) for services in (kept.services, other)]
    kept.clock.advance(DAY_S)
    fresh = kept.publish()
    await asyncio.gather(*(keeper.turn() for keeper in keepers))
    for keeper in keepers:
        await keeper.turn()
    assert kept.pcs.asked[TCB] == 1
    assert kept.pcs.asked[NUMBERS] == 1
    assert json.loads(await kept.document() or b"") == json.loads(fresh)


@needs_postgres()
async def test_two_machines_fetch_once(
    tmp_path: Path, platform: SimulatedPlatform, clock: FixedClock, pcs: PcsSimulator
) -> None:
    """Of two nodes on one database only one fetches, and the other uses the result (AT31)."""
    (url, set_database), secret = postgres_server().clocked_database(), tmp_path / "secret"
    set_database(clock.now())
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o600)
    jobs = (Job("fetch-collateral", 5.0, fetch_due),)
    async with AsyncExitStack() as running:
        nodes = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            opened = node_on(tmp_path / name, platform, clock, pcs, store_url=url, secret=secret)
            nodes.append(await running.enter_async_context(opened))
        here, there = (Kept(services, clock, pcs, platform, b"") for services in nodes)
        await bring(here.services, here.publish(), clock)
        clock.advance(DAY_S)
        set_database(clock.now())
        fresh = here.publish()
        keepers = [Housekeeper(services, jobs) for services in nodes]
        assert sorted(await asyncio.gather(*(keeper.turn() for keeper in keepers))) == [False, True]
        assert pcs.asked[TCB] == 1
        assert json.loads(await there.document() or b"") == json.loads(fresh)


async def test_two_that_fetch_at_once_do_no_harm(kept: Kept) -> None:
    """If two processes fetch at once after a lost lease, the document is stored whole (AT19)."""
    kept.clock.advance(DAY_S)
    fresh = kept.publish()
    await asyncio.gather(*(fetch_due(kept.services) for _ in range(3)))
    assert json.loads(await kept.document() or b"") == json.loads(fresh)
    assert (await kept.known()).failed == ""


@pytest.mark.shared
async def test_genuine_documents(
    tmp_path: Path, platform: SimulatedPlatform, pcs: PcsSimulator
) -> None:
    """Documents signed by Intel are stored under Intel's root, older editions not (AT19, AT30)."""
    older, newer = (
        shared_vectors(f"tdx/collateral/b0c0_2026-08_{name}.json").read_bytes()
        for name in ("outlayer", "eval20")
    )
    clock = FixedClock(start_of(parse_collateral(newer)) + 60)
    settings = {
        "service_url": pcs.url,
        "root_crl_url": pcs.url + CERTIFICATES,
        "check_numbers": False,
    }
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path / "data")),
        collateral=Collateral(**settings),  # type: ignore[arg-type]  # by name
    )
    async with embedded_node(config, clock=clock) as node:
        await bring(node.services, older, clock)
        pcs.publish(newer)
        clock.advance(DAY_S)
        await fetch_due(node.services)
        (held,) = await list_collateral(node.services.store)
        assert held.collateral is not None
        assert held.collateral.tcb_info.members.evaluation_number == 20
        pcs.publish(older)
        clock.advance(DAY_S)
        await fetch_due(node.services)
        (after,) = await list_collateral(node.services.store)
        assert after.collateral == held.collateral
        assert after.state.failed == "collateral-rollback"


# --- services that fail or lie --------------------------------------------------------------------


def body(content: bytes, status: int = 200, **headers: str) -> Respond:
    """Answer with the given body."""
    return lambda request, answer: web.Response(
        body=content, status=status, headers={**answer.headers, **headers}
    )


def rolled_back(kept: Kept) -> None:
    kept.publish(evaluation_number=19)


def backdated(kept: Kept) -> None:
    kept.pcs.publish(kept.platform.collateral_json(kept.clock.now() - 2 * DAY_S))


def of_another_family(kept: Kept) -> None:
    other = kept.platform.another_machine(b"another family's machine", fmspc=b"others")
    stray = json.loads(other.collateral_json(kept.clock.now()))
    kept.pcs.standard[kept.platform.fmspc.hex().upper()] = stray


def signed_by_another(kept: Kept) -> None:
    kept.pcs.publish(
        SimulatedPlatform.from_seed(b"a service with a root of its own").collateral_json(
            kept.clock.now()
        )
    )


def edited(kept: Kept) -> None:
    text = kept.publish(tcb_status="OutOfDate").decode()
    kept.pcs.publish(text.replace("OutOfDate", "UpToDate").encode())


def of_the_past(kept: Kept) -> None:
    kept.pcs.publish(kept.platform.collateral_json(kept.clock.now() - 60 * DAY_S))


def replaced_edition(kept: Kept) -> None:
    now = kept.clock.now()
    kept.publish()
    kept.pcs.numbers = kept.platform.evaluation_numbers_json(
        now, {20: now - 2 * YEAR_S, 21: now - YEAR_S - 4 * DAY_S}
    )


def without_numbers(kept: Kept) -> None:
    kept.publish()
    kept.pcs.numbers = None


def numbers_of_another(kept: Kept) -> None:
    liar = SimulatedPlatform.from_seed(b"a service with a root of its own")
    kept.publish()
    kept.pcs.numbers = liar.evaluation_numbers_json(
        kept.clock.now(), {20: kept.clock.now() - YEAR_S}
    )


def oversized(kept: Kept) -> None:
    kept.pcs.instead[TCB] = body(b"0" * (MAX_BODY_BYTES + 1))


def elsewhere(kept: Kept) -> None:
    kept.pcs.instead[TCB] = body(b"", 302, Location=f"{kept.pcs.url}{TCB}?fmspc=000000000000")


def garbage(kept: Kept) -> None:
    kept.pcs.instead[IDENTITY] = body(b"\xff\x00{" * 100)


def unknown(kept: Kept) -> None:
    kept.pcs.standard.clear()


def broken(kept: Kept) -> None:
    kept.pcs.instead[PCK_CRL] = body(b"", 500)


def slow(kept: Kept) -> None:
    kept.pcs.gate = asyncio.Event()


LIES = {
    rolled_back: "collateral-rollback",
    backdated: "collateral-rollback",
    of_another_family: "service-answer",
    signed_by_another: "collateral-root",
    edited: "collateral-signature",
    of_the_past: "collateral-window",
    replaced_edition: "collateral-rollback",
    without_numbers: "platform-unknown",
    numbers_of_another: "collateral-root",
    oversized: "service-answer",
    elsewhere: "service-answer",
    garbage: "service-answer",
    unknown: "platform-unknown",
    broken: "service-unavailable",
    slow: "service-unavailable",
}


@pytest.mark.parametrize(
    ("lie", "code", "timeout_s"),
    [(lie, code, SHORT_S if lie is slow else 25.0) for lie, code in LIES.items()],
    ids=[lie.__name__ for lie in LIES],
)
async def test_what_a_service_cannot_do(
    kept: Kept,
    capsys: pytest.CaptureFixture[str],
    lie: Callable[[Kept], None],
    code: str,
    timeout_s: float,
) -> None:
    """A failing or lying service changes nothing, and is not queried again for an hour (AT19, AT30,
    AT31)."""
    kept.clock.advance(DAY_S)
    lie(kept)
    capsys.readouterr()
    await kept.later(0)
    assert await kept.document() == kept.imported
    state = await kept.known()
    assert state.failed == code
    assert state.failures == 1
    assert state.source == IMPORTED
    assert state.refreshed_at == kept.clock.now() - DAY_S
    assert state.tried_at == kept.clock.now()
    said = json.loads(capsys.readouterr().err)
    assert said["event"] == "collateral-refresh-failed"
    assert said["level"] == "warning"
    assert said["code"] == code
    asked = sum(kept.pcs.asked.values())
    await kept.later(HOUR_S - 1)
    assert sum(kept.pcs.asked.values()) == asked
    await recover(kept)
    await kept.later(1)
    state = await kept.known()
    assert state.failed == ""
    assert state.failures == 0
    assert state.refreshed_at == kept.clock.now()
    assert await kept.document() != kept.imported


async def recover(kept: Kept) -> None:
    """Make the service work again."""
    kept.pcs.instead.clear()
    if kept.pcs.gate is not None:
        kept.pcs.gate.set()
    kept.pcs.gate = None
    kept.publish()


async def test_a_service_that_asks_for_time_gets_it(kept: Kept) -> None:
    """A `Retry-After` of more than an hour is respected (AT32)."""
    kept.pcs.instead[TCB] = body(b"", 429, **{"Retry-After": "7300"})
    await kept.later(DAY_S)
    await recover(kept)
    await kept.later(7299)
    assert kept.pcs.asked[TCB] == 1
    await kept.later(1)
    assert (await kept.known()).failed == ""


async def test_a_service_that_is_not_there(kept: Kept, tmp_path: Path) -> None:
    """An address that refuses connections counts as a failed fetch."""
    folder = tmp_path / "other"
    folder.mkdir()
    async with node_on(
        folder, kept.platform, kept.clock, None, service_url="http://127.0.0.1:1"
    ) as services:
        await bring(services, kept.imported, kept.clock)
        kept.clock.advance(DAY_S)
        await fetch_due(services)
        (held,) = await list_collateral(services.store)
        assert held.state.failed == "service-unavailable"
        assert held.state.failures == 1


@pytest.mark.parametrize("timeout_s", [SHORT_S])
async def test_an_import_beside_a_failing_fetch_stands(kept: Kept, timeout_s: float) -> None:
    """An import during a fetch that then fails is not undone (AT19)."""
    kept.clock.advance(DAY_S)
    slow(kept)
    fetching = asyncio.create_task(fetch_due(kept.services))
    while not kept.pcs.asked:
        await asyncio.to_thread(lambda: None)
    fresh = kept.platform.collateral_json(kept.clock.now())
    await bring(kept.services, fresh, kept.clock)
    assert not await fetching
    state = await kept.known()
    assert state.failed == ""
    assert state.refreshed_at == kept.clock.now()
    assert state.source == IMPORTED
    assert await kept.document() == fresh
    await recover(kept)


async def test_a_clock_that_was_set_back(kept: Kept) -> None:
    """A last try in the future does not delay fetching."""
    await kept.later(DAY_S)
    await kept.later(-10 * DAY_S)
    assert kept.pcs.asked[TCB] == 2


# --- alarms ---------------------------------------------------------------------------------------


async def alarms_of(kept: Kept, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the kinds of the reported alarms, after checking that log and audit agree."""
    capsys.readouterr()
    before = len(
        [record for record in await audit_records(kept.services.store) if record.action == ALARM]
    )
    assert not await report_alarms(kept.services)
    reported = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    records = [
        record for record in await audit_records(kept.services.store) if record.action == ALARM
    ]
    assert {record.subject for record in records} <= {
        f"collateral:{kept.platform.fmspc.hex()}:platform"
    }
    kinds = [json.loads(record.detail)["kind"] for record in records[before:]]
    assert sorted(kinds) == sorted(line["event"].removeprefix("collateral-") for line in reported)
    assert all(line["level"] == "warning" for line in reported)
    return sorted(kinds)


async def test_an_operator_hears_of_it(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    """Log and audit report a document that is stale, not renewable, expiring or expired (AT31)."""
    assert await alarms_of(kept, capsys) == []
    kept.pcs.standard.clear()
    await kept.later(DAY_S)
    assert await alarms_of(kept, capsys) == []
    await kept.later(2 * DAY_S)
    assert await alarms_of(kept, capsys) == ["refresh-failing"]
    await kept.later(4 * DAY_S)
    assert await alarms_of(kept, capsys) == ["refresh-failing", "stale"]
    await kept.later(19 * DAY_S)
    assert await alarms_of(kept, capsys) == ["ends-soon", "refresh-failing", "stale"]
    await kept.later(5 * DAY_S)
    assert await alarms_of(kept, capsys) == ["ended", "refresh-failing", "stale"]


async def test_an_operator_hears_of_the_next_edition(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a month before the next edition applies, the log warns daily (AT33)."""
    reported = []
    for days in (31, 29, 1):
        await kept.later(DAY_S)
        now = kept.clock.now()
        fresh, becomes_standard = kept.publish(), now + days * DAY_S
        events = {20: now - YEAR_S, 21: becomes_standard - YEAR_S}
        kept.pcs.numbers = kept.platform.evaluation_numbers_json(now, events)
        capsys.readouterr()
        await kept.later(DAY_S)
        assert json.loads(await kept.document() or b"") == json.loads(fresh)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        reported.append(
            [
                (line["number"], line["at"])
                for line in lines
                if line["event"] == "collateral-edition-follows"
            ]
        )
        assert reported[-1] in ([], [(21, int(becomes_standard))])
    assert [len(lines) for lines in reported] == [0, 1, 1]


async def test_wishes_are_forgotten(kept: Kept) -> None:
    """A wish for collateral that fails is retried less and less often, and dropped after a day
    (AT39)."""
    outsider, now = b"nobody", kept.clock.now()
    wish = CollateralState(due_at=now, wanted_at=now)
    await kept.services.store.commit(Commit(puts=(state_put((outsider, "platform"), wish),)))
    kept.pcs.instead[TCB] = body(b"", 503)
    waits = []
    for _ in range(8):
        await fetch_due(kept.services)
        state = await kept.state(outsider)
        assert state is not None
        waits.append(state.due_at - kept.clock.now())
        kept.clock.advance(waits[-1])
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    await kept.later(FORGOTTEN_AFTER_S - (kept.clock.now() - now))
    assert await kept.state(outsider) is None
