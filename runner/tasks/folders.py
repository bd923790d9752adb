"""Folders of tasks: made in memory, limited, and always removed.

    <root>/sealspace-task-<random>/    mode 0700: no other user reaches what is below
        files/input                    read by the program as /iexec_in
        files/output                   written by the program as /iexec_out

Example:
    prepare_root(root)
    async with task_folders(root, max_bytes=50 << 20, max_files=10_000) as folders:
        await executor.run(RunRequest(..., folders=folders), load)
"""

import asyncio
import ctypes
import fcntl
import os
import stat
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ..guest.runs import TaskFolders

_NO_SUID_DEVICES_OR_PROGRAMS = 0xE
_DETACH = 2
_TMPFS = 0x01021994
_RAMFS = 0x858458F6
_STATFS_BYTES = 256
"""More than the structure that `statfs` fills in, which begins with the file system's number."""
_PRIVATE_FOLDER = stat.S_IFDIR | 0o700
_WATCH_S = 0.05
_BLOCK_BYTES = 512
"""Unit of `st_blocks`, whatever the file system's own blocks are."""
_libc = ctypes.CDLL(None, use_errno=True)


def prepare_root(root: Path) -> None:
    """Check the folder for tasks, and remove what ended runners left in it (TG7, TG9).

    Args:
        root: path of the folder.

    Raises:
        OSError: what is left cannot be removed.
        RuntimeError: as `require_memory`.
    """
    require_memory(root)
    for left in root.glob("sealspace-task-*"):
        # Another runner that uses the same root may remove its folder in the meantime.
        with suppress(FileNotFoundError):
            _remove_left(left)


def require_memory(root: Path) -> None:
    """Check that a folder for tasks is in memory (TG7).

    Raises:
        RuntimeError: it is missing, on a disk or cannot be written, or the machine swaps memory to
            a disk.
    """
    is_in_memory = _is_in_memory(root)
    swap_areas = Path("/proc/swaps").read_text("utf-8").count("\n") - 1  # below a line of titles
    if swap_areas or not is_in_memory:  # decrypted data must not be left on a disk (TG7)
        raise RuntimeError(
            f"cannot use {root} for tasks: it is on a disk, or this machine swaps memory to one,"
            " where decrypted data would be readable; next: name a folder on tmpfs, such as"
            " /dev/shm, on a machine without swap"
        )
    if not os.access(root, os.W_OK | os.X_OK):  # containers often have it read-only
        raise RuntimeError(
            f"cannot use {root} for tasks: it is read-only, or belongs to another user; next: name"
            " a folder on tmpfs that this user may write to"
        )


def _is_in_memory(folder: Path) -> bool:
    """Return whether a folder is on tmpfs or ramfs (TG7); False if it is missing."""
    status = ctypes.create_string_buffer(_STATFS_BYTES)
    # If this fails, the buffer keeps its zeros, which are the number of no file system.
    _libc.statfs(bytes(folder), status)
    (file_system,) = struct.unpack_from("l", status)
    return file_system in (_TMPFS, _RAMFS)


def _remove_left(folder: Path) -> None:
    """Remove a task's folder that an ended runner left; keep one of another runner or user (TG9).

    Raises:
        FileNotFoundError: the folder was removed in the meantime.
    """
    about = folder.lstat()
    # In a root such as /dev/shm, other users can make folders with such names.
    if about.st_uid != os.geteuid() or about.st_mode != _PRIVATE_FOLDER:
        return
    lock = os.open(folder, os.O_RDONLY)
    with suppress(BlockingIOError):  # the runner that has it locked is alive
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)
    os.close(lock)


