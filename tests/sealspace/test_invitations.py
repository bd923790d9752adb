"""Tests of invitations to a team: the line, both sides, and others between them (TM10 to TM13)."""

from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from fuzz_strategies import damaged_bytes, damaged_text
from hypothesis import given
from tests_support import FixedClock, fuzzed

from capabilities.strict_base64 import decode_url, encode_url
from encryption_network.canonical_json import canonical_bytes
from sealspace.client import Client
from sealspace.documents.invitations import (
    Invitation,
    commitment,
    invitation_line,
    new_id,
    parse_invitation,
    words_of,
)
from sealspace.errors import (
    InvitationInvalid,
    NodeRefused,
    NotAMember,
    NotFound,
    NotGranted,
    Unauthorized,
)
from sealspace.giving.teams.invitations import (
    Inviting,
    Joining,
    decode_inviting,
    decode_joining,
    encode_side,
)
from sealspace.kv import Kv
from sealspace.session import capability, key_session, read_grant
from sealspace.wallets import AnyWallet

DID = "did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
OTHER_DID = "did:pkh:eip155:1:0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@dataclass
class Meeting:
    """An admin of a team, an invitation, and somebody who wants to join."""

    admin: Client
    wallet: AnyWallet
    invitation: Invitation
    joiner: Client
    joiners_wallet: AnyWallet

    @property
    def line(self) -> str:
        return invitation_line(self.invitation)

    async def met(self) -> tuple[Inviting, Joining]:
        """Return both sides with words."""
        joining = await Joining.start(self.joiner.teams, self.line)
        inviting = await self.invited()
        joining = await joining.advance(self.joiner.teams)
        joining = await joining.advance(self.joiner.teams)
        return await inviting.advance(self.admin.teams), joining

    async def former_invitation(self) -> Invitation:
        """Return the invitation as an earlier version made it: its key may write the folder."""
        rights = [
            capability(f"{self.admin.kv().space.text}/kv/{self.folder}", ability)
            for ability in ("tinycloud.kv/get", "tinycloud.kv/put")
        ]
        made = await self.admin.delegations.delegate(self.invitation.grant.delegate, rights)
        return msgspec.structs.replace(self.invitation, delegation=made.header)

    async def kv_with_line(self, bench: Any, invitation: Invitation) -> Kv:
        """Return the values of the team with the rights of everybody who has a line."""
        seed = decode_url(invitation.seed)
        assert seed is not None
        holder = await bench.client(key_session(seed, grants=[invitation.grant]))
        return holder.kv(self.admin.kv().space.text)

    async def invited(self) -> Inviting:
        """Return the admin's side after the nonce was stored."""
        inviting = await Inviting(invitation=self.invitation).advance(self.admin.teams)
        return await inviting.advance(self.admin.teams)

    @property
    def folder(self) -> str:
        return self.invitation.folder


@pytest.fixture
async def meeting(bench) -> Meeting:
    client, wallet = await bench.owner()
    created = await client.teams.create()
    mine = await client.teams.membership(created.team)
    admin = client.acting(await client.teams.sign_in(wallet, mine))
    await admin.secrets().put("API_KEY", "open sesame")
    invitation = await admin.teams.invite("shop", "writer", wallet=wallet, name="bob")
    joiner, joiners_wallet = await bench.owner()
    return Meeting(admin, wallet, invitation, joiner, joiners_wallet)


def altered(line: str, **members: Any) -> str:
    """Return a line with other members."""
    data = decode_url(line.removeprefix("sinv_"))
    assert data is not None
    value = msgspec.json.decode(data) | members
    return "sinv_" + encode_url(canonical_bytes(value))


# --- the whole ------------------------------------------------------------------------------------


async def test_an_invitation(meeting: Meeting) -> None:
    """After both compared the same words, the admin's signature admits the person, once."""
    inviting, joining = await meeting.met()
    assert inviting.words == joining.words and inviting.words is not None
    assert inviting.joiner == meeting.joiner.session.owner
    with pytest.raises(NotAMember, match="not confirmed"):
        await joining.membership(meeting.joiner.teams)
    await inviting.confirm(meeting.admin.teams, wallet=meeting.wallet)
    mine = await joining.membership(meeting.joiner.teams)
    session = await meeting.joiner.teams.sign_in(meeting.joiners_wallet, mine)
    acting = meeting.joiner.acting(session)
    assert await acting.secrets().get("API_KEY") == "open sesame"
    await acting.secrets().put("API_KEY", "changed")
    listed = await meeting.admin.teams.members()
    assert {(one.name, one.role) for one in listed.members} == {("bob", "writer"), (None, "admin")}
    with pytest.raises(InvitationInvalid, match="used or withdrawn"):
        await Joining.start(meeting.joiner.teams, meeting.line)


