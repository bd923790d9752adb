"""Evidence that a node accepts, the release to it, and the refusals closest beside it.

The kit signs quotes with the keys of a test authority, whose root the node trusts.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import b64, from_b64url, sha256_of
from sealspace_conformance.envelopes import DECRYPT, is_signed_result, new_receiver
from sealspace_conformance.expectations import Expectation, empty, problem, status, text
from sealspace_conformance.groups.attestation import Backend, report_data
from sealspace_conformance.groups.keys_on_request import Desk, network_key, opened
from sealspace_conformance.groups.networks import NETWORKS
from sealspace_conformance.groups.owned_rules import (
    POLICY_FACT,
    RECEIPTS,
    WITHDRAWAL_FACT,
    receipt_of,
    statement,
)
from sealspace_conformance.groups.revocations import revocation
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.quotes import (
    DEBUG,
    MIGRATABLE,
    PERFORMANCE_COUNTERS,
    Authority,
    Code,
    code_of,
    new_attestation_key,
    with_registers,
)
from sealspace_conformance.run import Owner, Run, Unsuitable
from sealspace_conformance.tokens import Token, plain
from sealspace_conformance.transport import Answer

_JSON = {"content-type": "application/json"}
_FACT = "sealspace.attestation/v1"
APPROVED = code_of("approved code")
_SECOND = code_of("approved code, second image")


def _refused(code: str) -> Expectation:
    """Return the demand that a key is refused for a reason (RL14)."""
    withheld = text(401, f"release refused: {code}")
    return withheld.and_that("no key", lambda answer: "wrappedKey" not in answer.object)


def _listing(*codes: Code) -> dict[str, Any]:
    """Return a policy that lists code."""
    return {"measurements": [dict(code) for code in codes]}


class Bench:
    """The owner's network, and the authority that signs for backends."""

    def __init__(self, run: Run, owner: Owner, public: bytes, authority: Authority) -> None:
        self.run = run
        self.owner = owner
        self.public = public
        self.authority = authority

    async def granted(self, *listed: Code, key: Key | None = None) -> "Attester":
        """Return a backend with a grant of the owner for listed code.

        Raises:
            Blocked: the node did not register the grant.
        """
        key = key or new_key()
        desk = Desk(self.run, self.owner, self.public)
        facts = [{_FACT: _listing(*listed)}] if listed else []
        grant = self.run.grant(
            self.owner.session,
            key,
            {desk.network: plain(DECRYPT)},
            proofs=[self.owner.sign_in],
            facts=facts,
        )
        await self.run.prepare("a grant to decrypt", grant)
        return Attester(self, desk, key, grant)


class Attester(Backend):
    """A backend with quotes of the authority."""

    def __init__(self, bench: Bench, desk: Desk, key: Key, grant: Token) -> None:
        super().__init__(bench.run, desk, key, grant)
        self.receiver = desk.receiver.public
        self.authority = bench.authority
        self.evidence = ""
        self.quote = b""

    async def prove(
        self, rule: str, asked: str, code: Code = APPROVED, *, attributes: int = 0
    ) -> None:
        """Open a session with a quote of some code, which has to be accepted.

        A quote states facts. Whether they suffice is judged at each release.
        """
        nonce = await self.nonce()
        self.quote = self.authority.quote(code, self.bound_data(nonce), attributes=attributes)
        accepted = status(200).and_that(
            "the hash of the evidence, which ends later", self._is_accepted
        )
        answer = await self.open(rule, asked, accepted, nonce, self.body(self.quote))
        evidence = answer.object.get("evidence")
        self.evidence = evidence if isinstance(evidence, str) else ""

    def _is_accepted(self, answer: Answer) -> bool:
        evidence, ends_at = answer.object.get("evidence"), answer.object.get("expiresAt")
        if not isinstance(evidence, str) or not isinstance(ends_at, int | float):
            return False
        return len(evidence) == 64 and ends_at > self.run.now()

    async def ask(
        self, rule: str, asked: str, expectation: Expectation, **changes: Any
    ) -> tuple[Token, Answer]:
        """Ask for the key, and return the request's token and the answer."""
        body = self.desk.body(**changes)
        token = self.desk.token(body, signer=self.key, proofs=[self.grant])
        return token, await self.desk.ask(rule, asked, expectation, token, body)


