"""Callers who try to close a door to others (DR14, DR19 to DR21)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from door_stage import DoorBench, DoorCaller, LateRequest, door_bench, open_door
from oidc_issuer import Issuer, ec_key, kubernetes_claims
from patience import AT_ONCE_S
from relay import relay_before

from capabilities.signatures import WalletSigner
from capabilities.strict_base64 import encode_url
from door import door_grants
from door.limits import (
    LOGINS_OF_ONE_PER_MINUTE,
    LOGINS_PER_MINUTE,
    MAX_ARRIVING,
    MAX_CONNECTIONS,
    MAX_LOGINS,
    MAX_REQUESTS,
)
from sealspace.client import Client
from sealspace.wire.token_line import token_line
from tee_backend.backend.grant_door import MOST_BODIES_UNDER_WAY, MOST_GRANTS_UNDER_WAY

_KEY_ID_OF_NO_TEXT = b'{"alg":"ES256","kid":7}'
ACCOUNT = "system:serviceaccount:shop:deploy"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DoorBench]:
    """A node with default settings, and its clients."""
    async with door_bench(tmp_path) as bench:
        yield bench


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """An issuer whose keys are in the trusts."""
    return Issuer("https://issuer.test", {"one": ec_key()})


async def _lines(owner: Client, wallet: WalletSigner, count: int) -> list[dict[str, str]]:
    """Return the bodies of logins with that many machine tokens of one owner."""
    bodies = []
    for number in range(count):
        line = await owner.delegations.create_token(f"t{number}", ["API_KEY"], wallet=wallet)
        bodies.append({"role_id": f"t{number}", "secret_id": line})
    return bodies


async def _trust(bench: DoorBench, issuer: Issuer, name: str = "shop") -> str:
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    return await owner.delegations.trust_issuer(
        name,
        ["API_KEY"],
        issuer=issuer.address,
        claims={"sub": [ACCOUNT]},
        jwks=issuer.jwks,
        wallet=wallet,
    )


async def _id_token(bench: DoorBench, issuer: Issuer, *, address: str | None = None) -> str:
    node_id = (await (await bench.client()).info()).node_id
    claims = {**kubernetes_claims()}
    if address is not None:
        claims["iss"] = address
    return issuer.token(claims, audience=node_id, now=bench.clock.now(), life_s=300)


@asynccontextmanager
async def _halting(caller: DoorCaller, head: str, count: int) -> AsyncIterator[None]:
    """Keep requests open whose body does not arrive."""
    host, port = caller.url.removeprefix("http://").split(":")
    async with AsyncExitStack() as stack:
        for _ in range(count):
            _, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            writer.write(head.encode() + b"Content-Length: 9\r\n\r\n")
            await writer.drain()
            # The connection is accepted before the next one is opened.
            await asyncio.sleep(0)
        yield


@pytest.mark.parametrize(
    "slow",
    [
        "auth/approle/login HTTP/1.1",
        "auth/token/renew-self HTTP/1.1\r\nX-Vault-Token: sdt_none",
    ],
    ids=["login", "wrong-token"],
)
async def test_DR14_slow_bodies_close_no_door(bench: DoorBench, slow: str) -> None:
    """DR14: requests without a valid token whose bodies do not arrive leave connections to requests
    with one, and logins are answered, also from the same machine."""
    program, _ = await bench.machine("API_KEY", API_KEY="open sesame")
    _, line = await bench.machine("API_KEY", API_KEY="of another")
    head = f"POST /v1/{slow}\r\nHost: localhost\r\n"
    async with (
        open_door(bench, program, max_connections=MAX_CONNECTIONS) as door,
        _halting(door, head, MAX_CONNECTIONS),
    ):
        read = await door.get("secret/data/API_KEY")
        assert read.status == 200, read
        await door.log_in("approle", role_id="deploy", secret_id=line)


async def test_DR21_the_oldest_slow_login_ends(bench: DoorBench) -> None:
    """DR21: a slow login ends when newer ones need its place, and its client is told why."""
    head = "POST /v1/auth/approle/login HTTP/1.1\r\nHost: localhost\r\n"
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        slow = asyncio.create_task(door.raw(f"{head}Content-Length: 9\r\n\r\n"))
        async with _halting(door, f"{head}X-Client: 192.0.2.7\r\n", 2 * MAX_ARRIVING):
            # Those of the client that sends most go first.
            assert not slow.done()
            async with _halting(door, head, MAX_ARRIVING):
                answer = await slow
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"32 newer logins arrived; next: send the body" in answer


async def test_DR14_one_token_takes_a_share_of_the_requests(bench: DoorBench) -> None:
    """DR14: requests with one token whose bodies do not arrive leave places to other holders, and
    the refusal names the share."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    (body,) = await _lines(owner, wallet, 1)
    program, _ = await bench.machine("API_KEY", API_KEY="of another")
    async with open_door(bench, program, max_connections=MAX_CONNECTIONS) as door:
        least = await door.log_in("approle", **body)
        head = (
            "POST /v1/auth/token/renew-self HTTP/1.1\r\nHost: localhost\r\n"
            f"X-Vault-Token: {least.token}\r\n"
        )
        async with _halting(door, head, MAX_CONNECTIONS):
            read = await door.get("secret/data/API_KEY")
            assert read.status == 200, read
            refused = await least.get("secret/data/API_KEY")
            (text,) = refused.reported["errors"]
            assert refused.status == 429
            assert (
                "40 requests are under way at this door for this owner or trust, which is its share"
                in text
            )


