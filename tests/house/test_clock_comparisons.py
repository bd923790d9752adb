"""No test compares a time with the one that the clock shows when the comparison runs.

On a busy machine any time passes between two steps. A test reads the clock before and after what it
tests, and expects a time between the two.
"""

import ast
from collections.abc import Iterator

from tests_support import REPOSITORY

_OF_NUMBERS = frozenset({"abs", "int", "float", "round", "max", "min"})


def clock_comparisons(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of assertions that compare `time.time()` or a number made of it."""
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.Assert):
            continue
        for node in ast.walk(statement.test):
            if isinstance(node, ast.Compare) and any(map(_reads_clock, _operands(node))):
                yield node.lineno


def _operands(comparison: ast.Compare) -> Iterator[ast.expr]:
    yield comparison.left
    yield from comparison.comparators


def _reads_clock(value: ast.expr) -> bool:
    """Return whether a number is the clock's, or made of it by arithmetic."""
    match value:
        case ast.BinOp(left=left, right=right):
            return _reads_clock(left) or _reads_clock(right)
        case ast.UnaryOp(operand=operand):
            return _reads_clock(operand)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="time")):
            return True
        case ast.Call(func=ast.Name(id=name), args=numbers) if name in _OF_NUMBERS:
            return any(map(_reads_clock, numbers))
    return False


def test_no_assertion_reads_the_clock() -> None:
    """Assertions compare with times that were read before and after."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for line in clock_comparisons(ast.parse(path.read_text("utf-8")))
    ]
    assert not found, "read the clock before and after instead:\n" + "\n".join(found)


def test_what_is_found() -> None:
    """A difference, a bound and an equality are found; a time that a call is given is not."""
    bad = """
assert abs(a - time.time()) < 3
assert a < time.time() + 1 and b
assert a == int(time.time())
"""
    assert [2, 3, 4] == list(clock_comparisons(ast.parse(bad)))
    assert not list(clock_comparisons(ast.parse("assert f(time.time()) == 1\nassert a <= after")))
