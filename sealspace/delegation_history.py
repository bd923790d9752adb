"""What a node says about delegations: the status of one, and which an account granted and received.

Example:
    status = await client.delegations.status(cid)
    async for one in client.delegations.query(direction="granted", status="active"):
        print(one.cid, one.delegate, one.standing, one.expires_at)
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec

from ._answers import decoded, json_object, required_text
from .errors import MalformedAnswer
from .transport import Answer

Word = Literal["active", "revoked", "expired", "unavailable", "not_found"]
"""The status of one delegation; `revoked` also by an ancestor's revocation, `unavailable`: not valid yet."""

Direction = Literal["granted", "received"]
Standing = Literal["active", "pending", "expired", "revoked", "ancestor_revoked"]
"""The status of a delegation of an account, with all its ancestors."""

MAX_PAGE_ITEMS: Final = 100


@dataclass(frozen=True, slots=True)
class DelegationStatus:
    """The status of one delegation.

    Attributes:
        cid: which.
        word: the status; `not_found` also if the caller has no say over it.
    """

    cid: str
    word: Word

    @property
    def is_active(self) -> bool:
        """Whether it can be used now, as far as the node says: ancestors' expiry does not count."""
        return self.word == "active"


class HeldRight(msgspec.Struct, frozen=True):
    """What is granted on one resource: abilities, under conditions or not."""

    resource: str
    abilities: tuple[str, ...] = msgspec.field(name="actions")
    caveats: tuple[dict[str, msgspec.Raw], ...]

    @property
    def is_conditioned(self) -> bool:
        """Whether there is a condition."""
        return any(self.caveats)


class DelegationRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A delegation of an account; times are texts in UTC as the node wrote them, None where there is none.

    Attributes:
        cid: which.
        direction: seen from the account.
        delegator: who signed it.
        delegate: the recipient.
        rights: what it grants.
        parents: cids of what it rests on.
        issued_at, not_before, expires_at: its own times; a key's delegation does not say when it was issued.
        standing: its status.
        revoked_at, revoked_by: of the revocation that counts.
        revoked_ancestor: cid of the ancestor that was revoked.
    """

    cid: str
    direction: Direction
    delegator: str = msgspec.field(name="delegatorDid")
    delegate: str = msgspec.field(name="delegateDid")
    rights: tuple[HeldRight, ...] = msgspec.field(name="resources")
    parents: tuple[str, ...]
    issued_at: str | None
    not_before: str | None
    expires_at: str | None
    standing: Standing = msgspec.field(name="status")
    revoked_at: str | None = None
    revoked_by: str | None = None
    revoked_ancestor: str | None = msgspec.field(name="revokedAncestorCid", default=None)


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of an account's delegations; `cursor` gives the next one, None on the last."""

    schema_version: Literal[2]
    records: tuple[DelegationRecord, ...] = msgspec.field(name="items")
    cursor: str | None = msgspec.field(name="nextCursor", default=None)


_DECODER: Final = msgspec.json.Decoder(HistoryPage)


def status_of(answer: Answer, cid: str) -> DelegationStatus:
    """Read the answer to a status request for one delegation (J10).

    Raises:
        MalformedAnswer: it is about another one, or contradicts its status code.
    """
    answered = json_object(answer)
    word = required_text(answered, "status")
    if required_text(answered, "cid") != cid:
        raise MalformedAnswer("the node answered about another delegation")
    for known in get_args(Word):
        if word == known and (known == "not_found") is (answer.status == 404):
            return DelegationStatus(cid, known)
    raise MalformedAnswer("the node's answer is no status of a delegation")


def page_of(answer: Answer) -> HistoryPage:
    """Read a page of an account's delegations.

    Raises:
        MalformedAnswer: it is none.
    """
    return decoded(_DECODER, answer, "a page of delegations")
