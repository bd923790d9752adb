"""Tests of backups: their contents, damaged backups, and restored stores."""

import asyncio
import errno
import gzip
import os
import shutil
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest
from engines import needs_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from space_grants import NOW
from tests_support import CountingEntropy, FixedClock
from value_bench import LARGE, OTHER, SMALL, SPACE, Bench, Write

from spaces.archive.backup import (
    DIGEST_NAME,
    BackupSummary,
    backup_file,
    encode_part,
    parse_header,
    parse_part,
    write_backup,
)
from spaces.archive.checking import check_store
from spaces.archive.restoring import (
    OpenedBackup,
    Restored,
    finish_restore,
    restore_backup,
    restoring_into,
)
from spaces.identity import ensure_identity, recorded_identity
from spaces.keyspace import RESTORED_KEY
from spaces.space_errors import BackupDamaged, StoreFull, StoreUnavailable
from spaces.store.contract import Commit, Committed, Put, Refused, ReplayRecord
from spaces.store.lmdb.engine import open_lmdb
from spaces.store.lmdb.snapshots import LmdbRows, are_bodies_locked
from spaces.values.object_folder import ObjectFolder, OpenBody
from spaces.values.object_records import ObjectName
from spaces.values.value_heads import head_key, versions_in, versions_range

pytestmark = needs_folder()

NODE_DID = "did:key:z6MkNode"
BODIES = "blobs"
LIFE_S = 600
OPEN_MINUTE = (int(NOW) + LIFE_S) // 60 + 1


async def fill(bench: Bench) -> None:
    """Fill a store with inline and large values, shared, deleted and replaced ones, a long path and
    two spaces."""
    await ensure_identity(bench.store, node_did=NODE_DID, entropy=bench.entropy)
    await bench.write(Write("small", SMALL, {"x-note": "n"}), Write("large", LARGE))
    await bench.write(Write("shared", LARGE), Write("p" * 900, SMALL))
    await bench.write(Write("other", LARGE + b"other"), space=OTHER)
    await bench.write(Write("gone", LARGE + b"gone"))
    await bench.write(Write("gone", None))


class Meanwhile(ObjectFolder):
    """The bodies of a bench. Something happens before each of them is opened."""

    def __init__(self, bench: Bench, happens: Callable[[], Awaitable[None]]) -> None:
        super().__init__(bench.folder)
        self._happens = happens
        self.times = 0

    async def open(self, name: ObjectName, *, size_bytes: int) -> OpenBody:
        self.times += 1
        await self._happens()
        return await super().open(name, size_bytes=size_bytes)


async def take(bench: Bench, path: Path, *, files: ObjectFolder | None = None) -> BackupSummary:
    with backup_file(path) as stream:
        return await take_into(stream, bench, files or bench.files)


async def take_into(stream: BinaryIO, bench: Bench, files: ObjectFolder) -> BackupSummary:
    return await write_backup(
        bench.store,
        LmdbRows(bench.store, bench.folder.parent),
        files,
        stream,
        folder=bench.folder.parent,
        is_shared=False,
        longest_life_s=360,
        settings=b"",
        sealed_secret=None,
        clock=FixedClock(NOW),
        progress=lambda _: None,
    )


async def backup_of(bench: Bench, folder: Path) -> bytes:
    await take(bench, folder / "backup")
    return (folder / "backup").read_bytes()


async def restore(
    data: bytes, folder: Path, *, new_node_did: str | None = None, now: float = NOW
) -> tuple[Restored, int]:
    backup = OpenedBackup(BytesIO(data))
    with restoring_into(folder) as staging:
        restored = await restore_backup(backup, staging, progress=lambda _: None)
        finished = await finish_restore(
            staging,
            backup.header,
            longest_life_s=LIFE_S,
            new_node_did=new_node_did,
            clock=FixedClock(now),
            entropy=CountingEntropy(b"restoring"),
        )
    return restored, finished.open_from_minute