async def test_both_sides_are_stored_between_their_steps(meeting: Meeting) -> None:
    """Each side goes on from its stored form, and a stored form that is damaged is refused."""
    joining = await Joining.prepare(meeting.joiner.teams, meeting.line)
    await joining.commit(meeting.joiner.teams)
    joining = decode_joining(encode_side(joining))
    await joining.commit(meeting.joiner.teams)  # the same commitment is there
    inviting = decode_inviting(encode_side(await meeting.invited()))
    joining = decode_joining(encode_side(await joining.advance(meeting.joiner.teams)))
    joining = decode_joining(encode_side(await joining.advance(meeting.joiner.teams)))
    assert joining.is_revealed
    inviting = await inviting.advance(meeting.admin.teams)
    assert inviting.words == joining.words is not None
    for decode in (decode_inviting, decode_joining):
        with pytest.raises(InvitationInvalid, match="damaged"):
            decode(b"{}")
    for side in (inviting, joining):
        assert side.invitation.seed not in repr(side)
        assert encode_url(side.nonce) not in repr(side)


async def test_nobody_has_answered(meeting: Meeting) -> None:
    """Before the other has answered, a side stays as it is, and nothing is confirmed."""
    inviting = Inviting(invitation=meeting.invitation)
    assert await inviting.advance(meeting.admin.teams) is inviting
    with pytest.raises(InvitationInvalid, match="nobody has answered"):
        await inviting.confirm(meeting.admin.teams, wallet=meeting.wallet)
    joining = await Joining.start(meeting.joiner.teams, meeting.line)
    assert await joining.advance(meeting.joiner.teams) is joining
    assert joining.words is None


# --- rules ----------------------------------------------------------------------------------------


def test_TM10_an_id_is_no_option_of_a_command() -> None:
    """An id that begins with a dash is drawn again: `team confirm` would read it as an option."""

    class Draws:
        def __init__(self) -> None:
            self.left = [b"\xf8" * 16, b"\xfb" * 16, b"\xfc" * 16]

        def token(self, size_bytes: int) -> bytes:
            drawn = self.left.pop(0)
            assert len(drawn) == size_bytes
            return drawn

    draws = Draws()
    assert new_id(draws) == encode_url(b"\xfc" * 16)
    assert encode_url(b"\xf8" * 16).startswith("-") and draws.left == []


async def test_TM10_an_invitation_opens_nothing(meeting: Meeting, bench) -> None:
    """TM10: the key of an invitation reads and writes its own folder, and nothing else."""
    invitation = meeting.invitation
    seed = decode_url(invitation.seed)
    assert seed is not None
    holder = await bench.client(key_session(seed, grants=[invitation.grant]))
    kv = holder.kv(meeting.admin.kv().space.text)
    await kv.put(f"{meeting.folder}commitment", "x")
    for path in ("vault/secrets/API_KEY", "invitations/other/commitment"):
        with pytest.raises((NotGranted, Unauthorized)):
            await kv.get(path)
    with pytest.raises(NotGranted):
        await holder.secrets(invitation.team).get("API_KEY")
    with pytest.raises(NotGranted):
        await holder.delegations.delegate(DID, meeting.admin.session.grants[0].capabilities[:3])


async def test_TM10_the_line_writes_answers_alone(meeting: Meeting, bench) -> None:
    """TM10: the key of an invitation may write its three answers, and nothing beside them."""
    kv = await meeting.kv_with_line(bench, meeting.invitation)
    for answer in ("commitment", "nonce", "reveal"):
        await kv.put(meeting.folder + answer, "x")
    for name in ("", "junk", "commitment2"):
        with pytest.raises(NotGranted):
            await kv.put(meeting.folder + name, "x")


async def test_TM10_a_line_of_an_earlier_version(meeting: Meeting) -> None:
    """TM10: a line whose key may write the whole folder still serves both people."""
    meeting.invitation = await meeting.former_invitation()
    inviting, joining = await meeting.met()
    assert inviting.words == joining.words is not None
    await inviting.confirm(meeting.admin.teams, wallet=meeting.wallet)
    assert (await joining.membership(meeting.joiner.teams)).role == "writer"


