"""Tests of names of DIDs in the console's modules, compared with the SDK (SH9 to SH12)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from browser import Browser, BrowserWallet
from console_wire import in_page
from embedded_node import EmbeddedNode
from node_js import Scripts

from capabilities.abilities import CAPABILITIES_READ, DECRYPT, KV_PUT
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import Principal, did_key
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, JsonObject, parse_json
from encryption_network.canonical_json import canonical_bytes
from sealspace.apps.contacts import (
    CONTACTS_PATH,
    CONTACTS_SPACE,
    MAX_RECORD_BYTES,
    STATEMENT_TYPE,
    read_contacts,
    sign_contacts,
)
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.contact_list import (
    MOST_CONTACTS,
    RESERVED_NAMES,
    Contact,
    ContactList,
    contacts_statement,
)
from sealspace.documents.signed_statements import sign_statement
from sealspace.encryption import envelope_bytes
from sealspace.errors import ContactsInvalid
from sealspace.session import key_session, network_of_owner, sign_message
from sealspace.wallets import new_wallet

BOB = "did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
CAROL = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
EVE = key_session(b"\x66" * 32)
FOUND = ContactList().with_contact("bob", BOB)
READ = """
  const { Client } = await at("client");
  const contacts = await at("contacts");
  const client = Client((await signedIn()).held);
  const read = () => caught(async () => {
    const { contacts: found, serial } = await contacts.read(client);
    return { names: Object.fromEntries(found.map(({ name, did }) => [name, did])), serial };
  });
"""


def own(
    browser: Browser, node: EmbeddedNode, wallet: BrowserWallet, work: Callable[..., Any]
) -> Any:
    """Call a function with a client of the page's owner, and await its result."""

    async def run() -> Any:
        async with Client(node.url) as owner:
            await owner.sign_in(wallet.signer)
            await owner.encryption.ensure_network()
            return await work(owner)

    return browser.run(run())


def label_of(owner: Client) -> bytes:
    """Return the label that the list has in its envelope."""
    return f"tinycloud.vault:{owner.kv(CONTACTS_SPACE).space.text}:contacts".encode()


async def put(owner: Client, record: bytes, *, label: bytes | None) -> None:
    """Seal a plaintext and store it in the place of the list."""
    envelope = await owner.encryption.encrypt(
        record, network=network_of_owner(owner.session.owner), label=label
    )
    await owner.kv(CONTACTS_SPACE).put(CONTACTS_PATH, envelope_bytes(envelope).decode())


def record_of(client: Client, **changed: Json) -> JsonObject:
    """Return the plaintext of a list as an object, with members of the statement changed."""
    statement = contacts_statement(FOUND, client.session.owner) | changed
    signed = sign_statement(STATEMENT_TYPE, statement, client.session.signer)
    return {
        "proof": client.session.grants[0].header,
        "signed": parse_json(signed, max_bytes=MAX_RECORD_BYTES),
    }


def signed_in(record: JsonObject) -> JsonObject:
    """Return the signed statement in a plaintext."""
    signed = record["signed"]
    assert isinstance(signed, dict)
    return signed


def entries(*pairs: tuple[str, str]) -> list[Json]:
    """Return contacts as the JSON of a statement."""
    return [{"name": name, "did": did} for name, did in pairs]


def many(count: int) -> list[Json]:
    """Return this number of different contacts."""
    return entries(*((f"n{at:03}", did_key(at.to_bytes(32, "big"))) for at in range(count)))


