"""Tests of Python programs on a stand-in for their base."""

import asyncio
import hashlib
import json
import os
from pathlib import Path

import pytest
from guest_programs import Guest, code, detail_of, guest, run_guest, run_request
from standin_base import BASE, BASE_SHA256, BASES, python_program

from capabilities.principals import Principal
from runner.guest import artefacts as _artefacts
from runner.guest.artefacts import Artefacts
from runner.guest.child import Template
from runner.guest.executor import Executor
from runner.guest.pool import Pool
from runner.guest.python_bases import MAX_BASES, read_bases
from runner.guest.runs import RunRequest
from runner.reasons import RunRefused
from sealspace.documents.python_programs import MAX_ARCHIVE_BYTES
from serving.shares import Payer

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCRIPT = {"app.py": "print('é')\n", "package/module.py": ""}


async def _run(executor: Executor, program: Guest, *, fresh: bool = False) -> tuple[str, bytes]:
    request = run_request(program, fresh=fresh, max_memory_mb=64)
    result = await executor.run(request, program.load)
    return f"{code(result)} {detail_of(result)}".strip(), bytes(result.output)


async def test_a_base_gets_the_program_as_it_was_published() -> None:
    """PY10, PY11: a base reads exactly the published bytes, also a second time and in a child that
    ran another program before."""
    other = python_program({"app.py": "x" * 100_000})
    async with Executor(children=1, spare=1, bases=BASES) as executor:
        program = python_program(SCRIPT)
        for fresh in (False, True, False):
            assert await _run(executor, program, fresh=fresh) == ("completed", program.data)
            assert await _run(executor, other, fresh=fresh) == ("completed", other.data)
        assert code(await run_guest(executor, guest("count"))) == "completed"


async def test_an_unknown_base_is_refused() -> None:
    """PY12: a program of a base that the runner does not have is refused before it starts, by the
    hashes of both."""
    unknown = python_program(SCRIPT, base="0" * 64)
    async with Executor(children=1, spare=1, bases=BASES) as executor:
        refused, _ = await _run(executor, unknown)
        assert refused == f"python-base-unknown it is {'0' * 64}; this runner: {BASE_SHA256}"
    async with Executor(children=1, spare=1) as executor:
        refused, _ = await _run(executor, python_program(SCRIPT))
        assert refused == f"python-base-unknown it is {BASE_SHA256}; this runner: none"


@pytest.mark.parametrize(
    ("spoilt", "refused"),
    [
        (b'{"base":"' + BASE_SHA256.encode() + b'","files":{"a.py":""}}', "program-invalid"),
        (json.dumps({"base": BASE_SHA256, "files": {"app.py": ""}}).encode(), "program-invalid"),
        (b"print(1)", "program-not-wasm"),
        (b'{"base":', "program-invalid"),
        (b'{"base":"' + b" " * MAX_ARCHIVE_BYTES, "program-too-large"),
    ],
)
async def test_an_invalid_program_is_refused(spoilt: bytes, refused: str) -> None:
    """PY1, PY2, RN9: a program that breaks a rule of the format is refused before it starts."""
    async with Executor(children=1, spare=1, bases=BASES) as executor:
        assert (await _run(executor, Guest(spoilt, "python")))[0].split()[0] == refused


async def test_only_a_base_reads_a_program() -> None:
    """PY10: a published component that imports the program is refused, and so is a component that
    is called as a Python program."""
    async with Executor(children=1, spare=1, bases=BASES) as executor:
        refused, _ = await _run(executor, Guest(BASE, "wasm32-wasip2"))
        assert refused.startswith("program-imports sealspace:python/program@0.1.0")
        assert (await _run(executor, Guest(BASE, "python")))[0] == "program-target"


async def test_a_broken_base_refuses_its_programs_alone() -> None:
    """PY11: a base that does not compile refuses its own programs, and no others."""
    broken = BASE[:-3]
    sha256 = hashlib.sha256(broken).hexdigest()
    async with Executor(children=1, spare=1, bases=BASES | {sha256: broken}) as executor:
        assert (await _run(executor, python_program(SCRIPT, sha256)))[0] == "runner-failed"
        assert (await _run(executor, python_program(SCRIPT)))[0] == "completed"


