"""Download and decryption of data sets for tasks."""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
from https_service import https_service

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.strict_base64 import encode_standard
from sealspace.documents.dataset_format import (
    CHUNK_BYTES,
    MAX_ENCRYPTED_BYTES,
    DatasetRecord,
    Suite,
    encrypt,
)
from tee_backend.runner.guest.outbound import Outbound
from tee_backend.runner.tasks.dataset_fetch import fetch_dataset
from tee_backend.runner.tasks.stage_errors import StageFailed

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
async def files(
    folder: Path, *pieces: bytes, ended: Callable[[], None] = lambda: None
) -> AsyncIterator[Files]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            ended()

    (folder / "made").mkdir()
    async with https_service(folder, HOST, talk=talk) as service:
        outbound = Outbound(loopback_ca=service.ca, resolve=service.resolve)
        yield Files(outbound, service.url("/survey.enc"), folder / "made")


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
async def test_a_data_set_arrives(tmp_path: Path, suite: Suite, size: int) -> None:
    """DS9, D1: the plaintext is complete, whatever the sizes of the pieces."""
    blob = sealed(suite, PLAIN[:size])
    pieces = cut(answer(blob), [1, 40, 3, 60, 2, 70_000, 16])
    async with files(tmp_path, *pieces) as service:
        assert await service.fetch(service.record(suite, blob)) == PLAIN[:size]


@pytest.mark.parametrize("suite", SUITES)
async def test_every_fault_has_its_code(tmp_path: Path, suite: Suite) -> None:
    """DS10, X7.1 D1: checksum, key, size and length of the file; nothing is left behind."""
    blob = sealed(suite)
    async with files(tmp_path, answer(blob)) as service:
        record = service.record(suite, blob)
        wrong = f"0x{int(record.checksum, 16) ^ 1:064x}"
        await service.refused(service.record(suite, blob, checksum=wrong), CHECKSUM)
        # The checksum is judged before the key.
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
