"""Generator of the list of variables in `spec/operations/running.md` that direct programs."""

from pages.marked import with_part
from tests_support import REPOSITORY

from sealspace.cli.use.variable_families import FAMILIES

PAGE = REPOSITORY / "spec" / "operations" / "running.md"


def page() -> str:
    """Return the page with the current list."""
    return with_part(PAGE.read_text("utf-8"), "variables", table())


def table() -> str:
    """Return the table, with a row for each family of variables."""
    rows = ["| variables of | names, and how names begin |", "|---|---|"]
    for family in FAMILIES:
        names = [f"`{pattern.replace('*', '…')}`" for pattern in family.patterns]
        rows.append(f"| {family.what} | {' '.join(names)} |")
    return "\n".join(rows) + "\n"
