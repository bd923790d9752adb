"""The encrypted result of a task, in iExec's format.

The file is an archive with two members. The format has no authentication of its own: compare the
file's SHA-256 with that in the task's receipt before decryption.

    aes-key.rsa          an AES key, RSA PKCS#1 v1.5 for the beneficiary
    iexec_out.zip.aes    IV (16) ‖ AES-256-CBC with PKCS#7 of an archive of the program's output

Example:
    decrypt_result(Path("result.zip"), private_key_pem, Path("result"))
"""

import secrets
import tempfile
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from capabilities.clock_and_entropy import SystemEntropy

from ..errors import InvalidInput
from .dataset_format import decrypt, encrypt

_MAX_KEY_BYTES = 16 * 1024
_KEY_BITS = range(2048, 8001)
"""iExec's client reads at most 1000 bytes of an encrypted key."""


def public_key(key_pem: bytes) -> RSAPublicKey:
    """Return the key of a beneficiary (TG14).

    Raises:
        ValueError, UnsupportedAlgorithm: not an RSA public key of 2048 to 8000 bits in PEM.
    """
    key = load_pem_public_key(key_pem[:_MAX_KEY_BYTES])
    if not isinstance(key, RSAPublicKey) or key.key_size not in _KEY_BITS:
        raise ValueError
    return key


def encrypt_result(archive: IO[bytes], key: RSAPublicKey, destination: Path) -> None:
    """Encrypt an archive to the key of a beneficiary (TG14)."""
    aes_key = secrets.token_bytes(32)
    with ZipFile(destination, "w") as outer:
        outer.writestr("aes-key.rsa", key.encrypt(aes_key, PKCS1v15()))
        with outer.open("iexec_out.zip.aes", "w") as sealed:
            archive.seek(0)
            sealed.writelines(encrypt("iexec-cbc-v1", aes_key, archive.read, SystemEntropy()))


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
        folder: must not exist. If the archive is damaged, it may contain a part of the files.
        max_bytes: largest archive, and largest total size of the files.
        max_files: most files and folders.

    Raises:
        InvalidInput: the key is not valid, or the result was not encrypted to it, is damaged or is
            too large.
        OSError: a file cannot be read or written, or the folder exists.
    """
    with result.open("rb") as sealed, tempfile.TemporaryFile(dir=result.parent) as archive:
        try:
            key = load_pem_private_key(private_key_pem, None)
            with ZipFile(sealed) as outer, outer.open("iexec_out.zip.aes") as stream:
                _check_methods(outer)
                if outer.getinfo(stream.name).file_size > max_bytes:
                    raise ValueError  # like every error here, it becomes InvalidInput below
                with outer.open("aes-key.rsa") as wrapped:
                    assert isinstance(key, RSAPrivateKey)
                    aes_key = key.decrypt(wrapped.read(_MAX_KEY_BYTES), PKCS1v15())
                archive.writelines(decrypt("iexec-cbc-v1", aes_key, stream.read))
            with ZipFile(archive) as files:
                _check_methods(files)
                # A member yields no more bytes than it states.
                sizes = [member.file_size for member in files.infolist()]
                if len(sizes) > max_files or sum(sizes) > max_bytes:
                    raise ValueError
                # `extractall` makes no links, and no files outside the folder.
                folder.mkdir(0o700)
                files.extractall(folder)
        except OSError:
            raise
        except Exception as exc:  # untrusted keys and archives raise errors of many kinds
            raise InvalidInput(
                "cannot decrypt the result: it is damaged or too large, or the key is not the RSA"
                " private key in PEM, without a password, that it was encrypted to",
                hint="sealspace task download URL ID --result-key-file FILE",
            ) from exc


def _check_methods(archive: ZipFile) -> None:
    """Refuse methods of compression that unpack without a bound on memory (TG15).

    `zipfile` decompresses what it reads of LZMA and bzip2 at once, which can be gigabytes.
    """
    if {member.compress_type for member in archive.infolist()} - {ZIP_STORED, ZIP_DEFLATED}:
        raise ValueError
