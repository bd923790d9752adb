"""Users who grant, delegate, revoke and query at a node, for tests of the reporting routes."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
from conformance.minting import Grants
from embedded_node import EmbeddedNode
from libipld import decode_multibase, encode_multibase
from running_node import Reply
from space_grants import iso
from tests_support import FixedClock
from wire_replay import token_id

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.recap import Recap, attach
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from capabilities.ucan import UcanPayload, encode_ucan

ALICE, BOB = (WalletSigner(bytes([fill]) * 32) for fill in (0x41, 0x42))
SESSION, SECOND, CAROL, MALLORY = (
    Ed25519Signer(bytes([fill]) * 32) for fill in (0x51, 0x52, 0x53, 0x54)
)
GET, PUT = "tinycloud.kv/get", "tinycloud.kv/put"
READ = "tinycloud.capabilities/read"
LIST, STATUS, REVOKE = (f"tinycloud.delegation/{name}" for name in ("list", "status", "revoke"))
_COUNT = itertools.count()


def space(owner: WalletSigner | Ed25519Signer = ALICE, name: str = "default") -> str:
    return f"tinycloud:{owner.did.removeprefix('did:')}:{name}"


def everything(owner: WalletSigner | Ed25519Signer = ALICE) -> Grants:
    """Return the rights of a sign-in."""
    home = space(owner)
    return {
        f"{home}/kv": [GET, PUT],
        f"{home}/capabilities": [READ],
        f"{home}/delegation": [LIST, STATUS, REVOKE],
    }


class Delegating:
    """Users of a node, whose delegations are all registered."""

    def __init__(
        self, node: EmbeddedNode, session: aiohttp.ClientSession, clock: FixedClock
    ) -> None:
        self.node, self.clock = node, clock
        self._session = session

    @property
    def now(self) -> float:
        return self.clock.now()

    async def send(self, path: str, token: str, body: bytes | None = None, **headers: str) -> Reply:
        sent = {"Authorization": token, **headers}
        async with self._session.post(
            self.node.url + path, headers=sent, data=body, skip_auto_headers=("Content-Type",)
        ) as answer:
            lowered = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, lowered, await answer.read())

    async def json(self, path: str, token: str, body: bytes) -> Reply:
        return await self.send(path, token, body, **{"Content-Type": "application/json"})

    def wallet_token(
        self,
        wallet: WalletSigner,
        to: Ed25519Signer,
        grants: Grants | None = None,
        *,
        parents: Sequence[str] = (),
        lifetime_s: float = 3600,
    ) -> str:
        granted = everything(wallet) if grants is None else grants
        recap = Recap(
            {
                resource: {ability: ({},) for ability in abilities}
                for resource, abilities in granted.items()
            },
            tuple(
                encode_multibase("z", decode_multibase(token_id(parent))[1]) for parent in parents
            ),
        )
        return self._signed(wallet, to.did_url, recap, lifetime_s=lifetime_s)

    def _signed(
        self, wallet: WalletSigner, uri: str, recap: Recap | None, *, lifetime_s: float = 60
    ) -> str:
        message = SiweMessage(
            domain="app.example",
            address=wallet.address,
            chain_id=wallet.chain_id,
            uri=uri,
            nonce=f"nonce{next(_COUNT):08}",
            issued_at=iso(self.now),
            expiration_time=iso(self.now + lifetime_s),
        )
        return header_text(
            encode_cacao(sign_cacao(message if recap is None else attach(message, recap), wallet))
        )

    async def sign_in(
        self,
        wallet: WalletSigner = ALICE,
        key: Ed25519Signer = SESSION,
        grants: Grants | None = None,
        *,
        lifetime_s: float = 3600,
    ) -> str:
        """Register a delegation of a wallet to a key."""
        return await self.register(self.wallet_token(wallet, key, grants, lifetime_s=lifetime_s))

    async def grant(
        self,
        signer: Ed25519Signer,
        to: str,
        grants: Grants,
        *proofs: str,
        lifetime_s: float = 600,
        facts: Sequence[Json] = (),
    ) -> str:
        """Register a delegation of a key."""
        token = self.token(signer, grants, *proofs, audience=to, lifetime_s=lifetime_s, facts=facts)
        return await self.register(token)

    async def register(self, token: str) -> str:
        reply = await self.send("/delegate", token)
        assert reply.status == 200, reply.text
        return token

    async def revoke(self, token: str, by: Ed25519Signer | WalletSigner) -> None:
        """Revoke a delegation with the signer's own authority, without a proof."""
        if isinstance(by, WalletSigner):
            header = self._signed(by, f"ucan:{token_id(token)}", None)
        else:
            header = self.token(by, {f"urn:cid:{token_id(token)}": [REVOKE]})
        reply = await self.send("/revoke", header)
        assert reply.status == 200, reply.text

    def token(
        self,
        signer: Ed25519Signer,
        grants: Grants,
        *proofs: str,
        audience: str | None = None,
        lifetime_s: float = 60,
        not_before: float | None = None,
        facts: Sequence[Json] = (),
    ) -> str:
        payload = UcanPayload(
            iss=signer.did_url,
            aud=audience or signer.did,
            exp=self.now + lifetime_s,
            nbf=not_before,
            nnc=str(next(_COUNT)),
            fct=list(facts) or None,
            prf=[token_id(proof) for proof in proofs],
            att={
                resource: {ability: [{}] for ability in abilities}
                for resource, abilities in grants.items()
            },
        )
        return encode_ucan(payload, signer)

    async def status_of(self, asker: Ed25519Signer, target: str, *proofs: str) -> Any:
        """Return the whole status answer of a delegation."""
        cid = token_id(target)
        token = self.token(asker, {f"urn:cid:{cid}": [STATUS]}, *proofs)
        reply = await self.json("/delegation/status", token, json.dumps({"cid": cid}).encode())
        reported = reply.reported
        assert reported["cid"] == cid
        assert (reply.status == 200) is reported["exists"]
        return reported

    async def query(
        self,
        asker: Ed25519Signer,
        *proofs: str,
        owner: WalletSigner | Ed25519Signer = ALICE,
        **filters: Json,
    ) -> Any:
        """Return a page of an account's delegations."""
        reply = await self.asked(asker, *proofs, owner=owner, **filters)
        assert reply.status == 200, reply.text
        return reply.reported

    async def asked(
        self,
        asker: Ed25519Signer,
        *proofs: str,
        owner: WalletSigner | Ed25519Signer = ALICE,
        **filters: Json,
    ) -> Reply:
        """Return the answer to a query, whether or not it succeeded."""
        token = self.token(asker, {f"{space(owner)}/delegation": [LIST]}, *proofs)
        return await self.json("/delegation/query", token, json.dumps(filters).encode())

    async def invoke(
        self,
        asker: Ed25519Signer,
        resource: str,
        ability: str,
        *proofs: str,
        facts: Sequence[Json] = (),
    ) -> Reply:
        token = self.token(asker, {resource: [ability]}, *proofs, facts=facts)
        return await self.send("/invoke", token)
