"""Compilation of programs, and programs that are refused before a run."""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal

import pytest
from guest_programs import Guest, bounds_of, children, code, detail_of, guest, run_guest
from patience import PATIENCE_S

from runner.guest.artefacts import seal
from runner.guest.executor import Executor
from runner.guest.runs import RunRequest
from runner.reasons import RunRefused
from sealspace.apps.programs import MAX_PROGRAM_BYTES, Target

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MODULE = b"\0asm\x01\0\0\0"


def _number(value: int) -> bytes:
    """Return a number as wasm writes it (LEB128)."""
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _number(rest) if rest else bytes([low])


def _section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _number(len(body)) + body


def nested(depth: int) -> Guest:
    """Return a module whose start function has this many nested blocks."""
    body = b"\0" + b"\x02\x40" * depth + b"\x0b" * depth + b"\x0b"
    parts = [
        _section(1, b"\x01\x60\0\0"),
        _section(3, b"\x01\0"),
        _section(7, b"\x01\x06_start\0\0"),
        _section(10, b"\x01" + _number(len(body)) + body),
    ]
    return Guest(_MODULE + b"".join(parts), "wasm32-wasip1")


@pytest.mark.parametrize(
    ("name", "expected", "named"),
    [
        (
            "stranger",
            "program-imports",
            ["near.transfer", "wasi_snapshot_preview1.open_everything"],
        ),
        ("mistyped", "program-imports", ["fd_write"]),
        ("wants_http", "program-imports", ["wasi:http/outgoing-handler@0.2.0"]),
        ("library", "program-no-start", []),
        ("start_with", "program-no-start", []),
        ("answers", "program-no-start", []),
        ("memories", "program-invalid", ["multiple memories"]),
        ("memory64", "program-invalid", ["memory64"]),
        ("shared", "program-invalid", ["threads"]),
        ("collected", "program-invalid", []),
    ],
)
async def test_programs_that_are_refused(
    executor: Executor, name: str, expected: str, named: list[str]
) -> None:
    """RN11, RN13: programs with disabled features, unknown imports or no start are refused by
    name."""
    with pytest.raises(RunRefused) as refused:
        await executor.compile(guest(name).sha256, guest(name).target, guest(name).load)
    assert expected == refused.value.reason.code
    assert [] == [text for text in named if text not in refused.value.reason.detail]
    assert "\n" not in refused.value.reason.detail and len(refused.value.reason.detail) <= 400
    result = await run_guest(executor, guest(name))
    assert refused.value.reason == result.reason
    assert result.instructions == 0
    assert not refused.value.reason.ran


async def test_a_function_that_an_interface_does_not_have(executor: Executor) -> None:
    """RN13: an unknown function of a known interface fails when the component starts."""
    assert "program-start" == code(await run_guest(executor, guest("wants_more")))


@pytest.mark.parametrize(
    ("data", "target", "expected"),
    [
        (b"", "wasm32-wasip1", "program-not-wasm"),
        (b"(module)", "wasm32-wasip1", "program-not-wasm"),
        (b"\0asm\x02\0\0\0", "wasm32-wasip1", "program-not-wasm"),
        (_MODULE, "wasm32-wasip1", "program-no-start"),
        (_MODULE, "wasm32-wasip2", "program-target"),
        (_MODULE + b"\xff", "wasm32-wasip1", "program-invalid"),
        (b"\0asm\x0d\0\x01\0", "wasm32-wasip1", "program-target"),
        (b"\0asm\x0d\0\x01\0" + b"\xff" * 9, "wasm32-wasip2", "program-invalid"),
        (b"\0" * (MAX_PROGRAM_BYTES + 1), "wasm32-wasip1", "program-too-large"),
    ],
)
async def test_bytes_that_are_no_program(
    executor: Executor, data: bytes, target: Target, expected: str
) -> None:
    """RN8, RN9: bytes that are not a binary of the declared target are refused."""
    assert expected == code(await run_guest(executor, Guest(data, target)))


async def test_a_module_declared_as_a_component(executor: Executor) -> None:
    """RN9: each program is refused under the other target."""
    others: dict[str, Target] = {"probe-wasip1": "wasm32-wasip2", "probe-wasip2": "wasm32-wasip1"}
    for name, other in others.items():
        assert "program-target" == code(await run_guest(executor, Guest(guest(name).data, other)))


async def test_other_bytes_than_asked_for(executor: Executor) -> None:
    """RN8: bytes with another digest than requested are not compiled."""
    program = guest("content")
    wrong = Guest(guest("count").data, "wasm32-wasip1")
    request = RunRequest(program.sha256, "wasm32-wasip1")
    assert "program-mismatch" == code(await executor.run(request, wrong.load))
    assert "completed" == code(await executor.run(request, program.load))


async def test_a_program_that_is_not_to_be_had(executor: Executor) -> None:
    """A program that cannot be loaded fails its run with that reason, and is loaded again next
    time."""

    async def load() -> bytes:
        raise RunRefused("program-unknown")

    request = RunRequest("0" * 64, "wasm32-wasip1")
    assert ["program-unknown"] * 2 == [code(await executor.run(request, load)) for _ in range(2)]


async def test_a_program_is_loaded_once(executor: Executor) -> None:
    """Concurrent calls for one program share one compilation, and later calls use the cache."""
    program, loaded = guest("bounded"), []

    async def load() -> bytes:
        loaded.append(program)
        return program.data

    request = RunRequest(program.sha256, "wasm32-wasip1")
    results = await asyncio.gather(*(executor.run(request, load) for _ in range(5)))
    assert ["guest-trap"] * 5 == list(map(code, results))
    assert "guest-trap" == code(await executor.run(request, load))
    assert [program] == loaded


