"""Rules U1 to U16, X1 to X10, R1 to R3 and section 1.6: spaces, resources and networks."""

import tracemalloc

import pytest
from capability_cases import OWNER, SPACE
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.capability_errors import InvalidIdentifier
from capabilities.principals import Principal
from capabilities.resources import (
    OpaqueResource,
    SpaceId,
    SpaceResource,
    extends,
    is_authority,
    is_scheme,
    is_uri,
    network_id,
    network_of,
    parse_network_id,
    parse_resource,
    parse_space_id,
    root_of,
)

KEY = "tinycloud:key:z6Mk:default"


def resource(below: str) -> SpaceResource:
    parsed = parse_resource(KEY + below)
    assert isinstance(parsed, SpaceResource)
    return parsed


@pytest.mark.parametrize(
    "text",
    [
        "tinycloud:key:z6Mk:default",
        "tinycloud:ens:example.eth:ns0",
        "tinycloud:key:z:a.b-c_d~e",
        "tinycloud:key:z:..",
        "tinycloud:key:z:a@b!$&'()*+,;=",
        "tinycloud:key:z:%C3%A9",
    ],
)
def test_U1_U4_U7_space_ids(text):
    """A space id is rendered as it was parsed."""
    assert text == parse_space_id(text).text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tinycloud:",
        "tinycloud:key:z",
        "Tinycloud:key:z:a",  # U1, U3: scheme in lower case
        "other:key:z:a",  # U1
        "tinycloud:key:z:é",  # U1: ASCII
        "tinycloud:key:z:a b",  # U1
        "tinycloud://key:z:a",  # U2: no authority
        "tinycloud://h/key:z:a",  # U2
        "tinycloud:key:z:a?q",  # U2
        "tinycloud:key:z:a#f",  # U2
        "tinycloud:key:z:a/kv",  # U2
        "tinycloud:key:z:",  # U2, U4
        "tinycloud::a",  # U5
        "tinycloud:key::a",  # U5
        "tinycloud:key:z:%c3",  # U3: escapes in upper case
        "tinycloud:key:z:%41",  # U3: no escape of what needs none
        "tinycloud:key:z:%4",  # U1
        "tinycloud:pkh:eip155:1:0x12:a",  # U5
        f"tinycloud:{OWNER.did[4:].replace(':1:', ':0:')}:a",  # U5
    ],
)
def test_U1_U2_U3_U4_U5_what_is_no_space_id(text):
    """A malformed space id is rejected and never repaired."""
    with pytest.raises(InvalidIdentifier, match="Invalid space ID"):
        parse_space_id(text)


def test_U5_U6_spellings_of_an_owner_are_one_space():
    """Addresses in lower case, upper case and checksum case give one space."""
    lower = parse_space_id(SPACE.lower())
    assert lower.text == SPACE
    assert parse_space_id(SPACE) == lower
    assert parse_space_id(SPACE.replace(":1:", ":+01:")) == lower


@pytest.mark.parametrize(
    ("below", "service", "path", "query", "fragment"),
    [
        ("/kv", "kv", None, None, None),
        ("/kv/", "kv", "", None, None),
        ("/kv/a/b", "kv", "a/b", None, None),
        ("/kv//a", "kv", "/a", None, None),
        ("/", "", None, None, None),
        ("//", "", "", None, None),
        ("/service#peer", "service", None, None, "peer"),
        ("/kv/#list", "kv", "", None, "list"),
        ("/other/path/#list", "other", "path/", None, "list"),
        ("/kv/a?q=1&r#f?", "kv", "a", "q=1&r", "f?"),
        ("/kv/a?", "kv", "a", "", None),
        ("/kv/a#", "kv", "a", None, ""),
        ("/kv/a%20b", "kv", "a%20b", None, None),
        ("/kv/a%2Fb", "kv", "a%2Fb", None, None),
        ("/kv/.hidden", "kv", ".hidden", None, None),
        ("/kv/...", "kv", "...", None, None),
        ("/kv/a:b@c", "kv", "a:b@c", None, None),
    ],
)
def test_U10_U11_U12_U13_U14_parts_of_a_resource(below, service, path, query, fragment):
    """A resource is split at its first two slashes, not decoded, and rendered unchanged."""
    space = SpaceId(Principal("did:key:z6Mk"), "default")
    assert SpaceResource(space, service, path, query, fragment) == resource(below)
    assert KEY + below == resource(below).text


