"""Tests of each row of the request ladders, its order, and its text on both routes."""

import base64
import json
from typing import Any

import pytest
from fuzz_strategies import changed_objects, json_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusal_forms import on_invoke, on_route
from tests_support import altered, coded

from capabilities.abilities import DECRYPT, NETWORK_CREATE
from capabilities.resources import OpaqueResource, SpaceId, SpaceResource, parse_network_id
from capabilities.tokens import Capability
from encryption_network import requests
from encryption_network._shapes import Kind, Shape, ShapeError, check_members
from encryption_network.network_errors import EncryptionError, RequestError
from encryption_network.requests import (
    bind_decrypt,
    check_decrypt,
    decrypt_fact,
    invoked_network,
    parse_create,
    parse_decrypt_body,
    read_body,
)

ANOTHER = "urn:tinycloud:encryption:did:key:zElse:default"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


class Attempt:
    """A decrypt request to which faults are added, one row at a time."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.record: Any = world.network
        self.body: dict[str, Any] = world.body()
        self.facts: dict[str, Any] | None = None
        self.token: dict[str, Any] = {}
        self.fact_changes: dict[str, Any] = {}

    def run(self) -> Any:
        """Run rows 5 to 21."""
        world = self.world
        parsed = parse_decrypt_body(self.body)
        facts = (
            [decrypt_fact(self.body) | self.fact_changes] if self.facts is None else [self.facts]
        )
        invocation = world.invocation(world.session, facts=facts, **self.token)
        bound = bind_decrypt(
            invocation, parsed, parse_network_id(world.urn), world.keyring.node_did
        )
        return check_decrypt(bound, self.record, world.now)


def break_row(attempt: Attempt, row: int) -> None:
    """Add the fault that a row detects."""
    world = attempt.world
    match row:
        case 5:
            attempt.body["extra"] = 1
        case 6:
            attempt.fact_changes["extra"] = 1
        case 7:
            attempt.fact_changes["type"] = "another"
        case 8:
            attempt.token["aud"] = world.session.did
        case 9:
            attempt.fact_changes["targetNode"] = world.session.did
        case 10:
            attempt.fact_changes["networkId"] = ANOTHER
        case 11:
            attempt.token["att"] = {}
        case 12:
            attempt.token["att"] = {ANOTHER: {DECRYPT: [{}]}}
        case 13:
            attempt.record = None
        case 14:
            attempt.record = altered(world.network, state="revoked")
        case 15:
            attempt.fact_changes["keyVersion"] = 2
        case 16:
            attempt.token["nbf"] = world.now + 5
        case 17:
            attempt.token["exp"] = world.now + 302
        case 18:
            attempt.body["receiverPublicKey"] = "AB=="
        case 19:
            attempt.fact_changes["receiverPublicKeyHash"] = "00"
        case 20:
            attempt.fact_changes["encryptedSymmetricKeyHash"] = "00"
        case 21:
            attempt.fact_changes["bodyHash"] = "00"


TEXTS: dict[int, tuple[str, int, str | None, str | None]] = {
    5: ("body-malformed", 400, None, None),
    6: (
        "body-malformed",
        400,
        "decrypt request body is malformed: missing encryption invocation facts",
        None,
    ),
    7: ("type-mismatch", 401, "invocation type is not a decrypt invocation", None),
    8: (
        "audience-mismatch",
        401,
        "invocation audience does not match this node",
        "invocation type is not a decrypt invocation",
    ),
    9: (
        "target-node-mismatch",
        401,
        "invocation target node does not match this node",
        "invocation type is not a decrypt invocation",
    ),
    10: ("network-mismatch", 401, "invocation references a different network", None),
    11: ("action-not-permitted", 401, "decrypt action not permitted", None),
    12: ("network-mismatch", 401, "invocation references a different network", None),
    13: ("network-not-found", 404, "network not found", None),
    14: (
        "network-revoked",
        401,
        "network has been revoked",
        "network is not active (state: revoked)",
    ),
    15: ("version-mismatch", 401, "invocation alg / key version does not match network", None),
    16: ("not-yet-valid", 401, "invocation not yet valid", None),
    17: ("expired", 401, "invocation expired", None),
    18: ("invalid-base64", 400, "hex decode error: invalid base64", None),
    19: (
        "hash-mismatch",
        401,
        "invocation hash mismatch: receiverPublicKeyHash",
        "invocation hash mismatch: bodyHash",
    ),
    20: (
        "hash-mismatch",
        401,
        "invocation hash mismatch: encryptedSymmetricKeyHash",
        "invocation hash mismatch: bodyHash",
    ),
    21: ("hash-mismatch", 401, "invocation hash mismatch: bodyHash", None),
}


@pytest.mark.parametrize("row", sorted(TEXTS))
def test_each_row_of_the_decrypt_ladder(world: Any, row: int) -> None:
    """A request with one fault gets that row's status and text on both routes."""
    attempt = Attempt(world)
    break_row(attempt, row)
    code, status, text, invoke_text = TEXTS[row]
    with pytest.raises(RequestError, check=coded(code)) as caught:
        attempt.run()
    error = caught.value
    assert on_route(error) == (status, text or error.text)
    assert on_invoke(error) == (403, invoke_text or text or error.text)


