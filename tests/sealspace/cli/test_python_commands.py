"""Tests of the commands for Python programs, and of calls of one, on a stand-in for the base."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio
from backend_desk import Desk
from page_blocks import blocks_of
from runner_stage import RunnerStage, runner_stage
from standin_base import BASE_SHA256, BASES, python_program
from tests_support import REPOSITORY

from runner.cli.python_projects import pack_program
from sealspace.apps.programs import ProgramManifest
from sealspace.documents.python_bases import known_bases
from sealspace.documents.python_programs import MAX_FILES, parse_python_program
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import InvalidInput

PAGE = REPOSITORY / "docs" / "how-to" / "python-programs.md"
NEWEST = known_bases()[0].sha256
INTERNAL = ("_", "componentize", "wit_world")
"""Beginnings of names of modules that programs may import, but that the page does not list."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner, which has the stand-in."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"), bases=BASES)


@pytest.fixture
def desk(
    stage: RunnerStage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """A new owner for each test, whose current folder is empty."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return stage.desk(tmp_path, capsys, monkeypatch)


def _folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


async def test_a_new_program_is_published(desk: Desk) -> None:
    """PY4, PY13: `task init` writes what the page shows, and `project publish` publishes exactly
    the script, with the manifest beside it; a runner without the base names what it has."""
    await desk.log_in("--space", "public")
    made = await desk.run("task", "init", "hello")
    assert made.status == 0 and "project publish hello hello" in made.err + made.out
    script = Path("hello/app.py").read_text()
    shown = {one.name: one.text for one in blocks_of(PAGE.read_text("utf-8"))}
    assert script == shown["app.py"]
    again = await desk.run("task", "init", "hello")
    assert again.status != 0 and Path("hello/app.py").read_text() == script
    assert "sealspace project publish NAME hello" in again.next
    published = await desk.run("project", "publish", "hello", "hello", "--json")
    assert published.status == 0, published
    version = json.loads(published.out)
    assert version["target"] == "python" and version["manifest"]["secrets"] == ["API_KEY"]
    assert version["sha256"] == sha256(pack_program(Path("hello"))).hexdigest()
    program = parse_python_program(pack_program(Path("hello")))
    assert program.files == {"app.py": script} and program.base == NEWEST
    assert pack_program(Path("hello/app.py")) == pack_program(Path("hello"))


async def test_calls_of_a_python_program(stage: RunnerStage) -> None:
    """PY4, PY10, PY12: a grant names the document's hash; a call answers with what the base wrote;
    a program of another base is refused, is not charged, and its refusal names the base."""
    program = python_program({"app.py": "print(1)"})
    version = await stage.publish(
        "script", program.data, target="python", manifest=ProgramManifest()
    )
    assert version.sha256 == program.sha256
    await stage.owner.secrets().put("API_KEY", "a secret")
    await stage.grant(["API_KEY"], RunStatement(programs=(ByHash(version.sha256),)))
    owner = await stage.calling_session()
    status, answer = await stage.call("script", session=owner, secrets=stage.developer)
    assert (status, answer["status"]) == (200, "completed"), answer
    assert answer["output"] == program.data.decode()
    other = python_program({"app.py": "print(1)"}, NEWEST)
    await stage.publish("other", other.data, target="python")
    status, refused = await stage.call("other")
    assert status == 400
    assert refused["error"]["code"] == "python-base-unknown"
    assert NEWEST in json.dumps(refused) and BASE_SHA256 in json.dumps(refused)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"app": "import not_there"}, "app.py, line 1: neither the program nor its Python base"),
        ({"app": "from not_there.part import x"}, "the module not_there"),
        ({"app": "\ufeffimport not_there"}, "app.py, line 1: neither the program nor its Python"),
        ({"app": "", "json": ""}, "has the module json already"),
        ({"app": "", "requests/__init__": ""}, "has the module requests already"),
        ({"app": "", "_strptime": ""}, "has the module _strptime already"),
        ({"app": "", "wit_world/__init__": ""}, "has the module wit_world already"),
        ({"module": ""}, "has no file app.py"),
        ({"app": "", "a b": ""}, "the path 'a b.py' is not valid"),
    ],
)
async def test_a_program_that_cannot_work_is_not_packed(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    """PY3, PY13: what would fail on a runner is refused when it is packed."""
    with pytest.raises(InvalidInput, match=said):
        pack_program(_folder(tmp_path, files))


async def test_which_files_are_packed(tmp_path: Path) -> None:
    """PY13: only visible files of Python are packed, no links; conditional imports are allowed."""
    app = "try:\n    import fast\nexcept ImportError:\n    import own.part, json, os.path\n"
    folder = _folder(tmp_path / "app", {"app": app, "own/__init__": "", "own/part": "x = 1\n"})
    _folder(folder, {".venv/lib/big": "", "__pycache__/x": ""})
    for name in (".env", "secrets.txt", "manifest.json", ".hidden.py"):
        (folder / name).write_text("{}")
    (tmp_path / "outside.py").write_text("secret = 1")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    assert sorted(parse_python_program(pack_program(folder)).files) == [
        "app.py",
        "own/__init__.py",
        "own/part.py",
    ]
    (folder / "latin.py").write_bytes(b"\xe9")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        pack_program(folder)


async def test_features_of_python_are_imported(tmp_path: Path) -> None:
    """PY13: modules of the base whose names begin with an underscore can be imported, too."""
    folder = _folder(tmp_path, {"app": "from __future__ import annotations\nimport _thread\n"})
    assert parse_python_program(pack_program(folder)).base == NEWEST


async def test_too_many_files(tmp_path: Path) -> None:
    """PY2: a folder with too many files is refused before they are read."""
    (tmp_path / "app.py").write_text("")
    for number in range(MAX_FILES):
        os.close(os.open(tmp_path / f"m{number}.py", os.O_CREAT | os.O_WRONLY, 0))
    with pytest.raises(InvalidInput, match="more than 1000"):
        pack_program(tmp_path)


async def test_the_base_of_a_program(tmp_path: Path) -> None:
    """PY13: a base that the release does not know is refused with those that it knows."""
    folder = _folder(tmp_path, {"app": ""})
    assert parse_python_program(pack_program(folder, NEWEST)).base == NEWEST
    with pytest.raises(InvalidInput) as refused:
        pack_program(folder, "0" * 64)
    assert (
        refused.value.hint
        == f"use one of these: --base {', '.join(base.sha256 for base in known_bases())}"
    )


async def test_the_page_lists_the_modules() -> None:
    """PY13: the page names the modules of the newest base."""
    listed = PAGE.read_text("utf-8").partition("<!-- begin modules -->")[2]
    listed = listed.partition("<!-- end modules -->")[0].replace("\n", " ").strip()
    public = [name for name in known_bases()[0].modules if not name.startswith(INTERNAL)]
    assert listed == ", ".join(f"`{name}`" for name in public) + "."


async def test_a_trial_says_where_the_base_is(desk: Desk) -> None:
    """Without the Python base, the next step says where to get one."""
    desk.monkeypatch.delenv("SEALSPACE_PYTHON_BASE", raising=False)
    made = await desk.run("task", "init", "hello")
    assert "API_KEY=test sealspace task try hello --python-base FILE" in made.err + made.out
    refused = await desk.run("task", "try", "hello")
    assert refused.status == 2
    assert "SEALSPACE_PYTHON_BASE" in refused.next and "make python-base" in refused.next


async def test_a_trial_names_missing_secrets(desk: Desk, tmp_path: Path) -> None:
    """A trial needs a value for each secret of the manifest, and runs with them."""
    base = tmp_path / "base.wasm"
    base.write_bytes(BASES[BASE_SHA256])
    assert (await desk.run("task", "init", "hello")).status == 0
    arguments = ("task", "try", "hello", "--python-base", str(base))
    refused = await desk.run(*arguments)
    assert refused.status != 0 and "no value for the secret API_KEY" in refused.err
    for _ in range(2):  # the second one takes the compiled base from the cache
        desk.monkeypatch.setenv("API_KEY", "test")
        ran = await desk.run(*arguments)
        assert ran.status == 0, ran
        assert parse_python_program(ran.out.encode()).base == BASE_SHA256
        desk.monkeypatch.delenv("API_KEY")
    (cached,) = (desk.home / "python-base").glob("*/*.cwasm")
    assert cached.stat().st_mode & 0o077 == 0
