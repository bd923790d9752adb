"""Which form an LMDB environment has, so that a version which does not know it leaves it alone.

    key             value
    TABLE ‖ 0xFE    the form: a number of four bytes, big-endian

    form            what it is
    1               tombstones lie among the rows; nothing says so
    2               they lie in a table beside (`_tombstones`)

The row says 2 once all of them do. What the rows of a store mean has a version of its own, the schema (`identity`).
"""

from typing import Final

import lmdb

from ..errors import SchemaMismatch
from ._tombstones import TABLE

FORM: Final = 2

_FORM_KEY: Final = TABLE + b"\xfe"


def check_form(env: lmdb.Environment) -> None:
    """Refuse an environment of a form that only a later version knows.

    Raises:
        SchemaMismatch: it has one.
        lmdb.Error: the environment cannot be read.
    """
    with env.begin() as txn:
        said = txn.get(_FORM_KEY)
    if said is not None and said != _of(FORM):
        raise SchemaMismatch(expected=FORM, got=int.from_bytes(said[:5], "big"))


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
