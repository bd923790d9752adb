"""Quotes are verified one at a time, and few may wait: a flood of them must not pile up behind honest requests."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dcap_qvl
import pytest

from node.quotes import Quotes, QuotesBusy
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.errors import MalformedQuote
from tee_backend.attestation.trust_root import TrustRoot, parse_trust_root
from tee_backend.attestation.verify import VerifiedQuote
from tee_backend.evidence.simulated import SimulatedPlatform, measurements_of

NOW = 1_795_000_000.0


class Library:
    """The library, with a gate before each verification."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.under_way = self.most = 0
        self._counting = threading.Lock()
        self._genuine = dcap_qvl.QuoteVerifier

    def __call__(self, root_der: bytes) -> "Library.Verifier":
        return Library.Verifier(self, root_der)

    class Verifier:
        def __init__(self, library: "Library", root_der: bytes) -> None:
            self._library, self._root_der = library, root_der

        def verify_with_policy(self, *arguments: Any) -> Any:
            library = self._library
            with library._counting:
                library.under_way += 1
                library.most = max(library.most, library.under_way)
            library.begun.set()
            assert library.gate.wait(20)
            try:
                return library._genuine(self._root_der).verify_with_policy(*arguments)
            finally:
                with library._counting:
                    library.under_way -= 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The library behind a gate; opened at the end, so that no thread hangs."""
    slow = Library()
    monkeypatch.setattr(dcap_qvl, "QuoteVerifier", slow)
    yield slow
    slow.gate.set()


class Prover:
    """Quotes of one platform, handed to one queue."""

    def __init__(self, platform: SimulatedPlatform, quotes: Quotes) -> None:
        self.root: TrustRoot = parse_trust_root(platform.root_der)
        self.collateral: Collateral = parse_collateral(platform.collateral_json(NOW))
        self.quote = platform.mint_quote(measurements_of("backend"), bytes(64))
        self.quotes = quotes

    async def verify(self, quote: bytes | None = None) -> VerifiedQuote:
        return await self.quotes.verify(quote or self.quote, self.collateral, root=self.root, now=NOW)

    def asked(self, times: int) -> list[asyncio.Task[VerifiedQuote]]:
        return [asyncio.create_task(self.verify()) for _ in range(times)]


async def test_one_at_a_time(platform: SimulatedPlatform, library: Library) -> None:
    """However many quotes wait, one is in the library, and the loop goes on (AT5)."""
    prover = Prover(platform, Quotes(most_waiting=5))
    waiting = prover.asked(5)
    await asyncio.to_thread(library.begun.wait, 20)
    assert not any(task.done() for task in waiting)
    library.gate.set()
    verified = await asyncio.gather(*waiting)
    assert (len(verified), library.most) == (5, 1)


async def test_a_full_queue_refuses_at_once(platform: SimulatedPlatform, library: Library) -> None:
    """One more than may wait is refused without being looked at; when one is done there is room (AT5)."""
    prover = Prover(platform, Quotes(most_waiting=2))
    waiting = prover.asked(2)
    await asyncio.to_thread(library.begun.wait, 20)
    for _ in range(3):
        with pytest.raises(QuotesBusy):
            await prover.verify()
    library.gate.set()
    await asyncio.gather(*waiting)
    assert (await prover.verify()).tcb_status == "UpToDate"


async def test_who_fails_or_leaves_makes_room(platform: SimulatedPlatform, library: Library) -> None:
    """A quote that is refused and a caller that goes away give their place back (AT5)."""
    library.gate.set()
    prover = Prover(platform, Quotes(most_waiting=1))
    for _ in range(3):
        with pytest.raises(MalformedQuote):
            await prover.verify(b"\4\0")
    library.gate.clear()
    library.begun.clear()
    (leaving,) = prover.asked(1)
    await asyncio.to_thread(library.begun.wait, 20)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    library.gate.set()
    assert (await prover.verify()).tcb_status == "UpToDate"
