"""spec/operations/commands.md is what its script writes."""

import cli_page


def test_the_page_is_up_to_date() -> None:
    """The page of commands is the one that the commands and the table of exit statuses make."""
    assert cli_page.PAGE.read_text("utf-8") == cli_page.page(), "run `python tests/cli_page.py`"
