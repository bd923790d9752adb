"""Tests of Python programs on the real base, which `make test-python-base` builds."""

import asyncio
import gzip
import hashlib
import hmac
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from guest_programs import Guest, code, run_request
from https_service import https_service
from page_blocks import blocks_of
from patience import PATIENCE_S
from runner_stage import RunnerStage, runner_stage
from standin_base import python_program
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_parties import VALUES, party
from tests_support import REPOSITORY

from runner.cli import python_projects
from runner.guest.environment import environment_of
from runner.guest.executor import Executor
from runner.guest.runs import RunResult
from runner.tasks.folders import task_folders
from sealspace.documents.iexec_names import RESULT_KEY_NAME, requester_secret, wallet_secret
from sealspace.documents.python_bases import known_bases
from sealspace.documents.run_grants import ByHash, RunStatement
from serving.outbound import Outbound

BASE = os.environ.get("SEALSPACE_TEST_PYTHON_BASE", "")
BINARIES = Path(sys.executable).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not BASE, reason="the Python base is not built: make test-python-base"),
]
NEWEST = known_bases()[0]
DRAWN = """
import _sqlite3, json, os, random, secrets, sqlite3, tempfile, uuid
drawing = "SELECT random(), hex(randomblob(8))"
class Native(sqlite3.Connection.__base__):
    pass
rows = sqlite3.connect(":memory:").execute(drawing).fetchall()
print(json.dumps({
    "random": random.random(), "system": random.SystemRandom().random(),
    "secrets": secrets.token_hex(), "uuid1": str(uuid.uuid1())[9:], "node": uuid.getnode(),
    "uuid4": str(uuid.uuid4()), "urandom": os.urandom(8).hex(), "rows": rows,
    "name": next(tempfile._get_candidate_names()), "seeded": random.Random().random(),
    "direct": _sqlite3.connect(":memory:").execute(drawing).fetchall(),
    "direct class": _sqlite3.Connection(":memory:").execute(drawing).fetchall(),
    "factory": sqlite3.connect(":memory:", factory=Native).execute(drawing).fetchall(),
}))
"""
KEPT = """
import builtins, json, os, sys
found = [os.environ.get("KEY"), hasattr(builtins, "kept"), "left" in sys.modules, sys.argv]
print(json.dumps([found, sorted(os.environ), sys.path, sys.stdin.read()]))
builtins.kept = sys.modules["left"] = os.environ["ADDED"] = "left"
"""
WRITES = """
import json, os, sys
result = open("/iexec_out/result.txt", "w")
result.write("\\0".join([*sys.argv, os.environ["IEXEC_REQUESTER_SECRET_1"]]))
computed = open("/iexec_out/computed.json", "w")
json.dump({"deterministic-output-path": "/iexec_out/result.txt"}, computed)
"""
ASKS = """
import os, requests
response = requests.post(
    os.environ["URL"] + "/é?a=1", params={"b": [2, 3]}, json={"c": None},
    headers={"X-Key": os.environ["KEY"]}, auth=("user", "word"), timeout=5,
)
print(response.status_code, response.ok, response.headers["CONTENT-TYPE"], response.text)
try:
    requests.get("https://elsewhere.example/secret?key=1")
except requests.ConnectionError as refused:
    print(refused)
try:
    response.raise_for_status()
except requests.HTTPError as refused:
    print(refused, refused.response is response)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    """An executor that has the base."""
    data = Path(BASE).read_bytes()
    assert hashlib.sha256(data).hexdigest() == NEWEST.sha256  # PY14
    async with Executor(children=2, spare=1, bases={NEWEST.sha256: data}) as running:
        yield running


def _program(script: str, **files: str) -> Guest:
    """Return a program; a module of the package `pkg` is given by its name."""
    modules = {f"pkg/{name}.py": text for name, text in files.items()}
    return python_program({"app.py": script, **modules}, NEWEST.sha256)


async def _run(
    executor: Executor, script: str | Guest, given: bytes = b"", **about: Any
) -> RunResult:
    program = script if isinstance(script, Guest) else _program(script)
    limits = {"max_memory_mb": 128, "max_instructions": 10**10} | about
    return await executor.run(run_request(program, given, **limits), program.load)


async def test_the_base_is_the_listed_one() -> None:
    """PY14: the sources in this repository give the bytes whose hash is listed: `make
    test-python-base` has just built them."""
    assert hashlib.sha256(Path(BASE).read_bytes()).hexdigest() == NEWEST.sha256


async def test_the_seed_of_hashes(executor: Executor) -> None:
    """PY23: hashes of texts are the same in each run, whatever the environment says."""
    hashes = {
        bytes((await _run(executor, "print(hash('a'))", secrets=secrets)).output)
        for secrets in ({}, {"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    }
    assert len(hashes) == 1


async def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """PY20: the trial of the page signs its input with the secret of the shell."""
    page = (REPOSITORY / "docs" / "how-to" / "python-programs.md").read_text("utf-8")
    (command,) = [
        block.text for block in blocks_of(page) if block.why == "tests/guests/test_python_base.py"
    ]
    (tmp_path / "python-base.wasm").symlink_to(BASE)
    home = {"SEALSPACE_HOME": str(tmp_path / "home"), "PATH": f"{BINARIES}:{os.environ['PATH']}"}
    ran = await asyncio.create_subprocess_shell(
        f"sealspace task init hello && {command}",
        cwd=tmp_path,
        env=os.environ | home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, error = await ran.communicate()
    assert ran.returncode == 0, error
    assert output.decode().splitlines()[-1] == hmac.digest(b"test", b"hello", "sha256").hex()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A runner that has the base, and runs tasks where it can."""
    async with AsyncExitStack() as stack:
        root = None
        if MEMORY.is_dir():
            root = MEMORY / f"tasks-{token_hex(8)}"
            root.mkdir(0o700)
            stack.callback(root.rmdir)
        bases = {NEWEST.sha256: Path(BASE).read_bytes()}
        folder = tmp_path_factory.mktemp("runner")
        yield await runner_stage(stack, folder, bases=bases, task_root=root)


