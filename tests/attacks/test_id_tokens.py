"""Attacks with ID tokens: a job reads the secrets of its trust for a few minutes, and nothing else
(OX1 to OX7)."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import libipld
import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    DECRYPT,
    GET,
    PUT,
    SECRET,
    Delegate,
    Owner,
    Stage,
    ids,
    opens,
    refused,
)
from attacks.test_receipts import kept, reader
from audit_records import audit_records
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from oidc_issuer import SHOP, Issuer, ec_key, github_claims, public_jwk, rsa_key
from running_node import Reply, key_token, send

from capabilities.facts import MACHINE_FACT
from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer
from encryption_network.keyring import Keyring
from node.housekeeping.schedule import sweep_delegations
from sealspace.errors import NodeRefused
from sealspace.session import read_grant
from spaces.grants.retention import delegation_usage_keys
from spaces.store.contract import counter_of

pytestmark = pytest.mark.slow

GITHUB = "https://token.actions.githubusercontent.com"
OTHER = "OTHER_KEY"
SAID = "The ID token was refused"


async def trust_of(owner: Owner, by: Issuer, /, *names: str, **more: Any) -> str:
    """Have an owner trust an issuer for the secret, or for those of these names."""
    stated: dict[str, Any] = {
        "issuer": by.address,
        "claims": {name: [value] for name, value in SHOP.items()},
        "jwks": by.jwks,
        "wallet": owner.wallet,
    }
    return await owner.client.delegations.trust_issuer(
        "shop", names or (SECRET,), **(stated | more)
    )


async def exchange(stage: Stage, trust: str, token: str, job: Delegate, **more: Any) -> Reply:
    """Exchange an ID token for a machine token of a job's key; the job then cites it."""
    asked = {"token": token, "key": job.did, "trust": trust, **more}
    reply = await send(stage.url, "POST", "/oidc/exchange", body=json.dumps(asked).encode())
    if reply.status == 200:
        job.proofs = [str(reply.value["delegation"])]
    return reply


def is_refused(reply: Reply) -> bool:
    """Return whether an exchange was refused with the common refusal."""
    return (reply.status, reply.value["title"]) == (401, SAID)


def encoded(value: Mapping[str, Any]) -> str:
    """Return a base64url-encoded part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# --- what a job reads -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [rsa_key(), ec_key(), ed25519.Ed25519PrivateKey.generate()])
async def test_OX3_a_job_reads_the_secrets_of_its_trust(held: HeldStage, key: Any) -> None:
    """A job reads the secrets of its trust, and the receipt names the trust."""
    owner, issuer, job = await held.owner(), Issuer(GITHUB, {"one": key}), Delegate()
    await reader(held, owner)
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(), audience=held.node_did)
    assert (await exchange(held, trust, token, job)).status == 200
    assert 800 < float(read_grant(job.proofs[0]).expires_at or 0) - held.clock.now() <= 900
    reply = await held.invoke(job.signer, {owner.secret: [GET]}, proofs=job.proofs)
    assert reply.status == 200
    assert opens(await held.ask(job, owner), job, owner)
    verified = (await kept(held, owner)).verify().receipt
    assert verified.ground == "machine"
    assert verified.machine == "shop"
    assert verified.chain == (ids(*job.proofs)[0], trust)
    stated = {**SHOP, "iss": GITHUB, "sub": github_claims()["sub"], "event_name": "push"}
    records = [one for one in await audit_records(held.services.store) if one.detail]
    details = {one.action: json.loads(one.detail) for one in records}
    for action in ("delegation.registered", "release.authorised"):
        assert details[action]["claims"] == stated


async def test_OX4_a_job_may_ask_for_fewer_secrets(stage: Stage) -> None:
    """A job can request a token for a part of the trust's paths, but for no other path."""
    owner, issuer, job = await stage.owner(), Issuer(GITHUB), Delegate()
    await owner.client.secrets().put(OTHER, "another value")
    both = await trust_of(owner, issuer, SECRET, OTHER)
    one = await trust_of(owner, issuer)
    other = owner.client.secrets().resource(OTHER)

    async def ask(trust: str, *paths: str) -> Reply:
        token = issuer.token(github_claims(), audience=stage.node_did)
        return await exchange(stage, trust, token, job, paths=paths)

    assert is_refused(await ask(one, other))
    assert is_refused(await ask(one, owner.secret, other))
    assert is_refused(await ask(both, owner.secret, owner.secret))
    assert is_refused(await ask(both, other.rpartition("/")[0]))
    assert (await ask(both, other)).status == 200
    assert (await stage.ask(job, owner)).said == refused("path")
    reply = await stage.invoke(job.signer, {owner.secret: [GET]}, proofs=job.proofs)
    assert reply.status == 401
    reply = await stage.invoke(job.signer, {other: [PUT]}, proofs=job.proofs, body=b"x")
    assert reply.status == 401


