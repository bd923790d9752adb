"""Receipts and withdrawals through the SDK, on a real node."""

from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from backend_site import NOTES, backend_of, owner_of, reads, serving

from capabilities.abilities import SET_POLICY
from capabilities.audit_export import verify_export
from capabilities.strict_json import Json
from encryption_network.receipt import receipt_json
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    DecryptDenied,
    InvalidInput,
    NetworkNotFound,
    NotFound,
    NotGranted,
    ReceiptInvalid,
    ReleaseRefused,
    Unauthorized,
)
from sealspace.receipts import check_receipt, digest_of, documents_of, named_receipt
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from spaces.audit.audit_chain import Chain, exported_lines, seal_batch
from tee_backend.evidence.simulated import measurements_of

# --- receipts -------------------------------------------------------------------------------------


async def test_an_owner_sees_who_got_keys(bench) -> None:
    """Each release has a receipt, oldest first, signed by the node, with every document it names
    (RC14, RC15)."""
    owner = await owner_of(bench)
    backend = await backend_of(bench, owner)
    assert await reads(backend, owner) == "value"
    bench.clock.advance(1)
    assert await owner.secrets().get("API_KEY") == "value"
    first, second = [receipt async for receipt in owner.receipts.all()]
    assert first.invoker == backend.did
    assert first.ground == "attested"
    assert second.invoker == owner.session.did
    assert second.ground == "owner_session"
    documents = await owner.receipts.documents(first)
    assert set(documents) == set(documents_of(first)) and len(documents) == 4
    with pytest.raises(NotFound):
        await owner.receipts.document(bytes(32))


async def test_receipts_come_in_pages(bench) -> None:
    """A client reads all receipts of a network with several pages, each receipt once."""
    owner = await owner_of(bench)
    for _ in range(103):
        await owner.secrets().get("API_KEY")
    page = await owner.receipts.page()
    assert len(page.receipts) == 100
    assert page.after is not None
    assert len({digest_of(receipt) async for receipt in owner.receipts.all()}) == 103


async def test_receipts_are_the_owner_s(bench) -> None:
    """A session without the right to receipts sends no request."""
    owner = await owner_of(bench)
    await backend_of(bench, owner)
    outsider = await bench.client(key_session(bytes(32)))
    with pytest.raises(NotGranted):
        await outsider.receipts.page(owner.encryption.network())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("invoker", "did:key:z6Mk"),
        ("atMicros", 1),
        ("ground", "owner"),
        ("signature", "A" * 86 + "=="),
        ("type", "x"),
    ],
)
async def test_a_receipt_that_was_changed(bench, name: str, value: Json) -> None:
    """A receipt with any changed member fails the verification of the node's signature (RC9)."""
    owner = await owner_of(bench)
    await owner.secrets().get("API_KEY")
    (receipt,) = (await owner.receipts.page()).receipts
    node, network = receipt.node, receipt.network
    assert check_receipt(receipt_json(receipt), node=node, network=network) == receipt
    with pytest.raises(ReceiptInvalid) as reported:
        check_receipt({**receipt_json(receipt), name: value}, node=node, network=network)
    assert reported.value.hint
    for wrong in (
        {"node": owner.session.did, "network": network},
        {"node": node, "network": network + "2"},
    ):
        with pytest.raises(ReceiptInvalid):
            check_receipt(receipt_json(receipt), **wrong)


async def test_a_receipt_stands_in_the_audit_chain(bench) -> None:
    """A verified export of the audit chain has one entry for each receipt (RC8)."""
    owner = await owner_of(bench)
    await owner.secrets().get("API_KEY")
    (receipt,) = (await owner.receipts.page()).receipts
    services = bench.node.services
    chain = Chain(services.keyring.node_did, services.store_id, services.keyring.node_signer.sign)
    while (await seal_batch(services.store, chain, now=bench.clock.now(), is_last=True)).more:
        pass
    lines = [line async for line in exported_lines(services.store, chain)]
    found: dict[bytes, int] = {}

    def note(number: int, entry: bytes) -> None:
        digest = named_receipt(entry)
        if digest is not None:
            found[digest] = number

    verified = verify_export(lines, node_did=receipt.node, on_entry=note)
    assert list(found) == [digest_of(receipt)] and 0 < found[digest_of(receipt)] <= verified.number
    assert [
        named_receipt(junk)
        for junk in (b"", b"{}", b'{"action":"release.authorised","detail":"zz"}')
    ] == [None] * 3


