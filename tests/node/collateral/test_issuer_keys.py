"""Key sets of issuers, and the addresses that the node connects to (OX7)."""

import asyncio
import json
import socket

import pytest
from fuzz_strategies import json_values
from hypothesis import given
from hypothesis import strategies as st
from oidc_issuer import Issuer, ec_key
from tests_support import fuzzed

from capabilities.capability_errors import CapabilityError
from capabilities.machine_tokens import OidcTrust
from node.collateral.issuer_keys import IssuerKeys, _public_socket

ISSUER = Issuer("https://ci.test", {"one": ec_key()})


def trust(jwks: str) -> OidcTrust:
    """Return a trust with these keys."""
    return OidcTrust(
        "did:key:z6Mk", ("a",), 1, "a", issuer=ISSUER.address, claims={"a": ["b"]}, jwks=jwks
    )


async def _is_refused(jwks: str, kid: object) -> bool:
    try:
        await IssuerKeys().find(trust(jwks), kid, now=0)
    except CapabilityError:
        return True
    return False


@fuzzed()
@given(st.text(max_size=200), json_values(), st.none() | st.text(max_size=5) | st.integers())
def test_fuzz_key_sets(text: str, value: object, kid: object) -> None:
    """A text that is no key set is refused, and no other error leaves the reader."""
    (key,) = json.loads(ISSUER.jwks)["keys"]
    for found in (
        text,
        json.dumps(value),
        json.dumps({"keys": value}),
        json.dumps({"keys": [value]}),
    ):
        assert asyncio.run(_is_refused(found, kid))
    changed = json.dumps({"keys": [{**key, "x": value}, key, value]})
    asyncio.run(_is_refused(changed, kid))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:8.8.8.8", "fd00::1"]
)
def test_OX7_sockets_for_public_addresses_only(address: str) -> None:
    """No socket is made for an address inside, whichever name or number led to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(OSError, match="not public"):
        _public_socket((family, socket.SOCK_STREAM, 0, "", (address, 443)))
    _public_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 443))).close()
