"""Tests of task programs: folders, arguments, confinement and limits."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from guest_programs import are_gone, bounds_of, children, code, guest, run_guest
from patience import PATIENCE_S
from task_memory import TASK_MEMORY, has_task_memory
from tests_support import REPOSITORY

from runner.guest import child as _child
from runner.guest.environment import environment_of
from runner.guest.executor import Executor
from runner.guest.runs import Limits, RunRequest, RunResult, TaskFolders
from runner.tasks.folders import prepare_root, task_folders
from serving.confinement.landlock import landlock_version

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(landlock_version() < 1, reason="this kernel has no Landlock"),
]

FILERS = ("filer-wasip1", "filer-wasip2")
DATA = "0x" + "a" * 40
VARIABLES = {
    "IEXEC_IN": "/iexec_in",
    "IEXEC_OUT": "/iexec_out",
    "IEXEC_DATASET_FILENAME": DATA,
    "IEXEC_REQUESTER_SECRET_1": "the secret",
}


async def performed(
    executor: Executor,
    root: Path,
    name: str,
    *arguments: str,
    max_bytes: int = 1 << 20,
    max_files: int = 100,
    **limits: int,
) -> tuple[RunResult, dict[str, bytes | None]]:
    """Run a task's program, and return its result and the contents of its output folder by path."""
    program = guest(name)
    async with task_folders(root, max_bytes=max_bytes, max_files=max_files) as folders:
        (folders.input / DATA).write_text("the data")
        (folders.input / DATA).chmod(0o600)
        request = RunRequest(
            program.sha256,
            program.target,
            environment_of(VARIABLES, {}),
            limits=Limits(**{"max_memory_mb": 16, "max_execution_s": 30} | limits),
            arguments=arguments,
            folders=folders,
        )
        result = await executor.run(request, program.load)
        assert not children(kind="_task_child")
        assert (folders.input / DATA).read_text() == "the data"
        assert [DATA] == os.listdir(folders.input)
        found = {
            str(path.relative_to(folders.output)): path.read_bytes() if path.is_file() else None
            for path in entries_below(folders.output)
            if path.is_dir() or path.stat().st_size < 1 << 20
        }
    assert is_clean(root)
    return result, found


def entries_below(folder: Path, most: int = 1000) -> list[Path]:
    """Return the first files and folders below a folder.

    A program may be stopped at any depth, and `rglob` is recursive before Python 3.13.
    """
    entries: list[Path] = []
    unread = [folder]
    while unread and len(entries) < most:
        for entry in unread.pop().iterdir():
            entries.append(entry)
            if entry.is_dir() and not entry.is_symlink():
                unread.append(entry)
    return entries[:most]


def is_clean(root: Path) -> bool:
    """Return whether neither folders nor mounts of tasks are left."""
    return (
        not list(root.glob("sealspace-task-*"))
        and str(root) not in Path("/proc/self/mounts").read_text()
    )


@pytest.mark.parametrize("name", FILERS)
async def test_a_task_reads_its_input_and_writes_its_output(
    executor: Executor, tmp_path: Path, name: str
) -> None:
    """TG1, TG3: a program gets arguments, variables, input and output."""
    result, found = await performed(executor, tmp_path, name, "task", "a b", "ü")
    assert code(result) == "completed"
    assert result.output == b"computed.json folder moved result.txt"
    assert found == {
        "computed.json": b'{"deterministic-output-path": "/iexec_out/result.txt"}',
        "folder": None,
        "moved": b"first and second",
        "result.txt": "the data|the secret|a b,ü".encode(),
    }


@pytest.mark.parametrize("name", FILERS)
async def test_what_a_task_cannot_do(executor: Executor, tmp_path: Path, name: str) -> None:
    """TG1, TG4: the input is read-only; links and paths outside the folders are errors."""
    result, found = await performed(executor, tmp_path, name, "attempts", DATA)
    assert code(result) == "completed"
    assert result.output == b""
    assert found == {"own": b"own"}


