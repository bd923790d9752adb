"""Both sides of an invitation to a team: that of the admin, and that of the person who joins.

Each side advances one step whenever the other side has answered. The state of a side is a value,
which the caller stores before the next step. So an interrupted program can continue.

Example:
    from sealspace.documents.invitations import invitation_line

    created = await client.teams.create()
    team = client.acting(
        await client.teams.sign_in(wallet, await client.teams.membership(created.team))
    )
    invitation = await team.teams.invite("shop", "reader", wallet=wallet)
    line = invitation_line(invitation)  # to the person who joins

    other = client.acting(client.session)
    await other.sign_in(new_wallet())
    joining = await Joining.start(other.teams, line)
    inviting = await Inviting(invitation=invitation).advance(team.teams)
    inviting = await inviting.advance(team.teams)
    joining = await joining.advance(other.teams)
    joining = await joining.advance(other.teams)
    inviting = await inviting.advance(team.teams)
    assert inviting.words == joining.words and inviting.words is not None
    await inviting.confirm(team.teams, wallet=wallet)
    assert (await joining.membership(other.teams)).role == "reader"
"""

from dataclasses import field, replace
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.frozen import frozen
from capabilities.principals import is_wallet, parse_principal, same_principal
from capabilities.resources import parse_space_id
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.strict_json import StrictRecord, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes

from ...documents.invitations import (
    ANSWERS,
    MAX_ANSWER_BYTES,
    NONCE_BYTES,
    Invitation,
    commitment,
    is_committed,
    parse_invitation,
    seed_of,
    words_of,
)
from ...errors import (
    InvitationInvalid,
    NotAMember,
    NotFound,
    PreconditionFailed,
    SessionExpired,
    Unauthorized,
)
from ...kv import Kv
from ...session import SECRETS_SPACE, Grant, key_session, space_of
from ...wallets import AnyWallet, wallet_of
from ...wire.caller import Caller
from .memberships import TeamMember

if TYPE_CHECKING:
    from .teams import Teams

_COMMITMENT, _NONCE, _REVEAL = ANSWERS


class _RevealJson(StrictRecord):
    """The JSON of the second answer of the person who joins."""

    joiner: str
    nonce: str


class _Reveal(NamedTuple):
    """The second answer of the person who joins, which shows what the first one committed to.

    Attributes:
        joiner: DID of a wallet.
        nonce: 32 bytes.
    """

    joiner: str
    nonce: bytes


