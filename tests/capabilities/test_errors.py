"""Errors: stable codes, and texts."""

import pytest

from capabilities.errors import AncestorRevoked, CapabilityError, CaveatsNotContained, ChainError


def classes(base: type[CapabilityError]) -> set[type[CapabilityError]]:
    found = set(base.__subclasses__())
    return found.union(*(classes(each) for each in found))


PUBLIC = {each for each in classes(CapabilityError) if not each.__name__.startswith("_")}
BY_NAME = sorted(PUBLIC - {ChainError}, key=lambda each: each.__name__)


def test_codes_are_distinct():
    """A code names one class."""
    codes = [each.code for each in PUBLIC - {ChainError}]
    assert len(codes) == len(set(codes))
    assert "capability-error" not in codes


@pytest.mark.parametrize("each", BY_NAME, ids=lambda each: each.__name__)
def test_every_error_has_a_text(each):
    """The text is never empty, and is what is printed."""
    arguments = {
        "AncestorRevoked": (("a",), {"parent": "b"}),
        "AuditChainBroken": ((1, "r"), {}),
        "CaveatsNotContained": (("r",), {"boundary": "delegation"}),
        "UnauthorizedCapability": (("r", "a"), {}),
        "UnauthorizedAction": (("r", "a"), {}),
    }.get(each.__name__, ((), {}) if each.wording else (("x",), {}))
    error = each(*arguments[0], **arguments[1])
    assert error.text
    assert error.text == str(error)


def test_texts_made_of_fields():
    """Fields make the sentence."""
    assert AncestorRevoked("a", parent="p").text == "delegation-ancestor-revoked: ancestor=a parent=p"
    assert AncestorRevoked("a", invoked="i").text == "delegation-ancestor-revoked: ancestor=a invoked=i"
    assert CaveatsNotContained("r", boundary="delegation").text == "child-caveats-not-subset-of-parent: r"
    assert CaveatsNotContained("r", boundary="invocation").text == "invocation-caveats-not-subset-of-chain: r"
