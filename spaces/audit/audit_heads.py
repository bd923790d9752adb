"""Signatures of the audit chain's heads under a new identity of the node (RK9).

An export names one node, and each of its heads must be signed by it. When a node gets a new
identity, all stored heads are signed again, over the same entries.
"""

import msgspec

from capabilities.audit_export import canonical
from capabilities.strict_json import JsonObject

from ..keyspace import AUDIT_HEADS_PREFIX
from ..space_errors import RecordDamaged
from ..store.contract import (
    REVOCATION_RESERVE,
    Commit,
    Page,
    Put,
    Range,
    Refused,
    Store,
    read_page,
)
from .audit_chain import Chain

_HEADS_AT_ONCE = 200


async def resign_heads(store: Store, chain: Chain) -> int:
    """Sign all heads again that another identity signed.

    A head keeps its time and the entries that it covers. The function can be interrupted and called
    again.

    Args:
        store: contains the heads.
        chain: the new node DID, the store's id, and a function that signs.

    Returns:
        How many heads were signed.

    Raises:
        RecordDamaged: a head does not decode.
        SpaceError: the store does not answer.
    """
    signed_count = 0
    after: bytes | None = None
    while True:
        page = await read_page(store, Range(AUDIT_HEADS_PREFIX, after=after, limit=_HEADS_AT_ONCE))
        puts = _sign_anew(page, chain)
        if puts:
            # A full store still accepts them, so that a replaced identity can be finished (ST17).
            commit = Commit(puts=puts, reserve=REVOCATION_RESERVE)
            if isinstance(await store.commit(commit), Refused):
                continue  # another process changed a head, so the page is read again
        signed_count += len(puts)
        if page.place is None:
            return signed_count
        after = page.place


def _sign_anew(page: Page, chain: Chain) -> tuple[Put, ...]:
    """Return the writes of the heads of a page that another identity signed."""
    puts: list[Put] = []
    for key, record in page.rows:
        members = _parse_head(record.value or b"")
        if members.get("node") == chain.node_did:
            continue
        members.pop("signature", None)
        members["node"] = chain.node_did
        members["signature"] = chain.sign(canonical(members)).hex()
        puts.append(Put(key, canonical(members), expect=record.stamp))
    return tuple(puts)


def _parse_head(head: bytes) -> JsonObject:
    """Return the members of a stored head.

    Raises:
        RecordDamaged: it is not a JSON object.
    """
    try:
        members: JsonObject = msgspec.json.decode(head, type=dict)
    except (ValueError, RecursionError) as exc:
        raise RecordDamaged("a signed head of the audit chain cannot be decoded") from exc
    return members
