"""A node for clients under test: it keeps values and keys, and lies where it is told to.

It verifies no token, because it judges clients and not callers.
"""

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sealspace_conformance.client_requests import Seen
from sealspace_conformance.encodings import (
    b64,
    canonical_json,
    cid,
    etag,
    from_b64url,
    sha256_of,
)
from sealspace_conformance.envelopes import (
    ALGORITHM,
    RESULT_TYPE,
    Receiver,
    descriptor_text,
    from_b64,
    new_receiver,
    request_hash,
    wrap,
)
from sealspace_conformance.keys import Key, new_key

_RECAP = re.compile(rb"urn:recap:([A-Za-z0-9_-]+)")
_PREFIX = "urn:tinycloud:encryption:"
_CREATED = "2026-01-01T00:00:00Z"
MOST_BODY = 1024 * 1024
_MOST_SEEN = 1000


@dataclass
class Lie:
    """A false answer.

    Attributes:
        rule: the rule by which a client refuses it.
        told: what is false.
        step: the answer that is changed: `info`, `descriptor`, `later-descriptor`, `key` or
            `value`.
        change: changes the answer before it is signed.
        signer: signs the answer; None: the node.
        is_unsigned: whether the signature is left out, or a value keeps its true ETag.
    """

    rule: str
    told: str
    step: str
    change: Callable[["FakeNode", dict[str, Any]], None] = lambda node, answer: None
    signer: Key | None = None
    is_unsigned: bool = False


@dataclass
class Token:
    """What the fake node reads of a token."""

    cid: str
    grants: dict[str, Any]


