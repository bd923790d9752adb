"""Error codes and texts."""

import pytest

from capabilities.capability_errors import CHAIN_TEXTS, CapabilityError, ChainError
from capabilities.chain import BOUNDARIES


def classes(base: type[CapabilityError]) -> set[type[CapabilityError]]:
    found = set(base.__subclasses__())
    return found.union(*(classes(each) for each in found))


PUBLIC = {each for each in classes(CapabilityError) if not each.__name__.startswith("_")} - {
    ChainError
}
BY_NAME = sorted(PUBLIC, key=lambda each: each.__name__)


def test_codes_are_distinct():
    """Each code belongs to one cause."""
    codes = [*(each.code for each in PUBLIC), *CHAIN_TEXTS]
    assert len(codes) == len(set(codes))
    assert "capability-error" not in codes


@pytest.mark.parametrize("each", BY_NAME, ids=lambda each: each.__name__)
def test_every_error_has_a_text(each):
    """Every error prints its text, which is never empty."""
    arguments = {"AuditChainBroken": (1, "r")}.get(each.__name__, () if each.wording else ("x",))
    error = each(*arguments)
    assert error.text
    assert error.text == str(error)


@pytest.mark.parametrize("code", CHAIN_TEXTS)
def test_every_cause_has_a_text(code):
    """The details of a cause are part of its text."""
    places = CHAIN_TEXTS[code].count("{}")
    error = ChainError(code, *(f"<{place}>" for place in range(places)))
    assert error.code == code and error.text == str(error)
    assert [place for place in range(places) if f"<{place}>" not in error.text] == []


def test_texts_made_of_fields():
    """The text is built from the error's fields."""
    ancestor = ChainError("ancestor-revoked", "a", "parent=p")
    assert ancestor.text == "delegation-ancestor-revoked: ancestor=a parent=p"
    texts = {ChainError("caveats-not-contained", text, "r").text for text in BOUNDARIES.values()}
    assert texts == {
        "child-caveats-not-subset-of-parent: r",
        "invocation-caveats-not-subset-of-chain: r",
    }
