"""The kinds of requests that a node is sent: for each, a function that makes fresh ones.

Every request carries a token of its own, signed before the clock runs; nothing here is specific to
our node.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from driving import drive
from places import (
    PROGRAM,
    SETUP_S,
    SMALL_BYTES,
    Attested,
    Party,
    Place,
    base64_of,
    cid_of,
    path_of,
    read_grant,
    request,
    token,
)

from capabilities.abilities import DECRYPT
from capabilities.facts import SESSION_FACT
from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.requests import decrypt_body_json, decrypt_fact
from sealspace.encryption import ReceiverKey
from tee_backend.attestation.report_data import session_binding

LARGE_BYTES, HUGE_BYTES = 65_536, 10 * 2**20
BATCH = 10
WRITTEN = 400  # paths that small writes go round: no two that are under way at once have the same
_JSON = "application/json"
_BOUNDARY = "----------------------------bench"

Make = Callable[[Place, int], Awaitable[list[bytes]]]


@dataclass(frozen=True, slots=True)
class Load:
    """A kind of request.

    Attributes:
        make: makes so many of them.
        writes: whether a node commits something that another commit may be in the way of.
        share: of the requests of a round, for those that take long.
        most_connections: more would only wait for memory or for a bounded queue.
    """

    make: Make
    writes: bool = False
    share: float = 1.0
    most_connections: int = 128


async def gets(place: Place, count: int, *, depth: int = 1) -> list[bytes]:
    """Read 1 KiB as the last of a chain of delegations."""
    return [_kv(place, place.chain[depth - 1], path_of(number), "get") for number in range(count)]


async def sized_gets(place: Place, count: int, *, size_bytes: int) -> list[bytes]:
    """Read a larger value."""
    path = f"sized/{size_bytes}"
    if path not in place.sizes:
        put = _kv(place, place.session, path, "put", secrets.token_bytes(size_bytes))
        await drive(place.port, [put], connections=1, most_s=SETUP_S)
        place.sizes[path] = size_bytes
    return [_kv(place, place.session, path, "get") for _ in range(count)]


async def small_puts(place: Place, count: int) -> list[bytes]:
    """Write 1 KiB, from the second round on over a value that is there."""
    body = secrets.token_bytes(SMALL_BYTES)
    paths = [f"put/{number % WRITTEN:03}" for number in range(count)]
    return [_kv(place, place.session, path, "put", body) for path in paths]


async def sized_puts(place: Place, count: int, *, size_bytes: int) -> list[bytes]:
    """Write a larger value under a new key, over another one."""
    rest = secrets.token_bytes(size_bytes - 16)
    paths = [f"large/{size_bytes}/{number % 50:03}" for number in range(count)]
    return [
        _kv(place, place.session, path, "put", secrets.token_bytes(16) + rest) for path in paths
    ]


async def batch_gets(place: Place, count: int) -> list[bytes]:
    """Read ten values of 1 KiB with one token."""
    grants = {
        f"{place.space}/kv/{path_of(number)}": ["tinycloud.kv/get"] for number in range(BATCH)
    }
    return [request("/invoke", token(place.session, grants)) for _ in range(count)]


async def batch_puts(place: Place, count: int) -> list[bytes]:
    """Write ten values of 1 KiB with one token, from the second round on over values that are
    there."""
    value = secrets.token_bytes(SMALL_BYTES)
    return [_batch_put(place, f"batch/{number % WRITTEN:03}", value) for number in range(count)]


def _batch_put(place: Place, folder: str, value: bytes) -> bytes:
    paths = [f"{folder}/{number}" for number in range(BATCH)]
    grants = {f"{place.space}/kv/{path}": ["tinycloud.kv/put"] for path in paths}
    heads = [
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode()
        for name in [quote(path, safe="") for path in paths]
    ]
    body = b"".join([head + value + b"\r\n" for head in heads]) + f"--{_BOUNDARY}--\r\n".encode()
    form = f"multipart/form-data; boundary={_BOUNDARY}"
    return request("/invoke", token(place.session, grants), body, form)


async def lists(place: Place, count: int) -> list[bytes]:
    """List 100 keys."""
    return [_kv(place, place.session, "bench", "list") for _ in range(count)]


async def delegations(place: Place, count: int) -> list[bytes]:
    """Register a delegation of one capability."""
    return [request("/delegate", grant) for grant in _grants(place, count)]


async def revocations(place: Place, count: int) -> list[bytes]:
    """Revoke a delegation; they are registered before the clock runs."""
    grants = _grants(place, count)
    registered = [request("/delegate", grant) for grant in grants]
    await drive(place.port, registered, connections=place.writers(8), most_s=SETUP_S)
    right = "tinycloud.delegation/revoke"
    # who signed the delegation may end it without citing anything
    signer = Party(place.session.signer, ())
    return [
        request("/revoke", token(signer, {f"urn:cid:{cid_of(grant)}": [right]})) for grant in grants
    ]


async def decrypts(place: Place, count: int) -> list[bytes]:
    """Have the owner's session get a key wrapped anew."""
    return _decrypts(place, place.session, place.receiver, count)


