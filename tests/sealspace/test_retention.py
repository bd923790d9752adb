"""Tests of an owner's view of retention: receipts, documents, evidence and audit records."""

import json
from collections.abc import Awaitable, Callable

import pytest
from backend_site import OWNER_ABILITIES, backend_of, owner_of, reads
from running_node import send

from capabilities.audit_export import verify_export
from capabilities.cacao import Cacao, encode_cacao, header_bytes, header_text, parse_cacao
from encryption_network.judgement import CLOCK_SKEW_S
from node.collateral.intake import import_collateral
from node.config.tree import Config, Retention
from node.housekeeping.schedule import (
    prune_audit,
    sweep_aliases,
    sweep_delegations,
    sweep_evidence,
    sweep_receipts,
)
from node.housekeeping.seal_audit import chain_of, seal_audit
from node.services import Services
from sealspace.client import Client, SignIn
from sealspace.errors import NotFound
from sealspace.receipts import documents_of
from sealspace.session import Session, read_grant
from sealspace.wallets import new_wallet
from spaces.audit.audit_chain import exported_lines
from spaces.audit.pruning import note_exported
from spaces.documents.receipt_rows import PERIOD_S
from spaces.keyspace import ALIASES_PREFIX, DOCUMENT_USES_PREFIX, EVIDENCE_PREFIX
from spaces.store.contract import Range

DAY_S = 86_400.0


@pytest.fixture
async def short(bench_with, config: Config):
    """A node that keeps receipts for 90 days, and audit for a year."""
    return await bench_with(
        Config(
            http=config.http,
            store=config.store,
            release=config.release,
            retention=Retention(receipts_days=90, audit_days=365),
        )
    )


async def all_of(job: Callable[[Services], Awaitable[bool]], services: Services) -> None:
    while await job(services):
        pass
    await job(services)


async def rows(services: Services, prefix: bytes) -> int:
    return len((await services.store.read(ranges=(Range(prefix),))).pages[0].rows)


async def again(bench, wallet) -> Client:
    """Sign the owner in with a new session."""
    client: Client = await bench.client()
    await client.sign_in(
        wallet,
        SignIn(network_abilities=("tinycloud.encryption/decrypt", "sealspace.encryption/receipts")),
    )
    return client


async def test_receipts_and_documents_go_when_their_time_has_come(short) -> None:
    """Receipts are deleted after the configured days, and their documents after the last receipt
    (RC25)."""
    wallet = new_wallet(entropy=short.entropy)
    owner = await short.client()
    await owner.sign_in(wallet, SignIn(network_abilities=OWNER_ABILITIES))
    await owner.secrets().put("API_KEY", "value")
    services = short.node.services
    await reads(await backend_of(short, owner), owner)
    (old,) = (await owner.receipts.page()).receipts
    short.clock.advance(89 * DAY_S)
    owner = await again(short, wallet)
    await all_of(sweep_receipts, services)
    assert len(await owner.receipts.documents(old)) == len(documents_of(old)) == 4
    await owner.secrets().get("API_KEY")
    short.clock.advance(2 * DAY_S)
    await all_of(sweep_receipts, services)
    assert [one.ground for one in (await owner.receipts.page()).receipts] == ["owner_session"]
    short.clock.advance(2 * PERIOD_S + 90 * DAY_S)
    await all_of(sweep_receipts, services)
    owner = await again(short, wallet)
    with pytest.raises(NotFound):
        await owner.receipts.document(documents_of(old)[0])
    assert (await owner.receipts.page()).receipts == ()
    assert await rows(services, DOCUMENT_USES_PREFIX) == 0


async def test_a_policy_in_use_is_noted_anew(short) -> None:
    """An old document is kept if a current receipt refers to it (RC26)."""
    wallet = new_wallet(entropy=short.entropy)
    owner = await short.client()
    await owner.sign_in(wallet, SignIn(network_abilities=OWNER_ABILITIES))
    await owner.secrets().put("API_KEY", "value")
    services = short.node.services
    for _ in range(5):  # one backend, the same policy each time, for longer than receipts are kept
        await reads(await backend_of(short, owner), owner)
        short.clock.advance(PERIOD_S)
        owner = await again(short, wallet)
        platform = short.platform.collateral_json(short.clock.now())
        await import_collateral(
            services.store, platform, root=services.trust_root, clock=short.clock, source="test"
        )
        await all_of(sweep_receipts, services)
    receipts = (await owner.receipts.page()).receipts
    assert len(receipts) == 3
    for receipt in receipts:
        assert set(await owner.receipts.documents(receipt)) == set(documents_of(receipt))
    assert len({receipt.policies for receipt in receipts}) == 1


