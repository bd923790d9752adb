"""The release gate: the one place that decides whether a content key may leave the node.

`admit` is called after the chain was judged, on both routes. Only `admit` makes an `ReleasePermit`, and
`release.open_key` accepts nothing else. O is the owner of the network, I the invoker.

The owner in person (IP1, IP2: `capabilities.sign_ins`) needs no evidence, where the mode and every
policy in force allow it. Every other invoker needs live evidence and an allow-list of measurements
that the owner stated: in the network's policy, or as a fact of a delegation that the authority to
decrypt runs through and that O, or O's in-person session key, signed. The conjunction of the
policies of the node, the owner and every delegation in every cited closure is in force: a further
policy, link or proof can only narrow.

    step  refused as
    1     chain      what is cited is incomplete, revoked or expired
    2     policy     a policy in force cannot be read
    3     path       no envelope at an allowed path holds the key
    4     mode, policy         in person, but mode or policy want code, and there is no evidence
    5     no_policy  the owner named no code
    6     not_attested, trust_root, key_provider, receiver     no evidence for this caller and key, or of another root,
          or of an application whose keys come from another provider than the node's terms name
    7     what `judgement.judge` returns, policy by policy
    8     withdrawn  a party, or the code or evidence that was judged, has been withdrawn (RC20)

Example:
    permit = admit(request)  # or ReleaseRefused
    commit(live=permit.live, checks=permit.checks, put=audit_record(permit))
    answer = open_key(permit, keyring=keyring, entropy=entropy)
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Final, Literal, get_args

from msgspec import Struct, field

from capabilities.abilities import DECRYPT, satisfies
from capabilities.chain import Authority, Registered, is_in_force
from capabilities.cids import ContentKey, cid_text
from capabilities.principals import Principal
from capabilities.resources import NetworkId, network_of
from capabilities.sign_ins import AuthorityFacts, OwnerAuthority, cited_links, owner_word_marks
from capabilities.strict_json import Json
from capabilities.tokens import Delegation

from .judgement import Refusal, judge
from .key_providers import is_within_terms
from .network_errors import PolicyError, ReleaseRefused
from .policy import Evidence, Policy, policies_of, policy_digest
from .release_record import Ground, Mode, ReleaseRecord
from .requests import CheckedDecrypt
from .withdrawals import NOTHING_WITHDRAWN, Withdrawals, evidence_digest

# --- policies that delegations state --------------------------------------------------------------
# A decoded delegation never changes and is handed from release to release, so its facts are known
# by their identity; they are held here as long as what was read from them, which keeps that
# identity theirs.

MAX_HEADER_BYTES: Final = 8 * 1024 * 1024
"""Tokens, in all, of the delegations whose policies are held: a policy is part of its delegation's
token."""


class _Stated(Struct, frozen=True):
    """The policies that a delegation's facts state."""

    facts: tuple[Json, ...]
    size_bytes: int
    policies: tuple[Policy, ...]