# --- ID tokens that are refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"repository_id": "75"},
        {"repository_id": 74},
        {"repository_id": ["74"]},
        {"repository_id": None},
        {"repository_owner_id": "66"},
        {"ref": "refs/heads/main2"},
        {"ref": "refs/heads/MAIN"},
        {"ref": None},
        {"event_name": "pull_request_target"},
        {"iss": "https://token.actions.githubusercontent.com/"},
        {"iss": None},
        {"sub": None},
        {"sub": "x" * 513},
        {"sub": "x" * 9000},
        {"sub": "two\nlines"},
        {"aud": None},
        {"aud": "https://github.com/acme"},
        {"aud": []},
        {"iat": None},
        {"exp": None},
        {"exp": "4000000000"},
        {"exp": 1},
        {"exp_in_s": 86_400 * 2},
        {"iat_in_s": 300},
        {"nbf_in_s": 300},
    ],
    ids=str,
)
async def test_OX3_each_claim_counts(stage: Stage, changes: dict[str, Any]) -> None:
    """A token with a different claim is refused, always with the same text."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    now = time.time()
    changes = {
        name.removesuffix("_in_s"): now + value if name.endswith("_in_s") else value
        for name, value in changes.items()
    }
    token = issuer.token(github_claims(), audience=stage.node_did, **changes)
    assert is_refused(await exchange(stage, trust, token, Delegate()))


async def test_OX3_the_audience_is_this_node_alone(stage: Stage) -> None:
    """A token for several audiences is refused, because another audience could replay it."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    for audience in ([stage.node_did, "https://other.test"], [stage.node_did] * 2):
        token = issuer.token(github_claims(), audience=audience)
        assert is_refused(await exchange(stage, trust, token, Delegate()))


async def test_OX3_a_token_for_one_key(stage: Stage) -> None:
    """If the audience names a key, a proxy that reads the token cannot use another key."""
    owner, issuer, job = await stage.owner(), Issuer(GITHUB), Delegate()
    trust, node = await trust_of(owner, issuer), stage.node_did
    token = issuer.token(github_claims(), audience=f"{node}#{job.did}")
    assert is_refused(await exchange(stage, trust, token, Delegate()))
    for audience in (f"{node}#", f"{node}{job.did}", f"#{job.did}", job.did, node.upper()):
        other = issuer.token(github_claims(), audience=audience)
        assert is_refused(await exchange(stage, trust, other, job)), audience
    assert (await exchange(stage, trust, token, job)).status == 200
    assert opens(await stage.ask(job, owner), job, owner)


async def test_OX3_a_number_is_no_truth(stage: Stage) -> None:
    """The number 1 does not satisfy a claim of `true`."""
    owner, issuer = await stage.owner(), Issuer("https://ci.test")
    for allowed, presented in ((True, 1), (1, True), (0, False), ("1", 1)):
        trust = await trust_of(owner, issuer, claims={"level": [allowed]})
        token = issuer.token({"sub": "a", "level": presented}, audience=stage.node_did)
        assert is_refused(await exchange(stage, trust, token, Delegate()))
        token = issuer.token({"sub": "a", "level": allowed}, audience=stage.node_did)
        assert (await exchange(stage, trust, token, Delegate())).status == 200


