"""Section 2.5 and rules T1 to T8, K8, Q28, Q33 and Q35: UCANs."""

import base64
import json

import jwt
import libipld
import msgspec
import pytest
from capability_cases import BOB, NOW, SESSION, SESSION_SPACE, claims, raw_ucan, ucan
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from tests_support import coded, fuzzed

from capabilities.capability_errors import BadSignature, ChainError, MalformedToken
from capabilities.strict_json import MAX_NESTING
from capabilities.tokens import (
    check_window,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)
from capabilities.ucan import MAX_PAYLOAD_BYTES, UcanPayload, encode_ucan, parse_ucan, verify_ucan

KV = f"{SESSION_SPACE}/kv"
HEADER = {"alg": "EdDSA", "typ": "JWT", "ucv": "0.10.0"}


def header(**changes):
    return msgspec.json.encode(
        {key: value for key, value in (HEADER | changes).items() if value is not ...}
    )


def refused(token: str) -> None:
    for parse in (parse_delegation, parse_invocation):
        with pytest.raises(MalformedToken):
            parse(token)


def accepted(token: str) -> None:
    verify_delegation(parse_delegation(token))
    verify_invocation(parse_invocation(token))


def test_plain_token():
    """An encoded token is parsed back unchanged and verifies."""
    payload = UcanPayload(
        iss=SESSION.did_url,
        aud=BOB.did,
        exp=NOW,
        nbf=1.5,
        nnc="n",
        fct=[1, {"a": None}],
        prf=[],
        att={KV: {"a/b": [{}]}},
    )
    without = raw_ucan(msgspec.json.encode(payload))
    for text, has_jwk in ((encode_ucan(payload, SESSION), True), (without, False)):
        token = parse_ucan(text)
        assert payload == token.payload
        assert has_jwk == (token.header.jwk is not None)
        verify_ucan(token)


@pytest.mark.parametrize(
    "changes",
    [{}, {"jwk": None}, {"kid": 7}, {"crit": []}, {"crit": ["b64"]}, {"b64": True}, {"x": [{}]}],
)
def test_header_members_that_pass(changes):
    """Unknown header members are ignored."""
    accepted(raw_ucan(claims(), header=header(**changes)))


@pytest.mark.parametrize("kty", ["EC", "RSA", "oct"])
def test_K8_only_an_okp_key_needs_curve_and_point(kty):
    """A header key of another type may lack both, because a did:key issuer ignores it (K8)."""
    accepted(raw_ucan(claims(), header=header(jwk={"kty": kty})))
    accepted(raw_ucan(claims(), header=header(jwk={"kty": kty, "crv": 1})))


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": ...},
        {"typ": "jwt"},
        {"typ": None},
        {"ucv": ...},
        {"ucv": "0.9.0"},
        {"ucv": 0.1},
        {"alg": ...},
        {"alg": None},
        {"alg": "eddsa"},
        {"alg": "XX256"},
        {"alg": ["EdDSA"]},
        {"crit": ["exp"]},
        {"crit": ["b64", "exp"]},
        {"crit": None},
        {"b64": False},
        {"b64": None},
        {"b64": 1},
        {"jwk": {}},
        {"jwk": []},
        {"jwk": "x"},
        {"jwk": {"kty": "oops"}},
        {"jwk": {"kty": "OKP"}},
        {"jwk": {"kty": "OKP", "crv": "Ed25519"}},
        {"jwk": {"kty": "OKP", "x": "AA"}},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "a=="}},
        {"jwk": {"kty": "EC", "x": 1}},
        {"jwk": {"kty": ["OKP"], "crv": "Ed25519", "x": "AA"}},
    ],
)
def test_header_members_that_do_not(changes):
    """Another type, version or algorithm, a malformed key and extensions are rejected."""
    refused(raw_ucan(claims(), header=header(**changes)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b'["EdDSA","JWT","0.10.0"]',
        b"{}",
        header() + b" x",
        b"\xef\xbb\xbf" + header(),
        b'{"alg":"EdDSA","alg":"EdDSA","typ":"JWT","ucv":"0.10.0"}',
        b'{"alg":"EdDSA","typ":"JWT","ucv":"0.10.0","ucv":"0.10.0"}',
        b'{"alg":"EdDSA","typ":"JWT","ucv":"0.10.0","x":' + b"[" * 100_000 + b"}",
        b'{"alg":"EdDSA","typ":"JWT","ucv":"0.10.0","x":"' + b"a" * 20_000 + b'"}',
        b'{"alg":"EdDSA","typ":"JWT","ucv":"0.10.0","x":"\xff"}',
    ],
)
def test_T7_Q35_header_text(text):
    """The header is one JSON object of limited size without repeated members."""
    refused(raw_ucan(claims(), header=text))