class StatedPolicies:
    """The policies that delegations state, read once for each that is kept decoded; the oldest are
    evicted first.

    A decoded delegation never changes and is handed from release to release, so its facts are known
    by their identity; they are held here as long as what was read from them, which keeps that
    identity theirs.
    """

    def __init__(self, *, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        self._max_header_bytes = max_header_bytes
        self._header_bytes = 0
        self._read: OrderedDict[int, _Stated] = OrderedDict()

    def of(self, delegation: Delegation) -> tuple[Policy, ...]:
        """Return what `policies_of` returns for a delegation's facts."""
        facts = delegation.facts
        if not facts:
            return ()
        found = self._read.get(id(facts))
        if found is None:
            found = self._read[id(facts)] = _Stated(
                facts, len(delegation.header), policies_of(facts)
            )
            self._header_bytes += found.size_bytes
            while self._header_bytes > self._max_header_bytes:
                _, dropped = self._read.popitem(last=False)
                self._header_bytes -= dropped.size_bytes
        return found.policies

    def __len__(self) -> int:
        return len(self._read)


# --- what the gate decides on ---------------------------------------------------------------------
# The caller reads everything at one moment. Rows come with their stamps: the commit of the release
# requires them unchanged.


class RowStamp(Struct, frozen=True, gc=False):
    """A row of the store that a decision rests on; opaque here, the commit checks that it is
    unchanged."""

    key: bytes
    stamp: bytes


class ReleaseRequest(Struct, frozen=True, kw_only=True, gc=False):
    """Everything a release is decided on."""

    decrypt: CheckedDecrypt
    authority: Authority
    owner: OwnerAuthority
    release_record: ReleaseRecord
    network_row: RowStamp
    record_row: RowStamp
    withdrawals: Withdrawals
    withdrawals_row: RowStamp
    evidence: Evidence | None = None
    evidence_row: RowStamp | None = None
    key_paths: Mapping[str, RowStamp] = field(default_factory=dict)

    @property
    def invoker(self) -> Principal:
        """I."""
        return self.decrypt.bound.invocation.invoker


MAX_PATHS: Final = 256
"""Most paths that the policies of one release may name together: each is a row to read."""

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
REASONS: Final = frozenset(get_args(Reason))
"""Every coarse cause a caller can see; not in kebab-case, because clients read them in a body of
the wire (RL14)."""

_stated: Final = StatedPolicies()
_SEAL: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePermit:
    """The gate's permission to open one key, for one request; made by `admit` only."""

    decrypt: CheckedDecrypt
    ground: Ground
    mode: Mode
    live: tuple[ContentKey, ...]
    checks: tuple[RowStamp, ...]
    chain: tuple[str, ...]
    policies: tuple[Policy, ...]
    policy_sha256: tuple[str, ...]
    evidence: Evidence | None
    decided_at: float
    # An init-only field: `dataclasses.replace` cannot carry it over, so a permit cannot be
    # altered either.
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse construction outside the gate."""
        if seal is not _SEAL:
            raise RuntimeError("a permit is made by gate.admit only")


def admit(request: ReleaseRequest) -> ReleasePermit:
    """Decide whether the key of a checked request may be opened.

    Args:
        request: what the decision rests on, all read at one moment.
    Returns:
        The permit. IP1 or IP2 holds, or evidence for this caller and key satisfies every policy
        in force and the owner named the code, or the node's mode is off and no policy is stated.
        Nothing of it was withdrawn.
    Raises:
        ReleaseRefused: with the first step that fails.
    Does not check:
        The invocation's signature, window and replay, and that its chain grants decrypt:
        `authority` shows it.
    """
    facts = request.owner.facts
    if (facts.owner, facts.invoker) != (request.decrypt.network.owner, request.invoker):
        raise RuntimeError("the owner's authority was computed for another request")
    mode = request.release_record.mode
    links = _check_chain(request, facts)  # 1
    in_force = policies_in_force(request.decrypt.network.policy, request.release_record, links)  # 2
    rows = _check_paths(request, in_force)  # 3
    session = request.owner.in_person
    obstacle = None if session is None else _obstacle(mode, in_force)  # 4
    relied: tuple[ContentKey, ...] = ()
    evidence: Evidence | None = None
    if session is not None and obstacle is None:
        ground: Ground = "owner" if facts.invoker == facts.owner else "owner_session"
        relied = session
    elif obstacle is not None and request.evidence is None:
        raise obstacle
    elif mode == "off" and not in_force:
        ground = "off"
    else:
        ground = "attested"
        relied = _owner_list(request, facts)  # 5
        evidence, evidence_row = _evidence_for(request)  # 6
        for policy in in_force:  # 7
            refusal = judge(evidence, policy, facts.now)
            if refusal is not None:
                raise _refused(refusal, f"policy {policy_digest(policy)}")
        rows = (evidence_row, *rows)
    _check_withdrawn(request, links, evidence)  # 8
    return ReleasePermit(
        decrypt=request.decrypt,
        ground=ground,
        mode=mode,
        live=tuple(dict.fromkeys((*request.authority.live, *relied))),
        checks=(request.network_row, request.record_row, request.withdrawals_row, *rows),
        chain=_chain(facts),
        policies=in_force,
        policy_sha256=tuple([policy_digest(policy) for policy in in_force]),
        evidence=evidence,
        decided_at=facts.now,
        seal=_SEAL,
    )


def needs_evidence(
    owner: OwnerAuthority, release_record: ReleaseRecord, in_force: Sequence[Policy]
) -> bool:
    """Return whether `admit` uses evidence; where it does not, the caller need not read it."""
    if release_record.mode == "off" and not in_force:
        return False
    return owner.in_person is None or _obstacle(release_record.mode, in_force) is not None


def paths_in_force(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the paths whose envelopes the caller of `admit` has to read."""
    paths = frozenset(path for policy in policies for path in policy.paths)
    if len(paths) > MAX_PATHS:
        raise _refused("path", "too many paths")
    return paths


def policies_in_force(
    network_policy: Policy | None, release_record: ReleaseRecord, links: Iterable[Registered]
) -> tuple[Policy, ...]:
    """Return every policy that a release has to satisfy: the node's, the owner's, those of all
    links.

    The node's own policy does not apply in mode "off"; all others do.
    """
    stated = []
    if release_record.node_policy is not None and release_record.mode != "off":
        stated.append(release_record.node_policy)
    if network_policy is not None:
        stated.append(network_policy)
    try:
        for link in links:
            stated.extend(_stated.of(link.delegation))
    except PolicyError as exc:
        raise _refused("policy", exc.text) from exc
    return tuple(stated)


# --- step 1 ---------------------------------------------------------------------------------------


def _check_chain(request: ReleaseRequest, facts: AuthorityFacts) -> Collection[Registered]:
    """Require every cited proof with its whole closure; where authority rests on them, live and
    open now.

    Returns every delegation of every cited closure, each once.
    """
    cited, links, found = facts.cited, facts.links, dict[ContentKey, Registered]()
    if len(set(cited)) != len(request.decrypt.bound.invocation.parents):
        raise _refused("chain", "not every cited proof was given")
    for key in cited:
        if key not in links:
            raise _refused("chain", "a closure is incomplete")
        for member in links[key].closure:
            above = links.get(member.content_key)
            if above is None:
                raise _refused("chain", "a closure is incomplete")
            found[member.content_key] = above
    if facts.invoker == facts.owner:
        return found.values()  # root authority rests on no proof (R2)
    if not request.authority.dependent or not cited:
        raise _refused("chain", "no proof for a caller who is not the owner")
    for key in cited:
        if not is_in_force(links[key], facts.marks, now=facts.now):
            raise _refused("chain", "a proof does not stand")
    return found.values()


# --- step 3 ---------------------------------------------------------------------------------------


def _check_paths(request: ReleaseRequest, in_force: tuple[Policy, ...]) -> tuple[RowStamp, ...]:
    """Require the key at a path of every policy that lists paths; return the rows that show it."""
    paths_in_force(in_force)
    rows: dict[RowStamp, None] = {}
    for policy in in_force:
        if not policy.paths:
            continue
        row = next(
            (request.key_paths[path] for path in policy.paths if path in request.key_paths), None
        )
        if row is None:
            raise _refused("path", f"policy {policy_digest(policy)}")
        rows[row] = None
    return tuple(rows)


# --- step 4: in person ----------------------------------------------------------------------------


def _obstacle(mode: Mode, in_force: Sequence[Policy]) -> ReleaseRefused | None:
    """Return why being there in person is not enough; None when it is."""
    if mode == "everyone":
        return _refused("mode", "nobody is in person in this mode")
    if not all(policy.in_person for policy in in_force):
        return _refused("policy", "a policy wants code from the owner too")
    return None


# --- step 5: the owner's allow-list ---------------------------------------------------------------


def _owner_list(request: ReleaseRequest, facts: AuthorityFacts) -> tuple[ContentKey, ...]:
    """Find the allow-list that the owner stated, and return the marks that its validity rests on.

    Which list it is does not matter, since all policies in force are judged: the owner has named
    code at all.
    """
    network_policy = request.decrypt.network.policy
    if network_policy is not None and network_policy.is_allow_list:
        return ()
    for link in _supporting(request, facts):
        names_code = any(policy.is_allow_list for policy in _stated.of(link.delegation))
        if not names_code or not is_in_force(link, facts.marks, now=facts.now):
            continue
        relied = owner_word_marks(facts, link)
        if relied is not None:
            return (*relied, *[member.content_key for member in link.closure])
    if request.release_record.states_list or request.release_record.mode == "off":
        return ()
    raise _refused("no_policy", "the owner named no code")


def _supporting(request: ReleaseRequest, facts: AuthorityFacts) -> Iterator[Registered]:
    """Yield the delegations that the authority to decrypt runs through, from the invoker up to the
    owner.

    A closure may contain more: the issuer of a delegation that grants nothing may cite any
    registered delegation. So a link counts only if it grants decrypt on this network and its
    audience signed the link below.
    """
    below: list[tuple[Principal, Registered]] = [
        (facts.invoker, facts.links[key]) for key in facts.cited
    ]
    network, seen = request.decrypt.network.network_id, set[ContentKey]()
    while below:
        holder, link = below.pop(0)
        delegation = link.delegation
        if delegation.content_key in seen or delegation.delegate != holder:
            continue
        if not _holds_decrypt(delegation, network):
            continue
        seen.add(delegation.content_key)
        yield link
        if delegation.delegator != facts.owner:
            below.extend(
                (delegation.delegator, parent) for parent in cited_links(facts, link) or ()
            )


def _holds_decrypt(delegation: Delegation, network: NetworkId) -> bool:
    for capability in delegation.capabilities:
        if satisfies(capability.ability, DECRYPT) and network_of(capability.resource) == network:
            return True
    return False


# --- step 6 ---------------------------------------------------------------------------------------


def _evidence_for(request: ReleaseRequest) -> tuple[Evidence, RowStamp]:
    """Return the evidence and its row: without the row the commit could not require it
    unchanged."""
    evidence, row = request.evidence, request.evidence_row
    if evidence is None or row is None:
        raise _refused("not_attested", "no evidence")
    if evidence.invoker != request.invoker:
        raise _refused("not_attested", "evidence of another holder")
    if evidence.root_ca_sha256 not in request.release_record.trust_roots:
        raise _refused("trust_root", "evidence under a root that is not trusted")
    # AT29: they may have changed
    if not is_within_terms(evidence.key_provider, request.release_record.key_providers):
        raise _refused(
            "key_provider", "keys from a provider of whose applications the node takes no evidence"
        )
    if (
        evidence.receiver_mode == "attested"
        and evidence.receiver_public_key != request.decrypt.receiver_public_key
    ):
        raise _refused("receiver", "the evidence names another receiver key")
    return evidence, row


# --- step 8: withdrawals --------------------------------------------------------------------------


def _check_withdrawn(
    request: ReleaseRequest, links: Iterable[Registered], evidence: Evidence | None
) -> None:
    """Refuse what would be admitted, but was withdrawn by the owner or the operator (RC20).

    A delegation that a withdrawn DID signed or received counts too: it must not hand on what it may
    not have itself.
    """
    for listed in (request.decrypt.network.withdrawals, request.withdrawals):
        if listed is NOTHING_WITHDRAWN:
            continue
        if listed.dids:
            delegations = [link.delegation for link in links]
            parties = {one for each in delegations for one in (each.delegator, each.delegate)}
            if listed.names_any(parties | {request.invoker}):
                raise _refused("withdrawn", "a party to the release")
        if evidence is not None and listed.withdraw(evidence):
            raise _refused("withdrawn", f"evidence {evidence_digest(evidence).hex()}")


def _chain(facts: AuthorityFacts) -> tuple[str, ...]:
    members = (member.cid for key in facts.cited for member in facts.links[key].closure)
    return tuple([cid_text(cid) for cid in dict.fromkeys(members)])


def _refused(reason: Reason, detail: str) -> ReleaseRefused:
    return ReleaseRefused(reason, detail)