async def records(owner: Client, other: Client, wallet: BrowserWallet) -> dict[str, bytes]:
    """Return plaintexts by what is special about them: those that count, and false ones."""
    right = record_of(owner)
    signed = signed_in(right)
    statement = contacts_statement(FOUND, owner.session.owner)
    by_eve: JsonObject = parse_json(
        sign_statement(STATEMENT_TYPE, statement, EVE.signer), max_bytes=MAX_RECORD_BYTES
    )
    by_wallet: JsonObject = parse_json(
        sign_statement(STATEMENT_TYPE, statement, wallet.signer), max_bytes=MAX_RECORD_BYTES
    )
    found: dict[str, JsonObject] = {
        "the list": right,
        "signed by the wallet": {"proof": None, "signed": by_wallet},
        "an empty list": record_of(owner, contacts=[], serial=9),
        "as many as allowed": record_of(owner, contacts=many(MOST_CONTACTS)),
        "a wallet on another chain": record_of(
            owner, contacts=entries(("x", BOB.replace(":1:", ":137:")))
        ),
        "no members": {},
        "an unknown member": right | {"more": 1},
        "unsigned": statement,
        "signed by another key": {"proof": None, "signed": by_eve},
        "another key, with the owner's proof": right | {"signed": by_eve},
        "without the proof": right | {"proof": None},
        "a number as the proof": right | {"proof": 1},
        "the proof of another owner": right | {"proof": other.session.grants[0].header},
        "a proof that cannot be read": right | {"proof": "eyJ"},
        "another number than the signed one": right
        | {"signed": signed | {"statement": statement | {"serial": 7}}},
        "a contact that was not signed": right
        | {"signed": signed | {"statement": statement | {"contacts": entries(("bob", CAROL))}}},
        "another type": right | {"signed": signed | {"type": "sealspace.contacts/v2"}},
        "a wrong signature": right | {"signed": signed | {"signature": encode_url(bytes(64))}},
        "a short signature": right | {"signed": signed | {"signature": "AAAA"}},
        "a member beside the statement": right | {"signed": signed | {"more": 1}},
        "another owner's list": record_of(other),
        "for another owner": record_of(owner, owner=other.session.owner),
        "a member too many": record_of(owner, more=1),
        "zero": record_of(owner, serial=0),
        "a text as the number": record_of(owner, serial="1"),
        "one DID twice": record_of(owner, contacts=entries(("bob", BOB), ("carol", BOB))),
        "one name twice": record_of(owner, contacts=entries(("bob", BOB), ("bob", CAROL))),
        "out of order": record_of(owner, contacts=entries(("carol", BOB), ("bob", CAROL))),
        "another spelling": record_of(owner, contacts=entries(("bob", BOB.lower()))),
        "a fragment": record_of(owner, contacts=entries(("bob", f"{CAROL}#x"))),
        "a member of a contact too many": record_of(
            owner, contacts=[{"name": "bob", "did": BOB, "note": ""}]
        ),
        "too many": record_of(owner, contacts=many(MOST_CONTACTS + 1)),
    }
    for name in ("Alice", "1a", "a b", "a" * 33, "did-x", "z6mkx", "\u202ea", *RESERVED_NAMES):
        found[f"the name {name!r}"] = record_of(owner, contacts=entries((name, BOB)))
    for did in (
        "x",
        "did:web:example.com",
        "did:key:zz",
        "did:pkh:eip155:1:0x12",
        "did:key:" + "z" * 200,
    ):
        found[f"the DID {did[:30]}"] = record_of(owner, contacts=entries(("bob", did)))
    plain = {what: canonical_bytes(record) for what, record in found.items()}
    return plain | {
        "nothing": b"",
        "no UTF-8": b"\xff",
        "a list": b"[]",
        "too long": plain["the list"].ljust(MAX_RECORD_BYTES + 1),
        "a member twice": plain["the list"].replace(b'{"proof"', b'{"proof":null,"proof"', 1),
    }


def as_the_sdk(record: bytes, owner: str) -> dict[str, Any] | None:
    """Return what the SDK reads in a plaintext; None: it is refused."""
    try:
        found = read_contacts(record, owner)
    except ContactsInvalid:
        return None
    return {"contacts": [one._asdict() for one in found.contacts], "serial": found.serial}


_JUDGE = """
  const { readRecord } = await at("contacts");
  return Promise.all(given.map(async ([record, owner]) => {
    const found = await caught(() => readRecord(Uint8Array.from(record), owner));
    return found.code ?? found;
  }));
"""


def judged(scripts: Scripts, cases: list[tuple[bytes, str]]) -> list[Any]:
    """Return what the console reads in plaintexts: a list, or the code of the refusal."""
    given = [[list(record), owner] for record, owner in cases]
    answers: list[Any] = in_page(scripts, _JUDGE, given)
    return answers


