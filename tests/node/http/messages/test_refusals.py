"""The table of refusals: a row for each error that can reach a route, and none for anything
else."""

import re

from refusal_forms import codes_of, error_classes

from capabilities.capability_errors import CapabilityError
from encryption_network.network_errors import EncryptionError
from node.http.messages.refusals import SECTIONS, TABLE, Coded
from node.refusal import Refusal
from sealspace.cli.command_errors import NodeError
from sealspace.errors import SealspaceError
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
        ("schema-mismatch", "store-moved", "wrong-secret", "bodies-elsewhere", "store-locked"),
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
    """Return each code of the families with the classes that say it themselves; subclasses may
    share their base's."""
    codes: dict[str, list[type[Exception]]] = {}
    for kind in error_classes():
        for code in codes_of(kind) if issubclass(kind, FAMILIES) else ():
            codes.setdefault(code, []).append(kind)
    return codes


def test_each_code_has_a_row_and_each_row_an_error() -> None:
    """Every code that can reach a route is in the table, and the table has no other; `internal` is
    of what has none."""
    codes = _codes().keys()
    assert len(codes) > 100
    assert codes - ELSEWHERE.keys() == TABLE.keys() - {"internal"}
    assert ELSEWHERE.keys() - codes == set()


def test_no_code_has_two_meanings() -> None:
    """One class has one code; a class without one of its own is a base, or is not answered by
    it."""
    assert {code: kinds for code, kinds in _codes().items() if len(kinds) > 1} == {}
    assert sum(len(rows) for rows in SECTIONS.values()) == len(TABLE)


def test_codes_are_in_kebab_case() -> None:
    """Codes have one spelling: small letters and digits, with single hyphens between words."""
    assert [
        code
        for code in (*_codes(), *TABLE)
        if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) is None
    ] == []


def test_what_has_a_code_is_of_a_family() -> None:
    """No error with a code stands outside the families, where the table would not see it."""
    coded = {kind for kind in error_classes() if hasattr(kind, "code")}
    assert {
        kind.__name__ for kind in coded if not issubclass(kind, (*FAMILIES, *OTHER_FAMILIES))
    } == set()
    assert FAMILIES == Coded.__args__


def test_errors_know_nothing_of_http() -> None:
    """No error of the families has a status: what a code means to a client is in the table
    alone."""
    named = {name for kind in error_classes() if issubclass(kind, FAMILIES) for name in dir(kind)}
    assert {name for name in named if "status" in name} == set()


def test_rows_are_whole() -> None:
    """Each row has an error status and a hint, and a title wherever the error's own message may not
    be shown."""
    for code, row in TABLE.items():
        assert 400 <= row.status < 600 and row.hint, code
        assert row.title or row.body != "title", code
        assert all(400 <= place.status < 600 for place in row.by_place.values()), code
