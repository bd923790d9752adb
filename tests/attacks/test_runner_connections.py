"""Clients of a runner that do not read its answers."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from patience import PATIENCE_S
from runner_connection_attacks import FLOOD
from runner_stage import ECHO, RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from runner.calls import ledger
from runner.guest import runs
from runner.guest.runs import ResponseFormat, answer_of
from runner.http import sent_answers
from runner.reasons import RunRefused
from sealspace.apps.run_calls import call_headers
from sealspace.session import key_session
from serving.listener import ConnectionLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER = key_session(sha256(b"caller").digest())
LIMITS = ConnectionLimits(unread_answer_s=0.5)
MiB = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner with short timeouts, for the tests of this module."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"), connections=LIMITS)
        await staged.publish("flood", FLOOD)
        await staged.publish("echo", ECHO)
        yield staged


def _headers(stage: RunnerStage, program: str, body: bytes = b"") -> dict[str, str]:
    now, entropy = SystemClock().now(), SystemEntropy()
    return call_headers(
        CALLER, runner=stage.at, program=program, body=body, now=now, entropy=entropy
    )


async def _unread(
    stage: RunnerStage, method: str, path: str, program: str, body: bytes = b""
) -> asyncio.StreamWriter:
    """Send a request, read the status 200, and nothing more."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", urlsplit(stage.url).port, limit=1 << 10
    )
    lines = [f"{method} {path} HTTP/1.1", "Host: runner", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in _headers(stage, program, body).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    return writer


async def _unread_flood(stage: RunnerStage) -> asyncio.StreamWriter:
    project = f"{stage.developer}/flood"
    body = json.dumps({"source": {"project": project}, "responseFormat": "Bytes"}).encode()
    return await _unread(stage, "POST", "/run", project, body)


async def _kept(stage: RunnerStage) -> str:
    """Return the job of an asynchronous call with a long stored answer."""
    members: dict[str, Any] = {"responseFormat": "Bytes", "async": True}
    _, said = await stage.call("flood", **members)
    job = str(said["job"])
    async with asyncio.timeout(PATIENCE_S):
        while (await _poll(stage, job))["status"] == "pending":
            pass
    return job


async def _poll(stage: RunnerStage, job: str) -> dict[str, Any]:
    async with stage.http.get(
        f"{stage.url}/calls/{job}", headers=_headers(stage, f"calls/{job}")
    ) as answer:
        said: dict[str, Any] = json.loads(await answer.read())
        return said


async def test_unread_answers_are_bounded(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN157, RN158: unread answers of unknown payers are limited; slow clients are disconnected."""
    monkeypatch.setattr(sent_answers, "MOST_ANSWER_BYTES", 16 * MiB)
    key = await stage.key("flood")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            writer = await _unread_flood(stage)
            status, said = await stage.call("flood", responseFormat="Bytes")
            if status == 503:
                break
            writer.transport.abort()  # it was disconnected before the other call was answered
        assert said["error"]["code"] == "answer-unsent"
        # of which the keys of one owner have half
        monkeypatch.setattr(sent_answers, "MOST_ANSWER_BYTES", 32 * MiB)
        status, said = await stage.api("flood", key, {"input": "", "response_format": "Bytes"})
        assert (status, said["status"]) == (200, "completed")
        monkeypatch.setattr(sent_answers, "MOST_ANSWER_BYTES", 16 * MiB)
        # short answers pass
        assert (await stage.call("echo", input="hello"))[1]["output"] == "hello"
        while (await stage.call("flood", responseFormat="Bytes"))[0] == 503:
            pass
    writer.transport.abort()


async def test_a_refusal_for_now_says_when_to_come_back(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN158: a request whose answer does not fit at present gets 503 with `Retry-After`."""
    monkeypatch.setattr(sent_answers, "MOST_ANSWER_BYTES", 0)
    project = f"{stage.developer}/flood"
    body = json.dumps({"source": {"project": project}, "responseFormat": "Bytes"}).encode()
    async with stage.http.post(
        f"{stage.url}/run", data=body, headers=_headers(stage, project, body)
    ) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_client_that_reads_too_slowly(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN157: the runner disconnects a client that reads too slowly, and sends no other answer."""
    monkeypatch.setattr(sent_answers, "ANSWER_S", 0.0)
    monkeypatch.setattr(sent_answers, "ANSWER_BYTES", 1 << 40)
    with pytest.raises(aiohttp.ClientError):
        await stage.call("flood", responseFormat="Bytes")


async def test_unread_polls_share_one_answer(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN158: an unread stored answer takes the memory of two pieces."""
    job, polls = await _kept(stage), 12
    monkeypatch.setattr(sent_answers, "MOST_ANSWER_BYTES", polls * 2 * ledger.PIECE_BYTES)
    writers = []
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(polls):
            writers.append(await _unread(stage, "GET", f"/calls/{job}", f"calls/{job}"))
        for writer in writers:
            writer.transport.abort()
        while "output" not in (said := await _poll(stage, job)):
            assert said["error"]["code"] == "runner-busy"
    assert len(said["output"]) > 13_000_000


async def test_a_kept_answer_that_goes_while_it_is_read(stage: RunnerStage, tmp_path: Path) -> None:
    """RN158: the runner closes a connection if a piece of the answer was deleted meanwhile."""
    folder = tmp_path / "another"
    async with AsyncExitStack() as stack:
        job = await _kept(await stage.another(stack, folder))
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal, journal:
        assert journal.execute("DELETE FROM contents WHERE kind = 'answer.9'").rowcount == 1
    async with AsyncExitStack() as stack:
        with pytest.raises(aiohttp.ClientError):
            await _poll(await stage.another(stack, folder), job)


@pytest.mark.parametrize("format", ["Text", "Bytes"])
async def test_what_is_longer_as_json(stage: RunnerStage, format: str) -> None:
    """RN159: an output of ten million bytes fits into an answer as base64, but not as escaped
    text."""
    _, said = await stage.call("flood", responseFormat=format)
    assert said.get("error", {}).get("code") == ("limit-output" if format == "Text" else None)


@pytest.mark.parametrize(
    "text", ["", "é" * 70_000, "a" + "\U0001f512" * 50_000, '"\\\n\0' * 40_000]
)
async def test_text_is_quoted_as_a_whole(text: str) -> None:
    """RN3: a text is the same JSON string wherever it is cut for encoding."""
    assert json.loads(answer_of(text.encode(), ResponseFormat.TEXT)) == text
    assert answer_of(text.encode(), ResponseFormat.TEXT) == msgspec.json.encode(text)


@pytest.mark.parametrize("broken", [b"\xff", b"a" * 65_535 + b"\xc3", b"a" * 70_000 + b"\xc3("])
async def test_output_that_is_no_text(broken: bytes) -> None:
    """RN3: output that is not UTF-8 is refused as text, also at a cut."""
    with pytest.raises(RunRefused, match="output-format"):
        answer_of(broken, ResponseFormat.TEXT)


async def test_the_longest_output_is_an_answer_as_base64() -> None:
    """RN159: the longest output fits into an answer as base64."""
    assert (
        len(answer_of(bytes(runs.MAX_OUTPUT_BYTES), ResponseFormat.BYTES)) < runs.MAX_ANSWER_BYTES
    )
