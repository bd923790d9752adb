"""Tests of wallets from keys, keystore files and eth-account accounts."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from btclib_libsecp256k1 import keys, recovery
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given
from hypothesis import strategies as st
from sha3 import keccak_256

from capabilities.principals import eip55
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import InvalidInput, InvalidKeystore, WrongPassword
from sealspace.wallets import (
    EthAccountWallet,
    keystore_secret,
    new_wallet,
    parse_keystore,
    signature_of,
    wallet_from_key,
    wallet_from_keystore,
    wallet_of,
)

SECRET = bytes(range(1, 33))
WALLET = wallet_from_key(SECRET)
PASSWORD = "correct horse ✓"
SCRYPT: dict[str, object] = {"n": 4, "r": 8, "p": 1, "dklen": 32, "salt": "ab" * 32}
PBKDF2: dict[str, object] = {"c": 2, "prf": "hmac-sha256", "dklen": 32, "salt": "cd" * 32}


def keystore(
    kdf: str = "scrypt",
    secret: bytes = SECRET,
    changed: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write a version 3 keystore without the product's code, with `changed` applied to `crypto`."""
    password, salt = PASSWORD.encode(), bytes.fromhex("ab" * 32 if kdf == "scrypt" else "cd" * 32)
    if kdf == "scrypt":
        key = Scrypt(salt=salt, length=32, n=4, r=8, p=1).derive(password)
    else:
        key = PBKDF2HMAC(algorithm=SHA256(), length=32, salt=salt, iterations=2).derive(password)
    encryptor = Cipher(AES(key[:16]), CTR(b"\x07" * 16)).encryptor()
    ciphertext = encryptor.update(secret) + encryptor.finalize()
    crypto = {
        "kdf": kdf,
        "kdfparams": SCRYPT if kdf == "scrypt" else PBKDF2,
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "07" * 16},
        "ciphertext": ciphertext.hex(),
        "mac": keccak_256(key[16:] + ciphertext).hexdigest(),
    }
    return {
        "version": 3,
        "id": "x",
        "address": WALLET.address.hex(),
        "crypto": {**crypto, **changed},
    }


def written(tmp_path: Path, value: Mapping[str, Any]) -> Path:
    path = tmp_path / "keystore.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    "key", [SECRET, SECRET.hex(), "0x" + SECRET.hex(), f" 0x{SECRET.hex().upper()}\n"]
)
def test_a_wallet_from_a_key(key: bytes | str) -> None:
    """A private key in bytes and in hexadecimal digits makes the same wallet."""
    assert wallet_from_key(key).did == WALLET.did
    assert wallet_from_key(key, chain_id=10).did.startswith("did:pkh:eip155:10:0x")


@pytest.mark.parametrize(
    "key", ["", "ab" * 31, "zz" * 32, b"", bytes(32), b"\xff" * 32, "0x", None, 5]
)
def test_what_is_no_key(key: Any) -> None:
    """The error for an invalid key contains no part of the key, and neither does its cause."""
    with pytest.raises(InvalidInput) as refused:
        wallet_from_key(key)
    assert len(str(key)) < 10 or str(key) not in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode()])
def test_a_wallet_from_a_keystore(tmp_path: Path, kdf: str, password: str | bytes) -> None:
    """The reader supports both key derivations, scrypt and PBKDF2, from a text or a path."""
    path = written(tmp_path, keystore(kdf))
    assert (
        wallet_from_keystore(path, password).did
        == wallet_from_keystore(str(path), password).did
        == WALLET.did
    )


def test_the_published_example() -> None:
    """The reader opens the examples of the Web3 Secret Storage Definition, for scrypt and
    PBKDF2."""
    secret = bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
    pbkdf2 = {
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                "c": 262144,
                "dklen": 32,
                "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3,
    }
    opened = keystore_secret(json.dumps(pbkdf2).encode(), "testpassword")
    assert opened.secret == secret
    assert opened.stated_address is None
    assert repr(secret) not in repr(opened)


