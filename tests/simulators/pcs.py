"""A simulation of Intel's collateral service on loopback, with faults on request."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tee_backend.attestation.collateral import parse_collateral

Respond = Callable[[web.Request, web.Response], web.StreamResponse]

TCB = "/tdx/certification/v4/tcb"
IDENTITY = "/tdx/certification/v4/qe/identity"
PCK_CRL = "/sgx/certification/v4/pckcrl"
ROOT_CRL = "/sgx/certification/v4/rootcacrl"
NUMBERS = "/tdx/certification/v4/tcbevaluationdatanumbers"
CERTIFICATES = "/IntelSGXRootCA.der"


@dataclass
class PcsSimulator:
    """A simulated collateral service: its documents and its faults.

    Attributes:
        standard: documents by FMSPC in upper-case hex: the edition that is served without a number.
        early: the same for `update=early`; the standard one where absent.
        numbers: body and issuer chain of the list of evaluation numbers.
        instead: for a path, what to make of the answer.
        gate: a path's requests wait for it.
        asked: how often each path was asked.
        queries: the last query of each path.
        as_text: the PCK CRL as PEM, as some mirrors give it.
        tcb_header: name of the header with the TCB info's chain.
        url: where it listens.
    """

    standard: dict[str, dict[str, Any]] = field(default_factory=dict)
    early: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: tuple[bytes, str] | None = None
    instead: dict[str, Respond] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    asked: Counter[str] = field(default_factory=Counter)
    queries: dict[str, dict[str, str]] = field(default_factory=dict)
    as_text: bool = False
    tcb_header: str = "TCB-Info-Issuer-Chain"
    url: str = ""

    def publish(self, document: bytes, *, early: bool = False) -> None:
        """Publish a document in its stored form."""
        fmspc = parse_collateral(document).fmspc.hex().upper()
        (self.early if early else self.standard)[fmspc] = json.loads(document)

    def answer_of(self, request: web.Request) -> web.Response:
        """Return the answer that a service without faults gives."""
        path, query = request.path, request.query
        if path == NUMBERS:
            return self._numbers()
        if "update" in query and "tcbEvaluationDataNumber" in query:
            return web.Response(status=400)
        documents = self._editions(query)
        if path == TCB:
            document = documents.get(query.get("fmspc", "").upper())
            return (
                web.Response(status=self._absent(query))
                if document is None
                else self.tcb_answer(document)
            )
        document = next(iter(documents.values()), None)
        if document is None:
            return web.Response(status=404)
        return self._shared(path, document)

    def _editions(self, query: Any) -> dict[str, dict[str, Any]]:
        if "tcbEvaluationDataNumber" in query:
            number = int(query["tcbEvaluationDataNumber"])
            every = [*self.standard.items(), *self.early.items()]
            return {
                name: d
                for name, d in every
                if json.loads(d["tcb_info"])["tcbEvaluationDataNumber"] == number
            }
        return self.standard | self.early if query.get("update") == "early" else self.standard

    def _absent(self, query: Any) -> int:
        known = query.get("fmspc", "").upper() in self.standard
        return 410 if known and "tcbEvaluationDataNumber" in query else 404

    def _numbers(self) -> web.Response:
        if self.numbers is None:
            return web.Response(status=404)
        body, chain = self.numbers
        return web.Response(
            body=body, headers={"TCB-Evaluation-Data-Numbers-Issuer-Chain": quote(chain)}
        )

    def tcb_answer(self, document: dict[str, Any]) -> web.Response:
        """Return the answer about a platform family from a document."""
        body = (
            f'{{"tcbInfo":{document["tcb_info"]},"signature":"{document["tcb_info_signature"]}"}}'
        )
        return web.Response(
            text=body, headers={self.tcb_header: quote(document["tcb_info_issuer_chain"])}
        )

    def _shared(self, path: str, document: dict[str, Any]) -> web.Response:
        if path == IDENTITY:
            signature = document["qe_identity_signature"]
            body = f'{{"enclaveIdentity":{document["qe_identity"]},"signature":"{signature}"}}'
            chain = quote(document["qe_identity_issuer_chain"])
            return web.Response(text=body, headers={"SGX-Enclave-Identity-Issuer-Chain": chain})
        if path == PCK_CRL:
            headers = {"SGX-PCK-CRL-Issuer-Chain": quote(document["pck_crl_issuer_chain"])}
            return web.Response(body=self._list(document["pck_crl"]), headers=headers)
        if path == ROOT_CRL:
            return web.Response(text=document["root_ca_crl"])
        return web.Response(body=bytes.fromhex(document["root_ca_crl"]))

    def _list(self, der_hex: str) -> bytes:
        der = bytes.fromhex(der_hex)
        return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) if self.as_text else der


@asynccontextmanager
async def pcs_on_loopback(service: PcsSimulator) -> AsyncIterator[PcsSimulator]:
    """Listen on a free port of loopback until the block ends."""

    async def handle(request: web.Request) -> web.StreamResponse:
        service.asked[request.path] += 1
        service.queries[request.path] = dict(request.query)
        if service.gate is not None:
            await service.gate.wait()
        answer = service.answer_of(request)
        change = service.instead.get(request.path)
        return answer if change is None else change(request, answer)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()
