"""Authorised requests to one node.

Each request has a fresh token, and the node's identity is checked.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.frozen import frozen
from capabilities.principals import ed25519_public_key
from capabilities.strict_json import Json
from capabilities.tokens import Capability

from ..errors import NodeMismatch, NotSignedIn
from ..session import INVOCATION_TTL_S, Session, mint
from .node_answers import json_object, required_text, texts_of
from .transport import Answer, Request, Transport

PROTOCOL = 1


@frozen
class NodeInfo:
    """Public information about a node."""

    node_id: str
    version: str
    features: tuple[str, ...]
    in_tee: bool
    sms_did: str
    oidc_did: str


@dataclass(kw_only=True)
class Caller:
    """A client for authorised requests to one node."""

    transport: Transport
    clock: Clock
    entropy: Entropy
    pinned_node: str | None = None
    signed_in: Session | None = None
    unsigned_descriptors: bool = False
    _info: NodeInfo | None = None

    @property
    def session(self) -> Session:
        """The session that authorises the requests."""
        if self.signed_in is None:
            raise NotSignedIn(f"this client is not signed in to {self.transport.url}")
        return self.signed_in

    @session.setter
    def session(self, session: Session) -> None:
        if self._info is not None:
            _require_made_at(self._info.node_id, session, self.transport.url)
        self.signed_in = session

    def acting(self, session: Session) -> "Caller":
        """Return a copy of this client with another session.

        The copy uses the same connections to the node.
        """
        caller = copy.copy(self)
        caller.session = session
        return caller

    async def info(self) -> NodeInfo:
        """Return the node's public information.

        The result is cached.

        Raises:
            NodeMismatch: the node uses another protocol version, or is not the pinned node (J1).
        """
        self.transport.require_open("GET /info")
        if self._info is None:
            self._info = await self._fetch_info()
        return self._info

    async def _fetch_info(self) -> NodeInfo:
        """Fetch the node's public information, and check that it is the right node."""
        answer = await self.transport.exchange(Request("GET", "/info", repeatable=True))
        # A plain NotFound would look like a missing key or space, as if a node had answered.
        if answer.status in (200, 404) and b'"protocol"' not in answer.body:
            raise NodeMismatch(
                f"{self.transport.url} answers, but it is not a sealspace node",
                hint="check the address and the port; if the node's routes are below a path,"
                " include the path",
            )
        value = json_object(answer.require())
        if value.get("protocol") != PROTOCOL:  # a client stops at any other version (J1)
            raise NodeMismatch(
                "the node uses another protocol version",
                hint="use a client for the node's protocol version",
            )
        node_id = required_text(value, "nodeId")
        if ed25519_public_key(node_id) is None:
            raise NodeMismatch("the node's id is not the DID of an Ed25519 key")
        if self.pinned_node is not None and node_id != self.pinned_node:
            raise NodeMismatch(f"the node is {node_id}, but this client expects {self.pinned_node}")
        if self.signed_in is not None:
            _require_made_at(node_id, self.signed_in, self.transport.url)
        return NodeInfo(
            node_id=node_id,
            version=str(value.get("version", "")),
            features=texts_of(value, "features"),
            in_tee=value.get("inTEE") is True,
            sms_did=str(value.get("smsDid", "")),
            oidc_did=str(value.get("oidcDid", "")),
        )

    async def node_id(self) -> str:
        """Return the node's DID.

        Raises the same errors as `info`.
        """
        return (await self.info()).node_id

    def held_for_s(self, wanted: Sequence[Capability]) -> float:
        """Return the seconds until the given capabilities expire.

        The capability that expires first counts.

        Raises:
            NotGranted, SessionExpired: the session does not have these capabilities now.
        """
        now = self.clock.now()
        proofs = self.session.proofs_for(wanted, now=now)
        ends = [
            grant.expires_at
            for grant in self.session.grants
            if grant.cid in proofs and grant.expires_at is not None
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
        """Authorise a request with a token (J5).

        Returns a copy of `request`, which sends a fresh token with each attempt.

        Args:
            request: the request, without a token.
            wanted: the capabilities of the request.
            proofs: cids to cite; None: the session's grants that cover the capabilities.
            facts: items of the token's `fct`.
            minted: called with each token before it is sent.
            ttl_s: lifetime of each token, seconds; nodes accept at most 300 s.
        Raises:
            NotGranted, SessionExpired: the session does not have the capabilities.
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
        """Authorise a request to `/invoke`.

        Returns a copy of `request`. The token is for the `wanted` capabilities. Error messages will
        describe the request by its capabilities.
        """
        return await self.authorized(replace(request, asked=in_words(wanted)), wanted)

    async def invoke(self, wanted: Sequence[Capability], request: Request) -> Answer:
        """Send an authorised request to `/invoke`.

        The response may be an error.
        """
        return await self.transport.exchange(await self.invocation(wanted, request))


def in_words(wanted: Sequence[Capability]) -> str:
    """Describe capabilities in a short string.

    The string has the first capability, and how many more resources there are.
    """
    first = f"{wanted[0].ability} on {wanted[0].resource.text}"
    more = len({capability.resource.text for capability in wanted}) - 1
    return f"{first} and {more} more" if more else first


def _require_made_at(node_id: str, session: Session, url: str) -> None:
    if session.node_id not in (None, node_id):
        raise NodeMismatch(
            f"the session was made at the node {session.node_id}, but {url} is the node {node_id}",
            hint="check that this is the right node; if it was restored with a new identity,"
            " sign in again with `sealspace login`",
            step="to use the node of your login, omit --node and SEALSPACE_NODE; to use the other"
            f" node: sealspace login {url}; if both should be the same, ask the operator first",
        )
