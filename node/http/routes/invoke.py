"""POST /invoke: everything that a token's capabilities ask for (wire §4)."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from functools import partial
from typing import Final

from aiohttp import web

from capabilities.errors import CapabilityError, WrongKind
from capabilities.tokens import Invocation
from encryption_network.errors import BodyTooLarge as DecryptBodyTooLarge
from encryption_network.errors import EncryptionError
from encryption_network.requests import MAX_BODY_BYTES

from ...counts import Operation
from ...operations.authorise import admit_token, read_call
from ...operations.delegations.service_plan import service_step
from ...operations.errors import BodyTooLarge, NotEnabled
from ...operations.kinds import check_call
from ...operations.releases.decrypt import decrypt_invoked
from ...operations.values.conditions import NO_OPTIONS, Options, asks, parse_options
from ...operations.values.kv_batch import BatchUpload, Part, delete_all, put_all, read_all
from ...operations.values.kv_get import get, metadata
from ...operations.values.kv_list import list_granted
from ...operations.values.kv_write import Upload, Written, delete, put
from ...operations.values.plan import Branch, Kind, Plan, Step, Verb, branch_of, kv_steps, only_step, plan_of, shape_of
from ...services import SERVICES, Services
from ..messages.answers import WireText, bytes_answer, empty_answer, json_answer
from ..messages.clients import client_address
from ..messages.multipart import boundary_of, multipart_parts, part_path
from ..messages.pages import FrameworkPage
from ..messages.request_bodies import body_at_hand, body_pieces, limited_body
from ..messages.route import OPERATION
from ..messages.token_header import token_of
from ..messages.value_answers import batch_read_answer, value_answer
from .invoked_services import answer_service

_STORED: Final = frozenset({"content-type", "content-encoding", "content-language", "content-disposition"})
_STORED_PREFIX: Final = "x-tinycloud-meta-"
_OPERATIONS: Final[Mapping[Verb, Operation]] = {
    Verb.GET: "kv_get",
    Verb.METADATA: "kv_metadata",
    Verb.LIST: "kv_list",
    Verb.PUT: "kv_put",
    Verb.DELETE: "kv_delete",
}
_CACHE: Final = {"Cache-Control": "private, no-cache"}


async def post_invocation(request: web.Request) -> web.StreamResponse:
    """Answer what the token's capabilities ask for; they alone choose the operation."""
    services = request.app[SERVICES]
    invocation = admit_token(
        token_of(request), now=services.clock.now(), max_lifetime_s=services.config.invocation.max_lifetime_s
    )
    step, headers = only_step(invocation.capabilities), request.headers
    multipart = headers.get("Content-Type", "").lower().startswith("multipart/form-data")
    if step is not None and not multipart and not asks(headers) and not invocation.facts:
        return await _run(services, invocation, step, NO_OPTIONS, request)
    branch = branch_of(invocation.capabilities)
    if branch is Branch.DECRYPT:
        _note(services, request, "decrypt")
        return await _decrypt(services, invocation, request)
    check_call(invocation)  # T12
    if branch is Branch.KV:
        return await _kv(services, invocation, request, multipart=multipart)
    call = await read_call(services, invocation, claiming=True)
    call.require_hosted()
    raise NotEnabled("SQL" if branch is Branch.SQL else "DuckDB")


async def _kv(
    services: Services, invocation: Invocation, request: web.Request, *, multipart: bool
) -> web.StreamResponse:
    steps = kv_steps(invocation.capabilities)
    options = NO_OPTIONS
    if asks(request.headers):
        options = parse_options(_lowered(request), shape_of(steps, multipart=multipart))  # I9
    plan = plan_of(invocation.capabilities, steps, multipart=multipart)  # I10, Q3
    if len(steps) < len(invocation.capabilities):  # some of them are no steps
        service = service_step(invocation.capabilities, beside=bool(steps))  # Q3
        if service is not None:
            return await answer_service(services, invocation, service, request)
    match plan.kind:
        case Kind.NOTHING:
            call = await read_call(services, invocation, claiming=True)
            call.require_hosted()
            return empty_answer()
        case Kind.ONE:
            return await _run(services, invocation, plan.steps[0], options, request)
        case Kind.READS:
            _note(services, request, "kv_batch")
            bodies = plan.steps[0].verb is Verb.GET
            found = await read_all(services, invocation, plan.steps, options, bodies=bodies)
            return await batch_read_answer(request, services, found, bodies=bodies)
        case Kind.PUTS:
            _note(services, request, "kv_batch")
            return await _put_all(services, invocation, plan, request)
        case Kind.DELETES:
            _note(services, request, "kv_batch")
            await delete_all(services, invocation, plan.steps)
            return empty_answer()