def test_header_spaces_pass():
    """Any JSON formatting of the header is accepted, because the text itself is signed (T3)."""
    accepted(raw_ucan(claims(), header=b' { "typ":"JWT", "ucv":"0.10.0", "alg":"EdDSA" } '))
    accepted(raw_ucan(claims().replace(b",", b" , ")))


@pytest.mark.parametrize(
    "changes",
    [
        {"nbf": 1},
        {"nbf": None},
        {"nnc": ""},
        {"nnc": None},
        {"fct": []},
        {"fct": None},
        {"fct": [None, 1, "x", {"a": [1]}]},
        {"exp": 0},
        {"exp": -1e300},
        {"exp": 253402300799},
        {"exp": 1.5e9},
        {"x": {"exp": 1}},
        {"att": {}},
        {"att": {KV: {}}},
        {"att": {KV: {"a/b": [{"exp": 1}, {}]}}},
        {"aud": "did:x:y"},
        {"aud": "did:pkh:eip155:1:0x12"},
        {"iss": SESSION.did},
    ],
)
def test_claims_that_pass(changes):
    """Optional claims may be absent or null; facts and unknown members may be any JSON."""
    accepted(raw_ucan(claims(**changes)))


@pytest.mark.parametrize(
    "changes",
    [{name: ...} for name in ("iss", "aud", "exp", "prf", "att")]
    + [{name: None} for name in ("iss", "aud", "exp", "prf", "att")]
    + [
        {"iss": "word"},
        {"iss": "did:key"},
        {"iss": "did:key:"},
        {"iss": "did:KEY:z"},
        {"iss": "did:key:z\n"},
        {"iss": "did:key:z#a#b"},
        {"iss": 1},
        {"aud": ["did:x:y"]},
        {"aud": "did:x:y#f"},
        {"aud": "did:x:y/p"},
        {"aud": "did:x:y?q"},
        {"aud": "https://a.example"},
        {"exp": "1"},
        {"exp": True},
        {"exp": 253402300800},  # Q28
        {"exp": 1795003600000},  # Q28: milliseconds
        {"exp": 1e300},  # Q28
        {"nbf": "1"},
        {"nnc": 1},
        {"fct": {}},
        {"prf": "x"},
        {"prf": [1]},
        {"prf": ["word"]},
        {"prf": [{"/": "bafkqaaa"}]},  # T3: no link objects
        {"att": []},
        {"att": {KV: []}},
        {"att": {KV: {"a/b": []}}},
        {"att": {KV: {"a/b": {}}}},
        {"att": {KV: {"a/b": ["x"]}}},
        {"att": {KV: {"a/b": [None]}}},
        {"att": {KV: {"ab": [{}]}}},  # A1
        {"att": {"kv/x": {"a/b": [{}]}}},  # T1
        {"att": {"é:x": {"a/b": [{}]}}},  # T1
        {"att": {"é:x": {}}},  # T1
    ],
)
def test_T1_T6_Q28_claims_that_do_not(changes):
    """Wrong types, missing members, empty caveat lists and invalid abilities are undecodable."""
    refused(raw_ucan(claims(**changes)))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        claims() + b"x",
        b"\xef\xbb\xbf" + claims(),
        claims()[:-1],
        claims().replace(b'"exp":1795003600.0', b'"exp":1e400'),
        claims().replace(b'"exp":1795003600.0', b'"exp":' + b"1" * 400),
        claims().replace(b'"exp":1795003600.0', b'"exp":-' + b"1" * 400),
        claims().replace(b'"exp":1795003600.0', b'"exp":NaN'),
        claims()[:-1] + b',"x":"\xff"}',
        claims()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        claims()[:-1] + b',"x":' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}",
        claims()[:-1] + b',"fct":' + b"[" * 900 + b"]" * 900 + b"}",
        claims()[:-1] + b',"fct":["\\ud800"]}',
        bytes([0xA1, 0x63]) + b"iss" + bytes([0x60]),  # T3: no CBOR
        msgspec.json.encode(list(json.loads(claims()).values())),  # Q35
    ],
)
def test_T3_Q35_payload_text(payload):
    """The payload is one JSON object in UTF-8, of limited depth, with nothing around it."""
    refused(raw_ucan(payload))


@pytest.mark.parametrize("size_bytes", [MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1])
def test_payload_is_bounded_before_it_is_read(size_bytes):
    """A payload that is too large for a token of 393,216 bytes is rejected unparsed (2.7)."""
    assert MAX_PAYLOAD_BYTES == 393_216 * 3 // 4
    token = raw_ucan(claims()[:-1].ljust(size_bytes - 1) + b"}")
    if size_bytes <= MAX_PAYLOAD_BYTES:
        assert parse_ucan(token).payload.iss
    else:
        with pytest.raises(MalformedToken, match="too large"):
            parse_ucan(token)