@dataclass
class FakeNode:
    """The state of a fake node.

    Attributes:
        lie: what it lies about; None: nothing.
        told: whether the lie was told.
        sealed_before, sealed_after: how many envelopes were stored before and after the lie.
        unknown: requests for other routes.
        seen: all requests.
    """

    lie: Lie | None = None
    told: bool = False
    sealed_before: int = 0
    sealed_after: int = 0
    key: Key = field(default_factory=new_key)
    network_key: Receiver = field(default_factory=new_receiver)
    values: dict[str, bytes] = field(default_factory=dict)
    descriptors: int = 0
    unknown: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def app(self) -> web.Application:
        """Return the web application."""
        app = web.Application(
            client_max_size=MOST_BODY,
            handler_args={"max_field_size": 384 * 1024},
            middlewares=[self._note],
        )
        routes = app.router
        routes.add_get("/info", self._info)
        routes.add_get("/version", self._info)
        routes.add_get("/healthz", self._healthz)
        routes.add_get("/peer/generate/{space}", self._peer)
        routes.add_post("/delegate", self._delegate)
        routes.add_post("/invoke", self._invoke)
        routes.add_post("/encryption/networks", self._create)
        routes.add_get("/encryption/networks/{network}", self._describe)
        routes.add_post("/encryption/networks/{network}/decrypt", self._release)
        routes.add_route("*", "/{path:.*}", self._else)
        return app

    @web.middleware
    async def _note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if len(self.seen) < _MOST_SEEN:
            self.seen.append(
                Seen(
                    method=request.method,
                    path=request.path,
                    query=dict(request.query),
                    headers=dict(request.headers),
                    body=await request.read(),
                )
            )
        return await handler(request)

    def _lies_at(self, step: str) -> Lie | None:
        if self.lie is None or self.lie.step != step:
            return None
        self.told = True
        return self.lie

    # --- routes -------------------------------------------------------------------------------

    async def _info(self, _: web.Request) -> web.Response:
        answer: dict[str, Any] = {
            "protocol": 1,
            "version": "0",
            "features": ["kv", "delegation", "encryption"],
            "nodeId": self.key.did,
            "inTEE": False,
            "attestation": "delegates",
        }
        lie = self._lies_at("info")
        if lie is not None:
            lie.change(self, answer)
        return web.json_response(answer)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _peer(self, _: web.Request) -> web.Response:
        return web.Response(text=self.key.did)

    async def _delegate(self, request: web.Request) -> web.Response:
        token = read_token(request.headers.get("Authorization", ""))
        spaces = {
            resource.split("/")[0] for resource in token.grants if resource.startswith("tinycloud:")
        }
        return web.json_response({"cid": token.cid, "activated": sorted(spaces), "skipped": []})

    async def _create(self, request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        network = f"{_PREFIX}{asked['ownerDid']}:{asked['name']}"
        return web.json_response({"descriptor": self.descriptor(network)})

    async def _describe(self, request: web.Request) -> web.Response:
        network = request.match_info["network"]
        nonce = request.query.get("nonce", "")
        self.descriptors += 1
        step = "descriptor" if self.descriptors == 1 else "later-descriptor"
        lie = self._lies_at(step)
        answer: dict[str, Any] = {"descriptor": self.descriptor(network)}
        answer["nonce"] = nonce
        if lie is not None:
            lie.change(self, answer)
        signed = descriptor_text(self.key.did, answer["descriptor"], answer.pop("nonce"))
        signer = lie.signer if lie is not None and lie.signer is not None else self.key
        if lie is None or not lie.is_unsigned:
            answer["nodeSignature"] = b64(signer.sign(signed))
        return web.json_response(answer)

    async def _release(self, request: web.Request) -> web.Response:
        token = read_token(request.headers.get("Authorization", ""))
        body = json.loads(await request.read())
        try:
            content_key = self.network_key.open(from_b64(body["encryptedSymmetricKey"]))
        except ValueError:
            return web.Response(status=500, text="key backend error: not for this network")
        answer: dict[str, Any] = {
            "type": RESULT_TYPE,
            "targetNode": self.key.did,
            "networkId": body["networkId"],
            "invocationCid": token.cid,
            "encryptedSymmetricKeyHash": body["encryptedSymmetricKeyHash"],
            "receiverPublicKeyHash": body["receiverPublicKeyHash"],
            "wrappedKey": b64(wrap(from_b64(body["receiverPublicKey"]), content_key)),
            "alg": ALGORITHM,
            "keyVersion": 1,
            "requestHash": request_hash(token.cid, sha256_of(body)),
            "nodeId": self.key.did,
        }
        lie = self._lies_at("key")
        if lie is not None:
            lie.change(self, answer)
        signer = lie.signer if lie is not None and lie.signer is not None else self.key
        if lie is None or not lie.is_unsigned:
            answer.setdefault("nodeSignature", b64(signer.sign(canonical_json(answer))))
        return web.json_response(answer)

    async def _invoke(self, request: web.Request) -> web.Response:
        token = read_token(request.headers.get("Authorization", ""))
        body = await request.read()
        for resource, abilities in token.grants.items():
            if resource.startswith(_PREFIX):
                return await self._release(request)
            for ability in abilities:
                name = ability.removeprefix("tinycloud.kv/")
                return self._value(name, resource, body, request)
        return web.Response()

    def _value(self, name: str, resource: str, body: bytes, request: web.Request) -> web.Response:
        if name == "put":
            self._note_envelope(body)
            if request.headers.get("If-None-Match") == "*" and resource in self.values:
                return web.Response(status=412, text="KV precondition failed")
            self.values[resource] = body
            return web.Response(headers={"ETag": etag(body)})
        if name == "list":
            return self._listed(resource)
        if name in ("del", "delete"):
            self.values.pop(resource, None)
            return web.Response()
        stored = self.values.get(resource)
        if stored is None:
            return web.json_response(
                {"status": 404, "code": "no-value"},
                status=404,
                content_type="application/problem+json",
            )
        headers = {"ETag": etag(stored), "Cache-Control": "private, no-cache"}
        if name == "metadata":
            return web.Response(headers=headers)
        lie = self._lies_at("value")
        if lie is not None:
            answer = json.loads(stored)
            lie.change(self, answer)
            stored = json.dumps(answer).encode()
            if lie.is_unsigned:
                return web.Response(body=stored, headers=headers)
        return web.Response(body=stored, headers={**headers, "ETag": etag(stored)})

    def _listed(self, resource: str) -> web.Response:
        place, _, prefix = resource.partition("/kv")
        wanted = f"{place}/kv/"
        keys = sorted(
            stored.removeprefix(wanted)
            for stored in self.values
            if stored.startswith(wanted + prefix.removeprefix("/"))
        )
        return web.json_response(keys, headers={"x-tinycloud-truncated": "false"})

    def _note_envelope(self, body: bytes) -> None:
        try:
            is_envelope = "encryptedSymmetricKey" in json.loads(body)
        except (ValueError, TypeError):
            is_envelope = False
        if is_envelope and self.told:
            self.sealed_after += 1
        elif is_envelope:
            self.sealed_before += 1

    async def _else(self, request: web.Request) -> web.Response:
        self.unknown.append(f"{request.method} {request.path}"[:200])
        return web.json_response(
            {"status": 404, "code": "no-route"},
            status=404,
            content_type="application/problem+json",
        )

    def descriptor(self, network: str) -> dict[str, Any]:
        """Return the true descriptor of a network (EN6)."""
        owner, _, name = network.removeprefix(_PREFIX).rpartition(":")
        return {
            "networkId": network,
            "ownerDid": owner,
            "name": name,
            "members": [{"nodeId": self.key.did, "role": "primary"}],
            "threshold": {"n": 1, "t": 1},
            "state": "active",
            "publicEncryptionKey": b64(self.network_key.public),
            "alg": ALGORITHM,
            "keyVersion": 1,
            "keyBackend": "local-one-of-one",
            "createdAt": _CREATED,
            "updatedAt": _CREATED,
        }


def read_token(header: str) -> Token:
    """Return the id and the grants of a token, which is not verified."""
    if "." in header:
        try:
            payload = json.loads(from_b64url(header.split(".")[1]))
        except ValueError:
            payload = {}
        grants = payload.get("att") if isinstance(payload, dict) else None
        return Token(cid(header.encode()), grants if isinstance(grants, dict) else {})
    try:
        data = from_b64url(header)
    except ValueError:
        data = b""
    found = _RECAP.search(data)
    try:
        recap = json.loads(from_b64url(found.group(1).decode("ascii"))) if found else {}
    except ValueError:
        recap = {}
    grants = recap.get("att") if isinstance(recap, dict) else None
    return Token(cid(data), grants if isinstance(grants, dict) else {})


# --- lies -------------------------------------------------------------------------------------


def _set(name: str, value: Any) -> Callable[[FakeNode, dict[str, Any]], None]:
    """Return a change of one member of an answer."""

    def change(_: FakeNode, answer: dict[str, Any]) -> None:
        answer[name] = value

    return change


def _describe(name: str, value: Any) -> Callable[[FakeNode, dict[str, Any]], None]:
    """Return a change of one member of a descriptor."""

    def change(_: FakeNode, answer: dict[str, Any]) -> None:
        answer["descriptor"][name] = value

    return change


def _other_network(_: FakeNode, answer: dict[str, Any]) -> None:
    answer["descriptor"]["networkId"] = f"{_PREFIX}{new_key().did}:default"


def _other_member(_: FakeNode, answer: dict[str, Any]) -> None:
    answer["descriptor"]["members"] = [{"nodeId": new_key().did, "role": "primary"}]


def _other_content_key(node: FakeNode, answer: dict[str, Any]) -> None:
    del node
    answer["wrappedKey"] = b64(wrap(new_receiver().public, secrets.token_bytes(32)))


def _signature_of_another(node: FakeNode, answer: dict[str, Any]) -> None:
    """Change a member after the answer was signed."""
    answer["nodeSignature"] = b64(node.key.sign(canonical_json(answer)))
    answer["requestHash"] = "0" * 64


def _foreign_network(_: FakeNode, envelope: dict[str, Any]) -> None:
    envelope["networkId"] = f"{_PREFIX}{new_key().did}:default"


def _other_ciphertext(_: FakeNode, envelope: dict[str, Any]) -> None:
    envelope["ciphertext"] = b64(secrets.token_bytes(80))


def lies() -> list[Lie]:
    """Return all lies, of which each run tells one."""
    other = new_key()
    return [
        Lie("J1", "another protocol", "info", _set("protocol", 2)),
        Lie("J1", "another node than the one that was given", "info", _set("nodeId", other.did)),
        Lie("EN29", "a descriptor that another key signed", "descriptor", signer=other),
        Lie("EN29", "a descriptor without a signature", "descriptor", is_unsigned=True),
        Lie("EN29", "a descriptor for another nonce", "descriptor", _set("nonce", "A" * 43)),
        Lie("EN29", "a descriptor of another network", "descriptor", _other_network),
        Lie("EN29", "a descriptor of another node", "descriptor", _other_member),
        Lie(
            "EN29",
            "a descriptor with another algorithm",
            "descriptor",
            _describe("alg", "rot13/v1"),
        ),
        Lie(
            "EN29",
            "a descriptor with a key of 31 bytes",
            "descriptor",
            _describe("publicEncryptionKey", b64(b"x" * 31)),
        ),
        Lie(
            "EN30",
            "another key than before, which the node signed",
            "later-descriptor",
            _describe("publicEncryptionKey", b64(new_receiver().public)),
        ),
        Lie(
            "EN30",
            "another key version than before",
            "later-descriptor",
            _describe("keyVersion", 2),
        ),
        Lie(
            "J16",
            "a value that is not that of its ETag",
            "value",
            _other_ciphertext,
            is_unsigned=True,
        ),
        Lie("J15", "an envelope for the network of another owner", "value", _foreign_network),
        Lie("EN24", "another type", "key", _set("type", "tinycloud.encryption.decrypt/v1")),
        Lie("EN24", "another targetNode", "key", _set("targetNode", other.did)),
        Lie("EN24", "another nodeId", "key", _set("nodeId", other.did)),
        Lie("EN24", "another networkId", "key", _set("networkId", f"{_PREFIX}{other.did}:default")),
        Lie("EN24", "another algorithm", "key", _set("alg", "rot13/v1")),
        Lie("EN24", "another key version", "key", _set("keyVersion", 2)),
        Lie("EN24", "another key's hash", "key", _set("encryptedSymmetricKeyHash", "0" * 64)),
        Lie("EN24", "another receiver's hash", "key", _set("receiverPublicKeyHash", "0" * 64)),
        Lie("EN24", "another token's id", "key", _set("invocationCid", cid(b"another token"))),
        Lie("EN24", "another request's hash", "key", _set("requestHash", "0" * 64)),
        Lie("EN24", "a signature by another key", "key", signer=other),
        Lie("EN24", "a signature over another answer", "key", _signature_of_another),
        Lie("EN24", "no signature", "key", is_unsigned=True),
        Lie("EN21", "a wrap for another receiver", "key", _other_content_key),
    ]
