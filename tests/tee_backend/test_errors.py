"""The error tree: complete in print, stable in code, silent in text."""

import inspect
import re
from types import ModuleType
from typing import Any

import pytest

from tee_backend import errors as keeping
from tee_backend.attestation import errors
from tee_backend.attestation.errors import AttestationError, CollateralUnusable, EvidenceRefused
from tee_backend.errors import KeepingError
from tee_backend.evidence import errors as sources
from tee_backend.evidence.errors import EvidenceSourceError

OTHER_TREES = (keeping, sources)
"""Of what a backend meets on its own machine."""
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AttestationError)]


def test_tree_is_printed() -> None:
    """The tree at the top of the module names every class with its code, and nothing else."""
    assert errors.__doc__ is not None
    lines = [line.lstrip(" │├└─").split() for line in errors.__doc__.splitlines() if "  " in line.strip(" │├└─")]
    printed = {line[0]: line[1] for line in lines if line and line[0][0].isupper() and len(line) >= 2}
    assert {c.__name__: c.code for c in CLASSES} == printed


@pytest.mark.parametrize("module", OTHER_TREES)
def test_other_trees_are_printed(module: ModuleType) -> None:
    """So do that of keeping grants, and that of sources of quotes, each class of which says what to do next."""
    assert module.__doc__ is not None
    printed = dict(re.findall(r"^ {4}(?:[├└]── )?(\w+) +([a-z_-]+)", module.__doc__, re.MULTILINE))
    base: Any = KeepingError if module is keeping else EvidenceSourceError
    classes = (base, *base.__subclasses__())
    assert {c.__name__: c.code for c in classes} == printed and len(printed) > 3
    for c in classes if module is sources else ():
        assert str(c("detail " * 100)).endswith(f"; next: {c.hint}") and c.hint


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
