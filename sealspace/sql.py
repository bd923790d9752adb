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
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import structs

from capabilities.abilities import SQL_ADMIN, SQL_READ, SQL_SCHEMA, SQL_WRITE
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import SpaceId, root_of
from capabilities.tokens import Capability

from .errors import InvalidInput, SqlRefused
from .kv import MAX_STREAM_BYTES
from .session import covers, space_capability
from .wire.caller import Caller
from .wire.node_answers import Decoded, decoded
from .wire.sign_in import SQL_ABILITIES
from .wire.transfers import save, unbroken_pieces
from .wire.transport import Progress, Request

__all__ = ["Changes", "Rows", "Sql", "SqlValue", "Statement"]

SqlValue = bool | int | float | str | bytes | None
"""A value in a database, which stores a `bool` as 0 or 1."""

Statement = str | tuple[str, Sequence[SqlValue]]
"""The text of a statement, alone or with the values of its parameters."""

BLANK = r"(?>[\s;]|--.*|/\*[\s\S]*?\*/)*+"
"""Pattern of white space, semicolons and comments."""

_CHANGE = re.compile(BLANK + r"(delete|insert|pragma|replace|update)\b", re.IGNORECASE)
_CHANGE_ABILITIES = (SQL_WRITE, SQL_SCHEMA, SQL_ADMIN)


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
        rows = []
        for row in self.rows:
            cells = []
            for _, cell in zip(self.columns, row, strict=True):
                if isinstance(cell, list):  # in JSON, a blob is a list of numbers
                    cells.append(bytes(cell))
                else:
                    cells.append(cell)
            rows.append(tuple(cells))
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
        self, sql: str, params: Sequence[SqlValue] = (), *, read_only: bool = False
    ) -> Rows:
        """Run one statement, and return its rows.

        A database that does not exist is empty. Reading does not create it.

        Args:
            sql: the statement, with `?` for each value.
            params: the values of its parameters.
            read_only: whether to send only the right to read, so that the node refuses a statement
                that changes the database.
        Raises:
            SqlRefused: the statement is not valid, not allowed in any database, failed, took too
                long, or has a result of more than 10 MiB; or the request has more than 1 MB, in
                which a byte of a blob counts for up to five.
            InvalidInput: a value is not of a type that a database stores.
            NotGranted, Unauthorized: the session may not run this statement.
            SpaceNotFound: the node does not host the space.
        """
        changes = not read_only and _CHANGE.match(sql) is not None
        return await self._run(_ROWS, changes=changes, action="query", sql=sql, params=params)

    async def execute(self, sql: str, params: Sequence[SqlValue] = ()) -> Changes:
        """Run one statement that has no rows, such as INSERT or CREATE TABLE.

        The change is durable when the call returns. The first change creates the database.

        Args:
            sql: the statement, with `?` for each value.
            params: the values of its parameters.
        Raises:
            QuotaExceeded: the space has no room for the change.
            SealspaceError: the same errors as `query`.
        """
        return await self._run(_CHANGES, changes=True, action="execute", sql=sql, params=params)

    async def batch(self, statements: Sequence[Statement]) -> tuple[Changes, ...]:
        """Run several statements without rows in one transaction.

        The changes are durable when the call returns. If one statement fails, none takes effect.

        Returns:
            The changes of each statement, in the order of the statements.
        Raises:
            QuotaExceeded: the space has no room for the changes.
            SealspaceError: the same errors as `query`.
        """
        entries = []
        for statement in statements:
            params: Sequence[SqlValue] = ()
            if isinstance(statement, str):
                sql = statement
            else:
                sql, params = statement
            entries.append({"sql": sql, "params": params})
        answer = await self._run(_RESULTS, changes=True, action="batch", statements=entries)
        return answer.results

    async def execute_statement(self, name: str, params: Sequence[SqlValue] = ()) -> Rows:
        """Run a statement that a grant names.

        The conditions of a grant can list statements (spec/sql.md); others are then refused.

        Args:
            name: name of the statement in the grant.
            params: the values of the parameters that the grant does not set.
        Raises:
            NotGranted: the session has no grant for this database.
            SealspaceError: the same errors as `query`.
        """
        return await self._run(
            _ROWS, changes=False, action="executeStatement", name=name, params=params
        )

    async def export(
        self,
        to: str | Path | BinaryIO,
        *,
        progress: Progress | None = None,
        max_bytes: int = MAX_STREAM_BYTES,
    ) -> int:
        """Write a copy of the database to a file, which SQLite can open.

        Args:
            to: a path, or an open binary file. The file at the path is replaced atomically at the
                end, by one of mode 0600.
            progress: called with the bytes so far and the total.
            max_bytes: largest accepted copy.
        Returns:
            The size of the copy in bytes.
        Raises:
            NotFound: the database does not exist.
            TransferBroken: the copy was cut off; the file at the path is unchanged.
            OSError: the file cannot be written.
            InvalidInput: the path is not a regular file.
            SealspaceError: the same errors as `query`.
        """
        request = Request(body=b'{"action":"export"}', max_answer_bytes=max_bytes)
        invocation = await self._caller.invocation(await self._rights(changes=False), request)
        with closing(await self._caller.transport.stream(invocation)) as stream:
            await save(unbroken_pieces(stream), stream, to, progress, mode=0o600)
            return stream.moved_bytes

    async def _run(
        self, decoder: "msgspec.json.Decoder[Decoded]", *, changes: bool, **body: object
    ) -> Decoded:
        """Send a request to the database, and decode its answer.

        Args:
            decoder: reads the answer.
            changes: whether to send the rights to change the database.
            body: the members of the request.
        """
        try:
            # In JSON, bytes become a list of numbers.
            text = json.dumps(body, default=lambda blob: [*memoryview(blob)], allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InvalidInput(
                "a parameter has a value that a database cannot store",
                hint="pass None, a bool, an int, a finite float, a str or bytes",
            ) from exc
        wanted = await self._rights(changes=changes, name=body.get("name"))
        # With a token that may only read, the node runs no statement that writes, so the request
        # may be repeated.
        only_reads = wanted[0].ability == SQL_READ
        request = Request(body=text.encode(), repeatable=only_reads)
        answer = await self._caller.invoke(wanted, request)
        # Two of the refusals with status 403 are not about rights, but about the statement.
        is_about_statement = answer.body.startswith(
            (b"Permission denied: ATTACH ", b"Permission denied: Statement type ")
        )
        if answer.status in (400, 413) or is_about_statement:
            raise SqlRefused(answer.status, answer.refusal().text, asked=answer.asked)
        return decoded(decoder, answer.require(), "the result of a statement")

    async def _rights(self, *, changes: bool, name: object = None) -> list[Capability]:
        """Return the capabilities of a request: one to read, or all that allow changes.

        A token has to repeat the conditions of its grants (I35). Grants whose conditions contain
        the statement `name` are preferred, then grants without conditions.
        """
        if "sql" not in (await self._caller.info()).features:
            raise InvalidInput(
                "this node has no SQL databases",
                hint="use a node that stores its data in a folder, not in PostgreSQL",
            )
        abilities = _CHANGE_ABILITIES if changes else SQL_ABILITIES
        plain = [
            space_capability(self._space, "sql", self._database, ability) for ability in abilities
        ]
        usable = self._usable_rights(plain)
        if not usable:
            return plain[:1]  # the request raises an error that names this capability
        usable.sort(key=partial(_preference, name))
        if not changes:
            return usable[:1]
        preferred_by_ability: dict[str, Capability] = {}
        for capability in usable:
            preferred_by_ability.setdefault(capability.ability, capability)
        return list(preferred_by_ability.values())

    def _usable_rights(self, plain: Sequence[Capability]) -> list[Capability]:
        """Return those of the capabilities that the session has, once for each grant's conditions.

        `plain` are the capabilities without conditions.
        """
        session = self._caller.session
        granted: list[Capability] = []
        if root_of(plain[0].resource) == session.did:
            granted.extend(plain)
        else:
            now = self._caller.clock.now()
            for grant in session.grants:
                if grant.is_live(now):
                    granted.extend(grant.capabilities)
        usable_rights = []
        for capability in plain:
            for right in granted:
                wanted = structs.replace(capability, caveats=right.caveats)
                if covers(right, wanted):
                    usable_rights.append(wanted)
        return usable_rights


def _preference(name: object, capability: Capability) -> tuple[bool, int]:
    """Return the sort key of a capability; the preferred capability is the smallest.

    Conditions that contain the statement `name` come first, then those with fewer conditions.
    """
    statement = msgspec.json.encode({"name": name})[1:-1]  # `"name":"…"`, without the braces
    lacks_statement = statement not in msgspec.json.encode(capability.caveats)
    return lacks_statement, len(capability.caveats)