async def accepted_evidence(run: Run) -> None:
    """Check that a key is released to evidence that the node accepts, and to nothing beside it."""
    owner = run.hosted_owner()
    if run.authority is None:
        raise Unsuitable("the kit was given no test authority to sign quotes (--authority)")
    if not run.is_sealspace:
        raise Unsuitable("this node does not offer sealspace's own routes")
    if run.info.get("attestation") not in ("delegates", "everyone"):
        raise Unsuitable("this node releases keys without evidence")
    bench = Bench(run, owner, await network_key(run, owner, "kit"), run.authority)
    backend = await bench.granted(APPROVED)
    await _release(backend)
    await _unbound(backend)
    await _unsigned(backend)
    await _other_code(bench)
    await _approvals(bench)
    await _ends(bench)


async def _release(backend: Attester) -> None:
    """The release, its receipt, and the same request changed in one way each."""
    run, desk = backend.run, backend.desk
    await backend.prove("AT4", "a session with a quote of listed code")
    token, answer = await backend.ask("RL5", "ask for a key as listed code", status(200))
    is_open = opened(desk.receiver, answer.object.get("wrappedKey")) == desk.content_key
    run.compare(
        "RL7",
        "the wrapped key",
        "opens with the receiver key of the quote",
        holds=is_open,
        seen="opened" if is_open else "not opened",
    )
    run.compare(
        "EN20",
        "the answer's signature",
        "by the node, over all other members",
        holds=is_signed_result(run.did, answer.object),
        seen=str(answer.object.get("nodeSignature")),
    )
    await _receipt(backend, token)
    other = new_receiver().public
    await backend.ask(
        "RL7",
        "ask for another receiver",
        _refused("receiver"),
        **_receiver(other),
    )
    body = desk.body()
    elsewhere = desk.token(body, signer=backend.key, proofs=[backend.grant], audience=new_key().did)
    await desk.ask(
        "EN17",
        "ask at another node",
        text(401, "invocation audience does not match this node"),
        elsewhere,
        body,
    )
    stranger = new_key()
    borrowed = run.grant(
        backend.key,
        stranger,
        {desk.network: plain(DECRYPT)},
        proofs=[backend.grant],
        lifetime_s=300,
    )
    await run.prepare("a grant of the backend to another key", borrowed)
    token = desk.token(body, signer=stranger, proofs=[borrowed])
    await desk.ask(
        "RL5", "ask as another key, with a grant of it", _refused("not_attested"), token, body
    )


def _receiver(public: bytes) -> dict[str, str]:
    """Return the members of a request that name a receiver."""
    key = b64(public)
    return {"receiverPublicKey": key, "receiverPublicKeyHash": sha256_of(key)}


async def _receipt(backend: Attester, request: Token) -> None:
    """The receipt says on what ground the key was released (RC7)."""
    run, owner, network = backend.run, backend.desk.owner, backend.desk.network
    reading = run.call(
        owner.session, {network: plain(RECEIPTS)}, audience=run.did, proofs=[owner.sign_in]
    )
    path = f"{NETWORKS}/{network}/receipts"
    listed = await run.ask(
        "RC14", "the owner reads the receipts", status(200), "GET", path, token=reading
    )
    receipt, _ = receipt_of(listed, request.cid)
    evidence = receipt.get("evidence")
    stated = evidence if isinstance(evidence, dict) else {}
    for member, value, seen in (
        ("ground", "attested", receipt.get("ground")),
        ("invoker", backend.key.did, receipt.get("invoker")),
        ("evidence", backend.evidence, stated.get("record")),
        ("quote", hashlib.sha256(backend.quote).hexdigest(), stated.get("quote")),
    ):
        run.compare("RC7", f"the receipt's {member}", value, holds=seen == value, seen=str(seen))


