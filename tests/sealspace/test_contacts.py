"""Tests of an owner's names for DIDs, with the client and real nodes (SH9 to SH12)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from fuzz_strategies import changed_objects, damaged_bytes, json_values, large_texts
from hypothesis import given
from hypothesis import strategies as st
from relay import Answer, relay_before
from tests_support import fuzzed

from capabilities.abilities import CAPABILITIES_READ, DECRYPT, KV_PUT
from capabilities.cacao import header_bytes, header_text
from capabilities.principals import Principal, did_key
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import JsonObject, parse_json
from encryption_network.canonical_json import canonical_bytes
from sealspace.apps.contacts import (
    CONTACTS_PATH,
    CONTACTS_SPACE,
    MAX_RECORD_BYTES,
    STATEMENT_TYPE,
    read_contacts,
    sign_contacts,
)
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.documents.contact_list import (
    MOST_CONTACTS,
    RESERVED_NAMES,
    Contact,
    ContactList,
    contacts_statement,
    is_contact_name,
    parse_contacts_statement,
)
from sealspace.documents.signed_statements import sign_statement
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    ContactsInvalid,
    InvalidInput,
    NoSuchContact,
    NotGranted,
)
from sealspace.session import key_session, network_of_owner, read_grant, sign_message
from sealspace.wallets import AnyWallet, new_wallet, wallet_of
from sealspace.wire.sign_in import KV_ABILITIES

BOB = "did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
CAROL = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
EVE = Ed25519Signer(b"\x66" * 32).did

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True).filter(is_contact_name)
DIDS = st.binary(min_size=32, max_size=32).map(did_key)


async def put(owner: Client, body: bytes | str, *, label: bytes | None = None) -> None:
    """Seal a plaintext to the owner's network and store it, as a node could."""
    space = owner.kv(CONTACTS_SPACE).space.text
    envelope = await owner.encryption.encrypt(
        body if isinstance(body, bytes) else body.encode(),
        network=network_of_owner(owner.session.owner),
        label=label or f"tinycloud.vault:{space}:contacts".encode(),
    )
    await owner.kv(CONTACTS_SPACE).put(CONTACTS_PATH, envelope_bytes(envelope).decode())


def signed(client: Client, found: ContactList, **changed: Any) -> JsonObject:
    """Return the plaintext of a list as an object, to be changed."""
    statement = contacts_statement(found, client.session.owner) | changed
    return {
        "proof": client.session.grants[0].header,
        "signed": parse_json(
            sign_statement(STATEMENT_TYPE, statement, client.session.signer),
            max_bytes=MAX_RECORD_BYTES,
        ),
    }


@pytest.fixture
async def owner(bench: Any) -> Client:
    client: Client
    client, _ = await bench.owner()
    return client


# --- the list itself ------------------------------------------------------------------------------


@given(contacts=st.dictionaries(NAMES, DIDS, max_size=30), seed=st.binary(min_size=32, max_size=32))
def test_SH9_a_list_survives_signing_and_reading(contacts: dict[str, str], seed: bytes) -> None:
    """SH9: a list that was signed and read again is the same, whatever the contacts are."""
    found = ContactList()
    for name, did in contacts.items():
        if found.name_of(did) is None:
            found = found.with_contact(name, did)
    session = key_session(seed)
    record = sign_contacts(found, session, now=0)
    if found.serial:
        assert read_contacts(record, session.owner) == found
    for name, did in found.contacts:
        assert (found.did_of(name), found.name_of(did)) == (did, name)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "rename", "remove"]), NAMES, NAMES, DIDS), max_size=40
    )
)
def test_SH10_changes_keep_names_and_dids_distinct(
    steps: list[tuple[str, str, str, str]],
) -> None:
    """SH10: after any changes, a list agrees with a dictionary, and no DID has two names."""
    found, expected = ContactList(), dict[str, str]()
    for step, name, other, did in steps:
        try:
            if step == "add":
                found = found.with_contact(name, did)
                assert name not in expected and did not in expected.values()
                expected[name] = did
            elif step == "rename":
                found = found.renamed(name, other)
                assert name in expected and other not in expected
                expected[other] = expected.pop(name)
            else:
                found = found.without(name)
                del expected[name]
        except NoSuchContact:
            assert name not in expected
        except InvalidInput:
            taken = other if step == "rename" else name
            assert taken in expected or did in expected.values()
    assert [*found.contacts] == sorted(expected.items())
    assert len({one.did for one in found.contacts}) == len(found.contacts)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Alice", "1a", "-a", "a b", "a/b", "a.b", "a:b", "zoë", "a" * 33, "a\n", "me"),
        *("did", "did-key", "did_x", "z6mkabc", "did:key:z6Mk", "0xab", "https://a", "team:ops"),
        *("\u202ea", *RESERVED_NAMES),
    ],
)
def test_SH10_a_name_that_is_no_name(name: str) -> None:
    """SH10: a name with other characters, one that looks like a DID, and a command word are
    refused."""
    with pytest.raises(InvalidInput, match="cannot be the name of a contact"):
        ContactList().with_contact(name, BOB)
    with pytest.raises(InvalidInput):
        ContactList().with_contact("bob", BOB).renamed("bob", name)


