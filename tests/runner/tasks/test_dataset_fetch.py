"""Download and decryption of data sets for tasks."""

import asyncio
import filecmp
import hashlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path

import pytest
from https_service import https_service
from msgspec import json
from patience import PATIENCE_S

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.strict_base64 import encode_standard
from runner.tasks.dataset_fetch import fetch_dataset
from runner.tasks.stage_errors import StageFailed
from sealspace.documents.dataset_format import (
    CHUNK_BYTES,
    MAX_ENCRYPTED_BYTES,
    DatasetRecord,
    Suite,
    encrypt,
)
from serving.outbound import Outbound

HOST = "files.test"
KEY = bytes(range(32))
SUITES: tuple[Suite, ...] = ("aead-chunked-v1", "iexec-cbc-v1")
PLAIN = os.urandom(3 * CHUNK_BYTES + 5)
CHECKSUM = "PRE_COMPUTE_INVALID_DATASET_CHECKSUM"
DECRYPTION = "PRE_COMPUTE_DATASET_DECRYPTION_FAILED"
DOWNLOAD = "PRE_COMPUTE_DATASET_DOWNLOAD_FAILED"
SAVING = "PRE_COMPUTE_SAVING_PLAIN_DATASET_FAILED"


def sealed(suite: Suite, plain: bytes = PLAIN, key: bytes = KEY) -> bytes:
    return b"".join(encrypt(suite, key, BytesIO(plain).read, SystemEntropy()))


def cut(data: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    stream = BytesIO(data)
    for size in sizes:
        yield stream.read(size)
    yield stream.read()


def answer(data: bytes, *, status: str = "200 OK", stated: int | None = None) -> bytes:
    size = len(data) if stated is None else stated
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + data


class Files:
    """A service that answers each connection with the same bytes."""

    def __init__(self, outbound: Outbound, url: str, folder: Path) -> None:
        self.outbound = outbound
        self.url = url
        self.folder = folder

    def record(self, suite: Suite, blob: bytes, **other: object) -> DatasetRecord:
        stated = {
            "dataset": "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp/survey",
            "url": self.url,
            "checksum": f"0x{hashlib.sha256(blob).hexdigest()}",
            "size_bytes": len(blob),
            "suite": suite,
            "published_at": "2026-01-01T00:00:00Z",
        }
        return DatasetRecord(**(stated | other))  # type: ignore[arg-type]  # as stated

    async def fetch(
        self, record: DatasetRecord, *, key: bytes | str = KEY, most: int = MAX_ENCRYPTED_BYTES
    ) -> bytes:
        text = key if isinstance(key, str) else encode_standard(key)
        file = self.folder / "dataset"
        size = await fetch_dataset(self.outbound, record, text, file, max_bytes=most)
        assert stat.S_IMODE(file.stat().st_mode) == 0o444
        data = file.read_bytes()
        assert len(data) == size
        return data

    async def refused(self, record: DatasetRecord, code: str, **more: object) -> StageFailed:
        with pytest.raises(StageFailed) as failed:
            await self.fetch(record, **more)  # type: ignore[arg-type]  # as given
        assert failed.value.code == code, failed.value
        assert str(failed.value) == f"{code}: {failed.value.detail}"
        assert encode_standard(KEY) not in str(failed.value)
        assert not list(self.folder.iterdir()), "a file is left"
        return failed.value


@asynccontextmanager
async def files(folder: Path, *pieces: bytes, more: Iterable[bytes] = ()) -> AsyncIterator[Files]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in chain(pieces, more):
                writer.write(piece)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    (folder / "made").mkdir()
    async with https_service(folder, HOST, talk=talk) as service:
        outbound = Outbound(loopback_ca=service.ca, resolve=service.resolve)
        yield Files(outbound, service.url("/survey.enc"), folder / "made")


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
async def test_a_data_set_arrives(tmp_path: Path, suite: Suite, size: int) -> None:
    """DS9, D1: a fetched data set is decrypted completely, whatever the sizes of its pieces."""
    blob = sealed(suite, PLAIN[:size])
    pieces = cut(answer(blob), [1, 40, 3, 60, 2, 70_000, 16])
    async with files(tmp_path, *pieces) as service:
        assert await service.fetch(service.record(suite, blob)) == PLAIN[:size]


async def test_a_data_set_needs_no_thread_of_others(tmp_path: Path) -> None:
    """RN248: fetching a data set uses none of the event loop's own threads."""
    blob, go_on = sealed(SUITES[0]), threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as only_thread:
        loop.set_default_executor(only_thread)
        others = loop.run_in_executor(None, go_on.wait)
        try:
            async with files(tmp_path, answer(blob)) as service, asyncio.timeout(PATIENCE_S):
                assert await service.fetch(service.record(SUITES[0], blob)) == PLAIN
        finally:
            go_on.set()
            await others


async def test_a_data_set_arrives_in_http_chunks(tmp_path: Path) -> None:
    """DS10, DS11: a data set in HTTP chunks is fetched, and only the file's bytes count towards its
    size."""
    blob = sealed("aead-chunked-v1")
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in cut(blob, [1, 70_000, 3])]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with files(tmp_path, head, *chunks, b"0\r\n\r\n") as service:
        assert await service.fetch(service.record("aead-chunked-v1", blob)) == PLAIN