async def test_children_of_an_old_template_run_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """PY11: a child without the base is ended rather than given a program of it."""
    started = list[frozenset[str]]()
    start = Template.start

    def noted(bases: dict[str, int] | None = None) -> Template:
        template = start(bases)
        started.append(template.bases)
        return template

    monkeypatch.setattr(Template, "start", noted)
    async with Executor(children=1, spare=1, bases=BASES) as executor:
        # Runs in a child of the first template, and leaves it in the pool.
        assert code(await run_guest(executor, guest("count"))) == "completed"
        assert (await _run(executor, python_program(SCRIPT)))[0] == "completed"
    assert started == [frozenset(), frozenset(BASES)]


async def test_a_call_waits_for_the_base_no_longer_than_it_may() -> None:
    """PY11, RN220: a call whose base is not compiled in time is refused, and the compilation goes
    on."""
    program = python_program(SCRIPT)
    async with Executor(children=1, spare=1, bases=BASES) as executor:
        request = RunRequest(program.sha256, "python", start_by_s=asyncio.get_running_loop().time())
        assert code(await executor.run(request, program.load)) == "runner-busy"
        assert (await _run(executor, program))[0] == "completed"


async def test_a_used_up_quota_of_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """PY11, RN165: a developer whose hour of compilation is used up can still run Python."""
    monkeypatch.setattr(_artefacts, "_DEVELOPER_S", 0.0)
    async with Executor(children=1, spare=1, bases=BASES) as executor:
        assert code(await run_guest(executor, guest("count"))) == "runner-busy"
        assert (await _run(executor, python_program(SCRIPT)))[0] == "completed"


async def test_strangers_leave_most_of_the_time_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN164: after a stranger's program was parsed, the next stranger's waits as long as a share of
    the time demands, and those of payers with an account do not."""
    monkeypatch.setattr("serving.shares._PAUSE_FACTOR", 1_000_000)
    artefacts = Artefacts(Pool(1), 64 << 20, BASES)

    async def parse(number: int, *, is_known: bool) -> None:
        program = python_program({"app.py": f"# {number}\n" * 10_000})
        payer = Payer(Principal(f"did:key:{number}"), is_known=is_known)
        request = RunRequest(program.sha256, "python", payer=payer)
        os.close(await artefacts.open(request, program.load, []))

    await parse(0, is_known=False)
    waiting = asyncio.create_task(parse(1, is_known=False))
    for number in range(2, 6):
        await parse(number, is_known=True)
    assert not waiting.done()
    await artefacts.close()
    with pytest.raises(RunRefused):
        await waiting


async def test_files_of_bases(tmp_path: Path) -> None:
    """PY11: bases are read by their hashes; too many of them are an error."""
    path = tmp_path / "base.wasm"
    path.write_bytes(BASE)
    assert read_bases([path]) == BASES
    with pytest.raises(ValueError, match="at most 8"):
        read_bases([path] * (MAX_BASES + 1))
    with path.open("r+b") as file:
        file.truncate(33_554_433)
    with pytest.raises(ValueError, match="larger"):
        read_bases([path])


async def test_a_base_that_does_not_load(tmp_path: Path) -> None:
    """PY11: a compiled base that does not load refuses its own programs, and no others, also after
    the template has ended; the next trial compiles it anew."""
    cached = tmp_path / f"{BASE_SHA256}.cwasm"
    cached.write_bytes(b"damaged")
    async with Executor(children=1, spare=1, bases=BASES, base_cache=tmp_path) as executor:
        assert (await _run(executor, python_program(SCRIPT)))[0] == "runner-failed"
        template = executor._pool._template
        assert template is not None
        await template.end()
        for _ in range(3):  # more than the children that were forked before
            result = await run_guest(executor, guest("count"), secrets={"KEY": "s"})
            assert code(result) == "completed"
    assert not cached.exists()
    async with Executor(children=1, spare=1, bases=BASES, base_cache=tmp_path) as executor:
        assert (await _run(executor, python_program(SCRIPT)))[0] == "completed"
