"""Tests of every vector in spec/vectors/datasets."""

import json
from io import BytesIO
from typing import Any

import pytest
from tests_support import REPOSITORY

from sealspace.documents.dataset_format import decrypt, encrypt, parse_dataset_key
from sealspace.errors import DatasetInvalid
from tests.sealspace.test_dataset_format import Fixed, checksum

DOCUMENT = json.loads((REPOSITORY / "spec/vectors/datasets/formats.json").read_text())
KEY = parse_dataset_key(DOCUMENT["key"])


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_format(case: dict[str, Any]) -> None:
    """DS2, DS3, DS4: a file is decrypted or refused, and encrypting the data gives the same
    file."""
    expect, suite = case["expect"], case["suite"]
    if "zeros" in case:
        plain = bytes(case["zeros"]) + bytes.fromhex(case["then_hex"])
        prefix = bytes.fromhex(case["prefix_hex"])
    else:
        blob = bytes.fromhex(case["blob_hex"])
        if "text" in expect:
            with pytest.raises(DatasetInvalid, match=expect["text"]):
                b"".join(decrypt(suite, KEY, BytesIO(blob).read))
            return
        plain = bytes.fromhex(expect["plaintext_hex"])
        assert b"".join(decrypt(suite, KEY, BytesIO(blob).read)) == plain
        prefix = blob[:16] if suite == "iexec-cbc-v1" else blob[45:52]
    made = b"".join(encrypt(suite, KEY, BytesIO(plain).read, Fixed(prefix)))
    assert checksum(made) == expect["checksum"]
    assert "zeros" in case or made == blob
