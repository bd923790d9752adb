"""HTTPS requests of the command line to one public host.

Example:
    async with https_response("GET", url, [], "", loopback_ca=None) as answer:
        answer.status
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import ClientResponse

from sealspace.errors import InvalidInput
from serving.messages import pack_parts
from serving.outbound import Outbound, RequestRefused, parse_request


@asynccontextmanager
async def https_response(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    body: str,
    *,
    loopback_ca: Path | None,
) -> AsyncIterator[ClientResponse]:
    """Send a request, and yield the response, whose body is not read yet.

    Args:
        method: HTTP method, such as GET.
        url: `https://…`; its host needs a public address.
        headers: name and value of each header, besides those that concern the connection.
        body: body of the request; it may be empty.
        loopback_ca: a file of certificates with which servers on loopback are reached instead.
    Raises:
        InvalidInput: the request is not allowed, or no valid response arrived; also inside the
            `async with` block.
    """
    address = urlsplit(url)
    # The request has the form in which programs on runners send it, so that the same rules apply.
    # The caller chose host and port, so this host is allowed, and each of its ports.
    texts = [method, url]
    for name, value in headers:
        texts += [name, value]
    texts.append(body)
    try:
        request = parse_request(
            pack_parts([text.encode() for text in texts]),
            hosts={address.netloc.partition(":")[0]},
            any_port=True,
        )
        async with (
            Outbound(loopback_ca=loopback_ca) as outbound,
            outbound.response(request) as response,
        ):
            yield response
    except RequestRefused as refused:
        # The code only: its cause could contain a part of a header.
        raise InvalidInput(
            f"no answer from {address.netloc}: {refused.code}",
            hint="check host, path and header; the host needs a public address",
        ) from None
