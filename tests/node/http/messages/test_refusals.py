"""The table of refusals has a row for exactly the errors that can reach a route."""

import re

from refusal_forms import codes_of, error_classes

from capabilities.capability_errors import CapabilityError
from encryption_network.network_errors import EncryptionError
from node.http.messages.error_answers import reason_of
from node.http.messages.refusals import SECTIONS, TABLE, Coded
from node.refusal import Refusal
from sealspace.errors import SealspaceError
from sealspace.service.command_errors import NodeError
from spaces.space_errors import SpaceError
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.evidence.evidence_errors import EvidenceSourceError

FAMILIES = (Refusal, CapabilityError, EncryptionError, SpaceError, AttestationError)

# Errors that end no request, and why.
ELSEWHERE = {
    # Bases, of which only members are raised.
    **dict.fromkeys(
        ("capability-error", "encryption", "space-error", "store-error", "start-refused"),
        "a base",
    ),
    # A node does not start, or a command ends.
    **dict.fromkeys(
        (
            "schema-mismatch",
            "store-moved",
            "wrong-secret",
            "secret-replaced",
            "rotation-unfinished",
            "bodies-elsewhere",
            "store-locked",
        ),
        "a start",
    ),
    "root-secret-too-short": "a start",
    **dict.fromkeys(("migration-refused", "backup-damaged"), "a command"),
    "audit-chain-broken": "a command",
    # What clients read, and nodes do not.
    **dict.fromkeys(("invalid-envelope", "invalid-descriptor"), "a client"),
    # A fault of ours, answered like one.
    "commit-invalid": "internal",
    # Documents are fetched and imported while no request waits (AT39).
    **dict.fromkeys(
        (
            "collateral-rollback",
            "platform-unknown",
            "evaluation-withdrawn",
            "service-unavailable",
            "service-answer",
        ),
        "housekeeping",
    ),
}
# Families that end commands, or stay inside a client or a platform's source.
OTHER_FAMILIES = (NodeError, SealspaceError, EvidenceSourceError)


def _codes() -> dict[str, list[type[Exception]]]:
    """Return each code with the classes that define it; a subclass may inherit its base's code."""
    codes: dict[str, list[type[Exception]]] = {}
    for kind in error_classes():
        for code in codes_of(kind) if issubclass(kind, FAMILIES) else ():
            codes.setdefault(code, []).append(kind)
    return codes


def test_each_code_has_a_row_and_each_row_an_error() -> None:
    """The table contains exactly the codes that can reach a route; `internal` is for errors without
    a code."""
    codes = _codes().keys()
    assert len(codes) > 100
    assert codes - ELSEWHERE.keys() == TABLE.keys() - {"internal"}
    assert ELSEWHERE.keys() - codes == set()


def test_no_code_has_two_meanings() -> None:
    """Each code belongs to one class; a class without a code is a base class, or never answered."""
    assert {code: kinds for code, kinds in _codes().items() if len(kinds) > 1} == {}
    assert sum(len(rows) for rows in SECTIONS.values()) == len(TABLE)


def test_codes_are_in_kebab_case() -> None:
    """Codes are lower-case words and digits, joined by single hyphens."""
    assert [
        code
        for code in (*_codes(), *TABLE)
        if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) is None
    ] == []


def test_what_has_a_code_is_of_a_family() -> None:
    """Every error class with a code belongs to a family that the table covers."""
    coded = {kind for kind in error_classes() if hasattr(kind, "code")}
    assert {
        kind.__name__ for kind in coded if not issubclass(kind, (*FAMILIES, *OTHER_FAMILIES))
    } == set()
    assert FAMILIES == Coded.__args__


def test_errors_know_nothing_of_http() -> None:
    """No error class has an HTTP status: only the table does."""
    named = {name for kind in error_classes() if issubclass(kind, FAMILIES) for name in dir(kind)}
    assert {name for name in named if "status" in name} == set()


def test_rows_are_whole() -> None:
    """Each row has an error status and a hint, and a title unless its message may be shown."""
    for code, row in TABLE.items():
        assert 400 <= row.status < 600 and row.hint, code
        assert row.title or row.body != "title", code
        assert all(400 <= place.status < 600 for place in row.by_route.values()), code


def test_phrases_of_every_python() -> None:
    """H2: the phrase of a status does not depend on the version of Python."""
    phrases = [reason_of(status) for status in (200, 413, 414, 416, 422, 431, 799)]
    assert phrases == [
        "OK",
        "Request Entity Too Large",
        "Request-URI Too Long",
        "Requested Range Not Satisfiable",
        "Unprocessable Entity",
        "Request Header Fields Too Large",
        "Error",
    ]
