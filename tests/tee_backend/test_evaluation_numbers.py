"""Evaluation numbers: the standard edition, the next one, and collateral of a replaced one."""

import json
from datetime import UTC, datetime

import pytest
from deviating_platform import CollateralOptions, SimulatedPlatform
from tests_support import shared_vectors

from tee_backend.attestation.attestation_errors import CollateralUnusable, QuoteRefused
from tee_backend.attestation.collateral import Collateral, parse_collateral, split_signed_body
from tee_backend.attestation.evaluation_numbers import (
    EDITION_GRACE_S,
    YEAR_S,
    EvaluationNumbers,
    check_edition,
    parse_evaluation_numbers,
    verify_evaluation_numbers,
)
from tee_backend.attestation.trust_root import TrustRoot, intel_root

DAY_S = 86_400.0


def published(machine: SimulatedPlatform, now: float, **changes: int) -> EvaluationNumbers:
    """Return a list of three numbers, the oldest long standard, the newest a month old."""
    events = {19: now - 2 * YEAR_S, 20: now - YEAR_S, 21: now - 30 * DAY_S}
    body, chain = machine.evaluation_numbers_json(now, events, **changes)
    return parse_evaluation_numbers(body, issuer_chain_pem=chain)


def test_editions(machine: SimulatedPlatform, now: float) -> None:
    """The newest number is early, each becomes standard after a year, and each has a successor."""
    numbers = published(machine, now)
    assert 21 == numbers.evaluations[0].number
    standard = [
        numbers.standard(now=moment)
        for moment in (now - 2 * YEAR_S - 1, now - 1, now, now + YEAR_S)
    ]
    assert [None, 19, 20, 21] == [found and found.number for found in standard]
    following = [numbers.next_entry(number) for number in (18, 19, 20, 21)]
    assert [19, 20, 21, None] == [found and found.number for found in following]


def test_a_replaced_edition(machine: SimulatedPlatform, collateral: Collateral, now: float) -> None:
    """Collateral of a replaced edition passes during a grace period, newer collateral always
    (AT33)."""
    numbers = published(machine, now)
    old, new = (
        parse_collateral(
            machine.collateral_json(now, options=CollateralOptions(evaluation_number=number))
        )
        for number in (19, 21)
    )
    for held in (old, collateral, new):
        check_edition(held, numbers, now=now + EDITION_GRACE_S - 1)
    check_edition(collateral, numbers, now=now + EDITION_GRACE_S)
    with pytest.raises(CollateralUnusable, match=r"^collateral-rollback$"):
        check_edition(old, numbers, now=now + EDITION_GRACE_S)
    check_edition(old, numbers, now=now - 3 * YEAR_S)


def test_verified(
    machine: SimulatedPlatform, collateral: Collateral, root: TrustRoot, now: float
) -> None:
    """A list is valid in its period if the TCB signer signed it and the root did not revoke that
    signer."""
    numbers, root_crl = published(machine, now, valid_for_s=60), collateral.root_crl
    verify_evaluation_numbers(numbers, root=root, root_crl=root_crl, now=now)
    verify_evaluation_numbers(numbers, root=root, root_crl=root_crl, now=now + 59)
    for moment in (now - 1, now + 60, float("nan")):
        with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
            verify_evaluation_numbers(numbers, root=root, root_crl=root_crl, now=moment)
    with pytest.raises(CollateralUnusable, match=r"^collateral-root$"):
        verify_evaluation_numbers(numbers, root=intel_root(), root_crl=root_crl, now=now)
    options = CollateralOptions(revoked=("tcb-signing",))
    revoking = parse_collateral(machine.collateral_json(now, options=options)).root_crl
    with pytest.raises(QuoteRefused, match=r"^revoked$"):
        verify_evaluation_numbers(numbers, root=root, root_crl=revoking, now=now)


def test_forged(
    machine: SimulatedPlatform, collateral: Collateral, root: TrustRoot, now: float
) -> None:
    """A changed number and a chain of another role are refused."""
    body, chain = machine.evaluation_numbers_json(now, {20: now})
    forged = parse_evaluation_numbers(body.replace(b":20,", b":21,"), issuer_chain_pem=chain)
    other = parse_evaluation_numbers(body, issuer_chain_pem=collateral.pck_crl_issuer_chain.pem)
    for numbers in (forged, other):
        with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
            verify_evaluation_numbers(numbers, root=root, root_crl=collateral.root_crl, now=now)


def test_a_signer_that_is_over(
    machine: SimulatedPlatform, collateral: Collateral, root: TrustRoot
) -> None:
    """A list with an expired signer certificate is refused."""
    after = collateral.tcb_info.issuer_chain.signer.not_after
    with pytest.raises(CollateralUnusable, match=r"^collateral-window$"):
        verify_evaluation_numbers(
            published(machine, after), root=root, root_crl=collateral.root_crl, now=after
        )