@pytest.mark.parametrize("row", sorted(TEXTS)[:-1])
def test_an_earlier_row_is_reported_first(world: Any, row: int) -> None:
    """Of two faults the one of the earlier row is reported."""
    for later in (later for later in TEXTS if later > row and {later, row} != {11, 12}):
        attempt = Attempt(world)
        break_row(attempt, later)
        break_row(attempt, row)
        code, _, text, _ = TEXTS[row]
        with pytest.raises(RequestError, check=coded(code)) as caught:
            attempt.run()
        assert text in (None, caught.value.text)


def test_a_text_that_is_not_unicode_is_malformed(world: Any) -> None:
    """A body without canonical JSON is malformed."""
    with pytest.raises(RequestError, check=coded("body-malformed"), match="text is not Unicode"):
        parse_decrypt_body(world.body() | {"alg": "\ud800"})


def test_a_request_without_fault_passes(world: Any) -> None:
    """A correct request passes all rows, with the right hashes."""
    checked = Attempt(world).run()
    assert checked.receiver_public_key == world.RECEIVER
    assert checked.invocation_cid.startswith("bafkr4i")
    assert checked.request_hash == requests.request_hash(
        checked.invocation_cid, checked.bound.body.body_hash
    )
    assert "wrapped_key=" not in repr(checked)
    assert checked.bound.body.stated.encrypted_symmetric_key not in repr(checked.bound.body)


@pytest.mark.parametrize("member", ["type", "targetNode", "networkId", "alg", "keyVersion"])
def test_body_members_are_compared_too(world: Any, member: str) -> None:
    """Body and fact both have to match node, network, type and version."""
    other = {"networkId": ANOTHER, "keyVersion": 2}.get(member, "another")
    attempt = Attempt(world)
    attempt.body[member] = other
    attempt.fact_changes = {
        "networkId": world.urn,
        "targetNode": world.keyring.node_did,
        "keyVersion": 1,
    }
    attempt.fact_changes["alg"] = "x25519-aes256gcm/v1"
    with pytest.raises(RequestError) as caught:
        attempt.run()
    rows = {"type": 7, "targetNode": 9, "networkId": 10, "alg": 15, "keyVersion": 15}
    assert caught.value.code == TEXTS[rows[member]][0]


@pytest.mark.parametrize("field", ["receiverPublicKeyHash", "encryptedSymmetricKeyHash"])
@pytest.mark.parametrize("form", ["upper", "unquoted"])
def test_hashes_are_compared_as_text(world: Any, field: str, form: str) -> None:
    """Upper-case hex and hashes over the unquoted text do not match."""
    import hashlib

    attempt = Attempt(world)
    source = attempt.body[field.removesuffix("Hash")]
    wrong = (
        attempt.body[field].upper()
        if form == "upper"
        else hashlib.sha256(source.encode()).hexdigest()
    )
    attempt.body[field] = wrong
    with pytest.raises(RequestError, check=coded("hash-mismatch")) as caught:
        attempt.run()
    assert caught.value.detail == field


