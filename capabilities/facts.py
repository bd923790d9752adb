"""Facts, which are additional statements in a token.

The node reads three kinds: a delegation that may not be passed on (3.4), policy objects that are
not ordinary grants (3.8), and an owner's conditions on who may open keys. The last are only
extracted here; the release gate evaluates them.

A UCAN states a policy as the fact `{"sealspace.attestation/v1": {...}}`, a sign-in text as a
resource `urn:sealspace:attestation:v1:<base64url of the JSON>` before its ReCap.
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
MAX_STATEMENT_BYTES = 65_536

SESSION_FACT = "sealspace.attestation.session/v1"
"""`type` of the fact that binds a token to a submitted quote."""
POLICY_FACT = "sealspace.encryption.policy/v1"
"""`type` of the fact that binds a token to a network's new policy."""
WITHDRAWAL_FACT = "sealspace.encryption.withdrawal/v1"
"""`type` of the fact that binds a token to a withdrawal on a network."""

_FACT_FAMILY = "sealspace.attestation/"
_ATTESTATION_FAMILY = "urn:sealspace:attestation:"
_DELEGATION_MODE = "xyz.tinycloud.policy/delegationMode"
_ROOT_ROLES = ("policy-authority", "policy-enforcement")
_SESSION_PROFILE = "policy-session-ucan/v1"


def is_terminal(facts: Iterable[Json]) -> bool:
    """Return whether a delegation's facts forbid further delegation (3.4)."""
    return any(
        isinstance(fact, dict) and fact.get(_DELEGATION_MODE) == "terminal" for fact in facts
    )


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


def contains_policy(facts: Iterable[Json]) -> bool:
    """Return whether a token's facts contain a release policy.

    The facts are searched at any depth. Policies are read only from direct members of a fact, with
    the exact name. Callers reject a policy anywhere else, so that no condition is ignored (RL8).
    """
    pending: list[Json] = list(facts)
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if any(is_policy_name(name) for name in value):
                return True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False


def is_policy_name(name: str) -> bool:
    """Return whether a JSON member name denotes a release policy.

    Version and case are ignored.
    """
    return name[: len(_FACT_FAMILY)].lower() == _FACT_FAMILY


def attestation_resource(statement: Mapping[str, Json]) -> str:
    """Encode a release policy as a URN for a sign-in message."""
    body = msgspec.json.encode(statement, order="deterministic")
    return ATTESTATION_URN + encode_url(body)


def attestation_facts(resources: Iterable[str]) -> tuple[Json, ...]:
    """Convert a sign-in message's release policies to UCAN facts.

    Each policy is one of the resources in the message.
    """
    # Any case matches: a misspelt prefix has to be rejected below. Ignoring it would drop the
    # owner's condition.
    return tuple(
        _fact(text)
        for text in resources
        if text[: len(_ATTESTATION_FAMILY)].lower() == _ATTESTATION_FAMILY
    )


def _fact(resource: str) -> Json:
    if not resource.startswith(ATTESTATION_URN):
        raise MalformedToken("the policy statement has an unknown version")
    try:
        data = libipld.decode_multibase("u" + resource.removeprefix(ATTESTATION_URN))[1]
        return {ATTESTATION_FACT: parse_json(data, max_bytes=MAX_STATEMENT_BYTES)}
    except (ValueError, InvalidJson) as exc:
        raise MalformedToken("the policy statement is not a JSON object in base64url") from exc
