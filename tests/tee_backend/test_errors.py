"""Errors: stable in code, silent in text."""

import inspect

import pytest

from tee_backend.attestation import errors
from tee_backend.attestation.errors import AttestationError, CollateralUnusable, EvidenceRefused
from tee_backend.evidence.errors import EvidenceSourceError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AttestationError)]


@pytest.mark.parametrize("kind", EvidenceSourceError.__subclasses__())
def test_errors_of_sources_say_what_to_do(kind: type[EvidenceSourceError]) -> None:
    """Each says what to do next, however long its detail is."""
    assert str(kind("detail " * 100)).endswith(f"; next: {kind.hint}") and kind.hint


def test_codes_are_distinct() -> None:
    """Every class has a code of its own."""
    assert len(CLASSES) == len({c.code for c in CLASSES})


def test_text_is_the_code() -> None:
    """The text of an error is its code; the detail is bounded and stays an attribute."""
    for kind in CLASSES:
        refused = kind("detail " * 100)
        assert kind.code == str(refused)
        assert len(refused.detail) == 400


def test_who_must_act() -> None:
    """Bad evidence and unusable collateral are told apart by their families."""
    evidence = {c for c in CLASSES if issubclass(c, EvidenceRefused)}
    collateral = {c for c in CLASSES if issubclass(c, CollateralUnusable)}
    assert not evidence & collateral
    assert {"certificate-malformed", "untrusted-root", "attestation"} == {
        c.code for c in set(CLASSES) - evidence - collateral
    }


def test_what_alarms() -> None:
    """An operator hears of what tells of the installation: an unknown verdict, two readings, a service's odd answer."""
    alarming = {"evidence-invalid", "verdict-unknown", "service-answer"}
    assert alarming == {c.code for c in CLASSES if c.alarms}
