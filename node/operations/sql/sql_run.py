"""The operation that runs SQL statements in a database of a space (SQ11 to SQ15).

A write is authorised, run without committing, recorded in the store on condition that no delegation
was revoked, and then committed in its database. Statements run in processes of their own (SQ29).
"""

from contextlib import suppress

from msgspec.structs import replace

from capabilities.capability_errors import CapabilityError, SqlRefused
from capabilities.frozen_struct import FrozenStruct
from spaces.keyspace import space_keys
from spaces.space_errors import (
    SpaceError,
    SqlAdminNeeded,
    SqlForbidden,
    SqlQuotaExceeded,
    StoreBusy,
)
from spaces.sql.database_rows import (
    DATABASE_ROWS,
    MAX_DATABASES,
    DatabaseName,
    database_put,
    databases_of,
)
from spaces.sql.databases import DatabaseCopy, Databases, Lease
from spaces.sql.frames import Ran, Run
from spaces.sql.guard import ONLY_DEFINES, READ, SCHEMA, WriteNeeded
from spaces.sql.requests import MAX_SQL_BYTES, Batch, Execute, Query
from spaces.store.contract import Add, Commit, Put, counter_of, has_value
from spaces.values.quota import effective_limit

from ...refusal import Refusal
from ..attempts import until_committed
from ..authorise import Call, read_call
from ..values.kv_commit import paths_detail
from ..values.plan import Request
from .sql_request import (
    Export,
    Permit,
    database_of,
    parse_request,
    permits_of,
    with_values,
)


