"""Requests with a session's authority: which grants to cite, a fresh token for each try, the node's
identity."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.principals import ed25519_public_key
from capabilities.strict_json import Json
from capabilities.tokens import Capability

from ..errors import NodeMismatch, NotSignedIn
from ..session import INVOCATION_TTL_S, Session, mint
from .node_answers import json_object, required_text, texts_of
from .transport import Answer, Request, Transport

PROTOCOL = 1
_SIGN_IN_AGAIN: Final = (
    "make sure that this is the node you mean; if it was restored as a new one, sign in again, with"
    " `sealspace login`"
)
_IS_IT_THERE: Final = "is that the node's address? a path in front of its routes belongs to it"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node says about itself."""

    node_id: str
    version: str
    features: tuple[str, ...]
    in_tee: bool


@dataclass(kw_only=True)
class Caller:
    """Sends requests to one node for the session that is current, `signed_in`."""

    transport: Transport
    clock: Clock
    entropy: Entropy
    pinned_node: str | None = None
    signed_in: Session | None = None
    unsigned_descriptors: bool = False
    _info: NodeInfo | None = None

    @property
    def session(self) -> Session:
        """The acting session."""
        if self.signed_in is None:
            raise NotSignedIn(f"nobody is signed in to {self.transport.url}")
        return self.signed_in

    @session.setter
    def session(self, session: Session) -> None:
        if self._info is not None:
            _require_made_at(self._info.node_id, session)
        self.signed_in = session

    def acting(self, session: Session) -> "Caller":
        """Return one for another session, over the same connections, to the same node."""
        other = copy.copy(self)
        other.session = session
        return other

    async def info(self) -> NodeInfo:
        """Return what the node says about itself; asked for once.

        Raises:
            NodeMismatch: it speaks another protocol, or is not the node that was pinned (J1).
        """
        self.transport.require_open("GET /info")
        if self._info is None:
            answer = await self.transport.exchange(Request("GET", "/info", repeatable=True))
            # else a key would be said to be absent at a node that was never asked
            if answer.status == 404:
                raise NodeMismatch(
                    f"what answers at {self.transport.url} is no node", hint=_IS_IT_THERE
                )
            value = json_object(answer.require())
            if value.get("protocol") != PROTOCOL:  # J1
                raise NodeMismatch(
                    "the node speaks another protocol",
                    hint="use a client of the node's protocol version",
                )
            node_id = required_text(value, "nodeId")
            if ed25519_public_key(node_id) is None:
                raise NodeMismatch("the node names itself by something that is no key")
            if self.pinned_node is not None and node_id != self.pinned_node:
                raise NodeMismatch(f"the node is {node_id}, expected {self.pinned_node}")
            if self.signed_in is not None:
                _require_made_at(node_id, self.signed_in)
            self._info = NodeInfo(
                node_id=node_id,
                version=str(value.get("version", "")),
                features=texts_of(value, "features"),
                in_tee=value.get("inTEE") is True,
            )
        return self._info

    async def node_id(self) -> str:
        """Return the node's DID, checked as in `info`."""
        return (await self.info()).node_id

    def held_for_s(self, wanted: Sequence[Capability]) -> float:
        """Return for how many seconds more the session holds what is wanted; raises NotGranted,
        SessionExpired."""
        now = self.clock.now()
        proofs = self.session.proofs_for(wanted, now=now)
        ends = [
            one.expires_at
            for one in self.session.grants
            if one.cid in proofs and one.expires_at is not None
        ]
        return min(ends, default=math.inf) - now

    async def authorized(
        self,
        request: Request,
        wanted: Sequence[Capability],
        *,
        proofs: Sequence[str] | None = None,
        facts: Sequence[Json] = (),
        minted: Callable[[str], None] | None = None,
        ttl_s: float = INVOCATION_TTL_S,
    ) -> Request:
        """Return a request that mints a fresh token for each try (J5), addressed to this node: no
        other accepts it.

        Args:
            request: without a token.
            wanted: the capabilities of the request.
            proofs: cids to cite; None: the session's grants that cover it; raises NotGranted,
                SessionExpired.
            facts: `fct` items.
            minted: called with each token before it is sent.
            ttl_s: lifetime of each token; a node accepts at most 300 s.
        """
        session = self.session
        cited = session.proofs_for(wanted, now=self.clock.now()) if proofs is None else proofs
        audience = await self.node_id()

        def mint_one() -> str:
            token = mint(
                session.signer,
                self.entropy,
                audience=audience,
                capabilities=wanted,
                proofs=cited,
                expires_at=self.clock.now() + ttl_s,
                facts=facts,
            )
            if minted is not None:
                minted(token)
            return token

        return replace(request, mint=mint_one)

    async def invocation(self, wanted: Sequence[Capability], request: Request) -> Request:
        """Return a request to `/invoke` with the session's authority, which errors name by what it
        invokes."""
        return await self.authorized(replace(request, asked=in_words(wanted)), wanted)

    async def invoke(self, wanted: Sequence[Capability], request: Request) -> Answer:
        """Invoke capabilities and return the node's answer, a refusal included."""
        return await self.transport.exchange(await self.invocation(wanted, request))


def in_words(wanted: Sequence[Capability]) -> str:
    """Say what is asked for: the first capability, and how many more."""
    first = f"{wanted[0].ability} on {wanted[0].resource.text}"
    return first if len(wanted) == 1 else f"{first} and {len(wanted) - 1} more"


def _require_made_at(node_id: str, session: Session) -> None:
    if session.node_id not in (None, node_id):
        raise NodeMismatch(
            f"the node is {node_id}, the session was made at {session.node_id}", hint=_SIGN_IN_AGAIN
        )