@frozen
class Inviting:
    """The admin's side of an invitation.

    Attributes:
        invitation: the invitation.
        committed: the commitment of the person who joins; "" before it is there.
        nonce: the admin's nonce; b"" before the commitment is there.
        joiner: DID of the person who joins; "" before it is known.
        words: the words to compare; None before the person has answered.
    """

    invitation: Invitation
    committed: str = ""
    nonce: bytes = field(default=b"", repr=False)
    joiner: str = ""
    words: tuple[str, ...] | None = None

    async def advance(self, teams: "Teams") -> "Inviting":
        """Take the next step, if the person who joins has answered.

        The first step reads the commitment and draws the admin's nonce. The second one sends the
        nonce. The third one reads the answer of the person, and computes the words. The second and
        the third step can be taken by one call.

        Store the result before the next call, because the nonce must not be drawn again.

        Args:
            teams: `Client.teams` of the admin's session for the team.
        Returns:
            The side after the step; this side itself if nothing has changed.
        Raises:
            InvitationInvalid: an answer was replaced, or does not fit the commitment.
            SealspaceError: the same errors as `Kv.get` and `Kv.put`.
        """
        caller = teams.caller
        kv = Kv(caller, space_of(self.invitation.team, SECRETS_SPACE))
        folder = self.invitation.folder
        stored_commitment = await _read_answer(kv, folder + _COMMITMENT)
        if not self.committed:
            # Step 1. The nonce is not sent before the caller has stored it.
            if stored_commitment is None:  # the person has not answered yet
                return self
            committed = stored_commitment.decode("ascii", "replace")
            return replace(self, committed=committed, nonce=_draw_nonce(caller.entropy))
        if stored_commitment != self.committed.encode():
            raise _altered_error()
        # Step 2. An interrupted call is repeated, so the nonce may be there already.
        nonce_text = encode_url(self.nonce).encode()
        if not await _put_once(kv, folder + _NONCE, nonce_text):
            raise _altered_error()
        # Step 3.
        stored_reveal = await _read_answer(kv, folder + _REVEAL)
        if stored_reveal is None:  # the person has not answered the nonce yet
            return self
        return self._with_words(_parse_reveal(stored_reveal))

    def _with_words(self, reveal: "_Reveal") -> "Inviting":
        """Return this side with the words to compare, after the person has shown the nonce.

        Raises:
            InvitationInvalid: the answer does not fit the commitment.
        """
        if not is_committed(self.committed, self.invitation.id, reveal.joiner, reveal.nonce):
            raise _altered_error()
        words = words_of(
            self.invitation,
            reveal.joiner,
            joiner_nonce=reveal.nonce,
            admin_nonce=self.nonce,
        )
        return replace(self, joiner=reveal.joiner, words=words)

    async def confirm(self, teams: "Teams", *, wallet: AnyWallet) -> Grant:
        """Sign the membership, and end the invitation.

        Call it only after both people have compared the words. An interrupted call can be repeated.

        Args:
            teams: `Client.teams` of the admin's session for the team.
            wallet: wallet of the admin who made the invitation.
        Raises:
            InvitationInvalid: there are no words yet, or the wallet is that of another admin.
            SealspaceError: the same errors as `Teams.admit` and `Delegations.revoke`.
        """
        if self.words is None:
            raise InvitationInvalid("nobody has answered the invitation yet")
        if not same_principal(wallet_of(wallet).did, self.invitation.admin):
            raise InvitationInvalid("another admin made this invitation, and has to confirm it")
        terms = self.invitation
        grant = await teams.admit(
            self.joiner,
            terms.role,
            wallet=wallet,
            secrets=terms.secrets,
            ends_at=terms.end,
            name=terms.member_name,
        )
        await self.withdraw(teams)
        return grant

    async def withdraw(self, teams: "Teams") -> None:
        """End the invitation.

        Raises:
            SealspaceError: the same errors as `Delegations.revoke`.
        """
        await teams.delegations.revoke(self.invitation.grant.cid)


