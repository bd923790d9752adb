"""Tests of a running node's receipts: their content, their readers, and altered ones."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from attacks.held_store import HeldStage
from attacks.parties import DECRYPT, Delegate, Owner, Stage, opens, policy_for
from attacks.test_races import is_release, meanwhile, ready
from audit_records import audit_records
from deviating_log import LogOptions, mint_event_log, text_of
from deviating_platform import CollateralOptions, SimulatedPlatform
from running_node import Reply, network_path, send
from tests_support import altered

from capabilities.abilities import READ_RECEIPTS
from encryption_network.canonical_json import canonical_hash
from encryption_network.policy import Policy, decode_evidence, encode_evidence, policy_json
from encryption_network.receipt import Digest, Receipt, encode_receipt, parse_receipt, signed_text
from node.operations.releases import release_receipts as operation
from sealspace.delegations import allow
from sealspace.errors import ReceiptInvalid
from spaces.documents.evidence import evidence_row_key
from spaces.keyspace import document_key, evidence_inputs_key
from spaces.store.contract import Commit, Put
from tee_backend.attestation.event_log_claims import KeyProvider, KeyProviderName
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.receipt_check import VerifiedRelease, judge_with, verify_release
from tee_backend.attestation.trust_root import parse_trust_root


async def fetch(
    stage: Stage, who: Delegate, network: str, leaf: str = "receipts", **more: Any
) -> Reply:
    """Request receipts or a document with a token of any key."""
    token = who.grant(stage.node_did, {network: [READ_RECEIPTS]}, ttl_s=60, **more)
    return await send(stage.url, "GET", network_path(network, leaf), token=token)


async def receipts_of(stage: Stage, owner: Owner) -> list[bytes]:
    """Return every receipt of the owner's network as its signed text."""
    texts: list[bytes] = []
    after = ""
    while True:
        reply = await fetch(stage, owner.session, owner.network, f"receipts?after={after}")
        assert reply.status == 200, reply.said
        found: Any = reply.value
        texts += [
            encode_receipt(parse_receipt(canonical(receipt))) for receipt in found["receipts"]
        ]
        if found["after"] is None:
            return texts
        after = found["after"]


def canonical(value: Any) -> bytes:
    """Return the signed text of a receipt within an answer."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class Kept:
    """A release as its owner stores it: a receipt, and documents by digest."""

    text: bytes
    documents: dict[bytes, bytes]
    stage: HeldStage

    @property
    def receipt(self) -> Receipt:
        """The receipt."""
        return parse_receipt(self.text)

    def verify(
        self, *, node_did: str | None = None, platform: SimulatedPlatform | None = None
    ) -> VerifiedRelease:
        """Verify the receipt again."""
        root = parse_trust_root((platform or self.stage.platform).root_der)
        return verify_release(
            self.text, self.documents.get, root=root, node_did=node_did or self.stage.node_did
        )

    def signed_anew(self, **changes: Any) -> "Kept":
        """Return the release with a false receipt that the node has signed."""
        changed = altered(self.receipt, **changes)
        signer = self.stage.services.keyring.node_signer
        return Kept(signed_text(changed, signer), self.documents, self.stage)

    def with_evidence(self, **changes: Any) -> "Kept":
        """Return the release with false evidence, and a receipt that the node signed for it."""
        judged = self.receipt.evidence
        assert judged is not None
        record = encode_evidence(altered(decode_evidence(self.documents[judged.record]), **changes))
        digest = Digest(hashlib.sha256(record).digest())
        whole = Kept(self.text, {**self.documents, digest: record}, self.stage)
        return whole.signed_anew(evidence=altered(judged, record=digest))

    def with_log(self, quote: bytes, log: bytes, **changes: Any) -> "Kept":
        """Return the release with another quote and event log, and with evidence that matches
        them."""
        judged, parsed = self.receipt.evidence, parse_quote(quote)
        assert judged is not None
        found: dict[bytes, bytes] = {
            hashlib.sha256(document).digest(): document for document in (quote, log)
        }
        quote_sha256, log_sha256 = map(Digest, found)
        lying = altered(judged, quote=quote_sha256, event_log=log_sha256)
        whole = Kept(self.text, {**self.documents, **found}, self.stage).signed_anew(evidence=lying)
        said = {"rtmr3": parsed.report.rtmr3, "quote_sha256": parsed.statement_sha256}
        return whole.with_evidence(**said, **changes)


async def kept(stage: HeldStage, owner: Owner, index: int = -1) -> Kept:
    """Fetch a receipt and all its documents through the routes."""
    text = (await receipts_of(stage, owner))[index]
    receipt = parse_receipt(text)
    judged = receipt.evidence
    digests = list(receipt.policies)
    if judged is not None:
        digests += [
            d
            for d in (judged.record, judged.quote, judged.event_log, judged.collateral)
            if d is not None
        ]
    documents: dict[bytes, bytes] = {}
    for digest in digests:
        reply = await fetch(stage, owner.session, owner.network, f"receipts/{digest.hex()}")
        assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream"), (
            reply.said
        )
        documents[digest] = reply.body
    return Kept(text, documents, stage)


async def reader(stage: Stage, owner: Owner) -> None:
    """Let the owner's session read receipts."""
    await owner.client.delegations.add_right(owner.wallet, [allow(owner.network, READ_RECEIPTS)])


