"""The key of a network is replaced and retired: by whom, with which statement, and what then
opens."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import b64, b64url, canonical_json, sha256_of
from sealspace_conformance.envelopes import (
    ALGORITHM,
    CREATE,
    DECRYPT,
    candidate_text,
    envelope,
    from_b64,
    new_receiver,
    seal,
)
from sealspace_conformance.expectations import Expectation, begins, problem, status, text
from sealspace_conformance.groups.keys_on_request import Desk, network_key, opened
from sealspace_conformance.groups.networks import NETWORKS, Administration
from sealspace_conformance.groups.owned_rules import POLICY, sealspace_owner
from sealspace_conformance.keys import Key, Wallet, is_signed_by, new_key, new_wallet
from sealspace_conformance.run import Blocked, Owner, Run, Unsuitable
from sealspace_conformance.tokens import Token, plain, time_text
from sealspace_conformance.transport import Answer

NAME = "rotated"
_JSON = {"content-type": "application/json"}
_KEYS_FACT = "sealspace.encryption.keys/v1"
_STATEMENT = "sealspace.network.key/v1"
_END = "sealspace.network.key.end/v1"
_OTHER_VERSION = "invocation alg / key version does not match network"


def signed_statement(kind: str, statement: Mapping[str, Any], signer: Key | Wallet) -> str:
    """Return what a DID states (RN51)."""
    words = f"sealspace statement {kind}\n{canonical_json(statement).decode()}"
    signature = signer.sign(words) if isinstance(signer, Wallet) else signer.sign(words.encode())
    document = {
        "type": kind,
        "signer": signer.did,
        "statement": statement,
        "signature": b64url(signature),
    }
    return canonical_json(document).decode()


class Keys:
    """The versions of the key of one network, and requests to change them."""

    def __init__(self, run: Run, owner: Owner, former: bytes) -> None:
        self.run = run
        self.owner = owner
        self.network = owner.network(NAME)
        self.path = f"{NETWORKS}/{self.network}/keys"
        self.former = former
        self.next = b""

    def statement(self, **changes: Any) -> dict[str, Any]:
        """Return the content of the owner's statement (EN36), with changes."""
        return {
            "network": self.network,
            "node": self.run.did,
            "alg": ALGORITHM,
            "from": {"keyVersion": 1, "sha256": hashlib.sha256(self.former).hexdigest()},
            "to": {"keyVersion": 2, "publicEncryptionKey": b64(self.next)},
            "at": time_text(self.run.now()),
            **changes,
        }

    def destruction(self, signer: Key | Wallet) -> dict[str, Any]:
        """Return a request to destroy version 1, with a signed statement (EN38)."""
        statement = {
            "network": self.network,
            "node": self.run.did,
            "key": {"keyVersion": 1, "sha256": hashlib.sha256(self.former).hexdigest()},
            "at": time_text(self.run.now()),
        }
        signed = signed_statement(_END, statement, signer)
        return {"action": "destroy", "keyVersion": 1, "statement": signed}

    async def change(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        body: Mapping[str, Any],
        *,
        signer: Key | None = None,
        proofs: Any = None,
        fact: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Ask for a change of the versions."""
        stated = {
            "type": _KEYS_FACT,
            "targetNode": self.run.did,
            "networkId": self.network,
            "bodyHash": sha256_of(body),
            **(fact or {}),
        }
        token = self.run.call(
            signer or self.owner.session,
            {self.network: plain(POLICY)},
            audience=self.run.did,
            proofs=[self.owner.sign_in] if proofs is None else proofs,
            facts=[stated],
        )
        sent = json.dumps(body).encode()
        return await self.run.ask(
            rule, asked, expectation, "POST", self.path, token=token, body=sent, headers=_JSON
        )

    async def activate(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        statement: Mapping[str, Any],
        signer: Key | Wallet,
    ) -> Answer:
        """Send a signed statement."""
        signed = signed_statement(_STATEMENT, statement, signer)
        body = {"action": "activate", "statement": signed}
        return await self.change(rule, asked, expectation, body)

    async def states(self, rule: str, asked: str, *wanted: str) -> None:
        """Compare the state of each version, from version 1 on."""
        shown = status(200).and_that(
            f"versions in the states {', '.join(wanted)}",
            lambda answer: _states_of(answer) == list(enumerate(wanted, start=1)),
        )
        await self.run.ask(rule, asked, shown, "GET", self.path)


def _states_of(answer: Answer) -> list[tuple[Any, Any]]:
    listed = answer.object.get("keys")
    if not isinstance(listed, list):
        return []
    return [(one.get("keyVersion"), one.get("state")) for one in listed if isinstance(one, dict)]


async def rotation(run: Run) -> None:
    """Replace the key of a network, and retire the former one (EN35 to EN38)."""
    owner = sealspace_owner(run)
    made = Administration(run, owner, NAME)
    await made.create("EN14", "create a network", status(200), made.token(CREATE, made.body))
    former = await network_key(run, owner, NAME)
    keys = Keys(run, owner, former)
    first = await run.node.send("GET", keys.path)
    if first.status == 404 and not first.object:
        raise Unsuitable("this node does not replace keys")
    old = Desk(run, owner, former, NAME)
    await keys.states("EN37", "the versions of a new network", "newest")
    bob, grant = await _delegate(run, old)
    await _candidate(run, keys, bob, grant)
    await _statements(run, keys)
    new = await _activated(run, keys)
    await _releases(run, old, new)
    await _retired(run, keys, old, new, bob, grant)


async def _delegate(run: Run, desk: Desk) -> tuple[Key, Token]:
    bob = new_key()
    grant = run.grant(
        desk.owner.session,
        bob,
        {desk.network: plain(DECRYPT, POLICY)},
        proofs=[desk.owner.sign_in],
    )
    await run.prepare("a grant on the network", grant)
    return bob, grant


async def _candidate(run: Run, keys: Keys, bob: Key, grant: Token) -> None:
    nonce = b64url(secrets.token_bytes(32))
    body = {"action": "candidate", "nonce": nonce}
    await keys.change(
        "EN35",
        "a delegate asks for a candidate",
        problem(403, "policy-not-in-person"),
        body,
        signer=bob,
        proofs=[grant],
    )
    await keys.change(
        "EN37",
        "a candidate, with the hash of another body",
        problem(403, "session-not-bound"),
        body,
        fact={"bodyHash": sha256_of({"action": "candidate"})},
    )
    malformed = problem(400, "request-malformed")
    for asked, wrong in (
        ("a candidate for a nonce of 15 bytes", {**body, "nonce": b64url(b"x" * 15)}),
        ("a candidate without a nonce", {"action": "candidate"}),
        ("an unknown action", {"action": "replace", "keyVersion": 1}),
    ):
        await keys.change("EN37", asked, malformed, wrong)
    await keys.activate(
        "EN36",
        "activate before there is a candidate",
        problem(412, "key-version-changed"),
        {**keys.statement(), "to": _key_of(2, new_receiver().public)},
        keys.owner.wallet,
    )
    signed = status(200).and_that(
        "the next version, signed by the node for this nonce",
        lambda answer: is_signed_by(
            run.did,
            candidate_text(run.did, keys.network, _candidate_of(answer), nonce),
            from_b64(answer.object.get("nodeSignature")),
        ),
    )
    answer = await keys.change("EN37", "the owner asks for a candidate", signed, body)
    keys.next = from_b64(_candidate_of(answer).get("publicEncryptionKey"))
    if len(keys.next) != 32 or keys.next == keys.former:
        raise Blocked("the node made no candidate with a new key")
    await keys.states("EN37", "the candidate is no version yet", "newest")


def _key_of(version: int, public: bytes) -> dict[str, Any]:
    return {"keyVersion": version, "publicEncryptionKey": b64(public)}


def _candidate_of(answer: Answer) -> dict[str, Any]:
    candidate = answer.object.get("candidate")
    return candidate if isinstance(candidate, dict) else {}


async def _statements(run: Run, keys: Keys) -> None:
    """Statements that install no key."""
    wallet = keys.owner.wallet
    refused = problem(400, "key-statement-refused")
    other_key = {"keyVersion": 1, "sha256": hashlib.sha256(keys.next).hexdigest()}
    for asked, expectation, signer, changes in (
        ("signed by the session", refused, keys.owner.session, {}),
        ("signed by another wallet", refused, new_wallet(), {}),
        ("about another network", refused, wallet, {"network": keys.owner.network("kit")}),
        ("about another node", refused, wallet, {"node": new_key().did}),
        ("of another algorithm", refused, wallet, {"alg": "rot13/v1"}),
        ("that skips a version", refused, wallet, {"to": _key_of(3, keys.next)}),
        ("with a member too many", refused, wallet, {"note": "x"}),
        ("without a time", refused, wallet, {"at": ""}),
        (
            "with a key that is not the candidate",
            refused,
            wallet,
            {"to": _key_of(2, new_receiver().public)},
        ),
        (
            "that replaces another key",
            problem(412, "key-version-changed"),
            wallet,
            {"from": other_key},
        ),
    ):
        await keys.activate(
            "EN36", f"a statement {asked}", expectation, keys.statement(**changes), signer
        )
    await keys.states("EN36", "no statement installed a key", "newest")


async def _activated(run: Run, keys: Keys) -> Desk:
    statement = keys.statement()
    replaced = status(200).and_that(
        "version 2 is the newest",
        lambda answer: _states_of(answer) == [(1, "accepted"), (2, "newest")],
    )
    wallet = keys.owner.wallet
    answer = await keys.activate("EN36", "the owner's statement", replaced, statement, wallet)
    if answer.status != 200:
        raise Blocked("the key was not replaced")
    signed = signed_statement(_STATEMENT, statement, wallet)
    kept = status(200).and_that(
        "the statement as it was sent",
        lambda answer: answer.object.get("statements") == [signed],
    )
    await run.ask("EN36", "the statements of a network", kept, "GET", keys.path)
    again = problem(412, "key-version-changed")
    await keys.activate("EN36", "the same statement again", again, statement, wallet)
    described = status(200).and_that(
        "the new key and its version",
        lambda answer: _is_described(answer, keys.next),
    )
    path = f"{NETWORKS}/{keys.network}"
    await run.ask("EN35", "the descriptor after a rotation", described, "GET", path)
    return Desk(run, keys.owner, keys.next, NAME)


def _is_described(answer: Answer, public: bytes) -> bool:
    descriptor = answer.object.get("descriptor")
    if not isinstance(descriptor, dict):
        return False
    return (
        descriptor.get("publicEncryptionKey") == b64(public)
        and descriptor.get("keyVersion") == 2
        and descriptor.get("state") == "active"
    )


async def _open(rule: str, asked: str, desk: Desk, version: int) -> None:
    """Ask for a key that the node has to release, and open the answer."""
    body = desk.body(keyVersion=version)
    released = status(200).and_that(
        "the content key",
        lambda answer: (
            opened(desk.receiver, answer.object.get("wrappedKey")) == desk.content_key
            and answer.object.get("keyVersion") == version
        ),
    )
    await desk.ask(rule, asked, released, desk.token(body), body)


async def _refuse(
    rule: str, asked: str, expectation: Expectation, desk: Desk, version: int
) -> None:
    """Ask for a key that the node must not release."""
    body = desk.body(keyVersion=version)
    withheld = expectation.and_that("no key", lambda answer: "wrappedKey" not in answer.object)
    await desk.ask(rule, asked, withheld, desk.token(body), body)


async def _releases(run: Run, old: Desk, new: Desk) -> None:
    await _open("EN35", "a value of the former version", old, 1)
    await _open("EN35", "a value of the new version", new, 2)
    failed = begins(500, "key backend error: ")
    await _refuse("EN35", "a value of the former version, as of the new one", failed, old, 2)
    await _refuse("EN35", "a value of the new version, as of the former one", failed, new, 1)
    mismatch = text(401, _OTHER_VERSION)
    await _refuse("EN35", "a value of a version that does not exist", mismatch, new, 3)


async def _retired(run: Run, keys: Keys, old: Desk, new: Desk, bob: Key, grant: Token) -> None:
    kept = problem(400, "key-version-kept")
    retire = {"action": "retire", "keyVersion": 1}
    destroy = keys.destruction(keys.owner.wallet)
    stolen = keys.destruction(keys.owner.session)
    newest = {"action": "retire", "keyVersion": 2}
    await keys.change("EN38", "retire the newest version", kept, newest)
    await keys.change("EN38", "destroy a version that is not retiring", kept, destroy)
    in_person = problem(403, "policy-not-in-person")
    for asked, body in (("retires", retire), ("destroys", destroy)):
        await keys.change(
            "EN35", f"a delegate {asked} a version", in_person, body, signer=bob, proofs=[grant]
        )
    await _put(run, "EN38", "store a value of the former version", status(200), old)
    await keys.change("EN38", "retire the former version", status(200), retire)
    await keys.states("EN38", "a version is retiring", "retiring", "newest")
    refused = begins(400, "the value is sealed to version 1 of the network's key")
    await _put(run, "EN38", "store another value of the retiring version", refused, old)
    await _open("EN38", "a value of the retiring version", old, 1)
    unsigned = problem(400, "key-statement-refused")
    await keys.change("EN38", "destroy by a statement that the session signed", unsigned, stolen)
    await keys.states("EN38", "it destroyed no version", "retiring", "newest")
    await keys.change("EN38", "destroy the retiring version", status(200), destroy)
    await keys.states("EN38", "a version is retired", "retired", "newest")
    mismatch = text(401, _OTHER_VERSION)
    await _refuse("EN38", "a value of the retired version", mismatch, old, 1)
    await _open("EN38", "a value of the new version after that", new, 2)
    await keys.change("EN38", "destroy the version again", kept, destroy)


async def _put(run: Run, rule: str, asked: str, expectation: Expectation, desk: Desk) -> None:
    whole = envelope(desk.network, desk.wrapped, seal(desk.content_key, b"{}"))
    call = run.kv_call("put", f"rotation/{secrets.token_hex(6)}")
    sent = json.dumps(whole).encode()
    await run.invoke(rule, asked, expectation, call, body=sent, headers=_JSON)
