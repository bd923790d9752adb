"""Tests of encrypted data sets: formats, keys and statements."""

import hashlib
import json
import os
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from sealspace.documents.dataset_format import (
    CHUNK_BYTES,
    DATASET_TYPE,
    DatasetRecord,
    Suite,
    decrypt,
    encrypt,
    parse_dataset,
    parse_dataset_key,
    suite_of,
)
from sealspace.documents.project_names import parse_project
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import DatasetInvalid, SealspaceError, StatementInvalid

KEY = bytes(range(32))
SUITES: tuple[Suite, ...] = ("aead-chunked-v1", "iexec-cbc-v1")
OWNER = Ed25519Signer(bytes(range(32)))
DATASET = parse_project(f"{OWNER.did}/survey")
IEXEC = REPOSITORY / ".cache/iexec/node_modules/.bin/iexec"
SIZES = st.one_of(
    st.integers(0, 200),
    st.builds(
        lambda chunks, more: max(0, chunks * CHUNK_BYTES + more),
        st.integers(0, 3),
        st.integers(-17, 17),
    ),
)


@dataclass
class Fixed:
    """A random source that always returns the same bytes."""

    data: bytes

    def token(self, size_bytes: int) -> bytes:
        assert len(self.data) == size_bytes
        return self.data


def checksum(blob: bytes) -> str:
    return f"0x{hashlib.sha256(blob).hexdigest()}"


def sealed(suite: Suite, plain: bytes) -> bytes:
    return b"".join(encrypt(suite, KEY, BytesIO(plain).read, SystemEntropy()))


def opened(suite: Suite, blob: bytes, key: bytes = KEY) -> bytes:
    return b"".join(decrypt(suite, key, BytesIO(blob).read))


def plaintext(size: int) -> bytes:
    return hashlib.shake_128(b"plaintext").digest(size)


# --- formats --------------------------------------------------------------------------------------


def test_the_vector_of_iexec() -> None:
    """DS2, iexec-V9: the blob and its checksum, byte for byte."""
    key = parse_dataset_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    plain = b"Hello, enclave!\n"
    blob = b"".join(encrypt("iexec-cbc-v1", key, BytesIO(plain).read, Fixed(bytes(range(16)))))
    assert blob.hex() == (
        "000102030405060708090a0b0c0d0e0f6c18f0462c162b5b0c123edf2b83b763c7e536ab0319bc09a5a8b5814d71045f"
    )
    assert checksum(blob) == "0xef6504b11e152b2baeb5a143f698b883f43d779e6e7b9976e9062413fdd3f267"
    assert opened("iexec-cbc-v1", blob, key) == plain


@given(st.sampled_from(SUITES), SIZES)
def test_what_is_encrypted_is_decrypted(suite: Suite, size: int) -> None:
    """DS2, DS4: data of any length is decrypted, and the format is recognised."""
    blob = sealed(suite, plaintext(size))
    assert opened(suite, blob) == plaintext(size)
    assert suite_of(blob[:16], len(blob)) == suite


@given(st.sampled_from(SUITES), st.binary(max_size=300))
def test_any_bytes_are_decrypted_or_refused_fuzz(suite: Suite, blob: bytes) -> None:
    """DS2, DS3: any bytes are decrypted or refused with the package's own error."""
    try:
        opened(suite, blob)
    except DatasetInvalid as refused:
        assert refused.message


CHANGES = st.sampled_from(("drop", "add", "flip", "swap", "repeat", "remove"))


@given(CHANGES, st.integers(1, 3), st.integers(-3, 3), st.integers(0, 2**20))
def test_no_changed_file_is_accepted(change: str, chunks: int, more: int, at: int) -> None:
    """DS4: a file that is truncated, extended or changed, or whose chunks are reordered, repeated
    or missing, is refused."""
    blob = sealed("aead-chunked-v1", plaintext(chunks * CHUNK_BYTES + more))
    header, unit = blob[:52], CHUNK_BYTES + 16
    parts = [blob[start : start + unit] for start in range(52, len(blob), unit)]
    index = at % len(parts)
    if change == "drop":
        changed = blob[: at % len(blob)]
    elif change == "add":
        changed = blob + bytes(1 + at % 100)
    elif change == "flip":
        position = at % len(blob)
        flipped = blob[position] ^ (1 << at % 8)
        changed = blob[:position] + bytes([flipped]) + blob[position + 1 :]
    else:
        if change == "swap":
            parts[index], parts[index - 1] = parts[index - 1], parts[index]
        elif change == "repeat":
            parts.insert(index, parts[index])
        else:
            del parts[index]
        changed = header + b"".join(parts)
    if changed == blob:
        return  # a single chunk, swapped with itself
    with pytest.raises(DatasetInvalid):
        opened("aead-chunked-v1", changed)


def test_nothing_is_decrypted_under_another_key() -> None:
    """DS3, iexec-D1: another key is refused by name before the first chunk."""
    blob = sealed("aead-chunked-v1", plaintext(10))
    with pytest.raises(DatasetInvalid, match="the header or key of the encrypted file is wrong"):
        opened("aead-chunked-v1", blob, bytes(32))
    # In CBC only the padding can show it, so one key in 256 is not noticed (DS5).
    wrong = [bytes([number]) * 32 for number in range(40)]
    refused = 0
    blob = sealed("iexec-cbc-v1", plaintext(100))
    for key in wrong:
        try:
            assert opened("iexec-cbc-v1", blob, key) != plaintext(100)
        except DatasetInvalid as error:
            assert "padding" in error.message
            refused += 1
    assert refused > 30