def forged(issuer: Issuer, stage: Stage) -> dict[str, str]:
    """Return tokens that are not signed by the issuer's key."""
    real = issuer.token(github_claims(), audience=stage.node_did)
    head, payload, signature = real.split(".")
    key = issuer.keys["one"].public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    own = rsa_key()

    def under(secret: bytes, **header: Any) -> str:
        signed = f"{encoded({'alg': 'HS256', 'kid': 'one', **header})}.{payload}"
        made = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"

    return {
        "none": f"{encoded({'alg': 'none', 'kid': 'one'})}.{payload}.",
        "None": f"{encoded({'alg': 'None', 'kid': 'one'})}.{payload}.{signature}",
        "no algorithm": f"{encoded({'kid': 'one'})}.{payload}.{signature}",
        "HMAC under the public key": under(pem),
        "HMAC under the key set": under(json.dumps(public_jwk("one", issuer.keys["one"])).encode()),
        "HMAC under nothing": under(b""),
        "another hash": f"{encoded({'alg': 'RS512', 'kid': 'one'})}.{payload}.{signature}",
        "another key": Issuer(GITHUB, {"one": own}).token(github_claims(), audience=stage.node_did),
        "a key in the header": Issuer(GITHUB, {"two": own}).token(
            github_claims(),
            audience=stage.node_did,
            headers={"jwk": public_jwk("two", own), "jku": "https://evil.test/keys"},
        ),
        "an unknown extension": issuer.token(
            github_claims(), audience=stage.node_did, headers={"crit": ["x"], "x": 1}
        ),
        "a detached payload": issuer.token(
            github_claims(), audience=stage.node_did, headers={"b64": False, "crit": ["b64"]}
        ),
        "another payload": f"{head}.{encoded({'sub': 'x'})}.{signature}",
        "no signature": f"{head}.{payload}.",
        "two parts": f"{head}.{payload}",
        "four parts": f"{real}.{signature}",
        "nothing": "",
        "no header": f".{payload}.{signature}",
        "a list for a header": f"W10.{payload}.{signature}",
        "a number for an id": f"{encoded({'alg': 'RS256', 'kid': 1})}.{payload}.{signature}",
        "deep": f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.{payload}.{signature}",
        "not ASCII": f"{head}.{payload}.é",
    }


async def test_OX3_forged_tokens(stage: Stage) -> None:
    """A token is refused if it is unsigned, signed by HMAC or by a key in its header, or
    changed."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    for name, token in forged(issuer, stage).items():
        reply = await exchange(stage, trust, token, Delegate())
        assert is_refused(reply), (name, reply.said)


async def test_OX3_shared_secrets_are_no_keys(stage: Stage) -> None:
    """Key sets with a shared secret, a short RSA key or a duplicate id verify no token."""
    owner = await stage.owner()
    secret = Issuer(GITHUB, {"one": b"s" * 32})
    doubled = Issuer(GITHUB)
    (key,) = json.loads(doubled.jwks)["keys"]
    for issuer, keys in (
        (secret, secret.jwks),
        (doubled, json.dumps({"keys": [key, key]})),
        (doubled, json.dumps({"keys": []})),
        (doubled, json.dumps({"keys": {"one": key}})),
        (doubled, json.dumps({"keys": [key | {"alg": "HS256"}]})),
        (doubled, json.dumps({"keys": [1]})),
        (doubled, "[" * 16_000),
        (doubled, "no JSON"),
    ):
        trust = await trust_of(owner, issuer, jwks=keys)
        token = issuer.token(github_claims(), audience=stage.node_did)
        assert is_refused(await exchange(stage, trust, token, Delegate())), keys[:80]


async def test_OX3_requests_are_bounded(stage: Stage) -> None:
    """A body that is too long or malformed is refused before the token is parsed."""
    for body, status in (
        (b'{"token":"' + b"x" * 16_400 + b'"}', 413),
        (b'{"token":"a","key":"b"}', 422),
        (b'{"token":"a","key":"b","trust":"c","more":1}', 422),
        (b"[]", 422),
        (b"{", 400),
        (b'{"token":"a","key":"b","trust":"c"}', 401),
    ):
        reply = await send(stage.url, "POST", "/oidc/exchange", body=body)
        assert reply.status == status, reply.said


async def test_OX3_other_delegations_are_no_trust(stage: Stage) -> None:
    """An exchange that cites another delegation than a trust is refused."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    token = issuer.token(github_claims(), audience=stage.node_did)
    machine = ids(await stage.register(owner.machine(Delegate())))[0]
    for trust in (machine, ids(*owner.session.proofs)[0], ids("a.b.c")[0], "", "x", "é"):
        assert is_refused(await exchange(stage, trust, token, Delegate()))


