"""The examples in Go, Python and JavaScript, built where their toolchains are installed, and run
with a secret. In place of a toolchain that is missing, a small module of the same shape runs.
`test_guests.py` builds those in Rust and C."""

import base64
import hashlib
import hmac
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from guest_programs import Guest, asked, code, guest
from page_blocks import blocks_of
from tests_support import REPOSITORY
from wasmtime import wat2wasm

from tee_backend.runner.guest.executor import Executor
from tee_backend.runner.guest.runs import Target

EXAMPLES = REPOSITORY / "examples" / "program"
BLOCKS = blocks_of((REPOSITORY / "docs" / "how-to" / "run-programs.md").read_text("utf-8"))
COMMANDS = [
    line
    for block in BLOCKS
    if block.why == "tests/guests/test_toolchains.py"
    for line in block.text.splitlines()
]
STORED = {"go": "go", "componentize-py": "python", "jco": "javascript"}
"""The guest that has the shape of a toolchain's programs."""
SEGMENTS = 39_000
"""Data segments of a program in Go; so many bytes are too long to be stored."""
KEY = "a secret"
CLAIMS = {"sub": "did:example:1", "admin": False}


def _is_of_the_program(output: bytes) -> bool:
    """Return whether an example wrote what it should."""
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
    environment = os.environ | {"GOCACHE": str(REPOSITORY / ".cache" / "go"), "GOPROXY": "off"}
    subprocess.run(command, shell=True, check=True, cwd=folder, env=environment)
    (built,) = folder.glob("*.wasm")
    return built.read_bytes()


def _stored(tool: str) -> bytes:
    """Return our own program that has the shape of a toolchain's; in Go's, add data segments."""
    if tool != "go":
        return guest(STORED[tool]).data
    text = (REPOSITORY / "tests" / "guests" / "wat" / "go.wat").read_text("utf-8").rstrip()
    low, high = SEGMENTS.to_bytes(2, "little")
    text = text.replace('"\\01\\00', f'"\\{low:02x}\\{high:02x}')
    more = (f'(data (i32.const {65536 + 48 * number}) "gogo")' for number in range(1, SEGMENTS))
    return bytes(wat2wasm("\n".join([text.removesuffix(")"), *more, ")"])))


def test_the_page_shows_the_examples() -> None:
    """The programs on the page are those of `examples/program`."""
    shown = {block.name: block.text for block in BLOCKS if block.name.startswith("sign_jwt.")}
    assert sorted(shown) == ["sign_jwt.go", "sign_jwt.py"]
    assert shown == {name: (EXAMPLES / name).read_text("utf-8") for name in shown}
    assert len(COMMANDS) == 3


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("command", COMMANDS)
async def test_an_example_runs(command: str, tmp_path: Path) -> None:
    """RN8, RN11, RN18, RN190: a program of this toolchain, or one of its shape, is compiled within
    the limits, and gets its secret."""
    tool = next(word for word in shlex.split(command) if "=" not in word)
    data = _stored(tool) if shutil.which(tool) is None else _built(command, tmp_path)
    program = Guest(data, Target.WASIP2 if data[4] == 13 else Target.WASIP1)
    async with Executor(children=1, spare=1) as executor:
        request = asked(
            program, json.dumps(CLAIMS).encode(), secrets={"JWT_KEY": KEY}, max_memory_mb=128
        )
        result = await executor.run(request, program.load)
    assert code(result) == "completed", bytes(result.stderr)
    assert _is_of_the_program(bytes(result.output)), bytes(result.output)
