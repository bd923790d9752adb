"""Fuzzing of settings, connections, headers and bodies: an answer or one of our errors, no fault.

The requests reach one embedded node on loopback. An internal error would be answered with 500 and
logged at level error; neither may happen, whatever is sent.
"""

import asyncio
import io
import itertools
import json
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from deviating_platform import SimulatedPlatform
from fuzz_strategies import (
    NUMBERS,
    changed_objects,
    damaged_bytes,
    damaged_text,
    json_values,
    large_texts,
)
from hypothesis import given
from hypothesis import strategies as st
from openapi_checks import openapi_mismatch
from patience import AT_ONCE_S
from serving_node import node_in_a_thread
from tests_support import CountingEntropy, FixedClock, fuzzed

from capabilities.abilities import DECRYPT
from capabilities.cids import Digest, cid_text
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from capabilities.tokens import parse_delegation
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.canonical_json import canonical_hash
from encryption_network.keyring import Keyring
from encryption_network.network_errors import EncryptionError
from encryption_network.requests import admin_fact, decrypt_body_json, decrypt_fact
from node.config.loading import load_config
from node.config.tree import Admin, Config, Http, Limits, PublicSpaces, Secret, Store, setting_types
from node.http.messages.byte_ranges import parse_range
from node.http.routes.route_table import ROUTES
from node.logs import configure_logs
from node.operations.delegations.query_filters import parse_filters
from node.operations.values.conditions import matches_weakly, parse_options
from node.operations.values.kv_list import encode_cursor, parse_cursor
from node.operations.values.multipart import boundary_of, multipart_parts, part_path
from node.platform.root_secret import load_root_secret
from node.refusal import Refusal
from sealspace.service.command_errors import NodeError
from sealspace.service.term_files import read_node_policy
from tee_backend.attestation.trust_files import read_trust_root
from tee_backend.evidence.simulated import measurements_of

NOW = 1_795_000_000.0
OWNER = Ed25519Signer(b"\x21" * 32)
SPACE = f"tinycloud:{OWNER.did[4:]}:default"
NETWORK = f"urn:tinycloud:encryption:{OWNER.did}:default"
MACHINE = SimulatedPlatform.from_seed(b"the platform of the tests")
ADMIN_SECRET = "the operator's"
_COUNT = itertools.count()


# --- settings and files ---------------------------------------------------------------------------

SETTINGS_FILE = (
    b'[http]\nport = 8000\ntrusted_proxies = ["10.0.0.7"]\n[hosting]\nmode = "permit"\nlisted ='
    b' ["did:key:z"]\n'
)
toml_texts = (
    st.binary(max_size=100)
    | damaged_bytes(SETTINGS_FILE)
    | large_texts.map(str.encode)
    | st.sampled_from([b"[a.a.a]", b"a.a.a = 1", b"a = " + b"[" * 5_000])
)


@fuzzed()
@given(toml_texts, st.binary(max_size=100))
def test_fuzz_settings_files(tmp_path: Path, text: bytes, more: bytes) -> None:
    """A settings file of any bytes is parsed or prevents the start."""
    file = tmp_path / "sealspace.toml"
    file.write_bytes(text + more)
    with suppress(NodeError):
        load_config(file=file, environment={})


@pytest.mark.parametrize(
    "text", [b"[" + b"a." * 2_000 + b"a]", b"a." * 2_000 + b"a = 1"], ids=["table", "key"]
)
def test_fuzz_deep_settings(tmp_path: Path, text: bytes) -> None:
    """A settings file with deep tables prevents the start."""
    test_fuzz_settings_files.hypothesis.inner_test(tmp_path, text, b"")  # type: ignore[attr-defined]  # hypothesis adds it


