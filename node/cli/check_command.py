"""The command `sealspace admin check`."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import TypeVar

import click
import lmdb

from capabilities.principals import principal_of
from encryption_network.keyring import Keyring
from encryption_network.network_errors import RecordError
from encryption_network.networks import NetworkRecord, decode_network, is_sealed_by
from encryption_network.policy import decode_evidence
from encryption_network.release_record import decode_release_record
from encryption_network.withdrawals import decode_withdrawals
from sealspace.cli.exit_status import FAILED
from sealspace.cli.shared import shared
from sealspace.cli.terminal import flag_option, print_json, print_lines, tell
from sealspace.service.command_errors import NodeError, StoreMisused
from spaces.archive.checking import CheckResult, check_store
from spaces.documents.evidence import evidence_row_key
from spaces.documents.network_rows import network_row_key
from spaces.keyspace import (
    EVIDENCE_PREFIX,
    NETWORKS_PREFIX,
    RELEASE_RECORD_KEY,
    WITHDRAWALS_KEY,
)
from spaces.space_errors import RecordDamaged

from ..config.tree import Config
from ..storage.objects import stored_objects
from ..storage.stores import rows_of
from .opened_store import opened_store, own_keyring
from .settings import configured, where_options
from .store_subprocess import handle_signals_like_ctrl_c, run_in_subprocess

Decoded = TypeVar("Decoded")
_ERRORS_OF_DAMAGED_PAGES = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError)


@click.command()
@configured
@where_options
@flag_option(
    "--open",
    "opens",
    help="Also check that the root secret decrypts the private key of each encryption network.",
)
def check(config: Config, opens: bool) -> int:
    """Find damaged rows and large values in the store.

    One line is printed for each damaged item. The command checks that all rows can be decoded and
    are consistent with each other, that counters are correct, that every large value exists and has
    the right digest, and that SQLite finds no damage in the databases. Nothing is written, and the
    node may be running. The exit status is 1 if an item is damaged.

    With --open the command also proves that secrets can be opened here: the root secret decrypts
    each network's private key, and the private key matches the public key. No key is printed. Use
    it on a restored store, which need not be served.
    """
    handle_signals_like_ctrl_c()  # a signal then ends the subprocess too
    try:
        result = run_in_subprocess(_check_in_subprocess, config, opens)
    except RecordDamaged as error:  # a crash while reading is a finding (BK9)
        result = _damaged_store(str(error))
    if shared().as_json:
        print_json(result)
    else:
        print_lines(
            *[
                f"damage: {finding.what} {finding.name}: {finding.text}"
                for finding in result.findings
            ]
        )
    tell(
        f"rows: {result.rows:,}; large values: {result.bodies:,} ({result.body_bytes:,} bytes);"
        f" databases: {result.databases:,}"
    )
    if result.networks is not None:
        tell(f"encryption networks whose private key the root secret decrypts: {result.networks:,}")
    if not result.damages:
        tell("nothing is damaged")
        return 0
    tell(f"damaged items: {result.damages:,}; next: sealspace admin restore FILE --data DIR")
    return FAILED


def _damaged_store(text: str) -> CheckResult:
    """Return the result of a check that could not read the store, because it is damaged."""
    result = CheckResult()
    result.add("store", "data.mdb", text)
    return result


def _check_in_subprocess(config: Config, opens: bool) -> CheckResult:
    """Check the store, in a subprocess (`run_in_subprocess`).

    Raises:
        StoreMisused: the store cannot be opened, or the disk of temporary files is full.
    """
    try:
        return asyncio.run(_check(config, opens))
    except NodeError as error:
        # `opened_store` raises it from a `SpaceError`, which the store raises from LMDB's error.
        store_error = error.__cause__
        lmdb_error = None if store_error is None else store_error.__cause__
        if not isinstance(lmdb_error, _ERRORS_OF_DAMAGED_PAGES):
            raise
        name = type(lmdb_error).__name__
        return _damaged_store(f"cannot be opened ({name}): its pages are damaged")
    except (OSError, sqlite3.Error) as error:
        raise StoreMisused(
            f"the check failed: {error}",
            hint="if the disk of temporary files is full, set TMPDIR to a folder on another disk",
        ) from error


class _NetworkOpener:
    """Decodes rows of networks, and opens the private key of each with the root secret.

    Attributes:
        opened: the ids of the networks whose private key was opened.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self.opened: set[str] = set()

    def decode(self, value: bytes) -> NetworkRecord:
        """Decode the row of a network.

        Raises:
            RecordError: the row is damaged, or the root secret does not open the private key.
        """
        record = decode_network(value)
        if not is_sealed_by(record, self._keyring):
            raise RecordError(f"the root secret does not open the network {record.network}")
        self.opened.add(record.network)
        return record


async def _check(config: Config, opens: bool) -> CheckResult:
    """Check the configured store; with `opens`, also that the root secret opens all networks."""
    async with opened_store(config, is_for_reading=True) as store:
        readers = dict(_READERS)
        opener = None
        if opens:
            opener = _NetworkOpener(await own_keyring(config, store))
            readers[NETWORKS_PREFIX] = _make_reader(opener.decode, _network_key)
        result = await check_store(
            rows_of(config, store),
            await stored_objects(config, store),
            config.data,
            readers=readers,
        )
    if opener is not None:
        result.networks = len(opener.opened)
    return result


def _make_reader(
    decode: Callable[[bytes], Decoded], key_of: Callable[[Decoded], bytes]
) -> Callable[[bytes], bytes]:
    """Return a function that decodes a row's value, and returns the key that the row must have."""

    def read(value: bytes) -> bytes:
        try:
            return key_of(decode(value))
        except RecordError as exc:
            raise RecordDamaged(str(exc)) from exc

    return read


def _network_key(record: NetworkRecord) -> bytes:
    return network_row_key(record.network_id)


# Readers of the rows that `spaces` cannot decode, by the first byte of keys or by whole keys.
_READERS = {
    NETWORKS_PREFIX: _make_reader(decode_network, _network_key),
    EVIDENCE_PREFIX: _make_reader(
        decode_evidence,
        lambda evidence: evidence_row_key(
            principal_of(evidence.invoker), evidence.receiver_public_key
        ),
    ),
    WITHDRAWALS_KEY: _make_reader(decode_withdrawals, lambda _: WITHDRAWALS_KEY),
    RELEASE_RECORD_KEY: _make_reader(decode_release_record, lambda _: RELEASE_RECORD_KEY),
}
