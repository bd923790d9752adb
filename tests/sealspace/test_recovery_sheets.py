"""Tests of recovery sheets: their form, what is refused, and the comparison with the owner."""

import re
from dataclasses import replace

import pytest

from sealspace.documents.recovery_shares import parse_share, split_key
from sealspace.documents.recovery_sheets import (
    MAX_SHEET_BYTES,
    OwnerRecovery,
    RecoverySheet,
    format_sheet,
    parse_sheet,
)
from sealspace.errors import InvalidInput, InvalidShare, RecoveredKeyMismatch, SharesMissing
from sealspace.wallets import wallet_from_key

KEY = bytes([7]) * 32
OWNER = wallet_from_key(KEY).did
OTHER = wallet_from_key(bytes([8]) * 32).did
NODE = "https://node.example:8443/base"
SHEETS = [
    RecoverySheet(
        share=share,
        shares=5,
        owner=OWNER,
        node=NODE,
        created="2026-11-26T05:00:00Z",
        has_passphrase=False,
    )
    for share in split_key(KEY, threshold=3, shares=5)
]
TEXT = format_sheet(SHEETS[1])


def recovery_of(*sheets: RecoverySheet) -> OwnerRecovery:
    recovery = OwnerRecovery()
    for sheet in sheets:
        recovery.add_sheet(sheet, name=f"{sheet.share.number}.txt")
    return recovery


def changed(old: str, new: str) -> bytes:
    """Return the sheet with another text in one place."""
    assert TEXT.count(old) >= 1
    return TEXT.replace(old, new, 1).encode()


def test_RV6_a_sheet_is_read_back() -> None:
    """What is written is read with the same content."""
    for sheet in (*SHEETS, replace(SHEETS[0], has_passphrase=True)):
        text = format_sheet(sheet)
        assert parse_sheet(text.encode("ascii")) == sheet
        assert max(map(len, text.split("\n"))) <= 80
        assert len(text) < MAX_SHEET_BYTES


def test_a_sheet_says_what_to_do() -> None:
    """The text names the numbers, the owner, the node, the date and the command."""
    words = " ".join(TEXT.split())
    for expected in (
        "share: 2 of 5",
        "needed: 3",
        OWNER,
        NODE,
        "2026-11-26",
        "sealspace recovery use",
        "3 of the 5 shares give the key",
    ):
        assert expected in words
    assert "passphrase" not in TEXT.partition("what this is:")[2]
    assert (
        "passphrase" in format_sheet(replace(SHEETS[0], has_passphrase=True)).partition("what")[2]
    )


def test_RV6_what_editors_and_mail_change_is_allowed() -> None:
    """Line ends of Windows, blanks at ends, empty lines, capitals and a text behind are allowed."""
    for text in (
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "  \n"),
        TEXT.replace("\n", "\n\n"),
        TEXT.partition("what this is:")[0],
        TEXT + "-- \nsent from a phone\n",
        re.sub(r"^ ?\d+ .*$", lambda row: row[0].upper(), TEXT, flags=re.MULTILINE),
    ):
        assert parse_sheet(text.encode()) == SHEETS[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with"),
        (b"\n \n", "does not begin with"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "not ASCII"),
        (TEXT.encode() + b"x" * MAX_SHEET_BYTES, "longer than 8192 bytes"),
        (changed("format 1", "format 2"), "does not begin with"),
        (changed("share: 2 of 5\n", ""), "the line `share:` is missing"),
        (changed("node: ", "nod: "), "line 6 is not valid"),
        (changed("created: ", f"node: {NODE}\ncreated: "), "line 7 is not valid"),
        (changed("created: ", "\ncolour: red\ncreated: "), "line 8 is not valid"),
        (changed(NODE, "n" * 513), "line 6 is not valid"),
        (changed(NODE, "a\x1b[2Jb"), "line 6 is not valid"),
        (changed("share: 2 of 5", "share: 3 of 5"), "say otherwise"),
        (changed("share: 2 of 5", "share: 2 of 2"), "say otherwise"),
        (changed("share: 2 of 5", "share: 2 of 17"), "say otherwise"),
        (changed("share: 2 of 5", "share: two of 5"), "`share:` or `needed:` is not valid"),
        (changed("needed: 3", "needed: 2"), "say otherwise"),
        (changed("needed: 3", "needed: 03"), "`share:` or `needed:` is not valid"),
        (changed("2026-11-26T05:00:00Z", "yesterday"), "`created:` is not a time"),
        (changed("passphrase: no", "passphrase: maybe"), "neither yes nor no"),
        (changed(OWNER, OWNER.lower()), "not the DID of a wallet"),
        (changed(OWNER, f"{OWNER}#a"), "not the DID of a wallet"),
        (changed(OWNER, "did:key:z6Mk"), "not the DID of a wallet"),
        (changed(OWNER, "alice"), "not the DID of a wallet"),
        (changed("words:", "word:"), "the line `words:` is missing"),
        (changed("\n 4 ", "\n 5 "), "does not have the number 4 and 3 words"),
        (changed("\n 4 ", "\n 4 more "), "does not have the number 4 and 3 words"),
        (TEXT.partition("\n31 ")[0].encode(), "the share has 30 words instead of 33"),
        (TEXT.partition("words:")[0].encode(), "the line `words:` is missing"),
    ],
)
def test_RV6_a_changed_file_is_refused(data: bytes, message: str) -> None:
    """A file that is no sheet, or was changed, is refused; the message says where."""
    with pytest.raises(InvalidShare) as refused:
        parse_sheet(data)
    assert message in refused.value.message
    assert refused.value.hint


