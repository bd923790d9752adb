"""Intel's signed list of TCB evaluation numbers.

Each time vulnerabilities are fixed, Intel publishes a new set of TCB levels under the next number.
The update mode "early" serves the newest set at once; "standard" serves a set one year after the
recovery event. For about a month two sets are validly signed, and the same machine may be up to
date under one and out of date under the other. So the choice of the set decides the verdict.

Example:
    numbers = parse_evaluation_numbers(body, issuer_chain_pem=chain)
    verify_evaluation_numbers(numbers, root=root, root_crl=collateral.root_crl, now=now)
    check_edition(collateral, numbers, now=now)

Source: Intel PCS API v4, TCB evaluation data numbers.
"""

from operator import attrgetter
from typing import Annotated, NamedTuple

from msgspec import Meta, field

from capabilities.frozen_struct import FrozenStruct

from .attestation_errors import CollateralUnusable
from .collateral import (
    MAX_DOCUMENT_BYTES,
    Collateral,
    CommonMembers,
    EvaluationNumber,
    RevocationList,
    SignedDocument,
    TimeText,
    signed_document,
    split_signed_body,
    time_of,
)
from .collateral_trust import check_window, verify_signed_text
from .trust_root import TrustRoot

MAX_NUMBERS = 64
"""A genuine list has eight entries and grows by two a year."""
YEAR_S = 365 * 86_400.0
EDITION_GRACE_S = 3 * 86_400.0
"""Seconds for which replaced TCB levels still pass. The change is announced by day and not by
hour, and documents are renewed daily, well within this time."""


class Evaluation(FrozenStruct, rename="camel"):
    """An entry in Intel's list of TCB evaluation numbers."""

    number: EvaluationNumber = field(name="tcbEvaluationDataNumber")
    tcb_recovery_event_date: TimeText
    tcb_date: TimeText

    @property
    def becomes_standard_at(self) -> float:
        """The time from which Intel serves these TCB levels as standard.

        From then on, the update mode "standard" serves the set. The time is in epoch seconds. It is
        a year after the recovery event, accurate to about a day.
        """
        return time_of(self.tcb_recovery_event_date) + YEAR_S


class _NumberListMembers(CommonMembers):
    tcb_eval_numbers: Annotated[list[Evaluation], Meta(min_length=1, max_length=MAX_NUMBERS)]


class EvaluationNumbers(NamedTuple):
    """Intel's list of TCB evaluation numbers.

    The list has not been verified. It has at least one entry. The numbers are in descending order.
    """

    document: SignedDocument[_NumberListMembers]
    evaluations: tuple[Evaluation, ...]

    def standard(self, *, now: float) -> Evaluation | None:
        """Return the TCB evaluation that Intel serves as standard at `now`.

        None means that no evaluation in the list is standard yet.
        """
        for evaluation in self.evaluations:
            if evaluation.becomes_standard_at <= now:
                return evaluation
        return None

    def next_entry(self, number: int) -> Evaluation | None:
        """Return the next higher TCB evaluation in Intel's list, or None."""
        for evaluation in reversed(self.evaluations):
            if evaluation.number > number:
                return evaluation
        return None


def parse_evaluation_numbers(body: bytes, *, issuer_chain_pem: str) -> EvaluationNumbers:
    """Parse Intel's list of TCB evaluation numbers.

    Args:
        body: `{"tcbEvaluationDataNumbers": {…}, "signature": hex}`; at most MAX_DOCUMENT_BYTES;
            untrusted.
        issuer_chain_pem: signer and root, from the answer's header.
    Raises:
        CollateralUnusable: `collateral-malformed`, another shape, or a repeated number.
        CollateralUnusable: `collateral-mismatch`, a list of another technology.
    Does not check:
        Signature, validity and role: see `verify_evaluation_numbers`.
    """
    text, signature = split_signed_body(
        body, member="tcbEvaluationDataNumbers", max_bytes=MAX_DOCUMENT_BYTES
    )
    document = signed_document(
        text,
        signature,
        _NumberListMembers,
        chain_pem=issuer_chain_pem,
        chain_name="chain",
        document_id="TDX",
        versions=range(1, 2),
    )
    entries = document.members.tcb_eval_numbers
    for entry in entries:  # `time_of` raises for a date that does not exist
        time_of(entry.tcb_recovery_event_date)
        time_of(entry.tcb_date)
    if len({entry.number for entry in entries}) != len(entries):
        raise CollateralUnusable(
            "collateral-malformed", "Intel's list repeats a TCB evaluation number"
        )
    in_descending_order = sorted(entries, key=attrgetter("number"), reverse=True)
    return EvaluationNumbers(document, tuple(in_descending_order))


def verify_evaluation_numbers(
    numbers: EvaluationNumbers, *, root: TrustRoot, root_crl: RevocationList, now: float
) -> None:
    """Verify Intel's list of TCB evaluation numbers.

    The signature and the validity period are checked.
    """
    check_window("the list of evaluation numbers", numbers.document.window, now=now)
    verify_signed_text(numbers.document, root=root, root_crl=root_crl, now=now)


def check_edition(collateral: Collateral, numbers: EvaluationNumbers, *, now: float) -> None:
    """Refuse collateral with TCB levels that Intel has replaced (AT33).

    Replaced levels are accepted for EDITION_GRACE_S. Mirrors may lag by weeks.

    Only the TCB info's number counts; the QE identity may lag until it expires.

    Args:
        collateral: parsed.
        numbers: verified.
        now: epoch seconds.
    Raises:
        CollateralUnusable: `collateral-rollback`, its number is below the one that was standard
            EDITION_GRACE_S ago.
    """
    standard = numbers.standard(now=now - EDITION_GRACE_S)
    number = collateral.tcb_info.members.evaluation_number
    if standard is not None and number < standard.number:
        raise CollateralUnusable(
            "collateral-rollback",
            f"the collateral's TCB evaluation number must be at least {standard.number}, but is"
            f" {number}",
        )
