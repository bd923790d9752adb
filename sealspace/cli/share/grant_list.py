"""The commands `sealspace grant list`, `show`, `revoke` and `accept`."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from capabilities.abilities import DECRYPT, KV_GET, KV_LIST
from capabilities.capability_errors import CapabilityError
from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.resources import parse_space_id
from capabilities.tokens import Delegation, parse_delegation, verify_delegation
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, policies_of, policy_json

from ...client import Client
from ...delegations import DELEGATION_TTL_S
from ...documents.app_names import AppNames, quoted_name, read_app_names
from ...documents.run_grants import RunStatement, run_statement_json
from ...errors import InvalidPortableDelegation, NotFound, NotGranted, Unauthorized
from ...giving.words.policies import policy_words
from ...giving.words.rights import granted_resource, rights_words
from ...giving.words.runs import run_grant_of, run_sentence, run_words
from ...secrets import secret_at
from ...wallets import Wallet
from ...wire.delegation_history import DelegationRecord, Direction, delegations_to_revoke, sign_ins
from ...wire.portable import GrantedResource, PortableDelegation, described, grant_of
from ..keep.space import time_of
from ..options.paths import FILE, grants_named, read_grants
from ..owner.contact_names import Names, names_for
from ..owner.owner_profile import at_node, owner_home
from ..owner.signed_names import app_names_members, called_lines, own_app_names
from ..shared import shared
from ..terminal import (
    confirm,
    end_text,
    facts,
    flag_option,
    is_interactive,
    optional_time,
    print_json,
    print_result,
    print_rows,
    tell,
    yes_option,
)
from .grant_create import NOT_SHARED, requires_proof
from .secret_show import list_grants

_NO_NAMES = Names()
"""For a grant in a file, which is described without the node."""


class ListedGrant(NamedTuple):
    """A grant as JSON, and the sentences that say what it allows."""

    row: dict[str, object]
    may: tuple[str, ...]


@click.command(
    epilog="Examples: `sealspace grant list`; `sealspace grant list --received` lists the grants to"
    " you.",
)
@flag_option(
    "--received",
    help="List the grants that you received instead of those that you made.",
)
@flag_option("--all", "with_sessions", help="Also list your own login sessions.")
@click.option(
    "--secret",
    metavar="NAME",
    help="List only the grants with which others can read your secret `NAME` or `scope/NAME`.",
)
@at_node
async def list_(client: Client, received: bool, with_sessions: bool, secret: str | None) -> None:
    """List grants with their recipients, rights and expiry times.

    The list contains the grants that the node knows and those made on this machine.
    """
    if secret:
        await list_grants(client, secret)
        return
    party = "by" if received else "to"
    direction: Direction = "received" if received else "granted"
    listed = await _list(client, direction, with_sessions=with_sessions)
    names = await names_for(client, [grant.row[party] for grant in listed])
    rows = []
    for row, may in listed:
        whom = names.short(str(row[party]))
        if row["appName"]:
            whom = f"{quoted_name(str(row['appName']), is_short=True)} {whom}"
        rows.append((row["state"], row["expiresAt"] or "-", whom, "; ".join(may), row["cid"]))
        row["name"] = names.name(row[party])
    print_rows(
        [grant.row for grant in listed],
        ("state", "until", party, "may", "grant"),
        rows,
        nothing=(
            "no grants to you" if received else "no grants yet; next: sealspace grant create DID"
        ),
    )


@click.command(
    epilog="Examples: `sealspace grant show bafy…`; `sealspace grant show grant.json` (offline).",
)
@click.argument("grant", metavar="CID|FILE")
def show(grant: str) -> int:
    """Explain what a grant allows.

    Specify the grant's id (CID) or its file. A file is checked offline: its signature, its times,
    and whether its description matches the signed token. The exit status is 1 if the grant has
    ended or is not valid yet.
    """
    portables = grants_named(grant)
    if portables is None:
        return int(show_by_id(grant) != "active")
    documents = []
    lines: list[str] = []
    states = set()
    for portable in portables:
        verified = verified_offline(portable)
        state = verified.state()
        documents.append(grant_json(verified, state))
        lines += describe_grant(verified, state)
        states.add(state)
    print_result(documents[0] if len(documents) == 1 else documents, lines)
    tell("the signature is valid; only the node knows whether the grant was revoked")
    return 0 if states == {"active"} else 1


@at_node
async def show_by_id(client: Client, cid: str) -> str:
    """Print what a grant allows, and return its state."""
    # A grant that was made here is stored with its token, which says more than the node's list.
    for saved_grant in owner_home().grants():
        if saved_grant.portable.cid == cid:
            verified = verified_offline(saved_grant.portable)
            state = await state_at_node(client, cid)
            token = verified.token
            names = await names_for(client, [token.delegator, token.delegate])
            document = grant_json(verified, state)
            document |= _names_json(names, token.delegator, token.delegate)
            print_result(document, describe_grant(verified, state, names))
            return state
    record, app = await _record_at_node(client, cid)
    row, may = grant_row(record, made_here=False)
    row |= app_names_members(app)
    by, to = str(row["by"]), str(row["to"])
    names = await names_for(client, [by, to])
    row |= _names_json(names, by, to)
    lines = {
        "grant": row["cid"],
        "state": row["state"],
        "by": names.whole(by),
        "to": names.whole(to),
        "called": called_lines(app),
        "may": may,
        "issued": row["issuedAt"],
        "until": row["expiresAt"],
        "revoked": row["revokedAt"],
    }
    print_result(row, facts(lines))
    return str(row["state"])


def _names_json(names: Names, by: str, to: str) -> dict[str, object]:
    """Return the owner's names for the two sides of a grant, as members of JSON output."""
    return {"name": names.name(to), "nameOfGranter": names.name(by)}


