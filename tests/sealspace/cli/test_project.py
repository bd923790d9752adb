"""Tests of the project file `.sealspace.toml`, which names the secrets for `sealspace run`."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from owner_machine import Owner
from person import Person
from running_node import COMMAND

from sealspace.cli.use.project import FILE_NAME, Project, find_project
from sealspace.errors import InvalidInput

SECRETS = ("API_KEY", "DB_URL", "NOTE", "OTHER_KEY", "SMTP_PASSWORD")
SHOWS = ("--", "sh", "-c", "env | grep 'value' | cut -d= -f1 | sort | tr '\\n' ' '")
PROJECT = """
secrets = ["API_KEY"]
[rename]
DATABASE_URL = "DB_URL"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, below the home."""
    folder = tmp_path / "user" / "project" / "source"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def owner(forking_owner: Owner) -> Owner:
    """The owner of most tests, whose commands run in forks."""
    return forking_owner


def written(folder: Path, text: str) -> Path:
    """Write a project file."""
    path = folder / FILE_NAME
    path.write_text(text)
    path.chmod(0o644)
    return path


# --- the file -------------------------------------------------------------------------------------


def test_CL2_the_nearest_file_counts(here: Path) -> None:
    """CL2: the file is searched from the current folder up to the home; the first one is used
    alone."""
    assert find_project() is None
    outer = written(here.parents[1], 'secrets = ["A", "B"]')
    assert find_project() == Project(str(outer), secrets=("A", "B"))
    inner = written(here.parent, 'scope = "ci"')
    assert find_project() == Project(str(inner), scope="ci")


def test_CL2_the_search_ends_at_the_home(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CL2: a file above the home is not used, not even if a symbolic link names the home."""
    above = written(tmp_path, 'secrets = ["A"]')
    assert find_project() is None
    link = tmp_path / "link"
    link.symlink_to(here.parents[1])
    monkeypatch.setenv("HOME", str(link))
    assert find_project() is None
    monkeypatch.setenv("HOME", "/absent")
    found = find_project()
    assert found is not None and found.path == str(above)


def test_CL2_the_search_ends_at_a_mount(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CL2: a file in the folder of a mount is used, a file above it is not."""
    written(here.parents[1], 'secrets = ["A"]')
    monkeypatch.setattr(Path, "is_mount", lambda folder: folder == here.parent)
    assert find_project() is None
    written(here.parent, 'secrets = ["B"]')
    assert find_project() is not None


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_CL2_only_the_user_can_write_the_file(here: Path, mode: int) -> None:
    """CL2: a file that others can write is refused, and the next step names the command."""
    path = written(here, PROJECT)
    path.chmod(mode)
    with pytest.raises(InvalidInput, match="other users can write to the file") as refused:
        find_project()
    assert f"chmod go-w {path}" in refused.value.hint and "--no-project" in refused.value.hint


def test_CL2_the_user_owns_the_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CL2: a file of another user is refused, and no file in a higher folder is used."""
    written(here.parent, PROJECT)
    written(here, PROJECT)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InvalidInput, match=f"{here.name}/{FILE_NAME}: the file belongs to another"):
        find_project()


def test_CL2_the_file_is_a_regular_file(here: Path) -> None:
    """CL2: a symbolic link, a folder and a named pipe are refused, and the command does not wait
    for them."""
    target = here / "target"
    target.write_text(PROJECT)
    path = here / FILE_NAME
    for make, undo, reason in (
        (lambda: path.symlink_to(target), path.unlink, "symbolic link"),
        (lambda: path.symlink_to("absent"), path.unlink, "symbolic link"),
        (lambda: path.mkdir(0o755), path.rmdir, "is a directory"),
        (lambda: os.mkfifo(path, 0o644), path.unlink, "not a regular file"),
    ):
        make()
        with pytest.raises(InvalidInput, match=reason):
            find_project()
        undo()