@pytest.mark.parametrize(
    "did",
    [
        *("", "bob", "did:web:example.com", "did:key:zz", "did:pkh:eip155:1:0x12"),
        *("did:key:" + "z" * 200, f"{BOB}/x", f"tinycloud:{BOB}:default"),
    ],
)
def test_a_contact_whose_did_is_none(did: str) -> None:
    """A text that is not the DID of a wallet or a key is refused, with what to ask for."""
    with pytest.raises(InvalidInput, match="a contact has the DID of a wallet or a key") as refused:
        ContactList().with_contact("bob", did)
    assert "sealspace whoami" in str(refused.value.step)


def test_SH10_what_is_taken_or_too_much() -> None:
    """SH10: a taken name, a second name for a DID in any spelling, and one contact too many are
    refused."""
    found = ContactList().with_contact("bob", BOB.lower())
    assert found.did_of("bob") == BOB
    with pytest.raises(InvalidInput, match="the name bob is taken"):
        found.with_contact("bob", CAROL)
    with pytest.raises(InvalidInput, match="already the contact bob"):
        found.with_contact("robert", f"{BOB}#key")
    with pytest.raises(InvalidInput, match="the name bob is taken"):
        found.with_contact("carol", CAROL).renamed("carol", "bob")
    many = tuple(
        Contact(f"n{number:03}", Principal(did_key(number.to_bytes(32, "big"))))
        for number in range(MOST_CONTACTS)
    )
    full = ContactList(many, 1)
    with pytest.raises(InvalidInput, match="already 500 contacts"):
        full.with_contact("bob", BOB)
    assert len(sign_contacts(full, key_session(bytes(32)), now=0)) < MAX_RECORD_BYTES


# --- at a node ------------------------------------------------------------------------------------


async def test_add_rename_and_remove(owner: Client, bench: Any) -> None:
    """What one machine adds, another machine of the same owner reads; DIDs keep one spelling."""
    contacts = owner.contacts
    assert await contacts.list() == ()
    assert await contacts.add("bob", BOB.lower()) == ("bob", BOB)
    await contacts.add("carol", CAROL)
    other = await bench.client(owner.session)
    assert await other.contacts.did("bob") == BOB
    assert await other.contacts.name(f"{CAROL}#x") == "carol"
    assert await other.contacts.name(EVE) is None
    await other.contacts.rename("bob", "robert")
    await contacts.remove("carol")
    assert await contacts.list() == (("robert", BOB),)
    for call in (contacts.did("bob"), contacts.remove("bob"), contacts.rename("bob", "b")):
        with pytest.raises(NoSuchContact, match="there is no contact bob"):
            await call
    await contacts.remove("robert")
    assert (await other.contacts.read()).found == ContactList((), 5)


async def test_SH9_the_list_is_sealed_and_of_no_list_of_secrets(owner: Client) -> None:
    """SH9: the stored value has neither the name nor the DID, and is below no granted path."""
    await owner.contacts.add("bob", BOB)
    stored = (await owner.kv(CONTACTS_SPACE).get(CONTACTS_PATH)).body
    assert b"bob" not in stored and BOB.encode() not in stored
    assert await owner.secrets().list() == () and await owner.secrets().scopes() == ()


