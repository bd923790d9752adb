"""Signatures of the audit chain's heads under a new identity of the node (RK9).

An export names one node, and each of its heads must be signed by it. When a node gets a new
identity, all stored heads are signed again, over the same entries.
"""

import msgspec

from capabilities.audit_export import canonical
from capabilities.strict_json import JsonObject

from ..keyspace import AUDIT_HEADS_PREFIX
from ..space_errors import RecordDamaged
from ..store.contract import Commit, Page, Put, Range, Refused, Store, read_page
from .audit_chain import Chain

_HEADS_AT_ONCE = 200


async def resign_heads(store: Store, chain: Chain) -> int:
    """Sign all heads that another identity signed again.

    It can be interrupted and called again. A head keeps its time and what it covers.

    Args:
        store: contains the heads.
        chain: the new node DID, the store's id, and a function that signs.

    Returns:
        How many heads were signed.

    Raises:
        RecordDamaged: a head does not decode.
        SpaceError: the store does not answer.
    """
    signed = 0
    after: bytes | None = None
    while True:
        page = await read_page(store, Range(AUDIT_HEADS_PREFIX, after=after, limit=_HEADS_AT_ONCE))
        puts = _resigned(page, chain)
        if puts and isinstance(await store.commit(Commit(puts=puts, reserve="")), Refused):
            continue  # another process changed a head, so the page is read again
        signed += len(puts)
        if page.place is None:
            return signed
        after = page.place


def _resigned(page: Page, chain: Chain) -> tuple[Put, ...]:
    puts: list[Put] = []
    for key, record in page.rows:
        members = _members_of(record.value or b"")
        if members.get("node") == chain.node_did:
            continue
        members.pop("signature", None)
        members["node"] = chain.node_did
        members["signature"] = chain.sign(canonical(members)).hex()
        puts.append(Put(key, canonical(members), expect=record.stamp))
    return tuple(puts)


def _members_of(head: bytes) -> JsonObject:
    try:
        members: JsonObject = msgspec.json.decode(head, type=dict)
    except (ValueError, RecursionError) as exc:
        raise RecordDamaged("a signed head of the audit chain cannot be decoded") from exc
    return members