async def _record_at_node(client: Client, cid: str) -> tuple[DelegationRecord, AppNames | None]:
    """Find a grant in the node's list of the grants that the user made or received.

    Returns the grant, and the names that the user signed for its code.
    """
    directions: tuple[Direction, ...] = ("granted", "received")
    for direction in directions:
        query = client.delegations.query(direction=direction, tokens=True)
        records = [record async for record in query]
        for record in records:
            if record.cid == cid:
                return record, own_app_names(records, client.session.owner).get(cid)
    raise unknown_grant(cid)


async def state_at_node(client: Client, cid: str) -> str:
    """Fetch the status of a grant from the node."""
    word = (await client.delegations.status(cid)).word
    return "not known to the node" if word == "not_found" else word


def unknown_grant(cid: str) -> NotFound:
    """Return the error for an unknown grant id."""
    return NotFound(
        404,
        f"you have neither made nor received the grant {cid[:80]}",
        hint="list your grants: sealspace grant list",
    )


async def _list(client: Client, direction: Direction, *, with_sessions: bool) -> list[ListedGrant]:
    """Return the grants known to the node or stored on this machine."""
    local = {grant.portable.cid: grant.portable for grant in owner_home().grants()}
    query = client.delegations.query(direction=direction, tokens=direction == "granted")
    records = [record async for record in query]
    apps = own_app_names(records, client.session.owner)
    hidden = frozenset() if with_sessions else sign_ins(records, client.session.owner)
    listed = [
        _row_with_terms(record, local.get(record.cid), apps.get(record.cid))
        for record in records
        if record.cid not in hidden
    ]
    if direction == "granted":
        # The node's list of this account lacks grants that pass on another owner's rights.
        known = {record.cid for record in records}
        for cid, portable in local.items():
            if cid not in known:
                listed.append(await _local_row(client, portable))
    return listed


