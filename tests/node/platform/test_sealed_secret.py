"""The root secret encrypted with a passphrase (BK8)."""

from base64 import b64decode
from contextlib import suppress

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import CountingEntropy

from node.platform.sealed_secret import open_secret, seal_secret
from sealspace.service.command_errors import SecretUnusable

SECRET = bytes(range(32))
PASSPHRASE = "correct horse battery"
THEIRS = (
    b"age-encryption.org/v1\n"
    b"-> scrypt kropbWGTIUjd1lzrhipnWw 17\n"
    b"sURz92tJ1S6uQuBMmetEU1AZhnGrVtiE7PnF+9S2S0Q\n"
    b"--- QkV33MnnCJQh+UJHnFHP44ylRbGK8nUbwVu3sm61ArY\n"
    + bytes.fromhex(
        "3ce81335ac9a95e3e711ed074f971693a2cc675a5d59e4194c8bb9ce689d17dc1538ec61b4735fe9e90d75c90ca1b92996e72e02c632b214b2ee2efc2fe1c9a3"
    )
)
"""SECRET encrypted with PASSPHRASE by another implementation of age, pyrage 1.4.0."""


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return seal_secret(SECRET, PASSPHRASE, CountingEntropy())


def test_it_opens_with_its_passphrase_alone(sealed: bytes) -> None:
    """The right passphrase decrypts the secret, another does not (BK8)."""
    assert open_secret(sealed, PASSPHRASE) == SECRET
    assert SECRET[:8] not in sealed
    for passphrase in (PASSPHRASE + " ", ""):
        with pytest.raises(SecretUnusable, match="does not open"):
            open_secret(sealed, passphrase)


def test_age_opens_it_and_the_other_way_round(sealed: bytes) -> None:
    """An independent implementation of age decrypts our files, and we decrypt its files (BK8)."""
    assert pyrage.passphrase.decrypt(sealed, PASSPHRASE) == SECRET
    assert open_secret(THEIRS, PASSPHRASE) == SECRET


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_an_altered_one_does_not_open(sealed: bytes, data: st.DataObject) -> None:
    """A file with any bit flipped is refused (BK8)."""
    at = data.draw(
        st.integers(0, len(sealed) - 1).filter(lambda at: sealed[at - 1 : at + 1] != b"17")
    )
    altered = bytearray(sealed)
    altered[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SecretUnusable):
        open_secret(bytes(altered), PASSPHRASE)


def test_bits_beyond_the_last_byte(sealed: bytes) -> None:
    """Only the canonical base64 text of some bytes is accepted (BK8)."""
    head, _, rest = sealed.partition(b"\n--- ")
    mac, _, payload = rest.partition(b"\n")
    altered = mac[:-1] + bytes([mac[-1] ^ 1])
    assert b64decode(mac + b"=") == b64decode(altered + b"=")
    with pytest.raises(SecretUnusable):
        open_secret(head + b"\n--- " + altered + b"\n" + payload, PASSPHRASE)


@pytest.mark.parametrize(
    "log_n", [b"19", b"20", b"21", b"30", b"63", b"99", b"017", b"-1", b"1e9", b"9" * 5000]
)
def test_parameters_are_bounded(sealed: bytes, log_n: bytes) -> None:
    """A sealed secret with more expensive key derivation than this version's is refused (BK8)."""
    with pytest.raises(SecretUnusable, match="this version of sealspace cannot read"):
        open_secret(sealed.replace(b" 17\n", b" " + log_n + b"\n", 1), PASSPHRASE)


@pytest.mark.parametrize("passphrase", ["", "short", "e" * 11])
def test_a_passphrase_that_protects_nothing(passphrase: str) -> None:
    """A short passphrase is refused and not quoted (BK8)."""
    with pytest.raises(SecretUnusable) as raised:
        seal_secret(SECRET, passphrase, CountingEntropy())
    assert not passphrase or passphrase not in raised.value.message + raised.value.hint


@settings(max_examples=30)
@given(
    data=st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda tail: b"age-encryption.org/v1\n-> " + tail)
)
def test_fuzz_sealed_secrets(data: bytes) -> None:
    """Any bytes are refused, and without a key derivation unless they have the format."""
    with suppress(SecretUnusable):
        open_secret(data, PASSPHRASE)
        pytest.fail("it opened")
