"""Every hint that reaches somebody at a terminal is one that can be followed there."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import sealspace
from sealspace import errors
from sealspace.cli.next_steps import INSTEAD, NEXT_STEPS, next_step, speaks_to_programs

PACKAGE = Path(sealspace.__file__).parent
KINDS = {
    name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SealspaceError)
}


def has_counterpart(code: str, hint: str) -> bool:
    """Whether something is said in place of a hint for programs."""
    return hint in INSTEAD or code in NEXT_STEPS


def texts_in(node: ast.AST) -> str:
    """All literal text in an expression."""
    return "".join(one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def hints_given() -> Iterator[tuple[str, str, str]]:
    """Each `hint=` that the SDK passes to one of its errors: where, the error's name, the text."""
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
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in KINDS:
                continue
            for keyword in node.keywords:
                if keyword.arg == "hint":
                    named = keyword.value.id if isinstance(keyword.value, ast.Name) else ""
                    yield f"{path.name}:{node.lineno}", node.func.id, constants.get(named, texts_in(keyword.value))


def test_hints_in_the_sdk_are_found() -> None:
    """The search finds hints, and what speaks to programs among them."""
    given = list(hints_given())
    assert len(given) > 20
    assert any(speaks_to_programs(text) for _, _, text in given)


def test_a_hint_for_programs_has_a_counterpart() -> None:
    """What an error says to a program is said anew on the command line; so are the hints of its class."""
    given = [*hints_given(), *(("its class", name, kind.default_hint) for name, kind in KINDS.items())]
    programs = [(where, name, text) for where, name, text in given if speaks_to_programs(text)]
    assert [] == [(where, text) for where, name, text in programs if not has_counterpart(KINDS[name].code, text)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.NetworkNotFound("no network x on this node"), "sealspace network create NAME"),
        (errors.NotGranted("nothing covers it", hint="pass it in `SignIn(received=…)`"), "sealspace grant accept FILE"),
        (errors.InvalidInput("no DID", hint="a DID is did:key:…"), "a DID is did:key:…"),
        (errors.NodeFailure(500, ""), errors.NodeFailure.default_hint),
    ],
)
def test_what_comes_next(error: errors.SealspaceError, said: str) -> None:
    """A hint in the words of the command line stays as it is; one to a program is replaced; none is filled in."""
    assert said in next_step(error)


@pytest.mark.parametrize("text", ["sign in again", "kms:<hex>, with the id that `backend show` says", "wait a minute"])
def test_words_for_people(text: str) -> None:
    """Options, commands and abilities are no Python."""
    assert not speaks_to_programs(text)
