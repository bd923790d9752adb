"""Bounds on the grants that clients deliver to a backend (AT63).

    body arriving       one of a few places, by the client's address
    body arrived        counted by the client's address and its size, before it is parsed
    signatures correct  counted by the signer, if it signed a grant that the backend has; otherwise
                        by the client's address
    passed on           one of a few places, by the client's address

Signatures are verified before a grant counts among those that are passed on. Otherwise grants with
broken signatures, which nobody has to be able to make, would use up the places of genuine ones.

Example:
    door = GrantDoor(lambda: backend.signers)
    door.admit_body(client, len(body), now=now)
    door.admit_grants(client, signers, len(portables), now=now)
    with door.place(client):
        await backend.accept(*portables)
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from capabilities.principals import Principal

from .grant_shares import Excess, SharedPlaces, SharedRates

GRANTS_PER_MINUTE = 60
"""Limit on grants of new signers that are passed to the application. Each costs the backend
requests at its node, which limits them by address. Without this limit, a flood of grants would also
block the backend's reads."""
GRANTS_OF_A_CLIENT_PER_MINUTE = 12
"""Limit on grants of new signers from one address."""
KNOWN_GRANTS_PER_MINUTE = 120
"""Limit on grants of all signers of a grant that the backend has."""
GRANTS_OF_A_SIGNER_PER_MINUTE = 60
"""Limit on grants of one known signer; an owner may grant many secrets at a time."""
CHECKS_PER_MINUTE = 1200
"""Limit on the checks of delivered grants. A check is for CHECKED_BYTES of a body, and takes some
3 ms at most, so this many take 6 % of a processor core."""
CHECKS_OF_A_CLIENT_PER_MINUTE = 120
CHECKED_BYTES = 4096
MOST_BODIES_UNDER_WAY = 64
"""Bodies that may be arriving at one time. One address may have half of them."""
MOST_GRANTS_UNDER_WAY = 16
"""Deliveries that may be in progress at one time. One address may have half of them."""

_PLACE_WAIT_S = 2


class DoorClosed(Exception):
    """Raised when a delivered grant exceeds a limit.

    Attributes:
        status: 429 for a limit of the client or signer itself, 503 for a limit of all.
        code: code of the answer.
        detail: sentence for the client, with the figure and the next step.
        wait_s: seconds after which the client may send the grant again.
    """

    def __init__(self, status: int, code: str, detail: str, wait_s: int) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.wait_s = wait_s


class GrantDoor:
    """The limits on grants that clients deliver to one backend.

    Args:
        signers: returns the DIDs that signed the backend's live grants.
    """

    def __init__(self, signers: Callable[[], Collection[Principal]]) -> None:
        self._signers = signers
        self._checks = SharedRates(
            most=CHECKS_PER_MINUTE, most_of_one=CHECKS_OF_A_CLIENT_PER_MINUTE
        )
        self._new = SharedRates(most=GRANTS_PER_MINUTE, most_of_one=GRANTS_OF_A_CLIENT_PER_MINUTE)
        self._known = SharedRates(
            most=KNOWN_GRANTS_PER_MINUTE, most_of_one=GRANTS_OF_A_SIGNER_PER_MINUTE
        )
        self._bodies = SharedPlaces(MOST_BODIES_UNDER_WAY)
        self._places = SharedPlaces(MOST_GRANTS_UNDER_WAY)

    @contextmanager
    def arriving(self, client: str | None) -> Iterator[None]:
        """Take a place for a body that arrives until the `with` block ends.

        Bodies that arrive slowly would otherwise take all connections of a server.

        Raises:
            DoorClosed: too many bodies are arriving.
        """
        under_way = "bodies of grants are arriving"
        with _take_place(self._bodies, client, under_way, MOST_BODIES_UNDER_WAY):
            yield

    def admit_body(self, client: str | None, size_bytes: int, *, now: float) -> None:
        """Count the checks that a body will take, before it is parsed.

        Raises:
            DoorClosed: the client, or all clients together, had too many checks.
        """
        checks = 1 + size_bytes // CHECKED_BYTES
        excess = self._checks.take(client, checks, now=now)
        if excess is not None:
            counted = f"checks of grants, one for each {CHECKED_BYTES} bytes,"
            raise _error_for_excess(excess, counted)

    def admit_grants(
        self, client: str | None, signers: Collection[Principal], grants: int, *, now: float
    ) -> None:
        """Count grants whose signatures are correct, before they are passed on.

        A signer of a grant that the backend has is counted by itself. So it can deliver from an
        address that floods, and while any number of new keys deliver grants.

        Args:
            client: the client by which grants of new signers are counted.
            signers: the DIDs that signed the grants.
            grants: number of grants.
            now: seconds of a monotonic clock.
        Raises:
            DoorClosed: the client or signer, or all of its kind together, delivered too many.
        """
        signer = None  # grants by several signers count as those of a new signer
        if len(signers) == 1:
            (signer,) = signers
        if signer is not None and signer in self._signers():
            excess = self._known.take(signer, grants, now=now)
        else:
            excess = self._new.take(client, grants, now=now)
        if excess is not None:
            raise _error_for_excess(excess, "grants")

    @contextmanager
    def place(self, client: str | None) -> Iterator[None]:
        """Take a place for a delivery until the `with` block ends.

        Raises:
            DoorClosed: too many deliveries are in progress.
        """
        under_way = "deliveries are in progress"
        with _take_place(self._places, client, under_way, MOST_GRANTS_UNDER_WAY):
            yield


@contextmanager
def _take_place(
    places: SharedPlaces, client: str | None, under_way: str, most: int
) -> Iterator[None]:
    """Take one of at most `most` places until the `with` block ends.

    `under_way` says in the error what the places are for, such as "bodies of grants are arriving".

    Raises:
        DoorClosed: no place is free for this client.
    """
    with places.reserve(client) as has_place:
        if not has_place:
            raise DoorClosed(
                503,
                "grants-busy",
                f"at most {most} {under_way} at one time, and of one client half of them; next:"
                f" send the grant again in {_PLACE_WAIT_S} s",
                _PLACE_WAIT_S,
            )
        yield


def _error_for_excess(excess: Excess, counted: str) -> DoorClosed:
    """Return the error for an exceeded limit; `counted` names what is limited."""
    next_step = f"next: send the grant again in {excess.wait_s} s"
    if excess.is_own:
        return DoorClosed(
            429,
            "too-many-grants",
            f"at most {excess.most} {counted} of one client are accepted in a minute; {next_step}",
            excess.wait_s,
        )
    return DoorClosed(
        503,
        "grants-busy",
        f"at most {excess.most} {counted} are accepted in a minute, and too few are left for"
        f" clients that send less; {next_step}",
        excess.wait_s,
    )
