"""Authorisation of invocations (wire §4.1 to §4.3).

The checks cover time, signature, single use and delegations.

Everything that a decision depends on is read in one snapshot, together with the token's replay
record, so that the decision reflects a single state (I14). The wire specification fixes the order
of the checks. A client without authority learns nothing beyond what its chain entitles it to.

Example:
    invocation = admit_token(header, now=services.now(), max_lifetime_s=300)
    call = await read_call(services, invocation, [head_key])
    (head,) = call.records
"""

from collections.abc import Sequence
from math import ceil
from typing import Literal, NoReturn

from capabilities.capability_errors import ChainError, WrongKind
from capabilities.chain import (
    MAX_CHAIN_NODES,
    Authority,
    Markers,
    Registered,
    check_lifetime,
    judge_invocation,
    mentioned_spaces,
)
from capabilities.cids import ContentKey
from capabilities.facts import KEYS_FACT, POLICY_FACT, SESSION_FACT, WITHDRAWAL_FACT
from capabilities.frozen_struct import AcyclicStruct
from capabilities.references import CitedDelegation
from capabilities.resources import SpaceId
from capabilities.successions import is_successors_reading, wallets_of
from capabilities.token_kinds import check_addressed
from capabilities.tokens import (
    Capability,
    Invocation,
    UnverifiedInvocation,
    check_window,
    parse_invocation,
    verify_invocation,
)
from encryption_network.requests import ADMIN_TYPE, check_audience
from spaces.audit.audit_records import AuditRecord
from spaces.grants.hosting import is_hosted
from spaces.grants.replay_records import closed_until, replay_record_of
from spaces.grants.revocations import marker_keys, markers_of
from spaces.grants.successions import moved_owners, succession_keys, unchanged_successions
from spaces.keyspace import space_keys
from spaces.store.contract import Add, Check, Commit, Page, Put, Range, Record, ReplayRecord

from ..refusal import Refusal
from ..services import Services

# After this time a token is refused as expired by every process of a store, whatever their clocks'
# difference, so its replay record is no longer needed.
_REPLAY_GRACE_S = 60.0


async def read_markers(services: Services, contents: Sequence[ContentKey]) -> Markers:
    """Read the revocation markers of delegations."""
    return markers_of(contents, (await services.store.read(marker_keys(contents))).records)


def admit_token(
    header: str, *, now: float, max_lifetime_s: int, only_for: str | None = None
) -> Invocation:
    """Parse an invocation, and check its signature and validity period (I1 to I4).

    Args:
        header: untrusted text of the `Authorization` header.
        now: epoch seconds.
        max_lifetime_s: longest accepted time until the token expires.
        only_for: the node's DID, which the token's audience has to equal literally (T8). None
            leaves the audience to `read_call`.

    Returns:
        The invocation; its signature is valid.

    Raises:
        MalformedToken, RequestError, BadSignature, ChainError: in this order.

    Does not check:
        Replay and the chain; `read_call` does.
    """
    unverified = parse_invocation(header)  # the form (I1)
    if only_for is not None:
        check_audience(unverified.audience, only_for)
    invocation = admit_signed(unverified, now=now)
    check_lifetime(invocation, now, max_lifetime_s)  # the token expires soon enough (I4)
    return invocation


def admit_signed(unverified: UnverifiedInvocation, *, now: float) -> Invocation:
    """Check the validity period and signature of a parsed invocation (I2, I3).

    Raises:
        ChainError: now is outside the token's window.
        BadSignature: the signature does not verify.
    """
    check_window(unverified, now)  # first, because it is cheaper than a signature check (I2)
    return verify_invocation(unverified)  # the signature (I3)


# Facts that bind a token to the one route that it was signed for (T12). Other routes reject such a
# token, so that a signature for one purpose cannot be used for another.
_BINDING_FACTS = (ADMIN_TYPE, SESSION_FACT, POLICY_FACT, WITHDRAWAL_FACT, KEYS_FACT)