async def test_receipts_are_kept_for_ever_where_that_is_asked_for(
    bench_with, config: Config
) -> None:
    """With 0 days configured, no receipt is deleted."""
    kept = Config(
        http=config.http,
        store=config.store,
        release=config.release,
        retention=Retention(receipts_days=0),
    )
    bench = await bench_with(kept)
    owner = await owner_of(bench)
    await owner.secrets().get("API_KEY")
    (receipt,) = (await owner.receipts.page()).receipts
    bench.clock.advance(100 * 365 * DAY_S)
    await all_of(sweep_receipts, bench.node.services)
    assert await rows(bench.node.services, b"R") == 1
    assert receipt.ground == "owner_session"


async def test_ended_evidence_goes(short) -> None:
    """A backend's evidence is deleted a day after it expires, with its documents (RC29)."""
    owner = await owner_of(short)
    services = short.node.services
    await backend_of(short, owner)
    assert await rows(services, EVIDENCE_PREFIX) == await rows(services, b"a") == 1
    short.clock.advance(DAY_S)
    await all_of(sweep_evidence, services)
    assert await rows(services, EVIDENCE_PREFIX) == 1
    short.clock.advance(3600)
    await all_of(sweep_evidence, services)
    assert await rows(services, EVIDENCE_PREFIX) == await rows(services, b"a") == 0


def respelt(header: str) -> str:
    """Return a wallet's delegation in other bytes with the same signature."""
    cacao = parse_cacao(header_bytes(header))
    flipped = cacao.signature[64] ^ 27 if cacao.signature[64] < 2 else cacao.signature[64] - 27
    return header_text(encode_cacao(Cacao(cacao.message, cacao.signature[:64] + bytes([flipped]))))


async def test_spellings_go_with_their_delegation(short) -> None:
    """Another spelling of a delegation is kept as long as the delegation itself (RC29)."""
    wallet = new_wallet(entropy=short.entropy)
    owner = await short.client()
    session: Session = await owner.sign_in(wallet, SignIn(ttl_s=DAY_S))
    other = respelt(session.grants[0].header)
    assert read_grant(other).cid != session.grants[0].cid
    reply = await send(short.node.url, "POST", "/delegate", token=other)
    assert reply.status == 200, reply.said
    services = short.node.services
    assert await rows(services, ALIASES_PREFIX) == 2
    await all_of(sweep_aliases, services)
    assert await rows(services, ALIASES_PREFIX) == 2
    short.clock.advance(32 * DAY_S)
    await sweep_delegations(services)
    assert await rows(services, ALIASES_PREFIX) == 1
    await all_of(sweep_aliases, services)
    assert await rows(services, ALIASES_PREFIX) == 0
    reply = await send(short.node.url, "POST", "/delegate", token=other)
    assert reply.status == 401  # it has ended, in every spelling


async def test_audit_is_cut_when_an_export_is_kept(short) -> None:
    """Old audit records are deleted only after an export was stored elsewhere (RC27, RC28)."""
    owner = await owner_of(short)
    services = short.node.services
    chain = chain_of(services)
    while await seal_audit(services):
        pass
    lines = [line async for line in exported_lines(services.store, chain)]
    whole = verify_export(lines, node_did=chain.node_did)
    short.clock.advance(366 * DAY_S)
    assert owner.session.expires_at is not None
    await all_of(prune_audit, services)
    assert (
        verify_export(
            [line async for line in exported_lines(services.store, chain)], node_did=chain.node_did
        )
        == whole
    )
    last = [line for line in lines if json.loads(line)["type"] == "sealspace.audit-entry/v1"][-1]
    assert await note_exported(services.store, number=whole.number, entry=last.removesuffix(b"\n"))
    await all_of(prune_audit, services)
    while await seal_audit(services):
        pass
    left = verify_export(
        [line async for line in exported_lines(services.store, chain)], node_did=chain.node_did
    )
    assert left.after == whole.number
    assert left.number == whole.number + 1


async def test_by_default_audit_stays(bench) -> None:
    """By default a node deletes no audit record."""
    await owner_of(bench)
    services = bench.node.services
    while await seal_audit(services):
        pass
    before = await rows(services, b"j")
    bench.clock.advance(10 * 365 * DAY_S)
    await all_of(prune_audit, services)
    assert await rows(services, b"j") == before > 0


async def test_evidence_from_a_clock_that_stood_ahead_goes(short) -> None:
    """Evidence dated by a fast clock is deleted without waiting for that time (RC29)."""
    owner = await owner_of(short)
    services = short.node.services
    await backend_of(short, owner)
    short.clock.advance(-CLOCK_SKEW_S)
    await all_of(sweep_evidence, services)
    assert await rows(services, EVIDENCE_PREFIX) == 1
    short.clock.advance(-1)
    await all_of(sweep_evidence, services)
    assert await rows(services, EVIDENCE_PREFIX) == await rows(services, b"a") == 0
