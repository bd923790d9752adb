"""The key-value API of a door: paths below a mount (DR7, DR8)."""

from collections.abc import Awaitable, Callable, Mapping

from sealspace.documents.secret_names import SecretName

from .api_answers import ApiAnswer
from .api_requests import ApiRequest, Operation
from .door_errors import DoorRefusal, unserved
from .door_grants import DoorGrant
from .mounts import Mount
from .readings import Readings
from .secret_forms import (
    data_of,
    number_of,
    secret_at,
    secret_metadata,
    version_metadata,
    version_row,
    version_rows,
    warnings_of,
)
from .writes import Writes

_LISTED = "docs/how-to/vault-clients.md lists what a door answers"

_PARAMETERS: Mapping[Operation, tuple[str, ...]] = {
    "read": ("version",),
    "list": ("list",),
    "write": (),
    "delete": (),
}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "read": ("read",),
    "list": ("list",),
    "write": ("create", "update"),
    "delete": ("delete",),
}
"""Operation -> its words in `sys/capabilities-self`."""

Handler = Callable[[DoorGrant, Mount, str, ApiRequest], Awaitable[ApiAnswer]]


class KeyValues:
    """The handlers of the paths below a mount.

    Args:
        readings: reads secrets.
        is_writable: whether the door writes.
    """

    def __init__(self, readings: Readings, *, is_writable: bool) -> None:
        self._readings = readings
        self._is_writable = is_writable
        writes = Writes(readings)
        # Version of the API, part of the path, operation -> handler.
        self._handlers: Mapping[tuple[int, str, str], Handler] = {
            (1, "", "read"): self._read_plain,
            (1, "", "list"): self._list,
            (2, "data", "read"): self._read,
            (2, "metadata", "read"): self._read_metadata,
            (2, "metadata", "list"): self._list,
            (1, "", "write"): writes.put_plain,
            (1, "", "delete"): writes.delete,
            (2, "data", "write"): writes.put,
            (2, "data", "delete"): writes.delete,
            (2, "metadata", "delete"): writes.purge,
            (2, "delete", "write"): writes.delete_versions,
            (2, "undelete", "write"): writes.undelete,
        }

    async def answer(self, grant: DoorGrant, mount: Mount, request: ApiRequest) -> ApiAnswer:
        """Answer a request for a path below a mount.

        Raises:
            DoorRefusal: the request is refused.
        """
        part, path = self._split_path(mount, request.path)
        handler = self._handlers.get((mount.kv, part, request.operation))
        if handler is None and self._operations_of(mount, part):
            raise DoorRefusal(
                405,
                f"unsupported operation: {request.operation} of {request.path}; next: {_LISTED}",
            )
        if handler is None:
            raise unserved(f"a door does not serve {request.path}", _LISTED)
        if request.operation in ("write", "delete"):
            self._require_writable(grant, mount)
        request.require_parameters(_PARAMETERS[request.operation])
        return await handler(grant, mount, path, request)

    def abilities(self, grant: DoorGrant, mount: Mount, path: str) -> list[str]:
        """Return the words of `sys/capabilities-self` for a path below a mount.

        They are sorted; `deny` alone if the grant may do nothing there.
        """
        part, _ = self._split_path(mount, path)
        may_write = self._is_writable and grant.kind_at(mount).writes
        words: list[str] = []
        for operation in self._operations_of(mount, part):
            is_read = operation in ("read", "list")
            if is_read or may_write:
                words += _WORDS[operation]
        return sorted(words) or ["deny"]

    def _operations_of(self, mount: Mount, part: str) -> list[str]:
        """Return the operations that a part of a mount has."""
        operations = []
        for version, handled_part, operation in self._handlers:
            if version == mount.kv and handled_part == part:
                operations.append(operation)
        return operations

    def _require_writable(self, grant: DoorGrant, mount: Mount) -> None:
        """Refuse a write that the door, or the kind of the grant, does not have (DR4, DR13)."""
        if not self._is_writable:
            raise DoorRefusal(
                403, "permission denied: this door only reads; next: start it with --write"
            )
        if not grant.kind_at(mount).writes:
            raise DoorRefusal(
                403,
                "permission denied: only the owner's session writes, at mounts of the owner's own"
                " secrets; next: use the token in the file of --token-file",
            )

    @staticmethod
    def _split_path(mount: Mount, path: str) -> tuple[str, str]:
        """Return the part of the API that a path names, such as `data`, and the path below it.

        Version 1 of the API has no parts, so the part is "".
        """
        path_below = path.removeprefix(mount.name).removeprefix("/")
        if mount.kv == 1:
            return "", path_below
        part, _, secret_path = path_below.partition("/")
        return part, secret_path

    async def _read(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Answer with the value and the metadata of a secret, or of one version of it."""
        # The number 0 stands for the current version.
        version = number_of(request.parameters.get("version", "0")) or None
        secret = secret_at(mount, path)
        try:
            reading = await self._readings.read(grant, mount, secret, version)
        except DoorRefusal as refusal:
            has_no_current_value = refusal.status == 404 and version is None
            if has_no_current_value and grant.kind_at(mount).has_versions:
                return await self._answer_deleted(grant, mount, secret)
            raise
        metadata = version_metadata(reading.version, reading.created_at)
        return ApiAnswer(
            data={"data": data_of(mount, secret, reading), "metadata": metadata},
            warnings=warnings_of(reading),
        )

    async def _answer_deleted(
        self, grant: DoorGrant, mount: Mount, secret: SecretName
    ) -> ApiAnswer:
        """Answer 404 for a secret without a current value, with the metadata of its deletion.

        Raises:
            DoorRefusal: there never was such a secret.
        """
        versions = await self._readings.versions(grant, mount, secret)
        metadata = version_row(versions[0], is_newest=True)
        return ApiAnswer(data={"data": None, "metadata": metadata}, status=404)

    async def _read_plain(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        request.require_parameters(())
        secret = secret_at(mount, path)
        reading = await self._readings.read(grant, mount, secret, None)
        return ApiAnswer(data=data_of(mount, secret, reading), warnings=warnings_of(reading))

    async def _read_metadata(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        request.require_parameters(())
        secret = secret_at(mount, path)
        if grant.kind_at(mount).has_versions:
            versions = await self._readings.versions(grant, mount, secret)
            return ApiAnswer(data=secret_metadata(version_rows(versions)))
        reading = await self._readings.read(grant, mount, secret, None)
        row = version_metadata(reading.version, reading.created_at)
        return ApiAnswer(data=secret_metadata([row]), warnings=warnings_of(reading))

    async def _list(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        names = await self._readings.names(grant, mount, path)
        if not names:  # clients take 404 without a text for an empty folder
            raise DoorRefusal(404)
        return ApiAnswer(data={"keys": [*names]})