class Reopened:
    """A restored store, opened for a while."""

    def __init__(self, folder: Path) -> None:
        self.store = open_lmdb(folder, clock=FixedClock(NOW))
        self.bench = Bench(self.store, folder / BODIES)

    async def __aenter__(self) -> Bench:
        return self.bench

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()


async def damages(bench: Bench) -> list[str]:
    checked = await check_store(
        LmdbRows(bench.store, bench.folder.parent), bench.files, bench.folder.parent
    )
    assert checked.rows > 0
    return [found.text for found in checked.findings]


def files_of(folder: Path) -> list[str]:
    return sorted(
        place.name for place in folder.iterdir() if place.is_file() and place.suffix != ".lock"
    )


# --- what is in it


async def test_versions_are_back(bench: Bench, tmp_path: Path) -> None:
    """The versions of values are as they were, with their bodies, and count as before (BK1,
    ST19)."""
    bench.values.kept = {f"{SPACE.name}/": 3}
    await fill(bench)
    await bench.write(Write("large", SMALL), Write("shared", None), Write("small", LARGE))
    await take(bench, tmp_path / "backup")
    await restore((tmp_path / "backup").read_bytes(), tmp_path / "restored")
    async with Reopened(tmp_path / "restored") as again:
        for path, body in (("large", LARGE), ("shared", LARGE), ("gone", LARGE + b"gone")):
            (page,) = (await again.store.read(ranges=(versions_range(SPACE, path),))).pages
            (head,) = versions_in(page).values()
            assert head.version == 1
            assert await again.values.read_body(head) == body
        assert await damages(again) == []


async def test_everything_is_back(bench: Bench, tmp_path: Path) -> None:
    """Values of every size, in every space and under long paths, are restored; deleted values stay
    deleted (BK1, BK3)."""
    await fill(bench)
    taken = await take(bench, tmp_path / "backup")
    assert taken.bodies == 2
    assert taken.body_bytes == 2 * len(LARGE) + 5
    assert taken.left_out == []
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert taken.size_bytes == (tmp_path / "backup").stat().st_size
    restored, open_minute = await restore((tmp_path / "backup").read_bytes(), tmp_path / "restored")
    assert restored.bodies == taken.bodies
    assert restored.body_bytes == taken.body_bytes
    assert restored.left_out == []
    assert open_minute == OPEN_MINUTE
    for place in (tmp_path / "restored").rglob("*"):
        assert place.stat().st_mode & 0o077 == 0, place
    async with Reopened(tmp_path / "restored") as again:
        assert [
            await again.body(path) for path in ("small", "large", "shared", "p" * 900, "gone")
        ] == [
            SMALL,
            LARGE,
            LARGE,
            SMALL,
            None,
        ]
        assert await again.body("other", OTHER) == LARGE + b"other"
        assert await again.head("small") == await bench.head("small")  # with its stamp
        assert await recorded_identity(again.store) == await recorded_identity(bench.store)
        assert await damages(again) == []


async def test_any_tar_reads_it(bench: Bench, tmp_path: Path) -> None:
    """A backup is a tar archive whose bodies have their names and contents, and whose rows are
    MessagePack (BK3)."""
    await fill(bench)
    taken = await take(bench, tmp_path / "backup")
    with tarfile.open(tmp_path / "backup") as archive:
        names = archive.getnames()
        found = {name: archive.extractfile(name) for name in names}
        contents = {name: stream.read() for name, stream in found.items() if stream is not None}
    assert names[:2] == ["backup.json", "settings.toml"] and names[-1] == "digest"
    assert contents["digest"].decode() == taken.digest + "\n"
    assert {name for name in names if name.startswith(BODIES)} == {
        f"{BODIES}/{place.relative_to(bench.folder)}"
        for place in bench.names()
        if place.read_bytes() in contents.values()
    }
    rows = dict(parse_part(contents["rows/00000"]))
    head = rows[head_key(SPACE, "small")]
    assert SMALL in head and names.index("rows/00000") == 2


