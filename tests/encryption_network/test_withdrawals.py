"""Tests of withdrawals, of which a further entry can only refuse a release."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from fuzz_strategies import damaged_bytes, deep_packed, json_values, packed_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import fuzzed

import encryption_network.withdrawals as lists
from capabilities.principals import Principal
from encryption_network.gate import ReleasePermit, admit
from encryption_network.network_errors import RecordError, ReleaseRefused, WithdrawalError
from encryption_network.networks import decode_network, encode_network, with_withdrawals
from encryption_network.policy import Policy
from encryption_network.withdrawals import (
    NOTHING_WITHDRAWN,
    Withdrawals,
    decode_withdrawals,
    encode_withdrawals,
    evidence_digest,
    parse_withdrawal,
)

SOME = Withdrawals(
    measurements=frozenset({b"\1" * 48, b"\2" * 32}),
    dids=frozenset({Principal("did:key:zA")}),
    evidence=frozenset(),
)


@pytest.fixture
def scene(world: Any) -> Any:
    """An approved and attested backend with a grant, which the gate admits."""
    grant = world.grant(
        world.session,
        world.backend.did,
        parents=[world.sign_in(world.session, policies=[world.LIST])],
    )
    return world, grant


def decide(world: Any, grant: Any, *, evidence: Any = ...) -> ReleasePermit:
    """Return the gate's answer for the backend."""
    found = world.evidence(world.backend) if evidence is ... else evidence
    return admit(world.request(world.backend, [grant], evidence=found))


def entries(world: Any) -> dict[str, dict[str, Any]]:
    """Return entries that refuse the backend's release, by kind."""
    evidence = world.evidence(world.backend)
    registers = {name: getattr(evidence, name) for name in REGISTERS}
    return {
        **{name: {"measurements": frozenset({value})} for name, value in registers.items()},
        "invoker": {"dids": frozenset({Principal(world.backend.did)})},
        "delegator": {"dids": frozenset({Principal(world.session.did)})},
        "owner": {"dids": frozenset({world.owner})},
        "evidence": {"evidence": frozenset({evidence_digest(evidence)})},
    }


REGISTERS = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_seam", "compose_hash")
NAMES = (*REGISTERS, "invoker", "delegator", "owner", "evidence")


