"""Fetching collateral from a service on loopback that is correct, slow, oversized, lying or
outdated."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from deviating_platform import CollateralOptions, SimulatedPlatform, start_of
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.pcs import (
    CERTIFICATES,
    IDENTITY,
    NUMBERS,
    PCK_CRL,
    ROOT_CRL,
    TCB,
    PcsSimulator,
    Respond,
    pcs_on_loopback,
)
from tests_support import shared_vectors

from tee_backend.attestation.attestation_errors import AttestationError, CollateralUnusable
from tee_backend.attestation.collateral import check_not_older, parse_collateral
from tee_backend.attestation.collateral_trust import verify_collateral, verify_signed_text
from tee_backend.attestation.pcs import MAX_BODY_BYTES, CollateralService, ServiceSettings
from tee_backend.attestation.trust_root import TrustRoot, intel_root

DAY_S = 86_400.0
EVERY_PATH = (TCB, IDENTITY, PCK_CRL, CERTIFICATES)


@pytest.fixture
async def pcs(document: bytes) -> AsyncIterator[PcsSimulator]:
    """A service that publishes the simulated platform's collateral."""
    async with pcs_on_loopback(PcsSimulator()) as service:
        service.publish(document)
        yield service


@asynccontextmanager
async def asking(pcs: PcsSimulator, **changes: Any) -> AsyncIterator[CollateralService]:
    """Query the service as a node does."""
    settings = ServiceSettings(base_url=pcs.url, root_crl_url=pcs.url + CERTIFICATES)
    yield CollateralService(settings._replace(**changes))


async def test_the_stored_form(
    pcs: PcsSimulator, document: bytes, machine: SimulatedPlatform
) -> None:
    """A fetched document equals the published one; signed texts are identical byte for byte
    (AT30)."""
    async with asking(pcs) as service:
        fetched = await service.collateral(machine.fmspc, "platform")
    assert json.loads(document) == json.loads(fetched.raw)
    assert machine.fmspc == fetched.fmspc
    assert fetched.ca == "platform"
    assert dict.fromkeys(EVERY_PATH, 1) == pcs.asked
    assert {"fmspc": machine.fmspc.hex().upper(), "update": "standard"} == pcs.queries[TCB]
    assert {"update": "standard"} == pcs.queries[IDENTITY]


async def test_a_fetched_document_verifies(
    pcs: PcsSimulator, machine: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """Signatures verify over the texts cut out of the answers, even with line breaks in them."""
    async with asking(pcs) as service:
        verify_collateral((await service.collateral(machine.fmspc, "platform")), root=root, now=now)
        pcs.publish(machine.collateral_json(now, options=CollateralOptions(indented=True)))
        fetched = await service.collateral(machine.fmspc, "platform")
    assert "\n" in fetched.tcb_info.text
    verify_collateral(fetched, root=root, now=now)


async def test_a_mirror(pcs: PcsSimulator, document: bytes, machine: SimulatedPlatform) -> None:
    """A mirror's hex root CRL, PEM lists and other header name are accepted."""
    pcs.as_text, pcs.tcb_header = True, "SGX-TCB-Info-Issuer-Chain"
    async with asking(pcs, root_crl_url=None) as service:
        fetched = await service.collateral(machine.fmspc, "platform")
    assert json.loads(document) == json.loads(fetched.raw)
    assert 1 == pcs.asked[ROOT_CRL]


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    ["90c0_2026-02", "20a0_2026-06_outlayer", "b0c0_2026-08_outlayer", "b0c0_2026-08_eval20"],
)
async def test_genuine_documents(name: str) -> None:
    """Genuine documents are unchanged by fetching, and verify under the production root."""
    data = shared_vectors(f"tdx/collateral/{name}.json").read_bytes()
    held = parse_collateral(data)
    pcs = PcsSimulator()
    pcs.publish(data)
    async with pcs_on_loopback(pcs), asking(pcs) as service:
        fetched = await service.collateral(held.fmspc, held.ca)
    verify_collateral(fetched, root=intel_root(), now=start_of(held) + 60)
    assert held.tcb_info == fetched.tcb_info
    assert held.qe_identity == fetched.qe_identity
    assert held.root_crl.der == fetched.root_crl.der
    assert held.pck_crl.der == fetched.pck_crl.der


@pytest.mark.shared
async def test_genuine_bodies() -> None:
    """Bodies of the production service are cut to exactly the signed texts."""
    data = shared_vectors("tdx/collateral/90c0_2026-02.json").read_bytes()
    held = parse_collateral(data)
    pcs = PcsSimulator()
    pcs.publish(data)
    pcs.instead[TCB] = body(
        shared_vectors("tdx/context/pcs_tdx_tcb_response_90c0_2026-02.json").read_bytes()
    )
    pcs.instead[IDENTITY] = body(
        shared_vectors("tdx/context/pcs_tdx_qe_identity_response_2025-10.json").read_bytes()
    )
    async with pcs_on_loopback(pcs), asking(pcs) as service:
        fetched = await service.collateral(held.fmspc, held.ca)
    for document in (fetched.tcb_info, fetched.qe_identity):
        verify_signed_text(document, root=intel_root(), root_crl=held.root_crl, now=start_of(held))
    assert fetched.tcb_info.members.evaluation_number == 18
    assert fetched.qe_identity.members.evaluation_number == 17


