"""Rules E3 and C1 to C10: CACAOs."""

import random
from collections.abc import Callable
from typing import Any

import dag_cbor
import libipld
import pytest
from capability_cases import KV, NOW, OWNER, World, cacao, message
from tests_support import coded

from capabilities.cacao import (
    Cacao,
    encode_cacao,
    encode_dag_cbor,
    header_bytes,
    header_text,
    parse_cacao,
    restore_cacao,
    sign_cacao,
    verify_cacao,
)
from capabilities.capability_errors import BadSignature, ChainError, MalformedToken
from capabilities.signatures import WalletSigner
from capabilities.tokens import (
    check_window,
    parse_delegation,
    restore_delegation,
    verify_delegation,
)

GOOD = header_bytes(cacao({KV: ["tinycloud.kv/get"]}, expiration_time="2036-01-02T03:04:05Z"))
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.mark.parametrize(
    "value", [{}, {"b": [None, 0, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1], "a": b"\0"}]
)
def test_dag_cbor_is_canonical(value: Any) -> None:
    """Numbers take the fewest bytes and shorter keys come first, as in another encoder."""
    assert encode_dag_cbor(value) == dag_cbor.encode(value)


@pytest.mark.parametrize("value", [True, 1.5, -1, 1 << 32, {"a": {"b": True}}, ("a",)])
def test_what_has_no_place_in_a_cacao(value: object) -> None:
    """Negative and large numbers, tuples, floats and booleans cannot be encoded."""
    with pytest.raises(ValueError, match=r"not allowed in a CACAO|number out of range"):
        encode_dag_cbor(value)


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return the good bytes with a change made to the decoded value."""
    value = libipld.decode_dag_cbor(GOOD)
    change(value)
    return dag_cbor.encode(value)


def with_payload(**fields: Any) -> bytes:
    def change(value: dict[str, Any]) -> None:
        value["p"].update(fields)
        value["p"] = {key: field for key, field in value["p"].items() if field is not ...}

    return changed(change)


def refused(data: bytes) -> None:
    with pytest.raises(MalformedToken):
        parse_cacao(data)


def test_C1_reader_and_writer_agree():
    """An encoded message is canonical and is parsed back unchanged."""
    assert encode_cacao(parse_cacao(GOOD)) == GOOD
    full = sign_cacao(
        message(
            {KV: ["tinycloud.kv/get"]},
            scheme="https",
            statement="Hello.",
            not_before="2026-01-01T00:00:00Z",
            expiration_time="2036-01-01T00:00:00Z",
            request_id="r",
        ),
        OWNER,
    )
    assert full == parse_cacao(encode_cacao(full))


# A version, a codec, a kind of digest, its length: what a decoder may look at before it takes bytes
# for a CID.
CID_BEGINNINGS = [b"\x01\x55\x12\x20"[:length] for length in range(5)] + [
    b"\x12\x20",
    b"\x01\x71\x12\x20",
    b"\x00\x01",
]


def test_C1_every_signature_there_and_back():
    """10,000 signatures, most of which look like a CID, are encoded and decoded as bytes."""
    drawn, parsed = random.Random(65), parse_cacao(GOOD)
    head, tail = GOOD.split(parsed.signature)
    for number in range(10_000):
        begun = CID_BEGINNINGS[number % len(CID_BEGINNINGS)]
        signature = begun + drawn.randbytes(65 - len(begun))
        data = encode_cacao(Cacao(parsed.message, signature))
        assert data == head + signature + tail
        assert parse_cacao(data).signature == signature


def test_C2_a_link_is_no_signature():
    """A signature with the CID tag is rejected, although the decoder returns its bytes."""
    parsed = parse_cacao(GOOD)
    link = b"\xd8\x2a\x58\x42\x00" + (b"\x01\x55\x12\x20" + bytes(32)).ljust(65, b"\0")
    refused(GOOD.replace(b"\x58\x41" + parsed.signature, link))
    refused(
        GOOD.replace(
            b"\x58\x41" + parsed.signature, b"\xd8\x2a\x58\x25\x00\x01\x55\x12\x20" + bytes(32)
        )
    )


def test_C2_a_link_that_was_stored_is_restored():
    """A stored sign-in whose signature is a link can be restored, but not parsed."""
    signature = b"\x01\x55\x12\x20" + bytes(61)
    wanted = Cacao(parse_cacao(GOOD).message, signature)
    proper = encode_cacao(wanted)
    stored = proper.replace(b"\x58\x41" + signature, b"\xd8\x2a\x58\x42\x00" + signature)
    assert stored != proper
    refused(stored)
    restored = restore_delegation(header_text(stored))
    assert restored.content_key == parse_delegation(header_text(proper)).content_key
    with pytest.raises(MalformedToken):
        restore_cacao(stored[:-1])


def test_C11_as_many_resources_as_may_be():
    """A message with 1,024 resources is accepted, and one with 1,025 is rejected."""
    parse_cacao(with_payload(resources=["urn:x:y"] * 1024))
    refused(with_payload(resources=["urn:x:y"] * 1025))


def test_C1_writer_order():
    """Keys are sorted by length, then by bytes."""
    everything = message({}, scheme="s", not_before="b", expiration_time="e", request_id="r")
    payload = list(libipld.decode_dag_cbor(encode_cacao(sign_cacao(everything, OWNER)))["p"])
    assert payload == [
        "aud",
        "exp",
        "iat",
        "iss",
        "nbf",
        "nonce",
        "domain",
        "scheme",
        "version",
        "resources",
        "statement",
        "request_id",
    ]


@pytest.mark.parametrize(
    "text",
    [
        header_text(GOOD).rstrip("=") + "===",
        "Bearer " + header_text(GOOD),
        header_text(GOOD) + "=",
        header_text(GOOD) + "\n",
        " " + header_text(GOOD),
        header_text(GOOD)[:-4],
        header_text(b"\xfb\xff\xfe\xff").replace("-", "+").replace("_", "/"),
        "YWI",
        "YWJ=",
        "YQ==YWI=",
        header_text(GOOD[:4]) + header_text(GOOD[4:]),
        "",
        "é",
    ],
)
def test_E1_E3_text_form(text):
    """Only padded base64url with nothing around it is accepted."""
    with pytest.raises(MalformedToken):
        parse_delegation(text)


def test_E3_padding_is_mandatory():
    """A text without its padding is rejected."""
    for size in (1, 2):
        padded = header_text(bytes(size))
        assert padded.endswith("=")
        with pytest.raises(MalformedToken):
            header_bytes(padded.rstrip("="))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("longer integer", GOOD.replace(b"gversion\x01", b"gversion\x18\x01")),
        ("longer length", GOOD.replace(b"endomain"[2:] + b"kapp", b"domain\x78\x0bapp")),
        ("trailing byte", GOOD + b"\0"),
        ("cut short", GOOD[:-1]),
        ("key order", b"\xa3" + GOOD[1 + 15 :]),
        ("indefinite map", b"\xbf" + GOOD[1:] + b"\xff"),
        ("tag", b"\xc1" + GOOD),
        ("byte string for text", GOOD.replace(b"\x69nonce0001", b"\x49nonce0001")),
        ("array", b"\x80"),
        ("number", b"\x01"),
        ("nothing", b""),
        ("deep", b"\x81" * 100_000 + b"\0"),
        ("float version", GOOD.replace(b"gversion\x01", b"gversion\xfb\x3f\xf0\0\0\0\0\0\0")),
        ("too large", b"\x5a\x00\x10\x00\x00" + bytes(1 << 20)),
    ],
)
def test_C2_Q25_only_canonical_bytes(name, data):
    """Another encoding of the same message is rejected, so that it has no second id."""
    assert data != GOOD, name
    refused(data)


def test_C2_mutations_of_the_good_bytes_hit():
    """Each mutation in the test above changes the bytes, so that the test can fail."""
    assert (
        GOOD.count(b"gversion\x01")
        == GOOD.count(b"\x69nonce0001")
        == GOOD.count(b"domainkapp")
        == 1
    )


@pytest.mark.parametrize("part", ["", "h", "p", "s"])
def test_C2_unknown_and_missing_keys(part):
    """A map with an unknown or missing key is rejected."""

    def add(value: dict[str, Any]) -> None:
        (value[part] if part else value)["x"] = None

    refused(changed(add))
    value = libipld.decode_dag_cbor(GOOD)
    for key in value[part] if part else value:
        if part == "p" and key in ("exp", "resources", "statement"):
            continue

        def remove(value: dict[str, Any], key: str = key) -> None:
            del (value[part] if part else value)[key]

        refused(changed(remove))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(h=[]),
        lambda v: v.update(p=["eip4361"]),
        lambda v: v.update(s=None),
        lambda v: v["h"].update(t="caip122"),
        lambda v: v["h"].update(t=b"eip4361"),
        lambda v: v["s"].update(t="eip1271"),
        lambda v: v["s"].update(s=v["s"]["s"] + b"\0"),
        lambda v: v["s"].update(s=v["s"]["s"][:64]),
        lambda v: v["s"].update(s=list(v["s"]["s"])),  # C4
        lambda v: v["s"].update(s="x" * 65),
    ],
)
def test_C3_kind_and_signature_types(change):
    """The types are exact, and the signature has 65 bytes."""
    refused(changed(change))


@pytest.mark.parametrize("version", ["1", 0, 2, 1.0, True, None, b"1"])
def test_C4_version_is_the_integer_1(version):
    """A version other than the integer 1 is rejected."""
    refused(with_payload(version=version))


@pytest.mark.parametrize(
    "fields",
    [
        {key: value}
        for key in ("domain", "iss", "aud", "nonce", "iat")
        for value in (None, 1, b"x", ["x"])
    ]
    + [
        {key: value}
        for key in ("scheme", "statement", "exp", "nbf", "request_id")
        for value in (1, b"x", ["x"], True)
    ]
    + [
        {"resources": value}
        for value in ("x:a", {"x:a": 1}, [1], [None], [b"x:a"], ["x:a", "no uri"])
    ]
    + [{"domain": value} for value in ("", "a b", "a/b", "é")]
    + [{"aud": value} for value in ("", "a b", "word", "did:key:z#a#b")]
    + [{"scheme": value} for value in ("", "1a", "ht tp", "https://")]
    + [
        {key: value}
        for key in ("iat", "exp", "nbf")
        for value in ("", "2026-01-02", "10000-01-01T00:00:00Z")
    ]
    + [
        {"iss": value}
        for value in (
            "did:key:z6Mk",
            "did:pkh:solana:1:x",
            "did:pkh:eip155:1:0x12",
            f"did:pkh:eip155:1:{ADDRESS}#f",
            f"did:pkh:eip155:1:{ADDRESS}:x",
            f"did:pkh:eip155:one:{ADDRESS}",
            f"did:pkh:eip155:18446744073709551616:{ADDRESS}",
            f"did:pkh:eip155:1:{ADDRESS[2:]}",
        )
    ],
)
def test_payload_fields_have_their_forms(fields):
    """A field of another type or syntax makes the message undecodable."""
    refused(with_payload(**fields))


@pytest.mark.parametrize(
    "key", ["domain", "aud", "nonce", "iat", "statement", "exp", "nbf", "scheme", "request_id"]
)
def test_C7_control_characters_are_refused(key):
    """A control character in a field is rejected, because it could forge a line of the text."""
    text = libipld.decode_dag_cbor(GOOD)["p"].get(key, "2026-01-01T00:00:00Z")
    for character in ("\n", "\0", "\x1f", "\x7f", "\x85"):
        refused(with_payload(**{key: text + character}))
        refused(with_payload(resources=["x:a" + character]))


@pytest.mark.parametrize("key", ["exp", "nbf", "scheme", "request_id", "resources", "statement"])
def test_null_is_absent_and_the_same_content(key):
    """A null changes the bytes and the CID, but not the content key."""
    null, absent = with_payload(**{key: None}), with_payload(**{key: ...})
    assert parse_cacao(null) == parse_cacao(absent)
    plain = [header_text(data) for data in (null, absent)]
    if key in ("statement", "resources"):
        # without its ReCap, so that the sentence is not missed
        bare = {"statement": ..., "resources": ...}
        plain = [header_text(with_payload(**(bare | {key: value}))) for value in (None, ...)]
    one, other = map(parse_delegation, plain)
    assert one.cid != other.cid
    assert one.content_key == other.content_key


def test_spellings_of_one_signature_are_one_content():
    """`v` of 0 or 27 and the case of the address change the CID only, not the content key (Q25)."""
    signature = libipld.decode_dag_cbor(GOOD)["s"]["s"]
    low_v = changed(lambda v: v["s"].update(s=signature[:64] + bytes([signature[64] - 27])))
    lower = changed(lambda v: v["p"].update(iss=v["p"]["iss"].lower()))
    chain = changed(lambda v: v["p"].update(iss=v["p"]["iss"].replace(":1:", ":+01:")))
    spellings = [
        verify_delegation(parse_delegation(header_text(data)))
        for data in (GOOD, low_v, lower, chain)
    ]
    assert len({spelling.cid for spelling in spellings}) == 4
    assert len({spelling.content_key for spelling in spellings}) == 1
    assert {OWNER.did} == {spelling.delegator for spelling in spellings}


def test_another_text_is_another_content():
    """A change in a signed field changes the content key."""
    keys = {
        parse_delegation(cacao({KV: ["tinycloud.kv/get"]}, **fields)).content_key
        for fields in (
            {},
            {"nonce": "n"},
            {"statement": "x"},
            {"statement": ""},
            {"request_id": ""},
            {"scheme": "https"},
        )
    }
    assert len(keys) == 6


def test_C5_C6_signature_is_the_named_wallets():
    """A changed field, another wallet or another signature fails verification."""
    good = parse_cacao(GOOD)
    verify_cacao(good)
    other = WalletSigner(bytes(31) + b"\7")
    for bad in (
        parse_cacao(with_payload(nonce="other")),
        parse_cacao(with_payload(iss=other.did)),
        Cacao(good.message, other.sign_eip191("x")),
        Cacao(good.message, bytes(65)),
    ):
        with pytest.raises(BadSignature):
            verify_cacao(bad)


def test_a_signature_is_not_shown():
    """The representation of a sign-in has no signature, so a log cannot have one."""
    shown = repr(parse_cacao(GOOD))
    assert "nonce=" in shown
    assert "signature" not in shown
    assert repr(parse_cacao(GOOD).signature) not in shown


def test_a_wallet_signs_only_its_own_messages():
    """Signing a message for another wallet raises an error."""
    with pytest.raises(ValueError, match="another wallet"):
        sign_cacao(message(), WalletSigner(bytes(31) + b"\7"))


@pytest.mark.parametrize(
    ("fields", "moment", "valid"),
    [
        ({}, 0.0, True),
        ({"expiration_time": "2026-01-01T00:00:00Z"}, 1767225600.0, True),
        ({"expiration_time": "2026-01-01T00:00:00Z"}, 1767225600.5, False),
        ({"not_before": "2026-01-01T00:00:00Z"}, 1767225600.0, False),  # strict, unlike a UCAN's
        ({"not_before": "2026-01-01T00:00:00Z"}, 1767225600.5, True),
    ],
)
def test_C8_window(fields, moment, valid):
    """Not-before is exclusive, expiry inclusive, and a message without expiry never ends."""
    delegation = parse_delegation(cacao({KV: ["tinycloud.kv/get"]}, **fields))
    if valid:
        check_window(delegation, moment)
    else:
        with pytest.raises(ChainError, check=coded("delegation-outside-window")):
            check_window(delegation, moment)


def test_C9_chain_0_is_root_of_nothing():
    """A message of chain 0 verifies, but its account cannot own a space."""
    header = header_text(
        encode_cacao(sign_cacao(message({KV: ["tinycloud.kv/get"]}, chain_id=0), OWNER))
    )
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        World(NOW).judge(header)


def test_P5_audience_may_be_any_uri():
    """An audience that is not a DID is kept without its fragment."""
    assert (
        parse_delegation(cacao({}, uri="https://a.example/x#y")).delegate == "https://a.example/x"
    )


def test_dag_cbor_reads_and_writes_the_same():
    """An independent strict implementation gives the same bytes."""
    assert libipld.decode_dag_cbor(GOOD) == dag_cbor.decode(GOOD)
    assert dag_cbor.encode(dag_cbor.decode(GOOD)) == GOOD