@frozen
class Joining:
    """The side of the person who joins.

    Attributes:
        invitation: the invitation.
        joiner: DID of the person.
        nonce: the person's nonce.
        admin_nonce: the admin's nonce; b"" before it is there.
        is_revealed: whether the person's nonce was sent.
    """

    invitation: Invitation
    joiner: str
    nonce: bytes = field(repr=False)
    admin_nonce: bytes = field(default=b"", repr=False)
    is_revealed: bool = False

    @staticmethod
    async def start(teams: "Teams", line: str) -> "Joining":
        """Answer an invitation with a commitment.

        A program that can be interrupted calls `prepare`, stores the result, and calls `commit`.

        Args:
            teams: `Client.teams` of the session of the person who joins.
            line: the line of the invitation, untrusted.
        Raises:
            InvitationInvalid: the same errors as `prepare` and `commit`.
            SealspaceError: the same errors as `Kv.put`.
        """
        joining = await Joining.prepare(teams, line)
        await joining.commit(teams)
        return joining

    @staticmethod
    async def prepare(teams: "Teams", line: str) -> "Joining":
        """Read an invitation, and draw a nonce. Nothing is sent to the team.

        Args:
            teams: `Client.teams` of the session of the person who joins.
            line: the line of the invitation, untrusted.
        Raises:
            InvitationInvalid: the line is not valid or has ended, or is for another node, or the
                session has no wallet.
        """
        caller = teams.caller
        invitation = parse_invitation(line, now=caller.clock.now())
        if invitation.node_did != await caller.node_id():
            raise InvitationInvalid(
                "the invitation is for another node",
                # Quoted, because the line is untrusted and the step is copied into a shell.
                hint="log in at the node of the invitation: sealspace login"
                f" {quote(invitation.node)}; to keep the present login, add --home DIR --key-file"
                " FILE, and --home DIR to each command for the team",
            )
        joiner = parse_principal(caller.session.owner)
        if not is_wallet(joiner):
            raise InvitationInvalid(
                "a member of a team signs with a wallet, and this session has none",
                hint="sign in with a wallet",
            )
        return Joining(invitation=invitation, joiner=joiner, nonce=_draw_nonce(caller.entropy))

    async def commit(self, teams: "Teams") -> None:
        """Store the commitment, unless it is there already.

        Raises:
            InvitationInvalid: somebody else has answered, or the invitation was withdrawn.
        """
        own_commitment = commitment(self.invitation.id, self.joiner, self.nonce).encode()
        kv = _kv_with_invitation(self.invitation, teams.caller)
        path = self.invitation.folder + _COMMITMENT
        try:
            is_own_commitment_stored = await _put_once(kv, path, own_commitment)
        except (Unauthorized, SessionExpired):
            raise _ended_error() from None
        if not is_own_commitment_stored:
            raise InvitationInvalid(
                "somebody has answered this invitation already",
                hint="if it was not you, tell the admin; ask for a new invitation",
            )

    async def advance(self, teams: "Teams") -> "Joining":
        """Take the next step, if there is one.

        The first step reads the admin's nonce, the second one sends the person's nonce. Store the
        result of the first step before the second one. Otherwise somebody who has learned the
        person's nonce could replace the admin's nonce.

        Args:
            teams: `Client.teams` of the session of the person who joins.
        Returns:
            The side after the step; this side itself if the admin has not answered, or if both
            steps are done.
        Raises:
            InvitationInvalid: an answer was replaced, or the invitation was withdrawn or has ended.
            SealspaceError: the same errors as `Kv.get` and `Kv.put`.
        """
        kv = _kv_with_invitation(self.invitation, teams.caller)
        try:
            if not self.admin_nonce:
                return await self._receive_nonce(kv)
            if self.is_revealed:
                return self
            return await self._reveal(kv)
        except (Unauthorized, SessionExpired):
            raise _ended_error() from None

    async def _receive_nonce(self, kv: Kv) -> "Joining":
        stored_nonce = await _read_answer(kv, self.invitation.folder + _NONCE)
        if stored_nonce is None:
            return self
        return replace(self, admin_nonce=_parse_nonce(stored_nonce.decode("ascii", "replace")))

    async def _reveal(self, kv: Kv) -> "Joining":
        reveal = canonical_bytes({"joiner": self.joiner, "nonce": encode_url(self.nonce)})
        if not await _put_once(kv, self.invitation.folder + _REVEAL, reveal):
            raise _altered_error()
        return replace(self, is_revealed=True)

    async def is_open(self, teams: "Teams") -> bool:
        """Return whether the invitation was neither used nor withdrawn, and has not ended.

        Raises:
            SealspaceError: the same errors as `Kv.get`.
        """
        kv = _kv_with_invitation(self.invitation, teams.caller)
        try:
            # The content does not matter: the node refuses the read once the invitation has ended.
            await _read_answer(kv, self.invitation.folder + _REVEAL)
        except (Unauthorized, SessionExpired):
            return False
        return True

    @property
    def words(self) -> tuple[str, ...] | None:
        """The words to compare; None before the admin has answered."""
        if not self.admin_nonce:
            return None
        return words_of(
            self.invitation,
            self.joiner,
            joiner_nonce=self.nonce,
            admin_nonce=self.admin_nonce,
        )

    async def membership(self, teams: "Teams") -> TeamMember:
        """Return the membership that the admin has signed.

        Args:
            teams: `Client.teams` of the session of the person who joins.
        Raises:
            NotAMember: the admin has not confirmed yet, or has signed other terms.
            SealspaceError: the same errors as `Teams.memberships`.
        """
        for membership in await teams.memberships(self.invitation.team):
            if self._has_terms(membership):
                return membership
        raise NotAMember("the admin has not confirmed the words yet")

    def _has_terms(self, membership: TeamMember) -> bool:
        """Return whether a membership has exactly the terms of the invitation."""
        terms = self.invitation
        return (
            membership.team == terms.team
            and membership.admitted_by == terms.admin
            and membership.role == terms.role
            and membership.secrets == terms.secrets
            and membership.ends_at == terms.end
        )


def _kv_with_invitation(invitation: Invitation, caller: Caller) -> Kv:
    """Return a client for the team's values with the rights of an invitation's key."""
    session = key_session(seed_of(invitation), grants=[invitation.grant])
    acting = caller.acting(replace(session, node_id=invitation.node_did))
    return Kv(acting, parse_space_id(space_of(invitation.team, SECRETS_SPACE).text))


async def _read_answer(kv: Kv, path: str) -> bytes | None:
    """Read an answer to an invitation; None if it is not there yet."""
    try:
        return (await kv.get(path, max_bytes=MAX_ANSWER_BYTES)).body
    except NotFound:
        return None


