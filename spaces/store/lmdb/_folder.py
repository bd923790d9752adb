"""The layout and the write lock of a data folder.

<data>/store/                   the LMDB environment with everything durable
<data>/first-use-<boot id>/     replay records of plain reads
<data>/blobs/                   large values
<data>/storekeeper.lock         locked by the process that writes
<data>/store.sock               the storekeeper's socket
<data>/restoring/               an unfinished restore, with which the store does not open (BK4)
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lmdb
from blake3 import blake3

from ...space_errors import StoreLocked, StoreUnavailable
from ..durable import sync_folder
from ._format import MAX_TABLES, check_format_version, give_format

# Address space, not disk: the size of the store is limited by store.max_bytes and the free disk
# space. All processes use the same value, because LMDB fails if another process enlarged the map.
MAP_BYTES = 1 << 40
MAX_READERS = 512
RESTORING_NAME = "restoring"
MAX_SOCKET_PATH_BYTES = 107  # sun_path less its final zero byte


def environment_folder(folder: Path) -> Path:
    """Return the path of the LMDB environment in a data folder."""
    return folder / "store"


def open_for_writing(folder: Path) -> lmdb.Environment:
    """Open a data folder's LMDB environment for writing.

    The environment is created if it does not exist.
    """
    refuse_restoring(folder)
    place = environment_folder(folder)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = open_environment(place)
    try:
        give_format(env)
    except lmdb.Error as exc:
        env.close()
        raise StoreUnavailable("the store cannot be created") from exc
    # LMDB syncs its file, not the folders in which the file was made.
    for made_in in (place, folder, folder.parent):
        sync_folder(made_in)
    return env


def open_for_reading(folder: Path, *, may_be_moved: bool = False) -> lmdb.Environment:
    """Open a data folder's LMDB environment read-only."""
    return open_environment(environment_folder(folder), readonly=True, may_be_moved=may_be_moved)


def open_environment(
    place: Path, *, readonly: bool = False, may_be_moved: bool = False, sync: bool = True
) -> lmdb.Environment:
    """Open an LMDB environment.

    Without `sync`, its transactions are durable only after `env.sync`.
    """
    refuse_restoring(place.parent)
    with ExitStack() as opened:
        try:
            env = lmdb.open(
                str(place),
                map_size=MAP_BYTES,
                max_readers=MAX_READERS,
                max_dbs=MAX_TABLES,
                max_spare_txns=1,
                readahead=False,
                readonly=readonly,
                sync=sync,
                create=not readonly,
                mode=0o600,
            )
            opened.callback(env.close)
            check_format_version(env, may_be_moved=may_be_moved)
        except lmdb.Error as exc:
            raise StoreUnavailable("the store cannot be opened") from exc
        opened.pop_all()  # the caller closes the environment
        return env


def refuse_restoring(folder: Path) -> None:
    """Check that a data folder contains no unfinished restore (BK4).

    The restore from a backup is still running, or it was interrupted.

    Raises:
        StoreUnavailable: the folder contains an unfinished restore; nothing may be created in it.
    """
    if os.path.lexists(folder / RESTORING_NAME):
        raise StoreUnavailable(
            f"a restore into {folder} is still running or was interrupted; if it was interrupted,"
            " empty the folder and restore again"
        )


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Context manager that holds the write lock of a data folder.

    The kernel releases the lock if the process is killed.

    Raises:
        StoreLocked: another process has the lock.
        StoreUnavailable: the folder contains an unfinished restore.
    """
    refuse_restoring(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "storekeeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise StoreLocked("another process uses this data folder") from exc
        yield
    finally:
        os.close(descriptor)


def socket_path_for(folder: Path, name: str = "store.sock") -> Path:
    """Return the path of a Unix socket of a data folder.

    The storekeeper listens on `store.sock`. A path that would be too long is replaced by a short
    one in a folder that only this user can read.

    Raises:
        StoreUnavailable: this folder belongs to another user, or is open to others.
    """
    resolved = folder.resolve()
    inside = resolved / name
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
        return inside
    # Not TMPDIR: every process has to find the same path, whatever its environment. Other users
    # can create this folder first, so its owner and permissions are checked.
    place = Path(f"/tmp/sealspace-{os.geteuid()}")  # noqa: S108  # checked below
    place.mkdir(mode=0o700, exist_ok=True)
    status = place.lstat()
    is_own_folder = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    is_open_to_others = bool(status.st_mode & 0o077)
    if not is_own_folder or is_open_to_others:
        raise StoreUnavailable(f"the folder of the store's socket, {place}, is open to other users")
    return place / f"{blake3(os.fsencode(inside)).hexdigest(length=16)}.sock"
