"""Generator of the table of series in `spec/operations/runner.md`, from the runner's metrics."""

from pages.marked import with_part
from tests_support import REPOSITORY

from runner.http.runner_metrics import SERIES

PAGE = REPOSITORY / "spec" / "operations" / "runner.md"


def page() -> str:
    """Return the page with the current table."""
    return with_part(PAGE.read_text("utf-8"), "runner-series", table())


def table() -> str:
    """Return the table, with a row for each series."""
    rows = ["| series | type | label | |", "|---|---|---|---|"]
    for series in SERIES:
        label = f"`{series.label}`" if series.label else ""
        rows.append(f"| `{series.name}` | {series.kind} | {label} | {series.help} |")
    return "\n".join(rows) + "\n"
