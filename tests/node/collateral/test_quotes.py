"""Quotes are verified one at a time in a bounded queue, with pauses after invalid ones."""

import asyncio

import pytest
from deviating_platform import SimulatedPlatform

from capabilities.principals import parse_principal
from encryption_network.policy import Evidence
from node.collateral.quotes import MOST_REST_S, REST, Quotes
from node.refusal import Refusal
from tee_backend.attestation.attestation_errors import AttestationError, QuoteRefused
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.examine import BoundQuote
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import Binding
from tee_backend.attestation.trust_root import TrustRoot, parse_trust_root
from tee_backend.evidence.simulated import measurements_of

NOW = 1_795_000_000.0
HOLDER = parse_principal("did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH")
STEP_S = 0.002
SIGNATURE_AT, KEY_AT = 640, 700
"""Bytes of the signature over the quote, and of the key that it is made with."""


class Observer:
    """A timer that advances one step per reading, with pauses that last until released."""

    def __init__(self, *, step_s: float = STEP_S) -> None:
        self.now_s, self.step_s = 100.0, step_s
        self.rests_s: list[float] = []
        self.gate = asyncio.Event()
        self.resting = asyncio.Event()

    def time_s(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    async def pause(self, duration_s: float) -> None:
        self.rests_s.append(duration_s)
        self.resting.set()
        await self.gate.wait()
        self.now_s += duration_s


class Prover:
    """Quotes of one platform for one queue."""

    def __init__(
        self, platform: SimulatedPlatform, *, most_waiting: int, step_s: float = STEP_S
    ) -> None:
        self.root: TrustRoot = parse_trust_root(platform.root_der)
        self.collateral: Collateral = parse_collateral(platform.collateral_json(NOW))
        self.quote = platform.mint_quote(measurements_of("backend"), bytes(64))
        self.watch = Observer(step_s=step_s)
        self.quotes = Quotes(
            most_waiting=most_waiting, pause=self.watch.pause, time_s=self.watch.time_s
        )

    async def examine(self, quote: bytes | None = None) -> Evidence:
        parsed = parse_quote(quote or self.quote)
        bound = BoundQuote(parsed, Binding(report_data=bytes(64), holder=HOLDER), None)
        return await self.quotes.examine(
            bound, self.collateral, root=self.root, now=NOW, ttl_s=600.0
        )

    def changed(self, at: int) -> bytes:
        """Return a well-formed quote whose signatures do not verify."""
        return self.quote[:at] + bytes([self.quote[at] ^ 1]) + self.quote[at + 1 :]

    def asked(self, times: int) -> list[asyncio.Task[Evidence]]:
        return [asyncio.create_task(self.examine()) for _ in range(times)]

    async def refuse(self, at: int = SIGNATURE_AT) -> None:
        with pytest.raises(AttestationError):
            await self.examine(self.changed(at))


async def test_one_at_a_time(platform: SimulatedPlatform) -> None:
    """Of many waiting quotes one is verified at a time, while the event loop keeps running
    (AT5)."""
    prover = Prover(platform, most_waiting=5)
    waiting = prover.asked(5)
    await prover.watch.resting.wait()
    assert not any(task.done() for task in waiting)
    assert len(prover.watch.rests_s) == 1
    prover.watch.gate.set()
    assert len(await asyncio.gather(*waiting)) == 5


async def test_a_full_queue_refuses_at_once(platform: SimulatedPlatform) -> None:
    """A quote beyond the queue's limit is refused unread, until another one is done (AT5)."""
    prover = Prover(platform, most_waiting=2)
    waiting = prover.asked(2)
    await prover.watch.resting.wait()
    for _ in range(3):
        with pytest.raises(Refusal, match="quotes-busy"):
            await prover.examine()
    prover.watch.gate.set()
    await asyncio.gather(*waiting)
    assert (await prover.examine()).tcb_status == "UpToDate"


async def test_who_fails_or_leaves_makes_room(platform: SimulatedPlatform) -> None:
    """A refused quote and a cancelled caller free their places in the queue (AT5)."""
    prover = Prover(platform, most_waiting=1)
    prover.watch.gate.set()
    for _ in range(3):
        with pytest.raises(QuoteRefused, match=r"^quote-signature$"):
            await prover.examine(prover.changed(SIGNATURE_AT))
    prover.watch.gate.clear()
    prover.watch.resting.clear()
    (leaving,) = prover.asked(1)
    await prover.watch.resting.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    prover.watch.gate.set()
    assert (await prover.examine()).tcb_status == "UpToDate"


async def test_junk_makes_the_next_one_wait(platform: SimulatedPlatform) -> None:
    """After a refused quote the next one waits for several times its duration (AT5)."""
    prover = Prover(platform, most_waiting=4)
    prover.watch.gate.set()
    await prover.refuse()
    await prover.refuse(KEY_AT)
    await prover.examine()
    await prover.examine()
    first, *after_junk, after_a_good_one = prover.watch.rests_s
    assert first == 0.0
    assert after_a_good_one == 0.0
    # one step went by until somebody asked
    assert after_junk == pytest.approx([(REST - 1) * STEP_S] * 2)


async def test_leaving_does_not_end_a_rest(platform: SimulatedPlatform) -> None:
    """A client that disconnects after an invalid quote does not shorten the pause before the next
    quote (AT5)."""
    prover = Prover(platform, most_waiting=4)
    prover.watch.gate.set()
    await prover.refuse()
    prover.watch.gate.clear()
    prover.watch.resting.clear()
    leaving, staying = prover.asked(2)
    await prover.watch.resting.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    prover.watch.gate.set()
    await staying
    assert prover.watch.rests_s[1:] == pytest.approx([(REST - 1) * STEP_S, (REST - 2) * STEP_S])


async def test_a_rest_is_bounded(platform: SimulatedPlatform) -> None:
    """After a machine stall the pause is bounded, so valid quotes do not wait for it (AT5)."""
    prover = Prover(platform, most_waiting=2, step_s=60.0)
    prover.watch.gate.set()
    await prover.refuse()
    prover.watch.step_s = 0.0
    await prover.examine()
    assert prover.watch.rests_s[-1] == pytest.approx(MOST_REST_S)
