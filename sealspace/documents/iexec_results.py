"""Decryption of a task's result with the beneficiary's private key.

The format is iExec's: a zip file with the members `aes-key.rsa` and `iexec_out.zip.aes`, which is
IV ‖ AES-256-CBC of an archive. It has no authentication of its own: compare the file's SHA-256 with
that in the task's receipt first.

Example:
    decrypt_result(Path("result.zip"), private_key_pem, Path("result"))
"""

import tempfile
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..errors import InvalidInput

MAX_RESULT_BYTES = 1_000_000_000
MAX_RESULT_FILES = 10_000
_MAX_KEY_BYTES = 1024
_PIECE_BYTES = 1 << 20


def decrypt_result(
    result: Path,
    private_key_pem: bytes,
    folder: Path,
    *,
    max_bytes: int = MAX_RESULT_BYTES,
    max_files: int = MAX_RESULT_FILES,
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
    try:
        key = load_pem_private_key(private_key_pem, None)
        if not isinstance(key, RSAPrivateKey):
            raise TypeError
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InvalidInput(
            "cannot decrypt the result: the key is not an RSA private key in PEM without a password"
        ) from exc
    with result.open("rb") as sealed, tempfile.TemporaryFile(dir=result.parent) as archive:
        folder.mkdir(0o700)
        try:
            with ZipFile(sealed) as outer, outer.open("iexec_out.zip.aes") as stream:
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
                # A member yields no more bytes than it states.
                sizes = [member.file_size for member in files.infolist()]
                if len(sizes) > max_files or sum(sizes) > max_bytes:
                    raise ValueError
                # It makes no links, and nothing outside the folder.
                files.extractall(folder)
        except (ValueError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error) as exc:
            raise InvalidInput(
                "cannot decrypt the result: it was not encrypted to this key, or is damaged or"
                " too large"
            ) from exc
