"""The checks before every release of a content key.

Both routes call `admit` after the chain was judged. Only `admit` creates a `ReleasePermit`, and
`release.open_key` requires one. O is the owner of the network, I the invoker.

The owner in person (IP1, IP2: `capabilities.sign_ins`) needs no evidence if the mode and every
policy in force allow that. Every other invoker needs live evidence and an allow-list of
measurements that the owner declared: in the network's policy, or in a delegation on the path of the
authority to decrypt. That delegation is signed by O or by O's session key in person.

A machine token (MT4) needs no evidence either, where the owner in person needs none. It opens only
keys that are stored at the paths that O listed in it, or in the trust under which this node made
it. The same holds for a member of the team O (TM4), whose membership may also be for all secrets.
The paths of a membership narrow every release that depends on it, whoever receives the key.

In force are the policies of the node, of the owner and of every delegation in every cited closure.
A release has to satisfy all of them, so a further policy, delegation or proof can only narrow.

    step  code                what fails
    1     chain               a cited delegation is missing, revoked or expired, or a machine token
                              or a membership is not used as MT4 and TM4 say
    2     policy              a policy in force cannot be parsed
    3     path                no envelope at an allowed path contains the key
    4     mode, policy        the invoker is in person without evidence, a member, or has a machine
                              token, but mode or policy require evidence
    5     no_policy           the owner listed no code
    6     not_attested,       there is no evidence for this invoker and key, it has another root,
          trust_root,         or its application's keys come from a provider that the node does
          key_provider,       not accept
          receiver
    7     see `judgement`     the evidence does not satisfy a policy
    8     withdrawn           a party, or the judged code or evidence, was withdrawn (RC20)
    9     path                the content key was stored at two paths, or first at a path that is
                              not allowed; not for the owner in person

Example:
    permit = admit(request)  # or ReleaseRefused
    commit(live=permit.live, checks=permit.checks, put=audit_record(permit))
    answer = open_key(permit, keyring=keyring, entropy=entropy)
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar
from typing import Literal, get_args

from msgspec import field

from capabilities.abilities import DECRYPT, satisfies
from capabilities.capability_errors import MalformedToken
from capabilities.chain import Authority, Registered, is_in_force
from capabilities.cids import ContentKey, Digest, cid_text
from capabilities.frozen import frozen
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
from capabilities.support import SupportingPaths, SupportUnknown, supporting_keys
from capabilities.tokens import Delegation

from .holders import Holder, cited_memberships, holder_of
from .judgement import Refusal, judge
from .key_providers import is_key_source_accepted
from .network_errors import PolicyError, ReleaseRefused
from .policy import Evidence, Policy, policies_of, policy_digest
from .release_record import Ground, Mode, ReleaseRecord
from .requests import CheckedDecrypt
from .withdrawals import NOTHING_WITHDRAWN, Withdrawals, evidence_digest

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
        if entry is None:
            entry = self._entries[id(facts)] = _CacheEntry(
                facts=facts,
                size_bytes=len(delegation.header),
                policies=policies_of(facts),
            )
            self._header_bytes += entry.size_bytes
            while self._header_bytes > self._max_header_bytes:
                _, dropped = self._entries.popitem(last=False)
                self._header_bytes -= dropped.size_bytes
        return entry.policies

    def __len__(self) -> int:
        return len(self._entries)


# --- the request ----------------------------------------------------------------------------------
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


class ReleaseRequest(AcyclicStruct, kw_only=True):
    """The input for deciding whether to release a key.

    `key_owner` is None if no path has stored the key, or the wrapped key cannot be opened. It is
    not needed for the owner in person.
    """

    decrypt: CheckedDecrypt
    authority: Authority
    owner: OwnerAuthority
    exchange_key: str
    release_record: ReleaseRecord
    network_row: RowStamp
    record_row: RowStamp
    withdrawals: Withdrawals
    withdrawals_row: RowStamp
    evidence: Evidence | None = None
    evidence_row: RowStamp | None = None
    key_paths: Mapping[str, RowStamp] = field(default_factory=dict)
    key_owner: KeyOwner | None = None

    @property
    def invoker(self) -> Principal:
        """The principal that requests the key."""
        return self.decrypt.bound.invocation.invoker


MAX_PATHS = 256
"""Most paths that the lists of one release may have together; each is a row to read."""

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

_policy_cache = PolicyCache()
_SEAL = object()


@frozen(kw_only=True)
class ReleasePermit:
    """Permission to decrypt one content key for one request.

    Only `admit` creates a permit.
    """

    decrypt: CheckedDecrypt
    ground: Ground
    mode: Mode
    live: tuple[ContentKey, ...]
    checks: tuple[RowStamp, ...]
    chain: tuple[str, ...]
    holder: Holder | None
    policies: tuple[Policy, ...]
    policy_sha256: tuple[str, ...]
    evidence: Evidence | None
    decided_at: float
    # An init-only field: `dataclasses.replace` cannot copy it, so callers cannot forge a permit
    # from a real one.
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Allow only `admit` to create objects of this class."""
        if seal is not _SEAL:
            raise RuntimeError("call gate.admit to create a ReleasePermit")