def test_SH9_lists_are_judged_as_the_sdk_judges_them(
    shared_scripts: Scripts, node: EmbeddedNode, browser: Browser, wallet: BrowserWallet
) -> None:
    """SH9, SH10: of true and false lists, the console accepts those that the SDK accepts."""

    async def made(owner: Client) -> tuple[str, dict[str, bytes]]:
        async with Client(node.url) as other:
            await other.sign_in(new_wallet())
            return owner.session.owner, await records(owner, other, wallet)

    did, cases = own(browser, node, wallet, made)
    answers = judged(shared_scripts, [(record, did) for record in cases.values()])
    accepted = []
    for (what, record), answer in zip(cases.items(), answers, strict=True):
        expected = as_the_sdk(record, did)
        assert answer == (expected or "contacts-invalid"), what
        if expected:
            accepted.append(what)
    assert accepted == [*cases][:5]
    phrase = key_session(bytes(range(32)))
    record = sign_contacts(FOUND, phrase, now=0)
    assert judged(shared_scripts, [(record, phrase.owner), (record, did)]) == [
        as_the_sdk(record, phrase.owner),
        "contacts-invalid",
    ]


def test_SH9_a_grant_that_is_no_sign_in_proves_nothing(
    shared_scripts: Scripts, node: EmbeddedNode, browser: Browser, wallet: BrowserWallet
) -> None:
    """SH9: a key with a wallet's grant cannot sign the list, even if the grant includes writing
    there and decrypting."""

    async def made(owner: Client) -> tuple[str, list[bytes]]:
        did = owner.session.owner
        space = owner.kv(CONTACTS_SPACE).space.text
        write = allow(f"{space}/kv", KV_PUT)
        decrypt = allow(network_of_owner(did).text, DECRYPT)
        below = allow(f"{space}/kv/vault/contacts/below", KV_PUT)
        exactly = allow(f"{space}/kv/{CONTACTS_PATH}", KV_PUT)
        found = []
        for rights, ttl_s, signer in (
            ([write, decrypt], 3600.0, wallet.signer),
            ([exactly, decrypt], 30 * 86_400.0, wallet.signer),
            ([write], 3600.0, wallet.signer),
            ([decrypt], 3600.0, wallet.signer),
            ([below, decrypt], 3600.0, wallet.signer),
            ([write, decrypt], 30 * 86_400.0 + 2, wallet.signer),
            ([write, decrypt], 3600.0, None),
        ):
            grant = await owner.delegations.delegate(EVE.did, rights, ttl_s=ttl_s, wallet=signer)
            statement = contacts_statement(FOUND, did)
            signed = sign_statement(STATEMENT_TYPE, statement, EVE.signer)
            record: JsonObject = {
                "proof": grant.header,
                "signed": parse_json(signed, max_bytes=MAX_RECORD_BYTES),
            }
            found.append(canonical_bytes(record))
        return did, found

    did, cases = own(browser, node, wallet, made)
    expected = [as_the_sdk(one, did) for one in cases]
    assert expected == [None] * 7
    answers = judged(shared_scripts, [(one, did) for one in cases])
    assert answers == [one or "contacts-invalid" for one in expected]


def test_SH9_what_makes_a_sign_in(shared_scripts: Scripts, wallet: BrowserWallet) -> None:
    """SH9: a message is a sign-in only by the owner's wallet, with all three rights, to the DID URL
    of the key, and for 30 days at most."""
    did = wallet.signer.did
    space = f"tinycloud:{did.removeprefix('did:')}:{CONTACTS_SPACE}"
    rights = (
        allow(f"{space}/capabilities", CAPABILITIES_READ),
        allow(f"{space}/kv", KV_PUT),
        allow(network_of_owner(did).text, DECRYPT),
    )
    signed = sign_statement(STATEMENT_TYPE, contacts_statement(FOUND, did), EVE.signer)
    now = SystemClock().now()
    url, month_s = EVE.signer.did_url, 30 * 86_400
    cases: list[tuple[bytes, str]] = []
    for signer, uri, ttl_s, held in (
        (wallet.signer, url, month_s, rights),
        (new_wallet(), url, 3600, rights),
        (wallet.signer, EVE.did, 3600, rights),
        (wallet.signer, url, month_s + 2, rights),
        (wallet.signer, url, 3600, rights[1:]),
        (wallet.signer, url, 3600, rights[:2]),
        (wallet.signer, url, 3600, (rights[0], rights[2])),
    ):
        proof = sign_message(
            signer,
            SystemEntropy(),
            domain="localhost",
            uri=uri,
            issued_at=now,
            expires_at=now + ttl_s,
            capabilities=held,
        )
        record: JsonObject = {
            "proof": proof,
            "signed": parse_json(signed, max_bytes=MAX_RECORD_BYTES),
        }
        cases.append((canonical_bytes(record), did))
    expected = [as_the_sdk(*one) for one in cases]
    assert [one is not None for one in expected] == [True, *[False] * 6]
    assert judged(shared_scripts, cases) == [one or "contacts-invalid" for one in expected]


