"""Tests of logins at a door with machine tokens and ID tokens."""

import asyncio
from pathlib import Path

import pytest
from door_stage import DoorBench, DoorCaller, blocking, door_bench, open_door
from oidc_issuer import SHOP, Issuer, ec_key, github_claims, kubernetes_claims
from relay import Answer, relay_before

from capabilities.principals import Principal
from door import door_grants
from door.cache import Cache
from door.door_errors import DoorRefusal
from door.door_grants import DoorGrant, DoorGrants
from door.limits import IDLE_S, LOGINS_OF_ONE_PER_MINUTE, LOGINS_PER_MINUTE, MAX_GRANTS
from node.config.tree import Limits
from sealspace.client import Client
from sealspace.wire.token_line import read_token
from serving.shares import Payer
from spaces.grants.exchanged import sweep_exchanged

ISSUER = "https://issuer.test"
ACCOUNT = "system:serviceaccount:shop:deploy"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """An issuer whose keys are in the trusts."""
    return Issuer(ISSUER, {"one": ec_key()})


async def _trust(
    bench: DoorBench, issuer: Issuer, *, name: str = "shop", **values: str
) -> tuple[Client, str]:
    """Store an owner's secrets, and trust service accounts of an issuer to read them."""
    owner, wallet = await bench.owner()
    await owner.secrets().put_many(values)
    trust = await owner.delegations.trust_issuer(
        name,
        [*values],
        issuer=issuer.address,
        claims={"sub": [ACCOUNT]},
        jwks=issuer.jwks,
        wallet=wallet,
    )
    return owner, trust


async def _id_token(
    bench: DoorBench, issuer: Issuer, *, audience: object = "", life_s: float = 300
) -> str:
    """Return an ID token of a service account, by default for the node."""
    node_id = (await (await bench.client()).info()).node_id
    return issuer.token(
        kubernetes_claims(),
        audience=node_id if audience == "" else audience,
        now=bench.clock.now(),
        life_s=life_s,
    )


# --- machine tokens -------------------------------------------------------------------------------


async def test_DR10_hvac_logs_in_with_a_machine_token(bench: DoorBench) -> None:
    """DR10: hvac logs in at approle with the line of a machine token, and reads its secrets."""
    _, line = await bench.machine("API_KEY", API_KEY="open sesame", OTHER="other")
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        client = door.hvac()
        answer = await blocking(client.auth.approle.login, role_id="deploy", secret_id=line)
        assert answer["auth"]["lease_duration"] == 30 * 86_400
        read = await blocking(
            client.secrets.kv.v2.read_secret_version,
            path="API_KEY",
            raise_on_deleted_version=True,
        )
        assert read["data"]["data"] == {"value": "open sesame"}
        again = await door.log_in("approle", role_id="deploy", secret_id=f" {line}\n")
        assert again.token == client.token


async def test_DR10_what_is_no_machine_token(bench: DoorBench, tmp_path: Path) -> None:
    """DR10: a cut line, another name, and the line of another node are 403, without the line."""
    _, line = await bench.machine("API_KEY", API_KEY="open sesame")
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        for body, status in (
            ({"role_id": "deploy", "secret_id": line[:-1]}, 403),
            ({"role_id": "other", "secret_id": line}, 403),
            ({"role_id": "deploy"}, 400),
            ({"secret_id": line}, 400),
            ({"role_id": "deploy", "secret_id": 7}, 400),
        ):
            reply = await door.send("POST", "auth/approle/login", body)
            assert reply.status == status, reply
            assert line[:40] not in reply.text
    async with (
        door_bench(tmp_path / "other") as other,
        open_door(other, await other.client(), has_own_grant=False) as door,
    ):
        reply = await door.send(
            "POST", "auth/approle/login", {"role_id": "deploy", "secret_id": line}
        )
        assert reply.status == 403


