"""Secrets as files, for programs that read files at their start (DR17).

Linux only: the table of mounts, by which it is found whether a folder is in memory.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.client import Client
from sealspace.errors import InvalidInput
from sealspace.private_files import sync_folder
from tee_backend.backend import Backend

from .cache import Cache
from .door_errors import DoorRefusal
from .door_grants import DoorGrant, DoorGrants
from .mounts import Mount
from .readings import Readings
from .secret_forms import secret_at

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_MOUNT_TABLE = Path("/proc/self/mountinfo")
_FILE_MODE = 0o400


async def read_all(
    client: Client, mounts: Mapping[str, Mount], *, backend: Backend | None = None
) -> dict[str, bytes]:
    """Read all secrets of mounts with a client's own session, or with the grants of a backend.

    Returns:
        Path below the folder, `MOUNT/NAME` or `MOUNT/SCOPE/NAME`, to the secret's bytes.
    Raises:
        InvalidInput: a secret cannot be read. Then none is returned, so that a program does not
            start with a part of its secrets.
    """
    clock = SystemClock()
    cache = Cache(fresh_s=0, stale_s=0, clock=clock)
    grants = DoorGrants(cache, clock=clock, entropy=SystemEntropy())
    ends_at = client.session.expires_at if backend is None else None
    grant = grants.add(client, path="auth/token/door", role="", ends_at=ends_at, backend=backend)
    readings = Readings(grants, cache, clock)
    files: dict[str, bytes] = {}
    for mount in mounts.values():
        try:
            files |= await _read_mount(readings, grant, mount)
        except DoorRefusal as refusal:
            reason, _, step = "; ".join(refusal.texts).partition("; next: ")
            raise InvalidInput(
                f"the secrets of the mount {mount.name} cannot be read: {reason}",
                hint=step or "run the command again",
            ) from None
    return files


async def _read_mount(readings: Readings, grant: DoorGrant, mount: Mount) -> dict[str, bytes]:
    """Read all secrets of a mount, and return their bytes by `MOUNT/PATH`."""
    files = {}
    for path in await _list_paths(readings, grant, mount):
        reading = await readings.read(grant, mount, secret_at(mount, path), None)
        value = reading.secret.value
        data = value if isinstance(value, bytes) else value.encode()
        files[f"{mount.name}/{path}"] = data
    return files


async def _list_paths(readings: Readings, grant: DoorGrant, mount: Mount) -> list[str]:
    """Return the paths of all secrets below a mount: `NAME` and `SCOPE/NAME`."""
    paths = []
    for name in await readings.names(grant, mount, ""):
        is_scope = name.endswith("/")
        if not is_scope:
            paths.append(name)
            continue
        for scoped_name in await readings.names(grant, mount, name.removesuffix("/")):
            paths.append(name + scoped_name)
    return paths


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write each file atomically with mode 0400, below a folder in memory.

    Raises:
        InvalidInput: a folder below it is a link, or belongs to another user.
        OSError: a file cannot be written.
    """
    for path, data in files.items():
        target = folder / path
        parent = folder
        for segment in path.split("/")[:-1]:
            parent /= segment
            _require_own_folder(parent)
        draft = target.with_name(f".{target.name}.new")
        draft.unlink(missing_ok=True)
        # Created with its final mode, so that others cannot read the file at any time.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        draft.replace(target)
        sync_folder(target.parent)


def _require_own_folder(folder: Path) -> None:
    """Create a folder, or require that an existing one is the user's own and not a link.

    In a folder that others may write to, such as /dev/shm, another user could have made a link that
    leads to a disk, or a folder in which they replace the files.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_own_folder = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_own_folder:
        raise InvalidInput(
            f"{folder} is a link, or belongs to another user",
            hint="use a folder in which only you can write",
        )


def require_in_memory(folder: Path) -> None:
    """Refuse a folder on a disk, which would keep the values.

    Raises:
        InvalidInput: the folder does not exist, or is not on a file system in memory.
    """
    hint = "mount a tmpfs there, such as a volume emptyDir with medium: Memory"
    if not folder.is_dir():
        raise InvalidInput(f"the folder {folder} does not exist", hint=hint)
    file_system = _file_system_of(folder.resolve())
    if file_system not in _IN_MEMORY:
        raise InvalidInput(
            f"the folder {folder} is on {file_system or 'an unknown file system'}, which keeps"
            " values after the end of this machine",
            hint=hint,
        )


def _file_system_of(folder: Path) -> str:
    """Return the type of the file system that contains a folder; "" if it is not known."""
    deepest_point = ""
    file_system = ""
    for line in _MOUNT_TABLE.read_text().splitlines():
        # The fifth field is the mount point; the type is the first field behind the dash.
        before_dash, _, after_dash = line.partition(" - ")
        mount_point = before_dash.split(" ")[4].replace("\\040", " ")
        # The later one of two mounts at the same point hides the earlier one.
        is_deeper = len(mount_point) >= len(deepest_point)
        if folder.is_relative_to(mount_point) and is_deeper:
            deepest_point = mount_point
            file_system, _, _ = after_dash.partition(" ")
    return file_system
