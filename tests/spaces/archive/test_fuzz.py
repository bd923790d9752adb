"""Any bytes in the place of a backup's header, or of a row, are read or refused."""

import tarfile
from contextlib import suppress
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st

from spaces.archive.backup import ArchiveReader, Header, encode_part, parse_header, parse_part
from spaces.space_errors import BackupDamaged, RecordDamaged
from spaces.store.lmdb.snapshots import parse_row


@given(data=st.binary(max_size=200))
def test_fuzz_backup_headers(data: bytes) -> None:
    """Any bytes are a header or BackupDamaged."""
    with suppress(BackupDamaged):
        assert isinstance(parse_header(data), Header)


ROWS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), min_size=1, max_size=3)


@given(data=st.binary(max_size=200) | ROWS.map(encode_part))
def test_fuzz_parts(data: bytes) -> None:
    """Any bytes are rows or BackupDamaged."""
    with suppress(BackupDamaged):
        assert all(isinstance(part, bytes) for row in parse_part(data) for part in row)


@given(data=st.binary(max_size=60))
def test_fuzz_rows(data: bytes) -> None:
    """Any bytes are a row of LMDB or RecordDamaged."""
    with suppress(RecordDamaged):
        record, _, weight_bytes = parse_row(data)
        assert len(record.stamp) == 16 and weight_bytes >= 0


def member(name: str, contents: bytes = b"", **fields: object) -> bytes:
    """Return a member of a tar archive with any header."""
    info = tarfile.TarInfo(name)
    info.size = len(contents)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + contents + bytes(-len(contents) % 512)


LONG_NAMES = st.builds(
    lambda size_bytes, contents: (
        member("x", type=tarfile.GNUTYPE_LONGNAME, size=size_bytes) + contents
    ),
    st.integers(-1000, 1000) | st.integers(-(1 << 80), 1 << 80),
    st.binary(max_size=1500),
)


@given(
    data=st.binary(max_size=1500)
    | st.binary(max_size=600).map(lambda contents: member("backup.json", contents))
    | LONG_NAMES
)
def test_fuzz_archives(data: bytes) -> None:
    """Any bytes are members or BackupDamaged."""
    reader = ArchiveReader(BytesIO(data))
    with suppress(BackupDamaged):
        for _ in reader.members():
            assert len(reader.contents(1024)) <= 1024
