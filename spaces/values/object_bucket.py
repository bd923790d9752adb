"""Storage of large values in an S3 bucket.

It is meant for nodes on several machines or with small disks.

    <prefix>/store                the id of the store that owns the objects
    <prefix>/incoming/<random>    an upload in progress; no commit may name it
    <prefix>/<first 2 hex of hash>/<space16>-<hash>-<generation>
                                  a complete value under its final name

Only names of these forms are ever swept, and a prefix inside or around the prefix of another store
is refused. So no store removes the objects of another store.

A value of up to 5 MiB is buffered in memory until it gets its name. It is then written in one
request, which fails if the name exists. A larger value is sent to `incoming/` in parts as it
arrives, copied inside the bucket when it gets its name, and removed from `incoming/`. An upload
that fails is aborted. The parts that remain after a killed process do not appear in object lists; a
lifecycle rule of the bucket removes them.

Reads request ranges of a few MiB. So a client that reads slowly occupies no connection to the
bucket, and memory use does not depend on the size of a value.

Every request ends within `_REQUEST_S` and is retried for `_RETRY_S`. Then StoreUnavailable is
raised, with a text that names neither bucket nor key.
"""

import asyncio
import re
import secrets
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import obstore
from blake3 import blake3
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import S3Store

from capabilities.frozen import frozen

from ..space_errors import (
    AuthoritiesUnreadable,
    BodiesElsewhere,
    RecordDamaged,
    StoreUnavailable,
)
from .object_records import ObjectName, parse_file_name
from .object_store import PIECE_BYTES, OpenedBody, Piece

MARKER = "store"
MOST_FOLDERS = 1000
"""The most folders that are searched for another store below a prefix.

With more folders it is unknown whether there is one, so the prefix is refused.
"""
_MARKER_BYTES = 32
_ID = re.compile(rb"[0-9a-f]{32}")
# The largest object that a bucket copies in one request.
MAX_BODY_BYTES = 5_000_000_000
INCOMING = "incoming"
PART_BYTES = 5 * 1024 * 1024  # the smallest size of a part other than the last
_WINDOW_BYTES = 4 * 1024 * 1024
_PARTS_AT_ONCE = 2
# The most bytes in one process of complete uploads that are not stored yet.
_HELD_BYTES = 64 * 1024 * 1024
_REQUEST_S = 30
_CONNECT_S = 2
_RETRIES = 3
_RETRY_S = 5
# How long to wait for an aborted upload. Any remains of the upload are swept later.
_ABORT_S = 5.0
_LISTED = 1000
_INCOMING_KEY = re.compile(rf"{INCOMING}/[0-9a-f]{{32}}")
_BODIES_FOLDER = re.compile(r"[0-9a-f]{2}")
_ERRORS = (BaseError, OSError, ValueError)
# What the client says where SSL_CERT_FILE and SSL_CERT_DIR name no readable certificate.
_NO_AUTHORITIES = "No CA certificates were loaded"


# The prefix of a store must not be inside the prefix of another store. The sweeps of the outer
# store would delete the objects of the inner one, which look like orphans to it. A store is
# recognised by its marker. A marker that the credentials may not read is not found; the other store
# makes the same checks, and finds the marker of this one.
async def _refuse_above(bucket: S3Store, prefix: str) -> None:
    """Raise BodiesElsewhere if the prefix is inside the prefix of another store."""
    segments = prefix.split("/") if prefix else []
    for depth in range(len(segments)):
        key = "/".join((*segments[:depth], MARKER))
        if await _is_marker(bucket, key):
            raise BodiesElsewhere(
                "the prefix of objects.url is inside the prefix of another store; the marker"
                f" of that store is {key}"
            )


async def _refuse_below(objects: S3Store) -> None:
    """Raise BodiesElsewhere if there is another store in a folder below the prefix."""
    listed = await obstore.list_with_delimiter_async(objects)
    folders = deque(listed["common_prefixes"])
    examined = 0
    while folders:
        examined += 1
        if examined + len(folders) > MOST_FOLDERS:
            raise BodiesElsewhere(
                "there are too many folders below the prefix of objects.url: use an empty prefix"
            )
        folder = folders.popleft()
        key = f"{folder}/{MARKER}"
        if await _is_marker(objects, key):
            raise BodiesElsewhere(
                "there is another store below the prefix of objects.url; the marker of that"
                f" store is {key}"
            )
        listed = await obstore.list_with_delimiter_async(objects, f"{folder}/")
        folders += listed["common_prefixes"]


