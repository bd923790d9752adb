"""The first steps of a new user, and the usual mistakes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from embedded_node import embedded_node

from node.config.tree import Config, Http, Store
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.errors import InvalidInput, NotFound, SealspaceError
from sealspace.session import load_session, save_session
from sealspace.wallets import new_wallet

NODE = "http://127.0.0.1:8000"
SPACE = "tinycloud:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf:notes"
GET = "tinycloud.kv/get"


async def test_a_session_is_kept_as_the_readme_says(tmp_path: Path) -> None:
    """A program that starts again continues with the session in the file, without the wallet."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data")))
    kept = tmp_path / "session.json"
    async with embedded_node(config) as node:
        async with Client(node.url) as client:
            save_session(await client.sign_in(new_wallet()), kept)
            await client.secrets().put("API_KEY", "open sesame")
        async with Client(node.url, session=load_session(kept)) as again:
            assert await again.secrets().get("API_KEY") == "open sesame"


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: Client("127.0.0.1:8000"),
        lambda: Client("http://node.example"),
        lambda: Client(NODE).public("public"),
        lambda: allow("notes/kv/todo", GET),
        lambda: allow(f"{SPACE}/kv/todo", "get"),
    ],
    ids=["address", "plain-http", "public-space", "resource", "ability"],
)
async def test_a_mistake_says_what_to_do(mistake: Callable[[], object]) -> None:
    """Invalid input is refused with an explanation and a hint at the right form."""
    with pytest.raises(InvalidInput) as refused:
        mistake()
    assert str(refused.value)
    assert refused.value.hint


async def test_mistakes_with_a_node_say_what_to_do(tmp_path: Path) -> None:
    """Invalid and missing names, keys and values are refused with a hint, and nothing else is
    stored."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path)))
    async with embedded_node(config) as node, Client(node.url) as client:
        with pytest.raises(InvalidInput, match="not a space: my notes") as refused:
            await client.sign_in(new_wallet(), SignIn(space="my notes"))
        assert refused.value.hint
        await client.sign_in(new_wallet())
        notes, names = client.kv(), client.secrets()
        calls = (
            notes.put("a b", "blank"),
            notes.put("a", {"a": "mapping"}),  # type: ignore[arg-type]  # the mistake
            notes.get("absent"),
            names.put("api_key", "small letters"),
            names.get("API_KEY"),
            client.kv("other").get("a"),
            client.delegations.delegate("friend", [allow(f"{notes.space.text}/kv/a", GET)]),
        )
        for call in calls:
            with pytest.raises(SealspaceError) as reported:
                await call
            assert reported.value.hint, reported.value
        assert [key async for key in notes.list()] == []
        with pytest.raises(NotFound):
            await notes.get("a")
        with pytest.raises(InvalidInput, match="lone surrogate"):
            await notes.put("a", "\ud800")
