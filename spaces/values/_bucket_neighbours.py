"""Other stores in the same bucket, above or below a prefix: one store would take the other's bodies for its own.

A store is recognised by its marker, the object `store` with the store's id in hexadecimal. Markers above the prefix
that the credentials may not read are not found; the check of the other store, above or below, finds the conflict.
"""

import re
from collections import deque
from typing import Final

import obstore
from obstore.exceptions import PermissionDeniedError
from obstore.store import S3Store

MARKER: Final = "store"
MOST_FOLDERS: Final = 1000
"""How many folders are searched below a prefix; where there are more, it is unknown whether another store is there."""
_MARKER_BYTES: Final = 32
_ID: Final = re.compile(rb"[0-9a-f]{32}")


class TooManyFolders(Exception):
    """There are more folders below a prefix than are searched."""


async def marker_above(bucket: S3Store, prefix: str) -> str | None:
    """Return the key of a marker above a prefix; None where none is visible.

    Args:
        bucket: the whole of it.
        prefix: without slashes around it; may be empty.
    """
    segments = prefix.split("/") if prefix else []
    for depth in range(len(segments)):
        key = "/".join((*segments[:depth], MARKER))
        if await _is_marker(bucket, key):
            return key
    return None


async def marker_below(objects: S3Store) -> str | None:
    """Return the key of a marker in a folder below; None where there is none.

    Args:
        objects: the objects below a prefix.
    Raises:
        TooManyFolders: there are too many folders to find out.
    """
    folders: deque[str] = deque((await obstore.list_with_delimiter_async(objects))["common_prefixes"])
    looked = 0
    while folders:
        looked += 1
        if looked + len(folders) > MOST_FOLDERS:
            raise TooManyFolders
        folder = folders.popleft()
        if await _is_marker(objects, f"{folder}/{MARKER}"):
            return f"{folder}/{MARKER}"
        folders += (await obstore.list_with_delimiter_async(objects, f"{folder}/"))["common_prefixes"]
    return None


async def _is_marker(objects: S3Store, key: str) -> bool:
    try:
        found = await obstore.get_async(objects, key)
        if found.meta["size"] != _MARKER_BYTES:
            return False
        return _ID.fullmatch(bytes(await found.bytes_async())) is not None
    except (FileNotFoundError, PermissionDeniedError):
        return False
