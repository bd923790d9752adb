"""Tests of the limits of policies and of stored evidence: the last accepted value, and the next."""

from dataclasses import fields, replace
from typing import Any

import msgspec
import pytest

from capabilities.facts import ATTESTATION_FACT
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import PolicyError, RecordError
from encryption_network.policy import (
    MAX_EVIDENCE_BYTES,
    MAX_POLICY_BYTES,
    Evidence,
    Policy,
    decode_evidence,
    encode_evidence,
    parse_policy,
    policies_of,
)

STATUSES = [
    "ConfigurationAndSWHardeningNeeded",
    "ConfigurationNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "SWHardeningNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
    "UpToDate",
]


def entries(member: str, count: int) -> list[Any]:
    """Return a number of different entries for a list of a policy."""
    if member == "measurements":
        names = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
        return [dict.fromkeys(names, f"{n:096x}") for n in range(count)]
    forms = {
        "composeHashes": "{:064x}",
        "appIds": "{:04x}",
        "keyProviders": "kms:{:04x}",
        "tdAttributes": "{:016x}",
        "platformIds": "{:064x}",
        "advisories": "INTEL-SA-{}",
        "paths": "tinycloud:key:zOwner:secrets/kv/{}",
    }
    return [forms[member].format(number) for number in range(count)]


@pytest.mark.parametrize(
    ("member", "most"),
    [
        ("measurements", 64),
        ("composeHashes", 64),
        ("appIds", 64),
        ("keyProviders", 16),
        ("tdAttributes", 16),
        ("platformIds", 256),
        ("advisories", 64),
        ("paths", 32),
    ],
)
def test_RL8_entries_of_a_list(member: str, most: int) -> None:
    """A list may have as many entries as the table says, and not one more (RL8)."""
    others: dict[str, Any] = {"composeHashes": ["00" * 32]} if member == "measurements" else {}
    parse_policy({**others, member: entries(member, most)})
    with pytest.raises(PolicyError, match=f"at most {most} entries"):
        parse_policy({**others, member: entries(member, most + 1)})


def test_RL11_all_statuses_but_revoked() -> None:
    """A policy may accept all statuses at once, with a grace period (RL11)."""
    policy = parse_policy({"tcbStatuses": [*STATUSES], "tcbGraceSeconds": 0})
    assert list(policy.tcb_statuses) == STATUSES
    with pytest.raises(PolicyError, match="unknown or never acceptable"):
        Policy(tcb_statuses=("Revoked", "UpToDate"))


@pytest.mark.parametrize("status", STATUSES)
def test_RL11_an_outdated_status_requires_a_grace_period(status: str) -> None:
    """The statuses of an outdated platform require a grace period, and no others (RL11)."""
    if status.startswith(("OutOfDate", "TDRelaunchAdvised")):
        with pytest.raises(PolicyError, match="a grace period is required"):
            parse_policy({"tcbStatuses": [status]})
    else:
        parse_policy({"tcbStatuses": [status]})


@pytest.mark.parametrize(
    ("member", "most"),
    [
        ("tcbGraceSeconds", 315_360_000),
        ("maxAgeSeconds", 315_360_000),
        ("minEvaluationNumber", 2_147_483_647),
    ],
)
def test_RL8_numbers(member: str, most: int) -> None:
    """A number is at least zero and has an upper limit (RL8)."""
    for number in (0, most):
        parse_policy({member: number})
    for number in (-1, most + 1):
        with pytest.raises(PolicyError):
            parse_policy({member: number})


@pytest.mark.parametrize(
    ("member", "least_bytes", "most_bytes"),
    [
        ("composeHashes", 32, 32),
        ("appIds", 1, 64),
        ("tdAttributes", 8, 8),
        ("platformIds", 32, 32),
    ],
)
def test_RL8_lengths_of_hex(member: str, least_bytes: int, most_bytes: int) -> None:
    """Hex has the length that the table says (RL8)."""
    for length in (least_bytes, most_bytes):
        parse_policy({member: ["ab" * length]})
    for length in (least_bytes - 1, most_bytes + 1):
        with pytest.raises(PolicyError):
            parse_policy({member: ["ab" * length]})


