"""Tests of policies: parsing, encoding, comparing, and judging evidence."""

import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capabilities.facts import ATTESTATION_FACT
from capabilities.strict_json import Json
from encryption_network.judgement import judge
from encryption_network.network_errors import PolicyError
from encryption_network.policy import (
    MAX_POLICIES,
    Measurements,
    Policy,
    encode_policy,
    parse_policy,
    policies_of,
    policy_json,
)

REGISTER = "ab" * 48
TUPLE = {
    "mrtd": REGISTER,
    "rtmr0": REGISTER,
    "rtmr1": REGISTER,
    "rtmr2": REGISTER,
    "rtmr3": REGISTER,
}
PATH = "tinycloud:key:zOwner:secrets/kv/vault/secrets/ONE"
FULL: dict[str, Any] = {
    "measurements": [TUPLE],
    "composeHashes": ["cd" * 32],
    "appIds": ["ef" * 20],
    "keyProviders": ["kms:" + "ab" * 91, "tpm"],
    "tdAttributes": ["0000001000000000"],
    "platformIds": ["01" * 32],
    "tcbStatuses": ["OutOfDate", "UpToDate"],
    "tcbGraceSeconds": 86_400,
    "advisories": ["INTEL-SA-00615"],
    "minEvaluationNumber": 19,
    "maxAgeSeconds": 300,
    "receiver": "signed",
    "paths": [PATH],
    "inPerson": False,
}

REGISTERS = st.sampled_from([b"\x01" * 48, b"\x02" * 48])
ENTRIES = st.builds(
    Measurements,
    mrtd=REGISTERS,
    rtmr0=REGISTERS,
    rtmr1=REGISTERS,
    rtmr2=REGISTERS,
    rtmr3=st.none() | REGISTERS,
)