@pytest.mark.parametrize("field", ["receiverPublicKeyHash", "encryptedSymmetricKeyHash"])
@pytest.mark.parametrize("place", ["body", "fact", "both"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_each_hash_is_that_of_the_key(world: Any, field: str, place: str, order: str) -> None:
    """Body and fact both have the hash of the key, and no hash that is ordered before or after."""
    attempt = Attempt(world)
    sound = attempt.body[field]
    wrong = {"before": "0" * 64, "after": "f" * 64}[order]
    assert (wrong < sound) == (order == "before")
    attempt.body[field] = sound if place == "fact" else wrong
    attempt.fact_changes[field] = sound if place == "body" else wrong
    with pytest.raises(RequestError, check=coded("hash-mismatch")) as caught:
        attempt.run()
    assert caught.value.detail == field


@pytest.mark.parametrize("member", ["encryptedSymmetricKey", "receiverPublicKey"])
def test_keys_are_canonical_base64(world: Any, member: str) -> None:
    """The URL alphabet, missing padding, white space and spare bits are rejected."""
    for spell in (
        lambda text: text.rstrip("=") + "=" * 3,
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: "_" + text[1:],
        lambda text: text[:-4],
        lambda text: "AB==",
    ):
        attempt = Attempt(world)
        attempt.body[member] = spell(attempt.body[member])
        if base64_is_canonical(attempt.body[member]):
            continue
        with pytest.raises(RequestError, check=coded("invalid-base64")):
            attempt.run()


def base64_is_canonical(text: str) -> bool:
    """Return whether the standard library finds a text canonical."""
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("offset", "passes"), [(0.0, False), (0.9, False), (1.0, True), (300.9, True), (301.0, False)]
)
def test_the_lifetime_is_judged_in_whole_seconds(world: Any, offset: float, passes: bool) -> None:
    """`exp`, in whole seconds, is after now and at most 300 s ahead."""
    attempt = Attempt(world)
    attempt.token["exp"] = world.now + offset
    if passes:
        attempt.run()
    else:
        with pytest.raises(RequestError, check=coded("expired")):
            attempt.run()


def test_a_network_in_another_state(world: Any) -> None:
    """A network that is neither active nor revoked is refused with its state."""
    attempt = Attempt(world)
    attempt.record = altered(world.network, state="rotating")
    with pytest.raises(RequestError, check=coded("network-not-active")) as caught:
        attempt.run()
    assert caught.value.text == "network is not active (state: rotating)"
    assert on_route(caught.value)[0] == 409
    assert on_invoke(caught.value)[0] == 403


def test_the_first_fact_that_fits_counts(world: Any) -> None:
    """Facts of another shape are ignored; the first decrypt fact counts."""
    body = world.body()
    proper = decrypt_fact(body)
    parsed = parse_decrypt_body(body)
    for misfit in (
        1,
        [],
        list(proper.values()),
        {},
        proper | {"x": 1},
        proper | {"keyVersion": 1.0},
        proper | {"networkId": "x"},
    ):
        invocation = world.invocation(world.session, facts=[misfit, proper])
        bind_decrypt(invocation, parsed, parse_network_id(world.urn), world.keyring.node_did)
    invocation = world.invocation(world.session, facts=[proper | {"bodyHash": "00"}, proper])
    bound = bind_decrypt(invocation, parsed, parse_network_id(world.urn), world.keyring.node_did)
    assert bound.facts.body_hash == "00"


def test_spellings_of_the_network_are_one(world: Any) -> None:
    """A lower-case address in body, fact and capability is the same network."""
    lower = world.urn.replace(world.owner, world.owner.lower())
    attempt = Attempt(world)
    attempt.body["networkId"] = lower
    attempt.token["att"] = {lower: {DECRYPT: [{}]}}
    assert attempt.run().network.network_id.text == world.urn


def test_a_record_of_another_network_is_none(world: Any) -> None:
    """A record of another network counts as not found."""
    attempt = Attempt(world)
    attempt.record = altered(world.network, network=ANOTHER)
    with pytest.raises(RequestError, check=coded("network-not-found")):
        attempt.run()


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "EOF while parsing a value at line 1 column 0"),
        (b" ", "EOF while parsing a value at line 1 column 1"),
        (b"nope", "expected ident at line 1 column 2"),
        (b"tru", "EOF while parsing a value at line 1 column 3"),
        (b"\n{a:1}", "key must be a string at line 2 column 2"),
        (b"{} x", "trailing characters at line 1 column 4"),
        (b"nullx", "trailing characters at line 1 column 5"),
        (b"[1,]", "expected value at line 1 column 4"),
        (b"[1,\n]", "expected value at line 2 column 1"),
        (b'{"a":1, }', "key must be a string at line 1 column 9"),
        (b"\xff", "expected value at line 1 column 1"),
        (b'"\\ud800"', "recursion limit or number out of range at line 1 column 1"),
        (b"1e400", "recursion limit or number out of range at line 1 column 1"),
        (b"1" * 5000, "recursion limit or number out of range at line 1 column 1"),
        (b"[" * 65 + b"]" * 65, "recursion limit or number out of range at line 1 column 1"),
        (b"[" * 100_000, "recursion limit or number out of range at line 1 column 1"),
    ],
)
def test_what_is_no_json_says_where(data: bytes, text: str) -> None:
    """A body that is not JSON is refused with the parser's text."""
    with pytest.raises(RequestError, check=coded("body-not-json")) as caught:
        read_body(data, max_bytes=1_000_000)
    assert on_route(caught.value) == (400, None)
    assert on_invoke(caught.value) == (400, text)