@pytest.mark.parametrize("where", ["network", "node"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_withdrawn_is_refused(scene: Any, name: str, where: str) -> None:
    """A withdrawn register, compose hash, party or evidence refuses the release (RC20)."""
    world, grant = scene
    assert decide(world, grant).ground == "attested"
    listed = Withdrawals(**entries(world)[name])
    if where == "network":
        world.network = msgspec.structs.replace(
            world.network, withdrawals_row=encode_withdrawals(listed)
        )
    else:
        world.withdrawals = listed
    with pytest.raises(ReleaseRefused) as refused:
        decide(world, grant)
    assert refused.value.reason == "withdrawn"


def test_what_is_withdrawn_touches_nothing_else(scene: Any) -> None:
    """Other code, backends and evidence are still admitted (RC20)."""
    world, grant = scene
    world.withdraw(
        measurements=frozenset({b"\x77" * 48, b"\x78" * 32}), evidence=frozenset({b"\x79" * 32})
    )
    world.withdrawals = Withdrawals(dids=frozenset({Principal(world.other.did)}))
    assert decide(world, grant).ground == "attested"


def test_evidence_that_may_conceal_its_application(world: Any) -> None:
    """Evidence without an event log, but with RTMR3 set, may hide a withdrawn one (RC30)."""
    listed = Withdrawals(measurements=frozenset({b"\x78" * 32}))
    assert listed.covers(world.evidence(world.backend, compose_hash=None, rtmr3=b"\3" * 48))
    assert not listed.covers(world.evidence(world.backend, compose_hash=None, rtmr3=bytes(48)))
    assert not listed.covers(
        world.evidence(world.backend, compose_hash=b"\x79" * 32, rtmr3=b"\3" * 48)
    )
    registers = Withdrawals(measurements=frozenset({b"\x78" * 48}))
    assert not registers.covers(world.evidence(world.backend, compose_hash=None, rtmr3=b"\3" * 48))


def test_RC20_a_party_is_compared_in_canonical_form() -> None:
    """Another spelling of a withdrawn DID, or a key of it, is withdrawn too (RC20)."""
    account = "did:pkh:eip155:1:0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    listed = parse_withdrawal({"did": account})
    assert account not in listed.dids
    assert listed.names_any([Principal(account)])
    key = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
    listed = parse_withdrawal({"did": key})
    assert listed.names_any([Principal("did:key:zOther"), Principal(key + "#" + key[8:])])
    assert not listed.names_any([Principal("did:key:zOther")])


def test_RC20_a_receiver_beside_the_chain_is_a_party(world: Any) -> None:
    """A key that received a cited grant and signed nothing is refused, too."""
    received = world.sign_in(world.other, read=False)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    beside = world.grant(world.session, world.backend.did, parents=[received], att={})
    evidence = world.evidence(world.backend)
    assert world.reason_of(world.request(world.backend, [grant, beside], evidence=evidence)) == ""
    world.withdrawals = Withdrawals(dids=frozenset({Principal(world.other.did)}))
    request = world.request(world.backend, [grant, beside], evidence=evidence)
    assert world.reason_of(request) == "withdrawn"
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == ""


def test_a_withdrawn_session_is_nobody_in_person(world: Any) -> None:
    """A withdrawn DID is refused in person too; its row is among the checks (RC20, RC21)."""
    sign_in = world.sign_in(world.session)
    assert world.row("withdrawals") in admit(world.request(world.session, [sign_in])).checks
    world.withdraw(dids=frozenset({Principal(world.session.did)}))
    with pytest.raises(ReleaseRefused) as refused:
        admit(world.request(world.session, [sign_in]))
    assert refused.value.reason == "withdrawn"


def test_a_measurement_says_nothing_where_no_code_was_judged(world: Any) -> None:
    """Withdrawn code does not affect the owner in person (RC20)."""
    world.withdrawals = Withdrawals(measurements=frozenset({world.CODE.mrtd}))
    request = world.request(
        world.session, [world.sign_in(world.session)], evidence=world.evidence(world.session)
    )
    assert admit(request).ground == "owner_session"


LISTED = st.sets(st.sampled_from(NAMES), max_size=3)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=LISTED,
    more=LISTED,
    mode=st.sampled_from(["delegates", "everyone", "off"]),
    policy=st.sampled_from(
        [None, Policy(), Policy(in_person=False), Policy(min_evaluation_number=99)]
    ),
    attested=st.booleans(),
    in_person=st.booleans(),
    on_network=st.booleans(),
)
def test_a_withdrawal_never_releases(
    new_world: Any, before: Any, more: Any, on_network: bool, **scene: Any
) -> None:
    """A further entry never turns a refusal into a release (RC20)."""
    world = new_world()
    sign_in = world.sign_in(world.session, policies=[world.LIST])
    holder = world.session if scene["in_person"] else world.backend
    proof = (
        sign_in
        if scene["in_person"]
        else world.grant(world.session, world.backend.did, parents=[sign_in])
    )
    world.record = replace(world.record, mode=scene["mode"])
    world.demand(scene["policy"])
    evidence = world.evidence(holder) if scene["attested"] else None

    def released(names: Any) -> bool:
        listed = NOTHING_WITHDRAWN
        for name in names:
            listed = listed.joined(Withdrawals(**entries(world)[name]))
        if on_network:
            world.network = msgspec.structs.replace(
                world.network, withdrawals_row=encode_withdrawals(listed)
            )
        else:
            world.withdrawals = listed
        try:
            return bool(admit(world.request(holder, [proof], evidence=evidence)))
        except ReleaseRefused:
            return False

    assert released(before | more) <= released(before) <= released(set())


# --- requests and rows ----------------------------------------------------------------------------


def test_requests_name_one_thing() -> None:
    """A request withdraws one measurement, DID or evidence (RC22)."""
    did = "did:pkh:eip155:1:0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    assert parse_withdrawal({"measurement": "ab" * 48}).measurements == {b"\xab" * 48}
    assert parse_withdrawal({"measurement": "ab" * 32}).measurements == {b"\xab" * 32}
    assert parse_withdrawal({"evidence": "ab" * 32}).evidence == {b"\xab" * 32}
    assert parse_withdrawal({"did": did}).dids == {
        "did:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"measurement": "ab" * 48, "did": "did:key:z"},
        {"measurement": "00" * 48},
        {"measurement": "AB" * 48},
        {"measurement": "ab" * 47},
        {"measurement": "xy" * 48},
        {"measurement": "ab " * 32},
        {"measurement": 1},
        {"evidence": "ab" * 48},
        {"did": "nobody"},
        {"did": "did:key:z" + "a" * 600},
        {"code": "x"},
    ],
)
def test_other_requests_are_refused(value: Any) -> None:
    """Two members, zeros, other lengths and other spellings are refused (RC22)."""
    with pytest.raises(WithdrawalError):
        parse_withdrawal(value)


