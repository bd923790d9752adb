"""Attacks with the envelope of another secret, stored at a path that a caller may open (RL21,
RL22).

A writer at the path of one secret can read the envelope of another one, and stores it there. A
caller who may open only that path then asks for the content key of the other secret.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    GET,
    PUT,
    ROUTES,
    SECRET,
    SET_POLICY,
    VALUE,
    Delegate,
    Owner,
    Stage,
    opens,
    policy_for,
    refused,
)
from attacks.test_id_tokens import GITHUB, exchange, trust_of
from attacks.test_machine_tokens import OTHER, envelope_of, holder_of
from attacks.test_races import HEAD, is_release, meanwhile, puts_row, release_records
from attestation_stage import Here, staying
from audit_records import audit_records
from deviating_platform import SimulatedPlatform
from oidc_issuer import Issuer, ec_key, github_claims
from postgres_server import needs_postgres, postgres_server
from relabelled import store_unbound
from running_node import Grants
from value_bench import in_pieces

from capabilities.strict_base64 import decode_standard, encode_standard
from encryption_network import content_keys
from encryption_network.canonical_json import canonical_hash
from encryption_network.envelope import InlineEnvelope, encode_envelope
from encryption_network.keywrap import KEY_BYTES
from node.operations.values.admin_quota import set_quota
from node.operations.values.sealed_values import MOST_ENVELOPE_BYTES
from sealspace.delegations import allow
from sealspace.errors import ValueTooLarge
from spaces.keyspace import VALUE_PREFIX_BYTES, space_keys
from spaces.store.contract import Committed, Refused, counter_of, read_row
from spaces.values.metadata import ROW_BYTES
from spaces.values.object_store import PIECE_BYTES
from spaces.values.value_bodies import INLINE_BYTES

pytestmark = pytest.mark.slow

FORM = {"Content-Type": "multipart/form-data; boundary=probe"}


@pytest.fixture(params=["lmdb", pytest.param("postgres", marks=needs_postgres())])
async def here(
    request: pytest.FixtureRequest, tmp_path: Path, platform: SimulatedPlatform
) -> AsyncIterator[Here]:
    """A node in this process, on each engine."""
    url = postgres_server().new_database() if request.param == "postgres" else None
    async with staying(tmp_path, platform, store_url=url) as opened:
        yield opened


# --- who asks -------------------------------------------------------------------------------------


async def by_machine_token(stage: Stage, owner: Owner) -> Delegate:
    """Return the holder of a machine token for the secret."""
    return await holder_of(stage, owner)


async def by_trust(stage: Stage, owner: Owner) -> Delegate:
    """Return a job with a token under a trust for the secret."""
    issuer, job = Issuer(GITHUB, {"one": ec_key()}), Delegate()
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(), audience=stage.node_did)
    assert (await exchange(stage, trust, token, job)).status == 200
    return job


async def by_code(stage: Stage, owner: Owner) -> Delegate:
    """Return attested code whose policy lists the path of the secret."""
    return await _attested(stage, owner, paths=(owner.secret,))


async def by_code_for_every_key(stage: Stage, owner: Owner) -> Delegate:
    """Return attested code whose policy lists no paths."""
    return await _attested(stage, owner)


async def _attested(stage: Stage, owner: Owner, **members: tuple[str, ...]) -> Delegate:
    delegate = Delegate()
    policy = policy_for("approved", **members)
    delegate.proofs = [await stage.register(owner.grant_decrypt(delegate.did, policy=policy))]
    await stage.attest(delegate, owner.network)
    return delegate


Caller = Callable[[Stage, Owner], Awaitable[Delegate]]
CONFINED: tuple[Caller, ...] = (by_machine_token, by_trust, by_code)


# --- how the envelope comes to the path -----------------------------------------------------------


class Writer:
    """A delegate who may read the other secret and write at the path of the first one."""

    def __init__(self, stage: Stage, owner: Owner, key: Delegate) -> None:
        self._stage, self._owner, self._key = stage, owner, key
        self.path = owner.secret.partition("/kv/")[2]

    async def put(self, body: bytes, resource: str | None = None) -> None:
        """Store a body at the path of the secret, or at another resource."""
        await self._write({resource or self._owner.secret: [PUT]}, body)

    async def put_all(self, body: bytes) -> None:
        """Store a body at the path of the secret, in a batch."""
        part = b'--probe\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        form = part % (self.path.encode(), body) + part % (b"notes/a", b"1") + b"--probe--\r\n"
        notes = self._owner.space("secrets") + "/kv/notes/a"
        await self._write({self._owner.secret: [PUT], notes: [PUT]}, form, FORM)

    async def _write(
        self, grants: Grants, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        pieces = in_pieces(body, PIECE_BYTES)
        reply = await self._stage.invoke(
            self._key.signer, grants, proofs=self._key.proofs, body=pieces, headers=headers or {}
        )
        assert reply.status == 200, reply.said


async def writer_of(stage: Stage, owner: Owner) -> Writer:
    """Return a writer at the path of the secret, who may read both secrets."""
    key, folder = Delegate(), owner.space("secrets") + "/kv"
    grants = {folder: [GET], owner.secret: [PUT], f"{folder}/notes": [PUT]}
    key.proofs = [await stage.register(owner.grant(key.did, grants))]
    return Writer(stage, owner, key)


def respelled(envelope: InlineEnvelope) -> InlineEnvelope:
    """Return the envelope with its wrapped key in another spelling, which opens to the same key."""
    wrapped = bytearray(decode_standard(envelope.encrypted_symmetric_key) or b"")
    wrapped[KEY_BYTES - 1] ^= 0x80
    text = encode_standard(bytes(wrapped))
    return replace(
        envelope,
        encrypted_symmetric_key=text,
        encrypted_symmetric_key_hash=canonical_hash(text),
    )


def padded(envelope: InlineEnvelope, size_bytes: int) -> bytes:
    """Return an envelope of more than that size, with the wrapped key at its end."""
    return b'{"padding":"' + b"A" * size_bytes + b'",' + encode_envelope(envelope)[1:]


Way = Callable[[Writer, InlineEnvelope], Awaitable[None]]


async def as_it_is(writer: Writer, envelope: InlineEnvelope) -> None:
    await writer.put(encode_envelope(envelope))


async def in_a_batch(writer: Writer, envelope: InlineEnvelope) -> None:
    await writer.put_all(encode_envelope(envelope))


async def as_a_large_value(writer: Writer, envelope: InlineEnvelope) -> None:
    await writer.put(padded(envelope, INLINE_BYTES))


async def as_a_large_part(writer: Writer, envelope: InlineEnvelope) -> None:
    await writer.put_all(padded(envelope, 5 * INLINE_BYTES))


async def without_a_network(writer: Writer, envelope: InlineEnvelope) -> None:
    text = encode_envelope(envelope)
    await writer.put(text.replace(b'"networkId"', b'"networkIt"'))


async def of_another_network(writer: Writer, envelope: InlineEnvelope) -> None:
    text = encode_envelope(envelope)
    await writer.put(text.replace(b":default", b":defaulu"))


WAYS: tuple[Way, ...] = (
    as_it_is,
    in_a_batch,
    as_a_large_value,
    as_a_large_part,
    without_a_network,
    of_another_network,
)


async def both_secrets(stage: Stage) -> tuple[Owner, InlineEnvelope]:
    """Return an owner with two secrets, and the envelope of the second."""
    owner = await stage.owner()
    await owner.client.secrets().put(OTHER, VALUE)
    return owner, await envelope_of(owner, OTHER)


async def asked(stage: Stage, caller: Delegate, owner: Owner, envelope: InlineEnvelope) -> object:
    """Return what the node says to a request for the key of an envelope, on both routes."""
    replies = [await stage.ask(caller, owner, route, envelope=envelope) for route in ROUTES]
    if all(reply.status == 200 for reply in replies):
        whose = replace(owner, envelope=envelope)
        assert all(opens(reply, caller, whose) for reply in replies)
        return "opened"
    said = [reply.said for reply in replies]
    assert said == [refused("path", route) for route in ROUTES], said
    return "path"


# --- the attacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", CONFINED)
async def test_RL22_a_copied_envelope_opens_nothing(here: Here, caller: Caller) -> None:
    """A caller for one path never gets the key of a secret that was copied there, while the owner
    in person does (RL22)."""
    owner, other = await both_secrets(here)
    holder, writer = await caller(here, owner), await writer_of(here, owner)
    assert await asked(here, holder, owner, owner.envelope) == "opened"
    for envelope in (other, respelled(other)):
        assert await asked(here, holder, owner, envelope) == "path"
        await writer.put(encode_envelope(envelope))
        assert await asked(here, holder, owner, envelope) == "path"
    assert await owner.client.encryption.decrypt(other)
    assert await asked(here, owner.session, owner, respelled(other)) == "opened"
    # a new value of the secret has a new key, which belongs to the path
    await owner.client.secrets().put(SECRET, VALUE)
    assert await asked(here, holder, owner, await envelope_of(owner, SECRET)) == "opened"


@pytest.mark.parametrize("way", WAYS)
async def test_RL22_however_the_envelope_comes_there(here: Here, way: Way) -> None:
    """The copy opens nothing, however it was stored, spelt and named (RL21, RL22)."""
    owner, other = await both_secrets(here)
    holder, writer = await by_machine_token(here, owner), await writer_of(here, owner)
    for envelope in (other, respelled(other)):
        await way(writer, envelope)
        assert await asked(here, holder, owner, envelope) == "path"
        assert await asked(here, owner.session, owner, envelope) == "opened"


@pytest.mark.parametrize("change", ["deleted", "replaced", "kept as a version", "batch"])
async def test_RL21_a_former_envelope_stays_a_secret(here: Here, change: str) -> None:
    """A key belongs to its first path after the value there was replaced or deleted (RL21)."""
    owner, other = await both_secrets(here)
    kv, place = owner.client.kv("default"), "sealed/other"
    if change != "kept as a version":  # versions of secrets are kept
        other = await owner.client.encryption.encrypt(
            VALUE.encode(), network=owner.client.encryption.network()
        )
        await kv.put(place, encode_envelope(other))
    match change:
        case "deleted":
            await kv.delete(place)
        case "batch":
            await kv.put_many({place: b"1", "sealed/more": b"2"})
        case "replaced":
            await kv.put(place, b"something else")
        case _:
            await owner.client.secrets().put(OTHER, "another value")
    holder, writer = await by_machine_token(here, owner), await writer_of(here, owner)
    await writer.put(encode_envelope(other))
    assert await asked(here, holder, owner, other) == "path"
    assert await asked(here, owner.session, owner, other) == "opened"


async def test_RL22_neither_path_opens_a_key_at_two(here: Here) -> None:
    """After a copy, the key is released for neither path, and to no code, until the owner seals
    the secret again (RL22)."""
    owner, other = await both_secrets(here)
    holders = [
        await holder_of(here, owner, OTHER),
        await holder_of(here, owner, OTHER, SECRET),
        await by_code_for_every_key(here, owner),
    ]
    writer = await writer_of(here, owner)
    for holder in holders:
        assert await asked(here, holder, owner, other) == "opened"
    await writer.put(encode_envelope(respelled(other)))
    for holder in holders:
        assert await asked(here, holder, owner, other) == "path"
    await owner.client.secrets().put(OTHER, VALUE)
    for holder in holders:
        assert await asked(here, holder, owner, await envelope_of(owner, OTHER)) == "opened"
    details = [record.detail for record in await audit_records(here.services.store)]
    assert any(b"the content key was stored at two paths" in detail for detail in details)


async def test_RL21_a_key_that_no_path_stored_opens_nothing_at_paths(here: Here) -> None:
    """Code for every key opens what was never stored, and code for listed paths does not, even if
    a value beyond the limit contains the key (RL21, RL22)."""
    owner = await here.owner()
    fresh = await owner.client.encryption.encrypt(
        VALUE.encode(), network=owner.client.encryption.network()
    )
    anywhere, confined = await by_code_for_every_key(here, owner), await by_code(here, owner)
    writer = await writer_of(here, owner)
    await writer.put(padded(fresh, MOST_ENVELOPE_BYTES))
    assert await asked(here, anywhere, owner, fresh) == "opened"
    assert await asked(here, confined, owner, fresh) == "path"
    await writer.put(padded(fresh, MOST_ENVELOPE_BYTES // 2))
    assert await asked(here, confined, owner, fresh) == "opened"


@pytest.mark.parametrize("is_bound", [True, False])
async def test_EN39_a_copy_is_not_sealed_again(here: Here, is_bound: bool) -> None:
    """A copied envelope gets no content key of its own when its owner replaces the network's key;
    the secret itself does if it states its place (EN39, RL22)."""
    owner = await here.owner()
    if is_bound:
        await owner.client.secrets().put(OTHER, VALUE)
    else:
        await store_unbound(owner.client, OTHER, VALUE)
    other = await envelope_of(owner, OTHER)
    holder, writer = await by_machine_token(here, owner), await writer_of(here, owner)
    await writer.put(encode_envelope(respelled(other)))
    network = owner.client.encryption.network()
    await owner.client.delegations.add_right(owner.wallet, [allow(network.text, SET_POLICY)])
    await owner.client.network_keys.rotate(network, wallet=lambda: owner.wallet)
    done = await owner.client.network_keys.reencrypt(network)
    found = await envelope_of(owner, SECRET)
    assert await asked(here, holder, owner, found) == "path"
    assert found.key_version == 1
    assert (await envelope_of(owner, OTHER)).key_version == (2 if is_bound else 1)
    reasons = dict(done.failed)
    assert "vault/secrets/OTHER_KEY" in reasons[writer.path]
    assert len(reasons) == (1 if is_bound else 2)
    await owner.client.secrets().put(SECRET, VALUE)
    assert await asked(here, holder, owner, await envelope_of(owner, SECRET)) == "opened"


# --- at once --------------------------------------------------------------------------------------


@asynccontextmanager
async def delayed(held: HeldStage, put: Awaitable[None], prefix: bytes) -> AsyncIterator[None]:
    """Delay a put at its commit while the block runs."""
    waiting = held.store.hold(puts_row(prefix))
    task = asyncio.ensure_future(put)
    await waiting.reached.wait()
    try:
        yield
    finally:
        waiting.go.set()
        await task


async def test_RL21_two_puts_at_once(held: HeldStage) -> None:
    """Of two writers who store one key at once, none is lost, and the key opens nothing (RL21)."""
    owner = await held.owner()
    writer, holder = await writer_of(held, owner), await holder_of(held, owner)
    fresh = await owner.client.encryption.encrypt(
        VALUE.encode(), network=owner.client.encryption.network()
    )
    data = encode_envelope(fresh)
    async with delayed(held, writer.put(data), HEAD):
        await owner.client.kv("default").put("sealed/first", data)
    assert await asked(held, holder, owner, fresh) == "path"


async def test_RL22_a_copy_before_the_commit_of_a_release(held: HeldStage) -> None:
    """A release is refused if the key is stored at a second path before its commit (RL22)."""
    owner = await held.owner()
    holder = await holder_of(held, owner)
    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(holder, owner),
        waiting,
        lambda: owner.client.kv("default").put("copy", encode_envelope(owner.envelope)),
    )
    assert reply.said == refused("path")
    assert release_records(waiting) == 0


async def test_RL22_the_row_of_a_key_is_read_once(held: HeldStage) -> None:
    """The owner in person does not need the row of a key, so it is not read for a key that this
    process has not opened. For every other caller it is read once (RL22)."""
    owner = await held.owner()
    holder = await by_code_for_every_key(held, owner)
    content_keys._known_digests.clear()
    counts = []
    for caller in (owner.session, holder):
        held.store.keys_read.clear()
        assert (await held.ask(caller, owner)).status == 200
        counts.append(sum(key[:1] == b"h" for key in held.store.keys_read))
    assert counts == [0, 1]


async def test_values_that_are_no_envelopes_read_and_write_no_rows(held: HeldStage) -> None:
    """A put of another value reads no network and no row of a key. A put of an envelope reads its
    network to open the key (RL21), and in the commit's attempt to see whether the version is being
    retired (EN38)."""
    owner = await held.owner()
    kv = owner.client.kv("default")
    for body, expected in ((b"x" * 1024, (0, 0)), (encode_envelope(owner.envelope), (1, 2))):
        held.store.keys_read.clear()
        await kv.put("notes/a", body)
        read = [key[:1] for key in held.store.keys_read]
        assert (read.count(b"h"), read.count(b"N")) == expected


async def test_ST22_the_rows_of_keys_count_towards_the_space(held: HeldStage) -> None:
    """A batch of new envelopes is refused if the rows of their keys do not fit, and the rows stay
    charged after the values were deleted (ST22)."""
    owner = await held.owner()
    space = owner.client.kv("default").space
    services, now = held.services, held.clock.now()
    await set_quota(
        held.store, services.config, space.text, 100_000, now=now, entropy=services.entropy
    )
    kv, encryption = owner.client.kv("default"), owner.client.encryption
    envelopes = [await encryption.encrypt(b"", network=encryption.network()) for _ in range(250)]
    values = {f"n{number:03}": _least(one) for number, one in enumerate(envelopes)}
    await kv.put_many({path: body.replace(b"Hash", b"Hush") for path, body in values.items()})
    for path in values:
        await kv.delete(path)
    with pytest.raises(ValueTooLarge):
        await kv.put_many(values)
    some = dict(list(values.items())[:100])
    await kv.put_many(some)
    for path in some:
        await kv.delete(path)
    rows = counter_of(await read_row(held.store, space_keys(space).rows))
    of_keys = 100 * (ROW_BYTES + VALUE_PREFIX_BYTES + len("n000"))
    of_deleted_paths = len(values) * (ROW_BYTES + len("n000"))  # CF6
    assert rows == of_keys + of_deleted_paths


def _least(envelope: InlineEnvelope) -> bytes:
    """Return the members of an envelope that the node reads."""
    return json.dumps(
        {
            "v": 1,
            "networkId": envelope.network.text,
            "encryptedSymmetricKey": envelope.encrypted_symmetric_key,
            "encryptedSymmetricKeyHash": envelope.encrypted_symmetric_key_hash,
        }
    ).encode()


async def test_RL21_a_put_relies_on_the_row_that_it_found(held: HeldStage) -> None:
    """A put of an envelope that its path has stored before is tried again if the key is stored at
    a second path meanwhile (RL21)."""
    owner = await held.owner()
    writer, data = await writer_of(held, owner), encode_envelope(owner.envelope)
    waiting = held.store.hold(puts_row(HEAD))
    task = asyncio.ensure_future(writer.put(data))
    await waiting.reached.wait()
    await owner.client.kv("default").put("copy", data)
    waiting.go.set()
    await task
    assert [type(outcome) for outcome in waiting.outcomes] == [Committed, Refused, Committed]
