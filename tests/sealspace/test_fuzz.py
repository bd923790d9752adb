"""Fuzz tests of stored forms, manifests and answers: any bytes give a value or a SealspaceError."""

import asyncio
import json
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fuzz_strategies import changed_objects, damaged_bytes, damaged_text, json_values, large_texts
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy, FixedClock, fuzzed

from capabilities.cids import parse_cid
from capabilities.principals import Principal
from capabilities.resources import SpaceId
from capabilities.signatures import Ed25519Signer
from encryption_network.envelope import seal_envelope
from encryption_network.keywrap import public_key_of
from encryption_network.networks import Descriptor
from encryption_network.pins import NetworkPin, parse_pins, pins_json
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.manifest_reading import parse_duration_ms, parse_manifest
from sealspace.documents.manifests import (
    check_manifest,
    compose_manifests,
    requested_capabilities,
    target_grants,
)
from sealspace.documents.secret_names import is_secret_name, parse_secret_name
from sealspace.encryption import decrypt_body, verify_answer
from sealspace.errors import SealspaceError
from sealspace.giving.words.manifests import explain
from sealspace.session import (
    decode_session,
    encode_session,
    key_session,
    network_of_owner,
    read_grant,
    sign_message,
    space_of,
)
from sealspace.wallets import new_wallet
from sealspace.wire.node_refusals import refusal_of
from sealspace.wire.portable import (
    decode_bundle,
    decode_portable,
    encode_bundle,
    encode_portable,
    grant_of,
    portable_of,
)
from sealspace.wire.transport import Transport, TransportSettings

NOW = 1_795_000_000.0
SEED = bytes(range(32))
AGENT = Ed25519Signer(SEED)
WALLET = new_wallet(entropy=CountingEntropy())
SPACE = space_of(WALLET.did, "default").text
NETWORK = network_of_owner(WALLET.did)
GRANT = read_grant(
    sign_message(
        WALLET,
        CountingEntropy(),
        domain="app.example",
        uri=AGENT.did,
        issued_at=NOW,
        expires_at=NOW + 600,
        capabilities=[
            allow(f"{SPACE}/kv", "tinycloud.kv/get"),
            allow(f"{SPACE}/kv", "tinycloud.kv/put"),
            allow(f"{SPACE}/kv", "tinycloud.kv/list"),
            allow(NETWORK.text, "tinycloud.encryption/decrypt"),
        ],
    )
)
SESSION = key_session(SEED, grants=[GRANT])
STORED = encode_session(SESSION)
PORTABLE = encode_portable(
    portable_of(GRANT, owner=Principal(WALLET.did), host="http://127.0.0.1:1")
)
MANIFEST: dict[str, Any] = {
    "manifest_version": 1,
    "app_id": "com.example.bot",
    "name": "Bot",
    "did": AGENT.did,
    "defaults": "admin",
    "expiry": "7d",
    "space": "default",
    "prefix": "",
    "knowledge": True,
    "includePublicSpace": False,
    "secrets": {
        "API_KEY": True,
        "OTHER": {"name": "REAL", "scope": "Bot", "actions": ["read"], "expiry": "1d"},
    },
    "permissions": [
        {
            "service": "tinycloud.vault",
            "path": "a",
            "actions": ["read"],
            "skipPrefix": True,
            "space": "x",
            "expiry": "1h",
        },
        {
            "service": "tinycloud.encryption",
            "path": NETWORK.text,
            "actions": ["decrypt"],
            "caveats": [{}],
        },
    ],
}
MANIFEST_VALUES = json_values(
    "7d", "read", "tinycloud.kv", AGENT.did, "API_KEY", members=["service", "path", "actions"]
)
ENVELOPE = seal_envelope(
    Descriptor(
        network_id=NETWORK,
        public_key=public_key_of(SEED),
        state="active",
        alg="x25519-aes256gcm/v1",
        key_version=1,
        node_did=None,
    ),
    b"secret",
    CountingEntropy(),
)
REQUEST = decrypt_body(ENVELOPE, target_node=AGENT.did, receiver_public_key=public_key_of(SEED))


def _dumped(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: json.dumps(value).encode())