@asynccontextmanager
async def task_folders(root: Path, *, max_bytes: int, max_files: int) -> AsyncIterator[TaskFolders]:
    """Make the folders of a task, and remove them with their files at the end.

    Args:
        root: a folder that `prepare_root` accepted.
        max_bytes: at least 1, bytes that the program may write in all, and in one file.
        max_files: files and folders that it may make.

    Raises:
        OSError: they cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="sealspace-task-", dir=root))
    source, output = folder / "files" / "input", folder / "files" / "output"
    lock = os.open(folder, os.O_RDONLY)
    filled = asyncio.create_task(_watch(output, max_bytes, max_files))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # TG9: until this process ends, however it does
        # Without `parents`: a folder that was removed meanwhile would be made open to others.
        source.parent.mkdir()
        source.mkdir()
        output.mkdir()
        inodes = max_files + 1  # the folder itself has one
        options = f"mode=0777,size={max_bytes},nr_inodes={inodes}".encode()
        # TG8: this file system refuses what is over the limits. Where this process may not mount,
        # the call fails, and `_watch` enforces them.
        _libc.mount(b"tmpfs", bytes(output), b"tmpfs", _NO_SUID_DEVICES_OR_PROGRAMS, options)
        yield TaskFolders(
            input=source,
            output=output,
            max_bytes=max_bytes,
            filled=filled,
            is_within_limits=lambda: _is_within_limits(output, max_bytes, max_files),
        )
    finally:
        filled.cancel()
        removing = asyncio.create_task(asyncio.to_thread(_remove_locked, folder, lock))
        try:
            # Shielded, because a thread that runs cannot be cancelled.
            await asyncio.shield(removing)
        finally:
            # TG9: after a cancellation, nothing is left once this block has ended
            await asyncio.gather(removing, return_exceptions=True)


def _remove_locked(folder: Path, lock: int) -> None:
    """Remove a task's folder, and then close the descriptor that has it locked."""
    try:
        _remove(folder)
    finally:
        os.close(lock)


async def _watch(folder: Path, max_bytes: int, max_files: int) -> None:
    """Return once a folder is over its limits, or too deep to look into (TG8)."""
    while await asyncio.to_thread(_is_within_limits, folder, max_bytes, max_files):  # noqa: ASYNC110  # a guest sends no event
        await asyncio.sleep(_WATCH_S)


def _is_within_limits(folder: Path, max_bytes: int, max_files: int) -> bool:
    """Return whether a folder is within limits; False if it is too deep to look into (TG8)."""
    try:
        # A folder that is a file system of its own is limited by the kernel.
        return folder.is_mount() or _fits_limits(folder, max_bytes, max_files)
    except OSError:
        return False


def _fits_limits(folder: Path, max_bytes: int, max_files: int) -> bool:
    """Return whether all that a folder contains is within limits (TG8).

    The program changes it meanwhile, so an entry that was listed may be missing.

    Args:
        folder: links in it are not followed.
        max_bytes: of the blocks that are allocated on the disk.
        max_files: of files, folders and links.
    """
    left_bytes = max_bytes
    left_files = max_files
    unread_folders = [folder]
    while unread_folders:
        current = unread_folders.pop()
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in current.iterdir():
                left_files -= 1
                with suppress(FileNotFoundError):
                    left_bytes -= entry.lstat().st_blocks * _BLOCK_BYTES
                if left_files < 0 or left_bytes < 0:
                    return False
                if entry.is_dir() and not entry.is_symlink():
                    unread_folders.append(entry)
    return True


def _remove(folder: Path) -> None:
    """Remove a task's folder, however deep the folders in it are (TG9).

    A program can make folders that are too deep for a path or for recursion. So each folder is
    moved to the top before it is removed. The program has ended, so nothing changes meanwhile.
    """
    _libc.umount2(bytes(folder / "files" / "output"), _DETACH)
    folders = [folder]
    for above in folders:  # grows in the loop
        for entry in [*above.iterdir()]:  # listed first, because entries are moved and removed
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(0o700)  # the program may have denied access to it
                folders.append(entry.rename(folder / f".{len(folders)}"))
            else:
                entry.unlink()
    for empty in reversed(folders):
        empty.rmdir()
