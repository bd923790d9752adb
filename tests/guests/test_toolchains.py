"""Tests of the examples in Go, Python and JavaScript, with their toolchains if installed."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from guest_programs import Guest, code, guest, run_request
from https_service import https_service
from page_blocks import blocks_of
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from tests_support import REPOSITORY
from wasmtime import wat2wasm

from runner.guest.environment import environment_of
from runner.guest.executor import Executor
from runner.tasks.folders import task_folders
from serving.outbound import Outbound

EXAMPLES = REPOSITORY / "examples" / "program"
PAGES = {
    name: blocks_of((REPOSITORY / "docs" / "how-to" / name).read_text("utf-8"))
    for name in ("run-programs.md", "iexec.md")
}
BLOCKS = [
    block
    for block in itertools.chain.from_iterable(PAGES.values())
    if block.why == "tests/guests/test_toolchains.py"
]
*COMMANDS, PYTHON_TASK, JAVASCRIPT_TASK = [
    line for block in BLOCKS for line in block.text.splitlines()
]
TASK_COMMANDS = {"Python": PYTHON_TASK, "JavaScript": JAVASCRIPT_TASK}
STORED = {"go": "go", "componentize-py": "python", "jco": "javascript"}
"""The guest that has the shape of a toolchain's programs."""
SEGMENTS = 39_000
"""Data segments of a program in Go; so many bytes are too long to be stored."""
KEY = "a secret"
CLAIMS = {"sub": "did:example:1", "admin": False}


def _is_of_the_program(output: bytes) -> bool:
    """Return whether an example wrote the expected output."""
    text, _, last = output.rpartition(b".")
    if not last.isascii() or b" " in last:
        return output == b"%b %d" % (json.dumps(CLAIMS).encode(), len(KEY))
    signature = hmac.digest(KEY.encode(), text, hashlib.sha256)
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + b"==")) for part in text.split(b".")
    )
    return (header, claims, base64.urlsafe_b64decode(last + b"==")) == (
        {"alg": "HS256", "typ": "JWT"},
        CLAIMS,
        signature,
    )


def _built(command: str, folder: Path) -> bytes:
    """Return a program that an installed toolchain builds."""
    folder = shutil.copytree(EXAMPLES, folder / "program")
    shutil.copy(REPOSITORY / "spec" / "runner" / "http.wit", folder)
    (folder / "wit" / "deps").mkdir(parents=True)
    shutil.copy(folder / "app.wit", folder / "wit")
    shutil.copy(folder / "http.wit", folder / "wit" / "deps")
    # In a fresh clone Go compiles its library. Collecting garbage takes a fourth of that time.
    go = {"GOCACHE": str(REPOSITORY / ".cache" / "go"), "GOPROXY": "off", "GOGC": "800"}
    environment = os.environ | go
    subprocess.run(command, shell=True, check=True, cwd=folder, env=environment)
    (built,) = folder.glob("*.wasm")
    return built.read_bytes()


def _stored(tool: str) -> bytes:
    """Return our own program in the shape of a toolchain's output, for Go with data segments."""
    if tool != "go":
        return guest(STORED[tool]).data
    text = (REPOSITORY / "tests" / "guests" / "wat" / "go.wat").read_text("utf-8").rstrip()
    low, high = SEGMENTS.to_bytes(2, "little")
    text = text.replace('"\\01\\00', f'"\\{low:02x}\\{high:02x}')
    more = (f'(data (i32.const {65536 + 48 * number}) "gogo")' for number in range(1, SEGMENTS))
    return bytes(wat2wasm("\n".join([text.removesuffix(")"), *more, ")"])))


async def _answer_path(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a request with its path."""
    path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))
    await writer.drain()
    writer.close()


def test_the_pages_show_the_examples() -> None:
    """The pages show exactly the programs in `examples/program`."""
    shown = {
        block.name: block.text
        for blocks in PAGES.values()
        for block in blocks
        if block.name.startswith(("app.", "sign_jwt.", "counter."))
    }
    assert sorted(shown) == ["app.js", "counter.py", "counter.rs", "sign_jwt.go", "sign_jwt.py"]
    assert shown == {name: (EXAMPLES / name).read_text("utf-8") for name in shown}
    assert len(COMMANDS) == 3


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("command", COMMANDS)
async def test_an_example_runs(command: str, tmp_path: Path) -> None:
    """RN8, RN11, RN18, RN190: a program of each toolchain compiles within the limits and gets its
    secret."""
    tool = next(word for word in shlex.split(command) if "=" not in word)
    data = _stored(tool) if shutil.which(tool) is None else _built(command, tmp_path)
    program = Guest(data, "wasm32-wasip2" if data[4] == 13 else "wasm32-wasip1")
    async with Executor(children=1, spare=1) as executor:
        request = run_request(
            program, json.dumps(CLAIMS).encode(), secrets={"JWT_KEY": KEY}, max_memory_mb=128
        )
        result = await executor.run(request, program.load)
        if tool == "go" and shutil.which(tool) is not None:
            without_key = run_request(
                program, json.dumps(CLAIMS).encode(), secrets={}, max_memory_mb=128
            )
            failed = await executor.run(without_key, program.load)
            assert code(failed) != "completed"
            assert b"the secret JWT_KEY is missing" in bytes(failed.stderr)
    assert code(result) == "completed", bytes(result.stderr)
    assert _is_of_the_program(bytes(result.output)), bytes(result.output)


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@needs_task_memory
@pytest.mark.parametrize("name", ["counter-wasip1", "counter-wasip2", *TASK_COMMANDS])
async def test_a_program_of_a_task(name: str, tmp_path: Path) -> None:
    """TG1: a task's program reads its secrets, calls a service and writes the result."""
    if name in TASK_COMMANDS:
        command = TASK_COMMANDS[name]
        tool = command.split()[0]
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
        program = Guest(_built(command, tmp_path), "wasm32-wasip2")
    else:
        program = guest(name)
    secrets = {"IEXEC_REQUESTER_SECRET_1": "sealspace", "IEXEC_REQUESTER_SECRET_2": "visits"}
    async with (
        https_service(tmp_path, "counter.example", talk=_answer_path) as service,
        Executor(children=1, spare=1, outbound=Outbound(service.ca)) as executor,
        task_folders(MEMORY, max_bytes=1 << 20, max_files=10) as folders,
    ):
        request = replace(
            run_request(program, max_memory_mb=256, max_instructions=10**10),
            environment=environment_of({"IEXEC_OUT": "/iexec_out", **secrets}, {}),
            arguments=(service.url(""),),
            folders=folders,
            hosts=frozenset({service.host}),
            secrets_delivered=True,
        )
        result = await executor.run(request, program.load)
        assert code(result) == "completed", bytes(result.stderr)
        assert json.loads((folders.output / "computed.json").read_text()) == {
            "deterministic-output-path": "/iexec_out/result.txt"
        }
        assert (folders.output / "result.txt").read_text() == "/hit/sealspace/visits"
