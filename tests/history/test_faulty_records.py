"""Tests of the comparison of audit records and receipts with calls, by invented faulty records."""

import json
from collections.abc import Sequence

import pytest
from history.checker import Call, Did, Said
from history.faulty_records import Grant, Records, Sent, record_faults, token_hex
from running_node import key_token, new_key
from wire_replay import token_id

_KEY = new_key()
_TOKEN, _GRANT = (key_token(_KEY, _KEY.did, {f"urn:test:{name}": ["a/b"]}) for name in "tg")


def entry(action: str, *, token: str = _TOKEN, subject: str = "") -> bytes:
    """Return a line of the audit log."""
    return json.dumps(
        {"action": action, "token": token_hex(token), "subject": subject, "detail": ""}
    ).encode()


def call(did: Did, said: Said) -> Call:
    return Call(did, said, asked_at=0, answered_at=1, token=1)


def found(
    entries: Sequence[bytes], calls: Sequence[Call], revocations: Sequence[Call] = ()
) -> list[str]:
    """Compare entries with the calls of one token, and with the revocations of a grant."""
    registered = entry("delegation.registered", subject=token_id(_GRANT))
    records = Records(entries=[registered, *entries], receipts=[])
    grant = Grant(token=_GRANT, revocations=revocations)
    return record_faults(records, [Sent(token=_TOKEN, calls=calls)] if calls else [], [grant])


PUT = entry("kv.put")
REVOKED = entry("delegation.revoked", subject=token_id(_GRANT))
FAULTY = {
    "an acknowledged write is not in the log": ([], Did.PUT, [Said.DONE]),
    "an acknowledged write is there twice": ([PUT, PUT], Did.PUT, [Said.DONE]),
    "a write that was sent twice is there twice": (
        [PUT, PUT],
        Did.PUT,
        [Said.DONE, Said.USED_BEFORE],
    ),
    "an unknown write is there twice": ([PUT, PUT], Did.PUT, [Said.UNKNOWN]),
    "a refused write is there": ([PUT], Did.PUT, [Said.NOT_ALLOWED]),
    "a write without space is there": ([PUT], Did.PUT, [Said.TURNED_AWAY]),
    "an acknowledged release is not there": ([], Did.DECRYPT, [Said.DONE]),
    "an acknowledged delete is there as another action": ([PUT], Did.DELETE, [Said.DONE]),
}
SOUND = {
    "an acknowledged write": ([PUT], Did.PUT, [Said.DONE]),
    "an unknown write that happened": ([PUT], Did.PUT, [Said.UNKNOWN, Said.USED_BEFORE]),
    "an unknown write that did not happen": ([], Did.PUT, [Said.UNKNOWN]),
    "a refused write": ([], Did.PUT, [Said.CONDITION_FAILED]),
    "a read": ([], Did.GET, [Said.DONE]),
}


@pytest.mark.parametrize(("entries", "did", "answers"), FAULTY.values(), ids=FAULTY.keys())
def test_faulty_records_are_found(entries: list[bytes], did: Did, answers: list[Said]) -> None:
    """A record that is missing, repeated or unexpected is reported."""
    assert len(found(entries, [call(did, said) for said in answers])) == 1


@pytest.mark.parametrize(("entries", "did", "answers"), SOUND.values(), ids=SOUND.keys())
def test_sound_records_pass(entries: list[bytes], did: Did, answers: list[Said]) -> None:
    """Records that fit the calls are not reported."""
    assert found(entries, [call(did, said) for said in answers]) == []


@pytest.mark.parametrize(
    ("entries", "said", "number"),
    [
        ([REVOKED], Said.DONE, 0),
        ([], Said.DONE, 1),
        ([REVOKED, REVOKED], Said.DONE, 1),
        ([REVOKED], Said.UNKNOWN, 0),
        ([REVOKED], Said.TURNED_AWAY, 1),
    ],
)
def test_revocations_are_there_once(entries: list[bytes], said: Said, number: int) -> None:
    """An acknowledged revocation is in the audit log once, a refused one is not."""
    assert len(found(entries, [], [call(Did.REVOKE, said)])) == number


def test_a_registration_is_there_once() -> None:
    """A grant without its registration in the audit log is reported."""
    records = Records(entries=[], receipts=[])
    assert len(record_faults(records, [], [Grant(token=_GRANT, revocations=[])])) == 1


def test_a_receipt_that_the_log_names_is_there() -> None:
    """A release whose receipt is missing is reported."""
    detail = json.dumps({"receipt": "ab" * 32}, separators=(",", ":")).encode().hex()
    line = json.dumps(
        {"action": "release.authorised", "token": "", "subject": "", "detail": detail}
    ).encode()
    records = Records(entries=[line], receipts=[])
    assert record_faults(records, [], []) == [
        f"the receipt {'ab' * 32} of the audit log is missing"
    ]


def test_findings_of_the_check_are_reported() -> None:
    """What `admin check` finds is a fault."""
    assert record_faults(Records(entries=[], receipts=[], findings=["damaged"]), [], []) == [
        "damaged"
    ]
