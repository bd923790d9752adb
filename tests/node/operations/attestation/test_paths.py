"""Tests of policies with paths, which release a key only if its envelope is at a path (RL19)."""

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec
import pytest
from attacks.parties import (
    DELETE,
    GET,
    PUT,
    ROUTES,
    SECRET,
    VALUE,
    Delegate,
    Owner,
    opens,
    policy_for,
    refused,
)
from attestation_stage import Here, Stay
from hypothesis import given
from hypothesis import strategies as st
from postgres_server import needs_postgres, postgres_server
from tests_support import CountingEntropy, fuzzed

from capabilities.principals import parse_principal
from capabilities.resources import SpaceId, network_id, parse_space_id
from encryption_network.canonical_json import canonical_hash
from encryption_network.envelope import (
    InlineEnvelope,
    encode_envelope,
    parse_envelope,
    seal_envelope,
)
from encryption_network.keyring import Keyring
from encryption_network.network_errors import EnvelopeError
from encryption_network.networks import create_network, descriptor_json, parse_descriptor
from node.operations.values.sealed_values import NO_ENVELOPE, key_digest, sealed_key_of
from spaces.store.contract import Commit, Put
from spaces.values.value_bodies import INLINE_BYTES, Body, inline_body
from spaces.values.value_heads import head_key, head_of

_FORM = {"Content-Type": "multipart/form-data; boundary=probe"}
_COUNT = itertools.count()


@dataclass
class Bound:
    """An owner with a value, and a backend whose policy names the value's path."""

    here: Here
    owner: Owner
    delegate: Delegate
    path: str

    @property
    def envelope(self) -> bytes:
        """The owner's secret as stored in a space."""
        return encode_envelope(self.owner.envelope)

    @property
    def space(self) -> SpaceId:
        """The space of the path."""
        return parse_space_id(self.owner.space())

    def resource(self, path: str | None = None) -> str:
        return f"{self.owner.space()}/kv/{path or self.path}"

    async def put(self, body: bytes, path: str | None = None) -> None:
        who = self.owner.session
        reply = await self.here.invoke(
            who.signer, {self.resource(path): [PUT]}, proofs=who.proofs, body=body
        )
        assert reply.status == 200, reply.said

    async def put_all(self, values: Mapping[str, bytes]) -> None:
        """Put several values in one commit."""
        who, grants = self.owner.session, {self.resource(path): [PUT] for path in values}
        parts = b"".join(
            b'--probe\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            % (name.encode(), value)
            for name, value in values.items()
        )
        body = parts + b"--probe--\r\n"
        reply = await self.here.invoke(
            who.signer, grants, proofs=who.proofs, body=body, headers=_FORM
        )
        assert reply.status == 200, reply.said

    async def delete(self, *paths: str) -> None:
        who, grants = (
            self.owner.session,
            {self.resource(path): [DELETE] for path in paths or (self.path,)},
        )
        reply = await self.here.invoke(who.signer, grants, proofs=who.proofs)
        assert reply.status == 200, reply.said

    async def opens(self) -> bool:
        """Return whether the key is released; both routes have to agree."""
        answers = []
        for route in ROUTES:
            reply = await self.here.ask(self.delegate, self.owner, route)
            answers.append(reply.said != refused("path", route))
            assert not answers[-1] or opens(reply, self.delegate, self.owner)
        assert len(set(answers)) == 1
        return answers[0]

    async def note(self, path: str | None = None) -> bytes | None:
        """Return the digest in the value's head."""
        key = head_key(self.space, path or self.path)
        head = head_of((await self.here.services.store.read((key,))).records[0], key=key)
        assert head is not None
        return head.sealed_key


async def sealed_by(owner: Owner) -> InlineEnvelope:
    """Seal the owner's value with a new content key."""
    encryption = owner.client.encryption
    return await encryption.encrypt(VALUE.encode(), network=encryption.network())


async def bound_on(here: Here, path: str = "sealed/a") -> Bound:
    """Return an attested backend that may get keys stored at one path.

    The owner's envelope is one that no path has stored yet.
    """
    owner, delegate = await here.owner(), Delegate()
    owner = replace(owner, envelope=await sealed_by(owner))
    policy = policy_for("approved", paths=(f"{owner.space()}/kv/{path}",))
    delegate.proofs = [await here.register(owner.grant_decrypt(delegate.did, policy=policy))]
    await here.attest(delegate, owner.network)
    return Bound(here, owner, delegate, path)


@pytest.fixture(params=["lmdb", pytest.param("postgres", marks=needs_postgres())])
async def bound(request: pytest.FixtureRequest, staying: Stay) -> AsyncIterator[Bound]:
    """An attested backend that may get keys stored at one path, on a node with each engine."""
    url = postgres_server().new_database() if request.param == "postgres" else None
    async with staying(store_url=url) as here:
        yield await bound_on(here)


