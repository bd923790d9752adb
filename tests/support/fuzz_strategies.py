"""Hypothesis strategies for fuzz tests: bytes, damaged originals, JSON and long texts."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, 1, -1, 2**31, 2**32, 2**53, 2**63, 2**64, 253402300800, 0.5, 1e300])
)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=12)


def json_values(*leaves: str | int, members: Sequence[str] = ()) -> st.SearchStrategy[Any]:
    """Return any JSON value; given leaves and member names are drawn often."""
    all_leaves = LEAVES | st.sampled_from(leaves) if leaves else LEAVES
    names = st.text(max_size=6) | st.sampled_from(members) if members else st.text(max_size=6)
    return st.recursive(
        all_leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=10,
    )


def changed_objects(
    original: dict[str, Any], values: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Return an object with some members replaced by other values, removed, or new."""
    names = st.sampled_from([*original, "unknown"])
    changes = st.dictionaries(names, values, max_size=3)
    removed = st.sets(st.sampled_from(list(original)), max_size=1)
    return st.builds(
        lambda new, gone: {
            name: value for name, value in {**original, **new}.items() if name not in gone
        },
        changes,
        removed,
    )


# One of eight is left as it is: only an intact original gets past a signature.
_IS_DAMAGED = st.sampled_from([True] * 7 + [False])


def _spliced(original: Any, position: int, removed: int, inserted: Any, is_damaged: bool) -> Any:
    if not is_damaged:
        return original
    start = position % (len(original) + 1)
    return original[:start] + inserted + original[start + removed :]


def damaged_bytes(*originals: bytes, most: int = 64) -> st.SearchStrategy[bytes]:
    """Return one of the originals, mostly with a part replaced or cut off."""
    few = st.binary(max_size=4) | st.binary(max_size=most)
    return st.builds(
        _spliced,
        st.sampled_from(originals),
        st.integers(0, 1 << 20),
        st.integers(0, most),
        few,
        _IS_DAMAGED,
    )


def damaged_text(*originals: str, most: int = 16) -> st.SearchStrategy[str]:
    """Return one of the originals, mostly with a part replaced or cut off."""
    few = st.text(max_size=3) | st.text(max_size=most)
    return st.builds(
        _spliced,
        st.sampled_from(originals),
        st.integers(0, 1 << 20),
        st.integers(0, most),
        few,
        _IS_DAMAGED,
    )


# Long and deep: what a reader that recurses, backtracks or copies a tail would ponder.
LARGE_UNITS = (
    "[",
    '{"a":',
    '"',
    "\\",
    "%41",
    "1",
    ":",
    "#",
    "/../",
    "a.",
    "\\u0065",
    ",",
    "-",
    "\x00",
)
large_texts = st.sampled_from(LARGE_UNITS).map(lambda unit: unit * (7_000 // len(unit)))

# MessagePack as rows are written: arrays of the right lengths with anything in them, and deep
# nesting.
_PACKED_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40)
)
packed_values = st.recursive(
    _PACKED_LEAVES,
    lambda inner: (
        st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=20,
)
deep_packed = st.sampled_from([b"\x91", b"\x95\x91", b"\x81\xa1a"]).map(lambda unit: unit * 2_000)
