"""Secrets that a runner makes: their types, the request, and the grant by which they are written (RN140 to RN144).

The owner grants `tinycloud.kv/put` on exactly the paths that are to be written, and asks with a token as for a call,
whose program is the text `secrets/generate`:

    POST /secrets/generate   {"owner": DID, "profile": "default" or a scope,
                              "new_secrets": [{"name": "PROTECTED_KEY", "generation_type": "hex32"}, …]}

Example:
    wanted = {"PROTECTED_KEY": checked_generation_type("password:64")}
    body = generation_body(session.owner, None, wanted)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capabilities.abilities import KV_PUT
from capabilities.principals import Principal
from capabilities.resources import SpaceResource
from capabilities.strict_json import Json

from ..errors import InvalidInput, InvalidPortableDelegation, InvalidSecretName
from .run_grants import listed_secret, verified_own
from .secret_names import PROTECTED_PREFIX, SecretName, is_protected, is_secret_name

GENERATE: Final = "secrets/generate"
"""What a token to generate names as its program; no project and no hash is written so."""
MAX_GENERATED: Final = 16
MAX_NAME_CHARS: Final = 128
DEFAULT_PROFILE: Final = "default"

_TYPE: Final = re.compile(
    r"hex16|hex32|hex64|ed25519|ed25519_seed|password"
    r"|password:(?:[89]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-6])"  # 8 to 256, in one spelling
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationGrant:
    """A grant by which a runner writes generated secrets; made by `read_generation_grant`."""

    owner: Principal
    secrets: frozenset[SecretName]
    expires_at: float


def checked_generation_type(text: str) -> str:
    """Return a type of generated secrets."""
    if _TYPE.fullmatch(text) is None:
        raise InvalidInput(
            "there is no such type of generated secrets",
            hint="hex16, hex32, hex64, ed25519, ed25519_seed, password, or password:N with N from 8 to 256",
        )
    return text


def checked_generated_name(name: str) -> str:
    """Return the name of a secret that a runner may make."""
    if not is_secret_name(name) or not is_protected(name) or len(name) > MAX_NAME_CHARS:
        raise InvalidSecretName(
            f"the name of a generated secret begins with {PROTECTED_PREFIX}, in capitals, digits and underscores",
            hint=f"as in {PROTECTED_PREFIX}SIGNING_KEY",
        )
    return name


def generation_body(owner: str, scope: str | None, wanted: Mapping[str, str]) -> dict[str, Json]:
    """Return the body of a request."""
    if not 1 <= len(wanted) <= MAX_GENERATED:
        raise InvalidInput(f"1 to {MAX_GENERATED} secrets are generated at once")
    return {
        "owner": owner,
        "profile": scope or DEFAULT_PROFILE,
        "new_secrets": [
            {"name": checked_generated_name(name), "generation_type": checked_generation_type(kind)}
            for name, kind in wanted.items()
        ],
    }


def read_generation_grant(header: str, *, runner: str) -> GenerationGrant:
    """Read a grant to write generated secrets, untrusted, and verify who signed it (RN143).

    Args:
        header: CACAO or UCAN text.
        runner: DID that it has to be for.
    Raises:
        InvalidPortableDelegation: a rule is broken; the text names it.
    Does not check:
        Time, and whether it was revoked: the node does, at each write.
    """
    _, delegation, expires_at = verified_own(header, runner=runner)
    secrets: list[SecretName] = []
    for one in delegation.capabilities:
        if one.ability != KV_PUT or not isinstance(one.resource, SpaceResource):
            raise InvalidPortableDelegation(f"a grant to generate holds {KV_PUT} on secrets, not {one.ability}")
        secrets.append(listed_secret(one.resource))
    if not 1 <= len(secrets) <= MAX_GENERATED or not all(is_protected(one.name) for one in secrets):
        raise InvalidPortableDelegation(f"a grant to generate names 1 to {MAX_GENERATED} {PROTECTED_PREFIX} secrets")
    return GenerationGrant(owner=delegation.delegator, secrets=frozenset(secrets), expires_at=expires_at)
