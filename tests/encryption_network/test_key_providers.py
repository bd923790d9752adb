"""Key providers in policies, evidence and settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from encryption_network.key_providers import (
    MAX_ID_BYTES,
    accepted_by_both,
    are_accepted,
    is_accepted,
    parse_key_provider,
    provider_text,
)
from encryption_network.network_errors import PolicyError

IDS = st.binary(max_size=8)
KINDS = st.sampled_from(["kms", "tpm", "local-sgx", "none"])
TEXTS = st.text(max_size=12) | st.builds(
    lambda kind, tail: kind + tail, KINDS, st.text(":0aAf g", max_size=6)
)


@pytest.mark.parametrize(
    "text", ["kms", "tpm", "kms:00", "local-sgx:ff", "tpm:" + "ab" * MAX_ID_BYTES]
)
def test_entries(text: str) -> None:
    """An entry is a kind, or a kind with a provider's id."""
    assert parse_key_provider(text) == text


@pytest.mark.parametrize(
    ("provider", "accepted", "answer"),
    [
        ("kms:aa", ("kms",), True),
        ("kms:aa", ("kms:aa",), True),
        ("kms:aa", ("kms:ab", "tpm"), False),
        ("kms:aab", ("kms:aa",), False),
        ("kms", ("kms",), True),
        ("kms", ("kms:aa",), False),
        ("local-sgx:aa", ("kms", "tpm"), False),
        (None, ("kms", "tpm"), False),
        ("kms:aa", (), False),
    ],
)
def test_what_is_accepted(provider: str | None, accepted: tuple[str, ...], answer: bool) -> None:
    """A provider's kind accepts every id, and a kind with an id accepts that id only."""
    assert is_accepted(provider, accepted) is answer


@given(KINDS, IDS, KINDS, IDS)
def test_an_entry_accepts_only_what_it_names(
    kind: str, id_: bytes, other_kind: str, other_id: bytes
) -> None:
    """An entry with an id accepts two providers only if they are the same."""
    provider, other = (
        f"{name}:{of.hex()}" if of else name for name, of in ((kind, id_), (other_kind, other_id))
    )
    if id_:
        assert is_accepted(other, (provider,)) is (other == provider)


ENTRIES = st.lists(
    st.sampled_from(["kms", "kms:aa", "kms:bb", "tpm", "tpm:aa", "local-sgx:aa"]), max_size=4
)


@given(
    ENTRIES,
    ENTRIES,
    st.sampled_from(["kms", "kms:aa", "kms:cc", "tpm", "tpm:bb", "local-sgx:aa", "none"]),
)
def test_what_two_lists_accept(one: list[str], other: list[str], provider: str) -> None:
    """The common list accepts exactly the providers that both lists accept."""
    both = accepted_by_both(one, other)
    assert is_accepted(provider, both) is (
        is_accepted(provider, one) and is_accepted(provider, other)
    )
    assert are_accepted(both, one) and are_accepted(both, other) and are_accepted(one, one)


@fuzzed()
@given(TEXTS)
def test_fuzz_key_providers(text: str) -> None:
    """Any text is an entry that accepts itself, or raises PolicyError."""
    try:
        entry = parse_key_provider(text)
    except PolicyError:
        return
    assert is_accepted(entry, (entry,))
    assert entry.partition(":")[0] in ("kms", "tpm", "local-sgx")
    assert entry != "local-sgx"
    assert not is_accepted("none", (entry,))


@pytest.mark.parametrize(
    ("provider", "text"),
    [
        ("kms:" + b"mock-kms".hex(), 'kms:6d6f636b2d6b6d73 ("mock-kms")'),
        ("kms", "kms"),
        ("kms:00", "kms:00"),
        ("kms:" + "ä".encode().hex(), "kms:c3a4"),
        ("kms:" + b"\x1b[2J".hex(), "kms:1b5b324a"),
        ("none", "none"),
    ],
)
def test_an_id_that_is_text(provider: str, text: str) -> None:
    """An id of printable ASCII is shown as text too."""
    assert provider_text(provider) == text
