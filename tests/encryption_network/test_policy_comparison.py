"""Tests of the comparison of two policies, one member at a time."""

from dataclasses import replace
from typing import Any

import pytest

from encryption_network.policy import Measurements, Policy

IMAGE = Measurements(
    mrtd=b"\x51" * 48,
    rtmr0=b"\x52" * 48,
    rtmr1=b"\x53" * 48,
    rtmr2=b"\x54" * 48,
    rtmr3=b"\x55" * 48,
)
OTHER_IMAGE = replace(IMAGE, mrtd=b"\x61" * 48)
ANY_APPLICATION = replace(IMAGE, rtmr3=None)
PATH = "tinycloud:key:zOwner:secrets/kv/one"
OTHER_PATH = "tinycloud:key:zOwner:secrets/kv/two"
ATTRIBUTES, OTHER_ATTRIBUTES = bytes.fromhex("0000001000000000"), bytes(8)
OUTDATED: dict[str, Any] = {"tcb_statuses": ("OutOfDate", "UpToDate")}


@pytest.mark.parametrize("register", ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"])
@pytest.mark.parametrize("value", [bytes(48), b"\xff" * 48], ids=["less", "greater"])
def test_RL10_each_register_has_to_be_equal(register: str, value: bytes) -> None:
    """Measurements match no code of which one register differs (RL10)."""
    other = replace(IMAGE, **{register: value})
    assert IMAGE.covers(IMAGE)
    assert not IMAGE.covers(other)
    if register != "rtmr3":
        assert not ANY_APPLICATION.covers(other)


def test_RL10_measurements_without_rtmr3_match_any() -> None:
    """Measurements without RTMR3 match each RTMR3, and not the other way round (RL10)."""
    assert ANY_APPLICATION.covers(IMAGE)
    assert not IMAGE.covers(ANY_APPLICATION)


def test_RL10_measurements_of_evidence(world: Any) -> None:
    """The measurements of evidence are its five registers, and match it (RL10)."""
    evidence = world.evidence(world.backend)
    assert evidence.measurements == world.CODE
    assert world.CODE.covers(evidence)


@pytest.mark.parametrize(
    ("narrower", "wider"),
    [
        ({"measurements": (IMAGE,)}, {}),
        ({"measurements": (IMAGE,)}, {"measurements": (OTHER_IMAGE, IMAGE)}),
        (
            {"measurements": (IMAGE,), "compose_hashes": (bytes(32),)},
            {"measurements": (ANY_APPLICATION,), "compose_hashes": (bytes(32),)},
        ),
        ({"compose_hashes": (bytes(32),)}, {}),
        ({"compose_hashes": (bytes(32),)}, {"compose_hashes": (b"\1" * 32, bytes(32))}),
        ({"app_ids": (b"\1",)}, {}),
        ({"app_ids": (b"\1",)}, {"app_ids": (b"\2", b"\1")}),
        ({"key_providers": ("kms",)}, {}),
        ({"key_providers": ("kms",)}, {"key_providers": ("tpm", "kms")}),
        ({"key_providers": ("kms:aa",)}, {"key_providers": ("kms",)}),
        ({"platform_ids": (bytes(32),)}, {}),
        ({"platform_ids": (bytes(32),)}, {"platform_ids": (b"\1" * 32, bytes(32))}),
        ({"paths": (PATH,)}, {}),
        ({"paths": (PATH,)}, {"paths": (OTHER_PATH, PATH)}),
        ({}, {"td_attributes": (OTHER_ATTRIBUTES, ATTRIBUTES)}),
        ({}, {"tcb_statuses": ("SWHardeningNeeded", "UpToDate")}),
        ({}, {"advisories": ("INTEL-SA-00001",)}),
        ({"max_age_s": 0}, {}),
        ({"max_age_s": 5}, {"max_age_s": 6}),
        ({}, {"tcb_grace_s": 1}),
        ({"tcb_grace_s": 0}, {"tcb_grace_s": 1}),
        (OUTDATED | {"tcb_grace_s": 5}, OUTDATED | {"tcb_grace_s": 6}),
        ({"min_evaluation_number": 1}, {}),
        ({"min_evaluation_number": 20}, {"min_evaluation_number": 19}),
        ({}, {"receiver": "signed"}),
        ({"in_person": False}, {}),
    ],
)
def test_RL16_one_member_makes_a_policy_wider(
    narrower: dict[str, Any], wider: dict[str, Any]
) -> None:
    """A policy that is wider in one member is not within the narrower one (RL16)."""
    inner, outer = Policy(**narrower), Policy(**wider)
    assert inner.is_within(outer)
    assert not outer.is_within(inner)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"measurements": (IMAGE,)}, {"measurements": (OTHER_IMAGE,)}),
        ({"compose_hashes": (bytes(32),)}, {"compose_hashes": (b"\1" * 32,)}),
        ({"app_ids": (b"\1",)}, {"app_ids": (b"\2",)}),
        ({"key_providers": ("kms:aa",)}, {"key_providers": ("kms:bb",)}),
        ({"platform_ids": (bytes(32),)}, {"platform_ids": (b"\1" * 32,)}),
        ({"paths": (PATH,)}, {"paths": (OTHER_PATH,)}),
        ({"td_attributes": (ATTRIBUTES,)}, {"td_attributes": (OTHER_ATTRIBUTES,)}),
        ({"tcb_statuses": ("UpToDate",)}, {"tcb_statuses": ("SWHardeningNeeded",)}),
        ({"advisories": ("INTEL-SA-00001",)}, {"advisories": ("INTEL-SA-00002",)}),
        ({"max_age_s": 5}, {"advisories": ("INTEL-SA-00001",), "max_age_s": 4}),
    ],
)
def test_RL16_policies_that_differ_are_not_within_each_other(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Lists without a common entry are not within each other (RL16)."""
    assert not Policy(**one).is_within(Policy(**other))
    assert not Policy(**other).is_within(Policy(**one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"tcb_grace_s": 0}, {}),
        ({"receiver": "signed"}, {"receiver": "signed"}),
        ({"in_person": False}, {"in_person": False}),
        ({"max_age_s": 5}, {"max_age_s": 5}),
        ({"key_providers": ("kms", "kms:aa")}, {"key_providers": ("kms",)}),
    ],
)
def test_RL16_policies_that_mean_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Policies that accept the same are within each other (RL16)."""
    assert Policy(**one).is_within(Policy(**other))
    assert Policy(**other).is_within(Policy(**one))