def test_CL2_a_folder_that_does_not_exist(here: Path) -> None:
    """CL2: in a deleted folder nothing is passed, because a project file could exist."""
    here.rmdir()
    with pytest.raises(InvalidInput, match="no such file"):
        find_project()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('command = "x"', "unknown member command"),
        ('path = "/etc"', "unknown member path"),
        ('secrets = "API_KEY"', "secrets must be array"),
        ('secrets = ["api_key"]', "a name that is not in capitals"),
        ('secrets = ["API_KEY\\n"]', "a name that is not in capitals"),
        ('[rename]\nhttp_proxy = "A"', "a name that is not in capitals"),
        ('[rename]\nA = "vault/A"', "a name that is not in capitals"),
        ('[rename]\nLD_PRELOAD = "A"', "the variable LD_PRELOAD controls how programs run"),
        ('[rename]\nSEALSPACE_NODE = "A"', "the variable SEALSPACE_NODE controls how"),
        ('secrets = ["A"]\n[rename]\nA = "B"', "the variable A has two secrets"),
        ('[rename]\nA = "B"\nA = "C"', "Cannot overwrite"),
        ("scope = 1", "scope must be str"),
        ("secrets = [", "at end of document"),
        ("a = " + "[" * 10_000, "recursion"),
        ("a = " + "9" * 10_000, "digits"),
        ("#" * (1 << 14) + "#", "longer than 16384 bytes"),
    ],
)
def test_CL3_a_malformed_file_is_refused(here: Path, text: str, reason: str) -> None:
    """CL3: a file with an unknown member, a wrong type or name, a variable that controls programs
    or one with two secrets is refused."""
    path = written(here, text)
    with pytest.raises(InvalidInput, match=reason) as refused:
        find_project()
    assert str(path) in refused.value.message


def test_CL3_no_value_is_printed(here: Path) -> None:
    """CL3: an error about the file does not contain a value that was written into it."""
    for text in ('secrets = ["sk-live"]', '[rename]\nAPI_KEY = "sk-live"', 'API_KEY = "sk-live"'):
        written(here, text)
        with pytest.raises(InvalidInput) as refused:
            find_project()
        assert "sk-live" not in refused.value.message + refused.value.hint


