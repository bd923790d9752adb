"""Routes that describe the node and report its health (wire 5.1, 7.1)."""

import re
from importlib.resources import files

import msgspec
from aiohttp import web
from blake3 import blake3

from capabilities.frozen_struct import FrozenStruct
from encryption_network.release_record import INTEL_ROOT_SHA256
from sealspace import __version__
from sealspace.service.listening_socket import console_url

from ...operations.readiness import PROBE
from ...operations.values.conditions import matches_weakly
from ...release_terms import current_release, in_force
from ...services import SERVICES
from ..messages.http_answers import WholeAnswer, empty_answer, json_answer, text_answer
from ..messages.http_requests import check_rate_limit
from .console import CONSOLE

_DOCUMENT = files(__package__).joinpath("openapi.json").read_bytes()
_ETAG = f'"blake3-{blake3(_DOCUMENT).hexdigest()}"'
_HEADERS = {"ETag": _ETAG, "Cache-Control": "public, max-age=300"}


async def get_description(request: web.Request) -> web.Response:
    """GET /openapi.json: return the OpenAPI description of all routes."""
    check_rate_limit(request, request.app[SERVICES].public_rates)
    if matches_weakly(request.headers.get("If-None-Match"), _ETAG):
        return WholeAnswer(b"", _HEADERS, 304)
    return WholeAnswer(_DOCUMENT, {**_HEADERS, "Content-Type": "application/json"})


PROTOCOL = 1  # clients stop at any other number (J1)
FEATURES = ("kv", "delegation", "sharing", "signed-urls", "encryption", "kv-sync-v1", "attestation")


FRONT = """\
This is a sealspace node. It serves programs.

GET /info          what it is
GET /healthz       whether it runs
GET /readyz        whether it can write
GET /openapi.json  its routes, as OpenAPI describes them

To use it, install sealspace (see its README), run sealspace login with this address, then
sealspace --help. The documentation is in README.md and the folder spec of the project sealspace.
"""
"""The text of /; where a console is served, its address follows."""


class ServiceInformation(FrozenStruct, omit_defaults=True, rename="camel"):
    """The response body of /info.

    The field order is fixed, because existing clients rely on it.
    """

    protocol: int
    version: str
    features: tuple[str, ...]
    node_id: str
    in_tee: bool = msgspec.field(name="inTEE")
    attestation: str
    trust_roots: tuple[str, ...] = ()
    sms_did: str | None = None
    oidc_did: str = ""


_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|\[::1\]|localhost)(?::[0-9]{1,5})?", re.ASCII)


async def get_front(request: web.Request) -> web.Response:
    """GET /: return a plain-text introduction to the node.

    It names the console if the node serves one. The `Host` header is repeated only if it is an
    address of the client's own machine.
    """
    if CONSOLE not in request.app:
        return text_answer(FRONT)
    where = "/console/ at this address"
    if _LOOPBACK.fullmatch(request.host):
        where = console_url(f"http://{request.host}")
    return text_answer(f"{FRONT}\nFor people: open {where} in a browser.\n")


async def get_information(request: web.Request) -> ServiceInformation:
    """GET /info and /version: describe the node and its features.

    The response contains the node's DID, version, features and attestation mode.

    The attestation mode in force is public, and so is a trust root other than Intel's: evidence
    under such a root proves only what its owner wants (AT26).
    """
    services = request.app[SERVICES]
    record = await current_release(services.store)
    sms_did = None
    if services.config.sms.listen:  # the service for iExec's clients is on
        sms_did = services.keyring.sms_signer.did
    return ServiceInformation(
        protocol=PROTOCOL,
        version=__version__,
        features=FEATURES if services.databases is None else (*FEATURES, "sql"),
        node_id=services.keyring.node_did,
        in_tee=services.own_quotes is not None,
        attestation=in_force(services.config.release, record).mode,
        trust_roots=tuple(root.hex() for root in record.trust_roots if root != INTEL_ROOT_SHA256),
        sms_did=sms_did,
        oidc_did=services.keyring.exchange_signer.did,
    )


async def get_health(request: web.Request) -> web.Response:
    """GET /healthz: report whether the process and its store respond."""
    try:
        await request.app[SERVICES].store.read(keys=())
    except Exception:  # any error means unhealthy; /readyz names it
        return empty_answer(500)
    return empty_answer()


async def get_readiness(request: web.Request) -> web.Response:
    """GET /readyz: report whether the node is ready.

    The response contains the result of each check.
    """
    report = await request.app[PROBE].check(request.app[SERVICES])
    return json_answer(report, status=200 if report.ready else 503)
