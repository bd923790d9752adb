"""Tests of the checker of histories, with invented correct and faulty histories."""

import itertools
import random

import pytest
from history.checker import Call, Did, Expected, Said, faults

LIMIT = 100
NO_ORDER = "no order of the calls explains the answers"
_TOKENS = itertools.count()


def call(
    did: Did, asked_at: float, answered_at: float, said: Said = Said.DONE, **more: object
) -> Call:
    more.setdefault("token", next(_TOKENS))
    return Call(did, said, asked_at, answered_at, **more)  # type: ignore[arg-type]  # by name


def put(
    asked_at: float, answered_at: float, value: str, said: Said = Said.DONE, **more: object
) -> Call:
    more.setdefault("size_bytes", 10)
    return call(Did.PUT, asked_at, answered_at, said, key=more.pop("key", "a"), value=value, **more)


def get(asked_at: float, answered_at: float, value: str | None, **more: object) -> Call:
    said = Said.NOTHING_THERE if value is None else Said.DONE
    return call(Did.GET, asked_at, answered_at, said, key=more.pop("key", "a"), value=value, **more)


def owned(asked_at: float, answered_at: float, value: str | None) -> Call:
    """A read that does not need the grant."""
    return get(asked_at, answered_at, value, under_grant=False)


def put_over(
    asked_at: float, answered_at: float, value: str, former: str | None, said: Said = Said.DONE
) -> Call:
    """A conditional write over a former value, or over nothing."""
    return put(asked_at, answered_at, value, said, expected=Expected(former))


def revoke(asked_at: float, answered_at: float, said: Said = Said.DONE) -> Call:
    return call(Did.REVOKE, asked_at, answered_at, said)


SOUND = {
    "conditional writes in a row": [
        put_over(0, 1, "1", None),
        put_over(2, 3, "2", "1"),
        get(4, 5, "2"),
    ],
    "one of two conditional writes beside each other": [
        put_over(0, 9, "1", None),
        put_over(0, 9, "2", None, Said.CONDITION_FAILED),
        get(10, 11, "1"),
    ],
    "an unknown conditional write that did not happen": [
        put(0, 1, "1"),
        put_over(2, 3, "2", "7", Said.UNKNOWN),
        get(4, 5, "1"),
    ],
    "a full disk": [
        put(0, 1, "1", Said.TURNED_AWAY),
        revoke(2, 3, Said.TURNED_AWAY),
        put(4, 5, "2"),
        get(6, 7, "2"),
    ],
    "nothing happened": [],
    "a read sees what was put before": [put(0, 1, "1"), get(2, 3, "1")],
    "a read beside a put sees either": [
        put(0, 9, "1"),
        get(1, 2, None),
        get(3, 4, "1"),
        get(5, 6, "1"),
    ],
    "a put beside the revocation is written": [put(0, 5, "1"), revoke(1, 4), owned(6, 7, "1")],
    "a put beside the revocation is refused": [
        put(0, 5, "1", Said.NOT_ALLOWED),
        revoke(1, 4),
        owned(6, 7, None),
    ],
    "a refusal before the acknowledgement": [
        revoke(0, 9),
        get(1, 2, None),
        put(3, 4, "1", Said.NOT_ALLOWED),
    ],
    "an unknown put that happened": [put(0, 1, "1", Said.UNKNOWN), get(2, 3, None), get(4, 5, "1")],
    "an unknown put that did not": [put(0, 1, "1", Said.UNKNOWN), get(2, 3, None), get(4, 5, None)],
    "an unknown revocation": [
        revoke(0, 1, Said.UNKNOWN),
        put(2, 3, "1"),
        put(4, 5, "2", Said.NOT_ALLOWED),
    ],
    "a delete": [put(0, 1, "1"), call(Did.DELETE, 2, 3, key="a"), get(4, 5, None)],
    "a token sent twice": [put(0, 9, "1", token=-1), put(1, 8, "1", Said.USED_BEFORE, token=-1)],
    "no room": [
        put(0, 1, "1", size_bytes=60),
        put(2, 3, "2", Said.NO_FREE_SPACE, key="b", size_bytes=60),
    ],
    "room after a delete": [
        put(0, 1, "1", size_bytes=60),
        call(Did.DELETE, 2, 3, key="a"),
        put(4, 5, "2", key="b", size_bytes=60),
    ],
    "a smaller value over a larger one": [
        put(0, 1, "1", size_bytes=100),
        put(2, 3, "2", size_bytes=90),
    ],
    "decrypt while it stands": [
        call(Did.DECRYPT, 0, 1),
        revoke(2, 3),
        call(Did.DECRYPT, 4, 5, Said.NOT_ALLOWED),
    ],
}

