"""Tests of the file of a local copy: permissions, damage, versions."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sealspace.apps.replica_file import FILE_NAME, ReplicaFile
from sealspace.apps.replica_rows import Entry, Window, etag_of_body
from sealspace.errors import (
    ReplicaCorrupt,
    ReplicaError,
    ReplicaUnusable,
)

SPACE = "tinycloud:key:z:feed"
NOW = 1_000.0


def opened(folder: Path, **more: str) -> ReplicaFile:
    """Open a copy."""
    source = {"space": SPACE, "prefix": "notes", **more}
    return ReplicaFile.open(folder, now=NOW, max_bytes=1 << 20, **source)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a copy with some values."""
    folder = tmp_path / "copy"
    file = opened(folder)
    with file.page() as draft:
        for number in range(30):
            body = b"%d" % number * 500
            draft.note(f"notes/{number}", etag_of_body(body), {"n": str(number)})
            assert draft.store(f"notes/{number}", body)
        draft.note("notes/x", etag_of_body(b""), {})
        draft.finish(cursor="AA", window=Window(), node_did="did:key:z", now=NOW, is_end=True)
    file.close()
    return folder


def content(file: ReplicaFile) -> dict[str, tuple[Entry | None, bytes | None]]:
    """Return what a copy knows of each key, with its value."""
    return {entry.key: file.read(entry.key) for entry in file.list()}


def test_RP12_only_the_user_has_access(folder: Path) -> None:
    """The folder has mode 700 and its files have mode 600, also while the copy is open."""
    assert folder.stat().st_mode & 0o777 == 0o700
    file = opened(folder)
    file.note_time(NOW + 100)
    names = {path.name for path in folder.iterdir()}
    assert names == {"lock", FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    file.close()


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o707])
def test_RP12_a_folder_of_others(folder: Path, mode: int) -> None:
    """A folder to which other users have access is refused."""
    folder.chmod(mode)
    with pytest.raises(ReplicaUnusable, match="other users"):
        opened(folder)


def test_RP12_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """A link in place of the folder, the file or the lock is refused."""
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ReplicaUnusable):
        opened(tmp_path / "link")
    for name in (FILE_NAME, "lock"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(ReplicaUnusable):
            opened(folder)
        (folder / name).unlink()
        (tmp_path / name).rename(folder / name)
    opened(folder).close()


def test_RP12_what_is_no_folder(folder: Path, tmp_path: Path) -> None:
    """A file in place of the folder, or a folder in place of the file, is refused."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ReplicaUnusable):
        opened(tmp_path / "file")
    (folder / FILE_NAME).unlink()
    (folder / FILE_NAME).mkdir()
    with pytest.raises(ReplicaUnusable):
        opened(folder)


def statement(text: str) -> Callable[[Path], None]:
    """Return a change of the file by SQL."""

    def change(folder: Path) -> None:
        connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
        connection.execute(text)
        connection.close()

    return change


def replaced(table: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a change of a text in the rows of a table."""
    return statement(
        f"UPDATE {table} SET content ="
        f" cast(replace(cast(content AS TEXT), '{old}', '{new}') AS BLOB)"
    )


@pytest.mark.parametrize(
    "change",
    [
        statement("PRAGMA user_version = 2"),
        statement("PRAGMA application_id = 1"),
        statement("CREATE VIEW other AS SELECT 1"),
        statement("CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM bodies; END"),
        statement("DELETE FROM state"),
        statement("INSERT INTO state VALUES (2, x'7b7d', x'00')"),
        statement("UPDATE state SET content = replace(content, 'AA', 'AB')"),
        statement("UPDATE state SET content = 5"),
        replaced("state", '"AA"', '"AB"'),
        replaced("entries", '"n":"7"', '"n":"8"'),
        statement("DELETE FROM entries WHERE key = 'notes/7'"),
        statement("UPDATE entries SET key = 'notes/777' WHERE key = 'notes/7'"),
        statement("UPDATE entries SET content = x'7b7d', checksum = x'00' WHERE key = 'notes/7'"),
        statement("UPDATE entries SET key = cast(x'6eff' AS TEXT) WHERE key = 'notes/7'"),
        lambda folder: (folder / FILE_NAME).write_bytes(b"not a database" * 100),
    ],
)
def test_RP11_a_changed_file_is_not_opened(folder: Path, change: Callable[[Path], None]) -> None:
    """A changed table, row or version is found when the copy is opened."""
    change(folder)
    with pytest.raises(ReplicaCorrupt) as refused:
        opened(folder)
    assert "delete the copy's folder" in refused.value.hint
    shutil.rmtree(folder)
    opened(folder).close()


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE bodies SET body = x'00' WHERE key = 'notes/7'",
        "UPDATE bodies SET body = 'text' WHERE key = 'notes/7'",
        "DELETE FROM bodies WHERE key = 'notes/7'",
    ],
)
def test_RP11_a_changed_value_is_not_returned(folder: Path, text: str) -> None:
    """A stored value is compared with its version at each read."""
    statement(text)(folder)
    file = opened(folder)
    assert file.read("notes/8")[1] == b"8" * 500
    with pytest.raises(ReplicaCorrupt, match="notes/7"):
        file.read("notes/7")
    file.close()


def test_RP11_every_damaged_byte(folder: Path, tmp_path: Path) -> None:
    """A changed byte anywhere in the file either changes nothing, or is found."""
    file = opened(folder)
    expected = content(file)
    file.close()
    data = (folder / FILE_NAME).read_bytes()
    found = 0
    for at in range(0, len(data), 149):
        changed = bytearray(data)
        changed[at] ^= 0x55
        (folder / FILE_NAME).write_bytes(changed)
        try:
            file = opened(folder)
        except ReplicaError:
            found += 1
            continue
        try:
            assert content(file) == expected, at
            assert file.state.cursor == "AA"
        except ReplicaCorrupt:
            found += 1
        finally:
            file.close()
    assert found > len(data) / 149 / 3


def test_RP3_what_a_process_leaves_that_is_killed_in_a_page(folder: Path, tmp_path: Path) -> None:
    """The files as they are in the middle of a page contain the page before."""
    file = opened(folder)
    expected = content(file)
    with file.page() as draft:
        for number in range(400):
            draft.note(f"notes/{number}", etag_of_body(os.urandom(8)), {})
            if number % 100 == 0:
                shutil.copytree(folder, tmp_path / f"left{number}")
        draft.finish(cursor="BB", window=Window(), node_did="did:key:z", now=NOW, is_end=True)
    after = content(file)
    shutil.copytree(folder, tmp_path / "committed")
    file.close()
    for number in range(0, 400, 100):
        left = opened(tmp_path / f"left{number}")
        assert (content(left), left.state.cursor) == (expected, "AA")
        left.close()
    left = opened(tmp_path / "committed")
    assert (content(left), left.state.cursor) == (after, "BB")
    left.close()


def test_the_files_of_an_earlier_moment(folder: Path) -> None:
    """An empty file is a new copy, as after a power cut before its first commit."""
    (folder / FILE_NAME).write_bytes(b"")
    file = opened(folder)
    assert file.state.cursor is None
    file.close()
    file.close()