async def test_OX3_a_key_that_nobody_has_is_refused_before_the_token_is_used(stage: Stage) -> None:
    """An exchange for an invalid public key is refused, and the ID token can still be used."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(), audience=stage.node_did)
    job = Delegate()
    fragment = f"{job.did}#{job.did.removeprefix('did:key:')}"
    texts = ["did:key:x", "did:key:z", "did:web:example.com", owner.wallet.did, fragment, ""]
    for point in (
        bytes(31),
        (2).to_bytes(32, "little"),  # on no curve
        (1).to_bytes(32, "little"),  # of order 1
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),  # 8
        (2**255 - 16).to_bytes(32, "little"),  # another spelling of a point
    ):
        texts.append(f"did:key:{libipld.encode_multibase('z', bytes([0xED, 1]) + point)}")
    for key in texts:
        assert is_refused(await exchange(stage, trust, token, job, key=key)), key
    assert (await exchange(stage, trust, token, job)).status == 200


async def test_OX3_a_trust_has_one_spelling(stage: Stage) -> None:
    """An exchange that spells the trust's CID differently is refused, and the ID token can still be
    used."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(), audience=stage.node_did)
    job = Delegate()
    data = libipld.decode_multibase(trust)[1]
    base58 = libipld.encode_multibase("z", data)
    dag_cbor = libipld.encode_multibase("b", bytes([1, 0x71]) + data[2:])
    for spelling in (trust.upper(), "b" + trust[1:].upper(), base58, dag_cbor, trust + "="):
        assert is_refused(await exchange(stage, spelling, token, job)), spelling
    assert (await exchange(stage, trust, token, job)).status == 200


# --- once -----------------------------------------------------------------------------------------


