"""Tests of streamed values, which are stored or read completely or not at all."""

import asyncio
import io
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from blake3 import blake3
from patience import PATIENCE_S

from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    DelegationRevoked,
    InvalidInput,
    NodeFailure,
    NodeTimeout,
    NotFound,
    PreconditionFailed,
    ResponseTooLarge,
    TransferBroken,
    ValueTooLarge,
)
from sealspace.session import key_session
from sealspace.wire.transport import TransportSettings

MIB = 1024 * 1024
PATIENT = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
IMPATIENT = replace(PATIENT, timeout_s=0.5)  # where the node goes on for ever
LARGE = bytes(range(256)) * (20 * MIB // 256 + 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A local folder for files."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def pieces_of(size_bytes: int) -> Iterator[bytes]:
    piece = bytes(range(256)) * 1024
    for _ in range(size_bytes // len(piece)):
        yield piece


async def test_a_large_value_needs_no_setting(bench) -> None:
    """A value of twenty megabytes is put and read with default settings."""
    kv = (await bench.owner())[0].kv()
    await kv.put("large", LARGE)
    assert (await kv.get("large")).body == LARGE
    with pytest.raises(ValueTooLarge) as refused:
        await kv.get("large", max_bytes=MIB)
    assert "stream" in refused.value.hint


async def test_a_file_goes_up_and_comes_down(bench, folder: Path) -> None:
    """An uploaded file is downloaded unchanged, with its type and metadata."""
    kv = (await bench.owner())[0].kv()
    (folder / "there").write_bytes(LARGE)
    up: list[tuple[int, int | None]] = []
    down: list[tuple[int, int | None]] = []
    etag = await kv.upload(
        "film",
        folder / "there",
        content_type="video/mp4",
        metadata={"title": "x"},
        progress=lambda *moved: up.append(moved),
    )
    value = await kv.download(
        "film", str(folder / "here"), progress=lambda *moved: down.append(moved)
    )
    assert (folder / "here").read_bytes() == LARGE
    assert value.body == b""
    assert value.etag == etag
    assert value.content_type == "video/mp4"
    assert value.metadata == {"title": "x"}
    for moved in (up, down):
        assert len(moved) > 2 and moved == sorted(moved) and moved[-1] == (len(LARGE), len(LARGE))
    assert ["here", "there"] == sorted(path.name for path in folder.iterdir())


async def test_memory_is_bounded(bench, folder: Path) -> None:
    """Neither the client nor the node keeps a streamed value in memory."""
    kv = (await bench.owner())[0].kv()
    await kv.upload("warm", pieces_of(MIB))
    await kv.download("warm", folder / "warm")
    tracemalloc.start()
    try:
        await kv.upload("film", pieces_of(32 * MIB))
        await kv.download("film", folder / "film")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (folder / "film").stat().st_size == 32 * MIB
    assert peak_bytes < 24 * MIB, peak_bytes


async def test_forms_of_a_source(bench, folder: Path) -> None:
    """A source may be a path, an open file, an iterator or an asynchronous iterator."""
    kv = (await bench.owner())[0].kv()
    (folder / "file").write_bytes(b"..hello")

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"hel", b"", b"lo"):
            yield piece

    with (folder / "file").open("rb") as file:
        file.read(2)
        for source in (
            file,
            io.BytesIO(b"hello"),
            pieces(),
            [b"hel", b"", b"lo"],
            iter([b"hello"]),
        ):
            await kv.upload("a", source)
            assert (await kv.get("a")).body == b"hello"
    assert b"hello" == b"".join([piece async for piece in kv.stream("a")])
    out = io.BytesIO()
    await kv.download("a", out)
    assert out.getvalue() == b"hello"
    await kv.upload("empty", [])
    await kv.download("empty", folder / "empty")
    assert (folder / "empty").read_bytes() == b""


@pytest.mark.parametrize(
    "source", [b"bytes", bytearray(b"x"), 5, None, io.StringIO, ["text"], [None, 1], "/"]
)
async def test_what_is_no_source(bench, source: object) -> None:
    """A source that does not yield bytes is rejected, and nothing is stored."""
    kv = (await bench.owner())[0].kv()
    if source is io.StringIO:
        source = io.StringIO("text")  # one of each test's own: it is read
    if isinstance(source, list) and None in source:
        source = [b"1", 1]
    with pytest.raises(InvalidInput):
        await kv.upload("a", source)
    with pytest.raises(NotFound):
        await kv.get("a")


async def test_a_file_that_cannot_be_read(bench, folder: Path) -> None:
    """A file that cannot be read raises the system's own error."""
    kv = (await bench.owner())[0].kv()
    with pytest.raises(FileNotFoundError):
        await kv.upload("a", folder / "missing")
    await kv.put("a", b"1")
    with pytest.raises(FileNotFoundError):
        await kv.download("a", folder / "missing" / "a")
    with pytest.raises(InvalidInput):
        await kv.download("a", folder)
    with pytest.raises(NotFound):
        await kv.download("b", folder / "b")
    with pytest.raises(InvalidInput):  # a superuser may replace it, for everybody
        await kv.download("a", "/dev/null")
    assert Path("/dev/null").is_char_device()
    assert [] == list(folder.iterdir())


@pytest.mark.parametrize("kind", [ArithmeticError, TimeoutError, OSError, InvalidInput])
async def test_a_source_that_fails_on_the_way(bench, kind: type[Exception]) -> None:
    """An error of the source reaches the caller unchanged, and nothing is stored."""
    kv = (await bench.owner())[0].kv()

    def failing() -> Iterator[bytes]:
        yield b"x" * MIB
        raise kind("on purpose")

    with pytest.raises(kind, match="on purpose"):
        await kv.upload("a", failing())
    with pytest.raises(NotFound):
        await kv.get("a")
    await kv.put("a", b"the client goes on")


class Changing(io.BytesIO):
    """A file whose size changes after the first read."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(bytes(MIB))
        self._size_bytes = size_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        with self.getbuffer() as held:
            changes = len(held) != self._size_bytes
        if changes:
            at = self.tell()
            self.truncate(min(at, self._size_bytes))
            self.seek(0, io.SEEK_END)
            self.write(bytes(max(0, self._size_bytes - self.tell())))
            self.seek(at)
        return piece


@pytest.mark.parametrize("size_bytes", [10, MIB + 10])
async def test_a_file_that_changes_while_it_is_read(bench, size_bytes: int) -> None:
    """A file that gets shorter or longer than announced is not stored in part."""
    kv = (await bench.owner())[0].kv()
    with pytest.raises(InvalidInput, match="the size of the file changed"):
        await kv.upload("a", Changing(size_bytes))
    with pytest.raises(NotFound):
        await kv.get("a")


async def test_conditions_hold_for_an_upload(bench) -> None:
    """An upload can require that a value is absent or has a given version."""
    kv = (await bench.owner())[0].kv()
    etag = await kv.upload("a", [b"1"], if_absent=True)
    with pytest.raises(PreconditionFailed):
        await kv.upload("a", [b"2"], if_absent=True)
    await kv.upload("a", [b"2"], if_match=etag)
    with pytest.raises(PreconditionFailed):
        await kv.upload("a", [b"3"], if_match=etag)
    with pytest.raises(InvalidInput):
        await kv.upload("a", [b"3"], if_absent=True, if_match=etag)
    assert (await kv.get("a")).body == b"2"


async def test_pages_are_iterated(bench) -> None:
    """Iterating over a list returns all of its pages."""
    kv = (await bench.owner())[0].kv()
    await kv.put_many(dict.fromkeys("abcde", b"1"))
    pages = [page.keys async for page in kv.pages(page_keys=2)]
    assert [("a", "b"), ("c", "d"), ("e",)] == pages


# --- nodes that break off -------------------------------------------------------------------------


@asynccontextmanager
async def answering(bench, answer, settings: TransportSettings = PATIENT) -> AsyncIterator[Client]:
    """Return a client of a server that answers `/info` like a node, and calls by a function."""
    owner, _ = await bench.owner()
    node_id = (await owner.info()).node_id

    async def info(_request: web.Request) -> web.Response:
        return web.json_response({"protocol": 1, "nodeId": node_id, "version": "", "features": []})

    app = web.Application(client_max_size=100 * MIB)
    app.router.add_get("/info", info)
    app.router.add_post("/invoke", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with Client(
            f"http://{host}:{port}", session=owner.session, settings=settings, clock=bench.clock
        ) as client:
            yield client
    finally:
        await runner.cleanup()


def sending(body: bytes, *, size_bytes: int, etag: bytes | None = None, stalls: bool = False):
    """Send a part of a body of the announced size, then disconnect or stall."""
    digest = blake3(body if etag is None else etag).hexdigest()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"ETag": f'"blake3-{digest}"', "Content-Length": str(size_bytes)}
        )
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        if stalls:
            await asyncio.Event().wait()
        request.transport.close()
        return response

    return answer


@pytest.mark.parametrize(
    ("broken", "settings"),
    [
        (sending(b"x" * MIB, size_bytes=2 * MIB), PATIENT),
        (sending(b"x" * MIB, size_bytes=2 * MIB, stalls=True), IMPATIENT),
        (sending(b"", size_bytes=1), PATIENT),
        (sending(b"x" * MIB, size_bytes=MIB, etag=b"another body"), PATIENT),
    ],
    ids=["cut", "stalled", "nothing", "other bytes"],
)
async def test_a_stream_that_is_cut_leaves_nothing(
    bench, folder: Path, broken, settings: TransportSettings
) -> None:
    """A download that is cut off leaves an existing file unchanged and no draft."""
    path = folder / "film"
    path.write_bytes(b"before")
    async with answering(bench, broken, settings) as client:
        with pytest.raises(TransferBroken) as reported:
            await client.kv().download("film", path)
        with pytest.raises(TransferBroken):
            _ = [piece async for piece in client.kv().stream("film")]
    assert path.read_bytes() == b"before"
    assert [path] == list(folder.iterdir())
    assert reported.value.moved_bytes <= MIB and "tinycloud.kv/get" in str(reported.value)


async def test_a_stream_has_a_bound(bench, folder: Path) -> None:
    """The client stops reading if a node sends more than was requested."""
    async with answering(bench, sending(b"x" * MIB, size_bytes=MIB)) as client:
        with pytest.raises(ResponseTooLarge):
            await client.kv().download("film", folder / "film", max_bytes=1000)
    assert [] == list(folder.iterdir())


async def test_a_reader_who_stops_gives_the_connection_back(bench) -> None:
    """The client stays usable after a stream is closed before its end."""
    kv = (await bench.owner())[0].kv()
    await kv.put("large", LARGE)
    stream = kv.stream("large")
    assert await anext(aiter(stream))
    await stream.aclose()
    assert (await kv.metadata("large")).etag


async def test_a_node_that_trickles_is_given_up(bench) -> None:
    """A transfer slower than the limit times out."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"1"', "Content-Length": str(MIB)})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.01)

    async with answering(bench, trickle, IMPATIENT) as client:
        with pytest.raises(NodeTimeout):
            await client.kv().get("film")
        with pytest.raises(TransferBroken):
            _ = [piece async for piece in client.kv().stream("film")]


async def test_a_node_that_takes_nothing_is_given_up(bench) -> None:
    """An upload that the node does not read times out."""

    async def deaf(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with answering(bench, deaf, IMPATIENT) as client:
        with pytest.raises(NodeTimeout):
            await client.kv().upload("film", pieces_of(16 * MIB))


@pytest.mark.parametrize("size_bytes", [8 * MIB, 32 * MIB])
async def test_a_refusal_before_the_end_of_an_upload(bench, folder: Path, size_bytes: int) -> None:
    """The client reads a node's refusal that arrives during an upload."""
    owner, _ = await bench.owner()
    await owner.kv().put("a", b"1")
    agent = await bench.client(key_session(bytes(32)))
    grant = [allow(f"{owner.kv().space.text}/kv/a", "tinycloud.kv/put")]
    portable = await owner.delegations.delegate(agent.session.did, grant)
    await agent.delegations.accept(portable)
    await owner.delegations.revoke(portable)
    kv = agent.kv(owner.kv().space.text)
    (folder / "film").write_bytes(b"x" * size_bytes)
    for call in (
        lambda: kv.upload("a", folder / "film"),
        lambda: kv.upload("a", pieces_of(size_bytes)),
        lambda: kv.put("a", b"x" * size_bytes),
    ):
        with pytest.raises(DelegationRevoked):
            await call()
    await owner.kv().put("a", b"2")


async def test_what_is_read_again_for_another_try(bench, folder: Path) -> None:
    """A retry sends a file again from its beginning; a stream of pieces is sent only once."""
    owner, _ = await bench.owner()
    node_id, taken = (await owner.info()).node_id, []

    async def busy(request: web.Request) -> web.Response:
        taken.append(await request.read())
        return web.Response(status=503 if len(taken) % 2 else 200, headers={"ETag": '"1"'})

    (folder / "film").write_bytes(b"a film")
    settings = TransportSettings(timeout_s=PATIENCE_S, tries=2, backoff_s=0)
    async with answering(bench, busy, settings=settings) as client:
        assert node_id == (await client.info()).node_id
        with (folder / "film").open("rb") as file:
            for source in (folder / "film", file):
                assert await client.kv().upload("a", source) == '"1"'
        with pytest.raises(NodeFailure):
            await client.kv().upload("a", [b"a film"])
    assert [b"a film"] * 5 == taken
