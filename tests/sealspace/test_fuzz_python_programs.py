"""Fuzz tests of Python programs: each is read as it was written, or refused."""

import json
import tracemalloc
from contextlib import suppress

import pytest
from fuzz_strategies import damaged_bytes
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from sealspace.documents.python_programs import (
    BASE_END,
    MAX_ARCHIVE_BYTES,
    MAX_FILES,
    MAX_PATH_CHARS,
    PythonProgram,
    base_of,
    parse_python_program,
    python_program_bytes,
)
from sealspace.errors import InvalidInput

BASE = "5a" * 32
PROGRAM = python_program_bytes(
    PythonProgram(base=BASE, files={"b/c.py": "é\n", "app.py": 'print("1")\n'})
)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.text(max_size=100), max_size=5
)


def spelt(**members: object) -> bytes:
    """Return a document in the canonical spelling, whatever its members are."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_fuzz_the_canonical_spelling() -> None:
    """PY1, PY4: sorted files, no spaces, the base in front."""
    assert PROGRAM == (
        b'{"base":"' + BASE.encode() + b'","files":{"app.py":"print(\\"1\\")\\n",'
        b'"b/c.py":"\xc3\xa9\\n"}}'
    )
    assert base_of(PROGRAM[:BASE_END]) == BASE
    with pytest.raises(InvalidInput):
        base_of(PROGRAM[: BASE_END - 1])


@fuzzed()
@given(FILES, st.text(max_size=100))
def test_fuzz_a_program_is_read_as_written(files: dict[str, str], script: str) -> None:
    """PY1: what is written is read, and has one spelling."""
    program = PythonProgram(base=BASE, files={**files, "app.py": script})
    data = python_program_bytes(program)
    assert parse_python_program(data) == program
    assert base_of(data) == BASE


@fuzzed()
@given(damaged_bytes(PROGRAM))
def test_fuzz_a_damaged_program(data: bytes) -> None:
    """PY1: bytes that are accepted are the canonical spelling of what was read."""
    with suppress(InvalidInput):
        assert python_program_bytes(parse_python_program(data)) == data


REFUSED = {
    "spaces": PROGRAM.replace(b":", b": ", 1),
    "order": b'{"files":{"app.py":""},"base":"' + BASE.encode() + b'"}',
    "escape": spelt(base=BASE, files={"app.py": "X"}).replace(b'"X"', b'"\\u0058"'),
    "repeated": spelt(base=BASE, files={"app.py": ""}).replace(
        b'"app.py":""', b'"app.py":"","app.py":"x"'
    ),
    "unknown member": spelt(base=BASE, files={"app.py": ""}, time=1),
    "no base": spelt(files={"app.py": ""}),
    "capital base": spelt(base=BASE.upper(), files={"app.py": ""}),
    "no app.py": spelt(base=BASE, files={"b.py": ""}),
    "not text": spelt(base=BASE, files={"app.py": 1}),
    "too many": spelt(base=BASE, files={"app.py": "", **{f"f{n}": "" for n in range(MAX_FILES)}}),
    "too long": spelt(base=BASE, files={"app.py": "x" * MAX_ARCHIVE_BYTES}),
    "long path": spelt(base=BASE, files={"app.py": "", "x" * (MAX_PATH_CHARS + 1): ""}),
    **{
        f"path {path!r}": spelt(base=BASE, files={"app.py": "", path: ""})
        for path in ("", "/a", "a/", "a//b", "..", "a/../b", ".a", "-a", "a\\b", "a b", "é", "a\n")
    },
}


@pytest.mark.parametrize("data", [pytest.param(REFUSED[name], id=name) for name in REFUSED])
def test_fuzz_refused_programs(data: bytes) -> None:
    """PY1, PY2, PY3: each rule of the format refuses a program that breaks it alone."""
    with pytest.raises(InvalidInput):
        parse_python_program(data)


@pytest.mark.parametrize(
    "files",
    [
        b"{" + b",".join(b'"%x":""' % number for number in range(100_000)) + b"}",
        b"[" + b"{}," * 500_000 + b"{}]",
    ],
    ids=["many files", "many values"],
)
def test_fuzz_a_program_that_is_expensive_to_parse(files: bytes) -> None:
    """PY2: a document with too many files or with values of other types is refused before an
    object is made of each, which would hold up the runner for a second."""
    data = b'{"base":"' + BASE.encode() + b'","files":' + files + b"}"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            parse_python_program(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