async def test_what_stands_at_the_path_opens(bound: Bound) -> None:
    """A key is released from the put of its envelope until the value is replaced (RL19)."""
    assert not await bound.opens()
    await bound.put(bound.envelope)
    assert await bound.opens()
    await bound.put(b"something else")
    assert not await bound.opens()
    await bound.put(bound.envelope)
    assert await bound.opens()
    other = await bound.owner.client.encryption.encrypt(
        b"another", network=bound.owner.client.encryption.network()
    )
    await bound.put(encode_envelope(other))
    assert not await bound.opens()


async def test_what_was_deleted_opens_no_more(bound: Bound) -> None:
    """An envelope that was deleted, alone or in a batch, releases no key until put again (RL19)."""
    for paths in ((bound.path,), (bound.path, "b")):
        await bound.put(bound.envelope)
        await bound.put(b"x", "b")
        assert await bound.opens()
        await bound.delete(*paths)
        assert not await bound.opens()


async def test_an_old_version_opens_nothing(bound: Bound) -> None:
    """A key whose envelope is only in a kept version is refused, while the owner's session reads
    that version (RL12, RL19, M56, M58)."""
    here, secret = bound.here, bound.owner.client.secrets()
    resource = secret.resource(SECRET)
    bound.owner = replace(bound.owner, envelope=await secret.envelope(SECRET))
    policy = policy_for("approved", paths=(resource,))
    grant = bound.owner.grant_decrypt(bound.delegate.did, policy=policy)
    bound.delegate.proofs = [await here.register(grant)]
    assert await bound.opens()
    await secret.put(SECRET, "another value")
    assert not await bound.opens()
    who = bound.owner.session
    reply = await here.invoke(
        who.signer, {resource: [GET]}, proofs=who.proofs, headers={"x-sealspace-version": "1"}
    )
    assert (reply.status, parse_envelope(reply.body)) == (200, bound.owner.envelope)


@pytest.mark.parametrize("path", ["sealed/b", "sealed/a/b", "sealed", "SEALED/a"])
async def test_what_is_copied_to_another_path_opens_no_more(bound: Bound, path: str) -> None:
    """A key whose envelope is stored at a second path, too, is refused from then on (RL22)."""
    await bound.put(bound.envelope)
    assert await bound.opens()
    await bound.put(bound.envelope, path)
    assert not await bound.opens()
    await bound.delete(path)
    assert not await bound.opens()


async def test_batches_count_as_single_puts_do(bound: Bound) -> None:
    """An envelope put in a batch counts, and one replaced in a batch no longer does (M5, RL19)."""
    await bound.put_all({"x": b"1", bound.path: bound.envelope, "y": b"2"})
    assert await bound.opens()
    await bound.put_all({"x": bound.envelope, bound.path: b"3"})
    assert not await bound.opens()


async def test_a_batch_of_envelopes_is_as_large_as_any(bound: Bound) -> None:
    """Two hundred and fifty envelopes fit into one commit, with a row for each key (ST6)."""
    others = {f"n{n}": encode_envelope(await sealed_by(bound.owner)) for n in range(249)}
    await bound.put_all({bound.path: bound.envelope, **others})
    assert await bound.opens()
    stated = parse_envelope(others["n248"]).encrypted_symmetric_key_hash
    assert await bound.note("n248") == bytes.fromhex(stated)


async def test_a_copy_in_another_owners_space_does_not_count(bound: Bound) -> None:
    """A copy of the envelope in another owner's space does not count (RL19)."""
    thief = await bound.here.owner()
    theirs = f"{thief.space()}/kv/{bound.path}"
    who = thief.session
    reply = await bound.here.invoke(
        who.signer, {theirs: [PUT]}, proofs=who.proofs, body=bound.envelope
    )
    assert reply.status == 200
    policy = policy_for("approved", paths=(theirs,))
    grant = bound.owner.grant_decrypt(bound.delegate.did, policy=policy)
    bound.delegate.proofs = [await bound.here.register(grant)]
    assert not await bound.opens()


async def test_every_policy_s_paths_count(bound: Bound) -> None:
    """If two delegations name different paths, the envelope must be at a path of both (RL9,
    RL19, RL22)."""
    above = bound.delegate
    await bound.put(bound.envelope)
    for paths, is_open in (
        (("sealed/b",), False),
        (("sealed/b", bound.path), True),
        ((bound.path,), True),
    ):
        below = Delegate()
        listed = tuple(bound.resource(path) for path in paths)
        grant = above.grant(
            below.did,
            {bound.owner.network: ["tinycloud.encryption/decrypt"]},
            policy=policy_for("approved", paths=listed),
        )
        below.proofs = [await bound.here.register(grant)]
        await bound.here.attest(below, bound.owner.network)
        bound.delegate = below
        assert await bound.opens() is is_open
    await bound.delete()
    assert not await bound.opens()


