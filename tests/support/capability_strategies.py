"""Hypothesis strategies for the tests of capabilities."""

from hypothesis import strategies as st

from capabilities.cids import Cid
from capabilities.principals import Principal
from capabilities.recap import Recap
from capabilities.resources import NetworkId, OpaqueResource, SpaceId, SpaceResource
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import SiweMessage
from capabilities.ucan import UcanPayload

SIGNERS = [Ed25519Signer(bytes([number]) * 32) for number in range(1, 5)]
OWNERS = [Principal(signer.did) for signer in SIGNERS[:2]]

segment = (
    st.text("abB.-_~%", min_size=1, max_size=4)
    .map(lambda text: text.replace("%", "%2F"))
    .filter(lambda text: text not in (".", ".."))
)
path = (
    st.none() | st.just("") | st.lists(segment | st.just(""), min_size=1, max_size=3).map("/".join)
)
optional = st.none() | st.sampled_from(["", "q", "r"])
space = st.builds(SpaceId, owner=st.sampled_from(OWNERS), name=st.sampled_from(["default", "a"]))
space_resource = st.builds(
    SpaceResource,
    space=space,
    service=st.sampled_from(["kv", "sql", ""]),
    path=path,
    query=optional,
    fragment=optional,
)
network = st.builds(
    NetworkId, owner=st.sampled_from(OWNERS), name=st.sampled_from(["default", "b"])
)
opaque = st.builds(
    OpaqueResource, text=st.sampled_from(["urn:x:a", "urn:x:ab", "urn:x:b"])
) | network.map(lambda drawn: OpaqueResource(drawn.text))
resource = space_resource | opaque

ability = st.sampled_from(
    [
        f"tinycloud.{name}"
        for name in (
            "kv/get",
            "kv/del",
            "kv/delete",
            "sql/*",
            "sql/read",
            "sql/select",
            "sql/admin",
        )
    ]
)
json_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
caveat = st.dictionaries(st.sampled_from("kx"), st.integers(0, 1), max_size=1)
att = st.dictionaries(
    resource.map(lambda drawn: drawn.text),
    st.dictionaries(ability, st.lists(caveat, min_size=1, max_size=2), max_size=3),
    max_size=3,
)
cid = st.builds(
    Cid,
    codec=st.integers(0, 2**63 - 1),
    hash_code=st.sampled_from([0x1E, 0x12]),
    digest=st.binary(min_size=32, max_size=32),
)
seconds = st.integers(0, 253402300799) | st.floats(0, 253402300799)

payload = st.builds(
    UcanPayload,
    iss=st.just(SIGNERS[0].did_url),
    aud=st.sampled_from([signer.did for signer in SIGNERS]),
    exp=seconds,
    nbf=st.none() | seconds.map(float),
    nnc=st.none() | st.text(max_size=10),
    fct=st.none() | st.lists(json_value, max_size=3),
    prf=st.lists(cid.map(lambda drawn: drawn.text()), max_size=3),
    att=att,
)

line = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
time_text = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
message = st.builds(
    SiweMessage,
    domain=st.sampled_from(["app.example", "localhost:5173", "[::1]:80"]),
    address=st.binary(min_size=20, max_size=20),
    chain_id=st.integers(0, 2**64 - 1),
    uri=st.sampled_from([SIGNERS[0].did_url, "https://a.example/x", "ucan:bafy"]),
    nonce=line,
    issued_at=time_text,
    statement=st.none() | line,
    expiration_time=st.none() | time_text,
    not_before=st.none() | time_text,
    request_id=st.none() | line,
    resources=st.lists(resource.map(lambda drawn: drawn.text), max_size=3).map(tuple),
    scheme=st.none() | st.sampled_from(["https", "a+b"]),
)
recap = st.builds(
    Recap,
    att=st.dictionaries(
        resource.map(lambda drawn: drawn.text),
        st.dictionaries(ability, st.lists(st.just({}), min_size=1, max_size=2), max_size=3),
        max_size=3,
    ),
    prf=st.lists(cid, max_size=2).map(tuple),
)
