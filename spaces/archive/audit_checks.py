"""Checks of the rows of the audit chain.

The signatures of the chain are not verified again.
"""

import msgspec
from msgspec import Struct

from capabilities.audit_export import entry_hash, genesis_hash

from .._codec import value_or_empty
from ..audit.audit_chain import chain_head
from ..audit.audit_records import audit_record_of
from ..audit.pruning import pruning_of
from ..identity import identity_of
from ..keyspace import (
    AUDIT_CHAIN_KEY,
    AUDIT_PRUNING_KEY,
    IDENTITY_KEY,
    audit_head_key,
    micros8,
    sealed_key,
)
from ..space_errors import RecordDamaged
from ..store.contract import Record
from .accounting import GetRow, require

_QUEUED_KEY_BYTES = 1 + 8 + 16  # prefix, time, random


class _EntryOrHead(Struct):
    """The fields of an audit log entry, or of a signed head, that are checked.

    Attributes:
        number: the number of the entry.
        previous: the hash of the previous entry, in an entry only.
        hash: the hash of the entry, in a signed head only.
    """

    number: int
    previous: str = ""
    hash: str = ""


def _decode(record: Record | None, what: str) -> _EntryOrHead:
    """Decode an entry or a signed head.

    Raises RecordDamaged if it is missing or cannot be decoded. `what` names it in the error.
    """
    try:
        return msgspec.json.decode(value_or_empty(record), type=_EntryOrHead)
    except (ValueError, RecursionError) as exc:
        raise RecordDamaged(f"{what} of the audit chain is missing or cannot be decoded") from exc


def _last_pruned(get_row: GetRow) -> int:
    """Return the number of the last entry that was pruned; 0 if there is none."""
    return pruning_of(get_row(AUDIT_PRUNING_KEY)).pruned


def _hash_of_entry(number: int, get_row: GetRow) -> str:
    """Return the hash of an entry in the audit chain.

    The next entry has to contain this hash. For number 0 it is the hash that the chain begins with.
    The last pruned entry is gone, so its hash is read from the signed head.
    """
    if number == 0:
        identity = get_row(IDENTITY_KEY)
        if identity is None:
            raise RecordDamaged("the store has no identity")
        return genesis_hash(identity_of(identity).store_id).hex()
    if number == _last_pruned(get_row):
        head = get_row(audit_head_key(number))
        return _decode(head, "the signed head for the last pruned entry").hash
    row = get_row(sealed_key(number))
    if row is None or row.value is None:
        raise RecordDamaged(f"entry {number} of the audit chain is missing")
    return entry_hash(row.value).hex()


def check_entry(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check that an audit log entry follows the previous entry.

    The entry must contain the hash of the previous entry. Entries that are about to be pruned are
    not compared.
    """
    entry = _decode(record, "an entry")
    number = int.from_bytes(key[1:], "big")
    require(
        key == sealed_key(number) and entry.number == number,
        "an entry of the audit chain is stored under the wrong number",
    )
    head = get_row(AUDIT_CHAIN_KEY)
    require(
        head is not None and number <= chain_head(head).number,
        "an entry is after the end of the audit chain",
    )
    if number > _last_pruned(get_row):
        require(
            entry.previous == _hash_of_entry(number - 1, get_row),
            f"entry {number} of the audit chain does not follow from the one before",
        )


def check_head(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check a signed hash of the audit chain.

    The number and the hash must be those of an entry. Heads up to the last pruned entry are not
    compared.
    """
    head = _decode(record, "a signed head")
    number = int.from_bytes(key[1:], "big")
    require(
        key == audit_head_key(number) and head.number == number,
        "a signed head of the audit chain is stored under the wrong number",
    )
    if number > _last_pruned(get_row):
        require(
            head.hash == _hash_of_entry(number, get_row),
            "a signed head of the audit chain does not match its entry",
        )


def check_chain(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check the row with the end of the audit chain."""
    head = chain_head(record)
    require(
        head.hash.hex() == _hash_of_entry(head.number, get_row),
        "the end of the audit chain does not match its last entry",
    )
    if head.signed_number:
        last_signed_head = get_row(audit_head_key(head.signed_number))
        _decode(last_signed_head, "the last signed head")  # raises if it is missing


def check_queued(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check an audit record that is not in the chain yet."""
    has_time_of_record = key[1:9] == micros8(audit_record_of(record).at)
    require(
        has_time_of_record and len(key) == _QUEUED_KEY_BYTES,
        "an audit record is stored under the wrong time",
    )
