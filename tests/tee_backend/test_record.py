"""Tests of records of attestations, which anyone can judge again."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deviating_log import mint_event_log
from deviating_platform import DEBUG, DomainOptions, SimulatedPlatform
from msgspec import to_builtins
from published_folder import boot_events, replayed
from tests_support import SHARED_VECTORS, shared_vectors

from capabilities.strict_json import parse_json
from encryption_network.policy import Measurements
from tee_backend.attestation.event_log import EventLog
from tee_backend.attestation.record import (
    COLLATERAL_FILE,
    LOG_FILE,
    MAX_RECORD_BYTES,
    NOT_COVERED,
    QUOTE_FILE,
    RECORD_FILE,
    Recorded,
    RecordInvalid,
    replay_record,
    sealed_record,
    write_record,
)
from tee_backend.attestation.trust_root import TrustRoot, intel_root
from tee_backend.evidence.simulated import SEPT_VE_DISABLE

REPORT_DATA = bytes(range(64))


def _check(verdict: Any, name: str = "quote") -> Any:
    """Return the result of a check in a verdict."""
    return verdict["checks"][name]


@pytest.fixture(scope="session")
def recorded(machine: SimulatedPlatform, document: bytes) -> Recorded:
    """A quote of the simulated machine with a log of all registers."""
    boot = boot_events()
    minted = mint_event_log(bytes(32))
    image = Measurements(
        mrtd=b"\x01" * 48,
        rtmr0=replayed(boot, 0),
        rtmr1=replayed(boot, 1),
        rtmr2=replayed(boot, 2),
    )
    return Recorded(
        quote=machine.mint_quote(minted.run_on(image), REPORT_DATA),
        collateral=document,
        event_log=EventLog((*boot, *minted.log.entries)),
        report_data=REPORT_DATA,
        at=1_795_000_000.0,
        facts={"source": "simulated"},
    )


def test_a_record(recorded: Recorded, root: TrustRoot, now: float, tmp_path: Path) -> None:
    """A record gives the same verdict for its time, and another when the collateral has ended
    (AT68)."""
    verdict = write_record(tmp_path / "proof", recorded, root=root)
    assert verdict["accepted"] is True
    soon = replay_record(tmp_path / "proof", root=root, now=now + 60)
    assert soon.is_reproduced and soon.now["accepted"] is True
    late = replay_record(tmp_path / "proof", root=root, now=now + 90 * 86_400)
    assert late.is_reproduced
    assert late.now["accepted"] is False
    assert _check(late.now) == "collateral-window"


def test_newer_collateral(
    recorded: Recorded, root: TrustRoot, now: float, machine: SimulatedPlatform, tmp_path: Path
) -> None:
    """Newer collateral judges the quote for now, and does not change the verdict for then."""
    write_record(tmp_path / "proof", recorded, root=root)
    late = now + 90 * 86_400
    newer = machine.collateral_json(late)
    again = replay_record(tmp_path / "proof", root=root, now=late, collateral=newer)
    assert again.is_reproduced and again.now["accepted"] is True


def test_what_identifies_the_machine(recorded: Recorded, root: TrustRoot, tmp_path: Path) -> None:
    """The platform's ids, its certificate and the instance are listed (AT69)."""
    write_record(tmp_path / "proof", recorded, root=root)
    parts = replay_record(tmp_path / "proof", root=root, now=0).identifying
    names = " ".join(parts)
    for part in ("PPID", "PIID", "FMSPC", "platform certificate", "instance id in the event log"):
        assert part in names


def test_a_refused_quote_is_recorded(
    recorded: Recorded, root: TrustRoot, machine: SimulatedPlatform, tmp_path: Path
) -> None:
    """A quote of a debug guest is recorded with the reason of its refusal."""
    options = DomainOptions(td_attributes=SEPT_VE_DISABLE | DEBUG)
    code = Measurements(mrtd=bytes(48), rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48))
    quote = machine.mint_quote(code, REPORT_DATA, options=options)
    refused = replace(recorded, quote=quote, event_log=None)
    verdict = write_record(tmp_path / "proof", refused, root=root)
    assert verdict["accepted"] is False
    assert _check(verdict) == "td-attributes"
    assert replay_record(tmp_path / "proof", root=root, now=0).is_reproduced


def test_another_root(recorded: Recorded, root: TrustRoot, tmp_path: Path) -> None:
    """A simulated record is not accepted under Intel's root."""
    write_record(tmp_path / "proof", recorded, root=root)
    replayed_record = replay_record(tmp_path / "proof", root=intel_root(), now=0)
    assert not replayed_record.is_reproduced
    assert _check(replayed_record.then) == "untrusted-root"


# --- changed bytes --------------------------------------------------------------------------------


def test_every_changed_byte_is_noticed(recorded: Recorded, root: TrustRoot, tmp_path: Path) -> None:
    """A record with any one byte changed, or a file cut off, is refused (AT70)."""
    folder = tmp_path / "proof"
    write_record(folder, recorded, root=root)
    noticed = 0
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        # The other files are compared by their hashes before anything is parsed.
        step = 1 if path.name == RECORD_FILE else 97
        for at in range(0, len(data), step):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(RecordInvalid):
                replay_record(folder, root=root, now=0)
            noticed += 1
        path.write_bytes(data[:-1])
        with pytest.raises(RecordInvalid):
            replay_record(folder, root=root, now=0)
        path.write_bytes(data)
    assert noticed > 2000
    assert replay_record(folder, root=root, now=0).is_reproduced


