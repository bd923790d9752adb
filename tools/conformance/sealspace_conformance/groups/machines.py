"""Machine tokens, and CI jobs that get one for an ID token."""

import json
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import (
    b64url,
    canonical_json,
    compact_json,
    from_b64url,
    from_base58,
)
from sealspace_conformance.envelopes import DECRYPT, envelope, seal
from sealspace_conformance.expectations import begins, members, problem, status, text
from sealspace_conformance.groups.delegations import GET
from sealspace_conformance.groups.keys_on_request import Desk, network_key
from sealspace_conformance.groups.networks import NETWORKS
from sealspace_conformance.groups.owned_rules import sealspace_owner, statement
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.run import Run, fresh_name
from sealspace_conformance.tokens import SignIn, Token, jws, plain

_JSON = {"content-type": "application/json"}
_ISSUER = "https://issuer.conformance.example"
_CLAIMS = {"repository_id": ["74"], "ref": ["refs/heads/main"]}
_WITHDRAWAL = "sealspace.encryption.withdrawal/v1"


class Secret:
    """A secret of the owner, and tokens by the owner's wallet for its path."""

    def __init__(self, run: Run, desk: Desk) -> None:
        self.run = run
        self.desk = desk
        self.path = f"vault/secrets/KIT_{fresh_name().upper()}"
        self.resource = f"{desk.owner.space('secrets')}/kv/{self.path}"
        self.end = int(run.now()) + 600

    async def store(self) -> None:
        """Store the envelope."""
        sealed = seal(self.desk.content_key, b'{"value":"open sesame"}')
        whole = envelope(self.desk.network, self.desk.wrapped, sealed)
        token = self.run.kv_call("put", self.path, space="secrets")
        await self.run.prepare("a secret", token, body=json.dumps(whole).encode())

    def statement(self, key: str, **changes: Any) -> dict[str, Any]:
        """Return what a machine token or a trust states."""
        common = {"key": key, "paths": [self.resource], "end": self.end, "name": "conformance"}
        return {**common, **changes}

    def grant(self, family: str, stated: Mapping[str, Any], **changes: Any) -> Token:
        """Return the wallet's delegation with the statement."""
        resource = f"urn:sealspace:{family}:v1:" + b64url(canonical_json(stated))
        contents: dict[str, Any] = {
            "audience": stated["key"],
            "grants": {self.resource: plain(GET), self.desk.network: plain(DECRYPT)},
            "issued_at": self.run.now(),
            "ends_at": self.end,
            "before_recap": [resource],
            **changes,
        }
        return SignIn(wallet=self.desk.owner.wallet, **contents).sign()

    def read(self, signer: Key, proof: Token) -> Token:
        """Return a call that reads the envelope."""
        return self.run.call(signer, {self.resource: plain(GET)}, proofs=[proof])


async def machine_tokens(run: Run) -> None:
    """Check machine tokens, and that a withdrawn one opens nothing."""
    owner = sealspace_owner(run)
    desk = Desk(run, owner, await network_key(run, owner, "kit"))
    secret = Secret(run, desk)
    await secret.store()
    machine = new_key()
    stated = secret.statement(machine.did)
    refused = begins(400, "Invalid machine token: ")
    for asked, changes, more in (
        ("that ends at another time than it states", {"end": secret.end + 1}, {}),
        ("with an unknown member", {"colour": "green"}, {}),
        ("for a folder", {"paths": [f"{secret.resource}/"]}, {}),
        ("without a name", {"name": ""}, {}),
        ("that cites a proof", {}, {"proofs": [owner.sign_in.cid58]}),
        ("with a further right", {}, {"grants": _with_put(secret)}),
    ):
        token = secret.grant("machine", {**stated, **changes}, **more)
        await run.delegate("MT2", f"a machine token {asked}", refused, token)
    token = secret.grant("machine", stated)
    await run.delegate("MT2", "a machine token", members({"cid": token.cid}), token)
    readable = status(200)
    await run.invoke("MT3", "read the envelope with it", readable, secret.read(machine, token))
    beside = run.call(machine, {f"{secret.resource}/x": plain(GET)}, proofs=[token])
    denied = text(401, f"Unauthorized Action: {secret.resource}/x / {GET}")
    await run.invoke("MT3", "read below its path", denied, beside)
    body = desk.body()

    def asking(desk: Desk) -> Token:
        return desk.token(desk.body(), signer=machine, proofs=[token])

    await desk.ask("MT4", "ask for the key of its path", status(200), asking(desk), body)
    other = Desk(run, owner, desk.public)
    await other.ask(
        "MT4",
        "ask for a key that is not stored at its path",
        text(401, "release refused: path"),
        asking(other),
    )
    below = run.grant(machine, new_key(), {secret.resource: plain(GET)}, proofs=[token])
    await run.delegate(
        "D24",
        "a grant below a machine token",
        text(401, "terminal-parent-cannot-redelegate"),
        below,
    )
    withdrawal = {"did": machine.did}
    await run.ask(
        "RC22",
        "the owner withdraws its key",
        status(204),
        "POST",
        f"{NETWORKS}/{desk.network}/withdraw",
        token=statement(run, desk, _WITHDRAWAL, withdrawal),
        body=json.dumps(withdrawal).encode(),
        headers=_JSON,
    )
    await desk.ask(
        "RC20",
        "ask for the key after that",
        text(401, "release refused: withdrawn"),
        asking(desk),
    )


def _with_put(secret: Secret) -> Mapping[str, Any]:
    return {
        secret.resource: plain(GET, "tinycloud.kv/put"),
        secret.desk.network: plain(DECRYPT),
    }


