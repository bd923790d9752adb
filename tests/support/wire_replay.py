"""Recorded exchanges of the TinyCloud wire protocol: reading them, and comparing the answers of two
servers.

Two servers never answer byte for byte alike: ids of other tokens, times, random names. `normalise`
turns an answer into the comparable form that every recorded case states as its `result`; that it
does so rightly is proved by applying it to the recorded answers themselves
(`conformance/test_normaliser.py`).

Example:
    for case in load_cases():
        assert case.result == normalise(case, case.last.answer)
"""

import base64
import binascii
import datetime
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sha3
from blake3 import blake3
from btclib_libsecp256k1 import keys
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from tests_support import json_lines, shared_vectors

NODE_SECRET = b"Some long piece of entropy which is a secret and more than 32 bytes"
NODE_DID = "did:key:z6MkfhoxdzVTa6fLWMgEJNiRJomE5grMqkWyHiRbU9Tt7mAq"
ADMIN_SECRET = "probe-admin"

SDK_SCENARIOS = (
    "surface",
    "signin",
    "kv",
    "delegation",
    "sharing",
    "encryption",
    "vault",
    "secrets",
)

# Members that differ from answer to answer; the placeholder is the member's own name in braces.
_CRYPTOGRAPHIC = ("wrappedKey", "nodeSignature", "ticket", "ticketId")
_REPRODUCIBLE = (
    "requestHash",
    "receiverPublicKeyHash",
    "encryptedSymmetricKeyHash",
    "publicEncryptionKey",
    "raw",
)
_TIMES = ("createdAt", "updatedAt", "expiresAt", "issuedAt", "revokedAt")
# `oidcDid`: each node derives that key from its own secret.
_MASKED = frozenset((*_CRYPTOGRAPHIC, *_REPRODUCIBLE, *_TIMES, "oidcDid"))