async def test_DR10_a_revoked_token_does_not_log_in(bench: DoorBench) -> None:
    """DR10: the node has to accept the machine token at the login."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    line = await owner.delegations.create_token("deploy", ["API_KEY"], wallet=wallet)
    program = await bench.client()
    async with open_door(bench, program, has_own_grant=False) as door:
        await owner.delegations.revoke(read_token(line).grants[0].cid)
        reply = await door.send(
            "POST", "auth/approle/login", {"role_id": "deploy", "secret_id": line}
        )
        assert reply.status == 403 and "was revoked" in reply.reported["errors"][0]


# --- ID tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["jwt", "kubernetes"])
async def test_DR11_a_service_account_logs_in(
    bench: DoorBench, issuer: Issuer, method: str
) -> None:
    """DR11: an ID token is exchanged for a grant of its own, which ends after 15 minutes."""
    _, trust = await _trust(bench, issuer, API_KEY="open sesame")
    client = await bench.client()
    async with open_door(bench, client, roles={"shop": trust}, has_own_grant=False) as door:
        token = await _id_token(bench, issuer)
        caller = await door.log_in(method, role="shop", jwt=token)
        assert (await caller.data("secret/data/API_KEY"))["data"] == {"value": "open sesame"}
        own = await caller.data("auth/token/lookup-self")
        assert own["ttl"] == 900 and own["meta"]["role"] == "shop"
        bench.clock.advance(900)
        assert (await caller.get("secret/data/API_KEY")).status == 403


async def test_OX9_a_trust_with_too_many_logins(tmp_path: Path, issuer: Issuer) -> None:
    """OX9: beyond the node's limit a login is 429 with the reason and what to do; the same ID token
    logs in later."""
    async with door_bench(tmp_path, limits=Limits(exchanged_per_trust=1)) as bench:
        _, trust = await _trust(bench, issuer, API_KEY="open sesame")
        async with open_door(bench, await bench.client(), has_own_grant=False) as door:
            await door.log_in("jwt", role=trust, jwt=await _id_token(bench, issuer))
            token = await _id_token(bench, issuer, life_s=1800)
            for _ in range(2):
                reply = await door.send("POST", "auth/jwt/login", {"role": trust, "jwt": token})
                assert reply.status == 429
                (text,) = reply.reported["errors"]
                assert "Too many machine tokens of this trust" in text and "15 minutes" in text
            bench.clock.advance(901)
            await sweep_exchanged(bench.node.services.store, now=bench.clock.now())
            await door.log_in("jwt", role=trust, jwt=token)


async def test_DR11_hvac_logs_in_with_an_id_token(bench: DoorBench, issuer: Issuer) -> None:
    """DR11: hvac logs in at jwt, with the id of the trust as its role."""
    _, trust = await _trust(bench, issuer, API_KEY="open sesame")
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        client = door.hvac()
        token = await _id_token(bench, issuer)
        answer = await blocking(client.auth.jwt.jwt_login, role=trust, jwt=token)
        client.token = answer["auth"]["client_token"]
        assert (await blocking(client.secrets.kv.v2.list_secrets, path=""))["data"] == {
            "keys": ["API_KEY"]
        }


async def test_DR11_the_same_id_token_again(bench: DoorBench, issuer: Issuer) -> None:
    """DR11: the same ID token gets the same grant until it ends, also in several logins at once."""
    _, trust = await _trust(bench, issuer, API_KEY="open sesame")
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        token = await _id_token(bench, issuer, life_s=300)
        callers = await asyncio.gather(
            *(door.log_in("jwt", role=trust, jwt=token) for _ in range(5))
        )
        assert len({caller.token for caller in callers}) == 1
        assert (await door.log_in("kubernetes", role=trust, jwt=token)).token == callers[0].token
        other = await door.log_in("jwt", role=trust, jwt=await _id_token(bench, issuer))
        assert other.token != callers[0].token
        # The token itself has ended, but the grant of its exchange has not.
        bench.clock.advance(300)
        late = await door.send("POST", "auth/jwt/login", {"role": trust, "jwt": token})
        assert late.status == 403 and "has ended" in late.reported["errors"][0]
        assert (await callers[0].get("secret/data/API_KEY")).status == 200


async def test_DR11_another_audience_uses_no_token_up(bench: DoorBench, issuer: Issuer) -> None:
    """DR11: another audience is 403 before the exchange, and the text names the right one."""
    _, trust = await _trust(bench, issuer, API_KEY="open sesame")
    async with relay_before(bench.node.url) as relay:
        asked: list[str] = []
        relay.twist = lambda answer: asked.append(answer.path)
        client = await bench.client(url=relay.url)
        node_id = (await client.info()).node_id
        async with open_door(bench, client, has_own_grant=False) as door:
            for audience in ("https://kubernetes.default.svc", [node_id, "other"], None):
                token = await _id_token(bench, issuer, audience=audience)
                body = {"role": trust, "jwt": token}
                reply = await door.send("POST", "auth/jwt/login", body)
                assert reply.status == 403
                assert node_id in reply.reported["errors"][0] and token not in reply.text
            for text in ("x.y.z", "a", token.split(".")[0]):
                body = {"role": trust, "jwt": text}
                assert (await door.send("POST", "auth/jwt/login", body)).status == 403
            unknown = {"role": "shop", "jwt": token}
            assert (await door.send("POST", "auth/jwt/login", unknown)).status == 400
        assert "/oidc/exchange" not in asked


async def test_DR11_a_refused_id_token(bench: DoorBench, issuer: Issuer) -> None:
    """DR11: a token of a foreign issuer, or one that the trust does not name, is 403."""
    _, trust = await _trust(bench, issuer, API_KEY="open sesame")
    node_id = (await (await bench.client()).info()).node_id
    foreign = Issuer(ISSUER, {"one": ec_key()})
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        for token in (
            await _id_token(bench, foreign),
            issuer.token(github_claims(**SHOP), audience=node_id, now=bench.clock.now()),
        ):
            reply = await door.send("POST", "auth/jwt/login", {"role": trust, "jwt": token})
            assert reply.status == 403 and "; next: " in reply.reported["errors"][0]


async def test_DR4_each_caller_has_its_own_rights(bench: DoorBench, issuer: Issuer) -> None:
    """DR4: two callers at one mount read what their own grants name, of their own owners."""
    _, shop = await _trust(bench, issuer, API_KEY="of the shop", ONLY="x")
    _, bank = await _trust(bench, issuer, name="bank", API_KEY="of the bank")
    client = await bench.client()
    roles = {"shop": shop, "bank": bank}
    async with open_door(bench, client, roles=roles, has_own_grant=False, fresh_s=60) as door:
        callers: dict[str, DoorCaller] = {}
        for role in roles:
            token = await _id_token(bench, issuer)
            callers[role] = await door.log_in("jwt", role=role, jwt=token)
        for _ in range(2):  # the second time from the cache
            for role, caller in callers.items():
                data = await caller.data("secret/data/API_KEY")
                assert data["data"] == {"value": f"of the {role}"}
        assert (await callers["bank"].get("secret/data/ONLY")).status == 403


# --- limits ---------------------------------------------------------------------------------------


async def test_DR21_logins_are_bounded(bench: DoorBench) -> None:
    """DR21: of many refused logins only some reach the node; those that are refused here count
    nothing."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    lines = []
    for name in ("former", "deploy"):
        lines.append(await owner.delegations.create_token(name, ["API_KEY"], wallet=wallet))
    await owner.delegations.revoke(read_token(lines[0]).grants[0].cid)
    former = {"role_id": "former", "secret_id": lines[0]}
    wrong = {"role_id": "other", "secret_id": lines[0]}
    async with relay_before(bench.node.url) as relay:
        asked: list[str] = []
        relay.twist = lambda answer: asked.append(answer.path)
        client = await bench.client(url=relay.url)
        async with open_door(bench, client, has_own_grant=False) as door:
            for _ in range(LOGINS_PER_MINUTE):
                assert (await door.send("POST", "auth/approle/login", wrong)).status == 403
            assert asked == []
            for _ in range(LOGINS_OF_ONE_PER_MINUTE):
                assert (await door.send("POST", "auth/approle/login", former)).status == 403
            asked.clear()
            refused = await door.send("POST", "auth/approle/login", former)
            assert refused.status == 429 and "30 a minute" in refused.reported["errors"][0]
            assert "log in again in 2 s" in refused.reported["errors"][0]
            assert asked == []
            bench.clock.advance(2)
            right = {"role_id": "deploy", "secret_id": lines[1]}
            assert (await door.send("POST", "auth/approle/login", right)).status == 200