def admit(request: ReleaseRequest) -> ReleasePermit:
    """Decide whether a content key may be released (RL5 to RL12).

    Args:
        request: the input of the decision, all read at one moment.
    Returns:
        The permit. IP1, IP2, MT4 or TM4 holds; or evidence for this invoker and key satisfies every
        policy in force, and the owner listed the code; or the node's mode is off and there is no
        policy.
        Nothing that the decision used was withdrawn.
    Raises:
        ReleaseRefused: with the first step that fails.
    Does not check:
        The invocation's signature, window and replay, and that its chain grants decrypt; the
        `authority` in the request is the result of those checks.
    """
    facts = request.owner.facts
    if (facts.owner, facts.invoker) != (request.decrypt.network.owner, request.invoker):
        raise RuntimeError("the OwnerAuthority in the request is for another owner or invoker")
    # The numbers are those of the steps in the table above.
    links = _check_chain(request, facts)  # 1
    holder = holder_of(request.owner, request.exchange_key)
    in_force = policies_in_force(request.decrypt.network.policy, request.release_record, links)  # 2
    path_lists = path_lists_in_force(in_force, holder, facts)
    rows = _check_paths(request, path_lists)  # 3
    basis = _basis_of(request, facts, in_force, holder)  # 4 to 7
    _check_withdrawn(request, links, basis.evidence)  # 8
    rows += _check_key_owner(request, path_lists, holder)  # 9
    if basis.evidence_row is not None:
        rows = (basis.evidence_row, *rows)
    return ReleasePermit(
        decrypt=request.decrypt,
        ground=basis.ground,
        mode=request.release_record.mode,
        live=tuple(dict.fromkeys((*request.authority.live, *basis.relied))),
        checks=(request.network_row, request.record_row, request.withdrawals_row, *rows),
        chain=_supporting_chain(request, facts),
        holder=holder,
        policies=in_force,
        policy_sha256=tuple([policy_digest(policy) for policy in in_force]),
        evidence=basis.evidence,
        decided_at=facts.now,
        seal=_SEAL,
    )


def _supporting_chain(request: ReleaseRequest, facts: AuthorityFacts) -> tuple[str, ...]:
    """Return the CIDs of the delegations that gave the invoker the right to decrypt (RC7).

    What is cited beside them narrows the release, but nobody is named by it.

    Raises ReleaseRefused if the paths cannot be found.
    """
    cited = [facts.links[key] for key in facts.cited]
    try:
        supporting = supporting_keys(
            request.authority.dependent, cited, SupportingPaths(facts.links)
        )
    except SupportUnknown as exc:
        raise _refused("chain", "the chain is too large to find the paths of the right") from exc
    cids: dict[Digest, None] = {}
    for link in cited:
        for member in link.closure:
            if member.content_key in supporting:
                cids[member.cid] = None
    return tuple(map(cid_text, cids))


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
        raise _refused("path", "too many paths")
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
        raise _refused("policy", exc.text) from exc
    return tuple(stated)


# --- step 1 ---------------------------------------------------------------------------------------


def _check_chain(request: ReleaseRequest, facts: AuthorityFacts) -> Collection[Registered]:
    """Check and return the cited delegations and all their ancestors.

    Raises ReleaseRefused if a delegation is missing. Unless the invoker is the owner, at least one
    delegation must be cited, and all must be unrevoked and inside their validity windows.
    """
    cited, links = facts.cited, facts.links
    members: dict[ContentKey, Registered] = {}
    if len(set(cited)) != len(request.decrypt.bound.invocation.parents):
        raise _refused("chain", "a cited delegation is missing")
    for key in cited:
        if key not in links:
            raise _refused("chain", "a closure is incomplete")
        for member in links[key].closure:
            registered = links.get(member.content_key)
            if registered is None:
                raise _refused("chain", "a closure is incomplete")
            members[member.content_key] = registered
    if facts.invoker == facts.owner:
        return members.values()  # a root's authority does not come from its proofs (R2)
    if not request.authority.dependent or not cited:
        raise _refused("chain", "the caller is not the owner, and the request cites no delegation")
    for key in cited:
        if not is_in_force(links[key], facts.marks, now=facts.now):
            raise _refused("chain", "a cited delegation is revoked, expired or not valid yet")
    return members.values()


# --- step 3 ---------------------------------------------------------------------------------------


