"""Replay records in LMDB, written without a sync to disk.

`Store.read` writes them.

    b"f"                    minutes whose replay records were deleted (`_refused_minutes`)
    b"u" minute4 id16       → empty

A record is written inline, in a write transaction of some microseconds and without a sync. It
survives SIGKILL, because the pages belong to the kernel, but perhaps not a power cut. After one, an
unsynced environment may be damaged. So it is named after the kernel's boot and never opened in
another boot (ST4; store §3: the one exception to durability).

LMDB writes the pages with system calls. If the disk is full, the call fails and the token is
refused. A write through the memory map (`writemap`) would end the process with SIGBUS instead.
"""

import errno
import logging
import shutil
from contextlib import suppress
from pathlib import Path

import lmdb

from ...space_errors import StoreFull, StoreUnavailable
from ..durable import NO_SPACE
from ._folder import MAX_READERS
from ._refused_minutes import add_refused, is_refused, remove_replay_records

_REFUSED_MINUTES = b"f"
_USED = b"u"
_FOLDER = "first-use-"
# Rows removed in one write transaction, while the replay records of every worker wait.
_SWEEP_ROWS = 500
# Address space, not disk. All processes use the same value, because LMDB fails if another process
# enlarged the map.
_MAP_BYTES = 64 << 30
# LMDB reports a write that was cut short for lack of space as EIO.
_NO_SPACE = NO_SPACE | {errno.EIO}
_LOG = logging.getLogger(__name__)


def boot_id() -> str:
    """Return the boot id of the Linux kernel.

    It changes at every boot.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreUnavailable("the boot id of the kernel cannot be read") from exc


def discard_other_boots(folder: Path, boot: str) -> None:
    """Delete the replay records of earlier boots.

    Only the writer of a data folder calls this.
    """
    for stale in folder.glob(f"{_FOLDER}*"):
        if stale.name != _FOLDER + boot:
            shutil.rmtree(stale, ignore_errors=True)


class ReplayRecords:
    """The replay records of one data folder.

    They are written without a sync.
    """

    def __init__(self, folder: Path, boot: str) -> None:
        """Open or create the replay-record database of the current system boot."""
        place = folder / f"{_FOLDER}{boot}"
        place.mkdir(mode=0o700, exist_ok=True)
        try:
            self._env = lmdb.open(
                str(place),
                map_size=_MAP_BYTES,
                max_readers=MAX_READERS,
                max_spare_txns=1,
                readahead=False,
                sync=False,
                mode=0o600,
            )
        except lmdb.Error as exc:
            raise _error_of(exc, "the replay records cannot be opened") from exc

    def add(self, row: bytes) -> bool:
        """Record a token's use, and return whether it is the first use.

        `row` is that of its replay record, see `ReplayRecord.row`.
        """
        minute4 = row[:4]
        try:
            # The arguments are begin(db, parent, write) and put(key, value, dupdata, overwrite). A
            # put that must not overwrite a row returns whether the row is new.
            with self._env.begin(None, None, True) as txn:
                if is_refused(txn.get(_REFUSED_MINUTES, b""), minute4):
                    return False
                return txn.put(_USED + row, b"", True, False)
        except lmdb.Error as exc:
            raise _error_of(exc, "a replay record cannot be written") from exc

    def is_minute_refused(self, row: bytes) -> bool:
        """Return whether all tokens that expire in a given minute are refused.

        The minute is that of the replay record with this row. All tokens of a minute are refused
        once replay records of that minute were deleted.
        """
        with self._env.begin() as txn:
            return is_refused(txn.get(_REFUSED_MINUTES, b""), row[:4])

    def rows(self) -> list[bytes]:
        """Return the keys of all replay records.

        The prefix is left out. Each key consists of the expiry minute in 4 bytes and 16 bytes of
        the record's id.
        """
        with self._env.begin() as txn, txn.cursor() as cursor:
            if not cursor.set_range(_USED):
                return []
            keys = cursor.iternext(values=False)
            return [key.removeprefix(_USED) for key in keys if key.startswith(_USED)]

    def sweep(self, before_minute: int) -> None:
        """Delete replay records that expired before a given minute.

        The transaction that deletes the first record of a minute also records that all tokens that
        expire in it are refused. Otherwise a token whose record was deleted would be accepted a
        second time.
        """
        try:
            while True:
                with self._env.begin(write=True) as txn:
                    deleted_rows, minutes = remove_replay_records(
                        txn, _USED, before_minute, _SWEEP_ROWS
                    )
                    if minutes:
                        refused_minutes = add_refused(txn.get(_REFUSED_MINUTES, b""), minutes)
                        txn.put(_REFUSED_MINUTES, refused_minutes)
                if deleted_rows == 0:
                    return
        except lmdb.Error as exc:  # deleting needs free pages too; the next sweep continues
            _LOG.warning("expired replay records could not be deleted: %s", type(exc).__name__)

    def check_readers(self) -> None:
        """Free the LMDB reader slots of dead processes."""
        with suppress(lmdb.Error):
            self._env.reader_check()

    def close(self) -> None:
        """Close the LMDB environment."""
        self._env.close()


def _error_of(exc: lmdb.Error, what: str) -> StoreFull | StoreUnavailable:
    if isinstance(exc, lmdb.MapFullError) or exc.code in _NO_SPACE:
        return StoreFull("no free disk space to record the use of a token")
    return StoreUnavailable(what)
