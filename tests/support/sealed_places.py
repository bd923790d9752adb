"""An owner's sealed values, stored as other clients and writers of a path could store them.

Example:
    values = SealedPlaces(loop, node, wallet)
    values.store("vault/secrets/API_KEY", {"value": "v", "createdAt": "", "updatedAt": ""})
    values.move("vault/secrets/OTHER", "vault/secrets/API_KEY", label=None)
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from browser import BrowserWallet
from embedded_node import EmbeddedNode
from loop_thread import LoopThread

from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import JsonObject
from encryption_network.envelope import parse_envelope
from sealspace.client import Client
from sealspace.encryption import envelope_bytes
from sealspace.session import network_of_owner

T = TypeVar("T")

FOLDER = "vault/secrets/"


class SealedPlaces:
    """The values in one owner's space of secrets.

    Attributes:
        signer: the owner's wallet.
        did: the owner's DID.
        space: id of the space.
    """

    def __init__(self, loop: LoopThread, node: EmbeddedNode, wallet: BrowserWallet) -> None:
        self._loop, self._node = loop, node
        self.signer = wallet.signer
        self.did = wallet.signer.did
        self.space = f"tinycloud:{self.did.removeprefix('did:')}:secrets"

    def own(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Call a function with a client of the owner, and await its result."""

        async def run() -> T:
            async with Client(self._node.url) as owner:
                await owner.sign_in(self.signer)
                return await work(owner)

        return self._loop.run(run())

    def label(self, path: str) -> bytes:
        """Return the label of an envelope that is stored at a path."""
        return f"tinycloud.vault:{self.space}:{path.removeprefix('vault/')}".encode()

    def store(self, path: str, members: JsonObject) -> None:
        """Seal a plaintext with exactly these members, and store it at a path."""

        async def put(owner: Client) -> None:
            await owner.encryption.ensure_network()
            envelope = await owner.encryption.encrypt(
                json.dumps(members).encode(),
                network=network_of_owner(self.did),
                label=self.label(path),
            )
            await owner.kv("secrets").put(path, envelope_bytes(envelope))

        self.own(put)

    def unbound(self, path: str, value: str = "open sesame", **more: Any) -> None:
        """Store a value that does not state its place."""
        at = "2026-01-02T03:04:05.678Z"
        self.store(path, {"value": value, "createdAt": at, "updatedAt": at, **more})

    def move(self, source: str, target: str, *, label: bytes | None) -> None:
        """Store the envelope of one path at another one, with this label."""

        async def put(owner: Client) -> None:
            values = owner.kv("secrets")
            envelope = parse_envelope((await values.get(source)).body)
            aad = None if label is None else encode_standard(label)
            await values.put(target, envelope_bytes(replace(envelope, aad=aad)))

        self.own(put)

    def plaintext(self, path: str) -> JsonObject:
        """Return the plaintext that is sealed at a path."""

        async def read(owner: Client) -> JsonObject:
            stored = await owner.kv("secrets").get(path)
            opened = await owner.encryption.decrypt(parse_envelope(stored.body))
            members: JsonObject = json.loads(opened)
            return members

        return self.own(read)

    def place(self, path: str, form: str) -> JsonObject:
        """Return the place that a value of the owner has to state."""
        return {"owner": self.did, "space": self.space, "path": path, "form": form}

    def is_bound(self, name: str) -> bool:
        """Return whether the SDK reads a secret as bound."""

        async def read(owner: Client) -> bool:
            return (await owner.secrets().read(name)).is_bound

        return self.own(read)
