"""Each use of a private member of aiohttp is listed here with its reason.

A minor version of aiohttp may change such members without a word; so the distribution is pinned
below the next one.
"""

import ast
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator

import aiohttp
from tests_support import PACKAGES, REPOSITORY

# module -> member -> why it is needed
USED = {
    "node.http.app": {
        "_match_info": (
            "a path without a pattern is looked up in a table; aiohttp's router would set the match"
            " here"
        ),
    },
    "node.http.messages.http_answers": {
        "_keep_alive": (
            "an answer in one piece is written without aiohttp's preparation, which sets it"
        ),
        "_status": "an answer in one piece is made without the constructor that sets it",
    },
    "serving.listener": {
        "_buffer_paused": "reading goes on only where no buffer of aiohttp's is full",
        "_force_close": "after a refusal nothing more of the connection is parsed or answered",
        "_loop": "answers run in the connection's own task; aiohttp would start one for each",
        "_messages": "requests that were parsed and wait behind the one that is answered",
        "_next_keepalive_close_time": (
            "of idle connections, the one that had no request for longest is closed first"
        ),
        "_pause_transport_reading": "nothing more is read before it is awaited",
        "_reading_paused": "reading goes on only where aiohttp itself has not paused it",
        "_request_count": "tells that a head has come whole",
        "_resume_transport_reading": (
            "overridden: aiohttp reads on by itself, where a connection is held"
        ),
        "_upgraded": "a connection that asks for an upgrade is answered by aiohttp itself",
    },
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of the product that imports aiohttp, at its top or later."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            if any(name.split(".")[0] == "aiohttp" for name in _imported(tree)):
                yield (
                    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(
                        ".__init__"
                    ),
                    tree,
                )


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _own_and_others(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Return the private names that code uses on `self`, and those that it uses on other
    objects."""
    own: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (own if is_own or ast.unparse(node.value) == "super()" else others).add(node.attr)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.isidentifier()
        ):
            own.add(node.value)  # a slot, or an attribute that is named by its text
    return {name for name in own if _is_private(name)}, {
        name for name in others if _is_private(name)
    }


def _members(kind: type) -> set[str]:
    """Return the private members of a class of aiohttp."""
    own, _ = _own_and_others(ast.parse(textwrap.dedent(inspect.getsource(kind))))
    return own | {name for name in vars(kind) if _is_private(name)}


def _used(module: str, tree: ast.Module) -> set[str]:
    """Return the private members of aiohttp that a module uses: its classes' inherited ones, and
    those of objects."""
    everything, others = _own_and_others(tree)
    used = others - everything
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            kind = getattr(importlib.import_module(module), node.name)
            inherited = [
                base for base in kind.__mro__ if base.__module__.split(".")[0] == "aiohttp"
            ]
            own, _ = _own_and_others(node)
            used |= own & {name for base in inherited for name in _members(base)}
    private = {
        name.rpartition(".")[2] for name in _imported(tree) if re.match(r"aiohttp\b.*\._", name)
    }
    return used | private


def test_each_private_member_is_listed() -> None:
    """Every private member of aiohttp that is used is in the list with a reason, and the list has
    no other."""
    found = {module: used for module, tree in _modules() if (used := _used(module, tree))}
    assert {module: set(reasons) for module, reasons in USED.items()} == found
    assert all(reason for reasons in USED.values() for reason in reasons.values())


def test_aiohttp_is_pinned_below_its_next_minor_version() -> None:
    """The installed and the locked aiohttp are of the minor version that the distribution
    allows."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    (requirement,) = [text for text in project["dependencies"] if text.startswith("aiohttp")]
    match = re.fullmatch(r"aiohttp>=(\d+)\.(\d+),<(\d+)\.(\d+)", requirement)
    assert match is not None, requirement
    major, minor, *bound = map(int, match.groups())
    assert [major, minor + 1] == bound
    (locked,) = re.findall(
        r"^aiohttp==(\S+)", (REPOSITORY / "requirements.lock").read_text("utf-8"), re.MULTILINE
    )
    for version in (locked, aiohttp.__version__):
        assert version.startswith(f"{major}.{minor}.")