def test_SH9_the_plaintext_is_canonical_and_bounded(shared_scripts: Scripts) -> None:
    """SH9: a plaintext with a blank or a fraction in it is not the canonical one, and one that is
    too long is refused before it is parsed."""
    phrase = key_session(bytes(range(32)))
    record = sign_contacts(FOUND, phrase, now=0)
    plaintexts = [
        record.replace(b'"proof":', b'"proof": '),
        record.replace(b'"serial":1', b'"serial":1.0'),
        b"x" * (MAX_RECORD_BYTES + 1),
    ]
    said = in_page(
        shared_scripts,
        """
        const { readRecord } = await at("contacts");
        const refused = (one) => caught(() => readRecord(Uint8Array.from(one), given.owner));
        return Promise.all(given.plaintexts.map(async (one) => (await refused(one)).message));
        """,
        {"owner": phrase.owner, "plaintexts": [list(one) for one in plaintexts]},
    )
    malformed = "the list of contacts cannot be parsed"
    assert said == [malformed, malformed, "the list of contacts is too long"]


def test_lists_of_the_sdk_open_in_the_console_and_the_reverse(
    scripts: Scripts, node: EmbeddedNode, browser: Browser, wallet: BrowserWallet
) -> None:
    """SH9, SH12: each client reads and changes what the other one stored."""

    async def begin(owner: Client) -> None:
        await owner.contacts.add("bob", BOB)

    own(browser, node, wallet, begin)
    done = in_page(
        scripts,
        READ
        + """
        const first = await read();
        await contacts.add(client, "carol", given.did);
        await contacts.rename(client, "bob", "robert");
        const wrong = [];
        for (const work of [() => contacts.add(client, "me", given.other),
          () => contacts.add(client, "robert", given.other),
          () => contacts.add(client, "eve", given.did + "#x"),
          () => contacts.add(client, "eve", "did:web:x"),
          () => contacts.rename(client, "nobody-known", "x"),
          () => contacts.remove(client, "bob")]) wrong.push((await caught(work)).message);
        return { first, second: await read(), wrong };
        """,
        {"did": CAROL, "other": EVE.did},
    )
    assert done["first"] == {"names": {"bob": BOB}, "serial": 1}
    assert done["second"] == {"names": {"carol": CAROL, "robert": BOB}, "serial": 3}
    assert done["wrong"] == [
        "This cannot be the name of a contact.",
        "The name robert is taken.",
        "This DID is already the contact carol.",
        "A contact has the DID of a wallet or a key.",
        "There is no contact nobody-known.",
        "There is no contact bob.",
    ]

    async def end(owner: Client) -> ContactList:
        stored = await owner.contacts.read()
        await owner.contacts.remove("carol")
        return stored.found

    assert own(browser, node, wallet, end) == ContactList(
        (Contact("carol", Principal(CAROL)), Contact("robert", Principal(BOB))), 3
    )
    emptied = in_page(
        scripts,
        READ + 'await contacts.remove(client, "robert"); return read();',
    )
    assert emptied == {"names": {}, "serial": 5}


def test_an_owner_without_a_list(scripts: Scripts) -> None:
    """The first contact creates the network and the list; a list that did not change is read again
    with one request."""
    done = in_page(
        scripts,
        READ
        + """
        const none = await read();
        await contacts.add(client, "carol", given);
        return { none, one: await read() };
        """,
        CAROL,
    )
    assert done == {
        "none": {"names": {}, "serial": 0},
        "one": {"names": {"carol": CAROL}, "serial": 1},
    }
    last = scripts.requests[-2:]
    assert "if-none-match" in last[-1][2] and last[-2][1] == "/invoke"
    assert "if-none-match" in last[-2][2], "the put of the first list"


