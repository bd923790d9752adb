"""Download and decryption of data sets for tasks (DS10 to DS12).

    https → counted and hashed → decrypted → new file, complete or absent

Example:
    record = parse_dataset(statement, survey)
    await fetch_dataset(outbound, record, key, folder / "survey", max_bytes=MAX_ENCRYPTED_BYTES)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
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
from tee_backend.messages import MAX_MESSAGE_BYTES, pack_parts
from tee_backend.outbound import Outbound, RequestRefused, parse_request

from .stage_errors import StageFailed

FIRST_WINDOW_S = 30.0
"""Time for the first `WINDOW_BYTES` of a data set; connecting and the head are included."""
WINDOW_S = 10.0
"""Time for each further `WINDOW_BYTES`."""
WINDOW_BYTES = 640 * 1024


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
        # responses that programs get.
        most_bytes = record.size_bytes * 9 // 8 + MAX_MESSAGE_BYTES  # with TLS and HTTP
        own = replace(outbound, request_s=600.0, most_arriving_bytes=most_bytes)
        request = parse_request(message, hosts=None, any_port=outbound.loopback_ca is not None)
        contents = list[StreamReader]()
        async with (
            _requiring_rate(lambda: contents[0] if contents else None),
            own,
            own.response(request) as response,
        ):
            contents.append(response.content)
            if response.status != 200:
                raise RequestRefused(f"the address of the data set answered {response.status}")
            loop = asyncio.get_running_loop()
            # A thread of its own: the loop has few, and a download may last ten minutes.
            own_thread = ThreadPoolExecutor(1, "dataset")
            saving = loop.run_in_executor(
                own_thread, _save, response.content, loop, record, key, destination
            )
            try:
                return await asyncio.shield(saving)
            finally:
                # If the task is cancelled, the thread ends first: its next read fails.
                response.close()
                own_thread.shutdown(wait=False)
                await asyncio.gather(saving, return_exceptions=True)
    except RequestRefused as refused:
        raise StageFailed("PRE_COMPUTE_DATASET_DOWNLOAD_FAILED", str(refused)) from refused


@asynccontextmanager
async def _requiring_rate(content_of: Callable[[], StreamReader | None]) -> AsyncIterator[None]:
    """End the `with` block if data arrive too slowly (RN248).

    Otherwise a service that sends one byte a second would keep its place for 600 s.

    Args:
        content_of: returns the content that arrives; None until the head has arrived.
    Raises:
        RequestRefused: in one window, fewer bytes arrived than have to.
    """

    async def watch() -> None:
        window_s, before = FIRST_WINDOW_S, 0
        while True:
            await asyncio.sleep(window_s)
            content = content_of()
            if content is not None and content.is_eof():
                return
            arrived = 0 if content is None else content.total_bytes
            if arrived - before < WINDOW_BYTES:
                patience.reschedule(asyncio.get_running_loop().time())
                return
            window_s, before = WINDOW_S, arrived

    patience = asyncio.timeout(None)
    try:
        async with patience:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError as slow:
        if not patience.expired():
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
        while read(CHUNK_BYTES):  # the checksum is judged first, as iExec does
            pass
        # DS10: before the file has its name. CBC does not detect a change.
        arrived = content.total_bytes, f"0x{digest.hexdigest()}"
        if arrived != (record.size_bytes, record.checksum):
            raise StageFailed(
                "PRE_COMPUTE_INVALID_DATASET_CHECKSUM",
                "the downloaded file is not the one that its owner published",
            )
        if fault is not None:
            raise StageFailed("PRE_COMPUTE_DATASET_DECRYPTION_FAILED", fault.message)

    try:
        make_file(destination, plaintext())
        destination.chmod(0o444)
    except OSError as error:  # not of the connection, whose errors are of other classes
        raise StageFailed(
            "PRE_COMPUTE_SAVING_PLAIN_DATASET_FAILED",
            f"cannot write the data set: {error.strerror}",
        ) from error
    return destination.stat().st_size
