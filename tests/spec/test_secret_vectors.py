"""The vectors of the plaintext of secrets, run through the product."""

import json
from pathlib import Path
from typing import Any

import pytest

from capabilities.resources import parse_space_id
from capabilities.tokens import parse_delegation, verify_delegation
from sealspace.documents.places import place_of
from sealspace.documents.secret_payloads import read_payload
from sealspace.documents.unbound_values import states_unbound
from sealspace.errors import SealspaceError

FOLDER = Path(__file__).parents[2] / "spec" / "vectors" / "secrets"


def _cases(name: str) -> list[Any]:
    cases = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["cases"]
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", _cases("places"))
def test_place(case: Any) -> None:
    """A plaintext is read at its place, and refused with the vector's code elsewhere."""
    place = place_of(parse_space_id(case["space"]), case["path"])
    plaintext, expect = case["plaintext"].encode(), case["expect"]
    if "code" in expect:
        with pytest.raises(SealspaceError) as refused:
            read_payload(plaintext, "", place=place)
        assert expect == {"code": refused.value.code}
    else:
        assert expect == {"is_bound": read_payload(plaintext, "", place=place).is_bound}


@pytest.mark.parametrize("case", _cases("unbound"))
def test_unbound(case: Any) -> None:
    """A grant allows values without a place only by the fact in its exact form."""
    delegation = verify_delegation(parse_delegation(case["token"]))
    assert case["expect"] == {"allows_unbound": states_unbound(delegation)}
