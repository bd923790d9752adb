"""The program of the kit's tasks, and the results of tasks (task-guests TG13, TG14)."""

import io
import zlib
from importlib.resources import files
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

_MOST_BYTES = 1024 * 1024
_IV_BYTES = 16


def program() -> bytes:
    """Return the program, which `task.wat` has as text."""
    return files("sealspace_conformance").joinpath("task.wasm").read_bytes()


def opened_result(result: bytes, key: RSAPrivateKey) -> dict[str, bytes]:
    """Return the files of a result by their names; empty if it does not open.

    A node or runner may send anything, so all errors are one.
    """
    try:
        outer = _members(result)
        content_key = key.decrypt(outer["aes-key.rsa"], PKCS1v15())
        sealed = outer["iexec_out.zip.aes"]
        decryptor = Cipher(AES(content_key), CBC(sealed[:_IV_BYTES])).decryptor()
        padded = decryptor.update(sealed[_IV_BYTES:]) + decryptor.finalize()
        return _members(padded[: -padded[-1]])
    except (BadZipFile, IndexError, KeyError, RuntimeError, ValueError, zlib.error):
        return {}


def _members(archive: bytes) -> dict[str, bytes]:
    """Return the members of an archive.

    Raises:
        BadZipFile, ValueError: it is not an archive, or unpacks to more than the bound.
    """
    found: dict[str, bytes] = {}
    with ZipFile(io.BytesIO(archive)) as opened:
        for member in opened.infolist():
            if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise ValueError("another method of compression")
            if member.file_size > _MOST_BYTES or len(found) > 16:
                raise ValueError("too large")
            found[member.filename] = opened.read(member)
    return found