async def test_what_was_compiled_for_one_origin_runs_for_no_other(executor: Executor) -> None:
    """RN153: a program compiled for one project does not run for a project that lacks its bytes."""
    program, asked_for = nested(23), asyncio.Event()

    async def load() -> bytes:
        asked_for.set()
        return program.data

    async def absent() -> bytes:
        await asked_for.wait()
        raise RunRefused("program-unknown")

    own, other = (
        RunRequest(program.sha256, program.target, origin=origin) for origin in ("own", "other")
    )
    results = await asyncio.gather(executor.run(own, load), executor.run(other, absent))
    assert ["completed", "program-unknown"] == list(map(code, results))
    assert "program-unknown" == code(await executor.run(other, absent))
    assert ["completed"] * 2 == [
        code(await executor.run(own, absent)),
        code(await executor.run(other, load)),
    ]


async def test_artefacts_are_bounded() -> None:
    """An evicted program is compiled again, and all programs run."""
    loads = []

    async with Executor(children=1, spare=1, artefact_bytes=1) as executor:
        for name in ("count", "content", "count", "count"):
            program = guest(name)

            async def load(program: Guest = program, name: str = name) -> bytes:
                loads.append(name)
                return program.data

            assert "completed" == code(
                await executor.run(RunRequest(program.sha256, program.target), load)
            )
    assert ["count", "content", "count"] == loads


async def _compiling() -> int:
    """Return the compiling child once it is confined."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0)
            for process in children(kind="_compile_child"):
                try:
                    if bounds_of(process)["Max cpu time"] != "unlimited":
                        return process
                except (FileNotFoundError, ProcessLookupError):
                    continue


async def test_the_bounds_of_a_compilation(executor: Executor) -> None:
    """RN18: a compiling child has 1 GiB and 60 s; a kill by others is not held against a
    program."""
    await run_guest(executor, guest("count"))
    program = nested(2_600_000)
    task = asyncio.create_task(run_guest(executor, program))
    process = await _compiling()
    bounds = bounds_of(process)
    assert str(1 << 30) == bounds["Max data size"]
    assert int(bounds["Max cpu time"]) <= 62
    assert "0" == bounds["Max processes"] == bounds["Max core file size"]
    assert "completed" == code(await run_guest(executor, guest("count")))  # others run meanwhile
    os.kill(process, signal.SIGKILL)
    assert "runner-failed" == code(await task)
    again = asyncio.create_task(run_guest(executor, program))
    os.kill(await _compiling(), signal.SIGKILL)
    assert "runner-failed" == code(await again)
    assert [] == children(kind="_compile_child")


async def test_a_compile_bomb(executor: Executor) -> None:
    """RN18: a program that needs over a gigabyte to compile is refused, the second time at once."""
    bomb = nested(2_500_000)
    results = [await run_guest(executor, bomb)]

    async def never() -> bytes:
        raise AssertionError("loaded again")

    results.append(await executor.run(RunRequest(bomb.sha256, bomb.target), never))
    told = [(code(result), detail_of(result)) for result in results]
    assert [("compile-limit", "more than 1024 MiB of memory")] * 2 == told


async def test_a_caller_who_leaves_takes_no_compilation_along(executor: Executor) -> None:
    """A cancelled caller does not cancel the compilation that another waits for."""
    program = nested(17)
    request = RunRequest(program.sha256, program.target)
    first = asyncio.create_task(executor.run(request, program.load))
    second = asyncio.create_task(executor.run(request, program.load))
    await asyncio.sleep(0)
    first.cancel()
    assert "completed" == code(await second)


async def test_an_artefact_cannot_be_changed(executor: Executor) -> None:
    """RN27: no process can write to a compiled program, and no folder contains one."""
    await run_guest(executor, guest("count"))
    artefacts = _artefacts_of(os.getpid())  # a child has copied it, and has closed the file
    assert artefacts
    for path in artefacts:
        file = os.open(path, os.O_RDWR)
        with pytest.raises(PermissionError):
            os.pwrite(file, b"x", 0)
        with pytest.raises(PermissionError):
            os.truncate(file, 0)
        os.close(file)


async def test_an_artefact_whose_pages_are_held() -> None:
    """RN27: sealing is retried while another process uses a page of the file."""
    file = os.memfd_create("artefact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    reading, writing = os.pipe()
    try:
        os.write(file, b"x" * 4096)
        assert 4096 == os.splice(file, writing, 4096, offset_src=0)
        sealing = asyncio.create_task(seal(file))
        await asyncio.sleep(0)
        assert not sealing.done() and not fcntl.fcntl(file, fcntl.F_GET_SEALS)
        os.read(reading, 4096)
        await sealing
        assert fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    finally:
        for one in (file, reading, writing):
            os.close(one)


async def test_a_compilation_without_a_free_file(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a free descriptor a program is refused once, and compiled the next time."""
    program = nested(19)

    def exhausted(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", exhausted)
        with pytest.raises(RunRefused) as refused:
            await executor.compile(program.sha256, program.target, program.load)
    assert "runner-failed" == refused.value.reason.code
    await executor.compile(program.sha256, program.target, program.load)


async def test_a_run_without_a_free_file(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a free descriptor for a compiled program its run is refused and not charged."""
    assert "completed" == code(await run_guest(executor, guest("count")))

    def exhausted(_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", exhausted)
        result = await run_guest(executor, guest("count"))
    assert "runner-failed" == code(result) and result.reason is not None and not result.reason.ran
    assert "completed" == code(await run_guest(executor, guest("count")))


def _artefacts_of(process: int) -> list[str]:
    folder, found = f"/proc/{process}/fd", []
    for file in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if "memfd:artefact" in os.readlink(f"{folder}/{file}"):
                found.append(f"{folder}/{file}")
    return found
