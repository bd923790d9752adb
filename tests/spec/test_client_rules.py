"""Tests that the SDK signs the same texts as other clients of the protocol."""

import re
from pathlib import Path

from embedded_node import embedded_node
from engines import store_at
from running_node import send

from capabilities.cacao import header_bytes, parse_cacao
from node.config.tree import Config, Http
from sealspace.client import Client
from sealspace.wallets import new_wallet

MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_what_a_sign_in_says(tmp_path: Path) -> None:
    """A sign-in names the session's DID URL and has times in milliseconds (J4)."""
    config = Config(http=Http(port=0, drain_s=0), store=store_at(tmp_path))
    async with embedded_node(config) as node, Client(node.url) as client:
        session = await client.sign_in(new_wallet())
        (grant,) = session.grants
        posted = await send(node.url, "POST", "/delegate", token=grant.header)
    message = parse_cacao(header_bytes(grant.header)).message
    assert message.uri == session.signer.did_url
    assert MILLISECONDS.fullmatch(message.issued_at)
    assert MILLISECONDS.fullmatch(message.expiration_time or "")
    assert posted.value["cid"] == grant.cid
