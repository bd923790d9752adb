"""The parts of a request to a database, and the effects of its statements (SQ4)."""

from typing import Any

from msgspec import Struct, field

from capabilities.frozen_struct import FrozenStruct

MAX_SQL_BYTES = 1_000_000
MAX_ANSWER_BYTES = 10_485_760

SqlValue = int | float | str | bytes | None


class Statement(Struct):
    """A statement with its parameters."""

    sql: str
    params: list[Any] = []


class Query(Statement, tag_field="action", tag="query"):
    """A statement that returns rows.

    Attributes:
        max_rows: the most rows that the answer may have; None means unlimited.
        max_bytes: the largest size of the answer; None means MAX_ANSWER_BYTES.
    """

    max_rows: int | None = field(default=None, name="maxRows")
    max_bytes: int | None = field(default=None, name="maxBytes")


class Execute(Statement, tag_field="action", tag="execute"):
    """A statement that returns no rows.

    Attributes:
        schema: statements that define tables, and run before it.
    """

    schema: list[str] = []


class Batch(Struct, tag_field="action", tag="batch"):
    """Statements that return no rows, to be run in one transaction."""

    statements: list[Statement]


class Changed(FrozenStruct, rename="camel"):
    """The effect of one statement.

    Attributes:
        changes: the number of rows that it inserted, changed or deleted.
        last_insert_row_id: the id of the last row that it inserted, or None.
    """

    changes: int
    last_insert_row_id: int | None
