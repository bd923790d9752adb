"""Judgement of who can obtain the value of a secret.

The rules are those of `encryption_network.gate`, applied to every live grant instead of one
request: a reader needs the right to fetch the envelope, and a right to decrypt for which the node
releases the key. A person with a copy needs only the right to fetch the copy.

`access` fetches the facts. This module sends no request.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from capabilities.abilities import DECRYPT, KV_GET, satisfies
from capabilities.cacao import Cacao
from capabilities.capability_errors import CapabilityError
from capabilities.cids import Digest
from capabilities.machine_tokens import MachineGrant, is_machine_token
from capabilities.members import check_admitted
from capabilities.memberships import Membership, is_membership, stated_membership, team_of
from capabilities.principals import Principal, same_principal
from capabilities.resources import NetworkId, Resource, extends, network_of
from capabilities.sign_ins import is_session, is_sign_in, signs_in_a_key
from capabilities.tokens import Capability, Delegation, parse_delegation, verify_delegation
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, policies_of
from encryption_network.release_record import ReleaseTerms

from ..documents.run_grants import RunStatement
from ..documents.secret_names import SharedFolder
from ..wire.delegation_history import DelegationRecord
from ..wire.token_line import token_in
from .teams.memberships import as_registered
from .words.runs import run_grant_in

Kind = Literal[
    "owner", "member", "session", "grant", "backend", "runner", "person", "token", "ci", "operator"
]
"""What a reader is.

owner: the owner. member: a member of the team that is the owner. session: an application or command
line in which the owner signed in. grant: a recipient of rights. backend: a recipient that has to
attest. runner: a service that executes programs. person: a person with a copy. token: a machine
token. ci: jobs with an ID token. operator: the operator of the node.
"""

State = Literal["now", "attested", "id_token", "later", "envelope", "undecided", "no_code"]
"""Whether a reader can obtain the value.