class Issuer:
    """An issuer of ID tokens with a key of its own."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.key = new_key()

    @property
    def jwks(self) -> str:
        """Its keys, as the text of a JSON Web Key Set."""
        did = self.key.did
        public = b64url(_public_of(did))
        key = {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": "one", "alg": "EdDSA"}
        return json.dumps({"keys": [key]})

    def token(self, audience: str | list[str], **claims: Any) -> str:
        """Return an ID token."""
        now = int(self.run.now())
        whole = {
            "iss": _ISSUER,
            "sub": "repo:conformance",
            "aud": audience,
            "iat": now,
            "exp": now + 300,
            "jti": fresh_name(),
            "repository_id": "74",
            "ref": "refs/heads/main",
            "event_name": "push",
            **claims,
        }
        kept = {name: value for name, value in whole.items() if value is not None}
        header = compact_json({"alg": "EdDSA", "typ": "JWT", "kid": "one"})
        return jws(header, compact_json(kept), self.key).text


def _public_of(did: str) -> bytes:
    return from_base58(did.removeprefix("did:key:z"))[2:]


async def exchanges(run: Run) -> None:
    """Check trusts in an issuer, and the exchange of its ID tokens."""
    owner = sealspace_owner(run)
    exchange_did = str(run.info["oidcDid"])
    desk = Desk(run, owner, await network_key(run, owner, "kit"))
    secret = Secret(run, desk)
    await secret.store()
    issuer = Issuer(run)
    stated = secret.statement(exchange_did, issuer=_ISSUER, claims=_CLAIMS, jwks=issuer.jwks)
    refused = begins(400, "Invalid machine token: ")
    false = secret.grant("oidc", {**stated, "key": new_key().did})
    await run.delegate("OX2", "a trust in a key that is not the node's", refused, false)
    empty_claims = secret.grant("oidc", {**stated, "claims": {}})
    await run.delegate("OX1", "a trust without claims", refused, empty_claims)
    trust = secret.grant("oidc", stated)
    await run.delegate("OX1", "a trust", members({"cid": trust.cid}), trust)
    await _refused_exchanges(run, issuer, trust, secret)
    job = new_key()
    body = _exchange(issuer.token(run.did), job.did, trust)
    made = status(200).and_that(
        "a delegation", lambda a: isinstance(a.object.get("delegation"), str)
    )
    answer = await run.ask(
        "OX3", "exchange an ID token", made, "POST", "/oidc/exchange", body=body, headers=_JSON
    )
    again = problem(401, "oidc-refused")
    await run.ask(
        "OX5", "exchange it again", again, "POST", "/oidc/exchange", body=body, headers=_JSON
    )
    given = str(answer.object.get("delegation", ""))
    token = Token(given, given.encode())
    _compare_delegation(run, given, exchange_did, job, trust)
    await run.invoke("OX4", "read the envelope with it", status(200), secret.read(job, token))
    asking = desk.token(desk.body(), signer=job, proofs=[token])
    await desk.ask("OX4", "ask for the key with it", status(200), asking)


def _exchange(id_token: str, key: str, trust: Token) -> bytes:
    return json.dumps({"token": id_token, "key": key, "trust": trust.cid}).encode()


async def _refused_exchanges(run: Run, issuer: Issuer, trust: Token, secret: Secret) -> None:
    job = new_key()
    now = int(run.now())
    stranger = Issuer(run)
    for asked, id_token in (
        ("of another repository", issuer.token(run.did, repository_id="75")),
        ("with a claim of another type", issuer.token(run.did, repository_id=74)),
        ("without a claim", issuer.token(run.did, ref=None)),
        ("for another audience", issuer.token(new_key().did)),
        ("for two audiences", issuer.token([run.did, "other"])),
        ("of another issuer", issuer.token(run.did, iss="https://other.example")),
        ("that has ended", issuer.token(run.did, iat=now - 600, exp=now - 300)),
        ("that lives for two days", issuer.token(run.did, exp=now + 2 * 86_400)),
        ("that is from the future", issuer.token(run.did, iat=now + 200)),
        ("of a pull_request_target", issuer.token(run.did, event_name="pull_request_target")),
        ("that another key signed", stranger.token(run.did)),
        ("for the key of another job", issuer.token(f"{run.did}#{new_key().did}")),
    ):
        await run.ask(
            "OX3",
            f"an ID token {asked}",
            problem(401, "oidc-refused"),
            "POST",
            "/oidc/exchange",
            body=_exchange(id_token, job.did, trust),
            headers=_JSON,
        )
    unknown = secret.grant("machine", secret.statement(job.did))
    await run.ask(
        "OX3",
        "an ID token for a trust that was never posted",
        problem(401, "oidc-refused"),
        "POST",
        "/oidc/exchange",
        body=_exchange(issuer.token(run.did), job.did, unknown),
        headers=_JSON,
    )


def _compare_delegation(run: Run, given: str, signer: str, job: Key, trust: Token) -> None:
    payload: dict[str, Any] = {}
    parts = given.split(".")
    if len(parts) == 3:
        try:
            payload = json.loads(from_b64url(parts[1]))
        except ValueError:
            payload = {}
    issuer = str(payload.get("iss", "")).split("#")[0]
    wanted = {"iss": signer, "aud": job.did, "prf": [trust.cid]}
    seen = {"iss": issuer, "aud": payload.get("aud"), "prf": payload.get("prf")}
    run.compare(
        "OX4",
        "who signed the delegation, to whom, under what",
        str(wanted),
        holds=wanted == seen,
        seen=str(seen),
    )
    end = payload.get("exp", 0)
    short = isinstance(end, (int, float)) and run.now() < end <= run.now() + 901
    run.compare("OX4", "its end", "within 900 s", holds=short, seen=str(end))
