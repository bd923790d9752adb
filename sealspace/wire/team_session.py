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
    granted_paths = _paths_of_restricted_member(session)
    if granted_paths is None:
        return [key async for key in kv.list(prefix)]
    stored = await kv.metadata_many([path for path in granted_paths if path.startswith(prefix)])
    return sorted(stored)


def _paths_of_restricted_member(session: Session) -> list[str] | None:
    """Return the paths that a member for some secrets may read.

    Returns None if the session is no member's, or if the member may list all secrets.
    """
    if member_of_session(session) is None:
        return None
    # The session of a member has one grant: the member's own sign-in.
    rights = session.grants[0].capabilities
    if any(right.ability == KV_LIST for right in rights):
        return None
    paths: list[str] = []
    for right in rights:
        resource = right.resource
        if right.ability == KV_GET and isinstance(resource, SpaceResource) and resource.path:
            paths.append(resource.path)
    return paths
