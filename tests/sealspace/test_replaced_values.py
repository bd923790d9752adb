"""Tests of reads while the value is replaced: between the envelope and its key."""

from typing import Any

import pytest
from aiohttp import web
from patience import PATIENCE_S
from relay import relay_before

from capabilities.abilities import SET_POLICY
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import DecryptDenied
from sealspace.wire.token_line import read_token
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@pytest.mark.parametrize("replaced", [1, 2])
async def test_RL19_a_value_that_is_replaced_meanwhile(bench: Any, replaced: int) -> None:
    """The new value is read if the value was replaced before its key was released; a value that is
    replaced again and again is refused."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "first")
    line = await owner.delegations.create_token("deploy", ["API_KEY"], wallet=wallet)
    left = replaced

    async def hold(request: web.Request) -> None:
        nonlocal left
        if request.path.endswith("/decrypt") and left:
            left -= 1
            await owner.secrets().put("API_KEY", "second")

    async with relay_before(bench.node.url) as relay:
        relay.hold = hold
        client = Client(
            relay.url,
            session=read_token(line),
            settings=SETTINGS,
            clock=bench.clock,
            entropy=bench.entropy,
        )
        async with client as program:
            if replaced == 1:
                assert await program.secrets().get("API_KEY") == "second"
            else:
                with pytest.raises(DecryptDenied, match="path"):
                    await program.secrets().get("API_KEY")
            assert await program.secrets().get_many(["API_KEY"]) == {"API_KEY": "second"}


@pytest.mark.parametrize("reader", ["owner", "machine token"])
async def test_EN38_a_key_that_is_destroyed_meanwhile(bench: Any, reader: str) -> None:
    """A value is read although its former key is destroyed between the envelope and the content
    key; a value that is still sealed to the former key is refused."""
    owner, wallet = await bench.owner()
    network = owner.encryption.network()
    await owner.delegations.add_right(wallet, [allow(network.text, SET_POLICY)])
    await owner.secrets().put_many({"API_KEY": "first", "LOST": "second"})
    session = owner.session
    if reader == "machine token":
        names = ["API_KEY", "LOST"]
        session = read_token(await owner.delegations.create_token("deploy", names, wallet=wallet))
    destroyed = False

    async def hold(request: web.Request) -> None:
        nonlocal destroyed
        if request.path.endswith("/decrypt") and not destroyed:
            destroyed = True
            await owner.network_keys.rotate(network, wallet=lambda: wallet)
            await owner.secrets().put("API_KEY", await owner.secrets().get_text("API_KEY"))
            await owner.network_keys.retire(network, 1)
            await owner.network_keys.destroy(network, 1, wallet=lambda: wallet)

    async with relay_before(bench.node.url) as relay:
        relay.hold = hold
        client = Client(
            relay.url,
            session=session,
            settings=SETTINGS,
            clock=bench.clock,
            entropy=bench.entropy,
        )
        async with client as program:
            assert await program.secrets().get("API_KEY") == "first"
            assert destroyed
            with pytest.raises(DecryptDenied, match="key version"):
                await program.secrets().get("LOST")
