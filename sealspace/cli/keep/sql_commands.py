"""The commands `sealspace sql`, which use the databases of a space."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from shlex import quote
from sqlite3 import complete_statement

import click
import msgspec

from capabilities.principals import same_principal

from ...client import Client
from ...errors import InvalidInput, NodeRefused, NotGranted, SpaceNotFound
from ...service.command_errors import NotThere
from ...sql import BLANK, SqlValue
from ..options.paths import NEW_FILE, read_named
from ..owner.owner_profile import at_node
from ..terminal import cell_text, confirm_replacing, print_result, print_rows, tell, yes_option
from .dotenv import MAX_FILE_BYTES, text_of
from .kv_commands import next_steps, space_option

_PRAGMA = re.compile(BLANK + r"pragma\b", re.IGNORECASE)
_READING_PRAGMA = re.compile(
    BLANK
    + r"pragma\s+(?:\w+\.)?"
    + r"(?:(?!optimize\b)\w+[\s;]*$|(?:table|index|foreign_key)_\w+\s*\()",
    re.IGNORECASE,
)
"""A pragma without a value, or one whose argument is the name of a table or an index."""
_NEEDS_TO_WRITE = ("Read-only violation", "Permission denied: DDL operations require")
"""Beginnings of the node's refusals of statements that change a database."""
_RETURNS_ROWS = "Execute returned results"
"""A part of the node's refusal of statements that return rows."""

_next_steps = partial(next_steps, group="sql", missing="there is no database of this name")


def _parse_parameter(text: str) -> SqlValue:
    """Parse a number, true, false, null or a quoted text; another text is returned unchanged."""
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text, type=bool | int | float | str | None)
    return text


def _cell(value: SqlValue) -> str:
    return value.hex() if isinstance(value, bytes) else cell_text(value)


def _read_sql(_context: click.Context, _argument: click.Parameter, text: str) -> str:
    """Read the statements from an argument, or from standard input if it is `-`."""
    data = os.fsencode(text)
    if text == "-":
        data = read_named(Path(text), most_bytes=MAX_FILE_BYTES)
    # Refuses a text that is too long. Of its beginning alone, some statements would run.
    return text_of(data)


_database = click.argument("database")
_sql = click.argument("sql", callback=_read_sql)
_params = click.option(
    "--param",
    "params",
    metavar="VALUE",
    multiple=True,
    type=_parse_parameter,
    help="The value of the next `?`: a number, true, false, null, or a text. Repeatable. A text in"
    " double quotes is always a text: `--param '\"5\"'`.",
)


@click.command(
    epilog='Example: `sealspace sql query app "SELECT * FROM note WHERE id = ?" --param 5`.',
)
@_database
@_sql
@_params
@space_option
@at_node
async def query(
    client: Client, database: str, sql: str, params: Sequence[SqlValue], space: str | None
) -> None:
    """Print the rows of one SQL statement.

    SQL is the statement, or `-` for standard input. A statement that changes the database is
    refused. Blobs are printed in hexadecimal; with --json, in base64.
    """
    # A node needs the right of an administrator for any pragma, even for one that only reads.
    is_pragma = _PRAGMA.match(sql) is not None
    if is_pragma and _READING_PRAGMA.match(sql) is None:
        raise _changing(database, space)
    async with _next_steps(client, space):
        await _require_database(client, database, space)
        try:
            result = await client.sql(database, space=space).query(
                sql, params, read_only=not is_pragma
            )
        except NodeRefused as refusal:
            if refusal.text.startswith(_NEEDS_TO_WRITE):
                raise _changing(database, space) from None
            raise
    shown = [[_cell(value) for value in row] for row in result.rows]
    print_rows(result, result.columns, shown, nothing="no rows")


def _changing(database: str, space: str | None) -> InvalidInput:
    """Return the error for a statement that `sealspace sql query` does not run."""
    return InvalidInput(
        "the statement changes the database, and `sealspace sql query` only reads",
        hint=f"use: sealspace sql execute {quote(database)} SQL{_space_words(space)}",
    )


