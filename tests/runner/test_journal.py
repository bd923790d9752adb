"""The runner's journal over restarts, and files that are not a journal (RN54, RN65)."""

import sqlite3
import stat
from pathlib import Path

import pytest

from capabilities.principals import Principal
from runner.calls import journal as journal_module
from runner.calls.journal import Journal, keep_receipt
from serving.shares import Payer
from tee_backend.backend_errors import FolderUnusable

ALICE = Payer(Principal("did:key:alice"))
NOW = 1_795_000_000.0
ONE, TWO = "1" * 64, "2" * 64


async def keep(journal: Journal, job: str) -> None:
    await journal.write(lambda held: keep_receipt(held, job, b"receipt", ALICE, None))


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """RN54, RN65: over restarts a token stays used and a sequence never decreases."""
    path = tmp_path / "journal"
    async with Journal(path) as journal:
        assert await journal.use_token(b"token", expires_at=NOW + 60, now=NOW)
        assert await journal.record_version("a/b", 5, ONE)
        await keep(journal, "job")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with Journal(path) as journal:
        assert not await journal.use_token(b"token", expires_at=NOW + 60, now=NOW + 59)
        assert [
            await journal.record_version("a/b", *seen)
            for seen in ((4, ONE), (5, TWO), (5, ONE), (6, TWO))
        ] == [*(False, False, True, True)]
        assert await journal.record_version("a/c", 1, ONE)
        assert await journal.receipt("job") == b"receipt"
        assert await journal.receipt("other") is None
        # the first one has ended by itself
        assert await journal.use_token(b"other", expires_at=NOW + 200, now=NOW + 61)


async def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest receipts and projects are deleted when there are too many."""
    monkeypatch.setattr(journal_module, "_MOST_RECEIPTS", 6)
    monkeypatch.setattr(journal_module, "_MOST_PROJECTS", 3)
    async with Journal(tmp_path / "journal") as journal:
        for number in range(5):
            await keep(journal, f"job{number}")
            assert await journal.record_version(f"a/{number}", 9, ONE)
        assert [await journal.receipt(f"job{number}") is None for number in range(5)] == [
            True,
            True,
            *[False] * 3,
        ]
        assert [await journal.record_version(f"a/{number}", 8, ONE) for number in (4, 3, 2)] == [
            False
        ] * 3


async def test_sums_that_were_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN168: with edited sums the journal stores nothing more, and the runner continues."""
    monkeypatch.setattr(journal_module, "_MOST_RECEIPTS", 2)
    async with Journal(tmp_path / "journal") as journal:
        await journal.write(
            lambda held: held.execute("INSERT INTO held VALUES ('receipt', 1, 'nobody', 9)")
        )
        await keep(journal, "job0")
        with pytest.raises(FolderUnusable):
            await keep(journal, "job1")
        assert [await journal.receipt(f"job{number}") for number in range(2)] == [b"receipt", None]


async def test_one_process_has_it(tmp_path: Path) -> None:
    """A second process cannot open the journal of a running runner."""
    async with Journal(tmp_path / "journal"):
        with pytest.raises(FolderUnusable):
            Journal(tmp_path / "journal")
    async with Journal(tmp_path / "journal") as journal:
        assert await journal.use_token(b"token", expires_at=NOW + 60, now=NOW)


def test_files_that_are_no_journal(tmp_path: Path) -> None:
    """Damaged files, other databases, links and folders are refused and not changed."""
    path = tmp_path / "damaged"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(FolderUnusable):
        Journal(path)
    assert path.read_bytes() == b"no database" * 100
    for name, mark in (
        ("foreign", "PRAGMA user_version = 0"),
        ("later", "PRAGMA user_version = 2"),
    ):
        connection = sqlite3.connect(tmp_path / name)
        connection.executescript(f"CREATE TABLE cats (name TEXT); {mark};")
        connection.close()
        with pytest.raises(FolderUnusable):
            Journal(tmp_path / name)
        connection = sqlite3.connect(tmp_path / name)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("cats",)]
        connection.close()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("link", ".", "absent/journal"):
        with pytest.raises(FolderUnusable):
            Journal(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()
