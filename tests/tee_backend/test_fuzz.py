"""Arbitrary bytes as quote, certificate, collateral, claims or nonce give a value or an
AttestationError."""

import base64
import json
from contextlib import suppress
from typing import Any

from deviating_log import mint_event_log
from deviating_platform import DomainOptions, SimulatedPlatform
from fuzz_strategies import changed_objects, damaged_bytes, damaged_text, json_values, large_texts
from hypothesis import given
from hypothesis import strategies as st
from quote_verification import verify_quote
from tests_support import fuzzed

from tee_backend.attestation._library import claims_json
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.certificates import (
    load_certificate,
    load_crl,
    parse_certificate,
    parse_pem_chain,
    parse_platform,
)
from tee_backend.attestation.challenge import ChallengeScope, check_challenge, issue_challenge
from tee_backend.attestation.claims import check_same_reading, parse_claims
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.collateral_trust import verify_collateral
from tee_backend.attestation.evaluation_numbers import (
    check_edition,
    parse_evaluation_numbers,
    verify_evaluation_numbers,
)
from tee_backend.attestation.event_log import parse_event_log, read_event_log
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.quote import BodyKind, parse_quote
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.simulated import measurements_of

NOW = 1_795_000_000.0
MACHINE = SimulatedPlatform.from_seed(b"the platform of the tests")
ROOT = parse_trust_root(MACHINE.root_der)
DOCUMENT = json.loads(MACHINE.collateral_json(NOW))
COLLATERAL = parse_collateral(MACHINE.collateral_json(NOW))
QUOTES = tuple(
    MACHINE.mint_quote(measurements_of("backend"), bytes(64), options=DomainOptions(kind=kind))
    for kind in BodyKind
)
LEAF, AUTHORITY = parse_quote(QUOTES[0]).pck_chain[:2]
PEM = MACHINE.pck_chain_pem.encode()
CRLS = tuple(bytes.fromhex(DOCUMENT[name]) for name in ("root_ca_crl", "pck_crl"))
CLAIMS = json.loads(claims_json(QUOTES[-1], COLLATERAL, root_der=MACHINE.root_der, now_s=int(NOW)))
KEY, SCOPE = (
    b"\x07" * 32,
    ChallengeScope(holder="did:key:zA", audience="did:key:zB", store_id=bytes(16)),
)
NONCE = issue_challenge(KEY, SCOPE, random=bytes(16), now=NOW)


def _pem_of(*ders: bytes) -> bytes:
    texts = (base64.b64encode(der).decode() for der in ders)
    blocks = (
        "\n".join(text[start : start + 64] for start in range(0, len(text), 64)) for text in texts
    )
    return "".join(
        f"-----BEGIN CERTIFICATE-----\n{block}\n-----END CERTIFICATE-----\n" for block in blocks
    ).encode()


ders = damaged_bytes(LEAF.der, AUTHORITY.der, MACHINE.root_der) | st.binary(max_size=400)


@fuzzed(1 / 10)
@given(
    st.binary(max_size=2048)
    | damaged_bytes(*QUOTES)
    | st.binary(max_size=700).map(lambda data: QUOTES[0][:48] + data)
)
def test_fuzz_quotes(data: bytes) -> None:
    """Arbitrary quotes are verified or refused."""
    with suppress(AttestationError):
        parse_quote(data)
    with suppress(AttestationError):
        verify_quote(data, COLLATERAL, root=ROOT, now=NOW)


@fuzzed(1 / 10)
@given(ders)
def test_fuzz_quotes_with_another_chain(der: bytes) -> None:
    """A quote with a damaged certificate of any length in its chain is verified or refused."""
    quote, chain = QUOTES[0], parse_quote(QUOTES[0]).pck_chain
    own = _pem_of(*(one.der for one in chain))
    start = quote.index(own[:100])
    stated = quote[start - 4 : start]
    size_bytes = int.from_bytes(stated, "little")
    other = _pem_of(der, *(one.der for one in chain[1:]))
    grown = len(other) - size_bytes
    changed = bytearray(
        quote[: start - 4] + len(other).to_bytes(4, "little") + other + quote[start + size_bytes :]
    )
    # The lengths around the chain: of the signature data, and of the outer certification data.
    for place in _lengths_before(quote, start, size_bytes):
        length = int.from_bytes(quote[place : place + 4], "little") + grown
        changed[place : place + 4] = length.to_bytes(4, "little")
    with suppress(AttestationError):
        parse_quote(bytes(changed))
    with suppress(AttestationError):
        verify_quote(bytes(changed), COLLATERAL, root=ROOT, now=NOW)


def _lengths_before(quote: bytes, start: int, size_bytes: int) -> list[int]:
    """Return the offsets of the lengths that include the end of the chain."""
    end = start + size_bytes
    return [
        place
        for place in range(600, start - 4)
        if place + 4 + int.from_bytes(quote[place : place + 4], "little") in (end, len(quote))
    ]


@fuzzed()
@given(ders, st.binary(max_size=300) | damaged_bytes(*CRLS))
def test_fuzz_certificates(der: bytes, crl: bytes) -> None:
    """Arbitrary certificates and revocation lists are read or refused."""
    with suppress(AttestationError):
        load_certificate(der)
    with suppress(AttestationError):
        parse_platform(parse_certificate(der), AUTHORITY)
    with suppress(AttestationError):
        parse_trust_root(der)
    with suppress(AttestationError):
        load_crl(crl)


