"""Recorded cases of SQL caveats that this node answers differently on purpose, with the reasons.

A reason is a rule of `spec/sql-caveats.md` or `spec/capabilities.md`.
"""

from conformance.differences import Difference

_NOT_GRANTED = (401, "Cannot find parent delegation")
_READS = '{"columns":["id"],"rowCount":3,"rows":[[1],[2],[3]]}'
_ONE = '{"columns":["1"],"rowCount":1,"rows":[[1]]}'
_NOTHING = '{"columns":["id"],"rowCount":0,"rows":[]}'


def _no_access(to: str) -> tuple[int, str]:
    return 403, f"Permission denied: Access to {to} is not allowed"


_DIFFERENCES: dict[str, tuple[str, tuple[int, str]]] = {
    # A caveat of a grant limits what it says.
    "caveat-plain-other-table": ("SQ21", _no_access("table 'private'")),
    "caveat-plain-write": ("SQ22", (403, "Read-only violation")),
    "caveat-plain-export": ("SQ25", (403, "sql-export-blocked")),
    "caveat-fixed-on-kv": ("SQ23", (200, _ONE)),
    "caveat-fixed-other-db": ("SQ23", (200, _ONE)),
    # A caveat that is not understood is not granted, so the call cites an unknown delegation.
    "caveat-fixed-wrapped": ("D32", _NOT_GRANTED),
    "caveat-fixed-read-only-false": ("D32", _NOT_GRANTED),
    "caveat-fixed-malformed": ("D32", _NOT_GRANTED),
    "caveat-fixed-mode-unknown": ("D32", _NOT_GRANTED),
    "caveat-fixed-value-array": ("D32", _NOT_GRANTED),
    "caveat-fixed-index-negative": ("D32", _NOT_GRANTED),
    # Values are bound, so no text is refused.
    "caveat-fixed-semicolon": ("SQ26", (200, _NOTHING)),
    "caveat-fixed-dashes": ("SQ26", (200, _NOTHING)),
    "caveat-fixed-pragma": ("SQ27", (403, "sql-raw-query-blocked")),
    # SQLite resolves names, and one cause has one answer.
    "fact-table-subquery": ("SQ21", _no_access("table 'private'")),
    "fact-table-cte-name": ("SQ21", (200, _READS)),
    "fact-table-quoted": ("SQ21", (200, _READS)),
    "fact-table-case": ("SQ21", (200, _READS)),
    "fact-table-view": ("SQ21", _no_access("table 'notes'")),
    "fact-column-star": ("SQ21", _no_access("column 'id'")),
    "fact-column-where": ("SQ21", _no_access("column 'id'")),
    "fact-column-count": ("SQ21", _no_access("the rows of table 'notes'")),
    "fact-column-insert": ("SQ22", _no_access("the rows of table 'notes'")),
    # A limit that an invoker sets itself is never ignored.
    "fact-snake": ("SQ24", (403, "sql-caveat-unknown")),
    "fact-first-wins": ("SQ24", (403, "Read-only violation")),
}
SQL_CAVEAT_DIFFERENCES = {
    f"sql.{name}": Difference(reason, *answer) for name, (reason, answer) in _DIFFERENCES.items()
}