async def _unbound(backend: Attester) -> None:
    """Quotes that the authority signed, for a request that differs in one field (AT9)."""
    mismatch = problem(403, "report-data")
    node, holder = backend.run.did, backend.key.did
    former = await backend.nonce()
    nonce = await backend.nonce()
    used = from_b64url(nonce)
    receiver = backend.receiver
    for asked, data in (
        (
            "a signed quote for a former nonce",
            report_data(from_b64url(former), node, holder, "attested", receiver),
        ),
        (
            "a signed quote for another node",
            report_data(used, new_key().did, holder, "attested", receiver),
        ),
        (
            "a signed quote for another backend",
            report_data(used, node, new_key().did, "attested", receiver),
        ),
        (
            "a signed quote for another receiver mode",
            report_data(used, node, holder, "signed", receiver),
        ),
        (
            "a signed quote for another receiver",
            report_data(used, node, holder, "attested", new_receiver().public),
        ),
    ):
        quote = backend.authority.quote(APPROVED, data)
        await backend.attest("AT9", asked, mismatch, nonce, backend.body(quote))
        nonce = await backend.nonce()
        used = from_b64url(nonce)


async def _unsigned(backend: Attester) -> None:
    """Quotes for this request that the authority's keys do not sign, or for a debug domain."""
    authority = backend.authority
    unsigned = status(403).and_that(
        "the code of a signature that is not valid",
        lambda answer: answer.object.get("code") in ("quote-signature", "qe-binding"),
    )
    nonce = await backend.nonce()
    quote = authority.quote(APPROVED, backend.bound_data(nonce), signer=new_attestation_key())
    await backend.attest(
        "AT13",
        "a quote by a key that the enclave does not name",
        unsigned,
        nonce,
        backend.body(quote),
    )
    nonce = await backend.nonce()
    quote = authority.quote(
        APPROVED, backend.bound_data(nonce), enclave_signer=new_attestation_key()
    )
    await backend.attest(
        "AT13",
        "an enclave that the certified key did not sign",
        unsigned,
        nonce,
        backend.body(quote),
    )
    nonce = await backend.nonce()
    quote = authority.quote(_SECOND, backend.bound_data(nonce))
    await backend.attest(
        "AT13",
        "a quote whose registers were changed after it was signed",
        unsigned,
        nonce,
        backend.body(with_registers(quote, APPROVED)),
    )
    for asked, attributes in (
        ("a quote of a debug domain", DEBUG),
        ("a quote of a domain that can be migrated", MIGRATABLE),
    ):
        nonce = await backend.nonce()
        quote = authority.quote(APPROVED, backend.bound_data(nonce), attributes=attributes)
        unsafe = problem(403, "td-attributes")
        await backend.attest("AT14", asked, unsafe, nonce, backend.body(quote))


async def _other_code(bench: Bench) -> None:
    """Code that differs from the listed one in a single register (RL10)."""
    for register in APPROVED:
        backend = await bench.granted(APPROVED, _SECOND)
        code = {**APPROVED, register: _SECOND[register]}
        await backend.prove("AT23", f"a session as code with another {register}", code)
        await backend.ask(
            "RL10",
            f"ask as code whose {register} is that of another listed image",
            _refused("measurement"),
        )
    counting = await bench.granted(APPROVED)
    await counting.prove(
        "AT14",
        "a session as listed code with performance counters",
        attributes=PERFORMANCE_COUNTERS,
    )
    await counting.ask("RL8", "ask as a domain with performance counters", _refused("attributes"))
    second = await bench.granted(APPROVED, _SECOND)
    await second.prove("AT23", "a session as the second listed code", _SECOND)
    await second.ask("RL10", "ask as the second listed code", status(200))


