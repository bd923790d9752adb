"""Attempts to have an owner's commands name somebody as the owner did not (SH9, SH13)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from owner_desk import OwnerDesk, owner_desk

from capabilities.abilities import KV_GET, KV_PUT
from capabilities.signatures import Ed25519Signer
from sealspace.apps.contacts import CONTACTS_PATH, sign_contacts
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.contact_list import ContactList
from sealspace.encryption import envelope_bytes
from sealspace.errors import NotGranted
from sealspace.session import key_session, load_session, network_of_owner

EVE_SEED = b"\x66" * 32
EVE = Ed25519Signer(EVE_SEED).did
CLAIMED = "mallory"


@pytest.fixture
async def desk(tmp_path: Path, capsys: Any, monkeypatch: Any) -> AsyncIterator[OwnerDesk]:
    """An owner who is logged in, has a secret, and has named nobody."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        assert (await desk.run("secret", "put", "API_KEY", given="open sesame")).status == 0
        yield desk


async def _sealed(client: Client, owner: str, record: bytes) -> bytes:
    """Seal a plaintext to an owner's network with the label of the list, as anybody can."""
    space = f"tinycloud:{owner.removeprefix('did:')}:default"
    envelope = await client.encryption.encrypt(
        record,
        network=network_of_owner(owner),
        label=f"tinycloud.vault:{space}:contacts".encode(),
    )
    return envelope_bytes(envelope)


async def test_SH13_names_of_others_are_no_names_of_contacts(
    desk: OwnerDesk, tmp_path: Path
) -> None:
    """SH13: the names that a colleague chose for a team, a machine token, an app and its own
    contacts never stand beside the colleague's DID, and no command takes them for it."""
    bobs = tmp_path / "bob"
    assert (await desk.run("login", desk.node, "--new", home=bobs)).status == 0
    alice = json.loads((await desk.run("whoami", "--json")).out)["owner"]
    bob = json.loads((await desk.run("whoami", "--json", home=bobs)).out)["owner"]
    # Bob names himself, a team with Alice, and an app, and shares with Alice.
    file, manifest = tmp_path / "grant.json", tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"app_id": "com.mallory", "name": CLAIMED, "did": bob}))
    arguments: tuple[str, ...]
    for arguments in (
        ("contact", "add", CLAIMED, bob),
        ("secret", "put", "MALLORY_KEY"),
        ("team", "add", CLAIMED, alice),
        ("secret", "share", "MALLORY_KEY", "--with", f"team:{CLAIMED}"),
        ("grant", "create", alice, "--space", "default", "--path", CLAIMED, "--out", str(file)),
    ):
        ran = await desk.run(*arguments, given="value", home=bobs)
        assert ran.status == 0, ran
    assert (await desk.run("secret", "share", "API_KEY", "--with", bob)).status == 0
    assert (
        await desk.run("secret", "get", "API_KEY", "--from", alice, home=bobs)
    ).out == "open sesame"
    assert (await desk.run("grant", "accept", str(file))).status == 0
    for arguments, member in (
        (("grant", "list"), "to"),
        (("grant", "list", "--received"), "by"),
        (("receipts", "list"), "reader"),
        (("team", "list"), "person"),
    ):
        rows = json.loads((await desk.run(*arguments, "--json")).out)
        of_bob = [one for one in rows if one[member] == bob]
        assert of_bob and {one["name"] for one in of_bob} == {None}, arguments
        table = (await desk.run(*arguments)).out
        assert bob in table and f"{CLAIMED} (" not in table, arguments
    asked = await desk.run("manifest", "grant", str(manifest))
    assert f"{CLAIMED} (did:" not in asked.err
    for arguments in (
        ("secret", "share", "API_KEY", "--with", CLAIMED),
        ("team", "add", "ops", CLAIMED),
        ("secret", "get", "MALLORY_KEY", "--from", CLAIMED),
        ("grant", "create", CLAIMED, "--secret", "API_KEY"),
    ):
        refused = await desk.run(*arguments)
        assert (refused.status, refused.happened) == (21, f"there is no contact {CLAIMED}")
    assert json.loads((await desk.run("contact", "list", "--json")).out) == []


async def test_SH9_lists_that_others_store(desk: OwnerDesk) -> None:
    """SH9: a delegate that may write the list, and the node, cannot put a name there: what they
    seal to the owner's network is an error, and shares nothing."""
    assert (await desk.run("contact", "add", "bob", EVE)).status == 0
    session = load_session(desk.home / "session.json")
    owner = session.owner
    eve = key_session(EVE_SEED)
    named = ContactList((), 8).with_contact("carol", EVE)
    async with Client(desk.node, session=session) as client, Client(desk.node, session=eve) as her:
        place = client.kv("default").space.text
        rights = [allow(f"{place}/kv/{CONTACTS_PATH}", one) for one in (KV_GET, KV_PUT)]
        await her.delegations.accept(await client.delegations.delegate(EVE, rights))
        right = await her.kv(place).get(CONTACTS_PATH)
        record = sign_contacts(named, eve, now=0)
        sealed = json.loads(record)
        with_proof = json.dumps(sealed | {"proof": session.grants[0].header}).encode()
        her_grant = json.dumps(sealed | {"proof": her.session.grants[0].header}).encode()
        for planted in (
            await _sealed(her, owner, record),
            await _sealed(her, owner, with_proof),
            await _sealed(her, owner, her_grant),
            await _sealed(her, owner, b'{"contacts":[{"name":"carol","did":"' + EVE.encode()),
            b"{}",
            right.body[:-40] + right.body[-20:],
        ):
            await her.kv(place).put(CONTACTS_PATH, planted)
            refused = await desk.run("secret", "share", "API_KEY", "--with", "carol")
            assert refused.status == 12, refused
            listed = await desk.run("contact", "list")
            assert (listed.status, listed.out) == (12, ""), listed
            printed = await desk.run("team", "list")
            assert printed.status == 0
        await her.kv(place).put(CONTACTS_PATH, right.body)
        assert (await desk.run("contact", "show", "bob")).out == f"bob  {EVE}\n"
        # She can read the stored document, but has no right to open it.
        with pytest.raises(NotGranted):
            await her.encryption.decrypt(right.body)
    assert (await desk.run("team", "list")).out == ""


async def test_SH9_any_changed_byte_at_the_node(desk: OwnerDesk) -> None:
    """SH9: whichever part of the stored document a node changes, the command fails with a typed
    error or has the owner's own name."""
    assert (await desk.run("contact", "add", "bob", EVE)).status == 0
    (desk.home / "contacts.json").unlink()
    async with desk.client() as client:
        kv = client.kv("default")
        right = (await kv.get(CONTACTS_PATH)).body
        for place in range(0, len(right), 97):
            changed = bytearray(right)
            changed[place] ^= 1
            await kv.put(CONTACTS_PATH, bytes(changed))
            shown = await desk.run("contact", "show", "bob")
            assert shown.out in ("", f"bob  {EVE}\n")
            assert (shown.status == 0) == bool(shown.out), shown
            assert shown.status == 0 or shown.err.startswith("sealspace: "), shown
            assert "Traceback" not in shown.err
            (desk.home / "contacts.json").unlink(missing_ok=True)