async def test_a_node_that_gives_another_document(bench) -> None:
    """A document with another digest, and a malformed page of receipts, are rejected."""
    owner = await owner_of(bench)
    info = await owner.info()

    async def lie(request: web.Request) -> web.Response:
        if request.path == "/info":
            return web.json_response(
                {"protocol": 1, "nodeId": info.node_id, "version": "", "features": []}
            )
        return web.Response(body=b"something else")

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(lie))
        deceived = await stack.enter_async_context(
            Client(url, session=owner.session, clock=bench.clock, entropy=bench.entropy)
        )
        with pytest.raises(ReceiptInvalid):
            await deceived.receipts.document(bytes(32))


# --- withdrawals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["backend", "measurement", "evidence"])
async def test_what_was_withdrawn_gets_no_key(bench, kind: str) -> None:
    """A withdrawn backend, code or evidence gets no key, and a backend with other code still does
    (RC20, RC22)."""
    owner = await owner_of(bench)
    backend = await backend_of(bench, owner)
    other = await backend_of(
        bench, owner, measured=measurements_of("other"), seed=bytes(31) + b"\1"
    )
    assert await reads(backend, owner) == await reads(other, owner) == "value"
    standing = backend.attestation
    assert standing is not None
    withdrawals = owner.withdrawals
    for _ in range(2):  # again is allowed
        if kind == "backend":
            await withdrawals.withdraw_backend(backend.did)
        elif kind == "measurement":
            await withdrawals.withdraw_measurement(NOTES.mrtd)
        else:
            await withdrawals.withdraw_evidence(bytes.fromhex(standing.evidence))
    with pytest.raises(DecryptDenied) as denial:
        await reads(backend, owner)
    assert isinstance(denial.value.refusal, ReleaseRefused)
    assert denial.value.refusal.reason == "withdrawn"
    assert await reads(other, owner) == "value"


async def test_what_cannot_be_withdrawn(bench) -> None:
    """A withdrawal is refused if it names zeros, an invalid value or the owner."""
    owner = await owner_of(bench)
    withdraw = owner.withdrawals
    for nothing in (
        withdraw.withdraw_measurement(bytes(48)),
        withdraw.withdraw_measurement(b"x"),
        withdraw.withdraw_evidence(b""),
        withdraw.withdraw_backend("nobody"),
        withdraw.withdraw_backend(owner.session.owner),
    ):
        with pytest.raises(InvalidInput) as reported:
            await nothing
        assert reported.value.hint
    outsider = await bench.client(key_session(bytes(32)))
    with pytest.raises(NotGranted):
        await outsider.withdrawals.withdraw_backend(
            "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", owner.encryption.network()
        )


async def test_a_delegate_cannot_withdraw(bench) -> None:
    """A delegate with the right to withdraw is refused, because it is not the owner in person."""
    owner = await owner_of(bench)
    network = owner.encryption.network()
    helper = await bench.client(key_session(bytes(32)))
    portable = await owner.delegations.delegate(
        helper.session.did, [allow(network.text, SET_POLICY)]
    )
    await helper.delegations.accept(portable)
    with pytest.raises(Unauthorized):
        await helper.withdrawals.withdraw_measurement(NOTES.mrtd, network)


async def test_a_network_that_is_not_there(bench) -> None:
    """An error says that the owner's other network does not exist yet."""
    owner = await bench.client()
    wallet = new_wallet(entropy=bench.entropy)
    await owner.sign_in(wallet)
    other = owner.encryption.network("other")
    await owner.delegations.add_right(wallet, [allow(other.text, SET_POLICY)])
    with pytest.raises(NetworkNotFound):
        await owner.withdrawals.withdraw_measurement(NOTES.mrtd, other)
