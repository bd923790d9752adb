"""Tests of the format version of an LMDB environment."""

from pathlib import Path

import lmdb
import pytest

from spaces.space_errors import SchemaMismatch
from spaces.store.lmdb._folder import (
    MAP_BYTES,
    environment_folder,
    open_for_reading,
    open_for_writing,
)
from spaces.store.lmdb._format import FORMAT_VERSION, MAX_TABLES, TABLE
from spaces.store.lmdb.engine import connect_lmdb, open_lmdb

FORM_KEY = TABLE + b"\xfe"


def raw(folder: Path) -> lmdb.Environment:
    """Open an environment without reading from it."""
    return lmdb.open(str(environment_folder(folder)), map_size=MAP_BYTES, max_dbs=MAX_TABLES)


def say(folder: Path, form: bytes | None) -> int:
    """Write the format version of a folder; return the number of its last transaction."""
    with raw(folder) as env:
        with env.begin(write=True) as txn:
            if form is None:
                txn.delete(FORM_KEY)
            else:
                txn.put(FORM_KEY, form)
        return env.info()["last_txnid"]


def said(folder: Path) -> tuple[bytes | None, int]:
    """Return the format version of a folder, and the number of its last transaction."""
    with raw(folder) as env, env.begin() as txn:
        return txn.get(FORM_KEY), env.info()["last_txnid"]


def test_an_environment_says_its_form_once(tmp_path: Path) -> None:
    """A new environment records its format version, and opening it again writes nothing."""
    open_for_writing(tmp_path).close()
    form, transaction = said(tmp_path)
    assert form == FORMAT_VERSION.to_bytes(4, "big")
    open_for_writing(tmp_path).close()
    assert said(tmp_path) == (form, transaction)


@pytest.mark.parametrize("form", [b"\0\0\0\3", b"\0\0\0\1", None, b"", b"\2", b"\0\0\0\2\0"])
def test_a_form_that_is_not_known_is_left_alone(tmp_path: Path, form: bytes | None) -> None:
    """An environment of an unknown format is neither opened nor changed. Rows without a format
    version are of an old format."""
    open_for_writing(tmp_path).close()
    transaction = say(tmp_path, form)
    for opening in (open_for_writing, open_for_reading, open_lmdb, connect_lmdb):
        with pytest.raises(
            SchemaMismatch, match=f"this version of sealspace needs {FORMAT_VERSION}$"
        ):
            opening(tmp_path)
    assert said(tmp_path) == (form, transaction)
    say(tmp_path, FORMAT_VERSION.to_bytes(4, "big"))
    open_for_writing(tmp_path).close()  # what was refused holds no lock
