"""Backups of a runner's journal and their restore (RN290 to RN294)."""

import asyncio
import hashlib
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import KEY, edit, opened, record
from patience import PATIENCE_S, until
from tests_support import REPOSITORY

from capabilities.principals import Principal
from runner.calls import journal_copies
from runner.calls.journal import VERSION, Journal, keep_receipt
from runner.calls.journal_copies import (
    JOURNAL_NAME,
    Backup,
    backup_folder,
    check_copy,
    read_backup,
    restore_journal,
    stopped_runner,
)
from runner.calls.ledger import Account, Ledger
from runner.http import operator_routes
from runner.http.operator_routes import offered_file, serving_operator
from sealspace.errors import SealspaceError
from serving.shares import Payer
from tee_backend.backend_errors import FolderDamaged, FolderOfAnother, FolderUnusable, KeepingError

NOW = 1_795_000_000.0
DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


@asynccontextmanager
async def served(data: Path) -> AsyncIterator[Ledger]:
    """A journal in a data folder, with the operator's socket."""
    data.mkdir(mode=0o700, exist_ok=True)
    async with (
        opened(data / JOURNAL_NAME) as ledger,
        serving_operator(ledger, data, Principal(DID)),
    ):
        yield ledger


async def back_up(data: Path, folder: Path) -> Backup:
    """Back up the journal of a running runner."""
    with backup_folder(folder) as copies:
        async with offered_file(data) as offered:
            backup = await asyncio.to_thread(
                copies.copy,
                data / JOURNAL_NAME,
                size_bytes=offered.size_bytes,
                runner=offered.runner,
                made_at=offered.made_at,
            )
        copies.publish(backup)
    return backup


async def backed_up(tmp_path: Path) -> Path:
    """Return the folder of a backup of a journal with one account and one receipt."""
    payer = Payer(Principal("alice"))
    async with served(tmp_path / "data") as ledger:
        await ledger.credit("alice", 100, reference="first")
        await ledger.journal.write(
            lambda held: keep_receipt(held, "job", b"a receipt of alice", payer, None)
        )
        await back_up(tmp_path / "data", tmp_path / "backup")
    return tmp_path / "backup"


async def test_a_backup_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    """RN290: a backup contains every earlier change, and none of those made during the copy."""
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with served(data) as ledger:
        for number in range(50):
            await ledger.credit("alice", 1, reference=f"{number}")
        with backup_folder(folder) as copies:
            async with offered_file(data) as offered:
                before = (data / JOURNAL_NAME).read_bytes()
                for number in range(2000):  # more than SQLite's own checkpoint waits for
                    await ledger.credit("bob", 1, reference=f"later {number}")
                assert (data / JOURNAL_NAME).read_bytes() == before
                backup = copies.copy(
                    data / JOURNAL_NAME,
                    size_bytes=offered.size_bytes,
                    runner=offered.runner,
                    made_at=offered.made_at,
                )
            copies.publish(backup)
        assert backup.runner == DID
        # afterwards the log is copied into the file again
        assert (data / f"{JOURNAL_NAME}-wal").stat().st_size == 0
        assert await ledger.account("bob") == Account(2000)
    restored = restore_journal(folder, tmp_path / "new", now=NOW)
    assert (restored.waiting, restored.started) == (0, 0)
    async with opened(tmp_path / "new" / JOURNAL_NAME) as ledger:
        assert await ledger.account("alice") == Account(50)
        assert await ledger.account("bob") is None
        # RN95: a credit that the backup contains is not added again
        assert await ledger.credit("alice", 1, reference="7") == Account(50)


async def test_a_backup_contains_no_plain_row(tmp_path: Path) -> None:
    """RN290: another key opens no row of the backup, and no input is readable in it."""
    data = tmp_path / "data"
    async with served(data) as ledger:
        await ledger.accept("job", record(later=True), request=b"a secret input")
        await ledger.credit("alice", 1, reference="a")
        await back_up(data, tmp_path / "backup")
    restore_journal(tmp_path / "backup", tmp_path / "new", now=NOW)
    assert b"a secret input" not in (tmp_path / "new" / JOURNAL_NAME).read_bytes()
    async with opened(tmp_path / "new" / JOURNAL_NAME, bytes(range(32))) as ledger:
        with pytest.raises(FolderDamaged):
            await ledger.account("alice")


async def test_a_runner_that_ends_during_the_copy(tmp_path: Path) -> None:
    """RN290: the copy does not become a backup, and the former one stays."""
    folder = await backed_up(tmp_path)
    former = read_backup(folder)
    data = tmp_path / "data"
    with backup_folder(folder) as copies:
        offering = offered_file(data)
        async with served(data):
            offered = await offering.__aenter__()
            copies.copy(
                data / JOURNAL_NAME,
                size_bytes=offered.size_bytes,
                runner=offered.runner,
                made_at=offered.made_at,
            )
        with pytest.raises(FolderUnusable, match="the runner ended during the backup"):
            await offering.__aexit__(None, None, None)
    assert read_backup(folder) == former
    with backup_folder(folder):  # removes the copy
        assert {file.name for file in folder.iterdir()} == {"backup.json", former.file}


