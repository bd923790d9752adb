"""What a token asks for: the short ways to an answer say what the long ones do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from capabilities.principals import Principal
from capabilities.resources import OpaqueResource, SpaceId, SpaceResource
from capabilities.tokens import Capability
from node.operations.errors import BadOption
from node.operations.values.conditions import NO_OPTIONS, Shape, asks, parse_options
from node.operations.values.plan import Branch, Kind, Plan, Verb, branch_of, kv_steps, only_step, plan_of

SPACE = SpaceId(Principal("did:key:z6Mk"), "default")
_SERVICES = ("kv", "sql", "duckdb", "capabilities", "")
_ABILITIES = (
    *[verb.value for verb in Verb],
    "tinycloud.kv/delete",
    "tinycloud.kv/*",
    "tinycloud.sql/read",
    "tinycloud.duckdb/read",
    "tinycloud.capabilities/read",
    "tinycloud.encryption/decrypt",
)
_PATHS = st.none() | st.sampled_from(["", "a", "all", "a/b"])
_RESOURCES = st.builds(SpaceResource, st.just(SPACE), st.sampled_from(_SERVICES), _PATHS, _PATHS) | st.sampled_from(
    [OpaqueResource("urn:tinycloud:encryption:x"), OpaqueResource("urn:x")]
)
_CAPABILITIES = st.lists(st.builds(Capability, _RESOURCES, st.sampled_from(_ABILITIES), st.just({})), max_size=3)

_OPTIONS = (
    "If-Match",
    "If-None-Match",
    "X-TinyCloud-Cursor",
    "X-TinyCloud-Expected-Version",
    "X-TinyCloud-Limit",
    "X-TinyCloud-Max-Response-Bytes",
)
_NAMES = st.sampled_from(["Host", "Accept", "Content-Type", "If-Range", "X-TinyCloud-Meta-A"]) | st.sampled_from(
    _OPTIONS
)


@given(capabilities=_CAPABILITIES.map(tuple))
def test_one_step_is_found_at_once_or_not_at_all(capabilities: tuple[Capability, ...]) -> None:
    """A step that is found at once is the one step of the KV branch, and its plan; nothing else is asked for."""
    step = only_step(capabilities)
    if step is None:
        assert (
            len(capabilities) != 1
            or capabilities[0].ability not in [verb.value for verb in Verb]
            or (kv_steps(capabilities) == ())
        )
        return
    steps = kv_steps(capabilities)
    assert branch_of(capabilities) is Branch.KV
    assert (steps, len(capabilities)) == ((step,), 1)
    assert plan_of(capabilities, steps, multipart=False) == Plan(Kind.ONE, (step,))


@given(
    headers=st.dictionaries(_NAMES, st.sampled_from(["*", "1", "a", '"blake3-00"'])),
    spelled=st.sampled_from([str, str.lower, str.upper]),
    shape=st.builds(Shape, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.booleans()),
)
def test_who_asks_for_nothing_has_no_options(headers: dict[str, str], spelled, shape: Shape) -> None:
    """A call is said to ask for something exactly where one of the option headers is there, however it is spelled."""
    assert asks(CIMultiDict({spelled(name): value for name, value in headers.items()})) == any(
        name in _OPTIONS for name in headers
    )
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        options = parse_options(lowered, shape)
    except BadOption:
        options = None
    assert options == NO_OPTIONS or asks(lowered)


def test_a_batch_puts_each_path_once() -> None:
    """Which of two bodies for one path would stand depends on nothing that was signed: such a batch is refused."""
    one, other = (Capability(SpaceResource(SPACE, "kv", path), "tinycloud.kv/put", {}) for path in ("a", "b"))
    assert plan_of((one, other), kv_steps((one, other)), multipart=True).kind is Kind.PUTS
    with pytest.raises(BadOption, match="Duplicate"):
        plan_of((one, other, one), kv_steps((one, other, one)), multipart=True)


@pytest.mark.parametrize("digest", ["g" * 64, "a" * 63 + " ", "a" * 62 + "\u0661\u0661"])
def test_an_etag_is_hexadecimal(digest: str) -> None:
    """A condition that no value can meet is a mistake of the caller, not an unmet condition."""
    put = Shape(gets=0, puts=1, deletes=0, multipart=False)
    assert parse_options({"if-match": f'"blake3-{"a" * 64}"'}, put).replace_etag == "a" * 64
    with pytest.raises(BadOption, match="hexadecimal"):
        parse_options({"if-match": f'"blake3-{digest}"'}, put)


def test_a_long_number_in_a_header_is_the_caller_s_mistake() -> None:
    """Thousands of leading zeros are read or refused; they are no fault of the node's."""
    headers = {"x-tinycloud-max-response-bytes": "0" * 5000 + "1"}
    try:
        options = parse_options(headers, Shape(gets=1, puts=0, deletes=0, multipart=False))
    except BadOption:
        return
    assert options.max_response_bytes == 1
