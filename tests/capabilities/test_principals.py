"""Rules P1 to P6: DIDs and principals."""

import pytest
from capability_cases import OWNER, SESSION

from capabilities.capability_errors import InvalidIdentifier
from capabilities.principals import (
    did_key,
    did_key_content,
    ed25519_public_key,
    eip55,
    is_wallet,
    parse_chain_id,
    parse_principal,
    principal_of,
    same_principal,
    wallet_address,
)

ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
WALLET = f"did:pkh:eip155:1:{ADDRESS}"


def test_P1_fragment_is_dropped():
    """The principal of a DID URL is the text before its first hash sign."""
    assert parse_principal("did:key:zX#zX") == "did:key:zX"
    assert principal_of("did:key:zX#a#b") == "did:key:zX"
    assert principal_of(f"{WALLET}#blockchainAccountId") == WALLET


@pytest.mark.parametrize("chain", ["1", "01", "+1", "0001", "+01"])
@pytest.mark.parametrize("address", [ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_P2_P6_ethereum_account_is_canonicalised(chain, address):
    """Chain number and address case are canonicalised, and a wrong checksum is repaired."""
    assert parse_principal(f"did:pkh:eip155:{chain}:{address}") == WALLET


@pytest.mark.parametrize(
    ("did", "text"),
    [
        ("did:pkh:eip155:1", "invalid did:pkh:eip155 DID"),
        (f"did:pkh:eip155:1:{ADDRESS}:x", "invalid did:pkh:eip155 DID"),
        (f"did:pkh:eip155:0:{ADDRESS}", "invalid EIP-155 chain ID"),
        (f"did:pkh:eip155::{ADDRESS}", "invalid EIP-155 chain ID"),
        (f"did:pkh:eip155:one:{ADDRESS}", "invalid EIP-155 chain ID"),
        (f"did:pkh:eip155:-1:{ADDRESS}", "invalid EIP-155 chain ID"),
        (f"did:pkh:eip155:1_0:{ADDRESS}", "invalid EIP-155 chain ID"),
        (f"did:pkh:eip155:18446744073709551616:{ADDRESS}", "invalid EIP-155 chain ID"),
        (f"did:pkh:eip155:{'9' * 5000}:{ADDRESS}", "invalid EIP-155 chain ID"),
        (f"did:pkh:eip155:1:{ADDRESS[2:]}", "invalid EIP-155 address prefix"),
        (f"did:pkh:eip155:1:0X{ADDRESS[2:]}", "invalid EIP-155 address prefix"),
        ("did:pkh:eip155:1:0x12", "invalid EIP-155 address length: expected 40, got 2"),
        (f"did:pkh:eip155:1:0x{'g' + ADDRESS[3:]}", "invalid EIP-155 address character at 0: g"),
        (f"did:pkh:eip155:1:{ADDRESS[:-1]}٣", "invalid EIP-155 address character at 39: ٣"),
    ],
)
def test_P2_malformed_ethereum_account_is_an_error(did, text):
    """A malformed did:pkh:eip155 is rejected with the wire's text."""
    with pytest.raises(InvalidIdentifier) as caught:
        parse_principal(did)
    assert text == caught.value.text


def test_P2_largest_chain_is_the_largest_64_bit_number():
    """The chain is an unsigned 64-bit number."""
    assert parse_chain_id("018446744073709551615") == 2**64 - 1


@pytest.mark.parametrize(
    "did", ["did:key:zX", "did:web:a.example", "did:pkh:eth:0xAB", "did:pkh:solana:a:b", "did:x:Y"]
)
def test_P3_other_methods_are_kept_byte_for_byte(did):
    """DIDs of other methods are kept byte for byte."""
    assert did == parse_principal(did)
    assert not same_principal(did, did.upper())


@pytest.mark.parametrize(
    "text",
    ["", "did", "did:", "did:key", "did:key:", "did::x", "key:z", "DID:key:z", "did:a: b", "x"],
)
def test_P3_minimum_shape(text):
    """A DID is `did:`, a method, a colon and an identifier."""
    with pytest.raises(InvalidIdentifier, match="invalid DID"):
        parse_principal(text)


def test_P4_principals_match_by_canonical_form():
    """Spellings of one account match; without a canonical form only equal texts do."""
    assert same_principal(WALLET.lower(), f"did:pkh:eip155:01:{ADDRESS}#x")
    assert same_principal("did:key:zX#zX", "did:key:zX")
    bad = "did:pkh:eip155:0:0xAB"
    assert same_principal(bad, bad)
    assert not same_principal(bad, bad.lower())
    assert not same_principal(bad, bad + "#x")
    assert not same_principal("did:key:zX", "did:key:zY")


def test_P4_malformed_account_is_kept_in_tokens():
    """A malformed account in a token is kept unchanged and equals no other principal."""
    assert principal_of("did:pkh:eip155:1:0x12#f") == "did:pkh:eip155:1:0x12"


def test_P5_identity_that_is_no_did_is_kept():
    """The audience of a wallet's message may be any URI."""
    assert principal_of("https://a.example/x#y") == "https://a.example/x"
    assert principal_of("ucan:bafy") == "ucan:bafy"


@pytest.mark.parametrize(
    "checksummed",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_P6_checksum_of_the_eip_examples(checksummed):
    """The examples of EIP-55 have the expected mixed case."""
    assert checksummed == eip55(bytes.fromhex(checksummed[2:]))


def test_did_key_names_the_key():
    """A did:key is converted to its 32 bytes and back."""
    assert did_key(SESSION.public_key) == "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"
    assert SESSION.public_key == ed25519_public_key(SESSION.did)


def test_K6_the_length_of_a_did_key():
    """A did:key has at most 256 characters."""
    longest = "did:key:z" + "1" * 247
    assert len(longest) == 256
    assert did_key_content(longest) == bytes(247)
    assert did_key_content(longest + "1") is None


@pytest.mark.parametrize(
    "did",
    [
        "did:key:",
        "did:key:z6Mk",
        "did:key:zI",
        "did:web:x",
        SESSION.did_url,
        SESSION.did + "x",
        "did:web:" + SESSION.did.removeprefix("did:key:"),
        "did:key:z" + "1" * 300,
    ],
)
def test_K6_other_keys_are_not_ed25519_keys(did):
    """Only 32 bytes with the Ed25519 codec are an Ed25519 key."""
    assert ed25519_public_key(did) is None


def test_wallet_address_of_an_account():
    """Only a valid Ethereum account is a wallet."""
    principal = parse_principal(WALLET.lower())
    assert is_wallet(principal)
    assert OWNER.address == wallet_address(principal)
    assert wallet_address(principal_of("did:pkh:eip155:0:" + ADDRESS)) is None
    assert wallet_address(parse_principal(SESSION.did)) is None
