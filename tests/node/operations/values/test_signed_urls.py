"""Tests of signed URLs: creation, use and expiry."""

import base64
import json
from datetime import datetime
from typing import Any

import pytest
from audit_records import audit_records
from wire_replay import token_id

from spaces.values.tickets import KEPT_AFTER_EXPIRY_S, sweep_tickets

GET, PUT, DEL, LIST = (f"tinycloud.kv/{name}" for name in ("get", "put", "del", "list"))
REVOKE = "tinycloud.delegation/revoke"
HELLO = '"blake3-ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"'


async def ask(node: Any, token: str, **body: object) -> Any:
    """Request a signed URL of the value `a`, unless the body names another."""
    asked = {"space": node.space(), "path": "a", **body}
    return await node.json("POST", "/signed/kv", json.dumps(asked).encode(), token=token)


async def made(node: Any, token: str | None = None, **body: object) -> str:
    """Make a URL, by default with the owner's own token."""
    reply = await ask(node, token or node.token({node.kv("a"): [GET]}, lifetime_s=300), **body)
    assert reply.status == 200, reply.text
    return str(json.loads(reply.body)["url"])


def ends_in(node: Any, reply: Any) -> float:
    """Return the seconds until the returned expiry, without decimals for whole seconds."""
    return datetime.fromisoformat(json.loads(reply.body)["expiresAt"]).timestamp() - float(
        node.clock.now()
    )


async def test_a_url_gives_the_value_to_anybody(serve) -> None:
    """The URL gives access to the value with its metadata, sandboxed from the node's origin."""
    async with serve() as node:
        await node.put("a", b"hello", content_type="image/png", x_tinycloud_meta_a="1")
        reply = await node.send("GET", await made(node))
        assert reply.said == (200, "hello")
        shown = ("content-type", "x-tinycloud-meta-a", "etag", "cache-control", "accept-ranges")
        assert [reply.headers[name] for name in shown] == [
            "image/png",
            "1",
            HELLO,
            "private, no-store",
            "bytes",
        ]
        assert reply.headers["content-security-policy"].startswith("sandbox")


async def test_head_is_get_without_a_body(serve) -> None:
    """HEAD has the headers of GET and the size of the value, in a file or not (Q31)."""
    async with serve() as node:
        for body in (b"hello", bytes(100_000)):
            await node.put("a", body, content_type="text/plain")
            url = await made(node)
            head, whole = await node.send("HEAD", url), await node.send("GET", url)
            for reply in (head, whole):
                reply.headers.pop("tinycloud-trace-id")
                reply.headers.pop("date")
            assert head.status == 200
            assert head.body == b""
            assert head.headers == whole.headers
            assert head.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("size_bytes", [1000, 600_000])
async def test_parts_of_a_value(serve, size_bytes: int) -> None:
    """Ranges of small and large values are served, with If-Range for this version only."""
    body = bytes(number % 251 for number in range(size_bytes))
    async with serve() as node:
        etag = (await node.put("a", body)).headers["etag"]
        url = await made(node)
        part = await node.send("GET", url, range=f"bytes=7-{size_bytes - 3}", if_range=etag)
        assert (part.status, part.body) == (206, body[7 : size_bytes - 2])
        assert part.headers["content-range"] == f"bytes 7-{size_bytes - 3}/{size_bytes}"
        whole = await node.send("GET", url, range="bytes=7-9", if_range=HELLO)
        assert (whole.status, whole.body) == (200, body)
        beyond = await node.send("GET", url, range=f"bytes={size_bytes}-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size_bytes}")
        assert (
            await node.send("GET", url, range="bytes=0-", if_none_match=f'"x", W/{etag}')
        ).status == 304
        assert (await node.send("HEAD", url, range="bytes=0-1")).status == 200


@pytest.mark.parametrize(
    ("body", "lifetime_s", "expected_s"),
    [
        ({}, 300, 300),
        ({"ttlSeconds": 30}, 300, 30),
        ({"ttl_seconds": 30}, 300, 30),
        ({"ttlSeconds": 40, "ttl_seconds": 30}, 300, 30),
        ({"ttlSeconds": 900}, 300, 300),
        ({}, 20, 20),
    ],
)
async def test_how_long_a_url_lives(
    serve, body: dict[str, int], lifetime_s: int, expected_s: int
) -> None:
    """A URL lives as long as requested (Q9), up to 300 s and the token's expiry."""
    async with serve() as node:
        await node.put("a", b"hello")
        reply = await ask(node, node.token({node.kv("a"): [GET]}, lifetime_s=lifetime_s), **body)
        assert ends_in(node, reply) == expected_s
        url = json.loads(reply.body)["url"]
        node.clock.advance(expected_s - 0.5)
        assert (await node.send("GET", url)).status == 200
        node.clock.advance(0.5)
        assert (await node.send("GET", url)).said == (401, "signed URL expired")
        node.clock.advance(KEPT_AFTER_EXPIRY_S + 120)
        assert not await sweep_tickets(node.node.services.store, now=node.clock.now())
        assert (await node.send("GET", url)).said == (401, "signed URL ticket not found")


