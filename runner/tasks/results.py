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
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

from capabilities.signatures import keccak256
from capabilities.strict_json import JsonObject, parse_json
from sealspace.documents.iexec_results import encrypt_result, public_key

from .stage_errors import StageFailed

_MAX_COMPUTED_BYTES = 64 * 1024
_MAX_NAME_CHARS = 31
"""Longest name directly in `/iexec_out`."""
_MAX_DEPTH = 32
"""Most levels of folders in a result."""


class TaskResult(NamedTuple):
    """A sealed result.

    Attributes:
        digest: iExec's digest of the deterministic output: `0x` and 64 hex digits.
        sha256: SHA-256 of the result file, in hex.
        size_bytes: size of the result file.
        computed: the program's `computed.json`, untrusted.
    """

    digest: str
    sha256: str
    size_bytes: int
    computed: JsonObject


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
        destination: path of the result file.
        max_bytes: bytes of all files together.
        max_files: number of files and folders.
        callback: whether the digest is that of `callback-data`.

    Raises:
        StageFailed: with a code of the post-compute stage; a part of the result may be written.
    """
    with _fails("MALFORMED_ENCRYPTION_PUBLIC_KEY", "not an RSA public key of 2048 to 8000 bits"):
        key = public_key(key_pem)
    with tempfile.TemporaryFile(dir=output.parent) as archive:
        with _fails("OUT_FOLDER_ZIP_FAILED", "/iexec_out has too many files, bytes or levels"):
            _archive(output, archive, max_bytes, max_files)
        with ZipFile(archive) as files:
            with (
                _fails("COMPUTED_FILE_NOT_FOUND", "there is no file /iexec_out/computed.json"),
                files.open("computed.json") as stream,
            ):
                text = stream.read(_MAX_COMPUTED_BYTES + 1)
            with _fails("FAILED_UNKNOWN_ISSUE", "computed.json is no JSON object of up to 64 KiB"):
                # the program chose every byte of it (TG10)
                computed = parse_json(text, max_bytes=_MAX_COMPUTED_BYTES)
            digest = _digest(files, computed, callback=callback)
            with _fails("TOO_LONG_RESULT_FILE_NAME", "a name in /iexec_out has over 31 characters"):
                if any(len(name.split("/")[0]) > _MAX_NAME_CHARS for name in files.namelist()):
                    raise ValueError  # iExec refuses longer names (TG12)
        with _fails("ENCRYPTION_FAILED", "the result cannot be written"):
            encrypt_result(archive, key, destination)
            with destination.open("rb") as sealed:
                sha256 = hashlib.file_digest(sealed, "sha256").hexdigest()
                return TaskResult(
                    digest=f"0x{digest.hex()}",
                    sha256=sha256,
                    size_bytes=sealed.tell(),
                    computed=computed,
                )


@contextmanager
def _fails(code: str, why: str) -> Iterator[None]:
    """Raise StageFailed in place of any error of the block.

    The program chose what is parsed and archived there, so no kind of error is excluded.
    """
    try:
        yield
    except Exception as exc:
        raise StageFailed(f"POST_COMPUTE_{code}", why) from exc


def _archive(output: Path, archive: IO[bytes], left_bytes: int, left_files: int) -> None:
    """Archive a folder (TG11, TG12).

    Sizes are those that files state: a sparse file takes hardly any memory, but long to archive.
    """
    with ZipFile(archive, "w", ZIP_DEFLATED) as to:
        for above, folders, files, opened in os.fwalk(output):
            inside = Path(above).relative_to(output)
            inner = len(folders) + len(files)
            left_files -= inner
            left_bytes -= inner * len(bytes(inside))  # each member repeats the path of its folder
            if left_files < 0 or left_bytes < 0 or len(inside.parts) > _MAX_DEPTH:
                raise ValueError
            if inside.name:  # empty for the output folder itself
                to.mkdir(str(inside))
            for name in files:
                about = os.stat(name, dir_fd=opened, follow_symlinks=False)
                if stat.S_ISREG(about.st_mode):
                    left_bytes -= about.st_size
                    if left_bytes < 0:
                        raise ValueError
                    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=opened)
                    # A member that is opened by its path has the time of 1980.
                    with os.fdopen(file, "rb") as stream, to.open(str(inside / name), "w") as into:
                        shutil.copyfileobj(stream, into)


def _digest(files: ZipFile, computed: JsonObject, *, callback: bool) -> bytes:
    """Return iExec's digest of the deterministic output (TG13).

    Only paths that were archived are found, so none leads out of the folder (TG11).
    """
    with _fails("RESULT_DIGEST_COMPUTATION_FAILED", "computed.json names no output in /iexec_out"):
        if callback:
            return keccak256(bytes.fromhex(str(computed["callback-data"]).removeprefix("0x")))
        path = Path(str(computed["deterministic-output-path"])).relative_to("/iexec_out")
    with _fails("RESULT_FILE_NOT_FOUND", "the deterministic output is missing or an empty folder"):
        names = files.namelist()
        if str(path) in names:
            return _sha256(files, str(path))
        members = [name for name in sorted(names) if Path(name).parent == path]
        if not members:
            raise ValueError
        hashes = [
            _sha256(files, name)
            for name in members
            if files.getinfo(name).file_size  # not of empty files and folders
        ]
        return keccak256(b"".join(hashes))


def _sha256(files: ZipFile, name: str) -> bytes:
    """Return the SHA-256 of an archived file."""
    return hashlib.file_digest(files.open(name), "sha256").digest()  # type: ignore[arg-type]  # it has `readinto`
