"""A client for collateral services: Intel's or a mirror.

It returns documents in the format in which they are stored.

| document | path below the base | issuer chain in header |
|---|---|---|
| TCB info | /tdx/…/tcb?fmspc= | TCB-Info-Issuer-Chain; some mirrors: SGX-TCB-Info-Issuer-Chain |
| QE identity | /tdx/…/qe/identity | SGX-Enclave-Identity-Issuer-Chain |
| PCK CRL | /sgx/…/pckcrl?ca=&encoding=der | SGX-PCK-CRL-Issuer-Chain |
| root CRL | a URL of its own; mirrors: /sgx/…/rootcacrl | – |
| evaluation numbers | /tdx/…/tcbevaluationdatanumbers | TCB-Evaluation-Data-Numbers-Issuer-Chain |

`…` is `certification/v4`. Chains are URL-encoded PEM. Revocation lists come as DER, PEM or hex
text. The two signed objects are cut out of their answers byte for byte.

Fetched documents are not trusted. Each is parsed and compared with the request. The caller then
verifies it (`collateral_trust.verify_collateral`) and compares it with the stored one
(`collateral_trust.check_replaces`), as if an operator had imported it. A service, or an impostor,
can withhold documents but cannot forge them. The exception is a PCK list without its authority
where none was stored; no quote passes with such a list (AT55).

Example:
    service = CollateralService()
    fetched = await service.collateral(quote.platform.fmspc, quote.platform.ca)
    verify_collateral(fetched, root=root, now=clock.now())

Source: Intel PCS API v4; Intel PCCS.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .attestation_errors import CollateralUnusable
from .certificates import MAX_CHAIN_BYTES, READER_ERRORS, PlatformCa
from .collateral import Collateral, parse_collateral, split_signed_body
from .evaluation_numbers import EvaluationNumbers, parse_evaluation_numbers

INTEL_SERVICE_URL = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

TIMEOUT_S = 10.0
"""Time limit for all requests of one document together."""
MAX_BODY_BYTES = 128 * 1024
"""Limit on one answer: the longest part of a document, in hex."""
MAX_RETRY_AFTER_S = 86_400.0
"""If a service asks for a longer wait, it is queried again after a day."""

UpdateMode = Literal["standard", "early"]

_FMSPC_BYTES = 6
_CHUNK_BYTES = 16 * 1024
# Only the form of Retry-After in seconds is read; a date is ignored.
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_HEX_TEXT = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
_PEM_CRL = b"-----BEGIN X509 CRL-----"
_BUSY = frozenset({429, 500, 502, 503, 504})


class ServiceSettings(NamedTuple):
    """Settings for requests to a collateral service."""

    base_url: str = INTEL_SERVICE_URL
    root_crl_url: str | None = INTEL_ROOT_CRL_URL
    update: UpdateMode = "standard"
    timeout_s: float = TIMEOUT_S


class _Answer(NamedTuple):
    """A response from the collateral service.

    `chain` is the PEM issuer chain from a response header, or empty.
    """

    body: bytes
    chain: str


class CollateralService:
    """A client for one collateral service.

    Each document uses its own connections, because documents are fetched only once a day.
    """

    def __init__(self, settings: ServiceSettings | None = None) -> None:
        self.settings = settings or ServiceSettings()

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Fetch the collateral for one platform family and certificate authority.

        Args:
            fmspc: platform family, 6 bytes.
            ca: the PCK authority.
        Returns:
            The parsed document in its stored form, for the requested family and authority.
        Raises:
            CollateralUnusable: `platform-unknown` or `evaluation-withdrawn`, the service has no
                such document.
            CollateralUnusable: `service-unavailable`, no answer in time, or a request to retry
                later.
            CollateralUnusable: `service-answer`, an answer that is too large, of another shape or
                about something else.
            ValueError: `fmspc` has the wrong size (a mistake of the calling code).
        Does not check:
            Signatures, validity, roles, and whether the stored document is newer.
        """
        if len(fmspc) != _FMSPC_BYTES:
            raise ValueError("an FMSPC must be 6 bytes long")
        mode = {"update": self.settings.update}
        tdx = f"{self.settings.base_url}/tdx/certification/v4"
        sgx = f"{self.settings.base_url}/sgx/certification/v4"
        async with self._open_http_session() as get:
            platform = {"fmspc": fmspc.hex().upper(), **mode}
            tcb_info = await get(
                f"{tdx}/tcb", platform, "TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"
            )
            identity = await get(f"{tdx}/qe/identity", mode, "SGX-Enclave-Identity-Issuer-Chain")
            pck_crl = await get(
                f"{sgx}/pckcrl", {"ca": ca, "encoding": "der"}, "SGX-PCK-CRL-Issuer-Chain"
            )
            root_crl = await get(self.settings.root_crl_url or f"{sgx}/rootcacrl", {})
        fetched = _join_responses(tcb_info, identity, pck_crl=pck_crl, root_crl=root_crl)
        # a service may confuse or withhold documents (AT30)
        if (fetched.fmspc, fetched.ca) != (fmspc, ca):
            raise CollateralUnusable(
                "service-answer",
                f"the service returned collateral for {fetched.fmspc.hex()} ({fetched.ca}) instead"
                f" of {fmspc.hex()} ({ca})",
            )
        return fetched

    async def evaluation_numbers(self) -> EvaluationNumbers:
        """Fetch Intel's list of TCB evaluation numbers.

        Raises:
            CollateralUnusable: the same errors as `collateral`.
        Does not check:
            Signature and validity: see `evaluation_numbers.verify_evaluation_numbers`.
        """
        url = f"{self.settings.base_url}/tdx/certification/v4/tcbevaluationdatanumbers"
        async with self._open_http_session() as get:
            answer = await get(url, {}, "TCB-Evaluation-Data-Numbers-Issuer-Chain")
        try:
            return parse_evaluation_numbers(answer.body, issuer_chain_pem=answer.chain)
        except CollateralUnusable as exc:
            raise CollateralUnusable(
                "service-answer", f"the list of evaluation numbers is not valid: {exc.detail}"
            ) from exc

    @asynccontextmanager
    async def _open_http_session(self) -> AsyncIterator[partial[Coroutine[Any, Any, _Answer]]]:
        """Open an HTTP session and yield a function for GET requests.

        All requests of the session share one time limit.
        """
        try:
            async with asyncio.timeout(self.settings.timeout_s), aiohttp.ClientSession() as session:
                yield partial(bounded_get, session)
        except TimeoutError as exc:
            raise CollateralUnusable("service-unavailable", "the request timed out") from exc


