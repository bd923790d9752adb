"""Tests of task results: digests, archives and encryption, also from hostile folders."""

import io
import json
import os
import shutil
import socket
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from tests_support import REPOSITORY

from runner.tasks.results import TaskResult, seal_result
from runner.tasks.stage_errors import StageFailed
from sealspace.documents.iexec_results import decrypt_result, encrypt_result, public_key
from sealspace.errors import InvalidInput

KEY = rsa.generate_private_key(65537, 2048)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """Return a public key as PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A task's output folder with a deterministic file."""
    folder = tmp_path / "files" / "output"
    folder.mkdir(parents=True)
    (folder / "result.txt").write_text("Hello, World!")
    stated(folder, "/iexec_out/result.txt")
    return folder


def stated(folder: Path, path: str) -> None:
    """Write a `computed.json`."""
    (folder / "computed.json").write_text(json.dumps({"deterministic-output-path": path, "x": [1]}))


def sealed(folder: Path, *, key_pem: bytes = b"", **about: object) -> TaskResult:
    """Seal a folder into `result.zip` beside it."""
    bounds = {"max_bytes": 1 << 20, "max_files": 50} | about
    destination = folder.parents[1] / "result.zip"
    return seal_result(folder, key_pem or public_pem(), destination, **bounds)  # type: ignore[arg-type]  # numbers


def failure(folder: Path, **about: object) -> str:
    """Return the stage error of a folder that cannot be sealed, without its prefix."""
    with pytest.raises(StageFailed) as failed:
        sealed(folder, **about)  # type: ignore[arg-type]  # as `sealed` takes them
    assert failed.value.detail and os.listdir(folder.parent) == ["output"]
    return failed.value.code.removeprefix("POST_COMPUTE_")


def opened(folder: Path) -> dict[str, bytes | None]:
    """Decrypt `result.zip`, and return its files and folders."""
    decrypted = folder.parents[1] / "decrypted"
    decrypt_result(folder.parents[1] / "result.zip", PRIVATE, decrypted)
    found = {
        str(path.relative_to(decrypted)): path.read_bytes() if path.is_file() else None
        for path in decrypted.rglob("*")
    }
    shutil.rmtree(decrypted)
    return found


def test_a_result_is_encrypted_and_opens_again(output: Path) -> None:
    """TG12, TG14: the beneficiary gets every file; the result contains ciphertext only."""
    (output / "folder" / "inner").mkdir(parents=True)
    (output / "folder" / "é\n").write_bytes(b"deep" * 10_000)
    result = sealed(output)
    assert opened(output) == {
        "computed.json": b'{"deterministic-output-path": "/iexec_out/result.txt", "x": [1]}',
        "result.txt": b"Hello, World!",
        "folder": None,
        "folder/inner": None,
        "folder/é\n": b"deep" * 10_000,
    }
    data = (output.parents[1] / "result.zip").read_bytes()
    assert len(data) == result.size_bytes
    assert not (b"Hello" in data or b"result.txt" in data)
    assert {"aes-key.rsa", "iexec_out.zip.aes"} == set(zipfile.ZipFile(io.BytesIO(data)).namelist())
    assert result.computed["x"] == [1]
    assert os.listdir(output.parent) == ["output"]


def test_the_digest_of_a_file(output: Path) -> None:
    """iexec-V12, TG13: the digest of a file is the SHA-256 of its content."""
    vector = "0xdffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f"
    assert vector == sealed(output).digest
    (output / "result.txt").write_bytes(b"")
    empty = "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert empty == sealed(output).digest
    stated(output, "/iexec_out//folder/./inner.txt")
    (output / "folder").mkdir()
    (output / "folder" / "inner.txt").write_text("Hello, World!")
    assert vector == sealed(output).digest


def test_the_digest_of_a_folder(output: Path) -> None:
    """iexec-V17, iexec-D5, TG13: the digest of a folder is that of its direct files, in order."""
    folder = output / "folder"
    folder.mkdir()
    stated(output, "/iexec_out/folder")
    assert "RESULT_FILE_NOT_FOUND" == failure(output)
    (folder / "b").write_text("B")
    (folder / "a").write_text("A")
    vector = "0x3e414b345ce4e8d016eff459b112b41de5bc488237863d83187f93ba096a9666"
    assert vector == sealed(output).digest
    (folder / "empty").touch()
    (folder / "inner").mkdir()
    (folder / "inner" / "c").write_text("C")
    (folder / "link").symlink_to("a")
    assert vector == sealed(output).digest
    stated(output, "/iexec_out/folder/")
    assert vector == sealed(output).digest
    stated(output, "/iexec_out")
    assert sealed(output).digest not in (vector, "")


