"""A team whose members change, and everybody who tries to read and write its secrets.

Example:
    world = await MemberWorld.begin(stage)
    await world.found()
    await world.remove_by_session(admin, reader.membership)
    await world.compare()
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import libipld
from attacks.held_store import HeldStage
from attacks.member_oracle import Joined, Ledger, Link, Party, Value
from attacks.parties import (
    DECRYPT,
    DELETE,
    ENTROPY,
    GET,
    PUT,
    REVOKE,
    ROUTES,
    SECRET,
    Delegate,
    Owner,
    Route,
    Stage,
    ids,
    machine_token,
    policy_for,
)
from attacks.team_parties import Person, membership, rights_on
from attacks.test_members import is_revocation
from attacks.test_races import meanwhile
from attacks.test_receipts import canonical, fetch
from running_node import Grants, Reply, exchange, key_token, network_path, send, wallet_token
from tests_support import FixedClock

from capabilities.abilities import READ_RECEIPTS
from capabilities.memberships import Role, secrets_resource
from capabilities.principals import parse_principal
from capabilities.signatures import WalletSigner
from encryption_network.envelope import open_envelope
from encryption_network.keywrap import open_wrapped
from encryption_network.receipt import Receipt, parse_receipt
from sealspace.session import sign_message
from spaces.audit.audit_records import AuditRecord

NAMES = (SECRET, "OTHER_KEY", "THIRD_KEY")
JUNK = b"not an envelope"


@dataclass
class MemberWorld:
    """A team, its members and former members, and what they hold.

    Attributes:
        stage: where the next request goes.
        team: owns the secrets.
        watcher: sees what is stored, and all receipts.
        network_key: public key of the team's network.
        http: connections to reuse; None: each request has a connection of its own.
        clock: the node's; None: the node uses the system's.
        ahead_s: how far the node's clock is ahead of the system's.
        log: the steps so far, for messages.
        tried: how often a kind of party tried something, and whether it succeeded.
        released: successful requests for keys, by ground, DID of the member and the invoker's DID.
        written: successful writes, by action, the invoker's DID and name of the secret.
    """

    stage: Stage
    team: Owner
    watcher: Delegate
    network_key: bytes
    http: aiohttp.ClientSession | None = None
    clock: FixedClock | None = None
    ahead_s: float = 0.0
    ledger: Ledger = field(default_factory=Ledger)
    people: list[Person] = field(default_factory=list)
    memberships: list[Joined] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    parties: list[Party] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    tried: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    released: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    written: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @classmethod
    async def begin(
        cls, stage: Stage, *, http: aiohttp.ClientSession | None = None
    ) -> "MemberWorld":
        """Make a team with three secrets and no members."""
        team = await stage.owner()
        encryption = team.client.encryption
        descriptor = await encryption.descriptor(encryption.network())
        watcher = Delegate()
        folder = secrets_resource(parse_principal(team.wallet.did))
        rights = {team.network: [READ_RECEIPTS], folder: [GET, PUT]}
        # The session of the team's wallet ends before a world's clock may.
        grant = await stage.register(team.grant(watcher.did, rights, ttl_s=86_400))
        watcher.proofs = [grant]
        clock = stage.clock if isinstance(stage, HeldStage) else None
        world = cls(stage, team, watcher, descriptor.public_key, http, clock)
        world.now()
        for name in NAMES:
            await world._put_as_team(name)
        return world

    async def found(self) -> list[Party]:
        """Admit two admins, a writer, and a reader of one secret; return their sessions.

        Beside them are a stranger, and a thief with the reader's tokens but not the key.
        """
        sessions = [await self.join(role) for role in ("admin", "admin", "writer")]
        sessions.append(await self.join("reader", SECRET))
        self.parties.append(Party(kind="thief", key=Delegate(proofs=sessions[-1].key.proofs)))
        self.parties.append(Party(kind="stranger", key=Delegate()))
        await self.grant_of_stranger()
        return sessions

    async def grant_of_stranger(self) -> None:
        """Let a stranger grant something of their own, which no admin may end."""
        wallet, key = Person().wallet, Delegate()
        own = f"tinycloud:{wallet.did.removeprefix('did:')}:secrets/kv/vault/secrets/{SECRET}"
        ends_at = self.end(7_200)
        token = wallet_token(wallet, key.did, {own: [GET]}, ends_at=ends_at)
        assert await self.register("a stranger grants", token, is_allowed=True)
        self.links.append(
            Link(
                token=token,
                signer=wallet.did,
                delegate=key.did,
                ends_at=ends_at,
                is_of_team=False,
            )
        )

    # --- time and tokens --------------------------------------------------------------------------

    def now(self) -> float:
        """Return the node's time, after its clock moved on as far as the system's did."""
        if self.clock is None:
            return time.time()
        self.clock.time = max(self.clock.time, time.time() + self.ahead_s)
        return self.clock.time

    def end(self, ttl_s: float, above: Link | None = None) -> int:
        """Return an end in whole seconds, which is not later than that of a delegation above."""
        ends_at = self.now() + ttl_s
        return int(ends_at if above is None else min(ends_at, above.ends_at))

    async def post(self, path: str, token: str, body: bytes | None = None) -> Reply:
        """Send a token, and perhaps a body, to a route."""
        url = self.stage.url
        if self.http is None:
            return await send(url, "POST", path, token=token, body=body)
        return await exchange(self.http, url, "POST", path, token=token, body=body)

    async def invoke(self, key: Delegate, grants: Grants, body: bytes | None = None) -> Reply:
        """Let a key invoke capabilities with all that it holds."""
        token = key_token(key.signer, key.did, grants, proofs=key.proofs, ends_at=self.now() + 60)
        return await self.post("/invoke", token, body)

    async def ask(self, key: Delegate, route: Route, value: Value) -> Reply:
        """Let a key request the content key of a value."""
        ttl_s = self.now() + 60 - time.time()
        request = self.stage.decrypt(key, self.team, envelope=value.envelope, ttl_s=ttl_s)
        path = "/invoke" if route == "invoke" else network_path(self.team.network, "decrypt")
        return await self.post(path, request.token, request.body)

    async def register(self, what: str, token: str, *, is_allowed: bool) -> bool:
        """Register a delegation, and compare whether it was accepted."""
        return self._acknowledged(what, await self.post("/delegate", token), is_allowed)

    def _acknowledged(self, what: str, reply: Reply, is_allowed: bool) -> bool:
        """Return whether an operation was acknowledged, after comparing this with the oracle."""
        self.log.append(f"{what}: {reply.status}")
        expected = (200,) if is_allowed else (400, 401, 403)
        assert reply.status in expected, (self.log, reply.said)
        return reply.status == 200

    def resource(self, name: str) -> str:
        """Return the resource of a secret."""
        return self.team.client.secrets().resource(name)

    # --- members ----------------------------------------------------------------------------------

    async def admit(
        self,
        person: Person,
        role: Role,
        *names: str,
        by: Joined | None = None,
        ttl_s: float = 7_200,
        outlasts: bool = False,
    ) -> Joined | None:
        """Let the team's wallet, or a member's, admit a person; None: it was refused.

        With `outlasts`, the membership ends later than that of the admin.
        """
        ends_at = self.end(ttl_s, by)
        if by is not None and outlasts:
            ends_at = int(by.ends_at) + 60
        signer = None if by is None else Person(by.person.wallet, by.token)
        token = membership(
            self.team,
            person,
            role,
            *names,
            by=signer,
            changes={"end": ends_at},
            ends_at=ends_at,
        )
        is_allowed = by is None or (self.ledger.is_admin(by, self.now()) and not outlasts)
        who = "the team" if by is None else f"a {by.role}"
        if not await self.register(f"{who} admits a {role} {names}", token, is_allowed=is_allowed):
            return None
        joined = Joined(
            token=token,
            signer=self.team.wallet.did if by is None else by.person.did,
            delegate=person.did,
            ends_at=ends_at,
            above=by,
            person=person,
            role=role,
            names=names,
        )
        self.memberships.append(joined)
        self.links.append(joined)
        return joined

    async def sign_in(
        self,
        joined: Joined,
        rights: Role,
        *,
        ttl_s: float = 7_200,
        key: Delegate | None = None,
    ) -> Party | None:
        """Let a member sign in with the rights of a role; None: it was refused."""
        key = Delegate() if key is None else Delegate(key.signer)
        ends_at = self.end(ttl_s, joined)
        paths = [self.resource(name) for name in joined.names]
        token = wallet_token(
            joined.person.wallet,
            key.did_url,
            rights_on(self.team, rights, paths),
            parents=ids(joined.token),
            ends_at=ends_at,
        )
        is_allowed = self.ledger.is_live(joined, self.now())
        what = f"a {joined.role} signs in as a {rights}"
        if not await self.register(what, token, is_allowed=is_allowed):
            return None
        link = Link(
            token=token,
            signer=joined.person.did,
            delegate=key.did,
            ends_at=ends_at,
            above=joined,
        )
        key.proofs = [token]
        party = Party(
            kind="session",
            key=key,
            link=link,
            membership=joined,
            writes=rights != "reader",
            removes=rights == "admin",
        )
        self.links.append(link)
        self.parties.append(party)
        return party

    async def join(self, role: Role, *names: str, by: Joined | None = None) -> Party:
        """Admit a new person, who signs in."""
        person = Person()
        self.people.append(person)
        joined = await self.admit(person, role, *names, by=by)
        assert joined is not None
        session = await self.sign_in(joined, role)
        assert session is not None
        return session

    async def remove_by_session(self, session: Party, target: Link) -> bool:
        """Let a session remove a member, or end something else."""
        reply = await self.post("/revoke", self.removal(session, target))
        is_allowed = target.is_of_team and self.ledger.may_remove(session, self.now())
        what = f"a {session.label}'s session removes {describe(target)}"
        return self._removed(what, reply, target, is_allowed=is_allowed)

    async def remove_by_wallet(self, wallet: WalletSigner, target: Link) -> bool:
        """Let the team's wallet or a member's end something."""
        reply = await self.post("/revoke", self.wallet_removal(wallet, target))
        is_team = wallet.did == self.team.wallet.did
        is_allowed = wallet.did in (target.signer, target.delegate)
        if is_team and target.is_of_team:
            is_allowed = True
        what = f"{'the team' if is_team else 'a wallet'} removes {describe(target)}"
        return self._removed(what, reply, target, is_allowed=is_allowed)

    async def remove_each_other(self, one: Party, two: Party, *, elsewhere: Stage) -> None:
        """Let two admins remove each other at once; exactly one of them is refused (TM7).

        In a node that can hold a commit back, the second removal is complete before the first one
        is committed.

        Args:
            one: acts at the world's stage.
            two: acts elsewhere.
            elsewhere: the same stage, or another process on the same store.
        """
        removals = (self.removal(one, two.joined), self.removal(two, one.joined))
        first = send(self.stage.url, "POST", "/revoke", token=removals[0])
        second = send(elsewhere.url, "POST", "/revoke", token=removals[1])
        if isinstance(self.stage, HeldStage):
            replies: list[Reply] = []

            async def other() -> None:
                replies.append(await second)

            held = self.stage.store.hold(is_revocation)
            replies.insert(0, await meanwhile(first, held, other))
        else:
            replies = list(await asyncio.gather(first, second))
        statuses = [reply.status for reply in replies]
        self.log.append(f"two admins remove each other: {statuses}")
        assert sorted(statuses) == [200, 403], self.log
        removed = two.joined if statuses[0] == 200 else one.joined
        self.ledger.ended.add(removed.cid)

    def wallet_removal(self, wallet: WalletSigner, target: Link) -> str:
        """Return a message with which a wallet revokes a delegation."""
        now = self.now()
        return sign_message(
            wallet,
            ENTROPY,
            domain="app.example",
            uri=f"ucan:{target.cid}",
            issued_at=now,
            expires_at=now + 60,
        )

    def removal(self, session: Party, target: Link) -> str:
        """Return a token with which a session revokes a delegation."""
        key = session.key
        grants = {f"urn:cid:{target.cid}": [REVOKE]}
        return key_token(key.signer, key.did, grants, proofs=key.proofs, ends_at=self.now() + 60)

    def _removed(self, what: str, reply: Reply, target: Link, *, is_allowed: bool) -> bool:
        if not self._acknowledged(what, reply, is_allowed):
            return False
        self.ledger.ended.add(target.cid)
        return True

    # --- what members grant -----------------------------------------------------------------------

    async def make_token(self, by: Joined, *names: str, ttl_s: float = 7_200) -> Party | None:
        """Let a member's wallet sign a machine token; None: it was refused."""
        key = Delegate()
        ends_at = self.end(ttl_s, by)
        token = machine_token(
            by.person.wallet,
            key.did,
            [self.resource(name) for name in names],
            self.team.network,
            ends_at=ends_at,
            proofs=[by.token],
        )
        is_allowed = self.ledger.is_admin(by, self.now())
        what = f"a {by.role} makes a token for {names}"
        if not await self.register(what, token, is_allowed=is_allowed):
            return None
        key.proofs = [token]
        return self._hold("token", key, token, by.person.did, ends_at, above=by, names=names)

    async def approve(
        self,
        session: Party,
        *,
        fetches: Sequence[str],
        names: Sequence[str] = (),
        by_wallet: bool = False,
        ttl_s: float = 7_200,
    ) -> Party | None:
        """Let a session, or the member's wallet, grant to a program; None: it was refused."""
        joined = session.joined
        above = joined if by_wallet else session.link
        assert above is not None
        program = Delegate()
        ends_at = self.end(ttl_s, above)
        rights: Grants = {self.team.network: [DECRYPT]}
        rights = {**rights, **{self.resource(name): [GET] for name in fetches}}
        policy = policy_for("approved", paths=tuple(self.resource(name) for name in names))
        if by_wallet:
            signer = joined.person.did
            token = wallet_token(
                joined.person.wallet,
                program.did,
                rights,
                policy=policy,
                parents=ids(joined.token),
                ends_at=ends_at,
            )
        else:
            signer = session.key.did
            token = session.key.grant(program.did, rights, policy=policy, ends_at=ends_at)
        is_allowed = self.ledger.is_live(above, self.now())
        what = f"a {joined.role}'s {'wallet' if by_wallet else 'session'} approves code"
        if not await self.register(what, token, is_allowed=is_allowed):
            return None
        program.proofs = [token]
        made = self._hold(
            "program", program, token, signer, ends_at, above=above, names=tuple(names)
        )
        made.fetches = tuple(fetches)
        made.membership = joined
        await self._attest(made)
        return made

    def _hold(
        self,
        kind: Any,
        key: Delegate,
        token: str,
        signer: str,
        ends_at: float,
        *,
        above: Link,
        names: tuple[str, ...],
    ) -> Party:
        """Note a token or a grant, and return the party that holds it."""
        link = Link(token=token, signer=signer, delegate=key.did, ends_at=ends_at, above=above)
        party = Party(kind=kind, key=key, link=link, names=names)
        self.links.append(link)
        self.parties.append(party)
        return party

    async def _attest(self, program: Party) -> None:
        """Let a program prove what it is; only the holder of a live grant can."""
        stage, key = self.stage, program.key
        nonce = await stage.nonce(key.did)
        quote = stage.quote(key.did, key.receiver.public_key, nonce)
        reply = await stage.submit_quote(
            key,
            self.team.network,
            nonce=nonce,
            quote=quote,
            ttl_s=self.now() + 60 - time.time(),
        )
        is_allowed = self.ledger.is_live(program.link, self.now())
        assert (reply.status == 200) == is_allowed, (self.log, reply.said)
        if is_allowed:
            program.evidence_ends_at = float(str(reply.value["expiresAt"]))

    # --- values -----------------------------------------------------------------------------------

    async def new_value(self) -> Value:
        """Encrypt a new value for the team's network."""
        encryption = self.team.client.encryption
        text = ENTROPY.token(16).hex().encode()
        envelope = await encryption.encrypt(
            text, network=encryption.network(), key=self.network_key
        )
        return Value(envelope, text)

    async def _put_as_team(self, name: str) -> None:
        value = await self.new_value()
        reply = await self.invoke(self.watcher, {self.resource(name): [PUT]}, value.body)
        assert reply.status == 200, reply.said
        self.ledger.store(name, value)

    async def store(self, session: Party, name: str, value: Value) -> bool:
        """Let a session store a value as a secret: a new one, or the value of another secret."""
        reply = await self.invoke(session.key, {self.resource(name): [PUT]}, value.body)
        is_allowed = self.ledger.may_write(session, name, self.now())
        if not self._acknowledged(f"a {session.label} stores {name}", reply, is_allowed):
            return False
        self.ledger.store(name, value)
        self.written["kv.put", session.key.did, name] += 1
        return True

    async def delete(self, session: Party, name: str) -> bool:
        """Let a session delete a secret that is stored."""
        reply = await self.invoke(session.key, {self.resource(name): [DELETE]})
        is_allowed = self.ledger.may_write(session, name, self.now())
        if not self._acknowledged(f"a {session.label} deletes {name}", reply, is_allowed):
            return False
        self.ledger.present.discard(name)
        self.written["kv.del", session.key.did, name] += 1
        return True

    def sessions(self) -> list[Party]:
        """Return all sessions that members ever had."""
        return [party for party in self.parties if party.kind == "session"]

    # --- the comparison ---------------------------------------------------------------------------

    async def compare(self) -> None:
        """Let everybody try everything, and compare with the oracle."""
        await self.compare_parties()
        for name in NAMES:
            await self._compare_stored(name)

    async def compare_parties(self) -> None:
        """Let everybody try everything, and compare with the oracle, but not what is stored."""
        now = self.now()
        for party in self.parties:
            is_live = self.ledger.is_live(party.link, now)
            if party.kind == "program" and is_live and now >= party.evidence_ends_at:
                await self._attest(party)
            for name in NAMES:
                await self._try_fetch(party, name)
                await self._try_open(party, name)
                await self._try_write(party, name)
            await self._try_remove(party)

    def _tried(self, party: Party, what: str, is_allowed: bool, reply: Reply) -> None:
        """Compare one attempt with the oracle, and count it."""
        said = (self.log, party.label, what, is_allowed, reply.said)
        assert (reply.status == 200) == is_allowed, said
        if not is_allowed:
            assert reply.status in (401, 403), said
        is_live = self.ledger.is_live(party.link, self.now())
        label = party.label if is_live or party.link is None else f"former {party.label}"
        self.tried[label, what, is_allowed] += 1

    async def _try_fetch(self, party: Party, name: str) -> None:
        """Try to fetch an envelope."""
        reply = await self.invoke(party.key, {self.resource(name): [GET]})
        is_allowed = self.ledger.may_fetch(party, name, self.now())
        if is_allowed and name not in self.ledger.present:
            assert reply.status == 404, (self.log, party.label, reply.said)
            return
        self._tried(party, "fetch", is_allowed, reply)
        if is_allowed:
            assert reply.body == self.ledger.latest[name].body

    async def _try_open(self, party: Party, name: str) -> None:
        """Try to get the content key of the latest value, on both routes."""
        value = self.ledger.latest[name]
        for route in ROUTES:
            reply = await self.ask(party.key, route, value)
            is_allowed = self.ledger.may_open(party, name, self.now())
            self._tried(party, f"key by {route}", is_allowed, reply)
            if is_allowed:
                assert opened(reply, party.key, value) == value.text
                self.released[self._ground(party)] += 1

    def _ground(self, party: Party) -> tuple[str, str, str]:
        """Return what a receipt of a release to a party has to say."""
        if party.kind == "session":
            return "member", party.joined.person.did, party.key.did
        return "machine" if party.kind == "token" else "attested", "", party.key.did

    async def _try_write(self, party: Party, name: str) -> None:
        """Try to delete and to replace a secret; whoever may do both stores the same again."""
        rights = {PUT: {self.resource(name): [PUT]}, DELETE: {self.resource(name): [DELETE]}}
        is_allowed = self.ledger.may_write(party, name, self.now())
        body = self.ledger.latest[name].body if is_allowed else JUNK
        # What was there is there afterwards. A deletion of what is not there would say 404.
        order = (DELETE, PUT) if name in self.ledger.present else (PUT, DELETE)
        for ability in order:
            reply = await self.invoke(party.key, rights[ability], body if ability == PUT else None)
            self._tried(party, ability.rpartition("/")[2], is_allowed, reply)
            if is_allowed:
                action = "kv.put" if ability == PUT else "kv.del"
                self.written[action, party.key.did, name] += 1

    async def _try_remove(self, party: Party) -> None:
        """Try to end a membership; whoever may do so tries to end a stranger's grant."""
        target: Link = self.memberships[0]
        if self.ledger.may_remove(party, self.now()):
            (target,) = (link for link in self.links if not link.is_of_team)
        reply = await self.post("/revoke", self.removal(party, target))
        self._tried(party, "remove", False, reply)

    async def _compare_stored(self, name: str) -> None:
        """Compare the stored value with what the acknowledged operations left."""
        reply = await self.invoke(self.watcher, {self.resource(name): [GET]})
        if name not in self.ledger.present:
            assert reply.status == 404, (self.log, name, reply.said)
            return
        assert reply.status == 200, (self.log, name, reply.said)
        assert reply.body == self.ledger.latest[name].body, (self.log, name)

    # --- receipts and audit records ---------------------------------------------------------------

    async def compare_receipts(self) -> None:
        """Compare the receipts of the team's network with the keys that were released."""
        said: Counter[tuple[str, str, str]] = Counter()
        for receipt in await self._receipts():
            did = receipt.member if isinstance(receipt.member, str) else ""
            said[receipt.ground, did, receipt.invoker] += 1
        assert said == self.released, (self.log, said - self.released, self.released - said)

    async def _receipts(self) -> list[Receipt]:
        """Return all receipts of the team's network."""
        receipts: list[Receipt] = []
        after = ""
        while True:
            leaf = f"receipts?after={after}"
            network, ends_at = self.team.network, self.now() + 60
            reply = await fetch(self.stage, self.watcher, network, leaf, ends_at=ends_at)
            assert reply.status == 200, reply.said
            page = reply.reported
            receipts += [parse_receipt(canonical(receipt)) for receipt in page["receipts"]]
            if page["after"] is None:
                return receipts
            after = page["after"]

    def compare_records(self, records: Iterable[AuditRecord]) -> None:
        """Compare the audit records of releases and of writes with those that succeeded."""
        own = (self.team.session.did, self.watcher.did)
        did_of = {one.key.did: one.joined.person.did for one in self.sessions()}
        written: Counter[tuple[str, str, str]] = Counter()
        released: Counter[tuple[str, str]] = Counter()
        for record in records:
            if record.action in ("kv.put", "kv.del") and record.actor not in own:
                written[record.action, record.actor, record.subject.rpartition("/")[2]] += 1
            elif record.action == "release.authorised":
                released[json.loads(record.detail)["member"] or "", record.actor] += 1
        assert written == self.written, (self.log, written - self.written, self.written - written)
        expected: Counter[tuple[str, str]] = Counter()
        for (_, did, invoker), count in self.released.items():
            assert did == did_of.get(invoker, "")
            expected[did, invoker] += count
        assert released == expected, (self.log, released - expected, expected - released)


def opened(reply: Reply, key: Delegate, value: Value) -> bytes:
    """Return the value that the content key in an answer opens."""
    wrapped = libipld.decode_multibase("M" + str(reply.value["wrappedKey"]))[1]
    return open_envelope(value.envelope, open_wrapped(key.receiver.private_key, wrapped))


def describe(target: Link) -> str:
    """Return what a delegation is, for messages."""
    if isinstance(target, Joined):
        return f"the {target.role}"
    return "a session or grant" if target.is_of_team else "a stranger's grant"
