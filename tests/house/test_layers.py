"""Tests of the product's structure: sizes of packages, imports, and lengths of modules and
functions.

The order of the layers stands in pyproject.toml, and `make check` holds it; here it is checked that
every folder which has an order there is named, and how much one has to look at in one place.
"""

import ast
import tomllib
from pathlib import Path

import grimp
import pytest
from tests_support import PACKAGES, REPOSITORY

PAGE = REPOSITORY / "spec" / "decisions" / "0017-layers-inside-packages.md"
_NOT_YET = str.maketrans("", "", "()")  # around a module that has a place before it exists

MOST_LINES = 720
# Lists of cases, one after another.
LISTS = ("tools/generate_vectors/chain.py", "tools/generate_vectors/tokens.py")
MOST_LINES_OF_A_FUNCTION = 72
# package -> modules and folders directly in it, pairs of them of which one imports the other
MOST_BESIDE = {"node": (24, 80), "spaces": (16, 60)}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import between modules of the product, those for type checking and those inside
    functions too."""
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def _lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def _files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def _layers() -> dict[str, list[str]]:
    """Return the layers of each package that has an order, the highest first."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    ordered = [
        contract
        for contract in contracts
        if contract["type"] == "layers" and contract.get("exhaustive")
    ]
    return {
        package: contract["layers"] for contract in ordered for package in contract["containers"]
    }


@pytest.mark.parametrize("package", MOST_BESIDE)
def test_what_lies_side_by_side(graph: grimp.ImportGraph, package: str) -> None:
    """The number of modules in a package and of imports between them stays below its limits."""
    most, most_pairs = MOST_BESIDE[package]
    children = graph.find_children(package)
    pairs = {
        (importer, imported)
        for importer in children
        for imported in children - {importer}
        if graph.direct_import_exists(importer=importer, imported=imported, as_packages=True)
    }
    assert 0 < len(children) <= most
    assert 0 < len(pairs) <= most_pairs


def test_packages_have_an_order() -> None:
    """The linter checks an order for each large package, and the page shows the same order."""
    layers = _layers()
    assert {"node", "node.http", "node.operations", "spaces"} <= layers.keys()
    page = PAGE.read_text("utf-8")
    for package, order in layers.items():
        assert f"\n{package}: {' > '.join(order).translate(_NOT_YET)}\n" in page


def test_no_circles(graph: grimp.ImportGraph) -> None:
    """The imports between modules, and between folders, have no cycle."""
    packages = [module for module in sorted(graph.modules) if graph.find_children(module)]
    assert set(PACKAGES) < set(packages)
    assert {} == {
        package: found for package in packages if (found := graph.nominate_cycle_breakers(package))
    }
    assert [] == [module for module in sorted(graph.modules) if _reaches_itself(graph, module)]


def _reaches_itself(graph: grimp.ImportGraph, module: str) -> bool:
    return any(
        graph.find_shortest_chain(importer=imported, imported=module) is not None
        for imported in graph.find_modules_directly_imported_by(module)
    )


def test_modules_are_short() -> None:
    """Each module of the product and the tests is below the limit of lines."""
    files = _files(*PACKAGES, "tests", "tools")
    assert len(files) > 500
    long = [str(path.relative_to(REPOSITORY)) for path in files if _lines(path) > MOST_LINES]
    assert sorted(LISTS) == sorted(long)


def test_functions_are_short() -> None:
    """Functions of the product fit on a screen."""
    long = []
    for path in _files(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{path.relative_to(REPOSITORY)} {node.name}")
    assert [] == long
