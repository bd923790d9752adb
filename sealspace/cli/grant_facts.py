"""One grant: read from its portable form and judged without a node, then said in words or as JSON.

Example:
    grant = judged_offline(decode_portable(path.read_bytes()))
    print_lines(*grant_words(grant, "active"))
"""

from typing import Final, NamedTuple

from capabilities.errors import CapabilityError, InvalidIdentifier
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json
from capabilities.tokens import Delegation, parse_delegation, verify_delegation
from encryption_network.errors import PolicyError
from encryption_network.policy import Policy, policies_of, policy_json

from ..apps.descriptions import policy_words, rights_json, rights_words, run_grant_of, run_words
from ..documents.run_grants import RunStatement, run_statement_json
from ..errors import InvalidPortableDelegation
from ..wire.portable import GrantedResource, PortableDelegation, described, grant_of
from .terminal import facts, optional_time, time_text

_HINT: Final = "ask whoever gave it for the file as `sealspace grant create` wrote it"


class JudgedGrant(NamedTuple):
    """A grant whose token's signature holds, and what the token says."""

    cid: str
    token: Delegation
    rights: tuple[GrantedResource, ...]
    policies: tuple[Policy, ...]
    run: RunStatement | None
    host: str

    def state(self, now: float) -> str:
        """Return `active`, `expired` or `not valid yet`, by the grant's own times."""
        token = self.token
        if token.expires_at is not None and token.expires_at <= now:
            return "expired"
        return "not valid yet" if token.not_before is not None and now < token.not_before else "active"


def judged_offline(portable: PortableDelegation) -> JudgedGrant:
    """Check a portable grant as far as that is possible without a node.

    Args:
        portable: untrusted.
    Raises:
        InvalidPortableDelegation: the token cannot be read, its signature does not hold, or what stands beside it says
            more than it grants, or something else (MF16).
    Does not check:
        What it rests on, and whether it was revoked: a node does. Its times: see `JudgedGrant.state`.
    """
    grant = grant_of(portable, now=0.0)  # whether it has ended is a state, and no fault
    try:
        token = verify_delegation(parse_delegation(portable.header))
        policies = policies_of(token.facts)
    except PolicyError as error:
        raise InvalidPortableDelegation(f"the grant's policy is none: {error}", hint=_HINT) from None
    except CapabilityError as error:
        raise InvalidPortableDelegation(f"the grant's token does not hold: {error.text}", hint=_HINT) from None
    run = run_grant_of(portable)
    statement = None if run is None else run.statement
    return JudgedGrant(grant.cid, token, described(grant.capabilities), policies, statement, portable.host)


# --- saying it --------------------------------------------------------------------------------------------------------


def grant_words(grant: JudgedGrant, state: str) -> list[str]:
    """Return what a grant says, a fact a line."""
    token, number = grant.token, len(grant.token.parents)
    others = f"on {number} other grant{'s' if number != 1 else ''}, which only the node can judge"
    return facts(
        {
            "grant": grant.cid,
            "state": state,
            "by": token.delegator,
            "to": token.delegate,
            "may": rights_words(grant.rights, by=token.delegator),
            "under": "conditions that only the node can judge" if _has_conditions(token) else None,
            "only": [line for policy in grant.policies for line in policy_words(policy)],
            "runs": None if grant.run is None else run_words(grant.run),
            "from": optional_time(token.not_before),
            "until": optional_time(token.expires_at) or "no end is stated",
            "passing": "not allowed" if token.terminal else "allowed: the recipient may grant parts of it",
            "rests": others if number else None,
            "node": grant.host or "not stated",
        }
    )


def grant_json(grant: JudgedGrant, state: str) -> dict[str, Json]:
    """Return the same for a program; times as RFC 3339."""
    token = grant.token
    return {
        "cid": grant.cid,
        "state": state,
        "by": token.delegator,
        "to": token.delegate,
        "rights": rights_json(grant.rights),
        "hasConditions": _has_conditions(token),
        "policies": [policy_json(one) for one in grant.policies],
        "run": None if grant.run is None else run_statement_json(grant.run),
        "parents": [parent.echo for parent in token.parents],
        "mayBePassedOn": not token.terminal,
        "issuedAt": optional_time(token.issued_at),
        "notBefore": optional_time(token.not_before),
        "expiresAt": optional_time(token.expires_at),
        "node": grant.host,
    }


def _has_conditions(token: Delegation) -> bool:
    return any(one.caveats for one in token.capabilities)


def time_of(text: str | None) -> str | None:
    """Return a time that a node wrote in the form of all output; what is no time stays as it is."""
    try:
        return None if text is None else time_text(parse_rfc3339(text))
    except InvalidIdentifier:
        return text