async def test_a_url_made_by_a_clock_that_stood_ahead(serve) -> None:
    """After the clock was set back by over a minute, URLs made before are refused."""
    async with serve() as node:
        await node.put("a", b"hello")
        url = await made(node)
        node.clock.advance(-60)
        assert (await node.send("GET", url)).status == 200
        node.clock.advance(-1)
        assert (await node.send("GET", url)).said == (401, "signed URL expired")


async def test_a_url_ends_with_the_grants_it_rests_on(serve) -> None:
    """A URL expires with the first delegation in its chain."""
    async with serve() as node:
        await node.put("a", b"hello")
        grant = node.token({node.kv("a"): [GET]}, audience=node.friend.did, lifetime_s=50)
        await node.delegate(grant)
        token = node.token(
            {node.kv("a"): [GET]}, signer=node.friend, proofs=[grant], lifetime_s=300
        )
        assert ends_in(node, await ask(node, token)) == 50


@pytest.mark.parametrize("which", [0, 1], ids=["itself", "ancestor"])
async def test_a_revocation_ends_the_url_at_once(serve, which: int) -> None:
    """Revoking a delegation of the chain ends its URLs at once, and no others (Q24)."""
    async with serve() as node:
        await node.put("a", b"hello")
        first = node.token({node.kv("a"): [GET]}, audience=node.friend.did)
        second = node.token(
            {node.kv("a"): [GET]}, signer=node.friend, audience=node.other.did, proofs=[first]
        )
        for grant in (first, second):
            assert (await node.delegate(grant)).status == 200
        url = await made(
            node, node.token({node.kv("a"): [GET]}, signer=node.other, proofs=[second])
        )
        own = await made(node)
        assert (await node.send("GET", url)).status == 200
        revoked, signer = ((second, node.friend), (first, node.owner))[which]
        revocation = node.token({f"urn:cid:{token_id(revoked)}": [REVOKE]}, signer=signer)
        assert (await node.send("POST", "/revoke", token=revocation)).status == 200
        assert (await node.send("GET", url)).said == (401, "signed URL ticket is invalid")
        assert (await node.send("GET", own)).status == 200


async def test_a_url_is_for_one_version(serve) -> None:
    """A signed URL is 412 after its value is overwritten, 404 after a deletion, and works again
    with the old value."""
    async with serve() as node:
        await node.put("a", b"hello")
        url = await made(node)
        await node.put("a", b"other")
        assert (await node.send("GET", url)).said == (412, "signed URL content hash does not match")
        assert (
            await node.send("POST", "/invoke", token=node.token({node.kv("a"): [DEL]}))
        ).status == 200
        assert (await node.send("GET", url)).said == (404, "Key not found")
        await node.put("a", b"hello")
        assert (await node.send("GET", url)).said == (200, "hello")


async def test_outsiders_learn_nothing(serve) -> None:
    """An unauthorised caller gets the same answer whatever exists and whatever else is wrong."""
    async with serve() as node:
        await node.put("a", b"hello")
        replies = []
        for body in ({}, {"path": "absent"}, {"maxUses": 1}, {"space": "x"}, {"contentHash": "x"}):
            replies.append(
                await ask(node, node.token({node.kv("a"): [GET]}, signer=node.other), **body)
            )
        unhosted = node.token({f"{node.space('nowhere')}/kv/a": [GET]}, signer=node.other)
        replies.append(await ask(node, unhosted, space=node.space("nowhere")))
        assert {reply.said for reply in replies} == {(401, "Cannot find parent delegation")}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"maxUses": 1}, (400, "maxUses is not supported for signed KV URLs yet")),
        ({"max_uses": 0}, (400, "maxUses is not supported for signed KV URLs yet")),
        ({"space": "x"}, (400, "Invalid space ID")),
        ({"path": "b"}, (403, "signed URL scope is not authorized")),
        ({"path": "a2"}, (403, "signed URL scope is not authorized")),
        ({"path": "a/absent"}, (404, "Key not found")),
        ({"contentHash": "abc"}, (400, "contentHash must be a blake3 hex digest")),
        ({"content_hash": '"'}, (400, "contentHash must be a blake3 hex digest")),
        (
            {"etag": HELLO, "content_hash": "0" * 64},
            (400, "contentHash and ETag must identify the same object"),
        ),
        ({"ttlSeconds": 0}, (401, "signed URL expired immediately")),
    ],
)
async def test_what_is_asked_for_wrongly(
    serve, body: dict[str, object], expected: tuple[int, str]
) -> None:
    """Each mistake in an authorised caller's request has its own message."""
    async with serve() as node:
        await node.put("a", b"hello")
        assert (await ask(node, node.token({node.kv("a"): [GET]}), **body)).said == expected


