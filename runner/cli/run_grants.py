"""The command `sealspace runner list`, and the options that state the terms of a run grant."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import click

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import parse_json
from sealspace.cli.options.paths import file_option, read_named
from sealspace.cli.owner.contact_names import confirm_first_use, dids_named, names_for
from sealspace.cli.owner.node_terms import gathering
from sealspace.cli.owner.owner_profile import at_node, owner_home
from sealspace.cli.terminal import (
    flag_option,
    print_rows,
    repeatable_option,
)
from sealspace.client import Client
from sealspace.documents.call_conditions import (
    AllowAll,
    Condition,
    Owner,
    listed_accounts,
    parse_condition,
)
from sealspace.documents.contact_list import is_contact_name
from sealspace.documents.run_grants import MOST, run_statement_json
from sealspace.errors import InvalidInput
from sealspace.giving.words.runs import caller_words, program_words, run_grant_of
from tee_backend.cli.grants import listing_of


@click.command(epilog="To end the grants to a runner: `sealspace runner revoke URL`.")
@at_node
async def list_runs(client: Client) -> None:
    """List your grants to runners, as saved on this machine.

    The state of each grant is shown. The list also shows the programs, callers and hosts that each
    grant allows.
    """
    descriptions = []
    rows = []
    for kept_grant in owner_home().grants():
        run_grant = run_grant_of(kept_grant.portable)
        if run_grant is None:  # a grant to a backend that is not a runner
            continue
        run = run_grant.statement
        listing = await listing_of(client, kept_grant)
        descriptions.append(listing.description | {"run": run_statement_json(run)})
        programs = ", ".join(map(program_words, run.programs))
        callers = caller_words(run.callers)
        rows.append((*listing.cells, programs, callers, ", ".join(run.hosts) or "none"))
    print_rows(
        descriptions,
        ("state", "until", "runner", "secrets", "programs", "callers", "hosts"),
        rows,
        nothing="there are no grants to runners; next: sealspace runner grant URL",
    )


def limit_options(kind: type[Any]) -> Callable[..., Any]:
    """Return a decorator that adds command options for resource limits.

    The command gets the limits as the argument `limits`.
    """
    names = ("--max-instructions", "--max-memory-mb", "--max-execution-s")
    # The first members of `kind` are in the order of these names, like MOST. Others have no option.
    defaults = astuple(kind())[: len(names)]
    options = [
        click.option(name, type=click.IntRange(1, most), default=default, help="Limit of a run.")
        for name, most, default in zip(names, MOST.values(), defaults, strict=True)
    ]
    return gathering("limits", kind, *options)


_MAX_CONDITION_FILE_BYTES = 64 * 1024


class CallerTerms(NamedTuple):
    """The command options about who may call.

    Attributes:
        condition: the condition on callers.
        file: the file that the condition was read from, or None.
    """

    condition: Condition
    file: Path | None = None


def _parse_caller_terms(
    callers: tuple[str, ...], anybody: bool, is_owner: bool, file: Path | None
) -> CallerTerms:
    """Convert the command options to a condition on who may call.

    At most one option may be given.
    """
    is_option_used = [bool(callers), anybody, is_owner, file is not None]
    if is_option_used.count(True) > 1:
        raise click.UsageError("give only one of --caller, --anybody, --owner and --condition")
    if anybody:
        return CallerTerms(AllowAll())
    if callers:
        dids = callers
        if any(is_contact_name(caller) for caller in callers):
            dids = dids_named(*callers)
        return CallerTerms(parse_condition({"Whitelist": {"accounts": list(dids)}}))
    if file is None:
        return CallerTerms(Owner())
    return CallerTerms(_condition_in(file), file)


def _condition_in(file: Path) -> Condition:
    """Return the condition on callers in a file."""
    data = read_named(file, most_bytes=_MAX_CONDITION_FILE_BYTES)
    # Wrapped, because the parser accepts only objects, and a condition may be a string.
    with suppress(InvalidJson):
        value = parse_json(b'{"condition":' + data + b"}", max_bytes=_MAX_CONDITION_FILE_BYTES)
        # A file such as `"AllowAll","a":1` would add members.
        if value.keys() == {"condition"}:
            return parse_condition(value["condition"])
    raise InvalidInput(
        f"{file} must contain a condition on callers, as JSON",
        hint='write, for example: {"Whitelist": {"accounts": ["did:key:…"]}}',
    )


async def confirm_callers(
    client: Client, callers: CallerTerms, secrets: Sequence[str], *, yes: bool
) -> None:
    """Ask about each DID that a file with a condition on callers names (SH14).

    The owner and the contacts are not asked about.

    Args:
        client: client of the owner.
        callers: the options about who may call.
        secrets: labels of the secrets that a program gets in a call.
        yes: whether the option `--yes` was given.
    """
    if callers.file is None:
        return
    gets = f"the right to call programs that read {', '.join(secrets)}"
    dids = [did for did in listed_accounts(callers.condition) if did != client.session.owner]
    names = await names_for(client, dids)
    for did in dids:
        confirm_first_use(names, did, source=str(callers.file), gets=gets, yes=yes)


condition_options = gathering(
    "callers",
    _parse_caller_terms,
    repeatable_option(
        "--caller",
        "callers",
        metavar="DID|NAME",
        help="Allow calls only from this DID or contact; repeat the option for more callers.",
    ),
    flag_option("--anybody", help="Allow calls from everyone."),
    flag_option("--owner", "is_owner", help="Allow calls only from yourself (the default)."),
    file_option("--condition", "file", help="JSON file with a condition on callers."),
)
"""Adds the options for a condition on callers, passed to the command as one argument
`callers`."""
