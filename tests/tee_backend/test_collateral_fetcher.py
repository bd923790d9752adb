"""Fetching on demand: once for all who ask at the same time, and not again for what is known to fail."""

import asyncio
from collections import Counter
from copy import copy

import pytest
from tests_support import FixedClock

from tee_backend.attestation.certificates import PlatformCa
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.collateral_fetcher import (
    FAILED_FOR_S,
    MAX_REMEMBERED,
    MAX_UNDER_WAY,
    UNKNOWN_FOR_S,
    CollateralFetcher,
)
from tee_backend.attestation.errors import (
    CollateralServiceFailed,
    PlatformUnknown,
    ServiceAnswerRefused,
    ServiceUnavailable,
)


class Service:
    """A service whose answers wait until they are let go."""

    def __init__(self, document: bytes) -> None:
        self.file = parse_collateral(document)
        self.failure: CollateralServiceFailed | None = None
        self.gate = asyncio.Event()
        self.asked: Counter[bytes] = Counter()

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        self.asked[fmspc] += 1
        await self.gate.wait()
        if self.failure is not None:
            raise copy(self.failure)
        return self.file


@pytest.fixture
def service(document: bytes) -> Service:
    """A service in order."""
    return Service(document)


@pytest.fixture
def fetcher(service: Service, clock: FixedClock) -> CollateralFetcher:
    """A fetcher on it."""
    return CollateralFetcher(service, clock=clock)


async def test_one_fetch_for_all(service: Service, fetcher: CollateralFetcher) -> None:
    """Callers at the same time share a fetch, later ones get one of their own (AT32)."""
    asking = [asyncio.create_task(fetcher.fetch(b"family", "platform")) for _ in range(5)]
    await asyncio.wait(asking, timeout=0)
    service.gate.set()
    assert [service.file] * 5 == await asyncio.gather(*asking)
    assert 1 == service.asked[b"family"]
    await fetcher.fetch(b"family", "platform")
    assert 2 == service.asked[b"family"]


async def test_one_that_goes_away(service: Service, fetcher: CollateralFetcher) -> None:
    """A caller that is cancelled does not take the document from the others."""
    asking = [asyncio.create_task(fetcher.fetch(b"family", "platform")) for _ in range(2)]
    await asyncio.wait(asking, timeout=0)
    asking[0].cancel()
    await asyncio.wait(asking[:1])
    service.gate.set()
    assert service.file is await asking[1]


@pytest.mark.parametrize(
    ("failure", "for_s"),
    [
        (PlatformUnknown("x"), UNKNOWN_FOR_S),
        (ServiceAnswerRefused("x"), FAILED_FOR_S),
        (ServiceUnavailable("x"), FAILED_FOR_S),
        (ServiceUnavailable("x", retry_after_s=1.0), FAILED_FOR_S),
        (ServiceUnavailable("x", retry_after_s=500.0), 500.0),
    ],
)
async def test_failures_are_remembered(
    service: Service, fetcher: CollateralFetcher, clock: FixedClock, failure: CollateralServiceFailed, for_s: float
) -> None:
    """A family that failed is not asked for again for its time, and then it is (AT32)."""
    service.failure = failure
    service.gate.set()
    for _ in range(3):
        with pytest.raises(type(failure)):
            await fetcher.fetch(b"family", "platform")
    assert 1 == service.asked[b"family"]
    clock.advance(for_s - 1)
    with pytest.raises(type(failure)) as remembered:
        await fetcher.fetch(b"family", "platform")
    assert 1.0 == getattr(remembered.value, "retry_after_s", 1.0)
    clock.advance(1)
    service.failure = None
    assert service.file is await fetcher.fetch(b"family", "platform")


async def test_another_family_is_asked_for(service: Service, fetcher: CollateralFetcher) -> None:
    """A failure is remembered for its family and authority alone."""
    service.failure = PlatformUnknown("x")
    service.gate.set()
    for fmspc, ca in ((b"family", "platform"), (b"family", "processor"), (b"others", "platform")):
        with pytest.raises(PlatformUnknown):
            await fetcher.fetch(fmspc, ca)  # type: ignore[arg-type]  # of the literals
    assert {b"family": 2, b"others": 1} == service.asked


async def test_bounds(service: Service, fetcher: CollateralFetcher) -> None:
    """So many families at once, and so many remembered (AT32)."""
    asking = [asyncio.create_task(fetcher.fetch(bytes([n]) * 6, "platform")) for n in range(MAX_UNDER_WAY)]
    await asyncio.wait(asking, timeout=0)
    with pytest.raises(ServiceUnavailable):
        await fetcher.fetch(b"family", "platform")
    service.failure = PlatformUnknown("x")
    service.gate.set()
    await asyncio.wait(asking)
    for n in range(MAX_REMEMBERED):
        with pytest.raises(PlatformUnknown):
            await fetcher.fetch(n.to_bytes(6, "big"), "platform")
    first = bytes(6)
    assert 1 == service.asked[first]
    with pytest.raises(PlatformUnknown):
        await fetcher.fetch(b"family", "platform")
    with pytest.raises(PlatformUnknown):
        await fetcher.fetch(first, "platform")
    assert service.asked[first] > 1


async def test_a_clock_that_was_set_back_holds_no_family_up(service: Service, clock: FixedClock) -> None:
    """A failure is remembered as long as it may be, whatever the clock said when it happened (AT32)."""
    service.failure = PlatformUnknown("unknown")
    service.gate.set()
    fetcher = CollateralFetcher(service, clock=clock)
    for step_s in (0.0, UNKNOWN_FOR_S - 1, -300 * 86_400.0):
        clock.advance(step_s)
        with pytest.raises(PlatformUnknown):
            await fetcher.fetch(b"family", "platform")
    assert service.asked[b"family"] == 2
