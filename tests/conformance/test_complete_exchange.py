"""A complete exchange: sign-in, hosting, values, a grant to another user, and its revocation."""

import itertools
from collections.abc import Sequence

import pytest
from conformance.minting import key_token, wallet_grant
from conformance.replay_node import ReplayNode, ReplayNodes
from wire_replay import Answer, Request, token_id

from capabilities.signatures import Ed25519Signer, WalletSigner

# The widely published first development account, and keys of counting bytes (2.6).
WALLET = WalletSigner(
    bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
)
SESSION = Ed25519Signer(bytes(range(32)))
BOB = Ed25519Signer(bytes(range(32, 64)))

SPACE = "tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:default"
HOST_DID = "did:key:z6MkrrUdGhJwgf5DoGAKzw52dwSg7gTgRjnKbybZZzfRCn1Z"
HOST_GRANT = "bafkr4id5req453mxqcpr7k6gffoqtmu7gpogbla6ve7gl422zotxy6zi6i"
SESSION_GRANT = "bafkr4ieuinpc2jtz3qh3qhox7klp6paecq6kibj35rxn7xf6nwczhmm54y"
BOB_GRANT = "bafkr4iderae7rsn7frgfe6xkbywokgj23rrhqchtaznxf4uelx536tbara"
HELLO = '"blake3-ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"'
NOW = 1_780_000_000.0
_COUNT = itertools.count()


def host_grant() -> str:
    """Return the host delegation of 2.6."""
    return wallet_grant(
        WALLET,
        audience=HOST_DID,
        grants={f"{SPACE}/space": ["tinycloud.space/host"]},
        nonce="hostnonce0001",
        issued_at="2026-01-02T03:04:05.000Z",
    )


def session_grant() -> str:
    """Return the session delegation of 2.6."""
    return wallet_grant(
        WALLET,
        audience=SESSION.did_url,
        grants={
            f"{SPACE}/capabilities/all": ["tinycloud.capabilities/read"],
            f"{SPACE}/kv": [
                f"tinycloud.kv/{name}" for name in ("del", "get", "list", "metadata", "put")
            ],
        },
        nonce="sessnonce0001",
        issued_at="2026-01-02T03:04:05.000Z",
        expires_at="2036-01-02T03:04:05.000Z",
    )


def bob_grant() -> str:
    """Return the delegation from the session to the recipient of 2.6."""
    return key_token(
        SESSION,
        audience=BOB.did,
        grants={f"{SPACE}/kv/shared": ["tinycloud.kv/get", "tinycloud.kv/list"]},
        expires_at=1999999999,
        proofs=[SESSION_GRANT],
        nonce="urn:uuid:00000000-0000-4000-8000-000000000002",
    )


def call(signer: Ed25519Signer, ability: str, resource: str, *, proofs: Sequence[str]) -> str:
    """Return a fresh invocation of one ability on one resource."""
    return key_token(
        signer,
        audience=signer.did,
        grants={resource: [ability]},
        expires_at=NOW + 60,
        proofs=proofs,
        nonce=f"urn:uuid:00000000-0000-4000-8000-{next(_COUNT) + 16:012x}",
    )


def session_call(action: str, path: str) -> str:
    """Return a fresh KV invocation by the session key; `path` is relative to the space."""
    return call(SESSION, f"tinycloud.{action}", SPACE + path, proofs=[SESSION_GRANT])


def bob_call(action: str, path: str) -> str:
    """Return a fresh KV invocation by the recipient of the session's grant."""
    return call(BOB, f"tinycloud.{action}", SPACE + path, proofs=[BOB_GRANT])


async def post(
    node: ReplayNode, path: str, token: str, *headers: tuple[str, str], body: bytes | None = None
) -> Answer:
    """Send one authorised request."""
    node.clock.time = NOW
    return await node.connection.send(
        Request("POST", path, (("authorization", token), *headers), body)
    )


async def signed_in(node: ReplayNode) -> None:
    """Host the space and register the session's grant."""
    for token in (host_grant(), session_grant()):
        answer = await post(node, "/delegate", token)
        assert answer.status == 200, answer.body


def test_documented_grants_are_minted_byte_for_byte() -> None:
    """The host, session and recipient grants get the ids in the document."""
    assert token_id(host_grant()) == HOST_GRANT
    assert token_id(session_grant()) == SESSION_GRANT
    assert token_id(bob_grant()) == BOB_GRANT


