"""Tests of stored rows: the release record and evidence."""

from dataclasses import fields, replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capabilities.cache import MAX_MEMOIZED
from encryption_network.canonical_json import canonical_bytes
from encryption_network.key_providers import is_accepted
from encryption_network.network_errors import RecordError
from encryption_network.policy import Measurements, Policy, decode_evidence, encode_evidence
from encryption_network.release_record import (
    ReleaseRecord,
    decode_release_record,
    encode_release_record,
)

CODE = Measurements(
    mrtd=bytes(48), rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48), rtmr3=bytes(48)
)
LIST = Policy(measurements=(CODE,))
LONG_LIST = Policy(platform_ids=tuple(bytes([n]) * 32 for n in range(100)))
RECORDS = st.builds(
    ReleaseRecord,
    mode=st.sampled_from(["delegates", "everyone", "off"]),
    trust_roots=st.lists(st.sampled_from([b"\x01" * 32, b"\x02" * 32]), unique=True).map(tuple),
    node_policy=st.sampled_from(
        [None, Policy(), LIST, replace(LIST, max_age_s=5), Policy(in_person=False)]
    ),
    node_policy_suffices=st.booleans(),
    key_providers=st.lists(
        st.sampled_from(["kms", "kms:aa", "kms:bb", "tpm", "local-sgx:aa"]), max_size=3
    ).map(tuple),
)


@given(RECORDS)
def test_a_release_record_survives_the_store(record: ReleaseRecord) -> None:
    """A release record is decoded unchanged."""
    assert decode_release_record(encode_release_record(record)) == record


def test_readers_remember_short_rows_and_no_errors() -> None:
    """Results for short rows are cached; long rows and errors are not."""
    short, long = (
        encode_release_record(ReleaseRecord(node_policy=policy)) for policy in (LIST, LONG_LIST)
    )
    assert len(short) <= MAX_MEMOIZED < len(long)
    assert decode_release_record(short) is decode_release_record(bytes(bytearray(short)))
    one, two = decode_release_record(long), decode_release_record(long)
    assert one == two and one is not two
    for _ in range(2):
        with pytest.raises(RecordError):
            decode_release_record(b"{}")


@given(RECORDS, RECORDS)
def test_looser_is_never_mutual_without_a_difference(
    one: ReleaseRecord, two: ReleaseRecord
) -> None:
    """Of two records with different requirements at least one is looser than the other."""
    assert not one.is_looser_than(one)
    if not one.is_looser_than(two) and not two.is_looser_than(one):
        assert one.mode == two.mode
        assert set(one.trust_roots) == set(two.trust_roots)
        assert one.node_policy_suffices == two.node_policy_suffices
        for provider in ("kms:aa", "kms:bb", "kms:cc", "tpm", "local-sgx:aa"):
            assert is_accepted(provider, one.key_providers) == is_accepted(
                provider, two.key_providers
            )


BASE = ReleaseRecord(trust_roots=(b"\x01" * 32,), node_policy=LIST)


@pytest.mark.parametrize(
    ("changes", "looser"),
    [
        ({}, False),
        ({"mode": "everyone"}, False),
        ({"mode": "off"}, True),
        ({"trust_roots": ()}, False),
        ({"trust_roots": (b"\x01" * 32, b"\x02" * 32)}, True),
        ({"node_policy": None}, True),
        ({"node_policy": replace(LIST, max_age_s=5)}, False),
        ({"node_policy": Policy()}, True),
        ({"node_policy": replace(LIST, advisories=("INTEL-SA-00001",))}, True),
        ({"node_policy": replace(LIST, receiver="signed")}, True),
        ({"node_policy_suffices": True}, True),
        ({"key_providers": ("kms", "tpm", "local-sgx:aa")}, True),
        ({"key_providers": ("kms:aa",)}, False),
        ({"key_providers": ()}, False),
    ],
)
def test_what_is_looser(changes: dict[str, Any], looser: bool) -> None:
    """Weaker modes, more roots, wider policies and a sufficient node policy are looser."""
    assert replace(BASE, **changes).is_looser_than(BASE) is looser


def test_a_first_list_that_suffices_is_looser() -> None:
    """Adding a list to a sufficient node policy is looser, because it allows releases."""
    before = ReleaseRecord(node_policy=Policy(), node_policy_suffices=True)
    assert replace(before, node_policy=LIST).is_looser_than(before)
    assert not before.replaces_owner_list


def row_of(**changes: Any) -> bytes:
    """Return a stored release record with members replaced."""
    import json

    return canonical_bytes(json.loads(encode_release_record(BASE)) | changes)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{}",
        row_of(v=2),
        row_of(mode="mock"),
        row_of(mode=None),
        row_of(trustRoots=None),
        row_of(trustRoots=["zz"]),
        row_of(trustRoots=["00"]),
        row_of(trustRoots=[1]),
        row_of(trustRoots=["00" * 32] * 17),
        row_of(nodePolicy={"unknown": 1}),
        row_of(nodePolicySuffices=1),
        row_of(more=1),
        row_of(keyProviders=None),
        row_of(keyProviders="kms"),
        row_of(keyProviders=[1]),
        row_of(keyProviders=["none"]),
        row_of(keyProviders=["local-sgx"]),
        row_of(keyProviders=["kms"] * 17),
        b" " * 40_000,
    ],
)
def test_release_records_of_another_shape(value: bytes) -> None:
    """A malformed record raises an error and never means the defaults."""
    with pytest.raises(RecordError):
        decode_release_record(value)


def test_a_record_of_before_key_providers() -> None:
    """An old record without key providers accepts the default ones (RL16)."""
    import json

    row = json.loads(encode_release_record(replace(BASE, key_providers=())))
    del row["keyProviders"]
    assert decode_release_record(canonical_bytes(row)) == replace(
        BASE, key_providers=("kms", "tpm")
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_no_row(data: bytes) -> None:
    """Any other bytes raise RecordError."""
    for decode in (decode_release_record, decode_evidence):
        with pytest.raises(RecordError):
            decode(data)


def test_evidence_survives_the_store(world: Any) -> None:
    """Evidence is decoded unchanged, with and without optional digests."""
    for changes in (
        {},
        {"platform_id_hash": None, "compose_hash": None, "app_id": None, "advisories": ("a", "b")},
    ):
        evidence = world.evidence(world.backend, **changes)
        assert decode_evidence(encode_evidence(evidence)) == evidence


def test_evidence_with_a_field_of_another_length(world: Any) -> None:
    """A field of the wrong length rejects the row."""
    evidence = world.evidence(world.backend)
    for field in fields(evidence):
        value = getattr(evidence, field.name)
        if isinstance(value, bytes) and field.name != "app_id":
            with pytest.raises(RecordError):
                decode_evidence(encode_evidence(replace(evidence, **{field.name: value + b"x"})))


def test_evidence_of_another_version_or_size(world: Any) -> None:
    """A row of another version or above the size limit is rejected."""
    row = msgspec.msgpack.decode(encode_evidence(world.evidence(world.backend)))
    with pytest.raises(RecordError):
        decode_evidence(msgspec.msgpack.encode([2, *row[1:]]))
    with pytest.raises(RecordError):
        decode_evidence(bytes(16_385))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 5000), byte=st.integers(0, 255))
def test_damaged_evidence_is_evidence_or_our_error(world: Any, position: int, byte: int) -> None:
    """Damaged evidence is decoded or raises RecordError."""
    data = bytearray(encode_evidence(world.evidence(world.backend)))
    data[position % len(data)] = byte
    try:
        decode_evidence(bytes(data))
    except RecordError as exc:
        assert exc.code == "invalid-record"