async def test_early_editions(pcs: PcsSimulator, machine: SimulatedPlatform, now: float) -> None:
    """The update mode of the settings selects the requested edition (AT33)."""
    pcs.publish(
        machine.collateral_json(now, options=CollateralOptions(evaluation_number=21)), early=True
    )
    async with asking(pcs, update="early") as service:
        assert (
            21
            == (
                await service.collateral(machine.fmspc, "platform")
            ).tcb_info.members.evaluation_number
        )
        assert {"update": "early"} == pcs.queries[IDENTITY]


async def test_an_unknown_family(pcs: PcsSimulator) -> None:
    """An unknown platform family and a failing service are different errors."""
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^platform-unknown$"):
            await service.collateral(b"others", "platform")
        with pytest.raises(ValueError, match="6"):
            await service.collateral(b"other", "platform")


def status(code: int, **headers: str) -> Respond:
    """Return a handler that answers with a status."""
    return lambda request, answer: web.Response(
        status=code, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def body(data: bytes) -> Respond:
    """Return a handler that answers with another body and the right headers."""
    return lambda request, answer: web.Response(body=data, headers=answer.headers)


STATUSES: dict[int, str] = {
    404: "platform-unknown",
    410: "evaluation-withdrawn",
    **dict.fromkeys((429, 500, 503), "service-unavailable"),
    **dict.fromkeys((400, 401, 204, 302), "service-answer"),
}


@pytest.mark.parametrize("path", EVERY_PATH)
async def test_statuses(pcs: PcsSimulator, machine: SimulatedPlatform, path: str) -> None:
    """Every status but 200 has its error, for each part of the document."""
    for answered, code in STATUSES.items():
        pcs.instead[path] = status(answered, Location=pcs.url + NUMBERS)
        async with asking(pcs) as service:
            with pytest.raises(CollateralUnusable, match=f"^{code}$"):
                await service.collateral(machine.fmspc, "platform")
    assert NUMBERS not in pcs.asked


@pytest.mark.parametrize(
    ("text", "expected"),
    [("120", 120.0), ("999999999", 86_400.0), ("soon", None), ("-1", None), ("١", None)],
)
async def test_retry_after(
    pcs: PcsSimulator, machine: SimulatedPlatform, text: str, expected: float | None
) -> None:
    """A busy service's retry time is returned, limited to a day."""
    pcs.instead[TCB] = status(429, Retry_After=text)
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^service-unavailable$") as busy:
            await service.collateral(machine.fmspc, "platform")
    assert expected == busy.value.retry_after_s


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"tcbInfo":{},"signature":"00"}',
        b'{"tcbInfo":"{}","signature":"' + b"00" * 64 + b'"}',
        b'{"enclaveIdentity":{"id":"QE","version":2},"signature":"' + b"00" * 64 + b'"}',
        b'{"tcbInfo":{"id":"SGX","version":3},"signature":"' + b"00" * 64 + b'"}',
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        b"00" * 40,
    ],
)
@pytest.mark.parametrize("path", EVERY_PATH)
async def test_other_bodies(
    pcs: PcsSimulator, machine: SimulatedPlatform, path: str, answer: bytes
) -> None:
    """An answer of another shape or technology is refused, for each part of the document."""
    pcs.instead[path] = body(answer)
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^service-answer$"):
            await service.collateral(machine.fmspc, "platform")


@pytest.mark.parametrize("chain", ["", "no%20PEM", "%ff", "x" * 5000, None])
@pytest.mark.parametrize("path", [TCB, IDENTITY, PCK_CRL])
async def test_other_chains(
    pcs: PcsSimulator, machine: SimulatedPlatform, path: str, chain: str | None
) -> None:
    """A missing or unreadable issuer chain refuses the answer."""

    def change(request: web.Request, answer: web.Response) -> web.Response:
        (name,) = (name for name in answer.headers if name.endswith("Issuer-Chain"))
        return web.Response(body=answer.body, headers={} if chain is None else {name: chain})

    pcs.instead[path] = change
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^service-answer$"):
            await service.collateral(machine.fmspc, "platform")


@pytest.mark.parametrize("path", EVERY_PATH)
async def test_oversized(pcs: PcsSimulator, machine: SimulatedPlatform, path: str) -> None:
    """An oversized body is refused while it arrives (AT30)."""
    pcs.instead[path] = body(b"0" * (MAX_BODY_BYTES + 1))
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^service-answer$"):
            await service.collateral(machine.fmspc, "platform")


async def test_packed_bodies(pcs: PcsSimulator, machine: SimulatedPlatform) -> None:
    """A compressed body is refused without being decompressed (AT30)."""

    def pack(request: web.Request, answer: web.Response) -> web.Response:
        answer.enable_compression(web.ContentCoding.gzip)
        return answer

    pcs.instead[TCB] = pack
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^service-answer$"):
            await service.collateral(machine.fmspc, "platform")