def test_a_body_is_bounded() -> None:
    """A body above the size limit is rejected before it is parsed."""
    assert read_body(b'"' + b"a" * 98 + b'"', max_bytes=100) == "a" * 98
    with pytest.raises(RequestError, check=coded("request-too-large")) as caught:
        read_body(b'"' + b"a" * 99 + b'"', max_bytes=100)
    assert on_route(caught.value) == (413, None)
    assert on_invoke(caught.value)[0] == 400


def test_of_a_repeated_member_the_last_counts(world: Any) -> None:
    """White space and order do not change the hash; the last of repeated members counts."""
    body = world.body()
    text = '{"networkId":"x", ' + json.dumps(body, indent=2)[1:]
    assert parse_decrypt_body(read_body(text.encode(), max_bytes=10_000)) == parse_decrypt_body(
        body
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"keyVersion": "1"}, 'invalid type: string "1", expected i64'),
        ({"keyVersion": 1.0}, "invalid type: floating point `1.0`, expected i64"),
        ({"keyVersion": True}, "invalid type: boolean `true`, expected i64"),
        ({"keyVersion": 2**63}, "invalid value: integer `9223372036854775808`, expected i64"),
        ({"alg": 1}, "invalid type: integer `1`, expected a string"),
        ({"alg": None}, "invalid type: null, expected a string"),
        ({"alg": []}, "invalid type: sequence, expected a string"),
        ({"alg": {}}, "invalid type: map, expected a string"),
        ({"networkId": "x"}, "missing urn:tinycloud:encryption: prefix"),
        ({"networkId": 2**70}, "invalid type: floating point number, expected a string"),
        (
            {"zzz": 1},
            (
                "unknown field `zzz`, expected one of `type`, `targetNode`, `networkId`, `alg`,"
                " `keyVersion`, `encryptedSymmetricKey`, `encryptedSymmetricKeyHash`,"
                " `receiverPublicKey`, `receiverPublicKeyHash`"
            ),
        ),
    ],
)
def test_malformed_decrypt_bodies(world: Any, change: dict[str, Any], reason: str) -> None:
    """Each malformed member is refused with the wire's text."""
    with pytest.raises(RequestError, check=coded("body-malformed")) as caught:
        parse_decrypt_body(world.body() | change)
    assert caught.value.text == f"decrypt request body is malformed: {reason}"


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("i64", -(2**63), 2**63 - 1), ("u32", 0, 2**32 - 1)]
)
def test_the_ranges_of_integers(kind: Kind, least: int, most: int) -> None:
    """An `i64` has 64 bits with a sign, and a `u32` has 32 bits without one."""
    shape = Shape({"number": kind})
    for value in (least, most):
        assert check_members({"number": value}, shape) == {"number": value}
    for value in (least - 1, most + 1):
        with pytest.raises(ShapeError) as fault:
            check_members({"number": value}, shape)
        assert str(fault.value) == f"invalid value: integer `{value}`, expected {kind}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1], "invalid type: integer `1`, expected a string"),
        ([], "invalid type: sequence, expected an object"),
        ("x", 'invalid type: string "x", expected an object'),
        (None, "invalid type: null, expected an object"),
    ],
)
def test_a_body_is_an_object(value: Any, reason: str) -> None:
    """A list of the members in order is rejected (W19)."""
    with pytest.raises(RequestError, check=coded("body-malformed")) as caught:
        parse_decrypt_body(value)
    assert caught.value.detail == reason


