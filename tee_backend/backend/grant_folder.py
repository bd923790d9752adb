"""The folder in which a backend stores its grants.

With this folder, a restart needs no new grant.

    backend.json         {"v", "did", "networks"}: the backend's DID, and the pinned network keys
    grants/<cid>.json    {"v", "number", "grant", "wasRead", "wasRevoked"}: a grant and its state
    grants/*.unreadable  damaged files, renamed; a warning in the log names each
    lock                 locked by the one process that uses the folder

Files have mode 0600 and folders 0700. Each file is replaced as a whole and is durable when `store`
returns. No file contains a key: not the backend's own, no receiver key, no content key. A token
alone is of no use without the backend's key; see `tee_backend.backend.key`.

The host may own the disk, so all content is untrusted (AT58): sizes are bounded, and links are not
followed. Nothing in the folder gives authority, since the node judges each use. A damaged grant is
set aside, so that the others stay usable. A damaged `backend.json` stops the start, because the
pinned network keys would be lost with it.

Example:
    folder = GrantFolder(Path("/data/backend"), did)
    held = HeldGrants(read=folder.stored.read, revoked=folder.stored.revoked)
    folder.store(lambda: GrantSnapshot(session.grants, session.pins, held.read, held.revoked))
"""

import fcntl
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import Meta, Struct

from capabilities.capability_errors import InvalidJson
from capabilities.principals import Principal
from capabilities.strict_json import Shape, StrictStruct, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes, canonical_members
from encryption_network.pins import NetworkPin, parse_pins, pins_json
from sealspace.documents.published import MAX_GRANT_BYTES
from sealspace.errors import InvalidPortableDelegation
from sealspace.private_files import DRAFTS, read_file, replace_file, sync_folder
from sealspace.session import Grant, read_grant

from ..backend_errors import FolderDamaged, FolderOfAnother, FolderUnusable
from .held_grants import MOST

_VERSION: Final = 1
_MAX_STATE_BYTES = 1024 * 1024
_MAX_RECORD_BYTES = MAX_GRANT_BYTES + 1024
_MOST_NUMBER = 2**52  # exact in canonical JSON
_log = logging.getLogger(__name__)


class _State(Struct):
    v: Literal[1]
    did: str
    networks: Any = None  # as `parse_pins` takes it


class _Row(StrictStruct, rename="camel"):
    v: Literal[1]
    number: Annotated[int, Meta(gt=0, lt=_MOST_NUMBER)]
    grant: str
    was_read: bool
    was_revoked: bool


class GrantSnapshot(NamedTuple):
    """A snapshot of a backend's grants and pinned network keys.

    `read` contains the ids of used grants, `revoked` those of revoked grants.
    """

    grants: Sequence[Grant]
    pins: tuple[NetworkPin, ...]
    read: frozenset[str]
    revoked: frozenset[str]


