"""Reading of secrets for the callers of a door (DR7, DR8, DR15)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

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

from ..evidence.evidence_errors import EvidenceSourceError
from .cache import Cache, Kept
from .door_errors import NODE_AWAY, DoorRefusal, refusal_of
from .door_grants import DoorGrant, DoorGrants
from .kinds import BACKEND, RECEIVER
from .limits import NODE_S, STALE_AFTER_S
from .mounts import Mount

Found = TypeVar("Found")
_UNKNOWN_TIME = iso_time(0)


@frozen
class Reading:
    """A secret that was read.

    Attributes:
        secret: the opened secret.
        version: its number (DR8).
        age_s: seconds since it was read, if the node is away; None: the answer is fresh.
    """

    secret: Secret
    version: int
    age_s: float | None = None

    @property
    def created_at(self) -> str:
        """The time of the value as its writer stated it, as RFC 3339 text."""
        with suppress(InvalidIdentifier):
            parse_rfc3339(self.secret.updated_at)
            return self.secret.updated_at
        return _UNKNOWN_TIME


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
        self._running: dict[tuple[str, int, object], asyncio.Task[tuple[Any, float]]] = {}

    async def read(
        self, grant: DoorGrant, mount: Mount, secret: SecretName, version: int | None
    ) -> Reading:
        """Read a secret, or one version of it.

        Raises:
            DoorRefusal: it cannot be read.
        """
        if version is not None and not grant.kind_at(mount).has_versions:
            newest = await self.read(grant, mount, secret, None)
            if newest.version != version:
                raise DoorRefusal(
                    403,
                    "only the owner's session reads versions, at mounts of the owner's own secrets;"
                    " next: leave out the version",
                )
            return newest

        async def fetch() -> Reading:
            read = await grant.read(mount, secret, version)
            number = version
            if number is None:
                number = await self._number_of(grant, mount, secret, read)
            return Reading(secret=read, version=number)

        key = (mount.name, secret.label, version)
        reading, age_s = await self._answered(grant, mount, key, fetch, size_bytes=_size_bytes)
        return reading if age_s is None else replace(reading, age_s=age_s)

    async def names(self, grant: DoorGrant, mount: Mount, folder: str) -> tuple[str, ...]:
        """List the names in a folder of a mount; those of scopes end with a slash.

        Raises:
            DoorRefusal: they cannot be listed.
        """
        try:
            scope = mount.scope_at(folder)
        except InvalidInput as error:
            raise refusal_of(error) from None
        shows_scopes = mount.scope is None and not folder
        if not grant.kind_at(mount).lists_all:
            named = await self._named_secrets(grant, mount)
            return _names_of(named, scope, shows_scopes=shows_scopes)

        async def fetch() -> tuple[str, ...]:
            secrets = await grant.secrets_at(mount)
            names = [*await secrets.list(scope=scope)]
            if shows_scopes:
                names += [f"{one}/" for one in await secrets.scopes()]
            return tuple(names)

        key = (mount.name, "names", folder)
        names, _ = await self._answered(grant, mount, key, fetch, size_bytes=len)
        return names

    async def versions(
        self, grant: DoorGrant, mount: Mount, secret: SecretName
    ) -> tuple[KeptVersion, ...]:
        """Return the versions of a secret that the node keeps, the newest first.

        Raises:
            DoorRefusal: they cannot be listed.
        """

        async def fetch() -> tuple[KeptVersion, ...]:
            secrets = await grant.secrets_at(mount)
            return await secrets.versions(secret.name, scope=secret.scope)

        return await self.asked(grant, mount, fetch)

    async def asked(
        self, grant: DoorGrant, mount: Mount, work: Callable[[], Awaitable[Found]]
    ) -> Found:
        """Do something that reaches the node, within the limits of a grant.

        Raises:
            DoorRefusal: it failed, or a limit is reached.
        """
        grant.requests.take()
        async with grant.turns.turn():
            try:
                async with asyncio.timeout(NODE_S):
                    return await work()
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
                    self._end(grant, mount)
                raise refusal_of(error) from error

    def _end(self, grant: DoorGrant, mount: Mount) -> None:
        """End a grant that the node refuses from now on."""
        if grant.kind_at(mount) in (BACKEND, RECEIVER):
            # What ended is the grant or the share of one owner, which a new one may follow.
            grant.forget_received(mount)
        else:
            self._grants.end(grant)  # later requests with its token do not reach the node

    def forget(self, grant: DoorGrant) -> None:
        """Remove the values of a grant from the cache, after it wrote.

        What a read that began before returns is not kept either.
        """
        grant.writes += 1
        self._cache.drop_grant(grant.accessor)

    async def _number_of(
        self, grant: DoorGrant, mount: Mount, secret: SecretName, read: Secret
    ) -> int:
        """Return the number of the current value (DR8)."""
        if grant.kind_at(mount).has_versions:
            secrets = await grant.secrets_at(mount)
            with suppress(NotFound):
                for kept in await secrets.versions(secret.name, scope=secret.scope):
                    if kept.etag == read.etag:
                        return kept.version
        # The seconds at which it was written: they change with each value, as a number of a
        # version does, and clients compare them to notice a new value.
        with suppress(InvalidIdentifier):
            return max(1, int(parse_rfc3339(read.updated_at)))
        return 1

    async def _named_secrets(self, grant: DoorGrant, mount: Mount) -> tuple[SecretName, ...]:
        """Return the secrets that a grant names, without a request to the node.

        A mount of another owner is refused to a machine token.
        """
        try:
            if grant.machine is not None:
                await grant.secrets_at(mount)
            return grant.named_secrets(mount)
        except SealspaceError as error:
            raise refusal_of(error) from error

    async def _answered(
        self,
        grant: DoorGrant,
        mount: Mount,
        key: object,
        fetch: Callable[[], Awaitable[Found]],
        *,
        size_bytes: Callable[[Any], int],
    ) -> tuple[Found, float | None]:
        """Return a value and, if it is stale, its age in seconds."""
        kept = self._cache.fresh(grant.accessor, key)
        if kept is not None:
            return kept.value, None
        writes = grant.writes
        try:
            fetching = self._fetched(grant, mount, key, fetch)
            value, asked_at = await self._in_time(grant, key, fetching)
        except DoorRefusal as refusal:
            if refusal.status == NODE_AWAY and _is_away(refusal):
                kept = self._cache.stale(grant.accessor, key)
                if kept is not None:
                    return kept.value, self._clock.now() - kept.asked_at
            else:
                # The node refuses now what it gave before.
                self._cache.drop(grant.accessor, key)
            raise
        # Otherwise it ended meanwhile, or it wrote, and the value may be the one before (DR13).
        if grant in self._grants and grant.writes == writes:
            kept = Kept(value=value, asked_at=asked_at, size_bytes=size_bytes(value))
            self._cache.keep(grant.accessor, key, kept)
        return value, None

    async def _in_time(
        self, grant: DoorGrant, key: object, fetching: Coroutine[Any, Any, Found]
    ) -> Found:
        """Wait for the node, but not long if a stale value can be the answer."""
        if self._cache.stale(grant.accessor, key) is None:
            return await fetching
        try:
            return await asyncio.wait_for(fetching, STALE_AFTER_S)
        except TimeoutError as error:
            raise DoorRefusal(NODE_AWAY, "no response from the node; next: try again") from error

    async def _fetched(
        self, grant: DoorGrant, mount: Mount, key: object, fetch: Callable[[], Awaitable[Found]]
    ) -> tuple[Found, float]:
        """Return a value of the node, and when the request for it began."""
        # Without a cache, nobody gets an answer to a request that began before his own.
        if self._cache.fresh_s <= 0:
            return await self._timed(grant, mount, fetch)
        # After a write, nobody joins a read that began before it (DR13).
        place = (grant.accessor, grant.writes, key)
        running = self._running.get(place)
        if running is None:
            running = asyncio.create_task(self._timed(grant, mount, fetch))
            self._running[place] = running
            running.add_done_callback(lambda _: self._running.pop(place, None))
        found: tuple[Found, float] = await asyncio.shield(running)
        return found

    async def _timed(
        self, grant: DoorGrant, mount: Mount, fetch: Callable[[], Awaitable[Found]]
    ) -> tuple[Found, float]:
        # A caller who joins later keeps the value no longer than the first one (DR15).
        asked_at = self._clock.now()
        return await self.asked(grant, mount, fetch), asked_at


def _is_over(error: SealspaceError) -> bool:
    """Return whether an error says that a delegation was revoked or has ended."""
    if isinstance(error, DecryptDenied):
        return isinstance(error.refusal, DelegationRevoked)
    return isinstance(error, DelegationRevoked | SessionExpired)


def _is_away(refusal: DoorRefusal) -> bool:
    """Return whether the node did not answer, or answered that it cannot serve now."""
    return isinstance(refusal.__cause__, TransportError | NodeFailure | TimeoutError)


def _names_of(
    secrets: Iterable[SecretName], scope: str | None, *, shows_scopes: bool
) -> tuple[str, ...]:
    """List the names of secrets in the way in which the node lists names."""
    names = []
    folders = set()
    for one in secrets:
        if one.scope == scope:
            names.append(one.name)
        elif shows_scopes and one.scope is not None:
            folders.add(f"{one.scope}/")
    return (*sorted(names), *sorted(folders))


def _size_bytes(reading: Reading) -> int:
    value = reading.secret.value
    # A text in memory has up to four bytes for each character.
    return len(value) if isinstance(value, bytes) else 4 * len(value)
