"""What a node says about delegations: the status of one, and which an account granted and received.

Example:
    status = await client.delegations.status(cid)
    async for one in client.delegations.query(direction="granted", status="active"):
        print(one.cid, one.delegate, one.standing, one.expires_at)
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec

from ._answers import json_object, required_text
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


@dataclass(frozen=True, slots=True)
class HeldRight:
    """What is granted on one resource: abilities, under conditions or not."""

    resource: str
    abilities: tuple[str, ...]
    is_conditioned: bool


@dataclass(frozen=True, slots=True)
class DelegationRecord:
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
    delegator: str
    delegate: str
    rights: tuple[HeldRight, ...]
    parents: tuple[str, ...]
    issued_at: str | None
    not_before: str | None
    expires_at: str | None
    standing: Standing
    revoked_at: str | None
    revoked_by: str | None
    revoked_ancestor: str | None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of an account's delegations; `cursor` gives the next one, None on the last."""

    records: tuple[DelegationRecord, ...]
    cursor: str | None


class _Resource(msgspec.Struct):
    resource: str
    actions: tuple[str, ...]
    caveats: tuple[dict[str, msgspec.Raw], ...]


class _Item(msgspec.Struct, rename="camel"):
    cid: str
    direction: Direction
    delegator_did: str
    delegate_did: str
    resources: tuple[_Resource, ...]
    parents: tuple[str, ...]
    issued_at: str | None
    not_before: str | None
    expires_at: str | None
    status: Standing
    revoked_at: str | None = None
    revoked_by: str | None = None
    revoked_ancestor_cid: str | None = None


class _Page(msgspec.Struct, rename="camel"):
    schema_version: Literal[2]
    items: tuple[_Item, ...]
    next_cursor: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Page)


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
    try:
        page = _DECODER.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedAnswer("the node's answer is no page of delegations") from exc
    return HistoryPage(tuple(_record(item) for item in page.items), page.next_cursor)


def _record(item: _Item) -> DelegationRecord:
    return DelegationRecord(
        cid=item.cid,
        direction=item.direction,
        delegator=item.delegator_did,
        delegate=item.delegate_did,
        rights=tuple(HeldRight(one.resource, one.actions, any(one.caveats)) for one in item.resources),
        parents=item.parents,
        issued_at=item.issued_at,
        not_before=item.not_before,
        expires_at=item.expires_at,
        standing=item.status,
        revoked_at=item.revoked_at,
        revoked_by=item.revoked_by,
        revoked_ancestor=item.revoked_ancestor_cid,
    )
