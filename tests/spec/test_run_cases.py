"""The table of cases in `spec/run-grants.md` names tests that exist."""

import ast
import re

from tests_support import REPOSITORY

_ROW = re.compile(
    r"^\| (?P<case>[^|]+) \| (?:`(?P<file>[\w/.]+)::(?P<test>\w+)`|(?P<reason>[^|`]+)) \|$",
    re.MULTILINE,
)


def test_each_case_has_a_test_or_a_reason() -> None:
    """Each row names an existing test, or the reason why no test exists."""
    page = (REPOSITORY / "spec" / "run-grants.md").read_text("utf-8").partition("## 8. ")[2]
    rows = list(_ROW.finditer(page))[1:]  # the first is the head
    assert len(rows) == sum(line.startswith("| ") for line in page.splitlines()) - 1 > 40
    for row in rows:
        if row["file"] is not None:
            tree = ast.parse((REPOSITORY / "tests" / row["file"]).read_text("utf-8"))
            names = {
                one.name
                for one in tree.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert row["test"] in names, row[0]
        else:
            assert row["reason"].startswith(("later", "not offered", "not possible")), row[0]
