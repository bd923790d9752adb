"""Download and decryption of data sets for tasks (DS10 to DS12).

    https → counted and hashed → decrypted → new file, complete or absent

Example:
    record = parse_dataset(statement, survey)
    await fetch_dataset(outbound, record, key, folder / "survey", max_bytes=MAX_ENCRYPTED_BYTES)
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from aiohttp import StreamReader

from sealspace.documents.dataset_format import (
    CHUNK_BYTES,
    DatasetRecord,
    decrypt,
    parse_dataset_key,
)
from sealspace.errors import DatasetInvalid
from sealspace.private_files import make_file
from serving.messages import MAX_MESSAGE_BYTES, pack_parts
from serving.outbound import Outbound, RequestRefused, parse_request

from .stage_errors import StageFailed

FIRST_WINDOW_S = 30.0
"""Time for the first `WINDOW_BYTES` of a data set; connecting and the head are included."""
WINDOW_S = 10.0
"""Time for each further `WINDOW_BYTES`."""
WINDOW_BYTES = 640 * 1024


@dataclass
class _Arrival:
    """The content of a response that is arriving; None until the head has arrived."""

    content: StreamReader | None = None


async def fetch_dataset(
    outbound: Outbound, record: DatasetRecord, key: str, destination: Path, *, max_bytes: int
) -> int:
    """Download and decrypt a data set, and return the size of the plaintext in bytes.

    The file appears at its destination only if its checksum, its size, and its padding or tags are
    right. It is readable for the task's child.

    Raises:
        StageFailed: the data set is not available or not valid; no file is left.
    """
    try:
        # no larger file fits below the folder for tasks (DS11)
        if record.size_bytes > max_bytes:
            raise RequestRefused("response-too-large")
        message = pack_parts([b"GET", record.url.encode(), b""])
        # A client of its own with the same checks, because a data set is larger and slower than the
        # responses that programs get. An eighth and 1 MiB more may arrive, for TLS and HTTP.
        most_bytes = record.size_bytes * 9 // 8 + MAX_MESSAGE_BYTES
        own = replace(outbound, request_s=600.0, most_arriving_bytes=most_bytes)
        request = parse_request(message, hosts=None, any_port=outbound.loopback_ca is not None)
        arrival = _Arrival()
        async with _requiring_rate(arrival), own, own.response(request) as response:
            arrival.content = response.content
            if response.status != 200:
                raise RequestRefused(f"the address of the data set answered {response.status}")
            loop = asyncio.get_running_loop()
            # A thread of its own: the loop has few, and a download may last ten minutes.
            own_thread = ThreadPoolExecutor(1, "dataset")
            saving = loop.run_in_executor(
                own_thread, _save, response.content, loop, record, key, destination
            )
            try:
                # Shielded, because a thread that runs cannot be cancelled.
                return await asyncio.shield(saving)
            finally:
                # After a cancellation the thread still reads. Its next read fails once the response
                # is closed. It has to end before the folder that it writes to is removed.
                response.close()
                own_thread.shutdown(wait=False)
                await asyncio.gather(saving, return_exceptions=True)
    except RequestRefused as refused:
        raise StageFailed("PRE_COMPUTE_DATASET_DOWNLOAD_FAILED", str(refused)) from refused


@asynccontextmanager
async def _requiring_rate(arrival: _Arrival) -> AsyncIterator[None]:
    """End the `with` block if data arrive too slowly (RN248).

    Otherwise a service that sends one byte a second would keep its place for 600 s.

    Raises:
        RequestRefused: in one window, fewer than `WINDOW_BYTES` arrived.
    """
    ending = asyncio.timeout(None)  # `watch` has it expire

    async def watch() -> None:
        window_s = FIRST_WINDOW_S
        bytes_before = 0
        while True:
            await asyncio.sleep(window_s)
            content = arrival.content
            if content is not None and content.is_eof():
                return
            bytes_now = 0 if content is None else content.total_bytes
            if bytes_now - bytes_before < WINDOW_BYTES:
                ending.reschedule(asyncio.get_running_loop().time())
                return
            window_s = WINDOW_S
            bytes_before = bytes_now

    try:
        async with ending:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError as slow:
        if not ending.expired():  # the block raised it
            raise
        raise RequestRefused(
            f"too slow: at least {WINDOW_BYTES} bytes have to arrive in the first"
            f" {FIRST_WINDOW_S:g} s, and in each {WINDOW_S:g} s after that"
        ) from slow


def _save(
    content: StreamReader,
    loop: asyncio.AbstractEventLoop,
    record: DatasetRecord,
    key: str,
    destination: Path,
) -> int:
    """Decrypt and verify a data set that arrives, and write it to a new file."""
    digest = sha256()

    def read(size_bytes: int) -> bytes:
        coming = content.readexactly(size_bytes)
        try:
            piece = asyncio.run_coroutine_threadsafe(coming, loop).result()
        except asyncio.IncompleteReadError as end:
            piece = end.partial
        digest.update(piece)
        return piece

    def plaintext() -> Iterator[bytes]:
        fault = None
        try:
            yield from decrypt(record.suite, parse_dataset_key(key), read)
        except DatasetInvalid as invalid:
            fault = invalid
        # A wrong checksum comes before a fault of the decryption, as in iExec. So all of the file
        # is read, also after a fault.
        while read(CHUNK_BYTES):
            pass
        checksum = f"0x{digest.hexdigest()}"
        # DS10: `make_file` gives the file its name only once all of this has passed. The decryption
        # alone would not show every change, because CBC does not detect one.
        if content.total_bytes != record.size_bytes or checksum != record.checksum:
            raise StageFailed(
                "PRE_COMPUTE_INVALID_DATASET_CHECKSUM",
                "the downloaded file is not the one that its owner published",
            )
        if fault is not None:
            raise StageFailed("PRE_COMPUTE_DATASET_DECRYPTION_FAILED", fault.message)

    try:
        make_file(destination, plaintext())
        destination.chmod(0o444)
    except OSError as error:  # of writing the file: errors of the connection are of other classes
        raise StageFailed(
            "PRE_COMPUTE_SAVING_PLAIN_DATASET_FAILED",
            f"cannot write the data set: {error.strerror}",
        ) from error
    return destination.stat().st_size