async def test_a_backup_of_format_1(tmp_path: Path) -> None:
    """A backup with an LMDB file, as an earlier version wrote it, can be restored. If it is cut off
    it is refused."""
    data = gzip.decompress(Path(__file__).with_name("backup-format-1.tar.gz").read_bytes())
    assert parse_header(data[512:1024].rstrip(b"\0")).format == 1
    restored, _ = await restore(data, tmp_path / "restored")
    assert restored.bodies == 2
    assert restored.left_out == []
    async with Reopened(tmp_path / "restored") as again:
        found = [await again.body(path) for path in ("small", "large", "shared", "p" * 900, "gone")]
        assert found == [SMALL, LARGE, LARGE, SMALL, None]
        assert await again.body("other", OTHER) == LARGE + b"other"
        assert await damages(again) == []
    with pytest.raises(BackupDamaged):
        await restore(data[:-1024], tmp_path / "cut")


async def test_the_mark_is_one_moment(bench: Bench, tmp_path: Path) -> None:
    """Rows written while the backup is copied are not in it, and do not disturb it (BK1)."""
    await fill(bench)

    async def write() -> None:
        if files.times == 1:
            await bench.write(
                Write("small", b"later"), Write("new", LARGE + b"new"), Write("large", None)
            )

    files = Meanwhile(bench, write)
    await take(bench, tmp_path / "backup", files=files)
    assert files.times == 2
    await restore((tmp_path / "backup").read_bytes(), tmp_path / "restored")
    async with Reopened(tmp_path / "restored") as again:
        assert [await again.body(path) for path in ("small", "large", "new")] == [
            SMALL,
            LARGE,
            None,
        ]
        assert await damages(again) == []


async def test_the_collector_sees_a_backup(bench: Bench, tmp_path: Path) -> None:
    """A folder is marked while at least one backup copies it. The mark goes with the last one, and
    after an error (BK2)."""
    await fill(bench)
    folder = bench.folder.parent
    seen: list[bool] = []

    async def look() -> None:
        seen.append(are_bodies_locked(folder))
        if len(seen) == 1:
            await take(bench, tmp_path / "second")
            seen.append(are_bodies_locked(folder))

    await take(bench, tmp_path / "first", files=Meanwhile(bench, look))
    assert seen == [True] * 3
    assert not are_bodies_locked(folder)
    with pytest.raises(ZeroDivisionError):
        async with LmdbRows(bench.store, folder).lock_bodies():
            raise ZeroDivisionError
    assert not are_bodies_locked(folder)
    assert not are_bodies_locked(tmp_path / "nothing")


@pytest.mark.parametrize("how", ["missing", "shorter", "other bytes"])
async def test_a_damaged_body_is_left_out_and_named(bench: Bench, tmp_path: Path, how: str) -> None:
    """A backup of a store with one damaged body contains everything else, and names that body
    (BK3)."""
    await fill(bench)
    head = await bench.head("large")
    assert head is not None and head.object_name is not None
    place = bench.files.place_of(head.object_name)
    if how == "missing":
        place.unlink()
    else:
        place.write_bytes(LARGE[:-1] if how == "shorter" else b"x" + LARGE[1:])
    taken = await take(bench, tmp_path / "backup")
    assert taken.bodies == 1
    name = head.object_name.file_name
    assert taken.left_out == [name]
    assert taken.left_out_reasons[name].startswith("missing or damaged in the store: the ")
    restored, _ = await restore((tmp_path / "backup").read_bytes(), tmp_path / "restored")
    assert restored.bodies == 1
    assert restored.left_out == taken.left_out
    async with Reopened(tmp_path / "restored") as again:
        assert await again.body("small") == SMALL
        assert await again.body("other", OTHER) == LARGE + b"other"
        assert await damages(again) == ["the file for a large value is missing"]


# --- files and folders


