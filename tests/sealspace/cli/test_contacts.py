"""The commands for the owner's names of DIDs, and names in other commands (SH10, SH13, SH14)."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from owner_desk import OwnerDesk, Ran, owner_desk
from relay import Answer, relay_before

from sealspace.apps.contacts import sign_contacts
from sealspace.cli.owner.contact_names import Names
from sealspace.documents.contact_list import ContactList
from sealspace.session import load_session

BACKEND = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
LIST = "vault/contacts"


class Office:
    """Alice, who has named Bob, and Bob, each with a home at one node."""

    def __init__(self, desk: OwnerDesk) -> None:
        self.desk, self.bobs = desk, desk.home.with_name("bob")
        self.alice = self.bob = ""

    async def as_alice(self, *arguments: str, given: str = "", typed: str | None = None) -> Ran:
        ran = await self.desk.run(*arguments, given=given, typed=typed)
        assert ran.status == 0, ran
        return ran

    async def as_bob(self, *arguments: str) -> Ran:
        ran = await self.desk.run(*arguments, home=self.bobs)
        assert ran.status == 0, ran
        return ran

    async def refused(self, *arguments: str, typed: str | None = None) -> Ran:
        ran = await self.desk.run(*arguments, typed=typed)
        assert ran.status != 0, ran
        return ran


@pytest.fixture
async def office(tmp_path: Path, capsys: Any, monkeypatch: Any) -> AsyncIterator[Office]:
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        office = Office(desk)
        await desk.log_in()
        await office.as_bob("login", desk.node, "--new")
        office.alice = json.loads((await desk.run("whoami", "--json")).out)["owner"]
        office.bob = json.loads((await office.as_bob("whoami", "--json")).out)["owner"]
        await office.as_alice("secret", "put", "API_KEY", given="open sesame")
        await office.as_alice("contact", "add", "bob", office.bob)
        yield office


# --- the commands of contacts ---------------------------------------------------------------------


async def test_add_list_show_rename_and_remove(office: Office) -> None:
    """Each command prints what it did; another home of the same owner has the same contacts."""
    added = await office.as_alice("contact", "add", "backend", BACKEND, "--json")
    assert json.loads(added.out) == {"name": "backend", "did": BACKEND}
    listed = json.loads((await office.as_alice("contact", "list", "--json")).out)
    bob = {"name": "bob", "did": office.bob}
    assert listed == [{"name": "backend", "did": BACKEND}, bob]
    assert office.bob in (await office.as_alice("contact", "list")).out
    for text in ("bob", office.bob):
        shown = await office.as_alice("contact", "show", text, "--json")
        assert json.loads(shown.out) == bob
    renamed = await office.as_alice("contact", "rename", "backend", "desk")
    assert renamed.err == f"renamed backend to desk: {BACKEND}\n"
    removed = await office.as_alice("contact", "remove", "desk")
    assert removed.err == f"removed desk: {BACKEND}; grants and shares stay as they are\n"
    again = office.desk.home.with_name("again")
    key = str(office.desk.home / "wallet.key")
    signed_in = await office.desk.run("login", office.desk.node, "--key-file", key, home=again)
    assert signed_in.status == 0
    other = await office.desk.run("contact", "list", "--json", home=again)
    assert json.loads(other.out) == [bob]
    await office.desk.run("contact", "add", "carol", BACKEND, home=again)
    assert json.loads((await office.as_alice("contact", "show", "carol", "--json")).out)["did"] == (
        BACKEND
    )
    await office.as_alice("contact", "remove", "carol")
    await office.as_alice("contact", "remove", "bob")
    empty = await office.as_alice("contact", "list")
    assert (empty.out, empty.err) == (
        "",
        "no contacts; next: sealspace contact add NAME DID\n",
    )


async def test_what_bad_input_gets(office: Office) -> None:
    """A taken name, a second name, a DID that is none, and an unknown name are refused with what to
    type."""
    taken = await office.refused("contact", "add", "bob", BACKEND)
    assert taken.happened == f"the name bob is taken: it is the contact {office.bob}"
    assert taken.next == "choose another name, or: sealspace contact remove bob"
    second = await office.refused("contact", "add", "robert", office.bob)
    assert second.happened == "this DID is already the contact bob"
    assert second.next == "sealspace contact rename bob robert"
    word = await office.refused("contact", "add", "me", BACKEND)
    assert word.happened.endswith("me is a word that commands take in the place of a DID")
    did_like = await office.refused("contact", "add", BACKEND, BACKEND)
    assert did_like.happened.endswith("it looks like a DID")
    no_did = await office.refused("contact", "add", "carol", "0x12")
    assert no_did.status == 2 and "sealspace whoami" in no_did.next
    for command in (("show",), ("remove",), ("rename",)):
        more = ("other",) if command == ("rename",) else ()
        unknown = await office.refused("contact", *command, "carol", *more)
        assert (unknown.status, unknown.happened) == (21, "there is no contact carol")
        assert "sealspace contact list" in unknown.next
    near = await office.refused("contact", "show", "bobb")
    assert near.next.startswith("did you mean bob? or list the names: ")
    unnamed = await office.refused("contact", "show", BACKEND)
    assert unnamed.next == f"sealspace contact add NAME {BACKEND}"


WALLET = "did:pkh:eip155:1:0x5FB93cf293A091483987ec38403539A9f90d96C8"


@pytest.mark.parametrize(
    "arguments",
    [
        ("contact", "add", "carol"),
        ("secret", "share", "API_KEY", "--with"),
        ("secret", "share", "API_KEY", "--yes", "--to"),
        ("secret", "get", "API_KEY", "--from"),
        ("team", "add", "ops"),
        ("grant", "create", "--space", "default", "--path", "a"),
    ],
)
async def test_a_did_with_a_typing_error(
    office: Office, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A wallet's DID whose checksum does not match is refused before anything is signed."""
    mistyped = WALLET[:-1] + "9"
    (tmp_path / "did.txt").write_text(mistyped)
    given = str(tmp_path / "did.txt") if arguments[-1] == "--to" else mistyped
    refused = await office.refused(*arguments, given)
    assert (refused.status, refused.happened) == (
        2,
        f"{mistyped} has a typing error: the checksum in its capitals does not match",
    )
    assert "sealspace whoami" in refused.next


