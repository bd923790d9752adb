"""Names of DIDs, as far as this machine or the node has any."""

from collections.abc import Mapping

from ...client import Client
from .owner_profile import owner_home

_SERVICE = "this node's service for iExec's clients"


async def known_names(client: Client) -> Mapping[str, str]:
    """Return names of recipients of grants, by DID, as far as this machine or the node has any."""
    names = {}
    for kept in owner_home().grants():
        if kept.url is not None:
            names[kept.portable.delegate_did] = f"the backend at {kept.url}"
    service = (await client.info()).sms_did
    if service:
        names[service] = _SERVICE
    return names
