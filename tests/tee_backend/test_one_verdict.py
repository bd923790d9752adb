"""Tests that node, owner, client and receipt checker refuse each defect with the same code.

Each of the four is tested as in real use: a session at a running node, an owner who inspects a
backend, a client that requires a node's evidence, and a receipt with its documents. All examine a
quote with one defect, and the codes of their refusals are compared.
"""

import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from attestation_stage import staying
from deviating_log import LogOptions, mint_event_log
from deviating_platform import DEBUG, CollateralOptions, DomainOptions, SimulatedPlatform
from tests_support import altered

from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_hash
from encryption_network.key_providers import NAMES
from encryption_network.policy import Policy, encode_evidence, encode_policy
from encryption_network.receipt import Digest, QuoteVerdict, Receipt, signed_text
from sealspace.documents.node_evidence import NodeAttestation, NodeStatement
from sealspace.documents.published import encode_published, parse_published, statement_json
from sealspace.errors import BackendNotProven, CollateralNeeded, NodeEvidenceRefused, ReceiptInvalid
from spaces.keyspace import collateral_key
from spaces.store.contract import Commit, Put, Refused
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.collateral import HeldCollateral, parse_collateral
from tee_backend.attestation.event_log_claims import KeyProvider
from tee_backend.attestation.examine import bind_quote, examine
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.node_verifier import TdxNodeVerifier
from tee_backend.attestation.receipt_check import verify_release
from tee_backend.attestation.report_data import (
    node_report_data,
    published_binding,
    session_binding,
)
from tee_backend.attestation.trust_root import TrustRoot, parse_trust_root
from tee_backend.evidence.simulated import SEPT_VE_DISABLE, measurements_of

COMPOSE = b"\xc0" * 32
IMAGE = replace(measurements_of("approved"), rtmr3=None)
APPLICATION = Policy(measurements=(IMAGE,), compose_hashes=(COMPOSE,))
PLATFORM = SimulatedPlatform.from_seed(b"the platform of the four")
STRANGER = SimulatedPlatform.from_seed(b"somebody else's platform")
HOLDER = Ed25519Signer(b"\x41" * 32)
NODE = Ed25519Signer(b"\x42" * 32)
RECEIVER = b"\x07" * 32
NONCE = bytes(range(32))

Entries = list[Json] | None


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _published(**options: Any) -> Callable[[float], bytes]:
    """Return a function that publishes the platform's collateral with a deviation."""
    return lambda now: PLATFORM.collateral_json(now, options=CollateralOptions(**options))


