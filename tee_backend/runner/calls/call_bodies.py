"""The body of `POST /run`: what is to run, with what (RN66).

    {"source": {"project": "<did>/<name>", "version"?: sha256} | {"wasmSha256": sha256},
     "input"?: text, "inputBase64"?: base64      at most one of them; absent: nothing
     "responseFormat"?: "Text" | "Json" | "Bytes",
     "resourceLimits"?: {"maxInstructions"?, "maxMemoryMb"?, "maxExecutionSeconds"?},
     "secretsRef"?: {"profile": "default" or a scope, "owner": DID},
     "nonce"?: at most 128 printable characters,
     "async"?: true: the answer is asked for later}

Any other member is refused: a wish that is not understood is not passed over. What is beside the input is short, which
is seen before anything is built from it: of ten megabytes of `[[],[],…]` there would be a gigabyte of objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from capabilities.errors import CapabilityError, InvalidJson
from capabilities.principals import Principal, parse_principal
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import Json, parse_json
from sealspace.apps.api_keys import DEFAULT_PROFILE
from sealspace.documents.project_names import ProjectId, checked_sha256, parse_project
from sealspace.documents.secret_names import is_scope
from sealspace.errors import InvalidInput

from ..guest.runs import MAX_INPUT_BYTES, MILLION, ResponseFormat
from ..reasons import RunRefused

MAX_BODY_BYTES: Final = 2 * MAX_INPUT_BYTES
"""Longest body: an input in base64, or in JSON with escapes, is longer than itself."""
MAX_BESIDE_INPUT_BYTES: Final = 64 * 1024
"""Longest body without its input."""
MAX_NONCE_CHARS: Final = 128
MAX_PROFILE_CHARS: Final = 64

_LIMITS: Final = ("maxInstructions", "maxMemoryMb", "maxExecutionSeconds")


class _Shape(msgspec.Struct, forbid_unknown_fields=True, rename={"is_async": "async"}):
    """The members of a body, as text; no object is made of any."""

    source: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    inputBase64: msgspec.Raw = msgspec.Raw()  # the wire's name
    responseFormat: msgspec.Raw = msgspec.Raw()  # the wire's name
    resourceLimits: msgspec.Raw = msgspec.Raw()  # the wire's name
    secretsRef: msgspec.Raw = msgspec.Raw()  # the wire's name
    nonce: msgspec.Raw = msgspec.Raw()
    is_async: msgspec.Raw = msgspec.Raw()


_SHAPES: Final = msgspec.json.Decoder(_Shape)


@dataclass(frozen=True, slots=True)
class SecretsRef:
    """Whose secrets a run shall have."""

    owner: Principal
    scope: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBody:
    """What a caller asks for."""

    project: ProjectId | None
    sha256: str | None
    input: bytes = field(repr=False)
    response_format: ResponseFormat
    limits: Mapping[str, int]
    secrets: SecretsRef | None
    nonce: str | None
    is_async: bool = False

    @property
    def program(self) -> str:
        """What the caller signed for: the project, or the hash where there is none."""
        return self.project.text if self.project is not None else str(self.sha256)


def parse_body(data: bytes) -> CallBody:
    """Read a body, untrusted."""
    if len(data) > MAX_BODY_BYTES:
        raise RunRefused("input-too-large")
    try:
        shape = _SHAPES.decode(data)
        texts = [bytes(one) for one in (shape.input, shape.inputBase64)]
        if any(text[:1] not in (b"", b'"', b"n") for text in texts):  # a string, or null
            raise RunRefused("request-invalid", "input")
        if len(data) - sum(map(len, texts)) > MAX_BESIDE_INPUT_BYTES:
            raise RunRefused("request-invalid", f"more than {MAX_BESIDE_INPUT_BYTES} bytes beside the input")
        value = parse_json(data, max_bytes=MAX_BODY_BYTES)
    except msgspec.ValidationError as exc:
        raise RunRefused("request-invalid", "no object of the members that are known") from exc
    except (InvalidJson, ValueError, RecursionError) as exc:
        raise RunRefused("request-invalid", "body") from exc
    project, sha256 = _source(value.get("source"))
    nonce = value.get("nonce")
    if nonce is not None and not (isinstance(nonce, str) and len(nonce) <= MAX_NONCE_CHARS and nonce.isprintable()):
        raise RunRefused("request-invalid", "nonce")
    return CallBody(
        project=project,
        sha256=sha256,
        input=_input(value),
        response_format=format_of(value.get("responseFormat", "Text"), name="responseFormat"),
        limits=limits_of(value.get("resourceLimits", {}), name="resourceLimits"),
        secrets=secrets_of(value.get("secretsRef"), name="secretsRef"),
        nonce=nonce,
        is_async=flag_of(value.get("async"), name="async"),
    )


def _source(value: Json) -> tuple[ProjectId | None, str | None]:
    try:
        if isinstance(value, dict) and value.keys() == {"wasmSha256"}:
            return None, checked_sha256(value["wasmSha256"], what="wasmSha256")
        if isinstance(value, dict) and {"project"} <= value.keys() <= {"project", "version"}:
            project, version = value["project"], value.get("version")
            if isinstance(project, str):
                return parse_project(project), None if version is None else checked_sha256(version, what="version")
    except InvalidInput as exc:
        raise RunRefused("request-invalid", "source") from exc
    raise RunRefused("request-invalid", "source")


def _input(value: Mapping[str, Json]) -> bytes:
    text, encoded = value.get("input"), value.get("inputBase64")
    data: bytes | None = None
    if encoded is None and isinstance(text, str | None):
        try:
            data = (text or "").encode()
        except UnicodeEncodeError as exc:
            raise RunRefused("request-invalid", "input") from exc
    elif text is None:
        data = decode_standard(encoded)
    if data is None:
        raise RunRefused("request-invalid", "input")
    if len(data) > MAX_INPUT_BYTES:
        raise RunRefused("input-too-large")
    return data


# --- members that two kinds of body have; `name` is what a refusal calls them -----------------------------------------


def flag_of(value: Json, *, name: str) -> bool:
    """Read a flag; absent is no."""
    if not isinstance(value, bool | None):
        raise RunRefused("request-invalid", name)
    return bool(value)


def format_of(value: Json, *, name: str) -> ResponseFormat:
    """Read how output becomes an answer."""
    found = next((one for one in ResponseFormat if one.value == value), None)
    if found is None:
        raise RunRefused("request-invalid", name)
    return found


def limits_of(value: Json, *, name: str) -> dict[str, int]:
    """Read limits of a run; a caller's limit of instructions is at least a million (RN1)."""
    if not isinstance(value, dict) or not value.keys() <= set(_LIMITS):
        raise RunRefused("request-invalid", name)
    limits: dict[str, int] = {}
    for limit_name, limit in value.items():
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise RunRefused("request-invalid", name)
        limits[limit_name] = max(limit, MILLION) if limit_name == "maxInstructions" and limit >= 1 else limit  # RN1
    return limits


def secrets_of(value: Json, *, name: str) -> SecretsRef | None:
    """Read whose secrets a run shall have."""
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"profile", "owner"}:
        raise RunRefused("request-invalid", name)
    profile, owner = value["profile"], value["owner"]
    if not isinstance(profile, str) or not isinstance(owner, str):
        raise RunRefused("request-invalid", name)
    if len(profile) > MAX_PROFILE_CHARS or (profile != DEFAULT_PROFILE and not is_scope(profile)):
        raise RunRefused("bad-profile")
    try:
        return SecretsRef(parse_principal(owner), None if profile == DEFAULT_PROFILE else profile)
    except CapabilityError as exc:
        raise RunRefused("request-invalid", name) from exc
