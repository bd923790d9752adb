"""Share links: a delegation and its key in one text, as other clients of the protocol write and read it."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from sealspace._minting import Claims, mint
from sealspace.delegations import allow
from sealspace.errors import InvalidInput, InvalidPortableDelegation, NotGranted
from sealspace.portable import PortableDelegation, portable_of
from sealspace.session import read_grant, space_of
from sealspace.share_links import decode_share_link, encode_share_link
from sealspace.wallets import new_wallet

NOW = 1_795_000_000.0
SEED = bytes(range(32))
KEY = Ed25519Signer(SEED)
SESSION = Ed25519Signer(bytes(32))
OWNER = new_wallet(entropy=CountingEntropy()).did
SPACE = space_of(OWNER, "notes").text
ABILITIES = ("tinycloud.kv/get", "tinycloud.kv/metadata")


def portable(*paths: str, delegate: str = KEY.did) -> PortableDelegation:
    claims = Claims(
        audience=delegate,
        capabilities=[allow(f"{SPACE}/kv/{path}", ability) for path in paths or ("album/a",) for ability in ABILITIES],
        proofs=(),
        expires_at=int(NOW) + 600,
    )
    grant = read_grant(mint(SESSION, claims, CountingEntropy()))
    return portable_of(grant, owner=Principal(OWNER), host="https://node.example")


def written(**changes: Any) -> str:
    """Write a link by the text of the protocol, without the product's writer."""

    def b64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    one = portable()
    public = b64(bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"))
    delegation = {
        "cid": one.cid,
        "delegateDID": KEY.did,
        "spaceId": SPACE,
        "path": "album/a",
        "actions": list(ABILITIES),
        "expiry": "2026-11-18T11:16:40.000Z",
        "isRevoked": False,
        "authHeader": one.header,
        "allowSubDelegation": True,
        "createdAt": "2026-11-18T11:06:40.000Z",
    }
    value = {
        "key": {"kty": "OKP", "crv": "Ed25519", "x": public, "d": b64(SEED)} | changes.pop("key", {}),
        "keyDid": KEY.did,
        "delegation": delegation | changes.pop("delegation", {}),
        "path": "album/a",
        "host": "https://node.example",
        "spaceId": SPACE,
        "version": 1,
    }
    return "tc1:" + b64(json.dumps(value | changes, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "form",
    [
        "{}".format,
        "https://app.example/share/{}".format,
        "https://app.example/open?x=1&share={}".format,
        "https://app.example/?share={}#top".format,
        lambda link: f"https://app.example/?share={link.replace(':', '%3A')}",
    ],
    ids=["bare", "path", "query", "query-with-fragment", "escaped"],
)
def test_links_of_other_clients_cross_byte_for_byte(form: Callable[[str], str]) -> None:
    """A link is read wherever it stands, and written again in the same bytes (MF19)."""
    link = decode_share_link(form(written()))
    assert (link.seed, link.path, link.portable) == (SEED, "album/a", portable())
    assert written() == encode_share_link(SEED, link.portable, now=NOW)
    assert (link.session().did, len(link.session().grants)) == (KEY.did, 1)
    assert base64.urlsafe_b64encode(SEED).decode().rstrip("=") not in repr(link)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tc1:",
        "tc1:!",
        "tc2:eyJ9",
        "tc1:eyJ9",
        "https://app.example/tc1:eyJ9",
        written(version=2),
        written(path=1),
        written(delegation={"path": "album/"}),
        written(delegation={"isRevoked": True}),
        written(delegation={"authHeader": "x"}),
        written(delegation={"spaceId": 1}),
        written(delegation={"delegateDID": SESSION.did}),
        written(keyDid=SESSION.did),
        written(key={"x": "A" * 43}),
        written(key={"d": "A" * 42}),
        written(key={"crv": "X25519"}),
    ],
)
def test_what_does_not_belong_together_is_refused(text: str) -> None:
    """Key, delegation and token are one; no part of the key is in the message (MF19)."""
    with pytest.raises(InvalidPortableDelegation) as refusal:
        decode_share_link(text)
    assert refusal.value.hint
    assert base64.urlsafe_b64encode(SEED).decode().rstrip("=") not in str(refusal.value)


def test_only_what_others_read_is_written() -> None:
    """One resource, for the key of the link, for a time."""
    with pytest.raises(InvalidInput, match="one resource"):
        encode_share_link(SEED, portable("a", "b"), now=NOW)
    for seed, one in ((SEED[1:], portable()), (SEED, portable(delegate=SESSION.did))):
        with pytest.raises(InvalidInput, match="the key that its delegation is for"):
            encode_share_link(seed, one, now=NOW)


async def test_a_link_opens_what_was_shared(bench) -> None:
    """Whoever has the link reads what it names, and nothing else."""
    owner, _ = await bench.owner()
    await owner.kv().put("album/a", b"1")
    grant = [allow(f"{owner.kv().space.text}/kv/album/a", ability) for ability in ABILITIES]
    shared = await owner.delegations.delegate(KEY.did, grant, ttl_s=600)
    link = decode_share_link(encode_share_link(SEED, shared, now=bench.clock.now()))
    reader = await bench.client(link.session())
    album = reader.kv(link.portable.space_id)
    assert (await album.get(link.path)).body == b"1"
    with pytest.raises(NotGranted):
        await album.get("album/b")
