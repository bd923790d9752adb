"""Tests of reference values of a simulated machine, and of what contradicts them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deviating_log import LogOptions
from deviating_platform import DEBUG, DomainOptions, SimulatedPlatform
from made_firmware import expected_mrtd
from published_folder import COMPOSE, PublishedFolder

from encryption_network.policy import parse_policy
from tee_backend.attestation.event_log_claims import KeyProvider
from tee_backend.evidence.simulated import SEPT_VE_DISABLE, SIMULATED_KEY_PROVIDER
from tee_backend.measuring.input_folder import read_inputs
from tee_backend.measuring.measuring_errors import MeasurementRefused
from tee_backend.measuring.reference_values import measure, measured_json


def _sources(folder: Path, **given: Any) -> dict[str, str]:
    measured = measure(read_inputs(folder, **given))
    return {value.name: value.source for value in measured.values}


def test_a_whole_folder(published: PublishedFolder, machine: SimulatedPlatform) -> None:
    """Each value has its source, and the policy names all the code (AT64, AT66)."""
    folder = published.write(machine)
    assert _sources(folder) == {
        "composeHash": "computed",
        "appId": "computed",
        "keyProvider": "replayed",
        "mrtd": "computed",
        "rtmr0": "replayed",
        "rtmr1": "replayed",
        "rtmr2": "replayed",
        "rtmr3": "replayed",
    }
    measured = measure(read_inputs(folder))
    assert measured.missing == ()
    policy = parse_policy(measured_json(measured)["policy"])
    (code,) = policy.measurements
    assert code.mrtd == expected_mrtd(one_pass=False)
    assert code.rtmr3 is None
    assert policy.compose_hashes == (hashlib.sha256(COMPOSE).digest(),)
    assert policy.key_providers == (SIMULATED_KEY_PROVIDER.text,)
    assert measured.has_quote


def test_rtmr3_of_known_entries(published: PublishedFolder, machine: SimulatedPlatform) -> None:
    """RTMR3 is computed once every entry is known, with a log and without one."""
    folder = published.write(machine)
    given: dict[str, Any] = {
        "key_provider": SIMULATED_KEY_PROVIDER,
        "instance_id": bytes(range(20)),
        "storage": "zfs",
    }
    with_log = measure(read_inputs(folder, **given))
    assert with_log.value("rtmr3").source == "computed"
    assert all(event.source == "computed" for event in with_log.events)
    without = measure(read_inputs(folder / "app-compose.json", **given))
    assert without.value("rtmr3").texts == with_log.value("rtmr3").texts
    assert without.policy is None and "RTMR0" in without.missing


def test_a_compose_file_alone(published: PublishedFolder, machine: SimulatedPlatform) -> None:
    """Without other files, only compose hash and application id are known."""
    sources = _sources(published.write(machine) / "app-compose.json")
    assert [name for name, source in sources.items() if source == "computed"] == [
        "composeHash",
        "appId",
    ]
    assert set(sources.values()) == {"computed", "not computed"}


def test_what_is_only_quoted(published: PublishedFolder, machine: SimulatedPlatform) -> None:
    """A value that no file explains is named, and the policy with it is not one to approve
    (AT66)."""
    folder = published.write(machine)
    (folder / "firmware.fd").unlink()
    measured = measure(read_inputs(folder))
    assert measured.value("mrtd").source == "quoted"
    assert measured.missing == ("MRTD",)
    document = measured_json(measured)
    assert document["policy"] is None
    assert parse_policy(document["unexplainedPolicy"]).is_allow_list


def test_two_orders_without_a_quote(published: PublishedFolder, machine: SimulatedPlatform) -> None:
    """Without a quote, both values of MRTD are approved, as both are of this firmware."""
    folder = published.write(machine)
    answer = json.loads((folder / "quote.json").read_text())
    (folder / "quote.json").write_text(json.dumps({"event_log": answer["event_log"]}))
    measured = measure(read_inputs(folder, key_provider=SIMULATED_KEY_PROVIDER))
    assert len(measured.value("mrtd").texts) == 2
    assert measured.policy is not None and len(measured.policy.measurements) == 2
    assert not measured.has_quote


def test_an_application_id_of_a_key_service(
    published: PublishedFolder, machine: SimulatedPlatform
) -> None:
    """An id that a key service set is stated by the owner, or by the log."""
    folder = published.write(machine)
    stated = _sources(folder / "app-compose.json", app_id=bytes(20))
    assert stated["appId"] == "given"
    with pytest.raises(MeasurementRefused, match="another app-id") as refused:
        measure(read_inputs(folder, app_id=bytes(20)))
    assert refused.value.problem == "log-mismatch"


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "another compose file": (
        {"logged_compose": b"other"},
        "log-mismatch",
        "another compose file",
    ),
    "a debug guest": (
        {"domain": DomainOptions(td_attributes=SEPT_VE_DISABLE | DEBUG)},
        "domain-unsafe",
        "cannot keep a secret",
    ),
    "a migratable guest": (
        {"domain": DomainOptions(td_attributes=SEPT_VE_DISABLE | 1 << 29)},
        "domain-unsafe",
        "cannot keep a secret",
    ),
    "another firmware": ({"mrtd": bytes(47) + b"\x01"}, "firmware", "another image"),
    "an image for another file": (
        {"domain": DomainOptions(mr_config_id=b"\x01" + bytes(31) + b"\x02" + bytes(15))},
        "log-mismatch",
        "MRCONFIGID",
    ),
}


@pytest.mark.parametrize(("changes", "problem", "text"), REFUSED.values(), ids=REFUSED)
def test_contradictions(
    published: PublishedFolder,
    machine: SimulatedPlatform,
    changes: dict[str, Any],
    problem: str,
    text: str,
) -> None:
    """Files that contradict each other are refused, with a typed problem and the next step
    (AT65)."""
    folder = replace(published, **changes).write(machine)
    with pytest.raises(MeasurementRefused, match=text) as refused:
        measure(read_inputs(folder))
    assert refused.value.problem == problem
    assert refused.value.hint


def _edit_log(folder: Path, edit: Any) -> None:
    """Change the event log of an answer."""
    answer = json.loads((folder / "quote.json").read_text())
    log = json.loads(answer["event_log"])
    edit(log)
    (folder / "quote.json").write_text(json.dumps(answer | {"event_log": json.dumps(log)}))


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_log_of_another_start(
    published: PublishedFolder, machine: SimulatedPlatform, number: int
) -> None:
    """A log that does not replay to a register of the quote is refused (AT65)."""
    folder = published.write(machine)

    def drop(log: list[Any]) -> None:
        log.remove(next(entry for entry in reversed(log) if entry["imr"] == number))
        if number == 1:  # a register without entries is not compared
            log.append(log[0] | {"imr": 1})

    _edit_log(folder, drop)
    with pytest.raises(MeasurementRefused) as refused:
        measure(read_inputs(folder))
    assert refused.value.problem == "log-mismatch"


def test_another_key_provider_than_stated(
    published: PublishedFolder, machine: SimulatedPlatform
) -> None:
    """A log with another key provider than the owner states is refused (AT65)."""
    folder = published.write(machine)
    with pytest.raises(MeasurementRefused, match="key provider"):
        measure(read_inputs(folder, key_provider=KeyProvider(name="kms", id=b"other")))


def test_a_key_provider_that_nodes_refuse(
    published: PublishedFolder, machine: SimulatedPlatform
) -> None:
    """A provider for which only the host vouches is noted."""
    log = LogOptions(key_provider=KeyProvider(name="local-sgx", id=b"enclave"))
    measured = measure(read_inputs(replace(published, log_options=log).write(machine)))
    assert any("nodes refuse the key provider local-sgx" in note for note in measured.notes)


def test_entries_of_the_application_prove_nothing(
    published: PublishedFolder, machine: SimulatedPlatform
) -> None:
    """An entry after system-ready is never called computed, whatever its name is (AT21)."""
    compose_hash = hashlib.sha256(COMPOSE).digest()
    log = LogOptions(by_application=[("compose-hash", compose_hash)])
    measured = measure(read_inputs(replace(published, log_options=log).write(machine)))
    assert [event.source for event in measured.events if event.name == "compose-hash"] == [
        "computed",
        "replayed",
    ]


INCOMPLETE = {
    "no compose file": lambda folder: (folder / "app-compose.json").unlink(),
    "two compose files": lambda folder: (folder / "compose.yaml").write_text("services: {}"),
    "two firmware files": lambda folder: (folder / "ovmf.fd").touch(),
    "half of the image's description": lambda folder: (folder / "checksums.txt").touch(),
    "a folder in place of a file": lambda folder: (
        (folder / "quote.json").unlink(),
        (folder / "quote.json").mkdir(),
    ),
}


@pytest.mark.parametrize("change", INCOMPLETE.values(), ids=INCOMPLETE)
def test_incomplete_folders(
    published: PublishedFolder, machine: SimulatedPlatform, change: Any
) -> None:
    """A folder that lacks a file, or has two of one kind, is refused by name."""
    folder = published.write(machine)
    change(folder)
    with pytest.raises(MeasurementRefused) as refused:
        read_inputs(folder)
    assert refused.value.problem == "folder-incomplete"


ANSWERS = {
    "no JSON": b"{",
    "a list": b"[]",
    "a quote that is not hex": b'{"quote": "xy"}',
    "a quote of another kind": b'{"quote": "00"}',
    "a long quote": json.dumps({"quote": "00" * 20_000}).encode(),
    "a log that is not one": b'{"event_log": "[1]"}',
    "a configuration that is not one": b'{"vm_config": "[]"}',
    "half a character": b'{"vm_config": "\\ud800"}',
}


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
def test_other_answers(published: PublishedFolder, machine: SimulatedPlatform, data: bytes) -> None:
    """A file that is no answer of a guest agent is refused."""
    folder = published.write(machine)
    (folder / "quote.json").write_bytes(data)
    with pytest.raises(MeasurementRefused) as refused:
        read_inputs(folder)
    assert refused.value.problem == "answer-malformed"
