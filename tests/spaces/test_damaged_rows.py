"""Fuzz tests of row readers: any bytes give a value or RecordDamaged."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.documents.collateral_rows import state_of
from spaces.grants.delegations import decode_delegation
from spaces.grants.hosting import space_of
from spaces.grants.revocations import marker_of, revocation_of
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Record, counter_of
from spaces.values.object_records import object_record_of, parse_file_name
from spaces.values.value_heads import head_of

STAMP = b"." * 16
KEY = b"K" + b"." * 20

READERS: dict[str, Callable[[Record | None], object]] = {
    "blob": object_record_of,
    "counter": counter_of,
    "delegation": decode_delegation,
    "head": lambda record: head_of(record, key=KEY),
    "mark": marker_of,
    "revocation": revocation_of,
    "space": space_of,
    "state of collateral": state_of,
}

# Bytes at random seldom get past the first byte of MessagePack: most begin like a row.
rows = st.binary(max_size=80) | st.builds(
    lambda head, tail: head + tail,
    st.sampled_from([b"\x92", b"\x93", b"\x95", b"\x96", b"\x97", b"R"]),
    st.binary(max_size=60),
)
nested = st.just(b"\x91" * 5000) | st.just(b"\x95" + b"\x91" * 5000)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@given(value=rows | nested)
def test_fuzz_rows(reader: Callable[[Record | None], object], value: bytes) -> None:
    """A reader of rows raises only RecordDamaged, whatever the bytes."""
    with suppress(RecordDamaged):
        reader(Record(value, STAMP))


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_absent_and_deleted_rows_are_no_values(reader: Callable[[Record | None], object]) -> None:
    """A missing row and a tombstone are both read as absent, not as damaged."""
    assert reader(None) == reader(Record(None, STAMP))
    assert not reader(None)


@given(st.text(max_size=140))
def test_fuzz_names_of_files(name: str) -> None:
    """A file name in the folder of bodies either has our form or is ignored."""
    found = parse_file_name(name)
    assert found is None or name == found.file_name