def test_nesting_up_to_the_bound_passes():
    """Nesting counts outside strings, from the outermost object."""
    depth = MAX_NESTING - 1
    accepted(raw_ucan(claims()[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"))
    accepted(raw_ucan(claims(x='"[[[' * 100)))


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "nbf", "nnc", "fct", "prf", "att"])
def test_T7_repeated_known_member_is_refused(name):
    """A repeated known member is rejected, also with escapes in its name."""
    value = msgspec.json.encode(json.loads(claims(nbf=1, nnc="n", fct=[]))[name])
    plain = claims(nbf=1, nnc="n", fct=[])[:-1]
    refused(raw_ucan(plain + b',"' + name.encode() + b'":' + value + b"}"))
    escaped = f"\\u{ord(name[0]):04x}{name[1:]}".encode()
    refused(raw_ucan(plain + b',"' + escaped + b'":' + value + b"}"))


@pytest.mark.parametrize(
    "tail",
    [
        b',"x":1,"x":2}',
        b',"x":{"exp":1,"exp":2}}',
        b',"fct":[{"exp":1,"exp":2}]}',
        b',"x":"\\u0065"}',
    ],
)
def test_T7_other_repetitions_pass(tail):
    """Unknown and nested members may be repeated."""
    accepted(raw_ucan(claims()[:-1] + tail))


def test_T7_last_of_repeated_names_in_att_wins():
    """The last of repeated resources, abilities or caveat members counts."""
    att = f'{{"{KV}":{{"a/b":[{{}}]}},"{KV}":{{"a/c":[{{"k":1}}],"a/c":[{{"k":1,"k":2}}]}}}}'
    payload = claims(att=...)[:-1] + b',"att":' + att.encode() + b"}"
    delegation = parse_delegation(raw_ucan(payload))
    assert [(c.resource.text, c.ability, c.caveats) for c in delegation.capabilities] == [
        (KV, "a/c", {"0": {"k": 2}})
    ]


KNOWN = ("iss", "aud", "exp", "nbf", "nnc", "fct", "prf", "att")
MEMBERS = [
    f'"{name}":{msgspec.json.encode(value).decode()}'
    for name, value in json.loads(claims()).items()
]
FURTHER_MEMBERS = [
    *MEMBERS,
    *(
        '"nbf":1',
        '"nbf":null',
        '"nnc":"n"',
        '"nnc":""',
        '"nnc":"\\""',
        '"nnc":"\\u0022"',
        '"nnc":"é"',
        '"nnc":null',
    ),
    *('"fct":null', '"fct":[]', '"fct":["a"]', '"fct":[{"exp":1}]', '"fct":["\\"",1,{"k":null}]'),
    *('"fct":[{"k":"v","k":"w"}]', '"prf":["bafkqaaa"]', '"\\u0070rf":[]'),
    *(
        '"att":{}',
        f'"att":{{"{KV}":{{"a/b":[{{"k":1}}]}}}}',
        f'"att":{{"{KV}":{{"a/b":[{{}}],"a/b":[{{}}]}}}}',
    ),
    *('"x":1', '"x":"y"', '"":""', '"x":{"exp":1}', '"\\"":1'),
    '"x":' + "[" * (MAX_NESTING - 1) + "]" * (MAX_NESTING - 1),
]
REFUSED_MEMBERS = [
    *(f'"{name}":' + "[" * MAX_NESTING + "]" * MAX_NESTING for name in ("x", "fct")),
    '"fct":[{"a":' + "[" * MAX_NESTING + "]" * MAX_NESTING + "}]",
    '"fct":[{"sealspace.attestation/v1":1,"sealspace.attestation/v1":1}]',
    '"fct":[{"sealspace.attestation/v1":{"a":1,"a":1}}]',
]


@fuzzed(1)
@given(
    st.lists(st.sampled_from([*FURTHER_MEMBERS, *REFUSED_MEMBERS]), max_size=3),
    st.lists(st.sampled_from(range(len(MEMBERS))), max_size=1),
    st.randoms(use_true_random=False),
)
def test_T7_payloads_of_any_members(further, left_out, order):
    """Payloads with any members are parsed, or rejected for depth or repetition."""
    members = [member for index, member in enumerate(MEMBERS) if index not in left_out] + further
    order.shuffle(members)
    text = "{" + ",".join(members) + "}"
    names = [name for name, _ in json.loads(text, object_pairs_hook=tuple) if name in KNOWN]
    reported = json.loads(text)
    is_whole = {"iss", "aud", "exp", "prf", "att"} <= reported.keys()
    if (
        len(names) != len(set(names))
        or not is_whole
        or not set(REFUSED_MEMBERS).isdisjoint(members)
    ):
        with pytest.raises(MalformedToken):
            parse_ucan(raw_ucan(text.encode()))
        return
    payload = parse_ucan(raw_ucan(text.encode())).payload
    assert {name: reported.get(name) for name in KNOWN} == {
        name: getattr(payload, name) for name in KNOWN
    }


GOOD = ucan(SESSION, BOB.did, {KV: ["tinycloud.kv/get"]})


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        GOOD + ".",
        GOOD + ".AA",
        "." + GOOD,
        GOOD + "=",
        GOOD + "==",
        GOOD + "\n",
        " " + GOOD,
        "Bearer " + GOOD,  # E1
        GOOD.replace(".", "..", 1),
        GOOD.replace(".", "=.", 1),
        GOOD.replace(".", ".é", 1),
        GOOD.replace(".", ". ", 1),
        GOOD.rpartition(".")[0],
        GOOD + "A" * 400_000,
    ],
)
def test_E1_compact_form(token):
    """A token has three parts of base64url without padding, whitespace or prefix."""
    refused(token)


