"""Answers of POST /invoke: how each kind of result is laid out (wire §4.4 to §4.8).

A result that is of no kind of its own is JSON.
"""

from typing import Final

from aiohttp import web

from spaces.values.value_heads import Head

from ...operations.delegations.read_capabilities import GrantChain, GrantList
from ...operations.delegations.space_service import SpaceList
from ...operations.values.kv_batch import BatchFound, BatchWritten
from ...operations.values.kv_get import Value
from ...operations.values.kv_list import Paths
from ...operations.values.kv_write import Written
from ...services import Services
from .answers import bytes_answer, empty_answer, json_answer
from .value_answers import batch_read_answer, value_answer

_CACHE: Final = {"Cache-Control": "private, no-cache"}


async def invocation_answer(request: web.Request, services: Services, result: object) -> web.StreamResponse:
    """Return the answer that holds a result.

    Args:
        request: what is answered.
        result: what a row's run returned; an open body in it is closed.
    Raises:
        As `value_answer`.
    """
    match result:
        case Value(head, body):
            headers = {**head.metadata, "ETag": head.etag_header, **_CACHE}
            if body is None:
                return bytes_answer(b"", headers=headers, status=304)
            return (
                bytes_answer(body, headers=headers)
                if isinstance(body, bytes)
                else await value_answer(request, body, headers)
            )
        case Written(etag):
            return empty_answer() if etag is None else bytes_answer(b"", headers={"ETag": etag})
        case Paths():
            return _paths(result)
        case Head():
            return bytes_answer(b"", headers={**result.metadata, "ETag": result.etag_header})
        case BatchFound(items, bodies):
            return await batch_read_answer(request, services, items, bodies=bodies)
        case BatchWritten(paths):
            return json_answer({"written": paths, "count": len(paths)})
        case GrantList(entries, truncated) | GrantChain(entries, truncated) | SpaceList(entries, truncated):
            # An answer says whether a list is whole only where it is not: no client expects it here.
            return json_answer(entries, headers={"x-tinycloud-truncated": "true"} if truncated else None)
        case None:
            return empty_answer()
        case _:
            return json_answer(result)


def _paths(listed: Paths) -> web.Response:
    if listed.next_cursor is None:
        return json_answer(listed.paths, headers={"x-tinycloud-truncated": "false"})
    headers = {"x-tinycloud-truncated": "true", "x-tinycloud-next-cursor": listed.next_cursor}
    return json_answer(listed.paths, headers=headers)