async def test_values_of_before_there_were_notes(bound: Bound) -> None:
    """A value whose head has no digest is read and parsed instead (RL19)."""
    await bound.put(bound.envelope)
    noted = await bound.note()
    assert await bound.opens()
    key, store = head_key(bound.space, bound.path), bound.here.services.store
    (record,) = (await store.read((key,))).records
    assert record is not None and record.value is not None and noted is not None
    fields = msgspec.msgpack.decode(record.value)
    assert fields[6] == noted
    earlier = msgspec.msgpack.encode(fields[:6])
    await store.commit(Commit(puts=(Put(key, earlier, expect=record.stamp),)))
    assert await bound.note() is None
    assert await bound.opens()
    await bound.put(b"no envelope")
    assert await bound.note() == NO_ENVELOPE
    assert not await bound.opens()


async def test_large_envelopes_are_read(bound: Bound) -> None:
    """An envelope in a file has no digest, and counts unless it is too large (RL19)."""
    padded = bound.envelope[:-1] + b',"padding":"' + b"A" * INLINE_BYTES + b'"}'
    await bound.put(padded)
    assert await bound.note() is None
    assert await bound.opens()
    await bound.put(padded.replace(b"encryptedSymmetricKeyHash", b"encryptedSymmetricKeyHush"))
    assert not await bound.opens()


# --- the note -------------------------------------------------------------------------------------


def an_envelope() -> bytes:
    """Return an envelope as a client writes it."""
    entropy = CountingEntropy(b"envelopes %d" % next(_COUNT))
    owner = parse_principal("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
    network = create_network(
        network_id(owner, "default"), now=0.0, keyring=Keyring(b"k" * 32), entropy=entropy
    )
    descriptor = parse_descriptor(descriptor_json(network, "did:key:node"))
    return encode_envelope(seal_envelope(descriptor, b"secret", entropy))


def test_the_note_is_the_hash_of_the_key() -> None:
    """The digest is the hash that the envelope states for its wrapped key (EN11, RL19)."""
    data = an_envelope()
    envelope = parse_envelope(data)
    noted = sealed_key_of(inline_body(data))
    assert noted == bytes.fromhex(envelope.encrypted_symmetric_key_hash)
    assert noted == key_digest(envelope.encrypted_symmetric_key)
    assert canonical_hash(envelope.encrypted_symmetric_key) == envelope.encrypted_symmetric_key_hash
    spread = b" \n" + data.replace(b",", b" ,\n ")
    assert sealed_key_of(inline_body(spread)) == noted


def test_what_is_no_envelope_has_an_empty_note() -> None:
    """Other values have an empty digest, and bodies in files none."""
    data = an_envelope()
    for other in (
        b"",
        b"{}",
        b'"encryptedSymmetricKey"',
        data[:-1],
        data + b"x",
        data.replace(b"Hash", b"Hush"),
    ):
        assert sealed_key_of(inline_body(other)) == NO_ENVELOPE
    spelled = data.replace(b"encryptedSymmetricKey", b"\\u0065ncryptedSymmetricKey")
    assert (
        parse_envelope(spelled).encrypted_symmetric_key
        == parse_envelope(data).encrypted_symmetric_key
    )
    assert sealed_key_of(inline_body(spelled)) == NO_ENVELOPE
    assert sealed_key_of(Body(digest=bytes(32), size_bytes=10**6, inline=None)) is None


@fuzzed()
@given(st.data())
def test_any_bytes_have_a_note(data: st.DataObject) -> None:
    """Arbitrary bytes get the digest of the key that they state as an envelope, or none (RL19)."""
    base = an_envelope()
    at = data.draw(st.integers(0, len(base)))
    mutated = (
        base[:at] + data.draw(st.binary(max_size=4)) + base[at + data.draw(st.integers(0, 4)) :]
    )
    noted = sealed_key_of(inline_body(mutated))
    assert noted == NO_ENVELOPE or noted == key_digest(_stated(mutated))
    with suppress(EnvelopeError):
        is_plain = b'"encryptedSymmetricKey"' in mutated
        assert not is_plain or noted == key_digest(parse_envelope(mutated).encrypted_symmetric_key)


def _stated(data: bytes) -> str:
    """Return the wrapped key in a text, whose other members may contain control characters."""
    value = json.loads(data.decode("utf-8", "replace"), strict=False)
    return str(value["encryptedSymmetricKey"])
