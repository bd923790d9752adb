"""`sealspace admin check`: read the whole store, and name what is damaged."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import TypeVar

import click
import lmdb

from capabilities.principals import principal_of
from encryption_network.errors import RecordError
from encryption_network.evidence_record import decode_evidence
from encryption_network.networks import decode_network
from encryption_network.release_record import decode_release_record
from encryption_network.withdrawals import decode_withdrawals
from sealspace.cli.errors import NodeError, StoreMisused
from sealspace.cli.exit_status import FAILED
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_json, print_lines, words
from spaces.archive.checking import Checked, check_store
from spaces.documents.evidence import evidence_row_key
from spaces.documents.networks import network_row_key
from spaces.errors import RecordDamaged
from spaces.keyspace import EVIDENCE_PREFIX, NETWORKS_PREFIX, RELEASE_RECORD_KEY, WITHDRAWALS_KEY

from ..config.tree import Config
from ..storage.objects import stored_objects
from ..storage.stores import rows_of
from .apart import done_apart, end_as_by_ctrl_c
from .opened_store import opened_store
from .settings import configured, where_options

Decoded = TypeVar("Decoded")


@click.command()
@configured
@where_options
def check(config: Config) -> int:
    """Read every row and every large value, and print what is damaged, one finding a line.

    Rows must decode and belong together, counters add up, large values be there and have their digest. Nothing
    is written, and the node may be running. Exit status 1 when something is damaged.
    """
    end_as_by_ctrl_c()  # so that the process that reads ends too
    try:
        checked = done_apart(_checked, config)
    except RecordDamaged as error:  # a signal that ended the process is what is found (BK9)
        checked = _damaged(str(error))
    if shared().as_json:
        print_json(checked)
    else:
        print_lines(*[f"damage: {found.what} {found.name}: {found.text}" for found in checked.findings])
    words(f"rows: {checked.rows:,}; large values: {checked.bodies:,} ({checked.body_bytes:,} bytes)")
    if not checked.damages:
        words("nothing is damaged")
        return 0
    words(f"findings: {checked.damages:,}; next: sealspace admin restore FILE --data DIR")
    return FAILED


def _damaged(text: str) -> Checked:
    found = Checked()
    found.add("store", "data.mdb", text)
    return found


def _checked(config: Config) -> Checked:
    try:
        return asyncio.run(_check(config))
    except NodeError as error:
        reason = error.__cause__ and error.__cause__.__cause__
        if not isinstance(reason, lmdb.CorruptedError | lmdb.InvalidError | lmdb.PageNotFoundError):
            raise
        return _damaged(f"it does not open ({type(reason).__name__}): its pages are damaged")
    except (OSError, sqlite3.Error) as error:
        hint = "is the disk of temporary files full? TMPDIR names another one"
        raise StoreMisused(f"the check cannot go on: {error}", hint=hint) from error


async def _check(config: Config) -> Checked:
    async with opened_store(config, is_for_reading=True) as store:
        return await check_store(rows_of(config, store), await stored_objects(config, store), readers=_READERS)


def _reader(decode: Callable[[bytes], Decoded], key_of: Callable[[Decoded], bytes]) -> Callable[[bytes], bytes]:
    def read(value: bytes) -> bytes:
        try:
            return key_of(decode(value))
        except RecordError as exc:
            raise RecordDamaged(str(exc)) from exc

    return read


_READERS = {
    NETWORKS_PREFIX: _reader(decode_network, lambda found: network_row_key(found.network_id)),
    EVIDENCE_PREFIX: _reader(
        decode_evidence, lambda found: evidence_row_key(principal_of(found.invoker), found.receiver_public_key)
    ),
    WITHDRAWALS_KEY: _reader(decode_withdrawals, lambda _: WITHDRAWALS_KEY),
    RELEASE_RECORD_KEY: _reader(decode_release_record, lambda _: RELEASE_RECORD_KEY),
}
