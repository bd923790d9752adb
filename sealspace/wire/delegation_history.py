"""The status and the history of delegations.

Example:
    status = await client.delegations.status(cid)
    async for record in client.delegations.query(direction="granted", status="active"):
        print(record.cid, record.delegate, record.status, record.expires_at)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from capabilities.abilities import CAPABILITIES_READ, DECRYPT, KV_GET, KV_PUT, satisfies
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import is_wallet, principal_of, same_principal
from capabilities.resources import (
    NetworkId,
    OpaqueResource,
    Resource,
    SpaceId,
    SpaceResource,
    extends,
    network_of,
)

from ..documents.secret_names import PROTECTED_NETWORK, SECRETS_SPACE, is_protected, secret_at
from ..errors import MalformedAnswer
from ..session import capability
from .node_answers import decoded
from .transport import Answer

Word = Literal["active", "revoked", "expired", "unavailable", "not_found"]
"""The status of one delegation.

`revoked` includes a revoked ancestor; `unavailable` means not valid yet.
"""

Direction = Literal["granted", "received"]
Status = Literal["active", "pending", "expired", "revoked", "ancestor_revoked"]
"""The status of a delegation in an account's history, including its ancestors."""

_SecretKind = Literal["protected", "other"]

LIVE: tuple[Status, ...] = ("active", "pending")
"""The statuses of delegations that can be used now or later."""

MAX_PAGE_ITEMS = 100


class DelegationStatus(FrozenStruct):
    """The status of a delegation."""

    cid: str
    word: Word = msgspec.field(name="status")

    @property
    def is_active(self) -> bool:
        """Whether the delegation can be used now.

        The expiry of parent delegations is ignored.
        """
        return self.word == "active"


class HeldRight(FrozenStruct):
    """A delegation's rights on one resource."""

    resource: str
    abilities: tuple[str, ...] = msgspec.field(name="actions")
    caveats: tuple[dict[str, msgspec.Raw], ...]

    @property
    def is_conditioned(self) -> bool:
        """Whether caveats in the delegation restrict the granted abilities."""
        return any(self.caveats)

    @property
    def parsed(self) -> Resource:
        """The resource in parsed form.

        Network ids are in canonical form. Raises InvalidInput if the resource is malformed.
        """
        return capability(self.resource, KV_GET).resource