@pytest.fixture
async def released(held: HeldStage) -> tuple[HeldStage, Owner, Delegate]:
    """An owner who reads receipts, and a backend that received a key once."""
    owner, delegate = await ready(held)
    await reader(held, owner)
    return held, owner, delegate


async def test_a_release_leaves_a_receipt(released: Any) -> None:
    """A receipt names receiver, network, chain, code and policies of a release (RC7, RC8)."""
    stage, owner, delegate = released
    (text,) = await receipts_of(stage, owner)
    policy = policy_for("approved")
    receipt = parse_receipt(text)
    assert receipt.network == owner.network
    assert receipt.owner == owner.wallet.did
    assert receipt.invoker == delegate.did
    assert receipt.ground == "attested"
    assert receipt.mode == "delegates"
    assert receipt.at_micros == int(stage.clock.now() * 1_000_000)
    assert receipt.policies == (bytes.fromhex(canonical_hash(policy_json(policy))),)
    assert len(receipt.chain) == 1
    records = await audit_records(stage.services.store)
    (detail,) = [
        json.loads(record.detail) for record in records if record.action == "release.authorised"
    ]
    assert detail["receipt"] == hashlib.sha256(text).hexdigest()
    accepted = [
        record.detail.decode() for record in records if record.action == "evidence.accepted"
    ]
    assert receipt.evidence is not None
    assert accepted == [detail["evidence"]] == [receipt.evidence.record.hex()]


async def test_a_receipt_is_judged_again_offline(released: Any) -> None:
    """A receipt and its documents suffice to verify a release offline (RC16 to RC18)."""
    stage, owner, _ = released
    release = (await kept(stage, owner)).verify()
    assert release.evidence is not None
    assert release.policies == (policy_for("approved"),)
    assert release.receipt.ground == "attested"


