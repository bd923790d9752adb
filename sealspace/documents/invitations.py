"""Invitations to a team: the line, the commitment and the words that two people compare (TM10).

An invitation opens nothing. The person who joins uses it to send their DID to an admin, and both
compare four words. Each of them draws a nonce. The person who joins commits to a nonce before the
admin's nonce is known. So nobody between them, such as the node, can search for nonces that give
the same words for another DID.

Example:
    created = await client.teams.create()
    mine = await client.teams.membership(created.team)
    team = client.acting(await client.teams.sign_in(wallet, mine))
    invitation = await team.teams.invite("shop", "reader", wallet=wallet)
    line = invitation_line(invitation)
    assert parse_invitation(line, now=now) == invitation
    words = words_of(invitation, wallet.did, joiner_nonce=bytes(32), admin_nonce=bytes(32))
    assert len(words) == 4
"""

import hmac
from hashlib import sha256
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from capabilities.abilities import KV_GET, KV_PUT
from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.machine_tokens import MachineName
from capabilities.memberships import MAX_MEMBER_PATHS, Role
from capabilities.principals import Principal, is_wallet, parse_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.strict_json import JsonObject, StrictRecord, parse_json, shaped
from capabilities.tokens import Capability
from encryption_network.canonical_json import canonical_bytes

from ..errors import InvalidInput, InvalidPortableDelegation, InvitationInvalid
from ..session import Grant, attenuations, read_grant, space_capability, space_of
from .comparison_words import comparison_words
from .secret_names import SECRETS_SPACE

PREFIX = "sinv_"
"""How the line of an invitation begins."""
INVITATIONS_PATH = "invitations/"
"""The path in a team's space `secrets` below which invitations are answered (TM11)."""
ANSWERS = ("commitment", "nonce", "reveal")
"""The values in the folder of an invitation, in the order in which they are stored (TM12)."""
MAX_ANSWER_BYTES = 1024
"""The largest answer, with its headers; a node refuses a larger one (TM24)."""
MAX_LINE_CHARS = 64 * 1024
"""Longest line; one that names 64 secrets has some 20,000 characters."""
NONCE_BYTES = 32
WORD_COUNT = 4

_COMMITMENT_LABEL = b"sealspace/invitation/commitment/v1\0"
_WORDS_LABEL = b"sealspace/invitation/words/v1\0"
_ID_BYTES = 16
_Text = Annotated[str, Meta(max_length=4096)]
_Bytes32 = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]


class Invitation(StrictRecord, omit_defaults=True):
    """The content of a line (TM10).

    Attributes:
        v: version of the format.
        node: address of the node.
        node_did: DID of the node.
        team: DID of the team.
        name: how the admin calls the team, a suggestion.
        admin: DID of the admin's wallet, which signs the membership.
        role: role of the membership.
        secrets: labels of its secrets, in ascending order; empty for all.
        end: end of the membership, epoch seconds.
        id: 16 random bytes as base64url.
        seed: secret key of the invitation, 32 bytes as base64url. It opens nothing.
        delegation: the right of this key to answer, signed by the admin's session.
        member_name: how the team will call the member.
    """

    v: Literal[1]
    node: _Text
    node_did: _Text
    team: _Text
    name: _Text
    admin: _Text
    role: Role
    end: int
    id: _Id
    seed: _Bytes32
    delegation: Annotated[str, Meta(max_length=MAX_LINE_CHARS)]
    secrets: Annotated[tuple[_Text, ...], Meta(max_length=MAX_MEMBER_PATHS)] = ()
    member_name: MachineName | None = None

    def __repr__(self) -> str:
        return f"Invitation({self.id} to {self.team} as {self.role})"

    @property
    def folder(self) -> str:
        """The path of the answers in the team's space `secrets`."""
        return f"{INVITATIONS_PATH}{self.id}/"

    @property
    def grant(self) -> Grant:
        """The delegation to the key of the invitation."""
        return read_grant(self.delegation)

    @property
    def ends_at(self) -> float:
        """When the invitation ends, epoch seconds."""
        return self.grant.expires_at or 0.0


def invitation_line(invitation: Invitation) -> str:
    """Return the line that the person who joins gets."""
    return PREFIX + encode_url(canonical_bytes(msgspec.to_builtins(invitation)))


