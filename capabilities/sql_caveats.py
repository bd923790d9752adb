"""SQL caveats, which limit what a grant on a database allows (SQ20 to SQ28).

The list of caveats on an ability `tinycloud.sql/…` contains one object of one of these two forms:

    {"tables": ["notes"], "columns": ["id", "body"], "readOnly": true}

    {"mode": "constrained-statements", "readOnly": true, "statements": [
        {"name": "by-id", "sql": "SELECT body FROM notes WHERE id = ? AND owner = ?",
         "fixedParams": [{"index": 1, "value": "bob"}]}]}

Every member of the first form is optional, and the second may also have `tables` and `columns`. A
caveat that does not parse completely is refused; otherwise a typo would lift the limit. The second
form may also be nested, as the only member `constrained-statements` of an object.

The module knows nothing of SQLite. The operation checks each table and column that SQLite reports,
so the limits also apply inside views, triggers and cascades.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from .capability_errors import CaveatRefused, SqlRefused
from .caveats import Caveats, mentions_selector, same_json, selection_of
from .resources import SpaceResource
from .strict_json import Json, StrictRecord
from .tokens import Capability, Invocation

MAX_LISTED = 1_000
"""Most tables, columns or statements in a caveat."""

_FACT = "sqlCaveats"
_CONSTRAINED = "constrained-statements"
_Names = (
    Annotated[frozenset[Annotated[str, Meta(min_length=1)]], Meta(max_length=MAX_LISTED)] | None
)


class FixedParam(StrictRecord):
    """A parameter of a named statement that the caller cannot choose.

    Attributes:
        index: Position of the parameter, from 0. Its limit bounds the list of parameters.
        value: The value to bind; arrays and objects are refused.
    """

    index: Annotated[int, Meta(ge=0, le=999)]
    value: bool | int | float | str | None


class Statement(StrictRecord, rename="camel"):
    """A statement that callers execute by its name."""

    name: str
    sql: str
    fixed_params: Annotated[tuple[FixedParam, ...], Meta(max_length=100)] = ()


class SqlLimits(StrictRecord, rename="camel"):
    """The limits of a grant on a database.

    Attributes:
        tables: The permitted tables; None for all tables.
        columns: The permitted columns, in every table; None for all columns.
        read_only: Whether only reading is permitted.
        mode: If it is set, nothing but the statements may run.
        statements: The statements that can be executed by name.
    """

    tables: _Names = None
    columns: _Names = None
    read_only: bool = False
    mode: Literal["constrained-statements"] | None = None
    statements: Annotated[tuple[Statement, ...], Meta(max_length=MAX_LISTED)] = ()

    @property
    def is_whole(self) -> bool:
        """Return whether the whole database may be read, as an export or a pragma does (SQ25)."""
        return self.tables is None and self.columns is None and not self.mode

    def excluded(self, table: str, column: str) -> str:
        """Return what the lists exclude: the table, the column, or "" for nothing (SQ21, SQ22).

        SQLite reports an empty column if a statement inserts, deletes or only counts rows.
        """
        if not _is_listed(self.tables, table):
            return f"table '{table}'"
        if not _is_listed(self.columns, column):
            return f"column '{column}'" if column else f"the rows of table '{table}'"
        return ""

    def bind(self, name: str, given: Sequence[Json]) -> tuple[str, list[Json]]:
        """Return a named statement with its parameters (SQ26).

        Args:
            name: The statement.
            given: The caller's parameters. At the position of a fixed parameter, null is replaced.

        Returns:
            The text of the statement, and its parameters. Positions without a value are null.

        Raises:
            SqlRefused: The statement is unknown, or a parameter is fixed or not a plain value.
        """
        statement = {known.name: known for known in self.statements}.get(name)
        if statement is None:
            raise SqlRefused("sql-statement-not-allowed")
        if self.mode and any(isinstance(value, list | dict) for value in given):
            raise SqlRefused("sql-non-primitive-bind")
        bound = list(given)
        for fixed in statement.fixed_params:
            # A caller may give too few parameters: missing ones up to this position become null.
            missing = fixed.index + 1 - len(bound)
            if missing > 0:
                bound += [None] * missing
            if bound[fixed.index] is not None:
                raise SqlRefused("sql-fixed-param-override")
            bound[fixed.index] = fixed.value
        return statement.sql, bound


UNLIMITED = SqlLimits()


def is_sql(capability: Capability) -> bool:
    """Return whether a capability is about a database, so that its caveats are SQL caveats."""
    resource = capability.resource
    is_service = isinstance(resource, SpaceResource) and resource.service == "sql"
    return is_service and capability.ability.startswith("tinycloud.sql/")


def check_understood(capability: Capability) -> None:
    """Check that the caveat of a capability on a database has one of the known forms (SQ20).

    Raises:
        SqlRefused: It has another form.

    Does not check:
        Selectors, which limit the resource instead (I39), and capabilities of other services.
    """
    if is_sql(capability) and not mentions_selector(capability.caveats):
        _limits(capability.caveats)


def contains(outer: Caveats, inner: Caveats) -> bool:
    """Return whether the SQL caveat `inner` allows no more than `outer` (SQ28).

    The result is False for caveats of other forms; the rules for all services apply to them.

    Raises:
        CaveatRefused: `outer` permits certain statements only, and `inner` permits others.
    """
    try:
        outer_limits = _limits(outer)
        inner_limits = _limits(inner)
    except SqlRefused:
        return False
    if outer_limits.mode:
        if not inner_limits.mode:
            raise CaveatRefused("containment-caveat-required")
        _check_statements(inner_limits.statements, permitted=outer_limits.statements)
    # If the inner limits already allow no more, narrowing them by the outer ones changes nothing.
    return _narrowed(inner_limits, outer_limits) == inner_limits


def _check_statements(statements: Sequence[Statement], *, permitted: Sequence[Statement]) -> None:
    """Check that statements are among the permitted ones, with at least their fixed parameters.

    Raises:
        CaveatRefused: A statement or its text is another one, or a parameter is no longer fixed to
            the same value.
    """
    permitted_by_name = {one.name: one for one in permitted}
    for statement in statements:
        original = permitted_by_name.get(statement.name)
        if original is None or original.sql != statement.sql:
            raise CaveatRefused("containment-sql-statement-added")
        _check_fixed_params(statement, original)


def _check_fixed_params(statement: Statement, original: Statement) -> None:
    """Check that a statement keeps the fixed parameters of the original one."""
    kept = {fixed.index: fixed.value for fixed in statement.fixed_params}
    for fixed in original.fixed_params:
        if fixed.index not in kept:
            raise CaveatRefused("containment-sql-fixed-param-dropped")
        if not same_json(fixed.value, kept[fixed.index]):
            raise CaveatRefused("containment-sql-fixed-param-mismatch")


def limits_of(
    invocation: Invocation, database: SpaceResource
) -> Iterator[tuple[Capability, SqlLimits]]:
    """Yield an invocation's capabilities on a database, with what each one allows (SQ23).

    The chain rules require that an invocation's caveats allow no more than those of its grant, and
    those of each grant no more than its parent's. The last caveat is therefore the intersection.

    Args:
        invocation: Authorised.
        database: The database that the operation works on.

    Raises:
        SqlRefused: A caveat, or the invoker's own limits, are not understood.
        CaveatRefused: A selector does not select the database.
    """
    own = UNLIMITED
    for fact in invocation.facts:
        # The invoker may limit its own call, and nothing that it states can widen it (SQ24).
        if isinstance(fact, dict) and _FACT in fact:
            own = _narrowed(own, _parse_limits(fact[_FACT], has_mode=False))
    for capability in filter(is_sql, invocation.capabilities):
        if mentions_selector(capability.caveats):
            # A selector limits the resource and not what is done with it (I39).
            selection_of(database, capability.caveats)  # raises if it selects another database
            yield capability, own
        else:
            yield capability, _narrowed(_limits(capability.caveats), own)


def _limits(caveats: Caveats) -> SqlLimits:
    """Parse the caveats of a capability on a database (SQ20)."""
    if not caveats:
        return UNLIMITED
    if len(caveats) > 1:  # it is unclear whether one or all of them apply
        raise SqlRefused("sql-caveat-unknown")
    stated = caveats["0"]  # the stored form of a list has its indexes as keys (T2)
    assert isinstance(stated, dict)
    if stated.keys() == {_CONSTRAINED}:
        return _parse_limits(stated[_CONSTRAINED], has_mode=True)
    return _parse_limits(stated, has_mode="mode" in stated or "statements" in stated)


def _parse_limits(stated: Json, *, has_mode: bool) -> SqlLimits:
    """Parse the limits in a caveat, or in the fact of an invoker.

    `has_mode` tells whether they must have the mode of constrained statements.
    """
    try:
        limits = msgspec.convert(stated, SqlLimits)
    except msgspec.ValidationError as exc:
        raise SqlRefused("sql-caveat-unknown") from exc
    # A caveat with statements needs the mode: a list of statements alone would limit nothing. The
    # fact of an invoker has no mode (SQ24).
    if bool(limits.mode) != has_mode:
        raise SqlRefused("sql-caveat-unknown")
    _require_distinct(limits.statements)
    if has_mode and not limits.read_only:
        raise SqlRefused("sql-non-readonly-not-permitted")
    return limits


def _require_distinct(statements: Sequence[Statement]) -> None:
    """Check that no name and no position is stated twice (SQ20).

    Of two statements with one name, a caller, an owner who reads the caveat and another node could
    each take a different one.

    Raises:
        SqlRefused: Two statements have the same name, or two fixed parameters of a statement the
            same index.
    """
    names = {statement.name for statement in statements}
    if len(names) < len(statements):
        raise SqlRefused("sql-caveat-unknown")
    for statement in statements:
        indexes = {fixed.index for fixed in statement.fixed_params}
        if len(indexes) < len(statement.fixed_params):
            raise SqlRefused("sql-caveat-unknown")


def _narrowed(limits: SqlLimits, outer: SqlLimits) -> SqlLimits:
    """Return limits without the tables, columns and writing that others do not permit."""
    # Without the mode, statements come from an invoker's facts; the last fact counts (SQ24).
    statements = limits.statements if limits.mode else outer.statements
    return replace(
        limits,
        tables=_both_permit(limits.tables, outer.tables),
        columns=_both_permit(limits.columns, outer.columns),
        read_only=limits.read_only or outer.read_only,
        statements=statements,
    )


def _both_permit(mine: _Names, theirs: _Names) -> _Names:
    """Return the names that two limits permit; None permits every name."""
    if mine is None:
        return theirs
    if theirs is None:
        return mine
    return mine & theirs


def _is_listed(names: _Names, name: str) -> bool:
    """Return whether a name is on a list; None is the list of all names."""
    if names is None:
        return True
    # SQLite ignores the case of ASCII letters alone, as the methods of bytes do.
    return name.encode().lower() in [one.encode().lower() for one in names]
