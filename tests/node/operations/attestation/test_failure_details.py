"""Tests of a failed attestation's details: codes for callers and causes for operators."""

import hashlib
import json
from typing import Any

import dcap_qvl
import pytest
from attacks.parties import policy_for
from attestation_stage import Stay
from audit_records import audit_records

from capabilities.principals import parse_principal
from encryption_network.policy import decode_evidence
from spaces.documents.evidence import evidence_row_key
from tee_backend.attestation.quote import parse_quote

NEWS = "Verification failed: a reason of a later version"


class LaterVersion:
    """A library version with other texts."""

    def __init__(self, root_der: bytes) -> None: ...

    def verify_with_policy(self, *_: Any) -> Any:
        raise ValueError(NEWS)


async def test_an_unknown_text_of_the_library_alarms(
    staying: Stay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown reason of the library refuses, and is logged but not sent to the caller (AT7)."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        monkeypatch.setattr(dcap_qvl, "QuoteVerifier", LaterVersion)
        nonce = await here.nonce(delegate.did)
        quote = here.quote(delegate.did, delegate.receiver.public_key, nonce)
        capsys.readouterr()
        reply = await here.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        assert (reply.status, reply.value["code"]) == (403, "verdict-unknown")
        assert "later version" not in reply.text
        reported = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        (alarm,) = [line for line in reported if line["event"] == "attestation-alarm"]
        assert alarm["level"] == "warning"
        assert alarm["code"] == "verdict-unknown"
        records = await audit_records(here.services.store)
        (refusal,) = [
            record.detail.decode() for record in records if record.action == "evidence.refused"
        ]
        assert refusal == f"verdict-unknown: {NEWS}"


async def test_a_machine_is_known_by_a_hash(staying: Stay) -> None:
    """Evidence and audit contain the SHA-256 of a machine's PPID, but not the PPID (AT23)."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=policy_for("approved"))
        nonce = await here.nonce(delegate.did)
        quote = here.quote(delegate.did, delegate.receiver.public_key, nonce)
        assert (
            await here.submit_quote(delegate, owner.network, nonce=nonce, quote=quote)
        ).status == 200
        platform = parse_quote(quote).platform
        key = evidence_row_key(parse_principal(delegate.did), delegate.receiver.public_key)
        (row,) = (await here.services.store.read((key,))).records
        assert row is not None and row.value is not None
        assert decode_evidence(row.value).platform_id_hash == hashlib.sha256(platform.ppid).digest()
        records = await audit_records(here.services.store)
        written = row.value + b"".join(
            record.detail + record.subject.encode() for record in records
        )
        for identity in (platform.ppid, platform.instance_id or platform.ppid):
            assert identity not in written
            assert identity.hex().encode() not in written