def parse_invitation(line: str, *, now: float) -> Invitation:
    """Read the line of an invitation, and check that it opens nothing (TM10).

    Args:
        line: untrusted.
        now: epoch seconds.
    Returns:
        The invitation. Its delegation is for its own key, and lets this key read and write answers
        to the invitation, and nothing else.
    Raises:
        InvitationInvalid: the line is altered or incomplete, or the invitation has ended. The
            message contains no part of the line.
    Does not check:
        That an admin signed the delegation. The node does.
    """
    text = line.strip()
    data = None
    if text.startswith(PREFIX) and len(text) <= MAX_LINE_CHARS:
        data = decode_url(text.removeprefix(PREFIX))
    if data is None:
        raise InvitationInvalid("this is not the line of an invitation, or not all of it")
    try:
        invitation = shaped(parse_json(data, max_bytes=MAX_LINE_CHARS), Invitation)
        grant = invitation.grant
        team = parse_principal(invitation.team)
        admin = parse_principal(invitation.admin)
        expected_rights = invitation_rights(team, invitation.folder)
        former_rights = _former_rights(team, invitation.folder)
    except (InvalidJson, CapabilityError, InvalidInput, InvalidPortableDelegation):
        raise InvitationInvalid("the line of the invitation is altered or incomplete") from None
    key_did = Ed25519Signer(seed_of(invitation)).did
    are_wallets = is_wallet(team) and is_wallet(admin)
    is_for_key = grant.delegate == key_did
    # With more rights than these, the invitation could open secrets.
    rights = attenuations(grant.capabilities)
    has_expected_rights = rights in (attenuations(expected_rights), attenuations(former_rights))
    if not (are_wallets and is_for_key and has_expected_rights):
        raise InvitationInvalid("the line of the invitation is altered: its parts do not match")
    is_grant_usable = grant.is_live(now) and grant.expires_at is not None
    if not is_grant_usable or invitation.end <= now:
        raise InvitationInvalid("the invitation has ended")
    return invitation


def invitation_rights(team: Principal, folder: str) -> tuple[Capability, ...]:
    """Return the rights of an invitation's key: to read the folder and write each answer (TM10).

    A right to write the folder would let everybody who has the line store other values there.
    """
    space = space_of(team, SECRETS_SPACE)
    rights = [space_capability(space, "kv", folder, KV_GET)]
    for answer in ANSWERS:
        rights.append(space_capability(space, "kv", folder + answer, KV_PUT))
    return tuple(rights)


def _former_rights(team: Principal, folder: str) -> tuple[Capability, ...]:
    """Return the rights in lines of earlier versions: to read and write the whole folder."""
    space = space_of(team, SECRETS_SPACE)
    return (
        space_capability(space, "kv", folder, KV_GET),
        space_capability(space, "kv", folder, KV_PUT),
    )


def new_id(entropy: Entropy) -> str:
    """Draw the id of an invitation.

    An id does not begin with a dash, because a command would take it for an option (TM10).
    """
    while True:
        invitation_id = encode_url(entropy.token(_ID_BYTES))
        if not invitation_id.startswith("-"):
            return invitation_id


def seed_of(invitation: Invitation) -> bytes:
    """Return the secret key of an invitation, 32 bytes."""
    seed = decode_url(invitation.seed)
    if seed is None or len(seed) != 32:
        raise InvitationInvalid("the line of the invitation is altered or incomplete")
    return seed


def commitment(invitation_id: str, joiner: str, nonce: bytes) -> str:
    """Return the commitment of the person who joins (TM12).

    It is SHA-256 over a label and the canonical JSON of id, DID and nonce, as base64url.
    """
    committed: JsonObject = {"id": invitation_id, "joiner": joiner, "nonce": encode_url(nonce)}
    return encode_url(sha256(_COMMITMENT_LABEL + canonical_bytes(committed)).digest())


def is_committed(committed: str, invitation_id: str, joiner: str, nonce: bytes) -> bool:
    """Return whether a commitment is the one to this DID and this nonce (TM12)."""
    return hmac.compare_digest(committed, commitment(invitation_id, joiner, nonce))


def words_of(
    invitation: Invitation, joiner: str, *, joiner_nonce: bytes, admin_nonce: bytes
) -> tuple[str, ...]:
    """Return the four words that two people compare (TM13).

    They are 44 bits of a hash over the team, both people, both nonces and the terms, as words of
    the English list of BIP-39.
    """
    terms: JsonObject = {
        "admin": invitation.admin,
        "adminNonce": encode_url(admin_nonce),
        "end": invitation.end,
        "id": invitation.id,
        "joiner": joiner,
        "joinerNonce": encode_url(joiner_nonce),
        "role": invitation.role,
        "secrets": list(invitation.secrets),
        "team": invitation.team,
    }
    digest = sha256(_WORDS_LABEL + canonical_bytes(terms)).digest()
    return comparison_words(digest, WORD_COUNT)