UNSOUND = {
    "two conditional writes over one value": [
        put(0, 1, "0"),
        put_over(2, 9, "1", "0"),
        put_over(2, 9, "2", "0"),
    ],
    "two creations": [put_over(0, 9, "1", None), put_over(0, 9, "2", None)],
    "a conditional write over a value that was replaced": [
        put(0, 1, "1"),
        put(2, 3, "2"),
        put_over(4, 5, "3", "1"),
    ],
    "a condition that failed without a reason": [
        put(0, 1, "1"),
        put_over(2, 3, "2", "1", Said.CONDITION_FAILED),
    ],
    "an unknown conditional write that happened over another value": [
        put(0, 1, "1"),
        put_over(2, 3, "2", "7", Said.UNKNOWN),
        get(4, 5, "2"),
    ],
    "a write that a full disk refused happened": [
        put(0, 1, "1", Said.TURNED_AWAY),
        get(2, 3, "1"),
    ],
    "a lost write after a restart": [
        put(0, 1, "1"),
        put(2, 3, "2", Said.UNKNOWN),
        get(4, 5, None),
    ],
    "a conditional write judged after the revocation": [
        revoke(0, 1),
        put_over(2, 3, "2", "1", Said.CONDITION_FAILED),
    ],
    "a put after the revocation": [revoke(0, 1), put(2, 3, "1")],
    "a decrypt after the revocation": [revoke(0, 1), call(Did.DECRYPT, 2, 3)],
    "a read after the revocation": [revoke(0, 1), get(2, 3, None)],
    "a put that shows only after the revocation": [
        put(0, 9, "1"),
        revoke(1, 2),
        owned(3, 4, None),
        owned(10, 11, "1"),
    ],
    "a lost write": [put(0, 1, "1"), get(2, 3, None)],
    "a write lost under another one": [put(0, 1, "1"), put(2, 3, "2"), get(4, 5, "1")],
    "a stale read": [put(0, 1, "1"), put(2, 9, "2"), get(3, 4, "2"), get(5, 6, "1")],
    "reads in two orders": [
        put(0, 9, "1"),
        put(0, 9, "2"),
        get(1, 2, "1"),
        get(3, 4, "2"),
        get(5, 6, "1"),
    ],
    "a value from nowhere": [get(0, 1, "7")],
    "a value of another key": [put(0, 1, "1", key="b"), get(2, 3, "1")],
    "a refused write that happened": [
        revoke(0, 1),
        put(2, 3, "1", Said.NOT_ALLOWED),
        owned(4, 5, "1"),
    ],
    "a refusal without a revocation": [put(0, 1, "1", Said.NOT_ALLOWED)],
    "a refusal before the revocation was sent": [put(0, 1, "1", Said.NOT_ALLOWED), revoke(2, 3)],
    "allowed once more after a refusal": [
        revoke(0, 9),
        put(1, 2, "1", Said.NOT_ALLOWED),
        put(3, 4, "2"),
    ],
    "a token used twice": [put(0, 1, "1", token=-1), put(2, 3, "1", token=-1)],
    "a token used twice for nothing": [get(0, 1, None, token=-1), get(0, 1, None, token=-1)],
    "an unused token refused as used": [put(0, 1, "1", Said.USED_BEFORE, token=-1)],
    "over the limit": [put(0, 1, "1", size_bytes=60), put(2, 3, "2", key="b", size_bytes=60)],
    "over the limit at one moment": [
        put(0, 9, "1", size_bytes=60),
        put(0, 9, "2", key="b", size_bytes=60),
    ],
    "no room in an empty space": [put(0, 1, "1", Said.NO_FREE_SPACE, size_bytes=60)],
    "an unknown put after the revocation that shows": [
        revoke(0, 1),
        put(2, 3, "1", Said.UNKNOWN),
        owned(4, 5, "1"),
    ],
}


@pytest.mark.parametrize("history", SOUND.values(), ids=SOUND.keys())
def test_what_is_right_passes(history: list[Call]) -> None:
    """The checker finds no fault in a history that some order of the calls explains."""
    for at in range(5):
        shuffled = random.Random(at).sample(history, len(history))
        assert faults(shuffled, limit_bytes=LIMIT) == []


@pytest.mark.parametrize("history", UNSOUND.values(), ids=UNSOUND.keys())
def test_what_is_wrong_is_found(history: list[Call]) -> None:
    """The checker finds a fault in a history that breaks one promise."""
    for at in range(5):
        shuffled = random.Random(at).sample(history, len(history))
        assert faults(shuffled, limit_bytes=LIMIT) != []


def test_faults_are_named() -> None:
    """The checker names late effects, reused tokens and invented values."""
    assert (
        "PUT was allowed after the revocation"
        in faults(UNSOUND["a put after the revocation"], limit_bytes=LIMIT)[0]
    )
    assert "used twice" in faults(UNSOUND["a token used twice"], limit_bytes=LIMIT)[0]
    assert "never put" in faults(UNSOUND["a value from nowhere"], limit_bytes=LIMIT)[0]
    assert faults(UNSOUND["a lost write"], limit_bytes=LIMIT) == [NO_ORDER]


def test_slack_of_a_limit() -> None:
    """The checker allows a limit to be exceeded by its stated slack only."""
    history = UNSOUND["over the limit"]
    assert faults(history, limit_bytes=LIMIT, slack_bytes=20) == []
    assert faults(history, limit_bytes=LIMIT, slack_bytes=19) == [NO_ORDER]


def test_many_calls_at_once() -> None:
    """The checker judges ten concurrent calls without trying every order."""
    history = [put(0, 99, str(at)) for at in range(8)] + [get(100, 101, "3"), get(102, 103, "3")]
    assert faults(history, limit_bytes=LIMIT) == []
    assert faults([*history, get(104, 105, "4")], limit_bytes=LIMIT) == [NO_ORDER]