async def test_TM24_a_line_stores_small_answers_alone(meeting: Meeting, bench) -> None:
    """TM24: whoever has a line, also a former one, stores three small values, and no envelope."""
    kv = await meeting.kv_with_line(bench, await meeting.former_invitation())
    folder = meeting.folder
    largest = "x" * (1024 - len("content-type") - len("text/plain"))
    await kv.put(f"{folder}commitment", largest, content_type="text/plain")
    # The members with which the node records a content key fit into the size of an answer.
    secret = msgspec.json.decode((await meeting.admin.kv().get("vault/secrets/API_KEY")).body)
    members = ("v", "networkId", "encryptedSymmetricKey", "encryptedSymmetricKeyHash")
    envelope = msgspec.json.encode({name: secret[name] for name in members})
    assert len(envelope) < 1024
    junk: dict[str, bytes] = {
        "": b"x",
        "junk": b"x",
        "commitment/junk": b"x",
        "nonce": b"x" * 1025,
        "reveal": envelope,
    }
    for name, body in junk.items():
        with pytest.raises(NodeRefused, match="answers to an invitation") as caught:
            await kv.put(folder + name, body)
        assert caught.value.status == 400 and "1024 bytes" in str(caught.value), name
    with pytest.raises(NodeRefused, match="with its headers"):
        await kv.put(f"{folder}nonce", largest + "x", content_type="text/plain")
    with pytest.raises(NodeRefused, match="with its headers"):
        await kv.put_many({f"{folder}nonce": b"x", f"{folder}reveal": b"x" * 1025})
    with pytest.raises(NotFound):
        await kv.get(f"{folder}nonce")
    # Whoever has more rights on the space stores nothing else there either.
    with pytest.raises(NodeRefused, match="no answer of this name"):
        await meeting.admin.kv().put(f"{folder}junk", "x")


async def test_TM10_altered_lines(meeting: Meeting, bench) -> None:
    """TM10: a line that is cut, altered, or grants something else is refused, without its text."""
    now, line = bench.clock.now(), meeting.line
    assert parse_invitation(f" {line}\n", now=now) == meeting.invitation
    more = await meeting.admin.delegations.delegate(
        read_grant(meeting.invitation.delegation).delegate,
        [one for one in meeting.admin.session.grants[0].capabilities if "put" in one.ability],
    )
    lines = {
        "cut": line[:-20],
        "another prefix": line.replace("sinv_", "sinw_"),
        "too long": line + "A" * (64 << 10),
        "not base64": "sinv_!!",
        "an unknown role": altered(line, role="owner"),
        "another version": altered(line, v=2),
        "an unknown member": altered(line, more=1),
        "another team": altered(line, team=OTHER_DID),
        "a team without a wallet": altered(line, team=meeting.admin.session.did),
        "another key": altered(line, seed=encode_url(bytes(range(32)))),
        "another id": altered(line, id=encode_url(bytes(16))),
        "more rights": altered(line, delegation=more.header),
        "an end in the past": altered(line, end=1),
    }
    for what, one in lines.items():
        with pytest.raises(InvitationInvalid) as caught:
            parse_invitation(one, now=now)
        assert meeting.invitation.seed not in str(caught.value), what


async def test_TM10_an_ended_invitation(meeting: Meeting, bench, clock: FixedClock) -> None:
    """TM10: an invitation ends at its own time, and by the admin at any time."""
    inviting = Inviting(invitation=meeting.invitation)
    await inviting.withdraw(meeting.admin.teams)
    with pytest.raises(InvitationInvalid, match="used or withdrawn"):
        await Joining.start(meeting.joiner.teams, meeting.line)
    with pytest.raises(InvitationInvalid, match="has ended"):
        parse_invitation(meeting.line, now=meeting.invitation.ends_at)


async def test_TM11_a_second_joiner(meeting: Meeting, bench) -> None:
    """TM11: the first answer stays; a second person is refused and told what to do."""
    await Joining.start(meeting.joiner.teams, meeting.line)
    second, _ = await bench.owner()
    with pytest.raises(InvitationInvalid, match="somebody has answered") as caught:
        await Joining.start(second.teams, meeting.line)
    assert "tell the admin" in caught.value.hint


@pytest.mark.parametrize("answer", ["commitment", "nonce", "reveal"])
async def test_TM12_a_replaced_answer(meeting: Meeting, answer: str) -> None:
    """TM12: an answer that is replaced, even in a way that fits, is refused by the admin."""
    await Joining.start(meeting.joiner.teams, meeting.line)
    inviting = await meeting.invited()
    nonce = encode_url(bytes(32))
    bodies = {
        "commitment": commitment(meeting.invitation.id, OTHER_DID, bytes(32)).encode(),
        "nonce": nonce.encode(),
        "reveal": canonical_bytes({"joiner": OTHER_DID, "nonce": nonce}),
    }
    await meeting.admin.kv().put(f"{meeting.folder}{answer}", bodies[answer])
    with pytest.raises(InvitationInvalid, match="replaced or altered"):
        await inviting.advance(meeting.admin.teams)


async def test_TM12_a_nonce_that_changes_after_the_reveal(meeting: Meeting) -> None:
    """TM12: the person who joins keeps the first nonce, so a later one gives other words."""
    inviting, joining = await meeting.met()
    await meeting.admin.kv().put(f"{meeting.folder}nonce", encode_url(bytes(32)))
    again = await joining.advance(meeting.joiner.teams)
    assert again.words == inviting.words


