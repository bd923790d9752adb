"""The tree of settings and the table that is made of it."""

from node.cli.settings_table import markdown_table, settings
from node.config.loading import load_config
from node.config.tree import Release


def test_every_setting_is_documented() -> None:
    """Every setting has a sentence that ends with a full stop, and a row of the table."""
    rows = settings()
    assert [row.path for row in rows if not row.description.endswith(".")] == []
    assert all(f"`{row.path}` | `{row.variable}`" in markdown_table() for row in rows)
    assert {"release.attestation", "http.port"} <= {row.path for row in rows}


def test_table_variables_work() -> None:
    """The variable that the table names sets the setting."""
    (row,) = [row for row in settings() if row.path == "release.attestation"]
    assert Release(attestation="off") == load_config(environment={row.variable: "off"}).release