async def test_SH12_machines_that_add_at_once_lose_nothing(owner: Client, bench: Any) -> None:
    """SH12: of many machines that add, rename and remove at the same time, none undoes another."""
    machines = [await bench.client(owner.session) for _ in range(8)]
    await owner.contacts.add("old", did_key(b"\xfe" * 32))
    await owner.contacts.add("gone", did_key(b"\xff" * 32))
    dids = [did_key(bytes([number]) * 32) for number in range(8)]
    await asyncio.gather(
        machines[0].contacts.rename("old", "new"),
        machines[1].contacts.remove("gone"),
        *(
            one.contacts.add(f"m{number}", did)
            for number, (one, did) in enumerate(zip(machines, dids, strict=True))
        ),
    )
    found = (await owner.contacts.read()).found
    assert [one.name for one in found.contacts] == [*(f"m{number}" for number in range(8)), "new"]
    assert found.serial == 12


async def test_SH12_two_machines_take_one_name(owner: Client, bench: Any) -> None:
    """SH12: a name that another machine took a moment before is refused, and keeps its DID."""
    machines = [await bench.client(owner.session) for _ in range(2)]
    results = await asyncio.gather(
        *(one.contacts.add("bob", did) for one, did in zip(machines, (BOB, CAROL), strict=True)),
        return_exceptions=True,
    )
    (added,) = [one for one in results if isinstance(one, Contact)]
    (refused,) = [one for one in results if isinstance(one, InvalidInput)]
    assert "the name bob is taken" in str(refused)
    assert await owner.contacts.list() == (added,)


async def test_another_sign_in_of_the_owner_reads_and_changes_the_list(bench: Any) -> None:
    """A machine with a sign-in of its own verifies what the other one signed."""
    wallet = new_wallet()
    clients = [await bench.client() for _ in range(2)]
    for client in clients:
        await client.sign_in(wallet)
    await clients[0].contacts.add("bob", BOB)
    await clients[1].contacts.add("carol", CAROL)
    assert await clients[0].contacts.list() == (("bob", BOB), ("carol", CAROL))


async def test_an_owner_with_a_key_instead_of_a_wallet(bench: Any) -> None:
    """An owner with a recovery phrase signs the list with the owner's key."""
    client = await bench.client()
    await client.sign_in_with_key(bytes(range(32)), spaces=("default", "secrets"))
    await client.encryption.ensure_network()
    await client.contacts.add("bob", BOB)
    assert await client.contacts.did("bob") == BOB


async def test_a_session_of_somebody_else_reads_no_names(owner: Client, bench: Any) -> None:
    """A session with some rights of the owner cannot change the list: it is no sign-in."""
    other, _ = await bench.owner()
    place = owner.kv(CONTACTS_SPACE).space.text
    right = [allow(f"{place}/kv/vault", one) for one in KV_ABILITIES]
    await other.delegations.accept(await owner.delegations.delegate(other.session.did, right))
    session = replace(other.session, owner=owner.session.owner)
    with pytest.raises(NotGranted, match="only a sign-in of the owner"):
        sign_contacts(ContactList().with_contact("bob", EVE), session, now=bench.clock.now())


async def test_reading_again_takes_one_request(owner: Client, bench: Any) -> None:
    """A program that kept the list reads it with one request, which brings no body."""
    seen: list[tuple[str, int]] = []

    def note(answer: Answer) -> None:
        seen.append((answer.path, answer.status))

    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=owner.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):
        await client.info()
        contacts = client.contacts
        await contacts.add("bob", BOB)
        again = client.contacts
        again.start_from(contacts.known)
        relay.twist = note
        assert await again.did("bob") == BOB
    assert seen == [("/invoke", 304)]


# --- false lists ----------------------------------------------------------------------------------


