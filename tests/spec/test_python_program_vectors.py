"""Tests of every vector in spec/vectors/python_programs."""

import hashlib
import json
from typing import Any

import pytest
from tests_support import REPOSITORY

from sealspace.documents.python_programs import (
    BASE_END,
    PythonProgram,
    base_of,
    parse_python_program,
    python_program_bytes,
)
from sealspace.errors import InvalidInput

DOCUMENT = json.loads((REPOSITORY / "spec/vectors/python_programs/documents.json").read_text())


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_document(case: dict[str, Any]) -> None:
    """PY1 to PY4: a document is read, and written to the same bytes, or is refused."""
    expect, data = case["expect"], bytes.fromhex(case["document_hex"])
    if "code" in expect:
        with pytest.raises(InvalidInput) as refused:
            parse_python_program(data)
        assert refused.value.code == expect["code"]
        return
    program = PythonProgram(base=expect["base"], files=expect["files"])
    assert parse_python_program(data) == program
    assert python_program_bytes(program) == data
    assert base_of(data[:BASE_END]) == expect["base"]
    assert hashlib.sha256(data).hexdigest() == expect["sha256"]