def _forged(folder: Path, name: str, data: bytes) -> None:
    """Write a changed file, and the hashes that a forger would compute."""
    members = parse_json((folder / RECORD_FILE).read_bytes(), max_bytes=MAX_RECORD_BYTES)
    members.pop("seal")
    files: Any = members["files"]
    files[name] = hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes(data)
    (folder / RECORD_FILE).write_bytes(sealed_record(members))


def _unnoticed(folder: Path, name: str, root: TrustRoot, places: Iterator[int]) -> set[int]:
    """Return the places where a forger can change a byte, and the verdict is still reproduced."""
    genuine = (folder / name).read_bytes()
    kept = (folder / RECORD_FILE).read_bytes()
    unnoticed = set()
    for at in places:
        changed = genuine[:at] + bytes([genuine[at] ^ 1]) + genuine[at + 1 :]
        _forged(folder, name, changed)
        try:
            if replay_record(folder, root=root, now=0).is_reproduced:
                unnoticed.add(at)
        except RecordInvalid:
            pass
        (folder / RECORD_FILE).write_bytes(kept)
    (folder / name).write_bytes(genuine)
    return unnoticed


@pytest.mark.slow
def test_no_byte_of_a_quote_can_be_forged(
    recorded: Recorded, root: TrustRoot, tmp_path: Path
) -> None:
    """Whoever changes a byte of the quote, and all hashes, does not get the same verdict (AT70)."""
    folder = tmp_path / "proof"
    write_record(folder, recorded, root=root)
    # A run over all bytes takes minutes; their number is odd to each length of a field.
    places = iter(range(0, len(recorded.quote), 37))
    assert _unnoticed(folder, QUOTE_FILE, root, places) == set()


@pytest.mark.slow
def test_what_can_be_forged_in_a_log(recorded: Recorded, root: TrustRoot, tmp_path: Path) -> None:
    """Of a log, a forger can change only what `NOT_COVERED` names (AT70)."""
    folder = tmp_path / "proof"
    write_record(folder, recorded, root=root)
    log = (folder / LOG_FILE).read_bytes()
    unnoticed = _unnoticed(folder, LOG_FILE, root, iter(range(0, len(log), 13)))
    entries = to_builtins(recorded.event_log.entries) if recorded.event_log else []
    boot = [one for one in entries if one["imr"] < 3]
    end_of_boot = len(json.dumps(boot, separators=(",", ":"))) - 1
    assert unnoticed
    assert {at for at in unnoticed if at >= end_of_boot} == set()
    assert any("registers 0 to 2" in one for one in NOT_COVERED)


@pytest.mark.slow
def test_what_can_be_forged_in_collateral(
    recorded: Recorded, root: TrustRoot, tmp_path: Path
) -> None:
    """Of collateral, a forger can change only a certificate beside the list of revocations
    (AT70)."""
    folder = tmp_path / "proof"
    write_record(folder, recorded, root=root)
    places = iter(range(0, len(recorded.collateral), 71))
    unnoticed = _unnoticed(folder, COLLATERAL_FILE, root, places)
    chain = json.dumps(json.loads(recorded.collateral)["pck_crl_issuer_chain"]).encode()
    start = recorded.collateral.index(chain)
    assert {at for at in unnoticed if not start <= at < start + len(chain)} == set()
    assert any("beside the list" in one for one in NOT_COVERED)


# --- public quotes --------------------------------------------------------------------------------


def _public_cases() -> list[dict[str, Any]]:
    manifest = SHARED_VECTORS / "tdx" / "manifest.json"
    if not manifest.is_file():
        return []
    cases: list[dict[str, Any]] = json.loads(manifest.read_text())["cases"]
    return [
        case
        for case in cases
        if case["server_must"].startswith("accept")
        and case["quote"].startswith("quotes/")
        # the end of a validity period is not part of it here
        and case["name"] != "at_next_update_exactly"
    ]


PUBLIC = _public_cases()


@pytest.mark.shared
@pytest.mark.parametrize("case", PUBLIC, ids=[case["name"] for case in PUBLIC])
def test_public_quotes(case: dict[str, Any], tmp_path: Path) -> None:
    """A genuine quote is recorded as accepted for its time, and its collateral has ended since."""
    collateral = shared_vectors(f"tdx/{case['collateral']}").read_bytes()
    recorded = Recorded(
        quote=shared_vectors(f"tdx/{case['quote']}").read_bytes(),
        collateral=collateral,
        event_log=None,
        report_data=None,
        at=float(case["now"]),
        facts={"source": case["quote"]},
    )
    verdict = write_record(tmp_path / "proof", recorded, root=intel_root())
    assert verdict["accepted"] is True, verdict
    again = replay_record(tmp_path / "proof", root=intel_root(), now=1_900_000_000.0)
    assert again.is_reproduced
    assert again.now["accepted"] is False


@pytest.mark.shared
def test_there_are_public_quotes() -> None:
    """There are accepted quotes of several machines."""
    assert len(PUBLIC) >= 5
