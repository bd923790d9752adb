"""No function of the packages that answer requests calls a subscripted type."""

import ast
from collections.abc import Iterator

from tests_support import REPOSITORY

# Those of SQL statements are left out: a statement takes a hundred times as long as the call.
PACKAGES = ("capabilities", "encryption_network", "node", "spaces")
LEFT_OUT = {"spaces/sql", "node/operations/sql"}


def calls_in(source: str) -> Iterator[int]:
    """Yield the lines inside functions that call a type with its parameters, as `list[int]()`."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if function.name == "__init__":  # called once, and not for each request
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Subscript):
                continue
            if not (node.args or node.keywords):  # else it may be a function in a table
                yield node.lineno


def test_what_is_found() -> None:
    """Calls of subscripted types are found in functions; annotations and tables are not."""
    source = """
shared = list[int]()

def costly():
    found = dict[str, list[int]]()

def cheap():
    found: dict[str, list[int]] = {}
    return table[0](1)
"""
    assert [5] == list(calls_in(source))


def test_empty_collections_are_annotated() -> None:
    """Empty collections are `found: list[int] = []`.

    `list[int]()` takes twenty times as long: the interpreter makes an alias, and raises and
    discards an error as it calls it. A call to read one value made ten of them.
    """
    found = []
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            place = path.relative_to(REPOSITORY)
            if str(place.parent) in LEFT_OUT:
                continue
            found += [f"{place}:{line}" for line in calls_in(path.read_text())]
    assert [] == found