async def _is_marker(objects: S3Store, key: str) -> bool:
    """Return whether there is a readable marker of a store under a key."""
    try:
        marker = await _marker_at(objects, key)
    except PermissionDeniedError:
        return False
    return marker is not None and _ID.fullmatch(marker) is not None


async def _marker_at(objects: S3Store, key: str) -> bytes | None:
    """Read the id of the store that owns a bucket prefix.

    The id is the contents of a marker object. None means that the object does not exist, b"" that
    it does not have the size of a marker.
    """
    try:
        result = await obstore.get_async(objects, key)
    except FileNotFoundError:
        return None
    if result.meta["size"] != _MARKER_BYTES:
        return b""
    return bytes(await result.bytes_async())


@frozen
class BucketLocation:
    """The bucket and key prefix for large values."""

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if INCOMING in self.prefix.split("/"):
            raise ValueError(f"the prefix must not contain the path segment {INCOMING}")


@frozen
class BucketAccess:
    """The address and credentials of a bucket."""

    key_id: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    endpoint: str | None = None

    @property
    def address(self) -> str:
        """The URL of the S3 server."""
        return (self.endpoint or f"https://s3.{self.region}.amazonaws.com").rstrip("/")


class ObjectBucket:
    """Storage for large values in an S3 bucket.

    Any number of processes may use it.
    """

    def __init__(
        self, location: BucketLocation, access: BucketAccess, *, max_bytes: int | None = None
    ) -> None:
        self.max_bytes = max_bytes
        self.step_bytes = PIECE_BYTES
        self.held_bytes = 0
        self._store_id: bytes | None = None
        self.objects: Final = _objects(location, access)
        self._prefix = location.prefix
        self._whole = self.objects
        if location.prefix:
            self._whole = _objects(BucketLocation(location.bucket), access)

    def give_back(self, size_bytes: int) -> None:
        """Record that the memory of a buffered upload was released."""
        self.held_bytes -= size_bytes

    async def claim(self, store_id: bytes) -> None:
        """Reserve the bucket prefix for a store.

        A prefix that another store uses is refused. The sweeps of two stores under one prefix would
        remove each other's objects as orphans.
        """
        self._store_id = store_id
        with _bucket_errors("the bucket for large values cannot be used"):
            if await _marker_at(self.objects, MARKER) is None:
                await _refuse_above(self._whole, self._prefix)
                await _refuse_below(self.objects)
                # Another process can write a marker at the same time. `_require_own` reads which.
                with suppress(AlreadyExistsError):
                    await obstore.put_async(
                        self.objects, MARKER, store_id.hex().encode(), mode="create"
                    )
            await self._require_own()

    async def _require_own(self) -> None:
        """Raise BodiesElsewhere unless the prefix belongs to this store, and to no store above.

        A prefix that was not claimed does not belong to this store.
        """
        is_own = False
        if self._store_id is not None:
            is_own = await _marker_at(self.objects, MARKER) == self._store_id.hex().encode()
        if not is_own:
            raise BodiesElsewhere("the bucket and prefix of objects.url belong to another store")
        await _refuse_above(self._whole, self._prefix)

    async def begin(self) -> "IncomingObject":
        """Start the upload of a large value.

        A value of more than 5 MiB is sent to the bucket in parts.
        """
        return IncomingObject(self)

    async def open(self, name: ObjectName, *, size_bytes: int) -> "OpenObject":
        """Open a large value for reading.

        See `ObjectStore.open`.
        """
        with _reading_errors():
            # One request returns the size of the whole object and its first piece.
            options: obstore.GetOptions = {"range": (0, PIECE_BYTES)}
            result = await obstore.get_async(self.objects, key_of(name), options=options)
            if result.meta["size"] != size_bytes:
                raise RecordDamaged("the size of a large value differs from the recorded size")
            return OpenObject(self.objects, name, size_bytes, bytes(await result.bytes_async()))

    async def remove(self, name: ObjectName) -> None:
        """Delete a large value.

        See `ObjectStore.remove`.
        """
        with _bucket_errors("a large value cannot be removed"):
            await self.delete(key_of(name))

    async def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        with suppress(FileNotFoundError):
            await obstore.delete_async(self.objects, key)

    async def older_than(self, before: float) -> AsyncIterator[Sequence[ObjectName]]:
        """List the objects that are older than a given time.

        The bucket's clock decides. See `ObjectStore.older_than`.
        """
        with _bucket_errors("the large values cannot be listed"):
            await self._require_own()
            listed = await obstore.list_with_delimiter_async(self.objects)
            for folder in listed["common_prefixes"]:
                if _BODIES_FOLDER.fullmatch(folder) is None:
                    continue
                async for objects in obstore.list(self.objects, f"{folder}/", chunk_size=_LISTED):
                    names = _old_names(objects, before)
                    if names:
                        yield names

    async def remove_unfinished(self, before: float) -> int:
        """Delete old unfinished uploads.

        See `ObjectStore.remove_unfinished`. The bucket itself has to remove the parts of multipart
        uploads that were never completed.
        """
        removed = 0
        with _bucket_errors("unfinished uploads cannot be removed"):
            await self._require_own()
            async for objects in obstore.list(self.objects, f"{INCOMING}/", chunk_size=_LISTED):
                for uploaded in objects:
                    key = uploaded["path"]
                    is_old = uploaded["last_modified"].timestamp() < before
                    if is_old and _INCOMING_KEY.fullmatch(key):
                        await self.delete(key)
                        removed += 1
        return removed

    async def check(self) -> None:
        """Check that the bucket can be read.

        See `ObjectStore.check`.
        """
        with _bucket_errors("the bucket for large values cannot be reached"):
            await _marker_at(self.objects, MARKER)

    async def try_out(self) -> None:
        """Test every bucket operation that the node needs.

        These are put, conditional put, copy, read, list and delete.
        """
        first = f"{INCOMING}/{secrets.token_hex(16)}"
        second = f"{INCOMING}/{secrets.token_hex(16)}"
        with _bucket_errors("objects cannot be written to the bucket"):
            await obstore.put_async(self.objects, first, b"x", mode="create")
        try:
            with (
                _bucket_errors("the bucket does not support conditional puts (If-None-Match)"),
                suppress(AlreadyExistsError),
            ):
                # The object exists, so this has to raise AlreadyExistsError.
                await obstore.put_async(self.objects, first, b"y", mode="create")
                raise StoreUnavailable("the bucket ignores If-None-Match and overwrites objects")
            with _bucket_errors("objects cannot be copied in the bucket"):
                await obstore.copy_async(self.objects, first, second)
            with _bucket_errors("objects cannot be read from the bucket"):
                await obstore.get_range_async(self.objects, second, start=0, end=1)
            with _bucket_errors("the objects of the bucket cannot be listed"):
                await anext(obstore.list(self.objects, f"{INCOMING}/", chunk_size=1))
        finally:
            with _bucket_errors("objects cannot be deleted from the bucket"):
                await self.delete(first)
                await self.delete(second)