async def attested_decrypts(place: Place, count: int) -> list[bytes]:
    """Have a backend with live evidence get a key wrapped anew."""
    attested = _backend(place)
    return _decrypts(place, attested.party, attested.receiver, count)


async def challenges(place: Place, count: int) -> list[bytes]:
    """Ask for a nonce."""
    body = json.dumps({"did": _backend(place).party.signer.did}).encode()
    return [request("/attestation/challenge", None, body, _JSON)] * count


async def sessions(place: Place, count: int) -> list[bytes]:
    """Hand in a genuine quote, each over a nonce of its own."""
    return await _sessions(place, count, lambda quote: quote)


async def junk_sessions(place: Place, count: int) -> list[bytes]:
    """Hand in a quote that is well formed to its end and whose signature is wrong: as far as a
    refused one gets."""
    return await _sessions(place, count, _spoiled)


async def _sessions(place: Place, count: int, turn: Callable[[bytes], bytes]) -> list[bytes]:
    asked = await drive(
        place.port, await challenges(place, count), connections=8, most_s=SETUP_S, keep=True
    )
    return [
        _session(place, _backend(place), turn, json.loads(body)["nonce"]) for body in asked.bodies
    ]


def _session(place: Place, attested: Attested, turn: Callable[[bytes], bytes], nonce: str) -> bytes:
    key, raw = attested.receiver.public_key, decode_url(nonce)
    assert raw is not None
    holder = parse_principal(attested.party.signer.did)
    bound = session_binding(raw, place.node_did, holder, "attested", key).report_data
    body: dict[str, Json] = {
        "quote": base64_of(turn(attested.platform.mint_quote(PROGRAM, bound))),
        "eventLog": None,
        "receiverPublicKey": base64_of(key),
        "receiverMode": "attested",
    }
    fact = {"type": SESSION_FACT, "nonce": nonce, "bodyHash": canonical_hash(body)}
    authorized = token(
        attested.party, {place.network: [DECRYPT]}, audience=place.node_did, facts=[fact]
    )
    return request("/attestation/sessions", authorized, canonical_bytes(body), _JSON)


def _spoiled(quote: bytes) -> bytes:
    signature = 48 + 584 + 4 + 32  # header, body, length of what follows, and half of the signature
    return quote[:signature] + bytes([quote[signature] ^ 1]) + quote[signature + 1 :]


LOADS: Mapping[str, Load] = {
    "get 1 KiB": Load(gets),
    "get 1 KiB, depth 4": Load(partial(gets, depth=4)),
    "get 1 KiB, depth 16": Load(partial(gets, depth=16)),
    "get 64 KiB": Load(partial(sized_gets, size_bytes=LARGE_BYTES), share=0.5),
    "get 10 MiB": Load(partial(sized_gets, size_bytes=HUGE_BYTES), share=0.03, most_connections=16),
    "batch get 10": Load(batch_gets, share=0.5),
    "list 100": Load(lists),
    "put 1 KiB": Load(small_puts, writes=True),
    "put 64 KiB": Load(
        partial(sized_puts, size_bytes=LARGE_BYTES), writes=True, share=0.5, most_connections=16
    ),
    "put 10 MiB": Load(
        partial(sized_puts, size_bytes=HUGE_BYTES), writes=True, share=0.02, most_connections=16
    ),
    "batch put 10": Load(batch_puts, writes=True, share=0.5),
    "delegate": Load(delegations, writes=True),
    "revoke": Load(revocations, writes=True),
    "decrypt": Load(decrypts),
}
ATTESTED: Mapping[str, Load] = {
    "challenge": Load(challenges),
    "session": Load(sessions, share=0.5, most_connections=16),
    "decrypt, in person": Load(decrypts),
    "decrypt, attested": Load(attested_decrypts),
}


def _backend(place: Place) -> Attested:
    assert place.attested is not None
    return place.attested


def _grants(place: Place, count: int) -> list[str]:
    to = [Ed25519Signer(secrets.token_bytes(32)).did for _ in range(count)]
    return [read_grant(place, place.session, audience, lifetime_s=1_800) for audience in to]


def _decrypts(place: Place, party: Party, receiver: ReceiverKey, count: int) -> list[bytes]:
    body = decrypt_body_json(
        place.network,
        target_node=place.node_did,
        alg="x25519-aes256gcm/v1",
        key_version=1,
        encrypted_symmetric_key=place.wrapped_key,
        receiver_public_key=receiver.public_key,
    )
    path = f"/encryption/networks/{quote(place.network, safe='')}/decrypt"
    sent, facts = json.dumps(body).encode(), [decrypt_fact(body)]
    tokens = (
        token(party, {place.network: [DECRYPT]}, audience=place.node_did, facts=facts)
        for _ in range(count)
    )
    return [request(path, one, sent, _JSON) for one in tokens]


def _kv(place: Place, party: Party, path: str, verb: str, body: bytes = b"") -> bytes:
    return request(
        "/invoke", token(party, {f"{place.space}/kv/{path}": [f"tinycloud.kv/{verb}"]}), body
    )
