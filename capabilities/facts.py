"""Facts, which are additional statements in a token.

The node reads six kinds: a delegation that may not be passed on (3.4), policy objects that are
not ordinary grants (3.8), an owner's conditions on who may open keys, the statement of a machine
token, that of a trust in an issuer, and that of a membership of a team. The release gate evaluates
the last four, which are only extracted here. Clients read a seventh kind: whether the recipient may
use values without a place (EN47).

A UCAN states a policy as the fact `{"sealspace.attestation/v1": {...}}`, a sign-in text as a
resource `urn:sealspace:attestation:v1:<base64url of the JSON>` before its ReCap. A machine token
is stated likewise, with `machine` for `attestation`, a trust with `oidc`, a membership with
`member`, and the statement about values with `values`.
"""

from collections.abc import Iterable, Mapping

import libipld
import msgspec

from .capability_errors import InvalidJson, MalformedToken
from .strict_base64 import encode_url
from .strict_json import Json, parse_json

ATTESTATION_FACT = "sealspace.attestation/v1"
"""Member of a delegation's fact that contains a release policy."""
ATTESTATION_URN = "urn:sealspace:attestation:v1:"
MACHINE_FACT = "sealspace.machine/v1"
"""Member of a delegation's fact that makes it a machine token (`machine_tokens`)."""
MACHINE_URN = "urn:sealspace:machine:v1:"
OIDC_FACT = "sealspace.oidc/v1"
"""Member of a delegation's fact that makes it a trust in an issuer (`machine_tokens`)."""
OIDC_URN = "urn:sealspace:oidc:v1:"
MACHINE_FACTS = (MACHINE_FACT, OIDC_FACT)
"""The two statements of delegations that read secrets without evidence."""
MEMBER_FACT = "sealspace.member/v1"
"""Member of a delegation's fact that makes it a membership of a team (`members`)."""
MEMBER_URN = "urn:sealspace:member:v1:"
GATE_FACTS = (*MACHINE_FACTS, MEMBER_FACT)
"""The statements, beside policies, that the release gate reads."""
VALUES_FACT = "sealspace.values/v1"
"""Member of a delegation's fact that says which values its recipient may use (EN47)."""
VALUES_URN = "urn:sealspace:values:v1:"
MAX_STATEMENT_BYTES = 65_536

SESSION_FACT = "sealspace.attestation.session/v1"
"""`type` of the fact that binds a token to a submitted quote."""
POLICY_FACT = "sealspace.encryption.policy/v1"
"""`type` of the fact that binds a token to a network's new policy."""
WITHDRAWAL_FACT = "sealspace.encryption.withdrawal/v1"
"""`type` of the fact that binds a token to a withdrawal on a network."""
KEYS_FACT = "sealspace.encryption.keys/v1"
"""`type` of the fact that binds a token to a change of the versions of a network's key."""

_FACT_FAMILIES = (
    "sealspace.attestation/",
    "sealspace.machine/",
    "sealspace.oidc/",
    "sealspace.member/",
)
URNS = {
    ATTESTATION_FACT: ATTESTATION_URN,
    MACHINE_FACT: MACHINE_URN,
    OIDC_FACT: OIDC_URN,
    MEMBER_FACT: MEMBER_URN,
    VALUES_FACT: VALUES_URN,
}
_DELEGATION_MODE = "xyz.tinycloud.policy/delegationMode"
_ROOT_ROLES = ("policy-authority", "policy-enforcement")
_SESSION_PROFILE = "policy-session-ucan/v1"


def is_terminal(facts: Iterable[Json]) -> bool:
    """Return whether a delegation's facts forbid further delegation (3.4, MT3)."""
    return states_machine(facts) or any(
        isinstance(fact, dict) and fact.get(_DELEGATION_MODE) == "terminal" for fact in facts
    )


def states_machine(facts: Iterable[Json]) -> bool:
    """Return whether a fact has the statement of a machine token or of a trust, valid or not."""
    for fact in facts:
        if isinstance(fact, dict) and (MACHINE_FACT in fact or OIDC_FACT in fact):
            return True
    return False


def states_membership(facts: Iterable[Json]) -> bool:
    """Return whether a fact has the statement of a membership, valid or not."""
    return any(isinstance(fact, dict) and MEMBER_FACT in fact for fact in facts)


def states_unbound_values(facts: Iterable[Json]) -> bool:
    """Return whether a fact lets the recipient use values without a place (EN47).

    Facts of another form or version allow nothing.
    """
    for fact in facts:
        if isinstance(fact, dict) and VALUES_FACT in fact:
            stated = fact[VALUES_FACT]
            if isinstance(stated, dict) and len(stated) == 1 and stated.get("unbound") is True:
                return True
    return False


def policy_profile_refusal(facts: tuple[Json, ...]) -> str | None:
    """Return an error code if a delegation contains a policy object (3.8).

    Policy objects are refused, because they are not ordinary grants. For other facts the result is
    None.

    Only a token with a single fact can be a policy object. A role alone is an ordinary fact; with
    any member beside it, the fact counts as a policy root.
    """
    if len(facts) != 1 or not isinstance(facts[0], dict):
        return None
    fact = facts[0]
    if fact.get("profile") == _SESSION_PROFILE:
        return "policy-session-parent-invalid"
    if fact.get("role") in _ROOT_ROLES and len(fact) > 1:
        return "policy-root-requires-registration"
    return None


def contains_statement(facts: Iterable[Json]) -> bool:
    """Return whether facts contain a statement that the release gate reads.

    The facts are searched at any depth. Statements are read only from direct members of a fact,
    with the exact name. Callers reject a statement anywhere else, so that no condition is ignored
    (RL8, MT2).
    """
    pending: list[Json] = list(facts)
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if any(is_statement_name(name) for name in value):
                return True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False


def is_statement_name(name: str) -> bool:
    """Return whether a JSON member name denotes a statement that the release gate reads.

    These are release policies, machine tokens, trusts and memberships.

    Version and case are ignored.
    """
    return name.lower().startswith(_FACT_FAMILIES)


def statement_resource(statement: Mapping[str, Json], *, urn: str = ATTESTATION_URN) -> str:
    """Encode a release policy or another statement as a URN for a sign-in message."""
    return urn + encode_url(msgspec.json.encode(statement, order="deterministic"))


def statement_facts(resources: Iterable[str]) -> tuple[Json, ...]:
    """Convert the statements in a sign-in message to UCAN facts.

    Each release policy, and each statement of a machine token, of a trust, of a membership or about
    values, is one of the message's resources.
    """
    # A prefix matches in any case and version. `_fact` rejects those that are not written exactly;
    # ignoring them here would drop the owner's condition.
    return tuple(
        _fact(text, urn, name)
        for text in resources
        for name, urn in URNS.items()
        if text.lower().startswith(urn.removesuffix("v1:"))
    )


def _fact(resource: str, urn: str, name: str) -> Json:
    """Convert a statement in a sign-in message to a fact with the given name."""
    try:
        if not resource.startswith(urn):
            raise ValueError("the prefix has another case or version")
        data = libipld.decode_multibase("u" + resource.removeprefix(urn))[1]
        return {name: parse_json(data, max_bytes=MAX_STATEMENT_BYTES)}
    except (ValueError, InvalidJson) as exc:
        # Texts that an earlier version stored have to stay readable. Registration and the gate
        # refuse a machine token, trust or membership with this statement (MT2, MT4, TM2), and a
        # statement about values that is not an object allows nothing (EN47).
        if name != ATTESTATION_FACT:
            return {name: None}
        raise MalformedToken(f"a policy is not {urn} and a JSON object in base64url") from exc