def test_RL8_length_of_an_advisory() -> None:
    """An advisory has 1 to 64 characters (RL8)."""
    parse_policy({"advisories": ["x", "y" * 64]})
    for advisory in ("", "x" * 65):
        with pytest.raises(PolicyError):
            parse_policy({"advisories": [advisory]})


def test_RL8_bytes_of_a_policy() -> None:
    """A policy may have 32,768 bytes of canonical JSON (RL8)."""

    def policy_with(padding_chars: int) -> dict[str, Any]:
        advisories = [f"{number:064}" for number in range(44)]
        return {
            "platformIds": entries("platformIds", 256),
            "composeHashes": entries("composeHashes", 64),
            "appIds": [f"{number:0128x}" for number in range(63)],
            "advisories": [*advisories, "x" * padding_chars],
        }

    padding_chars = 1 + 32_768 - len(canonical_bytes(policy_with(1)))
    longest = policy_with(padding_chars)
    assert len(canonical_bytes(longest)) == 32_768 == MAX_POLICY_BYTES
    parse_policy(longest)
    with pytest.raises(PolicyError, match="longer than 32768 bytes"):
        parse_policy(policy_with(padding_chars + 1))


def test_RL8_policies_of_a_delegation() -> None:
    """A delegation states at most four policies (RL8)."""
    assert len(policies_of([{ATTESTATION_FACT: {}}] * 4)) == 4
    with pytest.raises(PolicyError, match="at most 4 policies"):
        policies_of([{ATTESTATION_FACT: {}}] * 5)


# --- stored evidence ------------------------------------------------------------------------------


def test_the_format_of_stored_evidence(world: Any) -> None:
    """Evidence that is stored already is read by every later version."""
    evidence = world.evidence(world.backend)
    values = [getattr(evidence, field.name) for field in fields(Evidence)]
    members = dict(zip([field.name for field in fields(Evidence)], values, strict=True))
    assert encode_evidence(evidence) == msgspec.msgpack.encode([1, members])
    assert decode_evidence(msgspec.msgpack.encode([1, members])) == evidence
    del members["key_provider"]
    older = decode_evidence(msgspec.msgpack.encode([1, members]))
    assert older == replace(evidence, key_provider=None)
    for version in (0, 2):
        with pytest.raises(RecordError, match="cannot be parsed"):
            decode_evidence(msgspec.msgpack.encode([version, members]))


@pytest.mark.parametrize("change_bytes", [-1, 1])
def test_lengths_of_stored_evidence(world: Any, change_bytes: int) -> None:
    """A register or digest that is a byte shorter or longer rejects the row."""
    evidence = world.evidence(world.backend)
    for field in fields(evidence):
        value = getattr(evidence, field.name)
        if isinstance(value, bytes) and field.name != "app_id":
            damaged = value[:-1] if change_bytes < 0 else value + b"x"
            with pytest.raises(RecordError, match="cannot be parsed"):
                decode_evidence(encode_evidence(replace(evidence, **{field.name: damaged})))


def test_bytes_of_stored_evidence(world: Any) -> None:
    """Stored evidence may have 16,384 bytes."""
    evidence = world.evidence(world.backend, advisories=("x" * 10_000,))
    padding_chars = 10_000 + 16_384 - len(encode_evidence(evidence))
    longest = encode_evidence(replace(evidence, advisories=("x" * padding_chars,)))
    assert len(longest) == 16_384 == MAX_EVIDENCE_BYTES
    assert decode_evidence(longest).advisories == ("x" * padding_chars,)
    with pytest.raises(RecordError, match="too long"):
        decode_evidence(encode_evidence(replace(evidence, advisories=("x" * (padding_chars + 1),))))