@given(st.binary(max_size=200) | st.text("[]{}=.\"'\n asecrtnm#", max_size=60).map(str.encode))
def test_CL3_fuzz(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """CL3: any content gives a project or our own error."""
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        written(folder, "").write_bytes(data)
        try:
            assert find_project()
        except InvalidInput as refused:
            assert refused.message and refused.hint
        finally:
            (folder / FILE_NAME).unlink()


# --- with a node ----------------------------------------------------------------------------------


async def test_CL3_a_command_gets_what_the_project_names(owner: Owner) -> None:
    """CL3: the command gets only the secrets that the project file names, under their new names."""
    await owner.store_secrets(**{name: f"the value of {name}" for name in SECRETS})
    path = written(owner.here, PROJECT)
    shows = ("run", "--no-masking")
    ran = await owner.run(*shows, *SHOWS)
    assert ran.stdout == b"API_KEY DATABASE_URL "
    assert ran.stderr.decode() == f"project file {path}: API_KEY, DATABASE_URL=DB_URL\n"
    ran = await owner.run(*shows, "--only", "DATABASE_URL", *SHOWS)
    assert ran.stdout == b"DATABASE_URL "
    assert ran.returncode == 0
    ran = await owner.run(*shows, "--only", "OTHER_KEY", "--", "touch", "started")
    assert ran.returncode == 2
    assert b"has no variable OTHER_KEY" in ran.stderr
    ran = await owner.run(*shows, "--no-project", *SHOWS)
    assert ran.stdout == b"API_KEY OTHER_KEY SMTP_PASSWORD "
    written(owner.here, 'secrets = ["API_KEY", "GONE"]')
    ran = await owner.run("run", "--", "touch", "started")
    assert ran.returncode == 21
    assert b"there is no secret GONE" in ran.stderr
    assert not (owner.here / "started").exists()


async def test_CL3_all_variables_are_shown(owner: Owner) -> None:
    """CL3: a file cannot hide a variable behind many others: each is shown before the command
    starts."""
    await owner.store_secrets(API_KEY="the value")
    names = [f"VARIABLE_{at}" for at in range(40)]
    written(owner.here, "[rename]\n" + "".join(f'{name} = "API_KEY"\n' for name in names))
    ran = await owner.run("run", "--", "true")
    assert ran.returncode == 0
    assert all(f"{name}=API_KEY" in ran.stderr.decode() for name in names)


async def test_CL3_the_scope_of_the_project(owner: Owner) -> None:
    """CL3: the file's scope applies, and a different `--scope` is refused; a file without a scope
    leaves the choice to `--scope`."""
    await owner.store_secrets("ci", API_KEY="the value in ci")
    written(owner.here, 'scope = "ci"\nsecrets = ["API_KEY"]')
    for given_scope in ((), ("--scope", "CI")):
        assert (
            await owner.run("run", *given_scope, "--", "printenv", "API_KEY")
        ).stdout == b"***\n"
    ran = await owner.run("run", "--scope", "prod", "--", "touch", "started")
    assert ran.returncode == 2
    assert b"contradicts the project file" in ran.stderr
    written(owner.here, 'secrets = ["API_KEY"]')
    ran = await owner.run("run", "--scope", "ci", "--", "printenv", "API_KEY")
    assert ran.stdout == b"***\n"
    assert list(owner.here.iterdir()) == [owner.here / FILE_NAME]


async def test_CL3_names_that_direct_programs(owner: Owner) -> None:
    """CL3: `--allow-override` does not allow renaming a secret to a variable that controls
    programs."""
    await owner.store_secrets(API_KEY="evil.so", LD_PRELOAD="evil.so")
    for text in ('[rename]\nLD_PRELOAD = "API_KEY"', 'secrets = ["LD_PRELOAD"]'):
        written(owner.here, text)
        allowed = ("--allow-override", "LD_PRELOAD") if "rename" in text else ()
        ran = await owner.run("run", *allowed, "--", "touch", "started")
        assert ran.returncode == 2, ran
        assert b"LD_PRELOAD" in ran.stderr
    assert not (owner.here / "started").exists()


@pytest.mark.parametrize("member", ["node", "owner"])
async def test_CL4_another_login_needs_confirmation(owner: Owner, member: str) -> None:
    """CL4: a project file for another node or owner is used only after the user confirms it."""
    await owner.store_secrets(API_KEY="the value")
    other = {"node": "https://node.example", "owner": "did:key:z6Mk"}[member]
    written(owner.here, f'{member} = "{other}"\nsecrets = ["API_KEY"]')
    ran = await owner.run("run", "--", "touch", "started")
    assert ran.returncode == 2
    assert f"is for the {member} {other}" in ran.stderr.decode()

    def asked(answer: bytes) -> tuple[int, bytes]:
        command = (*COMMAND, "run", "--", "touch", f"started-{answer.decode()}")
        with Person(command, environment=owner.environment, folder=owner.here) as person:
            person.expect("of your login")
            person.type(answer + b"\n")
            return person.end(), person.seen

    assert (await asyncio.to_thread(asked, b"n"))[0] != 0
    assert (await asyncio.to_thread(asked, b"y"))[0] == 0
    assert sorted(path.name for path in owner.here.iterdir()) == [FILE_NAME, "started-y"]


async def test_CL4_the_own_login_needs_no_confirmation(owner: Owner) -> None:
    """CL4: a file for the user's own node and owner is used without a question, and `sealspace
    status` shows the file."""
    await owner.store_secrets(API_KEY="the value")
    async with owner.desk.client() as client:
        login = f'node = "{client.url}/"\nowner = "{client.session.owner}"'
    path = written(owner.here, f'{login}\nscope = "ci"\n{PROJECT}')
    ran = await owner.run("status", "--json")
    said = json.loads(ran.stdout)
    assert said["project"] == str(path)
    assert said["scope"] == "ci"
    assert said["passes"] == ["API_KEY", "DATABASE_URL=DB_URL"]
    written(owner.here, f'{login}\nsecrets = ["API_KEY"]')
    assert (await owner.run("run", "--", "printenv", "API_KEY")).stdout == b"***\n"
    path.chmod(0o666)
    ran = await owner.run("status")
    assert ran.returncode == 2
    assert b"chmod go-w" in ran.stderr