def test_the_digest_of_callback_data(output: Path) -> None:
    """iexec-V16, TG13: the digest of callback data is its Keccak-256."""
    word = {"callback-data": "0x" + "00" * 31 + "01"}
    (output / "computed.json").write_text(json.dumps(word))
    vector = "0xb10e2d527612073b26eecdfd717e6a320cf44b4afac2b0732d9fcbe2b7fa0cf6"
    assert vector == sealed(output, callback=True).digest
    for wrong in ({}, {"callback-data": "0x0"}, {"callback-data": 1}, {"callback-data": "0xzz"}):
        (output / "computed.json").write_text(json.dumps(wrong))
        assert "RESULT_DIGEST_COMPUTATION_FAILED" == failure(output, callback=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "COMPUTED_FILE_NOT_FOUND"),
        (b"", "FAILED_UNKNOWN_ISSUE"),
        (b"[]", "FAILED_UNKNOWN_ISSUE"),
        (b"{", "FAILED_UNKNOWN_ISSUE"),
        (b'{"a": 1, "a": 2}', "FAILED_UNKNOWN_ISSUE"),
        (b'{"a": "\xff"}', "FAILED_UNKNOWN_ISSUE"),
        (b" " * 65536 + b"{}", "FAILED_UNKNOWN_ISSUE"),
        (b"{}", "RESULT_DIGEST_COMPUTATION_FAILED"),
        (b'{"deterministic-output-path": 1}', "RESULT_DIGEST_COMPUTATION_FAILED"),
        (b'{"deterministic-output-path": null}', "RESULT_DIGEST_COMPUTATION_FAILED"),
        (b'{"deterministic-output-path": "result.txt"}', "RESULT_DIGEST_COMPUTATION_FAILED"),
        (b'{"deterministic-output-path": "/etc/passwd"}', "RESULT_DIGEST_COMPUTATION_FAILED"),
        (b'{"deterministic-output-path": "/iexec_outer"}', "RESULT_DIGEST_COMPUTATION_FAILED"),
        (b'{"deterministic-output-path": "/iexec_out/missing"}', "RESULT_FILE_NOT_FOUND"),
        (b'{"deterministic-output-path": "/iexec_out/a\\u0000"}', "RESULT_FILE_NOT_FOUND"),
        (b'{"deterministic-output-path": "/iexec_out/../../secret"}', "RESULT_FILE_NOT_FOUND"),
        (
            b'{"deterministic-output-path": "/iexec_out/../output/result.txt"}',
            "RESULT_FILE_NOT_FOUND",
        ),
    ],
)
def test_what_a_program_states(output: Path, text: bytes | None, expected: str) -> None:
    """iexec-D4, TG10, TG11: a missing, malformed or wrong `computed.json` has its own error."""
    (output.parents[1] / "secret").write_text("secret")
    if text is None:
        (output / "computed.json").unlink()
    else:
        (output / "computed.json").write_bytes(text)
    assert expected == failure(output)