def malleated(token: str) -> str:
    """Return an ES256 token with the second valid form of its signature."""
    signed, _, text = token.rpartition(".")
    raw = base64.urlsafe_b64decode(text + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    assert decode_dss_signature(encode_dss_signature(r, order - s)) == (r, order - s)
    other = r.to_bytes(32, "big") + (order - s).to_bytes(32, "big")
    return f"{signed}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"


async def test_OX5_a_token_serves_once(stage: Stage) -> None:
    """A used ID token is refused on every worker, also with the second form of its signature."""
    owner, issuer = await stage.owner(), Issuer(GITHUB, {"one": ec_key()})
    trust, other = await trust_of(owner, issuer), await trust_of(owner, issuer)
    for first in (lambda token: token, malleated):
        token = issuer.token(github_claims(), audience=stage.node_did)
        assert (await exchange(stage, trust, first(token), Delegate())).status == 200
        for again in (token, malleated(token)):
            for worker in (0, 1):
                with stage.only(worker):
                    assert is_refused(await exchange(stage, trust, again, Delegate()))
                    assert is_refused(await exchange(stage, other, again, Delegate()))


async def test_OX5_at_once_one_wins(stage: Stage) -> None:
    """A token that is exchanged concurrently on two workers succeeds once."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    for _ in range(4):
        token = issuer.token(github_claims(), audience=stage.node_did)
        replies = await asyncio.gather(
            *[exchange(stage, trust, token, Delegate()) for _ in range(8)]
        )
        assert sorted(one.status for one in replies) == [200, *[401] * 7]


async def test_OX3_another_node_accepts_neither_token_nor_trust(
    stage: Stage, held: HeldStage
) -> None:
    """A node refuses ID tokens and trusts that name another node."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    there = await held.owner(wallet=owner.wallet)
    trust = await trust_of(owner, issuer)
    [header] = [
        one.token
        async for one in owner.client.delegations.query(direction="granted", tokens=True)
        if one.cid == trust
    ]
    assert header is not None
    reply = await held.post("/delegate", header)
    assert reply.said[0] == 400 and "exchange key of another node" in reply.text
    token = issuer.token(github_claims(), audience=stage.node_did)
    assert is_refused(await exchange(held, trust, token, Delegate()))
    assert is_refused(await exchange(held, await trust_of(there, issuer), token, Delegate()))


# --- after the exchange ---------------------------------------------------------------------------


async def test_OX4_its_end(held: HeldStage) -> None:
    """A job's token ends after 15 minutes, or with its trust if the trust ends sooner."""
    owner, issuer, job = await held.owner(), Issuer(GITHUB), Delegate()
    trust = await trust_of(owner, issuer, ttl_s=400)
    token = issuer.token(github_claims(), audience=held.node_did)
    assert (await exchange(held, trust, token, job)).status == 200
    assert float(read_grant(job.proofs[0]).expires_at or 0) - held.clock.now() <= 460
    longer = await trust_of(owner, issuer)
    token = issuer.token(github_claims(), audience=held.node_did)
    await exchange(held, longer, token, job)
    held.clock.advance(890)
    assert opens(await held.ask(job, owner, ttl_s=950), job, owner)
    held.clock.advance(20)
    assert (await held.ask(job, owner, ttl_s=950)).status == 401
    late = issuer.token(github_claims(), audience=held.node_did, now=held.clock.now())
    assert is_refused(await exchange(held, trust, late, job))


async def test_OX4_a_revoked_trust(stage: Stage) -> None:
    """Revoking a trust ends its tokens at once; no further token is made under it."""
    owner, issuer, job = await stage.owner(), Issuer(GITHUB), Delegate()
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(), audience=stage.node_did)
    assert (await exchange(stage, trust, token, job)).status == 200
    assert opens(await stage.ask(job, owner), job, owner)
    await owner.client.delegations.revoke_by_wallet(trust, owner.wallet)
    assert (await stage.ask(job, owner)).status == 401
    reply = await stage.invoke(job.signer, {owner.secret: [GET]}, proofs=job.proofs)
    assert reply.status == 401
    token = issuer.token(github_claims(), audience=stage.node_did)
    assert is_refused(await exchange(stage, trust, token, Delegate()))


async def test_OX4_the_owner_revokes_one_token(stage: Stage) -> None:
    """The owner can revoke the token of one job without affecting other jobs."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust, jobs = await trust_of(owner, issuer), (Delegate(), Delegate())
    for job in jobs:
        token = issuer.token(github_claims(), audience=stage.node_did)
        assert (await exchange(stage, trust, token, job)).status == 200
    gone, other = jobs
    await owner.client.delegations.revoke_by_wallet(ids(*gone.proofs)[0], owner.wallet)
    assert (await stage.ask(gone, owner)).status == 401
    assert opens(await stage.ask(other, owner), other, owner)


async def test_OX4_only_its_key_uses_it(stage: Stage) -> None:
    """Only the job's key can use its token, and it cannot delegate its rights."""
    owner, issuer, job, thief = await stage.owner(), Issuer(GITHUB), Delegate(), Delegate()
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(), audience=stage.node_did)
    assert (await exchange(stage, trust, token, job)).status == 200
    thief.proofs = job.proofs
    assert (await stage.ask(thief, owner)).status == 401
    for grants in ({owner.network: [DECRYPT]}, {owner.secret: [GET]}):
        reply = await stage.post("/delegate", job.grant(thief.did, grants))
        assert reply.status == 401 and "terminal-parent" in reply.text