def test_a_did_is_bounded() -> None:
    """A DID may have 512 characters (RC22)."""
    longest = "did:web:example.com:" + "a" * 492
    assert parse_withdrawal({"did": longest}).dids == {longest}
    with pytest.raises(WithdrawalError):
        parse_withdrawal({"did": longest + "a"})


def test_limits_of_lists_and_requests() -> None:
    """The limits are those of the specification (RC23)."""
    assert lists.MAX_NETWORK_ENTRIES == 256
    assert lists.MAX_NODE_ENTRIES == 1024
    assert lists.MAX_REQUEST_BYTES == 4096


def test_the_format_of_a_row() -> None:
    """Rows that are stored already are read by every later version (RC21)."""
    row = msgspec.msgpack.encode([1, [b"\1" * 48, b"\2" * 32], ["did:key:zA"], []])
    assert decode_withdrawals(row) == SOME
    assert encode_withdrawals(SOME) == row


def test_the_size_of_a_row_is_bounded() -> None:
    """A row may have 512 KiB (RC21)."""
    digests = frozenset(n.to_bytes(32, "big") for n in range(15_000))

    def row_with_did(length_chars: int) -> bytes:
        did = Principal("did:key:z".ljust(length_chars, "a"))
        return encode_withdrawals(Withdrawals(dids=frozenset({did}), evidence=digests))

    padding_bytes = 512 * 1024 - len(row_with_did(10_000))
    longest = row_with_did(10_000 + padding_bytes)
    assert len(longest) == 512 * 1024
    assert len(decode_withdrawals(longest)) == 15_001
    with pytest.raises(RecordError, match="too long"):
        decode_withdrawals(row_with_did(10_001 + padding_bytes))


def test_a_list_is_kept_as_it_is(world: Any) -> None:
    """A list is decoded unchanged, also from a network's row and from old rows (RC21)."""
    assert decode_withdrawals(encode_withdrawals(SOME)) == SOME
    network = with_withdrawals(world.network, SOME, world.now)
    assert decode_network(encode_network(network)) == network
    older = encode_network(world.network)
    # two fields fewer
    assert decode_network(b"\x9c" + older[1:-2]).withdrawals == NOTHING_WITHDRAWN
    with pytest.raises(RecordError):
        decode_network(encode_network(network)[:-1])


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (Withdrawals(measurements=frozenset({b"\1" * 47})), "measurement of the wrong length"),
        (Withdrawals(evidence=frozenset({b"\1" * 48})), "digest of the wrong length"),
        (Withdrawals(evidence=frozenset(n.to_bytes(32, "big") for n in range(16_000))), "too long"),
    ],
)
def test_a_row_that_was_not_written_so_is_unreadable(listed: Withdrawals, reason: str) -> None:
    """A row with invalid entries, or above the size limit, is rejected (RC21)."""
    with pytest.raises(RecordError, match=reason):
        decode_withdrawals(encode_withdrawals(listed))


@pytest.mark.parametrize("row", [[1], [1, []], [1, [b"\2" * 32, b"\1" * 48], [], []]])
def test_a_row_without_its_lists_is_unreadable(row: Any) -> None:
    """A row without its end, or in another order, is damaged, not an empty list (RC21)."""
    with pytest.raises(RecordError, match="cannot be parsed"):
        decode_withdrawals(msgspec.msgpack.encode(row))


def test_a_list_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full list accepts no further entries and keeps its own (RC23)."""
    full = Withdrawals(
        measurements=frozenset(
            n.to_bytes(48, "big") for n in range(1, lists.MAX_NETWORK_ENTRIES + 1)
        )
    )
    network = with_withdrawals(world.network, full, world.now)
    assert with_withdrawals(network, full, world.now).withdrawals == full
    with pytest.raises(WithdrawalError):
        with_withdrawals(network, SOME, world.now)


@fuzzed()
@given(json_values("ab" * 48, "did:key:zA", members=("measurement", "did", "evidence")))
def test_fuzz_requests(value: Any) -> None:
    """Any JSON withdraws one thing or is refused."""
    with suppress(WithdrawalError):
        assert len(parse_withdrawal(value)) == 1


@fuzzed()
@given(
    st.binary(max_size=60)
    | damaged_bytes(encode_withdrawals(SOME))
    | packed_values.map(repr).map(str.encode)
    | deep_packed
)
def test_fuzz_lists(value: bytes) -> None:
    """Any bytes are parsed as a list or raise RecordError (RC21)."""
    with suppress(RecordError):
        decode_withdrawals(encode_withdrawals(decode_withdrawals(value)))
