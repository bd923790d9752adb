"""Whose packages are these (spec/decisions/0001-flat-packages.md)."""

import pytest

from node.errors import ForeignDistribution
from node.processes.ownership import PACKAGES, check_ownership, foreign_claims


def test_ours_alone_passes() -> None:
    """Our own distribution, or none at all in a checkout, is no clash."""
    check_ownership({name: ["sealspace"] for name in PACKAGES} | {"aiohttp": ["aiohttp"]})
    check_ownership({})
    check_ownership()


@pytest.mark.parametrize("name", PACKAGES)
def test_a_foreign_claim_refuses(name: str) -> None:
    """Another distribution that holds one of the six names is named, beside ours or alone."""
    for owners in (["sealspace", "culprit"], ["culprit"]):
        with pytest.raises(ForeignDistribution) as refused:
            check_ownership({name: owners})
        assert "culprit" in refused.value.text and name in refused.value.text


def test_claims_are_listed_once() -> None:
    """A distribution that is listed twice for a name counts once."""
    assert foreign_claims({"spaces": ["b", "b"], "node": ["a"]}) == [("node", "a"), ("spaces", "b")]