async def test_a_did_without_a_checksum(office: Office) -> None:
    """A wallet's DID in letters of one case has no checksum, and is that of the same wallet."""
    added = await office.as_alice("contact", "add", "carol", WALLET.lower())
    assert f"added carol: {WALLET}\n" in added.out + added.err


# --- names in other commands ----------------------------------------------------------------------


async def test_SH13_names_in_the_commands_for_people(office: Office) -> None:
    """SH13: sharing, teams and reading take a name, and print it with the DID."""
    whole = f"bob ({office.bob})"
    shared = await office.as_alice("secret", "share", "API_KEY", "--with", "bob")
    assert f"shared with {whole}, until" in shared.err
    await office.as_bob("contact", "add", "alice", office.alice)
    got = await office.as_bob("secret", "get", "API_KEY", "--from", "alice")
    assert got.out == "open sesame"
    assert "API_KEY" in (await office.as_bob("secret", "list", "--from", "alice")).out
    row = json.loads((await office.as_alice("team", "list", "--json")).out)[0]
    assert (row["person"], row["name"]) == (office.bob, "bob")
    shown = (await office.as_alice("team", "list")).out
    assert f"bob (did:pkh:eip155:1:{office.bob[-42:-34]}…{office.bob[-8:]})" in shown
    asked = await office.refused("secret", "unshare", "--with", "bob")
    assert f"stop sharing everything with {whole}?" in asked.happened
    await office.as_alice("secret", "unshare", "--with", "bob", "--yes")
    added = await office.as_alice("team", "add", "ops", "bob")
    assert f"shared with {whole}" in added.err
    await office.as_alice("secret", "share", "API_KEY", "--with", "team:ops")
    got = await office.as_bob("secret", "get", "API_KEY", "--from", "alice/ops")
    assert got.out == "open sesame"
    await office.as_alice("team", "remove", "ops", "bob")


async def test_SH13_names_in_the_commands_for_grants(office: Office, tmp_path: Path) -> None:
    """SH13: grants are made to a name, and are listed, shown and accepted with names."""
    whole, file = f"bob ({office.bob})", tmp_path / "grant.json"
    created = await office.as_alice(
        "grant", "create", "bob", "--space", "default", "--path", "todo", "--out", str(file)
    )
    assert f"granted to {whole}" in created.err
    rows = json.loads((await office.as_alice("grant", "list", "--json")).out)
    (row,) = [one for one in rows if one["to"] == office.bob]
    assert row["name"] == "bob"
    assert "bob (did:pkh:eip155:1:0x" in (await office.as_alice("grant", "list")).out
    shown = await office.as_alice("grant", "show", row["cid"])
    assert f"to       {whole}\n" in shown.out and f"by       {office.alice}\n" in shown.out
    document = json.loads((await office.as_alice("grant", "show", row["cid"], "--json")).out)
    assert (document["to"], document["name"], document["nameOfGranter"]) == (
        office.bob,
        "bob",
        None,
    )
    await office.as_bob("contact", "add", "alice", office.alice)
    accepted = await office.as_bob("grant", "accept", str(file))
    assert f"from alice ({office.alice})" in accepted.err
    received = await office.as_bob("grant", "show", row["cid"], "--json")
    assert json.loads(received.out)["nameOfGranter"] == "alice"
    secret = await office.desk.run("secret", "get", "API_KEY", "--owner", "alice", home=office.bobs)
    assert secret.status == 22  # not granted: but the owner was found by the name
    assert office.alice in secret.err