async def test_one_backup_at_a_time(tmp_path: Path) -> None:
    """RN290: a second backup of a runner, or into a folder, waits for nothing and is refused."""
    async with served(tmp_path / "data"), offered_file(tmp_path / "data"):
        with pytest.raises(FolderUnusable, match="another backup of this runner"):
            await back_up(tmp_path / "data", tmp_path / "backup")
    with (
        backup_folder(tmp_path / "backup"),
        pytest.raises(FolderUnusable, match="another backup"),
        backup_folder(tmp_path / "backup"),
    ):
        pass


async def test_a_copy_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN290: the file is kept unchanged for a limited time, and a later copy is not accepted."""
    monkeypatch.setattr(operator_routes, "MAX_COPY_S", 0)
    async with served(tmp_path / "data"):
        with pytest.raises(FolderUnusable, match="the copy took too long"):
            await back_up(tmp_path / "data", tmp_path / "backup")
    assert [*(tmp_path / "backup").iterdir()] == []


async def test_a_copy_while_much_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN290: when the log gets too long, it is copied into the file, and no backup is made."""
    monkeypatch.setattr(operator_routes, "MAX_LOG_BYTES", 100_000)
    monkeypatch.setattr(operator_routes, "_LOOK_S", 0.001)
    log = tmp_path / "data" / f"{JOURNAL_NAME}-wal"
    async with served(tmp_path / "data") as ledger:
        with pytest.raises(FolderUnusable, match="the copy took too long"):
            async with offered_file(tmp_path / "data"):
                while log.stat().st_size <= 100_000:
                    await ledger.credit("alice", 1, reference=f"{log.stat().st_size}")
                await until(lambda: not log.stat().st_size)
        await back_up(tmp_path / "data", tmp_path / "backup")


_BACKING_UP = """
import sys
from pathlib import Path
from runner.calls.journal_copies import backup_folder
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
while True:
    with backup_folder(folder) as copies:
        copies.publish(copies.copy_stopped(source, runner=None, made_at=1.0))
    print(flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(5))
def test_a_backup_that_is_killed(tmp_path: Path, attempt: int) -> None:
    """RN291: after a kill at any moment, the folder has one whole backup."""
    data, folder = tmp_path / "data", tmp_path / "backup"
    data.mkdir(mode=0o700)

    async def fill() -> None:
        async with opened(data / JOURNAL_NAME) as ledger:
            await ledger.accept("job", record(later=True), request=bytes(4_000_000))

    asyncio.run(fill())
    with subprocess.Popen(
        [sys.executable, "-c", _BACKING_UP, str(data / JOURNAL_NAME), str(folder)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        for _ in range(attempt + 1):
            process.stdout.readline()
        while len([*folder.glob("journal-*")]) == 1:  # until the next copy is being written
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=PATIENCE_S)
    restored = restore_journal(folder, tmp_path / "new", now=NOW)
    assert restored.waiting == 1
    with backup_folder(folder):
        assert len([*folder.iterdir()]) == 2


# --- restores that are refused --------------------------------------------------------------------


def damage_bytes(folder: Path) -> None:
    (copy,) = folder.glob("journal-*")
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)


def edit_receipt(folder: Path) -> None:
    """Change a row, which leaves a whole database."""
    (copy,) = folder.glob("journal-*")
    content = copy.read_bytes()
    assert b"a receipt of alice" in content
    copy.write_bytes(content.replace(b"a receipt of alice", b"a receipt of elsie"))
    check_copy(copy)


def cut(folder: Path) -> None:
    (copy,) = folder.glob("journal-*")
    copy.write_bytes(copy.read_bytes()[:-4096])


def remove_copy(folder: Path) -> None:
    (copy,) = folder.glob("journal-*")
    copy.unlink()


def rewrite(before: str, after: str, folder: Path) -> None:
    listed = folder / "backup.json"
    text = listed.read_text()
    assert before in text
    listed.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (damage_bytes, FolderDamaged),
        (edit_receipt, FolderDamaged),
        (cut, FolderDamaged),
        (remove_copy, FolderUnusable),
        (lambda folder: rewrite('"file":"', '"file":"../', folder), FolderDamaged),
        (lambda folder: rewrite('"v":1', '"v":2', folder), FolderDamaged),
        (lambda folder: rewrite("{", "{" + " " * 5000, folder), FolderUnusable),
        (lambda folder: (folder / "backup.json").unlink(), FolderUnusable),
        (lambda folder: (folder / "backup.json").write_text("{}"), FolderDamaged),
    ],
)
async def test_a_damaged_backup(tmp_path: Path, change: object, refused: type[Exception]) -> None:
    """RN292: a backup is verified before anything appears in the data folder."""
    folder = await backed_up(tmp_path)
    assert callable(change)
    change(folder)
    with pytest.raises(refused):
        restore_journal(folder, tmp_path / "new", now=NOW)
    assert [*(tmp_path / "new").glob("*")] == [] == [*(tmp_path / "new").glob(".*")]


@given(listed=st.binary(max_size=300), copied=st.binary(max_size=300), is_stated=st.booleans())
def test_fuzz_backups(
    tmp_path_factory: pytest.TempPathFactory, listed: bytes, copied: bytes, is_stated: bool
) -> None:
    """RN292: of a folder with any bytes nothing is restored, and the error is a typed one."""
    folder = tmp_path_factory.mktemp("fuzzed")
    name = f"journal-{'0' * 16}.sqlite"
    (folder / name).write_bytes(copied)
    if is_stated:  # a valid description of a copy that is none
        backup = Backup(
            v=1,
            runner=None,
            made_at=NOW,
            file=name,
            size_bytes=len(copied) or 1,
            sha256=hashlib.sha256(copied).hexdigest(),
        )
        listed = msgspec.json.encode(backup)
    (folder / "backup.json").write_bytes(listed)
    with pytest.raises(KeepingError):
        restore_journal(folder, folder / "new", now=NOW)
    assert [*(folder / "new").glob("*")] == [] == [*(folder / "new").glob(".*")]


async def test_a_data_folder_with_a_journal(tmp_path: Path) -> None:
    """RN292: no journal is overwritten, and no former log is applied to a restored one."""
    folder = await backed_up(tmp_path)
    for name in ("", "-wal", "-shm"):
        data = tmp_path / f"new{name}"
        data.mkdir(mode=0o700)
        (data / f"{JOURNAL_NAME}{name}").touch()
        with pytest.raises(FolderUnusable, match="exists already"):
            restore_journal(folder, data, now=NOW)
        assert (data / f"{JOURNAL_NAME}{name}").read_bytes() == b""


async def test_the_folder_of_another_runner(tmp_path: Path) -> None:
    """RN292: a journal is not restored into the folder of a runner with another DID."""
    folder = await backed_up(tmp_path)
    data = tmp_path / "new"
    data.mkdir(mode=0o700)
    (data / "backend.json").write_text('{"v":1,"did":"did:key:z6MkOther","networks":[]}')
    (data / "backend.json").chmod(0o600)
    with pytest.raises(FolderOfAnother, match="did:key:z6MkOther"):
        restore_journal(folder, data, now=NOW)
    (data / "backend.json").write_text(f'{{"v":1,"did":"{DID}","networks":[]}}')
    restore_journal(folder, data, now=NOW)


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN290, RN292: neither a backup nor a restore fills the disk."""
    folder = await backed_up(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=journal_copies.SPARE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FolderUnusable, match="MiB are needed"):
        restore_journal(folder, tmp_path / "new", now=NOW)
    async with served(tmp_path / "data"):
        with pytest.raises(FolderUnusable, match="MiB are needed"):
            await back_up(tmp_path / "data", folder)