@fuzzed()
@given(
    st.binary(max_size=300)
    | large_texts.map(str.encode)
    | damaged_bytes(PEM)
    | st.lists(ders, max_size=3).map(lambda chain: _pem_of(*chain))
)
def test_fuzz_pem(text: bytes) -> None:
    """Arbitrary PEM texts are chains or roots, or are refused."""
    with suppress(AttestationError):
        parse_pem_chain(text, most=3)
    with suppress(AttestationError):
        parse_trust_root(text)


COLLATERAL_VALUES = json_values(
    "00" * 64, "ffff", DOCUMENT["tcb_info"], DOCUMENT["qe_identity_issuer_chain"]
)
INNER_VALUES = json_values(
    "TDX", "2026-01-01T00:00:00Z", "00906ED50000", members=["status", "tcb", "tcbLevels"]
)


def _with_inner(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return the collateral with members of a signed document changed."""
    inner = changed_objects(json.loads(DOCUMENT[name]), INNER_VALUES)
    return inner.map(lambda value: {**DOCUMENT, name: json.dumps(value)})


@fuzzed(1 / 10)
@given(
    st.binary(max_size=300)
    | large_texts.map(str.encode)
    | damaged_bytes(json.dumps(DOCUMENT).encode())
    | (
        changed_objects(DOCUMENT, COLLATERAL_VALUES)
        | _with_inner("tcb_info")
        | _with_inner("qe_identity")
        | st.builds(
            lambda name, text: {**DOCUMENT, name: text},
            st.sampled_from([*DOCUMENT]),
            damaged_text(PEM.decode()),
        )
        | st.builds(
            lambda name, crl: {**DOCUMENT, name: crl.hex()},
            st.sampled_from(["root_ca_crl", "pck_crl"]),
            damaged_bytes(*CRLS),
        )
    ).map(lambda value: json.dumps(value).encode())
)
def test_fuzz_collateral(data: bytes) -> None:
    """Arbitrary collateral is verified or refused, and so is a quote judged with it."""
    with suppress(AttestationError):
        parse_collateral(data)
    with suppress(AttestationError):
        collateral = parse_collateral(data)
        with suppress(AttestationError):
            verify_collateral(collateral, root=ROOT, now=NOW)
        verify_quote(QUOTES[0], collateral, root=ROOT, now=NOW)


@fuzzed()
@given(
    st.binary(max_size=100)
    | large_texts.map(str.encode)
    | changed_objects(CLAIMS, json_values(members=["tcb", "platform", "status", "pck"])).map(
        lambda value: json.dumps(value).encode()
    )
    | damaged_bytes(json.dumps(CLAIMS).encode())
)
def test_fuzz_claims(data: bytes) -> None:
    """Arbitrary claims of the library are compared or refused."""
    with suppress(AttestationError):
        check_same_reading(parse_quote(QUOTES[-1]), parse_claims(data))


@fuzzed()
@given(st.binary(max_size=64) | damaged_bytes(NONCE), st.floats())
def test_fuzz_challenges(nonce: bytes, now: float) -> None:
    """Arbitrary nonces are accepted or refused, at any time."""
    with suppress(AttestationError):
        check_challenge(KEY, SCOPE, nonce, now=now)


LOG: list[Any] = mint_event_log(bytes(range(32)), bytes(20)).log.to_json()
LOG_VALUES = json_values(
    "compose-hash", "app-id", "00" * 32, members=["imr", "event_type", "event", "event_payload"]
)


def _log_with_another_entry(entry: Any, place: int) -> list[Any]:
    return [*LOG[: place % len(LOG)], entry, *LOG[place % len(LOG) + 1 :]]


@fuzzed(1 / 10)
@given(
    json_values()
    | st.builds(_log_with_another_entry, LOG_VALUES, st.integers(0, 40))
    | st.builds(
        _log_with_another_entry, changed_objects(dict(LOG[0]), LOG_VALUES), st.integers(0, 40)
    ),
    st.binary(max_size=100) | large_texts.map(str.encode) | damaged_bytes(json.dumps(LOG).encode()),
)
def test_fuzz_event_logs(value: Any, text: bytes) -> None:
    """Arbitrary event logs are replayed or refused."""
    report = parse_quote(QUOTES[0]).report
    for read in (lambda: read_event_log(value), lambda: parse_event_log(text)):
        with suppress(AttestationError):
            verify_event_log(read(), report)


NUMBERS, NUMBERS_CHAIN = MACHINE.evaluation_numbers_json(NOW, {18: NOW - 9e6, 19: NOW - 5e6})


@fuzzed(1 / 10)
@given(
    st.binary(max_size=100)
    | large_texts.map(str.encode)
    | damaged_bytes(NUMBERS)
    | changed_objects(json.loads(NUMBERS), INNER_VALUES).map(
        lambda value: json.dumps(value).encode()
    ),
    st.just(NUMBERS_CHAIN) | damaged_text(NUMBERS_CHAIN),
)
def test_fuzz_evaluation_numbers(body: bytes, chain: str) -> None:
    """Arbitrary lists of evaluation numbers are verified or refused, and compared with
    collateral."""
    with suppress(AttestationError):
        numbers = parse_evaluation_numbers(body, issuer_chain_pem=chain)
        check_edition(COLLATERAL, numbers, now=NOW)
        verify_evaluation_numbers(numbers, root=ROOT, root_crl=COLLATERAL.root_crl, now=NOW)