def lists(values: Any, **limits: Any) -> Any:
    """Draw sorted tuples of distinct values."""
    return st.lists(st.sampled_from(values), unique=True, max_size=2, **limits).map(
        lambda items: tuple(sorted(items))
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Draw valid policies from few values, so that they often overlap."""
    compose = draw(lists([b"\x0d" * 32, b"\x0e" * 32]))
    entries = tuple(draw(st.lists(ENTRIES, max_size=2)))
    statuses = draw(lists(["UpToDate", "SWHardeningNeeded", "OutOfDate"], min_size=1))
    return Policy(
        measurements=entries
        if compose
        else tuple(entry for entry in entries if entry.rtmr3 is not None),
        compose_hashes=compose,
        app_ids=draw(lists([b"\x0e" * 20, b"\x0f"])),
        key_providers=draw(lists(["kms", "kms:aa", "kms:bb", "tpm", "local-sgx:aa"])),
        td_attributes=draw(lists([bytes.fromhex("0000001000000000"), bytes(8)], min_size=1)),
        platform_ids=draw(lists([b"\x09" * 32, bytes(32)])),
        tcb_statuses=statuses,
        tcb_grace_s=draw(st.sampled_from([0, 101 * 86_400])),
        advisories=draw(lists(["INTEL-SA-00001", "INTEL-SA-00002"])),
        min_evaluation_number=draw(st.sampled_from([0, 19, 20])),
        max_age_s=draw(st.sampled_from([None, 5, 100])),
        receiver=draw(st.sampled_from(["attested", "signed"])),
        paths=draw(lists([PATH, PATH + "/x"])),
        in_person=draw(st.booleans()),
    )


def facts(world: Any) -> Any:
    """Draw evidence from the same few values."""
    return st.builds(
        lambda **changes: world.evidence(world.backend, **changes),
        mrtd=REGISTERS,
        rtmr3=REGISTERS,
        compose_hash=st.sampled_from([None, b"\x0d" * 32]),
        key_provider=st.sampled_from(
            [None, "kms:aa", "kms:cc", "tpm", "local-sgx:aa", "local-sgx"]
        ),
        tcb_status=st.sampled_from(["UpToDate", "SWHardeningNeeded", "OutOfDate", "Revoked"]),
        advisories=lists(["INTEL-SA-00001", "INTEL-SA-00003"]),
        receiver_mode=st.sampled_from(["attested", "signed"]),
        td_attributes=st.sampled_from([bytes.fromhex("0000001000000000"), bytes(8)]),
    )


# --- reading and writing --------------------------------------------------------------------------


@given(policies())
def test_reading_what_was_written_is_identity(policy: Policy) -> None:
    """A policy is parsed back unchanged, and equal policies have equal bytes."""
    assert parse_policy(json.loads(encode_policy(policy))) == policy
    assert parse_policy(policy_json(policy)) == policy


def test_every_member_is_read() -> None:
    """A policy with all members is written back unchanged."""
    assert policy_json(parse_policy(FULL)) == FULL


def test_the_empty_policy_takes_the_strict_defaults() -> None:
    """Absent members have the strict defaults, and the policy is not an allow-list."""
    policy = parse_policy({})
    assert policy == Policy()
    assert policy.tcb_statuses == ("UpToDate",)
    assert policy.receiver == "attested"
    assert policy.in_person is True
    assert policy.is_allow_list is False


def test_lists_are_sets() -> None:
    """Order and repetition in a list do not change a policy."""
    assert parse_policy({"advisories": ["b", "a", "b"]}) == parse_policy({"advisories": ["a", "b"]})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("measurements", []),
        ("measurements", {}),
        ("measurements", None),
        ("measurements", [1]),
        ("measurements", [{}]),
        ("measurements", [{name: REGISTER for name in TUPLE if name != "rtmr2"}]),
        ("measurements", [TUPLE | {"rtmr4": REGISTER}]),
        ("measurements", [TUPLE | {"rtmr3": None}]),
        ("measurements", [TUPLE | {"mrtd": REGISTER.upper()}]),
        ("measurements", [TUPLE | {"mrtd": REGISTER[:-2]}]),
        ("measurements", [TUPLE | {"mrtd": "zz" + REGISTER[2:]}]),
        ("measurements", [TUPLE | {"mrtd": REGISTER[:-3] + " ab"}]),
        ("measurements", [TUPLE] * 65),
        ("composeHashes", []),
        ("composeHashes", ["ab"]),
        ("appIds", [""]),
        ("appIds", ["00" * 65]),
        ("keyProviders", []),
        ("keyProviders", [1]),
        ("keyProviders", "kms"),
        ("keyProviders", ["none"]),
        ("keyProviders", ["none:aa"]),
        ("keyProviders", ["KMS"]),
        ("keyProviders", ["kms:"]),
        ("keyProviders", ["kms:AA"]),
        ("keyProviders", ["kms:a"]),
        ("keyProviders", ["kms: aa"]),
        ("keyProviders", ["kms:" + "aa" * 257]),
        ("keyProviders", ["local-sgx"]),
        ("keyProviders", ["vault:aa"]),
        ("keyProviders", [f"kms:{n:02x}" for n in range(17)]),
        ("tdAttributes", []),
        ("tdAttributes", [1]),
        ("platformIds", ["01" * 31]),
        ("tcbStatuses", []),
        ("tcbStatuses", ["Revoked"]),
        ("tcbStatuses", ["uptodate"]),
        ("tcbStatuses", ["OutOfDate"]),
        ("tcbGraceSeconds", -1),
        ("tcbGraceSeconds", 1.0),
        ("tcbGraceSeconds", True),
        ("tcbGraceSeconds", None),
        ("advisories", [""]),
        ("advisories", ["x" * 65]),
        ("advisories", ["é"]),
        ("advisories", "INTEL-SA-00615"),
        ("minEvaluationNumber", "19"),
        ("minEvaluationNumber", 2**31),
        ("maxAgeSeconds", 10**12),
        ("receiver", "any"),
        ("receiver", None),
        ("paths", []),
        ("paths", [1]),
        ("paths", ["no uri"]),
        ("paths", ["urn:x:y"]),
        ("paths", ["tinycloud:key:zOwner:secrets/kv"]),
        ("paths", ["tinycloud:key:zOwner:secrets/kv/"]),
        ("paths", ["tinycloud:key:zOwner:secrets/sql/x"]),
        ("paths", [PATH + "?q"]),
        ("paths", [PATH + "#f"]),
        ("paths", [f"{PATH}{n}" for n in range(33)]),
        ("inPerson", 1),
        ("inPerson", None),
        ("unknown", 1),
        ("measurement", [TUPLE]),
    ],
)
def test_malformed_policies(member: str, value: Any) -> None:
    """An unknown or malformed member rejects the policy."""
    with pytest.raises(PolicyError):
        parse_policy({member: value})


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_a_policy_is_an_object(value: Any) -> None:
    """A policy that is not an object is rejected."""
    with pytest.raises(PolicyError):
        parse_policy(value)


def test_a_compose_hash_needs_an_image() -> None:
    """Measurements without RTMR3 need compose hashes, which alone are not an allow-list."""
    base: dict[str, Json] = {name: REGISTER for name in TUPLE if name != "rtmr3"}
    with pytest.raises(PolicyError):
        parse_policy({"measurements": [base]})
    assert parse_policy({"measurements": [base], "composeHashes": ["cd" * 32]}).is_allow_list
    assert not parse_policy({"composeHashes": ["cd" * 32]}).is_allow_list


@pytest.mark.parametrize("member", ["tcb_statuses", "td_attributes"])
def test_a_policy_that_accepts_nothing_cannot_be_made(member: str) -> None:
    """Lists with a default cannot be empty."""
    emptied: dict[str, Any] = {member: ()}
    with pytest.raises(PolicyError):
        Policy(**emptied)


def test_a_policy_without_canonical_form() -> None:
    """A text that is not Unicode rejects the policy."""
    with pytest.raises(PolicyError):
        parse_policy({"advisories": ["\ud800"]})


def test_the_size_is_bounded() -> None:
    """A policy above the size limit is rejected."""
    with pytest.raises(PolicyError):
        parse_policy({"platformIds": ["01" * 32] * 1000})


@given(
    st.dictionaries(
        st.sampled_from([*FULL, "unknown"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(max_size=3)
            | st.sampled_from([REGISTER]),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from([*TUPLE]), inner, max_size=5)
            ),
            max_leaves=6,
        ),
        max_size=3,
    )
)
def test_any_object_is_a_policy_or_our_error(value: Any) -> None:
    """Any object is a policy or raises PolicyError."""
    try:
        policy = parse_policy(value)
    except PolicyError as exc:
        assert exc.text.startswith("invalid attestation policy: ")
    else:
        assert parse_policy(policy_json(policy)) == policy


# --- facts ----------------------------------------------------------------------------------------


def test_policies_are_found_among_facts() -> None:
    """Every fact with a policy counts, and other facts are ignored."""
    found = policies_of(
        [
            1,
            None,
            ATTESTATION_FACT,
            [ATTESTATION_FACT],
            {"other": [{"x": ATTESTATION_FACT}]},
            {ATTESTATION_FACT: {"maxAgeSeconds": 1}, "more": 2},
            {ATTESTATION_FACT: {"maxAgeSeconds": 2}},
        ]
    )
    assert [policy.max_age_s for policy in found] == [1, 2]
    assert policies_of([]) == ()


@pytest.mark.parametrize(
    "fact",
    [
        {ATTESTATION_FACT: {"unknown": 1}},
        {ATTESTATION_FACT: None},
        {"sealspace.attestation/v2": {}},
        {"sealspace.attestation/": {}},
        {"Sealspace.attestation/v1": {}},
        {"SEALSPACE.ATTESTATION/V1": {}},
        {"more": {ATTESTATION_FACT: {}}},
        {"more": [1, {"deeper": [{ATTESTATION_FACT.upper(): {}}]}]},
        [{ATTESTATION_FACT: {}}],
        [[{"more": {ATTESTATION_FACT: {}}}]],
    ],
)
def test_a_policy_that_is_not_understood_refuses(fact: Any) -> None:
    """Unknown members, versions, cases and places of policies are rejected (RL8)."""
    with pytest.raises(PolicyError):
        policies_of([{}, fact])


def test_policies_of_one_delegation_are_bounded() -> None:
    """A delegation with too many policies is rejected."""
    assert len(policies_of([{ATTESTATION_FACT: {}}] * MAX_POLICIES)) == MAX_POLICIES
    with pytest.raises(PolicyError):
        policies_of([{ATTESTATION_FACT: {}}] * (MAX_POLICIES + 1))


# --- judging --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "changes", "refusal"),
    [
        ({}, {}, None),
        ({}, {"expires_at": 1_795_000_000.0}, "evidence_expired"),
        ({}, {"attested_at": 1_795_000_060.0}, None),
        ({}, {"attested_at": 1_795_000_060.5}, "evidence_expired"),
        ({"compose_hashes": (b"\x0d" * 32,)}, {}, None),
        ({"compose_hashes": (bytes(32),)}, {}, "measurement"),
        ({"compose_hashes": (bytes(32),)}, {"compose_hash": None}, "measurement"),
        ({"app_ids": (b"\x0e" * 20,)}, {}, None),
        ({"app_ids": (b"\x0e" * 20,)}, {"app_id": None}, "measurement"),
        ({"key_providers": ("kms",)}, {}, None),
        ({"key_providers": ("kms:aa", "tpm")}, {}, None),
        ({"key_providers": ("kms:aa",)}, {"key_provider": "kms:bb"}, "key_provider"),
        ({"key_providers": ("kms:aa",)}, {"key_provider": "kms"}, "key_provider"),
        ({"key_providers": ("tpm",)}, {}, "key_provider"),
        ({"key_providers": ("kms",)}, {"key_provider": "local-sgx:aa"}, "key_provider"),
        ({"key_providers": ("local-sgx:aa",)}, {"key_provider": "local-sgx:aa"}, None),
        ({"key_providers": ("local-sgx:aa",)}, {"key_provider": "local-sgx"}, "key_provider"),
        ({"key_providers": ("kms",)}, {"key_provider": None}, "key_provider"),
        ({"td_attributes": (bytes(8),)}, {}, "attributes"),
        ({}, {"td_attributes": bytes.fromhex("0100001000000000")}, "attributes"),
        ({"platform_ids": (b"\x09" * 32,)}, {}, None),
        ({"platform_ids": (b"\x09" * 32,)}, {"platform_id_hash": None}, "platform"),
        ({"platform_ids": (bytes(32),)}, {}, "platform"),
        ({}, {"tcb_status": "SWHardeningNeeded"}, "tcb_status"),
        (
            {"tcb_statuses": ("SWHardeningNeeded", "UpToDate")},
            {"tcb_status": "SWHardeningNeeded"},
            None,
        ),
        ({"tcb_statuses": ("SWHardeningNeeded",)}, {}, "tcb_status"),
        ({}, {"tcb_status": "Revoked"}, "tcb_status"),
        ({}, {"tcb_status": ""}, "tcb_status"),
        (
            {"tcb_statuses": ("OutOfDate", "UpToDate"), "tcb_grace_s": 100 * 86_400},
            {"tcb_status": "OutOfDate"},
            None,
        ),
        (
            {"tcb_statuses": ("OutOfDate", "UpToDate"), "tcb_grace_s": 99 * 86_400},
            {"tcb_status": "OutOfDate"},
            "tcb_status",
        ),
        (
            {"tcb_statuses": ("OutOfDate", "UpToDate"), "tcb_grace_s": 1000 * 86_400},
            {"qe_status": "OutOfDate"},
            "tcb_status",
        ),
        ({}, {"advisories": ("INTEL-DOC-10000",)}, None),
        ({}, {"advisories": ("INTEL-DOC-10000", "INTEL-SA-00615")}, "advisory"),
        ({"advisories": ("INTEL-SA-00615",)}, {"advisories": ("INTEL-SA-00615",)}, None),
        ({"min_evaluation_number": 19}, {}, None),
        ({"min_evaluation_number": 20}, {}, "evaluation"),
        ({"max_age_s": 10}, {}, None),
        ({"max_age_s": 9}, {}, "age"),
        ({}, {"receiver_mode": "signed"}, "receiver"),
        ({"receiver": "signed"}, {"receiver_mode": "signed"}, None),
        ({"receiver": "signed"}, {}, None),
    ],
)
def test_one_demand_at_a_time(
    world: Any, policy: dict[str, Any], changes: dict[str, Any], refusal: str | None
) -> None:
    """Each requirement accepts its listed values and refuses all others with its own code."""
    assert judge(world.evidence(world.backend, **changes), Policy(**policy), world.now) == refusal


@pytest.mark.parametrize("register", ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"])
def test_measurements_are_one_tuple(world: Any, register: str) -> None:
    """Registers of two approved images cannot be mixed."""
    second = Measurements(
        mrtd=b"a" * 48, rtmr0=b"b" * 48, rtmr1=b"c" * 48, rtmr2=b"d" * 48, rtmr3=b"e" * 48
    )
    policy = Policy(measurements=(world.CODE, second))
    assert (
        judge(world.evidence(world.backend, **dataclasses.asdict(second)), policy, world.now)
        is None
    )
    mixed = world.evidence(world.backend, **{register: getattr(second, register)})
    assert judge(mixed, policy, world.now) == "measurement"


def test_an_image_with_a_compose_hash(world: Any) -> None:
    """A compose hash replaces RTMR3 on an approved image only."""
    policy = Policy(measurements=(replace(world.CODE, rtmr3=None),), compose_hashes=(b"\x0d" * 32,))
    assert judge(world.evidence(world.backend, rtmr3=bytes(48)), policy, world.now) is None
    assert judge(world.evidence(world.backend, rtmr2=bytes(48)), policy, world.now) == "measurement"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), inner=policies(), outer=policies())
def test_within_means_accepting_no_more(
    world: Any, data: st.DataObject, inner: Policy, outer: Policy
) -> None:
    """A policy within another accepts no evidence that the other refuses."""
    if inner.is_within(outer):
        evidence = data.draw(facts(world))
        assert (
            judge(evidence, inner, world.now) is not None
            or judge(evidence, outer, world.now) is None
        )


@given(policies(), policies(), policies())
def test_within_is_reflexive_and_transitive(one: Policy, two: Policy, three: Policy) -> None:
    """The comparison of policies is reflexive and transitive."""
    assert one.is_within(one)
    assert not (one.is_within(two) and two.is_within(three)) or one.is_within(three)
