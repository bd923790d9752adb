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
    """A statement whose rows are returned, with limits on the answer."""

    max_rows: int | None = field(default=None, name="maxRows")
    max_bytes: int | None = field(default=None, name="maxBytes")


class Execute(Statement, tag_field="action", tag="execute"):
    """A statement without rows, after statements that define tables."""

    schema: list[str] = []


class Batch(Struct, tag_field="action", tag="batch"):
    """Statements without rows."""

    statements: list[Statement]


class Changed(FrozenStruct, rename="camel"):
    """The effect of one statement."""

    changes: int
    last_insert_row_id: int | None