async def test_DR14_waiting_requests_are_shared(bench: DoorBench) -> None:
    """DR14: while the node hangs, one holder has a quarter of the places for requests."""
    program, line = await bench.machine("API_KEY", API_KEY="open sesame")
    async with relay_before(bench.node.url) as relay:
        client = await bench.client(program.session, url=relay.url)
        async with open_door(bench, client) as door:
            other = await door.log_in("approle", role_id="deploy", secret_id=line)
            late = LateRequest(relay, "/decrypt")
            most = MAX_REQUESTS // 4
            reads = [asyncio.create_task(other.get("secret/data/API_KEY")) for _ in range(most + 1)]
            first, _ = await asyncio.wait(
                reads, timeout=AT_ONCE_S, return_when=asyncio.FIRST_COMPLETED
            )
            assert [read.result().status for read in first] == [429]
            late.passes.set()
            replies = await asyncio.gather(*reads)
            assert sorted(reply.status for reply in replies) == [200] * most + [429]


async def test_DR14_unread_answers_keep_their_places(bench: DoorBench) -> None:
    """DR14: a request has its place until its answer is sent, so a caller that reads no answers
    takes no more than a share of the connections."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "x" * 500_000)
    (body,) = await _lines(owner, wallet, 1)
    program, _ = await bench.machine("API_KEY", API_KEY="of another")
    async with (
        open_door(bench, program, fresh_s=60, max_connections=MAX_CONNECTIONS) as door,
        AsyncExitStack() as stack,
    ):
        least = await door.log_in("approle", **body)
        request = (
            "GET /v1/secret/data/API_KEY HTTP/1.1\r\nHost: localhost\r\n"
            f"X-Vault-Token: {least.token}\r\n\r\n"
        )
        host, port = door.url.removeprefix("http://").split(":")
        for _ in range(MAX_REQUESTS // 4):
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            stack.callback(writer.close)
            writer.write(request.encode())
            assert b" 200 " in await reader.readline()  # the answer has begun
        assert (await least.get("sys/internal/ui/mounts")).status == 429
        assert (await door.get("secret/data/API_KEY")).status == 200


async def test_DR21_logins_wait_in_their_own_places(bench: DoorBench) -> None:
    """DR21: while the node hangs, a client has half of the places for logins; requests with a
    token, and logins of another client, are not refused."""
    program, _ = await bench.machine("API_KEY", API_KEY="open sesame")
    bodies = []
    for _ in range(MAX_LOGINS // 2 + 2):
        _, line = await bench.machine("API_KEY", API_KEY="of another")
        bodies.append({"role_id": "deploy", "secret_id": line})
    async with relay_before(bench.node.url) as relay:
        passes = asyncio.Event()

        async def hold(request: web.Request) -> None:
            await passes.wait()

        client = await bench.client(program.session, url=relay.url)
        await client.info()
        relay.hold = hold
        async with open_door(bench, client) as door:
            *same, other = bodies
            logins = [
                asyncio.create_task(door.send("POST", "auth/approle/login", body)) for body in same
            ]
            first, _ = await asyncio.wait(
                logins, timeout=AT_ONCE_S, return_when=asyncio.FIRST_COMPLETED
            )
            (refused,) = [login.result() for login in first]
            assert refused.status == 429
            assert "too many logins wait for the node: at most 48" in refused.text
            elsewhere = {"X-Client": "192.0.2.7"}
            late = asyncio.create_task(
                door.send("POST", "auth/approle/login", other, headers=elsewhere)
            )
            assert (await door.get("sys/internal/ui/mounts")).status == 200
            passes.set()
            assert (await late).status == 200
            await asyncio.gather(*logins)


def test_DR14_the_places_fit_in_the_connections() -> None:
    """DR14: all places together leave connections free, for those that have no request."""
    of_grants = MOST_BODIES_UNDER_WAY + MOST_GRANTS_UNDER_WAY
    assert MAX_REQUESTS + MAX_LOGINS + MAX_ARRIVING + of_grants < MAX_CONNECTIONS


async def test_DR20_named_callers_come_first(
    bench: DoorBench, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DR20, DR19: callers that the operator did not name leave half of the places to those with a
    role of --role."""
    monkeypatch.setattr(door_grants, "MAX_GRANTS", 4)
    shop = await _trust(bench, issuer)
    async with open_door(
        bench, await bench.client(), roles={"shop": shop}, has_own_grant=False
    ) as door:
        statuses = []
        for _ in range(3):
            _, line = await bench.machine("API_KEY", API_KEY="of a stranger")
            body = {"role_id": "deploy", "secret_id": line}
            reply = await door.send("POST", "auth/approle/login", body)
            statuses.append(reply.status)
        assert statuses == [200, 200, 429]
        assert "ask the operator to start the door with --allow OWNER" in reply.text
        await door.log_in("jwt", role="shop", jwt=await _id_token(bench, issuer))