@pytest.mark.parametrize("digest", [HELLO, HELLO.strip('"'), HELLO[8:-1], HELLO[8:-1].upper()])
async def test_a_version_is_named_in_several_ways(serve, digest: str) -> None:
    """A digest may be quoted, prefixed and in either case, and name a future version."""
    async with serve() as node:
        await node.put("a", b"other")
        url = await made(node, contentHash=digest, etag=HELLO)
        assert (await node.send("GET", url)).status == 412
        await node.put("a", b"hello")
        assert (await node.send("GET", url)).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"space":"x"}',
        b'{"space":1,"path":"a"}',
        b'{"space":"x","path":"a","ttlSeconds":-1}',
    ],
)
async def test_bodies_of_another_shape(serve, body: bytes) -> None:
    """A body of the wrong shape is 422, one that is not JSON 400; without a token all are 401."""
    async with serve() as node:
        token = node.token({node.kv("a"): [GET]})
        assert (await node.json("POST", "/signed/kv", body, token=token)).status == 422
        assert (await node.json("POST", "/signed/kv", b"{", token=token)).status == 400
        assert (await node.json("POST", "/signed/kv", body)).status == 401


async def test_nothing_is_executed(serve) -> None:
    """Making a URL executes nothing else in the token, and uses it up (Q27, I23)."""
    async with serve() as node:
        await node.put("a", b"hello")
        token = node.token({node.kv("a"): [GET, DEL]})
        url = await made(node, token)
        assert (await node.send("GET", url)).said == (200, "hello")
        assert (await ask(node, token)).said == (409, "duplicate invocation")
        used = node.token({node.kv("a"): [GET]})
        await made(node, used)
        assert (await node.send("POST", "/invoke", token=used)).said == (
            409,
            "duplicate invocation",
        )
        other = node.token({node.kv("b"): [GET], node.kv("a"): [DEL]})
        assert (await ask(node, other)).status == 403
        only = node.token({node.kv(""): [LIST]})
        assert (await ask(node, only)).status == 403
        assert (await node.send("POST", "/invoke", token=only)).status == 200
        assert (await node.send("GET", url)).said == (200, "hello")  # what could delete did not


async def test_an_unhosted_space(serve) -> None:
    """The owner of a space that is not hosted is told so."""
    async with serve() as node:
        assert (await ask(node, node.token({node.kv("a"): [GET]}))).said == (404, "Space not found")


@pytest.mark.parametrize("ticket", ["x", "A" * 43, "A" * 42 + "B", "A" * 44, "%00", "A" * 43 + "="])
async def test_made_up_tickets(serve, ticket: str) -> None:
    """A signed URL with an invented ticket is not found."""
    async with serve() as node:
        assert (await node.send("GET", f"/signed/kv/{ticket}")).said == (
            401,
            "signed URL ticket not found",
        )


async def test_tickets_near_a_real_one(serve) -> None:
    """Tickets have 28 random bytes, and one with a single flipped bit is not found."""
    async with serve() as node:
        await node.put("a", b"hello")
        first, second = [(await made(node)).rpartition("/")[2] for _ in range(2)]
        assert (await node.send("GET", f"/signed/kv/{first}")).said == (200, "hello")
        ticket, other = [base64.urlsafe_b64decode(text + "=") for text in (first, second)]
        assert sum(one == another for one, another in zip(ticket[4:], other[4:], strict=True)) < 8
        for bit in range(8 * len(ticket)):
            near = bytearray(ticket)
            near[bit // 8] ^= 1 << bit % 8
            text = base64.urlsafe_b64encode(near).decode().rstrip("=")
            assert (await node.send("GET", f"/signed/kv/{text}")).said == (
                401,
                "signed URL ticket not found",
            )


async def test_a_url_outlives_a_restart_and_is_audited(serve) -> None:
    """A URL survives a restart, and its commit has an audit record."""
    async with serve() as node:
        await node.put("a", b"hello")
        url = await made(node)
        records = await audit_records(node.node.services.store)
        assert [record.subject for record in records if record.action == "signed-url.made"] == [
            node.kv("a")
        ]
    async with serve() as node:
        assert (await node.send("GET", url)).said == (200, "hello")
