"""Fuzz tests of the file of a local copy."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from sealspace.apps.replica_file import FILE_NAME, ReplicaFile
from sealspace.apps.replica_rows import State, Window, decode_row, etag_of_body
from sealspace.errors import ReplicaCorrupt, ReplicaError

SPACE = "tinycloud:key:z:feed"
NOW = 1_000.0
VALUES = {f"notes/{number}": b"%d" % number * 700 for number in range(20)}


def opened(folder: Path) -> ReplicaFile:
    return ReplicaFile.open(folder, space=SPACE, prefix="notes", now=NOW, max_bytes=1 << 20)


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, bytes]]:
    """The files that a killed process left: a database, its log and an index of the log."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        file = opened(folder)
        with file.page() as draft:
            for key, body in VALUES.items():
                draft.note(key, etag_of_body(body), {})
                draft.store(key, body)
            draft.finish(cursor="AA", window=Window(), node_did="did", now=NOW, is_end=True)
        left = {path.name: path.read_bytes() for path in folder.iterdir()}
        file.close()
        left["closed"] = (folder / FILE_NAME).read_bytes()
        yield left


def read_or_refuse(files: dict[str, bytes]) -> None:
    """Read a copy with given files: it is refused, empty, or as it was written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        folder.mkdir(mode=0o700)
        for file_name, data in files.items():
            (folder / file_name).write_bytes(data)
        try:
            file = opened(folder)
        except ReplicaError:
            return
        try:
            found = {entry.key: file.read(entry.key)[1] for entry in file.list()}
            assert found in ({}, VALUES)
            assert (file.state.cursor is None) == (not found)
        except ReplicaCorrupt:
            pass
        finally:
            file.close()
        shutil.rmtree(folder)


@fuzzed()
@given(st.binary(max_size=4096), st.binary(max_size=4096), st.booleans())
def test_fuzz_any_bytes(data: bytes, log: bytes, has_header: bool) -> None:
    """A file of any bytes is refused, or is an empty copy."""
    header = b"SQLite format 3\0" if has_header else b""
    read_or_refuse({FILE_NAME: header + data, f"{FILE_NAME}-wal": log})


CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8
)


@fuzzed()
@given(
    name=st.sampled_from(["closed", FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"]),
    changes=CHANGES,
    kept=st.floats(0, 1),
)
def test_fuzz_changed_files(
    files: dict[str, bytes], name: str, changes: list[tuple[float, int]], kept: float
) -> None:
    """Changed bytes, and a lost end, of any file: the copy is refused, or is as it was written."""
    changed = bytearray(files[name])
    for part, mask in changes:
        changed[int(part * len(changed))] ^= mask
    if kept > 0.5:
        del changed[int(kept * len(changed)) :]
    if name == "closed":
        read_or_refuse({FILE_NAME: bytes(changed)})
    else:
        left = {file: data for file, data in files.items() if file != "closed"}
        read_or_refuse({**left, name: bytes(changed)})


@fuzzed()
@given(st.binary(max_size=200) | st.none() | st.text() | st.integers(), st.binary(max_size=40))
def test_fuzz_rows(content: object, checksum: bytes) -> None:
    """A row is decoded or refused."""
    with pytest.raises(ReplicaCorrupt):
        decode_row(msgspec.json.Decoder(State), content, checksum)
