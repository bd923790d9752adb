"""Reading of secrets for the callers of a door (DR7, DR8, DR15)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from capabilities.capability_errors import InvalidIdentifier
from capabilities.clock_and_entropy import Clock
from capabilities.frozen import frozen
from capabilities.siwe import parse_rfc3339
from sealspace.documents.secret_names import SecretName
from sealspace.errors import (
    DecryptDenied,
    DelegationRevoked,
    InvalidInput,
    NodeFailure,
    NotFound,
    SealspaceError,
    SessionExpired,
    TransportError,
)
from sealspace.secrets import Secret
from sealspace.session import iso_time
from sealspace.wire.values import KeptVersion
from tee_backend.evidence.evidence_errors import EvidenceSourceError

from .cache import Cache, Kept
from .door_errors import NODE_AWAY, DoorRefusal, refusal_of
from .door_grants import DoorGrant, DoorGrants
from .kinds import BACKEND, RECEIVER
from .limits import NODE_S, STALE_AFTER_S
from .mounts import Mount

Value = TypeVar("Value")
_UNKNOWN_TIME = iso_time(0)


@frozen
class Reading:
    """A secret that was read.

    Attributes:
        secret: the opened secret.
        version: number of its version (DR8).
        age_s: seconds since it was read, if the node is away; None: the answer is fresh.
    """

    secret: Secret
    version: int
    age_s: float | None = None

    @property
    def created_at(self) -> str:
        """The time of the value as its writer stated it, as RFC 3339 text."""
        try:
            parse_rfc3339(self.secret.updated_at)  # raises for a text that is not a time
        except InvalidIdentifier:
            return _UNKNOWN_TIME
        return self.secret.updated_at


class _FromNode(NamedTuple, Generic[Value]):
    """A value of the node, and the time before its request, epoch seconds.

    The age of the value counts from this time, also for callers who join later (DR15).
    """

    value: Value
    asked_at: float


class _FromCache(NamedTuple, Generic[Value]):
    """A value from the cache or the node, and its age in seconds.

    The age is None unless the value is stale. A stale value is the answer only while the node is
    away.
    """

    value: Value
    age_s: float | None


class Readings:
    """A reader of secrets, which keeps values as long as the cache allows.

    Args:
        grants: the grants of the door; one that turns out to be over is ended.
        cache: the values.
        clock: source of the time.
    """

    def __init__(self, grants: DoorGrants, cache: Cache, clock: Clock) -> None:
        self._grants = grants
        self._cache = cache
        self._clock = clock
        self._running_requests: dict[tuple[str, int, object], asyncio.Task[_FromNode[Any]]] = {}

    async def read(
        self, grant: DoorGrant, mount: Mount, secret: SecretName, version: int | None
    ) -> Reading:
        """Read a secret, or one version of it, from the cache or the node.

        Args:
            grant: the caller's grant.
            mount: the mount at which it is read.
            secret: name and scope.
            version: number of the version; None: the current value.
        Raises:
            DoorRefusal: the grant may not read the secret or the version, there is no such secret,
                a limit of the grant is reached, or the node does not answer.
        """
        if version is not None and not grant.kind_at(mount).has_versions:
            # Such a grant reads the current value only, whose number the caller may name.
            newest = await self.read(grant, mount, secret, None)
            if newest.version != version:
                raise DoorRefusal(
                    403,
                    "only the owner's session reads versions, at mounts of the owner's own secrets;"
                    " next: leave out the version",
                )
            return newest
        cached = await self._read_through_cache(
            grant,
            mount,
            key=(mount.name, secret.label, version),
            fetch=partial(self._fetch_reading, grant, mount, secret, version),
            size_bytes=_size_bytes,
        )
        reading = cached.value
        return reading if cached.age_s is None else replace(reading, age_s=cached.age_s)

    async def names(self, grant: DoorGrant, mount: Mount, folder: str) -> tuple[str, ...]:
        """List the names in a folder of a mount; those of scopes end with a slash.

        Args:
            grant: the caller's grant.
            mount: the mount.
            folder: name of a scope; "": the mount itself.
        Returns:
            The names in the node's order. An empty tuple if there are none.
        Raises:
            DoorRefusal: the folder is not that of a scope, the grant may not list it, a limit of
                the grant is reached, or the node does not answer.
        """
        try:
            scope = mount.scope_at(folder)
        except InvalidInput as error:
            raise refusal_of(error) from None
        shows_scopes = mount.scope is None and not folder
        if not grant.kind_at(mount).lists_all:
            named_secrets = await self._named_secrets(grant, mount)
            return _list_names(named_secrets, scope, shows_scopes=shows_scopes)
        cached = await self._read_through_cache(
            grant,
            mount,
            key=(mount.name, "names", folder),
            fetch=partial(_fetch_names, grant, mount, scope, shows_scopes=shows_scopes),
            size_bytes=len,
        )
        return cached.value

    async def versions(
        self, grant: DoorGrant, mount: Mount, secret: SecretName
    ) -> tuple[KeptVersion, ...]:
        """Return the versions of a secret that the node keeps, the newest first.

        Raises:
            DoorRefusal: there was never such a secret, a limit of the grant is reached, or the node
                does not answer.
        """
        return await self.call_node(grant, mount, partial(_fetch_versions, grant, mount, secret))

    async def call_node(
        self, grant: DoorGrant, mount: Mount, request: Callable[[], Awaitable[Value]]
    ) -> Value:
        """Send a request to the node, within the limits of a grant, and return its result.

        Args:
            grant: the grant that the request uses. It is ended if the node says that it was revoked
                or is over.
            mount: the mount that the request is for.
            request: sends the request; it may take `NODE_S` seconds.
        Raises:
            DoorRefusal: the request failed, took too long, or a limit of the grant is reached.
        """
        grant.requests.take()
        async with grant.turns:
            try:
                async with asyncio.timeout(NODE_S):
                    return await request()
            except TimeoutError as error:
                raise DoorRefusal(
                    NODE_AWAY,
                    f"no response from the node within {NODE_S:.0f} s; next: try again, and read a"
                    " value back before you repeat a write",
                ) from error
            except EvidenceSourceError as error:
                raise DoorRefusal(
                    NODE_AWAY, f"the platform proves no code: {error.detail}; next: {error.hint}"
                ) from error
            except SealspaceError as error:
                if _is_over(error):
                    self._end_refused(grant, mount)
                raise refusal_of(error) from error

    def _end_refused(self, grant: DoorGrant, mount: Mount) -> None:
        """End what the node refuses from now on: the grant, or the share that a mount uses."""
        if grant.kind_at(mount) in (BACKEND, RECEIVER):
            # One owner's grant or share ended. The caller may have others, or may get a new one.
            grant.forget_received(mount)
        else:
            self._grants.end(grant)  # later requests with its token do not reach the node

    def forget(self, grant: DoorGrant) -> None:
        """Remove the values of a grant from the cache, after it wrote.

        Values of reads that are still running are not kept either, because `writes` has changed.
        """
        grant.writes += 1
        self._cache.drop_grant(grant.accessor)

    async def _fetch_reading(
        self, grant: DoorGrant, mount: Mount, name: SecretName, version: int | None
    ) -> Reading:
        """Read a secret from the node, and the number of its version if it is not known."""
        secret = await grant.read(mount, name, version)
        if version is None:
            version = await self._current_number(grant, mount, name, secret)
        return Reading(secret=secret, version=version)

    async def _current_number(
        self, grant: DoorGrant, mount: Mount, name: SecretName, current: Secret
    ) -> int:
        """Return the number of the current value (DR8).

        It is the version's number at the node. A grant that reads no versions gets the time of the
        value in seconds instead: it changes with each value, and clients compare numbers to notice
        a new value.
        """
        if grant.kind_at(mount).has_versions:
            with suppress(NotFound):
                for version in await _fetch_versions(grant, mount, name):
                    if version.etag == current.etag:
                        return version.version
        try:
            return max(1, int(parse_rfc3339(current.updated_at)))
        except InvalidIdentifier:
            return 1

    async def _named_secrets(self, grant: DoorGrant, mount: Mount) -> tuple[SecretName, ...]:
        """Return the secrets that a grant names one by one, without a request to the node.

        Raises:
            DoorRefusal: the mount is of another owner than the machine token, or names no owner and
                the grant is a backend's.
        """
        try:
            if grant.machine is not None:
                await grant.secrets_at(mount)  # raises NotGranted for a mount of another owner
            return grant.named_secrets(mount)
        except SealspaceError as error:
            raise refusal_of(error) from error

    async def _read_through_cache(
        self,
        grant: DoorGrant,
        mount: Mount,
        *,
        key: object,
        fetch: Callable[[], Awaitable[Value]],
        size_bytes: Callable[[Any], int],
    ) -> _FromCache[Value]:
        """Return a value from the cache or the node.

        Args:
            grant: the grant that reads.
            mount: the mount that is read.
            key: key of the value in the cache.
            fetch: reads the value from the node.
            size_bytes: returns what a value counts in the cache.
        """
        fresh = self._cache.fresh(grant.accessor, key)
        if fresh is not None:
            return _FromCache(value=fresh.value, age_s=None)
        writes_before = grant.writes
        fetching = self._fetch_once(grant, mount, key=key, fetch=fetch)
        try:
            fetched = await self._wait_for_node(grant, key, fetching)
        except DoorRefusal as refusal:
            if not _is_node_away(refusal):
                # The node refuses now what it returned before.
                self._cache.drop(grant.accessor, key)
                raise
            stale = self._cache.stale(grant.accessor, key)
            if stale is None:
                raise
            return _FromCache(value=stale.value, age_s=self._clock.now() - stale.asked_at)
        # A value that was read during a write may be the one before it (DR13), and a grant that
        # ended meanwhile has no values.
        has_written = grant.writes != writes_before
        if grant in self._grants and not has_written:
            entry = Kept(
                value=fetched.value,
                asked_at=fetched.asked_at,
                size_bytes=size_bytes(fetched.value),
            )
            self._cache.keep(grant.accessor, key, entry)
        return _FromCache(value=fetched.value, age_s=None)

    async def _wait_for_node(
        self, grant: DoorGrant, key: object, fetching: Coroutine[Any, Any, _FromNode[Value]]
    ) -> _FromNode[Value]:
        """Wait for the node, but only `STALE_AFTER_S` if a stale value can be the answer."""
        if self._cache.stale(grant.accessor, key) is None:
            return await fetching
        try:
            return await asyncio.wait_for(fetching, STALE_AFTER_S)
        except TimeoutError as error:
            raise DoorRefusal(NODE_AWAY, "no response from the node; next: try again") from error

    async def _fetch_once(
        self,
        grant: DoorGrant,
        mount: Mount,
        *,
        key: object,
        fetch: Callable[[], Awaitable[Value]],
    ) -> _FromNode[Value]:
        """Return a value of the node.

        Callers who read the same value at the same time share one request.
        """
        # Without a cache, nobody gets an answer to a request that began before their own.
        if self._cache.fresh_s <= 0:
            return await self._fetch_timed(grant, mount, fetch)
        # The count of writes is part of the key: after a write, nobody joins a read that began
        # before it (DR13).
        request_key = (grant.accessor, grant.writes, key)
        request = self._running_requests.get(request_key)
        if request is None:
            request = asyncio.create_task(self._fetch_timed(grant, mount, fetch))
            self._running_requests[request_key] = request
            request.add_done_callback(lambda _: self._running_requests.pop(request_key, None))
        # A caller who leaves must not cancel the request of the others.
        fetched: _FromNode[Value] = await asyncio.shield(request)
        return fetched

    async def _fetch_timed(
        self, grant: DoorGrant, mount: Mount, fetch: Callable[[], Awaitable[Value]]
    ) -> _FromNode[Value]:
        """Return a value of the node; every call sends a request."""
        asked_at = self._clock.now()
        value = await self.call_node(grant, mount, fetch)
        return _FromNode(value=value, asked_at=asked_at)


async def _fetch_names(
    grant: DoorGrant, mount: Mount, scope: str | None, *, shows_scopes: bool
) -> tuple[str, ...]:
    """List the names of secrets in a scope, and those of scopes, at the node."""
    secrets = await grant.secrets_at(mount)
    names = [*await secrets.list(scope=scope)]
    if shows_scopes:
        names += [f"{scope_name}/" for scope_name in await secrets.scopes()]
    return tuple(names)


async def _fetch_versions(
    grant: DoorGrant, mount: Mount, name: SecretName
) -> tuple[KeptVersion, ...]:
    """Return the versions of a secret that the node keeps, the newest first."""
    secrets = await grant.secrets_at(mount)
    return await secrets.versions(name.name, scope=name.scope)


def _is_over(error: SealspaceError) -> bool:
    """Return whether an error says that a delegation was revoked or has ended."""
    if isinstance(error, DecryptDenied):
        return isinstance(error.refusal, DelegationRevoked)
    return isinstance(error, DelegationRevoked | SessionExpired)


def _is_node_away(refusal: DoorRefusal) -> bool:
    """Return whether the node did not answer, or answered that it cannot serve now.

    The platform of a backend may fail with the same status. It is not the node, so it does not
    count.
    """
    is_of_node = isinstance(refusal.__cause__, TransportError | NodeFailure | TimeoutError)
    return refusal.status == NODE_AWAY and is_of_node


def _list_names(
    secrets: Iterable[SecretName], scope: str | None, *, shows_scopes: bool
) -> tuple[str, ...]:
    """List the names of secrets in the way in which the node lists names."""
    names = []
    folders = set()
    for secret in secrets:
        if secret.scope == scope:
            names.append(secret.name)
        elif shows_scopes and secret.scope is not None:
            folders.add(f"{secret.scope}/")
    return (*sorted(names), *sorted(folders))


def _size_bytes(reading: Reading) -> int:
    """Return what a reading counts in the cache."""
    value = reading.secret.value
    # A text in memory has up to four bytes for each character.
    return len(value) if isinstance(value, bytes) else 4 * len(value)
