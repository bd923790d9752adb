"""Limits on logins: those that arrive, and those that reach the node (DR21).

A login that costs its sender nothing counts for the address of its client. A flood of ID tokens
that nobody signed then leaves logins to other clients. Once the node accepted a machine token,
later ones that its owner signed count for this owner, wherever they come from. Once it accepted an
ID token, a client's later ones with the same key id are counted apart from its others. So the flood
also leaves logins to callers at its own address, such as a loopback address.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from capabilities.cache import Recent
from capabilities.clock_and_entropy import Clock
from capabilities.frozen import frozen
from serving.shares import Payer
from tee_backend.backend.grant_shares import SharedRates

from .door_errors import TOO_MANY, DoorRefusal
from .limits import LOGINS_OF_ONE_PER_MINUTE, LOGINS_PER_MINUTE, MAX_ARRIVING

_MOST_ACCEPTED = 4096


@frozen
class LoginAttempt:
    """A login that is about to reach the node.

    Attributes:
        client: address by which its client is counted; None for clients on this machine.
        holder: whose share the grant would count to. The caller claims it.
        is_signed: whether the door verified that the holder signed the credential. If not, only
            the node can tell.
        key_id: key id of an ID token, which anybody can copy; None for a machine token.
    """

    client: str | None
    holder: Payer
    is_signed: bool = False
    key_id: str | None = None


class LoginRates:
    """The logins that reached the node lately.

    Args:
        clock: source of the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rates = SharedRates(most=LOGINS_PER_MINUTE, most_of_one=LOGINS_OF_ONE_PER_MINUTE)
        self._accepted = Recent[tuple[Payer, str | None], None](_MOST_ACCEPTED)

    def take(self, attempt: LoginAttempt) -> None:
        """Count a login, before it reaches the node.

        Raises:
            DoorRefusal: the client or the holder, or all together, had too many.
        """
        excess = self._rates.take(self._counter_of(attempt), 1, now=self._clock.now())
        # one caller leaves logins to all others (DR21)
        if excess is None:
            return
        if excess.is_own:
            raise DoorRefusal(
                TOO_MANY,
                f"too many logins: {excess.most} a minute of one client, owner or trust reach the"
                f" node; next: log in again in {excess.wait_s} s, and keep the token",
            )
        raise DoorRefusal(
            TOO_MANY,
            f"too many logins: {excess.most} a minute of all callers reach the node, and those"
            " left are for callers who logged in less; next: log in again in"
            f" {excess.wait_s} s",
        )

    def accept(self, attempt: LoginAttempt) -> None:
        """Note that the node accepted a login."""
        self._accepted.put((attempt.holder, attempt.key_id), None)

    def _counter_of(self, attempt: LoginAttempt) -> tuple[object, ...]:
        """Return the counter of an attempt."""
        is_accepted = (attempt.holder, attempt.key_id) in self._accepted
        if is_accepted and attempt.is_signed:
            return (attempt.holder,)
        # The client stays part of the counter: whoever copies the key id uses up its own logins.
        if is_accepted and attempt.key_id is not None:
            return (attempt.client, attempt.holder, attempt.key_id)
        # Anybody can name a trust of the operator, but the flood then leaves other roles alone.
        if attempt.holder.is_known:
            return (attempt.client, attempt.holder)
        return (attempt.client,)


class ArrivingBodies:
    """The bodies of logins that are arriving.

    A client without a token can send as many as it likes. Where they are too many, the client that
    sends most of them loses its oldest one. A body that arrives with its head is never lost so.
    """

    def __init__(self) -> None:
        self._clients: dict[asyncio.Timeout, str | None] = {}  # the oldest body first

    @asynccontextmanager
    async def arriving(self, client: str | None) -> AsyncIterator[None]:
        """Count a body until the `async with` block ends.

        Raises:
            DoorRefusal: the place of this body was needed for another one.
        """
        # slow bodies leave connections to all others (DR21)
        if len(self._clients) >= MAX_ARRIVING:
            self._end_oldest()
        try:
            async with asyncio.timeout(None) as ending:
                self._clients[ending] = client
                try:
                    yield
                finally:
                    self._clients.pop(ending, None)
        except TimeoutError:
            raise DoorRefusal(
                408,
                f"the body was slow, and {MAX_ARRIVING} newer logins arrived; next: send the body"
                " together with its head",
            ) from None

    def _end_oldest(self) -> None:
        """End the oldest body of the client that sends most of them."""
        bodies = Counter(self._clients.values())
        oldest = max(self._clients, key=lambda ending: bodies[self._clients[ending]])
        del self._clients[oldest]
        oldest.reschedule(asyncio.get_running_loop().time())