def _check_paths(request: ReleaseRequest, path_lists: Iterable[PathList]) -> tuple[RowStamp, ...]:
    """Check that each list of paths has one at which the wrapped key is stored.

    Returns the rows at these paths. `key_paths` in the request contains all paths where the key is
    stored. Raises ReleaseRefused.
    """
    rows: dict[RowStamp, None] = {}
    for path_list in path_lists:
        stored = [path for path in path_list.paths if path in request.key_paths]
        if not stored:
            raise _refused("path", path_list.origin)
        rows[request.key_paths[stored[0]]] = None
    return tuple(rows)


# --- steps 4 to 7 ---------------------------------------------------------------------------------


class _Basis(AcyclicStruct):
    """The justification of a release, and the rows that it depends on.

    Attributes:
        ground: recorded in the receipt.
        relied: the delegations, beside those of the authority, that must still be live when the
            release is committed.
        evidence: the evidence that was judged, or None.
        evidence_row: the row of that evidence.
    """

    ground: Ground
    relied: tuple[ContentKey, ...] = ()
    evidence: Evidence | None = None
    evidence_row: RowStamp | None = None


def _basis_of(
    request: ReleaseRequest,
    facts: AuthorityFacts,
    in_force: tuple[Policy, ...],
    holder: Holder | None,
) -> _Basis:
    """Return what justifies a release.

    A machine token, a member or the owner in person needs no evidence, unless the mode or a policy
    requires it from them too. Raises ReleaseRefused if nothing justifies the release.
    """
    mode = request.release_record.mode
    if holder is not None:
        obstacle = _in_person_refusal(mode, in_force)  # 4
        if obstacle is not None:  # neither is judged by evidence instead (MT4, TM4)
            raise obstacle
        return _Basis(ground="member" if isinstance(holder, Member) else "machine")
    session = request.owner.in_person
    if session is not None:
        obstacle = _in_person_refusal(mode, in_force)  # 4
        if obstacle is None:
            is_owner = facts.invoker == facts.owner
            return _Basis(ground="owner" if is_owner else "owner_session", relied=session)
        if request.evidence is None:
            raise obstacle
    if mode == "off" and not in_force:
        return _Basis(ground="off")
    return _attested_basis(request, facts, in_force)


def _attested_basis(
    request: ReleaseRequest, facts: AuthorityFacts, in_force: tuple[Policy, ...]
) -> _Basis:
    """Return the attestation evidence as the basis of a release.

    Raises ReleaseRefused if the owner listed no code, or if the evidence does not satisfy a policy.
    """
    relied = _check_owner_list(request, facts)  # 5
    evidence, evidence_row = _require_evidence(request)  # 6
    for policy in in_force:  # 7
        refusal = judge(evidence, policy, facts.now)
        if refusal is not None:
            raise _refused(refusal, f"policy {policy_digest(policy)}")
    return _Basis(ground="attested", relied=relied, evidence=evidence, evidence_row=evidence_row)


# --- step 4: in person ----------------------------------------------------------------------------


def _in_person_refusal(mode: Mode, in_force: Sequence[Policy]) -> ReleaseRefused | None:
    """Return an error if even the owner must present attestation evidence.

    The node's mode or a policy may require this. Otherwise the result is None.
    """
    if mode == "everyone":
        return _refused("mode", "this mode requires evidence from the owner in person, too")
    if not all(policy.in_person for policy in in_force):
        return _refused("policy", "a policy requires evidence from the owner in person, too")
    return None


# --- step 5: the owner's allow-list ---------------------------------------------------------------


def _check_owner_list(request: ReleaseRequest, facts: AuthorityFacts) -> tuple[ContentKey, ...]:
    """Check that the owner has declared which code may receive keys.

    Returns the content keys of the delegations that the declaration depends on. The tuple is empty
    if the network's policy contains the declaration, or if the node's release record requires none.

    Any allow-list is sufficient: the evidence is judged by all policies in force, so this check
    only ensures that the owner listed code at all.
    """
    network_policy = request.decrypt.network.policy
    if network_policy is not None and network_policy.is_allow_list:
        return ()
    for link in _decrypt_grants(request, facts):
        names_code = any(policy.is_allow_list for policy in _policy_cache.of(link.delegation))
        if not names_code or not is_in_force(link, facts.marks, now=facts.now):
            continue
        sessions = owner_statement_sessions(facts, link)
        if sessions is None and _is_of_admin(facts, link):
            sessions = ()  # they are in the closure
        if sessions is not None:
            return (*sessions, *[member.content_key for member in link.closure])
    if request.release_record.replaces_owner_list or request.release_record.mode == "off":
        return ()
    raise _refused("no_policy", "the owner named no code")


def _is_of_admin(facts: AuthorityFacts, link: Registered) -> bool:
    """Return whether an admin of the team that owns the network signed a delegation (TM6)."""
    try:
        return admin_statement(facts, link)
    except MalformedToken as exc:
        raise _refused("chain", exc.text) from exc