@pytest.mark.parametrize("what", ["a file", "a link to nowhere"])
async def test_a_file_is_never_replaced(bench: Bench, tmp_path: Path, what: str) -> None:
    """A backup to the name of an existing file is refused, and the file is unchanged (BK3)."""
    await fill(bench)
    path = tmp_path / "backup"
    if what == "a file":
        path.write_bytes(b"mine")
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        await take(bench, path)
    assert path.is_symlink() or path.read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("links", [True, False])
async def test_a_name_that_is_taken_meanwhile(bench: Bench, tmp_path: Path, links: bool) -> None:
    """A file that appears under the name during a backup is kept. A file system without hard links
    works too."""
    await fill(bench)
    with pytest.MonkeyPatch.context() as patch:
        if not links:
            patch.setattr(os, "link", refuse_links)
        await take(bench, tmp_path / "one")
    assert files_of(tmp_path) == ["one"]
    assert (tmp_path / "one").stat().st_nlink == 1

    async def take_the_name() -> None:
        (tmp_path / "two").write_bytes(b"mine")

    with pytest.raises(FileExistsError):
        await take(bench, tmp_path / "two", files=Meanwhile(bench, take_the_name))
    assert (tmp_path / "two").read_bytes() == b"mine"
    assert files_of(tmp_path) == ["one", "two"]


def refuse_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


async def test_the_reserve_of_the_disk_stays_free(bench: Bench, tmp_path: Path) -> None:
    """A backup on the store's disk fails rather than use the reserve, and leaves no file (BK3)."""
    await fill(bench)
    disk = os.statvfs(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spaces.archive.backup.RESERVE_BYTES", disk.f_blocks * disk.f_frsize + 1)
        with pytest.raises(StoreFull):
            await take(bench, tmp_path / "backup")
    assert files_of(tmp_path) == []


class FullAfter(BytesIO):
    """A file on a disk that is full after a number of bytes."""

    def __init__(self, room_bytes: int, descriptor: int) -> None:
        super().__init__()
        self._room_bytes = room_bytes
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: object) -> int:
        assert isinstance(data, bytes | bytearray)
        if self.tell() + len(data) > self._room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