def test_U11_absent_and_empty_path_differ():
    """`/kv` and `/kv/` are different resources."""
    assert resource("/kv") != resource("/kv/")


@pytest.mark.parametrize(
    "text",
    [
        "tinycloud:ens:example.eth:ns0/kv/path/to/image.jpg",
        "tinycloud:ens:example1.eth:ns1/service#peer",
        "tinycloud:ens:example2.eth:ns2/kv/#list",
        "tinycloud:ens:example2.eth:ns3/other/path/#list",
    ],
)
def test_U15_examples_parse(text):
    """The examples of the specification are parsed as resources in a space."""
    parsed = parse_resource(text)
    assert isinstance(parsed, SpaceResource)
    assert text == parsed.text


@pytest.mark.parametrize(
    "text",
    [
        "tinycloud::ns0/kv/x",  # U15
        "tinycloud:ens:example.eth:/kv/x",  # U15
        "tinycloud:ens:example.eth:ns0",  # U10: no slash
        "tinycloud:key:z:default/kv/a%2fb",  # U3
        "tinycloud:key:z:default/kv/%61",  # U3
        "tinycloud:key:z:default/kv/./a",  # U3
        "tinycloud:key:z:default/kv/a/..",  # U3
        "tinycloud:key:z:default/..",  # U3
        "tinycloud:key:z:default/kv/a?%7e",  # U3
        "tinycloud:key:z:default/kv/a#%aa",  # U3
        "TINYCLOUD:key:z:default/kv/a",  # U3
        "tinycloud://host/kv/a",  # U10
        "tinycloud:pkh:eip155:1:0x12:default/kv",  # U5
        "urn:cid:bafy",
        "urn:tinycloud:encryption:did:key:z:default",
        "https://a.example/x",
        "tinycloud:/kv/x",
    ],
)
def test_U3_U16_other_uris_are_opaque(text):
    """A URI that is not in a space is kept as an opaque resource."""
    assert OpaqueResource(text) == parse_resource(text)


@pytest.mark.parametrize(
    "text",
    [
        "é:x",
        "a b:c",
        "x:a b",
        'x:"',
        "x:\\",
        "x:|",
        "x:^",
        "x:`",
        "x:{}",
        "x:%",
        "x:%4",
        "x:a#b#c",
        "a/b",
        "",
        "1x:y",
        "x:\n",
        "tinycloud://pkh:eip155:1:0x/kv",
        "http://[::1/",
        "http://[1::2::3]/",
        "http://a:b@c@d/",
        "x:a[b]",
    ],
)
def test_U1_U3_T1_what_is_no_uri_is_refused(text):
    """Text that is not an RFC 3986 URI is rejected."""
    with pytest.raises(InvalidIdentifier):
        parse_resource(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://[::1]:80/a",
        "http://[v1.x:y]",
        "http://u:p@h:1/?q#f",
        "x:",
        "file:///a",
        "http://1.2.3.4",
    ],
)
def test_U1_uris_of_rfc_3986(text):
    """Every RFC 3986 form of authority and path is accepted."""
    assert is_uri(text)


def test_scheme_and_authority_forms():
    """A sign-in text needs a non-empty authority as domain, and a valid scheme."""
    assert all(map(is_authority, ["app.example", "localhost:5173", "[::1]:80", "u@h"]))
    assert not any(map(is_authority, ["", "a b", "a/b", "a?b", "é"]))
    assert is_scheme("https")
    assert not any(map(is_scheme, ["", "1a", "ht tp", "https:"]))


