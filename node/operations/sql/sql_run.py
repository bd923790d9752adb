"""The operation that runs SQL statements in a database of a space (SQ11 to SQ15).

A write is authorised, run without committing, recorded in the store on condition that no delegation
was revoked, and then committed in its database.
"""

from functools import partial

import msgspec

from capabilities.capability_errors import SqlRefused
from capabilities.frozen_struct import FrozenStruct
from spaces.keyspace import space_keys
from spaces.space_errors import (
    SpaceError,
    SqlAdminNeeded,
    SqlForbidden,
    SqlQuotaExceeded,
)
from spaces.sql.connection import MAX_SQL_BYTES, Changed, Connection
from spaces.sql.database_rows import (
    DATABASE_ROWS,
    MAX_DATABASES,
    DatabaseName,
    database_put,
    databases_of,
)
from spaces.sql.databases import DatabaseCopy, Databases
from spaces.sql.guard import ONLY_DEFINES, READ, SCHEMA, Guard, WriteNeeded
from spaces.store.contract import Add, Commit, Put, counter_of, has_value
from spaces.values.quota import effective_limit

from ...refusal import Refusal
from ..attempts import until_committed
from ..authorise import Call, read_call
from ..values.kv_commit import durable_replay_record, paths_detail
from ..values.plan import Request
from .sql_request import (
    Batch,
    Execute,
    Export,
    Permit,
    Query,
    SqlRequest,
    Statement,
    database_of,
    parse_request,
    permits_of,
    value_of,
)

_ENCODE = msgspec.json.Encoder().encode


class _Reading(FrozenStruct):
    """The authorisation of a request, and the rows that it depends on.

    Attributes:
        old_bytes: the size of the database, or None if it does not exist.
        databases: the number of databases in the space.
    """

    call: Call
    old_bytes: int | None
    used_bytes: int
    limit_bytes: int | None
    databases: int


async def run_sql(request: Request) -> bytes | DatabaseCopy:
    """Run the statements of a request, or export a database (SQ11, SQ13).

    Returns:
        The answer as JSON, or the exported file.

    Raises:
        SqlError, Refusal: the request is not valid or not allowed.
        Errors of `read_call` and `Databases.use`.
    """
    services = request.services
    try:
        name = database_of(request.invocation)
        if services.databases is None:
            raise Refusal("not-enabled", "SQL")
    except (Refusal, SpaceError):
        (await read_call(services, request.invocation)).require_hosted()  # its errors come first
        raise
    reading = await _read(request, name, records_use=True)
    body = await request.message.whole_body(MAX_SQL_BYTES)
    if body is None:
        raise Refusal("sql-too-large", MAX_SQL_BYTES)
    work, refused = parse_request(body), list[Exception]()
    for permit in permits_of(request.invocation, name):  # SQ23
        try:
            applied = permit.applied(work)
            run = _Run(request, services.databases, name, applied, permit, reading)
            return await run.answer()
        except (SqlForbidden, SqlRefused) as exc:
            refused.append(exc)
    if isinstance(refused[0], SqlAdminNeeded):
        resource = f"{name.space.text}/sql/{name.path}"
        raise Refusal("sql-admin-needed", resource)
    raise refused[0]


async def _read(request: Request, name: DatabaseName, *, records_use: bool) -> _Reading:
    """Authorise a request, and read the rows of its database and quota."""
    services, space = request.services, name.space
    own = space_keys(space)
    call = await read_call(
        services,
        request.invocation,
        (name.key, own.usage, own.override),
        (databases_of(space),),
        records_use=records_use,
    )
    call.require_hosted()
    record, usage, override = call.records
    row = DATABASE_ROWS.read(record)
    return _Reading(
        call,
        None if row is None else row.size_bytes,
        counter_of(usage),
        effective_limit(space, override, services.quota),
        sum(has_value(found) for _, found in call.pages[0].rows),
    )


