"""Requests for content keys: what is refused, what the owner in person gets, and how it is
signed."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import b64, sha256_of
from sealspace_conformance.envelopes import (
    ALGORITHM,
    DECRYPT,
    RESULT_TYPE,
    Receiver,
    from_b64,
    is_signed_result,
    new_receiver,
    request_body,
    request_fact,
    request_hash,
    wrap,
)
from sealspace_conformance.expectations import Expectation, begins, status, text
from sealspace_conformance.groups.networks import NETWORKS
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.run import Blocked, Owner, Run
from sealspace_conformance.tokens import Token, plain
from sealspace_conformance.transport import Answer

_JSON = {"content-type": "application/json"}
# Measurements of code that nobody runs.
CODE = dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), "ab" * 48)
_OTHER = "the wire protocol alone"
_NO_FACT = "decrypt request body is malformed: missing encryption invocation facts"


class Desk:
    """Requests for one content key that is wrapped to a network of the owner."""

    def __init__(self, run: Run, owner: Owner, public: bytes, name: str = "kit") -> None:
        self.run = run
        self.owner = owner
        self.network = owner.network(name)
        self.content_key = secrets.token_bytes(32)
        self.receiver = new_receiver()
        self.public = public
        self.wrapped = wrap(public, self.content_key)

    def body(self, **changes: Any) -> dict[str, Any]:
        """Return the body of a request, with changes; None removes a member."""
        whole = request_body(self.run.did, self.network, self.wrapped, self.receiver.public)
        changed = {**whole, **changes}
        return {name: value for name, value in changed.items() if value is not None}

    def token(
        self,
        body: Mapping[str, Any],
        *,
        fact: Mapping[str, Any] | None = None,
        signer: Key | None = None,
        grants: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Token:
        """Return the invocation of a request, with changes of its fact."""
        contents: dict[str, Any] = {
            "audience": self.run.did,
            "proofs": [self.owner.sign_in],
            "facts": [{**request_fact({**self.body(), **body}), "bodyHash": sha256_of(body)}],
            **changes,
        }
        if fact:
            contents["facts"] = [{**contents["facts"][0], **fact}]
        rights = grants or {self.network: plain(DECRYPT)}
        return self.run.call(signer or self.owner.session, rights, **contents)

    async def ask(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        token: Token,
        body: Any = None,
        *,
        network: str = "",
    ) -> Answer:
        """Send a request to the decrypt route."""
        path = f"{NETWORKS}/{network or self.network}/decrypt"
        sent = json.dumps(self.body() if body is None else body).encode()
        return await self.run.ask(
            rule, asked, expectation, "POST", path, token=token, body=sent, headers=_JSON
        )


async def network_key(run: Run, owner: Owner, name: str) -> bytes:
    """Return the public key of a network.

    Raises:
        Blocked: the node does not have it.
    """
    answer = await run.node.send("GET", f"{NETWORKS}/{owner.network(name)}")
    descriptor = answer.object.get("descriptor")
    public = from_b64(descriptor.get("publicEncryptionKey") if isinstance(descriptor, dict) else "")
    if len(public) != 32:
        raise Blocked(f"the network {name} has no key: {answer.status} {answer.text}")
    return public


async def key_requests(run: Run) -> None:
    """Check requests for keys that are wrong in one way each."""
    owner = run.hosted_owner()
    desk = Desk(run, owner, await network_key(run, owner, "kit"))
    await _tokens(run, desk)
    await _bodies(run, desk)
    await _facts(run, desk)
    await _hashes(desk)
    await desk.ask(
        "EN17",
        "a request for a key of a revoked network",
        text(401, "network has been revoked"),
        *_for_network(desk, owner.network("second")),
        network=owner.network("second"),
    )


def _for_network(desk: Desk, network: str) -> tuple[Token, dict[str, Any]]:
    body = desk.body(networkId=network)
    return desk.token(body, grants={network: plain(DECRYPT)}), body


async def _tokens(run: Run, desk: Desk) -> None:
    body = desk.body()
    stranger = new_key()
    other = desk.owner.network("default")
    wrong_network = "invocation references a different network"
    for rule, asked, refusal, token in (
        (
            "EN17",
            "a request to another node",
            text(401, "invocation audience does not match this node"),
            desk.token(body, audience=stranger.did),
        ),
        (
            "EN17",
            "a request by a stranger",
            text(401, "Cannot find parent delegation"),
            desk.token(body, signer=stranger, proofs=[]),
        ),
        (
            "EN17",
            "a request with a right to another network",
            text(401, wrong_network),
            desk.token(body, grants={other: plain(DECRYPT)}),
        ),
        (
            "EN17",
            "a request with another right",
            text(401, "decrypt action not permitted"),
            desk.token(body, grants={desk.network: plain("tinycloud.encryption/network.revoke")}),
        ),
        ("EN17", "a request without its fact", text(400, _NO_FACT), desk.token(body, facts=[])),
        (
            "EN17",
            "a request that lives for ten minutes",
            status(401),
            desk.token(body, lifetime_s=600),
        ),
        (
            "EN17",
            "a request that has ended",
            status(401),
            desk.token(body, lifetime_s=-5),
        ),
    ):
        await desk.ask(rule, asked, refusal, token)


async def _bodies(run: Run, desk: Desk) -> None:
    malformed = begins(400, "decrypt request body is malformed: ")
    shapes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("a request without a member", {"receiverPublicKeyHash": None}),
        ("a request with a member too many", {"note": "x"}),
        ("a key version as a text", {"keyVersion": "1"}),
    )
    for asked, shape in shapes:
        body = desk.body(**shape)
        await desk.ask("EN13", asked, malformed, desk.token(body), body)
    for asked, words, changes in (
        (
            "a request of another type",
            "invocation type is not a decrypt invocation",
            {"type": "tinycloud.encryption.decrypt/v2"},
        ),
        (
            "a request for another node",
            "invocation target node does not match this node",
            {"targetNode": new_key().did},
        ),
        (
            "a request for another network",
            "invocation references a different network",
            {"networkId": desk.owner.network("default")},
        ),
        (
            "a request for key version 2",
            "invocation alg / key version does not match network",
            {"keyVersion": 2},
        ),
        (
            "a request for another algorithm",
            "invocation alg / key version does not match network",
            {"alg": "rot13/v1"},
        ),
    ):
        body = desk.body(**changes)
        await desk.ask("EN17", asked, text(401, words), desk.token(body), body)


async def _facts(run: Run, desk: Desk) -> None:
    body = desk.body()
    for asked, words, fact in (
        (
            "a fact for another node",
            "invocation target node does not match this node",
            {"targetNode": new_key().did},
        ),
        (
            "a fact for another network",
            "invocation references a different network",
            {"networkId": desk.owner.network("default")},
        ),
        (
            "a fact with another receiver",
            "invocation hash mismatch: receiverPublicKeyHash",
            {"receiverPublicKeyHash": sha256_of("x")},
        ),
        (
            "a fact with another key",
            "invocation hash mismatch: encryptedSymmetricKeyHash",
            {"encryptedSymmetricKeyHash": sha256_of("x")},
        ),
        (
            "a fact with another body",
            "invocation hash mismatch: bodyHash",
            {"bodyHash": sha256_of("x")},
        ),
    ):
        await desk.ask("EN17", asked, text(401, words), desk.token(body, fact=fact))


async def _hashes(desk: Desk) -> None:
    swapped = desk.body(receiverPublicKey=b64(new_receiver().public))
    await desk.ask(
        "EN17",
        "a receiver that was replaced, with the old hash",
        text(401, "invocation hash mismatch: receiverPublicKeyHash"),
        desk.token(swapped),
        swapped,
    )
    loose = b64(desk.receiver.public).rstrip("=")
    unpadded = desk.body(receiverPublicKey=loose, receiverPublicKeyHash=sha256_of(loose))
    await desk.ask(
        "EN1",
        "a receiver without its padding",
        text(400, "hex decode error: invalid base64"),
        desk.token(unpadded),
        unpadded,
    )
    unquoted = desk.body(encryptedSymmetricKeyHash=sha256_of(list(desk.wrapped)))
    await desk.ask(
        "EN11",
        "a hash over something else than the base64 as a JSON text",
        text(401, "invocation hash mismatch: encryptedSymmetricKeyHash"),
        desk.token(unquoted),
        unquoted,
    )


async def releases(run: Run) -> None:
    """Check releases to the owner in person, and that nobody else gets a key without evidence."""
    owner = run.hosted_owner()
    desk = Desk(run, owner, await network_key(run, owner, "kit"))
    mode = run.info.get("attestation") if run.is_sealspace else _OTHER
    if mode not in ("delegates", "everyone", "off", _OTHER):
        run.not_applicable("RL2", "releases", "the node does not say how it releases keys")
        return
    body = desk.body()
    token = desk.token(body)
    if mode == "everyone":
        await desk.ask("RL2", "the owner asks", text(401, "release refused: mode"), token, body)
    else:
        released = await desk.ask("IP2", "the owner in person asks", status(200), token, body)
        await _answer(run, desk, token, body, released)
        await _unusable_keys(run, desk)
    await desk.ask("EN18", "the same request again", text(409, "duplicate invocation"), token, body)
    if mode == _OTHER:
        run.not_applicable("RL5", "a delegate asks", "other nodes demand no evidence")
    else:
        await _delegates(run, desk, str(mode))


async def _answer(
    run: Run, desk: Desk, token: Token, body: Mapping[str, Any], answer: Answer
) -> None:
    """Verify the answer as a client does (EN24)."""
    found = answer.object
    wanted = {
        "type": RESULT_TYPE,
        "targetNode": run.did,
        "networkId": desk.network,
        "invocationCid": token.cid,
        "encryptedSymmetricKeyHash": body["encryptedSymmetricKeyHash"],
        "receiverPublicKeyHash": body["receiverPublicKeyHash"],
        "alg": ALGORITHM,
        "keyVersion": 1,
        "nodeId": run.did,
    }
    for name, value in wanted.items():
        run.compare(
            "EN20",
            f"the answer's {name}",
            str(value),
            holds=found.get(name) == value,
            seen=str(found.get(name)),
        )
    wanted_hash = request_hash(token.cid, sha256_of(body))
    run.compare(
        "EN12",
        "the answer's requestHash",
        wanted_hash,
        holds=found.get("requestHash") == wanted_hash,
        seen=str(found.get("requestHash")),
    )
    run.compare(
        "EN20",
        "the answer's signature",
        "by the node, over all other members",
        holds=is_signed_result(run.did, found),
        seen=str(found.get("nodeSignature")),
    )
    content_key = opened(desk.receiver, found.get("wrappedKey"))
    run.compare(
        "enc 3.2",
        "the wrapped key",
        "opens with the receiver's key to the content key",
        holds=content_key == desk.content_key,
        seen="opened" if content_key == desk.content_key else "not opened",
    )


def opened(receiver: Receiver, wrapped: Any) -> bytes:
    """Return the content key of an answer; empty if it does not open."""
    try:
        return receiver.open(from_b64(wrapped))
    except ValueError:
        return b""


async def _unusable_keys(run: Run, desk: Desk) -> None:
    backend = status(500).and_that(
        "key backend error", lambda answer: answer.text.startswith("key backend error: ")
    )
    for asked, changes in (
        ("a receiver of low order", {"receiverPublicKey": b64(bytes(32))}),
        ("a receiver of 10 bytes", {"receiverPublicKey": b64(b"x" * 10)}),
        (
            "a key that was wrapped to another network",
            {"encryptedSymmetricKey": b64(wrap(new_receiver().public, desk.content_key))},
        ),
        (
            "a content key of 16 bytes",
            {"encryptedSymmetricKey": b64(wrap(desk.public, b"x" * 16))},
        ),
    ):
        ((name, value),) = changes.items()
        body = desk.body(**{name: value, f"{name}Hash": sha256_of(value)})
        await desk.ask("EN21", asked, backend, desk.token(body), body)


async def _delegates(run: Run, desk: Desk, mode: str) -> None:
    """A delegate has the right to decrypt, and no evidence."""
    bob = new_key()
    grant = run.grant(
        desk.owner.session,
        bob,
        {desk.network: plain(DECRYPT)},
        proofs=[desk.owner.sign_in],
    )
    await run.prepare("a grant to decrypt", grant)
    body = desk.body()
    listed = {"sealspace.attestation/v1": {"measurements": [CODE]}}
    approved = run.grant(
        desk.owner.session,
        bob,
        {desk.network: plain(DECRYPT)},
        proofs=[desk.owner.sign_in],
        facts=[listed],
    )
    await run.prepare("a grant to decrypt for listed code", approved)
    if mode == "off":
        run.not_applicable("RL5", "a delegate asks", "this node demands no evidence")
    else:
        token = desk.token(body, signer=bob, proofs=[grant])
        await desk.ask(
            "RL5",
            "a delegate asks without a list of code",
            text(401, "release refused: no_policy"),
            token,
        )
    token = desk.token(body, signer=bob, proofs=[approved])
    await desk.ask(
        "RL5", "a delegate asks without evidence", text(401, "release refused: not_attested"), token
    )
    both = desk.token(body, signer=bob, proofs=[approved])
    await run.invoke(
        "EN17",
        "the same on /invoke",
        text(403, "release refused: not_attested"),
        both,
        body=json.dumps(body).encode(),
        headers=_JSON,
    )