def test_RV6_a_number_beyond_the_set() -> None:
    """A share's number is at most the number of shares."""
    last = replace(SHEETS[4], shares=4)
    with pytest.raises(InvalidShare, match="`share:` is not valid"):
        parse_sheet(format_sheet(last).encode())


def test_RV6_a_mistyped_word_is_named_by_the_printed_number() -> None:
    """The message gives the number by which a person finds the word."""
    word = SHEETS[1].share.words[6]
    with pytest.raises(InvalidShare, match=r"^word 7 is not in the list"):
        parse_sheet(changed(f" 7 {word} ", " 7 sesame "))


def test_RV7_files_that_disagree_are_refused() -> None:
    """A holder who changes the owner, node, date or numbers of one file is found."""
    for what, change in {
        "owner": {"owner": OTHER},
        "node": {"node": "https://evil.example"},
        "date": {"created": "2026-11-27T05:00:00Z"},
        "number of shares": {"shares": 6},
        "need of a passphrase": {"has_passphrase": True},
    }.items():
        with pytest.raises(InvalidShare, match=rf"^2\.txt and 1\.txt differ in the {what};"):
            recovery_of(SHEETS[0], replace(SHEETS[1], **change))  # type: ignore[arg-type]  # by name


def test_RV8_the_key_is_that_of_the_stated_owner() -> None:
    """Shares of another owner are refused, whatever their files state."""
    assert recovery_of(*SHEETS[:3]).key() == KEY
    assert recovery_of(*SHEETS).key(owner=OWNER) == KEY
    lying = recovery_of(*(replace(sheet, owner=OTHER) for sheet in SHEETS[:3]))
    with pytest.raises(RecoveredKeyMismatch, match="do not give the key of"):
        lying.key()
    with pytest.raises(InvalidInput, match=f"the shares are of {OWNER}, not of {OTHER}"):
        recovery_of(*SHEETS[:3]).key(owner=OTHER)


def test_RV8_typed_shares_need_the_owner() -> None:
    """Without a sheet, the owner has to be given, and is compared."""
    recovery = OwnerRecovery()
    for sheet in SHEETS[1:4]:
        typed = parse_share(" ".join(sheet.share.words))
        recovery.add_typed(typed, name="typed")
    assert recovery.has_typed and recovery.missing == 0
    with pytest.raises(InvalidInput, match="nothing states whose key"):
        recovery.key()
    with pytest.raises(RecoveredKeyMismatch):
        recovery.key(owner=OTHER)
    assert recovery.key(owner=OWNER) == KEY
    assert recovery.key(owner=OWNER.lower()) == KEY


def test_RV8_a_wrong_passphrase_is_found_by_the_owner() -> None:
    """A wrong or missing passphrase gives another key, which is not returned."""
    made = split_key(KEY, threshold=2, shares=2, passphrase="open sesame")
    sheets = [replace(SHEETS[0], share=share, shares=2, has_passphrase=True) for share in made]
    recovery = recovery_of(*sheets)
    assert recovery.key(passphrase="open sesame") == KEY
    with pytest.raises(RecoveredKeyMismatch, match="with this passphrase") as refused:
        recovery.key(passphrase="Open sesame")
    assert "esame" not in str(refused.value)
    with pytest.raises(RecoveredKeyMismatch) as refused:
        recovery.key()
    assert "if a passphrase was chosen" in refused.value.hint


def test_RV2_how_many_shares_are_missing() -> None:
    """The number of missing shares is known after the first one."""
    recovery = OwnerRecovery()
    assert (len(recovery), recovery.missing) == (0, 1)
    recovery.add_sheet(SHEETS[4], name="5.txt")
    assert (len(recovery), recovery.missing) == (1, 2)
    with pytest.raises(SharesMissing, match="2 more shares are needed; 1 of 3 given") as refused:
        recovery.key()
    assert refused.value.missing == 2


def test_RV14_a_sheet_is_printed_without_its_words() -> None:
    """The text of a sheet contains none of the share's words."""
    assert set(SHEETS[1].share.words).isdisjoint(re.findall(r"[a-z]+", repr(SHEETS[1].share)))
    assert "words" not in repr(SHEETS[1])
