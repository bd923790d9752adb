"""The rows of a run, as a table or as JSON."""

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass

PASSED = "passed"
FAILED = "failed"
NOT_APPLICABLE = "not applicable"
_MOST_SEEN = 300


@dataclass(frozen=True)
class Row:
    """The verdict on one request or comparison.

    Attributes:
        rule: the rule's id in `spec/`, or a section such as `4.4.1`.
        group: the group of checks.
        asked: what the kit sent.
        expected: what the rule demands.
        seen: what the node answered, shortened; for a row that is not applicable, the reason.
        verdict: `passed`, `failed` or `not applicable`.
    """

    rule: str
    group: str
    asked: str
    expected: str
    seen: str
    verdict: str


def shown(text: str) -> str:
    """Return foreign text for a terminal: one line, shortened, without control characters."""
    cut = text[:_MOST_SEEN]
    printable = "".join(c if c.isprintable() else "�" for c in cut)
    return printable + ("…" if len(text) > _MOST_SEEN else "")


def exit_status(rows: Sequence[Row]) -> int:
    """Return 1 if a row failed, else 0."""
    return 1 if any(row.verdict == FAILED for row in rows) else 0


def summary(rows: Sequence[Row]) -> str:
    """Return the number of rows of each verdict."""
    counts = [
        f"{sum(row.verdict == verdict for row in rows)} {verdict}"
        for verdict in (PASSED, FAILED, NOT_APPLICABLE)
    ]
    return f"{len(rows)} rows: {', '.join(counts)}"


def as_json(subject: str, rows: Sequence[Row]) -> str:
    """Return the rows as a JSON document."""
    document = {
        "type": "sealspace.conformance/v1",
        "subject": subject,
        "summary": {
            verdict: sum(row.verdict == verdict for row in rows)
            for verdict in (PASSED, FAILED, NOT_APPLICABLE)
        },
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def print_table(rows: Sequence[Row], *, every: bool) -> None:
    """Print the rows, what was seen below those that did not pass; `every`: below all."""
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            print(f"\n{group}")
        print(f"  {row.verdict:<14}  {row.rule:<7}  {row.asked}")
        if every or row.verdict == FAILED:
            _print_detail("expected", row.expected, width)
            _print_detail("seen", row.seen, width)
        elif row.verdict == NOT_APPLICABLE:
            _print_detail("why", row.seen, width)
    print(f"\n{summary(rows)}")
    sys.stdout.flush()


def _print_detail(label: str, text: str, width: int) -> None:
    indent = " " * 27
    first = f"{indent}{label}: "
    wrapped = textwrap.wrap(
        text or "(empty)", width=width, initial_indent=first, subsequent_indent=indent + "  "
    )
    print("\n".join(wrapped))