@pytest.mark.parametrize("suite", SUITES)
async def test_every_fault_has_its_code(tmp_path: Path, suite: Suite) -> None:
    """DS10, iexec-D1: a wrong checksum, key, size or length has its own code and leaves no file."""
    blob = sealed(suite)
    async with files(tmp_path, answer(blob)) as service:
        record = service.record(suite, blob)
        wrong = f"0x{int(record.checksum, 16) ^ 1:064x}"
        await service.refused(service.record(suite, blob, checksum=wrong), CHECKSUM)
        # The checksum is judged first, as iExec does.
        other = bytes(32)
        await service.refused(service.record(suite, blob, checksum=wrong), CHECKSUM, key=other)
        await service.refused(record, DECRYPTION, key=other)
        for size in (31, 33):
            failed = await service.refused(record, DECRYPTION, key=bytes(size))
            assert "standard base64 of 32 bytes" in failed.detail
        await service.refused(record, DECRYPTION, key="not base64")
        for size in (len(blob) - 1, len(blob) + 1):
            await service.refused(service.record(suite, blob, size_bytes=size), CHECKSUM)
        await service.refused(record, DOWNLOAD, most=len(blob) - 1)
        assert await service.fetch(record, most=len(blob)) == PLAIN


@pytest.mark.parametrize("size", [16, 33, 47])
async def test_files_that_are_too_short_or_odd(tmp_path: Path, size: int) -> None:
    """DS10, iexec-D1: a file of less than 32 bytes, or of no multiple of 16 bytes, is refused."""
    blob = sealed("iexec-cbc-v1")[:size]
    async with files(tmp_path, answer(blob)) as service:
        await service.refused(service.record("iexec-cbc-v1", blob), DECRYPTION)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("at", [3, 60, -1])
async def test_a_changed_file(tmp_path: Path, suite: Suite, at: int) -> None:
    """DS5, DS10: a file with one changed bit is refused."""
    blob = bytearray(sealed(suite))
    record_of = bytes(blob)
    blob[at] ^= 1
    async with files(tmp_path, answer(bytes(blob))) as service:
        await service.refused(service.record(suite, record_of), CHECKSUM)
        await service.refused(service.record(suite, record_of, size_bytes=1), CHECKSUM)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"nonsense\r\n\r\n",
        answer(b"", status="404 Not Found"),
        answer(b"", status="204 No Content"),
        answer(sealed("iexec-cbc-v1"), status="206 Partial Content"),
        b"HTTP/1.1 302 Found\r\nLocation: https://files.test/there\r\nContent-Length: 0\r\n\r\n",
        answer(b"cut off", stated=100),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nhalf",
    ],
)
async def test_an_answer_without_the_file(tmp_path: Path, response: bytes) -> None:
    """DS10, DS11: another status, a redirect and an answer that ends early are refused."""
    async with files(tmp_path, response) as service:
        await service.refused(service.record("iexec-cbc-v1", bytes(48)), DOWNLOAD)


async def test_a_service_that_is_down(tmp_path: Path) -> None:
    """DS10, iexec-D2: a closed port, an unknown name and a private address each fail the fetch."""
    async with files(tmp_path) as service:
        url = service.url
    for other in (
        url,
        "https://absent.test/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://files.test:0/",
        "https://user@files.test/",
        "http://files.test/",
        "https://",
        "https://files.test/\u00e9",
    ):
        await service.refused(service.record("iexec-cbc-v1", bytes(48), url=other), DOWNLOAD)

    async def inward(host: str) -> list[str]:
        return ["169.254.169.254"]

    service.outbound = Outbound(resolve=inward)
    record = service.record("iexec-cbc-v1", bytes(48), url="https://files.test/")
    refused = await service.refused(record, DOWNLOAD)
    assert refused.detail == "address-refused"