def test_each_encryption_is_another() -> None:
    """DS3: the nonce prefix is random, so equal files have different ciphertexts."""
    assert sealed("aead-chunked-v1", b"a") != sealed("aead-chunked-v1", b"a")
    assert sealed("iexec-cbc-v1", b"a") != sealed("iexec-cbc-v1", b"a")


@given(st.one_of(st.text(max_size=60), st.binary(max_size=40).map(lambda b: b64encode(b).decode())))
def test_keys_fuzz(text: str) -> None:
    """DS1, iexec-D1: a key is the canonical base64 of 32 bytes, or refused without repeating it."""
    try:
        key = parse_dataset_key(text)
    except DatasetInvalid as refused:
        # Not `text not in`, because the message contains texts such as "bas".
        assert "the key of the data set is not the standard base64 of 32 bytes" == refused.message
    else:
        assert len(key) == 32 and b64encode(key).decode() == text


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_keys_of_another_length(size: int) -> None:
    """DS1, iexec-D1: 31 and 33 bytes are refused."""
    with pytest.raises(DatasetInvalid):
        parse_dataset_key(b64encode(bytes(size)).decode())


# --- other programs -------------------------------------------------------------------------------


@pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("size", [0, 1, 16, 70_000])
def test_openssl_reads_and_writes_the_format(tmp_path: Path, size: int) -> None:
    """DS2: OpenSSL decrypts our files, and our code decrypts OpenSSL's files."""
    blob, plain = sealed("iexec-cbc-v1", plaintext(size)), plaintext(size)

    def openssl(*more: str, data: bytes, iv: bytes) -> bytes:
        command = ["openssl", "enc", "-aes-256-cbc", "-K", KEY.hex(), "-iv", iv.hex(), *more]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    assert openssl("-d", data=blob[16:], iv=blob[:16]) == plain
    iv = bytes(range(16))
    assert opened("iexec-cbc-v1", iv + openssl(data=plain, iv=iv)) == plain


@pytest.mark.skipif(not IEXEC.exists(), reason="the client iexec is not installed in .cache/iexec")
def test_the_client_of_iexec(tmp_path: Path) -> None:
    """DS1, DS2: what `iexec dataset encrypt` writes is read, with its checksum and key."""

    def iexec(*words: str, program: str = "iexec") -> Any:
        command = ["node", str(IEXEC.resolve().with_name(f"{program}.js")), *words, "--raw"]
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment)
        assert ran.returncode == 0, ran
        return json.loads(ran.stdout)

    iexec("init", "--skip-wallet")
    # As `iexec dataset` does, which first loads the client for itself.
    iexec("init", "--encrypted", program="iexec-dataset")
    (tmp_path / "datasets/original/survey.csv").write_bytes(plaintext(100_000))
    (made,) = iexec("encrypt", program="iexec-dataset")["encryptedFiles"]
    blob = (tmp_path / made["encrypted"]).read_bytes()
    key = parse_dataset_key((tmp_path / made["key"]).read_text().strip())
    assert checksum(blob) == made["checksum"]
    assert suite_of(blob[:16], len(blob)) == "iexec-cbc-v1"
    assert opened("iexec-cbc-v1", blob, key) == plaintext(100_000)


# --- statements -----------------------------------------------------------------------------------


def stated(**other: Any) -> dict[str, Any]:
    return {
        "dataset": DATASET.text,
        "url": "https://files.example/survey.enc",
        "checksum": checksum(b""),
        "sizeBytes": 68,
        "suite": "aead-chunked-v1",
        "publishedAt": "2026-01-01T00:00:00Z",
    } | other


def test_a_statement_is_read() -> None:
    """DS7: the members arrive as they were signed."""
    record = parse_dataset(sign_statement(DATASET_TYPE, stated(), OWNER), DATASET)
    assert to_builtins(record) == stated() and isinstance(record, DatasetRecord)


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": f"{OWNER.did}/other"},
        {"dataset": f"{Ed25519Signer(bytes(32)).did}/survey"},
        {"url": "http://files.example/"},
        {"url": "https://files.example/a b"},
        {"url": "https://files.example/\n"},
        {"sizeBytes": 2**30 + 1},
        {"sizeBytes": "68"},
        {"suite": "rot13"},
        {"sequence": 1},
    ],
)
def test_a_statement_that_is_not_valid(other: dict[str, Any]) -> None:
    """DS7: another id, address, size or format, and unknown members are refused."""
    with pytest.raises(StatementInvalid):
        parse_dataset(sign_statement(DATASET_TYPE, stated(**other), OWNER), DATASET)


def test_a_statement_by_somebody_else() -> None:
    """DS7: another signer or type is refused, and a changed statement too."""
    for kind, signer in (
        (DATASET_TYPE, Ed25519Signer(bytes(32))),
        ("sealspace.program.version/v1", OWNER),
    ):
        with pytest.raises(StatementInvalid):
            parse_dataset(sign_statement(kind, stated(), signer), DATASET)
    signed = sign_statement(DATASET_TYPE, stated(), OWNER)
    with pytest.raises(StatementInvalid):
        parse_dataset(signed.replace(b"survey.enc", b"survey.csv"), DATASET)


@given(st.binary(max_size=200))
def test_statements_fuzz(data: bytes) -> None:
    """DS7: any bytes are refused with an error of this package."""
    with pytest.raises(SealspaceError):
        parse_dataset(data, DATASET)
