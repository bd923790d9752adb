"""Tests of the limits on unauthenticated clients: refused tokens, registrations and delegations."""

import asyncio
import json
from urllib.parse import quote

import pytest
from conformance.minting import key_token
from running_node import Reply, new_key
from wire_replay import token_id

from capabilities.abilities import NETWORK_CREATE
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.requests import admin_fact
from node.config.tree import Admin, Http, Limits
from node.housekeeping.schedule import sweep_delegations

GET, PUT = "tinycloud.kv/get", "tinycloud.kv/put"
THREE = Limits(unauthenticated_per_minute=3)


def refused(node) -> str:
    """Return a valid token without any authority."""
    token: str = node.token({node.kv("a"): [GET]}, signer=node.other)
    return token


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/invoke", 401),
        ("POST", "/signed/kv", 401),
        ("POST", "/encryption/networks/x/decrypt", 401),
        ("GET", "/admin/quota", 401),
    ],
)
async def test_refused_tokens_run_out(serve, method: str, path: str, status: int) -> None:
    """Refused tokens of one address are limited per minute; then 429 before a token is read."""
    async with serve(limits=THREE, admin=Admin(secret="x")) as node:
        body = None if method == "GET" else b'{"space":"x","path":"a"}'
        kind = {"content_type": "application/json"} if body else {}
        statuses = [
            (await node.send(method, path, token=refused(node), body=body, **kind)).status
            for _ in range(4)
        ]
        assert statuses == [status] * 3 + [429]
        reply = await node.send(method, path, token="no token at all", body=body, **kind)
        assert (*reply.said, reply.headers["retry-after"]) == (429, "Rate limit exceeded", "20")
        node.clock.advance(20)
        assert (
            await node.send(method, path, token=refused(node), body=body, **kind)
        ).status == status


async def test_refused_tokens_that_came_together_all_count(serve) -> None:
    """Concurrent tokens are each counted, even if all were admitted before one was refused."""
    async with serve(limits=THREE) as node:
        together = [node.send("POST", "/invoke", token=refused(node)) for _ in range(12)]
        statuses = [reply.status for reply in await asyncio.gather(*together)]
        assert set(statuses) <= {401, 429}
        let_in = statuses.count(401)
        node.clock.advance(20 * (let_in - 3) + 10)  # until half of the next one is there
        assert (await node.send("POST", "/invoke", token=refused(node))).status == 429
        node.clock.advance(10)
        assert (await node.send("POST", "/invoke", token=refused(node))).status == 401


async def test_our_own_surface_says_it_as_a_problem(serve) -> None:
    """On the node's own routes the same refusal is a problem document."""
    async with serve(limits=THREE) as node:
        for _ in range(3):
            await node.send("POST", "/invoke", token=refused(node))
        reply = await node.json("PUT", "/encryption/networks/x/policy", b"{}", token=refused(node))
        assert (reply.status, json.loads(reply.body)["code"]) == (429, "too-many-requests")
        assert reply.headers["retry-after"] == "20"


async def test_what_is_granted_is_not_counted(serve) -> None:
    """Allowed calls and requests without a token are never counted."""
    async with serve(limits=THREE) as node:
        for _ in range(5):
            assert (await node.put("a", b"x")).status == 200
            assert (await node.send("POST", "/invoke")).status == 401
            assert (await node.send("GET", "/info")).status == 200
        absent = [node.token({node.kv("b"): [GET]}) for _ in range(5)]
        assert {404} == {
            (await node.send("POST", "/invoke", token=token)).status for token in absent
        }


async def test_a_key_of_a_moment_ago_is_an_outsider(serve) -> None:
    """A valid token for a space that does not exist counts as refused."""
    async with serve(limits=THREE) as node:
        tokens = [node.token({f"{node.space(f's{n}')}/kv/a": [GET]}) for n in range(4)]
        assert [404] * 3 + [429] == [
            (await node.send("POST", "/invoke", token=token)).status for token in tokens
        ]


async def test_a_token_that_was_used_before_counts(serve) -> None:
    """A token is sent again without end at the cost of its signature check alone, so it counts."""
    async with serve(limits=THREE) as node:
        assert (await node.put("a", b"x")).status == 200
        token = node.token({node.kv("a"): [GET]})
        assert [200] + [409] * 3 + [429] == [
            (await node.send("POST", "/invoke", token=token)).status for _ in range(5)
        ]