@pytest.mark.parametrize(
    ("child", "parent", "contained"),
    [
        ("/kv/a", "/kv", True),  # X2
        ("/kv", "/kv", True),  # X2
        ("/kv/", "/kv", True),  # X2
        ("/kv/photos", "/kv/photos", True),  # X3
        ("/kv/photos/a", "/kv/photos", True),  # X3
        ("/kv/photos/a", "/kv/photos/", True),  # X6
        ("/kv", "/kv/photos", False),  # X4
        ("/kv", "/kv/", False),  # X4
        ("/kv/", "/kv/", True),  # X5
        ("/kv//a", "/kv/", True),  # X5
        ("/kv/a", "/kv/", False),  # X5
        ("/kv/photos2", "/kv/photos", False),  # X6
        ("/kv/photos", "/kv/photos/", False),  # X6
        ("/kv2", "/kv", False),  # X1
        ("/sql/a", "/kv", False),  # X1
        ("/kv/a#x", "/kv", False),  # X1
        ("/kv/a", "/kv#x", False),  # X1
        ("/kv/a#x", "/kv#x", True),  # X1
        ("/kv/a#y", "/kv#x", False),  # X1
        ("/kv/a?q", "/kv?r", True),  # X1: the query is not compared
        ("/kv/a%2Fb", "/kv/a", False),  # U13
        ("/kv/A", "/kv/a", False),
    ],
)
def test_X1_X2_X3_X4_X5_X6_containment_in_a_space(child, parent, contained):
    """A grant covers its path and the paths below it, by whole segments."""
    assert contained == extends(resource(child), resource(parent))


def test_X1_spaces_are_compared_canonically():
    """A grant covers another case of the owner's address, but no other space."""
    assert extends(parse_resource(f"{SPACE.lower()}/kv/a"), parse_resource(f"{SPACE}/kv"))
    assert not extends(parse_resource(f"{SPACE}2/kv/a"), parse_resource(f"{SPACE}/kv"))


NETWORK = f"urn:tinycloud:encryption:{OWNER.did}:default"


@pytest.mark.parametrize(
    ("child", "parent", "contained"),
    [
        (NETWORK, NETWORK, True),  # X7
        (NETWORK.lower(), NETWORK, True),  # X7
        (NETWORK + "2", NETWORK, False),  # X7: not a prefix
        ("urn:tinycloud:encryption:x", "urn:tinycloud:encryption:x", False),  # X8: neither parses
        (NETWORK, "urn:tinycloud:encryption:", False),  # X8
        (NETWORK, "urn:tinycloud:", False),  # X8
        ("urn:tinycloud:x", "urn:tinycloud:encryption:x", False),  # X8
        ("urn:x:abc", "urn:x:ab", True),  # X9
        ("urn:x:ab", "urn:x:abc", False),  # X9
        (KEY + "/kv", "tinycloud:", False),  # X10
        ("tinycloud:x", KEY + "/kv", False),  # X10
    ],
)
def test_X7_X8_X9_X10_containment_of_other_resources(child, parent, contained):
    """Networks match exactly and other URIs by prefix; different kinds never match."""
    assert contained == extends(parse_resource(child), parse_resource(parent))


def test_R1_R2_R3_root_authority():
    """The owners of spaces and networks are root; other resources have no root."""
    assert OWNER.did == root_of(parse_resource(f"{SPACE.lower()}/kv/a"))
    assert OWNER.did == root_of(parse_resource(NETWORK.lower()))
    assert root_of(parse_resource("urn:tinycloud:encryption:did:key:zX#zX:default")) == "did:key:zX"
    assert root_of(parse_resource("urn:cid:bafy")) is None
    assert root_of(parse_resource("urn:tinycloud:encryption:x")) is None


@pytest.mark.parametrize(
    ("owner", "name", "canonical"),
    [
        (OWNER.did.lower(), "default", OWNER.did),
        (OWNER.did.replace(":1:", ":01:"), "default", OWNER.did),
        ("did:key:zabc", "Bad", "did:key:zabc"),
        ("did:key:zX#zX", "default", "did:key:zX#zX"),
        ("foo", "default", "foo"),
    ],
)
def test_network_ids_are_canonicalised(owner, name, canonical):
    """Only an Ethereum owner has several spellings; other owners may be any text."""
    parsed = parse_network_id(f"urn:tinycloud:encryption:{owner}:{name}")
    assert parsed.owner == canonical
    assert parsed.name == name
    assert f"urn:tinycloud:encryption:{canonical}:{name}" == parsed.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("urn:tinycloud:x", "missing urn:tinycloud:encryption: prefix"),
        ("URN:tinycloud:encryption:a:b", "missing urn:tinycloud:encryption: prefix"),
        ("urn:tinycloud:encryption:x", "missing owner DID/name separator"),
        ("urn:tinycloud:encryption::x", "empty owner DID"),
        ("urn:tinycloud:encryption:did:key:z:", "empty network name"),
        ("urn:tinycloud:encryption:did:key:z:a/b", "network name may not contain ':' or '/'"),
        ("urn:tinycloud:encryption:did:key:x", "invalid owner principal: invalid DID"),
        (
            "urn:tinycloud:encryption:did:pkh:eip155:1:0x12:default",
            "invalid owner principal: invalid EIP-155 address length: expected 40, got 2",
        ),
    ],
)
def test_network_id_errors_have_the_wire_wording(text, message):
    """The first fault is reported with the text that clients know."""
    with pytest.raises(InvalidIdentifier) as caught:
        parse_network_id(text)
    assert message == caught.value.text