async def _approvals(bench: Bench) -> None:
    """Who listed the code: a delegate, nobody, or the owner in the network's policy."""
    run, owner = bench.run, bench.owner
    bob, backend = new_key(), await bench.granted()
    network = backend.desk.network
    to_bob = run.grant(owner.session, bob, {network: plain(DECRYPT)}, proofs=[owner.sign_in])
    await run.prepare("a grant to decrypt for a delegate", to_bob)
    below = run.grant(
        bob,
        backend.key,
        {network: plain(DECRYPT)},
        proofs=[to_bob],
        lifetime_s=300,
        facts=[{_FACT: _listing(APPROVED)}],
    )
    await run.prepare("a grant of the delegate for listed code", below)
    await backend.prove("AT4", "a session under a grant without a list")
    await backend.ask("RL5", "ask as code that no owner listed", _refused("no_policy"))
    by_delegate = Attester(bench, backend.desk, backend.key, below)
    await by_delegate.ask("RL6", "ask as code that a delegate listed", _refused("no_policy"))
    await _policy(bench, "the owner lists the code for the network", _listing(APPROVED))
    await backend.ask("RL5", "ask as code that the network's policy lists", status(200))
    await _policy(bench, "the owner lists other code for the network", _listing(_SECOND))
    await backend.ask(
        "RL9", "ask after the owner lists other code instead", _refused("measurement")
    )
    await _policy(bench, "the owner withdraws the list", None)
    await backend.ask("RL17", "ask after the owner withdrew the list", _refused("no_policy"))


async def _policy(bench: Bench, asked: str, policy: Any) -> None:
    """Replace the policy of the network."""
    desk = Desk(bench.run, bench.owner, bench.public)
    token = statement(bench.run, desk, POLICY_FACT, policy)
    sent = json.dumps(policy).encode()
    path = f"{NETWORKS}/{desk.network}/policy"
    await bench.run.ask(
        "RL17", asked, empty(204), "PUT", path, token=token, body=sent, headers=_JSON
    )


async def _ends(bench: Bench) -> None:
    """What ends an approval: the grant is revoked, the evidence or the code is withdrawn."""
    run, owner = bench.run, bench.owner
    revoked = await bench.granted(APPROVED)
    await revoked.prove("AT4", "a session of a backend whose grant is revoked later")
    await revoked.ask("RL5", "ask before that", status(200))
    token = revocation(run, owner.session, revoked.grant.cid)
    await run.ask("W24", "the owner revokes the grant", status(200), "POST", "/revoke", token=token)
    ended = text(401, f"delegation-revoked: {revoked.grant.cid}")
    await revoked.ask("W25", "ask under the revoked grant", ended)
    backend = await bench.granted(APPROVED)
    await backend.prove("AT4", "a session whose evidence is withdrawn later")
    await _withdraw(bench, "the owner withdraws the evidence", {"evidence": backend.evidence})
    await backend.ask("RC20", "ask with the withdrawn evidence", _refused("withdrawn"))
    await backend.prove("AT4", "a session with new evidence")
    await backend.ask("RC20", "ask with the new evidence", status(200))
    withdrawn = {"measurement": APPROVED["rtmr2"]}
    await _withdraw(bench, "the owner withdraws a register of the code", withdrawn)
    await backend.ask("RC20", "ask as the withdrawn code", _refused("withdrawn"))


async def _withdraw(bench: Bench, asked: str, body: Mapping[str, Any]) -> None:
    desk = Desk(bench.run, bench.owner, bench.public)
    token = statement(bench.run, desk, WITHDRAWAL_FACT, body)
    sent = json.dumps(body).encode()
    path = f"{NETWORKS}/{desk.network}/withdraw"
    await bench.run.ask(
        "RC22", asked, empty(204), "POST", path, token=token, body=sent, headers=_JSON
    )
