"""Generator of the table of series in `spec/operations/metrics.md`, from `node.metrics.series`."""

from pages.marked import with_part
from tests_support import REPOSITORY

from node.metrics.series import SERIES

PAGE = REPOSITORY / "spec" / "operations" / "metrics.md"


def page() -> str:
    """Return the page with the current table."""
    return with_part(PAGE.read_text("utf-8"), "series", table())


def table() -> str:
    """Return the table, with a row for each exported series."""
    rows = ["| series | type | labels | |", "|---|---|---|---|"]
    for series in SERIES:
        labels = [
            f"`{label}`" for label in (*series.labels, *(["process"] if series.writers else []))
        ]
        rows.append(f"| `{series.name}` | {series.kind} | {', '.join(labels)} | {series.help} |")
    return "\n".join(rows) + "\n"
