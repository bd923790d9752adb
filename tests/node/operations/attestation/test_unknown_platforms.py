"""Tests of quotes from platforms whose collateral has to be fetched first."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from attacks.parties import Delegate, Owner, opens, policy_for
from attestation_stage import Here, Stay
from deviating_platform import CollateralOptions, SimulatedPlatform
from running_node import Reply, send
from simulators.pcs import CERTIFICATES, TCB, PcsSimulator, pcs_on_loopback

from capabilities.principals import parse_principal
from encryption_network.policy import decode_evidence
from node.collateral.intake import import_collateral
from node.config.tree import Collateral
from node.operations.attestation.refresh_collateral import ASK_AGAIN_S, fetch_due
from spaces.documents.collateral_rows import (
    MAX_FAMILIES,
    CollateralState,
    collateral_states,
    state_put,
)
from spaces.documents.evidence import evidence_row_key
from spaces.store.contract import Commit
from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.examine import verify_pck_chain
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.simulated import measurements_of

DAY_S = 86_400


@pytest.fixture
async def pcs() -> AsyncIterator[PcsSimulator]:
    """A service that publishes nothing yet."""
    async with pcs_on_loopback(PcsSimulator()) as service:
        yield service


def rival_of(platform: SimulatedPlatform) -> SimulatedPlatform:
    """Return a platform under another root whose certificate has the same size."""
    rivals = (
        SimulatedPlatform.from_seed(f"a root of the attacker {n}".encode(), fmspc=b"stran1")
        for n in range(99)
    )
    return next(rival for rival in rivals if len(rival.root_pem) == len(platform.root_pem))


def asking(pcs: PcsSimulator, **settings: object) -> Collateral:
    """Return settings with the service."""
    named = {
        "service_url": pcs.url,
        "root_crl_url": pcs.url + CERTIFICATES,
        "check_numbers": False,
    } | settings
    return Collateral(**named)  # type: ignore[arg-type]  # by name


async def submit_quote(
    here: Here, delegate: Delegate, owner: Owner, machine: SimulatedPlatform
) -> Reply:
    """Attest with a quote of some machine."""
    nonce = await here.nonce(delegate.did)
    bound = here.report_data(delegate.did, delegate.receiver.public_key, nonce)
    quote = machine.mint_quote(measurements_of("approved"), bound)
    return await here.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)


async def families(here: Here) -> list[bytes]:
    """Return the platform families with a stored state."""
    return [family[0] for family, _, _ in await collateral_states(here.services.store)]


async def test_an_unknown_platform_is_wished_for(staying: Stay, pcs: PcsSimulator) -> None:
    """The first backend of a new family is refused with a time to retry, then accepted (AT39)."""
    async with staying(with_collateral=False, fetching=asking(pcs)) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        for _ in range(3):
            reply = await submit_quote(here, delegate, owner, here.platform)
            assert (reply.status, reply.value["code"]) == (503, "collateral-missing")
            assert reply.headers["retry-after"] == str(ASK_AGAIN_S)
        assert pcs.asked == {}
        assert await families(here) == [here.platform.fmspc]
        pcs.publish(here.platform.collateral_json(here.clock.now()))
        await fetch_due(here.services)
        assert (await submit_quote(here, delegate, owner, here.platform)).status == 200
        assert opens(await here.ask(delegate, owner), delegate, owner)
        assert pcs.asked[TCB] == 1


async def test_without_a_service_nothing_is_wished_for(staying: Stay) -> None:
    """Without a service the answer refers to the operator, and nothing is stored (AT18)."""
    async with staying(with_collateral=False) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        reply = await submit_quote(here, delegate, owner, here.platform)
        assert (reply.status, reply.value["code"]) == (503, "collateral-missing")
        assert "retry-after" not in reply.headers
        assert await families(here) == []


@pytest.mark.parametrize("retry_s", [60, 3600])
async def test_a_family_that_the_service_does_not_know(
    staying: Stay, pcs: PcsSimulator, retry_s: int
) -> None:
    """An unknown family is asked for once an hour, and backends are told to wait (AT32)."""
    async with staying(with_collateral=False, fetching=asking(pcs, retry_s=retry_s)) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        await submit_quote(here, delegate, owner, here.platform)
        for _ in range(3):
            await fetch_due(here.services)
            reply = await submit_quote(here, delegate, owner, here.platform)
            assert reply.headers["retry-after"] == str(3600 + ASK_AGAIN_S)
        assert pcs.asked[TCB] == 1


async def test_invented_platforms_are_not_wished_for(
    staying: Stay, pcs: PcsSimulator, platform: SimulatedPlatform
) -> None:
    """A quote under another root, or of an uncertified platform, leaves no wish (AT7, AT39)."""
    outsider = rival_of(platform)
    async with staying(with_collateral=False, fetching=asking(pcs)) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        reply = await submit_quote(here, delegate, owner, outsider)
        assert (reply.status, reply.value["code"]) == (403, "untrusted-root")
        nonce = await here.nonce(delegate.did)
        bound = here.report_data(delegate.did, delegate.receiver.public_key, nonce)
        quote = outsider.mint_quote(measurements_of("approved"), bound)
        spliced = quote.replace(outsider.root_pem.encode(), here.platform.root_pem.encode())
        reply = await here.submit_quote(delegate, owner.network, nonce=nonce, quote=spliced)
        assert (reply.status, reply.value["code"]) == (403, "certificate-chain")
        assert await families(here) == []


async def test_wishes_are_bounded(staying: Stay, pcs: PcsSimulator) -> None:
    """At the limit of families, a further one is refused without a wish (AT39)."""
    async with staying(with_collateral=False, fetching=asking(pcs)) as here:
        now = here.clock.now()
        wish = CollateralState(due_at=now + DAY_S, wanted_at=now)
        for start in range(0, MAX_FAMILIES, 128):
            names = [number.to_bytes(6, "big") for number in range(start, start + 128)]
            puts = tuple(state_put((name, "platform"), wish) for name in names)
            await here.services.store.commit(Commit(puts=puts))
        owner, delegate = await here.granted(policy=policy_for("approved"))
        reply = await submit_quote(here, delegate, owner, here.platform)
        assert (reply.status, reply.value["code"]) == (503, "collateral-missing")
        assert "retry-after" not in reply.headers
        assert here.platform.fmspc not in await families(here)


async def test_a_slow_service_holds_nobody_up(staying: Stay, pcs: PcsSimulator) -> None:
    """While a fetch hangs, known platforms attest and unknown ones are refused at once (AT39)."""
    pcs.gate = asyncio.Event()
    async with staying(fetching=asking(pcs, timeout_s=25)) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        unknown = here.platform.another_machine(b"another family's machine", fmspc=b"others")
        pcs.publish(unknown.collateral_json(here.clock.now()))
        assert (await submit_quote(here, delegate, owner, unknown)).status == 503
        fetching = asyncio.create_task(fetch_due(here.services))
        while not pcs.asked:
            await asyncio.to_thread(lambda: None)
        assert (await submit_quote(here, delegate, owner, unknown)).status == 503
        assert (await submit_quote(here, delegate, owner, here.platform)).status == 200
        assert (await send(here.url, "GET", "/readyz")).status == 200
        assert not fetching.done()
        pcs.gate.set()
        await fetching
        assert (await submit_quote(here, delegate, owner, unknown)).status == 200


async def test_collateral_that_is_too_old_judges_nothing(staying: Stay) -> None:
    """Past its grace period a stale document is refused, and evidence by it has expired (AT31)."""
    settings = Collateral(stale_s=DAY_S, grace_s=DAY_S)
    async with staying(with_collateral=False, fetching=settings) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        await bring(here, issued_before_s=2 * DAY_S + 1)
        reply = await submit_quote(here, delegate, owner, here.platform)
        assert (reply.status, reply.value["code"]) == (503, "collateral-window")
        await bring(here, issued_before_s=2 * DAY_S - 100)
        reply = await submit_quote(here, delegate, owner, here.platform)
        assert reply.status == 200
        row = evidence_row_key(parse_principal(delegate.did), delegate.receiver.public_key)
        (record,) = (await here.services.store.read((row,))).records
        assert record is not None and record.value is not None
        assert 99 <= decode_evidence(record.value).expires_at - here.clock.now() <= 101
        await bring(here, issued_before_s=0)
        assert (await submit_quote(here, delegate, owner, here.platform)).status == 200


async def bring(here: Here, *, issued_before_s: int) -> None:
    """Import a document that was issued some time ago."""
    now, root = here.clock.now(), here.services.trust_root
    document = here.platform.collateral_json(
        now, options=CollateralOptions(issued_before_s=issued_before_s)
    )
    await import_collateral(
        here.services.store, document, root=root, clock=here.clock, source="a.json"
    )


def test_the_chain_of_a_quote(platform: SimulatedPlatform) -> None:
    """A certificate chain is valid under its own root, in its time, with every signature intact."""
    root, now = parse_trust_root(platform.root_der), 1_795_000_000.0
    minted = platform.mint_quote(measurements_of("approved"), bytes(64))
    verify_pck_chain(parse_quote(minted), root=root, now=now)
    other = rival_of(platform)
    with pytest.raises(QuoteRefused, match=r"^untrusted-root$"):
        verify_pck_chain(parse_quote(minted), root=parse_trust_root(other.root_der), now=now)
    for moment in (0.0, 1e11, float("nan")):
        with pytest.raises(QuoteRefused, match=r"^certificate-chain$"):
            verify_pck_chain(parse_quote(minted), root=root, now=moment)
    spliced = minted.replace(platform.root_pem.encode(), other.root_pem.encode())
    with pytest.raises(QuoteRefused, match=r"^certificate-chain$"):
        verify_pck_chain(parse_quote(spliced), root=parse_trust_root(other.root_der), now=now)
