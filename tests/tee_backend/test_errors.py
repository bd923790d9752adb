"""Errors: stable codes, and messages without details."""

from typing import get_args

import pytest

from tee_backend.attestation.attestation_errors import (
    CollateralCode,
    CollateralUnusable,
    QuoteCode,
    QuoteRefused,
)
from tee_backend.evidence.evidence_errors import EvidenceSourceError

ERRORS = (
    *(QuoteRefused(code, "detail " * 100) for code in get_args(QuoteCode)),
    *(CollateralUnusable(code, "detail " * 100) for code in get_args(CollateralCode)),
)


@pytest.mark.parametrize("kind", EvidenceSourceError.__subclasses__())
def test_errors_of_sources_say_what_to_do(kind: type[EvidenceSourceError]) -> None:
    """Each source error names the next step, however long its detail is."""
    assert str(kind("detail " * 100)).endswith(f"; next: {kind.hint}") and kind.hint


def test_codes_are_distinct() -> None:
    """Quote codes and collateral codes do not overlap."""
    assert len(ERRORS) == len({error.code for error in ERRORS})


def test_text_is_the_code() -> None:
    """The text of an error is its code; the bounded detail is only an attribute."""
    for refused in ERRORS:
        assert refused.code == str(refused)
        assert len(refused.detail) == 400


def test_what_alarms() -> None:
    """An unknown verdict, two different readings and an odd service answer notify the operator."""
    alarming = {"evidence-invalid", "verdict-unknown", "service-answer"}
    assert alarming == {error.code for error in ERRORS if error.alarms}
