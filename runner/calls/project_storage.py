"""Storage of a project's program, for one run (RN200 to RN207).

Values are encrypted here, and kept in the space `projects` of the project's developer:

    storage/<project's name>/<pseudonym of the caller>/<key in hexadecimal>

Each value is encrypted with an AES key of its own, derived from project, caller and key. So a value
that was changed, or copied from another caller, project or key, cannot be opened. The developer and
the node can restore an older value of the same key, and delete values.

Example:
    storage = ProjectStorage(backend, grant, project, digest)
    request = RunRequest(..., storage=storage.answer)
    result = await executor.run(request, load)
    storage.state
"""

import struct
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from capabilities.clock_and_entropy import SystemEntropy
from sealspace.documents.project_names import PROJECTS_SPACE, ProjectId
from sealspace.errors import (
    NotFound,
    PreconditionFailed,
    SealspaceError,
    Unauthorized,
)
from sealspace.kv import Kv
from sealspace.session import Grant, space_of
from serving.messages import pack_parts, unpack_parts
from tee_backend.backend import Backend

from ..guest.runs import StorageState

MAX_OPERATIONS = 128
MAX_KEY_BYTES = 128
MAX_VALUE_BYTES = 256 * 1024

_MAX_LISTED_KEYS = 1000
_MAX_LISTED_PAGES = 10
_TRIES = 5
"""Attempts of an operation that reads a value and replaces it, if other runs write meanwhile."""
_NONCE_BYTES = 12
_SEAL_BYTES = _NONCE_BYTES + 16
_NUMBER = struct.Struct("<q")
_NOT_GRANTED = (
    "no storage: call the program by its project, and let its developer grant storage with"
    " `sealspace project share URL NAME --storage`; grants of secrets must name the project too"
)


class StorageRefused(Exception):
    """Raised when a storage operation fails; the program gets the text."""


class _StoredValue(NamedTuple):
    """A stored value, decrypted, and its version; both are None if nothing is stored."""

    value: bytes | None
    etag: str | None


