"""Recorded answers of another node, compared with this package's verdicts.

Only decisions of this package are compared: whether a token decodes, verifies, is in time and is
supported by its chain. Each case sets up all that it needs, so a store in memory is enough.
Intended differences are listed with the rule that justifies them.
"""

import pytest
from capability_cases import World
from tests_support import json_lines, shared_vectors

from capabilities.capability_errors import CapabilityError, MalformedToken
from capabilities.chain import check_lifetime, judge_registration
from capabilities.tokens import (
    check_window,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)

UNREADABLE = "(page)"
PROBES = (
    "header",
    "cacao",
    "recap",
    "ucan",
    "uri",
    "ability",
    "delegate",
    "invoke",
    "revoke",
    "caps",
    "kv",
    "status",
)

# Rows of the quirk table on which the answers here differ from the recorded ones.
DEPARTURES = {
    "Q5": "authority is judged before anything that exists is told",
    "Q8": "a revocation names its target",
    "Q13": "an unknown proof is refused in words",
    "Q25": "one signature has one spelling that counts",
    "Q26": "a parent cited twice is refused in words",
    "Q28": "an expiry is a time",
    "Q33": "the algorithm fits the key",
    "Q35": "an array is no object",
}
OTHER_DEPARTURES = {
    "cacao.nonce-newline": "no control character in a signed field",
    "invoke.replay-after-400": "whether an option error comes first is not decided here",
    "invoke.caveat-equal": "I39: a condition that is not understood refuses the call",
    "invoke.caveat-added": "I39: a condition that is not understood refuses the call",
    "revoke.other-ability": "V1: a revocation revokes, and does nothing else",
    "caps.chain-bad-cid": "the parameters of a reading are not decided here",
}


class Node(World):
    """A store in memory that answers like the node's routes."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[bytes] = set()

    def delegate(self, header):
        unverified = parse_delegation(header)
        if unverified.content_key in self.marks:
            self.alias(unverified.cid, unverified.content_key)
            return
        delegation = verify_delegation(unverified)
        parents = [self.find(parent.digest) for parent in delegation.parents]
        self.put(judge_registration(delegation, parents, self.marks, now=self.now))

    def call(self, header):
        unverified = parse_invocation(header)
        check_window(unverified, self.now)
        invocation = verify_invocation(unverified)
        check_lifetime(invocation, self.now)
        if invocation.content_key in self.used:
            return "duplicate invocation"
        self.used.add(invocation.content_key)
        self.invoke(header)
        return None

    def answer(self, exchange):
        """Return the refusal, "" without one, or None for an exchange on another route."""
        headers = [
            value for name, value in exchange["request"]["headers"] if name == "authorization"
        ]
        route = {"/delegate": self.delegate, "/invoke": self.call, "/revoke": self.revoke}.get(
            exchange["request"]["path"]
        )
        if route is None or not headers or not isinstance(headers[0], str):
            return None
        self.now = exchange["at"]
        try:
            verdict = route(headers[0].strip(" "))
        except MalformedToken:
            return UNREADABLE
        except CapabilityError as error:
            return error.text
        return verdict if verdict == "duplicate invocation" else ""


def recorded(exchange):
    """Return the recorded refusal, or "" without one."""
    response = exchange["response"]
    text = (response["body"] or {}).get("utf8", "")
    if response["status"] not in (401, 403, 409):
        return ""
    return UNREADABLE if text.startswith(("<!DOCTYPE", "{")) else text


def differences(case):
    node = Node()
    found = []
    for exchange in [*case["setup"], case]:
        verdict = node.answer(exchange)
        if verdict is not None and verdict != recorded(exchange):
            found.append((recorded(exchange), verdict))
    return found


@pytest.mark.shared
def test_probes(record_property):
    """Every recorded probe has the recorded verdict, or is a listed difference."""
    unexplained, departed, count = {}, set(), 0
    for case in json_lines(shared_vectors("wire/probes.jsonl")):
        if not case["case"].startswith(tuple(f"{group}." for group in PROBES)):
            continue
        count += 1
        found = differences(case)
        if not found:
            continue
        if case["fault"] in DEPARTURES or case["case"] in OTHER_DEPARTURES:
            departed.add(case["case"])
        else:
            unexplained[case["case"]] = found
    record_property("cases", count)
    assert unexplained == {}
    assert count > 500
    assert set(OTHER_DEPARTURES) <= departed


@pytest.mark.shared
@pytest.mark.parametrize("scenario", ["delegation", "encryption", "sharing", "vault"])
def test_client_sessions(scenario):
    """Every request of the recorded client sessions has the recorded verdict."""
    node = Node()
    count = 0
    for exchange in json_lines(shared_vectors(f"wire/sdk-{scenario}.jsonl")):
        verdict = node.answer(exchange)
        if verdict is not None:
            count += 1
            if node.marks:  # a session may begin with a late call of the account before it
                assert recorded(exchange) == verdict, exchange["check"]
    assert count > 5
