"""Any bytes in the place of a backup's header, or of a row, are read or refused."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from spaces.archive.file import Header, parse_header
from spaces.errors import BackupDamaged, RecordDamaged
from spaces.store.lmdb.snapshots import parse_row


@given(data=st.binary(max_size=200))
def test_fuzz_backup_headers(data: bytes) -> None:
    """Any bytes are a header or BackupDamaged."""
    with suppress(BackupDamaged):
        assert isinstance(parse_header(data), Header)


@given(data=st.binary(max_size=60))
def test_fuzz_rows(data: bytes) -> None:
    """Any bytes are a row of LMDB or RecordDamaged."""
    with suppress(RecordDamaged):
        record, _, weight_bytes = parse_row(data)
        assert len(record.stamp) == 16 and weight_bytes >= 0
