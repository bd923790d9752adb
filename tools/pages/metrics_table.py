"""The table of series in `spec/operations/metrics.md`, from `node.metrics.series`."""

from collections.abc import Iterator
from typing import Final

from pages.marked import with_part
from tests_support import REPOSITORY

from node.metrics.series import SERIES, Label, Series

PAGE: Final = REPOSITORY / "spec" / "operations" / "metrics.md"


def page() -> str:
    """Return the page with the table as it is now."""
    return with_part(PAGE.read_text("utf-8"), "series", table())


def table() -> str:
    """Return the table, a row for each series that is scraped."""
    rows = ["| series | type | labels | |", "|---|---|---|---|"]
    rows += [row for series in SERIES for row in _rows(series)]
    return "\n".join(rows) + "\n"


def _rows(series: Series) -> Iterator[str]:
    labels = series.labels
    if series.counted is not None:  # a counter keeps the last label, which its histogram loses
        name, text = series.counted
        yield _row(name, "counter", labels, (), text)
        labels = labels[:-1]
    yield _row(series.name, series.kind, labels, series.writers, series.help)


def _row(name: str, kind: str, labels: tuple[Label, ...], writers: tuple[str, ...], text: str) -> str:
    named = [f"`{label.name}`" for label in labels] + ["`process`"] * bool(writers)
    return f"| `{name}` | {kind} | {', '.join(named)} | {text} |"
