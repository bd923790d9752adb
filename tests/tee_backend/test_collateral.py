"""Reading collateral: strict, for any bytes, and never replaced by an older document."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from deviating_platform import CollateralOptions, SimulatedPlatform, start_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tee_backend.attestation.attestation_errors import AttestationError, CollateralUnusable
from tee_backend.attestation.collateral import (
    MAX_COLLATERAL_BYTES,
    Collateral,
    check_not_older,
    parse_collateral,
)

DOCUMENT = json.loads(
    SimulatedPlatform.from_seed(b"the platform of the tests").collateral_json(1_795_000_000)
)
TCB_INFO = json.loads(DOCUMENT["tcb_info"])
QE_IDENTITY = json.loads(DOCUMENT["qe_identity"])


def _outcome(data: bytes) -> str | None:
    try:
        parse_collateral(data)
    except AttestationError as refused:
        return refused.code
    return None


def test_facts(
    document: bytes, collateral: Collateral, machine: SimulatedPlatform, now: float
) -> None:
    """Family, authority, numbers, validity period and digest are read."""
    assert machine.fmspc == collateral.fmspc
    assert collateral.ca == "platform"
    assert collateral.tcb_info.members.evaluation_number == 20
    assert collateral.qe_identity.members.evaluation_number == 20
    assert now - 3600 == start_of(collateral)
    assert collateral.ends_at == now - 3600 + 30 * 86_400
    assert hashlib.sha256(document).digest() == collateral.sha256
    assert collateral.pck_chain is None


def test_ends_with_its_earliest_part(machine: SimulatedPlatform, now: float) -> None:
    """A document expires with its certificates, even if its own period is longer."""
    options = CollateralOptions(valid_for_s=40 * 365 * 86_400)
    collateral = parse_collateral(machine.collateral_json(now, options=options))
    assert collateral.ends_at == collateral.tcb_info.issuer_chain.signer.not_after


def test_import_keeps_the_bytes(document: bytes, machine: SimulatedPlatform) -> None:
    """An imported document keeps the bytes of its file, and has the key under which it is
    stored."""
    held = parse_collateral(document)
    assert machine.fmspc == held.fmspc
    assert held.ca == "platform"
    assert held.raw == document


def test_carried_pck_chain(edited: Callable[..., bytes], machine: SimulatedPlatform) -> None:
    """A quote's certificates inside a document are read, with or without the closing NUL."""
    for closing in ("", "\x00"):
        collateral = parse_collateral(edited(pck_certificate_chain=machine.pck_chain_pem + closing))
        assert collateral.pck_chain is not None
        assert machine.root_der == collateral.pck_chain[-1]


@pytest.mark.parametrize("name", sorted(DOCUMENT))
def test_every_member_is_needed(edited: Callable[..., bytes], name: str) -> None:
    """A document is refused if one of the nine members is missing or a number."""
    assert _outcome(edited(**{name: None})) == "collateral-malformed"
    assert _outcome(edited(**{name: 1})) == "collateral-malformed"


@pytest.mark.parametrize(
    "members",
    [
        {"unknown": "x"},
        {"root_ca_crl": "0"},
        {"root_ca_crl": "zz"},
        {"root_ca_crl": "30 00"},
        {"root_ca_crl": ""},
        {"root_ca_crl": "30" * 65_537},
        {"pck_crl": DOCUMENT["pck_crl"] + "00"},
        {"tcb_info_signature": "00" * 63},
        {"tcb_info_issuer_chain": ""},
        {"tcb_info_issuer_chain": DOCUMENT["tcb_info_issuer_chain"] * 2},
        {
            "qe_identity_issuer_chain": (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            )
        },
        {
            "pck_crl_issuer_chain": (
                DOCUMENT["pck_crl_issuer_chain"].split("-----END")[0]
                + "-----END CERTIFICATE-----\n"
            )
        },
        {"pck_certificate_chain": "x"},
        {"pck_certificate_chain": 1},
        {"tcb_info": "[]"},
        {"tcb_info": "x"},
        {"tcb_info": '{"id":"TDX","id":"TDX"}'},
        {"qe_identity": "{}"},
    ],
)
def test_broken_members(edited: Callable[..., bytes], members: dict[str, Any]) -> None:
    """A document with an unreadable member is refused."""
    assert _outcome(edited(**members)) == "collateral-malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"fmspc": "00"},
        {"fmspc": "zz6F00000000"},
        {"fmspc": None},
        {"pceId": "0"},
        {"pceId": 0},
        {"issueDate": "2026-11-18"},
        {"issueDate": "2026-13-18T00:00:00Z"},
        {"issueDate": "2026-11-18T00:00:00+00:00"},
        {"issueDate": "٢026-11-18T00:00:00Z"},
        {"issueDate": 1},
        {"nextUpdate": "2001-01-01T00:00:00Z"},
        {"tcbEvaluationDataNumber": "20"},
        {"tcbEvaluationDataNumber": True},
        {"tcbEvaluationDataNumber": -1},
        {"tcbEvaluationDataNumber": 2**31},
        {"tdxModule": None},
        {"version": "3"},
        {"version": True},
        {"id": None},
    ],
)
def test_broken_tcb_info(edited: Callable[..., bytes], change: dict[str, Any]) -> None:
    """A document whose signed text has members of other types or ranges is refused."""
    assert _outcome(edited(tcb_info=json.dumps({**TCB_INFO, **change}))) == "collateral-malformed"


