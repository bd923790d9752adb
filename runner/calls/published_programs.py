"""Lookup and download of published programs (RN53, RN54).

A project that its developer granted to this runner is read by the grant, any other one from the
developer's space `public` (RN153).

The active version is read again after 5 s. It never goes back, because the journal records the
highest sequence seen. While the node refuses reads or does not answer, the version that was last
confirmed runs for 60 s. Its statement is read once, because the active version names the
statement's hash; that of a version which is called by its hash is read again after 60 s. The bytes
are read only if the program is not compiled. The node limits reads of public spaces for each client
address (`public_spaces.requests_per_minute`); a project in constant use needs one read a minute,
and makes at most twelve.

Example:
    found = await programs.find(parse_project("did:key:z6Mk…/mail-digest"), None)
    request = RunRequest(found.sha256, found.target)
    await executor.run(request, partial(programs.load, found))
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from capabilities.cache import Recent
from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.resources import SpaceId
from sealspace.apps.programs import (
    MAX_PROGRAM_BYTES,
    TARGET_OF,
    Active,
    ProgramManifest,
    Reader,
    Version,
    read_active,
    read_code,
    read_version,
)
from sealspace.client import Client
from sealspace.documents.builds import MAX_BUNDLE_BYTES
from sealspace.documents.project_names import PROJECTS_SPACE, PUBLIC_SPACE, ProjectId
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import (
    NodeRefused,
    NotFound,
    NotGranted,
    ResponseTooLarge,
    SealspaceError,
    StatementInvalid,
    Unauthorized,
    ValueTooLarge,
)
from sealspace.kv import Value
from sealspace.session import Grant, space_of
from sealspace.spaces import PublicKv
from tee_backend.backend import Backend

from ..reasons import RunRefused
from .call_bodies import BuildSource
from .grant_reader import GrantReader, ProgramGrant, StorageGrant
from .journal import Journal

FRESH_S = 5.0
"""How long the active version is cached; a change takes effect at most this much later."""
CONFIRMED_S = 60.0
"""How long a version is used while the node refuses to confirm it, or if it is called by its
hash."""
REFUSED_S = 20.0
"""How long a first read waits while the node refuses it; a call waits longer for its start."""
_REFRESH_S = 5.0
"""Timeout of confirming an active version while the last one may run."""
_MOST_REMEMBERED = 1024
_MOST_VALUES = 128
"""Active versions that are read on condition; each has at most 128 KiB."""
_log = logging.getLogger(__name__)
_Read = TypeVar("_Read")
_Wanted = str | BuildSource | None
_Asked = tuple[ProjectId, _Wanted]


def grant_for(
    project: ProjectId | None, grants: Iterable[tuple[Grant, ProgramGrant | StorageGrant]]
) -> Grant | None:
    """Return the newest grant that lists a project, or None."""
    if project is None:
        return None
    for grant, listed in grants:  # newest first
        for one in listed:
            if project.name == one.name and same_principal(project.developer, one.developer):
                return grant
    return None


@dataclass(eq=False, repr=False)
class PublishedPrograms:
    """A client for published programs, with a cache."""

    client: Client
    journal: Journal
    backend: Backend

    def __post_init__(self) -> None:
        self.grants = GrantReader(self.backend)
        self._found = Recent[_Asked, tuple[float, Version]](_MOST_REMEMBERED)
        self._active = Recent[ProjectId, Value](_MOST_VALUES)
        self._by_hash = Recent[str, Version](_MOST_REMEMBERED)
        self._reads: dict[_Asked, asyncio.Task[Version]] = {}
        self._refused_until_s = 0.0  # in the event loop's time

    async def find(self, project: ProjectId | None, wanted: _Wanted) -> Version:
        """Return a version of a program, from the cache or from the node.

        Args:
            project: the project of the program; None: only versions that were loaded earlier are
                found, and only by their hash.
            wanted: the program's SHA-256 in hex, or the commit that it was built from; None: the
                project's active version. A branch or tag is that of the active version.
        Raises:
            RunRefused: `program-unknown`, `program-older`, `program-statement` or
                `node-unavailable`.
        """
        if project is None:
            return self._loaded_earlier(wanted)
        if isinstance(wanted, BuildSource) and wanted.names_ref:
            return await self._active_of(project, wanted)
        # An active version is read again after 5 s (RN53). While the node refuses reads, it is used
        # for 60 s, as is a version that is called by its hash or commit (RN223).
        max_age_s = CONFIRMED_S
        if wanted is None and not self._node_refuses_reads():
            max_age_s = FRESH_S
        key = (project, wanted)
        cached = self._cached(key, max_age_s)
        if cached is not None:
            return cached
        # Concurrent calls for the same program share one read.
        read = self._reads.get(key)
        if read is None:
            read = asyncio.create_task(self._find_on_node(project, wanted))
            self._reads[key] = read
            read.add_done_callback(lambda _: self._reads.pop(key, None))
        # A call that is cancelled must not cancel the read of the others.
        return await asyncio.shield(read)

    async def _active_of(self, project: ProjectId, wanted: BuildSource) -> Version:
        """Return the active version of a project if it was built from a branch or tag (RN267)."""
        version = await self.find(project, None)
        if not _is_wanted(version, wanted):
            raise RunRefused(
                "program-unknown",
                f"the active version was not built from {wanted.commit} of {wanted.repo} for"
                f" {wanted.build_target}; name the full hash of a commit, or ask the developer to"
                " activate a build of it",
            )
        return version

    def _loaded_earlier(self, wanted: _Wanted) -> Version:
        # Commits are recorded in the statements of a project, so only a hash can be looked up.
        version = self._by_hash.get(wanted) if isinstance(wanted, str) else None
        if version is None:
            raise RunRefused("program-unknown")
        return version

    def _node_refuses_reads(self) -> bool:
        return asyncio.get_running_loop().time() < self._refused_until_s

    def _cached(self, key: _Asked, max_age_s: float) -> Version | None:
        """Return a version that the node confirmed at most this long ago, or None."""
        confirmed_at, version = self._found.get(key, (0.0, None))
        # A negative age means that the clock was set back, so the real age is not known.
        return version if 0 <= SystemClock.now() - confirmed_at < max_age_s else None

    async def _find_on_node(self, project: ProjectId, wanted: _Wanted) -> Version:
        try:
            return await self._read(project, wanted)
        except StatementInvalid as exc:
            raise RunRefused("program-statement", exc.message) from exc
        except SealspaceError as exc:
            raise _unavailable(exc) from exc

    async def _read(self, project: ProjectId, wanted: _Wanted) -> Version:
        """Read a version, or return the last one while the node does not confirm it (RN223)."""
        key = project, wanted
        last = self._cached(key, CONFIRMED_S)
        read = self._reader(project, active_wait_s=REFUSED_S if last is None else 0.0)
        active = None
        try:
            if wanted is None:
                # RN223: while another version may run instead, the node is not waited for as long
                wait_s = None if last is None else _REFRESH_S
                async with asyncio.timeout(wait_s):
                    active = await read_active(read, project)
        except StatementInvalid:
            raise
        except (SealspaceError, TimeoutError):
            if last is None:
                raise
            # it may have become too old during the attempt (RN223)
            if self._cached(key, CONFIRMED_S) is None:
                raise RunRefused("node-unavailable") from None
            return last
        # The last version is taken out, because another one may be active now. It is put back below
        # if it still is.
        _, before = self._found.pop(key, (0.0, None))
        named: str | Active | None = active
        if wanted:
            named = await _named_version(read, project, wanted)
        if named is None:
            raise RunRefused("program-unknown")
        version = await self._stated(read, project, named, before)
        if version is None or not _is_wanted(version, wanted):
            raise RunRefused("program-unknown")
        self._found.put(key, (SystemClock.now(), version))
        return version

    def _reader(self, project: ProjectId, *, active_wait_s: float) -> Reader:
        """Return a function that reads statements of a project, which may be private.

        `active_wait_s` is as for `public_reader`.
        """
        private = self._private_reader(project, MAX_STATEMENT_BYTES)
        public = self.public_reader(project, MAX_STATEMENT_BYTES, active_wait_s=active_wait_s)

        async def read(key: str) -> bytes | None:
            value = await private(key)
            if value is not None:
                return value
            return await public(key)  # for what the shared project lacks (RN153)

        return read

    async def _stated(
        self, read: Reader, project: ProjectId, named: str | Active, before: Version | None
    ) -> Version | None:
        """Read the statement about a version, unless it is the one that was read before.

        Raises:
            RunRefused: `program-older`.
        """
        if isinstance(named, Active):
            # RN54: before the statement, which the node could withhold
            sha256 = named.statement_sha256 or ""
            if not await self.journal.record_version(project.text, named.sequence, sha256):
                raise RunRefused("program-older")
            # The active version names the statement's hash (RN177), so it is read once.
            if before is not None and before.statement_sha256 == named.statement_sha256:
                return before
        return await read_version(read, project, named)

    async def load(self, version: Version) -> bytes:
        """Download the code of a program version from the node.

        Raises:
            RunRefused: `program-mismatch`, `program-unknown` or `node-unavailable`.
        """
        try:
            code = await read_code(
                self._private_reader(version.project, MAX_PROGRAM_BYTES), version
            )
            # RN153: not recorded by its hash, since other callers could then run it.
            if code is not None:
                return code
            code = await read_code(self.public_reader(version.project, MAX_PROGRAM_BYTES), version)
        except StatementInvalid as exc:
            raise RunRefused("program-mismatch") from exc
        except SealspaceError as exc:
            raise _unavailable(exc) from exc
        if code is None:
            raise RunRefused("program-unknown")
        # Calls by hash use only what the bytes themselves show: any developer may publish the same
        # bytes with another target or manifest.
        if TARGET_OF.get(code[:8]) == version.target:
            self._by_hash.put(version.sha256, replace(version, manifest=ProgramManifest()))
        return code

    async def provenance(self, project: ProjectId, sha256: str) -> bytes | None:
        """Return the untrusted provenance bundle of a version, or None if there is none (PV12).

        Raises:
            RunRefused: `build-not-proven` if the bundle is too long, or `node-unavailable`.
        """
        key = project.provenance_key(sha256)
        try:
            bundle = await self._private_reader(project, MAX_BUNDLE_BYTES)(key)
            if bundle is None:
                bundle = await self.public_reader(project, MAX_BUNDLE_BYTES)(key)
        except (ResponseTooLarge, ValueTooLarge) as exc:
            raise RunRefused(
                "build-not-proven", f"the provenance bundle is longer than {MAX_BUNDLE_BYTES} bytes"
            ) from exc
        except SealspaceError as exc:
            raise _unavailable(exc) from exc
        return bundle

    def _private_reader(self, project: ProjectId, max_bytes: int) -> Reader:
        """Return a function that reads a private project (RN153).

        The function uses the newest grant for the project. It returns None without a valid grant.
        """
        space = space_of(project.developer, PROJECTS_SPACE).text
        by = grant_for(project, self.grants.program_grants())

        async def read(key: str) -> bytes | None:
            if by is None:
                return None
            try:
                async with self.backend.values(space, by=by) as values:
                    return (await values.get(key, max_bytes=max_bytes)).body
            except (NotFound, NotGranted, Unauthorized):
                # The developer has revoked the grant, or the grant has ended.
                return None

        return read

    def public_reader(
        self, project: ProjectId, max_bytes: int, *, active_wait_s: float = 0.0
    ) -> Reader:
        """Return a function that reads a public project.

        If the node says when to retry, no public project is read before (RN222). A read waits for
        at most 20 s until then, or for `active_wait_s` if it reads the active version.
        """
        public = self.client.public(SpaceId(project.developer, PUBLIC_SPACE).text)
        now_s = asyncio.get_running_loop().time

        async def read(key: str) -> bytes | None:
            is_active = key == project.active_key
            last = self._active.get(project) if is_active else None
            give_up_s = now_s() + (active_wait_s if is_active else REFUSED_S)
            while True:
                # Returns at once if the time is over until which the node refuses reads.
                await asyncio.sleep(self._refused_until_s - now_s())
                try:
                    value = await _get_newer(public, key, last, max_bytes)
                except NotFound:
                    return None
                except NodeRefused as refused:
                    self._require_retry(refused, give_up_s)
                    continue
                if is_active:
                    self._active.put(project, value)
                return value.body

        return read

    def _require_retry(self, refused: NodeRefused, give_up_s: float) -> None:
        """Note until when the node refuses reads of public projects (RN222).

        Raises:
            NodeRefused: the given refusal, if the node names no time, or one that is too late.
        """
        if refused.retry_after_s is None:
            raise refused
        pause_s = min(max(refused.retry_after_s, 1.0), REFUSED_S)
        self._refused_until_s = asyncio.get_running_loop().time() + pause_s
        if self._refused_until_s > give_up_s:
            raise refused


async def _get_newer(public: PublicKv, key: str, last: Value | None, max_bytes: int) -> Value:
    """Return a public value, or the last one if it has not changed."""
    if last is None:
        return await public.get(key, max_bytes=max_bytes)
    changed = await public.get_if_changed(key, last.etag, max_bytes=max_bytes)
    return changed or last


async def _named_version(read: Reader, project: ProjectId, wanted: str | BuildSource) -> str | None:
    """Return the hash of a version that a call names by its hash, or by its source (RN240)."""
    if isinstance(wanted, str):
        return wanted
    found = await read(project.build_key(wanted.commit, wanted.build_target)) or b""
    return found.decode() if re.fullmatch(rb"[0-9a-f]{64}", found) else None


def _is_wanted(version: Version, wanted: _Wanted) -> bool:
    """Return whether a version is of the source that a call names; other calls name none.

    The index of builds proves nothing, but the signed statement of the version does (RN241).
    """
    if not isinstance(wanted, BuildSource):
        return True
    return wanted.is_of(version.build) and wanted.build_target == version.target


def _unavailable(error: SealspaceError) -> RunRefused:
    _log.warning("a program could not be read: %s", error.code)
    return RunRefused("node-unavailable")