@pytest.mark.asyncio(loop_scope="module")
async def test_sign_in_hosts_the_space(replay_nodes: ReplayNodes) -> None:
    """A session's grant is skipped until the wallet has hosted the space."""
    node = await replay_nodes.new_node()
    node.clock.time = NOW
    info = await node.connection.send(Request("GET", "/info", (), None))
    assert b'"protocol":1' in info.body.replace(b" ", b"")
    first = await post(node, "/delegate", session_grant())
    assert (
        first.body == f'{{"cid":"{SESSION_GRANT}","activated":[],"skipped":["{SPACE}"]}}'.encode()
    )
    place = SPACE.replace(":", "%3A")
    peer = await node.connection.send(Request("GET", f"/peer/generate/{place}", (), None))
    assert peer.body == HOST_DID.encode()
    hosted = await post(node, "/delegate", host_grant())
    assert hosted.body == f'{{"cid":"{HOST_GRANT}","activated":["{SPACE}"],"skipped":[]}}'.encode()
    # Q6: a repeat tells the true lists.
    again = await post(node, "/delegate", session_grant())
    assert (
        again.body == f'{{"cid":"{SESSION_GRANT}","activated":["{SPACE}"],"skipped":[]}}'.encode()
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_value_is_put_read_listed_and_deleted(replay_nodes: ReplayNodes) -> None:
    """A session puts, reads, lists and deletes a value; each token works once."""
    node = await replay_nodes.new_node()
    await signed_in(node)
    put = session_call("kv/put", "/kv/hello.txt")
    stored = await post(node, "/invoke", put, ("content-type", "text/plain"), body=b"hello")
    assert stored.status == 200
    assert stored.body == b""
    assert stored.header("etag") == HELLO
    repeated = await post(node, "/invoke", put, ("content-type", "text/plain"), body=b"hello")
    assert (repeated.status, repeated.body) == (409, b"duplicate invocation")

    read = await post(node, "/invoke", session_call("kv/get", "/kv/hello.txt"))
    assert (read.status, read.body) == (200, b"hello")
    names = ("content-type", "etag", "content-length", "cache-control")
    assert [read.header(name) for name in names] == ["text/plain", HELLO, "5", "private, no-cache"]

    get = session_call("kv/get", "/kv/hello.txt")
    assert (await post(node, "/invoke", get, ("if-none-match", f"W/{HELLO}"))).status == 304
    create = session_call("kv/put", "/kv/hello.txt")
    refused = await post(node, "/invoke", create, ("if-none-match", "*"), body=b"new")
    assert (refused.status, refused.body) == (412, b"KV precondition failed")

    listed = await post(node, "/invoke", session_call("kv/list", "/kv/"))
    assert listed.body == b'["hello.txt"]'
    assert listed.header("x-tinycloud-truncated") == "false"
    sql = await post(node, "/invoke", session_call("sql/read", "/sql/db"), body=b"{}")
    assert (sql.status, sql.body.decode()) == (
        401,
        f"Unauthorized Action: {SPACE}/sql/db / tinycloud.sql/read",
    )

    gone = await post(node, "/invoke", session_call("kv/del", "/kv/hello.txt"))
    assert (gone.status, gone.header("etag")) == (200, HELLO)
    assert (await post(node, "/invoke", session_call("kv/get", "/kv/hello.txt"))).status == 404
    twice = await post(node, "/invoke", session_call("kv/del", "/kv/hello.txt"))
    assert (twice.status, twice.header("etag")) == (200, "")
    never = await post(node, "/invoke", session_call("kv/del", "/kv/never"))
    assert (never.status, never.body) == (404, b"No Such Key: never")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_grant_to_another_client_holds_until_revoked(replay_nodes: ReplayNodes) -> None:
    """A recipient may use exactly the grant, until it is revoked."""
    node = await replay_nodes.new_node()
    await signed_in(node)
    registered = await post(node, "/delegate", bob_grant())
    assert (
        registered.body == f'{{"cid":"{BOB_GRANT}","activated":["{SPACE}"],"skipped":[]}}'.encode()
    )
    stored = await post(node, "/invoke", session_call("kv/put", "/kv/shared/x"), body=b"for Bob")
    assert stored.status == 200

    shared = await post(node, "/invoke", bob_call("kv/get", "/kv/shared/x"))
    assert (shared.status, shared.body) == (200, b"for Bob")
    for action, path in (("kv/get", "/kv/shared2/x"), ("kv/put", "/kv/shared/x")):
        refused = await post(node, "/invoke", bob_call(action, path), body=b"")
        assert (refused.status, refused.body.decode()) == (
            401,
            f"Unauthorized Action: {SPACE}{path} / tinycloud.{action}",
        )

    target = f"urn:cid:{BOB_GRANT}"
    # W21: the session's grant lacks the control ability, so citing it does not help.
    citing = call(SESSION, "tinycloud.delegation/revoke", target, proofs=[SESSION_GRANT])
    assert (await post(node, "/revoke", citing)).body == b"Unauthorized Revoker"
    revoked = await post(
        node, "/revoke", call(SESSION, "tinycloud.delegation/revoke", target, proofs=[])
    )
    assert (revoked.status, revoked.body) == (
        200,
        f'{{"revoked":true,"cid":"{BOB_GRANT}"}}'.encode(),
    )
    late = await post(node, "/invoke", bob_call("kv/get", "/kv/shared/x"))
    assert (late.status, late.body.decode()) == (401, f"delegation-revoked: {BOB_GRANT}")