@pytest.fixture
async def false_lists(owner: Client, bench: Any) -> AsyncIterator[dict[str, bytes]]:
    """Plaintexts that a node, or whoever may write there, could seal to the owner's network."""
    found = ContactList().with_contact("bob", EVE)
    right = signed(owner, found)
    eve = key_session(b"\x66" * 32)
    other, _ = await bench.owner()
    two = [{"name": "bob", "did": EVE}, {"name": "carol", "did": EVE}]
    twice = [{"name": "bob", "did": BOB}, {"name": "bob", "did": EVE}]
    unordered = [{"name": "carol", "did": BOB}, {"name": "bob", "did": EVE}]
    spelling = [{"name": "bob", "did": BOB.lower()}]
    as_eve = sign_contacts(found, eve, now=0)
    forged = parse_json(as_eve, max_bytes=MAX_RECORD_BYTES)
    stated = right["signed"]
    assert isinstance(stated, dict)
    changed: JsonObject = stated | {
        "statement": contacts_statement(found, owner.session.owner) | {"serial": 7}
    }
    yield {
        "nothing": b"",
        "no JSON": b"\xff",
        "another type": b"[]",
        "too long": b'{"proof":null,"signed":{}}'.ljust(MAX_RECORD_BYTES + 1),
        "no members": b"{}",
        "an unknown member": canonical_bytes(right | {"more": 1}),
        "unsigned": canonical_bytes(contacts_statement(found, owner.session.owner)),
        "signed by another key": as_eve,
        "another key, with the owner's proof": canonical_bytes(
            right | forged | {"proof": right["proof"]}
        ),
        "without the proof": canonical_bytes(right | {"proof": None}),
        "with a proof of another owner": canonical_bytes(
            right | {"proof": other.session.grants[0].header}
        ),
        "with a proof that cannot be read": canonical_bytes(right | {"proof": "eyJ"}),
        "with another number": canonical_bytes(right | {"signed": changed}),
        "another owner's list": canonical_bytes(signed(other, found)),
        "of another owner": canonical_bytes(signed(owner, found, owner=other.session.owner)),
        "a member too many": canonical_bytes(signed(owner, found, more=1)),
        "no number": canonical_bytes(signed(owner, found, serial=0)),
        "one DID twice": canonical_bytes(signed(owner, found, contacts=two)),
        "one name twice": canonical_bytes(signed(owner, found, contacts=twice)),
        "out of order": canonical_bytes(signed(owner, found, contacts=unordered)),
        "another spelling": canonical_bytes(signed(owner, found, contacts=spelling)),
        "no name": canonical_bytes(signed(owner, found, contacts=[{"name": "me", "did": EVE}])),
        "no DID": canonical_bytes(signed(owner, found, contacts=[{"name": "bob", "did": "x"}])),
        "too many": canonical_bytes(
            signed(
                owner,
                found,
                contacts=[
                    {"name": f"n{number:03}", "did": did_key(number.to_bytes(32, "big"))}
                    for number in range(MOST_CONTACTS + 1)
                ],
            )
        ),
    }


async def test_SH9_a_list_that_the_owner_did_not_make(
    owner: Client, false_lists: dict[str, bytes]
) -> None:
    """SH9: every list that was not signed by a sign-in of the owner, or is malformed, is an error;
    the true one beside them is read."""
    await owner.contacts.add("bob", BOB)
    for what, plaintext in false_lists.items():
        await put(owner, plaintext)
        for call in (owner.contacts.read, partial(owner.contacts.add, "carol", CAROL)):
            with pytest.raises(ContactsInvalid):
                raise AssertionError((what, await call()))
    await put(owner, canonical_bytes(signed(owner, ContactList().with_contact("bob", BOB))))
    assert await owner.contacts.list() == (("bob", BOB),)


async def test_SH9_a_grant_that_is_no_sign_in_proves_nothing(bench: Any) -> None:
    """SH9: a key with a wallet's grant cannot sign the list, even if the grant includes writing
    there and decrypting."""
    owner, wallet = await bench.owner()
    space = owner.kv(CONTACTS_SPACE).space.text
    write, decrypt = (
        allow(f"{space}/kv", KV_PUT),
        allow(network_of_owner(owner.session.owner).text, DECRYPT),
    )
    eve = Ed25519Signer(b"\x66" * 32)
    for rights, ttl_s in (
        ([write], 3600.0),
        ([decrypt], 3600.0),
        ([write, decrypt], 31 * 86_400.0),
        ([write, decrypt], 3600.0),
    ):
        grant = await owner.delegations.delegate(eve.did, rights, ttl_s=ttl_s, wallet=wallet)
        statement = contacts_statement(ContactList().with_contact("bob", EVE), owner.session.owner)
        record: JsonObject = {
            "proof": grant.header,
            "signed": parse_json(
                sign_statement(STATEMENT_TYPE, statement, eve), max_bytes=MAX_RECORD_BYTES
            ),
        }
        with pytest.raises(ContactsInvalid, match="not signed by a sign-in of yours"):
            read_contacts(canonical_bytes(record), owner.session.owner)


