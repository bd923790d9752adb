"""SQL requests: their database and rights in a token, and their bodies (SQ3 to SQ6, SQ20)."""

from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from capabilities.abilities import resolve_alias
from capabilities.capability_errors import SqlRefused
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import SpaceResource
from capabilities.sql_caveats import SqlLimits, is_sql, limits_of
from capabilities.strict_json import parse_json, shaped
from capabilities.tokens import Invocation
from spaces.space_errors import PathTooLong, SqlError
from spaces.sql.database_rows import DEFAULT_DATABASE, MAX_PATH_CHARS, DatabaseName
from spaces.sql.guard import ADMIN, READ, SCHEMA, WRITE
from spaces.sql.requests import MAX_SQL_BYTES, Batch, Execute, Query, SqlValue, Statement

from ...refusal import Refusal

_ALL = frozenset({READ, WRITE, SCHEMA, ADMIN})
# What an ability allows. Administration includes everything (SQ10).
_RIGHTS = {
    "read": frozenset({READ}),
    "write": frozenset({READ, WRITE, SCHEMA}),
    "schema": frozenset({SCHEMA}),
    "admin": _ALL,
    "*": _ALL,
}
MAX_ROWS = 1000
MAX_BYTES = 4_194_304
_MAX_PERMITS = 8  # a refused request is tried with each


def rights_of(ability: str) -> frozenset[str]:
    """Return what an ability allows, which is nothing if it is unknown."""
    _, _, action = resolve_alias(ability).partition("/")
    return _RIGHTS.get(action, frozenset())


def database_of(invocation: Invocation) -> DatabaseName:
    """Return the database that a token's capabilities name (SQ3).

    Raises:
        SqlError, Refusal, PathTooLong: they name several databases, none of the abilities is known,
            or the path is not valid.
    """
    # Capabilities with an unknown ability allow nothing, so they do not count.
    resources = [
        capability.resource
        for capability in filter(is_sql, invocation.capabilities)
        if isinstance(capability.resource, SpaceResource) and rights_of(capability.ability)
    ]
    if not resources:
        raise Refusal("sql-no-ability")
    spaces = {resource.space for resource in resources}
    if len(spaces) > 1:
        raise SqlError("Ambiguous sql capabilities span multiple spaces")
    # A capability without a path counts for the database that the others name.
    paths = {resource.path for resource in resources if resource.path is not None}
    if len(paths) > 1:
        raise SqlError("Ambiguous sql capabilities span multiple database paths")
    path = paths.pop() if paths else DEFAULT_DATABASE
    if not path or path.endswith("/"):
        raise SqlError("Invalid statement: the database has no name")
    if len(path) > MAX_PATH_CHARS:
        raise PathTooLong(f"the path of a database has at most {MAX_PATH_CHARS} characters")
    return DatabaseName(spaces.pop(), path)


class Named(Struct, tag_field="action", tag="executeStatement"):
    """A statement of the grant, by its name."""

    name: str
    params: list[Any] = []


class Export(Struct, tag_field="action", tag="export"):
    """The whole database as a file."""


SqlRequest = Query | Execute | Batch | Named | Export


def parse_request(body: bytes) -> SqlRequest:
    """Parse the body of a request (SQ4).

    Raises:
        InvalidJson: it is not a JSON object of a known form.
        SqlError: a limit is out of range.
    """
    value = parse_json(body, max_bytes=MAX_SQL_BYTES)
    if value.get("action") == "execute_statement":  # the spelling of TinyCloud's SDK
        value["action"] = "executeStatement"
    request: SqlRequest = shaped(value, SqlRequest)  # type: ignore[arg-type]  # a union
    if isinstance(request, Query):
        _check_limit("maxRows", request.max_rows, MAX_ROWS)
        _check_limit("maxBytes", request.max_bytes, MAX_BYTES)
    return request


def _check_limit(name: str, limit: int | None, highest: int) -> None:
    """Check a limit that a query states for its answer (SQ6); None: it states none."""
    if limit is not None and not 1 <= limit <= highest:
        raise SqlError(f"Invalid statement: {name} must be between 1 and {highest}")


