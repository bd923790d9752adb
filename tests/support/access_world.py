"""An owner's secret, everybody who may be able to read it, and an oracle that tries each of them.

Example:
    world = await AccessWorld.begin(bench)
    await world.step(random)
    await world.compare()
"""

import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backend_site import NOTES, OWNER_ABILITIES, Domain
from oidc_issuer import SHOP, Issuer, github_claims
from running_node import send

from capabilities.abilities import DECRYPT, KV_GET, SET_POLICY
from capabilities.signatures import Ed25519Signer
from encryption_network.canonical_json import canonical_bytes
from encryption_network.policy import Policy
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import DecryptDenied, SealspaceError, Unauthorized
from sealspace.giving.access import SecretAccess
from sealspace.giving.readers import Reader
from sealspace.giving.released_secrets import OwnerRecords, named_releases
from sealspace.session import key_session
from sealspace.wallets import AnyWallet, new_wallet
from sealspace.wire.portable import PortableDelegation
from sealspace.wire.token_line import read_token, token_line
from tee_backend.backend import Backend

ISSUER = Issuer("https://ci.test")
_SECRET, _OTHER = "API_KEY", "OTHER"


@dataclass
class Party:
    """Somebody with a key, who tries to read the secret in every way.

    Attributes:
        kind: for the count of tries.
        did: of the key or, for a person, of the wallet.
        client: with all that the party was granted.
        wallet: of a person.
        backend: proves with evidence that it runs approved code.
        trust: cid of the trust under which a job got its token.
        held: grants that it may pass on.
    """

    kind: str
    did: str
    client: Client
    wallet: AnyWallet | None = None
    backend: Backend | None = None
    trust: str = ""
    held: list[PortableDelegation] = field(default_factory=list)

    async def reads(self, owner: str, values: set[str]) -> bool:
        """Return whether the party obtains a value of the secret."""
        if self.backend is not None:
            with suppress(SealspaceError):
                return await self.backend.read_secret(owner, _SECRET) in values
        if self.wallet is not None:
            return await self._reads_copy(owner, values)
        with suppress(SealspaceError):
            return await self.client.secrets(owner).get(_SECRET) in values
        return False

    async def _reads_copy(self, owner: str, values: set[str]) -> bool:
        for team in ("", "ops"):
            with suppress(SealspaceError):
                received = await self.client.sharing.received(
                    owner, team=team, wallet=lambda: self.wallet
                )
                if await received.get(_SECRET) in values:
                    return True
        return False


