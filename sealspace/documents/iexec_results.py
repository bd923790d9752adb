"""The encrypted result of a task, in iExec's format.

The file is an archive with two members. The format has no authentication of its own: compare the
file's SHA-256 with that in the task's receipt before decryption.

    aes-key.rsa          an AES key, RSA PKCS#1 v1.5 for the beneficiary
    iexec_out.zip.aes    IV (16) ‖ AES-256-CBC with PKCS#7 of an archive of the program's output

Example:
    decrypt_result(Path("result.zip"), private_key_pem, Path("result"))
"""

import os
import secrets
import tempfile
import zlib
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ..errors import InvalidInput

_MAX_KEY_BYTES = 16 * 1024
_KEY_BITS = range(2048, 8001)
"""iExec's client reads at most 1000 bytes of an encrypted key."""
_PIECE_BYTES = 1 << 20
_DAMAGED = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    UnsupportedAlgorithm,
    BadZipFile,
    zlib.error,
)
"""Errors of keys and archives that are not valid."""


def public_key(key_pem: bytes) -> RSAPublicKey:
    """Return the key of a beneficiary (TG14).

    Raises InvalidInput unless it is an RSA key of 2048 to 8000 bits in PEM.
    """
    try:
        key = load_pem_public_key(key_pem[:_MAX_KEY_BYTES])
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, RSAPublicKey) and key.key_size in _KEY_BITS:
        return key
    raise InvalidInput("not an RSA public key of 2048 to 8000 bits in PEM")


def encrypt_result(archive: IO[bytes], key: RSAPublicKey, destination: Path) -> None:
    """Encrypt an archive to the key of a beneficiary (TG14).

    Padding is appended to the archive.
    """
    padding = 16 - archive.seek(0, os.SEEK_END) % 16
    archive.write(bytes([padding]) * padding)
    archive.seek(0)
    aes_key, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    encryptor = Cipher(AES256(aes_key), CBC(iv)).encryptor()
    with ZipFile(destination, "w") as outer:
        with outer.open("aes-key.rsa", "w") as wrapped:
            wrapped.write(key.encrypt(aes_key, PKCS1v15()))
        with outer.open("iexec_out.zip.aes", "w") as sealed:
            sealed.write(iv)
            while piece := archive.read(_PIECE_BYTES):
                sealed.write(encryptor.update(piece))


def decrypt_result(
    result: Path,
    private_key_pem: bytes,
    folder: Path,
    *,
    max_bytes: int = 1_000_000_000,
    max_files: int = 10_000,
) -> None:
    """Decrypt a task's result into a new folder (TG15).

    Args:
        result: the result file, untrusted.
        private_key_pem: RSA private key without a password, as PEM.
        folder: must not exist. If the call fails, it may contain a part of the files.
        max_bytes: largest archive, and largest total size of the files.
        max_files: most files and folders.

    Raises:
        InvalidInput: the key is not valid, or the result was not encrypted to it, is damaged or is
            too large.
        OSError: a file cannot be read or written, or the folder exists.
    """
    with result.open("rb") as sealed, tempfile.TemporaryFile(dir=result.parent) as archive:
        folder.mkdir(0o700)
        try:
            key = load_pem_private_key(private_key_pem, None)
            with ZipFile(sealed) as outer, outer.open("iexec_out.zip.aes") as stream:
                _check_methods(outer)
                if outer.getinfo(stream.name).file_size > max_bytes:
                    raise ValueError
                with outer.open("aes-key.rsa") as wrapped:
                    aes_key = key.decrypt(wrapped.read(_MAX_KEY_BYTES), PKCS1v15())
                decryptor = Cipher(AES256(aes_key), CBC(stream.read(16))).decryptor()
                unpadder = PKCS7(128).unpadder()
                while piece := stream.read(_PIECE_BYTES):
                    archive.write(unpadder.update(decryptor.update(piece)))
                archive.write(unpadder.finalize())
            with ZipFile(archive) as files:
                _check_methods(files)
                # A member yields no more bytes than it states.
                sizes = [member.file_size for member in files.infolist()]
                if len(sizes) > max_files or sum(sizes) > max_bytes:
                    raise ValueError
                # It makes no links, and nothing outside the folder.
                files.extractall(folder)
        except _DAMAGED as exc:
            raise InvalidInput(
                "cannot decrypt the result: it is damaged or too large, or the key is not the RSA"
                " private key in PEM, without a password, that it was encrypted to",
                hint="sealspace task download URL ID --result-key-file FILE --output NEW_FOLDER",
            ) from exc


def _check_methods(archive: ZipFile) -> None:
    """Refuse methods of compression that unpack without a bound on memory (TG15).

    `zipfile` decompresses what it reads of LZMA and bzip2 at once, which can be gigabytes.
    """
    if {one.compress_type for one in archive.infolist()} - {ZIP_STORED, ZIP_DEFLATED}:
        raise ValueError