async def test_DR20_allowed_owners_have_all_places(
    bench: DoorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DR20, DR19: owners of --allow are not bounded by the half of those that nobody named."""
    monkeypatch.setattr(door_grants, "MAX_GRANTS", 4)
    owners, bodies = set(), []
    for _ in range(3):
        owner, wallet = await bench.owner()
        await owner.secrets().put("API_KEY", "open sesame")
        owners.add(owner.session.owner)
        bodies += await _lines(owner, wallet, 1)
    async with open_door(bench, await bench.client(), allowed=owners, has_own_grant=False) as door:
        for body in bodies:
            await door.log_in("approle", **body)


async def test_DR21_a_token_that_names_an_owner_counts_for_its_client(
    bench: DoorBench, issuer: Issuer
) -> None:
    """DR21: a machine token that a node signed for a job only names its owner, so anybody can make
    one that names this owner: it does not count for the owner."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    trust = await owner.delegations.trust_issuer(
        "shop",
        ["API_KEY"],
        issuer=issuer.address,
        claims={"sub": [ACCOUNT]},
        jwks=issuer.jwks,
        wallet=wallet,
    )
    first, second = await _lines(owner, wallet, 2)
    client = await bench.client()
    session = await client.exchange_id_token(await _id_token(bench, issuer), trust=trust)
    assert session.seed is not None and session.node_id is not None
    of_job = token_line(session.seed, session.node_id, session.grants[0].header)
    async with open_door(bench, client, has_own_grant=False) as door:
        await door.log_in("approle", **first)
        body = {"role_id": "shop", "secret_id": of_job}
        for _ in range(LOGINS_OF_ONE_PER_MINUTE - 1):
            caller = await door.log_in("approle", **body)
            await caller.send("POST", "auth/token/revoke-self")
        assert (await door.send("POST", "auth/approle/login", body)).status == 429
        await door.log_in("approle", **second)


@pytest.mark.parametrize("changed", ["header", "no-alg", "kid", "signature", "parts"])
async def test_DR21_malformed_id_tokens_count_nothing(
    bench: DoorBench, issuer: Issuer, changed: str
) -> None:
    """DR21: an ID token whose form is not valid is refused before it is counted."""
    trust = await _trust(bench, issuer)
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        token = await _id_token(bench, issuer)
        _, claims, signature = token.split(".")
        other = {
            "header": f"e30x.{claims}.{signature}",
            "no-alg": f"{encode_url(b'{}')}.{claims}.{signature}",
            "kid": f"{encode_url(_KEY_ID_OF_NO_TEXT)}.{claims}.{signature}",
            "signature": token.removesuffix(signature),
            "parts": f"{token}.{signature}",
        }[changed]
        body = {"role": trust, "jwt": other}
        for _ in range(LOGINS_PER_MINUTE + 1):
            reply = await door.send("POST", "auth/jwt/login", body)
            assert reply.status == 403 and "jwt is not an ID token" in reply.text
        await door.log_in("jwt", role=trust, jwt=token)


