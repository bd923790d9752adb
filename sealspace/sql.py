"""A client for the SQLite databases of a space.

A space has any number of databases, each with a name. The first write creates a database. Each
request is one transaction: all of its statements take effect, or none.

Example:
    notes = client.sql("notes")
    await notes.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, photo BLOB)")
    added = await notes.execute("INSERT INTO note (text) VALUES (?)", ["buy milk"])
    assert added == Changes(changes=1, last_insert_row_id=1)
    insert = "INSERT INTO note VALUES (?, ?, ?)"
    await notes.batch([("DELETE FROM note WHERE id > ?", [1]), (insert, [2, "smile", b"PNG"])])
    found = await notes.query("SELECT id, photo FROM note ORDER BY id")
    assert found == Rows(columns=("id", "photo"), rows=((1, None), (2, b"PNG")))
    await notes.export("notes.sqlite")
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
from msgspec import structs

from capabilities.abilities import SQL_ADMIN, SQL_READ, SQL_SCHEMA, SQL_WRITE
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import SpaceId
from capabilities.tokens import Capability

from .errors import InvalidInput, SqlRefused
from .kv import MAX_STREAM_BYTES
from .session import covers, space_capability
from .wire.caller import Caller
from .wire.node_answers import decoded
from .wire.transfers import save, unbroken
from .wire.transport import Answer, Progress, Request, json_request

DEFAULT_DATABASE = "default"

__all__ = ["Changes", "Rows", "Sql", "SqlValue", "Statement"]

SqlValue: TypeAlias = bool | int | float | str | bytes | None
"""A value in a database, which stores a `bool` as 0 or 1."""

Statement: TypeAlias = str | tuple[str, Sequence[SqlValue]]
"""The text of a statement, alone or with the values of its parameters."""

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_ABILITIES = {
    "pragma": (SQL_ADMIN,),
    **dict.fromkeys(("delete", "insert", "replace", "update"), (SQL_WRITE,)),
}


class Rows(FrozenStruct):
    """The result of a query.

    Attributes:
        columns: names of the columns; two columns can have the same name.
        rows: the rows, each with a value (`SqlValue`) for each column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        """Convert blobs to bytes, and check the number of values in each row."""
        rows = (
            tuple(
                bytes(cell) if isinstance(cell, list) else cell
                for _, cell in zip(self.columns, row, strict=True)
            )
            for row in self.rows
        )
        structs.force_setattr(self, "rows", tuple(rows))


class Changes(FrozenStruct, rename="camel"):
    """The result of a statement without rows.

    Attributes:
        changes: number of rows that were inserted, changed or deleted.
        last_insert_row_id: id of the inserted row; None if no row was inserted.
    """

    changes: int
    last_insert_row_id: int | None


class _Results(msgspec.Struct):
    results: tuple[Changes, ...]


_WHAT = "the result of a statement"
_ROWS = msgspec.json.Decoder(Rows)
_CHANGES = msgspec.json.Decoder(Changes)
_RESULTS = msgspec.json.Decoder(_Results)


