"""Event logs: strict parsing, digests of both versions, replay."""

import hashlib
import json
from typing import Any

import pytest
from deviating_log import LogOptions, mint_event_log, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from capabilities.strict_json import Json
from tee_backend.attestation.attestation_errors import AttestationError, QuoteRefused
from tee_backend.attestation.event_log import (
    MAX_ENTRIES,
    MAX_LOG_BYTES,
    MAX_PAYLOAD_BYTES,
    EventVersion,
    event_digest,
    event_preimage,
    parse_event_log,
    read_event_log,
    replay,
    runtime_entries,
)

COMPOSE = bytes(range(32))
RUNTIME: dict[str, Json] = {
    "imr": 3,
    "event_type": 134217729,
    "digest": "",
    "event": "app-id",
    "event_payload": "00",
}
BOOT = {"imr": 0, "event_type": 2147483659, "digest": "ab" * 48, "event": "", "event_payload": "00"}


def _text(*entries: dict[str, Any]) -> bytes:
    return json.dumps(entries).encode()


@pytest.mark.parametrize(
    ("name", "version", "digest"),
    [
        (
            "system-preparing",
            1,
            "f9974020ef507068183313d0ca808e0d1ca9b2d1ad0c61f5784e7157c362c06536f5ddacdad4451693f48fcc72fff624",
        ),
        (
            "boot-mr-done",
            1,
            "98bd7e6bd3952720b65027fd494834045d06b4a714bf737a06b874638b3ea00ff402f7f583e3e3b05e921c8570433ac6",
        ),
        (
            "system-ready",
            1,
            "1a76b2a80a0be71eae59f80945d876351a7a3fb8e9fd1ff1cede5734aa84ea11fd72b4edfbb6f04e5a85edd114c751bd",
        ),
        (
            "system-preparing",
            2,
            "918e390aef67de4520d37d7e046dd222038e0a8385825072383ab194543ffa3046a9a48fdabbc16e6ba9ff24249ba88f",
        ),
    ],
)
def test_known_digests(name: str, version: EventVersion, digest: str) -> None:
    """Entries without payload have the digests that every guest computes (AT20)."""
    assert digest == event_digest(name, b"", version=version).hex()


def test_preimages() -> None:
    """The payload is raw in version 1, and hex with sorted members in version 2 (AT20)."""
    assert event_preimage("a", b"\x0a:") == b"\x01\x00\x00\x08:a:\x0a:"
    assert (
        event_preimage('q"', b"\x0a", version=2)
        == b'{"name":"q\\"","payload":"0a","type":134217729}'
    )


def test_replay() -> None:
    """A register starts at zero and is extended by each digest."""
    (entry,) = runtime_entries(parse_event_log(_text(RUNTIME)))
    assert bytes(48) == replay(())
    assert replay([entry]) == hashlib.sha384(bytes(48) + event_digest("app-id", b"\x00")).digest()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("gives_digests", [True, False])
def test_minted_logs_are_read_back(version: EventVersion, gives_digests: bool) -> None:
    """Logs of both versions, with or without digests, round-trip and replay to their register."""
    minted = mint_event_log(
        COMPOSE, options=LogOptions(version=version, gives_digests=gives_digests)
    )
    log = parse_event_log(text_of(minted).encode())
    assert minted.log == log
    assert minted.rtmr3 == replay(runtime_entries(log))
    assert read_event_log(log.to_json()) == log


def test_boot_entries_are_not_handed_on() -> None:
    """Firmware entries are parsed but not passed on, because they describe the machine."""
    log = parse_event_log(_text(BOOT, RUNTIME))
    assert 2 == len(log.entries)
    assert [RUNTIME] == log.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"imr": 4},
        {"imr": -1},
        {"imr": True},
        {"imr": 3.0},
        {"imr": "3"},
        {"event_type": 2**32},
        {"event_type": None},
        {"digest": "ab" * 47},
        {"digest": "AB" * 48},
        {"digest": "zz"},
        {"digest": None},
        {"event": 1},
        {"event": "x" * 129},
        {"event": "ü"},
        {"event": "a\nb"},
        {"event_payload": "0"},
        {"event_payload": "0 0 "},
        {"event_payload": "00" * (MAX_PAYLOAD_BYTES + 1)},
        {"event_payload": None},
        {"version": 0},
        {"version": 3},
        {"version": None},
        {"version": True},
        {"preimage": None},
        {"preimage": "x"},
        {"unknown": 1},
    ],
)
def test_broken_entries(change: dict[str, Any]) -> None:
    """A log is refused if a member has another type, size or name."""
    with pytest.raises(QuoteRefused, match=r"^event-log-malformed$"):
        parse_event_log(_text({**RUNTIME, **change}))


