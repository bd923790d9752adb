"""The error tree: complete in print, stable in code, silent in text."""

import inspect

from tee_backend.attestation import errors
from tee_backend.attestation.errors import AttestationError, CollateralUnusable, EvidenceRefused

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AttestationError)]


def test_tree_is_printed() -> None:
    """The tree at the top of the module names every class with its code, and nothing else."""
    assert errors.__doc__ is not None
    lines = [line.lstrip(" │├└─").split() for line in errors.__doc__.splitlines() if "  " in line.strip(" │├└─")]
    printed = {line[0]: line[1] for line in lines if line and line[0][0].isupper() and len(line) >= 2}
    assert {c.__name__: c.code for c in CLASSES} == printed


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
