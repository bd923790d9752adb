"""Writing of secrets through a door (DR13)."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import JsonObject, parse_json
from sealspace.documents.secret_names import SecretName
from sealspace.errors import NotFound, NotShared, PreconditionFailed
from sealspace.wire.values import KeptVersion

from .api_answers import ApiAnswer
from .api_requests import ApiRequest
from .door_errors import DoorRefusal
from .door_grants import DoorGrant
from .limits import MAX_BODY_BYTES
from .mounts import Mount
from .readings import Readings
from .secret_forms import number_of, secret_at, time_text, version_metadata

_NO_OBJECT = 'the body has no object `data`; next: send the secret as {"data": {…}}'


class _WriteBody(msgspec.Struct):
    """The body of a write, whose secret stays as it was sent."""

    data: msgspec.Raw
    options: dict[str, Any] | None = None


class Writes:
    """The handlers that write.

    Args:
        readings: sends requests within the limits of a grant, and forgets what was read.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    async def put(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Store a secret, on the condition that `cas` states."""
        secret = secret_at(mount, path)
        data = await request.raw_body(most_bytes=MAX_BODY_BYTES)
        _require_object(data)
        try:
            body = msgspec.json.decode(data, type=_WriteBody)
        except msgspec.MsgspecError:
            raise DoorRefusal(400, _NO_OBJECT) from None
        value = _value_of(mount, bytes(body.data))
        await self._store(grant, mount, secret, value, _cas_of(body.options))
        newest = (await self._readings.versions(grant, mount, secret))[0]
        return ApiAnswer(data=version_metadata(newest.version, time_text(newest.stored_at)))

    async def put_plain(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Store a secret by version 1 of the API, without a condition."""
        secret = secret_at(mount, path)
        data = await request.raw_body(most_bytes=MAX_BODY_BYTES)
        await self._store(grant, mount, secret, _value_of(mount, data), None)
        return ApiAnswer(status=204)

    async def delete(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Delete the current version of a secret."""
        await self._delete(grant, mount, secret_at(mount, path), purge=False)
        return ApiAnswer(status=204)

    async def purge(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Delete a secret with all its versions."""
        await self._delete(grant, mount, secret_at(mount, path), purge=True)
        return ApiAnswer(status=204)

    async def delete_versions(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Delete the current version, if it is the one that the body names."""
        secret = secret_at(mount, path)
        newest = await self._named_newest(grant, mount, secret, request)

        async def delete() -> None:
            # The value could be replaced after it was listed. Then nothing is deleted, so the
            # copies end only after this.
            if newest.is_current:
                secrets = grant.client.secrets()
                await secrets.delete(secret.name, scope=secret.scope, if_match=newest.etag)
            await _end_copies(grant, secret)

        await self._written(grant, mount, delete)
        return ApiAnswer(status=204)

    async def undelete(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Store the newest version of a deleted secret again, if the body names it."""
        secret = secret_at(mount, path)
        newest = await self._named_newest(grant, mount, secret, request)

        async def restore() -> None:
            await grant.client.secrets().restore(secret.name, scope=secret.scope)

        if not newest.is_current:
            await self._written(grant, mount, restore)
        return ApiAnswer(status=204)

    async def _store(
        self, grant: DoorGrant, mount: Mount, secret: SecretName, value: str, cas: int | None
    ) -> None:
        client = grant.client
        secrets = client.secrets()

        async def store() -> None:
            if cas is None:
                # The same commit renews the copies for people with whom it is shared.
                await client.sharing.put_many({secret.label: value})
                return
            etag = None
            if cas > 0:
                etag = await _etag_of(grant, secret, cas)
            await secrets.put(
                secret.name, value, scope=secret.scope, if_absent=cas == 0, if_match=etag
            )
            await client.sharing.put_many({secret.label: value}, own=False)

        await self._written(grant, mount, store)

    async def _written(
        self, grant: DoorGrant, mount: Mount, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Write something, and forget what the grant has read, whether it failed or not."""
        try:
            await self._readings.asked(grant, mount, work)
        except DoorRefusal as refusal:
            if isinstance(refusal.__cause__, PreconditionFailed):
                raise _mismatch() from refusal
            raise
        finally:
            self._readings.forget(grant)

    async def _delete(
        self, grant: DoorGrant, mount: Mount, secret: SecretName, *, purge: bool
    ) -> None:
        async def delete() -> None:
            # The copies first (SH6): if the second step fails, the client can repeat the request.
            await _end_copies(grant, secret)
            with suppress(NotFound):  # a client that repeats a deletion gets the same answer
                await grant.client.secrets().delete(secret.name, scope=secret.scope, purge=purge)

        await self._written(grant, mount, delete)

    async def _named_newest(
        self, grant: DoorGrant, mount: Mount, secret: SecretName, request: ApiRequest
    ) -> KeptVersion:
        """Return the newest version, which has to be the only one that the body names."""
        body = await request.body(most_bytes=MAX_BODY_BYTES)
        numbers = body.get("versions")
        if not isinstance(numbers, list) or len(numbers) != 1:
            raise DoorRefusal(
                400, 'the body has to name one version; next: send {"versions": [NUMBER]}'
            )
        newest = (await self._readings.versions(grant, mount, secret))[0]
        if number_of(str(numbers[0])) != newest.version:
            raise DoorRefusal(
                400,
                f"only the newest version, {newest.version}, can be deleted and undeleted; next:"
                " read an earlier one with its number, and write it again",
            )
        return newest


def _require_object(data: bytes) -> JsonObject:
    """Check a body as strictly as every other one, before its parts are taken as they are."""
    try:
        return parse_json(data, max_bytes=MAX_BODY_BYTES)
    except InvalidJson:
        raise DoorRefusal(400, _NO_OBJECT) from None


def _value_of(mount: Mount, data: bytes) -> str:
    """Return the text to store for an object in the form of a mount.

    Raises:
        DoorRefusal: it has another form. The text has no part of it.
    """
    fields = _require_object(data)
    if mount.form == "json":
        return data.decode()
    match fields:
        case {"value": str(text)} if len(fields) == 1:
            return text
    raise DoorRefusal(
        400,
        f"the mount {mount.name} has the form flat: a secret is one text, in the field value;"
        ' next: send {"value": "…"}, or write at a mount with the form json',
    )


def _cas_of(options: Mapping[str, Any] | None) -> int | None:
    cas = (options or {}).get("cas")
    return None if cas is None else number_of(str(cas))


async def _etag_of(grant: DoorGrant, secret: SecretName, cas: int) -> str:
    """Return the ETag of the current value, whose number has to be the given one."""
    try:
        versions = await grant.client.secrets().versions(secret.name, scope=secret.scope)
    except NotFound:  # there never was a value
        raise _mismatch() from None
    newest = versions[0]
    if not newest.is_current or newest.version != cas:
        raise _mismatch()
    return newest.etag


async def _end_copies(grant: DoorGrant, secret: SecretName) -> None:
    """End sharing of a secret that is deleted, and delete its copies."""
    with suppress(NotShared):
        await grant.client.sharing.unshare([secret.label])


def _mismatch() -> DoorRefusal:
    return DoorRefusal(
        400,
        "check-and-set parameter did not match the current version; next: read the secret, and"
        " write with its version",
    )
