"""Writing of secrets through a door (DR13)."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
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
        """Store a secret, on the condition that `cas` states, and answer with its new version.

        Raises:
            DoorRefusal: the path, the body or the value has another form, the current version is
                not that of `cas`, or the node refuses.
        """
        secret = secret_at(mount, path)
        data = await request.raw_body(most_bytes=MAX_BODY_BYTES)
        _parse_object(data)  # strictly; msgspec would accept a member that is there twice
        try:
            body = msgspec.json.decode(data, type=_WriteBody)
        except msgspec.MsgspecError:
            raise DoorRefusal(400, _NO_OBJECT) from None
        value = _read_value(mount, bytes(body.data))
        cas = _read_cas(body.options)
        await self._write(grant, mount, partial(_store, grant, secret, value, cas=cas))
        versions = await self._readings.versions(grant, mount, secret)
        newest = versions[0]
        return ApiAnswer(data=version_metadata(newest.version, time_text(newest.stored_at)))

    async def put_plain(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Store a secret by version 1 of the API, without a condition."""
        secret = secret_at(mount, path)
        data = await request.raw_body(most_bytes=MAX_BODY_BYTES)
        value = _read_value(mount, data)
        await self._write(grant, mount, partial(_store, grant, secret, value, cas=None))
        return ApiAnswer(status=204)

    async def delete(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Delete the current version of a secret."""
        secret = secret_at(mount, path)
        await self._write(grant, mount, partial(_delete, grant, secret, purge=False))
        return ApiAnswer(status=204)

    async def purge(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Delete a secret with all its versions."""
        secret = secret_at(mount, path)
        await self._write(grant, mount, partial(_delete, grant, secret, purge=True))
        return ApiAnswer(status=204)

    async def delete_versions(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Delete the current version, if it is the one that the body names.

        Raises:
            DoorRefusal: the body names another version or several, the value was replaced
                meanwhile, or the node refuses.
        """
        secret = secret_at(mount, path)
        newest = await self._require_newest(grant, mount, secret, request)
        await self._write(grant, mount, partial(_delete_version, grant, secret, newest))
        return ApiAnswer(status=204)

    async def undelete(
        self, grant: DoorGrant, mount: Mount, path: str, request: ApiRequest
    ) -> ApiAnswer:
        """Store the newest version of a deleted secret again, if the body names it.

        If the newest version was not deleted, nothing changes.

        Raises:
            DoorRefusal: the body names another version or several, or the node refuses.
        """
        secret = secret_at(mount, path)
        newest = await self._require_newest(grant, mount, secret, request)
        if not newest.is_current:
            await self._write(grant, mount, partial(_restore, grant, secret))
        return ApiAnswer(status=204)

    async def _write(
        self, grant: DoorGrant, mount: Mount, request: Callable[[], Awaitable[None]]
    ) -> None:
        """Send a request that writes, and forget what the grant has read.

        A request that fails may have changed the value too, so the values are always forgotten.
        """
        try:
            await self._readings.call_node(grant, mount, request)
        except DoorRefusal as refusal:
            if isinstance(refusal.__cause__, PreconditionFailed):
                raise _version_mismatch() from refusal
            raise
        finally:
            self._readings.forget(grant)

    async def _require_newest(
        self, grant: DoorGrant, mount: Mount, secret: SecretName, request: ApiRequest
    ) -> KeptVersion:
        """Return the newest version, which has to be the only one that the body names."""
        body = await request.body(most_bytes=MAX_BODY_BYTES)
        numbers = body.get("versions")
        if not isinstance(numbers, list) or len(numbers) != 1:
            raise DoorRefusal(
                400, 'the body has to name one version; next: send {"versions": [NUMBER]}'
            )
        versions = await self._readings.versions(grant, mount, secret)
        newest = versions[0]
        named_number = number_of(str(numbers[0]))
        if named_number != newest.version:
            raise DoorRefusal(
                400,
                f"only the newest version, {newest.version}, can be deleted and undeleted; next:"
                " read an earlier one with its number, and write it again",
            )
        return newest


# --- requests to the node -------------------------------------------------------------------------


async def _store(grant: DoorGrant, secret: SecretName, value: str, *, cas: int | None) -> None:
    """Store a secret, and renew the copies for people with whom it is shared.

    Args:
        grant: the grant of the secret's owner.
        secret: name and scope.
        value: the text to store.
        cas: None: replace any value; 0: only if there is no value; another number: only if this is
            the number of the current version.
    """
    client = grant.client
    secrets = client.secrets()
    if cas is None:
        # One commit for the value and the copies.
        await client.sharing.put_many({secret.label: value})
        return
    # That commit has no condition. So the value is stored first, and the copies after it.
    if cas == 0:
        await secrets.put(secret.name, value, scope=secret.scope, if_absent=True)
    else:
        etag = await _require_current_version(grant, secret, cas)
        await secrets.put(secret.name, value, scope=secret.scope, if_match=etag)
    await client.sharing.put_many({secret.label: value}, own=False)


async def _require_current_version(grant: DoorGrant, secret: SecretName, number: int) -> str:
    """Return the ETag of the current value, whose version has to have this number."""
    try:
        versions = await grant.client.secrets().versions(secret.name, scope=secret.scope)
    except NotFound:  # there never was a value
        raise _version_mismatch() from None
    newest = versions[0]
    if not newest.is_current or newest.version != number:
        raise _version_mismatch()
    return newest.etag


async def _delete(grant: DoorGrant, secret: SecretName, *, purge: bool) -> None:
    """Delete the copies of a secret and its current value; with `purge` all its versions."""
    # The copies first (SH6): if the second step fails, the client can repeat the request.
    await _end_copies(grant, secret)
    with suppress(NotFound):  # a client that repeats a deletion gets the same answer
        await grant.client.secrets().delete(secret.name, scope=secret.scope, purge=purge)


async def _delete_version(grant: DoorGrant, secret: SecretName, version: KeptVersion) -> None:
    """Delete a version that was the newest one, and the copies of the secret."""
    # The value could have been replaced after it was listed. Then the first request is refused, and
    # the copies have to stay.
    if version.is_current:
        secrets = grant.client.secrets()
        await secrets.delete(secret.name, scope=secret.scope, if_match=version.etag)
    await _end_copies(grant, secret)


async def _restore(grant: DoorGrant, secret: SecretName) -> None:
    await grant.client.secrets().restore(secret.name, scope=secret.scope)


async def _end_copies(grant: DoorGrant, secret: SecretName) -> None:
    """End sharing of a secret that is deleted, and delete its copies."""
    with suppress(NotShared):
        await grant.client.sharing.unshare([secret.label])


# --- bodies ---------------------------------------------------------------------------------------


def _parse_object(data: bytes) -> JsonObject:
    """Parse a JSON object as strictly as every other body.

    Raises:
        DoorRefusal: it is not an object, or repeats a member.
    """
    try:
        return parse_json(data, max_bytes=MAX_BODY_BYTES)
    except InvalidJson:
        raise DoorRefusal(400, _NO_OBJECT) from None


def _read_value(mount: Mount, data: bytes) -> str:
    """Return the text to store for an object in the form of a mount.

    Raises:
        DoorRefusal: it has another form. The text has no part of it.
    """
    fields = _parse_object(data)
    if mount.form == "json":
        return data.decode()  # the object as it was sent
    match fields:
        case {"value": str(text)} if len(fields) == 1:
            return text
    raise DoorRefusal(
        400,
        f"the mount {mount.name} has the form flat: a secret is one text, in the field value;"
        ' next: send {"value": "…"}, or write at a mount with the form json',
    )


def _read_cas(options: Mapping[str, Any] | None) -> int | None:
    """Return the option `cas` of a write; None if there is none."""
    if options is None or options.get("cas") is None:
        return None
    return number_of(str(options["cas"]))


def _version_mismatch() -> DoorRefusal:
    return DoorRefusal(
        400,
        "check-and-set parameter did not match the current version; next: read the secret, and"
        " write with its version",
    )
