"""On which ground a key may be released: steps 1 to 5 and 9 of the gate.

It is judged in one way for a request, and for a grant that somebody could use in one. The result
says what is relied on. Evidence is judged by the gate itself, which has the request.

The policies of the node, of the owner and of every cited delegation are in force. What restricts a
release looks at everything that is cited, and not at what supports the right alone.

Example:
    standing = ground_of(circumstances)  # or ReleaseRefused
    rows = check_key_owner(circumstances, standing)
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from msgspec import field

from capabilities.abilities import DECRYPT, satisfies
from capabilities.capability_errors import MalformedToken
from capabilities.chain import Registered, is_in_force
from capabilities.cids import ContentKey
from capabilities.frozen_struct import AcyclicStruct, FrozenStruct
from capabilities.members import Member, admin_statement
from capabilities.principals import Principal
from capabilities.resources import network_of
from capabilities.sign_ins import (
    AuthorityFacts,
    OwnerAuthority,
    cited_links,
    owner_statement_sessions,
)
from capabilities.strict_json import Json
from capabilities.tokens import Delegation

from .holders import Holder, cited_memberships, holder_of
from .judgement import Refusal
from .network_errors import PolicyError, ReleaseRefused
from .networks import NetworkRecord
from .policy import Policy, policies_of, policy_digest
from .release_record import Ground, Mode, ReleaseRecord

# --- policies in delegations ----------------------------------------------------------------------

MAX_HEADER_BYTES = 8 * 1024 * 1024
"""Most bytes of tokens whose policies are cached; a policy is a part of its token."""


class _CacheEntry(FrozenStruct):
    """The cached policies of one delegation."""

    facts: tuple[Json, ...]
    size_bytes: int
    policies: tuple[Policy, ...]


class PolicyCache:
    """A cache of the release policies in delegations.

    A full cache evicts its oldest entries.

    Decoded delegations are immutable and reused between releases, so the cache is keyed by the
    identity of their facts. Each entry keeps a reference to the facts, so that no other object gets
    their identity.
    """

    def __init__(self, *, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        self._max_header_bytes = max_header_bytes
        self._header_bytes = 0
        self._entries: OrderedDict[int, _CacheEntry] = OrderedDict()

    def of(self, delegation: Delegation) -> tuple[Policy, ...]:
        """Return the release policies in a delegation's facts.

        `policies_of` describes the errors.
        """
        facts = delegation.facts
        if not facts:
            return ()
        entry = self._entries.get(id(facts))
        if entry is not None:
            return entry.policies
        entry = _CacheEntry(
            facts=facts,  # while they are alive, no other object has their id
            size_bytes=len(delegation.header),
            policies=policies_of(facts),
        )
        self._entries[id(facts)] = entry
        self._header_bytes += entry.size_bytes
        while self._header_bytes > self._max_header_bytes:
            _, dropped = self._entries.popitem(last=False)
            self._header_bytes -= dropped.size_bytes
        return entry.policies

    def __len__(self) -> int:
        return len(self._entries)


# --- what is judged -------------------------------------------------------------------------------
# The caller reads everything at one moment. Rows have stamps, so that the commit of the release can
# require them unchanged: a withdrawal in the meantime makes it fail.


class RowStamp(AcyclicStruct):
    """The key and the version stamp of a stored row.

    A release is not committed if a row that the decision used has changed.
    """

    key: bytes
    stamp: bytes


class KeyOwner(AcyclicStruct, kw_only=True):
    """The path that first stored the requested content key (RL21).

    Attributes:
        row: the row that says so.
        paths: those of the listed paths that are this path; empty if it is not listed.
        is_at_two_paths: whether another path has stored the same key.
        is_secret: whether all paths that stored the key are those of secrets (TM4).
    """

    row: RowStamp
    paths: frozenset[str]
    is_at_two_paths: bool
    is_secret: bool


class PathList(AcyclicStruct, kw_only=True):
    """A list of storage paths that limits a release.

    Attributes:
        paths: resources of values; the released key has to be stored at one of them.
        origin: who listed them, for the audit record.
    """

    paths: tuple[str, ...]
    origin: str


class Circumstances(AcyclicStruct, kw_only=True):
    """What decides on which ground a key may be released.

    Attributes:
        owner: what the request shows about the owner of the network.
        exchange_key: DID of the key with which this node signs machine tokens.
        network: the network of the key.
        release_record: the terms of the node.
        cited_count: how many delegations the request cites.
        is_right_passed_on: whether delegations give the right to decrypt to somebody who is not the
            owner of the network.
        has_evidence: whether there is evidence for the invoker, which the gate judges.
        key_paths: the rows at the listed paths where the wrapped key is stored.
        key_owner: the path that stored the content key first. None if no path has stored it, or the
            wrapped key cannot be opened. It is not needed for the owner in person.
    """

    owner: OwnerAuthority
    exchange_key: str
    network: NetworkRecord
    release_record: ReleaseRecord
    cited_count: int
    is_right_passed_on: bool
    has_evidence: bool
    key_paths: Mapping[str, RowStamp] = field(default_factory=dict)
    key_owner: KeyOwner | None = None


class Standing(AcyclicStruct, kw_only=True):
    """The ground of a release, and what it depends on.

    Attributes:
        ground: recorded in the receipt. With `attested`, evidence has to satisfy all policies.
        holder: of a machine token or a membership, or None.
        links: everything that is cited, with all ancestors.
        policies: all that are in force.
        path_lists: the lists of paths that limit the release.
        rows: the rows at paths of these lists where the wrapped key is stored.
        relied: the delegations, beside those of the authority, that must still be live when the
            release is committed.
    """

    ground: Ground
    holder: Holder | None
    links: Collection[Registered]
    policies: tuple[Policy, ...]
    path_lists: tuple[PathList, ...]
    rows: tuple[RowStamp, ...]
    relied: tuple[ContentKey, ...]


Reason = Literal[
    Refusal,
    "chain",
    "policy",
    "path",
    "mode",
    "no_policy",
    "not_attested",
    "trust_root",
    "withdrawn",
]
REASONS = frozenset(get_args(Reason))
"""Codes of refusals that a caller sees. They are part of a response body, so they keep their
underscores (RL14)."""

MAX_PATHS = 256
"""Most paths that the lists of one release may have together; each is a row to read."""

_policy_cache = PolicyCache()


def refused(reason: Reason, detail: str) -> ReleaseRefused:
    """Return the error with a reason, and a detail for the audit record."""
    return ReleaseRefused(reason, detail)


def ground_of(circumstances: Circumstances) -> Standing:
    """Return the ground on which a key may be released (RL5 to RL9).

    A machine token, a member or the owner in person needs no evidence, unless the mode or a policy
    requires it from them too.

    Raises:
        ReleaseRefused: with the first of the steps 1 to 5 that fails.
    """
    owner, record = circumstances.owner, circumstances.release_record
    # The numbers are those of the steps of the gate.
    links = _check_chain(circumstances)  # 1
    holder = holder_of(owner, circumstances.exchange_key)
    policies = policies_in_force(circumstances.network.policy, record, links)  # 2
    path_lists = path_lists_in_force(policies, holder, owner.facts)
    rows = _check_paths(circumstances, path_lists)  # 3
    ground = _ground(circumstances, policies, holder)  # 4
    relied: tuple[ContentKey, ...] = ()
    if ground == "attested":
        relied = _check_owner_list(circumstances)  # 5
    elif ground in ("owner", "owner_session"):
        assert owner.in_person is not None  # that is the ground
        relied = owner.in_person
    return Standing(
        ground=ground,
        holder=holder,
        links=links,
        policies=policies,
        path_lists=path_lists,
        rows=rows,
        relied=relied,
    )


def needs_evidence(
    owner: OwnerAuthority,
    release_record: ReleaseRecord,
    in_force: Sequence[Policy],
    holder: Holder | None,
) -> bool:
    """Return whether a key release requires attestation evidence.

    If it does, the caller of `admit` has to read the evidence first.
    """
    if holder is not None or (release_record.mode == "off" and not in_force):
        return False
    return owner.in_person is None or _in_person_refusal(release_record.mode, in_force) is not None


def path_lists_in_force(
    policies: Iterable[Policy], holder: Holder | None, facts: AuthorityFacts
) -> tuple[PathList, ...]:
    """Return the lists of storage paths that limit a release.

    They are those of the policies, of the machine token, and of the memberships. An envelope with
    the released key has to be stored at a path of each list. So the caller has to read the
    envelopes at all these paths before it calls `admit`.

    Raises ReleaseRefused if they have too many paths together, or a membership is not valid.
    """
    path_lists = [
        PathList(paths=policy.paths, origin=f"policy {policy_digest(policy)}")
        for policy in policies
        if policy.paths
    ]
    if holder is None:
        # In mode "off", a session opens keys without being one of a member (TM3). In every mode, it
        # may pass its rights on. The membership gives no more than its paths for that (TM4).
        for stated in cited_memberships(facts):
            if stated.paths:
                path_lists.append(PathList(paths=stated.paths, origin=f"member {stated.member}"))
    elif holder.paths:  # a membership may list none
        kind = "member" if isinstance(holder, Member) else "machine token"
        path_lists.append(PathList(paths=holder.paths, origin=f"{kind} {holder.name}"))
    if len({path for path_list in path_lists for path in path_list.paths}) > MAX_PATHS:
        raise refused("path", "too many paths")
    return tuple(path_lists)


def policies_in_force(
    network_policy: Policy | None, release_record: ReleaseRecord, links: Iterable[Registered]
) -> tuple[Policy, ...]:
    """Return all policies that apply to a key release.

    They are the policies of the node, of the owner and of the delegations. The node's own policy
    does not apply in mode "off"; all others do.
    """
    stated = []
    if release_record.node_policy is not None and release_record.mode != "off":
        stated.append(release_record.node_policy)
    if network_policy is not None:
        stated.append(network_policy)
    try:
        for link in links:
            stated.extend(_policy_cache.of(link.delegation))
    except PolicyError as exc:
        raise refused("policy", exc.text) from exc
    return tuple(stated)


# --- step 1 ---------------------------------------------------------------------------------------


def _check_chain(circumstances: Circumstances) -> Collection[Registered]:
    """Check and return the cited delegations and all their ancestors.

    Raises ReleaseRefused if a delegation is missing. Unless the invoker is the owner, at least one
    delegation must be cited, and all must be unrevoked and inside their validity windows.
    """
    facts = circumstances.owner.facts
    cited, links = facts.cited, facts.links
    members: dict[ContentKey, Registered] = {}
    if len(set(cited)) != circumstances.cited_count:
        raise refused("chain", "a cited delegation is missing")
    for key in cited:
        if key not in links:
            raise refused("chain", "a closure is incomplete")
        for member in links[key].closure:
            registered = links.get(member.content_key)
            if registered is None:
                raise refused("chain", "a closure is incomplete")
            members[member.content_key] = registered
    if facts.invoker == facts.owner:
        return members.values()  # a root's authority does not come from its proofs (R2)
    if not circumstances.is_right_passed_on or not cited:
        raise refused("chain", "the caller is not the owner, and the request cites no delegation")
    for key in cited:
        if not is_in_force(links[key], facts.marks, now=facts.now):
            raise refused("chain", "a cited delegation is revoked, expired or not valid yet")
    return members.values()


# --- step 3 ---------------------------------------------------------------------------------------


def _check_paths(
    circumstances: Circumstances, path_lists: Iterable[PathList]
) -> tuple[RowStamp, ...]:
    """Check that each list of paths has one at which the wrapped key is stored.

    Returns the rows at these paths. Raises ReleaseRefused.
    """
    rows: dict[RowStamp, None] = {}
    for path_list in path_lists:
        stored = [path for path in path_list.paths if path in circumstances.key_paths]
        if not stored:
            raise refused("path", path_list.origin)
        rows[circumstances.key_paths[stored[0]]] = None
    return tuple(rows)


# --- step 4 ---------------------------------------------------------------------------------------


def _ground(
    circumstances: Circumstances, policies: tuple[Policy, ...], holder: Holder | None
) -> Ground:
    """Return what may justify a release.

    Raises ReleaseRefused if the mode or a policy requires evidence, and there is none to judge.
    """
    mode = circumstances.release_record.mode
    if holder is not None:
        obstacle = _in_person_refusal(mode, policies)
        if obstacle is not None:  # neither is judged by evidence instead (MT4, TM4)
            raise obstacle
        return "member" if isinstance(holder, Member) else "machine"
    if circumstances.owner.in_person is not None:
        obstacle = _in_person_refusal(mode, policies)
        if obstacle is None:
            facts = circumstances.owner.facts
            return "owner" if facts.invoker == facts.owner else "owner_session"
        if not circumstances.has_evidence:
            raise obstacle
    if mode == "off" and not policies:
        return "off"
    return "attested"


def _in_person_refusal(mode: Mode, in_force: Sequence[Policy]) -> ReleaseRefused | None:
    """Return an error if even the owner must present attestation evidence.

    The node's mode or a policy may require this. Otherwise the result is None.
    """
    if mode == "everyone":
        return refused("mode", "this mode requires evidence from the owner in person, too")
    if not all(policy.in_person for policy in in_force):
        return refused("policy", "a policy requires evidence from the owner in person, too")
    return None


# --- step 5: the owner's allow-list ---------------------------------------------------------------


def _check_owner_list(circumstances: Circumstances) -> tuple[ContentKey, ...]:
    """Check that the owner has declared which code may receive keys.

    Returns the content keys of the delegations that the declaration depends on. The tuple is empty
    if the network's policy contains the declaration, or if the node's release record requires none.

    Any allow-list is sufficient: the evidence is judged by all policies in force, so this check
    only ensures that the owner listed code at all.
    """
    policy, record = circumstances.network.policy, circumstances.release_record
    if policy is not None and policy.is_allow_list:
        return ()
    facts = circumstances.owner.facts
    for link in _decrypt_grants(circumstances):
        if not _lists_code(facts, link):
            continue
        closure = tuple([member.content_key for member in link.closure])
        sessions = owner_statement_sessions(facts, link)
        if sessions is not None:
            return (*sessions, *closure)
        if _is_of_admin(facts, link):  # the admin's sessions are in the closure
            return closure
    if record.replaces_owner_list or record.mode == "off":
        return ()
    raise refused("no_policy", "the owner named no code")


def _lists_code(facts: AuthorityFacts, link: Registered) -> bool:
    """Return whether a delegation lists code, and is in force."""
    if not any(policy.is_allow_list for policy in _policy_cache.of(link.delegation)):
        return False
    return is_in_force(link, facts.marks, now=facts.now)


def _is_of_admin(facts: AuthorityFacts, link: Registered) -> bool:
    """Return whether an admin of the team that owns the network signed a delegation (TM6)."""
    try:
        return admin_statement(facts, link)
    except MalformedToken as exc:
        raise refused("chain", exc.text) from exc


def _decrypt_grants(circumstances: Circumstances) -> Iterator[Registered]:
    """Yield the delegations that gave the invoker the right to decrypt.

    The order is from the invoker's delegations to the owner's.

    A closure may contain more, because a delegation that grants nothing may cite any registered
    delegation. So a link counts only if it grants decrypt on this network, and its audience signed
    the link below. An attacker could otherwise cite an unrelated statement of the owner.
    """
    facts = circumstances.owner.facts
    # Each pending link is beside the principal to whom it has to grant.
    pending: list[tuple[Principal, Registered]] = [
        (facts.invoker, facts.links[key]) for key in facts.cited
    ]
    network = circumstances.network.network_id
    seen: set[ContentKey] = set()
    while pending:
        holder, link = pending.pop(0)
        delegation = link.delegation
        if delegation.content_key in seen or delegation.delegate != holder:
            continue
        if not any(
            satisfies(capability.ability, DECRYPT) and network_of(capability.resource) == network
            for capability in delegation.capabilities
        ):
            continue
        seen.add(delegation.content_key)
        yield link
        if delegation.delegator != facts.owner:  # the owner's own authority needs no proofs (R2)
            pending.extend(
                (delegation.delegator, parent) for parent in cited_links(facts, link) or ()
            )


# --- step 9: the path that owns the key -----------------------------------------------------------


def check_key_owner(circumstances: Circumstances, standing: Standing) -> tuple[RowStamp, ...]:
    """Refuse a key that belongs to another path than the allowed ones (RL22).

    A writer who can read the envelope of another secret could store it at an allowed path, and a
    caller who may use only that path would get the key of the other secret. So the first path that
    stored the key must be allowed, and no other path may have stored it since. The owner in person
    may open every key of the network. A member for all secrets may open every key that was stored
    as a secret alone, because such a member may read every envelope of a secret (TM4).

    Returns the row that the decision depends on. Raises ReleaseRefused.
    """
    if circumstances.owner.in_person is not None:
        return ()
    key_owner, path_lists = circumstances.key_owner, standing.path_lists
    is_for_all_secrets = isinstance(standing.holder, Member) and not standing.holder.paths
    if key_owner is None:
        if path_lists or is_for_all_secrets:
            raise refused("path", "no path of the owner has stored this content key")
        return ()
    if is_for_all_secrets and not key_owner.is_secret:
        raise refused("path", "the content key was stored at a path that is no secret")
    may_open_shared_keys = is_for_all_secrets and not path_lists
    if key_owner.is_at_two_paths and not may_open_shared_keys:
        raise refused("path", "the content key was stored at two paths")
    for path_list in path_lists:
        if key_owner.paths.isdisjoint(path_list.paths):
            raise refused("path", f"another path owns the content key: {path_list.origin}")
    return (key_owner.row,)