async def test_SH9_what_makes_a_sign_in(bench: Any) -> None:
    """SH9: the message of a wallet is a sign-in only with all three rights, to the DID URL of the
    key, and for 30 days at most."""
    owner, wallet = await bench.owner()
    space = owner.kv(CONTACTS_SPACE).space.text
    eve, now = Ed25519Signer(b"\x66" * 32), bench.clock.now()
    rights = [
        allow(f"{space}/capabilities", CAPABILITIES_READ),
        allow(f"{space}/kv", KV_PUT),
        allow(network_of_owner(owner.session.owner).text, DECRYPT),
    ]
    statement = contacts_statement(ContactList().with_contact("bob", EVE), owner.session.owner)
    signed = parse_json(sign_statement(STATEMENT_TYPE, statement, eve), max_bytes=MAX_RECORD_BYTES)

    def read(uri: str, ttl_s: float, without: int | None) -> ContactList:
        proof = sign_message(
            wallet_of(wallet),
            bench.entropy,
            domain="localhost",
            uri=uri,
            issued_at=now,
            expires_at=now + ttl_s,
            capabilities=[one for place, one in enumerate(rights) if place != without],
        )
        record: JsonObject = {"proof": proof, "signed": signed}
        return read_contacts(canonical_bytes(record), owner.session.owner)

    assert read(eve.did_url, 3600, None).did_of("bob") == EVE
    for uri, ttl_s, without in (
        (eve.did, 3600, None),
        (eve.did_url, 31 * 86_400, None),
        (eve.did_url, 3600, 0),
        (eve.did_url, 3600, 1),
        (eve.did_url, 3600, 2),
    ):
        with pytest.raises(ContactsInvalid, match="not signed by a sign-in of yours"):
            read(uri, ttl_s, without)


async def test_SH9_a_sign_in_by_another_wallet_proves_nothing(bench: Any) -> None:
    """SH9: a message about the owner's resources counts only if the owner's wallet signed it, and
    if it cites no other grant."""
    owner, wallet = await bench.owner()
    space = owner.kv(CONTACTS_SPACE).space.text
    rights = [
        allow(f"{space}/capabilities", CAPABILITIES_READ),
        allow(f"{space}/kv", KV_PUT),
        allow(network_of_owner(owner.session.owner).text, DECRYPT),
    ]
    eve, now = Ed25519Signer(b"\x66" * 32), bench.clock.now()
    statement = contacts_statement(ContactList().with_contact("bob", EVE), owner.session.owner)
    signed = parse_json(sign_statement(STATEMENT_TYPE, statement, eve), max_bytes=MAX_RECORD_BYTES)

    def read(signing: AnyWallet, *parents: str) -> ContactList:
        proof = sign_message(
            wallet_of(signing),
            bench.entropy,
            domain="localhost",
            uri=eve.did_url,
            issued_at=now,
            expires_at=now + 3600,
            capabilities=rights,
            parents=parents,
        )
        record: JsonObject = {"proof": proof, "signed": signed}
        return read_contacts(canonical_bytes(record), owner.session.owner)

    assert read(wallet).did_of("bob") == EVE
    with pytest.raises(ContactsInvalid, match="not signed by a sign-in of yours"):
        read(new_wallet())
    with pytest.raises(ContactsInvalid, match="not signed by a sign-in of yours"):
        read(wallet, owner.session.grants[0].cid)


async def test_SH9_a_sign_in_whose_text_was_changed(owner: Client) -> None:
    """SH9: the owner's own sign-in with another key in its text proves nothing."""
    session, eve = owner.session, Ed25519Signer(b"\x66" * 32)
    text = header_bytes(session.grants[0].header)
    key, other = session.did.removeprefix("did:key:"), eve.did.removeprefix("did:key:")
    forged = header_text(text.replace(key.encode(), other.encode()))
    assert read_grant(forged).delegate == eve.did
    statement = contacts_statement(ContactList().with_contact("bob", EVE), session.owner)
    signed = parse_json(sign_statement(STATEMENT_TYPE, statement, eve), max_bytes=MAX_RECORD_BYTES)
    record: JsonObject = {"proof": forged, "signed": signed}
    with pytest.raises(ContactsInvalid, match="not signed by a sign-in of yours"):
        read_contacts(canonical_bytes(record), session.owner)


