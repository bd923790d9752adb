"""Tests of secrets in YAML files, whose values are the texts in the file."""

from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from sealspace.cli.keep.dotenv import MAX_ENTRIES, BrokenEntry
from sealspace.cli.keep.yaml_values import parse_yaml_values
from sealspace.errors import InvalidInput

CANARY = "open-sesame"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("---\nA: open sesame\n", {"A": "open sesame"}),
        ("{A: 1, B: two}", {"A": "1", "B": "two"}),
        # What YAML takes for another type is the text that was written.
        (
            "A: no\nB: 1.10\nC: 2026-11-20\nD: on\n",
            {"A": "no", "B": "1.10", "C": "2026-11-20", "D": "on"},
        ),
        (
            "A: ''\nB: \"\"\nC: 'null'\nD: !!str null\n",
            {"A": "", "B": "", "C": "null", "D": "null"},
        ),
        ("KEY: |\n  one\n  two\n", {"KEY": "one\ntwo\n"}),
        ('A: "tab\\tand \\u00e9"\n', {"A": "tab\tand é"}),
        ('A: "\\N\\L\\P\\x7f"', {"A": "\x85\u2028\u2029\x7f"}),
        ("CERT: !!binary |\n  AAEC\n  Aw==\n", {"CERT": b"\x00\x01\x02\x03"}),
    ],
)
def test_values_are_as_written(text: str, values: Mapping[str, str | bytes]) -> None:
    """Values are read from plain, quoted and block scalars, and bytes from base64."""
    assert parse_yaml_values(text.encode()) == values


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("A:\n", "line 1"),
        ("A: ~\n", "line 1"),
        (f"B: 1\nA: [{CANARY}]\n", "line 2"),
        (f"A: {{B: {CANARY}}}\n", "line 1"),
        (f"A: &a {CANARY}\n", "line 1"),
        (f"A: &a {CANARY}\nB: *a\n", "line 1"),
        (f"A: !secret {CANARY}\n", "line 1"),
        (f"A: !!int {CANARY}\n", "line 1"),
        (f"A: !!binary {CANARY}!\n", "line 1"),
        (f"A: 1\nA: {CANARY}\n", "line 2"),
        (f"{CANARY}: 1\n", "line 1"),
        (f"<<: {{A: {CANARY}}}\n", "line 1"),
        (f"? [{CANARY}]\n: 1\n", "line 1"),
        (f"A: '{CANARY}\n", "line"),
        (f"A: 1\n  {CANARY}: : 2\n", "line"),
        (f"- {CANARY}\n", "single YAML mapping"),
        (CANARY, "single YAML mapping"),
        (f"A: 1\n---\nB: {CANARY}\n", "documents"),
        (f"A: \x00{CANARY}\n", "the file"),
        (f'A: "{CANARY}\\UFFFFFFFF"\n', "the file"),
        (f'A: "{CANARY}\\U00110000"\n', "the file"),
        (f'A: "{CANARY}\\uD800"\n', "line 1"),
        (f"%YAML {'9' * 5000}.1\n---\nA: {CANARY}\n", "the file"),
        ("[" * 100_000, "single YAML mapping"),
        ("A: " + "[" * 100_000, "line 1"),
        (
            "".join(f"A{number}: 1\n" for number in range(MAX_ENTRIES + 1)),
            f"line {MAX_ENTRIES + 1}",
        ),
        ("A: " + "x" * (4 << 20), "longer"),
        (f"A: '{CANARY}\x85'", "Unicode line break"),
        (f"A: |\n  {CANARY}\u2028x", "Unicode line break"),
    ],
)
def test_what_is_no_text_is_refused(text: str, where: str) -> None:
    """The error about a malformed value gives its place and quotes nothing of the file."""
    with pytest.raises((BrokenEntry, InvalidInput)) as refused:
        parse_yaml_values(text.encode())
    assert where in str(refused.value)
    assert CANARY not in str(refused.value) + str(refused.value.hint)


@given(
    st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True), st.text(), max_size=5)
)
def test_what_a_library_writes_is_read(values: dict[str, str]) -> None:
    """Texts that PyYAML writes come back as they were."""
    assert parse_yaml_values(yaml.safe_dump(values).encode()) == values


@fuzzed()
@given(
    st.binary(max_size=300)
    | st.text(alphabet="A:\n- &*!|>'\"{}[]#,?%~", max_size=60).map(str.encode)
)
def test_fuzz_any_bytes(data: bytes) -> None:
    """Any bytes are values, or raise our own error."""
    try:
        values = parse_yaml_values(data)
    except InvalidInput:
        return
    assert all(isinstance(value, str | bytes) for value in values.values())


def test_names_in_lower_case() -> None:
    """With `upper` names are converted to capitals."""
    assert parse_yaml_values(b"db_url: x\n", upper=True) == {"DB_URL": "x"}
