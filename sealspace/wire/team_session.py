"""Sessions of members of a team."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

from capabilities.abilities import KV_GET, KV_LIST
from capabilities.principals import Principal, is_wallet, same_principal
from capabilities.resources import SpaceResource

from ..session import Session


class _Values(Protocol):
    """The values of a space; see `sealspace.kv.Kv`."""

    def list(self, prefix: str = "") -> AsyncIterator[str]: ...
    async def metadata_many(self, keys: Iterable[str]) -> Mapping[str, object]: ...


def member_of_session(session: Session) -> Principal | None:
    """Return the DID of the member's wallet, if a session acts for a team (TM3).

    None means that the session is not that of a member: it is the owner's own, an agent's, or that
    of a machine token.
    """
    if not session.grants or session.did == session.owner:
        return None
    signer = session.grants[0].delegator
    if same_principal(signer, session.owner) or not is_wallet(signer):
        return None
    return signer


async def listed_paths(kv: _Values, session: Session, prefix: str) -> list[str]:
    """Return the keys with a prefix, in ascending order.

    A member for some secrets may not list keys. The membership names the keys, so those that exist
    are returned.
    """
    named = []
    if member_of_session(session) is not None:
        rights = session.grants[0].capabilities
        if not any(one.ability == KV_LIST for one in rights):
            for one in rights:
                place = one.resource
                if one.ability == KV_GET and isinstance(place, SpaceResource) and place.path:
                    named.append(place.path)
    if not named:
        return [key async for key in kv.list(prefix)]
    stored = await kv.metadata_many([path for path in named if path.startswith(prefix)])
    return sorted(stored)