async def test_a_network_that_does_not_exist_counts(serve) -> None:
    """Anybody can make a valid token for a network of an own key that nobody created."""
    async with serve(limits=THREE) as node:
        network = f"urn:tinycloud:encryption:{node.friend.did}:default"
        statuses = []
        for _ in range(4):
            token = node.token(
                {network: ["sealspace.encryption/policy"]},
                signer=node.friend,
                audience=node.node.services.keyring.node_did,
            )
            path = f"/encryption/networks/{quote(network, safe='')}/policy"
            statuses.append((await node.send("GET", path, token=token)).status)
        assert statuses == [404] * 3 + [429]


async def test_registrations_of_a_client_known_are_not_counted(serve) -> None:
    """A known signer registers, repeats and revokes without limit; refused requests count."""
    async with serve(limits=THREE) as node:
        for number in range(8):
            grant = node.token({node.kv(f"a{number}"): [GET]}, audience=node.friend.did)
            assert [200, 200] == [(await node.delegate(grant)).status for _ in range(2)]
            revocation = node.token({f"urn:cid:{token_id(grant)}": ["tinycloud.delegation/revoke"]})
            assert (await node.send("POST", "/revoke", token=revocation)).status == 200
        # The first grant of a signer unknown so far took one: two are left.
        assert [401] * 2 + [429] == [(await node.delegate(refused(node))).status for _ in range(3)]


async def test_first_registrations_of_outsiders_are_counted(serve) -> None:
    """A new key's first delegation counts, and so does each network of its own."""

    def grant(signer: Ed25519Signer) -> str:
        granted: str = node.token(
            {f"{node.space(owner=signer)}/kv": [GET]}, signer=signer, audience=node.friend.did
        )
        return granted

    async with serve(limits=THREE) as node:
        signers = [Ed25519Signer(bytes([fill]) * 32) for fill in range(1, 5)]
        assert [200] * 3 + [429] == [
            (await node.delegate(grant(signer))).status for signer in signers
        ]
        node.clock.advance(60)
        statuses = [(await _create_network(node, f"own{number}")).status for number in range(4)]
        assert statuses == [200] * 3 + [429]


async def _create_network(node, name: str) -> Reply:
    network = f"urn:tinycloud:encryption:{node.owner.did}:{name}"
    body: dict[str, Json] = {"name": name, "ownerDid": node.owner.did}
    node_did = node.node.services.keyring.node_did
    fact = admin_fact(network, target_node=node_did, action=NETWORK_CREATE, body=body)
    token = key_token(
        node.owner,
        audience=node_did,
        grants={network: [NETWORK_CREATE]},
        expires_at=node.clock.now() + 60,
        nonce=f"network-{name}",
        facts=[fact],
    )
    reply: Reply = await node.json(
        "POST", "/encryption/networks", canonical_bytes(body), token=token
    )
    return reply


async def test_clients_are_counted_apart(serve) -> None:
    """Behind a trusted proxy each client has its own bucket; so has loopback (Q12)."""
    async with serve(
        http=Http(port=0, drain_s=0, trusted_proxies=("127.0.0.1",)), limits=THREE
    ) as node:
        for address in ("192.0.2.1", "192.0.2.2"):
            statuses = [
                (
                    await node.send("POST", "/invoke", token=refused(node), x_forwarded_for=address)
                ).status
                for _ in range(4)
            ]
            assert statuses == [401] * 3 + [429]


async def test_the_rate_can_be_switched_off(serve) -> None:
    """A rate of 0 disables the limit."""
    async with serve(limits=Limits(unauthenticated_per_minute=0)) as node:
        assert {401} == {
            (await node.send("POST", "/invoke", token=refused(node))).status for _ in range(20)
        }


async def test_one_signer_has_so_many_delegations(serve) -> None:
    """Beyond a signer's limit a delegation is 400; repeats and other signers are not affected."""
    async with serve(limits=Limits(delegations_per_signer=2)) as node:
        grants = [node.token({node.kv("a"): [GET]}, audience=node.friend.did) for _ in range(3)]
        replies = [await node.delegate(grant) for grant in grants]
        assert [reply.status for reply in replies] == [200, 200, 400]
        assert replies[2].text == "the limit of 2 delegations of this signer is reached"
        assert (await node.delegate(grants[0])).status == 200
        own = f"{node.space(owner=node.other)}/kv"
        other = node.token({own: [GET]}, signer=node.other, audience=node.friend.did)
        assert (await node.delegate(other)).status == 200


PROXIED = Http(port=0, drain_s=0, trusted_proxies=("127.0.0.1",))


NOT_HOSTED = "n" * 65  # no name that is hosted by its owner's grant alone


