"""Attacks on local copies: deletes that cannot be made, links, limits, reads that go on."""

import os
import resource
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_process import in_own_process

from sealspace.apps.replica_file import FILE_NAME, ReplicaFile
from sealspace.apps.replica_rows import ENTRY_BYTES, Window, etag_of_body
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    ClientClosed,
    InvalidInput,
    ReplicaExpired,
    ReplicaInUse,
    ReplicaRevoked,
    ReplicaUnusable,
)
from sealspace.session import key_session

SPACE = "tinycloud:key:z:feed"
NOW = 1_000.0
REVOKED = "delegation-revoked: bafyone"
CANARY = b"a value that nobody else has" * 10_000


def opened(folder: Path) -> ReplicaFile:
    """Open a copy."""
    return ReplicaFile.open(folder, space=SPACE, prefix="notes", now=NOW, max_bytes=1 << 20)


def filled(folder: Path) -> ReplicaFile:
    """Open a copy with one value."""
    file = opened(folder)
    with file.page() as draft:
        draft.note("notes/a", etag_of_body(CANARY), {})
        assert draft.store("notes/a", CANARY)
        draft.finish(cursor="AA", window=Window(), node_did="did:key:z", now=NOW, is_end=True)
    assert CANARY[:4000] in in_files(folder)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Iterator[ReplicaFile]:
    """An open copy with one value."""
    file = filled(tmp_path / "copy")
    yield file
    file.close()


def in_files(folder: Path) -> bytes:
    """Return the bytes of all files of a copy."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


def limit_files(size_bytes: int) -> None:
    """Let no file of this process become longer, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


@pytest.mark.parametrize("revoked", [REVOKED, None])
@in_own_process
def test_RP8_RP9_deletes_on_a_full_disk(tmp_path: Path, revoked: str | None) -> None:
    """The values are gone and the copy stays blocked, although SQLite has no space for deletes."""
    folder = tmp_path / "copy"
    file = filled(folder)
    limit_files((folder / f"{FILE_NAME}-wal").stat().st_size)
    file.empty(revoked=revoked)
    assert (file.state.revoked, file.state.entries) == (revoked, 0)
    assert file.read("notes/a") == (None, None)
    assert CANARY[:100] not in in_files(folder)
    file.close()
    again = opened(folder)
    assert (again.state.revoked, again.state.entries) == (revoked, 0)
    again.close()


@in_own_process
def test_RP8_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """The values are gone even if no new file can be written, and the object is blocked."""
    folder = tmp_path / "copy"
    file = filled(folder)
    limit_files(0)
    with pytest.raises(ReplicaUnusable):
        file.empty(revoked=REVOKED)
    assert (file.state.revoked, file.state.entries) == (REVOKED, 0)
    assert in_files(folder) == b""
    with pytest.raises(ClientClosed):
        file.read("notes/a")


def test_RP9_deletes_while_another_program_reads(file: ReplicaFile, tmp_path: Path) -> None:
    """The values are gone although another program, such as one for backups, has the file open."""
    folder = tmp_path / "copy"
    other = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM state").fetchall()
    file.empty(revoked=REVOKED)
    assert CANARY[:100] not in in_files(folder)
    assert file.state.revoked is not None
    other.close()
    file.close()
    again = opened(folder)
    assert (again.state.revoked, again.state.entries) == (REVOKED, 0)
    again.close()


@pytest.mark.parametrize("name", [FILE_NAME, "lock"])
def test_RP12_a_second_name_of_a_file(file: ReplicaFile, tmp_path: Path, name: str) -> None:
    """A file with a second name is refused: two processes could have it open, with two logs."""
    file.close()
    (tmp_path / "second").hardlink_to(tmp_path / "copy" / name)
    with pytest.raises(ReplicaUnusable, match="another name"):
        opened(tmp_path / "copy")


