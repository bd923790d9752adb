"""POST /invoke: everything that a token's capabilities ask for (wire §4)."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from capabilities.errors import CapabilityError
from capabilities.tokens import Invocation
from encryption_network.errors import BodyTooLarge as DecryptBodyTooLarge
from encryption_network.errors import EncryptionError
from encryption_network.requests import MAX_BODY_BYTES

from ..answers import WireText, bytes_answer, empty_answer, json_answer
from ..bodies import limited_body
from ..clients import client_address
from ..operations.authorise import admit_token, read_call
from ..operations.conditions import Options, parse_options
from ..operations.decrypt import decrypt_invoked
from ..operations.errors import BodyTooLarge, NotEnabled
from ..operations.kv_get import Value, get, metadata
from ..operations.kv_list import list_granted
from ..operations.kv_write import Upload, Written, delete, put
from ..operations.plan import Branch, Step, Verb, branch_of, kv_steps, only_step, reads_capabilities, shape_of
from ..pages import FrameworkPage
from ..services import SERVICES, Services
from ..token_header import token_of

_STORED: Final = frozenset({"content-type", "content-encoding", "content-language", "content-disposition"})
_STORED_PREFIX: Final = "x-tinycloud-meta-"
_CACHE: Final = {"Cache-Control": "private, no-cache"}


async def post_invocation(request: web.Request) -> web.Response:
    """Answer what the token's capabilities ask for; they alone choose the operation."""
    services = request.app[SERVICES]
    invocation = admit_token(
        token_of(request), now=services.clock.now(), max_lifetime_s=services.config.invocation.max_lifetime_s
    )
    branch = branch_of(invocation.capabilities)
    if branch is Branch.DECRYPT:
        return await _decrypt(services, invocation, request)
    if branch is Branch.KV:
        return await _kv(services, invocation, request)
    call = await read_call(services, invocation, claiming=True)
    call.require_hosted()
    raise NotEnabled("SQL" if branch is Branch.SQL else "DuckDB")


async def _kv(services: Services, invocation: Invocation, request: web.Request) -> web.Response:
    multipart = request.headers.get("Content-Type", "").lower().startswith("multipart/form-data")
    steps = kv_steps(invocation.capabilities)
    options = parse_options(_lowered(request), shape_of(steps, multipart=multipart))  # I9
    step = only_step(steps, multipart=multipart)  # I10, Q3
    if step is None:
        call = await read_call(services, invocation, claiming=True)
        call.require_hosted()
        if reads_capabilities(invocation.capabilities):
            raise NotEnabled("capabilities/read")
        return empty_answer()
    return await _run(services, invocation, step, options, request)


async def _run(
    services: Services, invocation: Invocation, step: Step, options: Options, request: web.Request
) -> web.Response:
    match step.verb:
        case Verb.GET:
            return _value(await get(services, invocation, step, options))
        case Verb.METADATA:
            return _metadata(await metadata(services, invocation, step))
        case Verb.LIST:
            listed = await list_granted(services, invocation, step, options)
            headers = {"x-tinycloud-truncated": "false" if listed.next_cursor is None else "true"}
            if listed.next_cursor is not None:
                headers["x-tinycloud-next-cursor"] = listed.next_cursor
            return json_answer(listed.paths, headers=headers)
        case Verb.PUT:
            return _written(await put(services, invocation, step, options, _upload(services, request)))
        case Verb.DELETE:
            return _written(await delete(services, invocation, step, options))


def _upload(services: Services, request: web.Request) -> Upload:
    limit_bytes = services.config.http.max_body_bytes

    async def read_body() -> bytes:
        try:
            return await limited_body(request, max_bytes=limit_bytes)
        except FrameworkPage:
            raise BodyTooLarge(limit_bytes) from None  # Q2

    stored = {name: value for name, value in _lowered(request).items() if _is_stored(name)}
    return Upload(read_body=read_body, metadata=stored, client=client_address(request, services.config.http))


def _is_stored(name: str) -> bool:
    return name in _STORED or name.startswith(_STORED_PREFIX)


def _lowered(request: web.Request) -> Mapping[str, str]:
    """Return the headers by lower-case name; of a repeated one the last value (4.4.3)."""
    return {name.lower(): value for name, value in request.headers.items()}


def _value(value: Value) -> web.Response:
    headers = {**value.head.metadata, "ETag": value.head.etag_header, **_CACHE}
    if value.body is None:
        return bytes_answer(b"", headers=headers, status=304)
    return bytes_answer(value.body, headers=headers)


def _metadata(value: Value) -> web.Response:
    return bytes_answer(b"", headers={**value.head.metadata, "ETag": value.head.etag_header})


def _written(written: Written) -> web.Response:
    if written.etag is None:
        return empty_answer()
    return bytes_answer(b"", headers={"ETag": written.etag})


async def _decrypt(services: Services, invocation: Invocation, request: web.Request) -> web.Response:
    """Open a key; after admission every refusal of this branch is 403 (4.8)."""
    try:
        body = await _decrypt_body(request)
        return json_answer(await decrypt_invoked(services, invocation, body))
    except EncryptionError as error:
        raise WireText(error.status_invoke, error.invoke_text) from error
    except CapabilityError as error:
        raise WireText(403, error.text) from error


async def _decrypt_body(request: web.Request) -> bytes:
    try:
        return await limited_body(request, max_bytes=MAX_BODY_BYTES)
    except FrameworkPage:
        raise DecryptBodyTooLarge(MAX_BODY_BYTES) from None
