"""The operator's HTTP routes for quotas and usage (wire §5.12).

They need an operator secret.
"""

from typing import Annotated

import msgspec
from aiohttp import web

from spaces.values.quota import Usage, largest_spaces

from ...operations.values.admin_quota import (
    AllOverrides,
    QuotaView,
    all_overrides,
    set_quota,
    show_quota,
)
from ...refusal import Refusal
from ...services import SERVICES, Services
from ..messages.http_requests import json_body, whole_number

MAX_BODY_BYTES = 4096
DEFAULT_USAGE_SPACES = 1000
MAX_USAGE_SPACES = 10_000


class QuotaRequest(msgspec.Struct):
    """A request to set the storage limit of a space.

    The limit is at most 2^62 bytes.
    """

    limit_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


async def get_quotas(request: web.Request) -> AllOverrides:
    """GET /admin/quota: list the storage limits of spaces.

    The response contains the default limit, and the spaces with a limit of their own.
    """
    services = _opened(request)
    return await all_overrides(services.store, services.config)


async def get_quota(request: web.Request) -> QuotaView:
    """GET /admin/quota/<space>: show the storage limits and the usage of a space."""
    services = _opened(request)
    return await show_quota(services.store, services.config, request.match_info["space"])


async def put_quota(request: web.Request) -> QuotaView:
    """PUT /admin/quota/<space>: set the storage limit of a space."""
    services = _opened(request)
    body = await json_body(request, QuotaRequest, max_bytes=MAX_BODY_BYTES)
    return await _set(services, request, body.limit_bytes)


async def delete_quota(request: web.Request) -> QuotaView:
    """DELETE /admin/quota/<space>: reset a space to the default storage limit."""
    return await _set(_opened(request), request, None)


async def get_usage(request: web.Request) -> Usage:
    """GET /admin/usage: list the spaces that use the most storage.

    The response contains the number of all spaces. The query `limit` is the length of the list.
    """
    services = _opened(request)
    limit = whole_number(request, "limit", default=DEFAULT_USAGE_SPACES)
    return await largest_spaces(services.store, limit=min(max(limit, 1), MAX_USAGE_SPACES))


async def no_route(request: web.Request) -> web.Response:
    """Refuse a request below /admin that matches no other route."""
    if request.app[SERVICES].admin_key is None:
        raise Refusal("operator-absent")
    raise Refusal("not-found")


async def _set(services: Services, request: web.Request, limit_bytes: int | None) -> QuotaView:
    return await set_quota(
        services.store,
        services.config,
        request.match_info["space"],
        limit_bytes,
        now=services.now(),
        entropy=services.entropy,
    )


def _opened(request: web.Request) -> Services:
    """Check the operator's secret in a request, and return the node's services.

    A request without the secret is refused.
    """
    services = request.app[SERVICES]
    if services.admin_key is None:
        raise Refusal("operator-absent")
    if not services.admin_key.opens(request.headers.get("Authorization", "")):
        raise Refusal("operator-locked")
    return services