async def test_a_disk_that_fills_at_any_byte(bench: Bench, tmp_path: Path) -> None:
    """A disk that fills at any byte ends the backup with a named error. The copying of rows stops,
    and the lock is released (BK3)."""
    await fill(bench)
    whole = await backup_of(bench, tmp_path)
    with (tmp_path / "backup").open("rb") as stream:
        for room_bytes in range(0, len(whole), len(whole) // 40):
            with pytest.raises(StoreFull):
                await take_into(FullAfter(room_bytes, stream.fileno()), bench, bench.files)
    assert not are_bodies_locked(bench.folder.parent)


async def test_a_backup_that_is_cancelled_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    """A backup that is ended by a signal leaves no file and releases its lock (BK2, BK3)."""
    await fill(bench)
    reached = asyncio.Event()

    async def wait() -> None:
        reached.set()
        await asyncio.Event().wait()

    taking = asyncio.create_task(take(bench, tmp_path / "backup", files=Meanwhile(bench, wait)))
    await reached.wait()
    assert len(files_of(tmp_path)) == 1
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert files_of(tmp_path) == []
    assert not are_bodies_locked(bench.folder.parent)


async def test_a_used_folder_is_refused(bench: Bench, tmp_path: Path) -> None:
    """A restore into a folder that is not empty changes nothing in it (BK4)."""
    await fill(bench)
    data = await backup_of(bench, tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "note").write_text("mine")
    with pytest.raises(FileExistsError):
        await restore(data, tmp_path / "used")
    assert [place.name for place in (tmp_path / "used").iterdir()] == ["note"]


async def test_a_folder_is_no_store_until_it_is_verified(bench: Bench, tmp_path: Path) -> None:
    """While a restore writes, nothing opens the folder as a store, and no second restore begins
    there (BK4)."""
    await fill(bench)
    data, folder = await backup_of(bench, tmp_path), tmp_path / "restored"
    folder.mkdir()
    with pytest.raises(ZeroDivisionError), restoring_into(folder) as staging:
        with pytest.raises(StoreUnavailable, match="is still running or was interrupted"):
            open_lmdb(folder)
        with pytest.raises(FileExistsError), restoring_into(folder):
            pass
        assert staging.is_dir()
        raise ZeroDivisionError
    for place in folder.iterdir():  # what the attempt to open it left
        place.unlink() if place.is_file() else shutil.rmtree(place)
    await restore(data, folder)
    assert sorted(place.name for place in folder.iterdir()) == [BODIES, "store"]


@pytest.mark.parametrize("name", ["secret", "store", BODIES])
async def test_what_appears_during_a_restore(bench: Bench, tmp_path: Path, name: str) -> None:
    """A store that another process creates during a restore is kept; the restore fails (BK4)."""
    await fill(bench)
    data, folder = await backup_of(bench, tmp_path), tmp_path / "restored"
    backup = OpenedBackup(BytesIO(data))
    with pytest.raises(FileExistsError), restoring_into(folder) as staging:
        await restore_backup(backup, staging, progress=lambda _: None)
        (folder / name).write_bytes(b"mine")
    assert [(place.name, place.read_bytes()) for place in folder.iterdir()] == [(name, b"mine")]


@pytest.mark.parametrize("step", range(4))
async def test_an_error_at_any_step_of_a_move(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """If any step of moving the restored store into place fails, the restored store is removed
    (BK4)."""
    await fill(bench)
    data = await backup_of(bench, tmp_path)
    steps: Iterator[int] = iter(range(99))
    was = Path.rename, shutil.rmtree

    def rename(place: Path, target: Path) -> Path:
        if place.parent.name == "restoring" and next(steps) == step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return was[0](place, target)

    def rmtree(place: Path) -> None:
        if place.name == "restoring" and next(steps) == step:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        was[1](place)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    if step == 3:
        await restore(data, tmp_path / "restored")
        return
    with pytest.raises((StoreFull, OSError)):
        await restore(data, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


# --- damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A backup of a store with rows and bodies."""

    async def make() -> bytes:
        folder = tmp_path_factory.mktemp("whole")
        store = open_lmdb(folder / "data", clock=FixedClock(NOW))
        try:
            bench = Bench(store, folder / "data" / BODIES)
            await fill(bench)
            return await backup_of(bench, folder)
        finally:
            await store.close()

    return asyncio.run(make())


def refused(data: bytes, folder: Path) -> None:
    """Check that a restore fails with a named error and leaves nothing behind."""
    with pytest.raises(BackupDamaged):
        asyncio.run(restore(data, folder))
    assert not folder.exists()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_backup_that_is_cut_anywhere(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """A backup that is cut off at any byte is not restored, and leaves nothing behind (BK4)."""
    refused(whole[: data.draw(st.integers(0, len(whole) - 1))], tmp_path / "restored")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_backup_that_is_altered_anywhere(
    whole: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    """A backup with any byte changed, also in padding, is not restored, and leaves nothing behind
    (BK4)."""
    at = data.draw(
        st.integers(0, len(whole) - 1)
        | st.integers(0, 2000)
        | st.integers(len(whole) - 3000, len(whole) - 1)
    )
    other = (whole[at] + data.draw(st.integers(1, 255))) % 256
    refused(whole[:at] + bytes((other,)) + whole[at + 1 :], tmp_path / "restored")


def test_the_checksum_of_the_last_header(whole: bytes, tmp_path: Path) -> None:
    """The checksum in the header of the digest, which covers neither, has one form (BK4)."""
    checksum = whole.rindex(DIGEST_NAME.encode()) + 148
    for at in range(checksum, checksum + 8):
        for other in {0, 0x20, 0x30, whole[at] ^ 1} - {whole[at]}:
            refused(whole[:at] + bytes((other,)) + whole[at + 1 :], tmp_path / "restored")


def test_what_follows_the_end(whole: bytes, tmp_path: Path) -> None:
    """A backup with data after its end is refused, and so is an empty file (BK4)."""
    for data in (whole + b"\0", whole + whole, b"", b"\0" * 1024, b"x" * 5000):
        refused(data, tmp_path / "restored")


def member(name: str, contents: bytes = b"", **fields: object) -> bytes:
    """Return a member of a tar archive with any header."""
    info = tarfile.TarInfo(name)
    info.size = len(contents)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + contents + bytes(-len(contents) % 512)


HOSTILE = {
    "a link": member("store/data.mdb.00000", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("store/data.mdb.00000", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a folder": member("blobs", type=tarfile.DIRTYPE),
    "a device": member("store/data.mdb.00000", type=tarfile.CHRTYPE),
    "a sparse file": member("store/data.mdb.00000", type=tarfile.GNUTYPE_SPARSE),
    "a pax header": member("x", b"20 path=/etc/passwd\n", type=tarfile.XHDTYPE),
    "a name outside": member("../outside", b"x"),
    "an absolute name": member("/tmp/outside", b"x"),
    "a body outside": member("blobs/../../" + "0" * 32 + "-" + "0" * 64 + "-" + "0" * 32, b"x"),
    "a body in another folder": member(
        "blobs/11/" + "0" * 32 + "-" + "0" * 64 + "-" + "0" * 32, b"x"
    ),
    "the secret": member("secret", b"x" * 32),
    "a later part first": member("rows/00001", b"x"),
    "a part of another format": member("store/data.mdb.00000", b"x"),
    "rows that do not decode": member("rows/00000", b"x"),
    "rows without end": member("rows/00000", b"\xdd\x7f\xff\xff\xff"),
    "no rows in a part": member("rows/00000", b"\x90"),
    "rows out of order": member(
        "rows/00000", encode_part([(b"Kb", b"s" * 16 + b"\1"), (b"Ka", b"s" * 16 + b"\1")])
    ),
    "a key too long": member("rows/00000", encode_part([(b"\xff" * 481, b"s" * 16 + b"\1")])),
    "a key of no length": member("rows/00000", encode_part([(b"", b"s" * 16 + b"\1")])),
    "a row of no length": member("rows/00000", encode_part([(b"K", b"")])),
    "a name too long": member("././@LongLink", b"x" * 2000, type=tarfile.GNUTYPE_LONGNAME),
    "a name of no length": member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME),
    "a name of negative length": member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=-1),
    "a name of -600 bytes": member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=-600),
    "two headers": member("backup.json", b"{}"),
    "a negative size": member("x", size=-1),
    "a size beyond the file": member("blobs/x", size=1 << 60),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_backup_has(whole: bytes, tmp_path: Path, what: str) -> None:
    """A tar member of another type or name is refused before anything is created from it (BK4)."""
    first = 1024  # the header, and its padding
    assert parse_header(whole[512:1024].rstrip(b"\0")).node_did == NODE_DID
    refused(whole[:first] + HOSTILE[what] + whole[first:], tmp_path / "restored")
    assert sorted(place.name for place in tmp_path.iterdir()) == []


# --- what a restored store is


async def test_tokens_that_may_have_been_used_are_refused(bench: Bench, tmp_path: Path) -> None:
    """Replay records of a closed minute are refused by reads and commits, also after a restart;
    later ones are accepted (BK5)."""
    await fill(bench)
    await restore(await backup_of(bench, tmp_path), tmp_path / "restored")
    old = ReplayRecord(b"o" * 32, 60 * OPEN_MINUTE - 1)
    for round_ in range(2):
        async with Reopened(tmp_path / "restored") as again:
            read = await again.store.read(replay_record=old)
            assert read.is_first_use is False
            assert read.is_use_unknown is True
            assert isinstance(await again.store.commit(Commit(replay_record=old)), Refused)
            new = ReplayRecord(bytes((round_,)) * 32, 60 * OPEN_MINUTE)
            assert (await again.store.read(replay_record=new)).is_first_use is True
            put = Put(b"mtest", b"1")
            assert isinstance(
                await again.store.commit(Commit(puts=(put,), replay_record=new)), Committed
            )
        # as if the machine were started again
        for place in (tmp_path / "restored").glob("first-use-*"):
            shutil.rmtree(place)


async def test_a_clock_that_is_behind_the_backup(bench: Bench, tmp_path: Path) -> None:
    """On a machine whose clock is behind the mark, minutes are closed from the mark on (BK5)."""
    await fill(bench)
    _, open_minute = await restore(
        await backup_of(bench, tmp_path), tmp_path / "restored", now=NOW - 86_400
    )
    assert open_minute == OPEN_MINUTE


async def test_minutes_that_were_closed_stay_closed(bench: Bench, tmp_path: Path) -> None:
    """Minutes that a fast clock closed in the original are closed in the restored store (BK5)."""
    await fill(bench)
    ahead = OPEN_MINUTE + 5000
    closed = b"".join(number.to_bytes(4, "big") for number in (0, ahead, ahead + 1))
    await bench.store.commit(Commit(puts=(Put(b"mclaim-floor", closed),)))
    await restore(await backup_of(bench, tmp_path), tmp_path / "restored")
    async with Reopened(tmp_path / "restored") as again:
        for minute, expected in (
            (OPEN_MINUTE - 1, False),
            (OPEN_MINUTE, True),
            (ahead, False),
            (ahead + 1, True),
        ):
            assert (
                await again.store.read(replay_record=ReplayRecord(b"c" * 32, 60 * minute))
            ).is_first_use is expected


async def test_a_restored_store_says_where_it_came_from(bench: Bench, tmp_path: Path) -> None:
    """A restored store records where it was restored from, and a backup of it contains that record
    (BK6)."""
    await fill(bench)
    await restore(await backup_of(bench, tmp_path), tmp_path / "restored")
    async with Reopened(tmp_path / "restored") as again:
        row = (await again.store.read((RESTORED_KEY,))).records[0]
        assert row is not None and row.value == str(bench.folder.parent).encode()
        await take(again, tmp_path / "again")
    await restore((tmp_path / "again").read_bytes(), tmp_path / "third")
    async with Reopened(tmp_path / "third") as third:
        row = (await third.store.read((RESTORED_KEY,))).records[0]
        assert row is not None and row.value == str(tmp_path / "restored").encode()
        assert await third.body("large") == LARGE


async def test_a_copy_that_is_new(bench: Bench, tmp_path: Path) -> None:
    """A restore as a new node has a new identity and the same values, but nothing that belongs to
    the former keys (BK7)."""
    await fill(bench)
    lost, kept = (
        [key + b"." * 24 for key in (b"N", b"R", b"D", b"d", b"F", b"J", b"j", b"y")],
        [b"A" + b"." * 24],
    )
    many = tuple(Put(b"J" + at.to_bytes(24, "big"), b"{}") for at in range(200))
    await bench.store.commit(
        Commit(puts=tuple(Put(key, b"{}") for key in (*lost, *kept, b"mchain", b"mchain-pruning")))
    )
    await bench.store.commit(Commit(puts=many))
    before = await recorded_identity(bench.store)
    await restore(
        await backup_of(bench, tmp_path), tmp_path / "restored", new_node_did="did:key:z6MkOther"
    )
    async with Reopened(tmp_path / "restored") as again:
        identity = await recorded_identity(again.store)
        assert before is not None and identity is not None
        assert identity.node_did == "did:key:z6MkOther"
        assert identity.store_id != before.store_id
        gone = [*lost, b"mchain", b"mchain-pruning", RESTORED_KEY, many[0].key, many[-1].key]
        assert [one and one.value for one in (await again.store.read(gone)).records] == [
            None
        ] * len(gone)
        assert (await again.store.read(kept)).records[0] is not None
        assert await again.body("large") == LARGE
