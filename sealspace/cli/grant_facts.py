"""One grant: read from its portable form and judged without a node, then said in words or as JSON.

Example:
    facts = judged_offline(decode_portable(path.read_bytes()))
    print_lines(*grant_words(facts, "active"))
"""

from dataclasses import dataclass
from typing import Final

from capabilities.errors import CapabilityError, InvalidIdentifier
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json
from capabilities.tokens import parse_delegation, verify_delegation
from encryption_network.errors import PolicyError
from encryption_network.policy import Policy, policies_of, policy_json

from ..apps.descriptions import policy_words, rights_json, rights_words, run_grant_of, run_words
from ..documents.run_grants import RunStatement, run_statement_json
from ..errors import InvalidPortableDelegation
from ..wire.portable import GrantedResource, PortableDelegation, grant_of, portable_of
from .terminal import optional_time, time_text

_HINT: Final = "ask whoever gave it for the file as `sealspace grant create` wrote it"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantFacts:
    """What a grant's token says; its signature holds."""

    cid: str
    delegator: str
    delegate: str
    rights: tuple[GrantedResource, ...]
    policies: tuple[Policy, ...]
    run: RunStatement | None
    parents: tuple[str, ...]
    has_conditions: bool
    is_terminal: bool
    issued_at: float | None
    not_before: float | None
    expires_at: float | None
    host: str

    def state(self, now: float) -> str:
        """Return `active`, `expired` or `not valid yet`, by the grant's own times."""
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "not valid yet" if self.not_before is not None and now < self.not_before else "active"


def judged_offline(portable: PortableDelegation) -> GrantFacts:
    """Check a portable grant as far as that is possible without a node.

    Args:
        portable: untrusted.
    Raises:
        InvalidPortableDelegation: the token cannot be read, its signature does not hold, or what stands beside it says
            more than it grants, or something else (MF16).
    Does not check:
        What it rests on, and whether it was revoked: a node does. Its times: see `GrantFacts.state`.
    """
    grant = grant_of(portable, now=0.0)  # whether it has ended is a state, and no fault
    try:
        token = verify_delegation(parse_delegation(portable.header))
        policies = policies_of(token.facts)
    except PolicyError as error:
        raise InvalidPortableDelegation(f"the grant's policy is none: {error}", hint=_HINT) from None
    except CapabilityError as error:
        raise InvalidPortableDelegation(f"the grant's token does not hold: {error.text}", hint=_HINT) from None
    return GrantFacts(
        cid=grant.cid,
        delegator=token.delegator,
        delegate=token.delegate,
        rights=portable_of(grant, owner=portable.owner, host=portable.host).resources,
        policies=policies,
        run=None if (run := run_grant_of(portable)) is None else run.statement,
        parents=tuple(parent.echo for parent in token.parents),
        has_conditions=any(one.caveats for one in token.capabilities),
        is_terminal=token.terminal,
        issued_at=token.issued_at,
        not_before=token.not_before,
        expires_at=token.expires_at,
        host=portable.host,
    )


# --- saying it --------------------------------------------------------------------------------------------------------


def grant_words(facts: GrantFacts, state: str) -> tuple[str, ...]:
    """Return what a grant says, a fact a line."""
    lines = [f"grant    {facts.cid}", f"state    {state}", f"by       {facts.delegator}", f"to       {facts.delegate}"]
    lines += [f"may      {one}" for one in rights_words(facts.rights, by=facts.delegator)]
    if facts.has_conditions:
        lines.append("under    conditions that only the node can judge")
    for policy in facts.policies:
        lines += [f"only     {one}" for one in policy_words(policy)]
    if facts.run is not None:
        lines += [f"runs     {one}" for one in run_words(facts.run)]
    if facts.not_before is not None:
        lines.append(f"from     {time_text(facts.not_before)}")
    lines.append(f"until    {optional_time(facts.expires_at) or 'no end is stated'}")
    lines.append(f"passing  {'not allowed' if facts.is_terminal else 'allowed: the recipient may grant parts of it'}")
    if facts.parents:
        number = len(facts.parents)
        lines.append(f"rests    on {number} other grant{'s' if number != 1 else ''}, which only the node can judge")
    lines.append(f"node     {facts.host or 'not stated'}")
    return tuple(lines)


def grant_json(facts: GrantFacts, state: str) -> dict[str, Json]:
    """Return the same for a program; times as RFC 3339."""
    return {
        "cid": facts.cid,
        "state": state,
        "by": facts.delegator,
        "to": facts.delegate,
        "rights": rights_json(facts.rights),
        "hasConditions": facts.has_conditions,
        "policies": [policy_json(one) for one in facts.policies],
        "run": None if facts.run is None else run_statement_json(facts.run),
        "parents": list(facts.parents),
        "mayBePassedOn": not facts.is_terminal,
        "issuedAt": optional_time(facts.issued_at),
        "notBefore": optional_time(facts.not_before),
        "expiresAt": optional_time(facts.expires_at),
        "node": facts.host,
    }


def time_of(text: str | None) -> str | None:
    """Return a time that a node wrote in the form of all output; what is no time stays as it is."""
    try:
        return None if text is None else time_text(parse_rfc3339(text))
    except InvalidIdentifier:
        return text