def _grants(bench: DoorBench) -> DoorGrants:
    cache = Cache(fresh_s=0, stale_s=0, clock=bench.clock)
    return DoorGrants(cache, clock=bench.clock, entropy=bench.entropy)


def _log_in(grants: DoorGrants, owner: Client, holder: Payer, *, ends_at: float) -> DoorGrant:
    """Add a grant as a login does."""
    with grants.room(holder) as leaving:
        return grants.add(
            owner,
            path="auth/jwt/login",
            role="",
            ends_at=ends_at,
            holder=holder,
            leaving=leaving,
        )


def _holder(number: int, *, is_known: bool = False) -> Payer:
    return Payer(Principal(f"did:key:{number}"), is_known=is_known)


async def test_DR14_grants_are_bounded(bench: DoorBench) -> None:
    """DR14: a door has no more grants than its limit, and an ended grant makes room."""
    owner, _ = await bench.owner()
    grants = _grants(bench)
    for number in range(MAX_GRANTS):
        holder = _holder(number, is_known=True)
        _log_in(grants, owner, holder, ends_at=bench.clock.now() + 10 + number)
    late = _holder(MAX_GRANTS, is_known=True)
    with pytest.raises(DoorRefusal, match="256 callers"), grants.room(late):
        pass
    bench.clock.advance(10)
    # A login that runs has a place too.
    with grants.room(late), pytest.raises(DoorRefusal, match="256 callers"), grants.room(late):
        pass
    with grants.room(late):
        pass


