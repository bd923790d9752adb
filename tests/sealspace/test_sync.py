"""Tests that the synchronous SDK matches the asynchronous one in names, types and texts."""

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from patience import PATIENCE_S
from running_node import running_node
from tests_support import REPOSITORY

import sealspace
from sealspace import sync
from sealspace.apps import backends
from sealspace.sync import client as client_module
from sealspace.sync import services
from sealspace.sync._bridged import COUNTERPARTS, Bridged

SERVICES = [
    service
    for module in (client_module, services)
    for service in vars(module).values()
    if inspect.isclass(service) and service.__module__ == module.__name__
]
ENTERING = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
# What a synchronous client does by itself, or has no use for.
INSIDE = {"acting", "leave_connections"}


def model_of(service: type) -> type:
    (model,) = (model for model, found in COUNTERPARTS.items() if found is service)
    assert isinstance(model, type)
    return model


def public(kind: type) -> dict[str, Any]:
    names = {name for name in vars(kind) if not name.startswith("_") or name in ENTERING} - INSIDE
    return {name: inspect.getattr_static(kind, name) for name in names}


MEMBERS = [
    (service, name, member)
    for service in SERVICES
    for name, member in sorted(public(model_of(service)).items())
]


def test_every_service_has_its_counterpart() -> None:
    """Every asynchronous service has a synchronous counterpart."""
    assert len(SERVICES) == 21
    assert {service.__name__: service.__name__ for service in SERVICES} == {
        service.__name__: model_of(service).__name__ for service in SERVICES
    }


@pytest.mark.parametrize(
    ("service", "name", "member"), MEMBERS, ids=lambda one: getattr(one, "__name__", None)
)
def test_every_member_has_its_counterpart(service: type, name: str, member: Any) -> None:
    """Every method and property has a synchronous counterpart with the same parameters."""
    found = inspect.getattr_static(service, ENTERING.get(name, name))
    if isinstance(member, property):
        assert isinstance(found, property)
        assert found.__doc__ == member.__doc__
        assert found.fset == member.fset
        return
    if isinstance(member, classmethod):
        assert isinstance(found, classmethod)
        found, member = found.__func__, member.__func__
    assert not inspect.iscoroutinefunction(found) and not inspect.isasyncgenfunction(found)
    ours, theirs = inspect.signature(found), inspect.signature(member)
    assert ours.parameters == theirs.parameters
    result, awaited = ours.return_annotation, theirs.return_annotation
    if get_origin(awaited) is AsyncIterator:
        assert get_origin(result) == Iterator
        assert get_args(result) == get_args(awaited)
    elif inspect.isclass(result) and issubclass(result, Bridged):
        assert model_of(result) is awaited
    else:
        assert result == awaited
    if name not in ENTERING:
        assert (inspect.getdoc(found) or "").split("\n")[0] == (inspect.getdoc(member) or "").split(
            "\n"
        )[0]


def test_nothing_further() -> None:
    """The synchronous services have no methods beyond those of the asynchronous ones."""
    for service in SERVICES:
        named = {name for name in vars(service) if not name.startswith("_")}
        assert named == {name for name in public(model_of(service)) if not name.startswith("_")}


def test_a_client_is_made_with_the_same_arguments() -> None:
    """The synchronous client and functions take the same arguments as the asynchronous ones."""
    assert inspect.signature(sync.Client) == inspect.signature(sealspace.Client)
    for function in (sync.fetch_evidence, sync.deliver):
        assert inspect.signature(function) == inspect.signature(
            getattr(backends, function.__name__)
        )


def test_names() -> None:
    """The synchronous module has every public name of the SDK."""
    assert set(sealspace.__all__) <= set(sync.__all__)
    assert len(set(sync.__all__)) == len(sync.__all__)
    own = {service.__name__ for service in SERVICES} | {"deliver", "fetch_evidence"}
    for name in sync.__all__:
        found = getattr(sync, name)
        if name not in own:
            assert found is getattr(sealspace, name)
    assert sync.Value is importlib.import_module("sealspace.kv").Value
    with pytest.raises(AttributeError, match="Clint"):
        _ = sync.Clint  # type: ignore[attr-defined]  # misspelt on purpose


