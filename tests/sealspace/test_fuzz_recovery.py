"""Fuzz tests of shares and recovery sheets: any text gives a value or an InvalidShare."""

from contextlib import suppress

from fuzz_strategies import damaged_bytes, damaged_text
from hypothesis import given
from hypothesis import strategies as st
from shamir_mnemonic.wordlist import WORDLIST
from tests_support import fuzzed

from sealspace.documents.recovery_shares import parse_share, split_key
from sealspace.documents.recovery_sheets import RecoverySheet, format_sheet, parse_sheet
from sealspace.errors import InvalidShare
from sealspace.wallets import wallet_from_key

KEY = bytes([7]) * 32
SHARE = split_key(KEY, threshold=2, shares=2)[0]
LINE = " ".join(SHARE.words)
TEXT = format_sheet(
    RecoverySheet(
        share=SHARE,
        shares=2,
        owner=wallet_from_key(KEY).did,
        node="https://node.example",
        created="2026-11-26T05:00:00Z",
        has_passphrase=False,
    )
).encode()


@fuzzed()
@given(st.text() | damaged_text(LINE) | st.lists(st.sampled_from(WORDLIST)).map(" ".join))
def test_fuzz_share(text: str) -> None:
    """A damaged share is refused, or is the share."""
    with suppress(InvalidShare):
        assert parse_share(text) == SHARE


@fuzzed()
@given(st.binary() | damaged_bytes(TEXT))
def test_fuzz_sheet(data: bytes) -> None:
    """A damaged sheet is refused, or has the right words."""
    with suppress(InvalidShare):
        assert parse_sheet(data).share == SHARE