@pytest.mark.parametrize("name", sorted(RUNTIME))
def test_every_member_is_needed(name: str) -> None:
    """An entry without one of the five members is refused."""
    with pytest.raises(QuoteRefused, match=r"^event-log-malformed$"):
        parse_event_log(_text({key: value for key, value in RUNTIME.items() if key != name}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b'"[]"',
        b"[1]",
        b"[[]]",
        b"[",
        b"[]]",
        b"[] []",
        b'[],"log":[]',
        b'[],"other":[]',
        b"\xff",
        b"[" * 100 + b"]" * 100,
        b'[{"imr":3,"imr":3,"event_type":134217729,"digest":"","event":"a","event_payload":""}]',
        b" " * (MAX_LOG_BYTES + 1),
        _text({**BOOT, "digest": ""}),
    ],
)
def test_other_text(data: bytes) -> None:
    """A text that is not exactly one array of entries is refused."""
    with pytest.raises(QuoteRefused, match=r"^event-log-malformed$"):
        parse_event_log(data)


def test_bounds() -> None:
    """The number of entries and the total payload are bounded."""
    assert MAX_ENTRIES == len(parse_event_log(_text(*[RUNTIME] * MAX_ENTRIES)).entries)
    with pytest.raises(QuoteRefused, match=r"^event-log-malformed$"):
        parse_event_log(_text(*[RUNTIME] * (MAX_ENTRIES + 1)))
    with pytest.raises(QuoteRefused, match=r"^event-log-malformed$"):
        read_event_log([{**RUNTIME, "event_payload": "00" * MAX_PAYLOAD_BYTES}] * 9)


@pytest.mark.parametrize(
    "entry",
    [
        {**RUNTIME, "event_type": 1, "digest": "ab" * 48},
        {**BOOT, "event_type": 134217729},
        {**RUNTIME, "event": ""},
        {**RUNTIME, "event": "a:b"},
        {**RUNTIME, "digest": "ab" * 48},
        {**RUNTIME, "digest": event_digest("app-id", b"\x00").hex(), "version": 2},
        {**RUNTIME, "preimage": event_preimage("app-id", b"\x01").hex()},
    ],
    ids=[
        "foreign type",
        "run-time type elsewhere",
        "no name",
        "colon",
        "digest",
        "digest of version 1",
        "preimage",
    ],
)
def test_entries_that_nobody_can_recompute(entry: dict[str, Any]) -> None:
    """An entry whose digest does not follow from its contents is refused (AT20)."""
    with pytest.raises(QuoteRefused, match=r"^event-log$"):
        runtime_entries(parse_event_log(_text(entry)))


def test_a_colon_would_make_two_entries_one() -> None:
    """A version 1 entry with a colon in its name is refused, because its digest would be
    ambiguous."""
    assert event_digest("a:b", b"c") == event_digest("a", b"b:c")
    assert event_digest("a:b", b"c", version=2) != event_digest("a", b"b:c", version=2)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=200)
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes give a log or a refusal."""
    try:
        runtime_entries(parse_event_log(data))
    except AttestationError as refused:
        assert refused.code.startswith("event-log")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*RUNTIME, "version", "x"]), inner)
    ),
    max_leaves=12,
)


@given(
    st.lists(
        st.fixed_dictionaries({name: _JSON | st.just(value) for name, value in RUNTIME.items()}),
        max_size=3,
    )
)
@settings(max_examples=200)
def test_any_entries(value: list[Any]) -> None:
    """Entries with arbitrary members give a log or a refusal."""
    try:
        replay(runtime_entries(read_event_log(value)))
    except AttestationError as refused:
        assert refused.code.startswith("event-log")
