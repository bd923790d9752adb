"""What an owner demands of releases: policies and withdrawals; and the receipts of releases."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import canonical_json, sha256_of
from sealspace_conformance.envelopes import DECRYPT, from_b64
from sealspace_conformance.expectations import (
    Expectation,
    empty,
    problem,
    status,
    text,
)
from sealspace_conformance.groups.keys_on_request import Desk, network_key
from sealspace_conformance.groups.networks import NETWORKS, Administration
from sealspace_conformance.keys import Key, is_signed_by, new_key
from sealspace_conformance.run import Owner, Run, Unsuitable
from sealspace_conformance.tokens import Token, plain
from sealspace_conformance.transport import Answer, parsed

_JSON = {"content-type": "application/json"}
POLICY = "sealspace.encryption/policy"
RECEIPTS = "sealspace.encryption/receipts"
POLICY_FACT = "sealspace.encryption.policy/v1"
WITHDRAWAL_FACT = "sealspace.encryption.withdrawal/v1"
_MEMBERS = {
    "type",
    "node",
    "network",
    "owner",
    "invoker",
    "invocation",
    "requestHash",
    "receiverPublicKeyHash",
    "chain",
    "policies",
    "verdict",
    "ground",
    "mode",
    "atMicros",
    "evidence",
    "signature",
}


def sealspace_owner(run: Run) -> Owner:
    """Return the owner, on a node that releases keys by sealspace's own rules.

    Raises:
        Unsuitable: the node is another one, or demands evidence of its owners too.
    """
    owner = run.hosted_owner()
    if not run.is_sealspace:
        raise Unsuitable("this node does not offer sealspace's own routes")
    if run.info.get("attestation") == "everyone":
        raise Unsuitable("this node releases no key without evidence")
    return owner


def statement(
    run: Run,
    desk: Desk,
    kind: str,
    body: Any,
    *,
    signer: Key | None = None,
    proofs: Any = None,
) -> Token:
    """Return the invocation of a policy or a withdrawal."""
    fact = {
        "type": kind,
        "targetNode": run.did,
        "networkId": desk.network,
        "bodyHash": sha256_of(body),
    }
    return run.call(
        signer or desk.owner.session,
        {desk.network: plain(POLICY)},
        audience=run.did,
        proofs=[desk.owner.sign_in] if proofs is None else proofs,
        facts=[fact],
    )


async def policies(run: Run) -> None:
    """Check the owner's policy and withdrawals of the network `default`."""
    owner = sealspace_owner(run)
    claim = Administration(run, owner, "default")
    creating = claim.token("tinycloud.encryption/network.create", claim.body)
    await claim.create("EN31", "claim the network that the sign-in made", status(200), creating)
    again = claim.token("tinycloud.encryption/network.create", claim.body)
    await claim.create("EN31", "claim it again", text(409, "network already exists"), again)
    desk = Desk(run, owner, await network_key(run, owner, "default"), "default")
    path = f"{NETWORKS}/{desk.network}/policy"

    async def put(rule: str, asked: str, expectation: Expectation, body: Any, token: Token) -> None:
        sent = json.dumps(body).encode()
        await run.ask(rule, asked, expectation, "PUT", path, token=token, body=sent, headers=_JSON)

    strict = {"inPerson": False}
    bob, grant = await _delegate(run, desk)
    await put(
        "RL17",
        "a delegate states a policy",
        problem(403, "policy-not-in-person"),
        strict,
        statement(run, desk, POLICY_FACT, strict, signer=bob, proofs=[grant]),
    )
    unknown = {"colour": "green"}
    await put(
        "RL8",
        "a policy with an unknown member",
        problem(400, "invalid-policy"),
        unknown,
        statement(run, desk, POLICY_FACT, unknown),
    )
    await put(
        "RL17",
        "the owner states a policy",
        empty(204),
        strict,
        statement(run, desk, POLICY_FACT, strict),
    )
    reading = run.call(
        owner.session, {desk.network: plain(POLICY)}, audience=run.did, proofs=[owner.sign_in]
    )
    stated = status(200).and_that("the policy", _is_strict)
    await run.ask("RL20", "read the policy", stated, "GET", path, token=reading)
    refused = text(401, "release refused: policy")
    await desk.ask("RL1", "the owner asks for a key", refused, desk.token(desk.body()))
    await put(
        "RL17",
        "the owner removes the policy",
        empty(204),
        None,
        statement(run, desk, POLICY_FACT, None),
    )
    await desk.ask("RL17", "the owner asks again", status(200), desk.token(desk.body()))


def _is_strict(answer: Answer) -> bool:
    policy = answer.object.get("policy")
    return isinstance(policy, dict) and policy.get("inPerson") is False


async def _delegate(run: Run, desk: Desk) -> tuple[Key, Token]:
    bob = new_key()
    grant = run.grant(
        desk.owner.session,
        bob,
        {desk.network: plain(DECRYPT, POLICY, RECEIPTS)},
        proofs=[desk.owner.sign_in],
    )
    await run.prepare("a grant on the network", grant)
    return bob, grant