class DelegationRecord(FrozenStruct, kw_only=True, rename="camel"):
    """A delegation in an account's history.

    Times are UTC strings in the node's format, or None. `token` is None unless the query asked for
    tokens.
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
    status: Status
    revoked_at: str | None = None
    revoked_by: str | None = None
    revoked_ancestor: str | None = msgspec.field(name="revokedAncestorCid", default=None)
    token: str | None = None


def sign_ins(records: Sequence[DelegationRecord], owner: str) -> frozenset[str]:
    """Return the CIDs of an owner's sign-ins.

    A sign-in is a grant by an owner to one of the owner's session keys. A grant by a session key is
    not a sign-in, even if it lets the recipient read capabilities. Neither is a grant to a wallet,
    such as the membership of an admin whom a team's own key admitted.
    """
    grants_to_keys = []
    session_keys = set()
    for record in records:
        if not same_principal(record.delegator, owner):
            continue
        recipient = principal_of(record.delegate)
        if is_wallet(recipient):
            continue
        grants_to_keys.append(record)
        if any(CAPABILITIES_READ in right.abilities for right in record.rights):
            session_keys.add(recipient)
    # A session key may have further grants, which do not let it read capabilities.
    return frozenset(
        record.cid for record in grants_to_keys if principal_of(record.delegate) in session_keys
    )


def writers_of(
    records: Sequence[DelegationRecord], resource: str, owner: str, *, member: str | None = None
) -> tuple[DelegationRecord, ...]:
    """Return the live grants with which others may write at a resource (EN34).

    The label of an envelope is not authenticated (EN22). So the recipient of such a grant can
    change the label of another secret's envelope and store it at the resource. Readers then get
    that secret.

    Args:
        records: the delegations that the owner's account granted.
        resource: URI of one value, such as that of a secret; see `Secrets.resource`.
        owner: DID.
        member: DID of the member of the team `owner` who asks; None: the owner asks.
    Returns:
        The active and the pending grants whose resource covers this one. A grant with conditions
        is included too. The own sessions of the owner are left out, and so are the membership and
        the sessions of the member who asks.
    Raises:
        InvalidInput: a resource is malformed.
    Does not check:
        Grants that a recipient passed on, which end when the recipient's grant is revoked, and
        grants by sessions without the right to list delegations: the node lists neither.
    """
    wanted = capability(resource, KV_PUT).resource
    live = [record for record in records if record.status in LIVE]
    # EN34: only live sign-ins make a session of the owner's. The key of a sign-in that was revoked,
    # such as that of a lost laptop, may be in other hands.
    own_sign_ins = sign_ins(live, owner)
    own_dids = [owner]
    if member is not None:
        own_sign_ins |= sign_ins(live, member)
        own_dids.append(member)
    writers = []
    for record in live:
        is_to_self = any(same_principal(record.delegate, did) for did in own_dids)
        is_own = record.cid in own_sign_ins or is_to_self
        if not is_own and _may_write(record, wanted):
            writers.append(record)
    return tuple(writers)


def _may_write(record: DelegationRecord, resource: Resource) -> bool:
    """Return whether a grant allows writing at a resource.

    A grant of a folder, or of the whole space, allows it too (EN34, X1 to X6).
    """
    for right in record.rights:
        may_write = any(satisfies(ability, KV_PUT) for ability in right.abilities)
        if may_write and extends(resource, right.parsed):
            return True
    return False


def delegations_to_revoke(
    records: Sequence[DelegationRecord], grant: DelegationRecord, owner: str
) -> tuple[str, ...]:
    """Return the CIDs to revoke so that a recipient loses the granted access.

    They usually include that of the grant. If only the grant were revoked, the recipient would keep
    access through other active grants that open the same data: a recipient with a copy of a sealed
    value needs only a right to decrypt. The owner cannot revoke a grant that names neither the
    owner's spaces nor the owner as its signer (W22). Such a grant is replaced by its parents: the
    owner's sign-in that made it, or a grant that its recipient passed on.

    Args:
        records: the delegations that the owner's account granted.
        grant: one of them.
        owner: DID.
    """
    live = {record.cid: record for record in records if record.status in LIVE}
    grants_to_end = [grant, *_grants_of_the_same(grant, live.values(), owner)]
    # A dictionary has no duplicates, and keeps the order in which they were found.
    cids_to_revoke: dict[str, None] = {}
    for record in grants_to_end:  # the loop also visits the parents that it appends
        # The node refuses the whole revocation if the owner may not revoke one of the targets.
        # Otherwise a recipient could prevent its own revocation by such a grant.
        parents = _parents_to_revoke(record, live, owner)
        if not parents:
            cids_to_revoke[record.cid] = None
        for parent in parents:
            if parent not in grants_to_end:
                grants_to_end.append(parent)
    return tuple(cids_to_revoke)


def _grants_of_the_same(
    grant: DelegationRecord, live: Iterable[DelegationRecord], owner: str
) -> list[DelegationRecord]:
    """Return the other live grants with which a recipient opens some of the same secrets."""
    opened_kinds = _kinds_of_opened_secrets(grant, owner)
    related_grants = []
    for record in live:
        if record.cid == grant.cid or not same_principal(record.delegate, grant.delegate):
            continue
        if opened_kinds & _kinds_of_opened_secrets(record, owner):
            related_grants.append(record)
    return related_grants


def _parents_to_revoke(
    record: DelegationRecord, live: Mapping[str, DelegationRecord], owner: str
) -> list[DelegationRecord]:
    """Return the live parents to revoke in place of a grant.

    The list is empty if the owner may revoke the grant itself, or if it has no live parents.
    """
    if _can_revoke(owner, record):
        return []
    return [live[cid] for cid in record.parents if cid in live]


def _can_revoke(owner: str, record: DelegationRecord) -> bool:
    """Return whether an owner may revoke a grant (W22).

    The owner must be the signer of the grant, or own one of its spaces.
    """
    resources = [right.parsed for right in record.rights]
    spaces = [
        resource.space.owner for resource in resources if not isinstance(resource, OpaqueResource)
    ]
    return any(same_principal(did, owner) for did in (record.delegator, *spaces))


def _kinds_of_opened_secrets(record: DelegationRecord, owner: str) -> set[_SecretKind]:
    """Return the kinds of secrets to which a grant gives access (RN144)."""
    kinds = set[_SecretKind]()
    for right in record.rights:
        resource = right.parsed
        if isinstance(resource, OpaqueResource):
            if DECRYPT in right.abilities:
                kinds |= _kinds_of_network(network_of(resource), owner)
        elif KV_GET in right.abilities:
            kinds |= _kinds_at(resource, owner)
    return kinds


def _kinds_of_network(network: NetworkId | None, owner: str) -> set[_SecretKind]:
    """Return the kind of an owner's secrets that are encrypted to a network."""
    if network is None or network.owner != owner:
        return set()
    return {"protected" if network.name == PROTECTED_NETWORK else "other"}


def _kinds_at(resource: SpaceResource, owner: str) -> set[_SecretKind]:
    """Return the kinds of an owner's secrets at a path, or below it."""
    if resource.space != SpaceId(principal_of(owner), SECRETS_SPACE):
        return set()
    secret = secret_at(resource.path or "")
    if secret is None:  # a folder or the whole space may contain secrets of both kinds
        return {"protected", "other"}
    return {"protected" if is_protected(secret.name) else "other"}


class HistoryPage(FrozenStruct, kw_only=True, rename="camel"):
    """A page of an account's delegations.

    `cursor` points to the next page, if there is one.
    """

    schema_version: Literal[2]
    records: tuple[DelegationRecord, ...] = msgspec.field(name="items")
    cursor: str | None = msgspec.field(name="nextCursor", default=None)


PAGE = msgspec.json.Decoder(HistoryPage)
_STATUS = msgspec.json.Decoder(DelegationStatus)


def status_of(answer: Answer, cid: str) -> DelegationStatus:
    """Parse a response that contains the status of a delegation (J10).

    Raises:
        MalformedAnswer: the answer is about another delegation, or contradicts its HTTP status.
    """
    status = decoded(_STATUS, answer, "a status of a delegation")
    if status.cid != cid:
        raise MalformedAnswer("the node sent the status of a different delegation")
    if (status.word == "not_found") is not (answer.status == 404):
        raise MalformedAnswer("the node's response contradicts its HTTP status")
    return status