def test_spare_bits_of_the_signature_are_refused():
    """A signature with spare bits set is rejected."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = []
    for character in alphabet:
        try:
            parse_ucan(GOOD[:-1] + character)
        except MalformedToken:
            continue
        spelled.append(character)
    assert list("AQgw") == spelled


def test_standard_alphabet_is_refused():
    """`+` and `/` are rejected in place of `-` and `_`."""
    for number in range(200):
        token = ucan(SESSION, BOB.did, {}, nnc=str(number))
        signature = token.rpartition(".")[2]
        if "-" in signature or "_" in signature:
            break
    else:
        raise AssertionError("no signature with - or _")
    refused(token.rpartition(".")[0] + "." + signature.replace("-", "+").replace("_", "/"))


@pytest.mark.parametrize(
    "signature", ["", "AA", "A" * 86, libipld.encode_multibase("u", bytes(range(64)))[1:]]
)
def test_K9_wrong_signatures_decode_and_fail(signature):
    """A signature of any length is decoded, and fails verification."""
    token = parse_invocation(GOOD.rpartition(".")[0] + "." + signature)
    with pytest.raises(BadSignature):
        verify_invocation(token)


@pytest.mark.parametrize(
    "algorithm", ["none", "HS256", "RS256", "ES256", "ES256K", "ESKeccakKR", "EdBlake2b"]
)
def test_Q33_K7_other_algorithms_decode_and_fail(algorithm):
    """A known algorithm that does not fit the key fails verification."""
    token = parse_delegation(raw_ucan(claims(), header=header(alg=algorithm)))
    with pytest.raises(BadSignature):
        verify_delegation(token)


def test_K1_K8_header_key_is_not_looked_at():
    """A header key is ignored for a did:key issuer."""
    other = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": libipld.encode_multibase("u", BOB.public_key)[1:],
        "alg": "ES256",
    }
    accepted(raw_ucan(claims(), header=header(jwk=other)))


@pytest.mark.parametrize(
    ("nbf", "exp", "valid"),
    [
        (None, NOW, True),
        (None, NOW - 0.001, False),
        (NOW, NOW + 1, True),
        (NOW + 0.001, NOW + 1, False),
    ],
)
def test_T4_I2_window(nbf, exp, valid):
    """Both ends are inclusive, and there is no leeway (H7)."""
    token = ucan(SESSION, BOB.did, {}, exp=exp, nbf=nbf)
    for parse, error in (
        (parse_delegation, "delegation-outside-window"),
        (parse_invocation, "invocation-outside-window"),
    ):
        if valid:
            check_window(parse(token), NOW)
        else:
            with pytest.raises(ChainError, check=coded(error)):
                check_window(parse(token), NOW)


def test_T5_parties():
    """Issuer and audience become principals, and a UCAN has no issue time."""
    delegation = parse_delegation(ucan(SESSION, BOB.did, {}))
    assert SESSION.did == delegation.delegator
    assert BOB.did == delegation.delegate
    assert delegation.issued_at is None
    account = "did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert account == parse_delegation(ucan(SESSION, account.lower(), {})).delegate


def test_T8_audience_of_an_invocation_is_free():
    """The audience may be any DID."""
    assert parse_invocation(ucan(SESSION, "did:web:a.example", {})).audience == "did:web:a.example"


def test_pyjwt_agrees():
    """PyJWT verifies tokens that are signed here, and its tokens verify here."""
    key = Ed25519PublicKey.from_public_bytes(SESSION.public_key)
    decoded = jwt.decode(
        GOOD, key, algorithms=["EdDSA"], options={"verify_aud": False, "verify_exp": False}
    )
    assert decoded == json.loads(base64.urlsafe_b64decode(GOOD.split(".")[1] + "=="))
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    accepted(
        jwt.encode(json.loads(claims()), private, algorithm="EdDSA", headers={"ucv": "0.10.0"})
    )
