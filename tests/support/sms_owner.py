"""An owner whose wallet pushes secrets, as iExec's client does.

The hash that is signed is computed here with other libraries than the product's.

Example:
    owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
    await owner.enable("--public-checks")
    assert (await owner.push_requester("db-password", b"s3cr3t")).status == 204
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import sha3
from btclib_libsecp256k1 import recovery
from running_node import Reply, send

from capabilities.abilities import KV_GET, KV_LIST, KV_PUT
from capabilities.signatures import WalletSigner
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.iexec_names import AddressKind, address_of, owner_record_key
from sealspace.documents.project_names import parse_project
from sealspace.session import load_session

K1 = bytes.fromhex("4ac3a22c914e3df08b496c9e2ddead6f29328072721d813af61547ea4f3ad8ea")
K2 = bytes.fromhex("373f6e9a53092652280d1773577c5f0dc8a0aeaba5a1c9f3806136f5dd0c9449")
"""The keys of the vectors."""
DOMAIN = "0a26923d45a019b77e856d0001681f98ab9707ec15b2b98048cc91eed00b6793"


def keccak(data: bytes) -> bytes:
    """Return the Keccak-256 hash."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def challenge(address: str, *texts: bytes) -> bytes:
    """Return the hash that iExec's client signs, for an address of whole bytes."""
    parts = [bytes.fromhex(DOMAIN), bytes.fromhex(address[2:]), *map(keccak, texts)]
    return keccak(b"".join(parts))


def signed(key: bytes, hashed: bytes) -> str:
    """Return the header with the wallet's signature of a hash."""
    digest = keccak(b"\x19Ethereum Signed Message:\n32" + hashed)
    signature, odd = recovery.sign(digest, key)
    return f"0x{(signature + bytes([27 + odd])).hex()}"


@dataclass
class SmsOwner:
    """An owner at a node, and the address to which the wallet pushes."""

    home: Path
    node: str
    sms: str
    key: bytes = K1

    @property
    def wallet(self) -> WalletSigner:
        """The wallet."""
        return WalletSigner(self.key)

    @property
    def address(self) -> str:
        """The wallet's address."""
        return f"0x{self.wallet.address.hex()}"

    async def run(self, *arguments: str) -> int:
        """Run a command, and return its exit status."""
        return await asyncio.to_thread(main, [*arguments, "--home", str(self.home)])

    async def log_in(self) -> None:
        """Sign in with the wallet."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        key_file = self.home.parent / f"{self.home.name}.key"
        key_file.touch(0o600)
        key_file.write_text(self.key.hex())
        assert await self.run("login", self.node, "--key-file", str(key_file)) == 0

    async def enable(self, *options: str) -> None:
        """Run `sealspace sms enable`."""
        assert await self.run("sms", "enable", *options) == 0

    def client(self) -> Client:
        """Return an SDK client with the stored session."""
        return Client(self.node, session=load_session(self.home / "session.json"))

    async def value(self, name: str, scope: str) -> str | bytes:
        """Return the value of a secret, as the owner reads it."""
        async with self.client() as client:
            return await client.secrets().get(name, scope=scope)

    async def keys(self, prefix: str = "vault/secrets/scoped/") -> list[str]:
        """Return the keys in the `secrets` space that begin with a prefix."""
        async with self.client() as client:
            values = client.kv("secrets")
            right = allow(f"{values.space.text}/kv/iexec/", KV_LIST)
            await client.delegations.add_right(self.wallet, [right])
            return [key async for key in values.list(prefix)]

    async def publish(self, kind: AddressKind, name: str) -> str:
        """Write the record of an application or a data set, and return its address."""
        address = address_of(kind, parse_project(f"{self.wallet.did}/{name}"))
        member = "project" if kind == "app" else "dataset"
        await self.write_record(kind, address, json.dumps({member: name}, separators=(",", ":")))
        return address

    async def write_record(self, kind: AddressKind, address: str, text: str) -> None:
        """Write any text as the record of an address."""
        async with self.client() as client:
            values = client.kv("secrets")
            folder = f"{values.space.text}/kv/iexec/"
            rights = [allow(folder, ability) for ability in (KV_GET, KV_PUT)]
            await client.delegations.add_right(self.wallet, rights)
            await values.put(owner_record_key(kind, address), text)

    async def send(self, method: str, path: str, value: bytes, authorization: str | None) -> Reply:
        """Send a request to the service."""
        headers = {"Content-Type": "text/plain;charset=UTF-8"}
        return await send(self.sms, method, path, token=authorization, body=value, headers=headers)

    async def push_requester(self, name: str, value: bytes, *, sign_as: bytes = b"") -> Reply:
        """Push a secret of a requester, by default signed by this wallet."""
        hashed = challenge(self.address, name.encode(), value)
        path = f"/requesters/{self.address}/secrets/{name}"
        return await self.send("POST", path, value, signed(sign_as or self.key, hashed))

    async def push_result(self, name: str, value: bytes, method: str = "POST") -> Reply:
        """Push a secret of a wallet, or replace it."""
        hashed = challenge(self.address, name.encode(), value)
        path = f"/secrets/web2?ownerAddress={self.address}&secretName={name}"
        return await self.send(method, path, value, signed(self.key, hashed))

    async def push_app(self, address: str, value: bytes) -> Reply:
        """Push the secret of an application."""
        hashed = challenge(address, b"1", value)
        return await self.send("POST", f"/apps/{address}/secrets", value, signed(self.key, hashed))

    async def push_dataset(self, address: str, value: bytes) -> Reply:
        """Push the key of a data set."""
        path = f"/secrets/web3?secretAddress={address}"
        return await self.send("POST", path, value, signed(self.key, challenge(address, value)))

    async def head(self, path: str) -> int:
        """Return the status of a check."""
        return (await send(self.sms, "HEAD", path)).status

    async def has_requester(self, name: str, *, address: str = "") -> int:
        """Return the status of a check for a requester's secret."""
        return await self.head(f"/requesters/{address or self.address}/secrets/{name}")


async def new_owner(home: Path, node: str, sms: str, *, key: bytes = K1) -> SmsOwner:
    """Return an owner who has signed in."""
    owner = SmsOwner(home, node, sms, key)
    await owner.log_in()
    return owner
