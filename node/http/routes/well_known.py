"""The node's public keys: GET /.well-known/tinycloud/node-keys (wire 5.7)."""

import msgspec
from aiohttp import web

from ...services import SERVICES
from ..messages.answers import json_answer


class NodeKeys(msgspec.Struct, rename="camel"):
    """The node's DID and the public key of its invitations."""

    node_did: str
    share_invitation_public_key: str


async def get_node_keys(request: web.Request) -> web.Response:
    """Answer the node's DID and the public key of its invitations."""
    keyring = request.app[SERVICES].keyring
    return json_answer(NodeKeys(keyring.node_did, keyring.invitation_public_key))
