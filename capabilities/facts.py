"""Statements beside the capabilities: what the node reads in `fct`, and policy statements in
sign-in texts.

Three kinds matter here: a delegation that may not be passed on (3.4), policy objects that are not
ordinary grants (3.8), and an owner's conditions on who may open keys. The last are only carried
here; the release gate reads them. A UCAN contains them as the fact `{"sealspace.attestation/v1":
{...}}`, a sign-in text as a resource `urn:sealspace:attestation:v1:<base64url of the JSON>` before
its ReCap.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import libipld
import msgspec

from .capability_errors import InvalidJson, MalformedToken
from .strict_base64 import encode_url
from .strict_json import Json, parse_json

ATTESTATION_FACT: Final = "sealspace.attestation/v1"
"""Member of a delegation's fact that holds a policy."""
ATTESTATION_URN: Final = "urn:sealspace:attestation:v1:"
MAX_STATEMENT_BYTES: Final = 65_536

SESSION_FACT: Final = "sealspace.attestation.session/v1"
"""`type` of the fact that binds a token to a quote that is submitted."""
POLICY_FACT: Final = "sealspace.encryption.policy/v1"
"""`type` of the fact that binds a token to a network's new policy."""
WITHDRAWAL_FACT: Final = "sealspace.encryption.withdrawal/v1"
"""`type` of the fact that binds a token to what is withdrawn of a network."""

_FACT_FAMILY: Final = "sealspace.attestation/"
_ATTESTATION_FAMILY: Final = "urn:sealspace:attestation:"
_DELEGATION_MODE: Final = "xyz.tinycloud.policy/delegationMode"
_ROOT_ROLES: Final = ("policy-authority", "policy-enforcement")
_SESSION_PROFILE: Final = "policy-session-ucan/v1"


def is_terminal(facts: Iterable[Json]) -> bool:
    """Return whether any fact says that the grant may be used but not passed on (3.4)."""
    return any(
        isinstance(fact, dict) and fact.get(_DELEGATION_MODE) == "terminal" for fact in facts
    )


def policy_profile_refusal(facts: tuple[Json, ...]) -> str | None:
    """Return why a delegation with these facts is no ordinary grant, None when it is one (3.8).

    Only a sole fact counts. A role alone is an ordinary fact; with any other member beside it, it
    claims to be a policy root, whichever its members are.
    """
    if len(facts) != 1 or not isinstance(facts[0], dict):
        return None
    fact = facts[0]
    if fact.get("profile") == _SESSION_PROFILE:
        return "policy-session-parent-invalid"
    if fact.get("role") in _ROOT_ROLES and len(fact) > 1:
        return "policy-root-requires-registration"
    return None


def states_policy(facts: Iterable[Json]) -> bool:
    """Return whether any member, however deep in the facts, is named as a policy on who may open
    keys.

    Code that reads policies looks only at members of the facts themselves, in the one spelling; it
    has to refuse the rest, so that no condition is ignored (RL8).
    """
    left: list[Json] = list(facts)
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if any(is_policy_name(name) for name in value):
                return True
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return False


def is_policy_name(name: str) -> bool:
    """Return whether a member is named as a policy, of whatever version, whatever case its name is
    in."""
    return name[: len(_FACT_FAMILY)].lower() == _FACT_FAMILY


def attestation_resource(statement: Mapping[str, Json]) -> str:
    """Return the resource that puts a policy statement into a sign-in text."""
    body = msgspec.json.encode(statement, order="deterministic")
    return ATTESTATION_URN + encode_url(body)


def attestation_facts(resources: Iterable[str]) -> tuple[Json, ...]:
    """Return the policy statements among a sign-in text's resources, as the facts they are in a
    UCAN."""
    # Any case of the family's name: a wrongly written prefix is refused below, not ignored.
    return tuple(
        _fact(text)
        for text in resources
        if text[: len(_ATTESTATION_FAMILY)].lower() == _ATTESTATION_FAMILY
    )


def _fact(resource: str) -> Json:
    if not resource.startswith(ATTESTATION_URN):
        raise MalformedToken("policy statement of an unknown version")
    try:
        data = libipld.decode_multibase("u" + resource.removeprefix(ATTESTATION_URN))[1]
        return {ATTESTATION_FACT: parse_json(data, max_bytes=MAX_STATEMENT_BYTES)}
    except (ValueError, InvalidJson) as exc:
        raise MalformedToken("policy statement is no JSON object in base64url") from exc
