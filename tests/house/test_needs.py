"""Each test is part of `make test` or of `make test-others`, whatever it needs.

A test that is skipped for a reason that the table of `support/needs.py` lacks would be in neither:
an ordinary user's machine lacks what it needs, and the second run leaves it out.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

from needs import BY_REASON, names_root
from tests_support import REPOSITORY

_OF_THE_MACHINE = frozenset(
    {
        "/dev/shm is missing, or cannot be written",
        "about the store in the data folder",
        "by the numbers of x86-64",
        "curl is not installed",
        "google-re2 is not installed: no runner starts",
        "no socket here listens on both families",
        "openssl is not installed",
        "other C libraries have other bounds",
        "other machines have no second table of calls",
        "the Python base is not built: make test-python-base",
        "the kernel has no Landlock",
        "the kernel's headers are not installed",
        "this kernel has no Landlock",
    }
)
"""Reasons that are the same for every user of a machine: these tests are in `make test`."""
_BY_VARIABLE = frozenset({"COMPOSE_SCHEMA_ABSENT", "FOLDER_VARIABLE"})
"""Names in reasons that ask for a variable, which is the same too."""
_HELPERS = (
    "console_stage",
    "iexec_client",
    "pgbouncer",
    "postgres_server",
    "release_model.spin",
)
"""Modules with constants that are reasons."""


def _reasons_in(path: Path) -> Iterator[str]:
    """Yield the reasons of the `skipif` marks in a file of tests."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.skipif")):
            continue
        (reason,) = [given.value for given in node.keywords if given.arg == "reason"]
        names = {part.id for part in ast.walk(reason) if isinstance(part, ast.Name)}
        if names & _BY_VARIABLE:
            continue
        yield _text_of(reason, path)


def _text_of(reason: ast.expr, path: Path) -> str:
    """Return a reason that is written in place, or is a constant of a helper."""
    if isinstance(reason, ast.Constant):
        return str(reason.value)
    assert isinstance(reason, ast.Name), f"{path}: {ast.unparse(reason)}"
    for helper in _HELPERS:
        found = getattr(importlib.import_module(helper), reason.id, None)
        if found is not None:
            return str(found)
    raise AssertionError(f"{path}: {reason.id} is in no helper")


def test_every_reason_is_known() -> None:
    """A test that is skipped for lack of something is chosen by it, and the table has no reason
    that no test gives."""
    given = {
        reason: path.relative_to(REPOSITORY).as_posix()
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for reason in _reasons_in(path)
    }
    unknown = {
        reason: path
        for reason, path in given.items()
        if reason not in BY_REASON and reason not in _OF_THE_MACHINE and not names_root(reason)
    }
    assert not unknown, "add these to tests/support/needs.py"
    assert _OF_THE_MACHINE <= given.keys()