@pytest.mark.parametrize(
    "documented", [sync, client_module, services, *SERVICES], ids=lambda one: one.__name__
)
def test_no_text_speaks_of_awaiting(documented: Any) -> None:
    """The texts of `help` never tell a synchronous user to use `await`."""
    members = [found for name, found in vars(documented).items() if not name.startswith("_")]
    texts = [
        inspect.getdoc(one) or ""
        for one in (documented, *(one for one in members if not inspect.ismodule(one)))
    ]
    assert [
        text
        for text in texts
        if re.search(r"\b(await|async (def|with|for))\b", text) and "without" not in text
    ] == []


def test_importing_the_package_loads_no_http() -> None:
    """Importing the package loads no HTTP library until a name is used."""
    program = (
        "import sys, sealspace.sync\nprint([name for name in ('aiohttp', 'asyncio', 'cryptography')"
        " if name in sys.modules])\nfrom sealspace.sync import Client\nprint([name for name in"
        " ('lmdb', 'dcap_qvl', 'node', 'spaces', 'aiohttp.web') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout == "[]\n[]\n"


# --- types ----------------------------------------------------------------------------------------

SAMPLE = """
from collections.abc import Iterator

from sealspace.sync import Client, Kv, Value

with Client("http://127.0.0.1:8000") as client:
    notes: Kv = client.kv("notes")
    value: Value = notes.get("a", max_bytes=10)
    keys: Iterator[str] = notes.list("a", page_keys=3)
    body: bytes = client.kv().get("a").body
    secret: str = client.secrets().get_text("API_KEY", scope="s")
    names: tuple[str, ...] = client.secrets().list()
    resource: str = client.secrets().resource("API_KEY")
    client.use(client.sign_in_with_key(bytes(32)))
"""
MISTAKES = {
    "notes.gett('a')": '"Kv" has no attribute "gett"',
    "notes.get(1)": 'incompatible type "int"; expected "str"',
    "notes.get('a', max_byte=1)": 'Unexpected keyword argument "max_byte"',
    "notes.get()": 'Missing positional argument "key"',
    "client.kv(space=1)": 'incompatible type "int"',
    "first: int = notes.get('a')": 'expression has type "Value"',
    "second: int = notes.put('a', 'b')": 'expression has type "str"',
    "third: list[int] = list(notes.list())": 'expected "Iterable[int]"',
    "client.secret()": '"Client" has no attribute "secret"',
    "from sealspace.sync import Clint": 'has no attribute "Clint"',
    "await notes.get('a')": "await",
}


@pytest.mark.slow
def test_a_program_is_checked_as_it_is_with_the_asynchronous_client(tmp_path: Path) -> None:
    """A strict type checker accepts a right program, and reports each mistake at its line."""
    program = tmp_path / "program.py"
    program.write_text(SAMPLE + "".join(f"{mistake}\n" for mistake in MISTAKES))
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(REPOSITORY / ".cache" / "mypy-programs"),  # what the SDK imports is read once
    ]
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\n[mypy-sha3.*]\nignore_missing_imports = True\n")
    ran = subprocess.run(
        [*command, "--config-file", str(settings), str(program)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = [
        (int(line.split(":")[1]), line) for line in ran.stdout.splitlines() if ": error:" in line
    ]
    assert {number for number, _ in found} == {
        SAMPLE.count("\n") + 1 + at for at in range(len(MISTAKES))
    }, ran.stdout
    for at, expected in enumerate(MISTAKES.values()):
        assert any(
            expected in line for number, line in found if number == SAMPLE.count("\n") + 1 + at
        ), expected


# --- the documentation ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_of_the_module(tmp_path: Path) -> None:
    """The example in the module's docstring runs unchanged."""
    text = inspect.getdoc(sync) or ""
    example = inspect.cleandoc(
        "\n" + text.partition("Example:\n")[2].partition("\n\nGuarantees")[0]
    )
    assert example.count("http://127.0.0.1:8000") == 1
    with running_node(tmp_path, workers=1) as node:
        command = [
            sys.executable,
            "-W",
            "error",
            "-c",
            example.replace("http://127.0.0.1:8000", node.url),
        ]
        ran = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    assert ran.returncode == 0
    assert ran.stdout == "b'hello'\ngreeting\n"
    assert ran.stderr == ""
