"""An owner's spaces, through the client."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from node.config.tree import Hosting
from sealspace.client import SignIn
from sealspace.errors import (
    DuplicateRequest,
    InvalidInput,
    MalformedAnswer,
    NotGranted,
    SpaceNotFound,
    Unauthorized,
)
from sealspace.spaces import entries_of, entry_of
from sealspace.wallets import new_wallet
from sealspace.wire.transport import Answer

SEED = bytes(range(32))


async def test_a_wallet_adds_the_right_and_makes_spaces(bench) -> None:
    """A session gets the right to create spaces by a separate signature of the wallet."""
    owner, wallet = await bench.owner()
    with pytest.raises(NotGranted):
        await owner.spaces().list()
    await owner.delegations.add_right(wallet, owner.spaces().rights)
    made = await owner.spaces().create("notes")
    assert made.space.owner == wallet.did
    assert made.space.name == "notes"
    assert made.is_own is None
    assert ["default", "notes", "secrets"] == [
        entry.space.name for entry in await owner.spaces().list()
    ]
    for name in ("notes", made.space.text):
        found = await owner.spaces().info(name)
        assert made.space == found.space
        assert found.is_own is True
        assert made.created_at == found.created_at
    await owner.kv().put("a", b"12345")
    used, unused = await owner.spaces().info("default"), await owner.spaces().info("notes")
    assert used.usage_bytes == 5
    assert unused.usage_bytes == 0
    assert made.usage_bytes is None
    assert used.limit_bytes == Hosting().default_quota_bytes
    with pytest.raises(DuplicateRequest):
        await owner.spaces().create("notes")
    with pytest.raises(SpaceNotFound):
        await owner.spaces().info("none")
    for name in ("", "a/b", made.space.text):
        with pytest.raises(InvalidInput):
            await owner.spaces().create(name)


async def test_a_sign_in_asks_for_it(bench) -> None:
    """A sign-in behind a web page requests the right to create spaces in the same message."""

    class PageWallet:
        domain = "127.0.0.1:4321"

        def __init__(self) -> None:
            self.signer, self.texts = new_wallet(), list[str]()
            self.address, self.chain_id, self.did = (
                self.signer.address,
                self.signer.chain_id,
                self.signer.did,
            )

        def sign_eip191(self, text: str) -> bytes:
            self.texts.append(text)
            return self.signer.sign_eip191(text)

    wallet, client = PageWallet(), await bench.client()
    await client.sign_in(wallet, SignIn(spaces_rights=True, domain="elsewhere.example"))
    assert ["default", "secrets"] == [entry.space.name for entry in await client.spaces().list()]
    (text,) = wallet.texts
    assert text.startswith("127.0.0.1:4321 wants you to sign in")


async def test_a_key_has_the_right_on_its_own(bench) -> None:
    """A key creates and lists its own spaces without a grant."""
    client = await bench.client()
    await client.sign_in_with_key(SEED, spaces=("home",))
    await client.spaces().create("notes")
    await client.kv("notes").put("a", b"1")
    assert ["home", "notes"] == [entry.space.name for entry in await client.spaces("home").list()]


async def test_a_strict_node_makes_none(strict_bench) -> None:
    """A node in mode `explicit` refuses to create a space without a host grant."""
    client = await strict_bench.client()
    await client.sign_in_with_key(SEED, spaces=("home",))
    with pytest.raises(Unauthorized):
        await client.spaces().create("notes")


async def test_another_clients_space_is_not_found(bench) -> None:
    """Another owner's space looks like one that does not exist."""
    client, other = await bench.client(), (await bench.owner())[0]
    await client.sign_in_with_key(SEED, spaces=("home",))
    with pytest.raises(SpaceNotFound):
        await client.spaces().info(other.kv().space.text)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'[{"id":"x","owner":"y"}]', b'[{"id":1}]', b"\xff", b"[" * 100_000]
)
def test_an_answer_that_tells_no_spaces(body: bytes) -> None:
    """A malformed space, or list of spaces, raises MalformedAnswer."""
    answer = Answer(200, CIMultiDictProxy(CIMultiDict()), body)
    for read in (entries_of, entry_of):
        with pytest.raises(MalformedAnswer):
            read(answer)
