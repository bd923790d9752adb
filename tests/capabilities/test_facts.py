"""Tests of what facts mean, each directly."""

import pytest

from capabilities.facts import policy_profile_refusal


@pytest.mark.parametrize("role", ["policy-authority", "policy-enforcement"])
def test_3_8_a_role_with_a_member_is_a_policy_root(role: str) -> None:
    """A role alone is an ordinary fact, and a single member beside it makes a policy root."""
    assert policy_profile_refusal(({"role": role},)) is None
    assert policy_profile_refusal(({"role": role, "x": 1},)) == "policy-root-requires-registration"