async def test_every_flipped_byte_is_named(released: Any) -> None:
    """A changed byte is found, and its document is named (RC17)."""
    stage, owner, _ = released
    whole = await kept(stage, owner)
    for digest, document in whole.documents.items():
        for position in range(0, len(document), max(1, len(document) // 40)):
            flipped = (
                document[:position] + bytes([document[position] ^ 1]) + document[position + 1 :]
            )
            broken = Kept(whole.text, {**whole.documents, digest: flipped}, stage)
            with pytest.raises(ReceiptInvalid, match=digest.hex()):
                broken.verify()
        missing = Kept(whole.text, {d: b for d, b in whole.documents.items() if d != digest}, stage)
        with pytest.raises(ReceiptInvalid, match=f"{digest.hex()}: the document is missing"):
            missing.verify()
    for position in range(0, len(whole.text), 17):
        flipped = (
            whole.text[:position] + bytes([whole.text[position] ^ 1]) + whole.text[position + 1 :]
        )
        with pytest.raises(ReceiptInvalid, match=r"^receipt: "):
            Kept(flipped, whole.documents, stage).verify()


async def test_a_receipt_of_another_node_or_root(released: Any) -> None:
    """Verification refuses a receipt of another node or another root (RC16, RC18)."""
    stage, owner, _ = released
    whole = await kept(stage, owner)
    with pytest.raises(ReceiptInvalid, match="another node"):
        whole.verify(node_did="did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
    with pytest.raises(ReceiptInvalid, match="quote"):
        whole.verify(platform=SimulatedPlatform.from_seed(b"somebody else's platform"))


Change = Callable[[Any], dict[str, Any]]
"""Functions that return false members of a receipt, by what is false."""
LIES: dict[str, Change] = {
    "another invoker": lambda receipt: {"invoker": receipt.owner},
    "another receiver key": lambda receipt: {"receiver_public_key_hash": "00" * 32},
    "another challenge": lambda receipt: {"evidence": altered(receipt.evidence, nonce=Digest(32))},
    "no challenge": lambda receipt: {"evidence": altered(receipt.evidence, nonce=None)},
    "no quote": lambda receipt: {"evidence": altered(receipt.evidence, quote=None)},
    "no evidence": lambda receipt: {"evidence": None},
    "another ground": lambda receipt: {"ground": "owner_session"},
    "the owner's ground": lambda receipt: {"ground": "owner", "evidence": None},
    "a session's ground of the owner": lambda receipt: {
        "ground": "owner_session",
        "evidence": None,
        "invoker": receipt.owner,
    },
    "a mode that asks for nothing": lambda receipt: {"ground": "off", "evidence": None},
    "a mode that asks of everybody": lambda receipt: {
        "ground": "owner",
        "mode": "everyone",
        "evidence": None,
    },
    "no policy": lambda receipt: {"policies": ()},
    "other collateral": lambda receipt: {
        "evidence": altered(receipt.evidence, collateral=receipt.policies[0])
    },
    "another quote": lambda receipt: {
        "evidence": altered(receipt.evidence, quote=receipt.policies[0])
    },
    "another record": lambda receipt: {
        "evidence": altered(receipt.evidence, record=receipt.policies[0])
    },
    "a log that was not": lambda receipt: {
        "evidence": altered(receipt.evidence, event_log=receipt.policies[0])
    },
    "an invalid policy": lambda receipt: {"policies": (receipt.evidence.collateral,)},
    "before the evidence": lambda receipt: {"at_micros": receipt.at_micros - 3_600_000_000},
    "after the evidence": lambda receipt: {"at_micros": receipt.at_micros + 3_600_000_000},
    "after the collateral": lambda receipt: {"at_micros": receipt.at_micros + 10**15},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_node_that_lies_is_found_out(released: Any, lie: Change) -> None:
    """A node's signed receipt that its documents contradict is refuted (RC18)."""
    stage, owner, _ = released
    whole = await kept(stage, owner)
    with pytest.raises(ReceiptInvalid):
        whole.signed_anew(**lie(whole.receipt)).verify()


async def test_a_release_of_a_node_that_asks_for_nothing(released: Any) -> None:
    """A release without mode and policy needs no evidence (RC18)."""
    stage, owner, _ = released
    whole = await kept(stage, owner)
    assert (
        whole.signed_anew(ground="off", mode="off", evidence=None, policies=()).verify().evidence
        is None
    )
    for lie in ({"mode": "delegates", "policies": ()}, {"mode": "off"}):
        with pytest.raises(ReceiptInvalid, match="required evidence"):
            whole.signed_anew(**{"ground": "off", "evidence": None, **lie}).verify()


async def test_no_code_was_judged_by_no_policy(released: Any) -> None:
    """A receipt that names ended evidence under no policy is refuted (RC32)."""
    stage, owner, _ = released
    whole = await kept(stage, owner)
    for later_s in (0, 5 * 86_400):
        at_micros = whole.receipt.at_micros + later_s * 1_000_000
        with pytest.raises(ReceiptInvalid, match="no policy"):
            whole.signed_anew(mode="off", policies=(), at_micros=at_micros).verify()


FALSE_EVIDENCE: dict[str, dict[str, Any]] = {
    "another image": {"mrtd": b"\x77" * 48},
    "another register": {"rtmr3": b"\x77" * 48},
    "a domain without debugging": {"td_attributes": bytes(8)},
    "another state of the platform": {"tcb_status": "OutOfDate"},
    "fewer advisories": {"advisories": ("INTEL-SA-00001",)},
    "another platform": {"platform_id_hash": bytes(32)},
    "another root": {"root_ca_sha256": bytes(32)},
    "an application without a log": {"app_id": bytes(20)},
    "another holder": {"invoker": "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"},
    "another receiver key": {"receiver_public_key": bytes(32)},
    "a life beyond its collateral's": {"expires_at": 1e11},
}


@pytest.mark.parametrize("false", FALSE_EVIDENCE.values(), ids=FALSE_EVIDENCE)
async def test_evidence_has_to_say_what_its_quote_says(
    released: Any, false: dict[str, Any]
) -> None:
    """Stored evidence that its quote contradicts is refuted (RC18)."""
    stage, owner, _ = released
    whole = await kept(stage, owner)
    assert whole.with_evidence().verify().evidence is not None
    with pytest.raises(ReceiptInvalid, match=r"evidence|quote|event log"):
        whole.with_evidence(**false).verify()


async def test_todays_collateral_judges_anew(released: Any) -> None:
    """A release can be judged again by today's collateral (RC19)."""
    stage, owner, _ = released
    release = (await kept(stage, owner)).verify()
    root, now = parse_trust_root(stage.platform.root_der), stage.clock.now() + 86_400
    (digest,) = (policy.hex() for policy in release.receipt.policies)
    fresh = stage.platform.collateral_json(now)
    assert judge_with(release, fresh, root=root, now=now) == {digest: None}
    outdated = stage.platform.collateral_json(
        now, options=CollateralOptions(advisories=("INTEL-SA-09999",))
    )
    assert judge_with(release, outdated, root=root, now=now) == {digest: "advisory"}
    for collateral, at in ((b"{}", now), (fresh, now + 10**8)):
        with pytest.raises(ReceiptInvalid, match="current collateral"):
            judge_with(release, collateral, root=root, now=at)


async def test_the_owner_in_person_leaves_a_receipt_too(released: Any) -> None:
    """A release to the owner in person has a receipt without code (RC7, RC19)."""
    stage, owner, _ = released
    session = owner.session
    stage.clock.advance(1)
    assert opens(await stage.ask(session, owner), session, owner)
    whole = await kept(stage, owner)
    assert whole.receipt.ground == "owner_session"
    assert whole.receipt.evidence is None
    with pytest.raises(ReceiptInvalid, match="released without evidence"):
        judge_with(whole.verify(), b"", root=parse_trust_root(stage.platform.root_der), now=0.0)


async def test_an_event_log_is_kept_and_replayed(held: HeldStage) -> None:
    """A receipt names the event log that verified a compose hash (RC13, RC18)."""
    owner, delegate = await held.owner(), Delegate()
    await reader(held, owner)
    log = mint_event_log(b"\xc0" * 32)
    image = policy_for("approved").measurements[0]
    policy = Policy(measurements=(altered(image, rtmr3=None),), compose_hashes=(b"\xc0" * 32,))
    delegate.proofs = [await held.register(owner.grant_decrypt(delegate.did, policy=policy))]
    nonce = await held.nonce(delegate.did)
    bound = held.report_data(delegate.did, delegate.receiver.public_key, nonce)
    quote = held.platform.mint_quote(log.run_on(image), bound)
    reply = await held.submit_quote(
        delegate, owner.network, nonce=nonce, quote=quote, more={"eventLog": log.log.to_json()}
    )
    assert reply.status == 200, reply.said
    assert opens(await held.ask(delegate, owner), delegate, owner)
    whole = await kept(held, owner)
    assert whole.receipt.evidence is not None and whole.receipt.evidence.event_log is not None
    assert whole.verify().evidence is not None
    with pytest.raises(ReceiptInvalid, match="event log"):
        whole.signed_anew(evidence=altered(whole.receipt.evidence, event_log=None)).verify()
    with pytest.raises(ReceiptInvalid, match="key provider"):
        whole.with_evidence(key_provider="tpm").verify()
    for false in ({"compose_hash": b"\xc1" * 32}, {"app_id": b"\xc1" * 20}):
        with pytest.raises(ReceiptInvalid, match="a different application"):
            whole.with_evidence(**false).verify()


async def test_an_application_that_nobody_gave_keys(held: HeldStage) -> None:
    """A receipt for an application without a key provider is refuted (AT29, RC32)."""
    owner, delegate = await held.owner(), Delegate()
    await reader(held, owner)
    image = policy_for("approved").measurements[0]
    policy = Policy(measurements=(altered(image, rtmr3=None),), compose_hashes=(b"\xc0" * 32,))
    delegate.proofs = [await held.register(owner.grant_decrypt(delegate.did, policy=policy))]
    nonce = await held.nonce(delegate.did)
    bound = held.report_data(delegate.did, delegate.receiver.public_key, nonce)
    log = mint_event_log(b"\xc0" * 32)
    quote = held.platform.mint_quote(log.run_on(image), bound)
    reply = await held.submit_quote(
        delegate, owner.network, nonce=nonce, quote=quote, more={"eventLog": log.log.to_json()}
    )
    assert reply.status == 200, reply.said
    assert opens(await held.ask(delegate, owner), delegate, owner)
    whole = await kept(held, owner)
    names: tuple[KeyProviderName, ...] = ("kms", "none")
    for name in names:
        log = mint_event_log(b"\xc0" * 32, options=LogOptions(key_provider=KeyProvider(name, b"")))
        quote = held.platform.mint_quote(log.run_on(image), bound)
        lying = whole.with_log(quote, text_of(log).encode(), key_provider=name)
        if name == "kms":
            assert lying.verify().evidence is not None
            continue
        with pytest.raises(ReceiptInvalid, match="key provider"):
            lying.verify()


async def test_documents_stay_when_evidence_is_renewed(released: Any) -> None:
    """Only documents that a receipt names survive new evidence (RC13)."""
    stage, owner, delegate = released
    first = await kept(stage, owner)
    beside = evidence_inputs_key(evidence_row_key(delegate.did, delegate.receiver.public_key))
    before = (await stage.services.store.read((beside,))).records[0]
    stage.clock.advance(60)
    await stage.attest(delegate, owner.network)
    after = (await stage.services.store.read((beside,))).records[0]
    assert before is not None and after is not None and before.value != after.value
    assert (await kept(stage, owner, 0)).documents == first.documents
    assert first.verify().evidence is not None


async def test_evidence_without_its_basis_still_releases(released: Any) -> None:
    """The receipt for old evidence says that its quote was not stored (RC13)."""
    stage, owner, delegate = released
    beside = evidence_inputs_key(evidence_row_key(delegate.did, delegate.receiver.public_key))
    await stage.services.store.commit(Commit(puts=(Put(beside, None),)))
    stage.services.kept.enter(-1)  # a process that has not released on this evidence yet
    stage.clock.advance(1)
    assert opens(await stage.ask(delegate, owner), delegate, owner)
    judged = (await kept(stage, owner)).receipt.evidence
    assert judged is not None and (judged.quote, judged.nonce) == (None, None)
    with pytest.raises(ReceiptInvalid, match="had deleted the quote"):
        (await kept(stage, owner)).verify()


async def test_documents_are_written_once(released: Any) -> None:
    """A further release with the same evidence writes no document (RC8)."""
    stage, owner, delegate = released
    first = await kept(stage, owner)
    rows = [document_key(digest) for digest in first.documents]
    before = (await stage.services.store.read(rows)).records
    for is_new_process in (False, True):
        if is_new_process:
            stage.services.kept.enter(-1)
        stage.clock.advance(1)
        assert opens(await stage.ask(delegate, owner), delegate, owner)
        again = await kept(stage, owner)
        assert again.receipt.evidence == first.receipt.evidence
        assert again.receipt.policies == first.receipt.policies
        assert (await stage.services.store.read(rows)).records == before
        assert again.verify().evidence is not None


async def test_pages_go_on_where_they_stopped(
    released: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts are listed oldest first, in pages without repetition or omission (RC14)."""
    stage, owner, delegate = released
    for _ in range(4):
        stage.clock.advance(1)
        assert opens(await stage.ask(delegate, owner), delegate, owner)
    whole = await receipts_of(stage, owner)
    monkeypatch.setattr(operation, "PAGE_RECEIPTS", 2)
    assert await receipts_of(stage, owner) == whole
    times = [parse_receipt(text).at_micros for text in whole]
    assert len(times) == 5
    assert times == sorted(times)


async def test_who_reads_receipts(released: Any) -> None:
    """Only the owner and a delegate with the ability read receipts (RC14, RC15)."""
    stage, owner, delegate = released
    reading = Delegate()
    assert (await fetch(stage, delegate, owner.network)).status == 401
    assert (await fetch(stage, reading, owner.network)).status == 401
    reading.proofs = [
        await stage.register(owner.grant(reading.did, {owner.network: [READ_RECEIPTS]}))
    ]
    assert len((await fetch(stage, reading, owner.network)).value["receipts"]) == 1  # type: ignore[arg-type]  # a list of JSON
    decrypting = reading.grant(stage.node_did, {owner.network: [READ_RECEIPTS, DECRYPT]}, ttl_s=60)
    token = reading.grant(stage.node_did, {owner.network: [READ_RECEIPTS]}, ttl_s=60)
    path = network_path(owner.network, "receipts")
    assert (await send(stage.url, "GET", path, token=decrypting)).value[
        "code"
    ] == "session-not-bound"
    assert [(await send(stage.url, "GET", path, token=token)).status for _ in range(2)] == [
        200,
        409,
    ]
    other = await stage.owner()
    assert (await fetch(stage, reading, other.network)).status == 401
    elsewhere = reading.grant(stage.node_did, {owner.network: [READ_RECEIPTS]}, ttl_s=60)
    path = network_path(other.network, "receipts")
    assert (await send(stage.url, "GET", path, token=elsewhere)).value[
        "code"
    ] == "session-not-bound"


@pytest.mark.parametrize(
    ("leaf", "status", "code"),
    [
        ("receipts?after=00", 400, "request-malformed"),
        ("receipts?after=" + "zz" * 24, 400, "request-malformed"),
        ("receipts/" + "00" * 31, 400, "request-malformed"),
        ("receipts/" + "AB" * 32, 400, "request-malformed"),
        ("receipts/" + "00" * 32, 404, "document-unknown"),
    ],
)
async def test_what_is_no_place_or_document(
    released: Any, leaf: str, status: int, code: str
) -> None:
    """An invalid cursor or digest is refused, and an unknown document is not found (RC14, RC15)."""
    stage, owner, _ = released
    reply = await fetch(stage, owner.session, owner.network, leaf)
    assert (reply.status, reply.value["code"]) == (status, code)


async def test_a_network_that_is_not(released: Any) -> None:
    """A request for receipts of a missing network is answered "not found" to its owner (RC14)."""
    stage, owner, _ = released
    absent = owner.network.replace(":default", ":absent")
    holder = Delegate()
    holder.proofs = [await stage.register(owner.grant(holder.did, {absent: [READ_RECEIPTS]}))]
    assert (await fetch(stage, holder, absent)).value["code"] == "network-unknown"


async def test_no_receipt_without_a_release(released: Any) -> None:
    """A release that is stopped before its commit leaves no receipt (RC8)."""
    stage, owner, delegate = released
    waiting = stage.store.hold(is_release)

    async def tighten() -> None:
        await owner.client.encryption.set_policy(
            owner.client.encryption.network(), policy_for("another")
        )

    reply = await meanwhile(stage.ask(delegate, owner), waiting, tighten)
    assert reply.status == 401
    assert len(await receipts_of(stage, owner)) == 1