def _with_inner(
    original: dict[str, Any], name: str, values: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    return values.map(lambda value: {**original, name: value})


@fuzzed()
@given(
    st.binary(max_size=200)
    | large_texts.map(str.encode)
    | damaged_bytes(STORED)
    | _dumped(changed_objects(json.loads(STORED), json_values(SPACE, WALLET.did, GRANT.header)))
    | _dumped(
        _with_inner(json.loads(STORED), "grants", st.lists(damaged_text(GRANT.header), max_size=2))
    )
)
def test_fuzz_sessions(data: bytes) -> None:
    """A stored session of any bytes is read or refused, and the error does not quote its secret."""
    try:
        decode_session(data)
    except SealspaceError as error:
        assert json.loads(STORED)["seed"] not in str(error)


PIN: Any = pins_json([NetworkPin(NETWORK.text, public_key_of(SEED), 1)])[0]


@fuzzed()
@given(
    st.lists(changed_objects(PIN, json_values(NETWORK.text, "AA==")) | json_values(), max_size=3)
    | json_values()
)
def test_fuzz_pins(value: Any) -> None:
    """Pins of any shape are read unchanged, or refused."""
    pins = parse_pins(value)
    assert pins is None or parse_pins(pins_json(pins)) == pins


@fuzzed()
@given(
    st.binary(max_size=200)
    | large_texts.map(str.encode)
    | damaged_bytes(PORTABLE)
    | _dumped(
        changed_objects(
            json.loads(PORTABLE),
            json_values(SPACE, "kv", "2026-11-18T11:16:40.000Z", members=["path"]),
        )
    )
)
def test_fuzz_portable_delegations(data: bytes) -> None:
    """A portable delegation of any bytes is read, and its token too, or refused."""
    with suppress(SealspaceError):
        grant_of(decode_portable(data), now=NOW)
    with suppress(SealspaceError):
        assert encode_bundle(decode_bundle(data))


@fuzzed()
@given(st.text() | damaged_text(GRANT.header) | large_texts)
def test_fuzz_grants(header: str) -> None:
    """A grant of any text is read or refused."""
    with suppress(SealspaceError):
        read_grant(header)


@fuzzed()
@given(
    changed_objects(MANIFEST, MANIFEST_VALUES)
    | _with_inner(
        MANIFEST,
        "permissions",
        st.lists(changed_objects(MANIFEST["permissions"][0], MANIFEST_VALUES), max_size=2),
    )
    | _with_inner(MANIFEST, "secrets", changed_objects(MANIFEST["secrets"], MANIFEST_VALUES))
    | json_values()
)
def test_fuzz_manifests(value: Any) -> None:
    """Manifests of any shape are checked, expanded and joined, or refused."""
    with suppress(SealspaceError):
        manifest = parse_manifest(value)
        assert check_manifest(value) == ()
        request = compose_manifests([manifest, manifest])
        assert all(line.text.isprintable() for line in explain(request))
        for target in request.delegation_targets:
            target_grants(target, owner=WALLET.did, leave_out=True)
        requested_capabilities(
            request.resources, space_id=lambda name: space_of(WALLET.did, name).text
        )
        return
    assert check_manifest(value)


@fuzzed()
@given(st.text() | st.from_regex(r"[0-9.]{0,400} ?[a-z]{0,9}") | large_texts, st.none() | st.text())
def test_fuzz_durations_and_names(text: str, scope: str | None) -> None:
    """Durations, names and scopes of any text are read or refused."""
    for read in (lambda: parse_duration_ms(text), lambda: parse_secret_name(text, scope=scope)):
        with suppress(SealspaceError):
            read()
    if is_secret_name(text):
        assert text == parse_secret_name(text).name


ANSWER = {
    "type": "tinycloud.encryption.decrypt-result/v1",
    "targetNode": AGENT.did,
    "networkId": REQUEST["networkId"],
    "invocationCid": GRANT.cid,
    "requestHash": "00" * 32,
    "nodeId": AGENT.did,
    "nodeSignature": "AA==",
    "wrappedKey": "AA==",
    **{
        name: REQUEST[name]
        for name in ("alg", "keyVersion", "encryptedSymmetricKeyHash", "receiverPublicKeyHash")
    },
}


@fuzzed()
@given(changed_objects(ANSWER, json_values(AGENT.did, "AA==")), st.text())
def test_fuzz_answers_with_a_key(answer: dict[str, Any], cid: str) -> None:
    """A decrypt answer with any members either contains this request's key or is refused."""
    for asked in (cid, GRANT.cid):
        with suppress(SealspaceError):
            verify_answer(answer, REQUEST, invocation_cid=asked)


@fuzzed()
@given(
    st.integers(0, 999),
    st.sampled_from(["text/plain", "text/html", "application/problem+json"]) | st.text(),
    st.binary(max_size=200)
    | large_texts.map(str.encode)
    | st.text("Unauthorized Action: tinycloud./kv\n", max_size=200).map(
        lambda text: f"Unauthorized Action: {text}".encode()
    )
    | _dumped(json_values(members=["code", "title", "status", "hint"])),
)
def test_fuzz_refusals(status: int, kind: str, body: bytes) -> None:
    """Any unsuccessful answer is read as a refusal with a limited text."""
    assert len(refusal_of(status, {"Content-Type": kind}, body).text) <= 2_000


# --- a node that answers anything -----------------------------------------------------------------


class Answering(socketserver.ThreadingTCPServer):
    """A server that sends given bytes on every connection and closes it."""

    daemon_threads = True
    answer = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Answering)
        with suppress(OSError):
            self.request.recv(1 << 16)
            self.request.sendall(self.server.answer)


