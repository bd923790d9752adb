"""Tests of issuers' key sets and of the addresses that the node connects to (OX7)."""

import asyncio
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from fuzz_strategies import json_values
from https_service import https_service
from hypothesis import given
from hypothesis import strategies as st
from oidc_issuer import Issuer, ec_key
from patience import AT_ONCE_S, PATIENCE_S
from tests_support import fuzzed

from capabilities.capability_errors import CapabilityError, MalformedToken
from capabilities.machine_tokens import OidcTrust
from node.collateral.issuer_keys import IssuerKeys, _public_socket

ISSUER = Issuer("https://ci.test", {"one": ec_key()})


def trust(jwks: str | None, issuer: str = ISSUER.address, ca: str | None = None) -> OidcTrust:
    """Return a trust with the given keys."""
    claims: dict[str, list[str | int | bool]] = {"a": ["b"]}
    return OidcTrust(
        *("did:key:z6Mk", ("a",), 1, "a"), issuer=issuer, claims=claims, jwks=jwks, issuer_ca=ca
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
    """Any text that is not a key set is refused with the reader's own error."""
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
    """The node opens no connection to a private address, whatever host name or number leads to
    it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(OSError, match="not public"):
        _public_socket((family, socket.SOCK_STREAM, 0, "", (address, 443)))
    _public_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 443))).close()


async def test_OX7_a_set_has_at_most_64_keys() -> None:
    """A key set with more than 64 keys is refused, because it would take memory and time."""
    (key,) = json.loads(ISSUER.jwks)["keys"]
    for count in (64, 65):
        keys = json.dumps({"keys": [key, *[key | {"kid": str(n)} for n in range(1, count)]]})
        assert await _is_refused(keys, "one") is (count == 65)


async def _reason(keys: IssuerKeys, asked: OidcTrust, now: float = 0) -> str:
    """Return why an issuer's key is not found, or "" if the key is found."""
    try:
        await keys.find(asked, "one", now=now)
    except MalformedToken as refused:
        return refused.text
    return ""


async def test_OX7_many_issuers_do_not_evict_one_in_use(tmp_path: Path) -> None:
    """The node keeps the keys of the 256 most recently used issuers."""
    async with https_service(tmp_path, "localhost") as service:
        issuer = Issuer(service.url("").rstrip("/"), ISSUER.keys)
        service.documents |= issuer.documents
        keys = IssuerKeys([issuer.address])
        asked = trust(None, issuer.address, service.ca.read_text())
        for number in range(600):
            if number % 200 == 0:
                assert await _reason(keys, asked) == ""
            assert await _reason(keys, trust(None, f"https://127.0.0.1:1/{number}"))
        assert len(service.seen) == 2


async def test_OX7_slow_names_delay_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node resolves host names in separate threads, so slow names do not delay file access."""
    answered, asked, look_up = threading.Event(), threading.Semaphore(0), socket.getaddrinfo

    def slow(host: str, *arguments: Any, **more: Any) -> Any:
        if not host.startswith("slow"):
            return look_up(host, *arguments, **more)
        asked.release()
        answered.wait(PATIENCE_S)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    keys = IssuerKeys()
    finding = [
        asyncio.create_task(_reason(keys, trust(None, f"https://slow{number}.test")))
        for number in range(100)
    ]
    try:
        async with asyncio.timeout(AT_ONCE_S):
            for _ in range(64):
                assert await asyncio.to_thread(asked.acquire, timeout=PATIENCE_S)
        assert not asked.acquire(blocking=False)
    finally:
        answered.set()
        reasons = await asyncio.gather(*finding)
    assert {*reasons} <= {
        f"the issuer's keys cannot be fetched: {why}"
        for why in ("name-unknown", "no answer in time")
    }


async def test_OX7_the_reason_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what the issuer answered, or why it did not answer."""
    async with https_service(tmp_path, "localhost") as service:
        address, ca = service.url("").rstrip("/"), service.ca.read_text()
        configuration = "/.well-known/openid-configuration"
        for document, more, reason in (
            (b"{", "", "not a JSON object"),
            (b"{}", "", "the issuer's configuration is for another issuer"),
            (bytes(128 * 1024 + 1), "", "the response has more than 131072 bytes"),
            (None, "/redirect?to=https://a.test&x=", "the service responded with status 302"),
        ):
            service.documents.clear()
            if document is not None:
                service.documents[configuration] = document
            where = f"{address}{more}"
            assert reason in await _reason(IssuerKeys([where]), trust(None, where, ca))

    def look_up(host: str, *_: Any, **__: Any) -> Any:
        if not host.startswith("inner"):
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.1", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for issuer, named, reason in (
        ("https://127.0.0.1:1", (), "the request failed: ClientConnectorError"),
        ("https://inner.test", (), "address-refused"),
        ("https://a.test", (), "name-unknown"),
        ("https://a.test", ("https://a.test",), "ClientConnectorDNSError"),
    ):
        found = await _reason(IssuerKeys(named), trust(None, issuer))
        assert found.startswith("the issuer's keys cannot be fetched: ") and reason in found
    found = await _reason(IssuerKeys(), trust(None, "https://a.test", "no certificate"))
    assert found.startswith("the issuer's keys cannot be fetched: ")