async def test_DR19_tokens_of_a_free_account_leave_places(
    bench: DoorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DR19: an owner with a machine token for each place gets a quarter of them, and a caller of
    another owner logs in."""
    monkeypatch.setattr(door_grants, "MAX_GRANTS", 16)
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    bodies = await _lines(owner, wallet, 16)
    _, line = await bench.machine("API_KEY", API_KEY="of another")
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        replies = [await door.send("POST", "auth/approle/login", body) for body in bodies]
        await door.log_in("approle", role_id="deploy", secret_id=line)
    assert [reply.status for reply in replies] == [200] * 4 + [429] * 12
    assert "4 callers are logged in at this door for this owner or trust" in replies[-1].text


async def test_DR21_id_tokens_that_nobody_signed(bench: DoorBench, issuer: Issuer) -> None:
    """DR21: a flood of ID tokens with wrong signatures leaves logins to clients at other addresses,
    to other roles, and to a key id that the node accepted before."""
    shop, bank = await _trust(bench, issuer), await _trust(bench, issuer, "bank")
    forger = Issuer(issuer.address, {"forged": ec_key()})
    roles = {"shop": shop, "bank": bank}
    async with open_door(bench, await bench.client(), roles=roles, has_own_grant=False) as door:
        await door.log_in("jwt", role="bank", jwt=await _id_token(bench, issuer))
        bench.clock.advance(60)
        forged = await _id_token(bench, forger)
        statuses = set()
        for number in range(2 * LOGINS_PER_MINUTE):
            # Each has another signature, so none of them is the same credential.
            body = {"role": "shop", "jwt": f"{forged[:-4]}{number:04}"}
            statuses.add((await door.send("POST", "auth/jwt/login", body)).status)
        assert statuses == {403, 429}
        # The same client, with a key id that is known, and for another role.
        await door.log_in("jwt", role="bank", jwt=await _id_token(bench, issuer))
        token = await _id_token(bench, issuer)
        elsewhere = await door.send(
            "POST",
            "auth/jwt/login",
            {"role": "shop", "jwt": token},
            headers={"X-Client": "192.0.2.7"},
        )
        assert elsewhere.status == 200, elsewhere
        # From now on the key id of this role is known, too.
        await door.log_in("jwt", role="shop", jwt=await _id_token(bench, issuer))


async def test_DR21_another_issuer_reaches_no_node(bench: DoorBench, issuer: Issuer) -> None:
    """DR21: once the issuer of a trust is known, an ID token of another one is refused here."""
    trust = await _trust(bench, issuer)
    async with relay_before(bench.node.url) as relay:
        asked: list[str] = []
        relay.twist = lambda answer: asked.append(answer.path)
        client = await bench.client(url=relay.url)
        async with open_door(bench, client, has_own_grant=False) as door:
            await door.log_in("jwt", role=trust, jwt=await _id_token(bench, issuer))
            asked.clear()
            token = await _id_token(bench, issuer, address="https://other.test")
            reply = await door.send("POST", "auth/jwt/login", {"role": trust, "jwt": token})
            assert reply.status == 403 and "of another issuer" in reply.reported["errors"][0]
            assert asked == []


async def test_DR20_only_named_callers_log_in(bench: DoorBench, issuer: Issuer) -> None:
    """DR20: with --allow, only machine tokens of these owners and ID tokens of named roles log in;
    others are refused before anything reaches the node."""
    shop, bank = await _trust(bench, issuer), await _trust(bench, issuer, "bank")
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    (body,) = await _lines(owner, wallet, 1)
    _, line = await bench.machine("API_KEY", API_KEY="of another")
    async with relay_before(bench.node.url) as relay:
        asked: list[str] = []
        relay.twist = lambda answer: asked.append(answer.path)
        client = await bench.client(url=relay.url)
        async with open_door(
            bench,
            client,
            roles={"shop": shop},
            allowed={owner.session.owner},
            has_own_grant=False,
        ) as door:
            await door.log_in("approle", **body)
            await door.log_in("jwt", role="shop", jwt=await _id_token(bench, issuer))
            await door.log_in("jwt", role=shop, jwt=await _id_token(bench, issuer))
            asked.clear()
            stranger = await door.send(
                "POST", "auth/approle/login", {"role_id": "deploy", "secret_id": line}
            )
            token = await _id_token(bench, issuer)
            other = await door.send("POST", "auth/jwt/login", {"role": bank, "jwt": token})
            assert stranger.status == other.status == 403
            assert "next: ask the operator to start the door with --allow did:" in stranger.text
            assert "next: ask the operator to start the door with --role NAME=ID" in other.text
            assert asked == []
