"""The operation that runs SQL statements in a database of a space (SQ11 to SQ15).

A write is authorised, run without committing, recorded in the store on condition that no delegation
was revoked, and then committed in its database.
"""

from functools import partial

import msgspec
from msgspec import Struct

from spaces.keyspace import space_keys
from spaces.space_errors import SpaceError, SqlAdminNeeded, SqlError, SqlQuotaExceeded
from spaces.sql.connection import MAX_ANSWER_BYTES, MAX_SQL_BYTES, Connection
from spaces.sql.database_rows import DATABASE_ROWS, MAX_DATABASES, database_put, databases_of
from spaces.sql.databases import Databases
from spaces.sql.guard import Guard, WriteNeeded
from spaces.store.contract import ABSENT, ANY, Add, Commit, counter_of, has_value
from spaces.values.quota import effective_limit

from ...refusal import Refusal
from ..attempts import until_committed
from ..authorise import Call, read_call
from ..values.kv_commit import durable_replay_record, paths_detail, quota_exceeded
from ..values.plan import Request
from .sql_request import (
    Batch,
    Execute,
    Export,
    Named,
    Query,
    Scope,
    SqlRequest,
    parse_request,
    scope_of,
    statement_of,
)

_FRESH_S = 1.0
_ENCODE = msgspec.json.Encoder().encode


class SqlAnswer(Struct, frozen=True):
    """The answer to an SQL request, as JSON."""

    body: bytes


class _Reading(Struct, frozen=True):
    """The rows that a request depends on, with its authorisation."""

    call: Call
    exists: bool
    old_bytes: int
    used_bytes: int
    limit_bytes: int | None
    databases: int

    @property
    def free_bytes(self) -> int | None:
        return None if self.limit_bytes is None else self.limit_bytes - self.used_bytes


async def run_sql(request: Request) -> SqlAnswer:
    """Run the statements of a request (SQ11).

    Raises:
        SqlError, Refusal: see `refusals.md`.
        Errors of `read_call`.
    """
    services = request.services
    databases = services.databases
    if databases is None:
        await _authorise(request)
        raise Refusal("not-enabled", "SQL")
    try:
        scope = scope_of(request.invocation)
    except (Refusal, SpaceError):
        await _authorise(request)  # its refusals come first
        raise
    began = services.clock.now()
    reading = await _read(request, scope, records_use=True)
    whole = await request.message.whole_body(MAX_SQL_BYTES)
    if whole is None:
        raise Refusal("sql-too-large", MAX_SQL_BYTES)
    work = parse_request(whole)
    judge_caveats(reading.call, work)
    try:
        return await _Run(request, databases, scope, work, reading, began).answer()
    except SqlAdminNeeded:
        name = scope.name
        raise Refusal("sql-admin-needed", f"{name.space.text}/sql/{name.path}") from None


def judge_caveats(call: Call, work: SqlRequest) -> None:
    """Check the caveats of the grant against a request.

    Raises:
        SqlError: no caveat lists statements, so there is none to run by name.
    """
    if isinstance(work, Named):
        raise SqlError("Invalid statement: No caveats found")


async def _authorise(request: Request) -> None:
    call = await read_call(request.services, request.invocation)
    call.require_hosted()


async def _read(request: Request, scope: Scope, *, records_use: bool) -> _Reading:
    """Authorise a request, and read the rows of its database and quota."""
    services, name = request.services, scope.name
    own = space_keys(name.space)
    call = await read_call(
        services,
        request.invocation,
        (name.key, own.usage, own.override),
        (databases_of(name.space),),
        records_use=records_use,
    )
    call.require_hosted()
    record, usage, override = call.records
    row = DATABASE_ROWS.read(record)
    return _Reading(
        call,
        row is not None,
        0 if row is None else row.size_bytes,
        counter_of(usage),
        effective_limit(name.space, override, services.quota),
        sum(has_value(found) for _, found in call.pages[0].rows),
    )