async def bounded_get(
    session: aiohttp.ClientSession, url: str, query: Mapping[str, str], *chain_headers: str
) -> _Answer:
    """Fetch a small document, and the issuer chain in the first of some headers.

    Raises:
        CollateralUnusable: the status is not 200, the answer is too large, or no answer comes.
    """
    # AT30: the size of a compressed body is unknown before it is decompressed, and a redirect could
    # lead to any host.
    headers = {"Accept-Encoding": "identity"}
    try:
        async with session.get(url, params=query, headers=headers, allow_redirects=False) as answer:
            _check_head(answer)
            body = bytearray()
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise CollateralUnusable(
                        "service-answer", f"the response has more than {MAX_BODY_BYTES} bytes"
                    )
            chains = [answer.headers[name] for name in chain_headers if name in answer.headers]
            # Without such a header, the issuer certificate chain is empty, which is refused later.
            pem = unquote_to_bytes(chains[0] if chains else "")
            if len(pem) > MAX_CHAIN_BYTES or not pem.isascii():
                raise CollateralUnusable(
                    "service-answer", "an issuer chain in a response header is not PEM"
                )
            return _Answer(bytes(body), pem.decode())
    except TimeoutError:
        raise  # it is an OSError too, but the session reports it as a timeout
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        # Only the type is reported: the error's text may contain bytes of the answer.
        raise CollateralUnusable(
            "service-unavailable", f"the request failed: {type(exc).__name__}"
        ) from exc


def _check_head(answer: aiohttp.ClientResponse) -> None:
    """Check the status and the encoding of a response."""
    status = f"the service responded with status {answer.status}"
    if answer.status == 404:
        raise CollateralUnusable("platform-unknown", status)
    if answer.status == 410:
        raise CollateralUnusable("evaluation-withdrawn", status)
    if answer.status in _BUSY:
        after = answer.headers.get("Retry-After", "")
        retry_after_s = None
        if _SECONDS.fullmatch(after):
            retry_after_s = min(float(after), MAX_RETRY_AFTER_S)
        raise CollateralUnusable("service-unavailable", status, retry_after_s=retry_after_s)
    if answer.status != 200:
        raise CollateralUnusable("service-answer", status)
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise CollateralUnusable("service-answer", "the response body is compressed")


def _join_responses(
    tcb_info: _Answer, identity: _Answer, *, pck_crl: _Answer, root_crl: _Answer
) -> Collateral:
    """Join the responses of a service to one document, and parse it."""
    try:
        tcb_text, tcb_signature = split_signed_body(
            tcb_info.body, member="tcbInfo", max_bytes=MAX_BODY_BYTES
        )
        qe_text, qe_signature = split_signed_body(
            identity.body, member="enclaveIdentity", max_bytes=MAX_BODY_BYTES
        )
        document = {
            "pck_crl_issuer_chain": pck_crl.chain,
            "root_ca_crl": _convert_crl(root_crl.body).hex(),
            "pck_crl": _convert_crl(pck_crl.body).hex(),
            "tcb_info_issuer_chain": tcb_info.chain,
            "tcb_info": tcb_text,
            "tcb_info_signature": tcb_signature,
            "qe_identity_issuer_chain": identity.chain,
            "qe_identity": qe_text,
            "qe_identity_signature": qe_signature,
        }
        return parse_collateral(json.dumps(document).encode())
    except CollateralUnusable as exc:
        raise CollateralUnusable("service-answer", f"{exc.code}: {exc.detail}") from exc


def _convert_crl(body: bytes) -> bytes:
    """Convert a revocation list in PEM, hex or DER to DER.

    The bytes are checked when the document is parsed.
    """
    text = body.strip()
    if text.startswith(_PEM_CRL):
        try:
            return x509.load_pem_x509_crl(text).public_bytes(Encoding.DER)
        except READER_ERRORS as exc:
            raise CollateralUnusable("service-answer", "a revocation list is not PEM") from exc
    if _HEX_TEXT.fullmatch(text):
        return bytes.fromhex(text.decode())
    return body