@dataclass(eq=False, repr=False)
class ProjectStorage:
    """The storage of one run.

    Attributes:
        backend: reads and writes the values.
        grant: returns the developer's grant for the project's storage, or None.
        project: the project that is called; None if the program is called by its hash.
        digest: HMAC-SHA256 over project, caller, and the given texts.
        operations_left: operations that the run may still perform.
        limit_was_reported: whether the program was told that no operations are left.
        state: whether the run has written (RN206).
    """

    backend: Backend
    grant: Callable[[], Grant | None]
    project: ProjectId | None
    digest: Callable[..., bytes]
    operations_left: int = MAX_OPERATIONS
    limit_was_reported: bool = False
    state: StorageState = "none"

    def __post_init__(self) -> None:
        # RN202: only the application's runners can tell whose values are in a folder
        name = self.project.name if self.project else ""
        self._folder = f"storage/{name}/{self.digest().hex()}/"

    async def answer(self, message: bytes) -> bytes:
        """Perform a storage operation of the program.

        Args:
            message: the name of the operation and its arguments as packed parts, untrusted.
        Returns:
            Packed parts: an empty part and the results, or one part with the text of the error.
        Raises:
            EOFError: the program sends an operation after it was told that none are left. This
                ends the run (RN203).
        """
        if self.limit_was_reported:
            raise EOFError
        if not self.operations_left:
            self.limit_was_reported = True
            return _error(f"a run may perform {MAX_OPERATIONS} storage operations")
        self.operations_left -= 1
        try:
            results = await self._results(unpack_parts(message, 4))
            return pack_parts([b"", *results])
        except StorageRefused as refused:
            return _error(str(refused))
        except ValueError:
            return _error("the operation is malformed, or could not be performed")
        except Unauthorized:
            return _error(_NOT_GRANTED)
        except SealspaceError as error:
            return _error(f"the node did not confirm the operation: {error.code}")

    async def _results(self, operation: list[bytes]) -> list[bytes]:
        """Perform an untrusted operation, and return its results without the error."""
        match operation:
            case [b"get", key]:
                stored = await self._read(key)
                return [stored.value or b""]
            case [b"has", key]:
                stored = await self._read(key)
                return [_yes(stored.value is not None)]
            # a longer prefix is malformed, because no key is as long (RN203)
            case [b"list-keys", prefix] if len(prefix) <= MAX_KEY_BYTES:
                keys = await self._keys(prefix)
                return [msgspec.json.encode([key.decode() for key in keys])]
            case [b"set", key, value]:
                if not await self._put(key, value):  # there was no condition that could be unmet
                    raise ValueError
                return []
            case [b"set-if-absent", key, value]:
                return [_yes(await self._put(key, value, if_absent=True))]
            case [b"set-if-equals", key, expected, value]:
                before, after = await self._update(
                    key, lambda stored: value if stored == expected else None
                )
                if after is None:  # the program is told the value that is stored instead
                    return [_yes(False), before or b""]
                return [_yes(True), b""]
            case [b"increment" | b"decrement" as name, key, delta]:
                change = int(delta) if name == b"increment" else -int(delta)
                _, after = await self._update(key, lambda before: _sum(before, change))
                return [b"%d" % _NUMBER.unpack(after or b"")[0]]
            case [b"delete", key]:
                path, _ = self._cell(key)
                return [_yes(await self._write(lambda values: values.delete(path)))]
        raise ValueError

    async def _keys(self, prefix: bytes) -> list[bytes]:
        """Return the stored keys with a prefix, in ascending order (RN203).

        A node lists by whole segments of a path, so all keys of the folder are read.

        Raises:
            StorageRefused: too many keys are stored, or begin with the prefix. A part of them
                would look like all of them.
        """
        keys: list[bytes] = []
        cursor = None
        for _ in range(_MAX_LISTED_PAGES):
            async with self._values() as values:
                page = await values.list_page(self._folder, cursor=cursor)
            for path in page.keys:
                key = bytes.fromhex(path.removeprefix(self._folder))
                if key.startswith(prefix):
                    keys.append(key)
            if len(keys) > _MAX_LISTED_KEYS:
                raise StorageRefused("too many keys begin with this prefix")
            if page.cursor is None:
                return keys
            cursor = page.cursor
        raise StorageRefused("too many keys are stored to list them")

    async def _read(self, key: bytes) -> _StoredValue:
        """Read and decrypt a value."""
        path, cipher = self._cell(key)
        async with self._values() as values:
            try:
                stored = await values.get(path, max_bytes=MAX_VALUE_BYTES + _SEAL_BYTES)
            except NotFound:
                return _StoredValue(value=None, etag=None)
        nonce, sealed = stored.body[:_NONCE_BYTES], stored.body[_NONCE_BYTES:]
        try:
            value = cipher.decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError):
            # The value was changed, or encrypted for another project, caller or key (RN202).
            raise StorageRefused(
                "the stored value was changed, or is not one of this project, caller and key"
            ) from None
        return _StoredValue(value=value, etag=stored.etag)

    async def _put(self, key: bytes, value: bytes, **condition: Any) -> bool:
        """Encrypt and write a value, and return whether the condition of `Kv.put` was met."""
        path, cipher = self._cell(key)
        nonce = SystemEntropy().token(_NONCE_BYTES)
        if len(value) > MAX_VALUE_BYTES:  # bounds what one run stores (RN203)
            raise StorageRefused(f"a value has at most {MAX_VALUE_BYTES} bytes")
        sealed = nonce + cipher.encrypt(nonce, value, None)
        return await self._write(lambda values: values.put(path, sealed, **condition))

    async def _update(
        self, key: bytes, change: Callable[[bytes | None], bytes | None]
    ) -> tuple[bytes | None, bytes | None]:
        """Replace a value by a function of it (RN204).

        Returns the value before and after. The latter is None if `change` returned None, so that
        nothing was written.
        """
        for _ in range(_TRIES):
            before, etag = await self._read(key)
            after = change(before)
            if after is None:
                return before, None
            # Not written if another run has changed the value since it was read.
            if await self._put(key, after, if_absent=not etag, if_match=etag):
                return before, after
        raise StorageRefused("other runs keep changing the value; try again")

    async def _write(self, act: Callable[[Kv], Awaitable[str | None]]) -> bool:
        """Change a stored value, and return whether that was possible."""
        state_before = self.state
        async with self._values() as values:
            # RN206: if the run ends while the node is asked, or the node does not answer, this
            # write may have been made or not
            if state_before != "written":
                self.state = "unknown"
            try:
                is_changed = await act(values) is not None
            except (PreconditionFailed, NotFound) as refused:
                # A 503 does not tell whether the write was made, so the state stays.
                if refused.status == 503:
                    raise
                self.state = state_before
                return False
            self.state = "written"
        return is_changed

    def _values(self) -> AbstractAsyncContextManager[Kv]:
        """Give access to the developer's space by its newest live grant (RN201)."""
        grant = self.grant()
        if grant is None or self.project is None:
            raise StorageRefused(_NOT_GRANTED)
        return self.backend.values(space_of(self.project.developer, PROJECTS_SPACE).text, by=grant)

    def _cell(self, key: bytes) -> tuple[str, AESGCM]:
        """Return the path of a value, and the cipher for its own AES key (RN202)."""
        # the hex digits of the key have to fit into a path (RN203)
        if not 1 <= len(key) <= MAX_KEY_BYTES:
            raise StorageRefused(f"a key has 1 to {MAX_KEY_BYTES} bytes")
        return self._folder + key.hex(), AESGCM(self.digest(key.decode()))


def _error(text: str) -> bytes:
    """Encode the answer to an operation that failed."""
    return pack_parts([text.encode()])


def _yes(is_so: bool) -> bytes:
    """Return how an operation reports that something is so, or not."""
    return b"1" if is_so else b""


def _sum(value: bytes | None, change: int) -> bytes:
    """Add to a stored number (RN204)."""
    try:
        number = 0
        if value is not None:
            (number,) = _NUMBER.unpack(value)
        return _NUMBER.pack(number + change)
    except struct.error:
        raise StorageRefused(
            "the stored value is not a number of 8 bytes, or the sum does not fit into 64 bits"
        ) from None
