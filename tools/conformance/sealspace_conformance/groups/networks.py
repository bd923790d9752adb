"""Encryption networks: created, described, found and revoked."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import b64url, sha256_of
from sealspace_conformance.envelopes import (
    ADMINISTRATION,
    ALGORITHM,
    CREATE,
    REVOKE,
    descriptor_text,
    from_b64,
)
from sealspace_conformance.expectations import (
    Expectation,
    empty,
    members,
    problem,
    status,
    text,
)
from sealspace_conformance.keys import is_signed_by, new_key
from sealspace_conformance.run import Blocked, Owner, Run, fresh_name
from sealspace_conformance.tokens import Token, plain
from sealspace_conformance.transport import Answer

_JSON = {"content-type": "application/json"}
NETWORKS = "/encryption/networks"
_NO_FACT = "decrypt request body is malformed: missing encryption invocation facts"
_BAD_NONCE = "the request must contain one nonce, of 16 to 32 bytes in base64url without padding"


class Administration:
    """Requests of the owner's session about one network, each wrong in at most one way."""

    def __init__(self, run: Run, owner: Owner, name: str) -> None:
        self.run = run
        self.owner = owner
        self.name = name
        self.network = owner.network(name)
        self.body: dict[str, Any] = {"name": name, "ownerDid": owner.wallet.did}

    def token(
        self,
        action: str,
        body: Any,
        *,
        fact: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Token:
        """Return the request. `fact` replaces members of the fact or, with None, removes them."""
        stated = {
            "type": ADMINISTRATION,
            "targetNode": self.run.did,
            "networkId": self.network,
            "bodyHash": sha256_of(body),
            "action": action,
            **(fact or {}),
        }
        contents: dict[str, Any] = {
            "audience": self.run.did,
            "proofs": [self.owner.sign_in],
            "facts": [{name: value for name, value in stated.items() if value is not None}],
            "signer": self.owner.session,
            "grants": {self.network: plain(action)},
            **changes,
        }
        signer = contents.pop("signer")
        grants = contents.pop("grants")
        return self.run.call(signer, grants, **contents)

    async def create(
        self, rule: str, asked: str, expectation: Expectation, token: Token, body: Any = None
    ) -> Answer:
        """Ask for the creation of the network."""
        sent = json.dumps(self.body if body is None else body).encode()
        return await self.run.ask(
            rule, asked, expectation, "POST", NETWORKS, token=token, body=sent, headers=_JSON
        )


async def networks(run: Run) -> None:
    """Create a network, check what is refused, read and revoke it."""
    owner = run.hosted_owner()
    wanted = Administration(run, owner, "kit")
    await _refused(run, wanted)
    created = status(200).and_that(
        "an active descriptor of this node",
        lambda answer: _describes(answer.object.get("descriptor"), run.did, wanted),
    )
    first = await wanted.create(
        "EN14", "create a network", created, wanted.token(CREATE, wanted.body)
    )
    if first.status != 200:
        raise Blocked("the network was not created")
    await wanted.create(
        "EN14",
        "create it again",
        text(409, "network already exists"),
        wanted.token(CREATE, wanted.body),
    )
    await _nonces(run, wanted)
    await _reading(run, wanted)
    await _revoking(run, owner)


def _describes(found: Any, node: str, wanted: Administration) -> bool:
    if not isinstance(found, dict):
        return False
    return (
        found.get("networkId") == wanted.network
        and found.get("ownerDid") == wanted.owner.wallet.did
        and found.get("name") == wanted.name
        and found.get("members") == [{"nodeId": node, "role": "primary"}]
        and found.get("threshold") == {"n": 1, "t": 1}
        and found.get("state") == "active"
        and found.get("alg") == ALGORITHM
        and found.get("keyVersion") == 1
        and len(from_b64(found.get("publicEncryptionKey"))) == 32
    )


async def _refused(run: Run, wanted: Administration) -> None:
    body = wanted.body
    other = new_key()
    for asked, words, code, token in (
        (
            "to another node",
            "invocation audience does not match this node",
            401,
            wanted.token(CREATE, body, audience=other.did),
        ),
        ("without its fact", _NO_FACT, 400, wanted.token(CREATE, body, facts=[])),
        (
            "whose fact names another node",
            "invocation target node does not match this node",
            401,
            wanted.token(CREATE, body, fact={"targetNode": other.did}),
        ),
        (
            "whose fact names another network",
            "invocation references a different network",
            401,
            wanted.token(CREATE, body, fact={"networkId": wanted.owner.network("default")}),
        ),
        (
            "whose fact names another action",
            "decrypt action not permitted",
            401,
            wanted.token(CREATE, body, fact={"action": REVOKE}),
        ),
        (
            "with a right to revoke only",
            "decrypt action not permitted",
            401,
            wanted.token(CREATE, body, grants={wanted.network: plain(REVOKE)}),
        ),
        (
            "with a right to another network",
            "invocation references a different network",
            401,
            wanted.token(CREATE, body, grants={wanted.owner.network("second"): plain(CREATE)}),
        ),
        (
            "whose fact has the hash of another body",
            "invocation hash mismatch: bodyHash",
            401,
            wanted.token(CREATE, {**body, "name": "other"}),
        ),
        (
            "by a stranger",
            "Cannot find parent delegation",
            401,
            wanted.token(CREATE, body, signer=other, proofs=[]),
        ),
    ):
        await wanted.create("EN14", f"a request to create {asked}", text(code, words), token)
    await _shapes(run, wanted.owner)


async def _shapes(run: Run, owner: Owner) -> None:
    """Bodies of another shape. Their network is a further one, which a node may make of them."""
    wanted = Administration(run, owner, "refused")
    split = {**wanted.body, "threshold": {"n": 3, "t": 2}}
    await wanted.create(
        "enc-D1",
        "a network of two of three nodes",
        text(400, "threshold must be n 1 and t 1"),
        wanted.token(CREATE, split),
        split,
    )
    named = {**wanted.body, "name": "Refused"}
    await wanted.create(
        "enc-D4", "a name with a capital", status(400), wanted.token(CREATE, named), named
    )
    other = Administration(run, owner, "array")
    array = [other.name, owner.wallet.did]
    await other.create(
        "EN13",
        "an array in place of the body",
        status(400, 422),
        other.token(CREATE, array),
        array,
    )


async def _nonces(run: Run, wanted: Administration) -> None:
    nonce = fresh_name()
    second = Administration(run, wanted.owner, "second")
    created = status(200)
    await second.create(
        "EN14",
        "create a second network",
        created,
        second.token(CREATE, second.body, nonce=nonce),
    )
    await wanted.create(
        "EN15",
        "a request with a nonce that was used",
        text(401, "nonce already used"),
        wanted.token(CREATE, wanted.body, nonce=nonce),
    )


async def _signed(run: Run, path: str, described: Expectation) -> None:
    """Descriptors that the node signs for a nonce."""
    nonce = b64url(secrets.token_bytes(32))
    signed = described.and_that(
        "signed by the node for this nonce", lambda answer: _is_signed(answer, run.did, nonce)
    )
    await run.ask("EN28", "read it for a nonce", signed, "GET", f"{path}?nonce={nonce}")
    for asked, bad in (
        ("a nonce of 15 bytes", b64url(b"x" * 15)),
        ("a nonce of 33 bytes", b64url(b"x" * 33)),
        ("a padded nonce", b64url(b"x" * 16, padded=True)),
        ("an empty nonce", ""),
    ):
        await run.ask("EN28", asked, text(400, _BAD_NONCE), "GET", f"{path}?nonce={bad}")


async def _reading(run: Run, wanted: Administration) -> None:
    path = f"{NETWORKS}/{wanted.network}"
    described = status(200).and_that(
        "the descriptor", lambda a: _describes(a.object.get("descriptor"), run.did, wanted)
    )
    await run.ask("EN6", "read its descriptor", described, "GET", path)
    if run.is_sealspace:
        await _signed(run, path, described)
    else:
        run.not_applicable("EN28", "read it for a nonce", "only sealspace signs descriptors")
    absent = f"{NETWORKS}/{wanted.owner.network('nothere')}"
    await run.ask("enc 2.6", "an unknown network", text(404, "network not found"), "GET", absent)
    await run.ask(
        "EN3",
        "an id without the prefix",
        text(400, "missing urn:tinycloud:encryption: prefix"),
        "GET",
        f"{NETWORKS}/network",
    )
    known = f"/.well-known/encryption/network/{wanted.name}"
    await run.ask(
        "EN9",
        "find it by name and owner",
        members({"networkId": wanted.network, "state": "active"}),
        "GET",
        f"{known}?ownerDid={wanted.owner.wallet.did}",
    )
    nameless = status(400).and_that("ownerDid in the text", lambda a: "ownerDid" in a.text)
    await run.ask("EN9", "find it by name alone", nameless, "GET", known)


def _descriptor_of(answer: Answer) -> dict[str, Any]:
    descriptor = answer.object.get("descriptor")
    return descriptor if isinstance(descriptor, dict) else {}


def _is_signed(answer: Answer, node: str, nonce: str) -> bool:
    descriptor = _descriptor_of(answer)
    signature = from_b64(answer.object.get("nodeSignature"))
    return is_signed_by(node, descriptor_text(node, descriptor, nonce), signature)


async def _revoking(run: Run, owner: Owner) -> None:
    second = Administration(run, owner, "second")
    path = f"{NETWORKS}/{second.network}"

    def revoking() -> Token:
        return second.token(REVOKE, {})

    async def ask(rule: str, asked: str, expectation: Expectation, token: Token) -> None:
        await run.ask(
            rule,
            asked,
            expectation,
            "POST",
            f"{path}/revoke",
            token=token,
            body=b"{}",
            headers=_JSON,
        )

    creating = second.token(CREATE, {})
    await ask("enc 2.8", "a request to create as one to revoke", status(401), creating)
    await ask("enc 2.8", "revoke a network", empty(204), revoking())
    await ask("EN7", "revoke it again", empty(204), revoking())
    revoked = status(200).and_that(
        "the state revoked",
        lambda a: _descriptor_of(a).get("state") == "revoked",
    )
    await run.ask("EN7", "read it", revoked, "GET", path)
    await second.create(
        "EN7",
        "create it again",
        text(409, "network already exists"),
        second.token(CREATE, second.body),
    )
    await run.ask(
        "E5",
        "revoke a network without a token",
        problem(401),
        "POST",
        f"{path}/revoke",
        body=b"{}",
        headers=_JSON,
    )