class _Run(FrozenStruct):
    """One request and what it needs."""

    request: Request
    databases: Databases
    name: DatabaseName
    work: SqlRequest
    permit: Permit
    reading: _Reading

    async def answer(self) -> bytes | DatabaseCopy:
        if isinstance(self.work, Export):
            return await self._export()
        if isinstance(self.work, Query) or SCHEMA not in self.permit.rights:
            try:
                exists = self.reading.old_bytes is not None
                is_gone = self.request.message.is_gone
                async with self.databases.use(self.name, is_gone, exists=exists) as connection:
                    return await self.databases.run(connection, self._read_rows)
            except WriteNeeded:
                pass
        return await self._write()

    def _read_rows(self, connection: Connection) -> bytes:
        time_s = self.request.services.config.sql.read_s
        connection.begin(writes=False, time_s=time_s)
        return self._run(connection)[0]

    async def _write(self) -> bytes:
        """Run the statements in a transaction for writing (SQ12)."""
        services, name, run = self.request.services, self.name, self.databases.run
        use = partial(self.databases.use, name, self.request.message.is_gone)
        exists = self.reading.old_bytes is not None
        if not exists:
            # Nothing is created for statements that fail.
            async with use(exists=False) as trial:
                await run(trial, partial(self._change_rows, reading=self.reading))
        async with use(exists=exists, creates=not exists) as connection:

            async def attempt(_: bool) -> tuple[Commit, bytes]:
                # A commit checks revocations, but only a read checks time windows (I33).
                reading = await _read(self.request, name, records_use=False)
                work = partial(self._change_rows, reading=reading)
                body, size_bytes, tables = await run(connection, work)
                adds = tuple[Add, ...]()
                if size_bytes > (reading.old_bytes or 0) and reading.limit_bytes is not None:
                    usage = space_keys(name.space).usage
                    adds = (Add(usage, 0, at_most=reading.limit_bytes),)
                detail, row = paths_detail(sorted(tables)), database_put(name, size_bytes)
                return self._commit(reading.call, "sql.write", detail, adds, row), body

            body = await until_committed(services, attempt)
            await run(connection, Connection.commit)
            return body

    async def _export(self) -> DatabaseCopy:
        """Copy the database for its caller (SQ13)."""
        if READ not in self.permit.rights:
            raise SqlForbidden(ONLY_DEFINES)
        if self.reading.old_bytes is None:
            raise Refusal("sql-no-database")

        async def attempt(_: bool) -> tuple[Commit, None]:
            reading = await _read(self.request, self.name, records_use=False)
            return self._commit(reading.call, "sql.export"), None

        await until_committed(self.request.services, attempt)
        return await self.databases.copy(self.name)

    def _commit(
        self, call: Call, action: str, detail: bytes = b"", adds: tuple[Add, ...] = (), *puts: Put
    ) -> Commit:
        """Return the commit that records an action, unless its authority was revoked."""
        services, name = self.request.services, self.name
        audit = call.audit(services, action, f"{name.space.text}/sql/{name.path}", detail)
        return Commit(
            puts=(*puts, audit),
            live=call.live,
            adds=adds,
            replay_record=durable_replay_record(services, call),
        )

    def _change_rows(
        self, connection: Connection, *, reading: _Reading
    ) -> tuple[bytes, int, set[str]]:
        """Run the statements without committing them.

        Return the answer, the size of the database and the names of the changed tables.
        """
        if reading.old_bytes is None and reading.databases >= MAX_DATABASES:
            raise Refusal("sql-too-many-databases")
        used_bytes, limit_bytes = reading.used_bytes, reading.limit_bytes
        free_bytes = None if limit_bytes is None else limit_bytes - used_bytes
        time_s = self.request.services.config.sql.write_s
        connection.begin(writes=True, time_s=time_s, free_bytes=free_bytes)
        try:
            body, tables = self._run(connection)
        except SqlQuotaExceeded:  # SQ14
            raise Refusal("quota-exceeded", used_bytes, limit_bytes) from None
        return body, connection.released_bytes(), tables

    def _run(self, connection: Connection) -> tuple[bytes, set[str]]:
        """Run the statements in the open transaction.

        Return the answer, and the names of the changed tables.
        """
        guard = Guard(self.permit.rights, self.permit.limits)

        def execute(one: Statement) -> Changed:
            return connection.execute(one.sql, guard, [*map(value_of, one.params)])

        match self.work:
            case Query(sql, params, max_rows, max_bytes):
                values = map(value_of, params)
                body = connection.query(sql, guard, [*values], max_rows, max_bytes)
            case Execute(schema=schema):
                for text in schema:
                    connection.execute(text, guard)
                body = _ENCODE(execute(self.work))
            case Batch(statements):
                body = _ENCODE({"results": [execute(one) for one in statements]})
            case _:
                raise AssertionError(self.work)
        return body, guard.tables