async def _put_once(kv: Kv, path: str, body: bytes) -> bool:
    """Store a value, unless there is one already. Return whether the stored value is this one."""
    try:
        await kv.put(path, body, if_absent=True)
    except PreconditionFailed:
        return await _read_answer(kv, path) == body
    return True


def _draw_nonce(entropy: Entropy) -> bytes:
    return entropy.token(NONCE_BYTES)


def _parse_nonce(text: str) -> bytes:
    nonce = decode_url(text)
    if nonce is None or len(nonce) != NONCE_BYTES:
        raise _altered_error()
    return nonce


def _parse_reveal(data: bytes) -> _Reveal:
    """Parse the second answer of the person who joins, untrusted."""
    try:
        parsed = shaped(parse_json(data, max_bytes=MAX_ANSWER_BYTES), _RevealJson)
        joiner = parse_principal(parsed.joiner)
    except (InvalidJson, CapabilityError):
        raise _altered_error() from None
    is_canonical = joiner == parsed.joiner
    if not is_canonical or not is_wallet(joiner):
        raise _altered_error()
    return _Reveal(joiner=joiner, nonce=_parse_nonce(parsed.nonce))


def _altered_error() -> InvitationInvalid:
    return InvitationInvalid(
        "an answer to the invitation was replaced or altered",
        hint="withdraw the invitation, make a new one, and send it over another channel",
    )


def _ended_error() -> InvitationInvalid:
    return InvitationInvalid("the invitation was used or withdrawn, or has ended")


# --- storing --------------------------------------------------------------------------------------


class _StoredInviting(StrictRecord):
    invitation: Invitation
    committed: str
    nonce: str


class _StoredJoining(StrictRecord):
    invitation: Invitation
    joiner: str
    nonce: str
    admin_nonce: str
    is_revealed: bool


def encode_side(side: Inviting | Joining) -> bytes:
    """Encode a side of an invitation as JSON, for a file.

    The JSON is secret: it contains the invitation's key and the nonce of this side. The words and
    the joiner of the admin's side are not stored; `Inviting.advance` computes them again.
    """
    stored: _StoredInviting | _StoredJoining
    if isinstance(side, Inviting):
        stored = _StoredInviting(
            invitation=side.invitation, committed=side.committed, nonce=encode_url(side.nonce)
        )
    else:
        stored = _StoredJoining(
            invitation=side.invitation,
            joiner=side.joiner,
            nonce=encode_url(side.nonce),
            admin_nonce=encode_url(side.admin_nonce),
            is_revealed=side.is_revealed,
        )
    return canonical_bytes(msgspec.to_builtins(stored))


def decode_inviting(data: bytes) -> Inviting:
    """Return the admin's side from JSON.

    Raises:
        InvitationInvalid: the data is damaged.
    """
    try:
        stored = msgspec.json.decode(data, type=_StoredInviting)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _damaged_error() from None
    nonce = decode_url(stored.nonce) or b""
    # The nonce is drawn when the commitment is there, so both are there, or neither is.
    has_commitment = stored.committed != ""
    has_nonce = len(nonce) == NONCE_BYTES
    if has_commitment != has_nonce:
        raise _damaged_error()
    return Inviting(invitation=stored.invitation, committed=stored.committed, nonce=nonce)


def decode_joining(data: bytes) -> Joining:
    """Return the side of the person who joins from JSON.

    Raises:
        InvitationInvalid: the data is damaged.
    """
    try:
        stored = msgspec.json.decode(data, type=_StoredJoining)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _damaged_error() from None
    nonce = decode_url(stored.nonce) or b""
    admin_nonce = decode_url(stored.admin_nonce) or b""
    if len(nonce) != NONCE_BYTES:
        raise _damaged_error()
    if len(admin_nonce) not in (0, NONCE_BYTES):  # empty before the admin has answered
        raise _damaged_error()
    if stored.is_revealed and not admin_nonce:
        raise _damaged_error()
    return Joining(
        invitation=stored.invitation,
        joiner=stored.joiner,
        nonce=nonce,
        admin_nonce=admin_nonce,
        is_revealed=stored.is_revealed,
    )


def _damaged_error() -> InvitationInvalid:
    return InvitationInvalid("the stored state of the invitation is damaged")