def _row_with_terms(
    record: DelegationRecord, portable: PortableDelegation | None, app: AppNames | None
) -> ListedGrant:
    """Return a grant in the node's list like `grant_row`, with the terms of a run grant.

    These terms are only in the grant's token, so they are known only if this machine has the grant.

    Args:
        record: the grant.
        portable: the grant as it was made on this machine, or None.
        app: the names that the user signed for its code, or None.
    """
    row, may = grant_row(record, made_here=portable is not None)
    row["appName"] = app.name if app is not None and app.name else None
    run = None if portable is None else run_grant_of(portable)
    if run is not None:
        row["run"] = run_statement_json(run.statement)
        may = (*may, run_sentence(run.statement))
    return ListedGrant(row=row, may=may)


async def _local_row(client: Client, portable: PortableDelegation) -> ListedGrant:
    """Return a grant that only this machine lists, like `grant_row`."""
    verified = verified_offline(portable)
    row = grant_json(verified, await state_at_node(client, portable.cid))
    row["madeHere"] = True
    return ListedGrant(row=row, may=rights_words(verified.rights, by=verified.token.delegator))


def grant_row(record: DelegationRecord, *, made_here: bool) -> ListedGrant:
    """Return a grant in the node's list as JSON, and the sentences that say what it allows."""
    rights = [
        granted_resource(granted_right.resource, granted_right.abilities)
        for granted_right in record.rights
    ]
    row: dict[str, object] = {
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
    return ListedGrant(row=row, may=rights_words(rights, by=record.delegator))


# --- one grant ------------------------------------------------------------------------------------

_HINT = "ask the sender for the unchanged output of `sealspace grant create`"


class VerifiedGrant(NamedTuple):
    """A grant whose signature has been verified."""

    cid: str
    token: Delegation
    rights: tuple[GrantedResource, ...]
    policies: tuple[Policy, ...]
    run: RunStatement | None
    host: str
    app: AppNames | None

    def state(self) -> str:
        """Return the grant's state: `active`, `expired` or `not valid yet`."""
        now = SystemClock.now()
        token = self.token
        if token.expires_at is not None and token.expires_at <= now:
            return "expired"
        if token.not_before is not None and now < token.not_before:
            return "not valid yet"
        return "active"


def verified_offline(portable: PortableDelegation) -> VerifiedGrant:
    """Verify the signature and the content of a grant offline.

    Args:
        portable: untrusted.
    Raises:
        InvalidPortableDelegation: the token cannot be parsed, its signature is invalid, or the
            description beside the token differs from it or exceeds it (MF16).
    Does not check:
        Parent grants and revocation, which only a node can check. Times: see
            `VerifiedGrant.state`.
    """
    grant = grant_of(portable, now=0.0)  # an expired grant is shown as such, not rejected
    try:
        token = verify_delegation(parse_delegation(portable.header))
        policies = policies_of(token.facts)
    except PolicyError as error:
        raise InvalidPortableDelegation(
            f"the grant's policy is invalid: {error}", hint=_HINT
        ) from None
    except CapabilityError as error:
        raise InvalidPortableDelegation(
            f"the grant's token is invalid: {error.text}", hint=_HINT
        ) from None
    run = run_grant_of(portable)
    return VerifiedGrant(
        cid=grant.cid,
        token=token,
        rights=described(grant.capabilities),
        policies=policies,
        run=None if run is None else run.statement,
        host=portable.host,
        app=read_app_names(portable.header),
    )


def describe_grant(grant: VerifiedGrant, state: str, names: Names = _NO_NAMES) -> list[str]:
    """Describe a grant in several lines of text."""
    token = grant.token
    conditions = None
    if _has_conditions(token):
        conditions = "conditions that only the node can check"
    rests = None
    if token.parents:
        rests = f"on other grants ({len(token.parents)}), which only the node can check"
    passing = "allowed: the recipient may grant parts of it"
    if token.terminal:
        passing = "not allowed"
    return facts(
        {
            "grant": grant.cid,
            "state": state,
            "by": names.whole(token.delegator),
            "to": names.whole(token.delegate),
            "called": called_lines(grant.app),
            "may": rights_words(grant.rights, by=token.delegator),
            "under": conditions,
            "only": [line for policy in grant.policies for line in policy_words(policy)],
            "runs": None if grant.run is None else run_words(grant.run),
            "from": optional_time(token.not_before),
            "until": optional_time(token.expires_at) or "without end",
            "passing": passing,
            "rests": rests,
            "node": grant.host or "not stated",
        }
    )


def grant_json(grant: VerifiedGrant, state: str) -> dict[str, object]:
    """Return the description of a grant as JSON."""
    token = grant.token
    return {
        "cid": grant.cid,
        "state": state,
        "by": token.delegator,
        "to": token.delegate,
        "rights": grant.rights,
        "hasConditions": _has_conditions(token),
        "policies": [policy_json(policy) for policy in grant.policies],
        "run": None if grant.run is None else run_statement_json(grant.run),
        "parents": [parent.echo for parent in token.parents],
        "mayBePassedOn": not token.terminal,
        "issuedAt": optional_time(token.issued_at),
        "notBefore": optional_time(token.not_before),
        "expiresAt": optional_time(token.expires_at),
        "node": grant.host,
        **app_names_members(grant.app),
    }


def _has_conditions(token: Delegation) -> bool:
    return any(capability.caveats for capability in token.capabilities)


# --- ending and using -----------------------------------------------------------------------------


@click.command(
    epilog="Example: `sealspace grant revoke bafy…`; `sealspace grant list` shows the ids.",
)
@click.argument("grant", metavar="CID|FILE")
@flag_option("--only", help="Revoke only this grant; keep the related ones.")
@yes_option
@at_node
async def revoke(client: Client, grant: str, only: bool, yes: bool) -> None:
    """Revoke a grant permanently.

    Specify the grant's id (CID) or its file. Every grant that the recipient derived from this grant
    ends too. The recipient's other grants for the same secrets are also revoked, because with such
    a grant the recipient could still decrypt a saved copy of a secret. These other grants are
    listed before you are asked to confirm.
    """
    was_revoked = await _was_revoked(client, _cids_named(grant))
    has_live = not all(was_revoked.values())
    records = []
    if has_live and not only:
        # What recipients passed on can be revoked too.
        query = client.delegations.query(direction="granted", derived=True)
        records = [record async for record in query]
    names = await names_for(
        client, [record.delegate for record in records if record.cid in was_revoked]
    )
    was_revoked = _with_related(was_revoked, records, names, owner=client.session.owner)
    # Scripts are not asked: a revocation in an emergency must not wait for a --yes.
    if has_live and is_interactive():
        rights = _rights_in_words(records)
        live_cids = [cid for cid, is_revoked in was_revoked.items() if not is_revoked]
        not_revoked = [f"{cid}{rights.get(cid, '')}" for cid in live_cids]
        confirm(f"permanently revoke {', '.join(not_revoked)}?", yes=yes)
    # Grants that are already shown as revoked are revoked again: only the answer to a revocation
    # confirms that it survives a failover (ST16).
    await revoke_all(client, was_revoked)
    results = []
    for cid, is_revoked in was_revoked.items():
        tell(f"already revoked: {cid}" if is_revoked else f"revoked: {cid}")
        results.append({"cid": cid, "wasRevokedAlready": is_revoked})
    print_result(results)


def _rights_in_words(records: Iterable[DelegationRecord]) -> dict[str, str]:
    """Return by CID what grants allow, in brackets."""
    rights_by_cid = {}
    for record in records:
        sentences = grant_row(record, made_here=False).may
        rights_by_cid[record.cid] = f" ({'; '.join(sentences)})"
    return rights_by_cid


def _cids_named(grant: str) -> list[str]:
    """Return the ids of the grants that an argument names: those in a file, or the id itself."""
    portables = grants_named(grant)
    if portables is None:
        return [grant]
    return [verified_offline(portable).cid for portable in portables]


async def _was_revoked(client: Client, cids: Iterable[str]) -> dict[str, bool]:
    """Return by CID whether a grant is revoked already. All grants must be known to the node."""
    revoked_by_cid = {}
    for cid in cids:
        status = await client.delegations.status(cid)
        if status.word == "not_found":
            raise unknown_grant(cid)
        revoked_by_cid[cid] = status.word == "revoked"
    return revoked_by_cid


def _with_related(
    was_revoked: Mapping[str, bool],
    records: Sequence[DelegationRecord],
    names: Names,
    *,
    owner: str,
) -> dict[str, bool]:
    """Return the grants to revoke, and whether they are revoked already.

    A live grant is replaced by all grants that its recipient would lose with it. Those that the
    user did not name are printed.

    Args:
        was_revoked: CIDs that the user named -> whether the grant is revoked already.
        records: the grants that the owner made; empty to revoke only the named ones.
        names: the owner's names for their recipients.
        owner: DID.
    """
    live = {cid for cid, is_revoked in was_revoked.items() if not is_revoked}
    to_revoke = dict(was_revoked)
    for record in records:
        if record.cid not in live:
            continue
        together = delegations_to_revoke(records, record, owner)
        for cid in together:
            if cid not in to_revoke:
                tell(
                    f"this grant ends too, because {names.whole(record.delegate)} could decrypt a"
                    f" saved copy with it: {cid}"
                )
        # `together` usually contains the grant itself. If the owner may not revoke it, its parents
        # are there instead.
        del to_revoke[record.cid]
        to_revoke |= dict.fromkeys(together, False)
    return to_revoke


async def revoke_all(client: Client, cids: Iterable[str]) -> None:
    """Revoke grants with the session, or else with the owner's wallet."""
    try:
        await client.delegations.revoke(*cids)
    except Unauthorized:
        # The session may lack the right to revoke what the wallet signed. The wallet has it.
        if (wallet := owner_home().wallet()) is None:
            raise
        for cid in cids:
            await client.delegations.revoke_by_wallet(cid, wallet)


@click.command(
    epilog="Examples: `sealspace grant accept grant.json`, then the command that it prints:"
    " `sealspace kv get KEY --space ID`, or `sealspace secret get NAME --owner DID`. To try it with"
    " a second identity on the same machine, run `sealspace login URL --new --home DIR` and add"
    " `--home DIR` to later commands.",
)
@click.argument("file", type=FILE)
@at_node
async def accept(client: Client, file: Path) -> None:
    """Accept the grants in FILE for use by later commands.

    The recipient of a grant must be the DID of your wallet or of your session; `sealspace whoami`
    prints both. A grant is checked on this machine first, then by the node. Grants to your wallet
    are accepted again at every login. Grants to your session end when the session ends.
    """
    home = owner_home()
    portables = read_grants(file)
    owner = home.profile().owner
    # Check every grant before using the first, so that a bad file changes nothing.
    accepted = [
        _require_usable(offered, owner=owner, session_did=client.session.did)
        for offered in portables
    ]
    for_wallet = [offered for offered in portables if same_principal(offered.delegate_did, owner)]
    for portable in portables:
        wallet = home.wallet() if portable in for_wallet else None
        await accept_one(client, portable, wallet)
    home.keep_session(client.session)
    for portable in for_wallet:
        home.keep_received(portable)
    rights = [right for grant in accepted for right in grant.rights]
    if any(DECRYPT in right.actions for right in rights) and await requires_proof(client):
        tell(f"warning: you cannot read the secrets with this grant alone: {NOT_SHARED}")
    names = await names_for(client, [grant.token.delegator for grant in accepted])
    _print_accepted(accepted, rights, names)


def _print_accepted(
    accepted: Sequence[VerifiedGrant], rights: Sequence[GrantedResource], names: Names
) -> None:
    """Print accepted grants with their rights, and how to use the rights."""
    for grant in accepted:
        granter = names.whole(grant.token.delegator)
        tell(f"accepted: {grant.cid}, from {granter}, {end_text(grant.token.expires_at)}")
        for line in rights_words(grant.rights, by=grant.token.delegate):
            tell(f"  {line}")
    if shared().as_json:
        spaces = sorted({right.space for right in rights if right.service != "encryption"})
        print_json({"accepted": [grant.cid for grant in accepted], "spaces": spaces})
        return
    for right in rights:
        command = _command_to_read(right)
        if command is not None:
            tell(f"to use it: {command}")


def _command_to_read(right: GrantedResource) -> str | None:
    """Return a shell command that reads the granted values, or None if there is none."""
    secret = secret_at(right.path)
    if secret is not None and KV_GET in right.actions:
        words = ["secret", "get"]
        if secret.scope is not None:
            words.append(f"--scope={secret.scope}")
        words += ["--owner", parse_space_id(right.space).owner]
        return _command(*words, name=secret.name)
    if right.service == "sql":
        database = right.path or "default"
        return _command("sql", "query", "--space", right.space, name=database) + " SQL"
    # No command is for a secret that may not be read, or for a service such as decryption.
    if secret is not None or right.service != "kv":
        return None
    if KV_LIST in right.actions:
        return _command("kv", "list", "--space", right.space, name=right.path)
    if KV_GET in right.actions:
        return _command("kv", "get", "--space", right.space, name=right.path or "KEY")
    return None


def _command(*words: str, name: str) -> str:
    """Return a shell command with its arguments quoted."""
    # The granter chose the names: quoting stops shell injection, and `--` stops a name that would
    # be read as an option.
    command = ["sealspace", *words]
    if name.startswith("-"):
        command.append("--")
    if name:
        command.append(name)
    return shlex.join(command)


def _require_usable(portable: PortableDelegation, *, owner: str, session_did: str) -> VerifiedGrant:
    """Check that a grant is active and issued to the user.

    The grant is verified offline.

    Args:
        portable: untrusted.
        owner: DID of the user's wallet.
        session_did: DID of the user's session, which may have grants of its own.
    """
    grant = verified_offline(portable)
    state = grant.state()
    if state != "active":
        raise InvalidPortableDelegation(
            f"the grant is {state}", hint="ask the sender for a new grant"
        )
    if not any(same_principal(grant.token.delegate, did) for did in (owner, session_did)):
        if same_principal(grant.token.delegator, owner):
            raise NotGranted(
                f"this is your own grant to {grant.token.delegate}; only the recipient can accept"
                " it",
                hint="send the file to the recipient, who runs: sealspace grant accept FILE",
            )
        raise NotGranted(
            f"the grant is for {grant.token.delegate}, but you are {owner}",
            hint="ask for a grant to the DID that `sealspace whoami` prints",
        )
    return grant


async def accept_one(client: Client, portable: PortableDelegation, wallet: Wallet | None) -> None:
    """Accept a received grant for the rest of the session."""
    ttl_s = DELEGATION_TTL_S
    ends = client.session.expires_at
    if ends is not None:
        ttl_s = ends - SystemClock.now()
    await client.delegations.accept(portable, wallet=wallet, ttl_s=ttl_s)


@at_node
async def accept_received_again(client: Client) -> None:
    """Accept previously received grants in a new session.

    Grants that are no longer valid are deleted.
    """
    home = owner_home()
    for portable in home.received():
        try:
            await accept_one(client, portable, home.wallet())
        except (InvalidPortableDelegation, Unauthorized):
            tell(f"removed a grant that is no longer in force: {portable.cid} of {portable.owner}")
            home.forget_received(portable.cid)
    home.keep_session(client.session)
