"""Report data: the facts that a quote is bound to."""

import hashlib
import itertools
from typing import Any

import pytest

from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.report_data import check_report_data, session_binding

FIELDS: dict[str, Any] = {
    "nonce": bytes(range(32)),
    "audience": "did:key:z6MkfQZzVMw1tQFjLQ3tQyqzJxhkKkVbLw5cRMzbNcdGGcAH",
    "holder": "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH",
    "mode": "attested",
    "receiver_key": b"\x42" * 32,
}


def test_formula() -> None:
    """Report data are SHA-512 over label and fields, each preceded by its length."""
    text = b""
    for value in (b"sealspace/report-data/1", *FIELDS.values()):
        field = value.encode() if isinstance(value, str) else value
        text += len(field).to_bytes(4, "big") + field
    assert hashlib.sha512(text).digest() == session_binding(**FIELDS).report_data


def test_fixed_value() -> None:
    """Report data of fixed fields never change."""
    expected = (
        "44cc77c245a38165e3482696b06383337c4f44e75a02e0e6a04fef5edf7a44ea"
        "0ceb16b3ae143715aa1f39a00ca86a07d077b3a12e515507cf6a1a84456b5be0"
    )
    assert expected == session_binding(**FIELDS).report_data.hex()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonce", bytes(range(1, 33))),
        ("audience", "did:key:z6MkfQZzVMw1tQFjLQ3tQyqzJxhkKkVbLw5cRMzbNcdGGcAJ"),
        ("holder", "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktJ"),
        ("mode", "signed"),
        ("receiver_key", b"\x43" * 32),
    ],
)
def test_every_field_is_bound(name: str, value: object) -> None:
    """A quote for one nonce, node, holder, mode and key is refused for any other."""
    with pytest.raises(QuoteRefused, match=r"^report-data$"):
        check_report_data(
            session_binding(**FIELDS).report_data,
            session_binding(**{**FIELDS, name: value}).report_data,
        )


def test_fields_do_not_run_into_each_other() -> None:
    """Moving characters from one field to the next changes the report data."""
    whole = "did:example:ab"
    splits = [
        {**FIELDS, "audience": whole[:cut], "holder": whole[cut:]} for cut in range(len(whole) + 1)
    ]
    results = [session_binding(**fields).report_data for fields in splits]
    assert all(one != two for one, two in itertools.combinations(results, 2))


def test_the_right_one_passes() -> None:
    """Report data match only if all 64 bytes are present and equal."""
    expected = session_binding(**FIELDS).report_data
    check_report_data(bytes(expected), expected)
    for found in (expected[:63], expected + b"\x00", b"", expected[:32] + bytes(32)):
        with pytest.raises(QuoteRefused, match=r"^report-data$"):
            check_report_data(found, expected)


def test_key_size_is_the_callers_matter() -> None:
    """A receiver key of another size raises ValueError."""
    with pytest.raises(ValueError, match="32 bytes"):
        session_binding(**{**FIELDS, "receiver_key": bytes(31)})