async def test_SH13_names_in_the_lists_of_reads(office: Office) -> None:
    """SH13: reads by a person are chosen by the name, and have it in the list."""
    await office.as_alice("secret", "share", "API_KEY", "--with", "bob")
    await office.as_bob("secret", "get", "API_KEY", "--from", office.alice)
    for by in ("bob", office.bob):
        found = await office.as_alice("receipts", "list", "--by", by, "--json")
        (row,) = json.loads(found.out)
        assert (row["reader"], row["name"]) == (office.bob, "bob")
    listed = await office.as_alice("receipts", "list")
    assert "bob (did:pkh:eip155:1:0x" in listed.out
    said = "reads of copies have no receipt of your network (1): the node reports them\n"
    assert listed.err.startswith(said)
    unknown = await office.refused("receipts", "list", "--by", "carol")
    assert unknown.status == 21 and "sealspace contact list" in unknown.next


async def test_SH13_a_name_that_a_machine_token_has_too(office: Office) -> None:
    """SH13: a name that is a contact and a machine token is refused in --by."""
    made = await office.as_alice("token", "create", "bob", "--secret", "API_KEY")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEALSPACE_TOKEN", made.out.strip())
        patch.setenv("SEALSPACE_NODE", office.desk.node)
        assert (await office.desk.run("secret", "get", "API_KEY")).out == "open sesame"
    both = await office.refused("receipts", "list", "--by", "bob")
    assert both.happened == "bob is a contact, and also the name of a machine token or trust"
    assert "sealspace contact show bob" in both.next
    await office.as_alice("contact", "rename", "bob", "robert")
    rows = json.loads((await office.as_alice("receipts", "list", "--by", "bob", "--json")).out)
    assert [one["machine"] for one in rows] == ["bob"]