_BASE32_CID = re.compile(r"^ba[a-z2-7]{50,80}$")
_RANDOM_NETWORK_NAME = re.compile(r"\bn-[a-z]{6}\b")
_COUNT_WORDS = {1: "one", 2: "two", 3: "three"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `headers`: names in lower case, in order, values read as Latin-1; status 0:
    no answer came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """Return the first value of a header, or an empty text."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as sent, without `host` and `content-length`. `body` may be absent."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None

    @property
    def token(self) -> str | None:
        """Return the first `Authorization` value (E1), without surrounding blanks."""
        return next(
            (value.strip(" \t") for name, value in self.headers if name == "authorization"), None
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with its time (epoch seconds) and answer. `number` is that of an SDK exchange."""

    at: float
    request: Request
    answer: Answer
    number: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """An answer in comparable form; see `normalise`."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A private key of a case. `kind`: wallet, EdDSA, ES256, ES256K, ES384 or X25519."""

    kind: str
    secret: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """A test case of one rule: preparatory exchanges, the decisive one, and its expected answer."""

    name: str
    fault: str
    server: frozenset[str]
    keys: Mapping[str, Key]
    setup: tuple[Exchange, ...]
    last: Exchange
    result: Result

    @property
    def group(self) -> str:
        """Return the part of the name before the first dot."""
        return self.name.partition(".")[0]

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Return all exchanges in order, the decisive one last."""
        return (*self.setup, self.last)


# --- reading


def load_cases(groups: Sequence[str] = (), *, file: str = "probes.jsonl") -> list[Case]:
    """Return the recorded cases of a file in order; all of them, or those of some groups."""
    path = shared_vectors(f"wire/{file}")
    if not path.exists():
        return []
    cases = (_case(line) for line in json_lines(path))
    return [case for case in cases if not groups or case.group in groups]


def load_scenario(name: str) -> list[Exchange]:
    """Return the exchanges that the JavaScript SDK had in one scenario, in order."""
    path = shared_vectors(f"wire/sdk-{name}.jsonl")
    return [_exchange(line) for line in json_lines(path)] if path.exists() else []


def load_network_keys() -> dict[str, bytes]:
    """Return the X25519 private keys of the networks that the cases create, by network id."""
    path = shared_vectors("wire/probes-networks.jsonl")
    lines = json_lines(path) if path.exists() else ()
    return {line["networkId"]: base64.b64decode(line["privateKey"]) for line in lines}


def _case(line: Any) -> Case:
    result = line["result"]
    return Case(
        name=line["case"],
        fault=line["fault"],
        server=frozenset(line["server"]),
        keys={
            role: Key(key["type"], bytes.fromhex(key["secret"]))
            for role, key in line["keys"].items()
        },
        setup=tuple(_exchange(exchange) for exchange in line["setup"]),
        last=_exchange(line),
        result=Result(result["status"], result["body"], tuple(sorted(result["headers"].items()))),
    )


def _exchange(line: Any) -> Exchange:
    request, response = line["request"], line["response"]
    return Exchange(
        at=line["at"],
        request=Request(
            request["method"], request["path"], _headers(request["headers"]), _body(request["body"])
        ),
        answer=Answer(
            response["status"], _headers(response["headers"]), _body(response["body"]) or b""
        ),
        number=line.get("seq", 0),
    )


def _headers(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value if isinstance(value, str) else _filled(value)) for name, value in pairs
    )


def _filled(value: Any) -> str:
    head, unit, count, tail = value["utf8_fill"]
    return f"{head}{unit * count}{tail}"


def _body(value: Any) -> bytes | None:
    if value is None:
        return None
    if "base64" in value:
        return base64.b64decode(value["base64"])
    return (value["utf8"] if "utf8" in value else _filled(value)).encode()


# --- names and ids of a case


def token_id(token: str) -> str:
    """Return the id (E6, E7) of a token's text: a CIDv1, raw, of the BLAKE3 of the JWT or of the
    CACAO's bytes.

    Raises:
        ValueError: a text without a dot that is no base64.
    """
    event = token.encode("latin-1") if "." in token else base64.urlsafe_b64decode(token)
    return "b" + base64.b32encode(
        b"\x01\x55\x1e\x20" + blake3(event).digest()
    ).decode().lower().rstrip("=")


def token_payload(token: str) -> dict[str, Any]:
    """Return the unverified payload of a UCAN; empty for a CACAO or an unreadable token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, UnicodeEncodeError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _token_ids(case: Case) -> list[str]:
    """Return the distinct ids of a case's tokens, in the order of first use."""
    ids: dict[str, None] = {}
    for exchange in case.exchanges:
        token = exchange.request.token
        if token is None:
            continue
        try:
            ids[token_id(token)] = None
        except (binascii.Error, ValueError):
            continue
    return list(ids)


def key_name(key: Key) -> str | None:
    """Return the part of a DID that names the key: the wallet's address, or the `z…` of a
    did:key."""
    match key.kind:
        case "EdDSA":
            return _did_key_suffix(b"\xed\x01" + bytes(SigningKey(key.secret).verify_key))
        case "wallet":
            point = keys.pubkey_from_prvkey(key.secret, compressed=False)
            digest: bytes = sha3.keccak_256(point[1:]).digest()
            return _checksummed(digest[12:])
        case "ES256K":
            return _did_key_suffix(b"\xe7\x01" + keys.pubkey_from_prvkey(key.secret))
        case "ES256":
            return _did_key_suffix(b"\x80\x24" + _nist_point(key.secret, ec.SECP256R1()))
        case "ES384":
            return _did_key_suffix(b"\x81\x24" + _nist_point(key.secret, ec.SECP384R1()))
        case _:
            return None


def _nist_point(secret: bytes, curve: ec.EllipticCurve) -> bytes:
    public_key = ec.derive_private_key(int.from_bytes(secret, "big"), curve).public_key()
    return public_key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def _did_key_suffix(prefixed_key: bytes) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(prefixed_key, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return "z" + text


def _checksummed(address: bytes) -> str:
    digits = address.hex()
    nibbles = _keccak256(digits.encode()).hex()
    return "0x" + "".join(
        c.upper() if int(n, 16) >= 8 else c for c, n in zip(digits, nibbles, strict=False)
    )


def _keccak256(data: bytes) -> bytes:
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def replacements(case: Case) -> list[tuple[str, str]]:
    """Return the placeholders of a case's ids, users and places in its answers."""
    pairs = [(cid, f"{{cid{number}}}") for number, cid in enumerate(_token_ids(case), 1)]
    pairs += [
        (name, f"{{{role}}}")
        for role, key in case.keys.items()
        if (name := key_name(key)) is not None
    ]
    pairs += _sole_signer(case)
    pairs.append((NODE_DID, "{node}"))
    for exchange in case.setup:
        if exchange.request.path.startswith("/peer/generate/") and exchange.answer.status == 200:
            pairs.append((exchange.answer.body.decode().removeprefix("did:key:"), "{host}"))
    return pairs


def _sole_signer(case: Case) -> list[tuple[str, str]]:
    """Return the owner: the only signer of a case, by the DID method that its token uses."""
    if len(case.keys) != 1:
        return []
    issuers = (
        token_payload(exchange.request.token or "").get("iss") for exchange in case.exchanges
    )
    texts = (issuer.partition("#")[0] for issuer in issuers if isinstance(issuer, str))
    return [(text.rpartition(":")[2], "{owner}") for text in texts if text.rpartition(":")[2]]


# --- the comparable form


def normalise(case: Case, answer: Answer) -> Result:
    """Return an answer to an exchange of a case in comparable form."""
    return comparable(answer, replacements(case))


def comparable(answer: Answer, pairs: Sequence[tuple[str, str]] = ()) -> Result:
    """Return an answer in comparable form. `pairs` has texts and their placeholders.

    Status; the body with ids, DIDs, times and random values replaced by placeholders, JSON with
    sorted keys and without blanks; the telling headers. Lists whose order is free are sorted. An
    answer by H2 is `{page}`, a database's own words are `{text}`. `content-length` is left out, and
    the content type of an answer by H2.
    """
    headers = {name: value for name, value in answer.headers if name not in _UNTELLING}
    if is_page(answer):
        headers.pop("content-type", None)
        body = "{page}"
    elif (value := _json_body(answer)) is not None:
        body = _json_text(value, pairs)
    else:
        text = _replaced(answer.body.decode("utf-8", "replace"), pairs)
        body = re.sub(r"(?s)^(database error: ).*", r"\1{text}", text)
    if "x-tinycloud-next-cursor" in headers:
        headers["x-tinycloud-next-cursor"] = "{cursor}"
    return Result(
        answer.status,
        body,
        tuple(sorted((name, _replaced(value, pairs)) for name, value in headers.items())),
    )


_UNTELLING = frozenset(
    (
        "content-length",
        "date",
        "server",
        "connection",
        "transfer-encoding",
        "tinycloud-trace-id",
        "x-content-type-options",
        "x-frame-options",
        "permissions-policy",
    )
)


def is_page(answer: Answer) -> bool:
    """Return whether an answer is a problem, `{"error"}`, or an HTML page of the recorded node
    (H2)."""
    if answer.status < 400:
        return False
    if answer.header("content-type") == "application/problem+json":
        return True
    if answer.header("content-type").startswith("text/html"):
        return answer.body.lstrip().lower().startswith(b"<!doctype html>")
    value = _json_body(answer)
    return (
        isinstance(value, dict)
        and isinstance(value.get("error"), dict)
        and value["error"].get("code") == answer.status
    )


def _json_body(answer: Answer) -> Any:
    if answer.header("content-type") != "application/json":
        return None
    try:
        return json.loads(answer.body)
    except ValueError:
        return None


def _json_text(value: Any, pairs: Sequence[tuple[str, str]]) -> str:
    if isinstance(value, dict) and isinstance(value.get("spaces"), list) and "count" in value:
        return _usage_text(value["spaces"], pairs)
    if isinstance(value, dict) and "nextCursor" in value:
        # Which item comes first depends on ids that are random: what counts is how many there are.
        return f"{_COUNT_WORDS[len(value['items'])]} item"
    placed = _placed(value, pairs)
    text = json.dumps(placed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _RANDOM_NETWORK_NAME.sub("{name}", text) if "{publicEncryptionKey}" in text else text


def _usage_text(spaces: Sequence[Any], pairs: Sequence[tuple[str, str]]) -> str:
    """Return the usage of the case's own spaces, without other spaces of the server."""
    own = [row for row in (_placed(space, pairs) for space in spaces) if "{" in row["space_id"]]
    return json.dumps(own, sort_keys=True)


def _placed(value: Any, pairs: Sequence[tuple[str, str]], member: str = "") -> Any:
    """Return a JSON value with placeholders and its unordered lists sorted."""
    if member in _MASKED and value is not None:
        return f"{{{member}}}"
    if isinstance(value, dict):
        return {_replaced(name, pairs): _placed(item, pairs, name) for name, item in value.items()}
    if isinstance(value, list):
        if member == "parents":
            return [_parent(item, pairs) for item in value]
        items = [_placed(item, pairs) for item in value]
        return sorted(items, key=_sort_key) if member in _FREE_ORDER else items
    if isinstance(value, str):
        return _placed_text(value, pairs, member)
    return value


_FREE_ORDER = frozenset(("activated", "skipped", "capabilities", "items"))


def _sort_key(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _parent(item: Any, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a parent's id as text, from text or from the array of its 36 bytes (4.5)."""
    if isinstance(item, list):
        return f"{{{len(item)} bytes of a cid}}"
    return _replaced(item, pairs)


def _placed_text(value: str, pairs: Sequence[tuple[str, str]], member: str) -> str:
    text = _replaced(value, pairs)
    if member == "cid" and _BASE32_CID.fullmatch(text):
        return "{cid}"
    if member == "url" and text.startswith("/signed/kv/"):
        return "/signed/kv/{ticket}"
    return text


def _replaced(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for found, placeholder in pairs:
        text = text.replace(found, placeholder)
    return text


# --- what placeholders hide but can be checked all the same


def hidden_members(answer: Answer) -> list[tuple[str, str]]:
    """Return the sorted members that `normalise` hides although two servers must agree on them."""
    return sorted(
        (name, value) for name, value in _members(_json_body(answer)) if name in _REPRODUCIBLE
    )


def hidden_times(answer: Answer) -> list[tuple[str, float]]:
    """Return the times in a JSON answer as epoch seconds, sorted by member."""
    found = (
        (name, _epoch(value)) for name, value in _members(_json_body(answer)) if name in _TIMES
    )
    return sorted((name, time) for name, time in found if time is not None)


def _members(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str):
                yield name, item
            else:
                yield from _members(item)
    elif isinstance(value, list):
        for item in value:
            yield from _members(item)


def _epoch(text: str) -> float | None:
    # More than six digits of a second are more than datetime reads.
    short = re.sub(r"(\.\d{6})\d+", r"\1", text)
    try:
        return datetime.datetime.fromisoformat(short).timestamp()
    except ValueError:
        return None


def release_fault(case: Case, answer: Answer) -> str:
    """Return the fault in the answer to a decrypt request, or an empty text.

    Checks what 5.8 promises: the id and the hash of the request, the node's signature, and that the
    wrapped key opens, with the receiver's key, to the same content key as the recorded one.
    """
    value = _json_body(answer)
    if not isinstance(value, dict) or "wrappedKey" not in value:
        return ""
    token = case.last.request.token or ""
    body = json.loads(case.last.request.body or b"null")
    if value["invocationCid"] != token_id(token):
        return "invocationCid is not the token's id"
    body_hash = hashlib.sha256(canonical(body)).hexdigest()
    if value["requestHash"] != hashlib.sha256((token_id(token) + body_hash).encode()).hexdigest():
        return "requestHash does not fit"
    if not node_signed(value):
        return "the node's signature does not fit"
    recorded = json.loads(case.last.answer.body)
    receiver = case.keys["receiver"].secret
    if opened(value["wrappedKey"], receiver) != opened(recorded["wrappedKey"], receiver):
        return "the wrapped key opens to another content key"
    return ""


def node_signed(value: Mapping[str, Any], *, secret: bytes = NODE_SECRET) -> bool:
    """Return whether `nodeSignature` signs the canonical JSON of the other members."""
    signed = canonical({name: item for name, item in value.items() if name != "nodeSignature"})
    seed = blake3(secret + b"tinycloud/node/identity").digest()
    try:
        VerifyKey(bytes(SigningKey(seed).verify_key)).verify(
            signed, base64.b64decode(value["nodeSignature"])
        )
    except BadSignatureError:
        return False
    return True


def canonical(value: Any) -> bytes:
    """Return a JSON value in canonical form: sorted keys, no blanks, UTF-8 (enc 2.3)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def opened(wrapped_key: str, private_key: bytes) -> bytes | None:
    """Return the wrapped bytes, or None if they cannot be opened (5.8)."""
    wrapped = base64.b64decode(wrapped_key)
    ephemeral = X25519PublicKey.from_public_bytes(wrapped[:32])
    try:
        shared = X25519PrivateKey.from_private_bytes(private_key).exchange(ephemeral)
        return AESGCM(shared).decrypt(wrapped[33:45], wrapped[45:], None)
    except (InvalidTag, ValueError):
        return None
