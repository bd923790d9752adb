"""Genuine and forged event logs, with the answers that a server has to give."""

import hashlib
import json
from typing import Any

import pytest
from tests_support import SHARED_VECTORS, shared_vectors

from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.event_log import (
    EventLog,
    event_digest,
    parse_event_log,
    replay,
    runtime_entries,
)
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.quote import TdReport, parse_quote


def _cases() -> list[dict[str, Any]]:
    manifest = SHARED_VECTORS / "tdx" / "manifest.json"
    return json.loads(manifest.read_text())["event_log_cases"] if manifest.is_file() else []


CASES = _cases()
ACCEPTED = {
    "lium_genuine": "v4_td10_90c0_dstack_lium",
    "lite_genuine_empty_digests": "v4_td10_90c0_dstack_lite",
    "nearmpc_genuine": "v4_td10_b0c0_nearmpc_dstack",
}


def _log(file: str) -> EventLog:
    """Return the log of a case: a bare one, or one inside an agent's answer."""
    document = json.loads(shared_vectors(f"tdx/{file}").read_bytes())
    log = document["event_log"] if isinstance(document, dict) else document
    return parse_event_log(log.encode() if isinstance(log, str) else json.dumps(log).encode())


def _report(case: dict[str, Any]) -> TdReport:
    """Return the report whose register a case names; a forged log is compared with a genuine
    quote."""
    for name in ACCEPTED.values():
        report = parse_quote(shared_vectors(f"tdx/quotes/{name}.bin").read_bytes()).report
        if report.rtmr3.hex() == case["rtmr3"]:
            return report
    raise AssertionError("no quote with this register")


@pytest.mark.shared
def test_every_case_is_run() -> None:
    """The manifest has nine cases, three of them genuine."""
    assert 9 == len(CASES)
    assert set(ACCEPTED) == {case["name"] for case in CASES if case["server_must"] == "accept"}


@pytest.mark.shared
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    """A genuine log is accepted with its quote, and a forged one is refused (AT20, AT21)."""
    log, report = _log(case["file"]), _report(case)
    if case["server_must"] == "accept":
        assert verify_event_log(log, report).compose_hash
        return
    with pytest.raises(QuoteRefused, match=r"^event-log$"):
        verify_event_log(log, report)


@pytest.mark.shared
def test_the_compose_file_is_the_compose_hash() -> None:
    """The compose hash in the log is the hash of the compose file, and the quote states it too
    (AT28)."""
    (case,) = (case for case in CASES if case["name"] == "nearmpc_genuine")
    report = _report(case)
    claims = verify_event_log(_log(case["file"]), report)
    compose = shared_vectors("tdx/context/nearmpc_app_compose.json").read_bytes()
    assert hashlib.sha256(compose).digest() == claims.compose_hash == report.mr_config_id[1:33]
    assert claims.instance_id == b""


@pytest.mark.shared
def test_a_replay_that_believes_digests_is_fooled() -> None:
    """A verifier that trusts supplied digests would accept the forged and the downgraded log."""
    for name in ("eventlog_forged_payload_kept_digest", "eventlog_event_type_downgrade"):
        entries = [e for e in _log(f"negative/{name}.json").entries if e.register == 3]
        register = bytes(48)
        for event in entries:
            register = hashlib.sha384(register + bytes.fromhex(event.digest)).digest()
        assert (
            register
            == _report(
                next(case for case in CASES if name.removeprefix("eventlog_") == case["name"])
            ).rtmr3
        )


@pytest.mark.shared
def test_register_after_each_entry() -> None:
    """The register's value after each entry of a genuine log is the published one."""
    entries = runtime_entries(_log("context/dstack_lium_getquote.json"))
    seen = {entries[n].name: replay(entries[: n + 1]).hex()[:32] for n in range(len(entries))}
    assert seen == {
        "system-preparing": "6a9a63f48733aba50d6892c873d838f9",
        "app-id": "26532543a3458621910611b302814fd4",
        "compose-hash": "1cb036cf758fb9c30ae69da775390881",
        "instance-id": "287d192fd47640c97510b49d1cb6f201",
        "boot-mr-done": "cae24527d80a62638ec88377c85cec4d",
        "key-provider": "1613dea5efb13f7e8d1af051aa72a0de",
        "system-ready": "01609ad1d5ba5cd4de87848bb3d76e03",
        "LIUM_MINER_HOTKEY": "0f787c3877f3e95095d5a4d13dd0fe02",
    }
    assert all(event.digest == event_digest(event.name, event.payload).hex() for event in entries)