def value_of(value: Any) -> SqlValue:
    """Return a parameter converted from JSON (SQ5).

    Raises SqlError for a value that has no SQL type.
    """
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return _number_of(value)
    if isinstance(value, dict):
        # TinyCloud's SDK sends the bytes in a batch as an object with the members "0", "1" etc.
        if list(value) != [str(index) for index in range(len(value))]:
            raise SqlError(
                "invalid type: map, expected a SQL value (null, integer, real, string, or byte"
                " array)"
            )
        value = list(value.values())
    if isinstance(value, list):
        try:
            return bytes(value)
        except (TypeError, ValueError):
            raise SqlError("a list in the parameters must contain bytes, from 0 to 255") from None
    return value  # type: ignore[no-any-return]  # None, a float or a string


def _number_of(value: int) -> int | float:
    """Return an integer as SQLite stores it (SQ5).

    An INTEGER has 64 bits with a sign. An integer that does not fit into 64 bits at all is a REAL.
    One that fits only without a sign is refused.
    """
    if -(2**63) <= value < 2**63:
        return value
    if 0 < value < 2**64:
        raise SqlError("SQLite integers must fit in signed 64 bits")
    try:
        return float(value)
    except OverflowError:
        raise SqlError("an integer in the parameters is too large") from None


def with_values(work: Query | Execute | Batch) -> Query | Execute | Batch:
    """Return a request whose parameters are converted from JSON.

    Raises:
        SqlError: a parameter has no SQL type, or an integer is too large.
    """
    if isinstance(work, Batch):
        return Batch([_with_values(statement) for statement in work.statements])
    return _with_values(work)


_OneStatement = TypeVar("_OneStatement", bound=Statement)


def _with_values(statement: _OneStatement) -> _OneStatement:
    """Return one statement whose parameters are converted from JSON."""
    return replace(statement, params=[value_of(value) for value in statement.params])


class Permit(FrozenStruct):
    """Rights that apply within the same limits."""

    rights: frozenset[str]
    limits: SqlLimits

    def applied(self, work: SqlRequest) -> Query | Execute | Batch | Export:
        """Return a request as it runs under these limits (SQ25, SQ26).

        A request for a named statement becomes a query with the text of that statement.

        Raises:
            SqlRefused: the limits do not permit the request.
            SqlError: there is no statement with this name.
        """
        limits = self.limits
        is_constrained = limits.mode is not None  # only the named statements may run
        if isinstance(work, Named):
            exists = any(statement.name == work.name for statement in limits.statements)
            if not exists and not is_constrained:
                raise SqlError(f"Invalid statement: Statement '{work.name}' not found")
            sql, params = limits.bind(work.name, work.params)
            return Query(sql, params)
        exports_too_much = isinstance(work, Export) and not limits.is_whole
        if is_constrained or exports_too_much:
            raw = "raw-" if isinstance(work, Query | Execute) else ""
            raise SqlRefused(f"sql-{raw}{work.__struct_config__.tag}-blocked")
        return work


def permits_of(invocation: Invocation, name: DatabaseName) -> list[Permit]:
    """Return what an authorised token allows in a database, one permit for equal limits (SQ23).

    Raises:
        CaveatRefused: see `limits_of`.
        SqlRefused: the token states too many different caveats.
    """
    rights_by_limits: dict[SqlLimits, frozenset[str]] = {}
    database = SpaceResource(name.space, "sql", path=name.path)
    for capability, limits in limits_of(invocation, database):
        rights = rights_of(capability.ability)
        if limits.read_only:
            rights &= {READ}
        if not limits.is_whole:
            rights -= {SCHEMA, ADMIN}
        # Capabilities with equal limits count together.
        rights_by_limits[limits] = rights.union(rights_by_limits.get(limits, ()))
    if len(rights_by_limits) > _MAX_PERMITS:
        raise SqlRefused("sql-caveat-unknown")
    permits = [Permit(rights, limits) for limits, rights in rights_by_limits.items()]
    # Permits for constrained statements are tried first, because other permits do not have the
    # named statements. Otherwise the order of the token is kept.
    permits.sort(key=lambda permit: permit.limits.mode is None)
    return permits
