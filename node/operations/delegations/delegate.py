"""Registration of delegations (wire §3).

A registration may also create spaces and an encryption network.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice

from capabilities.abilities import NETWORK_CREATE
from capabilities.capability_errors import ChainError, MalformedToken
from capabilities.chain import Marker, Registered, judge_registration
from capabilities.cids import ContentKey, cid_text
from capabilities.frozen_struct import AcyclicStruct, FrozenStruct
from capabilities.limits import counted_client
from capabilities.machine_tokens import issuing_owner, machine_grant
from capabilities.members import check_admitted
from capabilities.memberships import is_membership, stated_membership
from capabilities.principals import is_wallet, same_principal
from capabilities.resources import NetworkId, network_of
from capabilities.support import SupportUnknown, least_accounts
from capabilities.token_kinds import check_granting
from capabilities.tokens import Delegation, check_window, parse_delegation, verify_delegation
from encryption_network.canonical_json import canonical_members
from encryption_network.networks import create_network, encode_network
from encryption_network.policy import policies_of
from spaces.audit.audit_records import AuditRecord
from spaces.documents.network_rows import network_put, network_row_key
from spaces.grants.admissions import admission_key, is_admitted
from spaces.grants.delegations import alias_put, registration_puts
from spaces.grants.exchanged import exchanged_bound, exchanged_counter_of
from spaces.grants.hosting import HostingPlan, hosting_by_grant, plan_hosting
from spaces.grants.retention import (
    MAX_UNHOSTED_HEADER_BYTES,
    DelegationLimits,
    DelegationUsage,
    delegation_usage,
    delegation_usage_keys,
)
from spaces.grants.revocations import marker_keys, markers_of
from spaces.keyspace import ROOT_SECRET_KEY
from spaces.space_errors import TooManyDelegations, TooMuchDecoded
from spaces.store.contract import (
    Add,
    Check,
    Commit,
    Put,
    Record,
    ReplayRecord,
    check_of,
    counter_of,
)

from ...refusal import Refusal
from ...services import Services
from ..attempts import until_committed
from ..authorise import check_proof_count, closure_contents
from .filing import filing_accounts
from .succession import (
    Moves,
    SuccessionFacts,
    check_registration,
    move_keys,
    plan_succession,
    read_countersigned,
)

DEFAULT_NAME = "default"


def _network_to_create(services: Services, delegation: Delegation) -> NetworkId | None:
    """Return the encryption network to create for a delegation, or None.

    TinyCloud's clients sign in with a wallet's delegation that has no parents and grants
    `network.create` on the owner's default network. In modes with automatic hosting, the node
    creates this network at once, so that the owner can store secrets (store §6).
    """
    owner = delegation.delegator
    if delegation.parents or not is_wallet(owner) or not services.hosting.is_automatic:
        return None
    for capability in delegation.capabilities:
        if capability.ability != NETWORK_CREATE:
            continue
        network = network_of(capability.resource)
        if network is None or network.name != DEFAULT_NAME:
            continue
        if same_principal(network.owner, owner):
            return network
    return None


def _network_commit(
    services: Services,
    delegation: Delegation,
    network: NetworkId | None,
    records: Sequence[Record | None],
    now: float,
) -> Commit:
    """Return a commit that creates an encryption network.

    The commit is empty if no network is needed, or if it exists already. `records` are the rows of
    the network, of the owner's admission and of the root secret; they are empty if no network is
    needed.

    In mode `permit`, only an admitted owner gets a network, and the commit fails if the owner's
    admission has changed.
    """
    if network is None:
        return Commit()
    network_row, admission, root_secret = records
    owner, entropy = delegation.delegator, services.entropy
    if network_row is not None:  # it exists already
        return Commit()
    needs_admission = services.hosting.needs_admission(owner)
    if needs_admission and not is_admitted(admission):
        return Commit()
    # A network that is sealed by a former root secret could never be opened.
    if not services.has_present_secret(root_secret):
        raise Refusal("root-secret-replaced")
    record = create_network(
        network, now=now, keyring=services.keyring, entropy=entropy, claimed=False
    )
    audit = AuditRecord(
        at=now, action="network.created", actor=owner, subject=network.text, token=delegation.cid
    )
    checks = services.sealing_checks
    if needs_admission:
        checks += (check_of(admission_key(owner), admission),)
    return Commit(
        puts=(network_put(network, encode_network(record)), audit.put(entropy)), checks=checks
    )


class Registration(AcyclicStruct):
    """The response to a delegation registration.

    Attributes:
        cid: CID of the bytes received (E7).
        activated: the mentioned spaces that are hosted, in order of mention.
        skipped: the mentioned spaces that are not hosted, in order of mention.
    """

    cid: str
    activated: tuple[str, ...]
    skipped: tuple[str, ...]


async def register(
    services: Services,
    header: str,
    *,
    client: str | None,
    replay_record: ReplayRecord | None = None,
) -> Registration:
    """Verify and store the delegation in an `Authorization` header.

    Repeating the registration of a live delegation returns the current lists of spaces (Q6).

    Args:
        header: untrusted text of the `Authorization` header.
        client: the caller's network address for the limits on new owners, on unauthenticated
            clients and on bytes of delegations; None is not counted.
        replay_record: the record of a token that was exchanged for this delegation, and may be
            exchanged only once; it is written with the delegation.

    Raises:
        MalformedToken: it cannot be parsed (D1).
        BadSignature: the signature does not verify (D5).
        WrongKind: it is a token of another kind (T10).
        ChainError: it cannot be registered (D6 to D30), or it repeats a delegation, in any
            encoding, that is no longer in force (Q6).
        PolicyError: a fact has an attestation policy that cannot be parsed.
        Refusal: `machine-token-refused`, it is an invalid machine token (MT2) or trust (OX2);
            `membership-refused`, it is an invalid membership (TM1, TM2), or an invalid statement of
            a succession (TM16, TM17); `owner-moved`, a wallet above has moved (TM18).
        TooManyDelegations: the signer or the address has reached a limit.
        DelegationTooLarge: the signer hosts no space here.
        TooMuchDecoded: what it depends on is larger than one request may decode.
        TooManyExchanged: too many machine tokens of the trust that it cites are live (OX9).
        SpaceError: the store does not answer, or one of its limits is reached.
    """
    unverified = parse_delegation(header)  # the form (D1)
    check_proof_count(unverified.parents)  # before a proof is read (D3)
    delegation = verify_delegation(unverified)  # the signature (D5)
    check_granting(delegation, services.keyring.node_did)  # it is not a request to this node (T10)
    await services.cohort.yield_to_cohort()

    outcome = await until_committed(
        services, lambda _: _attempt(services, delegation, client, replay_record)
    )
    if outcome.registered is not None:
        services.delegations.add(outcome.registered, outcome.registered.delegation.cid)
    # What a client stores for keys that may just have been generated is limited (wire 5.13).
    if outcome.is_counted:
        services.unauthenticated_rates.charge(client, now=services.now())
    return outcome.answer


class _Outcome(AcyclicStruct):
    """The result of an attempt to register a delegation.

    It is valid only if the attempt's commit succeeds.

    Attributes:
        answer: the response to the client.
        registered: the delegation to cache if it is new; None for a repeat.
        is_counted: whether to charge the client: for a signer's first delegation, or a new
            encoding.
    """

    answer: Registration
    registered: Registered | None = None
    is_counted: bool = False


async def _attempt(
    services: Services,
    delegation: Delegation,
    client: str | None,
    replay_record: ReplayRecord | None,
) -> tuple[Commit, _Outcome]:
    """Decide on a registration, and prepare its commit."""
    content = delegation.content_key
    parents = await services.delegations.by_cid([parent.digest for parent in delegation.parents])
    countersigned = await read_countersigned(services, delegation)
    # Most delegations are new, so one read is enough: the revocation marker shows whether the
    # delegation is registered.
    stored = services.delegations.cached(content)
    state = await _read_state(services, delegation, client, stored, parents, countersigned)
    is_registered = content in state.marks
    if is_registered and stored is None:  # this process has not loaded it yet
        (stored,) = await services.delegations.by_content((content,))
        state = await _read_state(services, delegation, client, stored, parents, countersigned)
        is_registered = content in state.marks  # it may have been removed between the reads
    if is_registered and stored is not None:
        return await _register_again(services, delegation, state, stored)
    # A delegation that is cached but has no revocation marker was removed long after its expiry. It
    # is checked like a new one (D6 to D8).
    now, hosting, usage, network = state.now, state.hosting, state.usage, state.network
    usage.check_header(delegation.header)
    # The policies are only parsed, so that a delegation with an attestation policy that cannot be
    # parsed is refused. Ignoring the policy would grant more.
    policies_of(delegation.facts)
    claims = _claims_of(services, delegation, now)
    _check_membership(delegation, parents, now)
    # the chain (D6, D20 to D30)
    registered = judge_registration(delegation, parents, state.marks, now=now)
    check_registration(state.moves, registered)
    facts = SuccessionFacts(
        services=services,
        countersigned=countersigned,
        moves=state.moves,
        marks=state.marks,
        now=now,
    )
    succession = plan_succession(delegation, parents, facts)
    exchanged = _exchanged_adds(services, state)
    _, *members_above = registered.closure
    ancestors = tuple([member.content_key for member in members_above])
    rows = await _registration_rows(services, registered, usage.client_account)
    charged_row = rows[0]  # the row that is charged to the signer comes first
    detail = b""
    # Claims with ancestors are those of a job whose ID token was exchanged (OX5). A trust has
    # claims too, but no ancestors.
    if claims and ancestors:
        detail = canonical_members({"claims": claims})
    audit = AuditRecord(
        at=now,
        action="delegation.registered",
        actor=delegation.delegator,
        subject=state.answer.cid,
        token=delegation.cid,
        authority=ancestors,
        detail=detail,
    )
    commit = Commit(
        puts=(*rows, *hosting.puts, *network.puts, *succession.puts, audit.put(services.entropy)),
        # The ancestors have to be live at the commit too, because one of them may be revoked after
        # the read (D23).
        live=tuple(dict.fromkeys((*marker_keys(ancestors), *succession.live))),
        checks=(*hosting.checks, *network.checks, *_unwritten(state.moves, succession)),
        # The delegation counts for its signer and for the client's address (D12).
        adds=(*hosting.adds, *usage.adds(charged_row.weight_bytes), *exchanged),
        replay_record=replay_record,
    )
    is_first_of_signer = usage.delegations.value == 0
    return commit, _Outcome(state.answer, registered, is_counted=is_first_of_signer)


async def _registration_rows(
    services: Services, registered: Registered, client_account: bytes | None
) -> list[Put]:
    """Return the rows of a new delegation, filed for the accounts that support it (D33)."""
    try:
        accounts = await filing_accounts(services, registered)
    except (SupportUnknown, TooMuchDecoded):
        # The search takes too long. Filed for the signer alone, it could be hidden from the owner
        # whose right it passes on; for all accounts above, it would reach owners who cannot revoke
        # it.
        accounts = least_accounts(registered)
    return registration_puts(registered, listing_accounts=accounts, client_account=client_account)


def _exchanged_adds(services: Services, state: "_State") -> tuple[Add, ...]:
    """Return the condition on the number of live machine tokens under a trust (OX9).

    The result is empty for a delegation that is not counted there.
    """
    limit = services.config.limits.exchanged_per_trust
    adds: tuple[Add, ...] = ()
    for counter, value in state.exchanged:  # one at most
        adds = exchanged_bound(counter, value, limit=limit)
    return adds


def _unwritten(moves: Moves, succession: Commit) -> tuple[Check, ...]:
    """Return the conditions that no wallet above has moved.

    A row that the commit itself replaces has its condition there.
    """
    written = {put.key for put in succession.puts}
    return tuple([check for check in moves.unmoved if check.key not in written])


def _claims_of(services: Services, delegation: Delegation, now: float) -> Mapping[str, object]:
    """Check a machine token or a trust, and return its claims.

    The result is empty for any other delegation, and for a machine token that an owner signed.

    Raises:
        Refusal: `machine-token-refused`, the machine token or trust is invalid, or grants something
            that a machine token may not grant (MT2), or the trust is in another node (OX2).
    """
    try:
        grant = machine_grant(delegation, registered_at=now)
        if grant is None or not grant.claims:
            return {}
        # With a trust the owner has this node check ID tokens, and no other node (OX2).
        exchange_key = services.keyring.exchange_signer.did
        if exchange_key not in (delegation.delegate, delegation.delegator):
            raise MalformedToken("the trust is in the exchange key of another node")
    except MalformedToken as exc:
        raise Refusal("machine-token-refused", exc.text) from exc
    return grant.claims


def _check_membership(
    delegation: Delegation, parents: Sequence[Registered | None], now: float
) -> None:
    """Check a membership of a team (TM1, TM2). Other delegations pass.

    Raises:
        Refusal: `membership-refused`, it is invalid, or its signer may not admit members.
    """
    if not is_membership(delegation):
        return
    stored_parents = [parent for parent in parents if parent is not None]
    try:
        membership = stated_membership(delegation, registered_at=now)
        check_admitted(delegation, membership, stored_parents)
    except MalformedToken as exc:
        raise Refusal("membership-refused", exc.text) from exc


class _State(FrozenStruct):
    """The rows and the planned writes of a delegation registration.

    Attributes:
        now: the time of the read.
        marks: the revocation markers of the delegation and its ancestors, and of those of the
            statement that it countersigns.
        moves: the rows of the wallets above it.
        hosting: the plan to host the spaces that the delegation mentions.
        network: the commit that creates the owner's network; empty if none is created.
        usage: the counters for the limits on delegations.
        exchanged: for a machine token that the node made under a trust, the counter of the trust,
            and its value.
        answer: the response to the client.
    """

    now: float
    marks: Mapping[ContentKey, Marker]
    moves: Moves
    hosting: HostingPlan
    network: Commit
    usage: DelegationUsage
    exchanged: tuple[tuple[bytes, int], ...]
    answer: Registration


async def _read_state(
    services: Services,
    delegation: Delegation,
    client: str | None,
    stored: Registered | None,
    parents: Sequence[Registered | None],
    countersigned: Registered | None,
) -> _State:
    """Read the rows needed to register a delegation, and plan the writes.

    Args:
        services: of this process.
        delegation: to register.
        client: see `register`.
        stored: the delegation itself, if it was registered before.
        parents: the delegations that it cites; None: not stored.
        countersigned: see `read_countersigned`.
    """
    now = services.now()
    is_new = stored is None
    # A stored delegation is judged with its own closure, a new one with those of its parents.
    judged = parents if is_new else (stored,)
    own = delegation.content_key
    above = [content for content in closure_contents((*judged, countersigned)) if content != own]
    contents = (own, *above)
    markers = marker_keys(contents)
    counters = delegation_usage_keys(issuing_owner(delegation), counted_client(client))
    hosting_request = hosting_by_grant(
        delegation, services.hosting, client=client, now=now, is_new=is_new
    )
    hosting_keys = hosting_request.keys()
    network = _network_to_create(services, delegation)
    network_keys: tuple[bytes, ...] = ()
    if network is not None:
        network_keys = (
            network_row_key(network),
            admission_key(delegation.delegator),
            ROOT_SECRET_KEY,
        )
    trusts = [parent.delegation.content_key for parent in parents if parent is not None]
    exchanged = exchanged_counter_of(delegation, trusts)
    moves, above_count = move_keys(delegation, judged)
    snapshot = await services.store.read(
        [*markers, *counters, *hosting_keys, *network_keys, *exchanged, *moves]
    )
    records = iter(snapshot.records)
    # Each group of rows is taken in the order in which its keys were read.
    marker_rows = tuple(islice(records, len(markers)))
    counter_rows = tuple(islice(records, len(counters)))
    hosting_rows = tuple(islice(records, len(hosting_keys)))
    network_rows = tuple(islice(records, len(network_keys)))
    exchanged_rows = tuple(islice(records, len(exchanged)))
    move_rows = tuple(records)
    hosting = plan_hosting(hosting_request, hosting_rows, now=now)
    # Signers who host a space here have other limits than those who do not.
    hosts_now = any(space.owner == delegation.delegator for space in hosting.new)
    return _State(
        now=now,
        marks=markers_of(contents, marker_rows),
        moves=Moves(keys=moves, records=move_rows, above=above_count),
        hosting=hosting,
        network=_network_commit(services, delegation, network, network_rows, now),
        usage=_usage(services, counters, counter_rows, hosts_now=hosts_now),
        exchanged=tuple(zip(exchanged, map(counter_of, exchanged_rows), strict=True)),
        answer=Registration(
            cid=cid_text(delegation.cid),
            activated=tuple([space.text for space in hosting.activated]),
            skipped=tuple([space.text for space in hosting.skipped]),
        ),
    )


def _usage(
    services: Services,
    counters: Sequence[bytes],
    records: Sequence[Record | None],
    *,
    hosts_now: bool,
) -> DelegationUsage:
    """Return the counters of a signer and a client address, with their limits."""
    limits = services.config.limits
    count = limits.delegations_per_signer
    return delegation_usage(
        counters,
        records,
        hosts_now=hosts_now,
        hosting=DelegationLimits(
            delegations=count,
            signer_bytes=limits.delegation_bytes_per_signer,
            client_bytes=limits.delegation_bytes_per_address,
        ),
        others=DelegationLimits(
            delegations=count,
            signer_bytes=limits.unhosted_bytes_per_signer,
            client_bytes=limits.unhosted_bytes_per_address,
            header_bytes=MAX_UNHOSTED_HEADER_BYTES,
        ),
    )


async def _register_again(
    services: Services, delegation: Delegation, state: _State, stored: Registered
) -> tuple[Commit, _Outcome]:
    """Prepare the repeated registration of a delegation.

    A client may send a delegation again to learn which of its spaces are hosted (Q6). The token may
    be encoded in another way than the stored one, and then has another CID. This CID is stored too,
    so that other tokens may cite it (D4, Q25).

    Args:
        services: of this process.
        delegation: as the client sent it.
        state: read for it.
        stored: the delegation as it is stored.
    Raises:
        ChainError: the delegation or one above it is revoked, or it has expired.
        Refusal: `owner-moved`, a wallet above has moved.
        TooManyDelegations: the new CID would exceed a limit.
    """
    is_new_encoding = not any(await services.delegations.by_cid([delegation.cid]))
    revoked = _revocation_error(delegation, stored, state.marks)
    if revoked is not None:
        # The new CID is stored all the same, so that a token that cites it is refused as revoked
        # and not as unknown. It is left out if a limit is reached.
        if is_new_encoding:
            with suppress(TooManyDelegations):
                await services.store.commit(_new_alias(delegation, state))
        raise revoked
    check_window(delegation, state.now)
    check_registration(state.moves, stored)
    alias = _new_alias(delegation, state) if is_new_encoding else Commit()
    network = state.network
    # There is a commit even if there is nothing to write. It waits until the rows that were read,
    # including those of the spaces, are durable in a failover (ST16).
    commit = Commit(
        puts=(*alias.puts, *network.puts),
        # A commit for a delegation that is revoked meanwhile, or whose owner moves, is refused.
        live=marker_keys((delegation.content_key,)),
        checks=(*network.checks, *state.moves.unmoved),
        adds=alias.adds,
    )
    return commit, _Outcome(state.answer, is_counted=is_new_encoding)


def _revocation_error(
    delegation: Delegation, stored: Registered, marks: Mapping[ContentKey, Marker]
) -> ChainError | None:
    """Return the error for a delegation that is revoked, or has a revoked one above it.

    The result is None if all of them are live.
    """
    own_cid = cid_text(delegation.cid)
    for member in stored.closure:
        if marks.get(member.content_key) is Marker.LIVE:
            continue
        if member.content_key == delegation.content_key:
            return ChainError("delegation-revoked", own_cid)
        return ChainError("ancestor-revoked", cid_text(member.cid), f"parent={own_cid}")
    return None


def _new_alias(delegation: Delegation, state: _State) -> Commit:
    """Return a commit that stores the CID of a delegation's new encoding (D12).

    A signer can encode one delegation in any number of ways, each with its own CID, so encodings
    count towards the byte limits.

    Raises:
        TooManyDelegations: the signer's or the address's limit is reached.
    """
    alias, adds = state.usage.charge(alias_put(delegation.cid, delegation.content_key))
    return Commit(puts=(alias,), adds=adds)