@given(JSON)
def test_any_json_is_a_body_or_malformed(value: Any) -> None:
    """Any JSON is a body or raises RequestError."""
    with pytest.raises(RequestError, check=coded("body-malformed")):
        parse_decrypt_body(value)
    with pytest.raises(EncryptionError):
        parse_create(value)


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]",:0123456789.eE-ntf ulr\\\n', max_size=30).map(str.encode)
)
def test_any_bytes_are_json_or_our_error(data: bytes) -> None:
    """Any bytes are JSON or raise RequestError."""
    try:
        value = read_body(data, max_bytes=50)
    except RequestError as refused:
        assert refused.code in ("body-not-json", "request-too-large")
        return
    assert value == json.loads(data)


WIDE = [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 1, 1.0, True, "1", "hello", ANOTHER, None]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_two_readers_of_a_body_agree(world: Any, data: Any) -> None:
    """The fast parser and the one with the wire's texts accept the same bodies."""
    body = data.draw(changed_objects(world.body(), st.sampled_from(WIDE) | json_values()))
    try:
        members = check_members(body, requests._BODY_SHAPE)
    except ShapeError as fault:
        with pytest.raises(RequestError, check=coded("body-malformed")) as refused:
            parse_decrypt_body(body)
        assert str(fault) in refused.value.text
        return
    read = parse_decrypt_body(body)
    names = (
        "type",
        "targetNode",
        "networkId",
        "alg",
        "keyVersion",
        "encryptedSymmetricKey",
        "receiverPublicKey",
    )
    stated = read.stated
    assert read.network_id == parse_network_id(stated.network_id)
    ours = (stated.type, stated.target_node, stated.network_id, stated.alg, stated.key_version)
    assert (*ours, stated.encrypted_symmetric_key, stated.receiver_public_key) == tuple(
        members[name] for name in names
    )


# --- which network an /invoke token means ---------------------------------------------------------


def capability(resource: str, ability: str = DECRYPT) -> Capability:
    """Return a capability on an opaque resource."""
    return Capability(OpaqueResource(resource), ability, {})


def test_invoke_tokens_without_decrypt_are_ordinary(world: Any) -> None:
    """A token without decrypt on a network is not a decrypt request."""
    space = SpaceResource(SpaceId(world.owner, "default"), "kv", "x")
    others = [
        capability(world.urn, NETWORK_CREATE),
        capability("urn:other:x"),
        Capability(space, DECRYPT, {}),
    ]
    assert invoked_network(others) is None
    assert invoked_network([*others, capability(world.urn)]) == parse_network_id(world.urn)


def test_invoke_tokens_name_one_network(world: Any) -> None:
    """Two networks and malformed ids are refused; spellings of one network are accepted."""
    lower = world.urn.replace(world.owner, world.owner.lower())
    assert invoked_network([capability(world.urn), capability(lower)]) == parse_network_id(
        world.urn
    )
    with pytest.raises(RequestError, check=coded("multiple-networks")) as several:
        invoked_network([capability(world.urn), capability(ANOTHER)])
    assert on_invoke(several.value) == (403, "decrypt invocation contains multiple networks")
    with pytest.raises(RequestError, check=coded("invalid-network-id")):
        invoked_network([capability("urn:tinycloud:encryption:x")])
    with pytest.raises(RequestError, check=coded("multiple-networks")):
        invoked_network([capability(world.urn), capability("urn:tinycloud:encryption:x")])
