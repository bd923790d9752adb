"""Rules A1 to A6: abilities."""

import pytest

from capabilities.abilities import parse_ability, resolve_alias, satisfies
from capabilities.capability_errors import InvalidIdentifier


@pytest.mark.parametrize(
    "text", ["tinycloud.kv/get", "a/b", "tinycloud.sql/*", "*/+", "1/2", "a-b_c.d/e", "é/ß", "x/٣"]
)
def test_A1_abilities(text):
    """An ability is a namespace, a slash and a name."""
    assert text == parse_ability(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a",
        "a/",
        "/b",
        "a/b/c",
        "a:b/c",
        "a b/c",
        "a/b\n",
        "a/%20",
        "a/💥",
        "a" * 300 + "/b",
    ],
)
def test_A1_what_is_no_ability(text):
    """A text of another form or with another character is rejected as an ability."""
    with pytest.raises(InvalidIdentifier):
        parse_ability(text)


@pytest.mark.parametrize(
    ("alias", "ability"),
    [
        ("tinycloud.kv/delete", "tinycloud.kv/del"),
        ("tinycloud.sql/select", "tinycloud.sql/read"),
        ("tinycloud.duckdb/select", "tinycloud.duckdb/read"),
        ("tinycloud.kv/get", "tinycloud.kv/get"),
    ],
)
def test_A3_aliases(alias, ability):
    """An old name and the new one satisfy each other."""
    assert ability == resolve_alias(alias)
    assert satisfies(alias, ability)
    assert satisfies(ability, alias)


@pytest.mark.parametrize(
    ("held", "required"),
    [("sql/admin", "sql/schema")]
    + [("sql/*", f"sql/{name}") for name in ("read", "write", "schema", "admin", "select", "*")]
    + [
        ("duckdb/*", f"duckdb/{name}")
        for name in ("read", "write", "admin", "import", "export", "select")
    ],
)
def test_A4_A5_implications(held, required):
    """Listed implications apply, also through aliases, but never in the other direction."""
    assert satisfies(f"tinycloud.{held}", f"tinycloud.{required}")
    assert held == required or not satisfies(f"tinycloud.{required}", f"tinycloud.{held}")


@pytest.mark.parametrize(
    ("held", "required"),
    [
        ("tinycloud.kv/*", "tinycloud.kv/get"),  # A6
        ("tinycloud.hooks/*", "tinycloud.hooks/list"),  # A6
        ("tinycloud.sql/*", "tinycloud.sql/export"),
        ("tinycloud.sql/*", "tinycloud.duckdb/read"),
        ("tinycloud.sql/admin", "tinycloud.sql/read"),
        ("tinycloud.kv/get", "tinycloud.kv/GET"),
        ("tinycloud.kv/put", "tinycloud.kv/del"),
        ("vnd.example/a", "vnd.example/b"),
    ],
)
def test_A5_A6_A7_what_is_not_implied(held, required):
    """An ability without listed implications allows only itself."""
    assert not satisfies(held, required)
    assert satisfies(held, held)
