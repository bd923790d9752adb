"""The node's public keys: GET /.well-known/tinycloud/node-keys (wire 5.7)."""

from aiohttp import web

from ...services import SERVICES
from ..messages.answers import json_answer


async def get_node_keys(request: web.Request) -> web.Response:
    """Answer the node's DID and the public key of its invitations."""
    keyring = request.app[SERVICES].keyring
    return json_answer({"nodeDid": keyring.node_did, "shareInvitationPublicKey": keyring.invitation_public_key})
