"""Publication of programs for runners (RN50 to RN55).

A runner is a backend that executes other people's programs.

A developer's project has a name and versions. A version is the program's bytes, and a statement
about them that the developer signs; another signed statement names the active version. A program is
identified by the SHA-256 of its bytes. Readers of the developer's space `projects` need a grant;
the space `public` is open to everybody.

Example:
    wasm, programs = Path("mail-digest.wasm").read_bytes(), client.programs()
    version = await programs.publish("mail-digest", wasm, target="wasm32-wasip1", signer=wallet)
    active = await client.programs().active("mail-digest")
    assert active == Active(version.sha256, 1, version.statement_sha256)
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Annotated, Literal, NamedTuple

from msgspec import UNSET, Meta, UnsetType, json, to_builtins

from capabilities.abilities import KV_PUT
from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.strict_json import Json, JsonObject, Sha256Hex, StrictRecord, StrictStruct, shaped

from ..documents.builds import Build
from ..documents.project_names import (
    PROJECTS_SPACE,
    PUBLIC_SPACE,
    ProjectId,
    checked_project_name,
    checked_sha256,
)
from ..documents.run_grants import MAX_HOSTS, MAX_SECRETS, checked_host
from ..documents.secret_names import is_secret_name, scope_of_profile
from ..documents.signed_statements import (
    StatementSigner,
    read_shaped,
    read_statement,
    sign_statement,
)
from ..errors import InvalidInput, NotFound, PreconditionFailed, StatementInvalid
from ..kv import Kv
from ..session import iso_time, space_capability, space_of
from ..wire.caller import Caller

VERSION_TYPE = "sealspace.program.version/v1"
ACTIVE_TYPE = "sealspace.program.active/v1"
MAX_PROGRAM_BYTES = 33_554_432
MAX_SOURCE_CHARS = 512
MAX_SEQUENCE = 2**53 - 1

Target = Literal["wasm32-wasip1", "wasm32-wasip2", "python"]
"""A WASI preview 1 module, a preview 2 component, or a Python program (PY1)."""
TARGET_OF: Mapping[bytes, Target] = {
    b"\0asm\x01\0\0\0": "wasm32-wasip1",
    b"\0asm\x0d\0\x01\0": "wasm32-wasip2",
    b'{"base":': "python",
}
"""Kind of program by the first eight bytes of the file."""
TARGETS = tuple(TARGET_OF.values())

Reader = Callable[[str], Awaitable[bytes | None]]
"""Reads the value at a key in the developer's space, up to a limit; returns None if there is
none."""


class DeveloperSecrets(StrictRecord):
    """The developer's own secrets that each run of a program gets (RN212).

    Attributes:
        profile: `default`, or a scope in canonical form.
        secrets: names of the secrets, at least one.
    """

    profile: str
    secrets: Annotated[tuple[str, ...], Meta(min_length=1)]


class ProgramManifest(StrictRecord, kw_only=True, omit_defaults=True):
    """The secrets and hosts that a program needs.

    Attributes:
        secrets: names; a run gets exactly these of the owner that the call names, and is refused if
            one is missing. None: not stated.
        hosts: hosts to which the program sends requests.
        developer: secrets of the developer, beside those of the call; `secrets` must be stated too.
    """

    secrets: tuple[str, ...] | None = None
    hosts: tuple[str, ...] = ()
    developer: DeveloperSecrets | None = None


_WANTS_NOTHING = ProgramManifest()


@frozen(kw_only=True)
class Version:
    """The signed metadata of one version of a program.

    Attributes:
        project: project of the developer who signed.
        sha256: SHA-256 of the bytes, 64 lower-case hex digits.
        size_bytes: number of bytes.
        target: kind of WebAssembly module.
        published_at: RFC 3339 text, as stated.
        source: location of the source code, as stated; not verified.
        build: origin of the program, which the developer verified with a provenance bundle before
            publication; None: not stated. Readers who do not trust the developer verify the bundle.
        manifest: secrets and hosts that the program needs.
        statement_sha256: SHA-256 of the signed statement, 64 lower-case hex digits; "" before it is
            signed.
    """

    project: ProjectId
    sha256: str
    size_bytes: int
    target: Target
    published_at: str
    source: str | None
    build: Build | None
    manifest: ProgramManifest
    statement_sha256: str = ""


@frozen
class Active:
    """A signed statement that names a project's active version.

    Attributes:
        sha256: SHA-256 of the version's bytes.
        sequence: number that grows with each change.
        statement_sha256: SHA-256 of the version's signed statement (RN177); None in statements of
            early releases.
    """

    sha256: str
    sequence: int
    statement_sha256: str | None


class Provenance(NamedTuple):
    """The verified origin of a program, and the bundle that proves it."""

    build: Build
    bundle: bytes


class Programs:
    """A client for a developer's published programs.

    Use `Client.programs` to get an instance.
    """

    def __init__(self, caller: Caller, developer: str, *, public: bool) -> None:
        self._caller = caller
        self._kv = Kv(caller, space_of(developer, PUBLIC_SPACE if public else PROJECTS_SPACE))

    @property
    def space(self) -> str:
        """The id of the space that contains the developer's projects.

        This is the full id, which grants to runners use.
        """
        return self._kv.space.text

    def require_right_to_publish(self, name: str) -> None:
        """Check that the session may store a project.

        No request is sent.

        Raises:
            InvalidInput: the name is not valid.
            NotGranted: no grant of the session allows it.
            SessionExpired: the grant that allowed it has ended.
        """
        # The version is not known yet. Every version is below the folder of the project.
        key = self._project(name).code_key("0" * 64)
        wanted = space_capability(self._kv.space, "kv", key, KV_PUT)
        # Raises if the session has no such right.
        self._caller.session.proofs_for([wanted], now=self._caller.clock.now())

    async def publish(
        self,
        name: str,
        wasm: bytes,
        *,
        target: Target,
        signer: StatementSigner,
        source: str | None = None,
        provenance: Provenance | None = None,
        manifest: ProgramManifest | None = None,
        activate: bool = True,
    ) -> Version:
        """Publish a version of a program.

        It becomes the active version, unless `activate` is False.

        Args:
            name: name of the project.
            wasm: the program, at most MAX_PROGRAM_BYTES.
            target: kind of WebAssembly module.
            signer: the developer's key or wallet; signs the version, and the change of the active
                one.
            source: location of the source code, for readers; at most 512 characters.
            provenance: origin of the program and the bundle that proves it; the caller has verified
                them with `sealspace.apps.provenance`.
            manifest: secrets and hosts that the program needs.
            activate: False keeps the active version as it is.
        Returns:
            The published version. Publishing the same bytes again replaces the statement.
                If they are the active version, runners refuse it until it is activated again
                (RN177).
        Raises:
            InvalidInput: the name, the size, the source or the manifest is not valid, or the signer
                is not the owner of the space.
            PreconditionFailed: another version became active at the same time.
            NodeRefused, TransportError: a request failed.
        Does not check:
            Whether a runner can run the program: `runner` does.
        """
        if not 0 < len(wasm) <= MAX_PROGRAM_BYTES:
            raise InvalidInput(
                f"the program must be 1 to {MAX_PROGRAM_BYTES} bytes long, but is {len(wasm)}"
            )
        if source is not None:
            is_allowed_length = 0 < len(source) <= MAX_SOURCE_CHARS
            if not is_allowed_length or not source.isprintable():
                raise InvalidInput(
                    f"the program's source must be 1 to {MAX_SOURCE_CHARS} printable characters"
                )
        project = self._project(name)
        version = Version(
            project=project,
            sha256=hashlib.sha256(wasm).hexdigest(),
            size_bytes=len(wasm),
            target=target,
            published_at=iso_time(self._caller.clock.now()),
            source=source,
            build=None if provenance is None else provenance.build,
            manifest=_checked_manifest(manifest or _WANTS_NOTHING),
        )
        statement = self._sign(VERSION_TYPE, version_json(version), signer)
        await self._store(version, wasm, statement, provenance)
        if activate:
            await self.activate(name, version.sha256, signer=signer)
        # Unlike `version`, the parsed statement also has its own hash.
        return parse_version(statement, project, version.sha256)

    async def _store(
        self, version: Version, wasm: bytes, statement: bytes, provenance: Provenance | None
    ) -> None:
        """Store a version's program, its provenance and its signed statement."""
        project = version.project
        # The bytes come first, so that a reader of the statement always finds the program.
        is_python = version.target == "python"
        await self._kv.put(
            project.code_key(version.sha256),
            wasm,
            content_type="application/json" if is_python else "application/wasm",
        )
        # Readers verify the bundle (PV12), and find the version by the commit (PV13).
        if provenance is not None:
            await self._kv.put(
                project.provenance_key(version.sha256),
                provenance.bundle,
                content_type="application/json",
            )
            await self._kv.put(
                project.build_key(provenance.build.commit, version.target), version.sha256.encode()
            )
        await self._kv.put(
            project.version_key(version.sha256), statement, content_type="application/json"
        )

    async def activate(self, name: str, sha256: str, *, signer: StatementSigner) -> Active:
        """Make one of a program's published versions active.

        Raises:
            NotFound: there is no such version.
            PreconditionFailed: another version became active at the same time.
            StatementInvalid: a stored statement is not the developer's.
            InvalidInput, NodeRefused, TransportError: a request failed.
        """
        version = await self.version(name, sha256)
        return await self._sign_active(name, version.sha256, version.statement_sha256, signer)

    async def remove(self, name: str, sha256: str | None = None, *, signer: StatementSigner) -> int:
        """Remove a project, or one version of it that is not active.

        A signed statement that nothing is active remains of a project. Runners accept no older
        statement, and a version that is published later under the same name is accepted (RN54).

        Args:
            name: name of the project.
            sha256: SHA-256 of the version; None: the whole project.
            signer: the developer's key or wallet.
        Returns:
            The number of values that were removed; 0: there is no such project.
        Raises:
            InvalidInput: the version is active.
            NotFound: there is no such version.
            PreconditionFailed, StatementInvalid, NodeRefused, TransportError: the same errors as
                `activate`.
        """
        project = self._project(name)
        active = await self.active(name)
        if sha256 is None:
            listed = self._kv.list(f"projects/{name}/")
            keys = [key async for key in listed if key != project.active_key]
            if keys and active is not None:
                await self._sign_active(name, active.sha256, None, signer)
        else:
            version = await self.version(name, sha256)
            if active is not None and active.sha256 == sha256:
                raise InvalidInput(
                    f"the version {sha256} of {name} is active",
                    hint="activate another version first, or remove the whole project",
                )
            keys = await self._keys_of(version)
        await self._kv.delete_many(keys)
        return len(keys)

    async def _keys_of(self, version: Version) -> list[str]:
        """Return the keys of the values that belong to one version alone."""
        project, sha256 = version.project, version.sha256
        listed = self._kv.list(f"projects/{project.name}/")
        keys = [key async for key in listed if key.endswith(f"/{sha256}")]
        # Another version that was built from the same commit may have replaced the entry (PV13).
        if version.build is not None:
            index = project.build_key(version.build.commit, version.target)
            with suppress(NotFound):
                if (await self._kv.get(index)).body == sha256.encode():
                    keys.append(index)
        return keys

    async def _sign_active(
        self, name: str, sha256: str, statement_sha256: str | None, signer: StatementSigner
    ) -> Active:
        """Sign and store which version is active.

        Without the hash of its statement, no version is active (RN177).
        """
        project = self._project(name)
        sequence = 1
        etag = None
        with suppress(NotFound):  # the project may have no such statement yet
            former = await self._kv.get(project.active_key)
            sequence = parse_active(former.body, project).sequence + 1
            etag = former.etag
        active = Active(sha256=sha256, sequence=sequence, statement_sha256=statement_sha256)
        stated = _StatedActive(
            project=project.text,
            sha256=sha256,
            sequence=sequence,
            statement_sha256=statement_sha256 or UNSET,
        )
        statement = self._sign(ACTIVE_TYPE, to_builtins(stated), signer)
        try:
            await self._kv.put(
                project.active_key,
                statement,
                content_type="application/json",
                if_absent=etag is None,
                if_match=etag,
            )
        except PreconditionFailed as exc:
            exc.add_note(f"another version of {name} became active at the same time")
            raise
        return active

    async def names(self) -> AsyncIterator[str]:
        """Yield the names of all projects in ascending order."""
        last = None
        async for key in self._kv.list("projects/"):
            name = key.removeprefix("projects/").partition("/")[0]
            # A removed project still has its statement about the active version, but no version.
            if name != last and "/versions/" in key:
                last = name
                yield name

    async def versions(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a project, the latest first.

        Raises:
            StatementInvalid: a stored statement is not the developer's.
            NodeRefused, TransportError: a request failed.
        """
        prefix = self._project(name).version_key("")
        versions = [
            await self.version(name, key.removeprefix(prefix))
            async for key in self._kv.list(prefix)
        ]
        return tuple(
            sorted(
                versions, key=lambda version: (version.published_at, version.sha256), reverse=True
            )
        )

    async def version(self, name: str, sha256: str) -> Version:
        """Return the signed metadata of a program version.

        Raises:
            NotFound: there is no such version.
            StatementInvalid: the stored statement is not the developer's.
            InvalidInput, NodeRefused, TransportError: a request failed.
        """
        project = self._project(name)
        key = project.version_key(checked_sha256(sha256, what="a version"))
        return parse_version((await self._kv.get(key)).body, project, sha256)

    async def active(self, name: str) -> Active | None:
        """Return the active version of a project, or None.

        Raises:
            StatementInvalid: the stored statement is not the developer's.
            InvalidInput, NodeRefused, TransportError: a request failed.
        """
        project = self._project(name)
        try:
            return parse_active((await self._kv.get(project.active_key)).body, project)
        except NotFound:
            return None

    def _project(self, name: str) -> ProjectId:
        return ProjectId(self._kv.space.owner, checked_project_name(name))

    def _sign(self, kind: str, statement: Mapping[str, Json], signer: StatementSigner) -> bytes:
        data = sign_statement(kind, statement, signer)
        try:
            # Raises, like every later reader, for the signature of somebody else.
            read_statement(data, kind, signer=self._kv.space.owner)
        except StatementInvalid as exc:
            raise InvalidInput(
                "a program must be signed by its developer",
                hint=f"use the key or wallet of {self._kv.space.owner}",
            ) from exc
        return data


async def read_active(read: Reader, project: ProjectId) -> Active | None:
    """Find the active version of a project.

    Return None if no version is active.

    Raises:
        StatementInvalid: the statement is not valid (RN53).
    Does not check:
        Whether this is the latest statement: the caller remembers the highest sequence (RN54).
    """
    data = await read(project.active_key)
    return None if data is None else parse_active(data, project)


async def read_version(read: Reader, project: ProjectId, wanted: str | Active) -> Version | None:
    """Read and verify the metadata of a program version.

    Return None if the version does not exist.

    Args:
        read: reads the developer's space.
        project: the project.
        wanted: SHA-256 of the version, or the statement that names the active version.
    Raises:
        StatementInvalid: the statement is not valid (RN52), or `wanted` names another statement
            (RN177).
    """
    sha256 = wanted if isinstance(wanted, str) else wanted.sha256
    data = await read(project.version_key(sha256))
    if data is None:
        return None
    version = parse_version(data, project, sha256)
    # RN177: an older statement about the same bytes, with a wider manifest, is validly signed too.
    # Without this check, storage could replay it.
    if isinstance(wanted, Active) and wanted.statement_sha256 != version.statement_sha256:
        raise StatementInvalid(
            f"{project.name}: the stored statement about its active version is not the one that its"
            " developer signed; next: the developer must run `sealspace project activate"
            f" {project.name} {sha256}`"
        )
    return version


async def read_code(read: Reader, version: Version) -> bytes | None:
    """Read and verify the code of a program version.

    Return None if the code is not stored.

    Raises:
        StatementInvalid: the bytes are not those that the developer signed (RN52).
    """
    code = await read(version.project.code_key(version.sha256))
    if code is None:
        return None
    is_same_hash = hashlib.sha256(code).hexdigest() == version.sha256
    is_same_size = len(code) == version.size_bytes
    if not is_same_hash or not is_same_size:
        raise StatementInvalid("the program's bytes are not those that its developer signed")
    return code


# --- statements -----------------------------------------------------------------------------------


def version_json(version: Version) -> JsonObject:
    """Return the metadata of a program version as JSON."""
    value: JsonObject = to_builtins(
        _StatedVersion(
            project=version.project.text,
            sha256=version.sha256,
            bytes=version.size_bytes,
            target=version.target,
            published_at=version.published_at,
            source=version.source,
            build=version.build,
        )
    )
    wanted = manifest_json(version.manifest)
    if wanted:
        value["manifest"] = wanted
    return value


class _StatedVersion(StrictStruct, rename="camel", omit_defaults=True):
    project: str
    sha256: str
    bytes: Annotated[int, Meta(ge=1, le=MAX_PROGRAM_BYTES)]
    target: Target
    published_at: str
    source: str | None = None
    build: Build | None = None
    manifest: ProgramManifest = _WANTS_NOTHING


def parse_version(data: bytes, project: ProjectId, sha256: str) -> Version:
    """Parse and verify the metadata of a program version (RN52).

    Raises:
        StatementInvalid: the statement is malformed, is not the developer's, or is about another
            version.
    """
    stated = read_shaped(data, VERSION_TYPE, _StatedVersion, signer=project.developer)
    if stated.project != project.text or stated.sha256 != sha256:
        raise StatementInvalid(
            f"the signed statement is not about version {sha256} of {project.text}"
        )
    try:
        manifest = _checked_manifest(stated.manifest)
    except InvalidInput as exc:
        raise StatementInvalid(exc.message) from exc
    return Version(
        project=project,
        sha256=sha256,
        size_bytes=stated.bytes,
        target=stated.target,
        published_at=stated.published_at,
        source=stated.source,
        build=stated.build,
        manifest=manifest,
        statement_sha256=hashlib.sha256(data).hexdigest(),
    )


class _StatedActive(StrictStruct, rename="camel"):
    project: str
    sha256: Sha256Hex
    sequence: Annotated[int, Meta(ge=1, le=MAX_SEQUENCE)]
    statement_sha256: Sha256Hex | UnsetType = UNSET


def parse_active(data: bytes, project: ProjectId) -> Active:
    """Parse and verify the statement that names the active version (RN53).

    A statement without `statementSha256` is accepted, because the next one continues its sequence.
    A runner does not run a version named by such a statement.

    Raises:
        StatementInvalid: the statement is malformed, is not the developer's, or is about another
            project.
    """
    stated = read_shaped(data, ACTIVE_TYPE, _StatedActive, signer=project.developer)
    if stated.project != project.text:
        raise StatementInvalid(
            f"the signed statement about the active version is not for the project {project.text}"
        )
    return Active(
        sha256=stated.sha256,
        sequence=stated.sequence,
        statement_sha256=stated.statement_sha256 or None,
    )


def manifest_json(manifest: ProgramManifest) -> JsonObject:
    """Return a program's manifest as JSON."""
    # JSON has lists in place of tuples, and no members with default values.
    value: JsonObject = json.decode(json.encode(manifest))
    return value


def parse_program_manifest(value: Json) -> ProgramManifest:
    """Parse the JSON manifest of a program.

    Its form is `{"secrets"?: [NAME…], "hosts"?: [host…], "developer"?: {"profile": "default" or a
    scope, "secrets": [NAME…]}}`.

    Raises:
        InvalidInput: a member is unknown, or a name is not valid.
    """
    try:
        return _checked_manifest(shaped(value, ProgramManifest))
    except InvalidJson as exc:
        raise InvalidInput(
            'a program\'s manifest may contain only the lists "secrets" and "hosts", and'
            f' "developer" with a profile and secrets: {exc.text}'
        ) from exc


def _checked_manifest(manifest: ProgramManifest) -> ProgramManifest:
    """Return a manifest whose lists have been checked.

    Raises:
        InvalidInput: a list is too long, or has an entry that is not valid.
    """
    secrets = manifest.secrets or ()
    own = manifest.developer
    if own is not None:
        scope_of_profile(own.profile)  # raises for a malformed name
        # RN212: without a list, callers could give any other variables beside these secrets.
        if manifest.secrets is None:
            raise InvalidInput(
                'a program\'s manifest with "developer" must list the secrets of callers in'
                ' "secrets", which may be empty'
            )
        secrets += own.secrets
    _check_list("secrets, the developer's included", secrets, most=MAX_SECRETS)
    for name in secrets:
        _check_secret_name(name)
    _check_list("hosts", manifest.hosts, most=MAX_HOSTS)
    for host in manifest.hosts:
        checked_host(host)  # raises for a malformed host
    return manifest


def _check_list(what: str, names: tuple[str, ...], *, most: int) -> None:
    if len(names) > most or len(set(names)) != len(names):
        raise InvalidInput(
            f"a program's manifest may list at most {most} {what}, without duplicates"
        )


def _check_secret_name(name: Json) -> None:
    if not isinstance(name, str) or not is_secret_name(name):
        raise InvalidInput("a secret in a program's manifest must have a name such as API_KEY")