@dataclass
class AccessWorld:
    """An owner with a wallet, and all other parties."""

    bench: Any
    owner: Client
    wallet: AnyWallet
    parties: list[Party] = field(default_factory=list)
    values: set[str] = field(default_factory=set)
    grants: list[str | PortableDelegation] = field(default_factory=list)
    tried: Counter[tuple[str, bool]] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, bench: Any) -> "AccessWorld":
        """Sign an owner in and store the secret."""
        wallet = new_wallet(entropy=bench.entropy)
        owner = await bench.client()
        await owner.sign_in(wallet, SignIn(network_abilities=OWNER_ABILITIES))
        world = cls(bench, owner, wallet)
        await world.replace()
        await owner.secrets().put(_OTHER, "other")
        for _ in range(2):
            await world.meet_person()
        return world

    @property
    def did(self) -> str:
        """DID of the owner."""
        return self.owner.session.owner

    @property
    def rights(self) -> list[Any]:
        """The rights to fetch the envelope and to decrypt it."""
        fetch = allow(self.owner.secrets().resource(_SECRET), KV_GET)
        return [fetch, allow(self.owner.encryption.network().text, DECRYPT)]

    def with_proof(self) -> Policy:
        """Return a policy that approves one program."""
        return Policy(measurements=(NOTES,))

    async def key_party(self, kind: str, *, attests: bool = False) -> Party:
        """Return a party with a key of its own; with `attests`, it runs approved code."""
        signer = Ed25519Signer(self.bench.entropy.token(32))
        client = await self.bench.client(key_session(signer))
        backend = None
        if attests:
            domain = Domain(self.bench.platform, NOTES)
            clock, entropy = self.bench.clock, self.bench.entropy
            backend = Backend(client, domain, clock=clock, entropy=entropy)
        party = Party(kind, signer.did, client, backend=backend)
        self.parties.append(party)
        return party

    async def meet_person(self) -> None:
        """Let a person sign in at the node, with a network of their own."""
        wallet = new_wallet(entropy=self.bench.entropy)
        client = await self.bench.client()
        await client.sign_in(wallet)
        await client.encryption.ensure_network()
        self.parties.append(Party("person", client.session.owner, client, wallet=wallet))

    # --- what an owner does -----------------------------------------------------------------------

    async def replace(self) -> None:
        """Store a new value, with or without its copies."""
        value = f"value {len(self.values)}"
        self.values.add(value)
        await self.owner.sharing.put_many({_SECRET: value})

    async def sign_in(self, rng: random.Random) -> None:
        """Sign in with an application, for a while."""
        client = await self.bench.client()
        ttl_s = rng.choice((600.0, 86_400.0))
        await client.sign_in(self.wallet, SignIn(ttl_s=ttl_s, domain="app.test"))
        self.grants.append(client.session.grants[0].cid)
        self.parties.append(Party("session", client.session.did, client))

    async def grant(self, rng: random.Random) -> None:
        """Grant rights to a key: some of them, with a policy or without, by wallet or session."""
        rights = rng.choice((self.rights, self.rights, self.rights[1:], self.rights[:1]))
        has_policy = rng.random() < 0.7
        attests = has_policy or rng.random() < 0.5
        party = await self.key_party("backend" if has_policy else "grant", attests=attests)
        await self._give(
            party,
            rights,
            rng,
            policy=self.with_proof() if has_policy else None,
            wallet=rng.choice((None, self.wallet)),
        )

    async def grant_to_app(self, rng: random.Random) -> None:
        """Sign in with an application without secrets, and then grant the secret to its key."""
        client = await self.bench.client()
        await client.sign_in(self.wallet, SignIn(secrets=False, network_abilities=()))
        party = Party("app", client.session.did, client)
        self.parties.append(party)
        await self._give(party, self.rights, rng, wallet=self.wallet)

    async def grant_run(self, rng: random.Random) -> None:
        """Grant the secret to a runner, which executes one program."""
        party = await self.key_party("runner", attests=True)
        path = self.rights[0].resource.text
        policy = Policy(measurements=(NOTES,), paths=(path,))
        run = RunStatement(programs=(ByHash("ab" * 32),))
        await self._give(party, self.rights, rng, policy=policy, run=run, wallet=self.wallet)

    async def _give(self, party: Party, rights: Any, rng: random.Random, **more: Any) -> None:
        await self.give(party, rights, ttl_s=rng.choice((600.0, 7_200.0)), **more)

    async def give(self, party: Party, rights: Any, *, ttl_s: float, **more: Any) -> None:
        """Grant rights to a party, which begins to use them."""
        portable = await self.owner.delegations.delegate(
            party.did, rights, ttl_s=ttl_s, at_most=True, **more
        )
        self.grants.append(portable)
        await self._take(party, portable)

    async def _take(self, party: Party, portable: PortableDelegation) -> None:
        party.held.append(portable)
        if party.backend is not None:
            with suppress(SealspaceError):
                await party.backend.hold(portable)
                await party.backend.attest(self.owner.encryption.network())
        with suppress(SealspaceError):
            await party.client.delegations.accept(portable)

    async def pass_on(self, rng: random.Random) -> None:
        """Let the recipient of a grant pass it on to another key."""
        holders = [one for one in self.parties if one.held and one.wallet is None]
        if not holders:
            return
        await self.pass_on_from(rng.choice(holders), attests=rng.random() < 0.7)

    async def pass_on_from(self, holder: Party, *, attests: bool = True) -> None:
        """Let a recipient pass a grant on to another key."""
        party = await self.key_party("passed on", attests=attests)
        # The holder may have been granted only one of the two rights.
        for chosen in (self.rights, self.rights[:1], self.rights[1:]):
            with suppress(SealspaceError):
                portable = await holder.client.delegations.delegate(
                    party.did, chosen, ttl_s=300.0, at_most=True
                )
                await self._take(party, portable)
                return

    async def make_token(self, rng: random.Random) -> None:
        """Create a machine token."""
        line = await self.owner.delegations.create_token(
            "deploy", [_SECRET], ttl_s=rng.choice((600.0, 7_200.0)), wallet=self.wallet
        )
        session = read_token(line)
        client = await self.bench.client(session)
        self.grants.append(session.grants[0].cid)
        self.parties.append(Party("token", session.did, client))

    async def trust(self, rng: random.Random) -> None:
        """Trust an issuer, or let a job exchange its ID token under an earlier trust."""
        trust = await self.owner.delegations.trust_issuer(
            "shop",
            [_SECRET],
            issuer=ISSUER.address,
            claims={"repository_id": [SHOP["repository_id"]]},
            jwks=ISSUER.jwks,
            ttl_s=rng.choice((600.0, 7_200.0)),
            wallet=self.wallet,
        )
        self.grants.append(trust)
        info = await self.owner.info()
        token = ISSUER.token(github_claims(), audience=info.node_id, now=self.bench.clock.now())
        seed = self.bench.entropy.token(32)
        asked = canonical_bytes({"token": token, "key": Ed25519Signer(seed).did, "trust": trust})
        reply = await send(self.bench.node.url, "POST", "/oidc/exchange", body=asked)
        session = read_token(token_line(seed, info.node_id, json.loads(reply.body)["delegation"]))
        client = await self.bench.client(session)
        self.parties.append(Party("ci", session.did, client, trust=trust))

    async def share(self, rng: random.Random) -> None:
        """Share the secret with a person, alone or as member of a team."""
        person = rng.choice([one for one in self.parties if one.kind == "person"])
        team = rng.choice((None, "ops"))
        # Where even the owner has to attest, the owner cannot make copies.
        with suppress(DecryptDenied):
            share = await self.owner.sharing.share(
                [rng.choice((_SECRET, _OTHER))],
                person.did,
                team=team,
                wallet=lambda: self.wallet,
                ttl_s=7_200.0,
            )
            self.grants.append(share.grant.cid)

    async def unshare(self, rng: random.Random) -> None:
        """End sharing with a person or a team."""
        person = rng.choice([one for one in self.parties if one.kind == "person"])
        did, team = rng.choice(((person.did, None), (None, "ops")))
        with suppress(SealspaceError):
            await self.owner.sharing.unshare([_SECRET], did=did, team=team)

    async def revoke(self, rng: random.Random) -> None:
        """Revoke one grant, token, trust or sign-in."""
        if not self.grants:
            return
        grant = self.grants.pop(rng.randrange(len(self.grants)))
        try:
            await self.owner.delegations.revoke_by_wallet(grant, self.wallet)
        except Unauthorized:
            # The session signed it, for a network alone: the wallet has no say in it (W22).
            assert not isinstance(grant, str)
            await self.owner.delegations.revoke(grant)

    async def wait(self, rng: random.Random) -> None:
        """Let time pass, so that some grants expire."""
        self.bench.clock.advance(rng.choice((60, 301, 700)))

    async def change_policy(self, rng: random.Random) -> None:
        """Set or remove the policy of the owner's network."""
        await self.set_policy(rng.choice((None, self.with_proof(), Policy())))

    async def set_policy(self, policy: Policy | None) -> None:
        """Replace the policy of the owner's network."""
        await self.owner.delegations.add_right(
            self.wallet, [allow(self.owner.encryption.network().text, SET_POLICY)]
        )
        await self.owner.encryption.set_policy(self.owner.encryption.network(), policy)

    STEPS = (
        "sign_in",
        "grant",
        "grant",
        "grant_to_app",
        "grant_run",
        "pass_on",
        "make_token",
        "trust",
        "share",
        "share",
        "unshare",
        "revoke",
        "revoke",
        "wait",
        "change_policy",
    )

    async def step(self, rng: random.Random) -> None:
        """Do one thing at random."""
        name = rng.choice((*self.STEPS, "replace"))
        self.log.append(name)
        if name == "replace":
            await self.replace()
        else:
            await getattr(self, name)(rng)

    # --- the comparison ---------------------------------------------------------------------------

    async def compare(self) -> None:
        """Let everybody try to read the secret, and compare with the answer to the owner."""
        access = await self.owner.access.of(_SECRET)
        assert access.missing == (), (self.log, access.missing)
        for party in self.parties:
            can = await party.reads(self.did, self.values)
            self.tried[party.kind, can] += 1
            self.reads[party.did] += can
            rows = rows_of(party, access)
            states = [one.state for one in rows]
            said = (self.log, party.kind, party.did, can, [(one.kind, one.state) for one in rows])
            if can:
                attests = party.backend is not None
                assert (
                    "now" in states
                    or (attests and "attested" in states)
                    or (party.trust and "id_token" in states)
                ), said
            else:
                assert "now" not in states, said
                if party.backend is not None:
                    assert "attested" not in states, said

    async def compare_activity(self) -> None:
        """Compare the owner's activity with what others have read: a row for each, and no other."""
        own = ("owner", "owner_session")
        records = OwnerRecords(
            receipts=self.owner.receipts,
            delegations=self.owner.delegations,
            secrets=self.owner.kv("secrets"),
        )
        people = {one.did for one in self.parties if one.kind == "person"}
        own_keys = {one.did for one in self.parties if one.kind in ("session", "app")}
        released: Counter[str] = Counter()
        async for release in named_releases(records, self.owner.encryption.network()):
            if release.receipt.ground in own or release.receipt.invoker in own_keys:
                continue
            # Several names are possible after a value was replaced; the right one is among them.
            assert _SECRET in release.possible, (self.log, release)
            released[release.receipt.invoker] += 1
        expected = Counter(
            {did: n for did, n in self.reads.items() if n and did not in people | own_keys}
        )
        assert released == expected, (self.log, released, expected)
        fetched = {
            one.reader async for one in self.owner.receipts.fetches() if one.label == _SECRET
        }
        readers = {did for did in people if self.reads[did]}
        if (await self.owner.release_terms()).attestation == "everyone":
            # A person who fetches a copy cannot open it without evidence of code. The row is about
            # the fetch.
            assert readers <= fetched <= people, (self.log, fetched)
        else:
            assert fetched == readers, (self.log, fetched)


def rows_of(party: Party, access: SecretAccess) -> list[Reader]:
    """Return what the answer says about a party."""
    return [one for one in access.readers if one.did == party.did or party.trust == one.grant != ""]
