"""Which form an LMDB environment has, so that a version which does not know it leaves it alone.

    key             value
    TABLE ‖ 0xFD    where the store was moved to, in UTF-8; missing where it was not
    TABLE ‖ 0xFE    the form: a number of four bytes, big-endian; its first bit set once the store was moved

    form            what it is
    1               tombstones lie among the rows; nothing says so
    2               they lie in a table beside (`_tombstones`)

The row says 2 once all of them do. A store that was moved has a form that no version knows, so that none serves it; it
may still be read (ST12). What the rows of a store mean has a version of its own, the schema (`identity`).
"""

from typing import Final

import lmdb

from ...errors import SchemaMismatch, StoreMoved
from ._tombstones import TABLE

FORM: Final = 2

_FORM_KEY: Final = TABLE + b"\xfe"
_PLACE_KEY: Final = TABLE + b"\xfd"
_MOVED: Final = 1 << 31


def check_form(env: lmdb.Environment, *, may_be_moved: bool = False) -> None:
    """Refuse an environment of a form that only a later version knows, or whose store was moved.

    Raises:
        SchemaMismatch: it has one.
        StoreMoved: the store was moved, and `may_be_moved` does not hold.
        lmdb.Error: the environment cannot be read.
    """
    with env.begin() as txn:
        said = txn.get(_FORM_KEY)
    if said is None:
        return
    form = int.from_bytes(said[:5], "big")
    if form & _MOVED and form ^ _MOVED <= FORM:
        if not may_be_moved:
            raise StoreMoved(moved_to(env) or "another place")
    elif said != _of(FORM):
        raise SchemaMismatch(expected=FORM, got=form)


def say_moved(env: lmdb.Environment, place: str) -> None:
    """Say that the store was moved to a place; durable when this returns.

    Raises:
        lmdb.Error: no room, or the environment cannot be written.
    """
    with env.begin(write=True) as txn:
        form = int.from_bytes(txn.get(_FORM_KEY) or _of(1), "big")
        txn.put(_PLACE_KEY, place.encode())
        txn.put(_FORM_KEY, _of(form | _MOVED))


def moved_to(env: lmdb.Environment) -> str | None:
    """Return where the store was moved to; None where it was not."""
    with env.begin() as txn:
        place = txn.get(_PLACE_KEY)
    return None if place is None else place.decode("utf-8", "replace")


def say_form(env: lmdb.Environment) -> None:
    """Say that an environment, whose tombstones were moved, has the form of this version.

    Raises:
        lmdb.Error: no room, or the environment cannot be written.
    """
    with env.begin() as txn:
        if txn.get(_FORM_KEY) is not None:
            return
    with env.begin(write=True) as txn:
        txn.put(_FORM_KEY, _of(FORM))


def _of(form: int) -> bytes:
    return form.to_bytes(4, "big")
