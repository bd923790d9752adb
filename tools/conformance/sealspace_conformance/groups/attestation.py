"""Evidence that a node refuses: malformed, not bound to the request, foreign, stale or tampered
with.

The kit has no TEE. It has a recorded quote of a simulated platform, whose report data it replaces:
the quote then names the request, and is not signed any more.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import b64, b64url, from_b64url, sha256_of
from sealspace_conformance.envelopes import DECRYPT, new_receiver
from sealspace_conformance.expectations import Expectation, problem, status, text
from sealspace_conformance.groups.keys_on_request import CODE, Desk, network_key
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.quotes import recorded_quote
from sealspace_conformance.run import Blocked, Run, Unsuitable
from sealspace_conformance.tokens import Token, plain
from sealspace_conformance.transport import Answer

_JSON = {"content-type": "application/json"}
_CHALLENGE = "/attestation/challenge"
_SESSIONS = "/attestation/sessions"
_SESSION_FACT = "sealspace.attestation.session/v1"
_TEE_TYPE = slice(4, 8)
_REPORT_DATA = slice(48 + 520, 48 + 584)
_LABEL = b"sealspace/report-data/1"


def report_data(nonce: bytes, node: str, holder: str, mode: str, receiver: bytes) -> bytes:
    """Return the 64 bytes that a quote has to name (AT9)."""
    fields = (_LABEL, nonce, node.encode(), holder.encode(), mode.encode(), receiver)
    return hashlib.sha512(
        b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    ).digest()


def quote_over(data: bytes) -> bytes:
    """Return the recorded quote with other report data, which its signature does not cover."""
    quote = bytearray(recorded_quote())
    quote[_REPORT_DATA] = data
    return bytes(quote)


class Backend:
    """A key that claims to run in a TEE, with a grant of the owner for listed code."""

    def __init__(self, run: Run, desk: Desk, key: Key, grant: Token) -> None:
        self.run = run
        self.desk = desk
        self.key = key
        self.grant = grant
        self.receiver = new_receiver().public

    async def nonce(self, holder: Key | None = None) -> str:
        """Return a new nonce, for this key or another one.

        Raises:
            Blocked: the node made none.
        """
        sent = json.dumps({"did": (holder or self.key).did}).encode()
        answer = await self.run.node.send("POST", _CHALLENGE, body=sent, headers=_JSON)
        if answer.status == 429:
            raise Blocked(
                "the node accepts no further request about attestation in this minute (AT1);"
                " wait, or raise its limits.challenges_per_minute"
            )
        nonce = answer.object.get("nonce")
        if answer.status != 200 or not isinstance(nonce, str):
            raise Blocked(f"the node made no nonce: {answer.status} {answer.text}")
        return nonce

    def bound_data(self, nonce: str) -> bytes:
        """Return the report data that name the nonce and this backend."""
        return report_data(
            from_b64url(nonce), self.run.did, self.key.did, "attested", self.receiver
        )

    def bound_quote(self, nonce: str) -> bytes:
        """Return a quote that names the nonce and this backend."""
        return quote_over(self.bound_data(nonce))

    def body(self, quote: bytes, **changes: Any) -> dict[str, Any]:
        """Return the body of a session, with changes."""
        return {
            "quote": b64(quote),
            "eventLog": None,
            "receiverPublicKey": b64(self.receiver),
            "receiverMode": "attested",
            **changes,
        }

    async def attest(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        nonce: str,
        body: Mapping[str, Any],
        *,
        fact: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Answer:
        """Ask for a session that has to be refused, with changes of the token or of its fact."""
        withheld = expectation.and_that(
            "no evidence is accepted", lambda answer: "evidence" not in answer.object
        )
        return await self.open(rule, asked, withheld, nonce, body, fact=fact, **changes)

    async def open(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        nonce: str,
        body: Mapping[str, Any],
        *,
        fact: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Answer:
        """Ask for a session, with changes of the token or of its fact."""
        stated = {
            "type": _SESSION_FACT,
            "nonce": nonce,
            "bodyHash": sha256_of(body),
            **(fact or {}),
        }
        contents: dict[str, Any] = {
            "signer": self.key,
            "grants": {self.desk.network: plain(DECRYPT)},
            "audience": self.run.did,
            "proofs": [self.grant],
            "facts": [stated],
            **changes,
        }
        signer, grants = contents.pop("signer"), contents.pop("grants")
        token = self.run.call(signer, grants, **contents)
        sent = json.dumps(body).encode()
        return await self.run.ask(
            rule, asked, expectation, "POST", _SESSIONS, token=token, body=sent, headers=_JSON
        )


async def attestation(run: Run) -> None:
    """Check what a node answers to evidence that it must refuse (AT1 to AT14)."""
    owner = run.hosted_owner()
    if not run.is_sealspace:
        raise Unsuitable("this node does not offer sealspace's own routes")
    if run.info.get("attestation") not in ("delegates", "everyone"):
        raise Unsuitable("this node releases keys without evidence")
    desk = Desk(run, owner, await network_key(run, owner, "kit"))
    key = new_key()
    grant = run.grant(
        owner.session,
        key,
        {desk.network: plain(DECRYPT)},
        proofs=[owner.sign_in],
        facts=[{"sealspace.attestation/v1": {"measurements": [CODE]}}],
    )
    await run.prepare("a grant to decrypt for listed code", grant)
    backend = Backend(run, desk, key, grant)
    await _challenges(run, key)
    await _bodies(backend)
    await _bindings(run, backend)
    await _nonces(backend)
    await _quotes(backend)
    refused = text(401, "release refused: not_attested")
    token = desk.token(desk.body(), signer=key, proofs=[grant])
    await desk.ask("RL5", "ask for a key after refused evidence", refused, token)


async def _challenges(run: Run, key: Key) -> None:
    made = status(200).and_that(
        "a nonce of 32 bytes that ends later",
        lambda answer: _is_challenge(answer, run.now()),
    )
    body = json.dumps({"did": key.did}).encode()
    await run.ask("AT1", "a challenge", made, "POST", _CHALLENGE, body=body, headers=_JSON)
    malformed = problem(400, "request-malformed")
    for asked, wrong in (
        ("a challenge without a DID", {}),
        ("a challenge for an array", [key.did]),
    ):
        sent = json.dumps(wrong).encode()
        await run.ask("AT1", asked, malformed, "POST", _CHALLENGE, body=sent, headers=_JSON)


def _is_challenge(answer: Answer, now: float) -> bool:
    nonce, ends_at = answer.object.get("nonce"), answer.object.get("expiresAt")
    try:
        size = len(from_b64url(nonce)) if isinstance(nonce, str) else 0
    except ValueError:
        return False
    return size == 32 and isinstance(ends_at, int | float) and ends_at > now


async def _bodies(backend: Backend) -> None:
    malformed = problem(400, "request-malformed")
    whole = backend.body(recorded_quote())
    nonce = b64url(bytes(32))  # the body is read first
    for asked, body in (
        ("a session without a quote", {**whole, "quote": ""}),
        ("a session with a member too many", {**whole, "note": "x"}),
        ("a quote that is not base64", {**whole, "quote": "\u00e9"}),
        ("a quote of 16 KiB and a byte", {**whole, "quote": b64(bytes(16 * 1024 + 1))}),
        ("a receiver key of 31 bytes", {**whole, "receiverPublicKey": b64(bytes(31))}),
        ("an unknown receiver mode", {**whole, "receiverMode": "any"}),
        ("an event log that is a text", {**whole, "eventLog": "[]"}),
    ):
        await backend.attest("AT4", asked, malformed, nonce, body)


async def _bindings(run: Run, backend: Backend) -> None:
    """Tokens that do not belong to the session."""
    nonce = await backend.nonce()
    body = backend.body(backend.bound_quote(nonce))
    unbound = problem(403, "session-not-bound")
    network, other = backend.desk.network, backend.desk.owner.network("default")
    decrypt = plain(DECRYPT)
    without: tuple[tuple[str, dict[str, Any]], ...] = (
        ("a session without its fact", {"facts": []}),
        ("a session with two capabilities", {"grants": {network: decrypt, other: decrypt}}),
        (
            "a session with another right",
            {"grants": {network: plain("tinycloud.encryption/network.revoke")}},
        ),
    )
    await backend.attest(
        "AT4",
        "a session with the hash of another body",
        unbound,
        nonce,
        body,
        fact={"bodyHash": sha256_of({**body, "receiverMode": "signed"})},
    )
    for asked, changes in without:
        await backend.attest("AT4", asked, unbound, nonce, body, **changes)
    stranger = new_key()
    refused = status(401, 403)
    elsewhere: tuple[tuple[str, dict[str, Any]], ...] = (
        ("a session at another node", {"audience": stranger.did}),
        ("a session that has ended", {"lifetime_s": -5}),
        ("a session of the owner's grant by a stranger", {"signer": stranger}),
    )
    for asked, changes in elsewhere:
        await backend.attest("AT4", asked, refused, nonce, body, **changes)
    sent = json.dumps(body).encode()
    await run.ask(
        "AT4",
        "a session without a token",
        problem(401),
        "POST",
        _SESSIONS,
        body=sent,
        headers=_JSON,
    )


async def _nonces(backend: Backend) -> None:
    """Nonces that are not good for this session."""
    foreign = await backend.nonce(new_key())
    invalid = problem(403, "challenge-invalid")
    own = await backend.nonce()
    flipped = bytearray(from_b64url(own))
    flipped[-1] ^= 1
    for asked, nonce in (
        ("a nonce that was made for another key", foreign),
        ("a nonce of the backend's own making", b64url(bytes(32))),
        ("a nonce with a changed bit", b64url(bytes(flipped))),
    ):
        body = backend.body(backend.bound_quote(nonce))
        await backend.attest("AT3", asked, invalid, nonce, body)
    body = backend.body(recorded_quote())
    await backend.attest(
        "AT9", "a quote for another request", problem(403, "report-data"), own, body
    )
    await backend.attest("AT3", "the same nonce again", problem(409, "challenge-used"), own, body)


async def _quotes(backend: Backend) -> None:
    """Quotes that name the request, and are malformed, of another kind or not certified."""
    nonce = await backend.nonce()
    cut_off = backend.body(backend.bound_quote(nonce)[:-4000])
    malformed = problem(403, "malformed")
    await backend.attest("AT11", "a quote that is cut off", malformed, nonce, cut_off)
    nonce = await backend.nonce()
    of_sgx = bytearray(backend.bound_quote(nonce))
    of_sgx[_TEE_TYPE] = bytes(4)
    unsupported = problem(403, "unsupported")
    await backend.attest(
        "AT11", "a quote of an SGX enclave", unsupported, nonce, backend.body(bytes(of_sgx))
    )
    nonce = await backend.nonce()
    stale = report_data(
        from_b64url(await backend.nonce()),
        backend.run.did,
        backend.key.did,
        "attested",
        backend.receiver,
    )
    mismatch = problem(403, "report-data")
    await backend.attest(
        "AT9", "a quote for a former nonce", mismatch, nonce, backend.body(quote_over(stale))
    )
    for asked, changes in (
        ("a quote for another receiver key", {"receiverPublicKey": b64(new_receiver().public)}),
        ("a quote for another receiver mode", {"receiverMode": "signed"}),
    ):
        nonce = await backend.nonce()
        body = backend.body(backend.bound_quote(nonce), **changes)
        await backend.attest("AT9", asked, mismatch, nonce, body)
    nonce = await backend.nonce()
    await backend.attest(
        "AT12",
        "a quote that its platform did not sign, under a root of nobody",
        status(403, 503).and_that(
            "the code of a refused quote or of missing collateral",
            lambda answer: answer.object.get("code") in _UNCERTIFIED,
        ),
        nonce,
        backend.body(backend.bound_quote(nonce)),
    )


_UNCERTIFIED = ("untrusted-root", "certificate-chain", "quote-signature", "collateral-missing")