@in_own_process
def test_RP12_a_forked_process(tmp_path: Path) -> None:
    """A process that was forked while a copy was open neither uses nor closes it."""
    file = filled(tmp_path / "copy")
    child = os.fork()
    if not child:
        try:
            with pytest.raises(ReplicaInUse):
                file.note_time(NOW + 100)
            file.close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert file.note_time(NOW + 100) == NOW + 100
    assert file.read("notes/a")[1] == CANARY
    file.close()


@pytest.mark.parametrize("name", [FILE_NAME, "lock"])
def test_RP12_a_file_of_others(file: ReplicaFile, tmp_path: Path, name: str) -> None:
    """A file to which other users have access is refused, and so is a pipe in its place."""
    file.close()
    path = tmp_path / "copy" / name
    path.chmod(0o640)
    with pytest.raises(ReplicaUnusable, match="other users"):
        opened(tmp_path / "copy")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ReplicaUnusable, match="regular file"):
        opened(tmp_path / "copy")


def test_RP5_limits_are_of_bytes(file: ReplicaFile) -> None:
    """Keys and metadata count with their bytes, not with their characters."""
    before = file.state.used_bytes
    with file.page() as draft:
        draft.note("notes/\u20ac", etag_of_body(b""), {"n": "\u20ac" * 1000})
        assert draft.state.used_bytes - before == ENTRY_BYTES + len("notes/") + 3 + 1 + 3000


def test_a_key_that_is_not_text(file: ReplicaFile) -> None:
    """A key that no node can have is an error of the family."""
    for call in (file.read, lambda key: list(file.list(key))):
        with pytest.raises(InvalidInput):
            call("notes/\ud800")


async def device_of(bench: Any, owner: Client, *, ttl_s: float) -> tuple[Client, str]:
    """Return a device with the rights to follow `notes`, and the cid of its delegation."""
    device: Client = await bench.client(key_session(secrets.token_bytes(32)))
    rights = []
    for ability in ("tinycloud.kv/get", "tinycloud.kv/sync"):
        rights.append(allow(f"{owner.kv('feed').space.text}/kv/notes", ability))
    granted = await owner.delegations.delegate(device.session.did, rights, ttl_s=ttl_s)
    await device.delegations.accept(granted)
    return device, granted.cid


@pytest.fixture
async def owner(bench: Any) -> Client:
    """An owner without a wallet, who has every right, with some values."""
    client: Client = await bench.client(key_session(b"\x09" * 32))
    await client.kv("feed").put_many({f"notes/{number}": b"1" for number in range(5)})
    return client


@pytest.mark.parametrize("is_revoked", [False, True])
async def test_RP7_RP8_a_list_that_was_begun(
    bench: Any, owner: Client, tmp_path: Path, is_revoked: bool
) -> None:
    """A list that was begun ends with the right to read, too."""
    device, cid = await device_of(bench, owner, ttl_s=1000)
    space = owner.kv("feed").space.text
    async with device.replica(tmp_path / "copy", "notes", space=space) as replica:
        await replica.sync()
        keys = replica.list()
        assert next(keys) == "notes/0"
        if is_revoked:
            await owner.delegations.revoke(cid)
            with pytest.raises(ReplicaRevoked):
                await replica.sync()
        else:
            bench.clock.advance(2000)
        with pytest.raises(ReplicaRevoked if is_revoked else ReplicaExpired):
            next(keys)


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_RP9_former_values(owner: Client, tmp_path: Path, is_deleted: bool) -> None:
    """A value that was deleted or replaced is in no file of the copy after the run."""
    kv = owner.kv("feed")
    await kv.put("notes/a", CANARY)
    async with owner.replica(tmp_path / "copy", "notes", space="feed") as replica:
        await replica.sync()
        if is_deleted:
            await kv.delete("notes/a")
        else:
            await kv.put("notes/a", b"2")
        await replica.sync()
        assert CANARY[:100] not in in_files(tmp_path / "copy")
