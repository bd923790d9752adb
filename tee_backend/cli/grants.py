"""The commands `list`, `revoke` and `withdraw` for grants to backends and runners."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import click

from capabilities.capability_errors import InvalidJson
from capabilities.principals import same_principal
from capabilities.strict_json import Json, JsonObject, parse_json
from sealspace.apps.backends import deliver as deliver_grants
from sealspace.apps.descriptions import caller_words, granted_labels, program_words, run_grant_of
from sealspace.cli.grant_list import state_at_node
from sealspace.cli.node_terms import gathering
from sealspace.cli.owner_profile import KeptGrant, at_node, dids_of, known_grants, owner_home
from sealspace.cli.paths import FILE, file_option, read_grants, read_named
from sealspace.cli.terminal import (
    confirm,
    flag_option,
    is_interactive,
    optional_time,
    print_result,
    print_rows,
    repeatable_option,
    tell,
    yes_option,
)
from sealspace.client import Client
from sealspace.documents.call_conditions import AllowAll, Condition, Owner, parse_condition
from sealspace.documents.run_grants import MOST, run_statement_json
from sealspace.errors import InvalidInput, NodeRefused


@click.command(
    epilog="Example: `sealspace backend list --json`. Other grants: `sealspace grant list`."
)
@at_node
async def list_(client: Client) -> None:
    """List your grants to backends, as saved on this machine.

    The state of each grant is shown.
    """
    listed = [await _listed(client, one) for one in owner_home().grants() if one.url is not None]
    print_rows(
        [shown for shown, _ in listed],
        ("state", "until", "backend", "secrets", "DID"),
        [(*cells, str(shown["did"])) for shown, cells in listed],
        nothing="there are no grants to backends; next: sealspace backend show URL",
    )


async def _listed(client: Client, one: KeptGrant) -> tuple[JsonObject, tuple[str, ...]]:
    """Fetch and describe the state of a grant.

    The description is returned as JSON and as table cells.
    """
    portable, secrets = one.portable, granted_labels(one.portable)
    state, until = await state_at_node(client, portable.cid), optional_time(portable.expires_at)
    shown: JsonObject = {
        "state": state,
        "url": one.url,
        "did": portable.delegate_did,
        "secrets": [*secrets],
        "cid": portable.cid,
        "expiresAt": until,
    }
    return shown, (state, until or "-", one.url or "-", ", ".join(secrets))


@click.command(
    epilog="Example: `sealspace backend deliver grants.json --to https://backend.example`. No login"
    " is needed. A backend that uses the node of the grants fetches the grants itself.",
)
@click.argument("file", type=FILE)
@click.option(
    "--to",
    "url",
    metavar="URL",
    help="Address of the backend. Default: the address that you used for an earlier grant to this"
    " backend on this machine.",
)
def deliver(file: Path, url: str | None) -> None:
    """Send the grants in FILE to the backend that they are for.

    Use this if the backend cannot reach the node where the grants were made.
    """
    portables = read_grants(file)
    did = portables[0].delegate_did
    url = url or next((one.url for one in owner_home().grants_to(did) if one.url), None)
    if url is None:
        raise InvalidInput(
            f"cannot send the grants: the address of {did} is not known on this machine",
            hint="specify the backend's address: --to URL",
        )
    asyncio.run(deliver_grants(url, *portables))
    print_result({"url": url}, (f"handed over to {url}",))


@click.command(epilog="Example: `sealspace backend revoke https://backend.example`.")
@click.argument("target", metavar="URL|DID")
@yes_option
@at_node
async def revoke(client: Client, target: str, yes: bool) -> None:
    """Permanently revoke all grants to a backend.

    Only grants that were made on this machine are revoked, shares of projects and their storage
    included; `sealspace backend list` lists them. You can make new grants to the backend later.
    """
    home = owner_home()
    wallet, owner = home.wallet(), home.profile().owner
    grants = [
        one.portable for one in known_grants(target) if same_principal(one.portable.owner, owner)
    ]
    if not grants:
        raise InvalidInput(
            f"the grants to {target} were made by another wallet",
            hint="sealspace login --key-file FILE, with the key of that wallet",
        )
    left = len([one for one in grants if await state_at_node(client, one.cid) != "revoked"])
    number = f"{left} grant{'s' if left != 1 else ''}"
    if left and is_interactive():  # a script that revokes in an emergency is not asked
        confirm(f"permanently revoke {number} to {target}?", yes=yes)
    # Grants that are shown as revoked are sent too: only the answer to a revocation confirms that
    # it survives a failover (ST16).
    refusals = []
    try:
        await client.delegations.revoke(*grants)
    except NodeRefused:
        for one in grants:  # one refused grant must not keep the others
            try:
                if wallet is None:
                    await client.delegations.revoke(one)
                else:
                    await client.delegations.revoke_by_wallet(one, wallet)
            except NodeRefused as refusal:
                refusals.append(refusal)
                tell(f"not revoked: {one.cid}")
    if refusals:
        raise refusals[-1]
    tell(f"revoked {number}" if left else "all grants were already revoked")
    print_result({"revoked": left})


@click.command(
    epilog="Examples: `sealspace backend withdraw https://backend.example`; `sealspace backend"
    " withdraw --measurement HEX`, to deny keys to vulnerable code on every machine.",
)
@click.argument("target", metavar="[URL|DID]", required=False)
@click.option(
    "--measurement",
    metavar="HEX",
    help="Deny keys to all code that has this register value (96 hex digits) or this compose hash"
    " (64 hex digits).",
)
@click.option(
    "--evidence",
    metavar="DIGEST",
    help="Deny keys to any backend that uses the evidence with this SHA-256 (printed in receipts).",
)
@yes_option
@at_node
async def withdraw(
    client: Client, target: str | None, measurement: str | None, evidence: str | None, yes: bool
) -> None:
    """Permanently deny backends access to the keys of your encryption network.

    The backends are named by address, code or evidence. The denial overrides all grants from the
    next request on, and cannot be undone. To end grants without denying keys, use `revoke`.
    """
    named = [one for one in (target, measurement, evidence) if one is not None]
    if len(named) != 1:
        raise click.UsageError("give exactly one of URL|DID, --measurement and --evidence")
    confirm(f"permanently deny {named[0]} access to all keys of your encryption network?", yes=yes)
    if measurement is not None:
        await client.withdrawals.withdraw_measurement(_bytes(measurement))
    elif evidence is not None:
        await client.withdrawals.withdraw_evidence(_bytes(evidence))
    else:
        for did in dids_of(named[0]):
            await client.withdrawals.withdraw_backend(did)
    tell(f"withdrawn: {named[0]}")


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput(
            "the value is not hexadecimal",
            hint="pass 96 or 64 hex digits, as `sealspace backend show` prints them",
        ) from None


@click.command(epilog="To end the grants to a runner: `sealspace runner revoke URL`.")
@at_node
async def list_runs(client: Client) -> None:
    """List your grants to runners, as saved on this machine.

    The state of each grant is shown. The list also shows the programs, callers and hosts that each
    grant allows.
    """
    found, rows = [], []
    for one in owner_home().grants():
        read = run_grant_of(one.portable)
        if read is None:  # a grant to a backend that is not a runner
            continue
        run, (shown, cells) = read.statement, await _listed(client, one)
        found.append(shown | {"run": run_statement_json(run)})
        programs = ", ".join(map(program_words, run.programs))
        rows.append((*cells, programs, caller_words(run.callers), ", ".join(run.hosts) or "none"))
    print_rows(
        found,
        ("state", "until", "runner", "secrets", "programs", "callers", "hosts"),
        rows,
        nothing="there are no grants to runners; next: sealspace runner grant URL",
    )


def limit_options(kind: type[Any]) -> Callable[..., Any]:
    """Return a decorator that adds command options for resource limits.

    The command gets the limits as the argument `limits`.
    """
    names = ("--max-instructions", "--max-memory-mb", "--max-execution-s")
    options = [
        click.option(name, type=click.IntRange(1, most), default=default, help="Limit of a run.")
        for name, most, default in zip(names, MOST.values(), astuple(kind()), strict=False)
    ]
    return gathering("limits", kind, *options)


_MAX_CONDITION_FILE_BYTES = 64 * 1024


def _condition(
    callers: tuple[str, ...], anybody: bool, is_owner: bool, file: Path | None
) -> Condition:
    """Convert the command options to a condition on who may call.

    At most one option may be given.
    """
    if sum((bool(callers), anybody, is_owner, file is not None)) > 1:
        raise click.UsageError("give only one of --caller, --anybody, --owner and --condition")
    if anybody:
        return AllowAll()
    if callers:
        return parse_condition({"Whitelist": {"accounts": list(callers)}})
    if file is None:
        return Owner()
    data = read_named(file, most_bytes=_MAX_CONDITION_FILE_BYTES)
    # Wrapped, because the parser accepts only objects, and a condition may be a string.
    with suppress(InvalidJson):
        value = parse_json(b'{"condition":' + data + b"}", max_bytes=_MAX_CONDITION_FILE_BYTES)
        if value.keys() == {"condition"}:
            return parse_condition(value["condition"])
    raise InvalidInput(
        f"{file} must contain a condition on callers, as JSON",
        hint='write, for example: {"Whitelist": {"accounts": ["did:key:…"]}}',
    )


condition_options = gathering(
    "condition",
    _condition,
    repeatable_option(
        "--caller",
        "callers",
        metavar="DID",
        help="Allow calls only from this DID; repeat the option for more callers.",
    ),
    flag_option("--anybody", help="Allow calls from everyone."),
    flag_option("--owner", "is_owner", help="Allow calls only from yourself (the default)."),
    file_option("--condition", "file", help="JSON file with a condition on callers."),
)
"""Adds the options for a condition on callers, passed to the command as one argument
`condition`."""


def hosts_words(stated: Json) -> str:
    """Format the list of contacted hosts in a run receipt.

    The receipt is not verified here. The hosts are separated by commas. Without hosts, the text is
    "none".
    """
    hosts = stated.get("hosts") if isinstance(stated, dict) else None
    return ", ".join(map(str, hosts if isinstance(hosts, list) else [])) or "none"