@pytest.mark.parametrize(
    "members",
    [
        {"tcb_info": json.dumps({**TCB_INFO, "id": "SGX"})},
        {"tcb_info": json.dumps({**TCB_INFO, "version": 2})},
        {"qe_identity": json.dumps({**QE_IDENTITY, "id": "QE"})},
        {"qe_identity": json.dumps({**QE_IDENTITY, "version": 1})},
        {"pck_crl": DOCUMENT["root_ca_crl"]},
    ],
)
def test_other_technology(edited: Callable[..., bytes], members: dict[str, Any]) -> None:
    """Valid documents for SGX, of another version or by another authority, are a mismatch."""
    assert _outcome(edited(**members)) == "collateral-mismatch"


def test_size_is_bounded_first() -> None:
    """A document above the size limit is refused before it is parsed."""
    assert _outcome(b"{" + b" " * MAX_COLLATERAL_BYTES + b"}") == "collateral-malformed"


@pytest.mark.parametrize(
    "older",
    [
        CollateralOptions(evaluation_number=19, issued_before_s=0),
        CollateralOptions(issued_before_s=3601),
    ],
    ids=["lower number, newer date", "same number, older date"],
)
def test_no_way_back(
    machine: SimulatedPlatform, collateral: Collateral, now: float, older: CollateralOptions
) -> None:
    """A validly signed document is refused if it is older than the stored one."""
    with pytest.raises(CollateralUnusable, match=r"^collateral-rollback$"):
        check_not_older(parse_collateral(machine.collateral_json(now, options=older)), collateral)


def test_the_way_forward(machine: SimulatedPlatform, collateral: Collateral, now: float) -> None:
    """A document replaces the stored one if it is the same, newer or has a higher number."""
    for options in (
        CollateralOptions(),
        CollateralOptions(issued_before_s=0),
        CollateralOptions(evaluation_number=21),
    ):
        check_not_older(parse_collateral(machine.collateral_json(now, options=options)), collateral)


def test_an_older_edition_of_the_quoting_enclave_does_not_return(
    machine: SimulatedPlatform, collateral: Collateral, now: float
) -> None:
    """An older edition is refused even if it was signed later than the stored one (AT19)."""
    today = parse_collateral(machine.collateral_json(now + 86_400.0))
    check_not_older(today, collateral)
    number = collateral.qe_identity.members.evaluation_number - 1
    older = replace(
        today.qe_identity,
        members=msgspec.structs.replace(today.qe_identity.members, evaluation_number=number),
    )
    with pytest.raises(CollateralUnusable, match=r"^collateral-rollback$"):
        check_not_older(replace(today, qe_identity=older), collateral)


@given(st.binary(max_size=512))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes give collateral or an error of this package."""
    _outcome(data)


@given(
    st.sampled_from(sorted(DOCUMENT)),
    st.integers(0, 8000),
    st.integers(0, 40),
    st.text(max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_any_edit(name: str, offset: int, removed: int, inserted: str) -> None:
    """A document with any edited member gives collateral or an error of this package."""
    text = DOCUMENT[name]
    start = offset % (len(text) + 1)
    changed = {**DOCUMENT, name: text[:start] + inserted + text[start + removed :]}
    _outcome(json.dumps(changed).encode(errors="surrogatepass"))


def test_documents_are_kept_by_bytes_alone(
    document: bytes, machine: SimulatedPlatform, now: float
) -> None:
    """The parser caches documents by bytes: equal bytes are parsed once, invalid ones each time."""
    assert parse_collateral(bytes(bytearray(document))) is parse_collateral(document)
    assert parse_collateral(machine.collateral_json(now + 1)) != parse_collateral(document)
    for _ in range(2):
        with pytest.raises(CollateralUnusable, match=r"^collateral-malformed$"):
            parse_collateral(document[:-1])
    assert parse_collateral.cache_info().maxsize == 64