def test_a_wrong_password(tmp_path: Path) -> None:
    """A wrong password and a damaged file raise the same error, which contains no secret."""
    path = written(tmp_path, keystore())
    for wrong in ("a wrong password", b"a wrong password", "", "a wrong \ud800"):
        with pytest.raises(WrongPassword) as refused:
            wallet_from_keystore(path, wrong)
        assert "a wrong" not in f"{refused.value} {refused.value!r} {refused.value.__cause__}"
    for member in ("mac", "ciphertext"):
        with pytest.raises(WrongPassword):
            wallet_from_keystore(written(tmp_path, keystore(changed={member: "00" * 32})), PASSWORD)


HUGE = 1 << 40


@pytest.mark.parametrize(
    "changed",
    [
        {"cipher": "aes-128-cbc"},
        {"cipherparams": {"iv": "07"}},
        {"cipherparams": None},
        {"ciphertext": "ab"},
        {"ciphertext": 1},
        {"mac": ""},
        {"kdf": "argon2id"},
        {"kdfparams": []},
        *(
            {"kdfparams": SCRYPT | one}
            for one in ({"n": HUGE}, {"r": HUGE}, {"p": HUGE}, {"n": 3}, {"n": 1}, {"n": 0})
        ),
        *(
            {"kdfparams": SCRYPT | one}
            for one in ({"n": True}, {"n": "4"}, {"dklen": 16}, {"salt": ""}, {"salt": "zz"})
        ),
        {"kdfparams": SCRYPT | {"salt": "ab" * 300}},
        # scrypt's own bound of n for this r
        {"kdfparams": SCRYPT | {"n": 1 << 16, "r": 1, "p": 1}},
        *(
            {"kdf": "pbkdf2", "kdfparams": PBKDF2 | one}
            for one in ({"c": HUGE}, {"prf": "hmac-sha512"}, {"c": 0})
        ),
    ],
)
def test_files_that_are_no_keystore(tmp_path: Path, changed: dict[str, object]) -> None:
    """A malformed keystore, or one that needs too much work, is refused before the key
    derivation."""
    with pytest.raises(InvalidKeystore):
        wallet_from_keystore(written(tmp_path, keystore(changed=changed)), PASSWORD)


@pytest.mark.parametrize(
    "value",
    [
        keystore() | {"version": 1},
        keystore() | {"version": True},
        keystore() | {"address": "00" * 20},
        keystore(secret=bytes(32)) | {"address": ""},
        {"version": 3},
    ],
)
def test_keystores_of_another_kind(tmp_path: Path, value: dict[str, Any]) -> None:
    """A keystore of another version, with another address, or with an invalid key is rejected."""
    with pytest.raises(InvalidKeystore):
        wallet_from_keystore(written(tmp_path, value), PASSWORD)


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    """A file above the size limit is refused as a keystore, and a missing file raises OSError."""
    path = tmp_path / "huge"
    path.write_bytes(b" " * 70_000)
    with pytest.raises(InvalidKeystore):
        wallet_from_keystore(path, PASSWORD)
    with pytest.raises(FileNotFoundError):
        wallet_from_keystore(tmp_path / "missing", PASSWORD)


@given(
    st.binary(max_size=100)
    | st.integers(0, 400).map(lambda at: json.dumps(keystore()).encode()[:at])
)
def test_fuzz_keystores(data: bytes) -> None:
    """Any bytes are opened as a keystore or refused with the reader's error."""
    with pytest.raises(InvalidKeystore):
        keystore_secret(data, PASSWORD)
    with pytest.raises(InvalidKeystore):
        parse_keystore(data)


# --- accounts of eth-account ----------------------------------------------------------------------


class _SignedMessage(NamedTuple):
    messageHash: bytes
    r: int
    s: int
    v: int
    signature: bytes


