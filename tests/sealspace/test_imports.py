"""The cost of importing the SDK."""

import ast
import inspect
import pydoc
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import pytest
from tests_support import REPOSITORY

from sealspace.session import Session

UNUSED_BY_COMMANDS = ("aiohttp", "node", "runner", "tee_backend", "sealspace.apps.backends", "rich")
SERVER_ONLY = ("apsw", "lmdb", "dcap_qvl", "node", "spaces", "aiohttp")


@pytest.mark.parametrize(
    "statement", ["from sealspace.client import Client", "from sealspace import Client"]
)
def test_a_client_needs_nothing_of_the_server(statement: str) -> None:
    """Importing the client loads no store, no quote library and no server."""
    program = (
        "import sys\n"
        f"{statement}\n"
        "assert Client.__module__ == 'sealspace.client'\n"
        f"print([name for name in {SERVER_ONLY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "statement",
    ["import sealspace", "from sealspace import NotFound, __version__", "import sealspace.errors"],
)
def test_importing_the_package_loads_no_http(statement: str) -> None:
    """Importing the package loads no module, and importing an error does not load the client."""
    program = f"import sys\n{statement}\nprint('aiohttp' in sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("command", ["secret get", "secret list", "secret put", "run", "kv get"])
def test_a_command_imports_what_it_uses(command: str) -> None:
    """Commands of owners import neither aiohttp nor the packages of backends, runners and nodes."""
    program = (
        "import sys\n"
        "from sealspace.cli.root import main\n"
        f"main({[*command.split(), '--help']!r})\n"
        f"unused = {UNUSED_BY_COMMANDS!r}\n"
        "print([name for name in unused if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
    )
    assert f"Usage: sealspace {command}" in done.stdout
    assert done.stderr == "[]\n"


def test_names_of_the_package() -> None:
    """Each name is the same object as in its module, is listed, and is declared for type
    checkers."""
    import sealspace

    places = vars(sealspace)["_PLACES"]
    assert sorted(sealspace.__all__) == sorted([*places, "__version__"])
    for name, module in places.items():
        assert getattr(sealspace, name) is getattr(import_module(f"sealspace.{module}"), name)
    assert set(sealspace.__all__) <= set(dir(sealspace))
    assert sealspace.__version__ == version("sealspace")
    stated = ast.parse(Path(sealspace.__file__).with_suffix(".pyi").read_text("utf-8"))
    named = {
        alias.name
        for node in ast.walk(stated)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(places) <= named


def test_help_lists_every_service() -> None:
    """`help(sealspace)` lists each service of a client with its class."""
    import sealspace
    from sealspace.client import Client

    text = pydoc.plain(pydoc.render_doc(sealspace))
    # The module of the client imports its services on first use.
    names = {name: getattr(sealspace, name) for name in sealspace.__all__}
    offered = [
        get_type_hints(member.fget if isinstance(member, property) else member, None, names)[
            "return"
        ]
        for name, member in vars(Client).items()
        if not name.startswith("_") and not inspect.iscoroutinefunction(member)
    ]
    services = {
        one.__name__
        for one in offered
        if one.__module__.startswith("sealspace.") and one is not Session
    }
    assert {
        "Kv",
        "Secrets",
        "Delegations",
        "Encryption",
        "Backends",
        "Receipts",
        "Spaces",
        "PublicKv",
    } <= services
    for service in services:
        assert f": {service}." in text and f"class {service}(" in text, service


def test_an_unknown_name_is_an_attribute_error() -> None:
    """An unknown name of the package raises AttributeError, although names are loaded lazily."""
    import sealspace

    with pytest.raises(AttributeError):
        _ = sealspace.Clint  # type: ignore[attr-defined]  # misspelt on purpose
