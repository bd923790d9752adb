"""The body of `POST /call/{owner}/{project}`, as OutLayer's clients send it (RN96).

    {"input": any JSON, "async"?: bool, "response_format"?: "Json" | "Text" | "Bytes",
     "resource_limits"?: {"max_instructions"?, "max_memory_mb"?, "max_execution_seconds"?},
     "secrets_ref"?: {"profile", "account_id"}, "version_key"?: sha256, "use_bound_identity"?: false}

The program reads the input as compact JSON. Any other member is refused. The input is never made into objects.
"""

from typing import Any, Final

import msgspec

from capabilities.strict_json import check_text, shaped
from sealspace.apps.api_keys import parse_owner
from sealspace.documents.project_names import ProjectId, checked_sha256

from ..guest.runs import MAX_INPUT_BYTES, ResponseFormat
from ..reasons import RunRefused
from .call_bodies import (
    MAX_BODY_BYTES,
    CallBody,
    SecretsRef,
    limits_of,
    refusing_invalid,
    scope_of,
    split_body,
    texts_of,
)

_LIMITS: Final = {
    "max_instructions": "max_instructions",
    "max_memory_mb": "max_memory_mb",
    "max_execution_seconds": "max_execution_s",
}


class _Secrets(msgspec.Struct, forbid_unknown_fields=True):
    profile: str
    account_id: str


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    response_format: Any = None
    resource_limits: dict[str, int] | None = None
    secrets_ref: _Secrets | None = None
    version_key: str | None = None
    use_bound_identity: bool | None = None
    is_async: bool | None = msgspec.field(name="async", default=None)


_TEXTS: Final = texts_of(_Body, "input")


@refusing_invalid()
def parse_api_body(data: bytes, project: ProjectId) -> CallBody:
    """Read a body, untrusted."""
    (text,), members = split_body(data, _TEXTS, "input")
    check_text(text, max_bytes=MAX_BODY_BYTES)
    given, asked = msgspec.json.format(text, indent=-1), shaped(members, _Body)
    if len(given) > MAX_INPUT_BYTES:
        raise RunRefused("input-too-large")
    if asked.use_bound_identity:
        raise RunRefused("request-invalid", "use_bound_identity")
    version, ref = asked.version_key, asked.secrets_ref
    return CallBody(
        project=project,
        sha256=None if version is None else checked_sha256(version, what="version_key"),
        input=given,
        response_format=ResponseFormat(asked.response_format or "Json"),
        limits=limits_of(asked.resource_limits or {}, _LIMITS),
        secrets=None if ref is None else SecretsRef(parse_owner(ref.account_id), scope_of(ref.profile)),
        nonce=None,
        is_async=bool(asked.is_async),
    )
