"""Rules IP2 and J4: which messages of a wallet are sign-ins."""

from typing import Any

import pytest
from capability_cases import KV, OWNER, SESSION, SESSION_SPACE, SPACE, base58, cacao, ucan

from capabilities.abilities import CAPABILITIES_READ
from capabilities.cids import cid_text, digest_of
from capabilities.facts import MACHINE_URN, statement_resource
from capabilities.sign_ins import MAX_AHEAD_S, MAX_LIFE_S, is_issued, is_session, is_sign_in
from capabilities.siwe import parse_rfc3339
from capabilities.tokens import Delegation, parse_delegation, verify_delegation

ISSUED = "2026-01-02T03:04:05.000Z"
ISSUED_AT = parse_rfc3339(ISSUED)
LAST = "2026-02-01T03:04:05.000Z"
"""Thirty days later."""
READS = {f"{SPACE}/capabilities/all": [CAPABILITIES_READ]}
PARENT = base58(cid_text(digest_of(b"another delegation")))

OTHERS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "a sign-in for thirty days": ({}, True, True),
    "a second longer": ({"expiration_time": "2026-02-01T03:04:06.000Z"}, False, False),
    "without an end": ({"expiration_time": None}, False, False),
    "to the DID as given": ({"uri": SESSION.did}, False, False),
    "to another fragment of the DID": ({"uri": f"{SESSION.did}#key-1"}, False, False),
    "to an account's DID URL": ({"uri": f"{OWNER.did}#{OWNER.did[8:]}"}, False, False),
    "with a policy": ({"resources": (statement_resource({}),)}, False, False),
    "with the statement of a machine token": (
        {"resources": (statement_resource({}, urn=MACHINE_URN),)},
        False,
        False,
    ),
    "with another resource": ({"resources": ("urn:example:1",)}, True, True),
    "that cites a parent": ({"prf": [PARENT]}, False, False),
    "that reads no capabilities": ({"att": {KV: ["tinycloud.kv/get"]}}, True, False),
    "that grants nothing": ({"att": None}, True, False),
    "that reads another's capabilities": (
        {"att": {f"{SESSION_SPACE}/capabilities/all": [CAPABILITIES_READ]}},
        True,
        False,
    ),
    "that reads capabilities of no space": (
        {"att": {"urn:example:1": [CAPABILITIES_READ]}},
        True,
        False,
    ),
    "that reads its own space's among others": (
        {"att": {f"{SESSION_SPACE}/capabilities/all": [CAPABILITIES_READ], **READS}},
        True,
        True,
    ),
}
"""Changes -> whether the message is a sign-in, and whether it is a session."""


def signed(**changes: Any) -> Delegation:
    """Return a sign-in to the session's key for thirty days, with the given changes."""
    given: dict[str, Any] = {"att": READS, "issued_at": ISSUED, "expiration_time": LAST} | changes
    return verify_delegation(parse_delegation(cacao(**given)))


@pytest.mark.parametrize(("changes", "signs_in", "opens"), OTHERS.values(), ids=OTHERS)
def test_IP2_what_signs_a_key_in(changes: dict[str, Any], signs_in: bool, opens: bool) -> None:
    """Each property of a sign-in is required."""
    delegation = signed(**changes)
    assert signs_in is is_sign_in(delegation, registered_at=ISSUED_AT)
    assert opens is is_session(delegation, registered_at=ISSUED_AT)


def test_IP2_a_key_s_own_grant_signs_nobody_in() -> None:
    """A UCAN with the same contents is not a sign-in, because only wallets sign in."""
    token = ucan(
        SESSION,
        SESSION.did,
        {f"{SESSION_SPACE}/capabilities/all": [CAPABILITIES_READ]},
        exp=ISSUED_AT + 60,
    )
    delegation = verify_delegation(parse_delegation(token))
    assert not is_sign_in(delegation, registered_at=ISSUED_AT)
    assert not is_issued(delegation, now=ISSUED_AT)


@pytest.mark.parametrize(
    ("late_s", "expected"), [(-86_400, False), (-0.001, False), (0, True), (10 * 86_400, True)]
)
def test_IP2_registration_bounds_the_life_too(late_s: float, expected: bool) -> None:
    """An early issue time or a late registration does not extend a sign-in's life."""
    assert expected is is_sign_in(signed(), registered_at=ISSUED_AT + late_s)
    longer = signed(expiration_time="2026-02-01T03:04:06.000Z")
    assert not is_sign_in(longer, registered_at=ISSUED_AT + late_s)


@pytest.mark.parametrize(
    ("ahead_s", "expected"), [(0, True), (MAX_AHEAD_S, True), (MAX_AHEAD_S + 0.001, False)]
)
def test_IP2_time_of_issue_is_at_most_five_minutes_ahead(ahead_s: float, expected: bool) -> None:
    """A message may be dated at most five minutes ahead."""
    assert expected is is_issued(signed(), now=ISSUED_AT - ahead_s)


def test_IP2_the_bounds() -> None:
    """The limits are thirty days and five minutes."""
    assert MAX_LIFE_S == 30 * 24 * 3600
    assert MAX_AHEAD_S == 300
