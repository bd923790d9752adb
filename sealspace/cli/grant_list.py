"""`sealspace grant list` and `show`: who holds what until when, and one grant in plain words."""

from pathlib import Path
from typing import Final

import click

from capabilities.ambient import SystemClock
from capabilities.strict_json import Json

from ..apps.descriptions import granted_resource, rights_json, rights_words, run_grant_of, run_sentence
from ..client import Client
from ..documents.run_grants import run_statement_json
from ..errors import NotFound
from ..secrets import parse_secret_label
from ..wire.delegation_history import DelegationRecord, Direction, sign_ins
from ..wire.portable import GrantedResource
from .grant_facts import grant_json, grant_words, judged_offline, time_of
from .owner_profile import at_node, owner_home
from .paths import checked_cid, file_named, read_grants
from .terminal import facts, print_found, print_rows, words

_ANCESTOR: Final = "ancestor_revoked"


@click.command("list", epilog="Example: `sealspace grant list`; with `--received`, what others granted to you.")
@click.option("--received", is_flag=True, help="What was granted to you, instead of what you granted.")
@click.option("--all", "with_sessions", is_flag=True, help="Also the sessions of your own logins.")
@click.option("--secret", metavar="NAME", help="Who may open this secret of yours, `NAME` or `scope/NAME`, beside you.")
@at_node
async def list_(client: Client, received: bool, with_sessions: bool, secret: str | None) -> None:
    """Show who holds what, until when: all that the node knows, and what was made from here."""
    other = "by" if received else "to"
    if secret:
        listed = await _holders(client, secret)
    else:
        listed = await _list(client, "received" if received else "granted", with_sessions=with_sessions)
    print_rows(
        [shown for shown, _ in listed],
        ("state", "until", other, "may", "grant"),
        [
            (str(one["state"]), str(one["expiresAt"] or "-"), str(one[other]), "; ".join(may), str(one["cid"]))
            for one, may in listed
        ],
        nothing="nothing was granted to you" if received else "no grants yet; next: sealspace grant create DID",
    )


@click.command("show", epilog="Examples: `sealspace grant show bafy…`; `sealspace grant show grant.json`, offline.")
@click.argument("grant", metavar="CID|FILE")
def show(grant: str) -> int:
    """Say in plain words what a grant allows: one of yours by its id, or one in a file that somebody gave you.

    A file is judged on this machine, without asking anybody: signature, times, and whether the text beside the token
    fits it. The status is 1 when it has ended, or is not valid yet.
    """
    file = file_named(grant)
    states = [_show_known(checked_cid(grant))] if file is None else _show_file(file)
    return 0 if set(states) == {"active"} else 1


def _show_file(path: Path) -> list[str]:
    stated = [(one, one.state(SystemClock().now())) for one in map(judged_offline, read_grants(path))]
    shown = [grant_json(*one) for one in stated]
    print_found(shown[0] if len(shown) == 1 else shown, [line for one in stated for line in grant_words(*one)])
    words("the signature holds; whether it was revoked, only the node can say")
    return [state for _, state in stated]


@at_node
async def _show_known(client: Client, cid: str) -> str:
    portable = next((one.portable for one in owner_home().grants() if one.portable.cid == cid), None)
    if portable is not None:
        judged, state = judged_offline(portable), await state_at_node(client, portable.cid)
        print_found(grant_json(judged, state), grant_words(judged, state))
        return state
    shown, may = _of_record(await _record(client, cid), made_here=False)
    named = {
        "grant": shown["cid"],
        "state": shown["state"],
        "by": shown["by"],
        "to": shown["to"],
        "may": may,
        "issued": shown["issuedAt"],
        "until": shown["expiresAt"],
        "revoked": shown["revokedAt"],
    }
    print_found(shown, facts(named))
    return str(shown["state"])


async def state_at_node(client: Client, cid: str) -> str:
    """Return how a grant stands at the node, in words."""
    word = (await client.delegations.status(cid)).word
    return "not known to the node" if word == "not_found" else word


def unknown_grant(cid: str) -> NotFound:
    """Return the error for a grant that neither this home nor the node knows."""
    return NotFound(404, f"no grant {cid[:80]} that you made, received or own", hint="sealspace grant list shows yours")


async def _record(client: Client, cid: str) -> DelegationRecord:
    for direction in ("granted", "received"):
        async for record in client.delegations.query(direction=direction):
            if record.cid == cid:
                return record
    raise unknown_grant(cid)


async def _list(
    client: Client, direction: Direction, *, with_sessions: bool
) -> list[tuple[dict[str, Json], tuple[str, ...]]]:
    """Return grants as JSON, and in words what each allows."""
    kept = {one.portable.cid: one.portable for one in owner_home().grants()}
    records = [one async for one in client.delegations.query(direction=direction)]
    left_out = frozenset() if with_sessions else sign_ins(records, client.session.owner)
    listed = []
    for record in records:
        if record.cid in left_out:
            continue
        portable = kept.get(record.cid)
        shown, may = _of_record(record, made_here=portable is not None)
        # What a run grant says is in its token alone: the node's list has none of it.
        if portable is not None and (run := run_grant_of(portable)) is not None:
            shown, may = shown | {"run": run_statement_json(run.statement)}, (*may, run_sentence(run.statement))
        listed.append((shown, may))
    known = {one.cid for one in records}
    for cid, portable in kept.items() if direction == "granted" else ():
        if cid not in known:  # what was passed on for another owner is not in this account's list
            judged = judged_offline(portable)
            shown = grant_json(judged, await state_at_node(client, cid)) | {"madeHere": True}
            listed.append((shown, rights_words(judged.rights, by=judged.token.delegator)))
    return listed


async def _holders(client: Client, label: str) -> list[tuple[dict[str, Json], tuple[str, ...]]]:
    """Return the live grants to others that open or read a secret, or decrypt on the network that it is sealed to."""
    name, secrets = parse_secret_label(label), client.secrets()
    resource = secrets.resource(name.name, scope=name.scope)
    network = (await secrets.envelope(name.name, scope=name.scope)).network_text
    words(f"rights to decrypt are those on {network}, where a secret is sealed now")
    words("not listed by the node: what a recipient passed on, and what a grant demands of code, callers and secrets")
    return [_of_record(one, made_here=False) for one in await client.delegations.holders(resource, network)]


def _of_record(record: DelegationRecord, *, made_here: bool) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return a row of the node's list as JSON, and in words what it allows."""
    rights: list[GrantedResource] = [granted_resource(one.resource, one.abilities) for one in record.rights]
    shown: dict[str, Json] = {
        "cid": record.cid,
        "state": "revoked" if record.standing == _ANCESTOR else record.standing,
        "by": record.delegator,
        "to": record.delegate,
        "rights": rights_json(rights),
        "hasConditions": any(right.is_conditioned for right in record.rights),
        "parents": list(record.parents),
        "issuedAt": time_of(record.issued_at),
        "notBefore": time_of(record.not_before),
        "expiresAt": time_of(record.expires_at),
        "revokedAt": time_of(record.revoked_at),
        "revokedBy": record.revoked_by,
        "revokedAncestor": record.revoked_ancestor,
        "madeHere": made_here,
    }
    return shown, rights_words(rights, by=record.delegator)