async def test_SH9_bytes_that_are_no_sealed_list(owner: Client, bench: Any) -> None:
    """SH9: plain text, an envelope of another network and one with another label are errors."""
    await owner.contacts.add("bob", BOB)
    kv = owner.kv(CONTACTS_SPACE)
    stored = (await kv.get(CONTACTS_PATH)).body
    await kv.put(CONTACTS_PATH, '{"bob": "did"}')
    with pytest.raises(ContactsInvalid, match="not sealed"):
        await owner.contacts.read()
    other, _ = await bench.owner()
    envelope = await owner.encryption.encrypt(b"{}", network=other.encryption.network())
    await kv.put(CONTACTS_PATH, envelope_bytes(envelope))
    with pytest.raises(ContactsInvalid, match="another owner's network"):
        await owner.contacts.read()
    await put(owner, b"{}", label=b"tinycloud.vault:x:secrets/API_KEY")
    with pytest.raises(ContactsInvalid, match="for another place"):
        await owner.contacts.read()
    await kv.put(CONTACTS_PATH, stored)
    assert await owner.contacts.did("bob") == BOB


SESSION = key_session(bytes(32))
NAMED = ContactList().with_contact("bob", BOB).with_contact("carol", CAROL)
RECORD = sign_contacts(NAMED, SESSION, now=0)
STATEMENT = contacts_statement(NAMED, SESSION.owner)


@fuzzed()
@given(st.binary(max_size=200) | large_texts.map(str.encode) | damaged_bytes(RECORD))
def test_SH9_fuzz_records(data: bytes) -> None:
    """SH9: a plaintext of any bytes is refused, or says what was signed."""
    with suppress(ContactsInvalid):
        assert read_contacts(data, SESSION.owner) == NAMED


@fuzzed()
@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_SH9_fuzz_bits(place: int, bit: int) -> None:
    """SH9: a plaintext with one changed bit is refused, or says what was signed."""
    record = bytearray(RECORD)
    record[place % len(record)] ^= 1 << bit
    with suppress(ContactsInvalid):
        assert read_contacts(bytes(record), SESSION.owner) == NAMED


ENTRIES = st.lists(
    changed_objects({"name": "bob", "did": BOB}, json_values("bob", "me", CAROL, BOB)), max_size=4
)


@fuzzed()
@given(
    changed_objects(STATEMENT, json_values(SESSION.owner, 1))
    | ENTRIES.map(lambda contacts: STATEMENT | {"contacts": contacts})
)
def test_SH9_fuzz_statements(statement: JsonObject) -> None:
    """SH9: a statement of any shape is refused, or is the one that the list writes again."""
    with suppress(ContactsInvalid):
        found = parse_contacts_statement(statement, SESSION.owner)
        assert contacts_statement(found, SESSION.owner) == statement


async def test_SH11_an_older_list_is_refused(owner: Client) -> None:
    """SH11: a node that returns a list with a former DID, or none, is found out by a program that
    has read a newer one."""
    kv, contacts = owner.kv(CONTACTS_SPACE), owner.contacts
    await contacts.add("bob", EVE)
    older = (await kv.get(CONTACTS_PATH)).body
    await contacts.remove("bob")
    await contacts.add("bob", BOB)
    fresh = owner.contacts
    fresh.start_from(contacts.known)
    await kv.put(CONTACTS_PATH, older)
    with pytest.raises(ContactsInvalid, match="an older list"):
        await fresh.did("bob")
    await kv.delete(CONTACTS_PATH)
    with pytest.raises(ContactsInvalid, match="an older list"):
        await fresh.add("carol", CAROL)


async def test_a_sign_in_without_the_rights_is_refused(bench: Any) -> None:
    """An application's sign-in with a space of its own can neither read nor change the names."""
    owner, wallet = await bench.owner()
    await owner.contacts.add("bob", BOB)
    app = await bench.client()
    space = owner.session.own_space("notes").text
    await app.sign_in(wallet, SignIn(space="notes", exactly=(allow(f"{space}/kv", KV_PUT),)))
    with pytest.raises(NotGranted):
        await app.contacts.read()
    with pytest.raises(NotGranted):
        await app.contacts.add("eve", EVE)