async def test_TM12_a_nonce_that_changes_after_a_failed_reveal(meeting: Meeting) -> None:
    """TM12: the person's nonce is sent only by a side that has the admin's in its stored form, so a
    node that learns it and fails cannot choose another nonce to fit."""
    joining = await Joining.start(meeting.joiner.teams, meeting.line)
    inviting = await meeting.invited()
    sent = 0
    while joining.words is None:
        joining = decode_joining(encode_side(await joining.advance(meeting.joiner.teams)))
        sent += 1
        # Only the calls after the stored form has the nonce may reveal.
        assert (await inviting.advance(meeting.admin.teams)).words is None
    assert sent == 1
    kept = joining.words
    await meeting.admin.kv().put(f"{meeting.folder}nonce", encode_url(bytes(32)))
    again = await joining.advance(meeting.joiner.teams)
    assert again.words == kept


async def test_TM13_somebody_in_the_middle(meeting: Meeting, bench) -> None:
    """TM13: somebody who answers both people in each other's place causes different words."""
    mallory, _ = await bench.owner()
    victim = await Joining.prepare(meeting.joiner.teams, meeting.line)
    between = await Joining.start(mallory.teams, meeting.line)
    inviting = await meeting.invited()
    between = await between.advance(mallory.teams)
    between = await between.advance(mallory.teams)
    inviting = await inviting.advance(meeting.admin.teams)
    # Mallory relays the admin's own nonce to the person who wants to join.
    victim = replace(victim, admin_nonce=between.admin_nonce)
    assert inviting.joiner == mallory.session.owner
    assert inviting.words is not None and victim.words is not None
    assert victim.words != inviting.words


def test_TM13_every_part_changes_the_words() -> None:
    """TM13: the words depend on the team, both people, both nonces, role, secrets, end and id."""
    first = vector_invitation()
    nonces = {"joiner_nonce": bytes(range(32)), "admin_nonce": bytes(range(32, 64))}
    found = {words_of(first, DID, **nonces)}
    changes: list[dict[str, Any]] = [
        {"team": DID},
        {"admin": DID},
        {"role": "writer"},
        {"secrets": ("API_KEY",)},
        {"end": first.end + 1},
        {"id": encode_url(bytes(16))},
    ]
    for change in changes:
        found.add(words_of(msgspec.structs.replace(first, **change), DID, **nonces))
    found.add(words_of(first, OTHER_DID, **nonces))
    for name in nonces:
        found.add(words_of(first, DID, **(nonces | {name: bytes(32)})))
    assert len(found) == 1 + len(changes) + 1 + 2


def vector_invitation() -> Invitation:
    """Return the invitation of the vectors in `spec/teams.md`."""
    return Invitation(
        v=1,
        node="https://node.example",
        node_did="did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
        team=OTHER_DID,
        name="shop",
        admin=OTHER_DID,
        role="reader",
        end=1_900_000_000,
        id=encode_url(bytes(range(16))),
        seed=encode_url(bytes(range(32))),
        delegation="",
    )


def test_TM12_TM13_vectors() -> None:
    """TM12, TM13: commitment and words are those in `spec/teams.md`."""
    first = vector_invitation()
    assert (
        commitment(first.id, DID, bytes(range(32))) == "MxOr8Llpk7x8r-Apop4kNxl8ODP5waM2iztMQrIA5cQ"
    )
    words = words_of(first, DID, joiner_nonce=bytes(range(32)), admin_nonce=bytes(range(32, 64)))
    assert " ".join(words) == "scrub snake asset hire"


def test_the_word_list_is_that_of_BIP_39() -> None:
    """The list is `english.txt` of BIP-39, byte for byte."""
    data = (files("sealspace.documents") / "bip39_english.txt").read_bytes()
    expected = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
    assert sha256(data).hexdigest() == expected
    assert len(set(data.split())) == 2048


async def test_who_confirms(meeting: Meeting, bench) -> None:
    """Only the admin whose DID is in the words signs the membership."""
    inviting, _ = await meeting.met()
    _, other = await bench.owner()
    with pytest.raises(InvitationInvalid, match="another admin"):
        await inviting.confirm(meeting.admin.teams, wallet=other)


@fuzzed()
@given(data=damaged_bytes(encode_side(Inviting(invitation=vector_invitation()))))
def test_fuzz_stored_sides(data: bytes) -> None:
    """Any bytes are a state, or an InvitationInvalid."""
    for decode in (decode_inviting, decode_joining):
        with suppress(InvitationInvalid):
            decode(data)


@fuzzed()
@given(line=damaged_text(invitation_line(vector_invitation())))
def test_fuzz_lines(line: str) -> None:
    """Any text is an InvitationInvalid: the line of the vectors has no delegation."""
    with pytest.raises(InvitationInvalid):
        parse_invitation(line, now=0)