@pytest.mark.parametrize(
    ("length", "code"), [(b"", CHECKSUM), (b"Content-Length: 1000000000\r\n", DOWNLOAD)]
)
async def test_more_than_was_signed(tmp_path: Path, length: bytes, code: str) -> None:
    """DS11: a fetch stops reading at the size in the signed statement."""
    blob = sealed("iexec-cbc-v1")
    sent = 0

    def endless() -> Iterable[bytes]:
        nonlocal sent
        yield b"HTTP/1.1 200 OK\r\n" + length + b"\r\n"
        while sent < 1000:
            sent += 1
            yield bytes(CHUNK_BYTES)

    async with files(tmp_path, more=endless()) as service:
        await service.refused(service.record("iexec-cbc-v1", blob), code)
    assert sent < 1000


async def test_the_destination_is_a_new_file(tmp_path: Path) -> None:
    """DS10: a fetch never replaces an existing file, and makes no folder."""
    blob = sealed("aead-chunked-v1")
    async with files(tmp_path, answer(blob)) as service:
        record, text = service.record("aead-chunked-v1", blob), encode_standard(KEY)
        there, target = service.folder / "there", tmp_path / "target"
        there.write_bytes(b"before")
        (service.folder / "link").symlink_to(target)
        for name in ("there", "link", "absent/file"):
            with pytest.raises(StageFailed) as failed:
                await fetch_dataset(
                    service.outbound, record, text, service.folder / name, max_bytes=10**9
                )
            assert failed.value.code == SAVING
        assert there.read_bytes() == b"before" and not target.exists()
        assert sorted(one.name for one in service.folder.iterdir()) == ["link", "there"]


async def test_a_task_that_is_cancelled(tmp_path: Path) -> None:
    """DS10: a cancelled fetch leaves neither a thread nor a file."""
    blob = sealed("aead-chunked-v1")
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(blob)[: 2 * CHUNK_BYTES])
        await writer.drain()
        arrived.set()
        await reader.read()
        writer.close()

    (tmp_path / "made").mkdir()
    async with https_service(tmp_path, HOST, talk=talk) as service:
        made = Files(
            Outbound(loopback_ca=service.ca, resolve=service.resolve),
            service.url(),
            tmp_path / "made",
        )
        task = asyncio.create_task(made.fetch(made.record("aead-chunked-v1", blob)))
        await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        while not list(made.folder.iterdir()):
            await asyncio.sleep(0)  # until the thread has begun to write
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not list(made.folder.iterdir())


FETCHING = """
import asyncio, resource, sys
from pathlib import Path
from msgspec import json
from sealspace.documents.dataset_format import MAX_ENCRYPTED_BYTES, DatasetRecord
from serving.outbound import Outbound
from runner.tasks.dataset_fetch import fetch_dataset

ca, record, key, file = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
size = asyncio.run(fetch_dataset(
    Outbound(loopback_ca=Path(ca)), json.decode(record, type=DatasetRecord), key, Path(file),
    max_bytes=MAX_ENCRYPTED_BYTES,
))
print(size, before, peak())
"""


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
async def test_memory_does_not_depend_on_the_size(tmp_path: Path, suite: Suite) -> None:
    """DS11: fetching 200 MB increases the process's memory by only a few MiB."""
    size, source = 200_000_000, tmp_path / "survey"
    with source.open("wb") as empty:
        empty.truncate(size)
    blob, digest = tmp_path / "survey.enc", hashlib.sha256()
    with source.open("rb") as stream, blob.open("wb") as out:
        for piece in encrypt(suite, KEY, stream.read, SystemEntropy()):
            digest.update(piece)
            out.write(piece)

    def pieces() -> Iterable[bytes]:
        with blob.open("rb") as stream:
            yield f"HTTP/1.1 200 OK\r\nContent-Length: {blob.stat().st_size}\r\n\r\n".encode()
            while piece := stream.read(CHUNK_BYTES):
                yield piece

    async with files(tmp_path, more=pieces()) as service:
        record = service.record(
            suite, b"", checksum=f"0x{digest.hexdigest()}", size_bytes=blob.stat().st_size
        )
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FETCHING, str(tmp_path / "ca.pem")),
            *(json.encode(record).decode(), encode_standard(KEY), str(service.folder / "plain")),
            stdout=subprocess.PIPE,
        )
        printed, _ = await child.communicate()
    assert child.returncode == 0
    arrived, before, peak = map(int, printed.split())
    print(f"{suite}: {arrived} bytes, peak resident memory {before} before, {peak} after")
    assert arrived == size and filecmp.cmp(source, service.folder / "plain", shallow=False)
    assert peak - before < 32 * 2**20, (before, peak)
