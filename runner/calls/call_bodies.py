"""Parser for the JSON request bodies of program calls (RN66, RN96, TK1).

    POST /run

    {"source": {"project": "<did>/<name>", "version"?: sha256} | {"wasmSha256": sha256}
               | {"GitHub": {"repo", "commit", "build_target"?}, "project"?: "<did>/<name>"},
     "input"?: text, "inputBase64"?: base64      at most one of them; absent: nothing
     "responseFormat"?: "Text" | "Json" | "Bytes",
     "resourceLimits"?: {"maxInstructions"?, "maxMemoryMb"?, "maxExecutionSeconds"?},
     "secretsRef"?: {"profile": "default" or a scope, "owner": DID},
     "nonce"?: at most 128 printable characters,
     "async"?: true if the client will fetch the answer later}

    POST /call/{owner}/{project}, as OutLayer's clients send it

    {"input": any JSON, which the program reads as compact JSON, or "input_data": text,
     "async"?: bool, "response_format"?: "Json" | "Text" | "Bytes",
     "resource_limits"?: {"max_instructions"?, "max_memory_mb"?, "max_execution_seconds"?},
     "secrets_ref"?: {"profile", "account_id"},
     "version_key"?: sha256 | "source"?: {"GitHub": {"repo", "commit": hash, branch or tag,
                                                     "build_target"?}},
     "use_bound_identity"?: false}
    or a JSON object with none of these members, which is the input itself

    POST /tasks

    {"app": "<did>/<name>", "dataset"?: "<did>/<name>", "secrets"?: {"1": name of a secret, …},
     "args"?: text, at most 4 KiB, "beneficiary"?: DID, "resourceLimits"?, "nonce"?}

Unknown members are errors; otherwise a typo would be ignored. A body is first separated into its
input and its other members (`guest.body_split`), and the members, which are short, are parsed here.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Annotated, Any, NamedTuple

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import Principal, parse_principal
from capabilities.strict_json import (
    StrictRecord,
    StrictStruct,
    parse_json,
    shaped,
)
from sealspace.apps.api_keys import parse_owner
from sealspace.apps.programs import Target
from sealspace.documents.builds import COMMIT, Build, repository_of
from sealspace.documents.iexec_names import requester_secret
from sealspace.documents.project_names import ProjectId, checked_sha256, parse_project
from sealspace.documents.run_grants import MAX_SECRETS
from sealspace.documents.secret_names import scope_of_profile
from sealspace.errors import InvalidInput, InvalidSecretScope

from ..guest.body_split import MAX_BESIDE_INPUT_BYTES, BodyRefused, BodyShape, split_body
from ..guest.runs import LIMIT_NAMES, MAX_INPUT_BYTES, MILLION, ResponseFormat
from ..reasons import RunRefused

MAX_NONCE_CHARS = 128
MAX_ARGUMENT_BYTES = 4096

_HEX = re.compile(r"[0-9a-fA-F]{7,64}")
_REF = re.compile(r"[A-Za-z0-9._/@#%+=,-]{1,250}")


class SecretsRef(NamedTuple):
    """The owner and scope of the requested secrets."""

    owner: Principal
    scope: str | None


class BuildSource(StrictRecord):
    """The repository, commit and target that a call names instead of a version (RN240).

    `commit` is a full hash, or a branch or tag of the project's active version (RN267).
    """

    repo: str
    commit: str
    build_target: Target = "wasm32-wasip1"

    def __post_init__(self) -> None:
        # A shortened hash or one in capitals never passes for the name of a branch.
        if self.names_ref and (_HEX.fullmatch(self.commit) or not _REF.fullmatch(self.commit)):
            raise RunRefused(
                "request-invalid",
                "commit: give the full hash, 40 or 64 lower-case hex digits, or a branch or tag,"
                " such as main or refs/tags/v1",
            )
        msgspec.structs.force_setattr(self, "repo", repository_of(self.repo))

    @property
    def names_ref(self) -> bool:
        """Whether a branch or tag is named, and not a commit."""
        return re.fullmatch(COMMIT, self.commit) is None

    def is_of(self, build: Build | None) -> bool:
        """Return whether an origin is of this repository and commit, branch or tag."""
        if build is None or build.repository != self.repo:
            return False
        if not self.names_ref:
            return build.commit == self.commit
        name = self.commit
        return build.ref in (name, f"refs/heads/{name}", f"refs/tags/{name}")


class TaskOrder(NamedTuple):
    """The part of a task's request that calls do not have.

    `secrets` has the names of the requester's secrets by the index under which a program reads one.
    """

    secrets: Mapping[str, str]
    dataset: ProjectId | None
    arguments: tuple[str, ...]
    beneficiary: Principal | None


@frozen(kw_only=True)
class CallBody:
    """The parsed request body of a program call.

    The keys of `limits` are attributes of the class `Limits`.
    """

    project: ProjectId | None
    sha256: str | None
    input: bytes = field(repr=False)
    response_format: ResponseFormat
    limits: Mapping[str, int]
    secrets: SecretsRef | None
    nonce: str | None
    is_async: bool
    build: BuildSource | None = None
    task: TaskOrder | None = None

    def __post_init__(self) -> None:
        if self.nonce is not None and not self.nonce.isprintable():
            raise RunRefused("request-invalid", "nonce")

    @property
    def program(self) -> str:
        """The project id, SHA-256 hash, or repository and commit of the called program.

        The caller's token must name the same program.
        """
        if self.project is not None:
            return self.project.text
        if self.sha256:
            return self.sha256
        if self.build is not None:
            return f"{self.build.repo}@{self.build.commit}"
        return ""

    @property
    def active_of(self) -> ProjectId | None:
        """The project whose active version is called, or None.

        A call of a commit is a call of one version by its hash (RN243). A branch or tag is one of
        the active version (RN267).
        """
        if self.build is not None and not self.build.names_ref:
            return None
        return None if self.sha256 else self.project


class _Secrets(StrictStruct):
    profile: str
    owner: str


_Nonce = Annotated[str, msgspec.Meta(max_length=MAX_NONCE_CHARS)] | None


class _Source(StrictStruct):
    project: str | None = None
    version: str | None = None
    wasmSha256: str | None = None
    GitHub: BuildSource | None = None


class _Body(StrictStruct, rename="camel"):
    source: _Source
    response_format: ResponseFormat = ResponseFormat.TEXT
    resource_limits: Mapping[str, int] = {}
    secrets_ref: _Secrets | None = None
    nonce: _Nonce = None
    is_async: bool | None = msgspec.field(name="async", default=None)


RUN_SHAPE = BodyShape(_Body.__struct_encode_fields__, MAX_INPUT_BYTES, is_any_json=False)
MAX_BODY_BYTES = RUN_SHAPE.most_bytes
"""Longest body of a call; those of `POST /call` have the same limit."""


@contextmanager
def refusing_invalid() -> Iterator[None]:
    """Convert parsing errors in the `with` block to `RunRefused`."""
    try:
        yield
    except InvalidInput as exc:
        raise RunRefused("request-invalid", exc.message) from exc
    except CapabilityError as exc:
        raise RunRefused("request-invalid", str(exc)) from exc
    except (ValueError, RecursionError) as exc:
        raise RunRefused("request-invalid", "body") from exc


def parse_body(data: bytes) -> CallBody:
    """Parse a short untrusted request body of `POST /run`."""
    return run_body(*_split(data, RUN_SHAPE))


@refusing_invalid()
def run_body(members: bytes, given: bytes) -> CallBody:
    """Parse the untrusted members of a request body of `POST /run`, without the input."""
    asked = shaped(parse_json(members, max_bytes=2 * MAX_BESIDE_INPUT_BYTES), _Body)
    project, sha256, build = _selected(asked.source)
    limits = _limits_of(asked.resource_limits, LIMIT_NAMES)
    ref = asked.secrets_ref
    secrets = None
    if ref is not None:
        secrets = SecretsRef(owner=parse_principal(ref.owner), scope=scope_of(ref.profile))
    return CallBody(
        project=project,
        sha256=sha256,
        build=build,
        input=given,
        response_format=asked.response_format,
        limits=limits,
        secrets=secrets,
        nonce=asked.nonce,
        is_async=bool(asked.is_async),
    )


def _selected(source: _Source) -> tuple[ProjectId | None, str | None, BuildSource | None]:
    """Return the project, SHA-256 and build that a request selects its program by."""
    is_by_hash = source.wasmSha256 is not None
    is_by_origin = source.project is not None or source.GitHub is not None
    if is_by_hash == is_by_origin:
        raise RunRefused("request-invalid", "source")
    # a version is one of a project, and is not beside a build, which selects a version itself
    if source.version is not None and (source.project is None or source.GitHub is not None):
        raise RunRefused("request-invalid", "source")
    if source.GitHub is not None and source.GitHub.names_ref and source.project is None:
        raise RunRefused(
            "request-invalid",
            'source: a branch or tag moves; add "project": "<did>/<name>", whose active version'
            " runs if it was built from it, or give the full hash of a commit",
        )
    project = None if source.project is None else parse_project(source.project)
    sha256 = source.wasmSha256 if source.version is None else source.version
    if sha256 is not None:
        sha256 = checked_sha256(sha256, what="the SHA-256 of the program")
    return project, sha256, source.GitHub


# --- POST /tasks ----------------------------------------------------------------------------------


class _TaskBody(StrictStruct, rename="camel"):
    app: str
    dataset: str | None = None
    secrets: Mapping[Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,8}\Z")], str] = {}
    args: Annotated[str, msgspec.Meta(pattern=r"\A[^\0]*\Z")] = ""
    beneficiary: str | None = None
    resource_limits: Mapping[str, int] = {}
    nonce: _Nonce = None


@refusing_invalid()
def parse_task(data: bytes) -> CallBody:
    """Parse the untrusted request body of `POST /tasks` (TK1, TK2)."""
    # TK1: an unknown member or index is never skipped. A task without it would be another one.
    asked = shaped(parse_json(data, max_bytes=MAX_BESIDE_INPUT_BYTES), _TaskBody)
    # one task must not cost many reads (TK2)
    if len(asked.secrets) > MAX_SECRETS or len(asked.args.encode()) > MAX_ARGUMENT_BYTES:
        raise RunRefused(
            "request-invalid",
            f"a task has at most {MAX_SECRETS} secrets and {MAX_ARGUMENT_BYTES} bytes of arguments",
        )
    for name in asked.secrets.values():
        requester_secret(name)  # called because it refuses a wrong name
    app = parse_project(asked.app)
    limits = _limits_of(asked.resource_limits, LIMIT_NAMES)
    order = TaskOrder(
        secrets=asked.secrets,
        dataset=None if asked.dataset is None else parse_project(asked.dataset),
        arguments=tuple(shlex.split(asked.args)),
        beneficiary=None if asked.beneficiary is None else parse_principal(asked.beneficiary),
    )
    return CallBody(
        project=app,
        sha256=None,
        input=b"",
        response_format=ResponseFormat.BYTES,
        limits=limits,
        secrets=None,
        nonce=asked.nonce,
        is_async=True,
        task=order,
    )


# --- POST /call -----------------------------------------------------------------------------------

_API_LIMITS = {
    "max_instructions": "max_instructions",
    "max_memory_mb": "max_memory_mb",
    "max_execution_seconds": "max_execution_s",
}


class _ApiSecrets(StrictStruct):
    profile: str
    account_id: str


class _ApiSource(StrictStruct):
    GitHub: BuildSource | None = None
    WasmUrl: Any = None
    Project: Any = None


class _ApiBody(StrictStruct):
    response_format: Any = None
    resource_limits: dict[str, int] | None = None
    secrets_ref: _ApiSecrets | None = None
    version_key: str | None = None
    source: _ApiSource | None = None
    use_bound_identity: bool | None = None
    is_async: bool | None = msgspec.field(name="async", default=None)


API_SHAPE = BodyShape(_ApiBody.__struct_encode_fields__, MAX_INPUT_BYTES, is_any_json=True)


def parse_api_body(data: bytes, project: ProjectId) -> CallBody:
    """Parse a short untrusted request body of `POST /call`."""
    return api_body(*_split(data, API_SHAPE), project)


@refusing_invalid()
def api_body(members: bytes, given: bytes, project: ProjectId) -> CallBody:
    """Parse the untrusted members of a request body of `POST /call`, without the input."""
    asked = shaped(parse_json(members, max_bytes=2 * MAX_BESIDE_INPUT_BYTES), _ApiBody)
    if asked.use_bound_identity:
        raise RunRefused(
            "request-invalid", "use_bound_identity: the caller is the owner of the API key"
        )
    build = None if asked.source is None else _api_build(asked.source)
    # The source of `POST /run` has the same rules; its project is the one in the URL.
    source = _Source(project=project.text, version=asked.version_key, GitHub=build)
    _, sha256, build = _selected(source)
    response_format = ResponseFormat(asked.response_format or "Json")
    limits = _limits_of(asked.resource_limits or {}, _API_LIMITS)
    ref = asked.secrets_ref
    secrets = None
    if ref is not None:
        secrets = SecretsRef(owner=parse_owner(ref.account_id), scope=scope_of(ref.profile))
    return CallBody(
        project=project,
        sha256=sha256,
        build=build,
        input=given,
        response_format=response_format,
        limits=limits,
        secrets=secrets,
        nonce=None,
        is_async=bool(asked.is_async),
    )


def _api_build(source: _ApiSource) -> BuildSource:
    """Return the build in a source, or refuse another kind with what to do instead (RN269)."""
    if source.WasmUrl is not None:
        raise RunRefused(
            "request-invalid",
            "source.WasmUrl: nothing is fetched from a URL; publish the program with `sealspace"
            ' project publish`, and name its SHA-256 in "version_key"',
        )
    if source.Project is not None:
        raise RunRefused(
            "request-invalid",
            "source.Project: name the project in the address, /call/OWNER/PROJECT, and a version"
            ' in "version_key"',
        )
    if source.GitHub is None:
        raise RunRefused("request-invalid", "source")
    return source.GitHub


# --- all kinds of body ----------------------------------------------------------------------------


def _split(data: bytes, shape: BodyShape) -> tuple[bytes, bytes]:
    try:
        return split_body(data, shape)
    except BodyRefused as refused:
        raise RunRefused(refused.code, refused.detail) from refused


def _limits_of(stated: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """Check a request's resource limits, and translate their names.

    The keys of the result are attributes of `Limits`.

    A positive instruction limit below one million is raised to one million (RN1).
    """
    if not stated.keys() <= names.keys():
        raise RunRefused("request-invalid", "limits")
    limits = {names[name]: limit for name, limit in stated.items()}
    most_instructions = limits.get("max_instructions", 0)
    if most_instructions >= 1:  # a lower one is refused where all limits are checked
        # exact limits would reveal how many instructions a secret takes (RN1)
        limits["max_instructions"] = max(most_instructions, MILLION)
    return limits


def scope_of(profile: Any) -> str | None:
    """Return the scope that a request's profile names.

    Raises RunRefused with `bad-profile` if the profile is not valid.
    """
    if not isinstance(profile, str):
        raise RunRefused("bad-profile")
    try:
        return scope_of_profile(profile)
    except InvalidSecretScope as exc:
        raise RunRefused("bad-profile", exc.message) from exc