class GrantFolder:
    """A locked folder that contains one backend's grants.

    Only one process can use the folder at a time.

    Args:
        path: the folder; made with mode 0700 if missing.
        did: the backend's DID.
    Raises:
        FolderUnusable: the folder is open to other users, used by another process, or cannot be
            read or written.
        FolderDamaged: `backend.json` is missing or damaged, or there are more than MOST grants.
        FolderOfAnother: the folder was made by a backend with another DID.
    """

    def __init__(self, path: Path, did: Principal) -> None:
        self._path = path
        self._did = did
        self._grants = path / "grants"
        self._writing = threading.Lock()
        self._rows: dict[str, _Row] = {}
        self.pins: tuple[NetworkPin, ...] = ()  # the keys of networks that were used
        with self._convert_os_errors():
            _make_private(path)
            _make_private(self._grants)
            # O_NOFOLLOW: the host may own the disk, and a link could lead to any file.
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._lock: int | None = lock
        try:
            with self._convert_os_errors():
                self._take_lock(lock)
                # A process that was killed before it renamed its drafts has left them behind. They
                # are removed only under the lock, because a running process may be writing one.
                for draft in (*self._path.glob(DRAFTS), *self._grants.glob(DRAFTS)):
                    draft.unlink()
                self._load_state()
                self._load_grants()
        except BaseException:
            self.close()
            raise

    @property
    def stored(self) -> GrantSnapshot:
        """The stored grants and pinned network keys.

        The newest grants come first, and revoked grants last.
        """

        def revoked_last_then_newest(item: tuple[str, _Row]) -> tuple[bool, int]:
            _, row = item
            return row.was_revoked, -row.number

        rows = sorted(self._rows.items(), key=revoked_last_then_newest)
        return GrantSnapshot(
            grants=tuple(read_grant(row.grant) for _, row in rows),
            pins=self.pins,
            read=frozenset(cid for cid, row in rows if row.was_read),
            revoked=frozenset(cid for cid, row in rows if row.was_revoked),
        )

    def close(self) -> None:
        """Wait for a running write, then unlock the folder.

        A second call does nothing.
        """
        with self._writing:
            lock, self._lock = self._lock, None
            if lock is not None:
                os.close(lock)

    def store(self, current: Callable[[], GrantSnapshot]) -> None:
        """Write the current grants and pinned keys to the folder.

        The write is durable. This method blocks and is thread-safe.

        Args:
            current: returns the state to store. It is called under the lock, so that of two calls
                the later one stores the newer state.
        Raises:
            FolderUnusable: the folder was closed, or cannot be written.
        """
        with self._writing:
            if self._lock is None:  # another process may use the folder by now
                raise FolderUnusable(
                    f"the backend that uses the folder {self._path} was closed",
                    hint="call `Backend.open` to use the folder again",
                )
            snapshot = current()
            with self._convert_os_errors():
                if snapshot.pins != self.pins:
                    self._write_state(snapshot.pins)
                self._write_rows(snapshot)
                self._drop_others(snapshot)

    # --- writing ----------------------------------------------------------------------------------

    def _write_state(self, pins: tuple[NetworkPin, ...]) -> None:
        replace_file(
            self._path / "backend.json",
            canonical_bytes({"v": _VERSION, "did": self._did, "networks": pins_json(pins)}),
        )
        self.pins = pins

    def _write_rows(self, snapshot: GrantSnapshot) -> None:
        """Write the grants that are new, or whose state has changed."""
        known_rows = self._rows
        number = max((row.number for row in known_rows.values()), default=0)
        # Only a tampered file has a number near the limit. Then all grants are renumbered;
        # otherwise the next number could not be read back.
        if number >= _MOST_NUMBER - MOST:
            number = 0
            known_rows = {}
        new_numbers = count(number + 1)
        # The newest grant is the first one in the snapshot, and gets the highest number.
        for grant in reversed(snapshot.grants):
            cid = grant.cid
            row = _Row(
                v=_VERSION,
                number=known_rows[cid].number if cid in known_rows else next(new_numbers),
                grant=grant.header,
                was_read=cid in snapshot.read,
                was_revoked=cid in snapshot.revoked,
            )
            if self._rows.get(cid) != row:
                replace_file(self._file_of(cid), canonical_members(row))
                self._rows[cid] = row

    def _drop_others(self, snapshot: GrantSnapshot) -> None:
        """Remove the grants that a snapshot does not have."""
        dropped_cids = self._rows.keys() - {grant.cid for grant in snapshot.grants}
        for cid in dropped_cids:
            self._file_of(cid).unlink(missing_ok=True)
            del self._rows[cid]
        if dropped_cids:
            sync_folder(self._grants)

    def _file_of(self, cid: str) -> Path:
        return self._grants / f"{cid}.json"

    # --- reading ----------------------------------------------------------------------------------

    def _load_state(self) -> None:
        """Read the backend's DID and the pinned keys; a new folder gets them."""
        path = self._path / "backend.json"
        try:
            state = _read(path, _State, most_bytes=_MAX_STATE_BYTES)
        except FileNotFoundError:
            # A folder with grants is not new. Another backend's grants must not be adopted.
            if any(self._grants.glob("*.json")):
                raise self._damaged(path, "the file is missing") from None
            self._write_state(())
            return
        except (OSError, InvalidJson) as error:
            raise self._damaged(path, _describe_reason(error)) from None
        pins = parse_pins(state.networks)
        if pins is None:
            raise self._damaged(path, "the network keys in this file cannot be read")
        if state.did != self._did:
            raise FolderOfAnother(
                f"{self._path} belongs to {state.did}, but this backend is {self._did}",
                hint="start the backend with its former key file, or with its former application"
                " and key provider; otherwise use a new folder, and ask owners for new grants",
            )
        self.pins = pins

    def _load_grants(self) -> None:
        """Read all grants, and set damaged files aside."""
        names = sorted(
            entry.name for entry in os.scandir(self._grants) if entry.name.endswith(".json")
        )
        if len(names) > MOST:  # counted first, so that a host cannot make the start read for ever
            raise self._damaged(self._grants, f"the folder has more than {MOST} grants")
        for name in names:
            path = self._grants / name
            try:
                row = _read(path, _Row, most_bytes=_MAX_RECORD_BYTES)
                grant = read_grant(row.grant)
                if grant.cid != path.stem or grant.delegate != self._did:
                    raise ValueError(
                        "the token in the file does not match the file name, or is for another DID"
                    )
            except (OSError, InvalidJson, InvalidPortableDelegation, ValueError) as error:
                reason = _describe_reason(error)
                aside = path.with_suffix(".unreadable")
                path.rename(aside)
                _log.warning(
                    "the grant in %s cannot be read (%s); next: check the file, or ask the owner"
                    " to grant again",
                    aside,
                    reason,
                )
            else:
                self._rows[grant.cid] = row

    # --- the folder itself ------------------------------------------------------------------------

    def _take_lock(self, lock: int) -> None:
        """Lock the folder for this process; `lock` is a descriptor of the file `lock`."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderUnusable(
                f"another process uses the folder {self._path}",
                hint="run the backend in one process (one server worker), or give each"
                " process its own folder",
            ) from None

    @contextmanager
    def _convert_os_errors(self) -> Iterator[None]:
        """Convert errors of the file system to FolderUnusable."""
        try:
            yield
        except OSError as error:
            raise FolderUnusable(
                f"the folder {self._path} cannot be used: {_describe_reason(error)}",
                hint=(f"check permissions and free space: ls -ld {self._path}; df {self._path}"),
            ) from None

    def _damaged(self, path: Path, reason: str) -> FolderDamaged:
        return FolderDamaged(
            f"{path} cannot be used: {reason}",
            hint="restore the file from a backup; without a backup, use a new folder instead of"
            f" {self._path}, and ask owners for new grants",
        )


def _make_private(folder: Path) -> None:
    """Make a folder with mode 0700, or require that an existing one is the user's alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise FolderUnusable(
            f"the folder {folder} belongs to another user or is open to others",
            hint=f"make the backend's user the owner of {folder} and run `chmod 700 {folder}`,"
            f" or use a new folder below {folder}",
        )


def _read(path: Path, shape: type[Shape], *, most_bytes: int) -> Shape:
    return shaped(parse_json(read_file(path, most_bytes=most_bytes), max_bytes=most_bytes), shape)


def _describe_reason(error: Exception) -> str:
    """Describe why a file cannot be used.

    The text does not reveal the file's contents.
    """
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    if isinstance(error, ValueError):
        return str(error)
    return "the file is not JSON of the expected form, or has no valid token"