class Call(AcyclicStruct):
    """An authorised invocation, with the rows that its operation needs.

    The rows are from the same snapshot as the authorisation.

    `cited` has everything that the invocation cites. Restrictions look at all of it. Names, lists
    and receipts follow only what supports the call (`capabilities.support`).
    """

    invocation: Invocation
    authority: Authority
    cited: tuple[Registered, ...]
    unhosted: frozenset[SpaceId]
    replay_record: ReplayRecord
    marks: Markers
    records: tuple[Record | None, ...]
    pages: tuple[Page, ...]
    moves: tuple[bytes, ...] = ()
    """Keys of the rows by which a wallet above has moved (TM18)."""
    moved: tuple[Record | None, ...] = ()
    """These rows."""

    def commit(
        self,
        puts: Sequence[Put] = (),
        *,
        checks: Sequence[Check] = (),
        adds: Sequence[Add] = (),
        relied_on: Sequence[ContentKey] = (),
        use: ReplayRecord | Literal["of the token"] | None = "of the token",
        reserve: str | None = None,
    ) -> Commit:
        """Return a commit of an operation for this call; each has to be made here.

        It fails if a delegation above was revoked meanwhile (ST2), or a wallet above has moved
        (TM18).

        Args:
            puts: the rows to write.
            checks: further conditions of the operation.
            adds: as in `Commit`.
            relied_on: delegations that have to be live too.
            use: the replay record to write; None where the call writes nothing, or may be repeated.
                See `late_use` for calls with a body.
            reserve: as in `Commit`.
        """
        if use == "of the token":
            use = self.replay_record
        return Commit(
            puts=tuple(puts),
            live=marker_keys(tuple(dict.fromkeys((*self.authority.live, *relied_on)))),
            checks=(*checks, *unchanged_successions(self.moves, self.moved)),
            adds=tuple(adds),
            replay_record=use,
            reserve=reserve,
        )

    def late_use(self, services: Services) -> ReplayRecord | None:
        """Return the token's replay record, or None if the token has expired (ST4).

        A token may expire while a body arrives slowly. It is then refused because of its time, and
        the store accepts no more replay records for its expiry minute. Calls without a body have no
        such reason: a stalled one is refused there.
        """
        is_over = services.now() > self.replay_record.expires_at + _REPLAY_GRACE_S
        return None if is_over else self.replay_record

    def require_hosted(self) -> None:
        """Raise `space-not-found` unless the node hosts every requested space (M60, I37)."""
        if self.unhosted:
            raise Refusal("space-not-found")

    def audit(
        self,
        services: Services,
        action: str,
        subject: str,
        detail: bytes = b"",
        *,
        at: float | None = None,
    ) -> Put:
        """Create an audit record for the invocation.

        The caller adds the record to its commit. `at` is the time of the action in epoch seconds,
        by default now.
        """
        return AuditRecord(
            at=services.now() if at is None else at,
            action=action,
            actor=self.invocation.invoker,
            subject=subject,
            token=self.invocation.cid,
            authority=self.authority.live,
            detail=detail,
        ).put(services.entropy)


async def read_call(
    services: Services,
    invocation: Invocation,
    keys: Sequence[bytes] = (),
    ranges: Sequence[Range] = (),
    *,
    records_use: bool = True,
    addressed: bool = True,
) -> Call:
    """Authorise an invocation, and read the rows that its operation needs.

    All rows are from the snapshot of the authorisation, and its read records the token as used.

    Args:
        invocation: verified; see `admit_token`.
        keys: rows that the operation needs, returned as `Call.records` in this order.
        ranges: ranges that the operation needs, returned as `Call.pages` in this order.
        records_use: whether this read creates the token's replay record. False when a commit is
            planned again (ST4), and where the token may be repeated or the caller records another
            key instead.
        addressed: whether the token has to be addressed to this node or its own signer. False if
            the caller checks the audience itself, in another order or with another error.
    Raises:
        WrongKind: the token is for another audience, or is registered as a delegation (T8, T9).
        Refusal: `duplicate-invocation`, the token was used before, in any encoding (I20);
            `replay-unknown`, its replay records were deleted; `restored-recently`, the store was
            restored a moment ago; `owner-moved`, a wallet above the token has moved (TM18).
        ChainError: see `judge_invocation` (I30 to I35).
        SpaceError: the store does not answer.
    Does not check:
        Whether the mentioned spaces are hosted; `Call.require_hosted` does.
    """
    if addressed:
        # Before the read, so that another node's token creates no replay record here (T8).
        check_addressed(invocation, services.keyring.node_did)
    await services.cohort.yield_to_cohort()
    own = invocation.content_key
    replay_record = replay_record_of(own, expires_at=invocation.expires_at)
    check_proof_count(invocation.parents)
    cited = await services.delegations.by_cid([parent.digest for parent in invocation.parents])
    contents = (own, *closure_contents(cited))
    mentioned = mentioned_spaces(invocation.capabilities)
    moves = succession_keys(wallets_of(invocation.invoker, cited))
    spaces_at = len(keys) + len(contents)
    moves_at = spaces_at + len(mentioned)
    snapshot = await services.store.read(
        [*keys, *marker_keys(contents), *[space_keys(space).row for space in mentioned], *moves],
        replay_record=replay_record if records_use else None,
        ranges=ranges,
    )
    if snapshot.is_first_use is False:  # it is None if this read recorded no use
        await _refuse_repeat(services, replay_record, is_unknown=snapshot.is_use_unknown)
    records = snapshot.records
    marks = markers_of(contents, records[len(keys) : spaces_at])
    # A token with a marker is registered as a delegation, live or revoked (T9).
    if own in marks:
        raise WrongKind
    # The chain is judged before any answer that depends on what is stored (I13, I14).
    authority = judge_invocation(invocation, cited, marks, now=services.now())
    _check_moves(records[moves_at:], invocation, cited)
    return Call(
        invocation=invocation,
        authority=authority,
        cited=tuple(filter(None, cited)),  # those that are stored
        unhosted=_unhosted(mentioned, records[spaces_at:moves_at]),
        replay_record=replay_record,
        marks=marks,
        records=records[: len(keys)],
        pages=snapshot.pages,
        moves=moves,
        moved=records[moves_at:],
    )


