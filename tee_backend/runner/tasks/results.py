"""The result of a task: its digest, and its files encrypted to a key of the beneficiary.

The program has ended before, but what it wrote is untrusted: no link is followed, and sizes are
bounded before anything is read. The result file contains ciphertext only:

    aes-key.rsa          the AES key, RSA PKCS#1 v1.5
    iexec_out.zip.aes    IV (16) ‖ AES-256-CBC with PKCS#7 of an archive of /iexec_out

Example:
    result = await asyncio.to_thread(
        seal_result, folders.output, key_pem, destination, max_bytes=50 << 20, max_files=10_000
    )
"""

import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, NoReturn
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from capabilities.signatures import keccak256
from capabilities.strict_json import parse_json, shaped

from .stage_errors import StageFailed

_MAX_COMPUTED_BYTES = 64 * 1024
_MAX_KEY_BYTES = 16 * 1024
_MIN_KEY_BITS, _MAX_KEY_BITS = 2048, 8000
"""iExec's client reads at most 1000 bytes of an encrypted key."""
_MAX_NAME_CHARS = 31
"""Longest name directly in `/iexec_out`."""
_MAX_DEPTH = 32
"""Most levels of folders in a result."""
_PIECE_BYTES = 1 << 20
_EMPTY = hashlib.sha256().digest()


class Computed(msgspec.Struct, rename="kebab", frozen=True):
    """The program's `computed.json`; unknown members are ignored."""

    deterministic_output_path: str = ""
    callback_data: Annotated[str, msgspec.Meta(pattern=r"^0x([0-9a-fA-F]{2})+\Z")] = ""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A sealed result.

    Attributes:
        digest: iExec's digest of the deterministic output: `0x` and 64 hex digits.
        sha256: SHA-256 of the result file, in hex.
        size_bytes: size of the result file.
        computed: what the program stated.
    """

    digest: str
    sha256: str
    size_bytes: int
    computed: Computed


def seal_result(
    output: Path,
    key_pem: bytes,
    destination: Path,
    *,
    max_bytes: int,
    max_files: int,
    callback: bool = False,
) -> TaskResult:
    """Archive and encrypt what a program wrote (TG10 to TG14). This function blocks.

    The archive is a temporary file beside `output`, so in the task's own folder.

    Args:
        output: the task's output folder, untrusted. Its program has ended.
        key_pem: RSA public key of the beneficiary, untrusted.
        destination: path of the result file, which gets mode 0600.
        max_bytes: bytes of all files together.
        max_files: number of files and folders.
        callback: whether the digest is that of `callback-data`.

    Raises:
        StageFailed: with a code of the post-compute stage; there is no result file.
    """
    key, computed = _public_key(key_pem), _computed(output)
    with tempfile.TemporaryFile(dir=output.parent) as archive:
        with _fails("OUT_FOLDER_ZIP_FAILED", "/iexec_out has too many files, bytes or levels"):
            hashes = _archive(output, archive, max_bytes, max_files)
        digest = _digest(computed, hashes, callback=callback)
        try:
            with _fails("ENCRYPTION_FAILED", "the result cannot be written"):
                _encrypt(archive, key, destination)
                with destination.open("rb") as sealed:
                    sha256 = hashlib.file_digest(sealed, "sha256").hexdigest()
                    return TaskResult(f"0x{digest.hex()}", sha256, sealed.tell(), computed)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise


@contextmanager
def _fails(code: str, why: str) -> Iterator[None]:
    """Raise StageFailed in place of an error of the block."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, UnsupportedAlgorithm) as exc:
        raise StageFailed(f"POST_COMPUTE_{code}", why) from exc


def _public_key(key_pem: bytes) -> RSAPublicKey:
    """Return the beneficiary's key (TG14)."""
    with _fails(
        "MALFORMED_ENCRYPTION_PUBLIC_KEY",
        f"the key is not an RSA public key of {_MIN_KEY_BITS} to {_MAX_KEY_BITS} bits as PEM",
    ):
        key = load_pem_public_key(key_pem[:_MAX_KEY_BYTES])
        if not isinstance(key, RSAPublicKey) or not _MIN_KEY_BITS <= key.key_size <= _MAX_KEY_BITS:
            raise ValueError
        return key