async def test_a_call_with_a_granted_secret(stage: RunnerStage) -> None:
    """PY4, PY20: the program that `task init` writes signs the input of a call with the owner's
    secret, and the caller does not see the secret."""
    script = python_projects._APP
    program = python_program({"app.py": script}, NEWEST.sha256)
    await stage.publish("hello", program.data, target="python")
    await stage.owner.secrets().put("API_KEY", "the secret itself")
    await stage.grant(["API_KEY"], RunStatement(programs=(ByHash(program.sha256),)))
    owner = await stage.calling_session()
    status = 503
    async with asyncio.timeout(PATIENCE_S):
        while status == 503:  # until the base is compiled
            status, answer = await stage.call(
                "hello", session=owner, secrets=stage.developer, input="hello"
            )
    assert (status, answer["status"]) == (200, "completed"), answer
    signed = hmac.digest(b"the secret itself", b"hello", "sha256").hex()
    assert answer["output"] == f"{signed}\n"


async def test_a_script_gets_its_secret_and_input(executor: Executor) -> None:
    """PY20, RN12: a script reads its environment and standard input, and prints its answer."""
    script = "import os, sys\nprint(os.environ['KEY'], sys.stdin.read(), sys.argv, __name__)"
    result = await _run(executor, script, "é".encode(), secrets={"KEY": "s"})
    assert bytes(result.output).decode() == "s é ['app.py'] __main__\n", result.stderr
    assert code(result) == "completed"


async def test_modules_of_the_program(executor: Executor) -> None:
    """PY20: modules, packages and relative imports of the program work; others fail by name."""
    program = _program(
        "import pkg.inner, inspect\nprint(pkg.inner.name, pkg.one)\n"
        "print(inspect.getsource(pkg.inner))\nimport not_there",
        __init__="from . import inner\none = 1",
        inner="name = __name__",
    )
    result = await _run(executor, program)
    assert bytes(result.output) == b"pkg.inner 1\nname = __name__\n\n"
    assert code(result) == "guest-exit"
    assert "No module named 'not_there'" in result.stderr.decode()