def _with(**members: Any) -> Callable[[float], bytes]:
    """Return a function that publishes the platform's collateral with replaced members."""
    return lambda now: json.dumps({**json.loads(PLATFORM.collateral_json(now)), **members}).encode()


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A defect of a quote, its log or its collateral, or no defect (default).

    Attributes:
        bound: changes the report data before the quote is made.
        platform: makes the quote.
        domain: state of the trust domain.
        quote: changes the quote.
        logged: the log that is extended into the registers.
        shown: changes the log's entries before they are sent.
        collateral: returns the document for a time.
    """

    bound: Callable[[bytes], bytes] = bytes
    platform: SimulatedPlatform = PLATFORM
    domain: DomainOptions = field(default_factory=DomainOptions)
    quote: Callable[[bytes], bytes] = bytes
    logged: LogOptions = field(default_factory=LogOptions)
    shown: Callable[[list[Json]], Entries] = list
    collateral: Callable[[float], bytes] = PLATFORM.collateral_json

    def mint(self, bound: bytes) -> tuple[bytes, Entries]:
        """Return the quote over some report data, and its log."""
        log = mint_event_log(COMPOSE, options=self.logged)
        quote = self.platform.mint_quote(log.run_on(IMAGE), self.bound(bound), options=self.domain)
        return self.quote(quote), self.shown(log.log.to_json())


async def to_the_node(defect: Defect, folder: Path, now: float) -> str:
    """Have a backend send the quote to a node that stores the document."""
    async with staying(folder, PLATFORM) as here:
        owner, delegate = await here.granted(policy=APPLICATION)
        key = collateral_key(PLATFORM.fmspc, "platform")
        row = Put(key, defect.collateral(here.clock.now()))
        assert not isinstance(await here.services.store.commit(Commit(puts=(row,))), Refused)
        nonce = await here.nonce(delegate.did)
        quote, log = defect.mint(
            here.report_data(delegate.did, delegate.receiver.public_key, nonce)
        )
        reply = await here.submit_quote(
            delegate, owner.network, nonce=nonce, quote=quote, more={"eventLog": log}
        )
        return "" if reply.status == 200 else str(reply.value["code"])


async def to_an_owner(defect: Defect, folder: Path, now: float) -> str:
    """Have an owner with the document inspect a backend with the quote."""
    (folder / "document.json").write_bytes(defect.collateral(now))
    statement = statement_json(
        HOLDER.did, {"app_id": "com.example", "name": "Notes", "defaults": False}, None
    )
    honest = parse_published(
        encode_published(NONCE, statement, quote=b"-", event_log=None), nonce=NONCE
    )
    quote, log = defect.mint(
        published_binding(NONCE, honest.statement.did, honest.statement.sha256).report_data
    )
    published = parse_published(
        encode_published(NONCE, statement, quote=quote, event_log=log), nonce=NONCE
    )
    try:
        await Inspector(CollateralFolder(folder), root=_root()).verify(published, now=now)
    except (BackendNotProven, CollateralNeeded) as refused:
        return refused.problem
    return ""


async def to_a_client(defect: Defect, folder: Path, now: float) -> str:
    """Have a client with the document inspect a node with the quote."""
    statement = NodeStatement(
        node_did=NODE.did,
        store_id=bytes(16),
        secret_origin="platform",
        attestation="delegates",
        trust_roots=(_root().sha256,),
        node_policy_suffices=False,
        key_providers=("kms", "tpm"),
    )
    quote, log = defect.mint(node_report_data("nonce", statement))
    attestation = NodeAttestation(
        nonce="nonce",
        statement=statement,
        quote=quote,
        event_log=None if log is None else tuple(log),
    )
    try:
        verifier = TdxNodeVerifier(_root(), HeldCollateral([defect.collateral(now)]))
        await verifier.examine(attestation, now=now)
    except AttestationError as refused:
        return refused.code
    except NodeEvidenceRefused as refused:
        return refused.reason
    return ""


async def to_a_receipts_reader(defect: Defect, folder: Path, now: float) -> str:
    """Check a receipt over the quote, with evidence that hides the defect."""
    holder = parse_principal(HOLDER.did)
    bound = session_binding(NONCE, NODE.did, holder, "attested", RECEIVER).report_data
    quote, log = defect.mint(bound)
    document = defect.collateral(now)
    # Of an application that nobody gave keys there is no evidence: what is kept is that of another.
    honest = Defect() if defect.logged.key_provider.name == "none" else Defect(logged=defect.logged)
    honest_quote, honest_log = honest.mint(bound)
    evidence = examine(
        bind_quote(
            honest_quote,
            session_binding(NONCE, NODE.did, holder, "attested", RECEIVER),
            event_log=honest_log,
            accepted=NAMES,
        ),
        parse_collateral(PLATFORM.collateral_json(now)),
        root=_root(),
        now=now,
    )
    log_text = b"" if log is None else json.dumps(log).encode()
    record = encode_evidence(altered(evidence, collateral_sha256=hashlib.sha256(document).digest()))
    policy = encode_policy(APPLICATION)
    documents = {
        hashlib.sha256(one).digest(): one for one in (record, quote, log_text, document, policy)
    }
    receipt = Receipt(
        node=NODE.did,
        network=f"urn:tinycloud:encryption:{HOLDER.did}:default",
        owner=NODE.did,
        invoker=HOLDER.did,
        invocation="bafy",
        request_hash="00" * 32,
        receiver_public_key_hash=canonical_hash(encode_standard(RECEIVER)),
        chain=(),
        policies=(Digest(hashlib.sha256(policy).digest()),),
        ground="attested",
        mode="delegates",
        at_micros=int(now * 1_000_000),
        evidence=QuoteVerdict(
            record=Digest(hashlib.sha256(record).digest()),
            quote=Digest(hashlib.sha256(quote).digest()),
            event_log=None if log is None else Digest(hashlib.sha256(log_text).digest()),
            collateral=Digest(hashlib.sha256(document).digest()),
            nonce=Digest(NONCE),
        ),
    )
    text = signed_text(receipt, NODE)
    try:
        verify_release(text, documents.get, root=_root(), node_did=NODE.did)
    except ReceiptInvalid as refused:
        if "without a key provider is never accepted" in str(refused):  # RC32 has words of its own
            return "key-provider"
        found = re.match(r"(?:quote|event log|collateral)[ 0-9a-f]*: ([a-z-]+): ", str(refused))
        assert found is not None, str(refused)
        return found[1]
    return ""


EXAMINERS: dict[str, Callable[[Defect, Path, float], Awaitable[str]]] = {
    "node": to_the_node,
    "owner": to_an_owner,
    "client": to_a_client,
    "receipt": to_a_receipts_reader,
}


def _root() -> TrustRoot:
    return parse_trust_root(PLATFORM.root_der)


def _renamed(entries: list[Json]) -> Entries:
    first = entries[0]
    assert isinstance(first, dict)
    return [{**first, "event": "another"}, *entries[1:]]


TABLE: dict[str, tuple[Defect, str]] = {
    "nothing": (Defect(), ""),
    "report data of another moment": (
        Defect(bound=lambda bound: _flipped(bound, 0)),
        "report-data",
    ),
    "a quote that is cut off": (Defect(quote=lambda quote: quote[:-1]), "malformed"),
    "a quote of another version": (Defect(quote=lambda quote: b"\3\0" + quote[2:]), "unsupported"),
    "a domain that is debugged": (
        Defect(domain=DomainOptions(td_attributes=SEPT_VE_DISABLE | DEBUG)),
        "td-attributes",
    ),
    "an invalid signature": (
        Defect(quote=lambda quote: _flipped(quote, 640)),
        "quote-signature",
    ),
    "another quoting enclave": (Defect(quote=lambda quote: _flipped(quote, 700)), "qe-binding"),
    "a platform of another root": (Defect(platform=STRANGER), "untrusted-root"),
    "a malformed log": (Defect(shown=lambda entries: [*entries, {}]), "event-log-malformed"),
    "a log with another entry": (Defect(shown=_renamed), "event-log"),
    "a log that is cut off": (Defect(shown=lambda entries: entries[:-1]), "event-log"),
    "an application without a key provider": (
        Defect(logged=LogOptions(key_provider=KeyProvider("none", b""))),
        "key-provider",
    ),
    "a malformed document": (Defect(collateral=lambda now: b"{}"), "collateral-malformed"),
    "a document with a member too many": (Defect(collateral=_with(more=1)), "collateral-malformed"),
    "an expired document": (
        Defect(collateral=lambda now: PLATFORM.collateral_json(now - 40 * 86_400)),
        "collateral-window",
    ),
    "a document from the future": (
        Defect(collateral=lambda now: PLATFORM.collateral_json(now + 40 * 86_400)),
        "collateral-window",
    ),
    "a document without a valid signature": (
        Defect(collateral=_with(tcb_info_signature="00" * 64)),
        "collateral-signature",
    ),
    "a document of another root": (Defect(collateral=STRANGER.collateral_json), "collateral-root"),
    "a document of another platform": (
        Defect(collateral=_published(pce_id=b"\1\1")),
        "collateral-mismatch",
    ),
    "a platform that is revoked": (Defect(collateral=_published(revoked=("pck",))), "revoked"),
}


@pytest.mark.parametrize(("defect", "code"), TABLE.values(), ids=TABLE)
async def test_the_same_verdict(tmp_path: Path, defect: Defect, code: str) -> None:
    """A defect has the same code for all four examiners (AT16, AT17, AT20, AT45, AT52, RC18)."""
    assert await verdicts(defect, tmp_path) == dict.fromkeys(EXAMINERS, code)


async def verdicts(defect: Defect, folder: Path) -> dict[str, str]:
    """Return the code of each examiner's refusal, or an empty text if it accepts."""
    now, said = time.time(), {}
    for name, examined in EXAMINERS.items():
        own = folder / name
        own.mkdir()
        said[name] = await examined(defect, own, now)
    return said


async def test_whose_keys_are_accepted_is_a_matter_of_terms(tmp_path: Path) -> None:
    """Default terms refuse a provider that only the host vouches for; policies may accept it
    (AT29).

    A client's policy judges it in `verify`, and a receipt is judged by the policies that were in
    force.
    """
    local = Defect(logged=LogOptions(key_provider=KeyProvider("local-sgx", b"\1")))
    expected = {"node": "key-provider", "owner": "key-provider", "client": "", "receipt": ""}
    assert await verdicts(local, tmp_path) == expected