class _Run(Struct, frozen=True):
    """One request and what it needs."""

    request: Request
    databases: Databases
    scope: Scope
    work: SqlRequest
    reading: _Reading
    began: float

    async def answer(self) -> SqlAnswer:
        work = self.work
        if isinstance(work, Export):
            raise Refusal("not-enabled", "export")
        reads = isinstance(work, Query) or self.scope.rights == {"read"}
        if reads:
            try:
                return await self._read_only()
            except WriteNeeded:
                pass
        return await self._write()

    async def _read_only(self) -> SqlAnswer:
        time_s = self.request.services.config.sql.read_s
        guard = Guard(self.scope.rights)

        def run(connection: Connection) -> bytes:
            connection.begin(writes=False, time_s=time_s)
            return self._run(connection, guard)

        async with self.databases.use(self.scope.name, exists=self.reading.exists) as database:
            return SqlAnswer(await database.run(run))

    async def _write(self) -> SqlAnswer:
        """Run the statements in a transaction for writing (SQ12)."""
        services, name = self.request.services, self.scope.name
        if not self.reading.exists:
            # Nothing is created for statements that fail.
            async with self.databases.use(name, exists=False) as trial:
                await trial.run(partial(self._attempt, reading=self.reading))
            if self.reading.databases >= MAX_DATABASES:
                raise Refusal("sql-too-many-databases")
        async with self.databases.use(
            name, exists=self.reading.exists, creates=not self.reading.exists
        ) as database:

            async def attempt(is_first: bool) -> tuple[Commit, SqlAnswer]:
                is_fresh = is_first and services.clock.now() - self.began <= _FRESH_S
                reading = (
                    self.reading
                    if is_fresh
                    else await _read(self.request, self.scope, records_use=False)
                )
                body, size_bytes, tables = await database.run(
                    partial(self._attempt, reading=reading)
                )
                call, growth = reading.call, size_bytes - reading.old_bytes
                adds = list[Add]()
                if growth > 0 and reading.limit_bytes is not None:
                    adds.append(Add(space_keys(name.space).usage, 0, at_most=reading.limit_bytes))
                audit = call.audit(
                    services,
                    "sql.write",
                    f"{name.space.text}/sql/{name.path}",
                    paths_detail(sorted(tables)),
                )
                row = database_put(name, size_bytes, expect=ANY if reading.exists else ABSENT)
                commit = Commit(
                    puts=(row, audit),
                    live=call.live,
                    adds=tuple(adds),
                    replay_record=durable_replay_record(services, call),
                )
                return commit, SqlAnswer(body)

            answer = await until_committed(services, attempt)
            await database.run(Connection.commit)
            return answer

    def _attempt(self, connection: Connection, *, reading: _Reading) -> tuple[bytes, int, set[str]]:
        """Run the statements without committing them.

        Return the answer, the size of the database and the names of the changed tables.
        """
        free_bytes = reading.free_bytes
        guard = Guard(self.scope.rights, is_full=free_bytes is not None and free_bytes <= 0)
        try:
            connection.begin(writes=True, time_s=self.request.services.config.sql.write_s)
            connection.limit_growth(free_bytes)
            body = self._run(connection, guard)
            connection.release_pages()
            return body, connection.size_bytes(), guard.tables
        except SqlQuotaExceeded:
            raise quota_exceeded(reading.used_bytes, reading.limit_bytes or 0) from None

    def _run(self, connection: Connection, guard: Guard) -> bytes:
        """Run the statements in the open transaction, and return the answer."""
        match self.work:
            case Query(sql, params, max_rows, max_bytes):
                return connection.query(
                    statement_of(sql, params),
                    guard,
                    max_rows=max_rows,
                    max_bytes=max_bytes or MAX_ANSWER_BYTES,
                )
            case Execute(sql, params, schema):
                statement = statement_of(sql, params)
                for text in schema:
                    connection.define(text, guard)
                return _ENCODE(connection.execute(statement, guard))
            case Batch(statements):
                results = [
                    connection.execute(statement_of(one.sql, one.params), guard)
                    for one in statements
                ]
                return _ENCODE({"results": results})
        raise AssertionError(self.work)
