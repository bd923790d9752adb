"""Download and decryption of data sets for tasks (DS12 to DS16).

    https → counted and hashed → decrypted → new file, complete or absent

Example:
    read = programs.public_reader(survey, MAX_STATEMENT_BYTES)
    record = await read_dataset(read, survey)
    await fetch_dataset(outbound, record, key, folder / "survey", max_bytes=MAX_ENCRYPTED_BYTES)
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import aiohttp
from yarl import URL

from sealspace.apps.programs import Reader
from sealspace.documents.dataset_format import (
    CHUNK_BYTES,
    DatasetRecord,
    Read,
    dataset_key,
    decrypt,
    parse_dataset,
    parse_dataset_key,
)
from sealspace.documents.project_names import ProjectId
from sealspace.errors import DatasetInvalid
from sealspace.private_files import make_file

from ..guest.frames import MAX_MESSAGE_BYTES, pack_parts
from ..guest.outbound import Outbound, RequestRefused, parse_request
from .stage_errors import StageFailed

DOWNLOAD_S = 600.0
_READABLE = 0o444


async def read_dataset(read: Reader, dataset: ProjectId) -> DatasetRecord | None:
    """Read and verify the statement about a data set, or return None if there is none (DS12).

    Raises:
        StatementInvalid: the statement is not the owner's.
        NodeRefused, TransportError: the node could not be asked.
    """
    data = await read(dataset_key(dataset))
    return None if data is None else parse_dataset(data, dataset)


async def fetch_dataset(
    outbound: Outbound, record: DatasetRecord, key: str, destination: Path, *, max_bytes: int
) -> int:
    """Download and decrypt a data set, and return the size of the plaintext in bytes.

    The file appears at its destination when checksum, size, and padding or tags have proven right.
    It is readable for the task's child.

    Raises:
        StageFailed: the data set is not available or not valid; no file is left.
    """
    try:
        if record.size_bytes > max_bytes:  # DS13
            raise RequestRefused("response-too-large")
        request = parse_request(
            pack_parts([b"GET", record.url.encode(), b""]),
            hosts={str(URL(record.url).host)},
            any_port=outbound.loopback_ca is not None,
        )
        # Another client with the same checks, because programs get shorter and smaller responses.
        most_bytes = record.size_bytes * 9 // 8 + MAX_MESSAGE_BYTES  # with TLS and HTTP
        own = replace(outbound, request_s=DOWNLOAD_S, most_arriving_bytes=most_bytes)
        async with own, own.response(request) as response:
            if response.status != 200:
                raise RequestRefused(f"status-{response.status}")
            loop = asyncio.get_running_loop()

            def read(size_bytes: int) -> bytes:
                coming = response.content.readexactly(size_bytes)
                try:
                    return asyncio.run_coroutine_threadsafe(coming, loop).result()
                except asyncio.IncompleteReadError as end:
                    return end.partial

            saving = loop.run_in_executor(None, _save, read, record, key, destination)
            try:
                return await asyncio.shield(saving)
            finally:
                # If the task is cancelled, the thread ends first: its next read fails.
                response.close()
                await asyncio.wait([saving])
    except (RequestRefused, ValueError) as refused:
        raise StageFailed("PRE_COMPUTE_DATASET_DOWNLOAD_FAILED", str(refused)) from refused


def _save(read: Read, record: DatasetRecord, key: str, destination: Path) -> int:
    """Decrypt and verify a data set, and write it to a new file."""
    digest = sha256()
    left = record.size_bytes

    def arriving(size_bytes: int) -> bytes:
        nonlocal left
        piece = read(size_bytes)
        digest.update(piece)
        left -= len(piece)
        return piece

    def plaintext() -> Iterator[bytes]:
        fault = None
        try:
            yield from decrypt(record.suite, parse_dataset_key(key), arriving)
        except DatasetInvalid as invalid:
            fault = invalid
        while arriving(CHUNK_BYTES):  # the checksum is judged first, as iExec does
            pass
        # DS10: before the file has its name. CBC does not detect a change.
        if left or f"0x{digest.hexdigest()}" != record.checksum:
            raise StageFailed(
                "PRE_COMPUTE_INVALID_DATASET_CHECKSUM",
                "the downloaded file is not the one that its owner published",
            )
        if fault is not None:
            raise StageFailed("PRE_COMPUTE_DATASET_DECRYPTION_FAILED", fault.message) from fault

    try:
        make_file(destination, plaintext())
        destination.chmod(_READABLE)
        return destination.stat().st_size
    except aiohttp.ClientError:
        raise  # of the connection; some are an OSError too
    except OSError as error:
        detail = f"cannot write the data set: {error.strerror}"
        raise StageFailed("PRE_COMPUTE_SAVING_PLAIN_DATASET_FAILED", detail) from error