async def test_DR19_grants_have_shares(bench: DoorBench) -> None:
    """DR19: one holder has at most a quarter of the grants, and holders whom the operator did not
    name have half; each refusal says whose bound it is."""
    owner, _ = await bench.owner()
    grants = _grants(bench)
    ends_at = bench.clock.now() + 900
    for _ in range(MAX_GRANTS // 4):
        _log_in(grants, owner, _holder(1), ends_at=ends_at)
    with pytest.raises(DoorRefusal, match=r"64 callers .* for this owner or trust, which is"):
        _log_in(grants, owner, _holder(1), ends_at=ends_at)
    for _ in range(MAX_GRANTS // 4):
        _log_in(grants, owner, _holder(2), ends_at=ends_at)
    with pytest.raises(DoorRefusal, match=r"128 callers .* that the operator did not name"):
        _log_in(grants, owner, _holder(3), ends_at=ends_at)
    for number in range(MAX_GRANTS // 2):
        _log_in(grants, owner, _holder(4 + number % 2, is_known=True), ends_at=ends_at)
    with pytest.raises(DoorRefusal, match=r"256 callers .*, which are all that it has; next"):
        _log_in(grants, owner, _holder(6, is_known=True), ends_at=ends_at)


async def test_DR19_an_idle_grant_gives_its_place(bench: DoorBench) -> None:
    """DR19: where a share is full, the largest holder loses the grant that was idle the longest,
    and only when the login succeeds; a grant in use is not lost."""
    owner, _ = await bench.owner()
    grants = _grants(bench)
    ends_at = bench.clock.now() + 900
    large = [_log_in(grants, owner, _holder(1), ends_at=ends_at) for _ in range(64)]
    small = [_log_in(grants, owner, _holder(2), ends_at=ends_at) for _ in range(63)]
    single = _log_in(grants, owner, _holder(3), ends_at=ends_at)
    bench.clock.advance(1)
    for grant in large[1:]:
        grants.find(grant.token)
    bench.clock.advance(IDLE_S - 2)
    with pytest.raises(DoorRefusal, match="128 callers"):
        _log_in(grants, owner, _holder(4), ends_at=ends_at)
    bench.clock.advance(1)
    # A login that the node refuses ends no grant.
    with grants.room(_holder(4)):
        pass
    grants.find(large[0].token)
    bench.clock.advance(IDLE_S)
    new = _log_in(grants, owner, _holder(4), ends_at=ends_at)
    with pytest.raises(DoorRefusal, match="it has ended"):
        grants.find(large[1].token)
    for grant in (large[0], *large[2:], *small, single, new):
        grants.find(grant.token)
    # All are in use now.
    with pytest.raises(DoorRefusal, match="128 callers"):
        _log_in(grants, owner, _holder(5), ends_at=ends_at)


async def test_DR19_an_idle_grant_of_another_share_stays(bench: DoorBench) -> None:
    """DR19: where the share of holders that the operator did not name is full, an idle grant of a
    named holder does not end."""
    owner, _ = await bench.owner()
    grants = _grants(bench)
    ends_at = bench.clock.now() + 900
    named = [_log_in(grants, owner, _holder(0, is_known=True), ends_at=ends_at) for _ in range(64)]
    idle = _log_in(grants, owner, _holder(1), ends_at=ends_at)
    bench.clock.advance(IDLE_S)
    for number in range(MAX_GRANTS // 2 - 1):
        _log_in(grants, owner, _holder(2 + number % 3), ends_at=ends_at)
    _log_in(grants, owner, _holder(5), ends_at=ends_at)
    for grant in named:
        grants.find(grant.token)
    with pytest.raises(DoorRefusal, match="it has ended"):
        grants.find(idle.token)


async def test_DR19_the_door_keeps_its_own_grant(bench: DoorBench) -> None:
    """DR19: the grant of --token-file gives its place to no login."""
    owner, _ = await bench.owner()
    grants = _grants(bench)
    own = grants.add(owner, path="auth/token/door", role="", ends_at=None)
    bench.clock.advance(IDLE_S)
    ends_at = bench.clock.now() + 900
    for number in range(MAX_GRANTS - 1):
        _log_in(grants, owner, _holder(number, is_known=True), ends_at=ends_at)
    with pytest.raises(DoorRefusal, match="256 callers"):
        _log_in(grants, owner, _holder(MAX_GRANTS, is_known=True), ends_at=ends_at)
    assert grants.find(own.token) is own


async def test_DR19_a_holder_that_has_more_takes_no_place(bench: DoorBench) -> None:
    """DR19: an idle grant is not lost to a holder that has more grants."""
    owner, _ = await bench.owner()
    grants = _grants(bench)
    ends_at = bench.clock.now() + 900
    rare = _log_in(grants, owner, _holder(0), ends_at=ends_at)
    bench.clock.advance(IDLE_S)
    for number in range(127):
        _log_in(grants, owner, _holder(1 + number % 3), ends_at=ends_at)
    with pytest.raises(DoorRefusal, match="128 callers"):
        _log_in(grants, owner, _holder(1), ends_at=ends_at)
    assert grants.find(rare.token) is rare


async def test_DR14_a_login_without_room(bench: DoorBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """DR14: a login at a full door is 429, and an ended token makes room."""
    monkeypatch.setattr(door_grants, "MAX_GRANTS", 4)  # a quarter is one
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "open sesame")
    bodies = []
    for name in ("one", "two"):
        line = await owner.delegations.create_token(name, ["API_KEY"], wallet=wallet)
        bodies.append({"role_id": name, "secret_id": line})
    async with open_door(bench, await bench.client(), has_own_grant=False) as door:
        first = await door.log_in("approle", **bodies[0])
        assert (await door.send("POST", "auth/approle/login", bodies[1])).status == 429
        assert (await first.send("POST", "auth/token/revoke-self")).status == 204
        assert (await door.send("POST", "auth/approle/login", bodies[1])).status == 200


async def test_DR12_a_login_while_the_node_is_away(bench: DoorBench) -> None:
    """DR12: a login that fails because of the node is 502, and can be repeated."""
    _, line = await bench.machine("API_KEY", API_KEY="open sesame")
    body = {"role_id": "deploy", "secret_id": line}
    async with relay_before(bench.node.url) as relay:
        client = await bench.client(url=relay.url)
        await client.info()

        def fail(answer: Answer) -> None:
            answer.status = 503

        relay.twist = fail
        async with open_door(bench, client, has_own_grant=False) as door:
            assert (await door.send("POST", "auth/approle/login", body)).status == 502
            relay.twist = lambda answer: None
            assert (await door.send("POST", "auth/approle/login", body)).status == 200