class Sql:
    """A client for one database of a space.

    Use `Client.sql` to get an instance.

    Args:
        caller: connection and session.
        space: the space.
        database: name of the database; it may contain `/`.
    """

    def __init__(self, caller: Caller, space: SpaceId, database: str) -> None:
        self._caller = caller
        self._space = space
        self._database = database

    async def query(
        self,
        sql: str,
        params: Sequence[SqlValue] = (),
        *,
        max_rows: int | None = None,
        max_bytes: int | None = None,
    ) -> Rows:
        """Run one statement, and return its rows.

        A database that does not exist is empty. Reading does not create it.

        Args:
            sql: the statement, with `?` for each value.
            params: the values of its parameters.
            max_rows: most rows that the node may send, 1 to 1000; None: no limit.
            max_bytes: longest answer that the node may send, at most 4 MiB; None: 10 MiB.
        Raises:
            SqlRefused: the statement is not valid, or failed.
            ValueTooLarge: the result is larger than the limits.
            InvalidInput: a value is not of a type that a database stores.
            NotGranted, Unauthorized: the session may not run this statement.
            SpaceNotFound: the node does not host the space.
        """
        asked = {
            "action": "query",
            "sql": sql,
            "params": params,
            "maxRows": max_rows,
            "maxBytes": max_bytes,
        }
        wanted = await self._rights([sql], SQL_READ, SQL_WRITE)
        return decoded(_ROWS, await self._answer(asked, wanted), _WHAT)

    async def execute(self, sql: str, params: Sequence[SqlValue] = ()) -> Changes:
        """Run one statement that has no rows, such as INSERT or CREATE TABLE.

        The change is durable when the call returns. The first change creates the database.

        Args:
            sql: the statement, with `?` for each value.
            params: the values of its parameters.
        Raises:
            QuotaExceeded: the space has no room for the change.
            SealspaceError: as `query`.
        """
        asked = {"action": "execute", "sql": sql, "params": params}
        wanted = await self._rights([sql], SQL_WRITE, SQL_SCHEMA)
        return decoded(_CHANGES, await self._answer(asked, wanted), _WHAT)

    async def batch(self, statements: Sequence[Statement]) -> tuple[Changes, ...]:
        """Run several statements without rows in one transaction.

        The changes are durable when the call returns. If one statement fails, none takes effect.

        Raises:
            SealspaceError: as `execute`.
        """
        pairs = [(one, ()) if isinstance(one, str) else one for one in statements]
        asked = [{"sql": sql, "params": params} for sql, params in pairs]
        wanted = await self._rights([sql for sql, _ in pairs], SQL_WRITE, SQL_SCHEMA)
        answer = await self._answer({"action": "batch", "statements": asked}, wanted)
        return decoded(_RESULTS, answer, _WHAT).results

    async def execute_statement(self, name: str, params: Sequence[SqlValue] = ()) -> Rows | Changes:
        """Run a statement that a grant names.

        The conditions of a grant can list statements (spec/sql.md); others are then refused.

        Args:
            name: name of the statement in the grant.
            params: the values of the parameters that the grant does not set.
        Raises:
            NotGranted: the session has no grant for this database.
            SealspaceError: as `query`.
        """
        body = {"action": "executeStatement", "name": name, "params": params}
        wanted = await self._rights(
            (), SQL_READ, SQL_WRITE, named=b'"name":' + msgspec.json.encode(name)
        )
        answer = await self._answer(body, wanted)
        # The result of a statement without rows has no text, so it cannot contain this one.
        if b'"columns"' in answer.body:
            return decoded(_ROWS, answer, _WHAT)
        return decoded(_CHANGES, answer, _WHAT)

    async def export(
        self,
        to: str | Path | BinaryIO,
        *,
        progress: Progress | None = None,
        max_bytes: int = MAX_STREAM_BYTES,
    ) -> int:
        """Write a copy of the database to a file, which SQLite can open.

        Args:
            to: a path, which is replaced atomically at the end, or an open binary file.
            progress: called with the bytes so far and the total.
            max_bytes: largest accepted copy.
        Returns:
            The size of the copy in bytes.
        Raises:
            NotFound: the database does not exist.
            TransferBroken: the copy was cut off; the file at the path is unchanged.
            OSError: the file cannot be written.
            InvalidInput: the path is not a regular file.
            SealspaceError: as `query`.
        """
        request = replace(_request({"action": "export"}), max_answer_bytes=max_bytes)
        asked = await self._caller.invocation(await self._rights((), SQL_READ, SQL_WRITE), request)
        with closing(await self._caller.transport.stream(asked)) as stream:
            await save(stream, to, progress, unbroken)
            return stream.moved_bytes

    async def _answer(self, body: Mapping[str, object], wanted: Sequence[Capability]) -> Answer:
        # The node runs no statement that writes for a token that may only read.
        only_reads = all(one.ability == SQL_READ for one in wanted)
        answer = await self._caller.invoke(wanted, replace(_request(body), repeatable=only_reads))
        if answer.status == 400:
            raise SqlRefused(400, answer.refusal().text, asked=answer.asked)
        if answer.status == 413:
            refusal = answer.refusal()
            refusal.hint = refusal.step = (
                "select fewer rows or columns, or send a shorter statement"
            )
            raise refusal
        return answer.require()

    async def _rights(
        self, statements: Sequence[str], *others: str, named: bytes = b""
    ) -> list[Capability]:
        """Return the capabilities for statements, by their first words (I35).

        For words without an ability of their own, the session needs one of `others`. A token has to
        repeat the conditions of its grant. Grants whose conditions contain `named` are preferred,
        then grants without conditions.
        """
        if "sql" not in (await self._caller.info()).features:
            raise InvalidInput(
                "this node has no SQL databases",
                hint="use a node that stores its data in a folder, not in PostgreSQL",
            )
        now, session = self._caller.clock.now(), self._caller.session
        granted = [
            one for grant in session.grants if grant.is_live(now) for one in grant.capabilities
        ]
        words = (without_comments(sql).lower().partition(" ")[0] for sql in statements)
        found = []
        for abilities in dict.fromkeys(_ABILITIES.get(word, others) for word in words) or (others,):
            plain = [space_capability(self._space, "sql", self._database, one) for one in abilities]
            held = [
                wanted
                for one in plain
                for have in granted
                if covers(have, wanted := structs.replace(one, caveats=have.caveats))
            ]
            found.append(
                min(
                    held,
                    key=lambda one: (
                        named not in msgspec.json.encode(one.caveats),
                        len(one.caveats),
                    ),
                    default=plain[0],
                )
            )
        return found


def without_comments(sql: str) -> str:
    """Remove the comments of a statement, and make its white space single blanks.

    Quoted texts are changed too.
    """
    return " ".join(_COMMENT.sub(" ", sql).split())


def _request(body: Mapping[str, object]) -> Request:
    try:
        # Bytes become a list of numbers.
        text = json.dumps(body, default=lambda blob: [*memoryview(blob)], allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InvalidInput(
            "a parameter has a value that a database cannot store",
            hint="pass None, a bool, an int, a finite float, a str or bytes",
        ) from exc
    return json_request("POST", "/invoke", text.encode())