async def posted(
    node,
    *,
    signer=None,
    name: str = "default",
    address: str = "192.0.2.1",
    size_bytes: int = 10_000,
):
    """Post a delegation of at least the given size, by any signer, from any address."""
    signer = signer or node.owner
    resource = f"{node.space(name, owner=signer)}/kv/{'f' * (size_bytes * 3 // 4)}"
    grant = node.token({resource: [GET]}, signer=signer, audience=node.friend.did)
    return await node.send("POST", "/delegate", token=grant, x_forwarded_for=address)


async def test_bytes_of_one_signer_are_bounded(serve) -> None:
    """Delegations count by size: a small one still fits when a large one does not (D12)."""
    async with serve(limits=Limits(delegation_bytes_per_signer=40_000)) as node:
        replies = [await posted(node) for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 400]
        assert (
            replies[3].text == "the limit of 40000 bytes of delegations of this signer is reached"
        )
        assert (await posted(node, size_bytes=100)).status == 200
        assert (await posted(node, signer=node.other)).status == 200


async def test_a_signer_who_hosts_nothing_may_keep_less(serve) -> None:
    """A signer with a hosted space has the larger limit from its first delegation on (D12)."""
    limits = Limits(delegation_bytes_per_signer=60_000, unhosted_bytes_per_signer=30_000)
    async with serve(limits=limits) as node:
        strange = [
            (await posted(node, signer=node.other, name=NOT_HOSTED)).status for _ in range(4)
        ]
        assert strange == [200, 200, 400, 400]
        assert [200] * 5 + [400] == [(await posted(node)).status for _ in range(6)]
        hosted_since = [(await posted(node, signer=node.other)).status for _ in range(4)]
        assert hosted_since == [200, 200, 200, 400]


async def test_bytes_from_one_address_are_bounded(serve) -> None:
    """An address has a limit for all of its signers, separate for those without a space (D12)."""
    limits = Limits(delegation_bytes_per_address=60_000, unhosted_bytes_per_address=30_000)
    async with serve(http=PROXIED, limits=limits) as node:
        outsiders = [new_key() for _ in range(6)]
        for address in ("192.0.2.1", "192.0.2.2"):
            replies = [
                await posted(node, signer=one, name=NOT_HOSTED, address=address)
                for one in outsiders[:3]
            ]
            assert [reply.status for reply in replies] == [200, 200, 400]
            assert (
                replies[2].text
                == "the limit of 30000 bytes of delegations from this address is reached"
            )
            outsiders = outsiders[3:]
        owners = [new_key() for _ in range(6)]
        statuses = [(await posted(node, signer=one)).status for one in owners]
        assert statuses == [200, 200, 200, 200, 200, 400]
        # loopback is not counted
        assert (await posted(node, signer=owners[5], address="127.0.0.1")).status == 200


async def test_what_leaves_gives_its_bytes_back(serve) -> None:
    """A swept delegation frees its bytes for its signer and its address (D12)."""
    limits = Limits(delegation_bytes_per_signer=15_000, delegation_bytes_per_address=15_000)
    async with serve(http=PROXIED, limits=limits) as node:
        assert [(await posted(node)).status for _ in range(2)] == [200, 400]
        node.clock.advance(31 * 86_400)
        await sweep_delegations(node.node.services)
        assert [(await posted(node)).status for _ in range(2)] == [200, 400]


@pytest.mark.parametrize(
    ("method", "path", "status", "service"),
    [
        ("POST", "/hooks/tickets", 404, "Hooks"),
        ("GET", "/hooks/events?ticket=x", 404, "Hooks"),
        ("POST", "/hooks/webhooks", 404, "Hooks"),
        ("DELETE", "/hooks/webhooks/1", 404, "Hooks"),
        ("POST", "/policy/v3/policies", 501, "Policy v3"),
        ("GET", "/policy/v3/status/x", 501, "Policy v3"),
        ("GET", "/share/x", 501, "Share"),
    ],
)
async def test_services_that_are_not_offered(
    serve, method: str, path: str, status: int, service: str
) -> None:
    """Routes of missing services say so without a token, `/info` omits them, preflights work.

    Below `/hooks` the status is one that clients do not repeat (Q7).
    """
    async with serve() as node:
        reply = await node.send(method, path)
        assert reply.said == (status, f"{service} support is not enabled on this node")
        assert "retry-after" not in reply.headers
        assert (await node.send("OPTIONS", path)).status == 200
        features = json.loads((await node.send("GET", "/info")).body)["features"]
        assert "signed-urls" in features
        assert not {"hooks", "policy", "share"} & set(features)
