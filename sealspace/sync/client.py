"""One node and the session that acts on it, synchronous: `sealspace.client.Client`, whose calls wait for their result.

Example:
    with Client("https://node.example") as client:
        client.sign_in(wallet, SignIn(spaces=("notes",)))
        client.kv("notes").put("todo/1", "buy milk")
"""

from typing import Self

from capabilities.ambient import Clock, Entropy

from .. import client as asynchronous
from ..documents.node_evidence import NodeRequirement
from ..session import Session
from ..wire.transport import TransportSettings
from ._bridged import Bridged, called, changed, made
from ._loop_thread import LoopThread
from .services import (
    Attestation,
    Backends,
    Delegations,
    Encryption,
    Kv,
    Programs,
    PublicKv,
    Receipts,
    Runners,
    Secrets,
    Spaces,
    Withdrawals,
)


class Client(Bridged[asynchronous.Client]):
    """A node and a session on it.

    Use it in `with`, or call `close`. Any number of threads may use it at once.

    Args:
        url: address of the node; `http://` only for this machine, see `TransportSettings`.
        session: the acting session; None until `sign_in`.
        pinned_node: as the other arguments, see `sealspace.client.Client`.
    Raises:
        InvalidInput: the address.
    """

    def __init__(
        self,
        url: str,
        *,
        session: Session | None = None,
        pinned_node: str | None = None,
        require_node_evidence: NodeRequirement | None = None,
        unsigned_descriptors: bool = False,
        settings: TransportSettings | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        inner = asynchronous.Client(
            url,
            session=session,
            pinned_node=pinned_node,
            require_node_evidence=require_node_evidence,
            unsigned_descriptors=unsigned_descriptors,
            settings=settings,
            clock=clock,
            entropy=entropy,
        )
        super().__init__(inner, LoopThread(close=inner.close, leave=inner.leave_connections))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections.

        Calls of other threads that are under way end with ClientClosed.
        """
        self._thread.close()

    info = called(asynchronous.Client.info)
    release_terms = called(asynchronous.Client.release_terms)
    node_attestation = called(asynchronous.Client.node_attestation)
    node_evidence = called(asynchronous.Client.node_evidence)
    sign_in = called(asynchronous.Client.sign_in)
    sign_in_with_key = called(asynchronous.Client.sign_in_with_key)
    use = changed(asynchronous.Client.use)

    @property
    def url(self) -> str:
        """The node's address."""
        return self._inner.url

    @property
    def session(self) -> Session:
        """The acting session.

        Raises:
            NotSignedIn: no session is signed in.
        """
        return self._inner.session

    kv = made(asynchronous.Client.kv, Kv)
    spaces = made(asynchronous.Client.spaces, Spaces)
    public = made(asynchronous.Client.public, PublicKv)
    secrets = made(asynchronous.Client.secrets, Secrets)
    programs = made(asynchronous.Client.programs, Programs)

    @property
    def encryption(self) -> Encryption:
        """Encryption networks."""
        return Encryption(self._inner.encryption, self._thread)

    @property
    def delegations(self) -> Delegations:
        """Grants by and to this session."""
        return Delegations(self._inner.delegations, self._thread)

    @property
    def attestation(self) -> Attestation:
        """The attestation routes."""
        return Attestation(self._inner.attestation, self._thread)

    @property
    def backends(self) -> Backends:
        """Granting to backends by what was seen of them."""
        return Backends(self._inner.backends, self._thread)

    @property
    def runners(self) -> Runners:
        """Granting to runners: secrets for named programs and callers."""
        return Runners(self._inner.runners, self._thread)

    @property
    def receipts(self) -> Receipts:
        """Receipts of the releases from networks."""
        return Receipts(self._inner.receipts, self._thread)

    @property
    def withdrawals(self) -> Withdrawals:
        """Withdrawing code, backends and evidence from networks."""
        return Withdrawals(self._inner.withdrawals, self._thread)