now: yes. attested: if it proves with attestation evidence that it runs approved code. id_token: if
a job shows an ID token with the claims of a trust. later: not before its grants begin. envelope: it
may decrypt, but not fetch the envelope; it can read the value if it has a copy of the envelope from
another source. undecided: under conditions that only the node can judge. no_code: no, because the
owner approved no code for it; a policy of the network that approves code would change that.
"""


class Reader(NamedTuple):
    """Somebody who can obtain the value of a secret, and by what.

    Attributes:
        kind: see `Kind`.
        did: the recipient's DID; of the operator, that of the node.
        name: a name that the owner gave: of a member, a machine token, a trust or a team of copies;
            of a session, the domain that was in the wallet's message. "" without one.
        state: see `State`.
        grant: CID of the grant; "" for the owner and the operator.
        granted_by: DID of its signer, which is not the owner if a recipient passed it on.
        since: epoch seconds; None if the grant does not say it.
        until: epoch seconds, the earliest end of all that it depends on; None: without end.
        policies: the policies on code that apply, without that of the node.
        run: programs and callers of a runner.
        claims: claims that an ID token has to have, after its issuer.
        last_read: epoch seconds, when the grant, or one that depends on it, last gave its current
            value; None: not in the last 30 days.
    """

    kind: Kind
    did: str
    name: str = ""
    state: State = "now"
    grant: str = ""
    granted_by: str = ""
    since: float | None = None
    until: float | None = None
    policies: tuple[Policy, ...] = ()
    run: RunStatement | None = None
    claims: tuple[str, ...] = ()
    last_read: float | None = None


class Facts(NamedTuple):
    """All that the judgement depends on.

    Attributes:
        owner: DID.
        secret: resource of the secret's envelope.
        network: the network that it is sealed to.
        network_policy: the owner's policy of the network.
        terms: the node's conditions for releases; None: unknown.
        exchange_key: DID of the key with which the node signs tokens for jobs; "" without one.
        node: DID of the node.
        in_tee: whether the node runs in a TEE.
        records: the live delegations of the owner's account with their tokens, those that
            recipients passed on included.
        copies: resource of each stored copy of the secret -> the folder in which it is.
        now: epoch seconds.
    """

    owner: Principal
    secret: Resource
    network: NetworkId
    network_policy: Policy | None
    terms: ReleaseTerms | None
    exchange_key: str
    node: str
    in_tee: bool
    records: Sequence[DelegationRecord]
    copies: Mapping[Resource, SharedFolder]
    now: float


class _Grant(NamedTuple):
    """A live delegation, whose signature was verified."""

    record: DelegationRecord
    delegation: Delegation
    policies: tuple[Policy, ...]

    @property
    def delegate(self) -> Principal:
        return self.delegation.delegate

    @property
    def delegator(self) -> Principal:
        return self.delegation.delegator

    def gives(self, ability: str, resource: Resource) -> bool:
        """Return whether the delegation grants an ability on a resource, under caveats or not."""
        return bool(self._covering(ability, resource))

    def gives_freely(self, ability: str, resource: Resource) -> bool:
        """Return whether the delegation grants an ability on a resource without caveats."""
        return any(not capability.caveats for capability in self._covering(ability, resource))

    def _covering(self, ability: str, resource: Resource) -> list[Capability]:
        """Return the capabilities that grant an ability on a resource."""
        covering = []
        for capability in self.delegation.capabilities:
            if satisfies(capability.ability, ability) and extends(resource, capability.resource):
                covering.append(capability)
        return covering

    def decrypts(self, network: NetworkId) -> bool:
        """Return whether the delegation grants decryption on a network, under caveats or not."""
        return bool(self._decrypting(network))

    def decrypts_freely(self, network: NetworkId) -> bool:
        """Return whether the delegation grants decryption on a network without caveats."""
        return any(not capability.caveats for capability in self._decrypting(network))

    def _decrypting(self, network: NetworkId) -> list[Capability]:
        """Return the capabilities that grant decryption on a network."""
        decrypting = []
        for capability in self.delegation.capabilities:
            is_on_network = network_of(capability.resource) == network
            if is_on_network and satisfies(capability.ability, DECRYPT):
                decrypting.append(capability)
        return decrypting


class _Unreadable(Exception):
    """A delegation in the node's list that this version cannot read."""


class Judged(NamedTuple):
    """The readers of a secret.

    Attributes:
        readers: the owner first.
        unread: CIDs of listed delegations that this version cannot read.
    """

    readers: tuple[Reader, ...]
    unread: tuple[str, ...]


def readers_of(facts: Facts) -> Judged:
    """Return everybody who can obtain the value of a secret.

    Raises:
        InvalidInput: a resource in the node's list is malformed.
    Does not check:
        Withdrawals: the node does not list them, so a party whose trust was withdrawn is named
        until its grant ends. Values and envelopes that somebody fetched earlier.
    """
    grants: dict[Digest, _Grant] = {}
    unread = []
    for record in facts.records:
        try:
            grant = _parse_record(record)
        except _Unreadable:
            unread.append(record.cid)
        else:
            grants[grant.delegation.cid] = grant
    judge = _Judge(facts, grants)
    readers = [judge.owner_reader()]
    for grant in grants.values():
        if grant.delegate == facts.owner or not grant.decrypts(facts.network):
            continue
        reader = judge.reader(grant)
        if reader is not None:
            readers.append(reader)
    readers += judge.people_with_copies()
    if not facts.in_tee:
        # The operator has the node's root secret, and with it the private keys of all networks.
        readers.append(Reader(kind="operator", did=facts.node))
    return Judged(tuple(readers), tuple(unread))


def _parse_record(record: DelegationRecord) -> _Grant:
    """Parse and verify a delegation in the node's list.

    Raises:
        _Unreadable: the token is missing, malformed or not signed by its issuer, or has a policy of
            an unknown form.
    """
    try:
        delegation = verify_delegation(parse_delegation(record.token or ""))
        policies = policies_of(delegation.facts)
        return _Grant(record=record, delegation=delegation, policies=policies)
    except (CapabilityError, PolicyError) as error:
        raise _Unreadable from error


