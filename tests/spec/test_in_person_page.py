"""spec/in-person.md is the page that the table of the tests makes now."""

import in_person_page


def test_the_page_is_up_to_date() -> None:
    """The committed page is the generated one."""
    assert in_person_page.PAGE.read_text("utf-8") == in_person_page.page(), "run `python tests/in_person_page.py`"