class IncomingObject:
    """An upload to the bucket.

    The data is hashed as it arrives. A small value is buffered in memory; a larger value is sent to
    the bucket in parts.
    """

    def __init__(self, bucket: ObjectBucket) -> None:
        self.is_named = False
        self._bucket = bucket
        self._hash = blake3()
        self._size_bytes = 0
        self._buffer: list[bytes] = []
        self._upload: _Upload | None = None
        self._give_back: Callable[[], object] | None = None
        self._key: str | None = None

    async def append(self, *pieces: Piece) -> None:
        """Append data to the upload.

        See `IncomingBody.append`.
        """
        piece = b"".join(pieces)
        self._hash.update(piece)
        self._size_bytes += len(piece)
        if self._upload is not None:
            await self._upload.send(piece)
            return
        self._buffer.append(piece)
        if self._size_bytes > PART_BYTES:
            await self._send_buffer()

    async def _send_buffer(self) -> None:
        """Begin a multipart upload with the buffered data."""
        self._upload = _Upload(self._bucket.objects)
        buffered = self._buffer
        self._buffer = []
        for piece in buffered:
            await self._upload.send(piece)

    async def finish(self) -> tuple[bytes, int]:
        """Complete the upload, and return its hash and size.

        See `IncomingBody.finish`.
        """
        # If the process already buffers many complete uploads, this one is sent to the bucket now.
        if self._upload is None and self._bucket.held_bytes + self._size_bytes > _HELD_BYTES:
            await self._send_buffer()
        if self._upload is None:
            self._bucket.held_bytes += self._size_bytes
            # The bytes stop counting with this object at the latest, because a caller that commits
            # the value does not call `discard`.
            self._give_back = weakref.finalize(self, self._bucket.give_back, self._size_bytes)
        else:
            self._key = await self._upload.finish()
            self._upload = None
        return self._hash.digest(), self._size_bytes

    async def contents(self) -> bytes:
        """Return the data of the completed upload.

        See `IncomingBody.contents`.
        """
        if self._key is None:
            return b"".join(self._buffer)
        with _bucket_errors("a large value cannot be read back"):
            result = await obstore.get_async(self._bucket.objects, self._key)
            return bytes(await result.bytes_async())

    async def rename(self, name: ObjectName) -> None:
        """Store the completed upload under its final name.

        See `IncomingBody.rename`.
        """
        self.is_named = True
        if self._key is None and not self._buffer:
            raise StoreUnavailable(
                "a large value cannot be stored: the upload was already discarded"
            )
        key = key_of(name)
        former_key = self._key
        with _bucket_errors("a large value cannot be stored under its final name"):
            if self._buffer:
                await obstore.put_async(
                    self._bucket.objects, key, b"".join(self._buffer), mode="create"
                )
            elif former_key is not None:
                # The copy is unconditional, because few S3 servers support conditional copies. The
                # name has 16 random bytes, so no other object has it.
                await obstore.copy_async(self._bucket.objects, former_key, key)
            self._key = key
        if former_key is not None:
            with suppress(*_ERRORS):  # swept later if this fails
                await self._bucket.delete(former_key)

    async def discard(self) -> None:
        """Delete the upload.

        See `IncomingBody.discard`.
        """
        self._buffer.clear()
        if self._give_back is not None:
            self._give_back()  # only the first call has an effect
        upload = self._upload
        key = self._key
        self._upload = None
        self._key = None
        if upload is not None:
            await upload.abort()
        if key is not None:
            with suppress(*_ERRORS):  # swept later if this fails
                await self._bucket.delete(key)


