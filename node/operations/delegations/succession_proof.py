"""The proof that an owner has moved to another wallet, which everybody can read (TM22)."""

import msgspec

from capabilities.cids import ContentKey
from capabilities.principals import parse_principal
from spaces.grants.successions import read_succession, succession_key
from spaces.store.contract import read_row

from ...services import Services


class SuccessionProof(msgspec.Struct):
    """How an owner moved.

    Attributes:
        owner: DID of the owner, in canonical spelling.
        successor: DID of the new wallet; None: the owner has not moved.
        at: time of the move, epoch seconds.
        tokens: both statements, then the delegations above them; without those that were removed
            after their end.
    """

    owner: str
    successor: str | None = None
    at: float | None = None
    tokens: tuple[str, ...] = ()


async def read_succession_proof(services: Services, did: str) -> SuccessionProof:
    """Return how an owner moved.

    Args:
        did: untrusted.
    Raises:
        InvalidIdentifier: it is not a DID.
        SpaceError: the store does not answer.
    """
    owner = parse_principal(did)
    moved = read_succession(await read_row(services.store, succession_key(owner)))
    if moved is None or moved.successor is None:
        return SuccessionProof(owner=owner)
    contents: dict[ContentKey, None] = dict.fromkeys(moved.statements)
    for statement in await services.delegations.by_content(moved.statements):
        if statement is not None:
            contents.update(dict.fromkeys([one.content_key for one in statement.closure]))
    delegations = await services.delegations.by_content(tuple(contents))
    return SuccessionProof(
        owner=owner,
        successor=moved.successor,
        at=moved.at,
        tokens=tuple([one.delegation.header for one in delegations if one is not None]),
    )
