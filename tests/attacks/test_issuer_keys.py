"""Attacks on how a node gets the keys of issuers (OX7)."""

import asyncio
import base64
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from attacks.held_store import HeldStage, held_node
from attacks.parties import Delegate, Stage, stage_on
from attacks.test_id_tokens import GITHUB, exchange, is_refused, trust_of
from deviating_platform import SimulatedPlatform
from https_service import https_service
from oidc_issuer import Issuer, github_claims, rsa_key
from patience import AT_ONCE_S
from running_node import Reply
from tests_support import FixedClock
from trust_settings import MANY_CHALLENGES, trusting_config

from node.config.tree import Oidc

pytestmark = pytest.mark.slow


class Fetched:
    """A node whose settings name an issuer on loopback, and that issuer."""

    def __init__(self, stage: HeldStage, issuer: Issuer, service: Any) -> None:
        self.stage, self.issuer, self.service = stage, issuer, service

    def publish(self, **documents: bytes) -> None:
        """Serve the issuer's current documents, with the given changes."""
        self.service.documents |= self.issuer.documents | documents

    async def ask(self, trust: str, **more: Any) -> Reply:
        """Exchange a fresh ID token at the node."""
        stage = self.stage
        token = self.issuer.token(
            github_claims(), audience=stage.node_did, now=stage.clock.now(), **more
        )
        return await exchange(stage, trust, token, Delegate())


@pytest.fixture
async def fetched(tmp_path: Path, platform: SimulatedPlatform) -> Any:
    """A node whose settings name an issuer on loopback, with that issuer."""
    clock = FixedClock(time.time())
    async with https_service(tmp_path, "localhost") as service:
        issuer = Issuer(service.url("").rstrip("/"))
        config = trusting_config(
            tmp_path / "fetching",
            platform,
            limits=MANY_CHALLENGES,
            oidc=Oidc(issuers=(issuer.address,)),
        )
        async with held_node(config, clock=clock) as (node, store), AsyncExitStack() as clients:
            stage = await stage_on(node.url, platform, clients)
            parts = (stage.url, platform, clients, stage.node_did)
            held = HeldStage(*parts, store=store, clock=clock, services=node.services)
            found = Fetched(held, issuer, service)
            found.publish()
            yield found


async def test_OX7_keys_are_fetched_and_rotated(fetched: Fetched) -> None:
    """The node caches an issuer's keys, fetches unknown keys once a minute, and drops withdrawn
    keys."""
    stage, issuer = fetched.stage, fetched.issuer
    owner, ca = await stage.owner(), fetched.service.ca.read_text()
    trust = await trust_of(owner, issuer, jwks=None, issuer_ca=ca)
    for _ in range(3):
        assert (await fetched.ask(trust)).status == 200
    assert len(fetched.service.seen) == 2
    issuer.keys = {"two": rsa_key(), **issuer.keys}
    fetched.publish()
    assert is_refused(await fetched.ask(trust, kid="two"))  # within the minute
    # A stranger can cause attempts with any id. One that fails leaves the keys as they are.
    documents = fetched.service.documents.copy()
    fetched.service.documents.clear()
    stage.clock.advance(61)
    assert is_refused(await fetched.ask(trust, kid="two"))
    assert (await fetched.ask(trust, kid="one")).status == 200
    fetched.service.documents |= documents
    assert (await fetched.ask(trust, kid="one")).status == 200
    stage.clock.advance(61)
    assert (await fetched.ask(trust, kid="two")).status == 200
    del issuer.keys["one"]
    fetched.publish()
    old = Issuer(issuer.address, {"one": rsa_key()})
    token = old.token(github_claims(), audience=stage.node_did, now=stage.clock.now())
    assert is_refused(await exchange(stage, trust, token, Delegate()))
    stage.clock.advance(601)
    assert (await fetched.ask(trust)).status == 200
    assert len(fetched.service.seen) == 7
    # An issuer that no longer answers: its keys are used until they are too old.
    fetched.service.documents.clear()
    stage.clock.advance(300)
    assert (await fetched.ask(trust)).status == 200
    stage.clock.advance(301)
    assert is_refused(await fetched.ask(trust))


async def test_OX7_answers_of_issuers_are_checked(fetched: Fetched) -> None:
    """The node takes no keys from an answer that is too long, a redirect, or from another
    issuer."""
    stage, service = fetched.stage, fetched.service
    owner, ca = await stage.owner(), service.ca.read_text()
    trust = await trust_of(owner, fetched.issuer, jwks=None, issuer_ca=ca)
    where, keys = "/.well-known/openid-configuration", service.documents["/keys"]
    address = fetched.issuer.address

    def configuration(issuer: str, jwks_uri: str) -> dict[str, bytes]:
        return {where: json.dumps({"issuer": issuer, "jwks_uri": jwks_uri}).encode()}

    for changed in (
        configuration("https://other.test", f"{address}/keys"),
        configuration(address, f"{address}/redirect?to={address}/keys"),
        configuration(address, f"{address}/large?size=200000"),
        configuration(address, f"{address}/echo"),
        configuration(address, f"http{address.removeprefix('https')}/keys"),
        configuration(address, "file:///etc/passwd"),
        configuration(address, "https://[::1"),
        {where: b"[]"},
        {where: b"{"},
        {"/keys": keys.replace(b'"keys"', b'"others"')},
    ):
        fetched.publish(**changed)
        stage.clock.advance(61)
        assert is_refused(await fetched.ask(trust)), changed
    fetched.publish()
    stage.clock.advance(61)
    assert (await fetched.ask(trust)).status == 200


async def test_OX7_an_issuer_leads_nowhere_inward(
    fetched: Fetched, held: HeldStage, tmp_path: Path
) -> None:
    """The node connects only to public addresses for issuers that its settings do not name."""
    service, owner = fetched.service, await held.owner()
    port = service.port
    for host in ("localhost", "127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1"):
        issuer = Issuer(f"https://{host}:{port}", fetched.issuer.keys)
        trust = await trust_of(owner, issuer, jwks=None, issuer_ca=service.ca.read_text())
        token = issuer.token(github_claims(), audience=held.node_did)
        assert is_refused(await exchange(held, trust, token, Delegate()))
    assert service.seen == []


async def test_OX7_the_certificate_is_checked(fetched: Fetched) -> None:
    """The node refuses an issuer's certificate that no trusted authority signed."""
    owner = await fetched.stage.owner()
    for ca in (None, "no certificate", "no certificaté", ""):
        trust = await trust_of(owner, fetched.issuer, jwks=None, issuer_ca=ca)
        assert is_refused(await fetched.ask(trust))
    assert fetched.service.seen == []


async def test_OX7_the_keys_of_a_set_are_cheap_and_public(stage: Stage) -> None:
    """The node skips private RSA keys and unsupported keys in a key set, because reading them is
    slow."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    (key,) = json.loads(issuer.jwks)["keys"]
    long = base64.urlsafe_b64encode(b"\xff" * 5000).decode()
    private = {"kty": "RSA", "kid": "two", "n": long, "d": long, "e": "AQAB"}
    trust = await trust_of(owner, issuer, jwks=json.dumps({"keys": [key, private]}))
    token = issuer.token(github_claims(), audience=stage.node_did)
    async with asyncio.timeout(AT_ONCE_S):
        assert (await exchange(stage, trust, token, Delegate())).status == 200
    for keys in (private, key | {"d": "AQAB"}, key | {"alg": "none"}):
        trust = await trust_of(owner, issuer, jwks=json.dumps({"keys": [keys]}))
        assert is_refused(await exchange(stage, trust, token, Delegate()))