@pytest.mark.parametrize("name", ["base", "preloaded"])
async def test_modules_with_names_of_the_base_itself(executor: Executor, name: str) -> None:
    """PY20: a module of the program is not hidden by one that only the base uses."""
    program = python_program(
        {"app.py": f"import {name}\nprint({name}.own)", f"{name}.py": "own = 1"}, NEWEST.sha256
    )
    result = await _run(executor, program)
    assert bytes(result.output) == b"1\n", result.stderr


async def test_packages_without_init(executor: Executor) -> None:
    """PY20: a folder is a package without `__init__.py`, as in a folder of `sys.path`."""
    result = await _run(executor, _program("import pkg.inner\nprint(pkg.inner.x)", inner="x = 1"))
    assert bytes(result.output) == b"1\n", result.stderr


async def test_a_named_encoding_hides_no_code(executor: Executor) -> None:
    """PY25: text that is a comment in the document is not code in a run, whatever encoding the file
    names; a byte order mark is ignored."""
    hiding = "# coding: unicode_escape\n# nothing \\x0aprint('hidden')\nprint('é')\n"
    program = _program(f"{hiding}import pkg.inner", inner=hiding)
    result = await _run(executor, program)
    assert bytes(result.output).decode() == "é\né\n", result.stderr
    result = await _run(executor, "\ufeffprint(1)")
    assert bytes(result.output) == b"1\n", result.stderr


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("import sys\nprint(1)\nsys.stdout.close()", "1\n"),
        ("import sys\nprint(1)\nsys.stdout = None", "1\n"),
        ("import io, sys\nprint(1)\nsys.stdout = io.StringIO()\nprint(2)", "1\n"),
        ("import sys\nprint(1)\nkept = sys.stdout.detach()\nkept.write(b'2')", "1\n2"),
        ("kept = open(1, 'w', closefd=False)\nkept.write('1')", "1"),
        ("import typing\nkept = open(1, 'w', closefd=False)\nclass A:\n"
         "    def act(self): pass\nA.all = typing.List[A]\nkept.write('1')", "1"),
    ],
)  # fmt: skip
async def test_streams_that_a_script_replaces(executor: Executor, script: str, output: str) -> None:
    """PY26: what was written to a stream is in the output, whether or not the script closes or
    replaces it."""
    result = await _run(executor, script)
    assert (code(result), bytes(result.output).decode()) == ("completed", output), result.stderr


async def test_a_syntax_error_in_a_module(executor: Executor) -> None:
    """PY21: the traceback has the line that imports the module, and none of the base."""
    result = await _run(executor, _program("import pkg.inner", inner="print("))
    shown = result.stderr.decode()
    assert 'File "app.py", line 1, in <module>' in shown and "pkg/inner.py" in shown
    assert "base.py" not in shown and "frozen" not in shown


@pytest.mark.parametrize(
    "script",
    [
        "import requests\nrequests.get('https://api.example/', headers={'a': '\\ud800'})",
        "import requests\nrequests.post('https://api.example/', data=b'x' * 1_048_577)",
    ],
)
async def test_requests_that_cannot_be_sent(executor: Executor, script: str) -> None:
    """PY24: a request that cannot be sent is an exception inside the script, not a trap."""
    result = await _run(executor, script)
    assert code(result) == "guest-exit" and b"requests.InvalidURL: api.example: " in result.stderr


@pytest.mark.parametrize(
    ("script", "ended", "output", "error"),
    [
        ("print(1); raise SystemExit", "completed", "1\n", ""),
        ("import sys; print(1); sys.exit(0)", "completed", "1\n", ""),
        ("import sys; print(1); sys.exit(3)", "guest-exit", "1\n", ""),
        ("import sys; print(1); sys.exit('why')", "guest-exit", "1\n", "why\n"),
        ("import atexit; atexit.register(print, 2); print(1)", "completed", "1\n2\n", ""),
        (
            "print(1)\ndef fail():\n    1 / 0\nfail()",
            "guest-exit",
            "1\n",
            'Traceback (most recent call last):\n  File "app.py", line 4, in <module>\n',
        ),
        ("print(", "guest-exit", "", "SyntaxError"),
        ("import no_module", "guest-exit", "", "next: add it to the folder"),
        ("import sys; sys.stderr = None; print(1); sys.exit('why')", "guest-exit", "1\n", "why\n"),
    ],
)
async def test_how_a_script_ends(
    executor: Executor, script: str, ended: str, output: str, error: str
) -> None:
    """PY21: the output of a script that failed is kept, and its traceback names its own lines."""
    result = await _run(executor, script)
    shown = result.stderr.decode()
    assert (code(result), bytes(result.output).decode()) == (ended, output), shown
    assert error in shown and "base.py" not in shown
    assert bool(shown) == bool(error)


