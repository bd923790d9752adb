"""Tests of the names that an owner signs for approved code (CN19)."""

from typing import Any

import pytest

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json, JsonObject
from sealspace.delegations import allow
from sealspace.documents.app_names import (
    APP_FACT,
    AppNames,
    app_names_json,
    checked_app_name,
    code_with_sources,
    is_alike,
    quoted_name,
    read_app_names,
)
from sealspace.errors import InvalidInput
from sealspace.session import mint

IMAGE: dict[str, Json] = {"service": "notes", "reference": "r" * 300, "publisher": "ghcr.io/acme"}
CODE: dict[str, Any] = {"name": "acme-notes", "images": [IMAGE], "osImageHash": None, "sources": {}}

GOOD = (
    "Notes",
    "Notes 2.1-rc_3 (blue)",
    "Notizbuch für Ärzte",
    "メモ帳 2",
    "Заметки",
    "x" * 60,
    "é",
)
BAD = (
    ("", "1 to 60"),
    ("x" * 61, "1 to 60"),
    (" Notes", "space"),
    ("Notes ", "space"),
    ("No  tes", "space"),
    ('Notes" by acme', "quotation"),
    ("Notes' x", "quotation"),
    ("“Notes", "quotation"),
    ("Notes«", "quotation"),
    ("Not\nes", "U+000A"),
    ("Not\x1b[2Jes", "U+001B"),
    ("Not\u202ees", "U+202E"),
    ("Not\u2066es", "U+2066"),
    ("Not\u200bes", "U+200B"),
    ("\ufeffNotes", "U+FEFF"),
    ("Not\u00a0es", "U+00A0"),
    ("Not\u3164es", "U+3164"),
    ("Not\ue000es", "U+E000"),
    ("Not\ud800es", "U+D800"),
    ("Z\u0315\u035d\u0315\u035dtes", "accents"),
    ("did:key:z6Mk", "identifier"),
    ("bafyreib", "identifier"),
    ("0xAbCdEf0123", "identifier"),
    ("deadbeef", "identifier"),
    ("N\u043etes", "alphabets"),  # a Cyrillic o
    ("\u0391cme", "alphabets"),  # a Greek capital alpha
)


@pytest.mark.parametrize("name", GOOD)
def test_CN19_names_that_are_signed(name: str) -> None:
    """Names in any one alphabet are signed as they were typed."""
    assert checked_app_name(name) == name


@pytest.mark.parametrize(("name", "reason"), BAD)
def test_CN19_names_that_could_be_mistaken(name: str, reason: str) -> None:
    """A name that is too long, or could be mistaken for another text, is refused with a reason."""
    with pytest.raises(InvalidInput) as refused:
        checked_app_name(name)
    assert reason in refused.value.message
    # the message itself is safe to print
    assert refused.value.message.isprintable()


def test_CN19_spellings_of_one_name() -> None:
    """Two spellings of an accent are signed as one, and similar names are recognised."""
    assert checked_app_name("Cafe\u0301") == "Caf\u00e9"
    notes = AppNames(name="Notes 2")
    for other in ("notes 2", "NOTES-2", "Notes2", "Ｎotes 2"):
        assert is_alike(notes, AppNames(name=other))
    for other in ("Notes 3", "Note 2", ""):
        assert not is_alike(notes, AppNames(name=other))


def token(*facts: Any) -> str:
    """Return a grant with facts, signed by a key."""
    signer = Ed25519Signer(bytes(32))
    return mint(
        signer,
        SystemEntropy(),
        audience=Ed25519Signer(bytes([1]) * 32).did,
        capabilities=[
            allow("tinycloud:pkh:eip155:1:0x" + "0" * 40 + ":notes/kv", "tinycloud.kv/get")
        ],
        proofs=[],
        expires_at=SystemClock().now() + 60,
        facts=list(facts),
        issuer=signer.did,
    )


def test_CN19_statements_of_another_form_are_ignored() -> None:
    """A statement of another form names nothing; names of code over a limit are left out."""
    stated = app_names_json(AppNames(name="Notes", code=CODE))
    assert read_app_names(token({APP_FACT: stated})) == AppNames(name="Notes", code=CODE)
    assert read_app_names(token()) is None
    malformed_statements: tuple[Json, ...] = (None, [], "Notes", {"name": 1}, {"name": None})
    for malformed in malformed_statements:
        assert read_app_names(token({APP_FACT: malformed})) is None
    without = AppNames(name="Notes")
    for code in (
        1,
        {},
        CODE | {"more": 1},
        CODE | {"name": "n" * 401},
        CODE | {"images": [IMAGE] * 33},
        CODE | {"images": [{**IMAGE, "service": "s" * 400}] * 20},
        CODE | {"osImageHash": "ab"},
        CODE | {"sources": {"mrtd": 1}},
    ):
        assert read_app_names(token({APP_FACT: {"name": "Notes", "code": code}})) == without
    cut = read_app_names(token({APP_FACT: {"name": "n" * 100}}))
    assert cut is not None and cut.name == "n" * 60
    assert read_app_names("not a token") is None


def test_CN19_only_values_that_agree_have_a_source() -> None:
    """The sources are those of values that the backend shows; code over a limit is not stated."""
    value: JsonObject = {
        "name": "mrtd",
        "source": "computed",
        "origin": "firmware.fd",
        "agrees": True,
    }
    code: JsonObject = {name: member for name, member in CODE.items() if name != "sources"}
    found = code_with_sources(code, [value, value | {"name": "rtmr0", "agrees": None}])
    assert found == CODE | {"sources": {"mrtd": "computed: firmware.fd"}}
    assert code_with_sources(None, [value]) is None
    too_many: JsonObject = {**code, "images": [IMAGE] * 33}
    assert code_with_sources(too_many, []) is None


def test_CN19_a_name_stays_in_its_quotation_marks() -> None:
    """A name that another program signed is shown without marks that would end its quotation."""
    assert quoted_name('a" to did:key:z6\u202e') == '"a\ufffd to did:key:z6\ufffd"'
    assert quoted_name("n" * 60, is_short=True) == f'"{"n" * 23}…"'
