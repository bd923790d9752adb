"""The body of `POST /call/{owner}/{project}`, as OutLayer's clients send it (RN96).

    {"input": any JSON, "async"?: bool, "response_format"?: "Json" | "Text" | "Bytes",
     "resource_limits"?: {"max_instructions"?, "max_memory_mb"?, "max_execution_seconds"?},
     "secrets_ref"?: {"profile", "account_id"}, "version_key"?: sha256, "use_bound_identity"?: false}

The program reads the input as compact JSON. Any other member is refused. The input is never made into objects.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from capabilities.errors import InvalidJson
from capabilities.strict_json import Json, check_text, parse_json
from sealspace.apps.api_keys import parse_owner
from sealspace.documents.project_names import ProjectId, checked_sha256
from sealspace.errors import InvalidInput

from ..guest.runs import MAX_INPUT_BYTES
from ..reasons import RunRefused
from .call_bodies import (
    MAX_BESIDE_INPUT_BYTES,
    MAX_BODY_BYTES,
    CallBody,
    flag_of,
    format_of,
    limits_of,
    secrets_of,
)

_LIMITS: Final = {
    "max_instructions": "maxInstructions",
    "max_memory_mb": "maxMemoryMb",
    "max_execution_seconds": "maxExecutionSeconds",
}


class _Shape(msgspec.Struct, forbid_unknown_fields=True, rename={"is_async": "async"}):
    """The members of a body, as text."""

    input: msgspec.Raw
    is_async: msgspec.Raw = msgspec.Raw()
    response_format: msgspec.Raw = msgspec.Raw()
    resource_limits: msgspec.Raw = msgspec.Raw()
    secrets_ref: msgspec.Raw = msgspec.Raw()
    version_key: msgspec.Raw = msgspec.Raw()
    use_bound_identity: msgspec.Raw = msgspec.Raw()


_SHAPES: Final = msgspec.json.Decoder(_Shape)


def parse_api_body(data: bytes, project: ProjectId) -> CallBody:
    """Read a body, untrusted."""
    if len(data) > MAX_BODY_BYTES:
        raise RunRefused("input-too-large")
    try:
        check_text(data, max_bytes=MAX_BODY_BYTES)
        shape = _SHAPES.decode(data)
        given = msgspec.json.format(bytes(shape.input), indent=-1)
        beside = _beside(shape)
    except msgspec.ValidationError as exc:
        raise RunRefused("request-invalid", 'no object of the members that are known, with an "input"') from exc
    except (InvalidJson, ValueError, RecursionError) as exc:
        raise RunRefused("request-invalid", "body") from exc
    if len(data) - len(bytes(shape.input)) > MAX_BESIDE_INPUT_BYTES:
        raise RunRefused("request-invalid", f"more than {MAX_BESIDE_INPUT_BYTES} bytes beside the input")
    if len(given) > MAX_INPUT_BYTES:
        raise RunRefused("input-too-large")
    if flag_of(beside.get("use_bound_identity"), name="use_bound_identity"):
        raise RunRefused("request-invalid", "use_bound_identity")
    try:
        version = beside.get("version_key")
        sha256 = None if version is None else checked_sha256(version, what="version_key")
    except InvalidInput as exc:
        raise RunRefused("request-invalid", "version_key") from exc
    return CallBody(
        project=project,
        sha256=sha256,
        input=given,
        response_format=format_of(beside.get("response_format") or "Json", name="response_format"),
        limits=limits_of(_renamed(beside.get("resource_limits")), name="resource_limits"),
        secrets=secrets_of(_owner_named(beside.get("secrets_ref")), name="secrets_ref"),
        nonce=None,
        is_async=flag_of(beside.get("async"), name="async"),
    )


def _beside(shape: _Shape) -> Mapping[str, Json]:
    """Read the members but the input; each is short, or the whole body is refused."""
    texts = {
        name: bytes(getattr(shape, member))
        for member, name in zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True)
        if name != "input"
    }
    members = b",".join(b'"%s":%s' % (name.encode(), text) for name, text in texts.items() if text)
    return parse_json(b"{%s}" % members, max_bytes=2 * MAX_BESIDE_INPUT_BYTES)


def _renamed(value: Json) -> Json:
    if not isinstance(value, dict):
        return {} if value is None else value
    return {_LIMITS.get(name, ""): limit for name, limit in value.items()}


def _owner_named(value: Json) -> Json:
    if not isinstance(value, dict) or value.keys() != {"profile", "account_id"}:
        return value if value is None else {}
    try:
        return {"profile": value["profile"], "owner": parse_owner(str(value["account_id"]))}
    except InvalidInput as exc:
        raise RunRefused("request-invalid", "secrets_ref") from exc