@pytest.mark.parametrize("name", FILERS)
async def test_a_task_reaches_only_its_folders(
    executor: Executor, tmp_path: Path, name: str
) -> None:
    """TG1: no other path of the machine can be read, written or inspected."""
    (tmp_path / "there").write_text("x")
    paths = [
        *("/", ".", "..", "/etc/passwd", "/proc/self/environ", "/proc/self/mem", "/dev/null"),
        *("/iexec_out/..", "/iexec_out/../input", "/iexec_in/../output", "fd/3", "iexec_in"),
        *(f"{tmp_path}/there", f"{tmp_path}/new", f"/iexec_out/../../../../../{tmp_path}/there"),
    ]
    result, found = await performed(executor, tmp_path, name, "open", *paths)
    assert code(result) == "completed"
    assert result.output == b"1"
    assert found == {}
    assert ["there"] == os.listdir(tmp_path)


async def test_links(executor: Executor, tmp_path: Path) -> None:
    """TG1, TG4: a program makes no link, and follows none that leads out of its folders."""
    result, found = await performed(executor, tmp_path, "links")
    assert code(result) == "completed"
    assert found == {"own": None}
    program, outside = guest(FILERS[0]), tmp_path / "outside"
    outside.mkdir()
    (outside / "there").write_text("x")
    async with task_folders(tmp_path, max_bytes=1 << 20, max_files=100) as folders:
        (folders.output / "link").symlink_to(outside / "there")
        (folders.output / "folder").symlink_to(outside)
        request = RunRequest(
            program.sha256,
            program.target,
            arguments=("open", "/iexec_out/link", "/iexec_out/folder", "/iexec_out/folder/there"),
            folders=folders,
        )
        assert b"0" == (await executor.run(request, program.load)).output
    assert is_clean(tmp_path) and ["there"] == os.listdir(outside)


