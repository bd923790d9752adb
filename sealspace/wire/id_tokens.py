"""The exchange of a CI job's ID token for a machine token (OX8).

The job needs two variables: SEALSPACE_NODE, and in SEALSPACE_TRUST the id that `sealspace ci trust`
printed. GitHub makes an ID token on request. Elsewhere the token is in the variable
SEALSPACE_ID_TOKEN, or in the file that SEALSPACE_ID_TOKEN_FILE names.

Example:
    line = await exchange_id_token()
    client = Client(url, session=read_token(line))
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import Ed25519Signer

from ..errors import NotSignedIn
from ..private_files import read_bounded
from .caller import Caller
from .node_answers import json_object, required_text
from .token_line import NODE_VARIABLE, required_variable, token_line
from .transport import Transport, json_request

TRUST_VARIABLE = "SEALSPACE_TRUST"
ID_TOKEN_VARIABLE = "SEALSPACE_ID_TOKEN"  # noqa: S105  # the name of a variable
MAX_ID_TOKEN_BYTES = 16_384


async def exchange_id_token(url: str | None = None) -> str:
    """Exchange the ID token of this CI job for a machine token.

    Args:
        url: address of the node; None: the one in the variable SEALSPACE_NODE.
    Returns:
        The line for SEALSPACE_TOKEN, which is valid for at most 15 minutes.
    Raises:
        NotSignedIn: a variable is not set or is empty, or there is no ID token.
        NodeRefused, TransportError: the node did not exchange it.
    """
    hint = (
        f"set {NODE_VARIABLE} to the node's address, and {TRUST_VARIABLE} to the id that"
        " `sealspace ci trust` printed"
    )
    url = url or required_variable(NODE_VARIABLE, hint)
    trust = required_variable(TRUST_VARIABLE, hint)
    entropy = SystemEntropy()
    seed = entropy.token(32)
    async with Transport(url) as transport:
        caller = Caller(transport=transport, clock=SystemClock(), entropy=entropy)
        token = await _id_token(await caller.node_id(), Ed25519Signer(seed).did)
        return await exchange(caller, token=token, trust=trust, seed=seed)


async def exchange(caller: Caller, *, token: str, trust: str, seed: bytes) -> str:
    """Exchange an ID token for a machine token with a given key, and return its line.

    Raises:
        NodeRefused, TransportError: the node did not exchange it.
    """
    node_id = await caller.node_id()
    body = {"token": token, "key": Ed25519Signer(seed).did, "trust": trust}
    answer = await caller.transport.require(
        json_request("POST", "/oidc/exchange", msgspec.json.encode(body), serves_once=True)
    )
    return token_line(seed, node_id, required_text(json_object(answer), "delegation"))


async def _id_token(node_id: str, key: str) -> str:
    """Return the job's ID token, with the node as audience, and the key too if possible."""
    import aiohttp  # imported here to keep the start fast

    # Any of these errors means that there is no ID token, or that it cannot be read.
    with suppress(aiohttp.ClientError, KeyError, OSError, ValueError):
        if path := os.environ.get(f"{ID_TOKEN_VARIABLE}_FILE"):
            return read_bounded(Path(path), most_bytes=MAX_ID_TOKEN_BYTES).decode().strip()
        if token := os.environ.get(ID_TOKEN_VARIABLE):
            return token.strip()
        if address := os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
            right = {"Authorization": f"bearer {os.environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
            # The audience is the node's id, `#` and the key, so that whoever reads the ID token
            # cannot exchange it for another key (OX8).
            async with (
                aiohttp.ClientSession(raise_for_status=True) as session,
                session.get(f"{address}&audience={node_id}%23{key}", headers=right) as answer,
            ):
                return str((await answer.json())["value"])
    raise NotSignedIn(
        "this CI job has no ID token, or it cannot be read",
        hint=f"on GitHub, add `permissions: id-token: write` to the job; elsewhere, set"
        f" {ID_TOKEN_VARIABLE} to an ID token with the audience {node_id}",
    )
