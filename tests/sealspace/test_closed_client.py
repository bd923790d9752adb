"""A client after it was closed."""

import pytest

from sealspace.errors import ClientClosed


async def test_a_client_that_was_closed(bench) -> None:
    """A closed client sends and seals nothing. Every service raises the same named error."""
    client, wallet = await bench.owner()
    await client.secrets().put("API_KEY", "value")
    session, network = client.session, client.encryption.network()
    await client.close()
    await client.close()
    for call in (
        client.info,
        lambda: client.sign_in(wallet),
        lambda: client.kv().get("a"),
        lambda: client.kv().upload("a", [b"1"]),
        lambda: client.secrets().put("API_KEY", "value"),
        lambda: client.encryption.encrypt(b"", network=network),
        lambda: anext(client.delegations.query()),
        lambda: anext(client.kv().stream("a")),
        lambda: client.public(client.kv("public").space.text).get("a"),
    ):
        with pytest.raises(ClientClosed):
            await call()
    again = await bench.client(session)
    assert await again.secrets().get("API_KEY") == "value"