def _run(
    services: Services, invocation: Invocation, step: Step, options: Options, request: web.Request
) -> Awaitable[web.StreamResponse]:
    if services.tally is not None:
        _note(services, request, _OPERATIONS[step.verb])
    match step.verb:
        case Verb.GET:
            return _get(services, invocation, step, options, request)
        case Verb.PUT:
            return _put(services, invocation, step, options, request)
        case Verb.METADATA:
            return _metadata(services, invocation, step)
        case Verb.LIST:
            return _list(services, invocation, step, options)
        case Verb.DELETE:
            return _delete(services, invocation, step, options)


def _note(services: Services, request: web.Request, operation: Operation) -> None:
    """Say what is asked for, where somebody counts it: a request without notes is answered quicker (`last_id`)."""
    if services.tally is not None:
        request[OPERATION] = operation


async def _get(
    services: Services, invocation: Invocation, step: Step, options: Options, request: web.Request
) -> web.StreamResponse:
    value = await get(services, invocation, step, options)
    body, headers = value.body, {**value.head.metadata, "ETag": value.head.etag_header, **_CACHE}
    if body is None:
        return bytes_answer(b"", headers=headers, status=304)
    if isinstance(body, bytes):
        return bytes_answer(body, headers=headers)
    return await value_answer(request, body, headers)


async def _metadata(services: Services, invocation: Invocation, step: Step) -> web.Response:
    head = (await metadata(services, invocation, step)).head
    return bytes_answer(b"", headers={**head.metadata, "ETag": head.etag_header})


async def _list(services: Services, invocation: Invocation, step: Step, options: Options) -> web.Response:
    listed = await list_granted(services, invocation, step, options)
    headers = {"x-tinycloud-truncated": "false" if listed.next_cursor is None else "true"}
    if listed.next_cursor is not None:
        headers["x-tinycloud-next-cursor"] = listed.next_cursor
    return json_answer(listed.paths, headers=headers)


async def _put(
    services: Services, invocation: Invocation, step: Step, options: Options, request: web.Request
) -> web.Response:
    return _written(await put(services, invocation, step, options, _upload(services, request)))


async def _delete(services: Services, invocation: Invocation, step: Step, options: Options) -> web.Response:
    return _written(await delete(services, invocation, step, options))


def _upload(services: Services, request: web.Request) -> Upload:
    return Upload(
        at_hand=partial(_value_at_hand, services, request),
        pieces=partial(_value_pieces, services, request),
        declared_bytes=request.content_length,
        metadata=_stored(request.headers),
        client=client_address(request, services.config.http),
    )


def _value_at_hand(services: Services, request: web.Request) -> bytes | None:
    limit_bytes = services.config.http.max_body_bytes
    try:
        return body_at_hand(request, max_bytes=limit_bytes)
    except FrameworkPage:
        raise BodyTooLarge(limit_bytes) from None  # Q2


async def _value_pieces(services: Services, request: web.Request) -> AsyncIterator[bytes]:
    http = services.config.http
    limit_bytes = http.max_body_bytes
    try:
        async for piece in body_pieces(request, max_bytes=limit_bytes, idle_s=http.idle_body_s):
            yield piece
    except FrameworkPage as page:
        if page.status != 413:
            raise
        raise BodyTooLarge(limit_bytes) from None  # Q2


async def _put_all(services: Services, invocation: Invocation, plan: Plan, request: web.Request) -> web.Response:
    boundary = boundary_of(request.headers["Content-Type"])

    async def parts() -> AsyncIterator[Part]:
        async for part in multipart_parts(_value_pieces(services, request), boundary):
            yield Part(part_path(part.name), _stored(part.headers), part.pieces)

    upload = BatchUpload(parts=parts, client=client_address(request, services.config.http))
    written = await put_all(services, invocation, plan.steps, upload)
    return json_answer({"written": written, "count": len(written)})


def _stored(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of some headers, by lower-case name; of a repeated one the last value (4.4.3)."""
    return {
        name: value
        for key, value in headers.items()
        if (name := key.lower()) in _STORED or name.startswith(_STORED_PREFIX)
    }


def _lowered(request: web.Request) -> Mapping[str, str]:
    """Return the headers by lower-case name; of a repeated one the last value (4.4.3)."""
    return {name.lower(): value for name, value in request.headers.items()}


def _written(written: Written) -> web.Response:
    if written.etag is None:
        return empty_answer()
    return bytes_answer(b"", headers={"ETag": written.etag})


async def _decrypt(services: Services, invocation: Invocation, request: web.Request) -> web.Response:
    """Open a key; after admission every refusal of this branch is 403 (4.8), but that of another kind (T9)."""
    try:
        body = await _decrypt_body(request)
        return json_answer(await decrypt_invoked(services, invocation, body))
    except EncryptionError as error:
        raise WireText(error.status_invoke, error.invoke_text) from error
    except WrongKind:
        raise
    except CapabilityError as error:
        raise WireText(403, error.text) from error


async def _decrypt_body(request: web.Request) -> bytes:
    try:
        return await limited_body(request, max_bytes=MAX_BODY_BYTES)
    except FrameworkPage:
        raise DecryptBodyTooLarge(MAX_BODY_BYTES) from None
