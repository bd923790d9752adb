"""Replay of events of the model of releases, step by step, by the operations of a node.

Two workers, two people who revoke, an owner's session and an operator act on one store. Each has
services and caches of its own, and a gate that stops it before its commits. So a step of the model,
which is one read or one commit, is one step here.

A loss of what was not durable cannot be repeated this way, so traces with one are left out.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attacks.held_store import HeldStage, held_node
from attacks.parties import (
    DECRYPT,
    GET,
    READ_CAPABILITIES,
    SET_POLICY,
    Decrypt,
    Delegate,
    Owner,
    policy_for,
    stage_on,
)
from attacks.test_races import is_release
from deviating_platform import SimulatedPlatform
from patience import PATIENCE_S
from running_node import id_of, key_token
from tests_support import FixedClock
from trust_settings import MANY_CHALLENGES, trusting_config

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.capability_errors import ChainError
from capabilities.facts import POLICY_FACT, WITHDRAWAL_FACT
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.network_errors import ReleaseRefused
from encryption_network.policy import policy_json
from encryption_network.withdrawals import parse_withdrawal
from node.document_cache import DocumentCache
from node.operations.delegations.revoke import revoke
from node.operations.releases.decrypt import decrypt_on_route
from node.operations.releases.owner_policy import set_policy
from node.operations.releases.withdrawal import withdraw_everywhere, withdraw_for_network
from node.refusal import Refusal
from node.services import Services
from spaces.grants.delegation_cache import Delegations
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.space_errors import RecordDamaged
from spaces.store.contract import (
    Commit,
    Committed,
    Follow,
    Put,
    Range,
    Refused,
    ReplayRecord,
    Snapshot,
    Store,
    read_row,
)

REVOKE = "tinycloud.delegation/revoke"
_SESSION_ENTRY, _BACKEND_ENTRY = 4, 2


class Gate:
    """A store for one actor, which stops it before a commit, and before a read after a refusal."""

    def __init__(self, store: Store, wanted: Callable[[Commit], bool]) -> None:
        self._store, self._wanted = store, wanted
        self._may_commit, self._may_read = asyncio.Event(), asyncio.Event()
        self._may_read.set()
        self.stopped = asyncio.Event()
        self.is_at_commit = False
        self.outcome: Committed | Refused | None = None

    def let_read(self) -> None:
        """Let the actor read again."""
        self._may_read.set()

    def let_commit(self) -> None:
        """Let the actor make the commit that it waits for."""
        self.is_at_commit = False
        self._may_commit.set()

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        if not self._may_read.is_set():
            self.stopped.set()
            await self._may_read.wait()
        return await self._store.read(
            keys, replay_record=replay_record, ranges=ranges, follow=follow
        )

    async def commit(self, commit: Commit) -> Committed | Refused:
        if not self._wanted(commit):
            return await self._store.commit(commit)
        self.is_at_commit = True
        self.stopped.set()
        await self._may_commit.wait()
        self._may_commit.clear()
        self.outcome = await self._store.commit(commit)
        if isinstance(self.outcome, Refused):
            self._may_read.clear()
        return self.outcome

    async def close(self) -> None:
        """Leave the store open for the others."""


class Actor:
    """An operation in progress, behind its gate."""

    def __init__(
        self,
        services: Services,
        wanted: Callable[[Commit], bool],
        operate: Callable[[Services], Awaitable[object]],
    ) -> None:
        self._gate = Gate(services.store, wanted)
        # caches of its own, like another process
        own = replace(
            services, store=self._gate, delegations=Delegations(self._gate), kept=DocumentCache()
        )
        self._operate = lambda: operate(own)
        self._task: asyncio.Future[object] | None = None

    async def read(self) -> str:
        """Run to the next commit, or to the end; return what came of it."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._operate())
        self._gate.let_read()
        await self._run_until_stopped()
        return "judged" if self._gate.is_at_commit else self.said()

    async def commit(self) -> str:
        """Make the next commit; return whether it was applied, or what came instead."""
        if not self._gate.is_at_commit:
            said = await self.read()
            if not self._gate.is_at_commit:
                return said
        self._gate.let_commit()
        await self._run_until_stopped()
        return "refused" if isinstance(self._gate.outcome, Refused) else "applied"

    async def _run_until_stopped(self) -> None:
        assert self._task is not None
        self._gate.stopped.clear()
        stopped = asyncio.ensure_future(self._gate.stopped.wait())
        both = (self._task, stopped)
        done, _ = await asyncio.wait(both, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        assert done, "the operation neither ends nor commits"

    def said(self) -> str:
        """Return what came of the operation."""
        if self._task is None or not self._task.done():
            return "unfinished"
        error = self._task.exception()
        match error:
            case None:
                return "done"
            case RecordDamaged():
                return "damaged"
            case Refusal() if error.code == "duplicate-invocation":
                return "duplicate"
            case ReleaseRefused():
                return str(error.reason)
            case ChainError() if error.code in ("delegation-revoked", "ancestor-revoked"):
                return "revoked"
        return "refused"

    async def end(self) -> None:
        """Cancel the operation, as the end of its process would."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._task


@dataclass
class Replayed:
    """The result of a replay.

    Attributes:
        steps: events that the node repeated.
        diverged: the first event that it did not repeat, with what it did instead, or "".
        opened: keys that it sent.
        conflicts: commits that were refused.
    """

    steps: int = 0
    diverged: str = ""
    opened: int = 0
    conflicts: int = 0


@dataclass
class Replay:
    """One trace of the model with people of its own."""

    stage: HeldStage
    owner: Owner
    session: Delegate
    backend: Delegate
    parent: str
    child: str
    asked: tuple[Decrypt, Decrypt]
    result: Replayed = field(default_factory=Replayed)
    _actors: dict[str, Actor] = field(default_factory=dict)
    _targets: dict[str, tuple[int, bool]] = field(default_factory=dict)

    async def run(self, events: Sequence[str]) -> Replayed:
        """Take the steps of a trace, up to the first one that the node does not take."""
        row = await read_row(self.stage.services.store, WITHDRAWALS_KEY)
        assert row is not None
        try:
            for event in events:
                expected, done = await self._take(event.split())
                if expected != done:
                    self.result.diverged = f"{event}: {done}"
                    break
                self.result.steps += 1
        finally:
            for actor in self._actors.values():
                await actor.end()
            if "damage" in events:
                await self.stage.services.store.commit(
                    Commit(puts=(Put(WITHDRAWALS_KEY, row.value),))
                )
        return self.result

    async def _take(self, words: Sequence[str]) -> tuple[str, str]:
        """Take one step; return what the model says came of it, and what the node says."""
        match words:
            case ["flush"]:
                return "", ""
            case ["damage"]:
                gone = Commit(puts=(Put(WITHDRAWALS_KEY, None),))
                await self.stage.services.store.commit(gone)
                return "", ""
            case ["begin" | "restart", worker, *token]:
                await self._end(f"worker {worker}")
                if token:
                    self._actors[f"worker {worker}"] = self._worker(int(token[0]))
                return "", ""
            case ["ask", worker, _, said]:
                return said, await self._actors[f"worker {worker}"].read()
            case ["commit", worker, _, said]:
                return said, self._counted(await self._actors[f"worker {worker}"].commit())
            case ["open", worker, _]:
                return "done", await self._opened(self._actors[f"worker {worker}"])
        return await self._change(words)

    async def _change(self, words: Sequence[str]) -> tuple[str, str]:
        """Take a step of somebody who revokes, withdraws or writes a policy."""
        match words:
            case ["revoke" | "change" | "withdraw", slot, "applied"]:
                return "applied", self._counted(await self._actors[slot].commit())
            case ["revoke" | "change" | "withdraw", slot, "conflict"]:
                return "refused", self._counted(await self._actors[slot].commit())
            case ["revoke" | "change" | "withdraw", slot, "acknowledged"]:
                return "done", self._actors[slot].said()
            case [kind, slot, "read", *about]:
                if slot not in self._actors:
                    self._actors[slot] = self._author(kind, [int(one) for one in about])
                return "judged", await self._actors[slot].read()
            case [kind, slot, "refused"]:
                # it says nothing of what it wants, and wants it as the session
                if slot not in self._actors:
                    self._actors[slot] = self._author(kind, [0, 1])
                said = await self._actors[slot].read()
                return "refused", "refused" if said in ("revoked", "damaged", "refused") else said
        raise AssertionError(words)

    def _counted(self, said: str) -> str:
        self.result.conflicts += said == "refused"
        return said

    async def _opened(self, actor: Actor) -> str:
        """Return what came of a request whose key the model sends now."""
        if actor.said() == "unfinished":
            await actor.commit()
        self.result.opened += actor.said() == "done"
        return actor.said()

    async def _end(self, name: str) -> None:
        if name in self._actors:
            await self._actors.pop(name).end()

    # --- who acts ---------------------------------------------------------------------------------

    def _worker(self, token: int) -> Actor:
        asked = self.asked[token]
        return Actor(
            self.stage.services,
            is_release,
            lambda services: decrypt_on_route(
                services, asked.token, path_id=asked.network, body=asked.body
            ),
        )

    def _author(self, kind: str, about: Sequence[int]) -> Actor:
        operate = {"revoke": self._revoke, "change": self._write, "withdraw": self._withdraw}[kind]
        return Actor(self.stage.services, lambda _: True, operate(about))

    def _revoke(self, about: Sequence[int]) -> Callable[[Services], Awaitable[object]]:
        target, by_session = about[:2]
        header = self._revocation((self.parent, self.child)[target], by_session=bool(by_session))
        return lambda services: revoke(services, header)

    def _revocation(self, target: str, *, by_session: bool) -> str:
        if by_session:
            named = {f"urn:cid:{id_of(target)}": [REVOKE]}
            return key_token(
                self.session.signer, self.session.did, named, proofs=[self.parent], ttl_s=60
            )
        message = SiweMessage(
            domain="app.example",
            address=self.owner.wallet.address,
            uri=f"ucan:{id_of(target)}",
            nonce="n1",
            issued_at="2026-01-02T03:04:05Z",
        )
        return header_text(encode_cacao(sign_cacao(message, self.owner.wallet)))

    def _write(self, about: Sequence[int]) -> Callable[[Services], Awaitable[object]]:
        """Return how the session withdraws the backend, or states the policy again."""
        network = self.owner.network
        value: Json = policy_json(policy_for("approved"))
        fact, operation = POLICY_FACT, set_policy
        if about[0]:
            value, fact, operation = (
                {"did": self.backend.did},
                WITHDRAWAL_FACT,
                withdraw_for_network,
            )
        stated: Json = {
            "type": fact,
            "targetNode": self.stage.node_did,
            "networkId": network,
            "bodyHash": canonical_hash(value),
        }
        token = self.session.grant(
            self.stage.node_did, {network: [SET_POLICY]}, facts=[stated], ttl_s=60
        )
        body = canonical_bytes(value)
        return lambda services: operation(services, token, path_id=network, body=body)

    def _withdraw(self, about: Sequence[int]) -> Callable[[Services], Awaitable[object]]:
        """Return how the operator withdraws the backend, the session, or something else."""
        named = {_SESSION_ENTRY: self.session.did, _BACKEND_ENTRY: self.backend.did}
        value: Json = {"measurement": "ab" * 48}
        if about[0] in named:
            value = {"did": named[about[0]]}
        return lambda services: withdraw_everywhere(
            services.store,
            parse_withdrawal(value),
            now=services.now(),
            entropy=services.entropy,
        )


async def new_replay(stage: HeldStage) -> Replay:
    """Sign in an owner whose session grants decrypt to a backend, and prepare its requests."""
    owner, session, backend = await stage.owner(), Delegate(), Delegate()
    space = owner.space()
    signed_in: dict[str, Sequence[str]] = {
        owner.network: [DECRYPT, SET_POLICY],
        f"{space}/capabilities": [READ_CAPABILITIES],
        f"{space}/delegation": [REVOKE],
        f"{space}/kv": [GET],
    }
    parent = await stage.register(owner.grant(session.did_url, signed_in))
    session.proofs = [parent]
    passed: dict[str, Any] = {owner.network: [DECRYPT], f"{space}/kv": [GET]}
    child = await stage.register(session.grant(backend.did, passed, policy=policy_for("approved")))
    backend.proofs = [child]
    await stage.attest(backend, owner.network)
    asked = (stage.decrypt(backend, owner), stage.decrypt(backend, owner))
    return Replay(stage, owner, session, backend, parent, child, asked)


@asynccontextmanager
async def replay_stage(folder: Path) -> AsyncIterator[HeldStage]:
    """Run a node in this process, whose store the actors of replays share."""
    platform = SimulatedPlatform.from_seed(b"platform of the model of releases")
    config = trusting_config(folder, platform, limits=MANY_CHALLENGES)
    clock = FixedClock(time.time())
    async with held_node(config, clock=clock) as (node, store), AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        parts = (stage.url, platform, clients, stage.node_did)
        yield HeldStage(*parts, store=store, clock=clock, services=node.services)