def _check_moves(
    records: Sequence[Record | None], invocation: Invocation, cited: Sequence[Registered | None]
) -> None:
    """Refuse an invocation that depends on a wallet that has moved (TM18, TM19).

    `records` are those of `succession_keys`.
    """
    if records.count(None) < len(records):  # a wallet above has moved, or is about to
        reading = cited[0] if len(cited) == 1 else None
        check_not_moved(records, reading, invocation.capabilities)


def _unhosted(mentioned: Sequence[SpaceId], records: Sequence[Record | None]) -> frozenset[SpaceId]:
    """Return the mentioned spaces that the node does not host."""
    hosted = zip(mentioned, records, strict=True)
    return frozenset([space for space, row in hosted if not is_hosted(row)])


def check_no_move(records: Sequence[Record | None]) -> None:
    """Refuse a token whose authority depends on a wallet that has moved (TM18).

    Args:
        records: the rows of `succession_keys`, read in the snapshot of the revocation markers.
    Raises:
        Refusal: `owner-moved`; its message names the new wallet.
    """
    for moved in moved_owners(records):
        raise Refusal("owner-moved", moved.owner, moved.successor)


def check_not_moved(
    records: Sequence[Record | None],
    reading: Registered | None,
    capabilities: Sequence[Capability],
) -> None:
    """Refuse a token whose authority depends on a wallet that has moved (TM18, TM19).

    Args:
        records: the rows of `succession_keys`, read in the snapshot of the revocation markers.
        reading: the delegation that may be the successor's: the one to register, or the only one
            that an invocation cites; None: it cites none or several.
        capabilities: of the token.
    Raises:
        Refusal: `owner-moved`.
    """
    for moved in moved_owners(records):
        assert moved.successor is not None
        successor = moved.successor
        if not is_successors_reading(reading, capabilities, successor, moved.statements):
            raise Refusal("owner-moved", moved.owner, moved.successor)


async def _refuse_repeat(
    services: Services, replay_record: ReplayRecord, *, is_unknown: bool
) -> NoReturn:
    """Refuse a token that was used before, against replay of a captured token (I12, I20).

    Raises:
        Refusal: `duplicate-invocation`, or if it is unknown whether the token was used:
            `restored-recently` or `replay-unknown`.
    """
    if not is_unknown:
        raise Refusal("duplicate-invocation")
    await refuse_after_restore(services, replay_record)
    raise Refusal("replay-unknown")


async def refuse_after_restore(services: Services, replay_record: ReplayRecord) -> None:
    """Refuse a token if it expires before the time until which a restored store is closed (BK5).

    Raises:
        Refusal: `restored-recently`, with the seconds after which such a token is accepted.
    """
    until = await closed_until(services.store, services.now())
    if until is not None and replay_record.expires_at < until:
        wait_s = ceil(until - replay_record.expires_at)
        raise Refusal("restored-recently", wait_s, retry_after_s=wait_s)


def check_unbound(invocation: Invocation) -> None:
    """Reject a token that a fact binds to a single route.

    Routes that require such a fact check it themselves.

    Raises:
        WrongKind: a fact is of a type that binds a token to its route.
    """
    for fact in invocation.facts:
        if isinstance(fact, dict) and fact.get("type") in _BINDING_FACTS:
            raise WrongKind


def check_proof_count(parents: Sequence[CitedDelegation]) -> None:
    """Reject a token with too many proofs (I13, D30).

    Callers check this before they read any proof.

    Raises:
        ChainError: `chain-too-large`, more than MAX_CHAIN_NODES.
    """
    if len(parents) > MAX_CHAIN_NODES:
        raise ChainError("chain-too-large")


def closure_contents(delegations: Sequence[Registered | None]) -> tuple[ContentKey, ...]:
    """Return the content keys of delegations and of all their ancestors, without duplicates.

    The result is cut after MAX_CHAIN_NODES + 1 keys, which limits the rows to read. One more than
    the limit is enough for the chain rules to refuse the chain (D30, I13).
    """
    members: dict[ContentKey, None] = {}
    for stored in delegations:
        if stored is None:
            continue
        for member in stored.closure:
            members[member.content_key] = None
    return tuple(members)[: MAX_CHAIN_NODES + 1]
