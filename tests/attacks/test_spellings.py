"""Attacks by signing one delegation repeatedly, which gives it a new CID each time (Q25)."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import libipld
import pytest
from attacks.held_store import HeldStage
from attacks.parties import GET, REVOKE
from attacks.test_hosting import hosting_stage, own_space, post_from
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from deviating_platform import SimulatedPlatform
from running_node import fresh_nonce, new_key
from wire_replay import token_id

from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from node.config.tree import Hosting, Limits
from node.housekeeping.schedule import sweep_aliases, sweep_delegations
from spaces.keyspace import ALIASES_PREFIX, client_bytes_counter, x16
from spaces.store.contract import Range, counter_of

pytestmark = pytest.mark.slow

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CLIENT = "192.0.2.9"
DAY_S = 86_400


@dataclass(frozen=True)
class Signer:
    """A P-256 key whose signatures of one text all differ."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def did(self) -> str:
        """The DID of the key."""
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        return "did:key:" + str(libipld.encode_multibase("z", b"\x80\x24" + point))

    def text(self, audience: str, resource: str, ability: str) -> str:
        """Return a token without its signature."""
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        jwk: Json = {
            "kty": "EC",
            "crv": "P-256",
            "x": encode_url(point[1:33]),
            "y": encode_url(point[33:]),
        }
        header: Json = {"alg": "ES256", "jwk": jwk, "typ": "JWT", "ucv": "0.10.0"}
        payload: Json = {
            "iss": f"{self.did}#{self.did.removeprefix('did:key:')}",
            "aud": audience,
            "exp": int(time.time()) + DAY_S,
            "nnc": fresh_nonce(),
            "prf": [],
            "att": {resource: {ability: [{}]}},
        }
        return f"{encode_url(canonical_bytes(header))}.{encode_url(canonical_bytes(payload))}"

    def sign(self, text: str) -> str:
        """Sign a text with another signature each time."""
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{encode_url(r.to_bytes(32, 'big') + min(s, ORDER - s).to_bytes(32, 'big'))}"


async def _charged(stage: HeldStage) -> tuple[int, int]:
    """Return the bytes charged to the address, and the number of CIDs that lead to delegations."""
    counter, page = client_bytes_counter(x16(CLIENT), hosts=False), Range(ALIASES_PREFIX, limit=900)
    found = await stage.services.store.read((counter,), ranges=(page,))
    return counter_of(found.records[0]), len(found.pages[0].rows)


async def test_names_of_one_delegation_are_charged(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """Each further CID of a delegation costs its signer bytes and a request."""
    limits = Limits(unhosted_bytes_per_address=4_000, unauthenticated_per_minute=200)
    async with hosting_stage(tmp_path, platform, Hosting(mode="permit"), limits=limits) as stage:
        signer = Signer()
        text = signer.text(new_key().did, f"{own_space(signer.did)}/kv", GET)
        first = signer.sign(text)
        assert (await post_from(stage, CLIENT, first)).status == 200
        whole_bytes, names = await _charged(stage)
        assert names == 1

        spelling = signer.sign(text)
        for _ in range(3):  # a repeat of the same spelling costs nothing more
            reply = await post_from(stage, CLIENT, spelling)
            assert (reply.status, reply.value["cid"]) == (200, token_id(spelling))
        spelling_bytes, names = await _charged(stage)
        assert names == 2
        assert spelling_bytes - whole_bytes == 33 + 32 + 64

        statuses = [(await post_from(stage, CLIENT, signer.sign(text))).status for _ in range(40)]
        taken = statuses.count(200)
        assert statuses == [200] * taken + [400] * (40 - taken)
        used_bytes, names = await _charged(stage)
        assert names == 2 + taken
        assert used_bytes == whole_bytes + (1 + taken) * (33 + 32 + 64)
        assert used_bytes <= 4_000

        revocation = signer.sign(signer.text(signer.did, f"urn:cid:{token_id(first)}", REVOKE))
        assert (await post_from(stage, CLIENT, revocation, path="/revoke")).status == 200
        statuses = [(await post_from(stage, CLIENT, signer.sign(text))).status for _ in range(200)]
        assert {401, 429} == set(statuses)
        assert await _charged(stage) == (used_bytes, names)

        stage.clock.advance(32 * DAY_S)  # with its delegation every name leaves
        assert await sweep_delegations(stage.services) == 1
        while await sweep_aliases(stage.services):
            pass
        assert await _charged(stage) == (0, 0)
