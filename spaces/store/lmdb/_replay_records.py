"""First uses of plain reads: an LMDB environment of their own, unsynced and shared by every process of the folder.

    b"f"                    minutes that were swept, so nothing under them counts as a first use (`_closed_minutes`)
    b"u" minute4 id16       → empty

A claim is a write transaction of some microseconds, made inline, in memory that all processes map (`_shared_map`). It
survives SIGKILL (the pages are the kernel's), but perhaps not a power cut, after which an unsynced environment may be
damaged: so it is named after the kernel's boot and never opened in another one (ST4; store §3: the one exception to
durability).
"""

import logging
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import lmdb

from ...errors import StoreFull, StoreUnavailable
from ...keyspace import claim_minute4
from ..contract import Claim
from ._closed_minutes import is_closed, with_closed
from ._shared_map import SharedMap

_CLOSED: Final = b"f"
_USED: Final = b"u"
_FOLDER: Final = "first-use-"
# Rows removed in one write transaction: each worker's claims wait for it.
_SWEEP_ROWS: Final = 500
_LOG: Final = logging.getLogger(__name__)


def boot_id() -> str:
    """Return the kernel's name for this boot.

    Raises:
        StoreUnavailable: the kernel does not tell; then claims of another boot could not be told apart.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreUnavailable("the kernel does not tell its boot id") from exc


def discard_other_boots(folder: Path, boot: str) -> None:
    """Remove the first uses that another boot recorded; only the one writer of a folder calls this."""
    for stale in folder.glob(f"{_FOLDER}*"):
        if stale.name != _FOLDER + boot:
            shutil.rmtree(stale, ignore_errors=True)


class FirstUses:
    """The claims of plain reads of one data folder."""

    def __init__(self, folder: Path, boot: str) -> None:
        """Open the record of this boot, making it when it is new.

        Raises:
            StoreFull: no room for it.
            StoreUnavailable: it does not open.
        """
        place = folder / f"{_FOLDER}{boot}"
        place.mkdir(mode=0o700, exist_ok=True)
        self._map = SharedMap(place)
        self._env = self._map.env
        # The map may grow while nobody in this process has a transaction; sweeps may come from another thread.
        self._turn = threading.Lock()

    def claim(self, claim: Claim) -> bool:
        """Record a use; True when it is the first.

        Raises:
            StoreFull: no room for the record.
            StoreUnavailable: the record cannot be written.
        """
        minute4 = claim_minute4(claim.expires_at)
        key = _USED + minute4 + claim.key[:16]
        with self._turn:
            while True:
                try:
                    with self._env.begin(None, None, True) as txn:
                        if is_closed(txn.get(_CLOSED, b""), minute4):
                            return False
                        return txn.put(key, b"", True, False)  # not over a row that is there
                except (lmdb.MapFullError, lmdb.MapResizedError):
                    self._map.grow()
                except lmdb.DiskError as exc:
                    raise StoreFull("no room to record a first use") from exc
                except lmdb.Error as exc:
                    raise StoreUnavailable("the record of first uses cannot be written") from exc

    def is_closed(self, claim: Claim) -> bool:
        """Tell whether a claim is refused because its minute was swept, used or not."""
        with self._env.begin() as txn:
            return is_closed(txn.get(_CLOSED, b""), claim_minute4(claim.expires_at))

    def claims(self) -> list[bytes]:
        """Return every recorded claim as its minute and its id: minute4 ‖ id16."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            if not cursor.set_range(_USED):
                return []
            return [key[len(_USED) :] for key in cursor.iternext(values=False) if key.startswith(_USED)]

    def sweep(self, before_minute: int) -> int:
        """Forget claims of minutes before `before_minute`; return how many rows went.

        A minute is closed with the first row that goes, so that a claim under a swept minute is refused and not taken
        for a first use.
        """
        end = _USED + before_minute.to_bytes(4, "big")
        removed = 0
        try:
            while (rows := self._sweep_some(end)) > 0:
                removed += rows
        except (StoreFull, StoreUnavailable, lmdb.Error) as exc:  # removing takes room too; the next sweep goes on
            _LOG.warning("first uses that have expired stay for now: %s", type(exc).__name__)
        return removed

    def _sweep_some(self, end: bytes) -> int:
        with self._turn:
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        return _swept(txn, end)
                except (lmdb.MapFullError, lmdb.MapResizedError):
                    self._map.grow()

    def check_readers(self) -> None:
        """Free the reader slots of processes that died."""
        with suppress(lmdb.Error):
            self._env.reader_check()

    def close(self) -> None:
        """Close the environment."""
        self._map.close()


def _swept(txn: "lmdb.Transaction[bytes]", end: bytes) -> int:
    """Remove the first rows before a key, and close their minutes; return how many went."""
    cursor = txn.cursor()
    found = cursor.set_range(_USED)
    swept: set[bytes] = set()
    rows = 0
    # After the last row is deleted the cursor has an empty key.
    while found and rows < _SWEEP_ROWS and _USED <= cursor.key() < end:
        swept.add(cursor.key()[len(_USED) :][:4])
        found = cursor.delete()  # moves to the next row
        rows += 1
    if swept:
        txn.put(_CLOSED, with_closed(txn.get(_CLOSED, b""), swept))
    return rows
