"""Folders of tasks: made in memory or on sealed storage, limited, and always removed.

    <root>/task-<random>/          mode 0700: no other user reaches what is below
        files/input                read by the program as /iexec_in
        files/output               written by the program as /iexec_out

Example:
    prepare_root(root, is_sealed=False)
    async with task_folders(root, max_bytes=50 << 20, max_files=10_000) as folders:
        await executor.run(RunRequest(..., folders=folders), load)
"""

import asyncio
import ctypes
import fcntl
import os
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ..guest.runs import TaskFolders

_PREFIX = "task-"
_IN_MEMORY = {0x01021994, 0x858458F6}
"""The kernel's numbers of tmpfs and ramfs."""
_NO_SUID_DEVICES_OR_PROGRAMS = 0x2 | 0x4 | 0x8
_DETACH = 2
_WATCH_S = 0.2
_libc = ctypes.CDLL(None, use_errno=True)


def prepare_root(root: Path, *, is_sealed: bool) -> None:
    """Check the folder for tasks, and remove what ended runners left in it (TG7, TG9).

    Args:
        root: an existing folder.
        is_sealed: whether the operator states that its storage is encrypted with a key that only
            this machine has.

    Raises:
        OSError: it cannot be read or written.
        RuntimeError: it is on a disk, or the machine swaps memory to one.
    """
    status = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(root), status):
        raise OSError(ctypes.get_errno(), "cannot read the folder for tasks", str(root))
    in_memory = struct.unpack_from("l", status)[0] in _IN_MEMORY
    swaps = len(Path("/proc/swaps").read_text("utf-8").splitlines()) > 1
    if not is_sealed and (swaps or not in_memory):  # TG7
        raise RuntimeError(
            f"cannot use {root} for tasks:"
            f" {'this machine swaps memory to a disk' if in_memory else 'it is on a disk'}, where"
            " decrypted data would be readable; next: name a folder on tmpfs, such as /dev/shm, on"
            " a machine without swap, or state that the storage is sealed"
        )
    for left in root.glob(f"{_PREFIX}*"):
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        about = os.fstat(lock)
        try:
            # TG9: in a folder such as /dev/shm, other users can make one of the same form
            if about.st_uid == os.geteuid() and not about.st_mode & 0o077:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
        except BlockingIOError:  # TG9: another runner uses it
            pass
        finally:
            os.close(lock)


@asynccontextmanager
async def task_folders(root: Path, *, max_bytes: int, max_files: int) -> AsyncIterator[TaskFolders]:
    """Make the folders of a task, and remove them with their files at the end.

    Args:
        root: a folder that `prepare_root` accepted.
        max_bytes: bytes that the program may write in all, and in one file.
        max_files: files and folders that it may make.

    Raises:
        OSError: they cannot be made.
    """
    if max_bytes < 1:  # for the kernel, 0 means no limit
        raise ValueError("`max_bytes` must be at least 1")
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # TG9: until this process ends, however it does
        files = folder / "files"
        for made, mode in ((files, 0o711), (files / "input", 0o755), (files / "output", 0o777)):
            made.mkdir()
            made.chmod(mode)
        # One inode is the folder's own.
        options = f"mode=0777,size={max_bytes},nr_inodes={max_files + 1}".encode()
        mounted = not _libc.mount(
            b"tmpfs",
            os.fsencode(files / "output"),
            b"tmpfs",
            _NO_SUID_DEVICES_OR_PROGRAMS,
            options,
        )

        async def filled() -> None:
            with suppress(OSError):  # TG8: folders that are too deep to look into
                while await asyncio.to_thread(  # noqa: ASYNC110  # a guest sets no event
                    _is_within, files / "output", max_bytes, max_files
                ):
                    await asyncio.sleep(_WATCH_S)

        yield TaskFolders(files, max_bytes, None if mounted else filled)
    finally:
        await asyncio.to_thread(_remove, folder)
        os.close(lock)


def _is_within(folder: Path, max_bytes: int, max_files: int) -> bool:
    """Return whether a folder's files are within limits (TG8).

    The program changes them meanwhile.
    """
    found, used_bytes, folders = 0, 0, [os.fspath(folder)]
    while folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    used_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
                found += 1
                if found > max_files or used_bytes > max_bytes:
                    return False
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return True


def _remove(folder: Path) -> None:
    """Remove a task's folder, however deep the folders in it are (TG9).

    A program can make folders that are too deep for a path or for recursion. So each folder is
    moved to the top before it is removed. The program has ended, so nothing changes meanwhile.
    """
    _libc.umount2(os.fsencode(folder / "files" / "output"), _DETACH)
    folders = [folder]
    for above in folders:
        for entry in [*above.iterdir()]:
            if entry.is_dir() and not entry.is_symlink():
                folders.append(entry.rename(folder / f".{len(folders)}"))
            else:
                entry.unlink()
    for empty in reversed(folders):
        empty.rmdir()
