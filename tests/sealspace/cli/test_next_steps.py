"""Tests that every hint shown at a terminal can be followed there."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sealspace
from sealspace import errors

PACKAGE = Path(sealspace.__file__).parent
KINDS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.SealspaceError)
}
_PROGRAM = re.compile(
    r"\w\("  # a call
    r"|\b(?:client|session|error|delegations|manifests|wallet)\.[a-z_]"  # a member of an object
    r"|=(?:True|False|None)\b"
    r"|`[a-z]+(?:_[a-z]+)+`"  # a name of Python's
    r"|\bSignIn\b|\bTransportSettings\b|\bsign_in\b"
)


def speaks_to_programs(hint: str) -> bool:
    """Return whether a hint names calls or objects of the SDK, which do not help at a command
    line."""
    return _PROGRAM.search(hint) is not None


def texts_in(node: ast.AST) -> str:
    """Return all literal text in an expression."""
    return "".join(
        one.value
        for one in ast.walk(node)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    )


def hints_given() -> Iterator[tuple[str, str, bool]]:
    """Return each `hint=` that the SDK passes to an error: where, the text, and whether there is a
    `step=`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: texts_in(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if (
                not isinstance(node, ast.Call)
                or not isinstance(node.func, ast.Name)
                or node.func.id not in KINDS
            ):
                continue
            for keyword in node.keywords:
                if keyword.arg == "hint":
                    named = keyword.value.id if isinstance(keyword.value, ast.Name) else ""
                    has_step = any(beside.arg == "step" for beside in node.keywords)
                    yield (
                        f"{path.name}:{node.lineno}",
                        constants.get(named, texts_in(keyword.value)),
                        has_step,
                    )


def test_hints_in_the_sdk_are_found() -> None:
    """The search finds hints, including those for programs."""
    given = list(hints_given())
    assert len(given) > 20
    assert any(speaks_to_programs(text) for _, text, _ in given)


def test_a_hint_for_programs_has_a_step_beside_it() -> None:
    """A hint for programs has a separate step for people, also in the hints of its class."""
    assert [] == [
        (where, text)
        for where, text, has_step in hints_given()
        if speaks_to_programs(text) and not has_step
    ]
    told = [kind.default_step or kind.default_hint for kind in KINDS.values()]
    assert [] == [text for text in told if speaks_to_programs(text)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.NetworkNotFound("no network x on this node"), "sealspace network create NAME"),
        (errors.NotGranted("nothing covers it"), "sealspace grant accept FILE"),
        (
            errors.NotGranted(
                "nothing covers it", hint="pass it in `SignIn(received=…)`", step="ask for it"
            ),
            "ask for it",
        ),
        (errors.DecryptDenied(errors.Unauthorized(401, "")), "sealspace status"),
        (errors.InvalidInput("no DID", hint="a DID is did:key:…"), "a DID is did:key:…"),
        (errors.NodeFailure(500, ""), errors.NodeFailure.default_hint),
    ],
)
def test_what_comes_next(error: errors.SealspaceError, said: str) -> None:
    """A hint without names of the SDK is also for people. A hint for programs has a separate
    step."""
    assert said in error.step


@pytest.mark.parametrize(
    "text",
    [
        "sign in again",
        "use kms:<hex>, with the id that `sealspace backend show` prints",
        "wait a minute",
    ],
)
def test_words_for_people(text: str) -> None:
    """Options, commands and abilities do not count as names of the SDK."""
    assert not speaks_to_programs(text)
