"""The current versions of several values, without the bytes of unchanged values."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from ..errors import NotFound, NotGranted, SpaceNotFound
from .concurrency import all_of
from .values import Value

_AT_ONCE = 8
"""Number of conditional requests that are sent concurrently."""


class _Values(Protocol):
    """The values of a space; see `sealspace.kv.Kv`."""

    async def metadata_many(self, keys: Iterable[str]) -> Mapping[str, Value]: ...
    async def get_if_changed(self, key: str, etag: str, *, max_bytes: int) -> Value | None: ...


async def current_etags(kv: _Values, known: Mapping[str, str], *, max_bytes: int) -> dict[str, str]:
    """Return the current versions of values, without the keys that have no value.

    With `kv/metadata`, one request reads up to 100 versions. A session that has only `kv/get`, such
    as that of a machine token, sends one conditional request for each key.

    Args:
        kv: the values.
        known: key to the version that the caller has.
        max_bytes: largest accepted value, if a changed value is sent.
    """
    try:
        described = await kv.metadata_many(known)
        return {key: value.etag for key, value in described.items()}
    except NotGranted:
        # Raised before a request is sent. The requests below raise it again if `kv/get` is missing.
        pass

    async def current_etag(key: str) -> str | None:
        try:
            newer = await kv.get_if_changed(key, known[key], max_bytes=max_bytes)
        except SpaceNotFound:
            raise
        except NotFound:
            return None
        return known[key] if newer is None else newer.etag

    etags = await all_of(current_etag, known, at_once=_AT_ONCE)
    return {key: etag for key, etag in zip(known, etags, strict=True) if etag is not None}