def _reading(database: str, space: str | None) -> InvalidInput:
    """Return the error for a statement whose rows `sealspace sql execute` does not print."""
    return InvalidInput(
        "a statement returns rows, which `sealspace sql execute` does not print; nothing was"
        " changed",
        hint=f"to read: sealspace sql query {quote(database)} SQL{_space_words(space)}; to change,"
        " omit RETURNING",
    )


async def _require_database(client: Client, database: str, space: str | None) -> None:
    """Refuse the name of a database that does not exist, for which a query would return nothing.

    Only the owner of a space can list its databases.
    """
    space_id = client.kv(space).space
    if not same_principal(space_id.owner, client.session.owner):
        return
    with suppress(NotGranted, SpaceNotFound):  # the query itself has better next steps
        databases = (await client.spaces().info(space_id.text)).databases
        if database in databases:
            return
        near = " or ".join(get_close_matches(database, databases, n=2))
        meant = f"did you mean {near}? or list all: " if near else ""
        words = _space_words(space)
        raise NotThere(
            f"there is no database {database} in the space {space or 'default'}",
            hint=f"{meant}sealspace sql list{words}; to create it: sealspace sql execute"
            f" {quote(database)} SQL{words}",
        )


def _space_words(space: str | None) -> str:
    return "" if space is None else f" --space {quote(space)}"


@click.command(
    epilog='Examples: `sealspace sql execute app "DELETE FROM note WHERE id = ?" --param 5`;'
    " `sealspace sql execute app - < schema.sql`.",
)
@_database
@_sql
@_params
@space_option
@at_node
async def execute(
    client: Client, database: str, sql: str, params: Sequence[SqlValue], space: str | None
) -> None:
    """Run SQL statements that change a database.

    SQL is one or more statements with semicolons between them, or `-` for standard input. They are
    one transaction: all of them take effect, or none. --param is for a single statement. The first
    change creates the database.
    """
    statements = [(statement, params) for statement in _statements_in(sql)]
    if params and len(statements) > 1:
        raise click.UsageError("--param requires a single statement")
    async with _next_steps(client, space):
        try:
            done = await client.sql(database, space=space).batch(statements)
        except NodeRefused as refusal:
            if _RETURNS_ROWS in refusal.text:
                raise _reading(database, space) from None
            raise
    print_result(done)
    tell(f"changed rows: {sum(result.changes for result in done)}")


def _statements_in(sql: str) -> list[str]:
    """Return the statements of a text, each with a semicolon at its end.

    The last statement may lack the semicolon. An incomplete one is returned too, and the node
    refuses it.
    """
    statements = [""]
    for part in sql.split(";"):
        # A semicolon within a string, a comment or a trigger does not end the statement. It goes on
        # until SQLite calls it complete.
        statements[-1] += f"{part};"
        if complete_statement(statements[-1]):
            statements.append("")
    return [statement for statement in statements if not re.fullmatch(BLANK, statement)]


@click.command(epilog="Example: `sealspace sql export app --out app.sqlite`.")
@_database
@space_option
@click.option("--out", type=NEW_FILE, required=True, help="Write to this file.")
@yes_option
@at_node
async def export(client: Client, database: str, space: str | None, out: Path, yes: bool) -> None:
    """Write a copy of a database, as an SQLite file that only you can read."""
    confirm_replacing(out, yes=yes)
    async with _next_steps(client, space):
        size_bytes = await client.sql(database, space=space).export(out)
    tell(f"wrote {size_bytes} bytes")


@click.command()
@space_option
@at_node
async def list_(client: Client, space: str | None) -> None:
    """List the databases of a space and their sizes in bytes."""
    async with _next_steps(client, space):
        info = await client.spaces().info(client.kv(space).space.text)
    print_rows(
        info.databases,
        ("name", "bytes"),
        [*info.databases.items()],
        nothing="no databases here yet; next: sealspace sql execute NAME SQL",
    )
