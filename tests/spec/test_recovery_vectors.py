"""Tests of every vector in spec/vectors/recovery."""

import json
from typing import Any

import pytest
from tests_support import REPOSITORY

from sealspace.documents.recovery_shares import join_shares, parse_share
from sealspace.documents.recovery_sheets import parse_sheet
from sealspace.errors import SealspaceError

FOLDER = REPOSITORY / "spec" / "vectors" / "recovery"


def _cases(name: str) -> list[Any]:
    cases = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["cases"]
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", _cases("shares"))
def test_shares(case: Any) -> None:
    """RV1, RV2, RV4, RV5, RV9: shares give the vector's key, or are refused with its code."""
    try:
        shares = [parse_share(line) for line in case["shares"]]
        found = {"key_hex": join_shares(shares, passphrase=case["passphrase"]).hex()}
    except SealspaceError as error:
        found = {"code": error.code}
    assert found == case["expect"]


@pytest.mark.parametrize("case", _cases("sheets"))
def test_sheets(case: Any) -> None:
    """RV6: a sheet is read with the vector's content, or is refused with its code."""
    try:
        sheet = parse_sheet(case["text"].encode())
    except SealspaceError as error:
        assert case["expect"] == {"code": error.code}
        return
    assert case["expect"] == {
        "number": sheet.share.number,
        "shares": sheet.shares,
        "threshold": sheet.share.threshold,
        "owner": sheet.owner,
        "node": sheet.node,
        "created": sheet.created,
        "has_passphrase": sheet.has_passphrase,
        "words": " ".join(sheet.share.words),
    }