async def test_two_runs_draw_different_numbers(executor: Executor) -> None:
    """PY22: no generator continues from the state of the build."""
    first, second = [
        json.loads(bytes((await _run(executor, DRAWN, fresh=fresh)).output))
        for fresh in (True, False)
    ]
    assert len(first) == 13
    assert [name for name in first if first[name] == second[name]] == []
    assert first["rows"][0][1] != second["rows"][0][1]


async def test_a_run_leaves_nothing_for_the_next(executor: Executor) -> None:
    """PY22, RN26: environment, modules and input of a run are not there in the next one, in the
    same process."""
    found = []
    for name in ("first", "second"):
        given = name.encode()
        request = replace(
            run_request(_program(KEPT), given, max_memory_mb=128, max_instructions=10**10),
            environment=environment_of({}, {"KEY": name}),
        )
        result = await executor.run(request, _program(KEPT).load)
        found.append(json.loads(bytes(result.output)))
    for state, name in zip(found, ("first", "second"), strict=True):
        assert state == [[name, False, False, ["app.py"]], ["KEY"], [], name]


async def test_what_does_not_exist(executor: Executor) -> None:
    """RN12, RN24: files, sockets and threads fail inside the script."""
    script = """
import socket, threading
for act in (
    lambda: open("/etc/passwd"),
    lambda: open("new", "w"),
    lambda: socket.create_connection(("1.1.1.1", 443)),
    threading.Thread(target=print).start,
):
    try:
        act()
        print("it worked")
    except (OSError, RuntimeError) as refused:
        print(type(refused).__name__)
"""
    result = await _run(executor, script)
    assert len(lines := bytes(result.output).decode().split()) == 4, result.stderr
    assert "worked" not in lines


async def test_timers_of_asyncio(executor: Executor) -> None:
    """PY20: `asyncio` runs tasks and timers."""
    script = """
import asyncio
async def late(name):
    await asyncio.sleep(0.01)
    return name
async def main():
    return await asyncio.gather(late("a"), late("b"))
print(asyncio.run(main()))
asyncio.run(asyncio.Event().wait())
"""
    result = await _run(executor, script)
    assert bytes(result.output) == b"['a', 'b']\n"
    assert "all tasks wait" in result.stderr.decode()


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("while True: pass", "limit-instructions"),
        ("x = bytearray(200 << 20)", "guest-exit"),
        ("print('x' * 11_000_000)", "limit-output"),
        ("import time; time.sleep(60)", "limit-time"),
    ],
)
async def test_limits(executor: Executor, script: str, ended: str) -> None:
    """RN1, RN14, RN16, RN19: a script has the limits of every program."""
    result = await _run(executor, script, max_instructions=10**9, max_execution_s=10)
    refused_memory = ended == "guest-exit" and code(result) == "limit-memory"
    assert code(result) == ended or refused_memory, result.stderr