async def test_slow(pcs: PcsSimulator, machine: SimulatedPlatform) -> None:
    """A service that does not answer in time is an error (AT30)."""
    pcs.gate = asyncio.Event()
    async with asking(pcs, timeout_s=0.05) as service:
        with pytest.raises(CollateralUnusable, match=r"^service-unavailable$"):
            await service.collateral(machine.fmspc, "platform")
        with pytest.raises(CollateralUnusable, match=r"^service-unavailable$"):
            await service.evaluation_numbers()
        pcs.gate.set()


async def test_nobody_there(pcs: PcsSimulator, machine: SimulatedPlatform) -> None:
    """An address without a listener and an invalid address are unavailable services."""
    for url in ("http://127.0.0.1:1", "http://", "ftp://x", "x"):
        async with asking(pcs, base_url=url) as service:
            with pytest.raises(CollateralUnusable, match=r"^service-unavailable$"):
                await service.collateral(machine.fmspc, "platform")


async def test_something_else_than_was_asked(
    pcs: PcsSimulator, machine: SimulatedPlatform, document: bytes, now: float
) -> None:
    """A signed document is refused if it is of another family, authority or edition than requested
    (AT30)."""
    other = machine.another_machine(b"another family's machine", fmspc=b"others")
    stray = json.loads(other.collateral_json(now))
    pcs.standard[machine.fmspc.hex().upper()] = stray
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^service-answer$"):
            await service.collateral(machine.fmspc, "platform")
        pcs.publish(document)
        with pytest.raises(CollateralUnusable, match=r"^service-answer$"):
            await service.collateral(machine.fmspc, "processor")


async def test_a_lying_service(
    pcs: PcsSimulator, machine: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """A changed verdict is detected by its signature, and a foreign service by its root."""
    text = json.dumps(
        json.loads(machine.collateral_json(now, options=CollateralOptions(tcb_status="OutOfDate")))
    )
    pcs.publish(text.replace("OutOfDate", "UpToDate").encode())
    liar = SimulatedPlatform.from_seed(b"a service with a root of its own")
    async with asking(pcs) as service:
        fetched = await service.collateral(machine.fmspc, "platform")
        with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
            verify_collateral(fetched, root=root, now=now)
        pcs.publish(liar.collateral_json(now))
        fetched = await service.collateral(machine.fmspc, "platform")
        with pytest.raises(AttestationError):
            verify_collateral(fetched, root=root, now=now)


async def test_back_in_time(
    pcs: PcsSimulator, machine: SimulatedPlatform, root: TrustRoot, now: float
) -> None:
    """An older genuine document does not replace the stored one (AT19)."""
    async with asking(pcs) as service:
        newer = await service.collateral(machine.fmspc, "platform")
        for older in (
            machine.collateral_json(now - DAY_S),
            machine.collateral_json(now, options=CollateralOptions(evaluation_number=19)),
        ):
            pcs.publish(older)
            offered = await service.collateral(machine.fmspc, "platform")
            verify_collateral(offered, root=root, now=now)
            with pytest.raises(CollateralUnusable, match=r"^collateral-rollback$"):
                check_not_older(offered, newer)


async def test_evaluation_numbers(
    pcs: PcsSimulator, machine: SimulatedPlatform, now: float
) -> None:
    """The list of numbers is fetched with its chain; other answers are refused."""
    async with asking(pcs) as service:
        with pytest.raises(CollateralUnusable, match=r"^platform-unknown$"):
            await service.evaluation_numbers()
        pcs.numbers = machine.evaluation_numbers_json(now, {20: now - 400 * DAY_S, 21: now})
        assert [21, 20] == [
            evaluation.number for evaluation in (await service.evaluation_numbers()).evaluations
        ]
        for broken in ((b"{}", pcs.numbers[1]), (pcs.numbers[0], "")):
            pcs.numbers = broken
            with pytest.raises(CollateralUnusable, match=r"^service-answer$"):
                await service.evaluation_numbers()


@settings(max_examples=20, deadline=None)
@given(
    answer=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
    chain=st.text("%0123456789abcdefABCDEF-+ /", max_size=50),
)
def test_any_answer(answer: bytes, chain: str) -> None:
    """Arbitrary bodies and chains give an error of this package."""

    async def exchange() -> None:
        pcs = PcsSimulator()
        changed = {path: _with_chain(answer, chain) for path in (*EVERY_PATH, NUMBERS)}
        pcs.publish(
            SimulatedPlatform.from_seed(b"the platform of the tests").collateral_json(1_795_000_000)
        )
        async with pcs_on_loopback(pcs), asking(pcs) as service:
            for path, change in changed.items():
                pcs.instead = {path: change}
                with pytest.raises(CollateralUnusable):
                    await _ask_for(service, path)

    asyncio.run(exchange())


def _with_chain(answer: bytes, chain: str) -> Respond:
    return lambda request, old: web.Response(
        body=answer, headers={name: chain for name in old.headers if name.endswith("Issuer-Chain")}
    )


async def _ask_for(service: CollateralService, path: str) -> None:
    if path == NUMBERS:
        await service.evaluation_numbers()
    else:
        await service.collateral(b"sealsp", "platform")
