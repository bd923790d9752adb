"""The key-value API of a door: paths below a mount (DR7, DR8)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from capabilities.strict_base64 import encode_standard
from sealspace.documents.secret_names import SecretName
from sealspace.errors import InvalidInput
from sealspace.session import iso_time
from sealspace.wire.values import KeptVersion

from .api_answers import ApiAnswer
from .api_requests import ApiRequest
from .door_errors import DoorRefusal, refusal_of, unserved
from .door_grants import DoorGrant
from .mounts import Mount
from .readings import Reading, Readings

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MOST_VERSIONS = 10
_LISTED = "docs/how-to/vault-clients.md lists what a door answers"
_NO_CUSTOM: Mapping[str, Any] = {"custom_metadata": None}

Handler = Callable[[DoorGrant, Mount, str, ApiRequest], Awaitable[ApiAnswer]]


class KeyValues:
    """The handlers of the paths below a mount.

    Args:
        readings: reads secrets.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._handlers: Mapping[tuple[int, str, str], Handler] = {
            (1, "", "read"): self._read_plain,
            (1, "", "list"): self._list,
            (2, "data", "read"): self._read,
            (2, "metadata", "read"): self._read_metadata,
            (2, "metadata", "list"): self._list,
        }

    async def answer(self, grant: DoorGrant, mount: Mount, request: ApiRequest) -> ApiAnswer:
        """Answer a request for a path below a mount.

        Raises:
            DoorRefusal: the request is refused.
        """
        part, path = self._part_of(mount, request.path)
        handler = self._handlers.get((mount.kv, part, request.operation))
        if handler is None:
            if any(one[:2] == (mount.kv, part) for one in self._handlers):
                what = f"unsupported operation: {request.operation} of {request.path}"
                raise DoorRefusal(405, f"{what}; next: {_LISTED}")
            raise unserved(f"a door does not serve {request.path}", _LISTED)
        request.require_parameters(("list",) if request.operation == "list" else ("version",))
        return await handler(grant, mount, path, request)

    def abilities(self, grant: DoorGrant, mount: Mount, path: str) -> list[str]:
        """Return the words of `sys/capabilities-self` for a path below a mount."""
        part, _ = self._part_of(mount, path)
        found = []
        for version, named, operation in self._handlers:
            if (version, named) == (mount.kv, part):
                found.append(operation)
        return sorted(found) or ["deny"]

    @staticmethod
    def _part_of(mount: Mount, path: str) -> tuple[str, str]:
        """Return the part of the API that a path is of, and the path below it."""
        below = path.removeprefix(mount.name).removeprefix("/")
        if mount.kv == 1:
            return "", below
        part, _, rest = below.partition("/")
        return part, rest

    async def _read(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        version = number_of(request.parameters.get("version", "0")) or None
        secret = secret_at(mount, path)
        reading = await self._readings.read(grant, mount, secret, version)
        metadata = version_metadata(reading.version, reading.created_at)
        return ApiAnswer(
            data={"data": data_of(mount, secret, reading), "metadata": metadata},
            warnings=warnings_of(reading),
        )

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
            kept = await self._readings.versions(grant, mount, secret)
            return ApiAnswer(data=secret_metadata([_version_row(one) for one in kept]))
        reading = await self._readings.read(grant, mount, secret, None)
        row = version_metadata(reading.version, reading.created_at)
        return ApiAnswer(data=secret_metadata([row]), warnings=warnings_of(reading))

    async def _list(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        names = await self._readings.names(grant, mount, path)
        if not names:
            raise DoorRefusal(404)
        return ApiAnswer(data={"keys": [*names]})


def secret_at(mount: Mount, path: str) -> SecretName:
    """Return the secret at a path below a mount.

    Raises:
        DoorRefusal: the path names no secret, or leads out of the mount.
    """
    try:
        return mount.secret_at(path)
    except InvalidInput as error:
        raise refusal_of(error) from None


def number_of(text: str) -> int:
    """Read the number of a version; 0 is the current value.

    Raises:
        DoorRefusal: it is no number.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise DoorRefusal(400, "the version is not a number; next: send one, such as version=2")
    return int(text)


def data_of(mount: Mount, secret: SecretName, reading: Reading) -> Mapping[str, Any]:
    """Return a secret in the form of its mount (DR7).

    Raises:
        DoorRefusal: the form is `json`, and the secret is not the text of a JSON object.
    """
    value = reading.secret.value
    if mount.form == "flat":
        return {"value": value if isinstance(value, str) else encode_standard(value)}
    try:
        return _OBJECT.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise DoorRefusal(
            400,
            f"the secret {secret.label} is not the text of a JSON object, but the mount"
            f" {mount.name} has the form json; next: read it at a mount with the form flat",
        ) from None


def warnings_of(reading: Reading) -> tuple[str, ...]:
    """Return the warning of an answer that is stale (DR16)."""
    if reading.age_s is None:
        return ()
    return (f"stale: the node does not answer; this value was read {reading.age_s:.0f} s ago",)


def version_metadata(version: int, created_at: str) -> Mapping[str, Any]:
    """Return the metadata of a version that exists."""
    return {
        "version": version,
        "created_time": created_at,
        "deletion_time": "",
        "destroyed": False,
        **_NO_CUSTOM,
    }


def _version_row(kept: KeptVersion) -> Mapping[str, Any]:
    return version_metadata(kept.version, _time_text(kept.stored_at))


def deletion_time(newest: KeptVersion) -> str:
    """Return when a secret was deleted, or an empty text."""
    return "" if newest.is_current else _time_text(newest.replaced_at)


def _time_text(at: float | None) -> str:
    return iso_time(at or 0)


def secret_metadata(rows: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the data of `metadata`, from the rows of all versions, the newest first."""
    newest, oldest = rows[0], rows[-1]
    versions = {}
    for row in rows:
        members = ("created_time", "deletion_time", "destroyed")
        versions[str(row["version"])] = {name: row[name] for name in members}
    return {
        "cas_required": False,
        "created_time": oldest["created_time"],
        "current_version": newest["version"],
        "delete_version_after": "0s",
        "max_versions": _MOST_VERSIONS,
        "oldest_version": oldest["version"],
        "updated_time": newest["created_time"],
        "versions": versions,
        **_NO_CUSTOM,
    }
