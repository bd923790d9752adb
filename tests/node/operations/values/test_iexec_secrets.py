"""The hashes that wallets sign to push secrets, and the wallets recovered from signatures (SM4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sms_owner import K1, K2, challenge, signed

from capabilities.principals import parse_principal
from capabilities.signatures import WalletSigner, keccak256
from node.http.routes.sms_routes import hex_bytes
from node.operations.values.iexec_secrets import challenge_of, signer_of
from node.refusal import Refusal

OWNER = "0x38882341853931723e86B6154A2B13A682A8bcA5"
APP = "0xa172cedcae47474b615c54d510a5d84a8dea3032"
DATASET = "0xb277fd623676a525c29b9eb155afc8c901068181"
DATASET_KEY = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
VECTORS = [
    (
        OWNER,
        (b"db-password", b"s3cr3t"),
        "764de053b0cada2b5e5f9460a2c78b4493267e6cabf931f33a3dee10d7393e38",
        "0x1fa4fb94ec2ff1ed5bc2f85401ebfb78e8db58fed8a832a4f230e2fa46c658526a14a4a4ec09f71eb5b91804"
        "c5562d92c6e57cc4f2532696a474ed488043b86c1c",
    ),
    (
        APP,
        (b"1", b"s3cr3t"),
        "0b90e1c1db3376de226e16938a8d8a3d8f27b136ccb562a4f9bce7824ef1423d",
        "0xb35b0f5e1e55f3aac20c05084049718b88758ddda5f99719705d01cd2da2d96c6c818778f8bfb538ed49417f"
        "2b7f9a265a1f25b5b74b05b2eaf3b8ee5825b9811b",
    ),
    (
        DATASET,
        (DATASET_KEY,),
        "e5412f4df99bb9164b07180409384a495ffcca887d31db26fc9a845cace1433f",
        "0x2159b1bf9991c90ed3464f96f39255b405255b7b062349f1760c21ef6cf2d04d2521bbc870f63f6e9c239031"
        "8e449ab495108c7259e25cabec38ab3e54c981b21c",
    ),
]
EDGES = [
    (
        "",
        (b"0", b""),
        "31991eefc2731228bdd25dbc5a242722eda3869f9b06536dbd96a774e5228509",
    ),
    (
        "0x123",
        (b"ghijk",),
        "8d0b92aaf96f66f172d7615b81f257ebdece2278b7da6c60127cad45852eaaf6",
    ),
]


def _challenge(address: str, texts: tuple[bytes, ...]) -> bytes:
    return challenge_of(hex_bytes(address), *map(keccak256, texts))


@pytest.mark.parametrize(("address", "texts", "expected", "signature"), VECTORS)
def test_vectors_of_challenges(
    address: str, texts: tuple[bytes, ...], expected: str, signature: str
) -> None:
    """iexec-S16, iexec-V1, iexec-V3, iexec-V4, iexec-V5: the hashes, signatures and signers; the
    tests' own wallet agrees."""
    hashed = _challenge(address, texts)
    assert hashed.hex() == expected == challenge(address.lower(), *texts).hex()
    assert signed(K1, hashed) == signature
    assert signer_of(signature, hashed) == WalletSigner(K1).did == f"did:pkh:eip155:1:{OWNER}"


@pytest.mark.parametrize(("address", "texts", "expected"), EDGES)
def test_edges_of_the_hash(address: str, texts: tuple[bytes, ...], expected: str) -> None:
    """iexec-S16, iexec-V8: an empty address has no bytes, and an odd first digit is a byte of its
    own."""
    assert _challenge(address, texts).hex() == expected


def test_the_second_key() -> None:
    """iexec-V2: a wallet's address is in the spelling of EIP-55."""
    assert WalletSigner(K2).did == "did:pkh:eip155:1:0x1b0480a0cc187d1DF4E618141B1b1f5D2C6C78be"


def test_values_of_v() -> None:
    """SM4: a signature's v may be 27, 28, 31 or 32, and any other value is refused."""
    hashed = _challenge(OWNER, (b"db-password", b"s3cr3t"))
    known = VECTORS[0][3]
    assert signer_of(f"{known[:-2]}20", hashed) == f"did:pkh:eip155:1:{OWNER}"
    for v in ("00", "01", "1a", "1d", "1e", "21", "22", "23", "ff"):
        with pytest.raises(Refusal, match="sms-unauthorized"):
            signer_of(known[:-2] + v, hashed)
    assert signer_of(f"{known[:-2]}1b", hashed) != f"did:pkh:eip155:1:{OWNER}"


@pytest.mark.parametrize(
    "header",
    ["", "0x", VECTORS[0][3][2:], VECTORS[0][3] + "00", "0x" + "zz" * 65, "0x" + "0" * 130],
)
def test_headers_that_are_no_signature(header: str) -> None:
    """SM4: a header of another form is refused."""
    with pytest.raises(Refusal, match="sms-unauthorized"):
        signer_of(header, bytes(32))


def test_the_twin_of_a_signature() -> None:
    """SM4: the second spelling of a signature, with a high s, is refused."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    hashed, known = _challenge(OWNER, (b"db-password", b"s3cr3t")), VECTORS[0][3]
    twin = f"{known[:66]}{order - int(known[66:130], 16):064x}1b"
    with pytest.raises(Refusal, match="sms-unauthorized"):
        signer_of(twin, hashed)


@given(st.text(max_size=140) | st.from_regex(r"0x[0-9A-Fa-f]{128}(1[b-f]|2[0-2])", fullmatch=True))
def test_fuzz_of_headers(header: str) -> None:
    """SM4: a header gives a wallet's DID or the one refusal, whatever its text."""
    try:
        assert parse_principal(signer_of(header, bytes(32))).startswith("did:pkh:eip155:1:0x")
    except Refusal as refusal:
        assert refusal.code == "sms-unauthorized"


@given(st.text(max_size=50) | st.from_regex(r"0x[0-9A-Fa-f]{0,44}", fullmatch=True))
def test_fuzz_of_addresses(text: str) -> None:
    """SM4: an address is decoded to bytes, or refused like a wrong signature."""
    try:
        assert len(hex_bytes(text)) <= (len(text) + 1) // 2
    except Refusal as refusal:
        assert refusal.code == "sms-unauthorized"