@pytest.mark.parametrize("name", FILERS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("many", "100000"),
        ("endless",),
        ("parts", "100", "100000"),
        ("sparse", str(1 << 40)),
        ("deep", "5000"),
    ],
)
async def test_limits_of_a_task(
    executor: Executor, tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    """TG6, TG8: too many files, bytes, folders, or a file that is too long end the program."""
    result, found = await performed(executor, tmp_path, name, *arguments)
    assert code(result) in ("guest-trap", "limit-files")
    assert len(found) <= 100 or code(result) == "limit-files"


async def test_a_task_has_a_process_of_its_own(executor: Executor, tmp_path: Path) -> None:
    """TG2: each task gets an unused process, which ends with the task."""
    await run_guest(executor, guest("count"))
    kept = children(kind="_run_child")
    await performed(executor, tmp_path, FILERS[0], "task")
    assert set(kept) <= set(children(kind="_run_child"))
    probed = await run_guest(executor, guest("probe-wasip1"), b"files /iexec_in /iexec_out")
    assert b"0" == probed.output


@pytest.mark.parametrize("arguments", [("a\0b",), ("\ud800",), ("a" * (1 << 18),)])
async def test_arguments_that_are_refused(
    executor: Executor, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """TG3: an argument that a program would get in part refuses the task."""
    result, _ = await performed(executor, tmp_path, FILERS[0], *arguments)
    assert result.reason is not None and not result.ran and result.reason.detail != arguments[0]


async def test_arguments_without_folders(executor: Executor) -> None:
    """TG3: a run that is not a task fails if it has arguments."""
    program = guest(FILERS[0])
    request = RunRequest(program.sha256, program.target, arguments=("wait",))
    assert "run-crashed" == code(await executor.run(request, program.load))


async def test_a_task_that_is_cancelled(executor: Executor, tmp_path: Path) -> None:
    """TG6, TG9: cancelling a task ends its process and removes its folders."""
    task = asyncio.create_task(
        performed(executor, tmp_path, FILERS[0], "wait", max_instructions=500_000_000_000)
    )
    expected = {"Max open files": "256", "Max file size": str(1 << 20)}
    if not os.geteuid():
        expected["Max processes"] = "64"
    async with asyncio.timeout(PATIENCE_S):
        while not (running := children(kind="_task_child")) or not (
            expected.items() <= bounds_of(running[0]).items()
        ):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert are_gone(running) and is_clean(tmp_path)


async def test_a_task_that_takes_too_long(executor: Executor, tmp_path: Path) -> None:
    """TG9: a task that is killed leaves nothing."""
    result, _ = await performed(
        executor, tmp_path, FILERS[1], "wait", max_execution_s=1, max_instructions=500_000_000_000
    )
    assert "limit-time" == code(result)


def ran_apart(script: str, root: Path, prelude: str = "") -> "subprocess.Popen[str]":
    """Start a script that has a root for tasks, in an interpreter of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY / "tests" / "support", REPOSITORY))),
    }
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT.replace("PRELUDE", prelude) + script, str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=REPOSITORY,
    )


_SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from guest_programs import children, code, guest
from runner.guest.executor import Executor
from runner.guest.runs import RunRequest
from refused_call import refuse_call
from runner.tasks.folders import task_folders

root = Path(sys.argv[1])
PRELUDE

async def run(*arguments):
    async with Executor(children=1, spare=1) as executor:
        program = guest("filer-wasip1")
        async with task_folders(root, max_bytes=1 << 20, max_files=100) as folders:
            about = {"arguments": arguments, "folders": folders}
            request = RunRequest(program.sha256, program.target, **about)
            task = asyncio.create_task(executor.run(request, program.load))
            if arguments == ("wait",):
                while not children(kind="_task_child"):
                    await asyncio.sleep(0)
                print("started", children(kind="_task_child")[0], flush=True)
            mounted = str(root) in Path("/proc/self/mounts").read_text()
            print(code(await task), mounted, flush=True)
    print(os.listdir(root), flush=True)
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on tmpfs for tasks."""
    if not has_task_memory():
        pytest.skip("/dev/shm is not in memory, or this machine swaps")
    with TemporaryDirectory(dir=TASK_MEMORY) as folder:
        yield Path(folder)


async def test_a_runner_that_is_killed(memory: Path) -> None:
    """TG9: a runner's start removes the task folders of a killed runner, but not those of a running
    one."""
    with ran_apart('asyncio.run(run("wait"))', memory) as runner:
        started = runner.stdout.readline().split()
        assert "started" == started[0]
        prepare_root(memory)
        (folder,) = memory.glob("sealspace-task-*")
        assert sorted(os.listdir(folder / "files")) == ["input", "output"]
        runner.send_signal(signal.SIGKILL)
    assert are_gone([int(started[1])])
    strange = memory / "sealspace-task-strange"
    strange.mkdir(0o755)
    prepare_root(memory)
    assert [strange] == list(memory.glob("sealspace-task-*"))
    assert str(folder) not in Path("/proc/self/mounts").read_text()


_WITHOUT_MOUNTS = "refuse_call(165, 40)"


@pytest.mark.parametrize(
    "arguments", [("many", "100000"), ("parts", "1000", "1000000"), ("deep", "5000")]
)
async def test_limits_without_a_mount(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """TG8: where no file system can be mounted, the runner ends a program over its limits."""
    with ran_apart(f"asyncio.run(run(*{arguments!r}))", tmp_path, _WITHOUT_MOUNTS) as runner:
        assert ["limit-files False\n", "[]\n"] == runner.stdout.readlines()
    assert is_clean(tmp_path)


_WITHOUT_LOOKS = "from runner.tasks import folders; folders._WATCH_S = 3600"


@pytest.mark.parametrize("arguments", [("parts", "90", "100000"), ("many", "101"), ("deep", "101")])
async def test_limits_of_a_program_that_is_faster_than_the_next_look(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """TG8: a folder that is not limited by a mount is judged once more when its program has
    ended."""
    prelude = f"{_WITHOUT_MOUNTS}; {_WITHOUT_LOOKS}"
    with ran_apart(f"asyncio.run(run(*{arguments!r}))", tmp_path, prelude) as runner:
        assert ["limit-files False\n", "[]\n"] == runner.stdout.readlines()
    assert is_clean(tmp_path)


async def test_folders_that_nobody_may_enter(tmp_path: Path) -> None:
    """TG9: folders that a program made inaccessible are removed too."""
    own_uid = os.geteuid()
    if not own_uid:
        tmp_path.chmod(0o777)
        for above in tmp_path.parents[:-2]:  # pytest's own folders are for root alone
            above.chmod(above.stat().st_mode | 0o711)
        os.seteuid(60_000)
    try:
        async with task_folders(tmp_path, max_bytes=1 << 20, max_files=100) as folders:
            (folders.output / "outer" / "inner").mkdir(parents=True)
            (folders.output / "outer" / "inner").chmod(0)
            (folders.output / "outer").chmod(0)
    finally:
        os.seteuid(own_uid)
    assert is_clean(tmp_path)


async def test_cancelled_while_the_folder_is_removed(tmp_path: Path) -> None:
    """TG9: a task that is cancelled while its folder is removed leaves no file, nothing open."""
    made: asyncio.Future[TaskFolders] = asyncio.get_running_loop().create_future()
    ran = asyncio.Event()

    async def run_task() -> None:
        async with task_folders(tmp_path, max_bytes=1 << 20, max_files=4_000) as folders:
            for name in range(3_000):  # removing them takes longer than the steps below
                (folders.input / str(name)).touch()
            made.set_result(folders)
            await ran.wait()

    task = asyncio.create_task(run_task())
    folders = await made
    ran.set()
    while not folders.filled.cancelling():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_clean(tmp_path)
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor that listed them
            assert not os.readlink(descriptor).startswith(str(tmp_path))


async def test_without_landlock_no_task_runs(tmp_path: Path) -> None:
    """TG4: a kernel without Landlock refuses tasks, and runs other programs."""
    with ran_apart('asyncio.run(run("task"))', tmp_path, "refuse_call(444, 444)") as runner:
        assert ["tasks-unsupported", "[]"] == [
            line.split()[0] for line in runner.stdout.readlines()
        ]


@pytest.mark.parametrize("call", ["landlock_add_rule", "landlock_restrict_self"])
async def test_a_child_that_is_not_restricted_does_not_start(
    call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TG4: a child whose restriction fails runs nothing."""
    monkeypatch.setattr(
        _child,
        "_BOOT",
        _child._BOOT.replace(
            "template.main(", f"template.STARTING.calls.pop('{call}')\ntemplate.main("
        ),
    )
    async with Executor(children=1, spare=1) as executor:
        result, found = await performed(executor, tmp_path, FILERS[0], "task")
        assert code(result) == "runner-failed"
        assert found == {}
        assert "completed" == code(await run_guest(executor, guest("count")))


async def test_the_root_of_tasks(tmp_path: Path) -> None:
    """TG7: a folder that is missing or not in memory is refused."""
    with pytest.raises(RuntimeError, match="next: name a folder on tmpfs"):
        prepare_root(Path("/proc"))
    with pytest.raises(RuntimeError, match="cannot use"):
        prepare_root(tmp_path / "missing")


async def test_TG7_a_folder_that_cannot_be_written(memory: Path) -> None:
    """TG7: a folder in memory that this user may not write to is refused at once, not by each
    task."""
    if os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    memory.chmod(0o500)
    with pytest.raises(RuntimeError, match="read-only, or belongs to another user"):
        prepare_root(memory)
    memory.chmod(0o700)