def _decrypt_grants(request: ReleaseRequest, facts: AuthorityFacts) -> Iterator[Registered]:
    """Yield the delegations that gave the invoker the right to decrypt.

    The order is from the invoker's delegations to the owner's.

    A closure may contain more, because a delegation that grants nothing may cite any registered
    delegation. So a link counts only if it grants decrypt on this network, and its audience signed
    the link below. An attacker could otherwise cite an unrelated statement of the owner.
    """
    # Each pending link is beside the principal to whom it has to grant.
    pending: list[tuple[Principal, Registered]] = [
        (facts.invoker, facts.links[key]) for key in facts.cited
    ]
    network = request.decrypt.network.network_id
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


# --- step 6 ---------------------------------------------------------------------------------------


def _require_evidence(request: ReleaseRequest) -> tuple[Evidence, RowStamp]:
    """Return the invoker's attestation evidence.

    Also returns the `RowStamp` of its row, which lets the commit check that the evidence has not
    changed. Raises ReleaseRefused if either is missing, or if the evidence does not match the
    request.
    """
    evidence, row = request.evidence, request.evidence_row
    if evidence is None or row is None:
        raise _refused("not_attested", "no evidence")
    if evidence.invoker != request.invoker:
        raise _refused("not_attested", "the evidence belongs to another invoker")
    if evidence.root_ca_sha256 not in request.release_record.trust_roots:
        raise _refused("trust_root", "the evidence's root certificate is not trusted")
    # AT29: the node may have narrowed its list after it accepted this evidence.
    if not is_key_source_accepted(evidence.key_provider, request.release_record.key_providers):
        raise _refused("key_provider", "the node does not accept evidence with this key provider")
    if (
        evidence.receiver_mode == "attested"
        and evidence.receiver_public_key != request.decrypt.receiver_public_key
    ):
        raise _refused("receiver", "the evidence is for another receiver key")
    return evidence, row


# --- step 8: withdrawals --------------------------------------------------------------------------


def _check_withdrawn(
    request: ReleaseRequest, links: Iterable[Registered], evidence: Evidence | None
) -> None:
    """Refuse a key release to parties that are no longer trusted (RC20).

    Raises ReleaseRefused if trust in an involved DID, the code or the evidence was withdrawn.
    Involved are the invoker and the signers and receivers of all delegations: a withdrawn DID must
    not pass on rights that it may not use itself.
    """
    for withdrawn in (request.decrypt.network.withdrawals, request.withdrawals):
        if withdrawn is NOTHING_WITHDRAWN:
            continue
        if withdrawn.dids and withdrawn.names_any(parties(request.invoker, links)):
            raise _refused("withdrawn", "a party to the release")
        if evidence is not None and withdrawn.covers(evidence):
            raise _refused("withdrawn", f"evidence {evidence_digest(evidence).hex()}")


# --- step 9: the path that owns the key -----------------------------------------------------------


def _check_key_owner(
    request: ReleaseRequest, path_lists: Collection[PathList], holder: Holder | None
) -> tuple[RowStamp, ...]:
    """Refuse a key that belongs to another path than the allowed ones (RL22).

    A writer who can read the envelope of another secret could store it at an allowed path, and a
    caller who may use only that path would get the key of the other secret. So the first path that
    stored the key must be allowed, and no other path may have stored it since. The owner in person
    may open every key of the network. A member for all secrets may open every key that was stored
    as a secret alone, because such a member may read every envelope of a secret (TM4).

    Returns the row that the decision depends on. Raises ReleaseRefused.
    """
    if request.owner.in_person is not None:
        return ()
    key_owner = request.key_owner
    is_for_all_secrets = isinstance(holder, Member) and not holder.paths
    if key_owner is None:
        if path_lists or is_for_all_secrets:
            raise _refused("path", "no path of the owner has stored this content key")
        return ()
    if is_for_all_secrets and not key_owner.is_secret:
        raise _refused("path", "the content key was stored at a path that is no secret")
    if key_owner.is_at_two_paths and not (is_for_all_secrets and not path_lists):
        raise _refused("path", "the content key was stored at two paths")
    for path_list in path_lists:
        if key_owner.paths.isdisjoint(path_list.paths):
            raise _refused("path", f"another path owns the content key: {path_list.origin}")
    return (key_owner.row,)


def parties(invoker: Principal, links: Iterable[Registered]) -> set[Principal]:
    """Return the invoker, and the signers and receivers of the delegations."""
    involved = {invoker}
    for link in links:
        involved.add(link.delegation.delegator)
        involved.add(link.delegation.delegate)
    return involved


def _refused(reason: Reason, detail: str) -> ReleaseRefused:
    return ReleaseRefused(reason, detail)
