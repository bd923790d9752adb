"""Grants and requests for secrets that a program runner generates (RN140 to RN144).

The owner grants `tinycloud.kv/put` on exactly the paths of the new secrets, and sends a request
with a token as for a call, whose program is the text `secrets/generate`:

    POST /secrets/generate
    {"owner": DID, "profile": "default" or a scope,
     "new_secrets": [{"name": "PROTECTED_KEY", "generation_type": "hex32"}, …]}

Example:
    body = generation_body("did:key:z6Mk…", None, {"PROTECTED_KEY": "hex32"})
    assert body["profile"] == "default"
"""

import re
from collections.abc import Mapping

from capabilities.abilities import KV_PUT
from capabilities.frozen import frozen
from capabilities.principals import Principal
from capabilities.resources import SpaceResource
from capabilities.strict_json import Json, JsonObject

from ..errors import InvalidInput, InvalidPortableDelegation, InvalidSecretName
from .run_grants import listed_secret, verified_own
from .secret_names import (
    DEFAULT_PROFILE,
    PROTECTED_PREFIX,
    SecretName,
    is_protected,
    is_secret_name,
)

GENERATE = "secrets/generate"
"""The program in the token of a request to generate; never the name of a project or a hash."""
MAX_GENERATED = 16
MAX_NAME_CHARS = 128

_TYPE = re.compile(
    r"hex16|hex32|hex64|ed25519|ed25519_seed|password"
    r"|password:(?:[89]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-6])"  # 8 to 256, in one spelling
)


@frozen(kw_only=True)
class GenerationGrant:
    """A verified grant that lets a runner write generated secrets."""

    owner: Principal
    secrets: frozenset[SecretName]
    expires_at: float


def checked_generation_type(text: str) -> str:
    """Validate and return the type of a generated secret.

    Raises InvalidInput if the type is unknown.
    """
    if _TYPE.fullmatch(text) is None:
        raise InvalidInput(
            "unknown type of generated secret",
            hint="use hex16, hex32, hex64, ed25519, ed25519_seed, password, or password:N with N"
            " from 8 to 256",
        )
    return text


def checked_generated_name(name: str) -> str:
    """Validate and return the name of a generated secret.

    Raises InvalidSecretName if the name is not valid.
    """
    is_valid_name = is_secret_name(name) and len(name) <= MAX_NAME_CHARS
    if not is_valid_name or not is_protected(name):
        raise InvalidSecretName(
            f"the name of a generated secret must begin with {PROTECTED_PREFIX}, and have only"
            " capitals, digits and underscores",
            hint=f"choose a name such as {PROTECTED_PREFIX}SIGNING_KEY",
        )
    return name


def generation_body(owner: str, scope: str | None, wanted: Mapping[str, str]) -> JsonObject:
    """Return the body of a request for new secrets.

    Args:
        owner: DID of the owner.
        scope: scope of the secrets; None: the default profile.
        wanted: type of each secret by its name, 1 to 16.
    Raises:
        InvalidInput: there are too many secrets or none, or a type is unknown.
        InvalidSecretName: a name is not that of a generated secret.
    """
    if not 1 <= len(wanted) <= MAX_GENERATED:
        raise InvalidInput(f"a request can generate 1 to {MAX_GENERATED} secrets")
    new_secrets: list[Json] = []
    for name, generation_type in wanted.items():
        new_secrets.append(
            {
                "name": checked_generated_name(name),
                "generation_type": checked_generation_type(generation_type),
            }
        )
    return {
        "owner": owner,
        "profile": scope or DEFAULT_PROFILE,
        "new_secrets": new_secrets,
    }


def read_generation_grant(header: str, *, runner: str) -> GenerationGrant:
    """Parse and verify a grant that lets a runner write generated secrets (RN143).

    Args:
        header: CACAO or UCAN text, untrusted.
        runner: DID of the runner to which the grant must be issued.
    Raises:
        InvalidPortableDelegation: a rule is broken; the message says which.
    Does not check:
        Expiry and revocation: the node does, at each write.
    """
    own_grant = verified_own(header, runner=runner)
    delegation = own_grant.delegation
    expires_at = own_grant.expires_at
    secrets: list[SecretName] = []
    for right in delegation.capabilities:
        if right.ability != KV_PUT or not isinstance(right.resource, SpaceResource):
            raise InvalidPortableDelegation(
                f"a grant for generated secrets may allow only {KV_PUT} on secrets, but this grant"
                f" allows {right.ability}"
            )
        secrets.append(listed_secret(right.resource))
    is_allowed_count = 1 <= len(secrets) <= MAX_GENERATED
    are_all_protected = all(is_protected(secret.name) for secret in secrets)
    if not is_allowed_count or not are_all_protected:
        raise InvalidPortableDelegation(
            f"a grant for generated secrets must list 1 to {MAX_GENERATED} secrets, and every name"
            f" must begin with {PROTECTED_PREFIX}"
        )
    return GenerationGrant(
        owner=delegation.delegator, secrets=frozenset(secrets), expires_at=expires_at
    )