@dataclass(slots=True)
class _Upload:
    """A multipart upload to a temporary key.

    The queue of pieces is short, so that a slow bucket slows the sender down.
    """

    objects: S3Store
    key: str = field(default_factory=lambda: f"{INCOMING}/{secrets.token_hex(16)}")
    _pieces: "asyncio.Queue[bytes | None]" = field(default_factory=lambda: asyncio.Queue(maxsize=4))
    _is_aborted: bool = False
    _done: "asyncio.Future[obstore.PutResult] | None" = None

    async def send(self, piece: bytes | None) -> None:
        """Upload a piece of data.

        None marks the end of the data.
        """
        if self._done is None:
            self._done = asyncio.ensure_future(
                obstore.put_async(
                    self.objects,
                    self.key,
                    self._pieces_until_end(),
                    chunk_size=PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            )
        upload = self._done
        queueing = asyncio.ensure_future(self._pieces.put(piece))
        # An upload that has failed takes no more pieces. A full queue would then stay full, so the
        # end of the upload ends the wait too.
        waited: set[asyncio.Future[Any]] = {queueing, upload}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            queueing.cancel()
        if upload.done() and not queueing.done():
            with _bucket_errors("a large value cannot be uploaded to the bucket"):
                upload.result()  # raises the error of the upload
            # The upload must not end without an error before its last piece.
            raise StoreUnavailable("a large value cannot be uploaded to the bucket")

    async def _pieces_until_end(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        # On this error the client aborts the upload, and the bucket discards its parts.
        if self._is_aborted:
            raise StoreUnavailable("the upload of a large value was aborted")

    async def finish(self) -> str:
        """Wait until the upload is complete, and return the object key."""
        await self.send(None)
        assert self._done is not None
        with _bucket_errors("a large value cannot be uploaded to the bucket"):
            await asyncio.shield(self._done)
        return self.key

    async def abort(self) -> None:
        """Abort the upload.

        The bucket then discards the uploaded parts.
        """
        self._is_aborted = True
        if self._done is None:
            return
        # The end of the data replaces the pieces that wait. `_pieces_until_end` then raises.
        while not self._pieces.empty():
            self._pieces.get_nowait()
        self._pieces.put_nowait(None)
        await asyncio.wait((self._done,), timeout=_ABORT_S)
        has_ended = self._done.done() and not self._done.cancelled()
        if has_ended and self._done.exception() is None:
            with suppress(*_ERRORS):  # the upload was complete before it was aborted
                await obstore.delete_async(self.objects, self.key)
        self._done.cancel()


class OpenObject(OpenedBody):
    """A large value in the bucket, opened for reading.

    It is read in ranges. A complete read yields the last piece only if the digest matches.
    """

    def __init__(self, objects: S3Store, name: ObjectName, size_bytes: int, first: bytes) -> None:
        super().__init__(name.digest, size_bytes)
        self._objects = objects
        self._key = key_of(name)
        self._window = first
        self._window_start = 0
        self._is_closed = False

    async def _piece(self, start: int, end: int, hasher: blake3 | None) -> bytes:
        """Return the next chunk from the buffered window, which is read anew where it ends."""
        if self._is_closed:
            raise StoreUnavailable("cannot read a large value: its object is already closed")
        stop = min(start + PIECE_BYTES, end)
        buffered_end = self._window_start + len(self._window)
        is_buffered = self._window_start <= start < stop <= buffered_end
        if not is_buffered:
            window_end = min(start + _WINDOW_BYTES, end)
            with _reading_errors():
                window = await obstore.get_range_async(
                    self._objects, self._key, start=start, end=window_end
                )
            if len(window) != window_end - start:
                raise RecordDamaged("the object of a large value is shorter than recorded")
            self._window = bytes(window)
            self._window_start = start
        piece = self._window[start - self._window_start : stop - self._window_start]
        if hasher is not None:
            hasher.update(piece)
        return piece

    async def close(self) -> None:
        """Discard the buffered data."""
        self._is_closed = True
        self._window = b""


def key_of(name: ObjectName) -> str:
    """Return the S3 key of a large value.

    The bucket prefix is not part of this key.
    """
    return f"{name.digest[:1].hex()}/{name.file_name}"


def _old_names(objects: "Sequence[obstore.ObjectMeta]", before: float) -> list[ObjectName]:
    """Return the names of the large values among objects, if they are older than a given time.

    Other tools may write below the prefix; only our own keys are returned.
    """
    names: list[ObjectName] = []
    for listed in objects:
        if listed["last_modified"].timestamp() >= before:
            continue
        key = listed["path"]
        name = parse_file_name(key.rpartition("/")[2])
        if name is not None and key_of(name) == key:
            names.append(name)
    return names


def _objects(location: BucketLocation, access: BucketAccess) -> S3Store:
    """Return a client for the objects under a prefix of a bucket."""
    # Every option is set, because the client reads missing options from environment variables.
    options: dict[str, str] = {"region": access.region, "access_key_id": access.key_id}
    options["secret_access_key"] = access.secret_key
    options["endpoint"] = options["aws_endpoint_url_s3"] = access.address
    if access.session_token is not None:
        options["session_token"] = access.session_token
    try:
        return S3Store(
            location.bucket,
            prefix=location.prefix or None,
            config=options,  # type: ignore[arg-type]  # a dictionary of some of its names
            client_options={
                "allow_http": access.address.startswith("http://"),
                "timeout": timedelta(seconds=_REQUEST_S),
                "connect_timeout": timedelta(seconds=_CONNECT_S),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)},
        )
    except BaseError as failed:
        # The client reads the authorities before it sends anything, for http:// too.
        if _NO_AUTHORITIES in str(failed):
            raise AuthoritiesUnreadable("no certificate authority could be read") from None
        raise StoreUnavailable("the client of the bucket cannot be started") from None


@contextmanager
def _bucket_errors(what: str) -> Iterator[None]:
    """Convert the S3 client's errors to StoreError exceptions.

    The client's error messages are not passed on, because they show addresses and keys.
    """
    try:
        yield
    except _ERRORS:
        raise StoreUnavailable(what) from None


@contextmanager
def _reading_errors() -> Iterator[None]:
    with _bucket_errors("a large value cannot be read"):
        try:
            yield
        except FileNotFoundError:
            raise RecordDamaged("the object of a large value is missing from the bucket") from None