def _computed(output: Path) -> Computed:
    """Return the program's `computed.json` (TG10)."""
    with _fails("COMPUTED_FILE_NOT_FOUND", "there is no file /iexec_out/computed.json"):
        # O_NONBLOCK: opening a named pipe would wait for ever.
        file = os.open(output / "computed.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(file, "rb") as stream:
            text = stream.read(_MAX_COMPUTED_BYTES + 1)
    with _fails("FAILED_UNKNOWN_ISSUE", "computed.json is not a JSON object of at most 64 KiB"):
        return shaped(parse_json(text, max_bytes=_MAX_COMPUTED_BYTES), Computed)


def _archive(output: Path, archive: IO[bytes], left_bytes: int, max_files: int) -> dict[str, bytes]:
    """Archive a folder, and return the SHA-256 of each file; of a folder it is empty (TG11, TG12).

    Sizes are those that files state: a sparse file takes hardly any memory, but long to archive.
    """
    hashes = {}
    with ZipFile(archive, "w", ZIP_DEFLATED) as to:
        for above, folders, files, opened in os.fwalk(output, onerror=_refuse):
            folders.sort()
            inside = PurePosixPath(above).relative_to(output)
            hashes[str(inside)] = b""
            if len(hashes) + len(files) > max_files + 1 or len(inside.parts) > _MAX_DEPTH:
                raise ValueError
            if inside.name:
                to.mkdir(str(inside))
            elif any(len(name) > _MAX_NAME_CHARS for name in [*folders, *files]):
                raise StageFailed(
                    "POST_COMPUTE_TOO_LONG_RESULT_FILE_NAME",
                    f"a name directly in /iexec_out has more than {_MAX_NAME_CHARS} characters",
                )
            for name in sorted(files):
                about = os.stat(name, dir_fd=opened, follow_symlinks=False)
                if not stat.S_ISREG(about.st_mode):
                    continue
                left_bytes -= about.st_size
                if left_bytes < 0:
                    raise ValueError
                member, sha256 = ZipInfo(str(inside / name)), hashlib.sha256()
                member.compress_type = ZIP_DEFLATED
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=opened)
                with os.fdopen(file, "rb") as stream, to.open(member, "w") as into:
                    while piece := stream.read(_PIECE_BYTES):
                        sha256.update(piece)
                        into.write(piece)
                hashes[member.filename] = sha256.digest()
    return hashes


def _refuse(error: OSError) -> NoReturn:
    raise error


def _digest(computed: Computed, hashes: Mapping[str, bytes], *, callback: bool) -> bytes:
    """Return iExec's digest of the deterministic output (TG13).

    Only paths that were archived are found, so none leads out of the folder (TG11).
    """
    with _fails("RESULT_DIGEST_COMPUTATION_FAILED", "computed.json names no output in /iexec_out"):
        if callback:
            # Without data, "-" is no hex digit, and so an error.
            return keccak256(bytes.fromhex(computed.callback_data[2:] or "-"))
        path = PurePosixPath(computed.deterministic_output_path).relative_to("/iexec_out")
    with _fails("RESULT_FILE_NOT_FOUND", "the deterministic output is missing or an empty folder"):
        digest = hashes[str(path)] if str(path) in hashes else _refuse(FileNotFoundError())
        inside = [
            hashed
            for name, hashed in hashes.items()
            if name != "." and PurePosixPath(name).parent == path
        ]
        if not digest and not inside:
            raise ValueError
    return digest or keccak256(b"".join(hashed for hashed in inside if hashed != _EMPTY))


def _encrypt(archive: IO[bytes], key: RSAPublicKey, destination: Path) -> None:
    """Write an archive, encrypted, to the result file (TG14)."""
    padding = 16 - archive.seek(0, os.SEEK_END) % 16
    archive.write(bytes([padding]) * padding)
    archive.seek(0)
    aes_key, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    encryptor = Cipher(AES256(aes_key), CBC(iv)).encryptor()
    with destination.open("wb") as file, ZipFile(file, "w") as outer:
        os.fchmod(file.fileno(), 0o600)
        outer.writestr(ZipInfo("aes-key.rsa"), key.encrypt(aes_key, PKCS1v15()))
        with outer.open(ZipInfo("iexec_out.zip.aes"), "w") as sealed:
            sealed.write(iv)
            while piece := archive.read(_PIECE_BYTES):
                sealed.write(encryptor.update(piece))
