"""The generated part of a page that is otherwise written by hand, between two comments.

<!-- generated: NAME (make pages) --> <!-- end of NAME -->
"""


def with_part(text: str, name: str, part: str) -> str:
    """Return the text of a page with a new part of this name.

    Raises:
        ValueError: the page has not exactly one pair of markers of this name.
    """
    first, last = f"<!-- generated: {name} (make pages) -->\n", f"<!-- end of {name} -->\n"
    before, *rest = text.split(first)
    if len(rest) != 1 or rest[0].count(last) != 1:
        raise ValueError(f"the page needs the markers of `{name}` once")
    return f"{before}{first}{part}{last}{rest[0].partition(last)[2]}"