def test_network_id_from_parts_refuses_a_colon_in_the_name():
    """A name with a colon is rejected, because it would be parsed as another owner."""
    with pytest.raises(InvalidIdentifier, match="may not contain"):
        network_id("did:key:z", "a:b")


def test_long_space_ids_are_read_like_short_ones():
    """A text that is too long for the cache gives the same result."""
    text = f"tinycloud:key:z6Mk:{'n' * 600}"
    assert text == parse_space_id(text).text
    assert extends(parse_resource(text + "/kv/a"), parse_resource(text + "/kv"))


pieces = st.lists(
    st.sampled_from(["a", "/", ".", "..", "%2F", "%2f", "%41", "%7E", "%C3%A9", "%c3"]), max_size=4
).map("".join)
names = st.sampled_from(["default"] * 4 + ["%2F", "%41", "%2f"])


@given(names, pieces, st.none() | pieces, st.none() | pieces)
@fuzzed(1)
def test_U3_only_normal_forms_are_of_a_space(name, path, query, fragment):
    """A resource with dot segments or unusual escapes is opaque."""
    below = (
        path + ("" if query is None else f"?{query}") + ("" if fragment is None else f"#{fragment}")
    )
    text = f"tinycloud:key:z6Mk:{name}/kv/{below}"
    has_dots = not {".", ".."}.isdisjoint(path.split("/"))
    if has_dots or any(escape in text for escape in ("%2f", "%41", "%7E", "%c3")):
        assert OpaqueResource(text) == parse_resource(text)
    else:
        space = SpaceId(Principal("did:key:z6Mk"), name)
        assert SpaceResource(space, "kv", path, query, fragment) == parse_resource(text)


@pytest.mark.parametrize(
    "prefix", ["urn:x:", "urn:tinycloud:encryption:", "urn:tinycloud:encryption:did:key:z"]
)
def test_long_texts_are_not_remembered(prefix):
    """Long resources are not cached, so outsiders cannot fill the memory."""
    tracemalloc.start()
    try:
        for number in range(50):
            text = f"{prefix}{'a' * 100_000}:{number}"
            assert (network_of(parse_resource(text)) is None) == prefix.startswith("urn:x")
            root_of(parse_resource(text))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


def network_or_none(text):
    try:
        return parse_network_id(text)
    except InvalidIdentifier:
        return None


addresses = st.sampled_from(
    [
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "0x1",
    ]
)
owners = st.builds(
    "did:pkh:eip155:{}:{}".format, st.sampled_from(["1", "01", "+1", "2"]), addresses
) | st.sampled_from(["did:key:z", "did:key:z#z", "did:key:Z", "did:key", "word", ""])
opaque_texts = st.builds(
    "{}{}:{}".format,
    st.sampled_from(["urn:tinycloud:encryption:", "urn:x:"]),
    owners,
    st.sampled_from(["a", "ab", ""]),
) | st.sampled_from(
    ["urn:x:", "urn:x:did:key:z", "urn:tinycloud:encryption:", "urn:tinycloud:encryption"]
)


@given(opaque_texts, opaque_texts)
@fuzzed(2)
def test_X7_X8_X9_opaque_resources_are_contained_as_listed(child, parent):
    """Containment of opaque resources matches a literal implementation of the list."""
    networks = network_or_none(child), network_or_none(parent)
    if None not in networks:
        expected = networks[0] == networks[1]
    elif networks != (None, None) or any(
        text.startswith("urn:tinycloud:encryption:") for text in (child, parent)
    ):
        expected = False
    else:
        expected = child.startswith(parent)
    assert extends(OpaqueResource(child), OpaqueResource(parent)) is expected