def signed_by(
    signer: Ed25519Signer, owner: Owner, trust: str, job: Delegate, **changes: Any
) -> str:
    """Return a machine token as a node signs it, with changes."""
    end = int(changes.pop("end", time.time() + 600))
    paths = changes.pop("paths", [owner.secret])
    grants = changes.pop("grants", {**{path: [GET] for path in paths}, owner.network: [DECRYPT]})
    stated = {
        "key": job.did,
        "paths": paths,
        "end": end,
        "name": "shop",
        "claims": {**SHOP, "iss": GITHUB, "sub": "x"},
        **changes,
    }
    token = key_token(
        signer,
        job.did,
        grants,
        ends_at=end,
        proofs=[trust],
        facts=[{MACHINE_FACT: {name: one for name, one in stated.items() if one is not None}}],
    )
    job.proofs = [token]
    return token


async def test_D24_a_trust_has_one_link_below(held: HeldStage) -> None:
    """The exchange key can neither sign other delegations below a trust nor use the trust
    itself."""
    owner, issuer, keyring = await held.owner(), Issuer(GITHUB), held.services.keyring
    await owner.client.secrets().put(OTHER, "another value")
    other = owner.client.secrets().resource(OTHER)
    trust, own = await trust_of(owner, issuer), keyring.exchange_signer
    claims = {**SHOP, "iss": GITHUB, "sub": "x"}
    right = signed_by(own, owner, trust, Delegate())
    assert (await held.post("/delegate", right)).status == 200
    cases: dict[str, dict[str, Any]] = {
        "no claims": {"claims": None},
        "empty claims": {"claims": {}},
        "a claim is missing": {"claims": {n: v for n, v in claims.items() if n != "ref"}},
        "another value": {"claims": claims | {"ref": "refs/heads/other"}},
        "another issuer": {"claims": claims | {"iss": "https://gitlab.com"}},
        "the event": {"claims": claims | {"event_name": "pull_request_target"}},
        "a list": {"claims": claims | {"ref": ["refs/heads/main"]}},
        "another path": {"paths": [other]},
        "a further path": {"paths": [owner.secret, other]},
        "a folder": {"paths": [owner.secret.rpartition("/")[0] + "/"]},
        "longer": {"end": time.time() + 1200},
        "another name": {"name": "other"},
        "another key": {"key": Delegate().did},
        "more rights": {"grants": {owner.secret: [GET, PUT], owner.network: [DECRYPT]}},
    }
    for name, changes in cases.items():
        reply = await held.post("/delegate", signed_by(own, owner, trust, Delegate(), **changes))
        assert reply.status in (400, 401), (name, reply.said)
    plain = key_token(own, Delegate().did, {owner.secret: [GET]}, ttl_s=60, proofs=[trust])
    assert "terminal-parent" in (await held.post("/delegate", plain)).text
    node = Delegate(own)
    reply = await held.ask(node, owner, proofs=[trust])
    assert reply.said == refused("chain")