@pytest.fixture(scope="module")
def answering() -> Iterator[Answering]:
    """A running server that sends given bytes."""
    with Answering() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


STRANGE_BODIES = (
    st.binary(max_size=100)
    | _dumped(
        json_values(
            AGENT.did, "AA==", 1, members=["protocol", "nodeId", "descriptor", "nonce", "expiresAt"]
        )
    )
    | large_texts.map(str.encode)
)


def _http(status: int, headers: list[tuple[str, str]], body: bytes) -> bytes:
    lines = [
        f"HTTP/1.1 {status} x",
        *(f"{name}: {value}" for name, value in headers),
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1", "replace") + body


strange_answers = st.binary(max_size=100) | st.builds(
    _http,
    st.sampled_from([100, 200, 204, 206, 301, 304, 401, 404, 500, 599]),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "content-type",
                    "etag",
                    "x-tinycloud-truncated",
                    "x-tinycloud-next-cursor",
                    "content-encoding",
                ]
            ),
            st.sampled_from(["application/json", "true", "gzip", '"blake3-00"', ""])
            | st.text(max_size=8),
        ),
        max_size=4,
    ),
    STRANGE_BODIES,
)

CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "info": lambda client: client.info(),
    "get": lambda client: client.kv(SPACE).get("a"),
    "put": lambda client: client.kv(SPACE).put("a", b"1"),
    "list": lambda client: client.kv(SPACE).list_page(),
    "envelope": lambda client: client.encryption.decrypt(ENVELOPE),
    "descriptor": lambda client: client.encryption.descriptor(NETWORK),
    "challenge": lambda client: client.attestation.challenge(),
    "secret": lambda client: client.secrets(WALLET.did).read("API_KEY"),
    "revoke": lambda client: client.delegations.revoke(GRANT.cid),
}


@pytest.mark.parametrize("call", CALLS)
@fuzzed(1 / 20)
@given(data=st.data())
def test_fuzz_a_strange_node(answering: Answering, call: str, data: st.DataObject) -> None:
    """After any answer of a node, a call returns a value or raises our own error."""
    answering.answer = data.draw(strange_answers)
    host, port = answering.server_address[:2]

    async def ask() -> None:
        settings = TransportSettings(timeout_s=5, tries=1, backoff_s=0)
        client = Client(
            f"http://{host!s}:{port}",
            session=SESSION,
            settings=settings,
            clock=FixedClock(NOW),
            entropy=CountingEntropy(),
        )
        async with client:
            with suppress(SealspaceError):
                await CALLS[call](client)

    asyncio.run(ask())


@fuzzed()
@given(
    st.text()
    | st.text().map(lambda text: f"https://{text}")
    | damaged_text("http://user@[::1]:80/a?b#c")
)
def test_fuzz_addresses(url: str) -> None:
    """Any text is read as the address of a node, or refused."""
    with suppress(SealspaceError):
        Transport(url)


@fuzzed()
@given(st.text(), st.text())
def test_fuzz_rights(resource: str, ability: str) -> None:
    """Any text is read as a requested right or the name of a space, or refused."""
    for ask in (lambda: allow(resource, ability), lambda: space_of(resource, ability)):
        with suppress(SealspaceError):
            assert isinstance(ask(), object)
    assert parse_cid(GRANT.cid).digest32 is not None
    assert SpaceId(Principal(WALLET.did), "default").text == SPACE
