"""The network address of the caller: the peer, or what a trusted proxy says of it (Q12).

A forwarded header counts only from an address of `http.trusted_proxies`; then the last address in `X-Forwarded-For`
that is not itself a trusted proxy is the client. A proxy that sends no `X-Forwarded-For` may send `X-Real-IP`.
"""

from collections.abc import Sequence
from ipaddress import ip_network

from aiohttp import web

from tee_backend.rates import parsed_address

from ...config.tree import Http


def client_address(request: web.Request, http: Http) -> str | None:
    """Return the client's address in text; None for a caller without one (a Unix socket).

    Does not check:
        The identity of the client: behind a trusted proxy this is the proxy's statement.
    """
    peer = request.remote
    if peer is None or not http.trusted_proxies or not _is_within(peer, http.trusted_proxies):
        return peer
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    for hop in reversed([_without_port(part.strip()) for part in forwarded.split(",") if part.strip()]):
        if not _is_within(hop, http.trusted_proxies):
            return hop
    if not forwarded.strip():
        return request.headers.get("X-Real-IP", "").strip() or peer
    return peer


def _without_port(hop: str) -> str:
    """Return an address without the port of the connection, which some proxies add."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def is_proxy(peer: str | None, http: Http) -> bool:
    """Whether a connection's peer is a trusted proxy, which serves many clients."""
    return peer is not None and _is_within(peer, http.trusted_proxies)


def _is_within(address: str, networks: Sequence[str]) -> bool:
    parsed = parsed_address(address)
    return parsed is not None and any(parsed in ip_network(network, strict=False) for network in networks)
