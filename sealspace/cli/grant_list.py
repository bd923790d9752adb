"""`sealspace grant list`, `show`, `revoke` and `accept`: grants in plain words, ended, or used from
now on."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import click

from capabilities.abilities import DECRYPT, KV_GET, KV_LIST
from capabilities.capability_errors import CapabilityError
from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.resources import parse_space_id
from capabilities.tokens import Delegation, parse_delegation, verify_delegation
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, policies_of, policy_json

from ..apps.descriptions import (
    granted_resource,
    policy_words,
    rights_words,
    run_grant_of,
    run_sentence,
    run_words,
)
from ..client import Client
from ..delegations import DELEGATION_TTL_S
from ..documents.run_grants import RunStatement, run_statement_json
from ..errors import InvalidPortableDelegation, NotFound, NotGranted, Unauthorized
from ..secrets import parse_secret_label, secret_at
from ..wallets import Wallet
from ..wire.delegation_history import DelegationRecord, Direction, ending_with, sign_ins
from ..wire.portable import GrantedResource, PortableDelegation, described, grant_of
from .grant_create import NOT_SHARED, demands_code
from .owner_profile import at_node, owner_home
from .paths import FILE, grants_named, read_grants
from .shared import shared
from .space import time_of
from .terminal import (
    confirm,
    facts,
    optional_time,
    print_found,
    print_json,
    print_rows,
    watched,
    words,
    yes_option,
)

_Listed: TypeAlias = tuple[dict[str, object], tuple[str, ...]]
"""A grant as JSON, and in words what it allows."""


@click.command(
    "list", epilog="Example: `sealspace grant list`; with `--received`, what others granted to you."
)
@click.option(
    "--received", is_flag=True, help="What was granted to you, instead of what you granted."
)
@click.option("--all", "with_sessions", is_flag=True, help="Also the sessions of your own logins.")
@click.option(
    "--secret",
    metavar="NAME",
    help="Who may open this secret of yours, `NAME` or `scope/NAME`, beside you.",
)
@at_node
async def list_(client: Client, received: bool, with_sessions: bool, secret: str | None) -> None:
    """Show who holds what, until when: all that the node knows, and what was made from here."""
    other = "by" if received else "to"
    if secret:
        listed = await _holders(client, secret)
    else:
        listed = await _list(
            client, "received" if received else "granted", with_sessions=with_sessions
        )
    print_rows(
        [shown for shown, _ in listed],
        ("state", "until", other, "may", "grant"),
        [
            (one["state"], one["expiresAt"] or "-", one[other], "; ".join(may), one["cid"])
            for one, may in listed
        ],
        nothing=(
            "nothing was granted to you"
            if received
            else "no grants yet; next: sealspace grant create DID"
        ),
    )


@click.command(
    "show",
    epilog="Examples: `sealspace grant show bafy…`; `sealspace grant show grant.json`, offline.",
)
@click.argument("grant", metavar="CID|FILE")
def show(grant: str) -> int:
    """Say in plain words what a grant allows: one of yours by its id, or one in a file that
    somebody gave you.

    A file is judged on this machine, without asking anybody: signature, times, and whether the text
    beside the token fits it. The status is 1 when it has ended, or is not valid yet.
    """
    portables = grants_named(grant)
    states = [_show_known(grant)] if portables is None else _show_offline(portables)
    return 0 if set(states) == {"active"} else 1


def _show_offline(portables: Iterable[PortableDelegation]) -> list[str]:
    stated = [(one, one.state()) for one in map(judged_offline, portables)]
    shown = [grant_json(*one) for one in stated]
    print_found(
        shown[0] if len(shown) == 1 else shown,
        [line for one in stated for line in grant_words(*one)],
    )
    words("the signature holds; whether it was revoked, only the node can say")
    return [state for _, state in stated]


@at_node
async def _show_known(client: Client, cid: str) -> str:
    portable = next(
        (one.portable for one in owner_home().grants() if one.portable.cid == cid), None
    )
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
    return NotFound(
        404,
        f"no grant {cid[:80]} that you made, received or own",
        hint="sealspace grant list shows yours",
    )


async def _record(client: Client, cid: str) -> DelegationRecord:
    for direction in ("granted", "received"):
        async for record in client.delegations.query(direction=direction):
            if record.cid == cid:
                return record
    raise unknown_grant(cid)


async def _list(client: Client, direction: Direction, *, with_sessions: bool) -> list[_Listed]:
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
            shown, may = (
                shown | {"run": run_statement_json(run.statement)},
                (*may, run_sentence(run.statement)),
            )
        listed.append((shown, may))
    known = {one.cid for one in records}
    for cid, portable in kept.items() if direction == "granted" else ():
        if cid not in known:  # what was passed on for another owner is not in this account's list
            judged = judged_offline(portable)
            shown = grant_json(judged, await state_at_node(client, cid)) | {"madeHere": True}
            listed.append((shown, rights_words(judged.rights, by=judged.token.delegator)))
    return listed


async def _holders(client: Client, label: str) -> list[_Listed]:
    """Return the live grants to others that open or read a secret, or decrypt on the network that
    it is sealed to."""
    name, secrets = parse_secret_label(label), client.secrets()
    resource = secrets.resource(name.name, scope=name.scope)
    network = (await secrets.envelope(name.name, scope=name.scope)).network_text
    words(f"rights to decrypt are those on {network}, where a secret is sealed now")
    words(
        "not listed by the node: what a recipient passed on, and what a grant demands of code,"
        " callers and secrets"
    )
    return [
        _of_record(one, made_here=False)
        for one in await client.delegations.holders(resource, network)
    ]


def _of_record(record: DelegationRecord, *, made_here: bool) -> _Listed:
    """Return a row of the node's list as JSON, and in words what it allows."""
    rights: list[GrantedResource] = [
        granted_resource(one.resource, one.abilities) for one in record.rights
    ]
    shown: dict[str, object] = {
        "cid": record.cid,
        "state": "revoked" if record.status == "ancestor_revoked" else record.status,
        "by": record.delegator,
        "to": record.delegate,
        "rights": rights,
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


# --- one grant ------------------------------------------------------------------------------------

_HINT: Final = "ask whoever gave it for the file as `sealspace grant create` wrote it"


class JudgedGrant(NamedTuple):
    """A grant whose token's signature holds, and what the token says."""

    cid: str
    token: Delegation
    rights: tuple[GrantedResource, ...]
    policies: tuple[Policy, ...]
    run: RunStatement | None
    host: str

    def state(self) -> str:
        """Return `active`, `expired` or `not valid yet`, by the grant's own times."""
        token, now = self.token, SystemClock().now()
        if token.expires_at is not None and token.expires_at <= now:
            return "expired"
        return (
            "not valid yet" if token.not_before is not None and now < token.not_before else "active"
        )


def judged_offline(portable: PortableDelegation) -> JudgedGrant:
    """Check a portable grant as far as that is possible without a node.

    Args:
        portable: untrusted.
    Raises:
        InvalidPortableDelegation: the token cannot be read, its signature does not hold, or what
            stands beside it says more than it grants, or something else (MF16).
    Does not check:
        What it rests on, and whether it was revoked: a node does. Its times: see
            `JudgedGrant.state`.
    """
    grant = grant_of(portable, now=0.0)  # whether it has ended is a state, and no fault
    try:
        token = verify_delegation(parse_delegation(portable.header))
        policies = policies_of(token.facts)
    except PolicyError as error:
        raise InvalidPortableDelegation(
            f"the grant's policy is none: {error}", hint=_HINT
        ) from None
    except CapabilityError as error:
        raise InvalidPortableDelegation(
            f"the grant's token does not hold: {error.text}", hint=_HINT
        ) from None
    run = run_grant_of(portable)
    statement = None if run is None else run.statement
    return JudgedGrant(
        grant.cid, token, described(grant.capabilities), policies, statement, portable.host
    )


def grant_words(grant: JudgedGrant, state: str) -> list[str]:
    """Return what a grant says, a fact a line."""
    token, number = grant.token, len(grant.token.parents)
    others = f"on {number} other grant{'s' if number != 1 else ''}, which only the node can judge"
    return facts(
        {
            "grant": grant.cid,
            "state": state,
            "by": token.delegator,
            "to": token.delegate,
            "may": rights_words(grant.rights, by=token.delegator),
            "under": "conditions that only the node can judge" if _has_conditions(token) else None,
            "only": [line for policy in grant.policies for line in policy_words(policy)],
            "runs": None if grant.run is None else run_words(grant.run),
            "from": optional_time(token.not_before),
            "until": optional_time(token.expires_at) or "no end is stated",
            "passing": (
                "not allowed" if token.terminal else "allowed: the recipient may grant parts of it"
            ),
            "rests": others if number else None,
            "node": grant.host or "not stated",
        }
    )


def grant_json(grant: JudgedGrant, state: str) -> dict[str, object]:
    """Return the same for a program; times as RFC 3339."""
    token = grant.token
    return {
        "cid": grant.cid,
        "state": state,
        "by": token.delegator,
        "to": token.delegate,
        "rights": grant.rights,
        "hasConditions": _has_conditions(token),
        "policies": [policy_json(one) for one in grant.policies],
        "run": None if grant.run is None else run_statement_json(grant.run),
        "parents": [parent.echo for parent in token.parents],
        "mayBePassedOn": not token.terminal,
        "issuedAt": optional_time(token.issued_at),
        "notBefore": optional_time(token.not_before),
        "expiresAt": optional_time(token.expires_at),
        "node": grant.host,
    }


def _has_conditions(token: Delegation) -> bool:
    return any(one.caveats for one in token.capabilities)


# --- ending and using -----------------------------------------------------------------------------


@click.command(
    "revoke",
    epilog="Example: `sealspace grant revoke bafy…`; `sealspace grant list` shows the ids.",
)
@click.argument("grant", metavar="CID|FILE")
@click.option("--only", is_flag=True, help="End no other grant to the same recipient.")
@yes_option
@at_node
async def revoke(client: Client, grant: str, only: bool, yes: bool) -> None:
    """End a grant, named by its id or by its file, at once and for good; whatever was passed on
    from it ends too.

    Other grants that open the same secrets for the same recipient end with it, and are named before
    you are asked: with one of them left, the recipient could still open a copy that it kept.
    """
    portables = grants_named(grant)
    cids = [grant] if portables is None else [judged_offline(one).cid for one in portables]
    left = []
    for cid in cids:
        status = await client.delegations.status(cid)
        if status.word == "not_found":
            raise unknown_grant(cid)
        if status.word != "revoked":
            left.append(cid)
    records = (
        [one async for one in client.delegations.query(direction="granted")]
        if left and not only
        else []
    )
    ended = {cid: cid not in left for cid in cids}  # of each whether it was revoked before
    for one in records:
        if one.cid in left:
            together = ending_with(records, one, client.session.owner)
            words(
                *(
                    f"ends too, or {one.delegate} could open a copy: {cid}"
                    for cid in together
                    if cid not in ended
                )
            )
            del ended[one.cid]
            ended |= dict.fromkeys(together, False)
    if left and watched():  # a script that ends a grant in an emergency is not held up
        confirm(
            f"revoke {', '.join(cid for cid, was in ended.items() if not was)} for good?", yes=yes
        )
    try:
        # Those that are shown as revoked too: only the answer to a revocation says that it outlives
        # a failover (ST16).
        await client.delegations.revoke(*ended)
    except Unauthorized:
        # What the wallet signed, the session may not always end; the wallet can.
        for cid in ended:
            await client.delegations.revoke_by_wallet(cid, owner_home().wallet())
    words(
        *(f"was revoked already: {cid}" if was else f"revoked: {cid}" for cid, was in ended.items())
    )
    print_found([{"cid": cid, "wasRevokedAlready": was} for cid, was in ended.items()])


@click.command(
    "accept",
    epilog=(
        "Examples: `sealspace grant accept grant.json`, then the command that it prints: `sealspace"
        " kv get KEY --space ID`, or `sealspace secret get NAME --owner DID`. For a second person"
        " on the same machine: `--home DIR`, after `sealspace login URL --new --home DIR`."
    ),
)
@click.argument("file", type=FILE)
@at_node
async def accept(client: Client, file: Path) -> None:
    """Use a grant that somebody gave you, from now on: every later command of this home has it.

    The grant has to be for the DID of your wallet or of your session; `sealspace whoami` prints
    both. It is checked on this machine, then by the node. A grant for the wallet is taken up again
    at each login.
    """
    home, portables = owner_home(), read_grants(file)
    owner = home.profile().owner
    # all before the first is used
    accepted = [_usable(one, (owner, client.session.did)) for one in portables]
    for_wallet = [one for one in portables if same_principal(one.delegate_did, owner)]
    for portable in portables:
        await accept_one(client, portable, home.wallet() if portable in for_wallet else None)
    home.keep_session(client.session)
    for portable in for_wallet:
        home.keep_received(portable)
    rights = [right for one in accepted for right in one.rights]
    if any(DECRYPT in right.actions for right in rights) and await demands_code(client):
        words(NOT_SHARED)
    for one in accepted:
        words(f"accepted: {one.cid}, from {one.token.delegator}")
        words(*(f"  {line}" for line in rights_words(one.rights, by=one.token.delegate)))
    spaces = sorted({right.space for right in rights if right.service != "encryption"})
    if shared().as_json:
        print_json({"accepted": [one.cid for one in accepted], "spaces": spaces})
    else:
        words(*(f"to use it: {command}" for one in accepted for command in _commands(one)))


def _commands(judged: JudgedGrant) -> list[str]:
    """Return the commands that use a grant, one for each resource that a command reads; safe to
    paste into a shell."""
    commands = []
    for right in judged.rights:
        secret = secret_at(right.path)
        if secret is not None and KV_GET in right.actions:
            option = () if secret.scope is None else (f"--scope={secret.scope}",)
            owner = parse_space_id(right.space).owner
            commands.append(_command("secret", "get", *option, "--owner", owner, named=secret.name))
        elif secret is not None or right.service != "kv":
            continue
        elif KV_LIST in right.actions:
            commands.append(_command("kv", "list", "--space", right.space, named=right.path))
        elif KV_GET in right.actions:
            commands.append(
                _command("kv", "get", "--space", right.space, named=right.path or "KEY")
            )
    return commands


def _command(*words: str, named: str) -> str:
    """Write a command for a shell; whoever made the grant chose what is named in it."""
    before = ("--",) if named.startswith("-") else ()
    return shlex.join(("sealspace", *words, *before, *((named,) if named else ())))


def _usable(portable: PortableDelegation, ours: tuple[str, ...]) -> JudgedGrant:
    """Return what a grant says, if it is in force by its own times, and for one of our DIDs."""
    judged = judged_offline(portable)
    state = judged.state()
    if state != "active":
        raise InvalidPortableDelegation(
            f"the grant is {state}", hint="ask whoever gave it for a new one"
        )
    if not any(same_principal(judged.token.delegate, one) for one in ours):
        raise NotGranted(
            f"the grant is for {judged.token.delegate}, you are {ours[0]}",
            hint="ask for a grant to the DID that `sealspace whoami` prints",
        )
    return judged


async def accept_one(client: Client, portable: PortableDelegation, wallet: Wallet | None) -> None:
    """Use a grant for as long as the session lasts, or the grant."""
    ends = client.session.expires_at
    ttl_s = DELEGATION_TTL_S if ends is None else ends - SystemClock().now()
    await client.delegations.accept(portable, wallet=wallet, ttl_s=ttl_s)


@at_node
async def take_up_received(client: Client) -> None:
    """Take up again, in a new session, what was accepted for the wallet; what has ended or was
    revoked is forgotten."""
    home = owner_home()
    for portable in home.received():
        try:
            await accept_one(client, portable, home.wallet())
        except (InvalidPortableDelegation, Unauthorized):
            words(f"no longer in force, and left out: the grant {portable.cid} of {portable.owner}")
            home.forget_received(portable.cid)
    home.keep_session(client.session)