async def test_requests(executor: Executor, tmp_path: Path) -> None:
    """PY24, RN102: requests go to hosts of the run, and an error names no more than the host."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        body = head.replace(b"\r\n", b"|") + await reader.readexactly(length)
        writer.write(
            b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await writer.drain()
        writer.close()

    async with (
        https_service(tmp_path, "api.example", talk=answer) as service,
        Executor(
            children=1,
            spare=1,
            bases={NEWEST.sha256: Path(BASE).read_bytes()},
            base_cache=Path(BASE).parent,
            outbound=Outbound(service.ca),
        ) as own,
    ):
        program = _program(ASKS)
        address = service.url("").rstrip("/")
        request = replace(
            run_request(program, max_memory_mb=128, max_instructions=10**10),
            environment=environment_of({}, {"URL": address, "KEY": "s3cret"}),
            hosts=frozenset({service.host}),
        )
        result = await own.run(request, program.load)
    first, second, third = bytes(result.output).decode().splitlines()
    assert first.startswith("404 False text/plain POST /%C3%A9?a=1&b=2&b=3 HTTP/1.1|")
    for part in ("x-key: s3cret", "authorization: Basic dXNlcjp3b3Jk", '{"c": null}'):
        assert part in first
    assert second.startswith("elsewhere.example: the program may not contact this host; next: ")
    assert "secret" not in second
    assert third == "api.example answered 404 Not Found True"


@needs_task_memory
async def test_a_file_that_a_task_leaves_open(executor: Executor) -> None:
    """PY26: a file that the script has not closed is complete, also if the script fails."""
    for end in ("", "\n1 / 0"):
        program = _program(
            "import gzip\nkept = open('/iexec_out/kept', 'w')\nkept.write('result')\n"
            f"packed = gzip.open('/iexec_out/packed', 'wb')\npacked.write(b'packed'){end}"
        )
        async with task_folders(MEMORY, max_bytes=1 << 20, max_files=10) as folders:
            request = replace(
                run_request(program, max_memory_mb=128, max_instructions=10**10), folders=folders
            )
            result = await executor.run(request, program.load)
            assert code(result) == ("guest-exit" if end else "completed"), result.stderr
            assert (folders.output / "kept").read_text() == "result"
            assert gzip.decompress((folders.output / "packed").read_bytes()) == b"packed"


@needs_task_memory
async def test_a_file_of_a_task_replaces_no_module(executor: Executor) -> None:
    """PY4: a module of the document runs, not an input file at the path of its package."""
    program = python_program(
        {"app.py": "import iexec_in.own", "iexec_in/own.py": "print('program')"}, NEWEST.sha256
    )
    async with task_folders(MEMORY, max_bytes=1 << 20, max_files=10) as folders:
        (folders.input / "own.py").write_text("print('caller')")
        request = replace(
            run_request(program, max_memory_mb=128, max_instructions=10**10), folders=folders
        )
        result = await executor.run(request, program.load)
    assert bytes(result.output) == b"program\n", result.stderr


@needs_task_memory
async def test_a_task_with_a_sealed_result(stage: RunnerStage, tmp_path: Path) -> None:
    """PY20, PY26, TK3: a task of a script gets arguments and the secrets of its requester, and the
    result has the files that the script did not close."""
    program = python_program({"app.py": WRITES}, NEWEST.sha256)
    version = await stage.publish("writes", program.data, target="python")
    requester = await party(stage)
    await requester.grant(version, requester_secret("my-key"), wallet_secret(RESULT_KEY_NAME))
    task: dict[str, Any] = {}
    async with asyncio.timeout(PATIENCE_S):
        while "state" not in task or "runner-busy" in json.dumps(task):  # the base is compiled
            task = await requester.done(
                f"{stage.developer}/writes", secrets={"1": "my-key"}, args="one two"
            )
    found = await requester.report(task, tmp_path)
    assert found == ["app.py", "one", "two", VALUES["my-key"]]


@needs_task_memory
async def test_files_of_a_task(executor: Executor) -> None:
    """PY20, TG1: a script of a task reads and writes files, and gets arguments."""
    program = _program(
        "import sys\nwith open('/iexec_out/result.txt', 'w') as file:\n"
        "    file.write(' '.join(sys.argv))"
    )
    async with task_folders(MEMORY, max_bytes=1 << 20, max_files=10) as folders:
        request = replace(
            run_request(program, max_memory_mb=128, max_instructions=10**10),
            arguments=("one", "two"),
            folders=folders,
        )
        result = await executor.run(request, program.load)
        assert code(result) == "completed", result.stderr
        assert (folders.output / "result.txt").read_text() == "app.py one two"


async def test_the_listed_modules_can_be_imported(executor: Executor) -> None:
    """PY13: a program can import each module that the commands know."""
    script = f"""
import importlib
for name in {list(NEWEST.modules)!r}:
    importlib.import_module(name)
import platform
print(platform.python_version())
"""
    result = await _run(executor, script)
    assert bytes(result.output).decode() == f"{NEWEST.python}\n", result.stderr
