"""Names of DIDs, as far as the owner, this machine or the node has any."""

from collections.abc import Collection, Mapping

from ...client import Client
from .contact_names import names_for
from .owner_profile import owner_home

_SERVICE = "this node's service for iExec's clients"


async def known_names(client: Client, dids: Collection[str]) -> Mapping[str, str]:
    """Return the names of DIDs, by DID.

    The owner's name for a DID counts (SH13), and after it what this machine or the node knows.
    """
    if not dids:
        return {}
    names = {}
    for saved_grant in owner_home().grants():
        if saved_grant.url is not None:
            names[saved_grant.portable.delegate_did] = f"the backend at {saved_grant.url}"
    service = (await client.info()).sms_did
    if service:
        names[service] = _SERVICE
    contacts = await names_for(client, dids)
    for did in dids:
        name = contacts.name(did)
        if name is not None:
            names[did] = name
    return names