class Account:
    """An object with the interface of an eth-account account."""

    def __init__(self, secret: bytes, *, claims: bytes | None = None) -> None:
        self._secret = secret
        own = keccak_256(keys.pubkey_from_prvkey(secret, compressed=False)[1:]).digest()[12:]
        self.address = "0x" + (claims or own).hex()
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def sign_message(self, signable_message: Any) -> _SignedMessage:
        """Sign as eth-account does: 0x19, version, header, body."""
        version, header, body = signable_message
        assert version == signable_message.version and len(version) == 1
        self.asked.append((version, header, body))
        digest = keccak_256(b"\x19" + version + header + body).digest()
        signature, odd = recovery.sign(digest, self._secret)
        whole = signature + bytes([odd + 27])
        r, s = (int.from_bytes(part, "big") for part in (whole[:32], whole[32:64]))
        return _SignedMessage(digest, r, s, whole[64], whole)


async def test_an_account_signs_in_grants_and_revokes(bench) -> None:
    """An eth-account account can be used wherever a wallet is expected."""
    account, client = Account(SECRET), await bench.client()
    session = await client.sign_in(account)
    assert session.owner == WALLET.did
    await client.secrets().put("A", "1")
    assert await client.secrets().get("A") == "1"
    right = [allow(client.secrets().resource("A"), "tinycloud.kv/get")]
    friend = await bench.client()
    await friend.sign_in_with_key(bytes(32))
    grant = await client.delegations.delegate(friend.session.did, right, wallet=account)
    await friend.delegations.accept(grant)
    await client.delegations.revoke_by_wallet(grant, account)
    assert not (await client.delegations.status(grant)).is_active
    assert len(account.asked) == 3


def test_an_account_is_a_wallet_like_any_other() -> None:
    """An account signs a text exactly as a wallet with the same key does."""
    account = Account(SECRET)
    assert wallet_of(account).sign_eip191("hello ✓") == WALLET.sign_eip191("hello ✓")
    assert account.asked == [(b"E", b"thereum Signed Message:\n9", "hello ✓".encode())]
    assert EthAccountWallet(account, 10).did == wallet_from_key(SECRET, chain_id=10).did
    assert wallet_of(WALLET) is WALLET


def test_accounts_that_are_no_wallet() -> None:
    """An object that is neither a wallet nor an account is refused."""
    for nobody in (None, "0xkey", object()):
        with pytest.raises(InvalidInput):
            wallet_of(nobody)  # type: ignore[arg-type]  # wrong on purpose
    account = Account(SECRET)
    account.address = "0x12"
    with pytest.raises(InvalidInput):
        wallet_of(account)


async def test_a_wallet_that_signs_with_another_key(bench) -> None:
    """A sign-in fails with a message that names the wallet and the account that signed."""
    address = b"\x01" * 20
    asked, signing = f"did:pkh:eip155:1:{eip55(address)}", WALLET.did
    async with Client(bench.node.url, clock=bench.clock, entropy=bench.entropy) as client:
        with pytest.raises(InvalidInput) as refused:
            await client.sign_in(Account(SECRET, claims=address))
    assert f"the wallet is {asked}, but {signing} made the signature" in str(refused.value)


@pytest.mark.parametrize("signature", [b"", bytes(65), b"\xff" * 65])
def test_a_wallet_that_does_not_sign(signature: bytes) -> None:
    """The SDK rejects a wallet's answer that is not a signature."""

    class Contract:
        address, chain_id, did = WALLET.address, 1, WALLET.did

        def sign_eip191(self, text: str) -> bytes:
            return signature

    with pytest.raises(InvalidInput, match="no account made the signature"):
        signature_of(Contract(), "hello")


def test_the_library_itself() -> None:
    """An account of the real eth-account library signs as our wallet does (if installed)."""
    library = pytest.importorskip("eth_account", reason="eth-account is not installed")
    account = library.Account.from_key(SECRET)
    assert wallet_of(account).did == WALLET.did
    assert wallet_of(account).sign_eip191("hello") == WALLET.sign_eip191("hello")


def test_no_wallet_prints_its_key() -> None:
    """The repr of a wallet shows its DID, not its key."""
    for wallet in (new_wallet(), WALLET, wallet_of(Account(SECRET))):
        assert wallet.did in repr(wallet) and SECRET.hex() not in repr(wallet)
