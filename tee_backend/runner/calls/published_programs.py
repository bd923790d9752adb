"""Lookup and download of published programs (RN53, RN54).

A project that its developer granted to this runner is read by the grant, any other one from the
developer's space `public` (RN153).

The active version is read again after 5 s. It never goes back, because the journal records the
highest sequence seen. The statement about a version is read again after 60 s. Its bytes are read
only if the program is not compiled. The node limits reads of public spaces for each client address
(`public_spaces.requests_per_minute`); a project in constant use needs 13 reads a minute.

Example:
    found = await programs.find(parse_project("did:key:z6Mk…/mail-digest"), None)
    request = RunRequest(found.sha256, Target(found.target))
    await executor.run(request, partial(programs.load, found))
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from capabilities.cache import Recent
from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.resources import SpaceId
from sealspace.apps.programs import (
    MAX_PROGRAM_BYTES,
    Active,
    ProgramManifest,
    Reader,
    Version,
    read_active,
    read_code,
    read_version,
)
from sealspace.client import Client
from sealspace.documents.project_names import PROJECTS_SPACE, PUBLIC_SPACE, ProjectId
from sealspace.documents.run_grants import read_program_grant
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import (
    InvalidPortableDelegation,
    NotFound,
    NotGranted,
    SealspaceError,
    StatementInvalid,
    Unauthorized,
)
from sealspace.session import Grant, space_of

from ...backend import Backend
from ..guest.runs import Target
from ..reasons import RunRefused
from .journal import Journal

FRESH_S = 5.0
"""How long the active version is cached; a change takes effect at most this much later."""
VERSION_FRESH_S = 60.0
"""How long the statement about a version is cached."""
_MOST_REMEMBERED = 1024
_COMPONENT = b"\0asm\x0d\0\x01\0"
_log = logging.getLogger(__name__)
_Read = TypeVar("_Read")


def live_grants(
    backend: Backend, read: Callable[[str], _Read]
) -> Callable[[], list[tuple[Grant, _Read]]]:
    """Return a function that lists the live grants of one kind.

    The newest grant is first. `read` parses a grant of this kind, and raises
    InvalidPortableDelegation for any other grant.

    Grants may come from the disk, which the host controls. So each is verified as if it had just
    arrived; the result is cached.
    """
    known: dict[str, _Read | None] = {}

    def listed() -> list[tuple[Grant, _Read]]:
        live = {one.grant.cid: one.grant for one in backend.grants if one.state == "live"}
        for cid in known.keys() - live.keys():
            del known[cid]
        for cid in live.keys() - known.keys():
            known[cid] = None
            with suppress(InvalidPortableDelegation):  # a grant of another kind
                known[cid] = read(live[cid].header)
        return [(grant, found) for cid, grant in live.items() if (found := known[cid]) is not None]

    return listed


@dataclass(eq=False, repr=False)
class PublishedPrograms:
    """A client for published programs, with a cache."""

    client: Client
    journal: Journal
    backend: Backend

    def __post_init__(self) -> None:
        self._grants = live_grants(
            self.backend, partial(read_program_grant, runner=self.backend.did)
        )
        self._active = Recent[ProjectId, tuple[float, Active]](_MOST_REMEMBERED)
        self._versions = Recent[tuple[ProjectId, str, bool], tuple[float, Version]](
            _MOST_REMEMBERED
        )
        self._by_hash = Recent[str, Version](_MOST_REMEMBERED)
        self._reading: dict[tuple[ProjectId, str | None], asyncio.Task[Version]] = {}

    async def find(self, project: ProjectId | None, sha256: str | None) -> Version:
        """Find a program version by project or by hash.

        Without a hash, the project's active version is returned. Without a project, only versions
        that were loaded earlier are found.

        Raises:
            RunRefused: `program-unknown`, `program-older`, `program-statement` or
                `node-unavailable`.
        """
        if project is None:
            version = self._by_hash.get(sha256 or "")
            if version is None:
                raise RunRefused("program-unknown")
            return version
        at, active = self._active.get(project, (0.0, None))
        fresh = (
            active.statement_sha256
            if active is not None and 0 <= SystemClock.now() - at < FRESH_S
            else None
        )
        version = self._fresh_version(project, sha256 or fresh or "", sha256 is None)
        if version is not None:
            return version
        # Concurrent calls for the same program share one read.
        key = (project, sha256)
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._find(project, sha256))
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(task)

    def _fresh_version(self, project: ProjectId, name: str, is_active: bool) -> Version | None:
        """Return a recently cached program version, or None.

        `name` is the program's SHA-256 or, for the active version, that of its statement (RN177).
        """
        at, version = self._versions.get((project, name, is_active), (0.0, None))
        return version if 0 <= SystemClock.now() - at < VERSION_FRESH_S else None

    async def _find(self, project: ProjectId, sha256: str | None) -> Version:
        private = self._private_reader(project, MAX_STATEMENT_BYTES)
        public = self._public_reader(project, MAX_STATEMENT_BYTES)

        async def read(key: str) -> bytes | None:
            value = await private(key)
            return await public(key) if value is None else value  # RN153

        try:
            active = None if sha256 is not None else await read_active(read, project)
            wanted = sha256 or active
            if wanted is None:
                raise RunRefused("program-unknown")
            name = wanted if isinstance(wanted, str) else wanted.statement_sha256 or ""
            version = self._fresh_version(project, name, active is not None) or await read_version(
                read, project, wanted
            )
        except StatementInvalid as exc:
            raise RunRefused("program-statement", exc.message) from exc
        except SealspaceError as exc:
            raise _unavailable(exc) from exc
        if version is None:
            raise RunRefused("program-unknown")
        if active is not None:
            if not await self.journal.record_version(project.text, active.sequence, name):  # RN54
                raise RunRefused("program-older")
            self._active.put(project, (SystemClock.now(), active))
        self._versions.put((project, name, active is not None), (SystemClock.now(), version))
        return version

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
            code = await read_code(self._public_reader(version.project, MAX_PROGRAM_BYTES), version)
        except StatementInvalid as exc:
            raise RunRefused("program-mismatch") from exc
        except SealspaceError as exc:
            raise _unavailable(exc) from exc
        if code is None:
            raise RunRefused("program-unknown")
        # Calls by hash use only what the bytes themselves show: any developer may publish the same
        # bytes with another target or manifest.
        if (code[:8] == _COMPONENT) is (Target(version.target) is Target.WASIP2):
            self._by_hash.put(version.sha256, replace(version, manifest=ProgramManifest()))
        return code

    def _private_reader(self, project: ProjectId, max_bytes: int) -> Reader:
        """Return a function that reads a private project (RN153).

        The function uses the newest grant for the project. It returns None without a valid grant.
        """
        space = space_of(project.developer, PROJECTS_SPACE).text
        grants = (
            grant
            for grant, read in self._grants()
            for own in read
            if project.name == own.name and same_principal(project.developer, own.developer)
        )
        by = next(grants, None)

        async def read(key: str) -> bytes | None:
            try:
                return (
                    None
                    if by is None
                    else await self.backend.read_value(space, key, by=by, max_bytes=max_bytes)
                )
            except (NotFound, NotGranted, Unauthorized):
                # The developer has revoked the grant, or the grant has ended.
                return None

        return read

    def _public_reader(self, project: ProjectId, max_bytes: int) -> Reader:
        public = self.client.public(SpaceId(project.developer, PUBLIC_SPACE).text)

        async def read(key: str) -> bytes | None:
            try:
                return (await public.get(key, max_bytes=max_bytes)).body
            except NotFound:
                return None

        return read


def _unavailable(error: SealspaceError) -> RunRefused:
    _log.warning("a program could not be read: %s", error.code)
    return RunRefused("node-unavailable")