# --- versions -------------------------------------------------------------------------------------


async def test_a_journal_of_a_newer_version(tmp_path: Path) -> None:
    """RN294: a newer journal is neither opened, backed up nor restored, and is not changed."""
    folder = await backed_up(tmp_path)
    journal = tmp_path / "data" / JOURNAL_NAME
    edit(journal, f"PRAGMA user_version = {VERSION + 1}")
    before = journal.read_bytes()

    def back_up_stopped() -> None:
        with backup_folder(tmp_path / "other") as copies:
            copies.copy_stopped(journal, runner=None, made_at=NOW)

    (copy,) = folder.glob("journal-*")
    edit(copy, "PRAGMA journal_mode = DELETE", f"PRAGMA user_version = {VERSION + 1}")
    for work in (lambda: Journal(journal), back_up_stopped):
        with pytest.raises(SealspaceError, match="newer version of sealspace") as refused:
            work()
        assert "install that version" in str(refused.value.hint)
    assert journal.read_bytes() == before


async def test_a_backup_of_an_earlier_version(tmp_path: Path) -> None:
    """RN294: a backup keeps the form of the version that wrote it, and a restore updates it."""
    data = tmp_path / "data"
    async with served(data) as ledger:
        await ledger.credit("alice", 7, reference="a")
    drops = ("DROP INDEX builds_of", "ALTER TABLE builds DROP COLUMN owner")
    edit(data / JOURNAL_NAME, *drops, f"PRAGMA user_version = {VERSION - 1}")
    with stopped_runner(data) as is_stopped, backup_folder(tmp_path / "backup") as copies:
        assert is_stopped
        backup = copies.copy_stopped(data / JOURNAL_NAME, runner=None, made_at=NOW)
        copies.publish(backup)
    copied = sqlite3.connect(tmp_path / "backup" / backup.file)
    assert copied.execute("PRAGMA user_version").fetchone() == (VERSION - 1,)
    copied.close()
    restore_journal(tmp_path / "backup", tmp_path / "new", now=NOW)
    async with opened(tmp_path / "new" / JOURNAL_NAME, KEY) as ledger:
        assert await ledger.account("alice") == Account(7)
        assert await ledger.is_restored()