def test_what_is_not_archived(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TG11: links, pipes and sockets are neither followed nor archived."""
    outside = output.parents[1] / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (output / "link").symlink_to(outside / "secret")
    (output / "folder").symlink_to(outside)
    (output / "loop").symlink_to(".")
    os.mkfifo(output / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        with monkeypatch.context() as within:
            within.chdir(output)  # the path of a socket has at most 107 bytes
            bound.bind("socket")
        sealed(output)
    assert {"computed.json", "result.txt"} == opened(output).keys()
    for path in ("link", "folder", "folder/secret", "pipe", "socket"):
        stated(output, f"/iexec_out/{path}")
        assert "RESULT_FILE_NOT_FOUND" == failure(output)
    for make in (os.mkfifo, lambda path: path.symlink_to(outside / "secret"), os.mkdir):
        (output / "computed.json").unlink()
        make(output / "computed.json")
        assert "COMPUTED_FILE_NOT_FOUND" == failure(output)


def test_names_that_are_too_long(output: Path) -> None:
    """iexec-D6, TG12: a name directly in the folder has at most 31 characters."""
    (output / ("é" * 31)).touch()
    (output / "folder").mkdir()
    (output / "folder" / ("n" * 255)).touch()
    sealed(output)
    (output / ("n" * 32)).touch()
    assert "TOO_LONG_RESULT_FILE_NAME" == failure(output)


@pytest.mark.parametrize("what", ["files", "bytes", "sparse", "levels", "paths", "a name"])
def test_folders_that_are_too_large(output: Path, what: str) -> None:
    """TG12: too many files, bytes, levels, or a name that is no text, is an error."""
    if what == "files":
        for number in range(49):
            (output / str(number)).touch()
    elif what == "bytes":
        (output / "large").write_bytes(bytes(1 << 20))
    elif what == "sparse":
        with (output / "sparse").open("wb") as stream:
            stream.truncate(1 << 40)
    elif what == "levels":
        output.joinpath(*"d" * 33).mkdir(parents=True)
    elif what == "paths":  # the archive would have more than 100 KB for files without a byte
        inner = output.joinpath(*["d" * 250] * 10)
        inner.mkdir(parents=True)
        for number in range(20):
            (inner / str(number)).touch()
    else:
        os.mkdir(os.fsencode(output) + b"/\xff")
    max_bytes = 50_000 if what == "paths" else 1 << 20
    assert "OUT_FOLDER_ZIP_FAILED" == failure(output, max_bytes=max_bytes)


@pytest.mark.parametrize(
    "key",
    [
        b"no key",
        public_pem(rsa.generate_private_key(65537, 1024)),
        public_pem(ec.generate_private_key(ec.SECP256R1())),
        PRIVATE,
        b"\n" * 20_000 + public_pem(),
    ],
)
def test_keys_that_are_refused(output: Path, key: bytes) -> None:
    """TG14: only an RSA public key of 2048 to 8000 bits is accepted."""
    assert "MALFORMED_ENCRYPTION_PUBLIC_KEY" == failure(output, key_pem=key)


def test_a_result_that_cannot_be_written(output: Path) -> None:
    """TG14: a destination that cannot be written is an error of the encryption."""
    (output.parents[1] / "result.zip").mkdir()
    assert "ENCRYPTION_FAILED" == failure(output)


def crafted(folder: Path, members: dict[str, bytes], *, changed: bool = False) -> Path:
    """Return a result with an archive of any members."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        for name, data in members.items():
            files.writestr(name, data)
    if changed:
        archive.getbuffer()[40] ^= 1
    encrypt_result(archive, public_key(public_pem()), folder / "crafted.zip")
    return folder / "crafted.zip"


def test_paths_of_an_archive(tmp_path: Path) -> None:
    """TG15: members with paths outside the folder are written inside it."""
    names = ("../a", "/b", "c/../../d", "../" * 9 + "e")
    result = crafted(tmp_path, dict.fromkeys(names, b"x"))
    (tmp_path / "inner").mkdir()
    decrypt_result(result, PRIVATE, tmp_path / "inner" / "folder")
    assert ["crafted.zip", "inner"] == sorted(os.listdir(tmp_path))
    assert ["folder"] == os.listdir(tmp_path / "inner")
    assert ["a", "b", "c", "e"] == sorted(os.listdir(tmp_path / "inner" / "folder"))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("is_outer", [True, False])
def test_archives_that_unpack_into_memory(tmp_path: Path, is_outer: bool, method: int) -> None:
    """TG15: an archive is refused if its compression could expand a kilobyte to gigabytes."""
    inner = tmp_path / "inner.zip"
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_STORED if is_outer else method) as files:
        files.writestr("a", bytes(1000))
    result = tmp_path / "crafted.zip"
    with inner.open("rb") as archive:
        encrypt_result(archive, public_key(public_pem()), result)
    if is_outer:
        with zipfile.ZipFile(result) as files:
            members = {name: files.read(name) for name in files.namelist()}
        with zipfile.ZipFile(result, "w", method) as files:
            for name, data in members.items():
                files.writestr(name, data)
    with pytest.raises(InvalidInput, match="cannot decrypt the result"):
        decrypt_result(result, PRIVATE, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    "why", ["files", "bytes", "archive", "changed", "other key", "no key", "no result", "truncated"]
)
def test_results_that_are_refused(tmp_path: Path, why: str) -> None:
    """iexec-D7, TG15: a damaged or too large result, or another key, is an error."""
    members = {str(number): os.urandom(1000) for number in range(10)}
    result, key, bounds = crafted(tmp_path, members, changed=why == "changed"), PRIVATE, {}
    if why == "other key":
        other = rsa.generate_private_key(65537, 2048)
        key = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    elif why == "no key":
        key = public_pem()
    elif why == "files":
        bounds = {"max_files": 9}
    elif why == "bytes":
        result, bounds = crafted(tmp_path, {"a": bytes(100_000)}), {"max_bytes": 99_999}
    elif why == "archive":
        bounds = {"max_bytes": 10_010}
    elif why == "no result":
        result.write_bytes(b"no archive")
    elif why == "truncated":
        result.write_bytes(result.read_bytes()[:-30])
    with pytest.raises(InvalidInput, match="cannot decrypt the result"):
        decrypt_result(result, key, tmp_path / "folder", **bounds)


_CLIENT = REPOSITORY / ".cache" / "iexec" / "node_modules" / ".bin" / "iexec"


@pytest.mark.skipif(
    shutil.which("node") is None or not _CLIENT.exists(),
    reason="the client iexec is not installed in .cache/iexec",
)
def test_the_client_of_iexec_opens_a_result(output: Path) -> None:
    """iexec-D7: `iexec result decrypt` opens a result."""
    sealed(output)
    folder = output.parents[1]
    (folder / "key.pem").write_bytes(PRIVATE)
    ended = subprocess.run(
        [
            *(_CLIENT, "result", "decrypt", "result.zip", "--force", "--quiet", "--raw"),
            *("--beneficiary-keystoredir", folder, "--beneficiary-key-file", "key.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    assert json.loads(ended.stdout)["ok"] is True
    with zipfile.ZipFile(folder / "results.zip") as files:
        assert b"Hello, World!" == files.read("result.txt")