async def receipts(run: Run) -> None:
    """Check that a release leaves a signed receipt, and who may read it."""
    owner = sealspace_owner(run)
    desk = Desk(run, owner, await network_key(run, owner, "kit"))
    body = desk.body()
    request = desk.token(body)
    await desk.ask("RC8", "the owner asks for a key", status(200), request, body)
    path = f"{NETWORKS}/{desk.network}/receipts"

    def reading(signer: Key, *proofs: Token) -> Token:
        rights = {desk.network: plain(RECEIPTS)}
        return run.call(signer, rights, audience=run.did, proofs=proofs)

    listed = await run.ask(
        "RC14",
        "read the receipts",
        status(200).and_that("a list of receipts, and keys", _is_page),
        "GET",
        path,
        token=reading(owner.session, owner.sign_in),
    )
    receipt, key = receipt_of(listed, request.cid)
    _compare_receipt(run, desk, receipt, request)
    run.compare(
        "RC37",
        "the hash of the wrapped key beside the receipt",
        str(body["encryptedSymmetricKeyHash"]),
        holds=key == body["encryptedSymmetricKeyHash"],
        seen=str(key),
    )
    stranger = reading(new_key())
    refused = status(401, 403).and_that("no receipts", lambda a: "receipts" not in a.object)
    await run.ask("RC14", "a stranger reads them", refused, "GET", path, token=stranger)
    absent = f"{path}/{secrets.token_hex(32)}"
    await run.ask(
        "RC15",
        "a document that does not exist",
        problem(404, "document-unknown"),
        "GET",
        absent,
        token=reading(owner.session, owner.sign_in),
    )
    await run.ask("E5", "read them without a token", problem(401), "GET", path)


def _is_page(answer: Answer) -> bool:
    found = answer.object
    listed, keys = found.get("receipts"), found.get("keys")
    if not isinstance(listed, list) or not isinstance(keys, list):
        return False
    return len(listed) == len(keys) and "after" in found


def receipt_of(answer: Answer, invocation: str) -> tuple[dict[str, Any], Any]:
    """Return the receipt of an invocation and the key beside it."""
    if not _is_page(answer):
        return {}, None
    for item, key in zip(answer.object["receipts"], answer.object["keys"], strict=True):
        receipt = parsed(item.encode("utf-8", "replace")) if isinstance(item, str) else item
        if isinstance(receipt, dict) and receipt.get("invocation") == invocation:
            return receipt, key
    return {}, None


def _compare_receipt(run: Run, desk: Desk, receipt: Mapping[str, Any], request: Token) -> None:
    run.compare(
        "RC7",
        "the receipt's members",
        str(sorted(_MEMBERS)),
        holds=set(receipt) == _MEMBERS,
        seen=str(sorted(receipt)),
    )
    wanted = {
        "type": "sealspace.receipt/v1",
        "node": run.did,
        "network": desk.network,
        "owner": desk.owner.wallet.did,
        "invoker": desk.owner.session.did,
        "chain": [desk.owner.sign_in.cid],
        "verdict": "authorised",
        "mode": run.info.get("attestation"),
        "evidence": None,
    }
    for name, value in wanted.items():
        run.compare(
            "RC7",
            f"the receipt's {name}",
            str(value),
            holds=receipt.get(name, "") == value,
            seen=str(receipt.get(name)),
        )
    rest = {name: value for name, value in receipt.items() if name != "signature"}
    signature = from_b64(receipt.get("signature"))
    run.compare(
        "RC9",
        "the receipt's signature",
        "by the node, over all other members",
        holds=is_signed_by(run.did, canonical_json(rest), signature),
        seen=str(receipt.get("signature")),
    )


async def withdrawals(run: Run) -> None:
    """Check that a withdrawn party gets no key. The party is a machine token's key."""
    owner = sealspace_owner(run)
    desk = Desk(run, owner, await network_key(run, owner, "kit"))
    path = f"{NETWORKS}/{desk.network}/withdraw"
    bob, grant = await _delegate(run, desk)
    body = {"did": bob.did}

    async def withdraw(asked: str, expectation: Expectation, what: Any, token: Token) -> None:
        await run.ask(
            "RC22",
            asked,
            expectation,
            "POST",
            path,
            token=token,
            body=json.dumps(what).encode(),
            headers=_JSON,
        )

    await withdraw(
        "a delegate withdraws a party",
        problem(403, "policy-not-in-person"),
        body,
        statement(run, desk, WITHDRAWAL_FACT, body, signer=bob, proofs=[grant]),
    )
    own = {"did": owner.wallet.did}
    await withdraw(
        "the owner withdraws itself",
        problem(400, "invalid-withdrawal"),
        own,
        statement(run, desk, WITHDRAWAL_FACT, own),
    )
    zeros = {"measurement": "00" * 48}
    await withdraw(
        "the owner withdraws a measurement of zeros",
        problem(400, "invalid-withdrawal"),
        zeros,
        statement(run, desk, WITHDRAWAL_FACT, zeros),
    )
    await withdraw(
        "the owner withdraws a party",
        empty(204),
        body,
        statement(run, desk, WITHDRAWAL_FACT, body),
    )
    await withdraw(
        "the owner withdraws it again",
        empty(204),
        body,
        statement(run, desk, WITHDRAWAL_FACT, body),
    )