class _Judge:
    """The rules of the gate, for all grants of one owner.

    `grants` are by the digests of their CIDs.
    """

    def __init__(self, facts: Facts, grants: Mapping[Digest, _Grant]) -> None:
        self._facts = facts
        self._grants = grants
        self._sessions = self._session_keys()

    def _session_keys(self) -> frozenset[Principal]:
        """Return the keys in which the owner is signed in now (IP2)."""
        keys = set()
        for grant in self._grants.values():
            is_of_owner = grant.delegator == self._facts.owner
            if grant.record.status != "active" or not is_of_owner:
                continue
            if is_session(grant.delegation, registered_at=self._facts.now):
                keys.add(grant.delegate)
        return frozenset(keys)

    # --- the owner and copies ---------------------------------------------------------------------

    def owner_reader(self) -> Reader:
        """Return the owner as a reader."""
        policies = self._policies_in_force(())
        state: State = "now"
        if self._are_terms_unknown():
            state = "undecided"
        elif self._owner_needs_evidence(policies):
            state = "attested"
        return Reader(kind="owner", did=self._facts.owner, state=state, policies=policies)

    def people_with_copies(self) -> list[Reader]:
        """Return the people who can fetch a copy of the secret that is sealed to them."""
        readers = []
        for resource, folder in self._facts.copies.items():
            for grant in self._grants.values():
                # Others who may fetch the copy cannot open it: it is sealed to this person.
                if same_principal(grant.delegate, folder.did) and grant.gives(KV_GET, resource):
                    reader = self._reader_of(grant, "person", folder.team or "")
                    state = self._fetch_state_by(grant, resource)
                    # The person's own network may be at another node, with other conditions.
                    if state == "now" and (self._are_terms_unknown() or self._is_everyone_mode()):
                        state = "undecided"
                    readers.append(reader._replace(state=state))
        return readers

    # --- one grant --------------------------------------------------------------------------------

    def reader(self, grant: _Grant) -> Reader | None:
        """Return the recipient of a right to decrypt as a reader.

        Returns None if the node never releases a key for this grant.
        """
        closure = self._closure(grant)
        if closure is None:  # it depends on grants of another owner, which this owner cannot see
            return self._with_fetch_state(self._reader_of(grant, "grant", ""), grant, "undecided")
        if any(is_machine_token(cited.delegation) for cited in closure):
            return self._machine_reader(grant, closure)
        if is_membership(grant.delegation):
            return self._member_reader(grant, closure)
        if self._is_named_member(grant):
            return None
        policies = self._policies_in_force(closure)
        if not self._is_secret_allowed(policies):
            return None
        state = self._release_state(grant, policies)
        if state == "no_code" and self._signed_in_member(grant) is not None:
            return None
        if state != "no_code" and self._has_caveats_on_decryption(closure):
            state = "undecided"
        kind, name = self._kind_of(grant, state)
        reader = self._reader_of(grant, kind, name)._replace(policies=policies)
        if kind == "runner":
            reader = reader._replace(run=_run_statement(grant))
        return self._with_fetch_state(reader, grant, state)

    def _has_caveats_on_decryption(self, closure: Sequence[_Grant]) -> bool:
        """Return whether one of some delegations grants decryption only under caveats."""
        network = self._facts.network
        for grant in closure:
            if grant.decrypts(network) and not grant.decrypts_freely(network):
                return True
        return False

    def _is_named_member(self, grant: _Grant) -> bool:
        """Return whether a delegation is the sign-in of a member who is named as a reader.

        The key of another member's sign-in may request a key like everybody, if the sign-in is
        cited beside a second one (TM3). So it is judged like another grant.
        """
        if self._signed_in_member(grant) is None:
            return False
        (membership,) = self._parents(grant)
        closure = self._closure(membership)
        return closure is not None and self._member_reader(membership, closure) is not None

    def _machine_reader(self, grant: _Grant, closure: Sequence[_Grant]) -> Reader | None:
        """Return a machine token or a trust as a reader (MT4, OX4).

        Returns None if it opens nothing: a token that somebody passed on, a trust in another node.
        Tokens that the node made for jobs are not named: the trust is, on which they depend.
        """
        token = token_in(grant.delegation.header)
        if token is None or not same_principal(token.owner, self._facts.owner):
            return None
        if len(closure) > 1 and not self._is_of_admin(grant):
            return None
        stated = token.granted
        if self._facts.secret.text not in stated.paths:
            return None
        policies = self._policies_in_force(closure)
        if not self._is_secret_allowed(policies):
            return None
        if self._owner_needs_evidence(policies) and not self._are_terms_unknown():
            return None  # a machine token is never judged by evidence
        # A policy of the node may require evidence, and a machine token has none.
        is_undecided = self._are_terms_unknown()
        if isinstance(stated, MachineGrant):
            reader = self._reader_of(grant, "token", stated.name)._replace(policies=policies)
            return self._with_fetch_state(reader, grant, "undecided" if is_undecided else "now")
        if stated.key != self._facts.exchange_key:  # the owner trusts another node
            return None
        claims = [f"iss = {stated.issuer}"]
        for claim, values in stated.claims.items():
            claims.append(f"{claim} = {' or '.join(str(value) for value in values)}")
        reader = self._reader_of(grant, "ci", stated.name)
        reader = reader._replace(policies=policies, claims=tuple(claims))
        return self._with_fetch_state(reader, grant, "undecided" if is_undecided else "id_token")

    def _member_reader(self, grant: _Grant, closure: Sequence[_Grant]) -> Reader | None:
        """Return a member of the team as a reader (TM4).

        Returns None if the membership is not valid, or is not for the secret.
        """
        stated = self._valid_membership(grant)
        if stated is None or (stated.paths and self._facts.secret.text not in stated.paths):
            return None
        policies = self._policies_in_force(closure)
        if not self._is_secret_allowed(policies):
            return None
        if self._owner_needs_evidence(policies) and not self._are_terms_unknown():
            return None  # a member is never judged by evidence
        reader = self._reader_of(grant, "member", stated.name or "")._replace(policies=policies)
        return self._with_fetch_state(
            reader, grant, "undecided" if self._are_terms_unknown() else "now"
        )

    def _release_state(self, grant: _Grant, policies: Sequence[Policy]) -> State:
        """Return when the node releases a key for a grant."""
        if self._are_terms_unknown():
            return "undecided"
        facts = self._facts
        is_in_person = (
            grant.delegate in self._sessions
            and grant.delegator == facts.owner
            and is_sign_in(grant.delegation, registered_at=facts.now)
        )
        if is_in_person and not self._owner_needs_evidence(policies):
            return "now"
        if self._attestation_mode() == "off" and not policies:
            return "now"
        if self._has_owner_list(grant):
            return "attested"
        return "no_code"

    def _with_fetch_state(self, reader: Reader, grant: _Grant, state: State) -> Reader:
        """Add the state to a reader, as far as it may also fetch the envelope."""
        fetch = self._fetch_state(grant.delegate)
        if state == "no_code":
            return reader._replace(state=state)
        if fetch != "now":
            return reader._replace(state=fetch)
        if grant.record.status == "pending":
            return reader._replace(state="later")
        return reader._replace(state=state)

    def _fetch_state(self, delegate: Principal) -> State:
        """Return when somebody may fetch the envelope of the secret; `envelope`: never."""
        secret = self._facts.secret
        best_state: State = "envelope"
        for grant in self._grants.values():
            if grant.delegate == delegate and grant.gives(KV_GET, secret):
                state = self._fetch_state_by(grant, secret)
                if state == "now":
                    return state
                # A right that the node may allow now is not hidden by one that begins later.
                if best_state != "undecided":
                    best_state = state
        return best_state

    def _fetch_state_by(self, grant: _Grant, resource: Resource) -> State:
        """Return when a grant that covers a value lets its recipient fetch it."""
        if not self._fetches_freely(grant, resource):
            return "undecided"
        return "later" if grant.record.status == "pending" else "now"

    # --- facts about grants -----------------------------------------------------------------------

    def _closure(self, grant: _Grant) -> list[_Grant] | None:
        """Return a grant and all that it depends on; None if one of them is not in the list."""
        waiting = [grant]
        visited: dict[Digest, _Grant] = {}
        while waiting:
            current = waiting.pop()
            if current.delegation.cid in visited:
                continue
            visited[current.delegation.cid] = current
            for parent in current.delegation.parents:
                listed_parent = None if parent.digest is None else self._grants.get(parent.digest)
                if listed_parent is None:
                    return None
                waiting.append(listed_parent)
        return list(visited.values())

    def _fetches_freely(self, grant: _Grant, resource: Resource) -> bool:
        """Return whether a grant, and all that it depends on, allows fetching without caveats."""
        closure = self._closure(grant)
        if closure is None:
            return False
        for delegation in closure:
            if delegation.gives(KV_GET, resource) and not delegation.gives_freely(KV_GET, resource):
                return False
        return grant.gives_freely(KV_GET, resource)

    def _has_owner_list(self, grant: _Grant) -> bool:
        """Return whether the owner named code for a grant, as step 5 of the gate requires."""
        network_policy = self._facts.network_policy
        if network_policy is not None and network_policy.is_allow_list:
            return True
        for decrypt_grant in self._decrypt_grants(grant):
            names_code = any(policy.is_allow_list for policy in decrypt_grant.policies)
            if names_code and self._is_statement_of_owner(decrypt_grant):
                return True
        # Where a policy of the node may replace the list, `_release_state` has answered already.
        return self._attestation_mode() == "off"

    def _decrypt_grants(self, grant: _Grant) -> Iterator[_Grant]:
        """Yield the delegations through which a recipient got the right to decrypt."""
        waiting = [grant]
        seen: set[Digest] = set()
        while waiting:
            current = waiting.pop(0)
            if current.delegation.cid in seen or not current.decrypts(self._facts.network):
                continue
            seen.add(current.delegation.cid)
            yield current
            if current.delegator == self._facts.owner:
                continue
            for parent in self._parents(current):
                if parent.delegate == current.delegator:
                    waiting.append(parent)

    def _is_statement_of_owner(self, grant: _Grant) -> bool:
        """Return whether the owner in person or an admin signed a delegation (RL4, TM6)."""
        if grant.delegator == self._facts.owner or self._is_of_admin(grant):
            return True
        parents = self._parents(grant)
        if not parents or grant.delegator not in self._sessions:
            return False
        return all(
            parent.delegator == self._facts.owner
            and parent.delegate == grant.delegator
            and is_sign_in(parent.delegation, registered_at=self._facts.now)
            for parent in parents
        )

    def _valid_membership(self, grant: _Grant) -> Membership | None:
        """Return what a membership of the owner states; None if it is not valid (TM1, TM2)."""
        delegation = grant.delegation
        if not is_membership(delegation):
            return None
        now = self._facts.now
        parents = self._parents(grant)
        try:
            stated = stated_membership(delegation, registered_at=now)
            above = [as_registered(parent.delegation, now) for parent in parents]
            check_admitted(delegation, stated, above)
            team = team_of(delegation)
        except CapabilityError:
            return None
        is_above_valid = all(self._valid_membership(parent) is not None for parent in parents)
        return stated if team == self._facts.owner and is_above_valid else None

    def _membership_of_signer(self, grant: _Grant) -> Membership | None:
        """Return the membership that a delegation cites alone, if it is that of its signer."""
        parents = self._parents(grant)
        if len(parents) != 1 or len(grant.delegation.parents) != 1:
            return None
        cited = self._valid_membership(parents[0])
        if cited is None or cited.member != grant.delegator:
            return None
        return cited

    def _signed_in_member(self, grant: _Grant) -> Membership | None:
        """Return the membership of which a delegation is the member's sign-in (TM3)."""
        if not signs_in_a_key(grant.delegation, registered_at=self._facts.now):
            return None
        return self._membership_of_signer(grant)

    def _is_of_admin(self, grant: _Grant) -> bool:
        """Return whether an admin's wallet, or a key in which it signed in, signed a delegation."""
        admin = self._membership_of_signer(grant)
        parents = self._parents(grant)
        if admin is None and len(parents) == 1 and parents[0].delegate == grant.delegator:
            admin = self._signed_in_member(parents[0])
        return admin is not None and admin.role == "admin"

    def _parents(self, grant: _Grant) -> list[_Grant]:
        """Return the delegations that a delegation cites, as far as they are in the list."""
        listed_parents = []
        for parent in grant.delegation.parents:
            listed_parent = None if parent.digest is None else self._grants.get(parent.digest)
            if listed_parent is not None:
                listed_parents.append(listed_parent)
        return listed_parents

    def _policies_in_force(self, closure: Collection[_Grant]) -> tuple[Policy, ...]:
        """Return the policies of the owner's network and of delegations, without repetition."""
        policies = []
        if self._facts.network_policy is not None:
            policies.append(self._facts.network_policy)
        for grant in closure:
            policies.extend(grant.policies)
        return tuple(dict.fromkeys(policies))

    def _is_secret_allowed(self, policies: Collection[Policy]) -> bool:
        """Return whether all policies allow the key of the secret to be released."""
        secret = self._facts.secret.text
        return all(not policy.paths or secret in policy.paths for policy in policies)

    def _owner_needs_evidence(self, policies: Collection[Policy]) -> bool:
        """Return whether even the owner in person needs attestation evidence."""
        return self._is_everyone_mode() or not all(policy.in_person for policy in policies)

    def _is_everyone_mode(self) -> bool:
        return self._attestation_mode() == "everyone"

    def _attestation_mode(self) -> str:
        terms = self._facts.terms
        return "" if terms is None else terms.attestation

    def _are_terms_unknown(self) -> bool:
        """Return whether a policy of the node applies, whose content it does not publish."""
        terms = self._facts.terms
        return terms is None or (terms.node_policy and terms.attestation != "off")

    # --- words about grants -----------------------------------------------------------------------

    def _kind_of(self, grant: _Grant, state: State) -> tuple[Kind, str]:
        """Return what the recipient of a grant is, and the name that it has."""
        if grant.delegate in self._sessions and grant.delegator == self._facts.owner:
            return "session", _domain_of(grant)
        if _run_statement(grant) is not None:
            return "runner", ""
        return ("backend" if state == "attested" else "grant"), ""

    def _reader_of(self, grant: _Grant, kind: Kind, name: str) -> Reader:
        """Return the recipient of a grant as a reader, with the giver and the times of the grant.

        It ends with the first of the delegations that it depends on.
        """
        # If one of these is not in the owner's list, only the grant's own end is known.
        known_delegations = self._closure(grant) or [grant]
        expiry_times = []
        for known in known_delegations:
            if known.delegation.expires_at is not None:
                expiry_times.append(known.delegation.expires_at)
        return Reader(
            kind=kind,
            did=grant.delegate,
            name=name,
            grant=grant.record.cid,
            granted_by=grant.delegator,
            since=grant.delegation.not_before or grant.delegation.issued_at,
            until=min(expiry_times, default=None),
        )


def _run_statement(grant: _Grant) -> RunStatement | None:
    """Return the programs and callers of a grant to a runner, or None for other grants."""
    run = run_grant_in(grant.delegation.header, grant.delegate)
    return None if run is None else run.statement


def _domain_of(grant: _Grant) -> str:
    """Return the domain in the message that a wallet signed."""
    envelope = parse_delegation(grant.delegation.header).envelope
    return envelope.message.domain if isinstance(envelope, Cacao) else ""