def test_SH11_older_and_misplaced_lists_are_refused(
    scripts: Scripts, node: EmbeddedNode, browser: Browser, wallet: BrowserWallet
) -> None:
    """SH9, SH11: a page refuses a list older than the one it has read, a vanished one, one sealed
    for another place or network or not at all, and one that is too large."""

    async def at_node(owner: Client) -> dict[str, Any]:
        bodies: dict[str, str] = {}

        async def keep(what: str) -> None:
            value = await owner.kv(CONTACTS_SPACE).get(CONTACTS_PATH)
            bodies[what] = value.body.decode()

        record = canonical_bytes(record_of(owner, serial=5))
        await put(owner, record, label=label_of(owner))
        await keep("newest")
        await put(owner, canonical_bytes(record_of(owner, serial=4)), label=label_of(owner))
        await keep("older")
        await put(owner, record, label=None)
        await keep("without a label")
        await put(owner, record, label=label_of(owner) + b"x")
        await keep("for another place")
        async with Client(node.url) as other:
            await other.sign_in(new_wallet())
            await other.encryption.ensure_network()
            foreign = network_of_owner(other.session.owner)
            sealed = await other.encryption.encrypt(record, network=foreign, label=label_of(owner))
        bodies["for another network"] = envelope_bytes(sealed).decode()
        bodies["unsealed"] = record.decode()
        broken = bodies["newest"]
        at = broken.index('"ciphertext":"') + 40
        bodies["damaged"] = broken[:at] + ("A" if broken[at] != "A" else "B") + broken[at + 1 :]
        bodies["oversized"] = broken.ljust(4 * 2**17 + 1)
        return bodies

    bodies = own(browser, node, wallet, at_node)
    done = in_page(
        scripts,
        READ
        + """
        const kv = await at("kv");
        const store = (body) => kv.put(client, "default", "vault/contacts", body);
        const judge = async ([what, body]) => {
          await store(body);
          return [what, await read()];
        };
        const known = [await judge(["newest", given.newest])];
        for (const one of Object.entries(given)) if (one[0] !== "newest") known.push(await judge(one));
        await kv.remove(client, "default", "vault/contacts");
        known.push(["vanished", await read()]);
        known.push(await judge(["newest again", given.newest]));
        return known.map(([what, found]) => [what, found.code ? [found.code, found.message] : found]);
        """,
        bodies,
    )
    found = {"names": {"bob": BOB}, "serial": 5}
    refused = dict(done)
    assert refused.pop("newest") == refused.pop("newest again") == found
    assert refused.pop("oversized")[0] == "too-large"
    assert {code for code, _ in refused.values()} == {"contacts-invalid"}
    older = "the list of contacts is older than the one that this page has read before"
    placed = "the list of contacts was sealed for another place"
    assert {what: message for what, (_, message) in refused.items()} == {
        "older": older,
        "vanished": older,
        "without a label": placed,
        "for another place": placed,
        "for another network": "the list of contacts is sealed to another owner's network",
        "unsealed": "the list of contacts is not sealed",
        "damaged": "the list of contacts is damaged, or the node's answer is",
    }


def test_SH12_changes_of_two_clients_are_both_kept(
    scripts: Scripts, node: EmbeddedNode, browser: Browser, wallet: BrowserWallet
) -> None:
    """SH12: while two pages and the SDK add contacts at the same time, none undoes another."""
    dids = [did_key(bytes([number]) * 32) for number in range(6)]

    async def by_sdk(owner: Client) -> None:
        await owner.contacts.add("first", BOB)
        await asyncio.gather(*(owner.contacts.add(f"s{at}", dids[at]) for at in (0, 1)))

    own(browser, node, wallet, by_sdk)
    in_page(
        scripts,
        READ
        + """
        const other = Client(client.session);
        await Promise.all(given.map((did, at) => contacts.add(at % 2 ? client : other, `c${at}`, did)));
        """,
        dids[2:],
    )

    async def stored(owner: Client) -> list[str]:
        return [one.name for one in await owner.contacts.list()]

    assert own(browser, node, wallet, stored) == ["c0", "c1", "c2", "c3", "first", "s0", "s1"]


@pytest.mark.parametrize("at", range(0, 90, 9))
def test_SH9_a_changed_byte_gives_no_other_name(shared_scripts: Scripts, at: int) -> None:
    """SH9: a plaintext with any byte changed is refused by the console as by the SDK."""
    phrase = key_session(bytes([at + 1]) * 32)
    record = bytearray(sign_contacts(FOUND, phrase, now=SystemClock().now()))
    cases: list[tuple[bytes, str]] = []
    for place in range(at, len(record), 90):
        changed = bytearray(record)
        changed[place] ^= 1
        cases.append((bytes(changed), phrase.owner))
    expected = [as_the_sdk(one, phrase.owner) or "contacts-invalid" for one, _ in cases]
    assert judged(shared_scripts, cases) == expected == ["contacts-invalid"] * len(cases)