class _NotCommitted(Exception):
    """The store has recorded a write, and its database has not confirmed it.

    Attributes:
        reason: the error of the database.
    """

    def __init__(self, reason: SpaceError) -> None:
        self.reason = reason


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
        Errors of `read_call` and `Databases.lease`.
    """
    services = request.services
    try:
        name = database_of(request.invocation)
        if services.databases is None:
            raise Refusal("not-enabled", "SQL")
    except (Refusal, SpaceError):
        # A token that is not authorised, or a space that is not hosted, is refused first (SQ3).
        call = await read_call(services, request.invocation)
        call.require_hosted()
        raise
    reading = await _authorised_read(request, name, records_use=True)
    body = await request.message.whole_body(MAX_SQL_BYTES)
    if body is None:
        raise Refusal("sql-too-large", MAX_SQL_BYTES)
    work = parse_request(body)
    refusals: list[Exception] = []
    # The request runs under one permit, never under a mixture. If none permits it, the answer is
    # the first refusal (SQ23).
    for permit in permits_of(request.invocation, name):
        try:
            applied = permit.applied(work)
            operation = _Operation(
                request=request,
                databases=services.databases,
                name=name,
                permit=permit,
                reading=reading,
            )
            if isinstance(applied, Export):
                return await operation.export()
            return await operation.answer(with_values(applied))
        except (SqlForbidden, SqlRefused) as exc:
            refusals.append(exc)
    first_refusal = refusals[0]
    if isinstance(first_refusal, SqlAdminNeeded):
        resource = f"{name.space.text}/sql/{name.path}"
        raise Refusal("sql-admin-needed", resource)
    raise first_refusal


async def _authorised_read(request: Request, name: DatabaseName, *, records_use: bool) -> _Reading:
    """Authorise a request, and read the rows of its database and quota.

    Raises:
        Refusal: `space-not-found`.
        Errors of `read_call`.
    """
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
    database_row, usage, override = call.records
    (databases_page,) = call.pages
    database = DATABASE_ROWS.read(database_row)
    existing = [row for _, row in databases_page.rows if has_value(row)]
    return _Reading(
        call=call,
        old_bytes=None if database is None else database.size_bytes,
        used_bytes=counter_of(usage),
        limit_bytes=effective_limit(space, override, services.quota),
        databases=len(existing),
    )


class _Operation(FrozenStruct):
    """One request and what it needs."""

    request: Request
    databases: Databases
    name: DatabaseName
    permit: Permit
    reading: _Reading

    async def answer(self, work: Query | Execute | Batch) -> bytes:
        """Run statements, and return the answer as JSON."""
        # A query, and any request without the right to define tables, probably reads only, so it
        # is first run in a transaction for reading.
        probably_reads = isinstance(work, Query) or SCHEMA not in self.permit.rights
        if probably_reads:
            with suppress(WriteNeeded):  # a statement writes, and nothing was done
                return await self._read_rows(work)
        return await self._write(work)

    async def _read_rows(self, work: Query | Execute | Batch) -> bytes:
        """Run the statements in a transaction for reading.

        Raises:
            WriteNeeded: a statement writes.
        """
        exists = self.reading.old_bytes is not None
        async with self.databases.lease(self.name, writes=False, has_file=exists) as lease:
            read_s = self.request.services.config.sql.read_s
            ran = await lease.run(self._run_of(work, lease, wait_s=read_s), read_s, self._watch)
            return ran.body

    async def _write(self, work: Query | Execute | Batch) -> bytes:
        """Run the statements in a transaction for writing (SQ12)."""
        name, databases = self.name, self.databases
        exists = self.reading.old_bytes is not None
        if not exists:
            # The statements first run on an empty database in memory, so that no file is created if
            # they fail.
            async with databases.lease(name, writes=True, has_file=False) as trial:
                await self._change(trial, work, self.reading)
        try:
            return await self._write_to_file(work)
        except _NotCommitted as exc:
            # The store has recorded the size that the database would have. If correcting it fails,
            # the next write corrects it.
            with suppress(SpaceError, CapabilityError, Refusal):
                await self._record_size()
            raise exc.reason from None

    async def _write_to_file(self, work: Query | Execute | Batch) -> bytes:
        """Run the statements, record the write in the store, and then commit the database.

        Raises:
            _NotCommitted: the write is recorded, but the database has not confirmed its commit.
        """
        services, name = self.request.services, self.name
        async with self.databases.lease(name, writes=True, has_file=True) as lease:

            async def attempt(_: bool) -> tuple[Commit, bytes]:
                # A commit checks revocations, but only a read checks time windows (I33).
                reading = await _authorised_read(self.request, name, records_use=False)
                ran = await self._change(lease, work, reading)
                commit = self._commit(
                    reading.call,
                    "sql.write",
                    paths_detail(sorted(ran.tables)),
                    self._quota(reading, ran.size_bytes),
                    database_put(name, ran.size_bytes),
                )
                return commit, ran.body

            body = await until_committed(services, attempt)
            try:
                await lease.commit()
            except SpaceError as exc:
                raise _NotCommitted(exc) from exc
            return body

    def _quota(self, reading: _Reading, new_bytes: int) -> tuple[Add, ...]:
        """Return the condition that a growing database fits into the space's quota (SQ14).

        It adds nothing to the counter of the space, but limits it.
        """
        grows = new_bytes > (reading.old_bytes or 0)
        if not grows or reading.limit_bytes is None:
            return ()
        return (Add(space_keys(self.name.space).usage, 0, at_most=reading.limit_bytes),)

    async def _record_size(self) -> None:
        """Read the size of the database again, and record it (SQ12).

        The lease excludes other writes to the database until the size is recorded.
        """
        services, name = self.request.services, self.name
        async with self.databases.lease(name, writes=True, has_file=True) as lease:

            async def attempt(_: bool) -> tuple[Commit, None]:
                reading = await _authorised_read(self.request, name, records_use=False)
                ran = await self._change(lease, Batch([]), reading)  # no statement, only the size
                return Commit(puts=(database_put(name, ran.size_bytes),)), None

            await until_committed(services, attempt)

    async def _change(self, lease: Lease, work: Query | Execute | Batch, reading: _Reading) -> Ran:
        """Run the statements in a transaction for writing, without committing them.

        Raises:
            Refusal: `sql-too-many-databases`; `quota-exceeded`.
            Errors of `Lease.run`.
        """
        if reading.old_bytes is None and reading.databases >= MAX_DATABASES:
            raise Refusal("sql-too-many-databases")
        free_bytes = None
        if reading.limit_bytes is not None:
            free_bytes = reading.limit_bytes - reading.used_bytes
        write_s = self.request.services.config.sql.write_s
        run = replace(
            self._run_of(work, lease, wait_s=write_s),
            creates=reading.old_bytes is None,
            writes=True,
            free_bytes=free_bytes,
        )
        try:
            return await lease.run(run, write_s, self._watch)
        except SqlQuotaExceeded:
            # The pages of a database count towards the quota of its space (SQ14).
            raise Refusal("quota-exceeded", reading.used_bytes, reading.limit_bytes) from None

    def _run_of(self, work: Query | Execute | Batch, lease: Lease, *, wait_s: float) -> Run:
        """Return what a child process gets to run statements that only read."""
        return Run(
            file=lease.file,
            creates=False,
            writes=False,
            wait_s=wait_s,
            free_bytes=None,
            rights=self.permit.rights,
            # The child does not need the named statements: `work` has the text of the one to run.
            limits=replace(self.permit.limits, statements=()),
            work=work,
        )

    async def _watch(self) -> None:
        """Raise an error if the client has gone, or the request is no longer allowed (SQ29).

        The store is read anew, so this finds a revocation whichever worker has taken it.
        """
        if self.request.message.is_gone():
            raise StoreBusy("the client has disconnected")
        await _authorised_read(self.request, self.name, records_use=False)

    async def export(self) -> DatabaseCopy:
        """Copy the database for its caller (SQ13).

        Returns:
            The copy, whose `cleanup` the caller closes.
        Raises:
            SqlForbidden: the permit does not include reading.
            Refusal: `sql-no-database`; the request is no longer allowed.
            Errors of `Databases.copy`.
        """
        if READ not in self.permit.rights:
            raise SqlForbidden(ONLY_DEFINES)
        if self.reading.old_bytes is None:
            raise Refusal("sql-no-database")

        async def attempt(_: bool) -> tuple[Commit, None]:
            reading = await _authorised_read(self.request, self.name, records_use=False)
            return self._commit(reading.call, "sql.export"), None

        await until_committed(self.request.services, attempt)
        return await self.databases.copy(self.name)

    def _commit(
        self, call: Call, action: str, detail: bytes = b"", adds: tuple[Add, ...] = (), *puts: Put
    ) -> Commit:
        """Return the commit that records an action, unless its authority was revoked."""
        services, name = self.request.services, self.name
        audit = call.audit(services, action, f"{name.space.text}/sql/{name.path}", detail)
        return call.commit((*puts, audit), adds=adds, use=call.late_use(services))
