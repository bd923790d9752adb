"""Warnings about grants with which others may write at a secret that someone is about to read.

The label of an envelope is not authenticated (EN22). So whoever may write at the path of a secret
can store the envelope of another secret there, with its label changed, and the new reader then gets
that secret.

Example:
    writers = await warn_of_writers(client, ["API_KEY", "ci/DB_URL"])
    print_result(document | writers, lines)
"""

from collections.abc import Iterable
from typing import Literal

from ...client import Client
from ...documents.secret_names import SECRETS_SPACE
from ...errors import SealspaceError
from ...secrets import parse_secret_label
from ...wire.delegation_history import LIVE, MAX_PAGE_ITEMS, DelegationRecord, writers_of
from ..owner.known_names import known_names
from ..terminal import tell, what_happened
from .grant_list import grant_row

MOST_GRANTS = 10_000
"""Most live grants that are read. A longer list is cut, and a warning says so."""

_ListState = Literal["complete", "cut", "unreadable"]
"""Whether the list of grants was read to its end."""


async def warn_of_writers(client: Client, labels: Iterable[str]) -> dict[str, object]:
    """Print a warning for each live grant with which others may write at a secret (EN34).

    A command calls this before the wallet signs, so that the owner can stop it and revoke the
    grant first.

    Args:
        client: of the owner.
        labels: the secrets, `NAME` or `scope/NAME`.
    Returns:
        Members for the JSON output of the command. `writers` contains the grants. `writersList` is
        `complete`, `cut` or `unreadable`.
    """
    records, state = await _live_grants(client)
    secrets, owner = client.secrets(), client.session.owner
    writers: dict[str, DelegationRecord] = {}
    reached: dict[str, list[str]] = {}  # CID of a grant -> labels of the secrets
    for label in dict.fromkeys(labels):
        name = parse_secret_label(label)
        for one in writers_of(records, secrets.resource(name.name, scope=name.scope), owner):
            writers[one.cid] = one
            reached.setdefault(one.cid, []).append(label)
    names = await known_names(client, [one.delegate for one in writers.values()])
    rows = []
    for cid, one in writers.items():
        row, _ = grant_row(one, made_here=False)
        name_of_recipient = names.get(one.delegate)
        rows.append(row | {"name": name_of_recipient, "secrets": reached[cid]})
        who = f"{one.delegate} ({name_of_recipient})" if name_of_recipient else one.delegate
        until = "without end" if row["expiresAt"] is None else f"until {row['expiresAt']}"
        tell(
            f"warning: {who} may write {', '.join(reached[cid])}, {until}, and can store another"
            " of your secrets there, which is then read in its place",
            f"to revoke this right: sealspace grant revoke {cid}",
        )
    if state == "cut":
        # Without this line, a list that an attacker made long would look like a full one (EN34).
        tell(
            f"warning: you have more than {MOST_GRANTS} grants in force, and only these were"
            " checked; others may also write these secrets; next: sealspace grant list"
        )
    return {"writers": rows, "writersList": state}


async def _live_grants(client: Client) -> tuple[list[DelegationRecord], _ListState]:
    """Fetch the owner's live grants, and say whether these are all.

    An error leads to a warning, and the grants that were read before it are returned.
    """
    records: list[DelegationRecord] = []
    # The right to read the list is one on a space: the session's primary one, or else `secrets`.
    account = None if client.session.space else SECRETS_SPACE
    try:
        for status in LIVE:
            async for one in client.delegations.query(
                direction="granted",
                status=status,
                account=account,
                page_items=MAX_PAGE_ITEMS,
            ):
                if len(records) == MOST_GRANTS:
                    return records, "cut"
                records.append(one)
    except SealspaceError as error:
        # A list that cannot be read must not look like a list without writers (EN34).
        reason = what_happened(error, own=client.session.owner)
        tell(
            f"warning: cannot check who else may write these secrets: {reason}; next: sealspace"
            " grant list"
        )
        return records, "unreadable"
    return records, "complete"
