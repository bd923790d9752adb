"""Generator of the table of reasons in `spec/runner.md`, from the runner's own table."""

from pages.marked import with_part
from tests_support import REPOSITORY

from runner.reasons import REASONS

PAGE = REPOSITORY / "spec" / "runner.md"


def page() -> str:
    """Return the page with the current table."""
    rows = [
        f"| `{one.code}` | {'yes' if one.ran else 'no'} | {one.sentence} |"
        for one in REASONS.values()
    ]
    table = ["| code | started | what happened |", "|---|---|---|", *rows]
    return with_part(PAGE.read_text("utf-8"), "reasons", "\n".join(table) + "\n")
