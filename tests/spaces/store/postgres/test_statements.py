"""The page about statements lists exactly the database features that each statement needs."""

import ast
import re

from tests_support import REPOSITORY

from spaces.store.postgres import _statements as _postgres_sql
from spaces.store.postgres import requirements
from spaces.store.postgres._statements import read_statement, sweep_statement

PAGE = (REPOSITORY / "spec" / "operations" / "sql.md").read_text("utf-8")
STORE = REPOSITORY / "spaces" / "store"
_SQL = re.compile(r"^\s*(select|insert|delete|update|create|with|set|alter|drop|union)\s")
# What a feature looks like in a statement.
_LOOKS = {
    "cte": r"\bwith \w+ as \(\s*select|, \w+ as \(\s*select",
    "writing-cte": r"as \(\s*insert",
    "upsert": r"do update set",
    "do-nothing": r"do nothing",
    "for-share": r"for share",
    "for-update": r"for update",
    "skip-locked": r"skip locked",
    "any-array": r"= any\(",
    "unnest": r"unnest\(\$\d+::\w+\[\], ",
    "array-subquery": r"array\(\s*select",
    "window": r"\bover \(",
    "octet-length": r"octet_length",
    "octet-join": r"\|\|",
    "partial-index": r"create index .* where",
    "if-not-exists": r"if not exists",
    "clock": r"clock_timestamp\(\)",
    "least": r"\bleast\(",
    "not-valid": r"not valid",
    "drop-constraint": r"drop constraint if exists",
    "delete-returning": r"delete[^;]* returning",
    "add-column": r"add column if not exists",
    "hex": r"decode\(lpad\(to_hex\(",
    "substr": r"\bsubstr\(",
    "greatest": r"\bgreatest\(",
    "row-comparison": r"\(q, k\) > \(",
    "server-start": r"pg_postmaster_start_time",
    "raise": r"judged\.verdict / sound\.whole",
    "catalog": r"\bpg_\w+",
}
_ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) ?\|$", re.MULTILINE)


def statements() -> dict[str, str]:
    """Return every statement by the name of its constant or function."""
    found: dict[str, str] = {}
    for module in (_postgres_sql, requirements):
        for name, value in vars(module).items():
            is_several = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
            text = "\n".join(value) if is_several else value
            if isinstance(text, str) and not name.startswith("_") and _SQL.match(text):
                found[name] = text
    found["read_statement"] = "\n".join(
        read_statement(
            with_replay_records=is_full, with_follow=is_full, ranges=("rows", "keys", "by number")
        )
        for is_full in (False, True)
    )
    found["sweep_statement"] = sweep_statement("sealspace_map")
    return found


def test_every_statement_has_its_row() -> None:
    """The page lists the statements of the code and the features that each shows, and nothing
    else."""
    rows = {name: set(re.findall(r"`([\w-]+)`", features)) for name, features in _ROW.findall(PAGE)}
    shown = {
        name: {feature for feature, look in _LOOKS.items() if re.search(look, text, re.DOTALL)}
        for name, text in statements().items()
    }
    # The replay records of a read are its only common table, and they are written.
    shown["read_statement"] |= {"cte"}
    assert rows == shown


def test_every_feature_is_documented() -> None:
    """The page explains each feature and links to the documentation of both databases."""
    features = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert sorted(features) == sorted(_LOOKS)


def test_no_statement_stands_elsewhere() -> None:
    """Only the modules that the page covers contain statements, apart from session settings."""
    homes = {"_statements.py", "requirements.py"}
    elsewhere = {
        (path.name, node.value)
        for path in STORE.rglob("*.py")
        if path.name not in homes
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(_SQL, node.value)
        if "\n" not in node.value.strip()
    }
    assert elsewhere == {("_pool.py", "set ")}
