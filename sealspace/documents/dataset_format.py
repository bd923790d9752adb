"""Encrypted data sets: two formats, and the owner's statement about one (DS1 to DS7).

    iexec-cbc-v1      IV (16) ‖ AES-256-CBC with PKCS #7 padding
    aead-chunked-v1   header (52) ‖ AES-256-GCM of each 64 KiB with its tag (16)
      header          "sealdata" ‖ 0x01 ‖ chunk size (4) ‖ key id (32) ‖ nonce prefix (7)
      nonce           nonce prefix (7) ‖ number of the chunk (4) ‖ 0x01 if it is the last, else 0x00

The header is the associated data of each chunk. The first format is iExec's. It has no
authentication: only a signed checksum shows a change.

Example:
    with Path("survey.csv").open("rb") as file:
        blob = b"".join(encrypt("aead-chunked-v1", key, file.read, entropy))
    plaintext = b"".join(decrypt("aead-chunked-v1", key, BytesIO(blob).read))
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, aead, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from msgspec import Meta

from capabilities.clock_and_entropy import Entropy
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import StrictRecord

from ..errors import DatasetInvalid, StatementInvalid
from .project_names import ProjectId
from .signed_statements import read_shaped

DATASET_TYPE = "sealspace.dataset/v1"
Suite = Literal["aead-chunked-v1", "iexec-cbc-v1"]
Read = Callable[[int], bytes]
"""Reads this number of bytes, fewer only at the end of the file."""
KEY_BYTES = 32
MAX_ENCRYPTED_BYTES = 1_073_741_824
CHUNK_BYTES = 65_536
_BLOCK_BYTES = 16
"""Bytes of a block and of an IV in CBC, and of a tag in GCM."""
_MAGIC = b"sealdata\1\0\1\0\0"
_HEADER_BYTES = 52
_PREFIX_BYTES = 7


class DatasetRecord(StrictRecord, rename="camel"):
    """The owner's signed statement about a data set (DS7).

    Attributes:
        dataset: id of the data set, `<DID>/<name>`.
        url: address of the encrypted file.
        checksum: `0x` and the SHA-256 of the encrypted file in lower-case hex.
        size_bytes: length of the encrypted file.
        suite: format of the encryption.
        published_at: RFC 3339 text, as stated.
    """

    dataset: str
    url: Annotated[str, Meta(pattern=r"^https://[!-~]+\Z")]
    checksum: str
    size_bytes: Annotated[int, Meta(le=MAX_ENCRYPTED_BYTES)]
    suite: Suite
    published_at: str


def parse_dataset(data: bytes, dataset: ProjectId) -> DatasetRecord:
    """Parse and verify the statement about a data set (DS7).

    Raises:
        StatementInvalid: the statement is malformed, is not signed by the owner, or is about
            another data set.
    """
    record = read_shaped(data, DATASET_TYPE, DatasetRecord, signer=dataset.developer)
    if record.dataset != dataset.text:
        raise StatementInvalid(f"the signed statement is not about the data set {dataset.text}")
    return record


def parse_dataset_key(text: str) -> bytes:
    """Parse the key of a data set, the standard base64 of 32 bytes (DS1)."""
    key = decode_standard(text)
    if key is None or len(key) != KEY_BYTES:
        raise DatasetInvalid("the key of the data set is not the standard base64 of 32 bytes")
    return key


def suite_of(start: bytes, size_bytes: int) -> Suite:
    """Return the format of an encrypted file from its first 13 bytes and its size."""
    if start.startswith(_MAGIC):
        return "aead-chunked-v1"
    if size_bytes % _BLOCK_BYTES:
        raise DatasetInvalid("the file is not an encrypted data set")
    return "iexec-cbc-v1"


def encrypt(suite: Suite, key: bytes, read: Read, entropy: Entropy) -> Iterator[bytes]:
    """Encrypt a data set piece by piece."""
    if suite == "iexec-cbc-v1":
        start = entropy.token(_BLOCK_BYTES)
        yield start
        cipher = Cipher(algorithms.AES(key), modes.CBC(start)).encryptor()
        padder = PKCS7(128).padder()
        while piece := read(CHUNK_BYTES):
            yield cipher.update(padder.update(piece))
        yield cipher.update(padder.finalize())
    else:
        start = _header(key) + entropy.token(_PREFIX_BYTES)
        yield start
        yield from _transform_chunks(aead.AESGCM(key).encrypt, start, read, CHUNK_BYTES)


def decrypt(suite: Suite, key: bytes, read: Read) -> Iterator[bytes]:
    """Decrypt a data set piece by piece.

    The plaintext of `iexec-cbc-v1` is not authentic. Callers must not use it before they have
    compared the checksum of the encrypted file (DS5).

    Raises:
        DatasetInvalid: the header, the key, the length, the padding or a tag is wrong.
    """
    fault = "header or key"
    try:
        if suite == "iexec-cbc-v1":
            cipher = Cipher(algorithms.AES(key), modes.CBC(read(_BLOCK_BYTES))).decryptor()
            unpadder = PKCS7(128).unpadder()
            while piece := read(CHUNK_BYTES):
                yield unpadder.update(cipher.update(piece))
            fault = "length"
            cipher.finalize()  # raises unless the length is a multiple of a block
            fault = "padding or key"
            yield unpadder.finalize()
        else:
            header = read(_HEADER_BYTES)
            # A file for another key is refused before anything is decrypted (DS3).
            if not header.startswith(_header(key)):
                raise ValueError
            yield from _transform_chunks(
                aead.AESGCM(key).decrypt, header, read, CHUNK_BYTES + _BLOCK_BYTES
            )
    except ValueError:
        raise DatasetInvalid(f"the {fault} of the encrypted file is wrong") from None
    except InvalidTag:
        raise DatasetInvalid("the encrypted file was changed or cut off") from None


def _transform_chunks(
    transform: Callable[[bytes, bytes, bytes], bytes], header: bytes, read: Read, chunk_bytes: int
) -> Iterator[bytes]:
    """Encrypt or decrypt chunks, each with a nonce of its own."""
    following = read(chunk_bytes)
    for number in count():
        chunk, following = following, read(chunk_bytes)
        is_last = not following
        # DS4: the nonce has the number of the chunk and whether it is the last. So decryption fails
        # if a chunk was moved, removed or appended.
        last_byte = b"\x01" if is_last else b"\x00"
        nonce = header[-_PREFIX_BYTES:] + number.to_bytes(4) + last_byte
        yield transform(nonce, chunk, header)
        if is_last:
            return


def _header(key: bytes) -> bytes:
    """Return the header without the nonce prefix."""
    return _MAGIC + sha256(b"sealspace.dataset.key/v1\0" + key).digest()
