"""Tests of the key layout: keys of different kinds differ, have a bounded length, and sort in
order."""

from hypothesis import given
from hypothesis import strategies as st

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces import keyspace
from spaces.keyspace import group_of, is_index_row, micros8, path_keys, value_key, x16
from spaces.store.contract import MAX_KEY_BYTES

SPACE16 = x16("tinycloud:key:z6Mk:default")
H16, H32 = b"\x11" * 16, b"\x22" * 32

ONE_OF_EACH = {
    "delegation": keyspace.delegation_key(H32),
    "alias": keyspace.alias_key(H32),
    "mark": keyspace.marker_key(H32),
    "space": keyspace.space_key(H16),
    "owned space": keyspace.owned_space_key(H16, H16),
    "value": value_key(H16, "a"),
    "value under a long path": value_key(H16, "a" * 401),
    "party": keyspace.party_key(H16, keyspace.ROLE_TO, b"\0" * 67),
    "member": keyspace.member_key(H16, H16, H32),
    "space's grant": keyspace.space_grant_key(H16, b"\0" * 8, H32),
    "expiry": keyspace.expiry_key(b"\0" * 8, b"\0" * 8, H32),
    "token of a job": keyspace.exchanged_key(b"\0" * 8, H32),
    "network": keyspace.network_key(H16),
    "evidence": keyspace.evidence_key(H16, H32),
    "claim": keyspace.replay_key(b"\0" * 4, H16),
    "blob": keyspace.object_key(H16, H32),
    "due work": keyspace.due_key(0.0, H16),
    "audit": keyspace.audit_key(0.0, H16),
    "sealed audit": keyspace.sealed_key(1),
    "audit head": keyspace.audit_head_key(1),
    "receipt": keyspace.receipt_key(H16, b"\0" * 24),
    "document": keyspace.document_key(H32),
    "use of a document": keyspace.document_use_key(1, H32),
    "basis": keyspace.evidence_inputs_key(keyspace.evidence_key(H16, H32)),
    "session": keyspace.session_key(H16, H16, H32),
    "collateral": keyspace.collateral_key(b"\0" * 6, "tcb"),
    "state of collateral": keyspace.collateral_state_key(b"\0" * 6, "tcb"),
    "ticket": keyspace.ticket_key(b"\0" * 4, H16),
    "limit of a space": keyspace.OVERRIDES_PREFIX + H16,
    "meta": keyspace.SCHEMA_KEY,
    "counter": keyspace.usage_counter(H16),
}


def test_each_kind_has_a_letter_of_its_own() -> None:
    """Kinds differ in their first byte, so that no prefix of one contains keys of another."""
    assert len(ONE_OF_EACH) == len({key[:1] for key in ONE_OF_EACH.values()})


def test_counters_are_reported_apart() -> None:
    """Each kind of counter has its own second letter."""
    counters = [
        keyspace.usage_counter(H16),
        keyspace.owner_counter(H16),
        keyspace.TOTAL_SPACES_COUNTER,
        keyspace.newcomers_counter(1, H16),
        keyspace.delegations_counter(H16),
        keyspace.rows_counter(H16),
        keyspace.key_rows_counter(H16, H16),
        keyspace.delegation_bytes_counter(H16),
        keyspace.exchanged_counter(H32),
        keyspace.client_bytes_counter(H16, hosts=True),
        keyspace.client_bytes_counter(H16, hosts=False),
    ]
    assert len({key[:2] for key in counters}) == 11


TEXTS = st.text(max_size=600) | st.builds(
    lambda letter, size: letter * size, st.sampled_from("aü"), st.integers(0, 2500)
)


@given(TEXTS)
def test_value_keys_fit_and_keep_the_end_of_their_path(path: str) -> None:
    """Every path has a key within the limit, which contains the end of the path."""
    raw = path.encode("utf-8", "surrogatepass")
    *leading, key = path_keys(SPACE16, raw)
    assert key == value_key(SPACE16, path)
    assert max(len(one) for one in (key, *leading)) <= MAX_KEY_BYTES
    assert key == group_of(key) + raw[400 * len(leading) :]
    assert len(leading) == max(len(raw) - 1, 0) // 400
    assert not is_index_row(key)
    assert all(is_index_row(one) for one in leading)


NEARLY = st.text(alphabet="ab", min_size=395, max_size=405)


@given(NEARLY, NEARLY, st.sampled_from(["", "c" * 400]))
def test_value_keys_are_distinct_and_in_order(one: str, other: str, before: str) -> None:
    """Different paths have different keys in the order of the paths; long paths are found by rows
    that lead to them."""
    one, other = before + one, before + other
    assert (one == other) is (value_key(SPACE16, one) == value_key(SPACE16, other))
    assert (one < other) is (path_keys(SPACE16, one.encode()) < path_keys(SPACE16, other.encode()))


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_times_sort_as_bytes(one: float, other: float) -> None:
    """Encoded times sort in order to the microsecond, and "never" is last."""
    if int(one * 1_000_000) < int(other * 1_000_000):
        assert micros8(one) < micros8(other)
    assert micros8(one) < keyspace.NEVER8
    assert b"\0" * 8 == micros8(-1.0) == micros8(None)
    assert micros8(1e300) < keyspace.NEVER8


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_newest_times_sort_first(one: float, other: float) -> None:
    """The later of two times sorts first, and no time sorts last."""
    if int(one * 1_000_000) < int(other * 1_000_000):
        assert keyspace.newest8(other) < keyspace.newest8(one)
    assert keyspace.newest8(one) < keyspace.newest8(None)
    assert keyspace.newest8(1e300) < keyspace.newest8(-1.0) < keyspace.newest8(None)


@given(owner=st.text(max_size=40), name=st.text(max_size=40) | st.just("n" * 600))
def test_keys_of_a_space_are_those_that_are_laid_out_one_by_one(owner: str, name: str) -> None:
    """The cached keys of a space equal those made from its text, for names of any length."""
    space = SpaceId(Principal("did:" + owner), name)
    space16 = keyspace.space_id16(space)
    assert space16 == x16(space.text)
    for _ in range(2):
        keys = keyspace.space_keys(space)
        assert keys.space16 == space16
        assert keys.row == keyspace.space_key(space16)
        assert keys.usage == keyspace.usage_counter(space16)
        assert keys.override == keyspace.OVERRIDES_PREFIX + space16