@fuzzed()
@given(
    st.dictionaries(
        st.sampled_from([path.upper().replace(".", "__") for path in setting_types()])
        | st.text(max_size=8),
        st.text(max_size=12)
        | NUMBERS.map(str)
        | st.sampled_from(["permit", "10.0.0.7", "[]", "true", "did:key:z,"]),
        max_size=3,
    ),
    st.dictionaries(
        st.sampled_from([*setting_types()]) | st.text(max_size=8),
        st.none() | st.text() | st.integers() | st.booleans(),
    ),
)
def test_fuzz_environment_and_flags(variables: dict[str, str], flags: dict[str, Any]) -> None:
    """Environment variables and flags of any text are parsed or prevent the start."""
    with suppress(NodeError):
        load_config(
            environment={f"SEALSPACE_{name}": text for name, text in variables.items()}, flags=flags
        )


@fuzzed()
@given(
    st.binary(max_size=80)
    | large_texts.map(str.encode)
    | damaged_bytes(MACHINE.root_der, MACHINE.root_pem.encode())
    | json_values(members=["measurements", "paths", "receiver"]).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_fuzz_operators_files(tmp_path: Path, data: bytes) -> None:
    """A trust root, node policy or root secret of any bytes is accepted or refused."""
    file = tmp_path / "file"
    file.write_bytes(data)
    file.chmod(0o600)
    text = data.decode("latin-1")
    for read in (
        lambda: read_trust_root(file),
        lambda: read_node_policy(file),
        lambda: load_root_secret(Config(secret=Secret(file=str(file))), CountingEntropy()),
        lambda: load_root_secret(Config(secret=Secret(value=text)), CountingEntropy()),
    ):
        with suppress(NodeError):
            read()


# --- option headers and cursors -------------------------------------------------------------------

OPTION_NAMES = (
    "if-match",
    "if-none-match",
    "x-tinycloud-limit",
    "x-tinycloud-max-response-bytes",
    "x-tinycloud-cursor",
)
option_values = (
    st.text(max_size=80)
    | NUMBERS.map(str)
    | st.sampled_from(
        ["*", "9" * 5_000, "W/*", '"blake3-' + "0" * 64 + '"', "٣", "+1", "1_0", "5\x1f"]
    )
    | damaged_text('"blake3-' + "ab" * 32 + '"')
)
options = st.dictionaries(st.sampled_from(OPTION_NAMES), option_values)


@fuzzed()
@given(options, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.booleans())
def test_fuzz_options(
    headers: dict[str, str], reads: int, puts: int, deletes: int, is_form: bool
) -> None:
    """Option headers of any text are parsed or refused."""
    with suppress(Refusal):
        parse_options(headers, reads=reads, puts=puts, deletes=deletes, is_form=is_form)


@fuzzed()
@given(
    st.text()
    | st.from_regex(r"bytes=[0-9]{0,30}-[0-9]{0,30}(, ?-?[0-9]*)?")
    | damaged_text("bytes=0-9"),
    st.integers(0, 2**40),
)
def test_fuzz_ranges(header: str, size_bytes: int) -> None:
    """A Range header of any text requests a part of the value, all of it, or none of it."""
    matches_weakly(header, '"blake3-00"')
    asked = parse_range(header, size_bytes=size_bytes)
    assert not asked or 0 <= asked.start < asked.stop <= size_bytes


FILTERS = {
    "direction": "issued",
    "status": "active",
    "space": SPACE,
    "limit": 10,
    "cursor": cid_text(Digest(bytes(32))),
}
filter_values = json_values("issued", "received", "active", SPACE, str(FILTERS["cursor"]))


@fuzzed()
@given(
    st.binary(max_size=60)
    | large_texts.map(str.encode)
    | changed_objects(FILTERS, filter_values).map(lambda value: json.dumps(value).encode())
)
def test_fuzz_queries(body: bytes) -> None:
    """Query filters of any bytes are parsed or refused."""
    with suppress(Refusal):
        parse_filters(body)


MULTIPART = (
    b'--x\r\ncontent-disposition: form-data; name="a%2Fb"; filename="f"\r\nx-tinycloud-meta-a:'
    b" 1\r\n\r\none\r\n--x\r\nContent-Disposition: form-data; name=c\r\n\r\n\r\n--x--\r\n"
)


@fuzzed()
@given(
    damaged_bytes(MULTIPART) | st.binary(max_size=60) | large_texts.map(str.encode),
    st.lists(st.integers(1, 40), max_size=8),
    st.just("multipart/form-data; boundary=x")
    | damaged_text("multipart/form-data; boundary=x")
    | st.text(max_size=30),
)
def test_fuzz_multipart(body: bytes, cuts: list[int], content_type: str) -> None:
    """A form of any bytes and pieces, under any content type, is parsed or refused."""

    async def pieces() -> AsyncIterator[bytes]:
        rest = body
        for cut in cuts:
            yield rest[:cut]
            rest = rest[cut:]
        yield rest

    async def read() -> None:
        async for part in multipart_parts(pieces(), boundary_of(content_type)):
            async for _ in part.pieces:
                pass
            part_path(part.name)

    with suppress(Refusal):
        asyncio.run(read())


KEYRING = Keyring(b"\x07" * 32)
ORIGIN = (OWNER.did, SPACE, "", "10")
CURSOR = encode_cursor(KEYRING, ORIGIN, "photos/\udce4")


@fuzzed()
@given(st.text() | damaged_text(CURSOR, most=4) | large_texts)
def test_fuzz_cursors(text: str) -> None:
    """A cursor of any text continues where this node said, or is refused."""
    with suppress(Refusal):
        assert parse_cursor(KEYRING, text, ORIGIN) == "photos/\udce4"


# --- a node on loopback ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A node in a thread, with its log."""

    port: int
    node_did: str
    log: io.StringIO

    def send(self, request: bytes, *, hang_up: bool = False) -> int:
        """Send bytes on a new connection, and return the first answer's status, or 0."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=AT_ONCE_S) as line:
            with suppress(ConnectionError):
                line.sendall(request)
                if hang_up:  # what was sent may be the beginning of a request: nothing more comes
                    line.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(ConnectionError):
                while part := line.recv(1 << 16):
                    answer += part
        said = self.log.getvalue()
        self.log.truncate(self.log.seek(0))
        assert '"error"' not in said, said
        status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0
        self._check_described(request, status, answer)
        assert status != 500 or b"key backend error: " in answer, answer  # EN17 rows 22 and 23
        return status

    @staticmethod
    def _check_described(request: bytes, status: int, answer: bytes) -> None:
        """Check that the first answer to a complete request is one of the description."""
        # RFC 9112 2.2: empty lines are skipped
        line = request.lstrip(b"\r\n").partition(b"\r\n")[0].split(b" ")
        if status in (0, 100) or len(line) != 3 or b"content-length: " not in answer.lower():
            return
        head, _, rest = answer.partition(b"\r\n\r\n")
        headers = {
            name.lower(): text
            for name, _, text in (one.partition(": ") for one in head.decode().split("\r\n"))
        }
        body = rest[: int(headers["content-length"])]
        method, target = line[0].decode("latin-1"), line[1].decode("latin-1")
        assert openapi_mismatch(method, target, status, headers, body) == ""

    def ask(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes = b"") -> int:
        """Send a request with any header texts that fit into a header."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "host: node",
            "connection: close",
            f"content-length: {len(body)}",
        ]
        lines += [f"{name}: {_one_line(text)}" for name, text in headers]
        return self.send("\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + body)

    def ask_json(self, method: str, path: str, signed: str, value: Any) -> int:
        """Send a JSON body with a token."""
        return self.ask(
            method, path, [("authorization", signed), JSON_TYPE], json.dumps(value).encode()
        )

    def challenge(self) -> str:
        """Return a nonce that this node made for the owner."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=AT_ONCE_S) as line:
            body = json.dumps({"did": OWNER.did}).encode()
            head = (
                "POST /attestation/challenge HTTP/1.1\r\nhost: node\r\ncontent-type:"
                " application/json\r\n"
            )
            line.sendall(
                f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
            )
            answer = b""
            while part := line.recv(1 << 16):
                answer += part
        return str(json.loads(answer.partition(b"\r\n\r\n")[2])["nonce"])


def _one_line(text: str) -> str:
    return "".join(" " if character in "\r\n\0" else character for character in text)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A node with 127.0.0.1 as proxy and the owner's hosted space, for all tests of this file."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "root.pem").write_text(MACHINE.root_pem)
    log = io.StringIO()
    config = Config(
        http=Http(port=0, drain_s=0, trusted_proxies=("127.0.0.1",)),
        store=Store(data=str(folder / "data")),
        limits=Limits(challenges_per_minute=1_000_000, unauthenticated_per_minute=0),
        public_spaces=PublicSpaces(requests_per_minute=0),
        admin=Admin(secret=ADMIN_SECRET),
    )
    configure_logs("warning", stream=log)
    try:
        with node_in_a_thread(config, FixedClock(NOW)) as node:
            yield Running(urlsplit(node.url).port or 0, node.services.keyring.node_did, log)
    finally:
        configure_logs("info")


def token(
    att: Any, *, audience: str | None = None, facts: list[Any] | None = None, **changes: Any
) -> str:
    """Return a fresh token signed by the owner of its space and network, without a proof."""
    claims: dict[str, Any] = {
        "iss": OWNER.did_url,
        "aud": audience or OWNER.did,
        "exp": NOW + 60,
        "nnc": str(next(_COUNT)),
        "prf": [],
        "att": att,
        "fct": facts,
    }
    return encode_ucan(UcanPayload(**claims | changes), OWNER)


WHOLE = (
    b"POST /invoke HTTP/1.1\r\nhost: node\r\ncontent-length: 3\r\nauthorization: x.y.z\r\n\r\nabc"
)
CHUNKED = (
    b"POST /invoke HTTP/1.1\r\nhost: node\r\ntransfer-encoding:"
    b" chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
)
UPGRADE = b"GET /info HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


@fuzzed()
@given(st.binary(max_size=200) | damaged_bytes(WHOLE, CHUNKED, UPGRADE, WHOLE + CHUNKED, most=24))
def test_fuzz_bytes_on_a_connection(running: Running, data: bytes) -> None:
    """Any bytes on a connection are answered or disconnected, and the next connection works."""
    running.send(data, hang_up=True)
    assert running.ask("GET", "/healthz", []) == 200


def test_fuzz_unknown_expectations(running: Running) -> None:
    """An `Expect` header of any bytes is answered 417 without a fault."""
    assert (
        running.send(
            b"GET /info HTTP/1.1\r\nhost: node\r\nconnection: close\r\nexpect: \xff\r\n\r\n"
        )
        == 417
    )


HEADER_NAMES = (
    *OPTION_NAMES,
    "authorization",
    "accept",
    "content-type",
    "content-encoding",
    "x-forwarded-for",
    "origin",
    "range",
    "cookie",
    "x-tinycloud-meta-a",
)
some_token = st.builds(token, st.just({f"{SPACE}/kv/a": {"tinycloud.kv/get": [{}]}}))
header_texts = (
    st.text(max_size=30)
    | some_token
    | some_token.flatmap(damaged_text)
    | st.just(f"Bearer {ADMIN_SECRET}")
    | st.sampled_from(
        [
            "application/json",
            "multipart/form-data; boundary=x",
            "gzip",
            "::1, 127.0.0.1",
            "text/html;q=9",
        ]
    )
)
headers = st.lists(st.tuples(st.sampled_from(HEADER_NAMES), header_texts), max_size=6)
segments = (
    st.text(max_size=20).map(lambda text: quote(text, safe=""))
    | st.sampled_from(
        [
            quote(NETWORK, safe=""),
            NETWORK,
            quote(SPACE, safe=""),
            SPACE,
            "%",
            "%ff",
            "..",
            "//",
            "a?ownerDid=",
        ]
    )
    | st.text("abc%/?#&=", max_size=12)
)
bodies = (
    st.binary(max_size=80)
    | json_values(NETWORK, OWNER.did, members=["did", "name", "ownerDid", "quote"]).map(
        lambda value: json.dumps(value).encode()
    )
    | large_texts.map(str.encode)
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@fuzzed(1 / 40)
@given(st.data())
def test_fuzz_routes(running: Running, route: Any, data: st.DataObject) -> None:
    """Any path, headers and body are answered without a fault."""
    path = route.path
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + data.draw(segments) + rest.partition("}")[2]
    method = (
        data.draw(st.sampled_from(["GET", "DELETE", "TRACE", "X"]))
        if route.method == "*"
        else route.method
    )
    typed = [("content-type", "application/json")] if data.draw(st.booleans()) else []
    target = "".join(character for character in path if character not in " \r\n\0") or "/"
    assert running.ask(method, target, typed + data.draw(headers), data.draw(bodies)) != 500


# --- signed by somebody who may: past the signature, into the use cases ---------------------------


def _is_signable(value: Any) -> bool:
    """Return whether a value is JSON with a canonical text, so that a client could sign it."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        canonical_hash(value)
    except (ValueError, EncryptionError):
        return False
    return True


RESOURCES = (
    f"{SPACE}/kv/a",
    f"{SPACE}/kv/",
    f"{SPACE}/kv",
    f"{SPACE}/sql/db",
    f"{SPACE}/space",
    f"{SPACE}/capabilities/all",
    NETWORK,
    NETWORK.replace("default", "other"),
    f"urn:cid:{cid_text(parse_delegation(token({})).cid)}",
    "https://x.example/",
)
ABILITIES = (
    *(
        f"tinycloud.kv/{name}"
        for name in ("get", "put", "del", "delete", "list", "metadata", "paint")
    ),
    "tinycloud.sql/read",
    "tinycloud.space/host",
    "tinycloud.capabilities/read",
    "tinycloud.delegation/revoke",
    DECRYPT,
    "tinycloud.encryption/network.create",
    "sealspace.encryption/policy",
)
resources = st.sampled_from(RESOURCES) | damaged_text(*RESOURCES)
atts = st.dictionaries(
    resources,
    st.dictionaries(
        st.sampled_from(ABILITIES),
        st.lists(st.dictionaries(st.text(max_size=3), json_values(), max_size=1), max_size=2),
    ),
    max_size=2,
)
plain_atts = st.dictionaries(
    st.sampled_from(RESOURCES),
    st.dictionaries(st.sampled_from(ABILITIES), st.just([{}]), min_size=1, max_size=2),
    min_size=1,
    max_size=2,
)


fact_values = json_values(NETWORK, OWNER.did).filter(_is_signable)


@fuzzed()
@given(plain_atts | atts, options, bodies, st.lists(fact_values, max_size=1))
def test_fuzz_invocations(
    running: Running, att: Any, given_options: dict[str, str], body: bytes, facts: list[Any]
) -> None:
    """A signed call with any capabilities, options and body is answered."""
    signed = token(att, facts=facts)
    assert (
        running.ask("POST", "/invoke", [("authorization", signed), *given_options.items()], body)
        != 0
    )


@fuzzed()
@given(
    plain_atts | atts,
    st.lists(fact_values, max_size=2),
    st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just(NOW + 60),
    st.text(max_size=8),
)
def test_fuzz_delegations_and_revocations(
    running: Running, att: Any, facts: list[Any], end: float, audience: str
) -> None:
    """Any delegation or revocation is answered."""
    for path, changes in (
        ("/delegate", {"exp": end}),
        ("/delegate", {"aud": f"did:{audience}:x"}),
        ("/revoke", {}),
    ):
        signed = token(att, facts=facts, **changes)
        assert running.ask("POST", path, [("authorization", signed)]) != 0


JSON_TYPE = ("content-type", "application/json")
network_values = json_values(NETWORK, OWNER.did, "AA==", "signed").filter(_is_signable)
created = changed_objects(
    {"name": "default", "ownerDid": OWNER.did, "threshold": {"n": 1, "t": 1}}, network_values
)


@fuzzed(1 / 10)
@given(created)
def test_fuzz_creating_networks(running: Running, asked: dict[str, Any]) -> None:
    """A create request of any shape with a bound token is answered."""
    action = "tinycloud.encryption/network.create"
    fact = admin_fact(NETWORK, target_node=running.node_did, action=action, body=asked)
    signed = token({NETWORK: {action: [{}]}}, audience=running.node_did, facts=[fact])
    assert running.ask_json("POST", "/encryption/networks", signed, asked) != 0


@fuzzed(1 / 10)
@given(st.binary(max_size=100), st.binary(min_size=32, max_size=32), st.data())
def test_fuzz_decrypt_requests(
    running: Running, wrapped: bytes, receiver: bytes, data: st.DataObject
) -> None:
    """A decrypt request of any shape with a bound token is answered on both routes."""
    whole = decrypt_body_json(
        NETWORK,
        target_node=running.node_did,
        alg="x25519-aes256gcm/v1",
        key_version=1,
        encrypted_symmetric_key=b64encode(wrapped).decode(),
        receiver_public_key=receiver,
    )
    body = data.draw(st.just(whole) | changed_objects(whole, network_values))
    fact = decrypt_fact(whole | body) | {"bodyHash": canonical_hash(body)}
    for path in (f"/encryption/networks/{NETWORK}/decrypt", "/invoke"):
        signed = token({NETWORK: {DECRYPT: [{}]}}, audience=running.node_did, facts=[fact])
        assert running.ask_json("POST", path, signed, body) != 0


QUOTE = MACHINE.mint_quote(measurements_of("backend"), bytes(64))
HANDED = {
    "quote": "AA==",
    "eventLog": None,
    "receiverPublicKey": b64encode(bytes(32)).decode(),
    "receiverMode": "signed",
}


@fuzzed(1 / 10)
@given(
    changed_objects({"did": OWNER.did}, network_values),
    st.just(HANDED) | changed_objects(HANDED, network_values),
    st.none() | damaged_bytes(QUOTE) | st.binary(max_size=100),
    st.none() | st.text(max_size=50) | st.binary(max_size=33).map(encode_url),
)
def test_fuzz_attestation(
    running: Running, asked: Any, handed: Any, quoted: bytes | None, nonce: str | None
) -> None:
    """Challenges and quotes of any shape with bound tokens are answered."""
    assert running.ask_json("POST", "/attestation/challenge", "", asked) != 0
    if quoted is not None:
        handed = {**handed, "quote": b64encode(quoted).decode()}
    text = running.challenge() if nonce is None else nonce
    fact = {
        "type": "sealspace.attestation.session/v1",
        "nonce": text,
        "bodyHash": canonical_hash(handed),
    }
    signed = token({NETWORK: {DECRYPT: [{}]}}, audience=running.node_did, facts=[fact])
    assert running.ask_json("POST", "/attestation/sessions", signed, handed) != 0


@fuzzed(1 / 10)
@given(json_values(members=["measurements", "paths", "inPerson", "receiver"]).filter(_is_signable))
def test_fuzz_policies(running: Running, policy: Any) -> None:
    """An owner's policy of any shape with a bound token is answered."""
    fact = {
        "type": "sealspace.encryption.policy/v1",
        "targetNode": running.node_did,
        "networkId": NETWORK,
        "bodyHash": canonical_hash(policy),
    }
    signed = token(
        {NETWORK: {"sealspace.encryption/policy": [{}]}}, audience=running.node_did, facts=[fact]
    )
    assert running.ask_json("PUT", f"/encryption/networks/{NETWORK}/policy", signed, policy) != 0