LISTED = {
    "id": "TDX",
    "version": 1,
    "issueDate": "2026-01-01T00:00:00Z",
    "nextUpdate": "2026-02-01T00:00:00Z",
    "tcbEvalNumbers": [
        {
            "tcbEvaluationDataNumber": 20,
            "tcbRecoveryEventDate": "2025-08-12T00:00:00Z",
            "tcbDate": "2025-08-13T00:00:00Z",
        }
    ],
}
ONE = LISTED["tcbEvalNumbers"][0]  # type: ignore[index]  # a list of one


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "SGX"}, "collateral-mismatch"),
        ({"version": 2}, "collateral-mismatch"),
        ({"version": None}, "collateral-malformed"),
        ({"issueDate": 1}, "collateral-malformed"),
        ({"nextUpdate": "2025-01-01T00:00:00Z"}, "collateral-malformed"),
        ({"tcbEvalNumbers": None}, "collateral-malformed"),
        ({"tcbEvalNumbers": []}, "collateral-malformed"),
        ({"tcbEvalNumbers": [1]}, "collateral-malformed"),
        ({"tcbEvalNumbers": [ONE, ONE]}, "collateral-malformed"),
        ({"tcbEvalNumbers": [ONE] * 65}, "collateral-malformed"),
        ({"tcbEvalNumbers": [{**ONE, "tcbEvaluationDataNumber": "20"}]}, "collateral-malformed"),
        ({"tcbEvalNumbers": [{**ONE, "tcbDate": "yesterday"}]}, "collateral-malformed"),
    ],
)
def test_other_lists(collateral: Collateral, change: dict[str, object], code: str) -> None:
    """A list of another form or technology is refused."""
    body = {"tcbEvaluationDataNumbers": {**LISTED, **change}, "signature": "00" * 64}
    with pytest.raises(CollateralUnusable, match=f"^{code}$"):
        parse_evaluation_numbers(
            json.dumps(body).encode(), issuer_chain_pem=collateral.tcb_info.issuer_chain.pem
        )


@pytest.mark.shared
def test_the_published_list() -> None:
    """The production service's list verifies over its compact text, and an indented copy does
    not."""
    indented = shared_vectors(
        "tdx/context/intel_tdx_tcbevaluationdatanumbers_2025-10.json"
    ).read_bytes()
    compact = json.dumps(json.loads(indented), separators=(",", ":")).encode()
    held = parse_collateral(
        shared_vectors("tdx/collateral/0080_2025-10_automata.json").read_bytes()
    )
    now = datetime(2025, 10, 14, tzinfo=UTC).timestamp()
    numbers, copy = (
        parse_evaluation_numbers(body, issuer_chain_pem=held.tcb_info.issuer_chain.pem)
        for body in (compact, indented)
    )
    verify_evaluation_numbers(numbers, root=intel_root(), root_crl=held.root_crl, now=now)
    with pytest.raises(CollateralUnusable, match=r"^collateral-signature$"):
        verify_evaluation_numbers(copy, root=intel_root(), root_crl=held.root_crl, now=now)
    assert numbers.evaluations[0].number == 20
    assert [e.number for e in numbers.evaluations[:4]] == [20, 19, 18, 17]
    standard = {
        day: numbers.standard(now=datetime.fromisoformat(f"{day}T00:00:00Z").timestamp())
        for day in SEEN
    }
    assert SEEN == {day: found and found.number for day, found in standard.items()}


# Which number the service gave as the standard one on a day.
SEEN = {
    "2025-06-10": 17,
    "2025-10-14": 17,
    "2026-02-18": 18,
    "2026-06-01": 19,
    "2026-08-09": 19,
    "2026-08-13": 20,
}


def test_a_signed_object_is_cut_out_byte_for_byte() -> None:
    """Whitespace inside the signed object is kept; answers with other members are refused."""
    body = b'{ "x" : {\n "a":1 ,"b" : "\\u00e9" } , "signature":"' + b"ab" * 64 + b'" }'
    cut = split_signed_body(body, member="x", max_bytes=1000)
    assert ('{\n "a":1 ,"b" : "\\u00e9" }', "ab" * 64) == cut
    for broken in (
        b"",
        b"[]",
        body[:-1],
        body + b"x",
        body.replace(b'"x"', b'"y"'),
        body.replace(b"{\n", b"[{\n"),
    ):
        with pytest.raises(CollateralUnusable, match=r"^collateral-malformed$"):
            split_signed_body(broken, member="x", max_bytes=1000)
    with pytest.raises(CollateralUnusable, match=r"^collateral-malformed$"):
        split_signed_body(body, member="x", max_bytes=len(body) - 1)
