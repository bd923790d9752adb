"""Tests of the list of a network's keys, which a node sends unsigned (EN37)."""

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from capabilities.principals import parse_principal
from capabilities.resources import network_id
from sealspace.documents.network_keys import NetworkKeys, parse_network_keys
from sealspace.errors import MalformedAnswer

NETWORK = network_id(parse_principal("did:key:z6MkA"), "default")
KEY = {
    "keyVersion": 1,
    "publicEncryptionKey": "A" * 43 + "=",
    "state": "newest",
    "createdAt": "2026-01-02T03:04:05Z",
    "changedAt": "2026-01-02T03:04:05Z",
}
LIST = {"networkId": NETWORK.text, "keys": [KEY], "statements": []}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def test_EN37_a_list_is_read() -> None:
    """A list of this network is read."""
    listed = parse_network_keys(json.dumps(LIST).encode(), NETWORK)
    assert [one.key_version for one in listed.keys] == [1]


@given(
    st.binary(max_size=200)
    | st.fixed_dictionaries({name: _JSON | st.just(value) for name, value in LIST.items()}).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_EN37_fuzz_lists(data: bytes) -> None:
    """Any bytes are a list or an error of ours."""
    with suppress(MalformedAnswer):
        assert isinstance(parse_network_keys(data, NETWORK), NetworkKeys)
