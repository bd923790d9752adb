"""Tests of the refusal codes of attestation sessions, which equal the specification's table."""

import json
import re
from typing import Any, get_args

import libipld
import pytest
from aiohttp.test_utils import make_mocked_request
from attacks.parties import DECRYPT, base64_of, policy_for
from attestation_stage import Stay
from deviating_platform import SimulatedPlatform
from running_node import key_token, send
from tests_support import REPOSITORY

from capabilities.facts import SESSION_FACT
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from node.config.tree import Collateral
from node.http.messages.problems import error_answer
from node.http.messages.refusals import GROUPS
from node.refusal import REFUSALS, Refusal
from tee_backend.attestation.attestation_errors import (
    CollateralCode,
    CollateralUnusable,
    QuoteCode,
    QuoteRefused,
)
from tee_backend.attestation.quote import MAX_QUOTE_BYTES
from tee_backend.evidence.simulated import measurements_of

PAGE = REPOSITORY / "spec" / "attestation.md"
# Errors of the other routes of the same surface; and those that no route raises, which would be a
# fault of ours.
ELSEWHERE = {"document-unknown", "policy-not-in-person", "root-secret-replaced", "internal"}
WAITING = {"quotes-busy", "own-quotes-busy", "own-quote-failed"}


def table() -> dict[str, int]:
    """Return the rows of AT7: code to status."""
    rows = re.findall(
        r"^\| (`[a-zA-Z_, `-]+`) \| (\d{3}) \|", PAGE.read_text("utf-8"), re.MULTILINE
    )
    return {code: int(status) for codes, status in rows for code in re.findall(r"`([^`]+)`", codes)}


def raised() -> list[Exception]:
    """Return an instance of each error that the operation may raise."""
    refused = [QuoteRefused(code, "canary") for code in get_args(QuoteCode)]
    unusable = [CollateralUnusable(code, "canary") for code in get_args(CollateralCode)]
    asked = [
        Refusal(code, hint="canary") for code in GROUPS["attestation"] - WAITING if code in REFUSALS
    ]
    return [*refused, *unusable, *asked]


def test_the_table_says_what_is_answered() -> None:
    """Every error has its status from the table, and every row of the table is used (AT7)."""
    answered = {}
    for error in raised():
        reply = error_answer(make_mocked_request("POST", "/attestation/sessions"), error, own=True)
        assert isinstance(reply.body, bytes)
        problem = json.loads(reply.body)
        assert problem["code"] not in problem["title"]
        answered[problem["code"]] = reply.status
    shown = {code: status for code, status in answered.items() if code not in ELSEWHERE}
    assert shown == table()


def test_a_full_queue() -> None:
    """A full queue answers 503 with a time to retry (AT5)."""
    reply = error_answer(
        make_mocked_request("POST", "/attestation/sessions"), Refusal("quotes-busy"), own=True
    )
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")


MISSHAPEN: dict[str, dict[str, Any]] = {
    "no quote": {"quote": ""},
    "a quote in other base64": {"quote": "AB=="},
    "a number as quote": {"quote": 1},
    "too long a quote": {"quote": base64_of(bytes(MAX_QUOTE_BYTES + 1))},
    "a short key": {"receiverPublicKey": base64_of(bytes(31))},
    "a long key": {"receiverPublicKey": base64_of(bytes(33))},
    "no mode": {"receiverMode": None},
    "another mode": {"receiverMode": "any"},
    "a log that is no list": {"eventLog": {}},
    "a further member": {"policy": None},
}


async def test_what_is_no_evidence_by_its_shape(staying: Stay) -> None:
    """A malformed body is refused without using its challenge up (AT7)."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        nonce = await here.nonce(delegate.did)
        quote = here.quote(delegate.did, delegate.receiver.public_key, nonce)
        for name, more in MISSHAPEN.items():
            reply = await here.submit_quote(
                delegate, owner.network, nonce=nonce, quote=quote, more=more
            )
            assert (reply.status, reply.value["code"]) == (400, "request-malformed"), name
        assert (
            await here.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        ).status == 200


async def test_a_token_that_opens_a_session_does_nothing_else(staying: Stay) -> None:
    """A token opens no session if it has other capabilities, not exactly one fact, or another
    body."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        nonce = await here.nonce(delegate.did)
        quote = here.quote(delegate.did, delegate.receiver.public_key, nonce)
        _, body = here.session_request(delegate, owner.network, nonce=nonce, quote=quote)
        good: dict[str, Any] = {
            "type": SESSION_FACT,
            "nonce": libipld.encode_multibase("u", nonce)[1:],
            "bodyHash": canonical_hash(json.loads(body)),
        }
        decrypt = {owner.network: [DECRYPT]}
        cases: dict[str, tuple[dict[str, Any], list[Any]]] = {
            "no fact": (decrypt, []),
            "two facts": (decrypt, [good, good]),
            "another body": (decrypt, [good | {"bodyHash": canonical_hash({})}]),
            "another fact": (decrypt, [good | {"type": "sealspace.other/v1"}]),
            "no nonce": (decrypt, [good | {"nonce": None}]),
            "two networks": (decrypt | {owner.network + "2": [DECRYPT]}, [good]),
            "a right more": (
                {owner.network: [DECRYPT, "tinycloud.encryption/network.revoke"]},
                [good],
            ),
            "another right": ({owner.network: ["tinycloud.encryption/network.revoke"]}, [good]),
            "no right": ({}, [good]),
        }
        for name, (grants, facts) in cases.items():
            token = key_token(
                delegate.signer,
                here.node_did,
                grants,
                proofs=delegate.proofs,
                facts=facts,
                ttl_s=60,
            )
            reply = await send(here.url, "POST", "/attestation/sessions", token=token, body=body)
            assert (reply.status, reply.value["code"]) == (403, "session-not-bound"), (
                name,
                reply.said,
            )
        assert (
            await here.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        ).status == 200


@pytest.mark.parametrize(
    "did", [None, "", "somebody", "did:pkh:eip155:1:0x12", "did:key:z" + "a" * 2000]
)
async def test_a_challenge_is_for_a_client(staying: Stay, did: str | None) -> None:
    """A challenge request without a valid DID is refused (AT7)."""
    async with staying() as here:
        body = canonical_bytes({"did": did})
        reply = await send(here.url, "POST", "/attestation/challenge", body=body)
        assert (reply.status, reply.value["code"]) == (400, "request-malformed")


@pytest.mark.parametrize("fetching", [Collateral(), Collateral(service_url="http://127.0.0.1:1")])
async def test_whose_fault_another_root_is(
    staying: Stay, platform: SimulatedPlatform, fetching: Collateral
) -> None:
    """A quote under another root is 403, with and without collateral of its family (AT7, AT12)."""
    outsider = SimulatedPlatform.from_seed(b"a root of somebody else", fmspc=platform.fmspc)
    async with staying(fetching=fetching) as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        nonce = await here.nonce(delegate.did)
        bound = here.report_data(delegate.did, delegate.receiver.public_key, nonce)
        quote = outsider.mint_quote(measurements_of("approved"), bound)
        reply = await here.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        assert (reply.status, reply.value["code"]) == (403, "untrusted-root")