async def test_SH13_a_name_that_is_a_file_too(
    office: Office, tmp_path: Path, monkeypatch: Any
) -> None:
    """SH13: a file that has the name of a contact is not read in its place."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("bob").write_text("{}")
    both = await office.refused("secret", "get", "API_KEY", "--from", "bob")
    assert both.happened == "bob is a contact, and there is also a file bob"
    assert "--from ./bob" in both.next
    Path("carol").write_text("{}")
    file = await office.refused("secret", "get", "API_KEY", "--from", "carol")
    assert "carol does not contain a grant" in file.happened


async def test_names_in_the_commands_for_backends(office: Office, tmp_path: Path) -> None:
    """`backend revoke` and `backend withdraw` take a name."""
    await office.as_alice("contact", "add", "desk", BACKEND)
    nowhere = await office.refused("backend", "revoke", "desk")
    assert nowhere.happened == f"no grant to {BACKEND} was made on this machine"
    asked = await office.refused("backend", "withdraw", "desk")
    assert f"permanently deny desk ({BACKEND}) access" in asked.happened
    unknown = await office.refused("backend", "withdraw", "carol", "--yes")
    assert unknown.happened == "there is no contact carol"


@pytest.mark.parametrize(
    "arguments",
    [
        ("secret", "share", "API_KEY", "--with", "carol"),
        ("secret", "unshare", "API_KEY", "--with", "carol"),
        ("secret", "get", "API_KEY", "--from", "carol"),
        ("secret", "get", "API_KEY", "--from", "carol/ops"),
        ("secret", "get", "API_KEY", "--owner", "carol"),
        ("secret", "list", "--from", "carol"),
        ("team", "add", "ops", "carol"),
        ("team", "remove", "ops", "carol"),
        ("grant", "create", "carol", "--secret", "API_KEY"),
        ("backend", "revoke", "carol"),
        ("receipts", "list", "--backend", "carol"),
    ],
)
async def test_a_name_that_is_unknown(office: Office, arguments: tuple[str, ...]) -> None:
    """Every command that takes a name refuses an unknown one, and says how to add it."""
    unknown = await office.refused(*arguments)
    assert (unknown.status, unknown.happened) == (21, "there is no contact carol")
    assert re.search("sealspace contact add (NAME|carol) DID$", unknown.next)


# --- one request, and lists that cannot be read ---------------------------------------------------


async def test_names_take_one_request_only_when_needed(office: Office) -> None:
    """A command reads the list with one request, also with several names; one without DIDs reads
    none."""
    await office.as_alice("secret", "share", "API_KEY", "--with", "bob")
    statuses: list[int] = []

    def note(answer: Answer) -> None:
        if answer.status == 304:
            statuses.append(answer.status)

    async with relay_before(office.desk.node) as relay:
        relay.twist = note
        for arguments, expected in (
            (("secret", "list"), 0),
            (("team", "list"), 1),
            (("secret", "share", "API_KEY", "--with", "bob"), 1),
            (("secret", "unshare", "API_KEY", "--with", office.bob), 0),
        ):
            statuses.clear()
            await office.as_alice(*arguments, "--node", relay.url)
            assert len(statuses) == expected, arguments


async def test_SH13_a_list_that_cannot_be_read(office: Office) -> None:
    """SH13: with altered bytes, a command that prints says so once and shows DIDs alone; one that
    needs a name fails, and nothing is shared."""
    await office.as_alice("secret", "share", "API_KEY", "--with", "bob")
    async with office.desk.client() as client:
        await client.kv("default").put(LIST, '{"contacts":[{"name":"bob","did":"did:key:x"}]}')
    listed = await office.as_alice("team", "list")
    assert office.bob in listed.out and "bob (" not in listed.out
    assert listed.err == (
        "warning: cannot read the names of your contacts, so only DIDs are shown: the list of"
        " contacts is not sealed\n"
    )
    row = json.loads((await office.as_alice("team", "list", "--json")).out)[0]
    assert (row["person"], row["name"]) == (office.bob, None)
    for arguments in (
        ("secret", "unshare", "API_KEY", "--with", "bob"),
        ("contact", "list"),
        ("contact", "add", "carol", BACKEND),
    ):
        refused = await office.refused(*arguments)
        assert (refused.status, refused.happened) == (12, "the list of contacts is not sealed")
    assert "sealspace kv delete vault/contacts --space default" in refused.next
    await office.as_alice("secret", "unshare", "API_KEY", "--with", office.bob)
    await office.as_alice("kv", "delete", LIST, "--space", "default")
    (office.desk.home / "contacts.json").unlink()
    await office.as_alice("contact", "add", "carol", BACKEND)


async def test_SH11_a_node_that_returns_an_older_list(office: Office) -> None:
    """SH11: this machine refuses a list that is older than the one it has read."""
    async with office.desk.client() as client:
        older = (await client.kv("default").get(LIST)).body
        await office.as_alice("contact", "remove", "bob")
        await office.as_alice("contact", "add", "bob", BACKEND)
        await client.kv("default").put(LIST, older)
    refused = await office.refused("secret", "share", "API_KEY", "--with", "bob")
    assert refused.happened.startswith("the node returned an older list of contacts")
    assert "contacts.json" in refused.next
    (office.desk.home / "contacts.json").unlink()
    await office.as_alice("secret", "share", "API_KEY", "--with", "bob")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"node":"x","owner":"y","etag":"","record":""}']
)
async def test_a_file_of_contacts_that_is_damaged(office: Office, content: str) -> None:
    """A damaged file only costs requests: the list is read from the node again."""
    kept = office.desk.home / "contacts.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    right = kept.read_bytes()
    kept.write_text(content)
    await office.as_alice("contact", "show", "bob")
    assert kept.read_bytes() == right
    kept.write_bytes(right.replace(office.bob.encode(), office.alice.encode()))
    shown = json.loads((await office.as_alice("contact", "show", "bob", "--json")).out)
    assert shown["did"] == office.bob


async def test_SH11_a_file_of_another_node(office: Office) -> None:
    """SH11: the list of another node, where the owner has made more changes, does not count."""
    kept = office.desk.home / "contacts.json"
    content = json.loads(kept.read_bytes())
    session = load_session(office.desk.home / "session.json")
    later = ContactList((), 50).with_contact("bob", BACKEND)
    record = sign_contacts(later, session, now=0).decode()
    kept.write_text(json.dumps(content | {"node": BACKEND, "etag": "x", "record": record}))
    shown = json.loads((await office.as_alice("contact", "show", "bob", "--json")).out)
    assert shown["did"] == office.bob
    kept.write_text(json.dumps(content | {"etag": "x", "record": record}))
    refused = await office.refused("contact", "show", "bob")
    assert refused.happened.startswith("the node returned an older list of contacts")


# --- DIDs that were read from a file --------------------------------------------------------------


async def test_SH14_a_did_from_a_file(office: Office, tmp_path: Path) -> None:
    """SH14: a DID in a file is shown whole with what it gets, and used after the owner agrees."""
    file = tmp_path / "did.txt"
    file.write_text(f"{office.bob}\n")
    share = ("secret", "share", "API_KEY", "--to", str(file))
    named = await office.as_alice(*share)
    assert f"shared with bob ({office.bob})" in named.err and "?" not in named.err
    await office.as_alice("secret", "unshare", "--with", "bob", "--yes")
    await office.as_alice("contact", "remove", "bob")
    refused = await office.refused(*share)
    assert office.bob in refused.happened and "a copy of API_KEY, until" in refused.happened
    assert refused.next.endswith(f"add --yes, or: sealspace contact add NAME {office.bob}")
    declined = await office.refused(*share, typed="n\n")
    assert declined.status == 1 and office.bob in declined.err
    assert (await office.as_alice("team", "list")).out == ""
    await office.as_alice(*share, typed="y\n")
    await office.as_alice("secret", "unshare", "--with", office.bob, "--yes")
    await office.as_alice(*share, "--yes")
    assert office.bob in (await office.as_alice("team", "list")).out


@pytest.mark.parametrize("content", ["", "bob", "did:key:zz", f"{BACKEND} {BACKEND}", "x" * 300])
async def test_SH14_a_file_without_one_did(office: Office, tmp_path: Path, content: str) -> None:
    """A file with anything but one DID is refused, also with --yes."""
    file = tmp_path / "did.txt"
    file.write_text(content)
    refused = await office.refused("secret", "share", "API_KEY", "--to", str(file), "--yes")
    assert refused.happened == f"{file} does not contain one DID and nothing else"
    both = await office.refused("secret", "share", "API_KEY", "--to", str(file), "--with", "bob")
    neither = await office.refused("secret", "share", "API_KEY")
    assert (both.status, neither.status) == (2, 2)


async def test_SH14_a_did_from_a_manifest(office: Office, tmp_path: Path) -> None:
    """SH14: the DID in a manifest is shown whole, with the owner's name only, and is asked
    about."""
    file = tmp_path / "manifest.json"
    file.write_text(
        json.dumps(
            {
                "app_id": "com.example.bob",
                "name": "bob",
                "did": BACKEND,
                "permissions": [
                    {"service": "tinycloud.kv", "path": "/", "actions": ["get"], "space": "notes"}
                ],
            }
        )
    )
    refused = await office.refused("manifest", "grant", str(file))
    last = refused.err.splitlines()[-2]
    assert f"grant these rights to {BACKEND}?" in last and "bob" not in last.replace(str(file), "")
    await office.as_alice("contact", "add", "desk", BACKEND)
    refused = await office.refused("manifest", "grant", str(file), "--to", "bob")
    assert f"grant these rights to bob ({office.bob})?" in refused.err.splitlines()[-2]
    granted = await office.as_alice("manifest", "grant", str(file), "--yes", "--json")
    assert [(one["to"], one["name"]) for one in json.loads(granted.out)] == [(BACKEND, "desk")]


def test_how_a_did_is_shortened() -> None:
    """The method and both ends of a DID are kept; one without a name is shown whole."""
    names = Names(ContactList().with_contact("desk", BACKEND))
    assert names.short(BACKEND) == "desk (did:key:z6MkiTBz…X3mDooWp)"
    assert names.whole(BACKEND) == f"desk ({BACKEND})"
    other = "did:key:z6MkOther"
    assert (names.short(other), names.whole(other), names.name(None)) == (other, other, None)


async def test_SH13_names_of_those_who_can_read_a_secret(office: Office) -> None:
    """SH13: `secret show` and `grant list --secret` have the names of the owner's contacts."""
    await office.as_alice("secret", "share", "API_KEY", "--with", "bob")
    shown = await office.as_alice("secret", "show", "API_KEY")
    assert f"bob ({office.bob}), who has a copy" in shown.out
    readers = json.loads((await office.as_alice("secret", "show", "API_KEY", "--json")).out)
    (row,) = [one for one in readers["readers"] if one["did"] == office.bob]
    assert row["name"] == "bob"
    listed = await office.as_alice("grant", "list", "--secret", "API_KEY", "--json")
    assert [(one["did"], one["name"]) for one in json.loads(listed.out)] == [(office.bob, "bob")]
