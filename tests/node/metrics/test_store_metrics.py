"""Metrics that one worker reads from the store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from embedded_node import embedded_node
from engines import store_at
from scraped_metrics import numbers
from tests_support import CountingEntropy, FixedClock

from capabilities.resources import network_id
from capabilities.signatures import Ed25519Signer
from encryption_network.networks import NetworkRecord, create_network, encode_network, revoked
from encryption_network.rotation import with_candidate, with_candidate_activated
from node.config.tree import Config, Http
from node.housekeeping.seal_audit import seal_recent
from node.metrics.network_key_ages import AGE_CLASSES
from node.metrics.worker_metrics import NETWORKS_PERIOD_S, WorkerMetrics
from node.services import Services
from spaces.audit.audit_records import AuditRecord
from spaces.documents.collateral_rows import CollateralState, state_put
from spaces.documents.network_rows import network_put
from spaces.keyspace import BODIES_COUNTER, NETWORKS_PREFIX
from spaces.store.contract import ANY, Add, Commit, Put, commit_puts

COLLATERAL_DOCUMENTS = "sealspace_collateral_documents"
COLLATERAL_AGE = "sealspace_collateral_age_seconds"
COLLATERAL_FAILING = "sealspace_collateral_failing"
STORE_FILES_BYTES = "sealspace_store_files_bytes"
AUDIT_LAG = "sealspace_audit_lag_seconds"
ROOT_SECRET_AGE = "sealspace_root_secret_age_seconds"
KEY_AGE = "sealspace_network_key_age_seconds"
WATCHED = (
    COLLATERAL_DOCUMENTS,
    COLLATERAL_AGE,
    COLLATERAL_FAILING,
    STORE_FILES_BYTES,
    AUDIT_LAG,
    ROOT_SECRET_AGE,
)


@pytest.fixture
async def services(
    tmp_path: Path, clock: FixedClock, entropy: CountingEntropy
) -> AsyncIterator[Services]:
    """The services of a running node."""
    config = Config(http=Http(port=0, drain_s=0), store=store_at(tmp_path))
    async with embedded_node(config, clock=clock, entropy=entropy) as node:
        yield node.services


async def _seen(services: Services, folder: Path) -> dict[str, float]:
    metrics = WorkerMetrics(str(folder), "worker-0")
    await metrics.update_store_metrics(services)
    return {series: numbers(folder)[series,] for series in WATCHED}


async def test_an_empty_store(services: Services, tmp_path: Path) -> None:
    """On an empty store all numbers are 0."""
    assert await _seen(services, tmp_path) == dict.fromkeys(WATCHED, 0)


async def test_collateral(services: Services, clock: FixedClock, tmp_path: Path) -> None:
    """The age is that of the oldest document; missing documents have none; failures count for
    both."""
    now = clock.now()
    states = (
        CollateralState(source="import", refreshed_at=now - 50),
        CollateralState(
            source="import", refreshed_at=now - 7000, failed="service-answer", failures=1
        ),
        CollateralState(wanted_at=now, failed="platform-unknown", failures=2),
    )
    puts = tuple(
        [state_put((bytes([at]) * 6, "platform"), state) for at, state in enumerate(states)]
    )
    await services.store.commit(Commit(puts=puts))
    seen = await _seen(services, tmp_path)
    assert seen[COLLATERAL_DOCUMENTS] == 2
    assert seen[COLLATERAL_AGE] == 7000
    assert seen[COLLATERAL_FAILING] == 2


async def test_a_clock_that_was_set_back(
    services: Services, clock: FixedClock, tmp_path: Path
) -> None:
    """Times in the future have age 0 and cause no error."""
    state = CollateralState(source="import", refreshed_at=clock.now() + 1000)
    await services.store.commit(Commit(puts=(state_put((b"\x01" * 6, "platform"), state),)))
    assert (await _seen(services, tmp_path))[COLLATERAL_AGE] == 0


async def test_files_and_waiting_audit(
    services: Services, clock: FixedClock, tmp_path: Path
) -> None:
    """Bytes of large values follow commits; audit records age until they are sealed."""
    record = AuditRecord(at=clock.now() - 70, action="kv.put", actor="did:key:zA", subject="s")
    adds = (Add(BODIES_COUNTER, 123_456),)
    await services.store.commit(Commit(puts=(record.put(services.entropy),), adds=adds))
    seen = await _seen(services, tmp_path)
    assert seen[STORE_FILES_BYTES] == 123_456
    assert seen[AUDIT_LAG] == 70
    await seal_recent(services)
    assert (await _seen(services, tmp_path))[AUDIT_LAG] == 0


async def test_what_was_seen_stands_while_the_store_is_away(
    services: Services, tmp_path: Path
) -> None:
    """While the store does not answer, metrics keep their last numbers."""
    metrics = WorkerMetrics(str(tmp_path), "worker-0")
    await services.store.commit(Commit(adds=(Add(BODIES_COUNTER, 5),)))
    await metrics.update_store_metrics(services)
    await services.store.close()
    surveying = asyncio.create_task(metrics.keep_store_metrics_current(services))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not surveying.done()
    assert numbers(tmp_path)["sealspace_store_files_bytes",] == 5
    surveying.cancel()
    await asyncio.gather(surveying, return_exceptions=True)


async def test_the_age_of_the_root_secret(
    services: Services, clock: FixedClock, tmp_path: Path
) -> None:
    """The age counts from the first start, which recorded the secret (RK1)."""
    clock.advance(3600)
    assert (await _seen(services, tmp_path))[ROOT_SECRET_AGE] == 3600


async def test_the_ages_of_network_keys(
    services: Services, clock: FixedClock, tmp_path: Path
) -> None:
    """The newest key of each active network counts, in one of four classes (EN35)."""
    day_s = 86_400
    metrics = WorkerMetrics(str(tmp_path), "worker-0")

    async def seen() -> tuple[float, list[float]]:
        clock.advance(NETWORKS_PERIOD_S)
        await metrics.update_store_metrics(services)
        found = numbers(tmp_path)
        return found[KEY_AGE,], [found["sealspace_networks", name] for name in AGE_CLASSES]

    assert await seen() == (0, [0, 0, 0, 0])
    records = []
    for name in ("oldest", "rotated", "revoked", "young"):
        network = network_id(Ed25519Signer(b"\x0e" * 32).did, name)
        records.append(
            create_network(
                network,
                now=clock.now(),
                keyring=services.keyring,
                entropy=services.entropy,
            )
        )
        await store_network(services, records[-1])
        clock.advance(100 * day_s)
    age_s, by_class = await seen()
    assert age_s == 400 * day_s + NETWORKS_PERIOD_S
    assert by_class == [0, 0, 3, 1]
    candidate = with_candidate(
        records[1], now=clock.now(), keyring=services.keyring, entropy=services.entropy
    )
    await store_network(services, candidate)
    assert (await seen())[1] == [0, 0, 3, 1]  # nothing is sealed to a candidate
    rotated = with_candidate_activated(candidate, b"statement", now=clock.now())
    await store_network(services, rotated)
    await store_network(services, revoked(records[2], now=clock.now()))
    await commit_puts(services.store, Put(NETWORKS_PREFIX + bytes(16), b"damaged"))
    age_s, by_class = await seen()
    assert by_class == [1, 0, 1, 1]
    assert 400 * day_s < age_s < 401 * day_s


async def test_networks_are_not_read_each_time(
    services: Services, clock: FixedClock, tmp_path: Path
) -> None:
    """Between two readings of all networks, only the age of the known keys grows."""
    metrics = WorkerMetrics(str(tmp_path), "worker-0")
    network = network_id(Ed25519Signer(b"\x0e" * 32).did, "default")
    record = create_network(
        network, now=clock.now(), keyring=services.keyring, entropy=services.entropy
    )
    await store_network(services, record)
    await metrics.update_store_metrics(services)
    await store_network(services, revoked(record, now=clock.now()))
    clock.advance(15)
    await metrics.update_store_metrics(services)
    assert numbers(tmp_path)[KEY_AGE,] == 15
    clock.advance(NETWORKS_PERIOD_S)
    await metrics.update_store_metrics(services)
    assert numbers(tmp_path)[KEY_AGE,] == 0


async def store_network(services: Services, record: NetworkRecord) -> None:
    put = network_put(record.network_id, encode_network(record), expect=ANY)
    await commit_puts(services.store, put)
