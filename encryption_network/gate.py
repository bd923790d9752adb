"""The checks before every release of a content key.

Both routes call `admit` after the chain was judged. Only `admit` creates a `ReleasePermit`, and
`release.open_key` requires one. Steps 1 to 5 and 9 are in `grounds`. O is the owner of the network,
I the invoker.

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

from collections.abc import Iterable, Mapping
from dataclasses import InitVar

from msgspec import field

from capabilities.chain import Authority, Registered
from capabilities.cids import ContentKey, Digest, cid_text
from capabilities.frozen import frozen
from capabilities.frozen_struct import AcyclicStruct
from capabilities.principals import Principal
from capabilities.sign_ins import AuthorityFacts, OwnerAuthority
from capabilities.support import SupportingPaths, SupportUnknown, supporting_keys

from .grounds import Circumstances, KeyOwner, RowStamp, check_key_owner, ground_of, refused
from .holders import Holder
from .judgement import judge
from .key_providers import is_key_source_accepted
from .policy import Evidence, Policy, policy_digest
from .release_record import Ground, Mode, ReleaseRecord
from .requests import CheckedDecrypt
from .withdrawals import NOTHING_WITHDRAWN, Withdrawals, evidence_digest


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
    def circumstances(self) -> Circumstances:
        """What decides on which ground the key may be released."""
        return Circumstances(
            owner=self.owner,
            exchange_key=self.exchange_key,
            network=self.decrypt.network,
            release_record=self.release_record,
            cited_count=len(self.decrypt.bound.invocation.parents),
            is_right_passed_on=bool(self.authority.dependent),
            has_evidence=self.evidence is not None,
            key_paths=self.key_paths,
            key_owner=self.key_owner,
        )

    @property
    def invoker(self) -> Principal:
        """The principal that requests the key."""
        return self.decrypt.bound.invocation.invoker


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
    circumstances = request.circumstances
    standing = ground_of(circumstances)  # 1 to 5
    rows = standing.rows
    evidence = None
    if standing.ground == "attested":
        evidence, evidence_row = _judged_evidence(request, standing.policies)  # 6, 7
        rows = (evidence_row, *rows)
    _check_withdrawn(request, standing.links, evidence)  # 8
    rows += check_key_owner(circumstances, standing)  # 9
    return ReleasePermit(
        decrypt=request.decrypt,
        ground=standing.ground,
        mode=request.release_record.mode,
        live=tuple(dict.fromkeys((*request.authority.live, *standing.relied))),
        checks=(request.network_row, request.record_row, request.withdrawals_row, *rows),
        chain=_supporting_chain(request, facts),
        holder=standing.holder,
        policies=standing.policies,
        policy_sha256=tuple([policy_digest(policy) for policy in standing.policies]),
        evidence=evidence,
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
        raise refused("chain", "the chain is too large to find the paths of the right") from exc
    cids: dict[Digest, None] = {}
    for link in cited:
        for member in link.closure:
            if member.content_key in supporting:
                cids[member.cid] = None
    return tuple(map(cid_text, cids))


# --- steps 6 and 7 --------------------------------------------------------------------------------


def _judged_evidence(
    request: ReleaseRequest, policies: Iterable[Policy]
) -> tuple[Evidence, RowStamp]:
    """Return the invoker's evidence, which satisfies all policies, and its row (6, 7).

    Raises ReleaseRefused if there is none for this request, or a policy does not accept it.
    """
    evidence, evidence_row = _require_evidence(request)
    for policy in policies:
        refusal = judge(evidence, policy, request.owner.facts.now)
        if refusal is not None:
            raise refused(refusal, f"policy {policy_digest(policy)}")
    return evidence, evidence_row


def _require_evidence(request: ReleaseRequest) -> tuple[Evidence, RowStamp]:
    """Return the invoker's attestation evidence.

    Also returns the `RowStamp` of its row, which lets the commit check that the evidence has not
    changed. Raises ReleaseRefused if either is missing, or if the evidence does not match the
    request.
    """
    evidence, row = request.evidence, request.evidence_row
    if evidence is None or row is None:
        raise refused("not_attested", "no evidence")
    if evidence.invoker != request.invoker:
        raise refused("not_attested", "the evidence belongs to another invoker")
    if evidence.root_ca_sha256 not in request.release_record.trust_roots:
        raise refused("trust_root", "the evidence's root certificate is not trusted")
    # AT29: the node may have narrowed its list after it accepted this evidence.
    if not is_key_source_accepted(evidence.key_provider, request.release_record.key_providers):
        raise refused("key_provider", "the node does not accept evidence with this key provider")
    if (
        evidence.receiver_mode == "attested"
        and evidence.receiver_public_key != request.decrypt.receiver_public_key
    ):
        raise refused("receiver", "the evidence is for another receiver key")
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
            raise refused("withdrawn", "a party to the release")
        if evidence is not None and withdrawn.covers(evidence):
            raise refused("withdrawn", f"evidence {evidence_digest(evidence).hex()}")


def parties(invoker: Principal, links: Iterable[Registered]) -> set[Principal]:
    """Return the invoker, and the signers and receivers of the delegations."""
    involved = {invoker}
    for link in links:
        involved.add(link.delegation.delegator)
        involved.add(link.delegation.delegate)
    return involved
