"""Comparison of the node's authorisation with an oracle, over principals, abilities and chains."""

import ast
import sys
import tempfile
from pathlib import Path

import pytest
from matrix.comparison import compare
from task_memory import fast_folder

FOLDER = Path(__file__).parent
ORACLE = (
    "oracle.py",
    "oracle_caveats.py",
    "oracle_places.py",
    "cases.py",
    "caveat_pairs.py",
    "places.py",
)
CASES = 1500
# A store in memory, where the machine has such a folder: thousands of steps wait for their commits.


@pytest.mark.slow
async def test_the_node_and_the_oracle_agree() -> None:
    """A node admits the same requests as the oracle, and refuses the others with its texts."""
    folder = fast_folder()
    with tempfile.TemporaryDirectory(dir=folder) as data:
        report = await compare(Path(data), cases=CASES, seed="suite")
    print(report)
    assert report.differences == []
    assert report.requests == CASES
    assert report.admitted >= CASES / 5


@pytest.mark.parametrize("name", ORACLE)
def test_the_oracle_imports_nothing_of_the_product(name: str) -> None:
    """The oracle and the cases import the standard library and each other only."""
    ours = {f"matrix.{one.removesuffix('.py')}" for one in ORACLE}
    imported = []
    for node in ast.walk(ast.parse((FOLDER / name).read_text())):
        if isinstance(node, ast.ImportFrom):
            imported.append(node.module or "")
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
    assert imported
    for module in imported:
        assert module in ours or module.partition(".")[0] in sys.stdlib_module_names, module