async def test_OX2_another_key_signs_nothing(held: HeldStage) -> None:
    """A machine token is refused if another key than the trust's delegate signed it."""
    owner, issuer = await held.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    for signer in (Keyring(b"\x01" * 32).exchange_signer, held.services.keyring.node_signer):
        reply = await held.post("/delegate", signed_by(signer, owner, trust, Delegate()))
        assert reply.status in (400, 401), reply.said


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "http://ci.test"},
        {"issuer": "https://ci.test?x"},
        {"issuer": "https://CI.test"},
        {"issuer": "https://user@ci.test"},
        {"claims": {}},
        {"claims": {"ref": []}},
        {"claims": {"ref": [None]}},
        {"claims": {"ref": [1.5]}},
        {"claims": {"a b": ["c"]}},
        {"claims": {"ref": ["é"]}},
        {"claims": {str(number): ["x"] for number in range(9)}},
        {"claims": {"ref": [str(number) for number in range(17)]}},
        {"jwks": "x" * 16_385},
        {"issuer_ca": "x" * 16_385},
    ],
    ids=lambda changes: str(changes)[:40],
)
async def test_OX1_trusts_of_another_form(stage: Stage, changes: dict[str, Any]) -> None:
    """The node refuses a trust with a member outside its limits."""
    owner = await stage.owner()
    with pytest.raises(NodeRefused) as caught:
        await trust_of(owner, Issuer(GITHUB), **changes)
    assert caught.value.status == 400


async def test_OX6_the_owner_pays(held: HeldStage) -> None:
    """Tokens that the node signs count towards the owner's quota until they are removed."""
    owner, issuer = await held.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    store, own = held.services.store, held.services.keyring.exchange_signer.did

    async def counted(signer: str) -> list[int]:
        keys = delegation_usage_keys(parse_principal(signer), None)[:2]
        return [counter_of(one) for one in (await store.read(keys)).records]

    before = await counted(owner.wallet.did)
    token = issuer.token(github_claims(), audience=held.node_did)
    made = await exchange(held, trust, token, Delegate())
    count, size_bytes = await counted(owner.wallet.did)
    assert count == before[0] + 1 and size_bytes > before[1] + len(str(made.value["delegation"]))
    assert await counted(own) == [0, 0]
    held.clock.advance(30 * 86_400 + 1000)
    assert await sweep_delegations(held.services) >= 1
    assert (await counted(owner.wallet.did))[0] < count
    assert await counted(own) == [0, 0]


async def test_OX5_refusals_are_recorded(held: HeldStage) -> None:
    """The audit log records why a genuine ID token was refused, and omits forged tokens."""
    owner, issuer = await held.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(ref="refs/heads/other"), audience=held.node_did)
    assert is_refused(await exchange(held, trust, token, Delegate()))
    unsigned = Issuer(GITHUB).token(github_claims(), audience=held.node_did)
    assert is_refused(await exchange(held, trust, unsigned, Delegate()))
    # A stranger with one token of the same issuer adds one record, and none with an old token.
    late = issuer.token(github_claims(ref="x"), audience=held.node_did, now=time.time() - 900)
    elsewhere = issuer.token(github_claims(ref="x"), audience="https://other.test")
    for again in (token, late, elsewhere):
        assert is_refused(await exchange(held, trust, again, Delegate()))
    records = await audit_records(held.services.store)
    (record,) = [one for one in records if one.action == "oidc.refused"]
    assert record.subject == trust
    detail = json.loads(record.detail)
    assert detail["reason"] == "the claim ref has no value that the trust allows"
    noted = {"iss": GITHUB, "sub": github_claims()["sub"], "event_name": "push"}
    assert detail["claims"] == noted


async def test_no_log_has_a_token(stage: Stage) -> None:
    """The node's log names the reason of a refusal, and contains no part of the token."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    trust = await trust_of(owner, issuer)
    token = issuer.token(github_claims(ref="refs/heads/other"), audience=stage.node_did)
    assert is_refused(await exchange(stage, trust, token, Delegate()))
    assert stage.node is not None
    stage.node.wait_for("id-token-refused.*the claim ref has no value")
    silent = Issuer("https://127.0.0.1:1", issuer.keys)
    token = silent.token(github_claims(), audience=stage.node_did)
    silently = await trust_of(owner, silent, jwks=None)
    assert is_refused(await exchange(stage, silently, token, Delegate()))
    stage.node.wait_for("id-token-refused.*the issuer's keys cannot be fetched: the request failed")
    lines = "\n".join(stage.node.lines)
    assert not any(part in lines for part in token.split("."))
